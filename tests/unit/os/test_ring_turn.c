/* Connecting, waiting, and queues that are too small. */
#include "ring_end.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "base/clock.h"

/* --- connecting --------------------------------------------------------------------------------------------------------------- */

static void test_accept_many(void **state)
{
	(void)state;
	enum { CLIENTS = 100 };
	struct sockaddr_in name;
	int listener = listen_on_loopback(&name), clients[CLIENTS];
	struct end end = end_of(listener);
	ring_accept(ring, &end.port, listener);
	wait_turn(0);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = connect_to(&name);
	await_calls(&end, RING_ACCEPT, CLIENTS);
	assert_false(end.ended[RING_ACCEPT]);
	for (int i = 0; i < CLIENTS; i++) {
		assert_true(fcntl(end.fds[i], F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(end.fds[i], F_GETFD) & FD_CLOEXEC);
		close(end.fds[i]);
		close(clients[i]);
	}
	ring_cancel(ring, &end.port, RING_ACCEPT);
	await_end(&end, RING_ACCEPT);
	assert_int_equal(end.result[RING_ACCEPT], -ECANCELED);
	close(listener);
}

static void test_connect(void **state)
{
	(void)state;
	struct sockaddr_in name;
	int listener = listen_on_loopback(&name);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct end end = end_of(fd);
	ring_connect(ring, &end.port, fd, (struct sockaddr *)&name, sizeof name);
	await_end(&end, RING_CONNECT);
	assert_int_equal(end.result[RING_CONNECT], 0);
	close(fd);
	close(listener);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	end = end_of(fd);
	ring_connect(ring, &end.port, fd, (struct sockaddr *)&name, sizeof name);
	await_end(&end, RING_CONNECT);
	assert_int_equal(end.result[RING_CONNECT], -ECONNREFUSED);
	close(fd);
}

/* A listener whose queue is full leaves the SYN unanswered. */
static void test_cancel_connect(void **state)
{
	(void)state;
	struct sockaddr_in name;
	int listener = listen_on_loopback(&name), fds[8];
	assert_int_equal(listen(listener, 0), 0);
	struct end ends[ARRAY_LEN(fds)];
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		ends[i] = end_of(fds[i]);
		ring_connect(ring, &ends[i].port, fds[i], (struct sockaddr *)&name, sizeof name);
	}
	wait_turn(0);
	wait_turn(0);
	int stuck = 0;
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		bool was_stuck = !ends[i].ended[RING_CONNECT];
		stuck += was_stuck;
		ring_cancel(ring, &ends[i].port, RING_CONNECT);
		ring_close(ring, fds[i]);
		wait_turn(0);
		assert_true(ends[i].ended[RING_CONNECT]);
		assert_int_equal(ends[i].result[RING_CONNECT], was_stuck ? -ECANCELED : 0);
	}
	assert_true(stuck > 0);
	close(listener);
}

/* --- waiting ------------------------------------------------------------------------------------------------------------------ */

static void test_poll_once(void **state)
{
	(void)state;
	int fds[2];
	open_pair(fds);
	struct end end = end_of(fds[0]);
	ring_poll(ring, &end.port, fds[0], POLLIN, false);
	assert_int_equal(wait_turn(0), 0);
	assert_int_equal(send(fds[1], "x", 1, 0), 1);
	await_end(&end, RING_POLL);
	assert_true(end.result[RING_POLL] & POLLIN);
	close(fds[0]);
	close(fds[1]);
}

static void drain_epoll(int epoll)
{
	struct epoll_event events[8];
	char bytes[64];
	int count = epoll_wait(epoll, events, 8, 0);
	assert_true(count >= 0);
	for (int i = 0; i < count; i++)
		while (recv(events[i].data.fd, bytes, sizeof bytes, 0) > 0)
			;
}

/* The loop's way to wait: an epoll descriptor in the ring, and edge-triggered sockets in it. */
static void test_poll_epoll(void **state)
{
	(void)state;
	int epoll = epoll_create1(EPOLL_CLOEXEC), fds[2][2];
	struct end end = end_of(epoll);
	for (int i = 0; i < 2; i++) {
		open_pair(fds[i]);
		struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.fd = fds[i][0] };
		assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i][0], &event), 0);
	}
	assert_int_equal(send(fds[0][1], "before", 6, 0), 6);
	ring_poll(ring, &end.port, epoll, POLLIN, true);
	await_calls(&end, RING_POLL, 1);
	assert_true(end.result[RING_POLL] & POLLIN);
	for (int round = 0; round < 10; round++) {
		drain_epoll(epoll);
		int calls = end.calls[RING_POLL];
		assert_int_equal(wait_turn(0), 0);
		assert_int_equal(send(fds[round & 1][1], "x", 1, 0), 1);
		wait_turn(TURN_NS);
		assert_true(end.calls[RING_POLL] > calls);
		/* more of it before we look: nothing may get lost */
		assert_int_equal(send(fds[1 - (round & 1)][1], "y", 1, 0), 1);
		wait_turn(0);
	}
	assert_false(end.ended[RING_POLL]);
	ring_cancel(ring, &end.port, RING_POLL);
	await_end(&end, RING_POLL);
	close(epoll);
	for (int i = 0; i < 4; i++)
		close(fds[i / 2][i % 2]);
}

struct order {
	int woke, calls_before;
	struct end *end;
};

static void on_woke(void *arg)
{
	struct order *order = arg;
	order->woke++;
	order->calls_before = order->end->calls[RING_RECV];
}

