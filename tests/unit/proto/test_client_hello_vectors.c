/* Hellos with a verdict each. Not part of the sources: AEGIS_TEST_VECTORS names the folder with tls/clienthello_vectors.json. Where it is
 * not there, this is skipped. "route": it has this name; "reject": no server is to see it; "timeout": it never comes to an end; "either":
 * taken with that name, without any, or refused; "reject_or_first": refused here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vectors.h"
#include "base/attr.h"
#include "proto/client_hello.h"

enum { HELLO_MAX = 20000, LINE_BYTES = 64 << 10, MOST = 16384, VECTORS = 54 };

struct vector {
	char id[64], name[300], verdict[32];
	uint8_t bytes[HELLO_MAX];
	size_t count;
};

static FILE *file;

/* One member for each line. */
static bool next_vector(struct vector *vector)
{
	static char line[LINE_BYTES];

	memset(vector, 0, sizeof *vector);
	while (fgets(line, sizeof line, file) != NULL) {
		const char *hex = vectors_member(line, "  \"hex\"");
		if (hex != NULL)
			vector->count = vectors_bytes(hex, vector->bytes, sizeof vector->bytes);
		vectors_copy(line, "  \"id\"", vector->id, sizeof vector->id);
		vectors_copy(line, "  \"sni\"", vector->name, sizeof vector->name);
		vectors_copy(line, "  \"verdict\"", vector->verdict, sizeof vector->verdict);
		if (strncmp(line, " }", 2) == 0)
			return true;
	}
	return false;
}

static void feed(struct client_hello *hello, const struct vector *vector, size_t piece)
{
	client_hello_init(hello, MOST);
	for (size_t at = 0; at < vector->count; at += piece)
		(void)client_hello_feed(hello, vector->bytes + at, vector->count - at < piece ? vector->count - at : piece);
}

static void check(const struct vector *vector, const struct client_hello *hello)
{
	bool has_name = strcmp(hello->name, vector->name) == 0, refused = hello->verdict > CLIENT_HELLO_DONE;

	if (strcmp(vector->verdict, "route") == 0) {
		if (hello->verdict != CLIENT_HELLO_DONE || strcasecmp(hello->name, vector->name) != 0)
			fail_msg("%s: verdict %d (%s), name \"%s\"", vector->id, (int)hello->verdict, hello->fault ? hello->fault : "",
			        hello->name);
	} else if (strncmp(vector->verdict, "reject", 6) == 0) {
		if (!refused)
			fail_msg("%s: verdict %d, name \"%s\"", vector->id, (int)hello->verdict, hello->name);
	} else if (strcmp(vector->verdict, "timeout") == 0) {
		assert_int_equal(hello->verdict, CLIENT_HELLO_MORE);
	} else {
		size_t length = strlen(vector->name);
		bool without_dot = length > 0 && vector->name[length - 1] == '.' && strncmp(hello->name, vector->name, length - 1) == 0;
		assert_string_equal(vector->verdict, "either");
		if (!refused && !has_name && !without_dot && hello->name_length > 0)
			fail_msg("%s: name \"%s\"", vector->id, hello->name);
	}
	assert_true(!refused || hello->fault != NULL);
}

static void test_vectors(void **state)
{
	static const size_t pieces[] = { HELLO_MAX, 1, 5, 64 };
	struct vector *vector = malloc(sizeof *vector);
	size_t n = 0;

	(void)state;
	assert_non_null(vector);
	for (; next_vector(vector); n++)
		for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
			struct client_hello hello;
			feed(&hello, vector, pieces[i]);
			check(vector, &hello);
		}
	assert_true(n >= VECTORS);
	free(vector);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_vectors) };

	file = vectors_open("tls/clienthello_vectors.json");
	if (!file)
		return VECTORS_SKIPPED;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	fclose(file);
	return failed;
}
