/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* clang-format on */

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/roll_call.h"
#include "shm/sums.h"

/* Workers are processes that answer from a list of so many connections; those of DEAF never do. */
enum { SEATS = 4, DEAF = 2, UNUSED = 3, CONNECTIONS = 700 };

struct ground {
	struct shm shm;
	size_t size;
	struct bells bells;
	struct loop *loop;
	struct roll_calls *calls;
	pid_t workers[SEATS];
};

static struct ground ground;

static void answer_list(const struct roll_request *request, uint32_t seat, uint32_t *next)
{
	struct roll_row *rows = shm_roll_rows(&ground.shm, seat);
	uint32_t n = 0;
	for (; *next < CONNECTIONS && n < ROLL_ROWS; (*next)++)
		rows[n++] = (struct roll_row){ .serial = *next + 1,
			.step = STEP_RELAY,
			.listener = (uint16_t)(*next % 2),
			.server = *next % 3 ? 0 : ROLL_NO_SERVER,
			.client = { .family = 4, .bytes = { 10, 0, (uint8_t)seat, (uint8_t)*next }, .port = 1000 },
			.accepted_ns = 1000000 * (SEATS * *next + seat),
			.up_bytes = *next };
	roll_answer(&ground.shm.roll_boxes[seat], request, *next < CONNECTIONS ? ROLL_MORE : ROLL_END, n);
}

static void answer_kill(const struct roll_request *request, uint32_t seat, uint32_t *next)
{
	uint32_t from = *next;
	*next = *next + 100 < CONNECTIONS ? *next + 100 : CONNECTIONS;
	bool found = request->serial > from && request->serial <= *next;
	roll_answer(&ground.shm.roll_boxes[seat], request, found ? ROLL_KILLED : *next < CONNECTIONS ? ROLL_MORE : ROLL_END, 0);
}

static _Noreturn void work(uint32_t seat)
{
	uint64_t series = 0;
	uint32_t next = 0;
	for (;;) {
		struct roll_request request;
		uint64_t rings;
		if (!roll_is_asked(&ground.shm.roll_boxes[seat], &request)) {
			struct timespec pause = { .tv_nsec = 100000 };
			nanosleep(&pause, NULL); /* the bell's edges are for loops */
			continue;
		}
		if (read(bell_fd(&ground.bells, seat), &rings, sizeof rings) < 0)
			continue; /* who was asked was rung, a moment later */
		if (request.number == request.series)
			series = request.series, next = 0;
		if (request.series != series)
			roll_answer(&ground.shm.roll_boxes[seat], &request, ROLL_LOST, 0);
		else if (request.kind == ROLL_KILL)
			answer_kill(&request, seat, &next);
		else
			answer_list(&request, seat, &next);
	}
}

static void name_rows(void)
{
	struct shm *shm = &ground.shm;
	shm->header->n_listeners = 2;
	shm->header->n_servers = 1;
	strcpy(shm->listeners[0].name, "app");
	strcpy(shm->listeners[1].name, "web");
	strcpy(shm->servers[0].name, "a");
	strcpy(shm->servers[0].upstream, "up");
}

