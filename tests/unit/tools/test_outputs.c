#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <regex.h>

#include "../view/printed.h"
#include "base/clock.h"
#include "tools/stat.h"
#include "view/document.h"
#include "view/prometheus.h"

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

/* --- hostile names ------------------------------------------------------------------------------------------------------ */

static void test_hostile_names(void **state)
{
	(void)state;
	segment_fill(&shm);
	segment_make_hostile(&shm);
	static print_fn *const outputs[] = { stat_print_tables, document_print, prometheus_print };
	for (size_t i = 0; i < ARRAY_LEN(outputs); i++) {
		char *text = printed_by(outputs[i]);
		check_lacks(text, "\033");
		check_lacks(text, "\xff");
		check_lacks(text, "c\nd");
		free(text);
	}
	char *text = printed_by(prometheus_print);
	check_contains(text, "\naegis_connections_total{listener=\"a\\\"b\\\\c\\\\nd{}\\\\u001b[2J?\"} 600\n");
	free(text);
	text = printed_by(document_print);
	check_contains(text, "\"state\":\"unknown\"");
	check_contains(text, "\"name\":\"a\\\"b\\\\c\\\\nd{}\\\\u001b[2J?\"");
	free(text);
	text = printed_by(stat_print_tables);
	check_contains(text, ", unknown, generation 3,");
	check_contains(text, "\na\"b\\c\\nd{}\\u001b[2J?  ");
	free(text);
}

/* --- tables ------------------------------------------------------------------------------------------------------------- */

static void test_tables(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = printed_by(stat_print_tables);
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

/* Only where there are any. */
static void test_tables_of_datagrams(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = printed_by(stat_print_tables);
	check_lacks(text, "atagrams");
	check_lacks(text, "DATAGRAMS");
	free(text);
	segment_add_datagrams(&shm);
	text = printed_by(stat_print_tables);
	check_contains(text, "15 errors\ndatagrams    4 sessions, 3003 from clients, 1497 to clients, 24 dropped\nbytes ");
	check_contains(text, "\nDATAGRAMS OF  FROM CLIENTS  TO SERVERS  FROM SERVERS  TO CLIENTS  DROPPED\n"
	                     "db                    3003        2970          1500        1497       24\n");
	check_contains(text, "\nDROPPED BECAUSE    COUNT  MEANING\n"
	                     "refused               21  Datagrams whose session was refused, which is counted with its reason\n"
	                     "server_queue_full      3  Datagrams of servers that came faster than they were read (udp.buffer)\n");
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
	char *text = printed_by(stat_print_tables);
	check_contains(text, "\n          b              down   10.0.0.2:80  backup 102       7 ");
	check_contains(text, "\nUPSTREAM  SERVER  LAST CHECK                       TOOK     AGO  PASSED  FAILED  TRIPS  EJECTIONS\n"
	                     "app       a       ok                             1.2 ms   3.0 s       5       0      2          1\n"
	                     "app       b       status not as expected (503)  40.0 ms  500 ms       0       4      0          0\n");
	free(text);
	text = printed_by(document_print);
	check_contains(text,
	        "\"state\":\"down\",\"usable\":false,\"weight_now\":102,\"override\":\"none\",\"health\":{\"checked\":true,"
	        "\"state\":\"down\",\"result\":\"status not as expected\",\"detail\":503,\"why\":\"503\",\"latency_ms\":40.000000,"
	        "\"checked_seconds_ago\":0.500,\"changed_seconds_ago\":0.500,\"passed\":0,\"failed\":4}");
	free(text);
	text = printed_by(prometheus_print);
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
	text = printed_by(stat_print_tables);
	check_contains(text, "; workers replaced: 4; control processes replaced: 2\n");
	check_contains(text, "\napp       a              slow start 64 %  10.0.0.1:80      64/100       5 ");
	check_contains(text, "\napp       b       unreachable (No route to host)   1.0 s  4.0 s       0       5 ");
	free(text);
}

static void test_tables_of_an_empty_instance(void **state)
{
	(void)state;
	char *text = printed_by(stat_print_tables);
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
		"server_checks_total", "queue_waiting", "queue_max", "build_info", "worker_loop_lag_seconds", "errors_total",
		"udp_sessions_active" };
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
	const struct CMUnitTest tests[] = {
		EACH(test_line),
		EACH(test_line_keeps_its_form_when_numbers_are_large),
		EACH(test_hostile_names),
		EACH(test_tables),
		EACH(test_tables_of_datagrams),
		EACH(test_servers_in_trouble),
		EACH(test_tables_of_an_empty_instance),
		EACH(test_reference_names_everything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
