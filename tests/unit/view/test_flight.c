/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "config/config.h"
#include "segment.h"
#include "view/flight.h"
#include "view/flight_words.h"

/* Seats 0 and 1 have rings. The wall clock at SEGMENT_NOW_NS is 2026-01-02 03:04:05.678. */
#define NOW_UNIX_NS UINT64_C(1767323045678000000)

struct ground {
	struct shm shm;
	struct recorder recorders[2];
	char *text;
};

static int set_up(void **state)
{
	struct ground *ground = calloc(1, sizeof *ground);
	void *base = NULL;
	assert_non_null(ground);
	assert_int_equal(posix_memalign(&base, CACHE_LINE_BYTES, (size_t)shm_size_bytes(&segment_dims)), 0);
	memset(base, 0, (size_t)shm_size_bytes(&segment_dims));
	shm_init(&ground->shm, base, &segment_dims);
	segment_fill(&ground->shm);
	for (uint32_t seat = 0; seat < 2; seat++)
		recorder_begin(&ground->recorders[seat], &ground->shm.recorder_heads[seat], shm_recorder_ring(&ground->shm, seat), 4096);
	*state = ground;
	return 0;
}

static int tear_down(void **state)
{
	struct ground *ground = *state;
	free(ground->text);
	free(ground->shm.header);
	free(ground);
	return 0;
}

static void write_one(struct ground *ground, uint32_t seat, uint32_t serial, uint64_t age_ms, struct record record)
{
	record.serial = serial;
	record.time_ns = SEGMENT_NOW_NS - age_ms * NS_PER_MS;
	recorder_write(&ground->recorders[seat], &record);
}

static const struct record_address client = { .family = 4, .bytes = { 192, 0, 2, 7 }, .port = 5678 };

static void write_accepted(struct ground *ground, uint32_t seat, uint32_t serial, uint64_t age_ms)
{
	write_one(ground, seat, serial, age_ms, (struct record){ .kind = RECORD_ACCEPTED, .row = 0, .client = client });
}

static void write_closed(struct ground *ground, uint32_t seat, uint32_t serial, uint64_t age_ms, enum reason reason)
{
	write_one(ground, seat, serial, age_ms,
	        (struct record){ .kind = RECORD_CLOSED,
	                .detail = (uint8_t)reason,
	                .number = CLOSER_SERVER | STEP_RELAY << 8,
	                .closed = { .client = client, .lived_ms = 2000, .up_bytes = 11, .down_bytes = 22 } });
}

static const char *explain(struct ground *ground, const char *address, uint32_t most)
{
	struct flight_question question = { .address = address, .most = most, .now_ns = SEGMENT_NOW_NS, .now_unix_ns = NOW_UNIX_NS };
	char why[CIDR_WHY_SIZE];
	size_t size;
	assert_int_equal(client_filter_parse(address, &question.client, why, sizeof why), 0);
	free(ground->text);
	FILE *out = open_memstream(&ground->text, &size);
	assert_int_equal(flight_explain(&ground->shm, &question, out), 0);
	assert_int_equal(fclose(out), 0);
	return ground->text;
}

