#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "../view/segment.h"
#include "base/clock.h"
#include "tools/live.h"

struct fixture {
	struct shm shm;
	void *base;
	size_t size;
	uint64_t now_ns;
	struct live live;
	struct canvas canvas;
};

static void feed(struct fixture *fixture)
{
	struct snapshot *snapshot;
	fixture->now_ns += NS_PER_S;
	assert_int_equal(snapshot_make(&fixture->shm, fixture->now_ns, &snapshot), 0);
	assert_int_equal(live_feed(&fixture->live, snapshot, fixture->now_ns, 1700000000), 0);
}

static void start(struct fixture *fixture)
{
	memset(fixture->base, 0, fixture->size);
	shm_init(&fixture->shm, fixture->base, &segment_dims);
	segment_fill(&fixture->shm);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	assert_non_null(fixture);
	setenv("TZ", "UTC", 1);
	tzset();
	fixture->size = shm_size_bytes(&segment_dims);
	fixture->base = mmap(NULL, fixture->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(fixture->base, MAP_FAILED);
	fixture->now_ns = SEGMENT_NOW_NS;
	fixture->canvas.ascii = true;
	start(fixture);
	assert_int_equal(live_init(&fixture->live, NS_PER_S), 0);
	feed(fixture);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	live_fini(&fixture->live);
	canvas_free(&fixture->canvas);
	munmap(fixture->base, fixture->size);
	free(fixture);
	return 0;
}

static void draw(struct fixture *fixture, unsigned rows, unsigned columns)
{
	assert_int_equal(canvas_resize(&fixture->canvas, rows, columns), 0);
	live_draw(&fixture->live, &fixture->canvas);
}

/* The row in which these words stand, or a failure that shows the screen. */
static unsigned find(const struct fixture *fixture, const char *words)
{
	char text[CANVAS_MAX_COLUMNS];
	for (unsigned row = 0; row < fixture->canvas.rows; row++)
		if (strstr(canvas_row_text(&fixture->canvas, row, text, sizeof text), words) != NULL)
			return row;
	for (unsigned row = 0; row < fixture->canvas.rows; row++)
		print_error("%s\n", canvas_row_text(&fixture->canvas, row, text, sizeof text));
	fail_msg("\"%s\" is not on the screen", words);
	return 0;
}

static bool stands(const struct fixture *fixture, const char *words)
{
	char text[CANVAS_MAX_COLUMNS];
	for (unsigned row = 0; row < fixture->canvas.rows; row++)
		if (strstr(canvas_row_text(&fixture->canvas, row, text, sizeof text), words) != NULL)
			return true;
	return false;
}

static void type(struct fixture *fixture, const char *keys)
{
	for (; *keys != '\0'; keys++)
		assert_true(live_key(&fixture->live, (unsigned char)*keys));
}

static void key(struct fixture *fixture, int which)
{
	assert_true(live_key(&fixture->live, which));
}

static void test_overview(void **state)
{
	struct fixture *fixture = *state;
	struct listener_row *row = shm_listener_row(&fixture->shm, 1, 0);
	row->connections += 120;
	row->received_bytes += 1000000;
	row->sent_bytes += 4000000;
	for (int i = 0; i < 10; i++)
		histogram_record(&row->first_byte, 1500 * NS_PER_US);
	feed(fixture);
	draw(fixture, 24, 80);
	assert_int_equal(find(fixture, " Aegis 1.2.3 running - generation 3 - up 1.0 h - pid 100 - epoll"), 0);
	assert_int_equal(find(fixture, "22:13:20"), 0);
	assert_int_equal(find(fixture, "connects/s         120"), 1);
	assert_int_equal(find(fixture, "throughput   40.0 Mbps"), 2);
	assert_int_equal(find(fixture, "active              34"), 3);
	assert_int_equal(find(fixture, "last 1.0 s       p50     p95     p99"), 1);
	assert_int_equal(find(fixture, "first byte    1.4 ms  1.4 ms  1.4 ms"), 3);
	assert_int_equal(find(fixture, "limit 100000"), 5);
	assert_int_equal(find(fixture, " 1 overview  2 servers  3 listeners  4 workers  5 lines  6 ends  7 events"), 6);
	/* Each part once, and what is retired nowhere. */
	assert_true(find(fixture, "UPSTREAM  SERVER") < find(fixture, "LISTENER  ADDRESS"));
	assert_true(find(fixture, "LISTENER  ADDRESS") < find(fixture, "WORKER "));
	assert_true(find(fixture, "WORKER ") < find(fixture, "UPSTREAM  WAITING"));
	find(fixture, "app       a              up");
	find(fixture, "app: clients wait in line: 3");
	assert_false(stands(fixture, "gone"));
	assert_false(stands(fixture, "old"));
	assert_int_equal(find(fixture, "q quits"), 23);
}

static void test_every_pane_in_every_size(void **state)
{
	static const struct {
		unsigned rows, columns;
	} sizes[] = { { 24, 80 }, { 10, 40 }, { 60, 200 }, { 1, 1 }, { 2, 3 }, { 3, 1 }, { 4, 200 }, { 200, 4 }, { 7, 20 }, { 0, 0 },
		{ 16, 79 } };
	struct fixture *fixture = *state;
	for (int round = 0; round < 4; round++) {
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
			for (int pane = '1'; pane < '1' + N_PANES; pane++) {
				key(fixture, pane);
				key(fixture, LIVE_KEY_RIGHT);
				draw(fixture, sizes[i].rows, sizes[i].columns);
				key(fixture, '>');
				key(fixture, LIVE_KEY_END);
				draw(fixture, sizes[i].rows, sizes[i].columns);
				key(fixture, '?');
				draw(fixture, sizes[i].rows, sizes[i].columns);
				key(fixture, '?');
			}
		if (round == 0)
			segment_make_hostile(&fixture->shm);
		if (round == 2)
			live_lost(&fixture->live,
			        "no Aegis is running in /run/aegis; start one with aegis(8), or name its runtime_dir with -r DIR", 1);
		else
			feed(fixture);
	}
}

static void test_order_by_key(void **state)
{
	struct fixture *fixture = *state;
	type(fixture, "2");
	draw(fixture, 24, 80);
	assert_true(find(fixture, " a  ") < find(fixture, "db "));
	/* By the upstream, backwards. */
	type(fixture, ">r");
	draw(fixture, 24, 80);
	assert_true(find(fixture, "db ") < find(fixture, " a  "));
	assert_int_equal(canvas_at(&fixture->canvas, find(fixture, "SERVER"), 0)->style, STYLE_SORTED);
	/* By the third column, the state: what is worst comes first. */
	type(fixture, ">>");
	draw(fixture, 24, 80);
	assert_true(find(fixture, "disabled") < find(fixture, " a  "));
	type(fixture, "<<<");
	draw(fixture, 24, 80);
	assert_true(find(fixture, " a  ") < find(fixture, "disabled"));
	assert_int_equal(canvas_at(&fixture->canvas, find(fixture, "SERVER"), 0)->style, STYLE_HEAD);
	/* Before the first there is the last. */
	type(fixture, "<");
	assert_true(fixture->live.looks[PANE_SERVERS].sorted > 10);
}

static void test_filter(void **state)
{
	struct fixture *fixture = *state;
	type(fixture, "2/Q9");
	draw(fixture, 24, 80);
	find(fixture, "filter: Q9_");
	find(fixture, "nothing passes the filter");
	key(fixture, LIVE_KEY_BACKSPACE);
	key(fixture, 'U' - '@');
	type(fixture, "DISA");
	key(fixture, LIVE_KEY_ENTER);
	draw(fixture, 24, 80);
	find(fixture, "app       b       disabled");
	assert_false(stands(fixture, "10.0.0.9"));
	find(fixture, "filter: DISA  (Esc drops it)");
	/* It holds for other panes, too. */
	type(fixture, "3");
	draw(fixture, 24, 80);
	find(fixture, "nothing passes the filter");
	key(fixture, LIVE_KEY_ESCAPE);
	draw(fixture, 24, 80);
	find(fixture, "127.0.0.1:8080");
	/* A filter that is too long is cut, and no key of the filter does anything else. */
	type(fixture, "/");
	for (int i = 0; i < 200; i++)
		type(fixture, "q");
	key(fixture, LIVE_KEY_UP);
	assert_int_equal(strlen(fixture->live.filter), LIVE_FILTER_SIZE - 1);
	draw(fixture, 24, 80);
	key(fixture, LIVE_KEY_ESCAPE);
	assert_string_equal(fixture->live.filter, "");
	/* A character of two bytes goes as one. */
	type(fixture, "/x\xc3\xa4");
	key(fixture, LIVE_KEY_BACKSPACE);
	assert_string_equal(fixture->live.filter, "x");
}

static void test_keys(void **state)
{
	struct fixture *fixture = *state;
	key(fixture, '\t');
	assert_int_equal(fixture->live.pane, PANE_SERVERS);
	key(fixture, LIVE_KEY_BACK_TAB);
	key(fixture, LIVE_KEY_BACK_TAB);
	assert_int_equal(fixture->live.pane, PANE_EVENTS);
	type(fixture, "6");
	draw(fixture, 11, 80);
	find(fixture, "finished");
	/* Six lines at the top, one at the bottom, four of five ends. */
	find(fixture, "1-4 of 5");
	type(fixture, "j");
	draw(fixture, 11, 80);
	find(fixture, "2-5 of 5");
	type(fixture, "G");
	draw(fixture, 11, 80);
	find(fixture, "2-5 of 5");
	type(fixture, "g");
	draw(fixture, 11, 80);
	find(fixture, "1-4 of 5");
	type(fixture, " b k");
	type(fixture, "p");
	assert_true(fixture->live.is_paused);
	draw(fixture, 11, 80);
	assert_int_equal(find(fixture, "paused"), 0);
	type(fixture, "p+");
	assert_int_equal(fixture->live.period_ns, 2 * NS_PER_S);
	for (int i = 0; i < 20; i++)
		type(fixture, "+");
	assert_int_equal(fixture->live.period_ns, 60 * NS_PER_S);
	for (int i = 0; i < 20; i++)
		type(fixture, "-");
	assert_int_equal(fixture->live.period_ns, 100 * NS_PER_MS);
	type(fixture, "?");
	draw(fixture, 24, 80);
	find(fixture, "KEYS");
	key(fixture, LIVE_KEY_END);
	draw(fixture, 24, 80);
	find(fixture, "by comparing one look with the one before");
	key(fixture, LIVE_KEY_ESCAPE);
	draw(fixture, 24, 80);
	assert_false(stands(fixture, "KEYS"));
	assert_false(live_key(&fixture->live, 'q'));
	assert_false(live_key(&fixture->live, 'Q'));
}

static void test_gone_and_back(void **state)
{
	struct fixture *fixture = *state;
	feed(fixture);
	live_lost(&fixture->live, "no Aegis is running in /run/aegis; start one with aegis(8), or name its runtime_dir with -r DIR",
	        1700000001);
	draw(fixture, 24, 60);
	find(fixture, "nothing to see");
	find(fixture, " no Aegis is running in /run/aegis; start one with");
	find(fixture, " runtime_dir with -r DIR");
	find(fixture, "Looking again and again; q quits.");
	find(fixture, "connects/s           -");
	/* What happened before is still there. */
	find(fixture, "app: clients wait in line: 3");
	start(fixture);
	fixture->shm.header->master_pid = 555;
	feed(fixture);
	draw(fixture, 24, 80);
	find(fixture, "Aegis was restarted: Aegis 1.2.3, pid 555, before 100");
	find(fixture, "connects/s           -");
	feed(fixture);
	draw(fixture, 24, 80);
	find(fixture, "connects/s           0");
}

/* A server keeps its trend where its place in the list changes. */
static void test_trends_go_with_their_servers(void **state)
{
	struct fixture *fixture = *state;
	shm_server_row(&fixture->shm, 1, 1)->connections += 50;
	feed(fixture);
	size_t at = fixture->live.now->n_servers;
	for (size_t i = 0; i < fixture->live.now->n_servers; i++)
		if (strcmp(fixture->live.now->servers[i].upstream, "db") == 0)
			at = i;
	assert_true(at < fixture->live.now->n_servers);
	assert_int_equal(trend_most(&fixture->live.server_trends[at], 10), 50);
	/* The servers of app are no longer known by that upstream: db comes first. */
	strcpy(fixture->shm.servers[0].upstream, "zzz");
	feed(fixture);
	for (size_t i = 0; i < fixture->live.now->n_servers; i++)
		assert_int_equal(trend_most(&fixture->live.server_trends[i], 10),
		        strcmp(fixture->live.now->servers[i].upstream, "db") == 0 ? 50 : 0);
}

/* Where not all servers find room, those in trouble are seen. */
static void test_trouble_comes_first(void **state)
{
	struct fixture *fixture = *state;
	draw(fixture, 14, 80);
	find(fixture, "disabled");
	assert_false(stands(fixture, "app       a "));
	find(fixture, " more");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_overview, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_pane_in_every_size, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order_by_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_filter, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone_and_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_trends_go_with_their_servers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_trouble_comes_first, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
