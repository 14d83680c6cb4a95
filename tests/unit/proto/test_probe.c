#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "proto/probe.h"

static struct probe probe;

static const struct probe_rules redis = { .kind = PROBE_REDIS };
static const struct probe_rules postgres = { .kind = PROBE_POSTGRES };
static const struct probe_rules mysql = { .kind = PROBE_MYSQL };

/* A text with NULs in it: its bytes and how many. */
#define BYTES(literal) (literal), sizeof(literal) - 1

static enum probe_verdict feed_in_pieces(const struct probe_rules *rules, const char *bytes, size_t count, size_t piece)
{
	enum probe_verdict verdict = probe_begin(&probe, rules);

	for (size_t at = 0; at < count; at += piece)
		verdict = probe_feed(&probe, bytes + at, count - at < piece ? count - at : piece);
	return verdict;
}

/* However the bytes are split, the verdict and its reason are these. */
static void assert_judged(const struct probe_rules *rules, const char *bytes, size_t count, enum probe_verdict want, const char *reason)
{
	static const size_t pieces[] = { SIZE_MAX / 2, 1, 2, 3, 7, 1000 };

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		enum probe_verdict got = feed_in_pieces(rules, bytes, count, pieces[i]);
		if (got != want || strcmp(probe_reason(&probe), reason) != 0)
			fail_msg("in pieces of %zu: verdict %d, \"%s\"", pieces[i], (int)got, probe_reason(&probe));
	}
}

/* Neither what comes after a verdict nor the end changes it. */
static void assert_final(void)
{
	enum probe_verdict verdict = probe.verdict;

	assert_int_equal(probe_feed(&probe, "\xff\x00+PONG\r\n", 9), verdict);
	assert_int_equal(probe_end(&probe), verdict);
}

static void assert_output(const char *bytes, size_t count)
{
	const char *output;

	assert_int_equal(probe_output(&probe, &output), count);
	assert_memory_equal(output, bytes, count);
	probe_sent(&probe, count);
	assert_int_equal(probe_output(&probe, &output), 0);
}

/* ---- tcp ---- */

static void test_tcp_is_good_when_connected(void **state)
{
	struct probe_rules rules = { .kind = PROBE_TCP };

	(void)state;
	assert_int_equal(probe_begin(&probe, &rules), PROBE_GOOD);
	assert_output("", 0);
	assert_final();
	rules.send = rules.expect = "";
	assert_int_equal(probe_begin(&probe, &rules), PROBE_GOOD);
	assert_output("", 0);
	rules.send = "quit\n";
	assert_int_equal(probe_begin(&probe, &rules), PROBE_GOOD);
	assert_output("quit\n", 5);
}

static void test_tcp_expects_a_text(void **state)
{
	const struct probe_rules rules = { .kind = PROBE_TCP, .send = "stats\r\n", .expect = "aab" };

	(void)state;
	assert_int_equal(probe_begin(&probe, &rules), PROBE_NEED_MORE);
	assert_output("stats\r\n", 7);
	assert_string_equal(probe_reason(&probe), "the expected text");
	assert_judged(&rules, BYTES("aab"), PROBE_GOOD, "the expected text came");
	assert_judged(&rules, BYTES("xx\0aaab..."), PROBE_GOOD, "the expected text came");
	assert_judged(&rules, BYTES("aaaab"), PROBE_GOOD, "the expected text came");
	assert_final();
	assert_judged(&rules, BYTES("aa ab aacb"), PROBE_NEED_MORE, "the expected text");
	assert_int_equal(probe_end(&probe), PROBE_BAD);
	assert_string_equal(probe_reason(&probe), "closed the connection before the expected text was complete");
}

static void test_tcp_looks_at_4096_bytes(void **state)
{
	const struct probe_rules rules = { .kind = PROBE_TCP, .expect = "needle" };
	static char bytes[3 * PROBE_KEPT_MAX];

	(void)state;
	memset(bytes, 'n', sizeof bytes);
	memcpy(bytes + PROBE_KEPT_MAX - 6, "needle", 6);
	assert_judged(&rules, bytes, sizeof bytes, PROBE_GOOD, "the expected text came");
	memset(bytes, 'n', sizeof bytes);
	memcpy(bytes + PROBE_KEPT_MAX - 5, "needle", 6);
	assert_judged(&rules, bytes, sizeof bytes, PROBE_BAD, "still not the right answer after 4096 bytes");
	assert_final();
}