static void test_a_whole_connection(void **state)
{
	struct ground *ground = *state;
	const struct record chosen = { .kind = RECORD_CHOSEN,
		.row = 0,
		.choice = { .balance = BALANCE_P2C, .n_servers = 3, .n_usable = 2, .weight = 100, .load = 12, .refused = 1 } };
	write_accepted(ground, 1, 42, 1000);
	write_one(ground, 1, 42, 999, chosen);
	write_one(ground, 1, 43, 999, (struct record){ .kind = RECORD_FIRST_BYTE }); /* of another one */
	write_one(ground, 1, 42, 998, (struct record){ .kind = RECORD_CONNECTED, .dial.attempt = 1 });
	write_closed(ground, 1, 42, 900, REASON_SERVER_RESET);
	assert_string_equal(explain(ground, "192.0.2.7", 10),
	        "{\"address\":\"192.0.2.7\",\"connections\":[{\"id\":\"1.42\",\"client\":\"192.0.2.7:5678\",\"listener\":\"app\","
	        "\"began\":\"2026-01-02T03:04:04.678Z\",\"ended\":\"2026-01-02T03:04:04.778Z\",\"reason\":\"server_reset\",\"steps\":["
	        "{\"at_ms\":0.000000,\"step\":\"accepted\",\"text\":\"accepted by listener app\"},"
	        "{\"at_ms\":1.000000,\"step\":\"server chosen\",\"text\":\"server a of upstream app by p2c: 2 of 3 servers usable, weight "
	        "100, "
	        "12 connections with this one; passed over: 1 refused by its breaker\"},"
	        "{\"at_ms\":2.000000,\"step\":\"connected\",\"text\":\"connected to server a, after 1.0 ms\"},"
	        "{\"at_ms\":100.000000,\"step\":\"closed\",\"text\":\"server_reset: the server reset the connection; closed by server in "
	        "step "
	        "relay, 11 bytes from the client, 22 from the server\"}]}],\"elders\":[]}\n");
}

/* The client is the one that was told of, and it is found by both addresses. */
static void test_told_of_by_a_proxy(void **state)
{
	struct ground *ground = *state;
	static const char *const addresses[] = { "192.0.2.7", "198.51.100.1" };
	const struct record_address told = { .family = 4, .bytes = { 198, 51, 100, 1 }, .port = 9 };
	write_accepted(ground, 1, 42, 1000);
	write_one(ground, 1, 42, 999, (struct record){ .kind = RECORD_INTRODUCED, .detail = 2, .number = 1, .client = told });
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		explain(ground, addresses[i], 10);
		assert_non_null(strstr(ground->text, "\"id\":\"1.42\",\"client\":\"198.51.100.1:9\",\"listener\":\"app\""));
		assert_non_null(strstr(ground->text, "\"step\":\"accepted\""));
		assert_non_null(strstr(ground->text, "\"text\":\"a proxy (PROXY protocol, version 2) speaks for 198.51.100.1:9\""));
	}
}

static void test_newest_first_and_no_more_than_asked_for(void **state)
{
	struct ground *ground = *state;
	for (uint32_t i = 0; i < 6; i++)
		write_accepted(ground, i % 2, 100 + i, 1000 - i);
	explain(ground, "192.0.2.7:5678", 3);
	const char *fifth = strstr(ground->text, "\"1.105\""), *fourth = strstr(ground->text, "\"0.104\"");
	assert_non_null(fifth);
	assert_non_null(fourth);
	assert_true(fifth < fourth && fourth < strstr(ground->text, "\"1.103\""));
	assert_null(strstr(ground->text, "102"));
	assert_non_null(strstr(ground->text, "\"ended\":null,\"reason\":null"));
	assert_string_equal(explain(ground, "192.0.2.7:5679", 3), "{\"address\":\"192.0.2.7:5679\",\"connections\":[],\"elders\":[]}\n");
	assert_string_equal(explain(ground, "unix", 3), "{\"address\":\"unix\",\"connections\":[],\"elders\":[]}\n");
}

/* The beginning was overwritten: the end says who it was, and since when. */
static void test_only_the_end_is_known(void **state)
{
	struct ground *ground = *state;
	write_closed(ground, 0, 9, 500, REASON_FINISHED);
	explain(ground, "192.0.2.0/24", 10);
	assert_non_null(strstr(
	        ground->text, "\"began\":\"2026-01-02T03:04:03.178Z\",\"ended\":\"2026-01-02T03:04:05.178Z\",\"reason\":\"finished\""));
	assert_non_null(strstr(ground->text, "\"at_ms\":2000.000000,\"step\":\"closed\""));
}

