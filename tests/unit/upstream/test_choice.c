/* The choice among the servers of an upstream, as two workers of one segment make it: places, soft limits, conditions, affinity. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "../shm/segment.h"
#include "base/clock.h"
#include "upstream/upstream.h"

enum { MOST = 1000, SEATS = 2, TRIES_MOST = 100000 };
#define START_NS (1000 * NS_PER_S)

struct ground {
	struct shm shm;
	uint32_t upstream_row, rows[MOST];
	struct server_config servers[MOST];
	char names[MOST][16];
	struct upstream_config config;
	struct pools pools;
	struct upstreams all[SEATS];
	struct upstream workers[SEATS];
	uint64_t now_ns;
};

static int set_up(void **state)
{
	static const uint64_t seed[2] = { 1, 2 };
	struct ground *ground = calloc(1, sizeof *ground);
	assert_non_null(ground);
	*state = ground;
	segment_make(&ground->shm, SEATS, 1, MOST);
	affinity_init(ground->shm.affinities.shared, seed);
	assert_int_equal(shm_claim_upstream(&ground->shm, "u", &ground->upstream_row), 0);
	ground->config = (struct upstream_config){ .name = "u", .servers = ground->servers };
	ground->now_ns = START_NS;
	return 0;
}

/* So many servers, and other settings as the test has set them. */
static void begin(struct ground *ground, uint32_t n)
{
	ground->config.n_servers = n;
	for (uint32_t i = 0; i < n; i++) {
		struct server_config *server = &ground->servers[i];
		snprintf(ground->names[i], sizeof ground->names[i], "s%u", (unsigned)i);
		server->name = server->address = ground->names[i];
		if (server->weight == 0)
			server->weight = 1;
		assert_int_equal(shm_claim_server(&ground->shm, "u", server->name, &ground->rows[i]), 0);
		atomic_store(&shm_limit(&ground->shm, limit_server(&ground->shm, ground->rows[i]))->max, server->max_connections);
	}
	const struct upstream_places places = { .row = ground->upstream_row, .servers = ground->rows };
	for (uint32_t seat = 0; seat < SEATS; seat++) {
		ground->all[seat] = (struct upstreams){ .shm = &ground->shm, .seat = seat, .start = seat, .pools = &ground->pools };
		assert_int_equal(upstream_init(&ground->workers[seat], &ground->all[seat], &ground->config, &places), 0);
	}
}

static void end(struct ground *ground)
{
	for (uint32_t seat = 0; seat < SEATS; seat++)
		if (ground->workers[seat].config)
			upstream_fini(&ground->workers[seat]);
}

static int tear_down(void **state)
{
	struct ground *ground = *state;
	end(ground);
	segment_drop(&ground->shm);
	free(ground);
	return 0;
}

/* --- taking ------------------------------------------------------------------------------------------------------------------ */

enum { FULL = -1, NONE = -2 };
enum { NOBODY = -1, ALL = -2 };

static struct sockaddr_in6 peer_of(uint32_t address)
{
	struct sockaddr_in6 peer = { 0 };
	const struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(address) };
	memcpy(&peer, &in, sizeof in);
	return peer;
}

static int take_from(
        struct ground *ground, uint32_t seat, uint32_t address, const uint16_t *tried, uint32_t n_tried, struct breaker_pass *pass)
{
	struct upstream *upstream = &ground->workers[seat];
	const struct sockaddr_in6 peer = peer_of(address);
	const struct upstream_client client = { .peer = &peer, .tried = tried, .n_tried = n_tried, .now_ns = ground->now_ns };
	struct upstream_hold hold;
	switch (upstream_take(upstream, &client, &hold)) {
	case UPSTREAM_FULL:
		return FULL;
	case UPSTREAM_NONE:
		return NONE;
	default:
		break;
	}
	if (pass)
		*pass = hold.pass;
	return upstream_index(upstream, hold.server);
}

static int take(struct ground *ground)
{
	return take_from(ground, 0, 1, NULL, 0, NULL);
}

static void give_back(struct ground *ground, int index)
{
	upstream_give_back(&ground->workers[0], &ground->workers[0].servers[index]);
}

static uint32_t used(struct ground *ground, uint32_t index)
{
	return limit_used(&ground->shm, limit_server(&ground->shm, ground->rows[index]));
}

