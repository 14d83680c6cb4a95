#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>

#include "base/clock.h"
#include "printed.h"
#include "view/document.h"

#define NONE "{\"count\":0,\"p50_ms\":0.000000,\"p95_ms\":0.000000,\"p99_ms\":0.000000"
#define NO_LATENCY                                                                                                                         \
	"\"latency\":{\"connect\":" NONE ",\"buckets\":[]},\"first_byte\":" NONE ",\"buckets\":[]},\"connection\":" NONE ",\"buckets\":[]" \
	"}}"

#define NO_DATAGRAMS                                                                                                     \
	"\"datagrams\":{\"from_client\":0,\"to_server\":0,\"from_server\":0,\"to_client\":0},"                           \
	"\"moves\":{\"handed_over\":0,\"taken_over\":0,\"recovered\":0,\"unlisted\":0,\"unanswered\":0,\"returned\":0}," \
	"\"drops\":{\"refused\":0,"                                                                                      \
	"\"table_full\":0,\"stopping\":0,\"unreachable\":0,\"too_large\":0,\"send_queue_full\":0,\"worker_died\":0,"     \
	"\"hand_over_full\":0,\"client_queue_full\":0,"                                                                  \
	"\"server_queue_full\":0}"

static void test_json_of_an_empty_instance(void **state)
{
	(void)state;
	char *text = printed_by(document_print);
	assert_string_equal(text,
	        "{\"version\":\"" PACKAGE_VERSION "\",\"pid\":0,\"state\":\"starting\",\"generation\":0,\"uptime_seconds\":5000.500,"
	        "\"engine\":\"\",\"config_file\":\"\",\"connections\":{\"active\":0,\"max\":0,\"total\":0,\"rejected\":0,\"errors\":0},"
	        "\"bytes\":{\"received\":0,\"sent\":0},\"udp\":{\"sessions\":0," NO_DATAGRAMS "}," NO_LATENCY
	        ",\"reloads\":{\"ok\":0,\"failed\":0,\"last_unix\":0,"
	        "\"last_ok\":false,\"last_note\":\"\"},\"upgrades\":{\"ok\":0,\"failed\":0},\"worker_restarts\":0,\"control_restarts\":0,"
	        "\"rate_evictions\":0,\"rate_unbooked\":0,"
	        "\"affinity_evictions\":0,\"workers\":[],\"listeners\":[],\"upstreams\":[],\"certificates\":[]}\n");
	free(text);
}

