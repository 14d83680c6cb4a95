/* Sessions of UDP in a worker without processes: real sockets on the loopback, and a time that passes when the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../shm/segment.h"
#include "base/clock.h"
#include "udp/udp.h"

enum { SERVERS = 2, CLIENTS = 4, CAPACITY = 3 };

static uint64_t time_ns = 1000 * NS_PER_S;

/* In place of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *out)
{
	(void)clock;
	out->tv_sec = (time_t)(time_ns / NS_PER_S);
	out->tv_nsec = (long)(time_ns % NS_PER_S);
	return 0;
}

struct ground {
	struct shm shm;
	struct config *config;
	struct loop *loop;
	int turns; /* left */
	struct house house;
	struct udp udp;
	uint32_t listener_row, upstream_row, server_rows[SERVERS];
	int front;
	int servers[SERVERS];
	struct sockaddr_in server_addresses[SERVERS];
	int clients[CLIENTS];
};

static int open_udp(struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t length = sizeof *address;
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &length), 0);
	return fd;
}

static void nobody_waits(struct line *line, struct waiter *waiter, uint64_t *due_ns)
{
	(void)line;
	(void)waiter;
	(void)due_ns;
	fail();
}

static void before_sleep(void *arg)
{
	struct ground *ground = arg;
	assert_false(house_before_sleep(&ground->house));
	udp_before_sleep(&ground->udp);
}

static void wait_in_vain(void *arg, bool sleep)
{
	struct ground *ground = arg;
	(void)sleep;
	loop_woke(ground->loop);
	loop_poll_ready(ground->loop);
	if (--ground->turns <= 0)
		loop_stop(ground->loop);
}

/* What is there is dealt with. */
static void turn(struct ground *ground)
{
	ground->turns = 3;
	loop_run(ground->loop);
	before_sleep(ground);
}

static void pass(struct ground *ground, uint64_t ns)
{
	time_ns += ns;
	turn(ground);
}

static void load(struct ground *ground, const char *listener, const char *upstream)
{
	char text[1024];
	const char *overrides[] = { text };
	struct config_source source = { .overrides = overrides, .n_overrides = 1 };
	struct config_errors errors = { 0 };
	(void)snprintf(text, sizeof text,
	        "listeners = ( { name = \"l\"; address = \"127.0.0.1:1\"; upstream = \"u\"; protocol = \"udp\"; %s } );"
	        "upstreams = ( { name = \"u\"; servers = ( { name = \"a\"; address = \"127.0.0.1:%u\"; }, { name = \"b\"; address = "
	        "\"127.0.0.1:%u\"; } ); %s } );",
	        listener, ntohs(ground->server_addresses[0].sin_port), ntohs(ground->server_addresses[1].sin_port), upstream);
	if (config_load(&source, &ground->config, &errors))
		fail_msg("%s", errors.lines);
	for (size_t i = 0; i < SERVERS; i++) {
		struct server_config *server = &ground->config->upstreams[0].servers[i];
		server->addrs[0].length = sizeof ground->server_addresses[i];
		server->addrs[0].in = ground->server_addresses[i];
		server->n_addrs = 1;
	}
}

static struct ground *begin(const char *listener, const char *upstream)
{
	struct ground *ground = calloc(1, sizeof *ground);
	struct sockaddr_in at = { .sin_port = 0 };
	static const char *const names[] = { "a", "b" };
	assert_non_null(ground);
	for (size_t i = 0; i < SERVERS; i++)
		ground->servers[i] = open_udp(&ground->server_addresses[i]);
	load(ground, listener, upstream);
	segment_make(&ground->shm, 1, 1, SERVERS);
	assert_int_equal(shm_claim_listener(&ground->shm, "l", &ground->listener_row), 0);
	assert_int_equal(shm_claim_upstream(&ground->shm, "u", &ground->upstream_row), 0);
	for (size_t i = 0; i < SERVERS; i++)
		assert_int_equal(shm_claim_server(&ground->shm, "u", names[i], &ground->server_rows[i]), 0);
	const uint32_t *const server_rows[] = { ground->server_rows };
	const struct house_places places = {
		.listeners = &ground->listener_row, .upstreams = &ground->upstream_row, .servers = server_rows, .workers = 1
	};
	const struct house_room room = { .conns = 4 };
	ground->loop = loop_new();
	assert_non_null(ground->loop);
	loop_woke(ground->loop);
	loop_set_waiter(ground->loop, wait_in_vain, ground);
	loop_on_turn(ground->loop, before_sleep, ground);
	assert_int_equal(
	        house_init(&ground->house, ground->loop, NULL, ground->config, &places, &ground->shm, 0, &room, 0, nobody_waits), 0);
	ground->front = open_udp(&at);
	const struct udp_place place = { .fd = ground->front };
	const struct udp_post post = { .inbox = -1 };
	assert_int_equal(udp_init(&ground->udp, &ground->house, ground->config, &places, CAPACITY, &place, 1, &post), 0);
	udp_start(&ground->udp);
	for (size_t i = 0; i < CLIENTS; i++) {
		struct sockaddr_in client = { .sin_port = 0 };
		ground->clients[i] = open_udp(&client);
		assert_int_equal(connect(ground->clients[i], (struct sockaddr *)&at, sizeof at), 0);
	}
	return ground;
}