/* One that is open, as its worker says it, is there even where nothing of it is left; where its beginning is, that is told. */
static void test_open_ones_are_never_forgotten(void **state)
{
	struct ground *ground = *state;
	struct roll_found open[] = { { .seat = 0, .row = { .serial = 7, .client = client, .accepted_ns = SEGMENT_NOW_NS - 3 * NS_PER_S } },
		{ .seat = 1, .row = { .serial = 8, .client = client, .accepted_ns = SEGMENT_NOW_NS - NS_PER_S } },
		{ .seat = 1, .row = { .serial = 9, .client = client, .accepted_ns = SEGMENT_NOW_NS - 2 * NS_PER_S } },
		{ .seat = 1, .row = { .serial = 10, .accepted_ns = SEGMENT_NOW_NS } } };
	struct flight_question question = { .address = "a", .most = 3, .now_ns = SEGMENT_NOW_NS, .now_unix_ns = NOW_UNIX_NS };
	size_t size;
	assert_int_equal(client_filter_parse("192.0.2.7", &question.client, NULL, 0), 0);
	question.open = open;
	question.n_open = ARRAY_LEN(open);
	write_accepted(ground, 1, 8, 1000);
	write_one(ground, 1, 9, 1500, (struct record){ .kind = RECORD_FIRST_BYTE });
	free(ground->text);
	FILE *out = open_memstream(&ground->text, &size);
	assert_int_equal(flight_explain(&ground->shm, &question, out), 0);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(ground->text,
	        "{\"address\":\"a\",\"connections\":["
	        "{\"id\":\"1.8\",\"client\":\"192.0.2.7:5678\",\"listener\":\"app\",\"began\":\"2026-01-02T03:04:04.678Z\",\"ended\":null,"
	        "\"reason\":null,\"steps\":[{\"at_ms\":0.000000,\"step\":\"accepted\",\"text\":\"accepted by listener app\"}]},"
	        "{\"id\":\"1.9\",\"client\":\"192.0.2.7:5678\",\"listener\":\"app\",\"began\":\"2026-01-02T03:04:03.678Z\",\"ended\":null,"
	        "\"reason\":null,\"steps\":[{\"at_ms\":0.000000,\"step\":\"forgotten\",\"text\":\"open since 2026-01-02T03:04:03.678Z; its "
	        "beginning is no longer remembered\"},{\"at_ms\":500.000000,\"step\":\"first byte\",\"text\":\"the first byte of server "
	        "a\"}]},"
	        "{\"id\":\"0.7\",\"client\":\"192.0.2.7:5678\",\"listener\":\"app\",\"began\":\"2026-01-02T03:04:02.678Z\",\"ended\":null,"
	        "\"reason\":null,\"steps\":[{\"at_ms\":0.000000,\"step\":\"forgotten\",\"text\":\"open since 2026-01-02T03:04:02.678Z; its "
	        "beginning is no longer remembered\"}]}],\"elders\":[]}\n");
	question.most = 1;
	free(ground->text);
	out = open_memstream(&ground->text, &size);
	assert_int_equal(flight_explain(&ground->shm, &question, out), 0);
	assert_int_equal(fclose(out), 0);
	assert_non_null(strstr(ground->text, "\"1.8\""));
	assert_null(strstr(ground->text, "\"1.9\""));
	write_closed(ground, 0, 7, 0, REASON_FINISHED); /* since it was asked */
	assert_non_null(strstr(explain(ground, "192.0.2.7", 9), "\"reason\":\"finished\""));
	question.most = 3;
	free(ground->text);
	out = open_memstream(&ground->text, &size);
	assert_int_equal(flight_explain(&ground->shm, &question, out), 0);
	assert_int_equal(fclose(out), 0);
	assert_non_null(strstr(ground->text, "\"reason\":\"finished\""));
}