/* A connection, which goes well with all servers but one. The server. */
static int use_but(struct ground *ground, uint32_t seat, int bad)
{
	struct breaker_pass pass;
	int index = take_from(ground, seat, 1, NULL, 0, &pass);
	assert_true(index >= 0);
	struct upstream *upstream = &ground->workers[seat];
	upstream_report(upstream, &upstream->servers[index], &pass, index != bad && bad != ALL, ground->now_ns);
	upstream_give_back(upstream, &upstream->servers[index]);
	return index;
}

static int use(struct ground *ground, uint32_t seat, bool ok)
{
	return use_but(ground, seat, ok ? NOBODY : ALL);
}

/* --- places ------------------------------------------------------------------------------------------------------------------ */

static void test_full_ones_are_left_out(void **state)
{
	struct ground *ground = *state;
	ground->servers[0].max_connections = 3;
	ground->servers[1].max_connections = 2;
	begin(ground, 3);
	for (int i = 0; i < 20; i++)
		assert_true(take(ground) >= 0);
	assert_int_equal(used(ground, 0), 3);
	assert_int_equal(used(ground, 1), 2);
	assert_int_equal(used(ground, 2), 15);
}

static void test_all_full(void **state)
{
	static const enum balance_kind kinds[] = { BALANCE_ROUND_ROBIN, BALANCE_LEAST_CONNECTIONS, BALANCE_P2C, BALANCE_RANDOM,
		BALANCE_CONSISTENT_HASH };
	struct ground *ground = *state;
	for (size_t i = 0; i < 3; i++)
		ground->servers[i].max_connections = 2;
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		ground->config.balance = kinds[k];
		begin(ground, 3);
		for (int i = 0; i < 6; i++)
			assert_true(take(ground) >= 0);
		assert_int_equal(take(ground), FULL);
		const uint16_t tried[] = { 0, 1 };
		assert_int_equal(take_from(ground, 0, 1, tried, 2, NULL), FULL);
		give_back(ground, 1);
		assert_int_equal(take_from(ground, 0, 1, tried, 2, NULL), 1); /* that failed, but there is no other */
		assert_int_equal(take(ground), FULL);
		for (int i = 0; i < 3; i++) {
			give_back(ground, i);
			give_back(ground, i);
		}
		end(ground);
	}
}

/* Of a thousand full ones the one that is not is found, once a turn of the loop at least. */
static void test_one_place_among_many(void **state)
{
	struct ground *ground = *state;
	for (size_t i = 0; i < MOST; i++)
		ground->servers[i].max_connections = 1;
	begin(ground, MOST);
	for (int i = 0; i < MOST; i++)
		assert_true(take(ground) >= 0);
	assert_int_equal(take(ground), FULL);
	give_back(ground, 777);
	ground->now_ns++;
	assert_int_equal(take(ground), 777);
	ground->now_ns++;
	assert_int_equal(take(ground), FULL);
	for (uint32_t i = 0; i < MOST; i++)
		assert_int_equal(used(ground, i), 1);
}

static void test_soft_limits(void **state)
{
	struct ground *ground = *state;
	ground->servers[0].soft_limit = 5;
	ground->servers[1].soft_limit = 10;
	ground->servers[1].max_connections = 30;
	begin(ground, 2);
	for (int i = 0; i < 15; i++)
		assert_true(take(ground) >= 0);
	assert_int_equal(used(ground, 0), 5);
	assert_int_equal(used(ground, 1), 10);
	for (int i = 0; i < 15; i++) /* all beyond: evenly by limit */
		assert_true(take(ground) >= 0);
	assert_int_equal(used(ground, 0), 10);
	assert_int_equal(used(ground, 1), 20);
	const uint16_t tried[] = { 0 };
	for (int i = 0; i < 10; i++)
		assert_int_equal(take_from(ground, 0, 1, tried, 1, NULL), 1);
	assert_int_equal(used(ground, 1), 30);
	assert_int_equal(take(ground), 0);
}

/* --- conditions -------------------------------------------------------------------------------------------------------------- */

static void with_breaker(struct ground *ground, uint32_t n)
{
	ground->config.circuit_breaker.error_threshold = 3;
	ground->config.circuit_breaker.probes = 2;
	ground->config.circuit_breaker.timeout_ns = 10 * NS_PER_S;
	begin(ground, n);
}

