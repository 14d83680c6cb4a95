/* What a reload would do, as a plan: from two trees of settings and live counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"
#include "loading.h"
#include "master/plan.h"
#include "view/emit.h"

/* Connections are told apart by what they are on: 10 and the index, 100 and the indices, 1000 and the index. */
static uint32_t on_listener(const void *arg, size_t listener)
{
	(void)arg;
	return 10 + (uint32_t)listener;
}

static uint32_t on_server(const void *arg, size_t upstream, size_t server)
{
	(void)arg;
	return 100 + 10 * (uint32_t)upstream + (uint32_t)server;
}

static uint32_t on_upstream(const void *arg, size_t upstream)
{
	(void)arg;
	return 1000 + (uint32_t)upstream;
}

static const struct plan_live live = { .listener = on_listener,
	.server = on_server,
	.upstream = on_upstream,
	.max_draining = 4,
	.instance = { .pid = 7, .generation = 3, .workers = 2, .connections = 57, .state = "running", .accepts = true } };

#define TOP(more, listener, upstream, server)                                                                                   \
	more "listeners = ( { name = \"l\"; address = \"127.0.0.1:80\"; upstream = \"u\"; " listener " } );\n"                  \
	     "upstreams = ( { name = \"u\"; " upstream " servers = ( { name = \"a\"; address = \"10.0.0.1:1\"; " server " },\n" \
	     "  { name = \"b\"; address = \"10.0.0.2:1\"; } ); } );\n"

static struct plan make_live(const char *before, const char *after, const struct plan_live *counts)
{
	struct config *old = before ? load_text(before) : NULL, *new = load_text(after);
	struct plan plan = { 0 };

	plan_make(&plan, old, new, counts, 4);
	config_free(old);
	config_free(new);
	return plan;
}

static struct plan make(const char *before, const char *after)
{
	return make_live(before, after, &live);
}

/* One change: what is told of it. */
static void changes(
        const char *before, const char *after, enum plan_outcome outcome, enum plan_effect effect, const char *path, int connections)
{
	struct plan plan = make(before, after);

	assert_int_equal(plan.count, 1);
	assert_int_equal(plan.n_changes, 1);
	assert_string_equal(plan.changes[0].path, path);
	assert_int_equal(plan.changes[0].effect, effect);
	assert_int_equal(plan.by_effect[effect], 1);
	assert_int_equal(plan.by_kind[plan.changes[0].kind], 1);
	assert_int_equal(plan.outcome, outcome);
	assert_int_equal(plan.changes[0].counted, connections >= 0);
	if (connections >= 0)
		assert_int_equal(plan.changes[0].connections, connections);
	plan_free(&plan);
}

static const char plain[] = TOP("", "", "", "");

static void each_change_has_its_effect_and_its_connections(void **state)
{
	(void)state;
	changes(plain, TOP("max_connections = 5; ", "", "", ""), PLAN_NEW_GENERATION, PLAN_NEW_WORKERS, "max_connections", 57);
	changes(plain, TOP("user = \"x\"; ", "", "", ""), PLAN_NEW_GENERATION, PLAN_RESTART, "user", 57);
	changes(plain, TOP("", "backlog = 7;", "", ""), PLAN_NEW_GENERATION, PLAN_NEW_WORKERS, "listeners.l.backlog", 10);
	changes(plain, TOP("", "max_connections = 7;", "", ""), PLAN_TAKE_IN_PLACE, PLAN_IN_PLACE, "listeners.l.max_connections", 10);
	changes(plain, TOP("", "", "retries = 1;", ""), PLAN_NEW_GENERATION, PLAN_NEW_WORKERS, "upstreams.u.retries", 1000);
	changes(plain, TOP("", "", "", "weight = 1;"), PLAN_TAKE_IN_PLACE, PLAN_IN_PLACE, "upstreams.u.servers.a.weight", 100);
	changes(plain, TOP("", "", "", "}, { name = \"c\"; address = \"h:1\";"), PLAN_NEW_GENERATION, PLAN_NEW_WORKERS,
	        "upstreams.u.servers.c", -1);
	changes(TOP("", "", "", "}, { name = \"c\"; address = \"h:1\";"), plain, PLAN_NEW_GENERATION, PLAN_NEW_WORKERS,
	        "upstreams.u.servers.c", 101);
	changes(plain, TOP("", "}, { name = \"m\"; address = \":90\"; upstream = \"u\";", "", ""), PLAN_NEW_GENERATION, PLAN_NEW_WORKERS,
	        "listeners.m", -1);
	changes(TOP("", "}, { name = \"m\"; address = \":90\"; upstream = \"u\";", "", ""), plain, PLAN_NEW_GENERATION, PLAN_NEW_WORKERS,
	        "listeners.m", 11);
}