/* ---- redis ---- */

static void test_redis_asks(void **state)
{
	(void)state;
	assert_int_equal(probe_begin(&probe, &redis), PROBE_NEED_MORE);
	assert_output(BYTES("*1\r\n$4\r\nPING\r\n"));
	assert_string_equal(probe_reason(&probe), "the answer to PING");
}

static void test_redis_good(void **state)
{
	(void)state;
	assert_judged(&redis, BYTES("+PONG\r\n"), PROBE_GOOD, "answered PONG");
	assert_final();
	assert_output(BYTES("*1\r\n$4\r\nPING\r\n"));
	assert_judged(&redis, BYTES("-NOAUTH Authentication required.\r\n"), PROBE_GOOD, "alive: NOAUTH Authentication required.");
	assert_judged(&redis, BYTES("-NOPERM this user has no permissions\r\n"), PROBE_GOOD, "alive: NOPERM this user has no permissions");
	assert_judged(&redis, BYTES("+PON"), PROBE_NEED_MORE, "the answer to PING");
}

static void test_redis_bad(void **state)
{
	(void)state;
	assert_judged(&redis, BYTES("-LOADING Redis is loading\r\n"), PROBE_BAD, "an error: LOADING Redis is loading");
	assert_judged(&redis, BYTES("-MASTERDOWN Link down\r\n"), PROBE_BAD, "an error: MASTERDOWN Link down");
	assert_judged(&redis, BYTES("-ERR max number of clients reached\r\n"), PROBE_BAD, "an error: ERR max number of clients reached");
	assert_judged(&redis, BYTES("-\r\n"), PROBE_BAD, "an error: ");
	assert_judged(&redis, BYTES("+PONGO\r\n"), PROBE_BAD, "another answer than PONG: PONGO");
	assert_judged(&redis, BYTES("+PONG\n"), PROBE_BAD, "not an answer of Redis");
	assert_judged(&redis, BYTES("\n"), PROBE_BAD, "not an answer of Redis");
	assert_judged(&redis, BYTES("HTTP/1.1 400 Bad Request\r\n"), PROBE_BAD, "not an answer of Redis");
	assert_judged(&redis, BYTES("-a\x1b[2J\x01\xff\0b\r\n"), PROBE_BAD, "an error: a\\u001b[2J\\u0001?");
	assert_final();
}

static void test_redis_line_without_end(void **state)
{
	static char bytes[2 * PROBE_KEPT_MAX];

	(void)state;
	memset(bytes, '+', sizeof bytes);
	assert_judged(&redis, bytes, sizeof bytes, PROBE_BAD, "still not the right answer after 4096 bytes");
	assert_int_equal(feed_in_pieces(&redis, bytes, PROBE_KEPT_MAX - 1, 1), PROBE_NEED_MORE);
}

static void test_end_before_an_answer(void **state)
{
	(void)state;
	assert_int_equal(probe_begin(&probe, &redis), PROBE_NEED_MORE);
	assert_int_equal(probe_end(&probe), PROBE_BAD);
	assert_string_equal(probe_reason(&probe), "closed the connection before the answer to PING");
	assert_final();
	assert_int_equal(feed_in_pieces(&redis, BYTES("+PO"), 1), PROBE_NEED_MORE);
	assert_int_equal(probe_end(&probe), PROBE_BAD);
	assert_string_equal(probe_reason(&probe), "closed the connection before the answer to PING was complete");
}

/* ---- postgres ---- */

static void test_postgres_asks(void **state)
{
	struct probe_rules rules = { .kind = PROBE_POSTGRES, .user = "joe" };

	(void)state;
	assert_int_equal(probe_begin(&probe, &postgres), PROBE_NEED_MORE);
	assert_output(BYTES("\0\0\0\x3d\0\3\0\0user\0aegis\0database\0postgres\0application_name\0aegis\0\0"));
	assert_int_equal(probe_begin(&probe, &rules), PROBE_NEED_MORE);
	assert_output(BYTES("\0\0\0\x3b\0\3\0\0user\0joe\0database\0postgres\0application_name\0aegis\0\0"));
	assert_string_equal(probe_reason(&probe), "the answer to the startup message");
}

static void skip_output(void)
{
	const char *output;

	probe_sent(&probe, probe_output(&probe, &output));
}