static void open_breaker(struct ground *ground, int index)
{
	for (int i = 0; i < TRIES_MOST && ground->workers[0].servers[index].usability == USABILITY_USABLE; i++)
		use_but(ground, 0, index);
}

static void test_breaker_opens_for_all_workers(void **state)
{
	struct ground *ground = *state;
	with_breaker(ground, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(use(ground, (uint32_t)i % SEATS, false), 0);
	assert_int_equal(take_from(ground, 0, 1, NULL, 0, NULL), NONE);
	assert_int_equal(take_from(ground, 1, 1, NULL, 0, NULL), NONE);
	assert_int_equal(used(ground, 0), 0);
	ground->now_ns += 10 * NS_PER_S;
	struct breaker_pass passes[2];
	assert_int_equal(take_from(ground, 0, 1, NULL, 0, &passes[0]), 0);
	assert_int_equal(take_from(ground, 1, 1, NULL, 0, &passes[1]), 0);
	assert_int_equal(passes[0].verdict, BREAKER_PROBE);
	assert_int_equal(take_from(ground, 0, 1, NULL, 0, NULL), NONE);
	assert_int_equal(take_from(ground, 1, 1, NULL, 0, NULL), NONE);
	upstream_report(&ground->workers[0], &ground->workers[0].servers[0], &passes[0], true, ground->now_ns);
	assert_int_equal(take(ground), NONE);
	upstream_report(&ground->workers[1], &ground->workers[1].servers[0], &passes[1], true, ground->now_ns);
	assert_int_equal(take_from(ground, 0, 1, NULL, 0, NULL), 0);
	assert_int_equal(take_from(ground, 1, 1, NULL, 0, NULL), 0);
}

static void test_a_full_one_takes_no_probe(void **state)
{
	struct ground *ground = *state;
	ground->servers[0].max_connections = 1;
	with_breaker(ground, 1);
	struct breaker_pass pass;
	for (int i = 0; i < 3; i++)
		use(ground, 0, false);
	ground->now_ns += 10 * NS_PER_S;
	assert_int_equal(take_from(ground, 0, 1, NULL, 0, &pass), 0);
	assert_int_equal(take_from(ground, 1, 1, NULL, 0, NULL), FULL);
	give_back(ground, 0);
	assert_int_equal(take_from(ground, 1, 1, NULL, 0, &pass), 0);
	assert_int_equal(pass.verdict, BREAKER_PROBE);
}

/* With "any" the others are not asked, except those that the operator took out; and as soon as one is usable, it alone. */
static void test_any_when_all_are_down(void **state)
{
	struct ground *ground = *state;
	ground->config.when_all_down = ALL_DOWN_ANY;
	ground->servers[2].disabled = true;
	ground->servers[3].backup = true;
	with_breaker(ground, 4);
	for (int i = 0; i < TRIES_MOST && !ground->workers[0].any; i++)
		use(ground, 0, false);
	bool seen[4] = { false };
	for (int i = 0; i < 20; i++)
		seen[use(ground, 1, false)] = true;
	assert_true(seen[0] && seen[1]);
	assert_false(seen[2] || seen[3]);
	breaker_reset(&ground->workers[0].servers[3].condition->breaker);
	atomic_fetch_add(ground->workers[0].rules.epoch, 1);
	for (int i = 0; i < 20; i++)
		assert_int_equal(use(ground, 1, true), 3);
}

/* The last probe is refused to one that does not know yet that it was taken: it gets any server, too. */
static void test_any_when_probes_are_taken(void **state)
{
	struct ground *ground = *state;
	ground->config.when_all_down = ALL_DOWN_ANY;
	with_breaker(ground, 1);
	for (int i = 0; i < 3; i++)
		use(ground, 0, false);
	ground->now_ns += 10 * NS_PER_S;
	struct breaker_pass pass;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(take_from(ground, 0, 1, NULL, 0, &pass), 0);
		assert_int_equal(pass.verdict, BREAKER_PROBE);
	}
	assert_int_equal(take_from(ground, 1, 1, NULL, 0, &pass), 0);
	assert_int_equal(pass.verdict, BREAKER_REFUSE); /* a pass of zeros */
}