static struct listener_row *row_of(const struct ground *ground)
{
	return shm_listener_row(&ground->shm, 0, ground->listener_row);
}

static struct server_row *server_row_of(const struct ground *ground, size_t server)
{
	return shm_server_row(&ground->shm, 0, ground->server_rows[server]);
}

static uint64_t closes(const struct ground *ground, enum reason reason)
{
	return counter_get(&row_of(ground)->closes[reason]);
}

/* Whatever happened, all that was counted is at zero, and each session had its end. */
static void end(struct ground *ground)
{
	uint64_t ended = 0;
	house_end_all(&ground->house, REASON_DRAIN_TIMEOUT);
	for (unsigned reason = 0; reason < N_REASONS; reason++)
		ended += closes(ground, reason);
	assert_int_equal(counter_get(&row_of(ground)->connections), ended);
	assert_int_equal(ground->udp.flows.in_use, 0);
	assert_int_equal(ground->udp.table.n, 0);
	assert_int_equal(limit_used(&ground->shm, limit_global()), 0);
	assert_int_equal(limit_used(&ground->shm, limit_listener(ground->listener_row)), 0);
	assert_int_equal(atomic_load(&ground->shm.seats[0].udp_sessions), 0);
	for (size_t i = 0; i < SERVERS; i++)
		assert_int_equal(limit_used(&ground->shm, limit_server(&ground->shm, ground->server_rows[i])), 0);
	udp_fini(&ground->udp);
	house_fini(&ground->house);
	loop_free(ground->loop);
	segment_drop(&ground->shm);
	config_free(ground->config);
	close(ground->front);
	for (size_t i = 0; i < CLIENTS; i++)
		close(ground->clients[i]);
	for (size_t i = 0; i < SERVERS; i++)
		if (ground->servers[i] >= 0)
			close(ground->servers[i]);
	free(ground);
}

static uint32_t sessions(const struct ground *ground)
{
	return (uint32_t)ground->udp.flows.in_use;
}

static void ask(struct ground *ground, size_t client, const char *text)
{
	assert_int_equal(send(ground->clients[client], text, strlen(text), 0), strlen(text));
	turn(ground);
}

/* A server has got this, and where from; the first of both where either may have it. Returns which. */
static size_t asked(struct ground *ground, const char *text, struct sockaddr_in *from)
{
	char got[100];
	for (size_t i = 0; i < SERVERS; i++) {
		socklen_t length = sizeof *from;
		ssize_t n = ground->servers[i] >= 0 ? recvfrom(ground->servers[i], got, sizeof got - 1, 0, (struct sockaddr *)from, &length)
		                                    : -1;
		if (n < 0)
			continue;
		got[n] = '\0';
		assert_string_equal(got, text);
		return i;
	}
	fail_msg("no server was sent \"%s\"", text);
	return 0;
}

static void nobody_was_asked(struct ground *ground)
{
	char byte;
	for (size_t i = 0; i < SERVERS; i++)
		assert_int_equal(ground->servers[i] < 0 ? -1 : recv(ground->servers[i], &byte, 1, 0), -1);
}

