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
#include "tools/events.h"

/* An instance, and who looks at it each second. */
struct fixture {
	struct shm shm;
	void *base;
	size_t size;
	struct snapshot *last;
	struct events events;
	uint64_t unix_s;
	unsigned seen; /* events before the last look */
};

static void look(struct fixture *fixture)
{
	struct snapshot *now;
	struct rates rates;
	assert_int_equal(snapshot_make(&fixture->shm, SEGMENT_NOW_NS, &now), 0);
	assert_int_equal(rates_make(&rates, fixture->last, now, NS_PER_S), 0);
	fixture->seen = fixture->events.n;
	events_compare(&fixture->events, fixture->last, now, &rates, ++fixture->unix_s);
	rates_free(&rates);
	snapshot_free(fixture->last);
	fixture->last = now;
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	assert_non_null(fixture);
	fixture->size = shm_size_bytes(&segment_dims);
	fixture->base = mmap(NULL, fixture->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(fixture->base, MAP_FAILED);
	shm_init(&fixture->shm, fixture->base, &segment_dims);
	segment_fill(&fixture->shm);
	/* Nobody waits. */
	shm_limit(&fixture->shm, limit_upstream(&fixture->shm, 1))->used = 0;
	fixture->unix_s = 1700000000;
	look(fixture);
	assert_int_equal(fixture->events.n, 0);
	look(fixture);
	assert_int_equal(fixture->events.n, 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	snapshot_free(fixture->last);
	munmap(fixture->base, fixture->size);
	free(fixture);
	return 0;
}

/* Look, and find exactly this. */
static void assert_event(struct fixture *fixture, enum canvas_style style, const char *wanted)
{
	look(fixture);
	const struct event *event = events_at(&fixture->events, 0);
	assert_int_equal(fixture->events.n, fixture->seen + 1);
	assert_string_equal(event->text, wanted);
	assert_int_equal(event->style, style);
	assert_int_equal(event->unix_s, fixture->unix_s);
}

static void assert_silence(struct fixture *fixture)
{
	look(fixture);
	assert_int_equal(fixture->events.n, fixture->seen);
}

static void check(struct fixture *fixture, enum health_result result)
{
	const struct health_limits limits = { .rise = 1, .fall = 1 };
	const struct health_check health = { .result = result, .latency_ns = NS_PER_MS };
	health_note(&fixture->shm.servers[0].condition.health, &limits, &health, SEGMENT_NOW_NS);
}

static void test_servers(void **state)
{
	struct fixture *fixture = *state;
	check(fixture, HEALTH_RESULT_REFUSED);
	assert_event(fixture, STYLE_BAD, "app/a: down: connection refused, before up");
	assert_silence(fixture);
	check(fixture, HEALTH_RESULT_OK);
	look(fixture);
	assert_non_null(strstr(events_at(&fixture->events, 0)->text, "before down"));
	/* What came and went between two looks shows by its counter. */
	fixture->shm.servers[0].condition.breaker.trips++;
	assert_event(fixture, STYLE_BAD, "app/a: its breaker opened");
	fixture->shm.servers[0].condition.ejection.count++;
	assert_event(fixture, STYLE_BAD, "app/a: it was ejected");
	fixture->shm.servers[1].in_use = 0;
	assert_event(fixture, STYLE_PLAIN, "db/10.0.0.9:5432: gone from the settings");
	fixture->shm.servers[1].in_use = 1;
	assert_event(fixture, STYLE_PLAIN, "db/10.0.0.9:5432: new in the settings");
}

static void test_override(void **state)
{
	struct fixture *fixture = *state;
	const struct condition_rules rules = { 0 };
	condition_set_override(&fixture->shm.servers[1].condition, &rules, (struct override){ .mode = OVERRIDE_DISABLED });
	look(fixture);
	assert_int_equal(fixture->events.n, fixture->seen + 2);
	assert_string_equal(events_at(&fixture->events, 0)->text, "db/10.0.0.9:5432: set by the operator: disabled");
	assert_string_equal(events_at(&fixture->events, 1)->text, "db/10.0.0.9:5432: disabled, before unknown");
}

static void test_reloads(void **state)
{
	struct fixture *fixture = *state;
	fixture->shm.header->reloads_ok++;
	fixture->shm.header->generation = 4;
	assert_event(fixture, STYLE_GOOD, "reloaded, generation 4: 1 server added");
	fixture->shm.header->reloads_failed++;
	fixture->shm.header->last_reload_ok = 0;
	text_copy(fixture->shm.header->last_reload_note, SHM_NOTE_SIZE, "line 7");
	assert_event(fixture, STYLE_BAD, "a reload failed, the settings before stay: line 7");
	fixture->shm.header->state = INSTANCE_DRAINING;
	assert_event(fixture, STYLE_WARN, "Aegis is draining, before running");
}

static void test_workers(void **state)
{
	struct fixture *fixture = *state;
	fixture->shm.seats[1].pid = 777;
	fixture->shm.header->worker_restarts++;
	assert_event(fixture, STYLE_BAD, "worker 0 died (pid 201, 11 connections) and was replaced by pid 777");
	fixture->shm.header->worker_restarts += 2;
	assert_event(fixture, STYLE_BAD, "2 workers were replaced");
	fixture->shm.header->control_restarts++;
	assert_event(fixture, STYLE_WARN, "the control process was replaced");
}

/* One event when it begins, one when it has been over for a while. */
static void test_spells(void **state)
{
	struct fixture *fixture = *state;
	counter_t *full = &shm_listener_row(&fixture->shm, 1, 0)->closes[REASON_LISTENER_FULL];
	counter_add(full, 5);
	assert_event(fixture, STYLE_WARN, "app: listener_full began, 5: max_connections of the listener reached");
	counter_add(full, 2);
	assert_silence(fixture);
	for (int i = 0; i < EVENTS_QUIET_S - 1; i++)
		assert_silence(fixture);
	counter_add(full, 1);
	for (int i = 0; i < EVENTS_QUIET_S; i++)
		assert_silence(fixture);
	assert_event(fixture, STYLE_PLAIN, "listener_full is over: 8 in 12.0 s");
	counter_add(full, 1);
	assert_event(fixture, STYLE_WARN, "app: listener_full began, 1: max_connections of the listener reached");
	/* An ordinary end is none. */
	counter_add(&shm_listener_row(&fixture->shm, 1, 0)->closes[REASON_FINISHED], 1);
	assert_silence(fixture);
}

static void test_trouble_of_workers(void **state)
{
	struct fixture *fixture = *state;
	counter_add(&fixture->shm.seats[2].accept_pauses, 3);
	assert_event(fixture, STYLE_BAD, "pauses of accepting (out of descriptors, memory or room) began, 3");
	counter_add(&fixture->shm.seats[0].access_drops, 7);
	assert_event(fixture, STYLE_BAD, "losing records of the access log began, 7");
	for (int i = 2; i < EVENTS_QUIET_S; i++)
		assert_silence(fixture);
	assert_event(fixture, STYLE_PLAIN, "pauses of accepting (out of descriptors, memory or room): over, 3 in 1.0 s");
	assert_event(fixture, STYLE_PLAIN, "losing records of the access log: over, 7 in 1.0 s");
}

static void test_lines(void **state)
{
	struct fixture *fixture = *state;
	shm_limit(&fixture->shm, limit_upstream(&fixture->shm, 1))->used = 4;
	assert_event(fixture, STYLE_WARN, "app: clients wait in line: 4");
	shm_limit(&fixture->shm, limit_upstream(&fixture->shm, 1))->used = 0;
	for (int i = 1; i < EVENTS_QUIET_S; i++)
		assert_silence(fixture);
	assert_event(fixture, STYLE_GOOD, "app: nobody waits in line any more, after 1.0 s");
}

static void test_the_instance(void **state)
{
	struct fixture *fixture = *state;
	events_lost(&fixture->events, 100, "no Aegis is running there", 7);
	events_lost(&fixture->events, 0, "no Aegis is running there", 8);
	assert_int_equal(fixture->events.n, 1);
	/* The same one can be read again. */
	assert_event(fixture, STYLE_GOOD, "Aegis can be read again, pid 100");
	/* Another one, seen gone or not. */
	events_lost(&fixture->events, 100, "no Aegis is running there", 9);
	fixture->shm.header->master_pid = 300;
	assert_event(fixture, STYLE_WARN, "Aegis was restarted: Aegis 1.2.3, pid 300, before 100");
	fixture->shm.header->master_pid = 301;
	assert_event(fixture, STYLE_WARN, "Aegis was restarted: Aegis 1.2.3, pid 301, before 300");
}

/* Thousands of servers that change at once are not thousands of events. */
static void test_many_servers(void **state)
{
	enum { SERVERS = 1000 };
	struct snapshot_server before_servers[SERVERS] = { 0 }, now_servers[SERVERS] = { 0 };
	struct fixture *fixture = *state;
	struct snapshot before = *fixture->last, now = *fixture->last;
	struct rates rates;
	for (unsigned i = 0; i < SERVERS; i++) {
		snprintf(before_servers[i].name, sizeof before_servers[i].name, "s%u", i);
		before_servers[i].in_use = true;
		now_servers[i] = before_servers[i];
		now_servers[i].in_use = false;
	}
	before.servers = before_servers;
	now.servers = now_servers;
	before.n_servers = now.n_servers = SERVERS;
	assert_int_equal(rates_make(&rates, &before, &now, NS_PER_S), 0);
	events_compare(&fixture->events, &before, &now, &rates, 1);
	assert_int_equal(fixture->events.n, EVENTS_SERVERS_AT_ONCE + 1);
	assert_string_equal(events_at(&fixture->events, 0)->text, "976 more servers changed");
	rates_free(&rates);
	for (int i = 0; i < 2 * EVENTS_KEPT; i++)
		events_add(&fixture->events, 1, STYLE_PLAIN, "%d", i);
	assert_int_equal(fixture->events.n, EVENTS_KEPT);
	assert_string_equal(events_at(&fixture->events, 0)->text, "511");
	assert_string_equal(events_at(&fixture->events, EVENTS_KEPT - 1)->text, "256");
	assert_null(events_at(&fixture->events, EVENTS_KEPT));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_servers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_override, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reloads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_workers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spells, setup, teardown),
		cmocka_unit_test_setup_teardown(test_trouble_of_workers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_instance, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_servers, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
