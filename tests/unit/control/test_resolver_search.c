#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "control/resolver_search.h"

/* All candidates in a line. */
static const char *all(const struct search *search, const char *name)
{
	static char line[16384];
	char one[HOST_NAME_SIZE];
	line[0] = '\0';
	for (int i = 0; search_name(search, name, i, one); i++)
		snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? " " : "", one);
	return line;
}

static void test_order(void **state)
{
	(void)state;
	struct search search = { .ndots = 1 };
	assert_string_equal(all(&search, "db"), "db");
	assert_string_equal(all(&search, "db.test"), "db.test");
	search_add(&search, "one.test");
	search_add(&search, "two.test.");
	assert_string_equal(all(&search, "db"), "db.one.test db.two.test db");
	assert_string_equal(all(&search, "db.east"), "db.east db.east.one.test db.east.two.test");
	assert_string_equal(all(&search, "db."), "db");
	assert_string_equal(all(&search, "db.east."), "db.east");
	search.ndots = 2;
	assert_string_equal(all(&search, "db.east"), "db.east.one.test db.east.two.test db.east");
	assert_string_equal(all(&search, "db.east.test"), "db.east.test db.east.test.one.test db.east.test.two.test");
	search.ndots = 0;
	assert_string_equal(all(&search, "db"), "db db.one.test db.two.test");
}

static void test_bounds(void **state)
{
	(void)state;
	struct search search = { .ndots = 1 };
	char text[400], one[HOST_NAME_SIZE];
	memset(text, 'a', sizeof text);
	text[HOST_NAME_SIZE] = '\0';
	search_add(&search, "");
	search_add(&search, ".");
	search_add(&search, text);
	assert_int_equal(search.n_domains, 0);
	text[HOST_NAME_SIZE - 1] = '\0';
	for (int i = 0; i < SEARCH_MAX_DOMAINS + 3; i++)
		search_add(&search, i ? "fits.test" : text);
	assert_int_equal(search.n_domains, SEARCH_MAX_DOMAINS);
	assert_true(search_name(&search, "db", 0, one));
	assert_string_equal(one, ""); /* too long together */
	assert_true(search_name(&search, "db", 1, one));
	assert_string_equal(one, "db.fits.test");
	assert_true(search_name(&search, text, SEARCH_MAX_DOMAINS, one));
	assert_string_equal(one, text);
	assert_false(search_name(&search, "db", SEARCH_MAX_DOMAINS + 1, one));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_order), cmocka_unit_test(test_bounds) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