static void answer(struct ground *ground, size_t server, const struct sockaddr_in *to, const char *text)
{
	assert_int_equal(sendto(ground->servers[server], text, strlen(text), 0, (const struct sockaddr *)to, sizeof *to), strlen(text));
}

static void assert_answered(struct ground *ground, size_t client, const char *text)
{
	char got[100];
	ssize_t n = recv(ground->clients[client], got, sizeof got - 1, 0);
	assert_true(n >= 0);
	got[n] = '\0';
	assert_string_equal(got, text);
}

/* --- the way there and back ---------------------------------------------------------------------------------------------------- */

static void test_there_and_back(void **state)
{
	(void)state;
	struct ground *ground = begin("", "");
	struct sockaddr_in from[2];
	ask(ground, 0, "one");
	size_t first = asked(ground, "one", &from[0]);
	ask(ground, 1, "two");
	size_t second = asked(ground, "two", &from[1]);
	assert_int_not_equal(first, second);
	answer(ground, second, &from[1], "2");
	answer(ground, first, &from[0], "1a");
	answer(ground, first, &from[0], "1b");
	turn(ground);
	assert_answered(ground, 0, "1a");
	assert_answered(ground, 0, "1b");
	assert_answered(ground, 1, "2");
	assert_int_equal(sessions(ground), 2);
	const struct listener_row *row = row_of(ground);
	assert_int_equal(counter_get(&row->connections), 2);
	assert_int_equal(counter_get(&row->udp_from_client), 2);
	assert_int_equal(counter_get(&row->udp_to_server), 2);
	assert_int_equal(counter_get(&row->udp_from_server), 3);
	assert_int_equal(counter_get(&row->udp_to_client), 3);
	assert_int_equal(counter_get(&row->received_bytes), 6);
	assert_int_equal(counter_get(&row->sent_bytes), 5);
	assert_int_equal(counter_get(&server_row_of(ground, first)->connections), 1);
	assert_int_equal(counter_get(&server_row_of(ground, first)->sent_bytes), 3);
	assert_int_equal(counter_get(&server_row_of(ground, first)->received_bytes), 4);
	end(ground);
}

static void test_reads_in_bursts_what_comes_in_bursts(void **state)
{
	(void)state;
	struct ground *ground = begin("", "");
	struct sockaddr_in from;
	ask(ground, 0, "go");
	size_t server = asked(ground, "go", &from);
	struct flow *flow = container_of(ground->house.oldest, struct flow, visit);
	assert_int_equal(flow->burst, 1);
	for (int i = 0; i < 40; i++)
		answer(ground, server, &from, (char[]){ (char)('0' + i), '\0' });
	for (int i = 0; i < 4; i++)
		turn(ground);
	for (int i = 0; i < 40; i++)
		assert_answered(ground, 0, (char[]){ (char)('0' + i), '\0' });
	assert_true(flow->burst > 1);
	assert_int_equal(flow->gro, ground->udp.features.gro);

	/* One with GRO stays so; another one goes back. */
	ask(ground, 1, "go");
	flow = container_of(ground->house.newest, struct flow, visit);
	flow->burst = 16;
	server = asked(ground, "go", &from);
	for (int i = 0; i < 20; i++) {
		answer(ground, server, &from, "x");
		turn(ground);
		assert_answered(ground, 1, "x");
		ask(ground, 1, "y");
		(void)asked(ground, "y", &from);
	}
	assert_int_equal(flow->burst, 1);
	end(ground);
}

/* --- ends ---------------------------------------------------------------------------------------------------------------------- */

static void test_idle(void **state)
{
	(void)state;
	struct ground *ground = begin("udp = { idle = \"10s\"; };", "");
	struct sockaddr_in from;
	ask(ground, 0, "x");
	size_t server = asked(ground, "x", &from);
	pass(ground, 9 * NS_PER_S);
	assert_int_equal(sessions(ground), 1);
	answer(ground, server, &from, "y"); /* counts as well */
	turn(ground);
	pass(ground, 9 * NS_PER_S);
	assert_int_equal(sessions(ground), 1);
	ask(ground, 0, "x");
	pass(ground, 9999 * NS_PER_MS);
	assert_int_equal(sessions(ground), 1);
	pass(ground, 10 * NS_PER_MS);
	assert_int_equal(sessions(ground), 0);
	assert_int_equal(closes(ground, REASON_IDLE_TIMEOUT), 1);
	end(ground);
}