static void test_json(void **state)
{
	(void)state;
	segment_fill(&shm);
	char *text = printed_by(document_print);
	check_contains(text,
	        "{\"version\":\"1.2.3\",\"pid\":100,\"state\":\"running\",\"generation\":3,\"uptime_seconds\":3723.500,\"engine\":"
	        "\"epoll\","
	        "\"config_file\":\"/etc/aegis/aegis.conf\",\"connections\":{\"active\":34,\"max\":100000,\"total\":621,\"rejected\":21,"
	        "\"errors\":15},\"bytes\":{\"received\":6000000210,\"sent\":24000000000},");
	/* 1.5 ms is in the bucket from 1.310720 to 1.572864 ms. */
	check_contains(text, "\"latency\":{\"connect\":{\"count\":6,\"p50_ms\":1.441792,\"p95_ms\":1.441792,\"p99_ms\":1.441792,"
	                     "\"buckets\":[[1.441792,6]]},");
	check_contains(text,
	        "\"reloads\":{\"ok\":2,\"failed\":1,\"last_unix\":1700000000,\"last_ok\":true,\"last_note\":\"1 server added\"},"
	        "\"upgrades\":{\"ok\":0,\"failed\":0},\"worker_restarts\":4,\"control_restarts\":0,\"rate_evictions\":11,\"rate_unbooked\":"
	        "12,\"affinity_evictions\":13,");
	check_contains(text, "\"workers\":[{\"slot\":0,\"pid\":200,\"generation\":2,\"state\":\"draining\",\"cpu\":0,\"connections\":10,"
	                     "\"udp_sessions\":0,\"accepts\":"
	                     "1000,"
	                     "\"accept_pauses\":1,\"buffer_exhausted\":2,\"log_dropped\":3,\"access_log_dropped\":4,\"loop_lag_ms\":1."
	                     "000000},{\"slot\":0,\"pid\":201,"
	                     "\"generation\":3,\"state\":\"running\",\"cpu\":-1,\"connections\":11,\"udp_sessions\":0,\"accepts\":1000,"
	                     "\"accept_pauses\":1,"
	                     "\"buffer_exhausted\":2,\"log_dropped\":3,\"access_log_dropped\":4,\"loop_lag_ms\":2.000000}],");
	check_contains(text,
	        "\"listeners\":[{\"name\":\"app\",\"address\":\"127.0.0.1:8080\",\"protocol\":\"tcp\",\"upstream\":\"app\",\"active\":30,"
	        "\"max\":40,\"total\":"
	        "600,"
	        "\"rejected\":18,\"errors\":12,\"received\":6000000000,\"sent\":24000000000,\"retries\":6,\"queued\":9,\"closes\":{"
	        "\"finished\":480,");
	check_contains(text,
	        "\"upstreams\":[{\"name\":\"app\",\"waiting\":3,\"queue_max\":100,\"epoch\":7,\"servers\":[{\"name\":\"a\","
	        "\"address\":\"10.0.0.1:80\",\"addresses\":[],\"active\":5,\"hot\":3,\"max\":10,\"soft_limit\":8,\"weight\":100,\"backup\":"
	        "false,"
	        "\"disabled\":false,\"state\":\"up\",\"usable\":true,\"weight_now\":100,\"override\":\"none\",\"health\":{"
	        "\"checked\":true,\"state\":\"up\",\"result\":\"ok\",\"detail\":0,\"why\":\"\",\"latency_ms\":1.200000,\"checked_seconds_"
	        "ago\":"
	        "3.000,\"changed_seconds_ago\":3.000,\"passed\":5,\"failed\":0},\"breaker\":{\"state\":\"closed\",\"trips\":2},"
	        "\"ejected\":false,\"ejected_for_seconds\":0.000,\"ejections\":1,\"recovered_seconds_ago\":null,\"total\":300,"
	        "\"failures\":0,\"sent\":6000,\"received\":12000,\"pool\":{\"hits\":18,\"misses\":0,\"kept\":0,\"pinned\":0,"
	        "\"stale\":0,\"stale_retries\":0}},{\"name\":\"b\",\"address\":\"10.0.0.2:80\",\"addresses\":[],\"active\":7,\"hot\":3,"
	        "\"max\":0,"
	        "\"soft_limit\":0,\"weight\":102,\"backup\":true,\"disabled\":true,\"state\":\"disabled\",\"usable\":false,"
	        "\"weight_now\":102,\"override\":\"none\",\"health\":{\"checked\":false,\"state\":\"unknown\",\"result\":"
	        "\"not "
	        "checked\",\"detail\":0,\"why\":\"\",\"latency_ms\":0.000000,\"checked_seconds_ago\":null,\"changed_seconds_ago\":null,"
	        "\"passed\":0,\"failed\":4},");
	check_contains(text, "]},{\"name\":\"db\",\"waiting\":0,\"queue_max\":0,\"epoch\":0,\"servers\":[{\"name\":\"10.0.0.9:5432\",");
	check_contains(text, "\"state\":\"unknown\",\"usable\":true,\"weight_now\":101,\"override\":\"none\",\"health\":{\"checked\":false,"
	                     "\"state\":\"unknown\",\"result\":\"not "
	                     "checked\",\"detail\":0,\"why\":\"\",\"latency_ms\":0.000000,\"checked_seconds_ago\":null,"
	                     "\"changed_seconds_ago\":null,\"passed\":0,\"failed\":0},");
	check_contains(text, "\"stale_retries\":0}}]}],\"certificates\":[{\"listener\":\"db\",\"name\":\"db.example.org\",\"not_before_"
	                     "unix\":1700000000,\"not_after_unix\":1800000000}]}\n");
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

static void test_datagrams(void **state)
{
	(void)state;
	segment_fill(&shm);
	segment_add_datagrams(&shm);
	char *text = printed_by(document_print);
	check_contains(text, "\"udp\":{\"sessions\":4,\"datagrams\":{\"from_client\":3003,\"to_server\":2970,\"from_server\":1500,"
	                     "\"to_client\":1497},\"moves\":{\"handed_over\":");
	check_contains(text, "},\"drops\":{\"refused\":21,");
	check_contains(text, "\"connections\":11,\"udp_sessions\":3,");
	check_contains(text, "\"name\":\"db\",\"address\":\"[::1]:5432\",\"protocol\":\"udp\",");
	check_contains(text, "\"queued\":0,\"datagrams\":{\"from_client\":3003,");
	check_contains(text, "\"client_queue_full\":0,\"server_queue_full\":3},\"closes\":{");
	/* Those of TCP have none. */
	check_contains(text, "\"queued\":9,\"closes\":{");
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
	char *text = printed_by(document_print);
	check_contains(text, "\"name\":\"a\",\"address\":\"10.0.0.1:80\",\"addresses\":[\"10.0.0.7:80\",\"[::1]:80\"],\"active\":5,");
	free(text);
	/* Its writer died while writing. */
	shm.servers[0].addresses.sequence++;
	text = printed_by(document_print);
	check_contains(text, "\"name\":\"a\",\"address\":\"10.0.0.1:80\",\"addresses\":[],\"active\":5,");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(test_json_of_an_empty_instance),
		EACH(test_json),
		EACH(test_datagrams),
		EACH(test_addresses_of_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
