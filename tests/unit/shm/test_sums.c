/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "segment.h"
#include "shm/sums.h"

static void test_listener(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, 4, 2, 2);
	shm.seats[1].state = SEAT_RUNNING;
	shm.seats[3].started_ns = 1; /* free again, and its counters still count */
	counter_add(&shm_listener_row(&shm, 1, 1)->connections, 10);
	counter_add(&shm_listener_row(&shm, 3, 1)->connections, 3);
	counter_add(&shm_listener_row(&shm, 3, 0)->connections, 100);
	counter_add(&shm_listener_row(&shm, 1, 1)->sent_bytes, 7);
	counter_add(&shm_listener_row(&shm, 1, 1)->closes[REASON_FINISHED], 2);
	counter_add(&shm_listener_row(&shm, 3, 1)->closes[REASON_FINISHED], 2);
	counter_add(&shm_listener_row(&shm, 3, 1)->closes[REASON_LISTENER_FULL], 5);
	counter_add(&shm_listener_row(&shm, 3, 1)->closes[REASON_FULL], 1);
	histogram_record(&shm_listener_row(&shm, 1, 1)->first_byte, 2000);
	histogram_record(&shm_listener_row(&shm, 3, 1)->first_byte, 3000);
	struct listener_sum sum = { 0 };
	sums_add_listener(&shm, 1, &sum);
	assert_int_equal(sum.connections, 13);
	assert_int_equal(sum.sent_bytes, 7);
	assert_int_equal(sum.received_bytes, 0);
	assert_int_equal(sum.closes[REASON_FINISHED], 4);
	assert_int_equal(sums_closes(&sum, REASON_DONE), 4);
	assert_int_equal(sums_closes(&sum, REASON_REJECTED), 6);
	assert_int_equal(sums_closes(&sum, REASON_ERROR), 0);
	assert_int_equal(sum.first_byte.count, 2);
	assert_int_equal(sum.first_byte.sum_ns, 5000);
	assert_int_equal(sum.connect.count, 0);
	sums_add_listener(&shm, 0, &sum); /* a total over rows */
	assert_int_equal(sum.connections, 113);
	segment_drop(&shm);
}

static void test_server(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, 3, 1, 2);
	shm.seats[0].state = shm.seats[2].state = SEAT_DRAINING;
	counter_add(&shm_server_row(&shm, 0, 1)->connections, 1);
	counter_add(&shm_server_row(&shm, 2, 1)->connections, 2);
	counter_add(&shm_server_row(&shm, 2, 1)->failures, 4);
	struct server_sum sum = { 0 };
	sums_add_server(&shm, 1, &sum);
	assert_int_equal(sum.connections, 3);
	assert_int_equal(sum.failures, 4);
	sums_add_server(&shm, 0, &sum);
	assert_int_equal(sum.connections, 3);
	segment_drop(&shm);
}

static void test_seats_that_nobody_had_are_not_looked_at(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, 2, 1, 1);
	counter_add(&shm_server_row(&shm, 1, 0)->connections, 1);
	struct server_sum sum = { 0 };
	sums_add_server(&shm, 0, &sum);
	assert_int_equal(sum.connections, 0);
	segment_drop(&shm);
}

static void test_rows_are_never_more_than_there_is_room_for(void **state)
{
	(void)state;
	struct shm shm;
	segment_make(&shm, 1, 2, 3);
	assert_int_equal(sums_n_listeners(&shm), 0);
	shm.header->n_listeners = 1;
	assert_int_equal(sums_n_listeners(&shm), 1);
	shm.header->n_listeners = shm.header->n_servers = UINT32_MAX;
	assert_int_equal(sums_n_listeners(&shm), 2);
	assert_int_equal(sums_n_servers(&shm), 3);
	segment_drop(&shm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listener),
		cmocka_unit_test(test_server),
		cmocka_unit_test(test_seats_that_nobody_had_are_not_looked_at),
		cmocka_unit_test(test_rows_are_never_more_than_there_is_room_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