static int set_up(void **state)
{
	const struct shm_dims dims = { .seats = SEATS, .listeners = 2, .servers = 1 };
	pid_t parent = getpid();
	(void)state;
	ground = (struct ground){ .size = (size_t)shm_size_bytes(&dims) };
	void *base = mmap(NULL, ground.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(base, MAP_FAILED);
	shm_init(&ground.shm, base, &dims);
	name_rows();
	assert_int_equal(bells_open(&ground.bells, SEATS), 0);
	ground.loop = loop_new();
	assert_non_null(ground.loop);
	assert_int_equal(roll_calls_new(ground.loop, &ground.shm, &ground.bells, &ground.calls), 0);
	for (uint32_t seat = 0; seat < SEATS; seat++) {
		if (seat == UNUSED)
			continue;
		ground.shm.seats[seat].slot = seat;
		ground.shm.seats[seat].pid = 4000 + (int32_t)seat;
		ground.shm.seats[seat].state = seat == 1 ? SEAT_DRAINING : SEAT_RUNNING;
		if (seat == DEAF)
			continue;
		ground.workers[seat] = fork();
		assert_true(ground.workers[seat] >= 0);
		if (ground.workers[seat] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() == parent)
				work(seat);
			_exit(0);
		}
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (uint32_t seat = 0; seat < SEATS; seat++)
		if (ground.workers[seat] > 0) {
			kill(ground.workers[seat], SIGKILL);
			waitpid(ground.workers[seat], NULL, 0);
		}
	roll_calls_free(ground.calls);
	loop_free(ground.loop);
	bells_close(&ground.bells);
	return munmap(ground.shm.header, ground.size);
}

static void on_done(struct roll_question *question)
{
	int *waits = question->arg;
	if (--*waits == 0)
		loop_stop(ground.loop);
}

static void ask(struct roll_question *question)
{
	int waits = 1;
	question->done = on_done;
	question->arg = &waits;
	roll_calls_ask(ground.calls, question);
	loop_run(ground.loop);
}

static void silence(uint32_t seat)
{
	ground.shm.seats[seat].state = SEAT_FREE;
}

static void test_all_connections(void **state)
{
	struct roll_question question = { .kind = ROLL_LIST, .limit = 100000 };
	(void)state;
	ask(&question);
	assert_int_equal(question.n, 2 * CONNECTIONS);
	assert_false(question.truncated);
	for (size_t i = 0; i < question.n; i++) { /* the oldest first, of both in turn */
		assert_int_equal(question.found[i].seat, i % 2);
		assert_int_equal(question.found[i].row.serial, i / 2 + 1);
	}
	assert_int_equal(question.n_silent, 1);
	assert_int_equal(question.silent[0], DEAF);
	roll_question_free(&question);
}

static void test_no_more_than_asked_for(void **state)
{
	struct roll_question question = { .kind = ROLL_LIST, .limit = 300 };
	(void)state;
	silence(DEAF);
	ask(&question);
	assert_int_equal(question.n, 300);
	assert_true(question.truncated);
	assert_int_equal(question.n_silent, 0);
	roll_question_free(&question);
	question.truncated = false;
	question.limit = 2 * CONNECTIONS;
	ask(&question);
	assert_int_equal(question.n, 2 * CONNECTIONS);
	assert_false(question.truncated);
	roll_question_free(&question);
}

static void test_filters(void **state)
{
	static const struct {
		const char *listener, *server, *client;
		size_t n;
	} rows[] = {
		{ "app", NULL, NULL, CONNECTIONS },
		{ "none", NULL, NULL, 0 },
		{ NULL, "a", NULL, 2 * (CONNECTIONS - 234) },
		{ NULL, "up/a", NULL, 2 * (CONNECTIONS - 234) },
		{ NULL, "up/b", NULL, 0 },
		{ NULL, "u", NULL, 0 },
		{ NULL, NULL, "10.0.1.0/24", CONNECTIONS },
		{ NULL, NULL, "10.0.0.5", 3 },
		{ NULL, NULL, "10.0.0.5:1000", 3 },
		{ NULL, NULL, "10.0.0.5:1001", 0 },
		{ NULL, NULL, "unix", 0 },
		{ "web", "a", "10.0.0.5", 2 },
	};
	char why[CIDR_WHY_SIZE];
	(void)state;
	silence(DEAF);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct roll_question question = {
			.kind = ROLL_LIST, .limit = 100000, .filter = { .listener = rows[i].listener, .server = rows[i].server }
		};
		if (rows[i].client) {
			question.filter.by_client = true;
			assert_int_equal(client_filter_parse(rows[i].client, &question.filter.client, why, sizeof why), 0);
		}
		ask(&question);
		if (question.n != rows[i].n)
			fail_msg("row %zu: %zu connections instead of %zu", i, question.n, rows[i].n);
		roll_question_free(&question);
	}
}

static void test_kill(void **state)
{
	static const struct {
		uint32_t seat, serial;
		bool killed;
		uint32_t silent;
	} rows[] = { { 0, 1, true, 0 }, { 1, CONNECTIONS, true, 0 }, { 1, CONNECTIONS + 1, false, 0 }, { DEAF, 1, false, 1 },
		{ UNUSED, 1, false, 0 }, { SEATS, 1, false, 0 }, { UINT32_MAX, UINT32_MAX, false, 0 } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct roll_question question = { .kind = ROLL_KILL, .seat = rows[i].seat, .serial = rows[i].serial };
		ask(&question);
		assert_int_equal(question.killed, rows[i].killed);
		assert_int_equal(question.n_silent, rows[i].silent);
		assert_int_equal(question.n, 0);
		roll_question_free(&question);
	}
}

