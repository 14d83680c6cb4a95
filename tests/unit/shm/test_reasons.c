/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <string.h>

#include "base/attr.h"
#include "shm/reasons.h"

static void test_every_reason_has_its_own_words(void **state)
{
	(void)state;
	for (int i = 0; i < N_REASONS; i++) {
		const char *name = reason_name((enum reason)i);
		assert_true(strlen(name) > 0);
		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name)); /* a metric label and a JSON key */
		assert_true(strlen(reason_text((enum reason)i)) > strlen("too short"));
		for (int j = 0; j < i; j++) {
			assert_string_not_equal(name, reason_name((enum reason)j));
			assert_string_not_equal(reason_text((enum reason)i), reason_text((enum reason)j));
		}
	}
}

static void test_classes(void **state)
{
	(void)state;
	assert_int_equal(reason_class(REASON_FINISHED), REASON_DONE);
	assert_int_equal(reason_class(REASON_LISTENER_FULL), REASON_REJECTED);
	assert_int_equal(reason_class(REASON_CONNECT_REFUSED), REASON_ERROR);
	assert_int_equal(reason_class(REASON_DRAIN_TIMEOUT), REASON_OPERATOR);
	assert_string_equal(reason_name(REASON_CONNECT_REFUSED), "connect_refused");
}

static void test_who_closed(void **state)
{
	(void)state;
	assert_int_equal(reason_closer(REASON_FINISHED, false), CLOSER_CLIENT);
	assert_int_equal(reason_closer(REASON_FINISHED, true), CLOSER_SERVER);
	assert_int_equal(reason_closer(REASON_CLIENT_RESET, true), CLOSER_CLIENT);
	assert_int_equal(reason_closer(REASON_CLIENT_LOST, true), CLOSER_CLIENT);
	assert_int_equal(reason_closer(REASON_CLIENT_GAVE_UP, true), CLOSER_CLIENT);
	assert_int_equal(reason_closer(REASON_SERVER_RESET, false), CLOSER_SERVER);
	assert_int_equal(reason_closer(REASON_SERVER_LOST, false), CLOSER_SERVER);
	assert_int_equal(reason_closer(REASON_KILLED, false), CLOSER_OPERATOR);
	assert_int_equal(reason_closer(REASON_DRAIN_PACED, false), CLOSER_OPERATOR);
	assert_int_equal(reason_closer(REASON_IDLE_TIMEOUT, true), CLOSER_AEGIS);
	assert_int_equal(reason_closer(REASON_DENIED, false), CLOSER_AEGIS);
	assert_int_equal(reason_closer(REASON_WORKER_DIED, false), CLOSER_AEGIS);
	assert_string_equal(closer_name(CLOSER_OPERATOR), "operator");
	assert_string_equal(closer_name((enum closer)4711), "unknown");
}

static void test_what_is_no_reason(void **state)
{
	(void)state;
	assert_string_equal(reason_name(N_REASONS), "unknown");
	assert_string_equal(reason_text((enum reason)4711), "unknown");
	assert_int_equal(reason_class(N_REASONS), REASON_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_reason_has_its_own_words),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_who_closed),
		cmocka_unit_test(test_what_is_no_reason),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
