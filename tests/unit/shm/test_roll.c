/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* clang-format on */

#include <string.h>

#include "fleet.h"
#include "shm/roll.h"

struct ground {
	struct roll_box box;
	struct roll_row rows[ROLL_ROWS];
	struct fleet fleet;
};

static struct ground *ground;

static int set_up(void **state)
{
	(void)state;
	ground = fleet_map(sizeof *ground);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return munmap(ground, sizeof *ground);
}

static bool answer_to(uint64_t number, enum roll_state *said, struct roll_row *rows, uint32_t *n)
{
	return roll_is_answered(&ground->box, ground->rows, number, said, rows, n);
}

static void test_question_and_answer(void **state)
{
	const struct roll_request request = { .number = 77, .series = 70, .kind = ROLL_KILL, .serial = 4711 };
	struct roll_row rows[ROLL_ROWS];
	struct roll_request heard;
	enum roll_state said;
	uint32_t n;
	(void)state;
	assert_false(roll_is_asked(&ground->box, &heard));
	roll_ask(&ground->box, &request);
	assert_false(answer_to(77, &said, rows, &n));
	assert_true(roll_is_asked(&ground->box, &heard));
	assert_int_equal(heard.number, 77);
	assert_int_equal(heard.series, 70);
	assert_int_equal(heard.kind, ROLL_KILL);
	assert_int_equal(heard.serial, 4711);
	ground->rows[1].serial = 5;
	roll_answer(&ground->box, &heard, ROLL_MORE, 2);
	assert_false(roll_is_asked(&ground->box, &heard));
	assert_false(answer_to(76, &said, rows, &n)); /* of somebody else */
	assert_true(answer_to(77, &said, rows, &n));
	assert_int_equal(said, ROLL_MORE);
	assert_int_equal(n, 2);
	assert_int_equal(rows[1].serial, 5);
}

static void test_nobody_believes_the_other(void **state)
{
	struct roll_row rows[ROLL_ROWS];
	struct roll_request heard;
	enum roll_state said;
	uint32_t n;
	(void)state;
	ground->box.asked = 5;
	ground->box.kind = 99;
	assert_true(roll_is_asked(&ground->box, &heard));
	assert_int_equal(heard.kind, ROLL_LIST);
	ground->box.answered = 5;
	ground->box.state = UINT32_MAX;
	ground->box.n = UINT32_MAX;
	assert_true(answer_to(5, &said, rows, &n));
	assert_int_equal(said, ROLL_LOST);
	assert_int_equal(n, ROLL_ROWS);
}

/* A worker that answers each question with rows that follow from its number, and is killed now and then. */
static void turn_answer(uint32_t me, uint64_t random)
{
	struct roll_request request;
	(void)me;
	(void)random;
	if (!roll_is_asked(&ground->box, &request))
		return;
	uint32_t n = (uint32_t)(request.number % (ROLL_ROWS + 1));
	for (uint32_t i = 0; i < n; i++)
		ground->rows[i] = (struct roll_row){ .serial = i, .accepted_ns = request.number, .down_bytes = request.number * i };
	roll_answer(&ground->box, &request, ROLL_END, n);
}

static void test_over_processes(void **state)
{
	static struct roll_row rows[ROLL_ROWS];
	pid_t worker = fleet_start(&ground->fleet, 0, 1, turn_answer);
	(void)state;
	for (uint64_t number = 1; number < 2000; number++) {
		const struct roll_request request = { .number = number, .series = number };
		enum roll_state said;
		uint32_t n;
		roll_ask(&ground->box, &request);
		if (number % 50 == 0) { /* at any moment: the next one answers */
			fleet_kill(worker);
			worker = fleet_start(&ground->fleet, 0, number, turn_answer);
		}
		while (!answer_to(number, &said, rows, &n))
			sched_yield();
		assert_int_equal(n, number % (ROLL_ROWS + 1));
		for (uint32_t i = 0; i < n; i++) {
			assert_int_equal(rows[i].serial, i);
			assert_int_equal(rows[i].accepted_ns, number);
			assert_int_equal(rows[i].down_bytes, number * i);
		}
	}
	fleet_kill(worker);
}

static void test_names_of_steps(void **state)
{
	(void)state;
	assert_string_equal(step_name(STEP_LINE), "wait");
	assert_string_equal(step_name(STEP_RELAY), "relay");
	assert_string_equal(step_name((enum step)99), "unknown");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_question_and_answer),
		TEST(test_nobody_believes_the_other),
		TEST(test_over_processes),
		TEST(test_names_of_steps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
