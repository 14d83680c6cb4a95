/* Checks by datagrams, through the prober. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/prober.h"
#include "little_server.h"

/* A server that answers each datagram with the same, after it has let some go by. */
static struct {
	int fd;
	struct addr addr;
	struct loop_io io;
	const char *answer;
	size_t count;
	bool mute;
	unsigned lost; /* so many more are lost on their way */
	unsigned received;
	char last[2048];
	size_t last_count;
} server;

static struct {
	unsigned results, unables;
	struct health_check check;
	char reason[PROBE_REASON_SIZE];
} heard;

static struct loop *loop;
static struct prober *prober;

static void on_result(void *arg, uint64_t key, const struct health_check *check, const char *reason)
{
	(void)arg;
	(void)key;
	heard.results++;
	heard.check = *check;
	snprintf(heard.reason, sizeof heard.reason, "%s", reason);
}

static void on_unable(void *arg, uint64_t key, const char *reason)
{
	(void)arg;
	(void)key;
	heard.unables++;
	snprintf(heard.reason, sizeof heard.reason, "%s", reason);
}

static const struct prober_ops ops = { on_result, on_unable };

static void on_datagram(struct loop_io *io, int events)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof from;
	ssize_t n = recvfrom(server.fd, server.last, sizeof server.last, 0, (struct sockaddr *)&from, &length);

	(void)io;
	(void)events;
	assert_true(n >= 0);
	server.last_count = (size_t)n;
	server.received++;
	if (server.lost > 0)
		server.lost--;
	else if (!server.mute)
		assert_int_equal(sendto(server.fd, server.answer, server.count, 0, (struct sockaddr *)&from, length), server.count);
}

static void close_server(void)
{
	if (server.fd < 0)
		return;
	loop_io_stop(loop, &server.io);
	close(server.fd);
	server.fd = -1;
}

