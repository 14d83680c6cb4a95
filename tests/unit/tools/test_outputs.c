#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <regex.h>
#include <string.h>

#include "base/clock.h"
#include "os/region.h"
#include "segment.h"
#include "tools/stat.h"

static struct shm shm;

static int setup(void **state)
{
	(void)state;
	void *base;
	assert_int_equal(region_reserve(shm_size_bytes(&segment_dims), &base), 0);
	shm_init(&shm, base, &segment_dims);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	region_close(shm.header, shm_size_bytes(&segment_dims));
	return 0;
}

typedef void print_fn(const struct snapshot *snapshot, FILE *out);

/* What an output says of the segment as it is now; the caller frees it. */
static char *print(print_fn *fn)
{
	struct snapshot *snapshot;
	char *text = NULL;
	size_t size;
	assert_int_equal(snapshot_make(&shm, SEGMENT_NOW_NS, &snapshot), 0);
	FILE *out = open_memstream(&text, &size);
	assert_non_null(out);
	fn(snapshot, out);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(strlen(text), size);
	snapshot_free(snapshot);
	return text;
}

static void check_contains(const char *text, const char *wanted)
{
	if (strstr(text, wanted) == NULL)
		fail_msg("this is missing:\n%s\nin:\n%s", wanted, text);
}

static void check_lacks(const char *text, const char *unwanted)
{
	if (strstr(text, unwanted) != NULL)
		fail_msg("this should not be there:\n%s\nin:\n%s", unwanted, text);
}

/* --- -l ----------------------------------------------------------------------------------------------------------------- */

static void check_line(const struct snapshot *before, const struct snapshot *now, uint64_t elapsed_ns, const char *expected)
{
	char line[256] = "";
	FILE *out = fmemopen(line, sizeof line, "w");
	assert_non_null(out);
	stat_print_line(before, now, elapsed_ns, out);
	fclose(out);
	assert_string_equal(line, expected);
}

static void test_line(void **state)
{
	(void)state;
	static struct snapshot before, now;
	before.totals.received_bytes = UINT64_C(9000000000);
	now.active = 234;
	now.totals.closes[REASON_INTERNAL] = 12;
	now.totals.closes[REASON_FULL] = 2;
	now.totals.closes[REASON_LISTENER_FULL] = 3;
	now.totals.received_bytes = UINT64_C(9306250000);
	now.totals.sent_bytes = UINT64_C(6363750000);
	/* 6.67 GB more; the rate is over the time that really passed. */
	check_line(&before, &now, UINT64_C(21779592000), "     234 active |     12 err |      5 rej |    2.45 Gbps |     15.67 GB total\n");
	check_line(&before, &now, 2 * UINT64_C(21779592000),
	        "     234 active |     12 err |      5 rej |    1.22 Gbps |     15.67 GB total\n");
	/* Nothing to compare with, or no time: no rate. */
	check_line(NULL, &now, NS_PER_S, "     234 active |     12 err |      5 rej |    0.00 Gbps |     15.67 GB total\n");
	check_line(&before, &now, 0, "     234 active |     12 err |      5 rej |    0.00 Gbps |     15.67 GB total\n");
	/* Another instance, which starts at zero. */
	now.started_ns = 5;
	check_line(&before, &now, NS_PER_S, "     234 active |     12 err |      5 rej |  125.36 Gbps |     15.67 GB total\n");
}

static void test_line_keeps_its_form_when_numbers_are_large(void **state)
{
	(void)state;
	static struct snapshot before, now;
	now.active = UINT32_MAX;
	now.totals.closes[REASON_INTERNAL] = UINT64_MAX;
	now.totals.closes[REASON_FULL] = UINT64_MAX;
	now.totals.sent_bytes = UINT64_MAX;
	char line[256] = "";
	FILE *out = fmemopen(line, sizeof line, "w");
	assert_non_null(out);
	stat_print_line(&before, &now, 1, out);
	fclose(out);
	regex_t form;
	static const char pattern[] =
	        "^ *[0-9]+ active \\| +[0-9]+ err \\| +[0-9]+ rej \\| +[0-9]+\\.[0-9][0-9] Gbps \\| +[0-9]+\\.[0-9][0-9] GB total\n$";
	assert_int_equal(regcomp(&form, pattern, REG_EXTENDED | REG_NOSUB), 0);
	assert_int_equal(regexec(&form, line, 0, NULL, 0), 0);
	regfree(&form);
}

