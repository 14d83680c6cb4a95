#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/prober.h"
#include "little_server.h"

enum { KEYS = 64 };

/* What is known of each key. */
static struct heard {
	unsigned results;
	unsigned unables;
	bool ok;
	enum health_result result;
	char reason[PROBE_REASON_SIZE];
	uint64_t latency_ns;
} heard[KEYS];
static unsigned total; /* results of all */
static uint64_t order[1024];

static struct loop *loop;
static struct prober *prober;
static struct little_server server;
static void (*on_next_result)(uint64_t key);

static void on_result(void *arg, uint64_t key, const struct health_check *check, const char *reason)
{
	assert_ptr_equal(arg, heard);
	assert_true(key < KEYS);
	heard[key].results++;
	heard[key].ok = check->result == HEALTH_RESULT_OK;
	heard[key].result = check->result;
	heard[key].latency_ns = check->latency_ns;
	snprintf(heard[key].reason, sizeof heard[key].reason, "%s", reason);
	order[total++ % ARRAY_LEN(order)] = key;
	if (on_next_result)
		on_next_result(key);
}

static void on_unable(void *arg, uint64_t key, const char *reason)
{
	assert_ptr_equal(arg, heard);
	heard[key].unables++;
	snprintf(heard[key].reason, sizeof heard[key].reason, "%s", reason);
}

static const struct prober_ops ops = { on_result, on_unable };

static void make_prober(unsigned max_in_flight)
{
	prober_free(prober);
	prober = prober_new(loop, &ops, heard, max_in_flight, 1);
	assert_non_null(prober);
}

static int set_up(void **state)
{
	(void)state;
	memset(heard, 0, sizeof heard);
	total = 0;
	on_next_result = NULL;
	loop = loop_new();
	if (!loop)
		return -1;
	little_server_open(&server, loop, "127.0.0.1:0", 128);
	make_prober(PROBER_MAX_IN_FLIGHT);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	prober_free(prober);
	prober = NULL;
	little_server_close(&server);
	loop_free(loop);
	return 0;
}

