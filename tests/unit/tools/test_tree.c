/* The reader of JSON that aegisctl has: what is JSON is read, what is not is refused, and a look-up never fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/tree.h"

static struct tree *parse(const char *text)
{
	struct tree *tree = NULL;
	assert_int_equal(tree_parse(text, &tree), 0);
	return tree;
}

static void test_members(void **state)
{
	(void)state;
	struct tree *tree = parse(" { \"a\" : 1 , \"b\":\"two\",\"c\":[true,false,null,{\"d\":-1.5e1}], \"e\":{} } \n");
	assert_int_equal(tree->kind, TREE_OBJECT);
	assert_int_equal(tree->n, 4);
	assert_int_equal(tree_u64(tree, "a"), 1);
	assert_string_equal(tree_string(tree, "b"), "two");
	const struct tree *list = tree_get(tree, "c");
	assert_int_equal(list->kind, TREE_LIST);
	assert_int_equal(list->n, 4);
	assert_int_equal(list->first->kind, TREE_BOOL);
	assert_true(list->first->number == 1);
	assert_true(list->first->next->number == 0);
	assert_int_equal(list->first->next->next->kind, TREE_NULL);
	assert_true(tree_number(list->first->next->next->next, "d") == -15);
	assert_int_equal(tree_get(tree, "e")->n, 0);
	tree_free(tree);
}

static void test_strings(void **state)
{
	(void)state;
	struct tree *tree =
	        parse("{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\",\"b\":\"\\u0041\\u00e4\\u20ac\\ud800\\u0000\",\"\\u0063\":\"\xc3\xa4\"}");
	assert_string_equal(tree_string(tree, "a"), "\"\\/\b\f\n\r\t");
	assert_string_equal(tree_string(tree, "b"), "A\xc3\xa4\xe2\x82\xac??");
	assert_string_equal(tree_string(tree, "c"), "\xc3\xa4");
	tree_free(tree);
}

static void test_look_ups_never_fail(void **state)
{
	(void)state;
	struct tree *tree = parse("{\"text\":\"x\",\"number\":3,\"negative\":-3,\"huge\":1e300,\"yes\":true}");
	assert_null(tree_get(tree, "absent"));
	assert_null(tree_get(NULL, "text"));
	assert_null(tree_get(tree_get(tree, "text"), "text"));
	assert_string_equal(tree_string(tree, "number"), "");
	assert_string_equal(tree_string(NULL, "text"), "");
	assert_int_equal(tree_u64(tree, "text"), 0);
	assert_int_equal(tree_u64(tree, "negative"), 0);
	assert_int_equal(tree_u64(tree, "huge"), 0);
	assert_true(tree_number(tree, "negative") == -3);
	assert_true(tree_bool(tree, "yes"));
	assert_false(tree_bool(tree, "number"));
	assert_false(tree_bool(tree, "absent"));
	tree_free(tree);
}

static void test_what_is_not_json(void **state)
{
	(void)state;
	static const char *const bad[] = { "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:1}",
		"\"", "\"a", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"a\nb\"", "nul", "tru", "True", "+1", ".5", "1.2.3", "--1",
		"0x10", "inf", "nan", "1 2", "{} {}", "[1 2]", "{\"a\":1 \"b\":2}", "]", "}", "{]", "[}", "'a'", "e5" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct tree *tree = NULL;
		if (tree_parse(bad[i], &tree) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_null(tree);
	}
}

static void test_every_beginning_of_a_document(void **state)
{
	(void)state;
	static const char text[] = "{\"a\":[1,{\"b\":\"\\u00e4\\n\"},true,null],\"c\":-1.5}";
	for (size_t length = 0; length + 1 < sizeof text; length++) {
		char *cut = strndup(text, length);
		struct tree *tree = NULL;
		assert_non_null(cut);
		assert_int_equal(tree_parse(cut, &tree), -EINVAL);
		free(cut);
	}
	tree_free(parse(text));
}

static void test_depth(void **state)
{
	(void)state;
	char text[100001];
	struct tree *tree = NULL;
	for (unsigned depth = TREE_MAX_DEPTH; depth <= TREE_MAX_DEPTH + 1; depth++) {
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		text[2 * depth] = '\0';
		int rc = tree_parse(text, &tree);
		assert_int_equal(rc, depth <= TREE_MAX_DEPTH ? 0 : -EINVAL);
		if (rc == 0)
			tree_free(tree);
	}
	memset(text, '[', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_int_equal(tree_parse(text, &tree), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_look_ups_never_fail),
		cmocka_unit_test(test_what_is_not_json),
		cmocka_unit_test(test_every_beginning_of_a_document),
		cmocka_unit_test(test_depth),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