/* --- -j ----------------------------------------------------------------------------------------------------------------- */

#define NO_LATENCY                                                                       \
	"\"latency\":{\"connect\":{\"count\":0,\"p50_ms\":0.000000,\"p95_ms\":0.000000," \
	"\"p99_ms\":0.000000},\"first_byte\":{\"count\":0,\"p50_ms\":0.000000,"          \
	"\"p95_ms\":0.000000,\"p99_ms\":0.000000},\"connection\":{\"count\":0,"          \
	"\"p50_ms\":0.000000,\"p95_ms\":0.000000,\"p99_ms\":0.000000}}"

static void test_json_of_an_empty_instance(void **state)
{
	(void)state;
	char *text = print(stat_print_json);
	assert_string_equal(text,
	        "{\"version\":\"" PACKAGE_VERSION "\",\"pid\":0,\"state\":\"starting\",\"generation\":0,\"uptime_seconds\":5000.500,"
	        "\"engine\":\"\",\"config_file\":\"\",\"connections\":{\"active\":0,\"max\":0,\"total\":0,\"rejected\":0,\"errors\":0},"
	        "\"bytes\":{\"received\":0,\"sent\":0}," NO_LATENCY ",\"reloads\":{\"ok\":0,\"failed\":0,\"last_unix\":0,"
	        "\"last_ok\":false,\"last_note\":\"\"},\"worker_restarts\":0,\"control_restarts\":0,\"rate_evictions\":0,\"rate_unbooked\":"
	        "0,"
	        "\"affinity_evictions\":0,\"workers\":[],\"listeners\":[],\"upstreams\":[]}\n");
	free(text);
}