static int set_up(void **state)
{
	(void)state;
	memset(&heard, 0, sizeof heard);
	memset(&server, 0, sizeof server);
	loop = loop_new();
	server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	server.addr = (struct addr){ .length = sizeof server.addr.in,
		.in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
	if (!loop || server.fd < 0 || bind(server.fd, &server.addr.sa, server.addr.length) < 0 ||
	        getsockname(server.fd, &server.addr.sa, &server.addr.length) < 0)
		return -1;
	loop_io_init(&server.io, on_datagram);
	prober = prober_new(loop, &ops, NULL, PROBER_MAX_IN_FLIGHT, 1);
	return !prober || loop_io_set(loop, &server.io, server.fd, LOOP_READ) ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	prober_free(prober);
	close_server();
	loop_free(loop);
	return 0;
}

static struct prober_settings settings_of(const char *send, const char *expect)
{
	return (struct prober_settings){
		.addrs = &server.addr,
		.n_addrs = 1,
		.rules = { .kind = PROBE_UDP, .send = send, .expect = expect },
		.interval_ns = 20 * NS_PER_S,
		.timeout_ns = 20 * NS_PER_S,
	};
}

static bool has_ended(void)
{
	return heard.results + heard.unables > 0;
}

static void check_once(const struct prober_settings *settings, enum health_result wanted, const char *reason)
{
	struct prober_target *target;
	const char *why = "no reason";

	heard.results = heard.unables = 0;
	if (prober_add(prober, settings, &target, &why))
		fail_msg("%s", why);
	run_until(loop, has_ended, "the end of the check");
	prober_remove(prober, target);
	assert_int_equal(heard.results, 1);
	assert_int_equal(heard.check.result, wanted);
	assert_string_equal(heard.reason, reason);
}

static void it_answers(void **state)
{
	struct prober_settings settings = settings_of("ping", NULL);

	(void)state;
	server.answer = "anything";
	server.count = 8;
	check_once(&settings, HEALTH_RESULT_OK, "answered");
	assert_int_equal(server.last_count, 4);
	assert_memory_equal(server.last, "ping", 4);
	server.count = 0; /* an empty datagram is one, too */
	check_once(&settings, HEALTH_RESULT_OK, "answered");
	settings = settings_of("", "");
	check_once(&settings, HEALTH_RESULT_OK, "answered");
	assert_int_equal(server.last_count, 0);
}

static void the_answer_is_judged(void **state)
{
	struct prober_settings settings = settings_of("ping", "pong");

	(void)state;
	server.answer = "well, pong!";
	server.count = strlen(server.answer);
	check_once(&settings, HEALTH_RESULT_OK, "the expected answer came");
	server.answer = "well, pon";
	server.count = strlen(server.answer);
	check_once(&settings, HEALTH_RESULT_ANSWER, "another answer than the expected one");
	server.count = 0;
	check_once(&settings, HEALTH_RESULT_ANSWER, "another answer than the expected one");
}

/* What a DNS server is asked has bytes of zero in it. */
static void any_bytes_may_be_sent_and_expected(void **state)
{
	static const char question[] = "\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01";
	struct prober_settings settings = settings_of(question, "\x00\x80");

	(void)state;
	settings.rules.send_count = sizeof question - 1;
	settings.rules.expect_count = 2;
	server.answer = "\xab\xcd\x00\x80";
	server.count = 4;
	check_once(&settings, HEALTH_RESULT_OK, "the expected answer came");
	assert_int_equal(server.last_count, sizeof question - 1);
	assert_memory_equal(server.last, question, sizeof question - 1);
	server.answer = "\xab\xcd\x00\x81";
	check_once(&settings, HEALTH_RESULT_ANSWER, "another answer than the expected one");
}

static void it_speaks_for_nobody(void **state)
{
	static const char wanted[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0ping";
	struct prober_settings settings = settings_of("ping", NULL);

	(void)state;
	settings.rules.introduced = 2;
	server.answer = "x";
	server.count = 1;
	check_once(&settings, HEALTH_RESULT_OK, "answered");
	assert_int_equal(server.last_count, sizeof wanted - 1);
	assert_memory_equal(server.last, wanted, sizeof wanted - 1);
}

static void a_lost_datagram_is_sent_once_more(void **state)
{
	struct prober_settings settings = settings_of("ping", NULL);

	(void)state;
	settings.timeout_ns = 400 * NS_PER_MS;
	server.lost = 1;
	check_once(&settings, HEALTH_RESULT_OK, "answered");
	assert_int_equal(server.received, 2);
	assert_true(heard.check.latency_ns >= 200 * NS_PER_MS);
}

static void no_answer_is_a_timeout(void **state)
{
	struct prober_settings settings = settings_of("ping", NULL);

	(void)state;
	settings.timeout_ns = 60 * NS_PER_MS;
	server.mute = true;
	check_once(&settings, HEALTH_RESULT_TIMEOUT, "timed out waiting for an answer");
	assert_int_equal(server.received, 2);
	settings.rules.expect = "pong";
	check_once(&settings, HEALTH_RESULT_TIMEOUT, "timed out waiting for the expected answer");
}

/* Nobody waits for the timeout where ICMP says that nobody is there. */
static void a_refusal_is_known_at_once(void **state)
{
	struct prober_settings settings = settings_of("ping", NULL);

	(void)state;
	close_server();
	check_once(&settings, HEALTH_RESULT_REFUSED, "refused: nobody has the port");
	settings.rules.send = NULL;
	settings.rules.silent = true;
	check_once(&settings, HEALTH_RESULT_REFUSED, "refused: nobody has the port");
}

static void a_silent_server_is_good_when_nobody_refuses(void **state)
{
	struct prober_settings settings = settings_of(NULL, NULL);

	(void)state;
	settings.rules.silent = true;
	settings.timeout_ns = 100 * NS_PER_MS;
	server.mute = true;
	check_once(&settings, HEALTH_RESULT_OK, "nobody refused");
	assert_int_equal(server.received, 1);
	assert_int_equal(server.last_count, 0);
	assert_true(heard.check.latency_ns >= 50 * NS_PER_MS);
	server.mute = false; /* one that is not as silent as it was said to be */
	server.answer = "!";
	server.count = 1;
	settings.timeout_ns = 20 * NS_PER_S;
	check_once(&settings, HEALTH_RESULT_OK, "answered");
}

/* The first address refuses, the next one answers. */
static void the_next_address_has_its_turn(void **state)
{
	struct addr addrs[2] = { server.addr, server.addr };
	struct prober_settings settings = settings_of("ping", NULL);

	(void)state;
	server.answer = "here";
	server.count = 4;
	addrs[0].in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
	settings.addrs = addrs;
	settings.n_addrs = 2;
	check_once(&settings, HEALTH_RESULT_OK, "answered");
}

static bool was_asked(void)
{
	return server.received > 0;
}

static void what_is_under_way_may_be_dropped(void **state)
{
	struct prober_settings settings = settings_of("ping", NULL);
	struct prober_target *target;
	const char *why;

	(void)state;
	server.mute = true;
	assert_int_equal(prober_add(prober, &settings, &target, &why), 0);
	run_until(loop, was_asked, "a question");
	assert_true(prober_is_checking(target));
	prober_remove(prober, target);
	assert_int_equal(prober_in_flight(prober), 0);
}

static void rules_are_checked(void **state)
{
	struct prober_settings settings = settings_of("x", "y");
	const char *why;

	(void)state;
	assert_int_equal(prober_check(&settings, &why), 0);
	settings.rules.silent = true;
	assert_int_equal(prober_check(&settings, &why), -EINVAL);
	settings.rules.expect = NULL;
	assert_int_equal(prober_check(&settings, &why), 0);
	settings.rules.send_count = PROBE_TEXT_MAX + 1;
	assert_int_equal(prober_check(&settings, &why), -EINVAL);
	settings.rules = (struct probe_rules){ .kind = PROBE_TCP, .silent = true };
	assert_int_equal(prober_check(&settings, &why), -EINVAL);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(it_answers),
		TEST(the_answer_is_judged),
		TEST(any_bytes_may_be_sent_and_expected),
		TEST(it_speaks_for_nobody),
		TEST(a_lost_datagram_is_sent_once_more),
		TEST(no_answer_is_a_timeout),
		TEST(a_refusal_is_known_at_once),
		TEST(a_silent_server_is_good_when_nobody_refuses),
		TEST(the_next_address_has_its_turn),
		TEST(what_is_under_way_may_be_dropped),
		TEST(rules_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