static void test_the_worker_died(void **state)
{
	struct ground *ground = *state;
	write_accepted(ground, 0, 1, 900);
	write_closed(ground, 0, 1, 890, REASON_FINISHED);
	write_accepted(ground, 0, 2, 880);
	write_one(ground, 0, 0, 800, (struct record){ .kind = RECORD_WORKER_ENDED, .worker.pid = 4711 });
	write_one(ground, 0, 0, 700, (struct record){ .kind = RECORD_WORKER_BEGAN, .worker.pid = 4712 });
	write_accepted(ground, 0, 3, 600);
	write_accepted(ground, 1, 2, 600);
	explain(ground, "192.0.2.7", 10);
	const char *second = strstr(ground->text, "\"0.2\"");
	assert_non_null(second);
	const char *first = strstr(second, "\"0.1\"");
	assert_non_null(first);
	assert_non_null(strstr(second, "\"reason\":\"worker_died\""));
	assert_true(strstr(second, "\"text\":\"its worker (pid 4711) died;") < first);
	assert_null(strstr(first, "worker_died"));
	assert_null(strstr(ground->text, "4712"));
	assert_true(strstr(ground->text, "\"ended\":null") < second); /* the two of later workers go on */
}

/* Whatever stands in the rings: it ends, stays inside, and is JSON of bounded size. */
static void test_hostile_records(void **state)
{
	struct ground *ground = *state;
	uint64_t random = 88172645463325252U;
	segment_make_hostile(&ground->shm);
	for (int i = 0; i < 20000; i++) {
		struct record record;
		uint64_t words[sizeof record / sizeof random];
		for (size_t j = 0; j < ARRAY_LEN(words); j++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			words[j] = random;
		}
		memcpy(&record, words, sizeof record);
		record.kind %= N_RECORD_KINDS;
		record.serial %= 8;
		if (random % 3 == 0)
			record.client = client;
		recorder_write(&ground->recorders[random % 2], &record);
		if (i % 500 == 0) {
			explain(ground, "192.0.2.7", 5);
			assert_true(strlen(ground->text) < 200000);
			assert_null(strpbrk(ground->text, "\x01\x1b\r\t"));
		}
	}
}

static void test_every_kind_has_words(void **state)
{
	struct ground *ground = *state;
	for (unsigned kind = RECORD_NONE + 1; kind < N_RECORD_KINDS; kind++) {
		const struct record record = { .kind = (uint8_t)kind };
		char words[512];
		struct text text = text_of(words, sizeof words);
		flight_words(&ground->shm, &record, 0, &text);
		assert_true(text.length > 10 && !text.cut);
	}
}

static const char *words_of(struct ground *ground, struct record record)
{
	static char words[512];
	struct text text = text_of(words, sizeof words);
	flight_words(&ground->shm, &record, 1500000, &text);
	return words;
}

static void test_words(void **state)
{
	struct ground *ground = *state;
	assert_string_equal(words_of(ground, (struct record){ .kind = RECORD_DENIED,
	                                             .detail = 2,
	                                             .number = 3,
	                                             .denied.range = { .family = 4, .bits = 8, .bytes = { 10 } } }),
	        "refused: in the range 10.0.0.0/8 (number 4) of deny of listener app");
	assert_string_equal(words_of(ground, (struct record){ .kind = RECORD_DENIED }),
	        "refused: listener app lets in who is in its allow only, and this address is in none of its ranges");
	assert_string_equal(
	        words_of(ground,
	                (struct record){ .kind = RECORD_RATE_LIMITED, .detail = RATE_LIMIT_PER_ADDRESS, .number = 10, .rate.burst = 5 }),
	        "refused: rate_limit of listener app is 10 new connections a second (and 5 at once) for each address");
	assert_string_equal(words_of(ground, (struct record){ .kind = RECORD_FULL, .detail = RECORD_LIMIT_ALL, .full = { 7, 7 } }),
	        "refused: max_connections of all listeners together reached: 7 of 7");
	assert_string_equal(
	        words_of(ground, (struct record){ .kind = RECORD_NOT_CHOSEN,
	                                 .detail = WANT_SERVER,
	                                 .number = 0,
	                                 .choice = { .unusable = { [USABILITY_DOWN] = 2, [USABILITY_EJECTED] = UINT8_MAX }, .tried = 1 } }),
	        "no server of upstream db can be used: 2 down, 255 or more ejected; 1 failed for this client before");
	assert_string_equal(
	        words_of(ground, (struct record){ .kind = RECORD_CONNECT_FAILED,
	                                 .row = 0,
	                                 .dial = { .to = client, .error = ECONNREFUSED, .attempt = 1, .attempts = 3, .last = 0 } }),
	        "cannot connect to server a (192.0.2.7:5678): Connection refused; attempt 1 of 3, another server is tried, after 1.5 ms");
	assert_string_equal(words_of(ground, (struct record){ .kind = RECORD_FIRST_BYTE, .row = 60000 }), "the first byte of server ?");
	assert_string_equal(words_of(ground, (struct record){ .kind = RECORD_ROUTED, .detail = 1, .route = { .name = "www.example.org" } }),
	        "asks for www.example.org: upstream db, by a route of listener app");
	assert_string_equal(words_of(ground, (struct record){ .kind = RECORD_ROUTED, .route = { .flags = 0 } }),
	        "asks for no name: upstream db, for which there is no route in listener app");
	assert_string_equal(words_of(ground, (struct record){ .kind = RECORD_ROUTED,
	                                             .number = UINT32_MAX,
	                                             .route = { .name = "a\n\"b", .flags = RECORD_ROUTE_ECH | RECORD_ROUTE_CUT } }),
	        "asks for a??b..., and for another one that is encrypted (ECH): there is no route for it in listener app");
}