static void nothing_changes_is_a_new_generation(void **state)
{
	(void)state;
	struct plan plan = make(plain, plain);

	assert_int_equal(plan.count, 0);
	assert_int_equal(plan.outcome, PLAN_NEW_GENERATION);
	assert_int_equal(plan.workers, 4);
	plan_free(&plan);
}

static void a_drained_instance_needs_new_workers(void **state)
{
	(void)state;
	struct plan_live drained = live;
	drained.instance.accepts = false;
	struct plan plan = make_live(plain, TOP("", "", "", "weight = 1;"), &drained);

	assert_int_equal(plan.by_effect[PLAN_IN_PLACE], 1);
	assert_int_equal(plan.outcome, PLAN_NEW_GENERATION);
	plan_free(&plan);
}

static void a_server_that_is_to_be_checked_needs_new_workers(void **state)
{
	(void)state;
	struct plan plan = make(TOP("", "", "health = { };", "disabled = true;"), TOP("", "", "health = { };", ""));
	assert_int_equal(plan.outcome, PLAN_NEW_GENERATION);
	assert_int_equal(plan.checks, PLAN_CHECKS_BEGIN);
	plan_free(&plan);

	plan = make(TOP("", "", "health = { };", ""), TOP("", "", "health = { };", "disabled = true;"));
	assert_int_equal(plan.outcome, PLAN_TAKE_IN_PLACE);
	assert_int_equal(plan.checks, PLAN_CHECKS_END);
	plan_free(&plan);

	plan = make(TOP("", "", "", ""), TOP("", "", "", "disabled = true;"));
	assert_int_equal(plan.outcome, PLAN_TAKE_IN_PLACE);
	assert_int_equal(plan.checks, PLAN_CHECKS_STAY);
	plan_free(&plan);
}

static void the_oldest_generations_end(void **state)
{
	(void)state;
	static const struct plan_draining draining[] = { { 2, 5 }, { 1, 7 } };
	static const struct {
		const char *after;
		bool accepts;
		uint32_t max_draining, generations, connections;
	} rows[] = {
		{ TOP("drain = { max_generations = 3; }; ", "", "", ""), true, 4, 0, 0 },
		{ TOP("drain = { max_generations = 2; }; ", "", "", ""), true, 4, 1, 7 },
		{ TOP("drain = { max_generations = 1; }; ", "", "", ""), true, 4, 2, 12 },
		{ TOP("drain = { max_generations = 4; }; ", "", "", ""), true, 2, 1, 7 },
		{ TOP("drain = { max_generations = 2; }; ", "", "", ""), false, 4, 0, 0 },
		{ TOP("drain = { max_generations = 1; }; ", "", "", ""), false, 4, 1, 7 },
		{ TOP("", "", "", "weight = 5;"), true, 1, 0, 0 }, /* in place */
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct plan_live busy = live;
		busy.draining = draining;
		busy.n_draining = 2;
		busy.max_draining = rows[i].max_draining;
		busy.instance.accepts = rows[i].accepts;
		struct plan plan = make_live(plain, rows[i].after, &busy);
		assert_int_equal(plan.ended_generations, rows[i].generations);
		assert_int_equal(plan.ended_connections, rows[i].connections);
		plan_free(&plan);
	}
}

