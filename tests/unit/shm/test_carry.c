/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <string.h>

#include "segment.h"
#include "shm/carry.h"
#include "shm/limit.h"
#include "shm/sums.h"

static void claim(struct shm *shm, const char *listener, const char *upstream, const char *server)
{
	uint32_t row;
	assert_int_equal(shm_claim_listener(shm, listener, &row), 0);
	assert_int_equal(shm_claim_upstream(shm, upstream, &row), 0);
	assert_int_equal(shm_claim_server(shm, upstream, server, &row), 0);
}

static void use_seats(struct shm *shm, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		shm->seats[i].started_ns = 1;
		shm->seats[i].state = SEAT_RUNNING;
	}
}

/* One with something in each kind of counter. */
static void make_old(struct shm *shm)
{
	segment_make(shm, 3, 4, 4);
	claim(shm, "app", "up", "10.0.0.1:80");
	claim(shm, "a name with spaces", "up", "b%");
	use_seats(shm, 2);
	for (uint32_t seat = 0; seat < 2; seat++) {
		counter_add(&shm->seats[seat].accepts, 10 + seat);
		counter_add(&shm_listener_row(shm, seat, 1)->connections, 100 + seat);
		counter_add(&shm_listener_row(shm, seat, 1)->closes[REASON_CLIENT_RESET], 3);
		counter_add(&shm_server_row(shm, seat, 1)->failures, 5);
		for (int i = 0; i < 7; i++)
			histogram_record(&shm_listener_row(shm, seat, 0)->duration, UINT64_C(1000) << i * 5);
		assert_true(limit_reserve(shm, seat, limit_global()));
		assert_true(limit_reserve(shm, seat, limit_listener(1)));
		assert_true(limit_reserve(shm, seat, limit_server(shm, 1)));
	}
	counter_add(&shm->header->reloads_ok, 2);
}

/* The names are there already, in other rows. */
static void make_new(struct shm *shm)
{
	segment_make(shm, 3, 8, 8);
	claim(shm, "new", "up", "b%");
	claim(shm, "a name with spaces", "other", "x");
	use_seats(shm, 3);
}

static char *write_text(struct carry *carry, const struct shm *shm)
{
	size_t length;
	char *text = carry_write(carry, shm, &length);
	assert_non_null(text);
	assert_int_equal(strlen(text), length);
	return text;
}

static void take_over(struct shm *shm, uint32_t seat, char *text)
{
	assert_int_equal(carry_claim(shm, text), 0);
	assert_int_equal(carry_read(shm, seat, text), 0);
	free(text);
}

static void assert_same_listener(struct shm *before, struct shm *after, const char *name)
{
	uint32_t a, b;
	struct listener_sum was = { 0 }, is = { 0 };
	assert_true(shm_find_listener(before, name, &a));
	assert_true(shm_find_listener(after, name, &b));
	sums_add_listener(before, a, &was);
	sums_add_listener(after, b, &is);
	assert_memory_equal(&was, &is, sizeof was);
	assert_int_equal(limit_used(before, limit_listener(a)), limit_used(after, limit_listener(b)));
}

static void assert_same_server(struct shm *before, struct shm *after, const char *upstream, const char *name)
{
	uint32_t a, b;
	struct server_sum was = { 0 }, is = { 0 };
	assert_true(shm_find_server(before, upstream, name, &a));
	assert_true(shm_find_server(after, upstream, name, &b));
	sums_add_server(before, a, &was);
	sums_add_server(after, b, &is);
	assert_memory_equal(&was, &is, sizeof was);
	assert_int_equal(limit_used(before, limit_server(before, a)), limit_used(after, limit_server(after, b)));
}

static void assert_same(struct shm *before, struct shm *after)
{
	assert_same_listener(before, after, "app");
	assert_same_listener(before, after, "a name with spaces");
	assert_same_server(before, after, "up", "10.0.0.1:80");
	assert_same_server(before, after, "up", "b%");
	assert_int_equal(counter_get(&after->seats[2].accepts), 21);
	assert_int_equal(counter_get(&after->header->reloads_ok), 2);
	assert_int_equal(limit_used(before, limit_global()), limit_used(after, limit_global()));
}

static void test_all_goes_over_and_on(void **state)
{
	struct shm before, after;
	uint32_t row, listeners, servers;
	(void)state;
	make_old(&before);
	make_new(&after);
	struct carry *carry = carry_new();
	assert_non_null(carry);
	char *text = write_text(carry, &before);
	carry_count_rows(text, &listeners, &servers);
	assert_int_equal(listeners, 2);
	assert_int_equal(servers, 2);
	take_over(&after, 2, text);
	assert_same(&before, &after);
	assert_true(shm_find_listener(&after, "app", &row));
	assert_int_equal(after.listeners[row].in_use, 0);
	assert_true(shm_find_listener(&after, "new", &row));
	assert_int_equal(after.listeners[row].in_use, 1);

	take_over(&after, 2, write_text(carry, &before)); /* nothing new */
	assert_same(&before, &after);

	limit_release(&before, 0, limit_global());
	limit_release(&before, 0, limit_listener(1));
	limit_release(&before, 0, limit_server(&before, 1));
	histogram_record(&shm_listener_row(&before, 1, 1)->connect, UINT64_MAX / 4);
	counter_add(&shm_server_row(&before, 0, 0)->sent_bytes, UINT64_C(1) << 50);
	take_over(&after, 2, write_text(carry, &before));
	assert_same(&before, &after);

	carry_let_go(&after, 2);
	assert_int_equal(limit_used(&after, limit_global()), 0);
	for (uint32_t limit = 0; limit < shm_n_limits(&after); limit++)
		assert_int_equal(limit_used(&after, limit), 0);
	assert_int_equal(after.seats[2].ledger_sequence % 2, 0);
	carry_free(carry);
	segment_drop(&before);
	segment_drop(&after);
}

