#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tls/tickets.h"

#define ROTATION_NS (60 * NS_PER_S)

static struct tickets *make_with(uint64_t *now_ns, int *fd)
{
	struct tickets *tickets;
	assert_int_equal(tickets_new(&tickets, fd), 0);
	*now_ns = clock_now_ns();
	return tickets;
}

static struct tickets *make(uint64_t *now_ns)
{
	int fd;
	struct tickets *tickets = make_with(now_ns, &fd);
	close(fd); /* what is mapped stays */
	return tickets;
}

static void a_key_is_replaced_in_time_and_honoured_once_more(void **state)
{
	(void)state;
	uint64_t now_ns;
	struct tickets *tickets = make(&now_ns);
	struct ticket_key first, second, found;
	bool old;
	tickets_current(tickets, &first);
	assert_false(tickets_tick(tickets, ROTATION_NS, now_ns));
	assert_true(tickets_find(tickets, first.name, &found, &old));
	assert_memory_equal(&found, &first, sizeof first);
	assert_false(old);
	now_ns += ROTATION_NS + NS_PER_S;
	assert_true(tickets_tick(tickets, ROTATION_NS, now_ns));
	assert_false(tickets_tick(tickets, ROTATION_NS, now_ns));
	tickets_current(tickets, &second);
	assert_memory_not_equal(&second, &first, sizeof first);
	assert_memory_not_equal(second.cipher, first.cipher, sizeof first.cipher);
	assert_true(tickets_find(tickets, first.name, &found, &old));
	assert_memory_equal(&found, &first, sizeof first);
	assert_true(old);
	now_ns += ROTATION_NS;
	assert_true(tickets_tick(tickets, ROTATION_NS, now_ns));
	assert_false(tickets_find(tickets, first.name, &found, &old));
	assert_true(tickets_find(tickets, second.name, &found, &old));
	tickets_close(tickets);
}

static bool is_in_memory(int fd, const struct ticket_key *key)
{
	char bytes[4096];
	ssize_t length = pread(fd, bytes, sizeof bytes, 0);
	assert_in_range(length, sizeof *key, sizeof bytes - 1);
	return memmem(bytes, (size_t)length, key->cipher, sizeof key->cipher) || memmem(bytes, (size_t)length, key->mac, sizeof key->mac);
}

static void nothing_is_left_of_a_key_that_is_not_honoured(void **state)
{
	(void)state;
	uint64_t now_ns;
	int fd;
	struct tickets *tickets = make_with(&now_ns, &fd);
	struct ticket_key keys[10];
	for (int turn = 0; turn < 10; turn++) {
		tickets_current(tickets, &keys[turn]);
		for (int i = 0; i <= turn; i++)
			assert_int_equal(is_in_memory(fd, &keys[i]), i >= turn - 1);
		assert_true(tickets_tick(tickets, ROTATION_NS, now_ns += 2 * ROTATION_NS));
	}
	close(fd);
	tickets_close(tickets);
}

static void a_name_that_nobody_gave_is_not_found(void **state)
{
	(void)state;
	uint64_t now_ns;
	struct tickets *tickets = make(&now_ns);
	struct ticket_key key;
	const unsigned char zeros[16] = { 0 };
	bool old;
	assert_false(tickets_find(tickets, zeros, &key, &old)); /* not even that of the key before, which there is not */
	tickets_close(tickets);
}

static void children_see_the_same_keys_and_what_replaces_them(void **state)
{
	(void)state;
	uint64_t now_ns;
	struct tickets *tickets = make(&now_ns);
	struct ticket_key own;
	int go[2], told[2], status;
	char byte = 0;
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(told), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct ticket_key key;
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		tickets_current(tickets, &key);
		_exit(write(told[1], &key, sizeof key) == (ssize_t)sizeof key ? 0 : 1);
	}
	assert_true(tickets_tick(tickets, ROTATION_NS, now_ns + 2 * ROTATION_NS)); /* after the fork */
	tickets_current(tickets, &own);
	assert_int_equal(write(go[1], &byte, 1), 1);
	struct ticket_key other;
	assert_int_equal(read(told[0], &other, sizeof other), sizeof other);
	assert_memory_equal(&own, &other, sizeof own);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(told[i]);
	}
	tickets_close(tickets);
}