static void test_lifetime(void **state)
{
	(void)state;
	struct ground *ground = begin("udp = { idle = \"10s\"; }; timeout = { lifetime = \"1m\"; };", "");
	for (int i = 0; i < 12; i++) {
		ask(ground, 0, "x");
		assert_int_equal(counter_get(&row_of(ground)->connections), 1);
		pass(ground, 5 * NS_PER_S);
	}
	pass(ground, 10 * NS_PER_MS);
	assert_int_equal(closes(ground, REASON_LIFETIME), 1);
	ask(ground, 0, "x");
	assert_int_equal(counter_get(&row_of(ground)->connections), 2);
	end(ground);
}

static void test_responses(void **state)
{
	(void)state;
	struct ground *ground = begin("udp = { responses = 2; };", "");
	struct sockaddr_in from;
	ask(ground, 0, "x");
	size_t server = asked(ground, "x", &from);
	answer(ground, server, &from, "1");
	turn(ground);
	assert_int_equal(sessions(ground), 1);
	answer(ground, server, &from, "2");
	answer(ground, server, &from, "3"); /* nobody waits for it */
	turn(ground);
	assert_int_equal(sessions(ground), 0);
	assert_int_equal(closes(ground, REASON_ANSWERED), 1);
	assert_answered(ground, 0, "1");
	assert_answered(ground, 0, "2");
	end(ground);
}

static void test_requests(void **state)
{
	(void)state;
	struct ground *ground = begin("udp = { requests = 2; responses = 1; };", "");
	struct sockaddr_in first, second;
	ask(ground, 0, "1");
	ask(ground, 0, "2");
	ask(ground, 0, "3");
	assert_int_equal(sessions(ground), 2);
	assert_int_equal(ground->udp.table.n, 1); /* the first one takes no more */
	size_t server = asked(ground, "1", &first);
	assert_int_equal(asked(ground, "2", &first), server);
	assert_int_equal(asked(ground, "3", &second), 1 - server);
	answer(ground, server, &first, "a");
	answer(ground, server, &first, "b");
	turn(ground);
	assert_int_equal(closes(ground, REASON_ANSWERED), 1);
	assert_int_equal(sessions(ground), 1);
	end(ground);

	ground = begin("udp = { requests = 1; };", "");
	ask(ground, 0, "1");
	ask(ground, 0, "2");
	assert_int_equal(closes(ground, REASON_REQUESTS_REACHED), 2);
	assert_int_equal(sessions(ground), 0);
	end(ground);
}

/* --- servers ------------------------------------------------------------------------------------------------------------------- */

static void leave(struct ground *ground, size_t server)
{
	close(ground->servers[server]);
	ground->servers[server] = -1;
}

static void test_a_server_that_is_not_there(void **state)
{
	(void)state;
	struct ground *ground = begin("", "");
	struct sockaddr_in from;
	leave(ground, 0);
	for (size_t client = 0; client < 2; client++) {
		ask(ground, client, "x");
		assert_int_equal(asked(ground, "x", &from), 1);
	}
	assert_int_equal(counter_get(&server_row_of(ground, 0)->failures), 1);
	assert_int_equal(counter_get(&row_of(ground)->retries), 1);
	assert_int_equal(counter_get(&row_of(ground)->udp_to_server), 2);
	leave(ground, 1);
	ask(ground, 3, "x");
	assert_int_equal(closes(ground, REASON_CONNECT_REFUSED), 1);
	assert_int_equal(sessions(ground), 2);
	end(ground);
}

