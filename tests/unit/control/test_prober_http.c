#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/probe_http.h"
#include "control/prober.h"
#include "little_server.h"

enum { KEYS = 64 };

static struct heard {
	unsigned results;
	bool ok;
	enum health_result result;
	char reason[PROBE_REASON_SIZE];
} heard[KEYS];
static unsigned total, unables, wanted_results;

static struct loop *loop;
static struct prober *prober;
static struct little_server server;
static struct prober_target *many[KEYS];
static bool removes;

/* Each result removes its own target and one more. */
static void remove_two(uint64_t key)
{
	for (uint64_t other = key; other < key + 2; other++)
		if (many[other % KEYS]) {
			prober_remove(prober, many[other % KEYS]);
			many[other % KEYS] = NULL;
		}
}

static void on_result(void *arg, uint64_t key, const struct health_check *check, const char *reason)
{
	(void)arg;
	assert_in_range(check->latency_ns, 1, 60 * NS_PER_S);
	heard[key].results++;
	heard[key].ok = check->result == HEALTH_RESULT_OK;
	heard[key].result = check->result;
	snprintf(heard[key].reason, sizeof heard[key].reason, "%s", reason);
	total++;
	if (removes)
		remove_two(key);
}

static void on_unable(void *arg, uint64_t key, const char *reason)
{
	(void)arg;
	snprintf(heard[key].reason, sizeof heard[key].reason, "%s", reason);
	unables++;
}

static const struct prober_ops ops = { on_result, on_unable };

static int set_up(void **state)
{
	(void)state;
	memset(heard, 0, sizeof heard);
	total = unables = 0;
	removes = false;
	loop = loop_new();
	prober = loop ? prober_new(loop, &ops, NULL, 16, 1) : NULL;
	if (!prober)
		return -1;
	little_server_open(&server, loop, "127.0.0.1:0", 128);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	prober_free(prober);
	little_server_close(&server);
	loop_free(loop);
	return 0;
}

static struct prober_settings settings_of(const struct addr *addr)
{
	return (struct prober_settings){
		.addrs = addr,
		.n_addrs = 1,
		.rules.kind = PROBE_HTTP,
		.http.path = "/health",
		.interval_ns = 20 * NS_PER_S,
		.timeout_ns = 20 * NS_PER_S,
	};
}

static struct prober_target *add(const struct prober_settings *settings)
{
	struct prober_target *target;
	const char *why = "no reason";
	int error = prober_add(prober, settings, &target, &why);

	if (error)
		fail_msg("%s: %s", strerror(-error), why);
	return target;
}

static bool enough_results(void)
{
	return total >= wanted_results;
}

static void run_until_results(unsigned count)
{
	wanted_results = count;
	run_until(loop, enough_results, "results");
}

static const struct heard *check_once(const struct prober_settings *settings)
{
	total = 0;
	struct prober_target *target = add(settings);
	run_until_results(1);
	prober_remove(prober, target);
	assert_int_equal(total, 1);
	return &heard[settings->key];
}

/* The same in fewer words, for programs. */
static void assert_result(const struct heard *got)
{
	static const struct {
		const char *part_of_reason;
		enum health_result result;
	} rows[] = {
		{ "cannot connect: Connection refused", HEALTH_RESULT_REFUSED },
		{ "timed out", HEALTH_RESULT_TIMEOUT },
		{ "status ", HEALTH_RESULT_STATUS },
		{ "mpty reply", HEALTH_RESULT_CLOSED },
		{ "eset", HEALTH_RESULT_RESET },
		{ "HTTP/0.9", HEALTH_RESULT_ANSWER },
		{ "header is too long", HEALTH_RESULT_ANSWER },
	};

	if (got->ok)
		assert_int_equal(got->result, HEALTH_RESULT_OK);
	for (size_t i = 0; !got->ok && i < ARRAY_LEN(rows); i++)
		if (strstr(got->reason, rows[i].part_of_reason) && got->result != rows[i].result)
			fail_msg("\"%s\" is told as \"%s\"", got->reason, health_result_text(got->result));
}