static void test_json(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = print(stat_print_json);
	check_contains(text,
	        "{\"version\":\"1.2.3\",\"pid\":100,\"state\":\"running\",\"generation\":3,\"uptime_seconds\":3723.500,\"engine\":"
	        "\"epoll\","
	        "\"config_file\":\"/etc/aegis/aegis.conf\",\"connections\":{\"active\":34,\"max\":100000,\"total\":621,\"rejected\":21,"
	        "\"errors\":15},\"bytes\":{\"received\":6000000210,\"sent\":24000000000},");
	/* 1.5 ms is in the bucket from 1.310720 to 1.572864 ms. */
	check_contains(text, "\"latency\":{\"connect\":{\"count\":6,\"p50_ms\":1.441792,\"p95_ms\":1.441792,\"p99_ms\":1.441792},");
	check_contains(text,
	        "\"reloads\":{\"ok\":2,\"failed\":1,\"last_unix\":1700000000,\"last_ok\":true,\"last_note\":\"1 server added\"},"
	        "\"worker_restarts\":4,\"control_restarts\":0,\"rate_evictions\":11,\"rate_unbooked\":12,\"affinity_evictions\":13,");
	check_contains(text,
	        "\"workers\":[{\"slot\":0,\"pid\":200,\"generation\":2,\"state\":\"draining\",\"cpu\":0,\"connections\":10,\"accepts\":"
	        "1000,"
	        "\"accept_pauses\":1,\"buffer_exhausted\":2,\"log_dropped\":3,\"loop_lag_ms\":1.000000},{\"slot\":0,\"pid\":201,"
	        "\"generation\":3,\"state\":\"running\",\"cpu\":-1,\"connections\":11,\"accepts\":1000,\"accept_pauses\":1,"
	        "\"buffer_exhausted\":2,\"log_dropped\":3,\"loop_lag_ms\":2.000000}],");
	check_contains(text,
	        "\"listeners\":[{\"name\":\"app\",\"address\":\"127.0.0.1:8080\",\"upstream\":\"app\",\"active\":30,\"max\":40,\"total\":"
	        "600,"
	        "\"rejected\":18,\"errors\":12,\"received\":6000000000,\"sent\":24000000000,\"retries\":6,\"queued\":9,\"closes\":{"
	        "\"finished\":480,");
	check_contains(text,
	        "\"upstreams\":[{\"name\":\"app\",\"waiting\":3,\"queue_max\":100,\"epoch\":7,\"servers\":[{\"name\":\"a\","
	        "\"address\":\"10.0.0.1:80\",\"addresses\":[],\"active\":5,\"hot\":3,\"max\":10,\"soft_limit\":8,\"weight\":100,\"backup\":"
	        "false,"
	        "\"disabled\":false,\"state\":\"up\",\"usable\":true,\"weight_now\":100,\"override\":\"none\",\"health\":{"
	        "\"checked\":true,\"state\":\"up\",\"result\":\"ok\",\"detail\":0,\"latency_ms\":1.200000,\"checked_seconds_ago\":"
	        "3.000,\"changed_seconds_ago\":3.000,\"passed\":5,\"failed\":0},\"breaker\":{\"state\":\"closed\",\"trips\":2},"
	        "\"ejected\":false,\"ejected_for_seconds\":0.000,\"ejections\":1,\"recovered_seconds_ago\":null,\"total\":300,"
	        "\"failures\":0,\"sent\":6000,\"received\":12000,\"pool\":{\"hits\":18,\"misses\":0,\"kept\":0,\"pinned\":0,"
	        "\"stale\":0,\"stale_retries\":0}},{\"name\":\"b\",\"address\":\"10.0.0.2:80\",\"addresses\":[],\"active\":7,\"hot\":3,"
	        "\"max\":0,"
	        "\"soft_limit\":0,\"weight\":102,\"backup\":true,\"disabled\":true,\"state\":\"disabled\",\"usable\":false,"
	        "\"weight_now\":102,\"override\":\"none\",\"health\":{\"checked\":false,\"state\":\"unknown\",\"result\":"
	        "\"not checked\",\"detail\":0,\"latency_ms\":0.000000,\"checked_seconds_ago\":null,\"changed_seconds_ago\":null,"
	        "\"passed\":0,\"failed\":4},");
	check_contains(text, "]},{\"name\":\"db\",\"waiting\":0,\"queue_max\":0,\"epoch\":0,\"servers\":[{\"name\":\"10.0.0.9:5432\",");
	check_contains(text,
	        "\"state\":\"unknown\",\"usable\":true,\"weight_now\":101,\"override\":\"none\",\"health\":{\"checked\":false,"
	        "\"state\":\"unknown\",\"result\":\"not checked\",\"detail\":0,\"latency_ms\":0.000000,\"checked_seconds_ago\":null,"
	        "\"changed_seconds_ago\":null,\"passed\":0,\"failed\":0},");
	check_contains(text, "\"stale_retries\":0}}]}]}\n");
	for (unsigned i = 0; i < N_REASONS; i++) {
		char key[64];
		snprintf(key, sizeof key, "\"%s\":", reason_name(i));
		check_contains(text, key);
	}
	/* Gone from the settings. */
	check_lacks(text, "\"old\"");
	check_lacks(text, "\"gone\"");
	free(text);
}

/* --- -p ----------------------------------------------------------------------------------------------------------------- */