/* Several questions wait for each other, one of them is withdrawn, and who dies in between is not waited for. */
static void test_questions_in_line(void **state)
{
	int waits = 3;
	struct roll_question questions[4];
	(void)state;
	silence(DEAF);
	for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
		questions[i] = (struct roll_question){ .kind = ROLL_LIST, .limit = 100000, .done = on_done, .arg = &waits };
		roll_calls_ask(ground.calls, &questions[i]);
	}
	roll_calls_forget(ground.calls, &questions[1]);
	loop_run(ground.loop);
	for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
		assert_int_equal(questions[i].n, i == 1 ? 0 : 2 * CONNECTIONS);
		roll_calls_forget(ground.calls, &questions[i]);
		roll_question_free(&questions[i]);
	}
	waits = 2;
	roll_calls_ask(ground.calls, &questions[0]);
	roll_calls_ask(ground.calls, &questions[1]);
	roll_calls_hurry(ground.calls);
	assert_int_equal(waits, 0);
	assert_true(questions[0].truncated && questions[1].truncated);
	roll_question_free(&questions[0]);
	roll_question_free(&questions[1]);
}

static void on_bury(struct loop_timer *timer)
{
	(void)timer;
	silence(DEAF);
}

static void test_who_dies_is_not_silent(void **state)
{
	struct roll_question question = { .kind = ROLL_LIST, .limit = 100000 };
	struct loop_timer bury;
	(void)state;
	loop_timer_init(&bury, on_bury);
	loop_timer_start(ground.loop, &bury, ROLL_PATIENCE_NS / 4);
	ask(&question);
	assert_int_equal(question.n, 2 * CONNECTIONS);
	assert_int_equal(question.n_silent, 0);
	roll_question_free(&question);
}

static void on_hurry(struct loop_timer *timer)
{
	(void)timer;
	roll_calls_hurry(ground.calls);
}

/* Who had no time to answer is not called silent. */
static void test_hurry_blames_nobody(void **state)
{
	struct roll_question question = { .kind = ROLL_LIST, .limit = 100000 };
	struct loop_timer hurry;
	(void)state;
	loop_timer_init(&hurry, on_hurry);
	loop_timer_start(ground.loop, &hurry, ROLL_PATIENCE_NS / 4);
	ask(&question);
	assert_true(question.truncated);
	assert_int_equal(question.n_silent, 0);
	roll_question_free(&question);
}

static void test_the_text(void **state)
{
	struct roll_question question = { .kind = ROLL_LIST, .limit = 1 };
	char *text = NULL;
	size_t size = 0;
	(void)state;
	question.filter.by_client = true;
	assert_int_equal(client_filter_parse("10.0.0.0/24", &question.filter.client, NULL, 0), 0);
	ask(&question);
	FILE *out = open_memstream(&text, &size);
	question.found[0].row.server = 0;
	roll_question_print(&question, &ground.shm, 5000000, out);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, "{\"connections\":[{\"id\":\"0.1\",\"client\":\"10.0.0.0:1000\",\"listener\":\"app\",\"protocol\":"
	                          "\"tcp\",\"upstream\":\"up\","
	                          "\"server\":\"a\",\"step\":\"relay\",\"age_ms\":5,\"idle_ms\":5,\"up_bytes\":0,\"down_bytes\":0}],"
	                          "\"truncated\":true,\"silent_workers\":[{\"slot\":2,\"generation\":0,\"pid\":4002}],"
	                          "\"elders\":[]}\n");
	free(text);
	roll_question_free(&question);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_all_connections),
		TEST(test_no_more_than_asked_for),
		TEST(test_filters),
		TEST(test_kill),
		TEST(test_questions_in_line),
		TEST(test_who_dies_is_not_silent),
		TEST(test_hurry_blames_nobody),
		TEST(test_the_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
