/* Who comes in, with virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "base/clock.h"
#include "policy/door.h"

enum { ROWS = 2, CELLS = 4096 };

static const uint64_t start_ns = 1000 * NS_PER_S;

struct street {
	struct shm shm;
	struct listener_config config;
	struct door door;
};

static int set_up(void **state)
{
	struct street *street = calloc(1, sizeof *street);
	void *table = aligned_alloc(CACHE_LINE_BYTES, (size_t)rate_table_bytes(CELLS));
	assert_non_null(street);
	assert_non_null(table);
	street->shm.listeners = aligned_alloc(CACHE_LINE_BYTES, ROWS * sizeof *street->shm.listeners);
	assert_non_null(street->shm.listeners);
	memset(street->shm.listeners, 0, ROWS * sizeof *street->shm.listeners);
	memset(table, 0, (size_t)rate_table_bytes(CELLS));
	rate_table_init(table, (const uint64_t[2]){ 1, 2 });
	rate_table_open(&street->shm.rates, table, CELLS);
	*state = street;
	return 0;
}

static int tear_down(void **state)
{
	struct street *street = *state;
	door_fini(&street->door);
	free(street->shm.rates.shared);
	free(street->shm.listeners);
	free(street);
	return 0;
}

static struct sockaddr_in6 peer(const char *text)
{
	struct sockaddr_in6 peer = { .sin6_family = AF_INET6 };
	struct sockaddr_in in = { .sin_family = AF_INET };
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		memcpy(&peer, &in, sizeof in);
	else
		assert_int_equal(inet_pton(AF_INET6, text, &peer.sin6_addr), 1);
	return peer;
}

static enum reason ask(const struct street *street, const char *text, uint64_t now_ns)
{
	struct sockaddr_in6 nobody = { 0 }, from = text ? peer(text) : nobody;
	enum reason why = REASON_FINISHED;
	bool admitted = door_admit(&street->door, &from, now_ns, &why);
	assert_int_equal(admitted, why == REASON_FINISHED);
	return why;
}

static unsigned passed(const struct street *street, const char *text, unsigned tries, uint64_t now_ns)
{
	unsigned count = 0;
	while (tries-- > 0)
		count += ask(street, text, now_ns) == REASON_FINISHED;
	return count;
}

static struct cidr range(const char *text)
{
	struct cidr cidr;
	char why[CIDR_WHY_SIZE];
	assert_int_equal(cidr_parse(text, &cidr, why, sizeof why), 0);
	return cidr;
}

static void test_an_open_door(void **state)
{
	struct street *street = *state;
	assert_int_equal(door_init(&street->door, &street->config, &street->shm, 0), 0);
	assert_int_equal(passed(street, "10.1.2.3", 1000, start_ns), 1000);
	assert_int_equal(passed(street, NULL, 10, start_ns), 10);
}

static void test_lists(void **state)
{
	struct street *street = *state;
	struct cidr allow[] = { range("10.0.0.0/8"), range("2001:db8::/32") }, deny[] = { range("10.1.0.0/16") };
	street->config.allow = allow;
	street->config.n_allow = ARRAY_LEN(allow);
	street->config.deny = deny;
	street->config.n_deny = ARRAY_LEN(deny);
	assert_int_equal(door_init(&street->door, &street->config, &street->shm, 0), 0);
	assert_int_equal(ask(street, "10.2.0.1", start_ns), REASON_FINISHED);
	assert_int_equal(ask(street, "10.1.0.1", start_ns), REASON_DENIED);
	assert_int_equal(ask(street, "192.0.2.1", start_ns), REASON_DENIED);
	assert_int_equal(ask(street, "2001:db8::1", start_ns), REASON_FINISHED);
	assert_int_equal(ask(street, "2001:db9::1", start_ns), REASON_DENIED);
	assert_int_equal(ask(street, "::ffff:10.2.0.1", start_ns), REASON_FINISHED);
	assert_int_equal(ask(street, NULL, start_ns), REASON_FINISHED); /* unix */
}