static void test_slow_start(void **state)
{
	struct ground *ground = *state;
	ground->config.slow_start_ns = 10 * NS_PER_S;
	with_breaker(ground, 2);
	open_breaker(ground, 0);
	ground->now_ns += 10 * NS_PER_S;
	for (int i = 0; i < 4; i++)
		use(ground, 0, true);
	for (uint32_t tenths = 0; tenths <= 10; tenths++) {
		int count = 0, turns = 10 * (10 + (tenths ? 1 + (int)tenths * 9 / 10 : 1));
		for (int i = 0; i < turns; i++)
			count += use(ground, 0, true) == 0;
		int weight = tenths < 10 ? 1 + (int)tenths * 9 / 10 : 10;
		int expected = turns * weight / (10 + weight);
		assert_in_range(count, expected - 2, expected + 2);
		ground->now_ns += NS_PER_S;
	}
}

static void test_override(void **state)
{
	struct ground *ground = *state;
	ground->servers[1].disabled = true;
	begin(ground, 2);
	struct upstream *upstream = &ground->workers[0];
	assert_int_equal(use(ground, 0, true), 0);
	condition_set_override(upstream->servers[0].condition, &upstream->rules, (struct override){ .mode = OVERRIDE_DRAIN });
	assert_int_equal(take(ground), NONE);
	condition_set_override(upstream->servers[1].condition, &upstream->rules,
	        (struct override){ .mode = OVERRIDE_ENABLED, .has_weight = true, .weight = 65535 });
	assert_int_equal(use(ground, 1, true), 1);
	condition_set_override(upstream->servers[1].condition, &upstream->rules, (struct override){ .has_weight = true, .weight = 0 });
	assert_int_equal(take(ground), NONE);
}

static void test_down_is_told_once(void **state)
{
	static const struct health_check bad = { .result = HEALTH_RESULT_REFUSED }, good = { .result = HEALTH_RESULT_OK };
	struct ground *ground = *state;
	ground->config.on_down = ON_DOWN_CLOSE;
	ground->config.health = (struct health_config){ .type = HEALTH_TYPE_TCP, .rise = 1, .fall = 1 };
	begin(ground, 2);
	struct upstream *upstream = &ground->workers[0];
	struct server *server = &upstream->servers[1];
	upstream_look(upstream, ground->now_ns);
	assert_false(upstream->all->fell);
	for (int i = 0; i < 2; i++) {
		assert_true(condition_checked(server->condition, &upstream->rules, &bad, ground->now_ns));
		upstream_look(upstream, ground->now_ns);
		assert_true(upstream->all->fell && server->fell && !upstream->servers[0].fell);
		upstream->all->fell = false;
		upstream_leave_fallen(upstream);
		assert_true(server->leaving && !server->fell);
		upstream_left_fallen(upstream);
		upstream_look(upstream, ground->now_ns + NS_PER_S);
		assert_false(upstream->all->fell || server->fell || server->leaving);
		assert_int_equal(use(ground, 0, true), 0);
		assert_true(condition_checked(server->condition, &upstream->rules, &good, ground->now_ns));
		upstream_look(upstream, ground->now_ns);
		assert_false(upstream->all->fell);
	}
}

/* --- affinity and keys ------------------------------------------------------------------------------------------------------- */

static int take_and_remember(struct ground *ground, uint32_t seat, uint32_t address)
{
	struct upstream *upstream = &ground->workers[seat];
	int index = take_from(ground, seat, address, NULL, 0, NULL);
	assert_true(index >= 0);
	const struct sockaddr_in6 peer = peer_of(address);
	const struct upstream_client client = { .peer = &peer, .now_ns = ground->now_ns };
	upstream_remember(upstream, &upstream->servers[index], &client);
	return index;
}

