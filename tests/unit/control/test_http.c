#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/http.h"

enum { CLIENTS = 12 };

/* A server on an abstract socket of its own, clients of it, and a handler that the tests choose. */
struct fixture {
	struct loop *loop;
	struct http *http;
	int listener;
	struct sockaddr_un address;
	socklen_t address_length;
	int clients[CLIENTS];
	struct http_call *held[CLIENTS];
	size_t n_held, n_handled, n_gone;
	uint64_t busy_ns; /* how long the handler takes */
	size_t turns, turns_before_last;
	bool hold, idle, refuse;
	size_t body_bytes;
	bool too_large;
	struct loop_timer turn;
	struct loop_timer look;
	bool (*done)(struct fixture *fixture);
	uint64_t until_ns;
	uint64_t went_by_ns; /* for a_while() */
	size_t read;         /* by drain() */
};

static void on_gone(struct http_call *call)
{
	struct fixture *fixture = call->user;
	fixture->n_gone++;
}

static void answer(struct http_call *call)
{
	http_answer(call, 200, "text/plain", strdup("yes"), 3);
}

static void on_call(void *arg, struct http_call *call)
{
	struct fixture *fixture = arg;
	fixture->n_handled++;
	fixture->turns_before_last = fixture->turns;
	fixture->body_bytes = call->body_bytes;
	fixture->too_large = call->body_too_large;
	call->user = fixture;
	call->on_gone = on_gone;
	for (uint64_t began_ns = clock_now_ns(); clock_now_ns() - began_ns < fixture->busy_ns;)
		continue;
	if (fixture->hold)
		fixture->held[fixture->n_held++] = call;
	else
		answer(call);
}

static void on_headers(void *arg, struct http_call *call)
{
	struct fixture *fixture = arg;
	if (fixture->refuse)
		answer(call);
}

static void on_turn(struct loop_timer *timer)
{
	struct fixture *fixture = container_of(timer, struct fixture, turn);
	fixture->turns++;
	loop_timer_start(fixture->loop, timer, 0);
}

static void on_look(struct loop_timer *timer)
{
	struct fixture *fixture = container_of(timer, struct fixture, look);
	if (fixture->done(fixture) || clock_now_ns() > fixture->until_ns)
		loop_stop(fixture->loop);
	else
		loop_timer_start(fixture->loop, timer, NS_PER_MS);
}

static void run_until(struct fixture *fixture, bool (*done)(struct fixture *fixture))
{
	fixture->done = done;
	fixture->until_ns = clock_now_ns() + 20 * NS_PER_S;
	loop_timer_start(fixture->loop, &fixture->look, 0);
	loop_run(fixture->loop);
	loop_timer_stop(fixture->loop, &fixture->look);
	assert_true(done(fixture));
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	assert_non_null(fixture);
	fixture->loop = loop_new();
	fixture->http = http_new(fixture->loop, on_headers, on_call, fixture);
	assert_non_null(fixture->http);
	fixture->address.sun_family = AF_UNIX;
	fixture->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* The kernel finds a name. */
	assert_int_equal(bind(fixture->listener, (const struct sockaddr *)&fixture->address, sizeof(sa_family_t)), 0);
	fixture->address_length = sizeof fixture->address;
	assert_int_equal(getsockname(fixture->listener, (struct sockaddr *)&fixture->address, &fixture->address_length), 0);
	assert_int_equal(listen(fixture->listener, 128), 0);
	assert_int_equal(http_open(fixture->http, HTTP_GATE_UNIX, fixture->listener), 0);
	loop_timer_init(&fixture->turn, on_turn);
	loop_timer_init(&fixture->look, on_look);
	loop_timer_start(fixture->loop, &fixture->turn, 0);
	for (size_t i = 0; i < CLIENTS; i++)
		fixture->clients[i] = -1;
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	loop_timer_stop(fixture->loop, &fixture->turn);
	http_free(fixture->http);
	loop_free(fixture->loop);
	close(fixture->listener);
	for (size_t i = 0; i < CLIENTS; i++)
		if (fixture->clients[i] >= 0)
			close(fixture->clients[i]);
	free(fixture);
	return 0;
}