static void test_prometheus(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = print(stat_print_prometheus);
	static const char *const wanted[] = {
		"# HELP aegis_build_info ",
		"\n# TYPE aegis_build_info gauge\naegis_build_info{version=\"1.2.3\",engine=\"epoll\"} 1\n",
		"\naegis_state{state=\"running\"} 1\n",
		"\naegis_state{state=\"draining\"} 0\n",
		"\naegis_uptime_seconds 3723.500000000\n",
		"\naegis_workers{state=\"running\"} 1\n",
		"\naegis_workers{state=\"draining\"} 1\n",
		"\naegis_connections_active 34\n",
		"\naegis_connections_max 100000\n",
		"\naegis_listener_connections_active{listener=\"app\"} 30\n",
		"\naegis_server_connections_active{upstream=\"app\",server=\"b\"} 7\n",
		"\n# TYPE aegis_connections_total counter\naegis_connections_total{listener=\"app\"} 600\n",
		/* What is gone keeps its counters, or sums would fall. */
		"\naegis_connections_total{listener=\"old\"} 21\n",
		"\naegis_server_connections_total{upstream=\"app\",server=\"gone\"} 300\n",
		"\naegis_server_connections_max{upstream=\"app\",server=\"a\"} 10\n",
		"\naegis_server_soft_limit{upstream=\"app\",server=\"a\"} 8\n",
		"\naegis_server_weight_now{upstream=\"app\",server=\"a\"} 100\n",
		"\naegis_server_usable{upstream=\"app\",server=\"a\"} 1\naegis_server_usable{upstream=\"app\",server=\"b\"} 0\n",
		/* Nothing of the one that nobody checks: neither 0 nor 1 would be true. */
		"\n# TYPE aegis_server_up gauge\naegis_server_up{upstream=\"app\",server=\"a\"} 1\n"
		"# HELP ",
		"\naegis_server_check_seconds{upstream=\"app\",server=\"a\"} 0.001200000\n# HELP ",
		"\naegis_server_breaker_state{upstream=\"app\",server=\"a\"} 0\n",
		"\naegis_server_ejected{upstream=\"app\",server=\"a\"} 0\n",
		"\n# TYPE aegis_server_checks_total counter\n"
		"aegis_server_checks_total{upstream=\"app\",server=\"a\",result=\"passed\"} 5\n"
		"aegis_server_checks_total{upstream=\"app\",server=\"a\",result=\"failed\"} 0\n"
		"aegis_server_checks_total{upstream=\"app\",server=\"b\",result=\"passed\"} 0\n"
		"aegis_server_checks_total{upstream=\"app\",server=\"b\",result=\"failed\"} 4\n",
		"\naegis_server_breaker_trips_total{upstream=\"app\",server=\"a\"} 2\n",
		"\naegis_server_breaker_trips_total{upstream=\"app\",server=\"gone\"} 0\n",
		"\naegis_server_ejections_total{upstream=\"app\",server=\"a\"} 1\n",
		"\n# TYPE aegis_queue_waiting gauge\naegis_queue_waiting{upstream=\"db\"} 0\naegis_queue_waiting{upstream=\"app\"} 3\n",
		"\naegis_queue_max{upstream=\"app\"} 100\n",
		"\naegis_queue_waits_total{listener=\"app\"} 9\n",
		"\n# TYPE aegis_rate_evictions_total counter\naegis_rate_evictions_total 11\n",
		"\naegis_rate_unbooked_total 12\n",
		"\naegis_affinity_evictions_total 13\n",
		"\naegis_connections_rejected_total{listener=\"app\",reason=\"listener_full\"} 18\n",
		"\naegis_errors_total{reason=\"connect_refused\"} 12\n",
		"\naegis_errors_total{reason=\"internal\"} 3\n",
		"\naegis_closes_total{listener=\"app\",reason=\"finished\"} 480\n",
		/* Both workers of slot 0, whatever their generation, and the one that slot 1 had. */
		"\naegis_worker_accepts_total{worker=\"0\"} 2001\naegis_worker_accepts_total{worker=\"1\"} 1002\n",
		"\naegis_worker_loop_lag_seconds{worker=\"0\"} 0.002000000\n",
		"\n# HELP aegis_reloads_total result=\"ok\": Reloads that took effect. result=\"failed\": Reloads that were refused; the "
		"running settings stayed\n# TYPE aegis_reloads_total counter\naegis_reloads_total{result=\"ok\"} 2\n"
		"aegis_reloads_total{result=\"failed\"} 1\n",
		"\naegis_worker_restarts_total 4\n",
		"\n# TYPE aegis_connect_seconds histogram\naegis_connect_seconds_bucket{listener=\"app\",le=\"0.000001024\"} 0\n",
		"\naegis_connect_seconds_bucket{listener=\"app\",le=\"0.001048576\"} 0\n"
		"aegis_connect_seconds_bucket{listener=\"app\",le=\"0.002097152\"} 6\n",
		"\naegis_connect_seconds_bucket{listener=\"app\",le=\"68.719476736\"} "
		"6\naegis_connect_seconds_bucket{listener=\"app\",le=\"+Inf\"} 6\n"
		"aegis_connect_seconds_sum{listener=\"app\"} 0.009000000\naegis_connect_seconds_count{listener=\"app\"} 6\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		check_contains(text, wanted[i]);
	free(text);
}

/* Each family is announced once, before its samples. */
static void test_prometheus_announces_once(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = print(stat_print_prometheus), *rest = text;
	for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
		if (strncmp(line, "# HELP ", 7) != 0)
			continue;
		char start[128];
		snprintf(start, sizeof start, "%.*s ", (int)strcspn(line + 7, " ") + 7, line);
		for (char *later = rest; later != NULL && *later != '\0'; later += strcspn(later, "\n") + 1)
			assert_false(strncmp(later, start, strlen(start)) == 0);
	}
	free(text);
}