/* As two masters during an upgrade: each has mapped it for itself. */
static void another_program_has_the_same_keys_whoever_replaces_them(void **state)
{
	(void)state;
	uint64_t now_ns;
	int fd;
	struct tickets *old = make_with(&now_ns, &fd), *new;
	struct ticket_key key, found;
	bool before;
	assert_true(tickets_tick(old, ROTATION_NS, now_ns += 2 * ROTATION_NS));
	assert_int_equal(tickets_adopt(fd, &new), 0);
	tickets_current(old, &key);
	tickets_current(new, &found);
	assert_memory_equal(&key, &found, sizeof key);
	assert_false(tickets_tick(new, ROTATION_NS, now_ns)); /* it knows how old the key is */
	for (int turn = 0; turn < 6; turn++) {
		struct tickets *writer = turn < 3 ? new : old, *reader = turn < 3 ? old : new;
		tickets_current(reader, &key);
		assert_true(tickets_tick(writer, ROTATION_NS, now_ns += ROTATION_NS));
		assert_true(tickets_find(reader, key.name, &found, &before));
		assert_memory_equal(&key, &found, sizeof key);
		assert_true(before);
		tickets_current(writer, &key);
		assert_true(tickets_find(reader, key.name, &found, &before));
		assert_memory_equal(&key, &found, sizeof key);
		assert_false(before);
	}
	tickets_close(old); /* the old one ends, and the keys are there */
	close(fd);
	tickets_current(new, &found);
	assert_memory_equal(&key, &found, sizeof key);
	tickets_close(new);
}

/* A copy of the keys, of another size or with other bytes at the beginning, sealed as they are or not. */
static int adopt_copy(int fd, off_t size, bool spoilt, int seals)
{
	char bytes[4096] = { 0 };
	struct tickets *tickets;
	int copy = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(copy >= 0);
	ssize_t length = pread(fd, bytes, sizeof bytes, 0);
	assert_true(length > 0);
	bytes[0] = (char)(bytes[0] ^ (spoilt ? 1 : 0));
	assert_int_equal(pwrite(copy, bytes, (size_t)length, 0), length);
	assert_int_equal(ftruncate(copy, size ? size : length), 0);
	assert_int_equal(fcntl(copy, F_ADD_SEALS, seals), 0);
	int error = tickets_adopt(copy, &tickets);
	if (!error)
		tickets_close(tickets);
	close(copy);
	return error;
}

static void what_is_not_known_is_not_taken_over(void **state)
{
	(void)state;
	uint64_t now_ns;
	int fd, seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct tickets *tickets = make_with(&now_ns, &fd), *other;
	assert_int_equal(adopt_copy(fd, 0, false, seals), 0);
	assert_int_equal(adopt_copy(fd, 0, true, seals), -EPROTO); /* of another layout */
	assert_int_equal(adopt_copy(fd, 16, false, seals), -EPROTO);
	assert_int_equal(adopt_copy(fd, 4096, false, seals), -EPROTO);
	assert_int_equal(adopt_copy(fd, 0, false, F_SEAL_GROW), -EPROTO);
	assert_int_equal(ftruncate(fd, 16), -1); /* our own cannot become so */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(tickets_adopt(null, &other), -EPROTO);
	close(null);
	close(fd);
	tickets_close(tickets);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_replaced_in_time_and_honoured_once_more),
		cmocka_unit_test(nothing_is_left_of_a_key_that_is_not_honoured),
		cmocka_unit_test(a_name_that_nobody_gave_is_not_found),
		cmocka_unit_test(children_see_the_same_keys_and_what_replaces_them),
		cmocka_unit_test(another_program_has_the_same_keys_whoever_replaces_them),
		cmocka_unit_test(what_is_not_known_is_not_taken_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