static void send_request(struct fixture *fixture, size_t client, const char *text)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&fixture->address, fixture->address_length), 0);
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	fixture->clients[client] = fd;
}

/* What has come so far. */
static size_t peek(const struct fixture *fixture, size_t client, char *out, size_t size)
{
	ssize_t n = recv(fixture->clients[client], out, size - 1, MSG_PEEK | MSG_DONTWAIT);
	out[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static bool is_answered(const struct fixture *fixture, size_t client)
{
	char text[1024];
	return peek(fixture, client, text, sizeof text) > 0 && strstr(text, "\r\n\r\nyes");
}

static bool is_closed(const struct fixture *fixture, size_t client)
{
	char byte;
	return recv(fixture->clients[client], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static bool all_are_answered(struct fixture *fixture)
{
	for (size_t i = 0; i < CLIENTS; i++)
		if (!is_answered(fixture, i))
			return false;
	return true;
}

static bool first_is_answered(struct fixture *fixture)
{
	return is_answered(fixture, 0);
}

static bool one_is_held(struct fixture *fixture)
{
	return fixture->n_held == 1;
}

static bool two_are_held(struct fixture *fixture)
{
	return fixture->n_held == 2;
}

static bool is_idle(struct fixture *fixture)
{
	return fixture->idle;
}

#define GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

static void test_answered_at_once(void **state)
{
	struct fixture *fixture = *state;
	for (size_t i = 0; i < CLIENTS; i++)
		send_request(fixture, i, GET);
	run_until(fixture, all_are_answered);
	assert_int_equal(fixture->n_handled, CLIENTS);
	assert_int_equal(fixture->n_gone, CLIENTS);
}

/* Whatever else the loop has to do is done between answers that take long. */
static void test_others_have_their_turn(void **state)
{
	struct fixture *fixture = *state;
	fixture->busy_ns = 30 * NS_PER_MS;
	for (size_t i = 0; i < CLIENTS; i++)
		send_request(fixture, i, GET);
	run_until(fixture, all_are_answered);
	assert_int_equal(fixture->n_handled, CLIENTS);
	assert_true(fixture->turns_before_last >= CLIENTS / 2);
}

static void test_answered_later(void **state)
{
	struct fixture *fixture = *state;
	fixture->hold = true;
	send_request(fixture, 0, GET);
	run_until(fixture, one_is_held);
	fixture->hold = false;
	send_request(fixture, 1, GET);
	fixture->clients[2] = fixture->clients[0];
	fixture->clients[0] = fixture->clients[1]; /* who is answered meanwhile */
	run_until(fixture, first_is_answered);
	fixture->clients[0] = fixture->clients[2];
	fixture->clients[2] = -1;
	assert_false(is_answered(fixture, 0));
	answer(fixture->held[0]);
	run_until(fixture, first_is_answered);
	assert_int_equal(fixture->n_gone, 2);
}

static void test_bodies(void **state)
{
	struct fixture *fixture = *state;
	send_request(fixture, 0, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
	run_until(fixture, first_is_answered);
	assert_int_equal(fixture->body_bytes, 5);
	assert_false(fixture->too_large);
	close(fixture->clients[0]);
	char *request;
	assert_true(asprintf(&request, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%*s", HTTP_BODY_BYTES + 1,
	                    HTTP_BODY_BYTES + 1, "") > 0);
	send_request(fixture, 0, request);
	free(request);
	run_until(fixture, first_is_answered);
	assert_true(fixture->too_large);
	assert_true(fixture->body_bytes <= HTTP_BODY_BYTES);
}

/* Who is refused for the headers is not waited for. */
static void test_refused_without_a_body(void **state)
{
	struct fixture *fixture = *state;
	fixture->refuse = true;
	send_request(fixture, 0, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
	send_request(fixture, 1, GET);
	run_until(fixture, first_is_answered);
	assert_int_equal(fixture->n_handled, 0);
	fixture->refuse = false;
	char rest[1024];
	while (peek(fixture, 1, rest, sizeof rest) > 0)
		assert_true(recv(fixture->clients[1], rest, sizeof rest, 0) > 0);
	assert_int_equal(send(fixture->clients[1], GET, strlen(GET), MSG_NOSIGNAL), strlen(GET)); /* the connection goes on */
	fixture->clients[2] = fixture->clients[0];
	fixture->clients[0] = fixture->clients[1];
	fixture->clients[1] = -1;
	run_until(fixture, first_is_answered);
	assert_int_equal(fixture->n_handled, 1);
}

static void on_idle(void *arg)
{
	struct fixture *fixture = arg;
	fixture->idle = true;
}

static bool nothing_but_a_turn(struct fixture *fixture)
{
	return fixture->turns > fixture->turns_before_last + 10;
}

static void test_retire(void **state)
{
	struct fixture *fixture = *state;
	send_request(fixture, 0, GET);
	run_until(fixture, first_is_answered);
	fixture->hold = true;
	send_request(fixture, 1, GET);
	run_until(fixture, one_is_held);
	http_retire(fixture->http, on_idle, fixture);
	send_request(fixture, 2, GET); /* it waits for another process */
	run_until(fixture, nothing_but_a_turn);
	assert_false(fixture->idle);
	assert_int_equal(fixture->n_handled, 2);
	answer(fixture->held[0]);
	run_until(fixture, is_idle);
	assert_true(is_answered(fixture, 1));
	char rest[1024];
	while (peek(fixture, 0, rest, sizeof rest) > 0)
		assert_true(recv(fixture->clients[0], rest, sizeof rest, 0) > 0);
	assert_true(is_closed(fixture, 0));
}

static void test_nobody_was_there(void **state)
{
	struct fixture *fixture = *state;
	http_retire(fixture->http, on_idle, fixture);
	run_until(fixture, is_idle);
}

/* Whoever holds a call hears of its end. */
static void test_free_with_one_held(void **state)
{
	struct fixture *fixture = *state;
	fixture->hold = true;
	send_request(fixture, 0, GET);
	run_until(fixture, one_is_held);
	http_free(fixture->http);
	assert_int_equal(fixture->n_gone, 1);
	fixture->http = NULL;
}

enum { LARGE = 40 << 20 }; /* two of them are more than may be held */

static void answer_large(struct http_call *call)
{
	char *bytes = malloc(LARGE);
	assert_non_null(bytes);
	memset(bytes, 'x', LARGE);
	http_answer(call, 200, "text/plain", bytes, LARGE);
}

static bool a_while(struct fixture *fixture)
{
	return clock_now_ns() > fixture->went_by_ns;
}

/* The first client takes what there is. True at the end of all. */
static bool drain(struct fixture *fixture)
{
	static char bytes[1 << 16];
	ssize_t n;
	while ((n = recv(fixture->clients[0], bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
		fixture->read += (size_t)n;
	return n == 0 || fixture->read > LARGE;
}

/* A large answer stands still for more than the two seconds after which it may make room; then there is another one. */
static void stand_still(struct fixture *fixture, bool reads)
{
	fixture->hold = true;
	send_request(fixture, 0, GET);
	run_until(fixture, one_is_held);
	send_request(fixture, 1, GET);
	run_until(fixture, two_are_held);
	answer_large(fixture->held[0]);
	fixture->went_by_ns = clock_now_ns() + 2100 * NS_PER_MS;
	run_until(fixture, a_while);
	if (reads)
		assert_false(drain(fixture));
	answer_large(fixture->held[1]);
	run_until(fixture, drain);
}

static void test_who_takes_nothing_makes_room(void **state)
{
	struct fixture *fixture = *state;
	stand_still(fixture, false);
	assert_true(fixture->read < LARGE);
}

/* It was the server that had no time. */
static void test_who_has_taken_all_that_came_is_not_cut_off(void **state)
{
	struct fixture *fixture = *state;
	stand_still(fixture, true);
	assert_true(fixture->read > LARGE);
}

int main(void)
{
	char why[160];
	if (!http_available(why, sizeof why)) {
		puts(why);
		return 77;
	}
#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		EACH(test_answered_at_once),
		EACH(test_others_have_their_turn),
		EACH(test_answered_later),
		EACH(test_bodies),
		EACH(test_refused_without_a_body),
		EACH(test_retire),
		EACH(test_nobody_was_there),
		EACH(test_free_with_one_held),
		EACH(test_who_takes_nothing_makes_room),
		EACH(test_who_has_taken_all_that_came_is_not_cut_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