static void test_a_server_that_goes_away(void **state)
{
	(void)state;
	struct ground *ground = begin("", "");
	struct sockaddr_in from;
	ask(ground, 0, "1");
	size_t server = asked(ground, "1", &from);
	answer(ground, server, &from, "a");
	turn(ground);
	leave(ground, server);
	ask(ground, 0, "2"); /* which is how we hear of it */
	const struct flow *flow = container_of(ground->house.oldest, struct flow, visit);
	assert_int_equal(flow->fd, -1);
	assert_null(flow->visit.server);
	assert_int_equal(limit_used(&ground->shm, limit_server(&ground->shm, ground->server_rows[server])), 0);
	nobody_was_asked(ground);
	ask(ground, 0, "3");
	assert_int_equal(asked(ground, "3", &from), 1 - server);
	answer(ground, 1 - server, &from, "c");
	turn(ground);
	assert_answered(ground, 0, "a");
	assert_answered(ground, 0, "c");
	assert_int_equal(flow->visit.n_tried, 0);
	assert_int_equal(counter_get(&row_of(ground)->connections), 1);

	/* And both: it ends, and the next datagram begins another one. */
	leave(ground, 1 - server);
	for (int i = 0; i < 4 && sessions(ground) > 0; i++)
		ask(ground, 0, "4");
	assert_int_equal(closes(ground, REASON_CONNECT_REFUSED), 1);
	end(ground);
}

static void test_breaker(void **state)
{
	(void)state;
	struct ground *ground =
	        begin("udp = { requests = 1; };", "circuit_breaker = { error_threshold = 2; timeout = \"10s\"; probes = 1; };");
	struct sockaddr_in from;
	leave(ground, 0);
	for (int i = 0; i < 6; i++) {
		ask(ground, 0, "x");
		assert_int_equal(asked(ground, "x", &from), 1);
	}
	assert_int_equal(counter_get(&server_row_of(ground, 0)->failures), 2);
	/* It is there again. Nobody expects an answer: that nobody complains is as good. */
	ground->servers[0] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(ground->servers[0], (struct sockaddr *)&ground->server_addresses[0], sizeof ground->server_addresses[0]), 0);
	pass(ground, 11 * NS_PER_S);
	size_t count[SERVERS] = { 0 };
	for (int i = 0; i < 8; i++) {
		ask(ground, 0, "y");
		count[asked(ground, "y", &from)]++;
	}
	assert_true(count[0] >= 3);
	end(ground);
}

/* --- bounds -------------------------------------------------------------------------------------------------------------------- */

static void test_the_table_is_full(void **state)
{
	(void)state;
	struct ground *ground = begin("udp = { idle = \"10s\"; };", "");
	for (size_t client = 0; client < CLIENTS; client++)
		ask(ground, client, "x");
	assert_int_equal(sessions(ground), CAPACITY);
	assert_int_equal(counter_get(&row_of(ground)->udp_drop_table_full), CLIENTS - CAPACITY);
	assert_int_equal(counter_get(&row_of(ground)->udp_to_server), CAPACITY);
	pass(ground, 11 * NS_PER_S);
	ask(ground, CLIENTS - 1, "x");
	assert_int_equal(sessions(ground), 1);
	assert_int_equal(counter_get(&row_of(ground)->udp_drop_table_full), CLIENTS - CAPACITY);
	end(ground);
}

static void test_out_of_descriptors(void **state)
{
	(void)state;
	struct ground *ground = begin("", "");
	struct rlimit before, none;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	ask(ground, 0, "x");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(closes(ground, REASON_NO_DESCRIPTORS), 1);
	assert_int_equal(counter_get(&row_of(ground)->udp_drop_refused), 1);
	assert_int_equal(counter_get(&server_row_of(ground, 0)->failures) + counter_get(&server_row_of(ground, 1)->failures), 0);
	struct sockaddr_in from;
	ask(ground, 0, "y");
	(void)asked(ground, "y", &from);
	end(ground);
}

static void test_begins_no_more(void **state)
{
	(void)state;
	struct ground *ground = begin("", "");
	struct sockaddr_in from;
	ask(ground, 0, "1");
	(void)asked(ground, "1", &from);
	udp_refuse(&ground->udp);
	ask(ground, 1, "2");
	nobody_was_asked(ground);
	ask(ground, 0, "3");
	(void)asked(ground, "3", &from);
	assert_int_equal(counter_get(&row_of(ground)->udp_drop_stopping), 1);
	end(ground);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_reads_in_bursts_what_comes_in_bursts),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_lifetime),
		cmocka_unit_test(test_responses),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_a_server_that_is_not_there),
		cmocka_unit_test(test_a_server_that_goes_away),
		cmocka_unit_test(test_breaker),
		cmocka_unit_test(test_the_table_is_full),
		cmocka_unit_test(test_out_of_descriptors),
		cmocka_unit_test(test_begins_no_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