static struct prober_settings settings_of(enum probe_kind kind, const struct addr *addr)
{
	return (struct prober_settings){
		.addrs = addr,
		.n_addrs = 1,
		.rules.kind = kind,
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

static bool has_a_result(void)
{
	return total > 0;
}

/* The one check of a new target. */
static const struct heard *check_once(const struct prober_settings *settings)
{
	total = 0;
	struct prober_target *target = add(settings);
	run_until(loop, has_a_result, "a result");
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
		{ "cannot connect: No such file", HEALTH_RESULT_REFUSED },
		{ "timed out", HEALTH_RESULT_TIMEOUT },
		{ "closed the connection before", HEALTH_RESULT_CLOSED },
		{ "Connection reset by peer", HEALTH_RESULT_RESET },
		{ "not an answer", HEALTH_RESULT_ANSWER },
		{ "LOADING", HEALTH_RESULT_ANSWER },
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

/* ---- each family ---- */

static void assert_reaches(const char *address)
{
	struct little_server other;

	little_server_open(&other, loop, address, 16);
	little_server_behave(&other, ANSWERS, "+PONG\r\n", 7);
	struct prober_settings settings = settings_of(PROBE_REDIS, &other.addr);
	assert_heard(check_once(&settings), true, "PONG");
	settings.rules.kind = PROBE_TCP;
	assert_heard(check_once(&settings), true, "connected");
	assert_int_equal(other.accepted, 2);
	little_server_close(&other);
}

static void test_families(void **state)
{
	char path[] = "/tmp/aegis-prober-XXXXXX", address[64];

	(void)state;
	assert_reaches("127.0.0.1:0");
	assert_reaches("[::1]:0");
	snprintf(address, sizeof address, "unix:@aegis-test-prober-%d", (int)getpid());
	assert_reaches(address);
	assert_non_null(mkdtemp(path));
	snprintf(address, sizeof address, "unix:%s/s", path);
	assert_reaches(address);
	assert_int_equal(unlink(address + 5), 0);
	assert_int_equal(rmdir(path), 0);
}

static void test_nobody_listens(void **state)
{
	struct endpoint endpoint;
	const char *why;
	struct addr nobody = address_of_nobody();
	struct prober_settings settings = settings_of(PROBE_TCP, &nobody);

	(void)state;
	assert_heard(check_once(&settings), false, "cannot connect: Connection refused");
	assert_int_equal(endpoint_parse("unix:/nowhere/at/all", &endpoint, &why), 0);
	settings.addrs = &endpoint.addr;
	assert_heard(check_once(&settings), false, "cannot connect: No such file or directory");
}

/* ---- kinds and manners ---- */

#define BYTES(literal) (literal), sizeof(literal) - 1
#define GREETING \
	"\x4a\0\0\0\n8.0.35\0\x0b\0\0\0abcdefgh\0\xff\xff\x21\2\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_native_password\0"
#define STARTING_UP   \
	"E\0\0\0\x2d" \
	"C57P03\0Mthe database system is starting\0\0"

static void test_kinds_and_manners(void **state)
{
	static const struct {
		enum probe_kind kind;
		enum manner manner;
		const char *text;
		size_t length;
		bool ok;
		const char *reason;
	} rows[] = {
		{ PROBE_TCP, SPEAKS, BYTES("220 hello\r\n"), true, "connected" },
		{ PROBE_TCP, HANGS_UP, BYTES(""), true, "connected" },
		{ PROBE_REDIS, ANSWERS, BYTES("+PONG\r\n"), true, "answered PONG" },
		{ PROBE_REDIS, TRICKLES, BYTES("+PONG\r\n"), true, "answered PONG" },
		{ PROBE_REDIS, CLOSES, BYTES("-NOAUTH Authentication required.\r\n"), true, "alive" },
		{ PROBE_REDIS, ANSWERS, BYTES("-LOADING Redis is loading\r\n"), false, "LOADING" },
		{ PROBE_REDIS, CLOSES, BYTES("+PON"), false, "closed the connection before the answer to PING was complete" },
		{ PROBE_REDIS, HANGS_UP, BYTES(""), false, "before the answer to PING" },
		{ PROBE_REDIS, RESETS, BYTES(""), false, "Connection reset by peer, before the answer to PING" },
		{ PROBE_REDIS, ANSWERS, BYTES("\x16\x03\x01\xff\xfe garbage"), false, "not an answer of Redis" },
		{ PROBE_REDIS, FLOODS, BYTES("+a"), false, "after 4096 bytes" },
		{ PROBE_POSTGRES, ANSWERS, BYTES("R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0"), true, "asks for a password" },
		{ PROBE_POSTGRES, TRICKLES, BYTES("R\0\0\0\x08\0\0\0\0"), true, "let us in" },
		{ PROBE_POSTGRES, CLOSES, BYTES(STARTING_UP), false, "the database system is starting" },
		{ PROBE_POSTGRES, TRICKLES, BYTES(STARTING_UP), false, "the database system is starting" },
		{ PROBE_POSTGRES, FLOODS, BYTES("E\0\0\x20\0M"), false, "an error without its code" },
		{ PROBE_POSTGRES, HANGS_UP, BYTES(""), false, "before the answer to the startup message" },
		{ PROBE_POSTGRES, SPEAKS, BYTES("SSH-2.0-x\r\n"), false, "not an answer of PostgreSQL" },
		{ PROBE_MYSQL, SPEAKS, BYTES(GREETING "\7\0\0\2\0\0\0\2\0\0\0"), true, "let us in" },
		{ PROBE_MYSQL, TRICKLES, BYTES(GREETING "\x0f\0\0\2\xff\x15\4#28000Access"), true, "1045: Access" },
		{ PROBE_MYSQL, SPEAKS, BYTES("\x17\0\0\0\xff\x10\4Too many connections"), false, "Too many connections" },
		{ PROBE_MYSQL, FLOODS, BYTES("x"), false, "timed out waiting for the greeting" },
		{ PROBE_MYSQL, HANGS_UP, BYTES(""), false, "before the greeting" },
		{ PROBE_MYSQL, SPEAKS, BYTES("HTTP/1.1 400 Bad\r\n"), false, "not an answer of MySQL" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct prober_settings settings = settings_of(rows[i].kind, &server.addr);
		if (strstr(rows[i].reason, "timed out"))
			settings.timeout_ns = 30 * NS_PER_MS;
		print_message("row %zu: %s\n", i, probe_kind_name(rows[i].kind));
		little_server_behave(&server, rows[i].manner, rows[i].text, rows[i].length);
		assert_heard(check_once(&settings), rows[i].ok, rows[i].reason);
		if (rows[i].manner != HANGS_UP && rows[i].manner != FLOODS)
			assert_no_client_was_hurt();
	}
}

static void test_send_and_expect(void **state)
{
	struct prober_settings settings = settings_of(PROBE_TCP, &server.addr);
	char send[] = "hello\n", expect[] = "ready";

	(void)state;
	settings.rules.send = send;
	settings.rules.expect = expect;
	little_server_behave(&server, ANSWERS, BYTES("almost.. and now ready."));
	struct prober_target *target = add(&settings);
	memset(send, 'x', sizeof send - 1); /* they were copied */
	memset(expect, 'x', sizeof expect - 1);
	run_until(loop, has_a_result, "a result");
	assert_heard(&heard[0], true, "the expected text came");
	assert_string_equal(server.received, "hello\n");
	prober_remove(prober, target);
	settings.rules.expect = "never";
	settings.timeout_ns = 60 * NS_PER_MS;
	assert_heard(check_once(&settings), false, "timed out waiting for the expected text");
	settings.rules.expect = "";
	settings.rules.send = "bye\n";
	assert_heard(check_once(&settings), true, "connected");
	assert_no_client_was_hurt();
	assert_string_equal(server.received, "bye\n");
}

/* ---- a server that must not be hurt ---- */

/* It speaks before and after we have turned away, and sees the end of a connection, never a reset. */
static void test_no_rst(void **state)
{
	struct prober_settings settings = settings_of(PROBE_TCP, &server.addr);
	static char words[100000];

	(void)state;
	memset(words, 'w', sizeof words);
	little_server_behave(&server, SPEAKS, words, sizeof words);
	for (int i = 0; i < 20; i++)
		assert_heard(check_once(&settings), true, "connected");
	little_server_behave(&server, TRICKLES, words, 100);
	for (int i = 0; i < 20; i++)
		assert_heard(check_once(&settings), true, "connected");
	assert_no_client_was_hurt();
	assert_int_equal(server.accepted, 40);
	assert_int_equal(server.ended, 40);
}

static void test_farewell(void **state)
{
	struct prober_settings settings = settings_of(PROBE_POSTGRES, &server.addr);

	(void)state;
	little_server_behave(&server, ANSWERS, BYTES("R\0\0\0\x08\0\0\0\0"));
	assert_heard(check_once(&settings), true, "let us in");
	assert_no_client_was_hurt();
	assert_true(server.n_received > 5);
	assert_memory_equal(server.received + server.n_received - 5, "X\0\0\0\4", 5);
}

/* ---- time ---- */

static void test_timeout(void **state)
{
	struct prober_settings settings = settings_of(PROBE_REDIS, &server.addr);

	(void)state;
	settings.timeout_ns = 60 * NS_PER_MS;
	little_server_behave(&server, ANSWERS, "", 0);
	const struct heard *got = check_once(&settings);
	assert_heard(got, false, "timed out waiting for the answer to PING");
	assert_in_range(got->latency_ns, 59 * NS_PER_MS, 10 * NS_PER_S);
	assert_no_client_was_hurt();
	little_server_behave(&server, IGNORES, "", 0); /* the kernel has connected us */
	assert_heard(check_once(&settings), false, "timed out waiting for the answer to PING");
}

/* A full queue of a listening socket: the kernel drops who wants to connect. */
static void test_timeout_of_connecting(void **state)
{
	struct little_server full;
	int fds[8];

	(void)state;
	little_server_open(&full, loop, "127.0.0.1:0", 0);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		assert_true(fds[i] >= 0);
		assert_true(connect(fds[i], &full.addr.sa, full.addr.length) == 0 || errno == EINPROGRESS);
	}
	struct prober_settings settings = settings_of(PROBE_TCP, &full.addr);
	settings.timeout_ns = 60 * NS_PER_MS;
	assert_heard(check_once(&settings), false, "timed out waiting for the connection");
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	little_server_close(&full);
}

static unsigned wanted_results;

static bool enough_results(void)
{
	return total >= wanted_results;
}

static void run_until_results(unsigned count)
{
	wanted_results = count;
	run_until(loop, enough_results, "all results");
}

static unsigned most_in_flight;

static void note_in_flight(uint64_t key)
{
	(void)key;
	/* the one that has just ended is not counted any more */
	unsigned now = prober_in_flight(prober) + 1;
	most_in_flight = now > most_in_flight ? now : most_in_flight;
}

/* Intervals are shorter than the timeouts that every check runs into. */
static void test_never_two_of_one_target(void **state)
{
	struct prober_settings settings = settings_of(PROBE_REDIS, &server.addr);

	(void)state;
	settings.interval_ns = NS_PER_MS;
	settings.timeout_ns = 20 * NS_PER_MS;
	little_server_behave(&server, ANSWERS, "", 0);
	most_in_flight = 0;
	on_next_result = note_in_flight;
	struct prober_target *target = add(&settings);
	run_until_results(10);
	prober_remove(prober, target);
	assert_int_equal(most_in_flight, 1);
	assert_no_client_was_hurt();
	assert_in_range(server.most_open, 1, 2); /* it may accept one before it has seen the end of the last one */
}

static void test_the_rest_waits_its_turn(void **state)
{
	struct prober_target *targets[40];

	(void)state;
	make_prober(4);
	little_server_behave(&server, ANSWERS, "", 0);
	most_in_flight = 0;
	on_next_result = note_in_flight;
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		struct prober_settings settings = settings_of(PROBE_REDIS, &server.addr);
		settings.key = i;
		settings.interval_ns = 20 * NS_PER_MS; /* they are all due soon */
		settings.timeout_ns = 30 * NS_PER_MS;
		targets[i] = add(&settings);
	}
	run_until_results(2 * ARRAY_LEN(targets));
	assert_int_equal(most_in_flight, 4);
	bool seen[ARRAY_LEN(targets)] = { false };
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		assert_false(seen[order[i]]); /* nobody twice before everybody once */
		seen[order[i]] = true;
		/* in the order in which they became due, but for those of one tick and those that are in flight together */
		assert_in_range(order[i] + 14, i, i + 28);
	}
	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		prober_remove(prober, targets[i]);
	assert_no_client_was_hurt();
}

static void test_hurry(void **state)
{
	struct prober_settings settings = settings_of(PROBE_TCP, &server.addr);

	(void)state;
	settings.fast_interval_ns = 5 * NS_PER_MS;
	little_server_behave(&server, ANSWERS, "", 0);
	struct prober_target *target = add(&settings);
	run_until_results(1);
	prober_hurry(prober, target, true);
	run_until_results(10); /* within 20 s there would be none */
	prober_hurry(prober, target, false);
	run_until_results(11); /* the one that was armed */
	assert_int_equal(heard[0].results, 11);
}

/* ---- changes while something is under way ---- */

static bool server_has_a_client(void)
{
	return server.open > 0 && server.n_received > 0;
}

static void test_remove_in_flight(void **state)
{
	struct prober_settings settings = settings_of(PROBE_REDIS, &server.addr), fresh = settings;

	(void)state;
	little_server_behave(&server, ANSWERS, "", 0);
	struct prober_target *target = add(&settings);
	run_until(loop, server_has_a_client, "a check to be in flight");
	assert_int_equal(prober_in_flight(prober), 1);
	prober_remove(prober, target);
	assert_int_equal(prober_in_flight(prober), 0);
	assert_no_client_was_hurt();
	assert_int_equal(server.ended, 1);
	/* before its first check, and while it connects */
	fresh.key = 1;
	prober_remove(prober, add(&fresh));
	little_server_behave(&server, ANSWERS, BYTES("+PONG\r\n"));
	settings.key = 2;
	check_once(&settings);
	assert_int_equal(heard[0].results + heard[1].results, 0);
	assert_int_equal(heard[2].results, 1);
}

static void test_free_in_flight(void **state)
{
	struct prober_settings settings = settings_of(PROBE_REDIS, &server.addr);

	(void)state;
	little_server_behave(&server, ANSWERS, "", 0);
	for (settings.key = 0; settings.key < 5; settings.key++)
		(void)add(&settings);
	run_until(loop, server_has_a_client, "a check to be in flight");
	prober_free(prober);
	prober = NULL;
	run_until(loop, all_clients_are_gone, "the clients to be gone");
	assert_int_equal(total, 0);
}

static void test_change_in_flight(void **state)
{
	struct prober_settings settings = settings_of(PROBE_REDIS, &server.addr), bad = settings;
	const char *why = NULL;

	(void)state;
	little_server_behave(&server, ANSWERS, "", 0);
	struct prober_target *target = add(&settings);
	run_until(loop, server_has_a_client, "a check to be in flight");
	bad.n_addrs = 0;
	assert_int_equal(prober_change(prober, target, &bad, &why), -EINVAL);
	assert_int_equal(prober_in_flight(prober), 1);
	settings.rules.kind = PROBE_TCP;
	settings.key = 1;
	assert_int_equal(prober_change(prober, target, &settings, &why), 0);
	assert_int_equal(prober_in_flight(prober), 0);
	run_until_results(1);
	assert_int_equal(heard[0].results, 0);
	assert_heard(&heard[1], true, "connected");
	assert_no_client_was_hurt();
}

static struct prober_target *many[KEYS];

/* Each result removes its own target and one more, and adds none. */
static void remove_some(uint64_t key)
{
	for (uint64_t other = key; other < key + 2; other++)
		if (many[other % KEYS]) {
			prober_remove(prober, many[other % KEYS]);
			many[other % KEYS] = NULL;
		}
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
	little_server_behave(&server, ANSWERS, BYTES("+PONG\r\n"));
	on_next_result = remove_some;
	for (size_t i = 0; i < KEYS; i++) {
		struct prober_settings settings = settings_of(PROBE_REDIS, i % 3 ? &server.addr : &nobody);
		settings.key = i;
		settings.interval_ns = NS_PER_MS;
		settings.timeout_ns = NS_PER_S;
		many[i] = add(&settings);
	}
	run_until(loop, all_are_removed, "all targets to be removed");
	assert_int_equal(prober_in_flight(prober), 0);
	assert_in_range(total, KEYS / 2, KEYS);
}

static struct prober_target *changing;
static struct prober_settings next_settings;

static void change_and_hurry(uint64_t key)
{
	const char *why;

	if (key >= 10)
		return;
	next_settings.key = key + 1;
	assert_int_equal(prober_change(prober, changing, &next_settings, &why), 0);
	prober_hurry(prober, changing, key % 2 == 0);
}

static void test_results_may_change_their_target(void **state)
{
	struct addr nobody = address_of_nobody();

	(void)state;
	next_settings = settings_of(PROBE_TCP, &nobody);
	on_next_result = change_and_hurry;
	changing = add(&next_settings);
	run_until_results(11);
	for (size_t i = 0; i <= 10; i++)
		assert_int_equal(heard[i].results, 1);
}

/* ---- addresses ---- */

static void test_the_next_address_when_refused(void **state)
{
	struct addr nobody = address_of_nobody(), addrs[] = { nobody, nobody, server.addr };
	struct prober_settings settings = settings_of(PROBE_REDIS, addrs);

	(void)state;
	settings.n_addrs = ARRAY_LEN(addrs);
	settings.interval_ns = NS_PER_MS;
	little_server_behave(&server, ANSWERS, BYTES("+PONG\r\n"));
	struct prober_target *target = add(&settings);
	run_until_results(3);
	prober_remove(prober, target);
	assert_heard(&heard[0], true, "PONG");
	settings.n_addrs = 2;
	settings.key = 1;
	settings.interval_ns = 20 * NS_PER_S;
	assert_heard(check_once(&settings), false, "refused");
	assert_int_equal(heard[1].results, 1);
}

static bool is_good(void)
{
	return heard[0].ok;
}

static void test_the_next_address_after_a_timeout(void **state)
{
	struct little_server silent;

	(void)state;
	little_server_open(&silent, loop, "127.0.0.1:0", 16);
	struct addr addrs[] = { silent.addr, server.addr };
	struct prober_settings settings = settings_of(PROBE_REDIS, addrs);
	settings.n_addrs = ARRAY_LEN(addrs);
	settings.interval_ns = NS_PER_MS;
	settings.timeout_ns = 50 * NS_PER_MS;
	little_server_behave(&server, ANSWERS, BYTES("+PONG\r\n"));
	struct prober_target *target = add(&settings);
	run_until_results(1);
	assert_heard(&heard[0], false, "timed out");
	run_until(loop, is_good, "the other address to be tried");
	assert_heard(&heard[0], true, "PONG");
	prober_remove(prober, target);
	little_server_close(&silent);
}

/* ---- what is ours ---- */

static bool is_unable(void)
{
	return heard[0].unables > 0;
}

/* Without descriptors nothing is known about servers; when there are some again it goes on by itself. */
static void test_out_of_descriptors(void **state)
{
	struct prober_settings settings = settings_of(PROBE_TCP, &server.addr);
	struct rlimit limit, none;

	(void)state;
	settings.interval_ns = 2 * NS_PER_MS;
	little_server_behave(&server, ANSWERS, "", 0);
	struct prober_target *target = add(&settings);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	int lowest = dup(0);
	assert_true(lowest >= 0);
	close(lowest);
	none = (struct rlimit){ .rlim_cur = (rlim_t)lowest, .rlim_max = limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	run_until(loop, is_unable, "a check that could not be made");
	assert_int_equal(total, 0);
	assert_non_null(strstr(heard[0].reason, "Too many open files"));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	run_until_results(1);
	assert_heard(&heard[0], true, "connected");
	prober_remove(prober, target);
}

/* ---- settings ---- */

static void assert_refused(const struct prober_settings *settings, const char *part_of_why)
{
	struct prober_target *target = NULL;
	const char *why = NULL;

	assert_int_equal(prober_add(prober, settings, &target, &why), -EINVAL);
	assert_null(target);
	assert_non_null(why);
	if (!strstr(why, part_of_why))
		fail_msg("%s", why);
}

static void test_settings_that_are_refused(void **state)
{
	const struct prober_settings good = settings_of(PROBE_REDIS, &server.addr);
	struct prober_settings settings;
	const char *why;

	(void)state;
	assert_int_equal(prober_check(&good, &why), 0);
	settings = good;
	settings.n_addrs = 0;
	assert_refused(&settings, "no address");
	settings.n_addrs = PROBER_MAX_ADDRESSES + 1;
	assert_refused(&settings, "more than 8");
	settings = good;
	settings.interval_ns = 0;
	assert_refused(&settings, "interval");
	settings = good;
	settings.timeout_ns = 0;
	assert_refused(&settings, "timeout");
	settings = good;
	settings.rules.expect = "PONG";
	assert_refused(&settings, "only a tcp or udp check");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_families),
		TEST(test_nobody_listens),
		TEST(test_kinds_and_manners),
		TEST(test_send_and_expect),
		TEST(test_no_rst),
		TEST(test_farewell),
		TEST(test_timeout),
		TEST(test_timeout_of_connecting),
		TEST(test_never_two_of_one_target),
		TEST(test_the_rest_waits_its_turn),
		TEST(test_hurry),
		TEST(test_remove_in_flight),
		TEST(test_free_in_flight),
		TEST(test_change_in_flight),
		TEST(test_results_may_remove_targets),
		TEST(test_results_may_change_their_target),
		TEST(test_the_next_address_when_refused),
		TEST(test_the_next_address_after_a_timeout),
		TEST(test_out_of_descriptors),
		TEST(test_settings_that_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
