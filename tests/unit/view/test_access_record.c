#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/clock.h"
#include "view/access_record.h"

#define WHEN (UINT64_C(1767323045) * NS_PER_S + 678 * NS_PER_MS) /* 2026-01-02T03:04:05.678Z */

static struct access_record full_record(void)
{
	return (struct access_record){ .at_ns = 1,
		.duration_ns = 12004 * NS_PER_US,
		.connect_ns = 412 * NS_PER_US,
		.first_byte_ns = 1730 * NS_PER_US,
		.received_bytes = 120,
		.sent_bytes = UINT64_MAX,
		.client = { .bytes = { 192, 0, 2, 7 }, .port = 51234, .family = 4 },
		.serial = 18472,
		.waited_ms = 5,
		.phase = ACCESS_CLOSE,
		.reason = REASON_FINISHED };
}

/* By the client; NULL: nothing. */
static const char *asked_for, *agreed, *certified;
#define TEXTS                                                                                                    \
	{                                                                                                        \
		[ACCESS_TEXT_NAME] = asked_for, [ACCESS_TEXT_VERSION] = agreed, [ACCESS_TEXT_CLIENT] = certified \
	}

static const char *json(const struct access_record *record, const char *listener, const char *upstream, const char *server)
{
	static char bytes[ACCESS_LINE_SIZE];
	struct text text = text_of(bytes, sizeof bytes);
	access_record_add_json(&text, &(struct access_entry){ record, WHEN, 3, listener, upstream, server, TEXTS });
	assert_false(text.cut);
	return bytes;
}

static const char *plain(const struct access_record *record, const char *server, bool with_time)
{
	static char bytes[ACCESS_LINE_SIZE];
	struct text text = text_of(bytes, sizeof bytes);
	access_record_add_text(&text, &(struct access_entry){ record, WHEN, 3, "app", "web", server, TEXTS }, with_time);
	assert_false(text.cut);
	return bytes;
}

static void a_whole_record(void **state)
{
	(void)state;
	struct access_record record = full_record();
	assert_true(access_record_is_sound(&record));
	assert_string_equal(json(&record, "app", "web", "a"),
	        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"id\":\"3.18472\",\"phase\":\"close\",\"client\":\"192.0.2.7:51234\","
	        "\"listener\":\"app\",\"upstream\":\"web\",\"server\":\"a\",\"bytes_up\":120,\"bytes_down\":18446744073709551615,"
	        "\"waited_ms\":5,\"connect_ms\":0.412,\"first_byte_ms\":1.730,\"duration_ms\":12.004,\"reason\":\"finished\","
	        "\"closed_by\":\"client\"}");
	assert_string_equal(plain(&record, "a", true),
	        "2026-01-02T03:04:05.678Z 3.18472 close 192.0.2.7:51234 app web/a up=120 down=18446744073709551615 waited=5 "
	        "connect=0.412 first_byte=1.730 duration=12.004 finished client");
	assert_memory_equal(plain(&record, "a", false), "3.18472 close ", 14);
	record.server_first = 1;
	assert_non_null(strstr(json(&record, "app", "web", "a"), "\"closed_by\":\"server\"}"));
}

static void a_session_of_datagrams(void **state)
{
	(void)state;
	struct access_record record = full_record();
	record.is_udp = 1;
	record.received_datagrams = 3;
	record.sent_datagrams = UINT64_MAX;
	record.sent_bytes = 77;
	assert_non_null(strstr(json(&record, "app", "web", "a"),
	        "\"bytes_down\":77,\"datagrams_up\":3,\"datagrams_down\":18446744073709551615,\"waited_ms\":5,"));
	assert_non_null(strstr(
	        plain(&record, "a", true), " up=120 down=77 datagrams_up=3 datagrams_down=18446744073709551615 waited=5 connect=0.412 "));
}

static void what_there_is_none_of(void **state)
{
	(void)state;
	struct access_record record = full_record();
	record.connect_ns = record.first_byte_ns = ACCESS_NEVER;
	record.sent_bytes = 0;
	record.reason = REASON_DENIED;
	record.client = (struct record_address){ .family = 0 };
	assert_string_equal(json(&record, "app", "web", NULL),
	        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"id\":\"3.18472\",\"phase\":\"close\",\"client\":\"unix\","
	        "\"listener\":\"app\",\"upstream\":\"web\",\"server\":null,\"bytes_up\":120,\"bytes_down\":0,"
	        "\"waited_ms\":5,\"connect_ms\":null,\"first_byte_ms\":null,\"duration_ms\":12.004,\"reason\":\"denied\","
	        "\"closed_by\":\"aegis\"}");
	assert_string_equal(plain(&record, NULL, true),
	        "2026-01-02T03:04:05.678Z 3.18472 close unix app web/- up=120 down=0 waited=5 connect=- first_byte=- duration=12.004 "
	        "denied aegis");
}