static void test_affinity(void **state)
{
	struct ground *ground = *state;
	ground->config.affinity.ttl_ns = 60 * NS_PER_S;
	ground->servers[0].backup = true;
	for (size_t i = 1; i < 10; i++)
		ground->servers[i].max_connections = 1000;
	begin(ground, 10);
	int first[100];
	for (uint32_t i = 0; i < 100; i++)
		first[i] = take_and_remember(ground, 0, 1000 + i);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(take_and_remember(ground, 1, 1000 + i), first[i]);

	struct upstream *upstream = &ground->workers[1];
	struct server *server = &upstream->servers[first[7]];
	const struct sockaddr_in6 peer = peer_of(1007);
	const struct upstream_client client = { .peer = &peer, .now_ns = ground->now_ns };
	upstream_forget(upstream, &upstream->servers[(first[7] + 1) % 10], &client); /* not the one that it has */
	assert_int_equal(take_and_remember(ground, 1, 1007), first[7]);
	const uint16_t tried[] = { (uint16_t)first[7] };
	assert_int_not_equal(take_from(ground, 1, 1007, tried, 1, NULL), first[7]);

	condition_set_override(server->condition, &upstream->rules, (struct override){ .mode = OVERRIDE_DISABLED });
	int next = take_and_remember(ground, 0, 1007);
	assert_int_not_equal(next, first[7]);
	condition_set_override(server->condition, &upstream->rules, (struct override){ .mode = OVERRIDE_NONE });
	assert_int_equal(take_and_remember(ground, 1, 1007), next);
}

/* Who had a backup leaves it when a primary is there. */
static void test_affinity_leaves_a_backup(void **state)
{
	struct ground *ground = *state;
	ground->config.affinity.ttl_ns = 60 * NS_PER_S;
	ground->servers[1].backup = true;
	begin(ground, 2);
	struct upstream *upstream = &ground->workers[0];
	condition_set_override(upstream->servers[0].condition, &upstream->rules, (struct override){ .mode = OVERRIDE_DRAIN });
	assert_int_equal(take_and_remember(ground, 0, 5), 1);
	condition_set_override(upstream->servers[0].condition, &upstream->rules, (struct override){ .mode = OVERRIDE_NONE });
	assert_int_equal(take_and_remember(ground, 0, 5), 0);
}

static void test_same_key_same_server(void **state)
{
	struct ground *ground = *state;
	ground->config.balance = BALANCE_CONSISTENT_HASH;
	begin(ground, 10);
	int count[10] = { 0 };
	for (uint32_t i = 0; i < 1000; i++) {
		int index = take_from(ground, 0, 0x7f000000 + i * 77, NULL, 0, NULL);
		assert_int_equal(take_from(ground, 1, 0x7f000000 + i * 77, NULL, 0, NULL), index);
		count[index]++;
	}
	for (size_t i = 0; i < 10; i++)
		assert_in_range(count[i], 60, 140);
}

/* --- addresses --------------------------------------------------------------------------------------------------------------- */

static struct addr address_of(uint32_t address)
{
	struct addr addr = { .length = sizeof addr.in };
	addr.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(address) };
	return addr;
}

static void assert_dials(struct server *server, uint32_t address)
{
	const struct addr wanted = address_of(address);
	assert_true(addr_equal(server_addr(server), &wanted));
}

static void test_newer_addresses(void **state)
{
	struct ground *ground = *state;
	ground->servers[0].endpoint.kind = ENDPOINT_NAME;
	ground->servers[0].addrs[0] = address_of(1);
	ground->servers[0].n_addrs = 1;
	begin(ground, 1);
	struct server *server = &ground->workers[0].servers[0];
	struct addresses *shared = &ground->shm.servers[ground->rows[0]].addresses;
	assert_dials(server, 1);
	const struct addr two[] = { address_of(2), address_of(3) };
	addresses_publish(shared, two, 2);
	assert_dials(server, 2);
	server_addr_failed(server);
	assert_dials(server, 3);
	const struct addr moved[] = { address_of(4), address_of(5), address_of(3) };
	addresses_publish(shared, moved, 3);
	assert_dials(server, 3); /* which did not fail */
	server_addr_failed(server);
	assert_dials(server, 4);
	addresses_publish(shared, NULL, 0); /* nothing is known: go on */
	assert_dials(server, 4);
	assert_dials(&ground->workers[1].servers[0], 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_full_ones_are_left_out),
		TEST(test_all_full),
		TEST(test_one_place_among_many),
		TEST(test_soft_limits),
		TEST(test_breaker_opens_for_all_workers),
		TEST(test_a_full_one_takes_no_probe),
		TEST(test_any_when_all_are_down),
		TEST(test_any_when_probes_are_taken),
		TEST(test_slow_start),
		TEST(test_override),
		TEST(test_down_is_told_once),
		TEST(test_affinity),
		TEST(test_affinity_leaves_a_backup),
		TEST(test_same_key_same_server),
		TEST(test_newer_addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
