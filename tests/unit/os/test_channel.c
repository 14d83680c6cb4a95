/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/channel.h"

static int ends[2];

static int open_pair(void **state)
{
	(void)state;
	return channel_pair(ends);
}

static int close_pair(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
	return 0;
}

static void close_end(int i)
{
	close(ends[i]);
	ends[i] = -1;
}

static const struct channel_message sample = { .kind = 7, .value = 0xfffffffe, .value_ns = UINT64_C(0x123456789abcdef0) };

static void test_messages_keep_order_and_bounds(void **state)
{
	(void)state;
	struct channel_message got = { 0 };
	int fd = -7;
	assert_int_equal(channel_receive(ends[1], &got, &fd), -EAGAIN);
	assert_int_equal(fd, -7);
	struct channel_message second = sample;
	second.kind = 8;
	assert_int_equal(channel_send(ends[0], &sample, -1), 0);
	assert_int_equal(channel_send(ends[0], &second, -1), 0);
	assert_int_equal(channel_receive(ends[1], &got, &fd), 0);
	assert_memory_equal(&got, &sample, sizeof got);
	assert_int_equal(fd, -1);
	assert_int_equal(channel_receive(ends[1], &got, &fd), 0);
	assert_int_equal(got.kind, 8);
	assert_int_equal(channel_send(ends[1], &sample, -1), 0);
	assert_int_equal(channel_receive(ends[0], &got, &fd), 0);
	assert_int_equal(got.kind, 7);
}

static void test_descriptor_arrives_with_cloexec(void **state)
{
	(void)state;
	int pipe_ends[2], fd = -7;
	struct channel_message got;
	assert_int_equal(pipe(pipe_ends), 0);
	assert_int_equal(channel_send(ends[0], &sample, pipe_ends[1]), 0);
	assert_int_equal(close(pipe_ends[1]), 0); /* it stayed ours, and the message has its own */
	assert_int_equal(channel_receive(ends[1], &got, &fd), 0);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), 1);
	char byte = 0;
	assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	close(fd);
	close(pipe_ends[0]);
}

static void test_ends_are_nonblocking_and_cloexec(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fcntl(ends[i], F_GETFD), FD_CLOEXEC);
		assert_true(fcntl(ends[i], F_GETFL) & O_NONBLOCK);
	}
}

static void test_other_side_gone(void **state)
{
	(void)state;
	struct channel_message got;
	int fd;
	assert_int_equal(channel_send(ends[0], &sample, -1), 0);
	close_end(0);
	assert_int_equal(channel_receive(ends[1], &got, &fd), 0); /* what was sent before still arrives */
	assert_int_equal(channel_receive(ends[1], &got, &fd), -EPIPE);
	assert_int_equal(channel_send(ends[1], &sample, -1), -EPIPE); /* and no SIGPIPE */
}

static void test_gone_with_unread_messages(void **state)
{
	(void)state;
	struct channel_message got;
	int fd;
	assert_int_equal(channel_send(ends[1], &sample, -1), 0);
	close_end(0);
	assert_int_equal(channel_receive(ends[1], &got, &fd), -EPIPE);
}

static void test_last_words_of_one_that_did_not_listen(void **state)
{
	(void)state;
	struct channel_message got;
	int fd;
	assert_int_equal(channel_send(ends[1], &sample, -1), 0);
	assert_int_equal(channel_send(ends[0], &sample, -1), 0);
	assert_int_equal(channel_send(ends[0], &sample, -1), 0);
	close_end(0);
	for (int i = 0; i < 2; i++) {
		memset(&got, 0, sizeof got);
		assert_int_equal(channel_receive(ends[1], &got, &fd), 0);
		assert_memory_equal(&got, &sample, sizeof got);
	}
	assert_int_equal(channel_receive(ends[1], &got, &fd), -EPIPE);
	assert_int_equal(channel_receive(ends[1], &got, &fd), -EPIPE);
}

static void test_full(void **state)
{
	(void)state;
	struct channel_message got;
	int fd, err, sent = 0;
	while ((err = channel_send(ends[0], &sample, -1)) == 0 && sent < 1000000)
		sent++;
	assert_int_equal(err, -EAGAIN);
	while (sent-- > 0)
		assert_int_equal(channel_receive(ends[1], &got, &fd), 0);
	assert_int_equal(channel_receive(ends[1], &got, &fd), -EAGAIN);
	assert_int_equal(channel_send(ends[0], &sample, -1), 0);
}

/* Send length bytes with count copies of a descriptor, as a peer that is not channel_send() might. */
static void send_raw(size_t length, int fd, size_t count)
{
	char bytes[64] = { 0 };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(16 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = bytes, .iov_len = length };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (count > 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
		for (size_t i = 0; i < count; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof(int));
	}
	assert_int_equal(sendmsg(ends[0], &header, 0), length);
}

static void test_foreign_messages(void **state)
{
	(void)state;
	static const struct {
		size_t length, descriptors;
	} bad[] = { { 1, 0 }, { sizeof(struct channel_message) - 1, 0 }, { sizeof(struct channel_message) + 1, 0 }, { 1, 1 },
		{ sizeof(struct channel_message) + 1, 1 }, { sizeof(struct channel_message), 2 }, { sizeof(struct channel_message), 8 },
		{ sizeof(struct channel_message), 16 }, { 0, 1 } };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int pipe_ends[2], fd = -7;
		struct channel_message got = sample;
		assert_int_equal(pipe(pipe_ends), 0);
		send_raw(bad[i].length, pipe_ends[1], bad[i].descriptors);
		close(pipe_ends[1]);
		assert_int_equal(channel_receive(ends[1], &got, &fd), -EPROTO);
		assert_int_equal(fd, -7);
		assert_memory_equal(&got, &sample, sizeof got);
		char byte;
		fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
		assert_int_equal(read(pipe_ends[0], &byte, 1), 0); /* the end of file: every copy was closed */
		close(pipe_ends[0]);
	}
	struct channel_message got;
	int fd;
	assert_int_equal(channel_send(ends[0], &sample, -1), 0); /* the channel itself still works */
	assert_int_equal(channel_receive(ends[1], &got, &fd), 0);
}

static void test_bad_descriptor(void **state)
{
	(void)state;
	struct channel_message got;
	int fd;
	assert_int_equal(channel_send(ends[0], &sample, 1000000), -EBADF);
	assert_int_equal(channel_receive(ends[1], &got, &fd), -EAGAIN);
	assert_int_equal(channel_receive(-1, &got, &fd), -EBADF);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)
	const struct CMUnitTest tests[] = {
		TEST(test_messages_keep_order_and_bounds),
		TEST(test_descriptor_arrives_with_cloexec),
		TEST(test_ends_are_nonblocking_and_cloexec),
		TEST(test_other_side_gone),
		TEST(test_gone_with_unread_messages),
		TEST(test_last_words_of_one_that_did_not_listen),
		TEST(test_full),
		TEST(test_foreign_messages),
		TEST(test_bad_descriptor),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