static void those_that_last_have_no_reason(void **state)
{
	(void)state;
	struct access_record record = full_record();
	record.phase = ACCESS_OPEN;
	assert_non_null(strstr(json(&record, "app", "web", "a"), "\"phase\":\"open\""));
	assert_non_null(strstr(json(&record, "app", "web", "a"), "\"reason\":null,\"closed_by\":null}"));
	record.phase = ACCESS_INTERVAL;
	assert_non_null(strstr(json(&record, "app", "web", "a"), "\"phase\":\"interval\""));
	assert_non_null(strstr(plain(&record, "a", true), " duration=12.004 - -"));
}

static void clients_of_all_families(void **state)
{
	(void)state;
	struct access_record record = full_record();
	record.client = (struct record_address){ .bytes = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 }, .port = 443, .family = 6 };
	assert_non_null(strstr(json(&record, "app", "web", "a"), "\"client\":\"[2001:db8::1]:443\""));
	record.client.family = 99; /* shared memory may say anything */
	assert_non_null(strstr(json(&record, "app", "web", "a"), "\"client\":\"unix\""));
}

static void every_reason_says_who_closed(void **state)
{
	(void)state;
	for (unsigned reason = 0; reason < N_REASONS; reason++) {
		struct access_record record = full_record();
		char want[128];
		record.reason = (uint8_t)reason;
		snprintf(want, sizeof want, "\"reason\":\"%s\",\"closed_by\":\"%s\"}", reason_name(reason),
		        closer_name(reason_closer(reason, false)));
		assert_non_null(strstr(json(&record, "app", "web", "a"), want));
	}
}

/* Names come out of shared memory: whatever is in it, it stays one line and one object. */
static void names_cannot_forge_anything(void **state)
{
	(void)state;
	struct access_record record = full_record();
	const char *evil = "a\",\"reason\":\"x\n{\x1b[2J\xff \\";
	const char *line = json(&record, evil, evil, evil);
	assert_null(strchr(line, '\n'));
	assert_null(strchr(line, 0x1b));
	assert_null(strstr(line, "\"reason\":\"x"));
	assert_non_null(strstr(line, "\"server\":\"a\\\",\\\"reason\\\":\\\"x\\n{\\u001b[2J? \\\\\""));
	line = plain(&record, "b c\nd", true);
	assert_non_null(strstr(line, " web/b?c\\nd up=120 "));

	char longest[SHM_ADDRESS_SIZE];
	memset(longest, 1, sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	line = json(&record, longest, longest, longest); /* which asserts that nothing was cut */
	assert_int_equal(line[strlen(line) - 1], '}');
}

static void unsound_records_are_known(void **state)
{
	(void)state;
	struct access_record record = full_record();
	record.phase = N_ACCESS_PHASES;
	assert_false(access_record_is_sound(&record));
	record = full_record();
	record.reason = N_REASONS;
	assert_false(access_record_is_sound(&record));
}

static void a_name_that_was_asked_for(void **state)
{
	(void)state;
	struct access_record record = full_record();
	asked_for = "www.example.org";
	record.text_lengths[ACCESS_TEXT_NAME] = 15;
	assert_true(access_record_is_sound(&record));
	assert_non_null(strstr(json(&record, "app", "web", "a"), "\"server\":\"a\",\"sni\":\"www.example.org\",\"bytes_up\":120"));
	assert_non_null(strstr(plain(&record, "a", true), "duration=12.004 finished client sni=www.example.org"));
	asked_for = "a\"b c"; /* what shared memory holds may be anything */
	assert_non_null(strstr(json(&record, "app", "web", "a"), "\"sni\":\"a\\\"b c\""));
	assert_null(strstr(plain(&record, "a", true), "b c"));
	asked_for = NULL;
	record.text_lengths[ACCESS_TEXT_NAME] = ACCESS_TEXT_MOST + 1;
	assert_false(access_record_is_sound(&record));
}

static void what_was_agreed_on(void **state)
{
	(void)state;
	struct access_record record = full_record();
	record.tls_resumed = 1;
	agreed = "TLSv1.3";
	certified = "some body";
	assert_non_null(strstr(json(&record, "app", "web", "a"),
	        "\"server\":\"a\",\"tls_version\":\"TLSv1.3\",\"tls_client\":\"some body\",\"tls_resumed\":true,\"bytes_up\":120"));
	assert_non_null(strstr(plain(&record, "a", true), " finished client tls_version=TLSv1.3 tls_client=some?body tls_resumed=1"));
	agreed = certified = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_agreed_on),
		cmocka_unit_test(a_whole_record),
		cmocka_unit_test(a_session_of_datagrams),
		cmocka_unit_test(what_there_is_none_of),
		cmocka_unit_test(those_that_last_have_no_reason),
		cmocka_unit_test(clients_of_all_families),
		cmocka_unit_test(every_reason_says_who_closed),
		cmocka_unit_test(names_cannot_forge_anything),
		cmocka_unit_test(unsound_records_are_known),
		cmocka_unit_test(a_name_that_was_asked_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