/* What the new master's own workers hold stays theirs, and a dead one's is given back beside the seat that stands for others. */
static void test_limits_beside_others(void **state)
{
	struct shm shm;
	(void)state;
	make_new(&shm);
	shm_limit(&shm, limit_global())->max = 5;
	for (int i = 0; i < 3; i++)
		assert_true(limit_reserve(&shm, 0, limit_global()));
	limit_hold(&shm, 2, limit_global(), 4); /* more than the maximum: nobody new */
	assert_int_equal(limit_used(&shm, limit_global()), 7);
	assert_false(limit_reserve(&shm, 1, limit_global()));
	limit_hold(&shm, 2, limit_global(), 1);
	assert_true(limit_reserve(&shm, 1, limit_global()));
	assert_int_equal(limit_reclaim(&shm, 0), 0);
	assert_int_equal(limit_used(&shm, limit_global()), 2);
	segment_drop(&shm);
}

static void test_too_many_rows(void **state)
{
	struct shm before, after;
	(void)state;
	make_old(&before);
	segment_make(&after, 3, 1, 1);
	claim(&after, "app", "up", "10.0.0.1:80");
	use_seats(&after, 3);
	struct carry *carry = carry_new();
	char *text = write_text(carry, &before);
	assert_int_equal(carry_claim(&after, text), -ENOSPC);
	assert_int_equal(carry_read(&after, 2, text), -ENOSPC);
	assert_same_listener(&before, &after, "app");
	free(text);
	carry_free(carry);
	segment_drop(&before);
	segment_drop(&after);
}

static int read_copy(struct shm *shm, const char *text)
{
	char *copy = strdup(text);
	assert_non_null(copy);
	int error = carry_claim(shm, copy);
	int result = carry_read(shm, 2, copy);
	free(copy);
	return error == -EPROTO ? error : result;
}

static void test_damaged_texts(void **state)
{
	static const char *const texts[] = { "", "end\n", "aegis-counters 2\nend\n", "aegis-counters 1\n", "aegis-counters 1\nend",
		"aegis-counters 1\n\nend\n", "aegis-counters 1\nlistener\nend\n", "aegis-counters 1\nlistener app\nend\n",
		"aegis-counters 1\nlistener app -3\nend\n", "aegis-counters 1\nlistener app 4294967296\nend\n",
		"aegis-counters 1\nserver up 3\nend\n", "aegis-counters 1\ninstance x\nend\n", "aegis-counters 1\ninstance 1\ncount\nend\n",
		"aegis-counters 1\ninstance 1\ncount worker_restarts_total x\nend\n", "aegis-counters 1\nlistener app 1\nclose\nend\n",
		"aegis-counters 1\nlistener app 1\ntimes connect_seconds\nend\n",
		"aegis-counters 1\nlistener app 1\ntimes connect_seconds 1 2\nend\n",
		"aegis-counters 1\nlistener app 1\ntimes connect_seconds 1 2:\nend\n",
		"aegis-counters 1\nlistener app 1\ntimes connect_seconds 1 :2\nend\n",
		"aegis-counters 1\nlistener app 1\ntimes connect_seconds 1 99999999999999999999:2\nend\n",
		"aegis-counters 1\nlistener %0 1\nend\n" };
	struct shm shm;
	(void)state;
	make_new(&shm);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (read_copy(&shm, texts[i]) != -EPROTO)
			fail_msg("taken for good: %s", texts[i]);
	/* Of a later version. */
	assert_int_equal(read_copy(&shm, "aegis-counters 1\nweather fine\ncount unknown_total 3\ninstance 0\ncount unknown_total 3\n"
	                                 "listener new 0\nclose unknown 4\ntimes unknown_seconds 4 5:6\nend\nand more"),
	        0);
	segment_drop(&shm);
}

/* Any byte of a good text replaced by any of some others: it is read or refused, and nothing is written outside of the segment. */
static void test_changed_bytes(void **state)
{
	static const char bytes[] = { '\0', ' ', '\n', '%', '9', '-', ':', 'x', '\x7f', '\xff' };
	struct shm before, after;
	(void)state;
	make_old(&before);
	make_new(&after);
	struct carry *carry = carry_new();
	char *text = write_text(carry, &before);
	size_t length = strlen(text);
	for (size_t at = 0; at < length; at++)
		for (size_t i = 0; i < sizeof bytes; i++) {
			char *copy = strdup(text);
			assert_non_null(copy);
			copy[at] = bytes[i];
			int error = carry_claim(&after, copy);
			assert_true(error == 0 || error == -EPROTO || error == -ENOSPC);
			error = carry_read(&after, 2, copy);
			assert_true(error == 0 || error == -EPROTO || error == -ENOSPC);
			free(copy);
		}
	carry_let_go(&after, 2);
	for (uint32_t limit = 0; limit < shm_n_limits(&after); limit++)
		assert_int_equal(limit_used(&after, limit), 0);
	free(text);
	carry_free(carry);
	segment_drop(&before);
	segment_drop(&after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_goes_over_and_on),
		cmocka_unit_test(test_limits_beside_others),
		cmocka_unit_test(test_too_many_rows),
		cmocka_unit_test(test_damaged_texts),
		cmocka_unit_test(test_changed_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