static void test_ids(void **state)
{
	static const char *const bad[] = { "", ".", "1", "1.", ".1", "1.2.3", "1.2 ", " 1.2", "-1.2", "1.4294967296",
		"99999999999999999999.1", "a.b", "1.2a" };
	uint32_t seat, serial;
	char text[NAMING_SIZE];
	(void)state;
	assert_true(naming_parse_connection("3.18472", &seat, &serial));
	assert_int_equal(seat, 3);
	assert_int_equal(serial, 18472);
	assert_string_equal(naming_connection(3, UINT32_MAX, text, sizeof text), "3.4294967295");
	assert_true(naming_parse_connection(text, &seat, &serial));
	assert_int_equal(serial, UINT32_MAX);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(naming_parse_connection(bad[i], &seat, &serial));
}

static void test_which_clients(void **state)
{
	static const struct {
		const char *text;
		int error;
		bool has;
	} rows[] = { { "192.0.2.7", 0, true }, { "192.0.2.7:5678", 0, true }, { "192.0.2.7:1", 0, false }, { "192.0.2.8", 0, false },
		{ "192.0.0.0/16", 0, true }, { "all", 0, true }, { "::1", 0, false }, { "[::1]:5678", 0, false }, { "unix", 0, false },
		{ "::ffff:192.0.2.7", 0, true }, { "", -EINVAL, false }, { "localhost", -EINVAL, false },
		{ "localhost:80", -EINVAL, false }, { "192.0.2.7:", -EINVAL, false }, { "192.0.2.7:99999", -EINVAL, false },
		{ "unix:/x", -EINVAL, false }, { "fd:3", -EINVAL, false }, { "[", -EINVAL, false }, { "192.0.2.7/8", -EINVAL, false } };
	const struct record_address nobody = { .family = 0 };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct client_filter filter;
		char why[CIDR_WHY_SIZE] = "";
		int error = client_filter_parse(rows[i].text, &filter, why, sizeof why);
		if (error != rows[i].error)
			fail_msg("%s: %d (%s)", rows[i].text, error, why);
		if (error) {
			assert_true(strlen(why) > 0);
			continue;
		}
		if (client_filter_has(&filter, &client) != rows[i].has)
			fail_msg("%s has the client: %d", rows[i].text, !rows[i].has);
		assert_int_equal(client_filter_has(&filter, &nobody), strcmp(rows[i].text, "unix") == 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_whole_connection),
		TEST(test_told_of_by_a_proxy),
		TEST(test_newest_first_and_no_more_than_asked_for),
		TEST(test_only_the_end_is_known),
		TEST(test_open_ones_are_never_forgotten),
		TEST(test_the_worker_died),
		TEST(test_hostile_records),
		TEST(test_every_kind_has_words),
		TEST(test_words),
		TEST(test_ids),
		TEST(test_which_clients),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
