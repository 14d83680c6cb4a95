/* Settings of listeners for datagrams: their values, what goes with them and what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "loading.h"

#define UDP(more) "listeners = ( { address = \"127.0.0.1:53\"; protocol = \"udp\"; " more " } );\n"
#define WITH(more) "upstreams = ( { name = \"u\"; " more " servers = ( { address = \"10.0.0.1:53\"; } ); } );\n"
#define LISTENERS_ERROR(key, text) "aegis.conf:1: listeners[0]." key ": " text "\n"
#define UPSTREAMS_ERROR(key, text) "aegis.conf:2: upstreams[0]." key ": " text "\n"

static void the_defaults(void **state)
{
	(void)state;
	struct config *config = load_text(UDP("") UPSTREAM);
	const struct listener_config *listener = &config->listeners[0];

	assert_int_equal(listener->protocol, PROTOCOL_UDP);
	assert_string_equal(listener->name, "127.0.0.1:53/udp");
	assert_int_equal(listener->timeout.idle_ns, 60 * NS_PER_S);
	assert_int_equal(listener->udp.idle_ns, 60 * NS_PER_S);
	assert_int_equal(listener->udp.responses, 0);
	assert_int_equal(listener->udp.requests, 0);
	assert_int_equal(listener->udp.buffer_bytes, 64 << 10);
	assert_int_equal(listener->udp.receive_buffer_bytes, 4 << 20);
	assert_false(config->upstreams[0].lame_duck);
	config_free(config);

	config = load_text(LISTENER UPSTREAM);
	assert_string_equal(config->listeners[0].name, "127.0.0.1:8080");
	assert_int_equal(config->listeners[0].timeout.idle_ns, 0);
	config_free(config);
}

static void every_setting_reaches_its_field(void **state)
{
	(void)state;
	struct config *config = load_text(
	        UDP("udp = { responses = 2; requests = 3; buffer = \"8k\"; receive_buffer = \"1M\"; }; timeout = { lifetime = \"1h\"; };")
	                WITH("lame_duck = true;"));
	const struct listener_config *listener = &config->listeners[0];

	assert_int_equal(listener->udp.responses, 2);
	assert_int_equal(listener->udp.requests, 3);
	assert_int_equal(listener->udp.buffer_bytes, 8 << 10);
	assert_int_equal(listener->udp.receive_buffer_bytes, 1 << 20);
	assert_int_equal(listener->timeout.lifetime_ns, 3600 * NS_PER_S);
	assert_true(config->upstreams[0].lame_duck);
	config_free(config);
}

/* Where a session ends for want of datagrams stands in either of two places. */
static void idle_has_two_names(void **state)
{
	static const struct {
		const char *text;
		uint64_t idle_ns;
	} rows[] = {
		{ UDP("udp = { idle = \"7s\"; };") UPSTREAM, 7 * NS_PER_S },
		{ UDP("timeout = { idle = \"8s\"; };") UPSTREAM, 8 * NS_PER_S },
		{ UDP("timeout = { idle = \"9s\"; }; udp = { idle = \"9000ms\"; };") UPSTREAM, 9 * NS_PER_S },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct config *config = load_text(rows[i].text);
		assert_int_equal(config->listeners[0].timeout.idle_ns, rows[i].idle_ns);
		assert_int_equal(config->listeners[0].udp.idle_ns, rows[i].idle_ns);
		config_free(config);
	}
	assert_string_equal(errors_of_text(UDP("timeout = { idle = \"8s\"; }; udp = { idle = \"9s\"; };") UPSTREAM),
	        LISTENERS_ERROR("udp.idle", "and timeout.idle are the same, and say two things; leave one of them out"));
	assert_non_null(strstr(errors_of_text(UDP("timeout = { idle = \"0s\"; };") UPSTREAM),
	        "listeners[0].timeout.idle: is 0, and nothing but silence tells that the client of a UDP session is gone; write how long"));
	assert_non_null(strstr(errors_of_text(UDP("udp = { idle = \"0s\"; };") UPSTREAM), "listeners[0].udp.idle: is \"0s\""));
}

