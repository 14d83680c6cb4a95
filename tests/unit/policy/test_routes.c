/* Which route a client gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "policy/routes.h"

static const struct route_config some[] = {
	{ .name = "www.example.org", .alpn = "" },         /* 0 */
	{ .name = "*.example.org", .alpn = "" },           /* 1 */
	{ .name = "*.a.example.org", .alpn = "" },         /* 2 */
	{ .name = "example.org", .alpn = "" },             /* 3 */
	{ .name = "*.org", .alpn = "h2" },                 /* 4 */
	{ .name = "", .alpn = "acme-tls/1" },              /* 5 */
	{ .name = "www.example.org", .alpn = "h2" },       /* 6 */
	{ .name = "x", .alpn = "" },                       /* 7 */
	{ .name = "www.example.org", .alpn = "http/1.1" }, /* 8 */
};

/* from: names with commas between them. */
static const uint8_t *nth(const void *from, size_t n, size_t *length)
{
	const char *at = from;
	for (; n > 0 && *at != '\0'; n--)
		at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',');
	*length = strcspn(at, ",");
	return *at != '\0' ? (const uint8_t *)at : NULL;
}

/* Its place among them, -1 = none. */
static int find(const struct routes *routes, const struct route_config *all, const char *name, const char *protocols)
{
	const struct route_client client = { .name = name, .name_length = strlen(name), .protocol = nth, .from = protocols };
	const struct route_config *route = routes_find(routes, &client);
	return route ? (int)(route - all) : -1;
}

static void test_the_closest(void **state)
{
	static const struct {
		const char *name, *protocols;
		int wanted;
	} rows[] = {
		{ "www.example.org", "", 0 },
		{ "example.org", "", 3 },
		{ "ftp.example.org", "", 1 },
		{ "a.example.org", "", 1 },
		{ "b.a.example.org", "", 2 },
		{ "c.b.a.example.org", "", -1 },
		{ "b.b.example.org", "", -1 },
		{ "y.org", "", -1 },
		{ "badexample.org", "", -1 },
		{ "example.org.evil", "", -1 },
		{ "org", "", -1 },
		{ "x", "", 7 },
		{ "y.x", "", -1 },
		{ "", "", -1 },
		{ "", "h2", -1 },
		{ "", "acme-tls/1", 5 },
		{ "www.example.org", "acme-tls/1", 5 },
		{ "www.example.org", "h2,http/1.1", 6 },
		{ "www.example.org", "http/1.1,h2", 8 },
		{ "www.example.org", "http/1.0,h2", 6 },
		{ "www.example.org", "http/1.0", 0 },
		{ "y.org", "h2", 4 },
		{ "www.example.org", "h", 0 },
	};
	struct routes *routes;
	(void)state;
	assert_int_equal(routes_new(some, ARRAY_LEN(some), &routes), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int found = find(routes, some, rows[i].name, rows[i].protocols);
		if (found != rows[i].wanted)
			fail_msg("%s with %s: %d, not %d", rows[i].name, rows[i].protocols, found, rows[i].wanted);
	}
	routes_free(routes);
}

static void test_none(void **state)
{
	struct routes *routes = (struct routes *)&routes;
	(void)state;
	assert_int_equal(routes_new(some, 0, &routes), 0);
	assert_null(routes);
	routes_free(routes);
}

/* Each of many finds itself, and nothing else. */
static void test_many(void **state)
{
	enum { MANY = 5000, SIZE = 40 };
	struct route_config *many = calloc(MANY, sizeof *many);
	char(*names)[SIZE] = calloc(MANY, sizeof *names);
	struct routes *routes;
	(void)state;
	assert_true(many && names);
	for (int i = 0; i < MANY; i++) {
		snprintf(names[i], SIZE, "%sname%d.example", i % 2 ? "*." : "", i);
		many[i] = (struct route_config){ .name = names[i], .alpn = "" };
	}
	assert_int_equal(routes_new(many, MANY, &routes), 0);
	for (int i = 0; i < MANY; i++) {
		char below[SIZE], self[SIZE];
		snprintf(below, SIZE, "a.name%d.example", i);
		snprintf(self, SIZE, "name%d.example", i);
		assert_int_equal(find(routes, many, self, ""), i % 2 ? -1 : i);
		assert_int_equal(find(routes, many, below, ""), i % 2 ? i : -1);
	}
	routes_free(routes);
	free(many);
	free(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_closest), cmocka_unit_test(test_none), cmocka_unit_test(test_many) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