/* Those who are denied use up nothing. */
static void test_lists_come_first(void **state)
{
	struct street *street = *state;
	struct cidr deny[] = { range("10.1.0.0/16") };
	street->config.deny = deny;
	street->config.n_deny = 1;
	street->config.rate_limit.connections_per_second = 10;
	assert_int_equal(door_init(&street->door, &street->config, &street->shm, 0), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(ask(street, "10.1.0.1", start_ns), REASON_DENIED);
	assert_int_equal(ask(street, "10.2.0.1", start_ns), REASON_FINISHED);
	assert_int_equal(ask(street, "10.2.0.1", start_ns), REASON_RATE_LIMITED);
}

static void limit(struct street *street, uint32_t per_second, uint32_t burst, enum rate_limit_per per)
{
	street->config.rate_limit.connections_per_second = per_second;
	street->config.rate_limit.burst = burst;
	street->config.rate_limit.per = per;
	assert_int_equal(door_init(&street->door, &street->config, &street->shm, 1), 0);
}

static void test_all_together(void **state)
{
	struct street *street = *state;
	limit(street, 1000, 100, RATE_LIMIT_PER_LISTENER);
	assert_int_equal(passed(street, "10.0.0.1", 60, start_ns), 60);
	assert_int_equal(passed(street, "2001:db8::1", 60, start_ns), 41);
	assert_int_equal(passed(street, NULL, 60, start_ns + 20 * NS_PER_MS), 20);
	/* the next generation, with another limit: what was used (until 121 ms) stays used */
	limit(street, 2000, 100, RATE_LIMIT_PER_LISTENER);
	assert_int_equal(passed(street, "10.0.0.1", 60, start_ns + 70 * NS_PER_MS), 0);
	assert_int_equal(passed(street, "10.0.0.1", 60, start_ns + 80 * NS_PER_MS), 19);
}

static void test_each_address(void **state)
{
	struct street *street = *state;
	limit(street, 10, 4, RATE_LIMIT_PER_ADDRESS);
	assert_int_equal(passed(street, "10.0.0.1", 60, start_ns), 5);
	assert_int_equal(passed(street, "::ffff:10.0.0.1", 60, start_ns), 0); /* the same */
	assert_int_equal(passed(street, "10.0.0.2", 60, start_ns), 5);
	assert_int_equal(passed(street, "2001:db8::1", 60, start_ns), 5);
	assert_int_equal(passed(street, "2001:db8::2", 60, start_ns), 5);
	assert_int_equal(passed(street, NULL, 60, start_ns), 60);
	assert_int_equal(passed(street, "10.0.0.1", 60, start_ns + NS_PER_S / 10), 1);
}

static void test_each_network(void **state)
{
	struct street *street = *state;
	limit(street, 10, 4, RATE_LIMIT_PER_PREFIX);
	assert_int_equal(passed(street, "2001:db8::1", 3, start_ns), 3);
	assert_int_equal(passed(street, "2001:db8::abcd:1", 3, start_ns), 2);
	assert_int_equal(passed(street, "2001:db8:0:1::1", 60, start_ns), 5);
	assert_int_equal(passed(street, "10.0.0.1", 60, start_ns), 5);
	assert_int_equal(passed(street, "10.0.0.2", 60, start_ns), 5);
}

/* Listeners do not share the limits of addresses. */
static void test_each_listener(void **state)
{
	struct street *street = *state;
	limit(street, 10, 4, RATE_LIMIT_PER_ADDRESS);
	assert_int_equal(passed(street, "10.0.0.1", 60, start_ns), 5);
	assert_int_equal(door_init(&street->door, &street->config, &street->shm, 0), 0); /* it has nothing to free */
	assert_int_equal(passed(street, "10.0.0.1", 60, start_ns), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_an_open_door, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lists, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lists_come_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_all_together, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_each_address, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_each_network, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_each_listener, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