static void what_is_for_connections_is_told(void **state)
{
	static const char *const keys[][2] = {
		{ "backlog", "backlog = 5;" },
		{ "on_full", "on_full = \"wait\";" },
		{ "min_rate", "min_rate = \"1k/s\";" },
		{ "bandwidth", "bandwidth = { up = \"1M/s\"; };" },
		{ "tcp", "tcp = { nodelay = true; };" },
		{ "first_byte", "timeout = { first_byte = \"1s\"; };" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		char text[512], wanted[256];
		snprintf(text, sizeof text, "listeners = ( { address = \":53\"; protocol = \"udp\"; %s } );\n" UPSTREAM, keys[i][1]);
		snprintf(wanted, sizeof wanted,
		        "aegis.conf:1: listeners[0].%s%s: is only for protocol = \"tcp\"; write that, or leave %s out\n",
		        strcmp(keys[i][0], "first_byte") == 0 ? "timeout." : "", keys[i][0], keys[i][0]);
		assert_string_equal(errors_of_text(text), wanted);
	}
	assert_string_equal(errors_of_text("listeners = ( { address = \":53\"; udp = { responses = 1; }; } );\n" UPSTREAM),
	        LISTENERS_ERROR("udp", "is only for protocol = \"udp\"; write that, or leave udp out"));
	/* one mistake is enough */
	assert_string_equal(
	        errors_of_text("listeners = ( { address = \":53\"; protocol = \"upd\"; udp = { responses = 1; }; } );\n" UPSTREAM),
	        LISTENERS_ERROR("protocol", "is \"upd\"; did you mean \"udp\"? Write \"tcp\" or \"udp\""));
}

static void an_upstream_of_datagrams_alone_has_no_connections(void **state)
{
	static const char only[] = "and only UDP listeners use this upstream";

	(void)state;
	static const char *const rows[][2] = {
		{ "pool", "pool = { warm = 1; };" },
		{ "pool", "pool = { keep = 1; framing = \"line\"; };" },
		{ "queue", "queue = { size = 9; }; connect_rate = \"5/s\";" },
		{ "start_test", "start_test = \"warn\";" },
		{ "timeout.read", "timeout = { read = \"1s\"; };" },
		{ "tls", "tls = { };" },
		{ "when_all_down", "when_all_down = \"wait\"; queue = { size = 1; }; outlier = { };" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[1024], wanted[64];
		snprintf(text, sizeof text, UDP("") "upstreams = ( { name = \"u\"; %s servers = ( { address = \"h:1\"; } ); } );",
		        rows[i][1]);
		snprintf(wanted, sizeof wanted, "aegis.conf:2: upstreams[0].%s: ", rows[i][0]);
		const char *errors = errors_of_text(text);
		const char *line = strstr(errors, wanted);
		if (line == NULL || strstr(line, only) == NULL)
			fail_msg("%s", errors);
		/* with a TCP listener beside it there is a use */
		snprintf(text, sizeof text,
		        "listeners = ( { address = \":1\"; protocol = \"udp\"; }, { address = \":1\"; } );\n"
		        "upstreams = ( { name = \"u\"; %s servers = ( { address = \"h:1\"; } ); } );",
		        rows[i][1]);
		config_free(load_text(text));
	}
	assert_string_equal(errors_of_text(LISTENER WITH("lame_duck = true;")),
	        UPSTREAMS_ERROR("lame_duck", "is for UDP sessions, and no UDP listener uses this upstream; leave it out"));
}

static void datagrams_need_an_ip_address(void **state)
{
	(void)state;
	assert_string_equal(errors_of_text("listeners = ( { address = \"unix:/x\"; protocol = \"udp\"; } );\n" UPSTREAM),
	        LISTENERS_ERROR("address", "\"unix:/x\" is a unix socket, and protocol = \"udp\" needs an IP address; write HOST:PORT"));
	assert_non_null(strstr(errors_of_text(UDP("") "upstreams = ( { name = \"u\"; servers = ( { address = \"unix:/x\"; } ); } );"),
	        "aegis.conf:2: upstreams[0].servers[0].address: \"unix:/x\" is a unix socket, and a UDP listener uses this upstream"));
	config_free(load_text("listeners = ( { address = \"fd:3\"; protocol = \"udp\"; }, { address = \"systemd:dns\"; protocol = \"udp\"; "
	                      "} );\n" UPSTREAM));
}

static void each_protocol_has_its_ports(void **state)
{
	(void)state;
	struct config *config = load_text("listeners = ( { address = \":53\"; protocol = \"udp\"; }, { address = \":53\"; } );\n" UPSTREAM
	                                  "admin = { address = \"127.0.0.1:8080\"; };");
	assert_string_equal(config->listeners[0].name, ":53/udp");
	assert_string_equal(config->listeners[1].name, ":53");
	config_free(config);
	config_free(load_text("listeners = ( { address = \"127.0.0.1:53\"; protocol = \"udp\"; } );\n" UPSTREAM
	                      "admin = { address = \"127.0.0.1:53\"; };"));
	assert_non_null(strstr(
	        errors_of_text("listeners = ( { address = \":53\"; protocol = \"udp\"; },\n{ name = \"b\"; address = \"0.0.0.0:53\"; "
	                       "protocol = \"udp\"; } );\n" UPSTREAM),
	        "aegis.conf:2: listeners[1].address: \"0.0.0.0:53\" is where listeners[0] (\":53\") listens already"));
	/* what was handed over is one socket, of whatever kind */
	assert_non_null(strstr(
	        errors_of_text(
	                "listeners = ( { address = \"fd:3\"; protocol = \"udp\"; },\n{ name = \"b\"; address = \"fd:3\"; } );\n" UPSTREAM),
	        "listeners[1].address: \"fd:3\" is where listeners[0]"));
	assert_non_null(strstr(errors_of_text("listeners = ( { address = \"127.0.0.1:3000\"; protocol = \"udp\"; } );\n" UPSTREAM),
	        "upstreams[0].servers[0].address: \"127.0.0.1:3000\" is where Aegis itself listens"));
}

static void what_is_dumped_loads_again_to_the_same(void **state)
{
	(void)state;
	struct config *config =
	        load_text("listeners = ( { address = \":53\"; protocol = \"udp\"; udp = { idle = \"5s\"; responses = 1; }; }, { address = "
	                  "\":53\"; } );\n" WITH("lame_duck = true; health = { type = \"udp\"; send_hex = \"00 ff\"; expect = \"x\"; };"));
	char *shown = dump_of(config, false);
	assert_non_null(strstr(shown, "udp = {"));
	config_free(config);
	config = load_text(shown);
	char *again = dump_of(config, false);
	assert_string_equal(shown, again);
	assert_int_equal(config->upstreams[0].health.sent.count, 2);
	config_free(config);
	free(shown);
	free(again);
}

static void checks_by_udp(void **state)
{
	(void)state;
	struct config *config = load_text(UDP("") WITH("health = { type = \"udp\"; send_hex = \"abCD 00 0123\"; expect = \"ok\\n\"; };"));
	const struct health_config *health = &config->upstreams[0].health;
	assert_int_equal(health->type, HEALTH_TYPE_UDP);
	assert_int_equal(health->sent.count, 5);
	assert_memory_equal(health->sent.bytes, "\xab\xcd\x00\x01\x23", 5);
	assert_int_equal(health->expected.count, 3);
	assert_memory_equal(health->expected.bytes, "ok\n", 3);
	assert_false(health->silent);
	config_free(config);
	config_free(load_text(UDP("") WITH("health = { type = \"udp\"; silent = true; };")));
	config_free(load_text(LISTENER WITH("health = { send_hex = \"00\"; expect_hex = \"01\"; };"))); /* tcp */

#define HEALTH(text) errors_of_text(UDP("") WITH("health = { " text " };"))
	assert_non_null(strstr(HEALTH("type = \"udp\";"), "upstreams[0].health: a check by udp needs something that servers answer"));
	assert_non_null(strstr(
	        HEALTH("type = \"udp\"; send = \"a\"; send_hex = \"61\";"), "health.send_hex: says the same as send in other words"));
	assert_non_null(strstr(HEALTH("send = \"\"; expect = \"a\"; expect_hex = \"61\";"), "health.expect_hex: says the same as expect"));
	assert_non_null(strstr(HEALTH("type = \"udp\"; silent = true; expect = \"a\";"), "health.silent: says that servers do not answer"));
	assert_non_null(strstr(HEALTH("type = \"tcp\"; silent = true;"), "health.silent: is only for type = \"udp\""));
	assert_non_null(strstr(HEALTH("type = \"http\"; send_hex = \"00\";"), "health.send_hex: is only for type = \"tcp\" or \"udp\""));
	assert_non_null(strstr(HEALTH("type = \"udp\"; send_hex = \"0\";"), "half of a byte is missing"));
	assert_non_null(strstr(HEALTH("type = \"udp\"; send_hex = \"0 0\";"), "half of a byte is missing"));
	assert_non_null(strstr(HEALTH("type = \"udp\"; send_hex = \"0x00\";"), "something else than hexadecimal digits"));
	assert_non_null(
	        strstr(errors_of_text(LISTENER "upstreams = ( { name = \"u\"; health = { type = \"udp\"; send = \"x\"; }; servers = ( { "
	                                       "address = \"unix:/x\"; } ); } );"),
	                "upstreams[0].health.type: is \"udp\", and servers[0] (\"unix:/x\") is a unix socket"));
}

static void what_servers_are_told(void **state)
{
	static const struct {
		const char *text;
		enum send_proxy value;
	} rows[] = { { "", SEND_PROXY_OFF }, { "send_proxy = \"\";", SEND_PROXY_OFF }, { "send_proxy = \"v2\";", SEND_PROXY_V2 },
		{ "send_proxy = \"v2-each\";", SEND_PROXY_V2_EACH } };
	char text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		(void)snprintf(text, sizeof text, UDP("") WITH("%s"), rows[i].text);
		struct config *config = load_text(text);
		assert_int_equal(config->upstreams[0].send_proxy, rows[i].value);
		config_free(config);
	}
	assert_non_null(strstr(errors_of_text(UDP("") WITH("send_proxy = \"v1\";")),
	        "upstreams[0].send_proxy: is \"v1\", which has no word for datagrams, and a UDP listener uses this upstream"));
	assert_non_null(strstr(errors_of_text(UDP("") WITH("send_proxy = \"v2\"; send_proxy_unique_id = true;")),
	        "upstreams[0].send_proxy_unique_id: is for connections, and only UDP listeners use this upstream"));
	assert_non_null(strstr(errors_of_text(LISTENER WITH("send_proxy = \"v2-each\";")),
	        "upstreams[0].send_proxy: is \"v2-each\", which is for datagrams, and a TCP listener uses this upstream"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_defaults),
		cmocka_unit_test(every_setting_reaches_its_field),
		cmocka_unit_test(idle_has_two_names),
		cmocka_unit_test(what_is_for_connections_is_told),
		cmocka_unit_test(an_upstream_of_datagrams_alone_has_no_connections),
		cmocka_unit_test(datagrams_need_an_ip_address),
		cmocka_unit_test(each_protocol_has_its_ports),
		cmocka_unit_test(what_is_dumped_loads_again_to_the_same),
		cmocka_unit_test(checks_by_udp),
		cmocka_unit_test(what_servers_are_told),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