static void test_a_bucket_holds_what_it_says(void **state)
{
	(void)state;
	segment_fill(&shm);
	struct listener_row *row = shm_listener_row(&shm, 0, 1);
	histogram_record(&row->duration, 0);
	histogram_record(&row->duration, 1023);
	histogram_record(&row->duration, 1024);
	histogram_record(&row->duration, UINT64_C(1) << 36);
	histogram_record(&row->duration, (UINT64_C(1) << 36) - 1);
	char *text = print(stat_print_prometheus);
	check_contains(text, "aegis_connection_seconds_bucket{listener=\"db\",le=\"0.000001024\"} 2\n"
	                     "aegis_connection_seconds_bucket{listener=\"db\",le=\"0.000002048\"} 3\n");
	check_contains(text, "aegis_connection_seconds_bucket{listener=\"db\",le=\"34.359738368\"} 3\n"
	                     "aegis_connection_seconds_bucket{listener=\"db\",le=\"68.719476736\"} 4\n"
	                     "aegis_connection_seconds_bucket{listener=\"db\",le=\"+Inf\"} 5\n");
	free(text);
}

/* --- hostile names ------------------------------------------------------------------------------------------------------ */

static void test_hostile_names(void **state)
{
	(void)state;
	segment_fill(&shm);
	segment_make_hostile(&shm);
	static print_fn *const outputs[] = { stat_print_tables, stat_print_json, stat_print_prometheus };
	for (size_t i = 0; i < ARRAY_LEN(outputs); i++) {
		char *text = print(outputs[i]);
		check_lacks(text, "\033");
		check_lacks(text, "\xff");
		check_lacks(text, "c\nd");
		free(text);
	}
	char *text = print(stat_print_prometheus);
	check_contains(text, "\naegis_connections_total{listener=\"a\\\"b\\\\c\\\\nd{}\\\\u001b[2J?\"} 600\n");
	free(text);
	text = print(stat_print_json);
	check_contains(text, "\"state\":\"unknown\"");
	check_contains(text, "\"name\":\"a\\\"b\\\\c\\\\nd{}\\\\u001b[2J?\"");
	free(text);
	text = print(stat_print_tables);
	check_contains(text, ", unknown, generation 3,");
	check_contains(text, "\na\"b\\c\\nd{}\\u001b[2J?  ");
	free(text);
}

/* --- tables ------------------------------------------------------------------------------------------------------------- */