static void a_start_has_nothing_to_compare(void **state)
{
	(void)state;
	struct plan plan = make_live(NULL, plain, NULL);

	assert_int_equal(plan.outcome, PLAN_START);
	assert_int_equal(plan.count, 0);
	assert_int_equal(plan.n_listeners, 1);
	assert_int_equal(plan.n_upstreams, 1);
	assert_int_equal(plan.n_servers, 2);
	plan_free(&plan);
}

/* --- texts ----------------------------------------------------------------------------------------------------------------- */

static char *printed(const struct plan *plan)
{
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&bytes, &size);

	plan_print(plan, "a.conf", out);
	assert_int_equal(fclose(out), 0);
	return bytes;
}

static char *emitted(const struct plan *plan)
{
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&bytes, &size);
	struct emit emit = { .out = out };

	plan_emit(plan, &emit, NULL);
	assert_int_equal(fclose(out), 0);
	return bytes;
}

static void it_is_printed_in_order(void **state)
{
	(void)state;
	struct plan plan = make(plain, TOP("user = \"x\"; drain = { timeout = \"10s\"; }; ", "backlog = 7;", "",
	                                       "weight = 1; }, { name = \"c\"; address = \"h:1\";"));
	plan_add(&plan, PLAN_WARNING, "max_connections", "too %s", "many");
	plan_add(&plan, PLAN_ERROR, "", "no way");
	char *text = printed(&plan);

	assert_string_equal(text,
	        "Plan of a reload with a.conf\n"
	        "The running instance: pid 7, running, generation 3, 2 workers, 57 connections\n"
	        "\n"
	        "Can change in place:\n"
	        "  ~ upstreams.u.servers.a.weight                 100 -> 1   [100 connections]\n"
	        "\n"
	        "Needs new workers:\n"
	        "  ~ drain.timeout                                \"30s\" -> \"10s\"   [57 connections]\n"
	        "  ~ listeners.l.backlog                          4096 -> 7   [10 connections]\n"
	        "  + upstreams.u.servers.c                        h:1\n"
	        "\n"
	        "Only after a restart:\n"
	        "  ~ user                                         \"\" -> \"x\"   [57 connections]\n"
	        "\n"
	        "Summary: 1 added, 4 changed; 4 new workers take new clients; 57 connections stay with the old ones for up to 10s.\n"
	        "\n"
	        "  error: no way\n"
	        "  warning: max_connections: too many\n"
	        "\n"
	        "The reload would fail: 1 error.\n");
	free(text);
	plan_free(&plan);
}

static void it_is_json(void **state)
{
	(void)state;
	struct plan plan = make(plain, TOP("", "", "", "weight = 1;"));
	plan_add(&plan, PLAN_NOTE, "x\"y", "z\n");
	char *text = emitted(&plan);

	assert_string_equal(text,
	        "{\"outcome\":\"in_place\",\"running\":{\"pid\":7,\"state\":\"running\",\"generation\":3,\"workers\":2,\"connections\":57},"
	        "\"workers\":4,\"counts\":{\"changed\":1,\"added\":0,\"dropped\":0,\"reordered\":0,\"in_place\":1,\"new_workers\":0,"
	        "\"restart\":0},\"changes\":[{\"kind\":\"changed\",\"path\":\"upstreams.u.servers.a.weight\",\"effect\":\"in_place\","
	        "\"before\":\"100\",\"after\":\"1\",\"connections\":100}],\"changes_left_out\":0,\"problems\":[{\"weight\":\"note\","
	        "\"path\":\"x\\\"y\",\"text\":\"z\\n\"}],\"errors\":0,\"warnings\":0}");
	free(text);
	plan_free(&plan);
}