static void test_postgres_authentication(void **state)
{
	(void)state;
	assert_judged(&postgres, BYTES("R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0"), PROBE_GOOD, "asks for a password");
	skip_output();
	assert_output("", 0); /* nothing more to say but good-bye, by closing */
	assert_judged(&postgres, BYTES("R\0\0\0\x0c\0\0\0\5salt"), PROBE_GOOD, "asks for a password");
	assert_judged(&postgres, BYTES("R\0\0\0\x08\0\0\0\0S\0\0\0\x1aserver_version"), PROBE_GOOD, "let us in");
	assert_final();
	assert_int_equal(probe_begin(&probe, &postgres), PROBE_NEED_MORE);
	skip_output();
	assert_int_equal(probe_feed(&probe, BYTES("R\0\0\0\x08\0\0\0\0")), PROBE_GOOD);
	assert_output(BYTES("X\0\0\0\4"));
	assert_judged(&postgres, BYTES("R\0\0\0\x08\0\0\0"), PROBE_NEED_MORE, "the answer to the startup message");
}

/* An error with these fields, whose end is there. */
static void assert_error(const char *fields, size_t count, enum probe_verdict verdict, const char *reason)
{
	char message[256] = "E\0\0\0";

	message[4] = (char)(count + 5);
	memcpy(message + 5, fields, count);
	message[5 + count] = '\0';
	assert_judged(&postgres, message, count + 6, verdict, reason);
	assert_judged(&postgres, message, count + 5, PROBE_NEED_MORE, "the answer to the startup message");
}

static void test_postgres_errors(void **state)
{
	(void)state;
	assert_error(BYTES("SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0"), PROBE_BAD,
	        "refuses connections: the database system is starting up");
	assert_error(BYTES("SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0"), PROBE_BAD,
	        "refuses connections: sorry, too many clients already");
	assert_error(BYTES("SFATAL\0C58000\0Mcould not fork\0"), PROBE_BAD, "refuses connections: could not fork");
	assert_error(BYTES("SFATAL\0CXX000\0Mcache lookup failed\0"), PROBE_BAD, "refuses connections: cache lookup failed");
	assert_error(BYTES("SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf \xc3\xa9\0"), PROBE_GOOD,
	        "alive, but refused the login: no pg_hba.conf \xc3\xa9");
	assert_error(BYTES("SFATAL\0C3D000\0"), PROBE_GOOD, "alive, but refused the login: 3D000");
}

static void test_postgres_unfinished_errors(void **state)
{
	(void)state;
	assert_judged(&postgres, BYTES("E\0\0\0\x09SFATA"), PROBE_BAD, "an error without its code");
	assert_judged(&postgres,
	        BYTES("E\0\0\0\x0b"
	              "C28000\0"),
	        PROBE_GOOD, "alive, but refused the login: 28000");
	assert_judged(&postgres,
	        BYTES("E\0\0\0\x0a"
	              "C28000\0"),
	        PROBE_BAD, "an error without its code");
	assert_judged(&postgres,
	        BYTES("E\0\0\0\x0a"
	              "C2800\0\0"),
	        PROBE_BAD, "an error without its code");
}

static void test_postgres_large_error(void **state)
{
	static char bytes[9000];
	static const char fields[] = "E\0\0\x20\0C57P01\0Mgone\0D";

	(void)state;
	memset(bytes, 'd', sizeof bytes);
	memcpy(bytes, fields, sizeof fields - 1);
	assert_judged(&postgres, bytes, sizeof bytes, PROBE_BAD, "refuses connections: gone");
	/* the code stands behind what is looked at */
	memcpy(bytes, "E\0\0\x20\0D", 6);
	memcpy(bytes + PROBE_KEPT_MAX - 3, "\0C28000", 8);
	assert_judged(&postgres, bytes, sizeof bytes, PROBE_BAD, "an error without its code");
}

static void test_not_postgres(void **state)
{
	(void)state;
	assert_judged(&postgres, BYTES("N"), PROBE_BAD, "not an answer of PostgreSQL");
	assert_judged(&postgres, BYTES("HTTP/1.1 400 Bad Request\r\n"), PROBE_BAD, "not an answer of PostgreSQL");
	assert_judged(&postgres, BYTES("Ecould not fork new process\n\0"), PROBE_BAD, "not an answer of PostgreSQL");
	assert_judged(&postgres, BYTES("R\0\0\0\x07\0\0\0\0"), PROBE_BAD, "not an answer of PostgreSQL");
	assert_judged(&postgres, BYTES("R\0\0\x07\xd1\0\0\0\0"), PROBE_BAD, "not an answer of PostgreSQL");
	assert_judged(&postgres, BYTES("RFB 003.008\n"), PROBE_BAD, "not an answer of PostgreSQL");
	assert_judged(&postgres, BYTES("E\xff\xff\xff\xff"), PROBE_BAD, "not an answer of PostgreSQL");
}