static void assert_heard(const struct heard *got, bool ok, const char *part_of_reason)
{
	if (got->ok != ok || !strstr(got->reason, part_of_reason))
		fail_msg("%s, \"%s\"; wanted %s, \"%s\"", got->ok ? "good" : "bad", got->reason, ok ? "good" : "bad", part_of_reason);
	assert_result(got);
}

static bool all_clients_are_gone(void)
{
	return server.open == 0;
}

static void assert_no_client_was_hurt(void)
{
	run_until(loop, all_clients_are_gone, "the server's clients to be gone");
	assert_int_equal(server.reset, 0);
}

#define BYTES(literal) (literal), sizeof(literal) - 1
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* ---- what is asked ---- */

static void test_request(void **state)
{
	struct prober_settings settings = settings_of(&server.addr);
	char want[128];

	(void)state;
	little_server_behave(&server, ANSWERS, BYTES(OK));
	settings.http.path = "/a/../b?c=d&e=%20";
	assert_heard(check_once(&settings), true, "status 200");
	assert_true(strncmp(server.received, BYTES("GET /a/../b?c=d&e=%20 HTTP/1.1\r\n")) == 0);
	snprintf(want, sizeof want, "\r\nHost: 127.0.0.1:%u\r\n", addr_port(&server.addr));
	assert_non_null(strstr(server.received, want));
	assert_non_null(strstr(server.received, "\r\nUser-Agent: aegis/" PACKAGE_VERSION "\r\n"));
	assert_non_null(strstr(server.received, "\r\nConnection: close\r\n"));
	settings.http.host = "www.example.org";
	check_once(&settings);
	assert_non_null(strstr(server.received, "\r\nHost: www.example.org\r\n"));
	settings.http.host = "www.example.org:8080";
	check_once(&settings);
	assert_non_null(strstr(server.received, "\r\nHost: www.example.org:8080\r\n"));
	settings.http.path = NULL;
	check_once(&settings);
	assert_true(strncmp(server.received, BYTES("GET / HTTP/1.1\r\n")) == 0);
	assert_no_client_was_hurt();
	assert_int_equal(server.accepted, 4); /* each on its own connection */
}

static void assert_reaches(const char *address)
{
	struct little_server other;

	little_server_open(&other, loop, address, 16);
	little_server_behave(&other, ANSWERS, BYTES(OK));
	struct prober_settings settings = settings_of(&other.addr);
	assert_heard(check_once(&settings), true, "status 200");
	settings.http.host = "name.invalid"; /* which nobody can resolve */
	assert_heard(check_once(&settings), true, "status 200");
	assert_int_equal(other.accepted, 2);
	little_server_close(&other);
}

static void test_families(void **state)
{
	char path[] = "/tmp/aegis-prober-XXXXXX", address[64];

	(void)state;
	assert_reaches("127.0.0.1:0");
	assert_reaches("[::1]:0");
	snprintf(address, sizeof address, "unix:@aegis-test-prober-http-%d", (int)getpid());
	assert_reaches(address);
	assert_non_null(mkdtemp(path));
	snprintf(address, sizeof address, "unix:%s/s", path);
	assert_reaches(address);
	assert_int_equal(unlink(address + 5), 0);
	assert_int_equal(rmdir(path), 0);
}

static void test_the_environment_has_no_say(void **state)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY" };
	struct prober_settings settings = settings_of(&server.addr);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(setenv(names[i], "http://127.0.0.1:1", 1), 0);
	little_server_behave(&server, ANSWERS, BYTES(OK));
	assert_heard(check_once(&settings), true, "status 200");
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(unsetenv(names[i]), 0);
}

/* ---- what is answered ---- */

