/* What aegisctl makes of its arguments, and of what comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "tools/ctl.h"

static int make(struct ctl_request *request, const char *verb, const char *a, const char *b, const char *c)
{
	char why[CTL_WHY_SIZE] = "";
	char *words[] = { (char *)a, (char *)b, (char *)c };
	int n = a == NULL ? 0 : b == NULL ? 1 : c == NULL ? 2 : 3;
	const struct ctl_verb *row = ctl_find_verb(verb);
	assert_non_null(row);
	int rc = ctl_make_request(row, words, n, request, why);
	assert_int_equal(rc < 0, why[0] != '\0'); /* who is refused is told why */
	return rc;
}

static void made(const char *path, const char *body, const char *verb, const char *a, const char *b, const char *c)
{
	struct ctl_request request;
	assert_int_equal(make(&request, verb, a, b, c), 0);
	assert_string_equal(request.path, path);
	assert_string_equal(request.body, body);
}

static void refused(const char *verb, const char *a, const char *b, const char *c)
{
	struct ctl_request request;
	assert_int_equal(make(&request, verb, a, b, c), -EINVAL);
}

static void test_requests(void **state)
{
	(void)state;
	made("/status", "", "status", NULL, NULL, NULL);
	made("/drain", "", "drain", NULL, NULL, NULL);
	made("/drain", "{\"timeout\":30}", "drain", "30", NULL, NULL);
	made("/drain", "{\"timeout\":300}", "drain", "5m", NULL, NULL);
	made("/drain", "{\"timeout\":0}", "drain", "0", NULL, NULL);
	made("/servers/app%2Fa/disable", "", "server", "app/a", "disable", NULL);
	made("/servers/127.0.0.1%3A3000/weight", "{\"weight\":50}", "server", "127.0.0.1:3000", "weight", "50");
	made("/servers/a%20%25%3F%23%26b%C3%A4/drain", "", "server", "a %?#&b\xc3\xa4", "drain", NULL);
	made("/connections", "", "connections", NULL, NULL, NULL);
	made("/connections?client=%3A%3A1&limit=5", "", "connections", "client=::1", "limit=5", NULL);
	made("/connections?server=app%2Fa&listener=a%26b%3Dc", "", "connections", "server=app/a", "listener=a&b=c", NULL);
	made("/connections/3.18472", "", "kill", "3.18472", NULL, NULL);
	made("/connections/..%2F..%2Freset", "", "kill", "../../reset", NULL, NULL);
	made("/why?address=%5B%3A%3A1%5D%3A5000", "", "why", "[::1]:5000", NULL, NULL);
}

static void test_refused_arguments(void **state)
{
	(void)state;
	char longest[CTL_PATH_SIZE];
	memset(longest, '/', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	refused("status", "now", NULL, NULL);
	refused("drain", "soon", NULL, NULL);
	refused("drain", "-1", NULL, NULL);
	refused("drain", "", NULL, NULL);
	refused("drain", "500ms", NULL, NULL);
	refused("drain", "99999999999999999999999999", NULL, NULL);
	refused("server", NULL, NULL, NULL);
	refused("server", "a", NULL, NULL);
	refused("server", "a", "explode", NULL);
	refused("server", "a", "weight", NULL);
	refused("server", "a", "weight", "-5");
	refused("server", "a", "weight", "");
	refused("server", "a", "weight", "1e3");
	refused("server", "a", "weight", "99999999999");
	refused("server", "a", "disable", "50");
	refused("server", "", "disable", NULL);
	refused("server", longest, "disable", NULL);
	refused("connections", "client", NULL, NULL);
	refused("connections", "client=", NULL, NULL);
	refused("connections", "=x", NULL, NULL);
	refused("connections", "clients=x", NULL, NULL);
	refused("connections", "client=x&limit", "3", NULL);
	refused("kill", NULL, NULL, NULL);
	refused("kill", "", NULL, NULL);
	refused("why", longest, NULL, NULL);
}

/* A name of every length around what fits: no byte behind the path is written, and nothing is cut in silence. */
static void test_names_at_the_edge(void **state)
{
	(void)state;
	char name[CTL_PATH_SIZE + 1];
	for (size_t length = CTL_PATH_SIZE - 40; length < CTL_PATH_SIZE; length++) {
		struct ctl_request request;
		memset(name, 'a', length);
		name[length] = '\0';
		if (make(&request, "server", name, "disable", NULL) == 0)
			assert_int_equal(strlen(request.path), strlen("/servers//disable") + length);
		else
			assert_true(length + strlen("/servers//disable") + 8 > CTL_PATH_SIZE);
	}
}

static void test_answers(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		int rc, status;
		const char *body;
	} rows[] = {
		{ "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 0, 200, "{}" },
		{ "HTTP/1.1 422 Unprocessable Content\r\nX: y\r\ncontent-length:2\r\n\r\n{}junk", 0, 422, "{}" },
		{ "HTTP/1.0 200 OK\r\n\r\nuntil the end", 0, 200, "until the end" },
		{ "HTTP/1.0 204 No Content\r\n\r\n", 0, 204, "" },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}", -EPROTO, 0, "" },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}", -EPROTO, 0, "" },
		{ "HTTP/1.0 200 OK\r\nContent-Len", -EPROTO, 0, "" },
		{ "HTTP/2 200\r\n\r\n", -EPROTO, 0, "" },
		{ "HTTP/1.0 20\r\n\r\n", -EPROTO, 0, "" },
		{ "HTTP/1.0 099 x\r\n\r\n", -EPROTO, 0, "" },
		{ "\r\n\r\n", -EPROTO, 0, "" },
		{ "", -EPROTO, 0, "" },
		{ "SSH-2.0-OpenSSH_9.2\r\n", -EPROTO, 0, "" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct ctl_answer answer = { 0 };
		assert_int_equal(ctl_read_answer(rows[i].bytes, strlen(rows[i].bytes), &answer), rows[i].rc);
		assert_int_equal(answer.status, rows[i].status);
		if (rows[i].rc == 0) {
			assert_string_equal(answer.body, rows[i].body);
			assert_int_equal(answer.length, strlen(rows[i].body));
		}
		free(answer.body);
	}
}

static void test_verbs_are_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const struct ctl_verb *verb = &ctl_verbs[i];
		assert_ptr_equal(ctl_find_verb(verb->name), verb);
		assert_non_null(verb->print);
		assert_true(verb->timeout_ms > 0);
		assert_true(verb->max_words <= CTL_MAX_WORDS && verb->min_words <= verb->max_words);
		assert_int_equal(verb->fill != NULL, verb->max_words > 0);
		assert_true(verb->help[0] >= 'a' && verb->help[0] <= 'z');
		assert_true(strcmp(verb->method, "GET") == 0 || strcmp(verb->method, "POST") == 0 || strcmp(verb->method, "DELETE") == 0);
	}
	assert_null(ctl_find_verb("stat"));
	assert_null(ctl_find_verb(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_refused_arguments),
		cmocka_unit_test(test_names_at_the_edge),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_verbs_are_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
