#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>

#include "config/config.h"
#include "master/owners.h"

static struct listener_config listener = { .protocol = PROTOCOL_UDP };
static const struct config config = { .listeners = &listener, .n_listeners = 1, .max_connections = 100 };

static void send_to(const struct owners *owners, uint32_t id)
{
	for (uint32_t i = 0; i < owners->n; i++)
		if (owners->list[i].id == id)
			assert_int_equal(send(owners->list[i].fd, "letter", 6, MSG_DONTWAIT), 6);
}

/* An inbox is given to one who lives; to another one when that one died, and never twice to the same: the master asks until there is none.
 */
static void test_an_inbox_goes_to_each_heir_once(void **state)
{
	struct owners owners;
	char letter[16];
	(void)state;
	owners_init(&owners);
	uint32_t dead = owners_add(&owners, &config), first = owners_add(&owners, &config), second = owners_add(&owners, &config);
	assert_int_not_equal(dead, 0);
	assert_int_not_equal(second, 0);
	send_to(&owners, dead);
	owners_remove(&owners, dead);
	assert_true(owners_orphan(&owners, first) >= 0);
	assert_int_equal(owners_orphan(&owners, first), -1);
	assert_int_equal(owners_orphan(&owners, second), -1);
	flows_leave(&owners.flows, first); /* it says so itself; that it is dead is not known yet */
	assert_int_equal(owners_orphan(&owners, first), -1);
	int inbox = owners_orphan(&owners, second);
	assert_true(inbox >= 0);
	assert_int_equal(recv(inbox, letter, sizeof letter, MSG_DONTWAIT), 6);
	owners_remove(&owners, second);
	assert_int_equal(owners_orphan(&owners, first), -1); /* it is empty */
	owners_close(&owners);
}

/* One that had left before the inbox was given to it. */
static void test_an_heir_that_is_gone(void **state)
{
	struct owners owners;
	(void)state;
	owners_init(&owners);
	uint32_t dead = owners_add(&owners, &config), heir = owners_add(&owners, &config);
	send_to(&owners, dead);
	owners_remove(&owners, dead);
	flows_leave(&owners.flows, heir);
	assert_true(owners_orphan(&owners, heir) >= 0);
	assert_int_equal(owners_orphan(&owners, heir), -1);
	owners_close(&owners);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_inbox_goes_to_each_heir_once),
		cmocka_unit_test(test_an_heir_that_is_gone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
