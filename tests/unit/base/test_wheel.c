#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/clock.h"
#include "base/wheel.h"

#define TICK_NS (UINT64_C(1) << WHEEL_TICK_SHIFT)

struct timer {
	struct wheel_entry entry;
	uint64_t due_ns;
	uint64_t fired_ns;
	int fired;
};

static struct wheel wheel;
static uint64_t now_ns;

static void on_fire(struct wheel_entry *entry, void *arg)
{
	struct timer *timer = container_of(entry, struct timer, entry);
	assert_ptr_equal(arg, &wheel);
	assert_false(wheel_armed(entry));
	timer->fired++;
	timer->fired_ns = now_ns;
}

/* Sleep as a worker does: until the wheel wants to be advanced, but never past end_ns. */
static void run_until(uint64_t end_ns)
{
	while (now_ns < end_ns) {
		uint64_t next_ns = wheel_next_ns(&wheel);
		now_ns = next_ns < end_ns ? next_ns : end_ns;
		wheel_advance(&wheel, now_ns, on_fire, &wheel);
	}
}

static void test_fires_once_never_early_and_at_most_a_tick_late(void **state)
{
	enum { TIMERS = 5000 };
	(void)state;
	struct timer *timers = calloc(TIMERS, sizeof *timers);
	srandom(1);
	now_ns = 12345678901234;
	wheel_init(&wheel, now_ns);
	uint64_t start_ns = now_ns;
	for (int i = 0; i < TIMERS; i++) {
		uint64_t range = UINT64_C(1) << (random() % 44); /* up to 5 hours, all magnitudes */
		timers[i].due_ns = start_ns + (uint64_t)random() * (uint64_t)random() % range;
		wheel_arm(&wheel, &timers[i].entry, timers[i].due_ns);
	}
	run_until(start_ns + (UINT64_C(1) << 45));
	for (int i = 0; i < TIMERS; i++) {
		assert_int_equal(timers[i].fired, 1);
		assert_true(timers[i].fired_ns >= timers[i].due_ns);
		assert_true(timers[i].fired_ns <= timers[i].due_ns + 2 * TICK_NS);
	}
	assert_true(wheel_next_ns(&wheel) == WHEEL_NEVER);
	free(timers);
}

static void test_disarmed_does_not_fire(void **state)
{
	(void)state;
	struct timer a = { 0 }, b = { 0 };
	now_ns = 0;
	wheel_init(&wheel, now_ns);
	wheel_arm(&wheel, &a.entry, NS_PER_S);
	wheel_arm(&wheel, &b.entry, NS_PER_S);
	wheel_disarm(&a.entry);
	wheel_disarm(&a.entry);
	run_until(2 * NS_PER_S);
	assert_int_equal(a.fired, 0);
	assert_int_equal(b.fired, 1);
}

static void test_arming_again_moves(void **state)
{
	(void)state;
	struct timer timer = { 0 };
	now_ns = 0;
	wheel_init(&wheel, now_ns);
	wheel_arm(&wheel, &timer.entry, NS_PER_S);
	wheel_arm(&wheel, &timer.entry, 3600 * NS_PER_S);
	run_until(3599 * NS_PER_S);
	assert_int_equal(timer.fired, 0);
	run_until(3601 * NS_PER_S);
	assert_int_equal(timer.fired, 1);
	wheel_arm(&wheel, &timer.entry, WHEEL_NEVER);
	assert_false(wheel_armed(&timer.entry));
}

static void test_the_far_future_and_the_past(void **state)
{
	(void)state;
	struct timer far = { 0 }, past = { 0 };
	now_ns = 1000 * NS_PER_S;
	wheel_init(&wheel, now_ns);
	uint64_t year_ns = 365 * 86400 * NS_PER_S; /* beyond the wheel's 52 days */
	wheel_arm(&wheel, &far.entry, now_ns + year_ns);
	wheel_arm(&wheel, &past.entry, 1);
	run_until(now_ns + NS_PER_S);
	assert_int_equal(past.fired, 1);
	run_until(1000 * NS_PER_S + year_ns - NS_PER_S);
	assert_int_equal(far.fired, 0);
	run_until(1001 * NS_PER_S + year_ns);
	assert_int_equal(far.fired, 1);
}

static void test_an_advance_after_a_long_sleep(void **state)
{
	(void)state;
	struct timer timer = { 0 };
	wheel_init(&wheel, 0);
	now_ns = 7 * 86400 * NS_PER_S;
	wheel_arm(&wheel, &timer.entry, now_ns + NS_PER_S); /* armed while the wheel's own time is a week behind */
	wheel_advance(&wheel, now_ns, on_fire, &wheel);
	assert_int_equal(timer.fired, 0);
	run_until(now_ns + 2 * NS_PER_S);
	assert_int_equal(timer.fired, 1);
}

static void rearm(struct wheel_entry *entry, void *arg)
{
	struct timer *timer = container_of(entry, struct timer, entry);
	timer->fired++;
	if (timer->fired < 100)
		wheel_arm(arg, entry, 0); /* as soon as possible: the next tick, not now */
}

static void test_arming_in_the_callback_does_not_loop(void **state)
{
	(void)state;
	struct timer timer = { 0 };
	wheel_init(&wheel, 0);
	wheel_arm(&wheel, &timer.entry, 0);
	wheel_advance(&wheel, 10 * TICK_NS, rearm, &wheel);
	assert_int_equal(timer.fired, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fires_once_never_early_and_at_most_a_tick_late),
		cmocka_unit_test(test_disarmed_does_not_fire),
		cmocka_unit_test(test_arming_again_moves),
		cmocka_unit_test(test_the_far_future_and_the_past),
		cmocka_unit_test(test_an_advance_after_a_long_sleep),
		cmocka_unit_test(test_arming_in_the_callback_does_not_loop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