static void test_tables(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = print(stat_print_tables);
	static const char *const wanted[] = {
		"Aegis 1.2.3, running, generation 3, up 1.0 h, pid 100, engine epoll\n"
		"settings: /etc/aegis/aegis.conf; reloads: 2 ok, 1 failed; workers replaced: 4\n"
		"last reload at 2023-11-14T22:13:20Z: ok; 1 server added\n",
		"\nconnections  34 active of at most 100000, 621 in total, 21 rejected, 15 errors\n"
		"bytes        6.0 GB from clients, 24.0 GB to clients\n",
		"\nLATENCY               COUNT     P50     P95     P99\nconnect to server         6  1.4 ms  1.4 ms  1.4 ms\n"
		"first byte of server      0       -       -       -\n",
		"\nWORKER  PID  GEN  STATE     CPU  ACTIVE  ACCEPTS  PAUSES  NO BUFFER  LOOP LAG\n"
		"     0  200    2  draining    0      10     1000       1          2    1.0 ms\n"
		"     0  201    3  running   any      11     1000       1          2    2.0 ms\n",
		"\nLISTENER  ADDRESS         UPSTREAM  ACTIVE  TOTAL  REJ  ERR  RECEIVED     SENT\n"
		"app       127.0.0.1:8080  app        30/40    600   18   12    6.0 GB  24.0 GB\n"
		"db        [::1]:5432      db             4      0    0    0       0 B      0 B\n",
		"\nUPSTREAM  SERVER         STATE     ADDRESS          WEIGHT  ACTIVE  HOT  MAX  TOTAL  FAILED    SENT  RECEIVED\n"
		"app       a              up        10.0.0.1:80         100       5    3   10    300       0  6.0 kB   12.0 kB\n"
		"          b              disabled  10.0.0.2:80  backup 102       7    3    -    300       6  6.0 kB   12.0 kB\n"
		"db        10.0.0.9:5432  -                      backup 101       6    3    -    300       3  6.0 kB   12.0 kB\n",
		"\nUPSTREAM  SERVER  LAST CHECK    TOOK    AGO  PASSED  FAILED  TRIPS  EJECTIONS\n"
		"app       a       ok          1.2 ms  3.0 s       5       0      2          1\n\nQUEUE OF",
		"\nQUEUE OF  WAITING\napp         3/100\n",
		"\nENDED BECAUSE    COUNT  MEANING\nfinished           480  both sides closed\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		check_contains(text, wanted[i]);
	check_lacks(text, "old");
	check_lacks(text, "gone");
	check_lacks(text, "no_ports");
	free(text);
}

static void test_addresses_of_a_name(void **state)
{
	(void)state;
	segment_fill(&shm);
	struct addr addrs[2];
	struct sockaddr_in first = { .sin_family = AF_INET, .sin_port = htons(80), .sin_addr = { htonl(0x0a000007) } };
	struct sockaddr_in6 second = { .sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	addr_from_sockaddr(&addrs[0], (const struct sockaddr *)&first, sizeof first);
	addr_from_sockaddr(&addrs[1], (const struct sockaddr *)&second, sizeof second);
	addresses_publish(&shm.servers[0].addresses, addrs, 2);
	char *text = print(stat_print_json);
	check_contains(text, "\"name\":\"a\",\"address\":\"10.0.0.1:80\",\"addresses\":[\"10.0.0.7:80\",\"[::1]:80\"],\"active\":5,");
	free(text);
	/* Its writer died while writing. */
	shm.servers[0].addresses.sequence++;
	text = print(stat_print_json);
	check_contains(text, "\"name\":\"a\",\"address\":\"10.0.0.1:80\",\"addresses\":[],\"active\":5,");
	free(text);
}

/* What an operator looks for when something is wrong. */
static void test_servers_in_trouble(void **state)
{
	(void)state;
	segment_fill(&shm);
	struct condition *second = &shm.servers[2].condition, *first = &shm.servers[0].condition;
	const struct health_limits limits = { .rise = 2, .fall = 3 };
	shm.servers[2].flags = SHM_SERVER_BACKUP;
	char *text = print(stat_print_tables);
	check_contains(text, "\n          b              down   10.0.0.2:80  backup 102       7 ");
	check_contains(text, "\nUPSTREAM  SERVER  LAST CHECK                       TOOK     AGO  PASSED  FAILED  TRIPS  EJECTIONS\n"
	                     "app       a       ok                             1.2 ms   3.0 s       5       0      2          1\n"
	                     "app       b       status not as expected (503)  40.0 ms  500 ms       0       4      0          0\n");
	free(text);
	text = print(stat_print_json);
	check_contains(text, "\"state\":\"down\",\"usable\":false,\"weight_now\":102,\"override\":\"none\",\"health\":{\"checked\":true,"
	                     "\"state\":\"down\",\"result\":\"status not as expected\",\"detail\":503,\"latency_ms\":40.000000,"
	                     "\"checked_seconds_ago\":0.500,\"changed_seconds_ago\":0.500,\"passed\":0,\"failed\":4}");
	free(text);
	text = print(stat_print_prometheus);
	check_contains(
	        text, "\naegis_server_up{upstream=\"app\",server=\"a\"} 1\naegis_server_up{upstream=\"app\",server=\"b\"} 0\n# HELP ");
	check_contains(text, "\naegis_server_usable{upstream=\"app\",server=\"b\"} 0\n");
	free(text);

	/* 12 s after it came back, of 20: 10 % + 90 % * 12 / 20. */
	shm.upstreams[1].slow_start_ns = 20 * NS_PER_S;
	first->recovered_ns = SEGMENT_NOW_NS - 12 * NS_PER_S;
	health_note(&second->health, &limits,
	        &(struct health_check){ .result = HEALTH_RESULT_UNREACHABLE, .detail = EHOSTUNREACH, .latency_ns = NS_PER_S },
	        SEGMENT_NOW_NS - 4 * NS_PER_S);
	shm.header->control_restarts = 2;
	text = print(stat_print_tables);
	check_contains(text, "; workers replaced: 4; control processes replaced: 2\n");
	check_contains(text, "\napp       a              slow start 64 %  10.0.0.1:80      64/100       5 ");
	check_contains(text, "\napp       b       unreachable (No route to host)   1.0 s  4.0 s       0       5 ");
	free(text);
}

static void test_tables_of_an_empty_instance(void **state)
{
	(void)state;
	char *text = print(stat_print_tables);
	check_contains(text, "settings: command line; reloads: 0 ok, 0 failed; workers replaced: 0\n\nconnections  0 active, 0 in total,");
	check_contains(text, "no connection has ended yet\n");
	check_lacks(text, "LAST CHECK");
	check_lacks(text, "QUEUE OF");
	free(text);
}

/* --- the reference ------------------------------------------------------------------------------------------------------ */

static void test_reference_names_everything(void **state)
{
	(void)state;
	char *text = NULL, row[256];
	size_t size;
	FILE *out = open_memstream(&text, &size);
	assert_non_null(out);
	stat_print_reference(out);
	assert_int_equal(fclose(out), 0);
#define X(field, metric, help) check_contains(text, "| `aegis_" metric "` | ");
	WORKER_COUNTERS(X)
	LISTENER_COUNTERS(X)
	SERVER_COUNTERS(X)
	LISTENER_HISTOGRAMS(X)
	MASTER_COUNTERS(X)
#undef X
	/* What dashboards ask for and no counter declares. */
	static const char *const gauges[] = { "connections_active", "server_connections_active", "server_connections_max", "server_up",
		"server_usable", "server_breaker_state", "server_breaker_trips_total", "server_ejected", "server_ejections_total",
		"server_checks_total", "queue_waiting", "queue_max", "build_info", "worker_loop_lag_seconds", "errors_total" };
	for (size_t i = 0; i < ARRAY_LEN(gauges); i++) {
		snprintf(row, sizeof row, "| `aegis_%s` | ", gauges[i]);
		check_contains(text, row);
	}
	for (unsigned i = 0; i < N_REASONS; i++) {
		snprintf(row, sizeof row, "| `%s` | ", reason_name(i));
		check_contains(text, row);
	}
	free(text);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		EACH(test_line),
		EACH(test_line_keeps_its_form_when_numbers_are_large),
		EACH(test_json_of_an_empty_instance),
		EACH(test_json),
		EACH(test_prometheus),
		EACH(test_prometheus_announces_once),
		EACH(test_a_bucket_holds_what_it_says),
		EACH(test_hostile_names),
		EACH(test_tables),
		EACH(test_addresses_of_a_name),
		EACH(test_servers_in_trouble),
		EACH(test_tables_of_an_empty_instance),
		EACH(test_reference_names_everything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
