#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tls/tickets.h"

#define ROTATION_NS (60 * NS_PER_S)

static struct tickets *make(uint64_t *now_ns)
{
	struct tickets *tickets;
	assert_int_equal(tickets_new(&tickets), 0);
	*now_ns = clock_now_ns();
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_key_is_replaced_in_time_and_honoured_once_more),
		cmocka_unit_test(a_name_that_nobody_gave_is_not_found),
		cmocka_unit_test(children_see_the_same_keys_and_what_replaces_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