static void test_woke(void **state)
{
	(void)state;
	int fds[2];
	open_pair(fds);
	struct end end = end_of(fds[0]);
	struct order order = { .end = &end };
	ring_recv(ring, &end.port, fds[0], true);
	assert_int_equal(ring_wait(ring, 0, on_woke, &order), 0);
	assert_int_equal(order.woke, 1);
	assert_int_equal(send(fds[1], "x", 1, 0), 1);
	assert_int_equal(ring_wait(ring, -1, on_woke, &order), 1);
	assert_int_equal(order.woke, 2);
	assert_int_equal(order.calls_before, 0);
	assert_int_equal(end.calls[RING_RECV], 1);
	close(fds[0]);
	close(fds[1]);
}

static void test_timeout(void **state)
{
	(void)state;
	uint64_t start = clock_now_ns();
	assert_int_equal(ring_wait(ring, 3000000, NULL, NULL), 0);
	assert_true(clock_now_ns() - start >= 3000000);
	uint64_t enters = ring_sums(ring)->enters;
	assert_int_equal(ring_wait(ring, 0, NULL, NULL), 0);
	assert_int_equal(ring_sums(ring)->enters, enters + 1);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
	(void)number;
	alarms++;
}

static void test_signal(void **state)
{
	(void)state;
	struct sigaction action = { .sa_handler = on_alarm }, old;
	struct itimerval every = { .it_interval.tv_usec = 10000, .it_value.tv_usec = 10000 }, never = { 0 };
	sigaction(SIGALRM, &action, &old);
	setitimer(ITIMER_REAL, &every, NULL);
	assert_int_equal(ring_wait(ring, -1, NULL, NULL), 0);
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &old, NULL);
	assert_true(alarms > 0);
}

/* --- queues that are too small ------------------------------------------------------------------------------------------------ */

enum { MANY = 64 };

static void open_many(struct end ends[MANY], int fds[MANY][2])
{
	for (int i = 0; i < MANY; i++) {
		open_pair(fds[i]);
		ends[i] = end_of(fds[i][0]);
	}
}

static void close_many(int fds[MANY][2])
{
	for (int i = 0; i < MANY; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

static void test_full_submission_queue(void **state)
{
	(void)state;
	static struct end ends[MANY];
	static int fds[MANY][2];
	tear_down(NULL);
	make_ring(4, 256, 16, 64);
	open_many(ends, fds);
	for (int i = 0; i < MANY; i++)
		ring_send(ring, &ends[i].port, fds[i][0], "x", 1);
	assert_true(ring_sums(ring)->enters >= MANY / 4 - 1);
	wait_turn(0);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(ends[i].result[RING_SEND], 1);
		assert_int_equal(peer_end(fds[i][1]), 1);
	}
	assert_int_equal(ring_sums(ring)->submitted, MANY);
	close_many(fds);
}

static void test_full_completion_queue(void **state)
{
	(void)state;
	static struct end ends[MANY];
	static int fds[MANY][2];
	tear_down(NULL);
	make_ring(4, 4, 128, 64);
	open_many(ends, fds);
	for (int i = 0; i < MANY; i++) {
		ends[i].again = true; /* there may be fewer buffers posted than all need at once */
		ring_recv(ring, &ends[i].port, fds[i][0], true);
	}
	wait_turn(0);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(send(fds[i][1], "x", 1, 0), 1);
	int calls = 0, turns = 0;
	for (; calls < MANY && turns < PATIENCE_TURNS; turns++) {
		wait_turn(-1); /* does not sleep while there is more */
		calls = 0;
		for (int i = 0; i < MANY; i++)
			calls += ends[i].length > 0;
	}
	assert_int_equal(calls, MANY);
	assert_true(turns > 1);
	assert_true(ring_sums(ring)->overflows > 0);
	assert_int_equal(ring_buffers_free(ring), 128);
	close_many(fds);
}

/* --- where it is refused ------------------------------------------------------------------------------------------------------ */

/* From here on this process may not make a ring. */
static void forbid_rings(int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { .len = ARRAY_LEN(code), .filter = code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
		_exit(2);
}

static void expect_refusal(int error, const char *text)
{
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		char why[128] = "";
		forbid_rings(error);
		int before = count_descriptors();
		bool right = !ring_probe(why, sizeof why) && strcmp(why, text) == 0 && count_descriptors() == before;
		if (!right)
			fprintf(stderr, "said: %s\n", why);
		_exit(right ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_refused(void **state)
{
	(void)state;
	expect_refusal(EPERM, "forbidden here (EPERM: a seccomp filter, as containers have)");
	expect_refusal(ENOSYS, "not in this kernel, or hidden by a seccomp filter (ENOSYS)");
}

static void test_probe(void **state)
{
	(void)state;
	char why[128] = "";
	int before = count_descriptors();
	assert_true(ring_probe(why, sizeof why));
	assert_string_equal(why, "");
	assert_int_equal(count_descriptors(), before);
	ring_free(NULL);
}

#define WITH_RING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RING(test_accept_many),
		WITH_RING(test_connect),
		WITH_RING(test_cancel_connect),
		WITH_RING(test_poll_once),
		WITH_RING(test_poll_epoll),
		WITH_RING(test_woke),
		WITH_RING(test_timeout),
		WITH_RING(test_signal),
		WITH_RING(test_full_submission_queue),
		WITH_RING(test_full_completion_queue),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_probe),
	};
	if (!ring_can_be_made())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