/* ---- mysql ---- */

#define GREETING \
	"\x4a\0\0\0\n8.0.35\0\x0b\0\0\0abcdefgh\0\xff\xff\x21\2\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_native_password"
#define LOGIN                                                                              \
	"\x3d\0\0\1\1\x82\x08\0\0\0\0\1\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" \
	"aegis\0\0mysql_native_password\0"

static void greet(void)
{
	assert_int_equal(probe_begin(&probe, &mysql), PROBE_NEED_MORE);
	assert_output("", 0);
	assert_string_equal(probe_reason(&probe), "the greeting");
	assert_int_equal(probe_feed(&probe, GREETING, sizeof GREETING), PROBE_NEED_MORE);
	assert_string_equal(probe_reason(&probe), "the answer to the login");
	assert_output(BYTES(LOGIN));
}

static void test_mysql_login(void **state)
{
	(void)state;
	assert_int_equal(sizeof GREETING, 4 + 0x4a);
	greet();
	assert_int_equal(probe_feed(&probe, BYTES("\7\0\0\2\0\0\0\2\0\0\0")), PROBE_GOOD);
	assert_string_equal(probe_reason(&probe), "let us in");
	assert_output(BYTES("\1\0\0\0\1"));
	assert_final();
}

static void test_mysql_other_methods(void **state)
{
	(void)state;
	greet();
	assert_int_equal(probe_feed(&probe, BYTES("\x1b\0\0\2\xfe"
	                                          "caching_sha2_password\0abcd")),
	        PROBE_NEED_MORE);
	assert_output(BYTES("\0\0\0\3"));
	assert_int_equal(probe_feed(&probe, BYTES("\x0f\0\0\4\xff\x15\4#28000Access")), PROBE_GOOD);
	assert_string_equal(probe_reason(&probe), "alive, but refused the login, error 1045: Access");
	greet();
	assert_int_equal(probe_feed(&probe, BYTES("\2\0\0\2\1\4")), PROBE_GOOD);
	assert_string_equal(probe_reason(&probe), "asks for a password");
	assert_output("", 0);
}

static void test_mysql_never_content(void **state)
{
	const char *output;

	(void)state;
	greet();
	for (int i = 0; i < 700; i++)
		assert_int_equal(probe_feed(&probe, BYTES("\1\0\0\2\xfe")), PROBE_NEED_MORE);
	assert_true(probe_output(&probe, &output) < PROBE_MESSAGE_SIZE);
	enum probe_verdict verdict = PROBE_NEED_MORE;
	for (int i = 0; i < 200; i++)
		verdict = probe_feed(&probe, BYTES("\1\0\0\2\xfe"));
	assert_int_equal(verdict, PROBE_BAD);
}

static void assert_after_greeting(const char *bytes, size_t count, enum probe_verdict verdict, const char *reason)
{
	char both[256];

	memcpy(both, GREETING, sizeof GREETING);
	memcpy(both + sizeof GREETING, bytes, count);
	assert_judged(&mysql, both, sizeof GREETING + count, verdict, reason);
}

static void test_mysql_errors(void **state)
{
	(void)state;
	assert_judged(&mysql, BYTES("\x17\0\0\0\xff\x10\4Too many connections"), PROBE_BAD,
	        "refuses connections, error 1040: Too many connections");
	assert_final();
	assert_judged(&mysql, BYTES("\x12\0\0\1\xff\x69\4Host is blocked"), PROBE_BAD, "refuses connections, error 1129: Host is blocked");
	assert_judged(&mysql, BYTES("\x3\0\0\0\xff\x15\4"), PROBE_BAD, "refuses connections, error 1045: ");
	assert_judged(&mysql, BYTES("\2\0\0\0\xff\x10"), PROBE_BAD, "an error without its code");
	assert_after_greeting(BYTES("\x10\0\0\2\xff\x10\4#08004Too man"), PROBE_BAD, "refuses connections, error 1040: Too man");
	assert_after_greeting(BYTES("\x10\0\0\2\xff\x1d\4#08S01Server "), PROBE_BAD, "refuses connections, error 1053: Server ");
	assert_after_greeting(
	        BYTES("\x10\0\0\2\xff\x57\x0c#HY000Secure "), PROBE_GOOD, "alive, but refused the login, error 3159: Secure ");
	assert_after_greeting(BYTES("\x0f\0\0\2\xff\x15\4#28000Access"), PROBE_GOOD, "alive, but refused the login, error 1045: Access");
	assert_after_greeting(BYTES("\1\0\0\2\xff"), PROBE_BAD, "an error without its code");
	assert_after_greeting(BYTES("\x0f\0\0\2\xff\x15\4#28000"), PROBE_NEED_MORE, "the answer to the login");
}

