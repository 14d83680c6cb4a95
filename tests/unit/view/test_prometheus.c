#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/clock.h"
#include "printed.h"
#include "view/prometheus.h"

static void test_prometheus(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = printed_by(prometheus_print);
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
		"\naegis_certificate_expiry_seconds{listener=\"db\",name=\"db.example.org\"} 1800000000\n# HELP",
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

static void test_datagrams_are_those_of_listeners_that_take_them(void **state)
{
	(void)state;
	segment_fill(&shm);
	segment_add_datagrams(&shm);
	char *text = printed_by(prometheus_print);
	check_contains(text, "\n# TYPE aegis_udp_sessions_active gauge\naegis_udp_sessions_active 4\n");
	check_contains(text, "\n# TYPE aegis_udp_datagrams_total counter\n"
	                     "aegis_udp_datagrams_total{direction=\"from_client\",listener=\"db\"} 3003\n"
	                     "aegis_udp_datagrams_total{direction=\"to_server\",listener=\"db\"} 2970\n");
	check_contains(text, "\naegis_udp_drops_total{reason=\"server_queue_full\",listener=\"db\"} 3\n");
	check_lacks(text, "aegis_udp_drops_total{reason=\"refused\",listener=\"app\"}");
	free(text);
}

/* Each family is announced once, before its samples. */
static void test_prometheus_announces_once(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = printed_by(prometheus_print), *rest = text;
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
	char *text = printed_by(prometheus_print);
	check_contains(text, "aegis_connection_seconds_bucket{listener=\"db\",le=\"0.000001024\"} 2\n"
	                     "aegis_connection_seconds_bucket{listener=\"db\",le=\"0.000002048\"} 3\n");
	check_contains(text, "aegis_connection_seconds_bucket{listener=\"db\",le=\"34.359738368\"} 3\n"
	                     "aegis_connection_seconds_bucket{listener=\"db\",le=\"68.719476736\"} 4\n"
	                     "aegis_connection_seconds_bucket{listener=\"db\",le=\"+Inf\"} 5\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(test_prometheus),
		EACH(test_datagrams_are_those_of_listeners_that_take_them),
		EACH(test_prometheus_announces_once),
		EACH(test_a_bucket_holds_what_it_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