static void test_manners(void **state)
{
	static const struct {
		enum manner manner;
		const char *text;
		size_t length;
		const char *expect;
		bool ok;
		const char *reason;
	} rows[] = {
		{ ANSWERS, BYTES("HTTP/1.1 204 No Content\r\n\r\n"), NULL, true, "status 204" },
		{ ANSWERS, BYTES("HTTP/1.1 503 Out\r\nContent-Length: 0\r\n\r\n"), NULL, false, "status 503" },
		{ ANSWERS, BYTES("HTTP/1.1 503 Out\r\nContent-Length: 0\r\n\r\n"), "2xx,503", true, "status 503" },
		{ ANSWERS, BYTES("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), NULL, false, "status 302" },
		{ ANSWERS, BYTES("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "200-399", true, "status 302" },
		{ ANSWERS, BYTES("HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n"), "401", true, "status 401" },
		{ CLOSES, BYTES("HTTP/1.0 200 OK\r\n\r\nup to the end"), NULL, true, "status 200" },
		{ ANSWERS, BYTES("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), NULL, true, "status 200" },
		{ ANSWERS, BYTES("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), NULL, true, "status 200" },
		{ TRICKLES, BYTES(OK), NULL, true, "status 200" },
		{ CLOSES, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok"), NULL, false, "" },
		{ CLOSES, BYTES(""), NULL, false, "mpty reply" },
		{ HANGS_UP, BYTES(""), NULL, false, "" },
		{ RESETS, BYTES(""), NULL, false, "reset" },
		{ ANSWERS, BYTES("+PONG\r\n"), NULL, false, "HTTP/0.9" },
		{ ANSWERS, BYTES("\x15\x03\x01\x00\x02\x02\x46"), NULL, false, "HTTP/0.9" },
		{ FLOODS, BYTES("HTTP/1.1 200 OK\r\n\r\nb"), NULL, true, "status 200" },
		{ FLOODS, BYTES("HTTP/1.1 500 No\r\n\r\nb"), NULL, false, "status 500" },
		{ FLOODS, BYTES("HTTP/1.1 200 OK\r\nA: a"), NULL, false, "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct prober_settings settings = settings_of(&server.addr);
		settings.http.expect = rows[i].expect;
		little_server_behave(&server, rows[i].manner, rows[i].text, rows[i].length);
		const struct heard *got = check_once(&settings);
		print_message("row %zu: %s\n", i, got->reason);
		assert_heard(got, rows[i].ok, rows[i].reason);
		if (rows[i].manner != HANGS_UP && rows[i].manner != FLOODS)
			assert_no_client_was_hurt();
	}
}

/* As many header lines as it takes. */
static void test_endless_header(void **state)
{
	static char header[4 * PROBE_HTTP_BYTES] = "HTTP/1.1 200 OK\r\n";
	size_t length = strlen(header);
	struct prober_settings settings = settings_of(&server.addr);

	(void)state;
	while (length + 64 < sizeof header)
		length += (size_t)snprintf(header + length, 64, "Name-%zu: value\r\n", length);
	little_server_behave(&server, ANSWERS, header, length);
	assert_heard(check_once(&settings), false, "header is too long");
}

static void test_refused(void **state)
{
	struct addr nobody = address_of_nobody(), addrs[] = { nobody, server.addr };
	struct endpoint endpoint;
	const char *why;
	struct prober_settings settings = settings_of(&nobody);

	(void)state;
	assert_heard(check_once(&settings), false, "cannot connect: Connection refused");
	assert_int_equal(endpoint_parse("unix:/nowhere/at/all", &endpoint, &why), 0);
	settings.addrs = &endpoint.addr;
	assert_heard(check_once(&settings), false, "cannot connect: No such file or directory");
	settings.addrs = addrs;
	settings.n_addrs = 2;
	little_server_behave(&server, ANSWERS, BYTES(OK));
	assert_heard(check_once(&settings), true, "status 200");
}

/* A TLS handshake with a server that knows nothing of TLS. */
static void test_https_without_tls(void **state)
{
	struct prober_settings settings = settings_of(&server.addr);

	(void)state;
	settings.rules.kind = PROBE_HTTPS;
	little_server_behave(&server, ANSWERS, BYTES(OK));
	assert_heard(check_once(&settings), false, "");
	assert_true(heard[0].reason[0] != '\0');
	assert_int_equal(heard[0].result, HEALTH_RESULT_TLS);
	little_server_behave(&server, ANSWERS, BYTES(""));
	settings.timeout_ns = 300 * NS_PER_MS;
	assert_heard(check_once(&settings), false, "timed out waiting for the TLS handshake");
	assert_no_client_was_hurt();
}

static bool is_unable(void)
{
	return unables > 0;
}

static void test_what_is_ours(void **state)
{
	struct prober_settings settings = settings_of(&server.addr);
	struct rlimit limit, none;

	(void)state;
	settings.interval_ns = 2 * NS_PER_MS;
	little_server_behave(&server, ANSWERS, BYTES(OK));
	struct prober_target *target = add(&settings);
	run_until_results(1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	int lowest = dup(0);
	assert_true(lowest >= 0);
	close(lowest);
	none = (struct rlimit){ .rlim_cur = (rlim_t)lowest, .rlim_max = limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	run_until(loop, is_unable, "a check that could not be made");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_non_null(strstr(heard[0].reason, "Too many open files"));
	prober_remove(prober, target);
	/* a file of certificates that is not there */
	unables = total = 0;
	settings.rules.kind = PROBE_HTTPS;
	settings.http.verify = true;
	settings.http.ca = "/nowhere/at/all.pem";
	target = add(&settings);
	run_until(loop, is_unable, "a check that could not be made");
	assert_int_equal(total, 0);
	prober_remove(prober, target);
}

/* ---- time ---- */

static void test_timeout(void **state)
{
	struct prober_settings settings = settings_of(&server.addr);

	(void)state;
	settings.timeout_ns = 300 * NS_PER_MS;
	little_server_behave(&server, ANSWERS, BYTES(""));
	assert_heard(check_once(&settings), false, "timed out waiting for the answer");
	little_server_behave(&server, ANSWERS, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"));
	assert_heard(check_once(&settings), false, "timed out waiting for the end of the answer");
	assert_no_client_was_hurt();
}

static void test_many_at_once(void **state)
{
	struct prober_target *targets[KEYS];

	(void)state;
	little_server_behave(&server, TRICKLES, BYTES(OK));
	for (size_t i = 0; i < KEYS; i++) {
		struct prober_settings settings = settings_of(&server.addr);
		settings.key = i;
		settings.interval_ns = 10 * NS_PER_MS;
		targets[i] = add(&settings);
	}
	run_until_results(4 * KEYS);
	for (size_t i = 0; i < KEYS; i++) {
		assert_true(heard[i].results > 0);
		assert_heard(&heard[i], true, "status 200");
		prober_remove(prober, targets[i]);
	}
	assert_no_client_was_hurt();
	assert_in_range(server.most_open, 2, 16 + LINGER_MOST);
}

/* ---- changes while something is under way ---- */

static bool server_was_asked(void)
{
	return server.open > 0 && server.n_received > 0;
}

static void test_remove_in_flight(void **state)
{
	struct prober_settings settings = settings_of(&server.addr);

	(void)state;
	little_server_behave(&server, ANSWERS, BYTES(""));
	struct prober_target *target = add(&settings);
	run_until(loop, server_was_asked, "a check to be in flight");
	prober_remove(prober, target);
	assert_int_equal(prober_in_flight(prober), 0);
	assert_no_client_was_hurt();
	settings.key = 1;
	little_server_behave(&server, ANSWERS, BYTES(OK));
	assert_heard(check_once(&settings), true, "status 200");
	assert_int_equal(heard[0].results, 0);
}

static bool all_are_removed(void)
{
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		if (many[i])
			return false;
	return true;
}

static void test_results_may_remove_targets(void **state)
{
	struct addr nobody = address_of_nobody();

	(void)state;
	little_server_behave(&server, ANSWERS, BYTES(OK));
	removes = true;
	for (size_t i = 0; i < KEYS; i++) {
		struct prober_settings settings = settings_of(i % 3 ? &server.addr : &nobody);
		settings.key = i;
		settings.interval_ns = NS_PER_MS;
		many[i] = add(&settings);
	}
	run_until(loop, all_are_removed, "all targets to be removed");
	assert_int_equal(prober_in_flight(prober), 0);
	assert_in_range(total, KEYS / 2, KEYS);
	assert_no_client_was_hurt();
}

static void test_free_in_flight(void **state)
{
	struct prober_settings settings = settings_of(&server.addr);

	(void)state;
	little_server_behave(&server, ANSWERS, BYTES(""));
	for (settings.key = 0; settings.key < 5; settings.key++)
		(void)add(&settings);
	run_until(loop, server_was_asked, "a check to be in flight");
	prober_free(prober);
	prober = NULL;
	run_until(loop, all_clients_are_gone, "the clients to be gone");
	assert_int_equal(total, 0);
}

/* ---- settings ---- */

static void assert_refused(const struct prober_settings *settings, const char *part_of_why)
{
	struct prober_target *target = NULL;
	const char *why = NULL;

	assert_int_equal(prober_check(settings, &why), -EINVAL);
	assert_int_equal(prober_add(prober, settings, &target, &why), -EINVAL);
	assert_null(target);
	if (!strstr(why, part_of_why))
		fail_msg("%s", why);
}

static void test_settings_that_are_refused(void **state)
{
	static const char *const paths[] = { "", "health", "http://other/", "/a b", "/a\r\nX: y", "/#a", "/\xc3\xa9", "/\x7f" };
	static const char *const hosts[] = { "a b", "a/b", "a\r\nX: y", "user@host", "a?b", "a#b", "\xc3\xa9" };
	static char long_path[PROBE_HTTP_TEXT_MAX + 2];
	const struct prober_settings good = settings_of(&server.addr);
	struct prober_settings settings;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		settings = good;
		settings.http.path = paths[i];
		assert_refused(&settings, "the path");
	}
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		settings = good;
		settings.http.host = hosts[i];
		assert_refused(&settings, "the host");
	}
	memset(long_path, '/', sizeof long_path - 1);
	settings = good;
	settings.http.path = long_path;
	assert_refused(&settings, "too long");
	settings = good;
	settings.http.expect = "200-";
	assert_refused(&settings, "not a status code");
	settings = good;
	settings.rules.send = "x";
	assert_refused(&settings, "only a tcp or udp check");
}

static void test_longest_settings(void **state)
{
	static char path[PROBE_HTTP_TEXT_MAX + 1], host[HOST_NAME_SIZE];
	struct prober_settings settings = settings_of(&server.addr);

	(void)state;
	memset(path, 'p', sizeof path - 1);
	path[0] = '/';
	for (size_t i = 0; i < sizeof host - 1; i++)
		host[i] = i % 50 == 49 ? '.' : 'h';
	settings.http.path = path;
	settings.http.host = host;
	little_server_behave(&server, ANSWERS, BYTES(OK));
	assert_heard(check_once(&settings), true, "status 200");
	assert_non_null(strstr(server.received, "GET /pppp"));
}

/* A host that libcurl itself makes nothing of is an error of its check, not of the program. */
static void test_hosts_that_are_none(void **state)
{
	static const char *const hosts[] = { "[", "]:", ":", ":80", "a:b", "[::1", "a:99999", "[::1]x" };
	struct prober_settings settings = settings_of(&server.addr);

	(void)state;
	little_server_behave(&server, ANSWERS, BYTES(OK));
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		settings.http.host = hosts[i];
		(void)check_once(&settings);
		print_message("%s: %s\n", hosts[i], heard[0].reason);
		assert_true(heard[0].reason[0] != '\0');
	}
}

static int run_without_libcurl(const char *text)
{
	const struct addr addr = { 0 };
	const struct prober_settings settings = settings_of(&addr);
	const char *why = NULL;

	if (prober_check(&settings, &why) != -ENOTSUP || !why || !strstr(why, "libcurl")) {
		printf("an http check is not refused\n");
		return 1;
	}
	printf("skipped: %s\n", text);
	return 77;
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_request),
		TEST(test_families),
		TEST(test_the_environment_has_no_say),
		TEST(test_manners),
		TEST(test_endless_header),
		TEST(test_refused),
		TEST(test_https_without_tls),
		TEST(test_what_is_ours),
		TEST(test_timeout),
		TEST(test_many_at_once),
		TEST(test_remove_in_flight),
		TEST(test_results_may_remove_targets),
		TEST(test_free_in_flight),
		TEST(test_settings_that_are_refused),
		TEST(test_longest_settings),
		TEST(test_hosts_that_are_none),
	};
	char text[128];

	if (!probe_http_available(text, sizeof text))
		return run_without_libcurl(text);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