static void test_not_mysql(void **state)
{
	(void)state;
	assert_judged(&mysql, BYTES("HTTP/1.1 400 Bad Request\r\n"), PROBE_BAD, "not an answer of MySQL");
	assert_judged(&mysql, BYTES("SSH-2.0-OpenSSH_9.2\r\n"), PROBE_BAD, "not an answer of MySQL");
	assert_judged(&mysql, BYTES("\0\0\0\0"), PROBE_BAD, "not an answer of MySQL");
	assert_judged(&mysql,
	        BYTES("\x40\0\0\0\x09"
	              "3.20"),
	        PROBE_BAD, "not an answer of MySQL");
	assert_judged(&mysql, BYTES("\x40\0\0\1\n8.0"), PROBE_BAD, "not an answer of MySQL");
	assert_judged(&mysql, BYTES("\xfd\x0f\0\0\n8.0"), PROBE_BAD, "not an answer of MySQL");
	assert_judged(&mysql, BYTES("\5\0\0\0\n8.0\0"), PROBE_BAD, "not the greeting of MySQL");
	assert_judged(&mysql, BYTES("\x14\0\0\0\n8.0.35-log-and-no-"), PROBE_NEED_MORE, "the greeting");
	assert_judged(&mysql, BYTES("\x14\0\0\0\n8.0.35-log-and-no-1"), PROBE_BAD, "not the greeting of MySQL");
	assert_after_greeting(BYTES("\0\0\0\2"), PROBE_BAD, "not an answer of MySQL");
}

static void test_mysql_end(void **state)
{
	(void)state;
	greet();
	assert_int_equal(probe_end(&probe), PROBE_BAD);
	assert_string_equal(probe_reason(&probe), "closed the connection before the answer to the login");
}

/* ---- rules ---- */

/* ---- http ---- */

static void test_http_asks(void **state)
{
	char request[256], small[40];
	const struct status_set good = { { 0 } };

	(void)state;
	size_t length = probe_http_request("/health?a=b", "app.test:8443", request, sizeof request);
	assert_int_equal(length, strlen(request));
	assert_non_null(strstr(request, "GET /health?a=b HTTP/1.1\r\nHost: app.test:8443\r\n"));
	assert_string_equal(request + length - 4, "\r\n\r\n");
	assert_int_equal(probe_http_request("/health", "app.test", small, sizeof small), 0);
	const struct probe_rules rules = { .kind = PROBE_HTTP, .send = request, .statuses = &good };
	assert_int_equal(probe_begin(&probe, &rules), PROBE_NEED_MORE);
	assert_output(request, length);
}

