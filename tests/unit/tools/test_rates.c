#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>

#include "../view/segment.h"
#include "base/clock.h"
#include "base/text.h"
#include "tools/rates.h"

struct fixture {
	struct shm shm;
	void *base;
	size_t size;
	struct snapshot *before, *now;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	assert_non_null(fixture);
	fixture->size = shm_size_bytes(&segment_dims);
	fixture->base = mmap(NULL, fixture->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(fixture->base, MAP_FAILED);
	shm_init(&fixture->shm, fixture->base, &segment_dims);
	segment_fill(&fixture->shm);
	assert_int_equal(snapshot_make(&fixture->shm, SEGMENT_NOW_NS, &fixture->before), 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	snapshot_free(fixture->before);
	snapshot_free(fixture->now);
	munmap(fixture->base, fixture->size);
	free(fixture);
	return 0;
}

static struct rates compare(struct fixture *fixture, uint64_t elapsed_ns)
{
	struct rates rates;
	assert_int_equal(snapshot_make(&fixture->shm, SEGMENT_NOW_NS + elapsed_ns, &fixture->now), 0);
	assert_int_equal(rates_make(&rates, fixture->before, fixture->now, elapsed_ns), 0);
	return rates;
}

static void test_by_the_second(void **state)
{
	struct fixture *fixture = *state;
	struct listener_row *row = shm_listener_row(&fixture->shm, 1, 0);
	row->connections += 100;
	row->received_bytes += 4000;
	row->sent_bytes += 6000;
	row->closes[REASON_LISTENER_FULL] += 10;
	row->closes[REASON_CONNECT_REFUSED] += 4;
	row->closes[REASON_FINISHED] += 50;
	shm_listener_row(&fixture->shm, 0, 1)->udp_from_client += 12;
	shm_listener_row(&fixture->shm, 1, 1)->udp_from_server += 8;
	shm_listener_row(&fixture->shm, 1, 1)->udp_drop_refused += 1;
	shm_listener_row(&fixture->shm, 1, 1)->udp_drop_client_queue += 5;
	shm_server_row(&fixture->shm, 1, 0)->connections += 80;
	shm_server_row(&fixture->shm, 1, 0)->failures += 2;
	fixture->shm.seats[1].accepts += 60;
	struct rates rates = compare(fixture, 2 * NS_PER_S);
	assert_true(rates.is_known);
	assert_true(rates.seconds == 2 && rates.connections == 50 && rates.received_bytes == 2000 && rates.sent_bytes == 3000);
	assert_true(rates.rejected == 5 && rates.errors == 2 && rates.closes[REASON_FINISHED] == 25);
	assert_true(rates.listeners[0].is_known && rates.listeners[0].connections == 50 && rates.listeners[0].rejected == 5);
	assert_true(rates.listeners[1].is_known && rates.listeners[1].connections == 0);
	assert_true(rates.listeners[1].datagrams == 10 && rates.listeners[1].drops == 3);
	assert_int_equal(rates.servers[0].before, 0);
	assert_true(rates.servers[0].connections == 40 && rates.servers[0].failures == 1);
	/* Workers stand by slot and generation: the second is the one of seat 1. */
	assert_true(rates.workers[1].is_known && rates.workers[1].accepts == 30 && rates.workers[0].accepts == 0);
	rates_free(&rates);
}

/* Only what came to an end in between. */
static void test_percentiles_of_the_interval(void **state)
{
	struct fixture *fixture = *state;
	struct listener_row *row = shm_listener_row(&fixture->shm, 1, 0);
	for (int i = 0; i < 97; i++)
		histogram_record(&row->first_byte, NS_PER_MS);
	for (int i = 0; i < 3; i++)
		histogram_record(&row->first_byte, NS_PER_S);
	struct rates rates = compare(fixture, NS_PER_S);
	assert_int_equal(rates.first_byte.count, 100);
	assert_in_range(rates.first_byte.p50_ns, 875 * NS_PER_US, 1125 * NS_PER_US);
	assert_int_equal(rates.first_byte.p95_ns, rates.first_byte.p50_ns);
	assert_in_range(rates.first_byte.p99_ns, 875 * NS_PER_MS, 1125 * NS_PER_MS);
	assert_int_equal(rates.listeners[0].first_byte.p99_ns, rates.first_byte.p99_ns);
	assert_int_equal(rates.listeners[1].first_byte.count, 0);
	/* There are some of before the interval. */
	assert_int_not_equal(fixture->now->totals.connect.count, 0);
	assert_int_equal(rates.connect.count, 0);
	rates_free(&rates);
}

/* Rows that moved, came and went are told apart by their names. */
static void test_rows_are_found_by_name(void **state)
{
	struct fixture *fixture = *state;
	struct shm *shm = &fixture->shm;
	text_copy(shm->servers[0].name, sizeof shm->servers[0].name, "new");
	text_copy(shm->servers[1].name, sizeof shm->servers[1].name, "new too");
	shm_server_row(shm, 0, 2)->connections += 5;
	fixture->shm.seats[1].pid = 999;
	struct rates rates = compare(fixture, NS_PER_S);
	size_t known = 0;
	for (size_t i = 0; i < fixture->now->n_servers; i++) {
		size_t at = rates.servers[i].before;
		if (at == RATES_NO_ROW)
			continue;
		assert_string_equal(fixture->now->servers[i].name, fixture->before->servers[at].name);
		assert_true(rates.servers[i].connections == (strcmp(fixture->now->servers[i].name, "b") == 0 ? 5 : 0));
		known++;
	}
	assert_int_equal(known, fixture->now->n_servers - 2);
	assert_false(rates.workers[1].is_known);
	assert_true(rates.workers[0].is_known);
	rates_free(&rates);
}

static void test_nothing_is_known(void **state)
{
	struct fixture *fixture = *state;
	struct rates rates;
	/* At first, and without time between two looks. */
	assert_int_equal(rates_make(&rates, NULL, fixture->before, NS_PER_S), 0);
	assert_false(rates.is_known);
	assert_int_equal(rates.servers[0].before, RATES_NO_ROW);
	rates_free(&rates);
	assert_int_equal(rates_make(&rates, fixture->before, fixture->before, 0), 0);
	assert_false(rates.is_known);
	rates_free(&rates);
	/* Another instance that counts anew. */
	memset(fixture->base, 0, fixture->size);
	shm_init(&fixture->shm, fixture->base, &segment_dims);
	rates = compare(fixture, NS_PER_S);
	assert_false(rates.is_known);
	assert_true(rates.connections == 0);
	assert_false(rates_continue(fixture->before, fixture->now));
	rates_free(&rates);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_by_the_second, setup, teardown),
		cmocka_unit_test_setup_teardown(test_percentiles_of_the_interval, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rows_are_found_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_known, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