static void it_is_summed_up_in_a_line(void **state)
{
	(void)state;
	char bytes[256];
	static const struct {
		const char *after, *line;
	} rows[] = {
		{ plain, "nothing changes; 4 new workers take new clients; 57 connections stay with the old ones for up to 30s" },
		{ TOP("", "", "", "weight = 1;"), "1 changed; the 2 workers that run take it over; no connection is touched" },
		{ TOP("drain = { timeout = \"0s\"; pace = 5; }; ", "", "", ""),
		        "2 changed; 4 new workers take new clients; 57 connections stay with the old ones until they end, idle ones end at "
		        "5/s" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct plan plan = make(plain, rows[i].after);
		struct text text = text_of(bytes, sizeof bytes);
		plan_sum_up(&plan, &text);
		assert_string_equal(bytes, rows[i].line);
		plan_free(&plan);
	}
}

/* --- bounds ---------------------------------------------------------------------------------------------------------------- */

static char *many_servers(size_t count, const char *more)
{
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&bytes, &size);

	fputs(LISTENER "upstreams = ( { name = \"app\"; servers = ( ", out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s{ name = \"server-%zu\"; address = \"10.0.%zu.%zu:1\"; %s }\n", i ? ", " : "", i, i / 250, i % 250, more);
	fputs("); } );\n", out);
	assert_int_equal(fclose(out), 0);
	return bytes;
}

static void ten_thousand_changes_stay_bounded(void **state)
{
	(void)state;
	enum { COUNT = 10000 };
	char *before = many_servers(COUNT, ""), *after = many_servers(COUNT, "weight = 5; max_connections = 9;");
	struct plan plan = make(before, after);
	char *text = printed(&plan), *json = emitted(&plan);

	assert_int_equal(plan.count, 2 * COUNT);
	assert_int_equal(plan.by_effect[PLAN_IN_PLACE], 2 * COUNT);
	assert_int_equal(plan.n_changes, PLAN_MOST_CHANGES);
	assert_int_equal(plan.outcome, PLAN_TAKE_IN_PLACE);
	assert_non_null(strstr(text, "... and 19950 more\n"));
	assert_true(strlen(text) < 10000);
	assert_non_null(strstr(json, "\"changes_left_out\":19000"));
	assert_true(strlen(json) < 300000);
	free(text);
	free(json);
	plan_free(&plan);
	free(before);
	free(after);
}

static void problems_are_bounded_and_counted(void **state)
{
	(void)state;
	struct plan plan = { 0 };

	for (size_t i = 0; i < PLAN_MOST_PROBLEMS + 5; i++)
		plan_add(&plan, i % 2 ? PLAN_ERROR : PLAN_WARNING, "p", "%zu", i);
	assert_int_equal(plan.n_problems, PLAN_MOST_PROBLEMS);
	assert_int_equal(plan.n_errors + plan.n_warnings, PLAN_MOST_PROBLEMS + 5);
	assert_string_equal(plan.problems[999].text, "999");
	char *text = printed(&plan);
	assert_non_null(strstr(text, "... and 452 more\n"));
	free(text);
	plan_free(&plan);

	char lines[] = "a: b\nc\n";
	plan_add_lines(&plan, PLAN_ERROR, &(struct config_errors){ .count = 2, .lines = lines });
	assert_int_equal(plan.n_errors, 2);
	assert_string_equal(plan.problems[0].text, "a: b");
	assert_string_equal(plan.problems[1].text, "c");
	plan_free(&plan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_change_has_its_effect_and_its_connections),
		cmocka_unit_test(nothing_changes_is_a_new_generation),
		cmocka_unit_test(a_drained_instance_needs_new_workers),
		cmocka_unit_test(a_server_that_is_to_be_checked_needs_new_workers),
		cmocka_unit_test(the_oldest_generations_end),
		cmocka_unit_test(a_start_has_nothing_to_compare),
		cmocka_unit_test(it_is_printed_in_order),
		cmocka_unit_test(it_is_json),
		cmocka_unit_test(it_is_summed_up_in_a_line),
		cmocka_unit_test(ten_thousand_changes_stay_bounded),
		cmocka_unit_test(problems_are_bounded_and_counted),
	};

	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
