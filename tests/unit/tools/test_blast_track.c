#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tools/blast_track.h"

enum { SIZE = 4 };

struct room {
	uint64_t entries[SIZE];
	struct track track;
};

static void begin(struct room *room)
{
	memset(room, 0xff, sizeof *room);
	track_init(&room->track, room->entries, SIZE);
}

/* What an answer is; `sent` and `reordered` are what must be told of it, or 0 where nothing may be told. */
static void expect(struct room *room, uint64_t sequence, enum track_answer answer, uint64_t sent, bool reordered)
{
	uint64_t sent_ns = 0;
	bool out_of_order = false;
	assert_int_equal(track_receive(&room->track, sequence, &sent_ns, &out_of_order), answer);
	assert_int_equal(sent_ns, sent);
	assert_int_equal(out_of_order, reordered);
}

static void expect_given_up(struct room *room, uint64_t before_ns, uint64_t sequence, uint64_t sent)
{
	uint64_t found = 0, sent_ns = 0;
	assert_true(track_give_up(&room->track, before_ns, &found, &sent_ns));
	assert_int_equal(found, sequence);
	assert_int_equal(sent_ns, sent);
}

static void expect_none_given_up(struct room *room, uint64_t before_ns)
{
	uint64_t sequence, sent_ns;
	assert_false(track_give_up(&room->track, before_ns, &sequence, &sent_ns));
}

static void test_answers_in_order_make_room(void **state)
{
	(void)state;
	struct room room;
	begin(&room);
	for (uint64_t i = 0; i < 3 * SIZE; i++) {
		assert_int_equal(track_room(&room.track), SIZE);
		assert_int_equal(track_send(&room.track, 100 + i), i);
		assert_int_equal(room.track.awaited, 1);
		assert_int_equal(track_room(&room.track), SIZE - 1);
		expect(&room, i, TRACK_ANSWERED, 100 + i, false);
		assert_int_equal(room.track.awaited, 0);
	}
}

static void test_the_oldest_one_holds_the_room(void **state)
{
	(void)state;
	struct room room;
	begin(&room);
	for (uint64_t i = 0; i < SIZE; i++)
		(void)track_send(&room.track, 10 + i);
	assert_int_equal(track_room(&room.track), 0);
	expect(&room, 1, TRACK_ANSWERED, 11, false);
	expect(&room, 3, TRACK_ANSWERED, 13, false);
	assert_int_equal(track_room(&room.track), 0);
	expect(&room, 0, TRACK_ANSWERED, 10, true);
	assert_int_equal(track_room(&room.track), 2);
	expect(&room, 2, TRACK_ANSWERED, 12, true);
	assert_int_equal(track_room(&room.track), SIZE);
}

static void test_late_duplicate_stale_and_unsent(void **state)
{
	(void)state;
	struct room room;
	begin(&room);
	expect(&room, 0, TRACK_UNSENT, 0, false);
	(void)track_send(&room.track, 10);
	(void)track_send(&room.track, 20);
	expect_none_given_up(&room, 9);
	expect_given_up(&room, 10, 0, 10);
	expect_none_given_up(&room, 19);
	assert_int_equal(room.track.awaited, 1);
	expect(&room, 0, TRACK_LATE, 10, false);
	expect(&room, 0, TRACK_DUPLICATE, 0, false);
	assert_int_equal(room.track.awaited, 1);
	expect(&room, 1, TRACK_ANSWERED, 20, false);
	expect(&room, 1, TRACK_DUPLICATE, 0, false);
	expect_none_given_up(&room, UINT64_MAX);
	expect(&room, 2, TRACK_UNSENT, 0, false);
	for (uint64_t i = 0; i < SIZE; i++) {
		(void)track_send(&room.track, 30);
		expect_given_up(&room, UINT64_MAX, 2 + i, 30);
	}
	expect(&room, 1, TRACK_STALE, 0, false);
	expect(&room, 2, TRACK_LATE, 30, false);
}

static void test_what_was_given_up_in_between_does_not_hold_the_room(void **state)
{
	(void)state;
	struct room room;
	begin(&room);
	for (uint64_t i = 0; i < 3; i++)
		(void)track_send(&room.track, i);
	expect(&room, 1, TRACK_ANSWERED, 1, false);
	expect_given_up(&room, 5, 0, 0);
	assert_int_equal(track_room(&room.track), 3);
	expect_given_up(&room, 5, 2, 2);
	expect_none_given_up(&room, UINT64_MAX);
	assert_int_equal(track_room(&room.track), SIZE);
}

static void test_one_way_needs_no_room(void **state)
{
	(void)state;
	struct room room;
	begin(&room);
	for (uint64_t i = 0; i < 3 * SIZE; i++)
		assert_int_equal(track_send_one_way(&room.track), i);
	assert_int_equal(track_room(&room.track), SIZE);
	expect_none_given_up(&room, UINT64_MAX);
	expect(&room, 3 * SIZE - 1, TRACK_DUPLICATE, 0, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers_in_order_make_room),
		cmocka_unit_test(test_the_oldest_one_holds_the_room),
		cmocka_unit_test(test_late_duplicate_stale_and_unsent),
		cmocka_unit_test(test_what_was_given_up_in_between_does_not_hold_the_room),
		cmocka_unit_test(test_one_way_needs_no_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