static void test_http_judges_the_status(void **state)
{
	static const struct {
		const char *answer;
		enum probe_verdict verdict;
		const char *reason;
		uint32_t status;
	} cases[] = {
		{ "HTTP/1.1 200 OK\r\n", PROBE_GOOD, "status 200", 200 },
		{ "HTTP/1.0 204\r\n\r\n", PROBE_GOOD, "status 204", 204 },
		{ "HTTP/1.1 204\n", PROBE_GOOD, "status 204", 204 },
		{ "HTTP/1.1 503 Busy\r\n", PROBE_BAD, "status 503", 503 },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 200 OK", PROBE_GOOD, "status 200", 200 },
		{ "HTTP/1.1 103 x\na: b\n\nHTTP/1.1 404 x", PROBE_BAD, "status 404", 404 },
		{ "HTTP/1.1 101 Switching Protocols\r\n", PROBE_BAD, "status 101", 101 },
		{ "HTTP/1.1 103 x\r\na: HTTP/1.1 200 OK\r\n", PROBE_NEED_MORE, "the answer", 0 },
		{ "HTTP/1.1 20", PROBE_NEED_MORE, "the answer", 0 },
		{ "HTTP/1.1 2000 OK\r\n", PROBE_BAD, "not an answer of HTTP", 0 },
		{ "HTTP/1.1 099 OK\r\n", PROBE_BAD, "not an answer of HTTP", 0 },
		{ "HTTP/1.x 200 OK\r\n", PROBE_BAD, "not an answer of HTTP", 0 },
		{ "HTTP/2 200 OK\r\n\r\n", PROBE_BAD, "not an answer of HTTP", 0 },
		{ "SSH-2.0-OpenSSH_9.6", PROBE_BAD, "not an answer of HTTP", 0 },
	};
	struct status_set good;
	const char *why;

	(void)state;
	assert_int_equal(status_set_parse("2xx", &good, &why), 0);
	const struct probe_rules rules = { .kind = PROBE_HTTP, .send = "GET", .statuses = &good };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_judged(&rules, cases[i].answer, strlen(cases[i].answer), cases[i].verdict, cases[i].reason);
		assert_int_equal(probe.status, cases[i].status);
		if (cases[i].verdict != PROBE_NEED_MORE)
			assert_final();
	}
}

static void test_rules(void **state)
{
	static char text[PROBE_TEXT_MAX + 2], user[PROBE_USER_MAX + 2];
	struct probe_rules rules = { .kind = PROBE_TCP };
	const char *why = NULL;

	(void)state;
	memset(text, 'a', sizeof text - 2);
	memset(user, 'u', sizeof user - 2);
	rules.send = rules.expect = text;
	assert_int_equal(probe_rules_check(&rules, &why), 0);
	text[PROBE_TEXT_MAX] = 'a';
	assert_int_equal(probe_rules_check(&rules, &why), -EINVAL);
	assert_string_equal(why, "the text is longer than 1024 bytes");
	rules = (struct probe_rules){ .kind = PROBE_REDIS, .expect = "PONG" };
	assert_int_equal(probe_rules_check(&rules, &why), -EINVAL);
	assert_string_equal(why, "only a tcp or udp check sends and expects a text");
	/* the longest name still fits into each kind's message */
	for (enum probe_kind kind = PROBE_POSTGRES; kind <= PROBE_MYSQL; kind++) {
		const char *output;
		rules = (struct probe_rules){ .kind = kind, .user = user };
		user[PROBE_USER_MAX] = '\0';
		assert_int_equal(probe_rules_check(&rules, &why), 0);
		assert_int_equal(probe_begin(&probe, &rules), PROBE_NEED_MORE);
		if (kind == PROBE_MYSQL)
			assert_int_equal(probe_feed(&probe, GREETING, sizeof GREETING), PROBE_NEED_MORE);
		size_t count = probe_output(&probe, &output);
		assert_non_null(memmem(output, count, user, PROBE_USER_MAX + 1));
		user[PROBE_USER_MAX] = 'u';
		assert_int_equal(probe_rules_check(&rules, &why), -EINVAL);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(probe_kind_name(PROBE_TCP), "tcp");
	assert_string_equal(probe_kind_name(PROBE_HTTPS), "https");
	assert_string_equal(probe_kind_name(PROBE_MYSQL), "mysql");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp_is_good_when_connected),
		cmocka_unit_test(test_tcp_expects_a_text),
		cmocka_unit_test(test_tcp_looks_at_4096_bytes),
		cmocka_unit_test(test_redis_asks),
		cmocka_unit_test(test_redis_good),
		cmocka_unit_test(test_redis_bad),
		cmocka_unit_test(test_redis_line_without_end),
		cmocka_unit_test(test_end_before_an_answer),
		cmocka_unit_test(test_postgres_asks),
		cmocka_unit_test(test_postgres_authentication),
		cmocka_unit_test(test_postgres_errors),
		cmocka_unit_test(test_postgres_unfinished_errors),
		cmocka_unit_test(test_postgres_large_error),
		cmocka_unit_test(test_not_postgres),
		cmocka_unit_test(test_mysql_login),
		cmocka_unit_test(test_mysql_other_methods),
		cmocka_unit_test(test_mysql_never_content),
		cmocka_unit_test(test_mysql_errors),
		cmocka_unit_test(test_not_mysql),
		cmocka_unit_test(test_mysql_end),
		cmocka_unit_test(test_http_asks),
		cmocka_unit_test(test_http_judges_the_status),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
