/* The settings by which Aegis shields servers: their values, their defaults, and what must hold between them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "loading.h"

/* What is off without its group, and what it is when the group is there. */
static void a_group_brings_its_defaults(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER "upstreams = ( { name = \"u\"; health = { }; circuit_breaker = { }; outlier = { }; "
	                                           "servers = ( { address = \"h:1\"; } ); } );");
	const struct upstream_config *upstream = &config->upstreams[0];

	assert_int_equal(upstream->health.type, HEALTH_TYPE_TCP);
	assert_int_equal(upstream->health.interval_ns, 5 * NS_PER_S);
	assert_int_equal(upstream->health.fast_interval_ns, NS_PER_S);
	assert_int_equal(upstream->health.timeout_ns, 2 * NS_PER_S);
	assert_int_equal(upstream->health.rise, 2);
	assert_int_equal(upstream->health.fall, 3);
	assert_int_equal(upstream->health.port, 0);
	assert_string_equal(upstream->health.send, "");
	assert_string_equal(upstream->health.expect, "");
	assert_int_equal(upstream->circuit_breaker.error_threshold, 5);
	assert_int_equal(upstream->circuit_breaker.timeout_ns, 30 * NS_PER_S);
	assert_int_equal(upstream->circuit_breaker.probes, 3);
	assert_int_equal(upstream->outlier.failures, 5);
	assert_int_equal(upstream->outlier.ejection_ns, 30 * NS_PER_S);
	assert_int_equal(upstream->outlier.max_percent, 50);
	config_free(config);

	/* the same group with a word for off */
	config = load_text(
	        LISTENER "upstreams = ( { name = \"u\"; health = { type = \"none\"; path = \"/x\"; expect = \"2xx\"; fall = 9; }; "
	                 "circuit_breaker = { error_threshold = 0; probes = 9; }; outlier = { failures = 0; max_percent = 9; }; "
	                 "queue = { size = 0; timeout = \"9s\"; }; affinity = { ttl = \"0s\"; }; "
	                 "connect_rate = \"0/s\"; connect_burst = 9; servers = ( { address = \"h:1\"; } ); } );");
	upstream = &config->upstreams[0];
	assert_int_equal(upstream->health.type, HEALTH_TYPE_NONE);
	assert_int_equal(upstream->circuit_breaker.error_threshold, 0);
	assert_int_equal(upstream->outlier.failures, 0);
	assert_int_equal(upstream->queue.size, 0);
	assert_int_equal(upstream->affinity.ttl_ns, 0);
	config_free(config);
}

static void every_setting_of_the_shield_reaches_its_field(void **state)
{
	(void)state;
	struct config *config = load_text(
	        "resolver = { min_ttl = \"2s\"; max_ttl = \"3m\"; timeout = \"4s\"; servers = [ \"127.0.0.1\", \"::1\", \"10.0.0.1:5353\", "
	        "\"[2001:db8::1]:54\" ]; };\n"
	        "listeners = ( { address = \":1\"; upstream = \"u\"; allow = [ \"10.0.0.0/8\", \"2001:db8::/32\" ]; deny = ( "
	        "\"10.1.0.0/16\" ); min_rate = "
	        "\"5/s\";\n"
	        "  rate_limit = { connections_per_second = 1000; burst = 7; per = \"prefix\"; };\n"
	        "  bandwidth = { up = \"1M/s\"; down = \"2G/s\"; per = \"listener\"; }; } );\n"
	        "upstreams = ( { name = \"u\"; balance = \"consistent_hash\"; hash_key = \"address_port\"; affinity = { ttl = \"10m\"; };\n"
	        "  health = { type = \"https\"; interval = \"1s\"; fast_interval = \"300ms\"; timeout = \"2s\"; rise = 4; fall = 255; path "
	        "= "
	        "\"/up?x=1\";\n"
	        "    expect = \"200-204,304\"; host = \"a.example.org:8443\"; verify = true; port = 8443; };\n"
	        "  circuit_breaker = { error_threshold = 6; timeout = \"7s\"; probes = 8; };\n"
	        "  outlier = { failures = 9; ejection = \"10s\"; max_percent = 100; };\n"
	        "  slow_start = \"30s\"; when_all_down = \"wait\"; on_down = \"close\"; queue = { size = 11; timeout = \"12s\"; };\n"
	        "  connect_rate = \"100/s\"; connect_burst = 13;\n"
	        "  servers = ( { address = \"h:1\"; max_connections = 15; soft_limit = 14; } ); },\n"
	        "  { name = \"v\"; balance = \"p2c\"; when_all_down = \"any\"; health = { send = \"HI\\r\\n\\x01\"; expect = \"\\x7f\"; }; "
	        "servers = ( { address = \"h:2\"; } ); },\n"
	        "  { name = \"w\"; balance = \"random\"; health = { type = \"mysql\"; user = \"probe\"; }; servers = ( { address = "
	        "\"h:3\"; } ); } "
	        ");");
	char text[ADDR_TEXT_SIZE];

	assert_int_equal(config->resolver.min_ttl_ns, 2 * NS_PER_S);
	assert_int_equal(config->resolver.max_ttl_ns, 180 * NS_PER_S);
	assert_int_equal(config->resolver.timeout_ns, 4 * NS_PER_S);
	static const char *const servers[] = { "127.0.0.1:53", "[::1]:53", "10.0.0.1:5353", "[2001:db8::1]:54" };
	assert_int_equal(config->resolver.n_servers, ARRAY_LEN(servers));
	for (size_t i = 0; i < ARRAY_LEN(servers); i++)
		assert_string_equal(addr_format(&config->resolver.servers[i], text, sizeof text), servers[i]);

	const struct listener_config *listener = &config->listeners[0];
	assert_int_equal(listener->n_allow, 2);
	assert_string_equal(cidr_format(&listener->allow[0], text, sizeof text), "10.0.0.0/8");
	assert_string_equal(cidr_format(&listener->allow[1], text, sizeof text), "2001:db8::/32");
	assert_int_equal(listener->n_deny, 1);
	assert_string_equal(cidr_format(&listener->deny[0], text, sizeof text), "10.1.0.0/16");
	assert_int_equal(listener->min_rate_bytes_per_s, 5);
	assert_int_equal(listener->rate_limit.connections_per_second, 1000);
	assert_int_equal(listener->rate_limit.burst, 7);
	assert_int_equal(listener->rate_limit.per, RATE_LIMIT_PER_PREFIX);
	assert_int_equal(listener->bandwidth.up_bytes_per_s, 1 << 20);
	assert_int_equal(listener->bandwidth.down_bytes_per_s, UINT64_C(2) << 30);
	assert_int_equal(listener->bandwidth.per, BANDWIDTH_PER_LISTENER);

	const struct upstream_config *upstream = &config->upstreams[0];
	assert_int_equal(upstream->balance, BALANCE_CONSISTENT_HASH);
	assert_int_equal(upstream->hash_key, HASH_KEY_ADDRESS_PORT);
	assert_int_equal(upstream->affinity.ttl_ns, 600 * NS_PER_S);
	assert_int_equal(upstream->health.type, HEALTH_TYPE_HTTPS);
	assert_int_equal(upstream->health.interval_ns, NS_PER_S);
	assert_int_equal(upstream->health.fast_interval_ns, 300 * NS_PER_MS);
	assert_int_equal(upstream->health.timeout_ns, 2 * NS_PER_S); /* more than interval is allowed */
	assert_int_equal(upstream->health.rise, 4);
	assert_int_equal(upstream->health.fall, 255);
	assert_string_equal(upstream->health.path, "/up?x=1");
	assert_string_equal(upstream->health.expect, "200-204,304");
	assert_true(status_set_has(&upstream->health.statuses, 204));
	assert_true(status_set_has(&upstream->health.statuses, 304));
	assert_false(status_set_has(&upstream->health.statuses, 205));
	assert_string_equal(upstream->health.host, "a.example.org:8443");
	assert_true(upstream->health.verify);
	assert_int_equal(upstream->health.port, 8443);
	assert_int_equal(upstream->circuit_breaker.error_threshold, 6);
	assert_int_equal(upstream->circuit_breaker.timeout_ns, 7 * NS_PER_S);
	assert_int_equal(upstream->circuit_breaker.probes, 8);
	assert_int_equal(upstream->outlier.failures, 9);
	assert_int_equal(upstream->outlier.ejection_ns, 10 * NS_PER_S);
	assert_int_equal(upstream->outlier.max_percent, 100);
	assert_int_equal(upstream->slow_start_ns, 30 * NS_PER_S);
	assert_int_equal(upstream->when_all_down, ALL_DOWN_WAIT);
	assert_int_equal(upstream->on_down, ON_DOWN_CLOSE);
	assert_int_equal(upstream->queue.size, 11);
	assert_int_equal(upstream->queue.timeout_ns, 12 * NS_PER_S);
	assert_int_equal(upstream->connect_rate_per_s, 100);
	assert_int_equal(upstream->connect_burst, 13);
	assert_int_equal(upstream->servers[0].max_connections, 15);
	assert_int_equal(upstream->servers[0].soft_limit, 14);
	upstream = &config->upstreams[1];
	assert_int_equal(upstream->balance, BALANCE_P2C);
	assert_int_equal(upstream->when_all_down, ALL_DOWN_ANY);
	assert_string_equal(upstream->health.send, "HI\r\n\x01");
	assert_string_equal(upstream->health.expect, "\x7f");
	upstream = &config->upstreams[2];
	assert_int_equal(upstream->balance, BALANCE_RANDOM);
	assert_int_equal(upstream->health.type, HEALTH_TYPE_MYSQL);
	assert_string_equal(upstream->health.user, "probe");
	config_free(config);
}

static void what_is_derived_for_health(void **state)
{
	(void)state;
	static const struct {
		const char *text, *expect;
		uint64_t fast_interval_ns;
	} rows[] = {
		{ "", "", NS_PER_S },
		{ "type = \"http\";", "2xx", NS_PER_S },
		{ "type = \"https\"; interval = \"60s\";", "2xx", 12 * NS_PER_S },
		{ "type = \"redis\"; interval = \"400ms\";", "", 100 * NS_PER_MS },
		{ "interval = \"50ms\";", "", 50 * NS_PER_MS },
		{ "interval = \"1s\"; fast_interval = \"1s\"; send = \"\"; expect = \"220\";", "220", NS_PER_S },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512];
		snprintf(text, sizeof text,
		        LISTENER "upstreams = ( { name = \"u\"; health = { %s }; servers = ( { address = \"h:1\"; } ); } );", rows[i].text);
		struct config *config = load_text(text);
		assert_string_equal(config->upstreams[0].health.expect, rows[i].expect);
		assert_int_equal(config->upstreams[0].health.fast_interval_ns, rows[i].fast_interval_ns);
		config_free(config);
	}
}

static void wrong_elements_are_told(void **state)
{
	(void)state;
	assert_string_equal(
	        errors_of_text("listeners = ( { address = \":1\"; allow = [ \"10.0.0.0/8\",\n\"10.1.2.3/8\",\n\"\", \"x\" ];\n"
	                       "deny = \"10.0.0.0/8\"; } );\n" UPSTREAM "resolver = { servers = [ \"localhost\", \"1.2.3.4:0\",\n"
	                       "\"unix:/x\", \":53\", \"ns.example.org:53\" ]; };"),
	        "aegis.conf:6: resolver.servers[0]: is \"localhost\": the port is missing; write for example \"127.0.0.1:53\" or "
	        "\"2001:db8::53\"\n"
	        "aegis.conf:6: resolver.servers[1]: is \"1.2.3.4:0\": port 0 cannot be asked; write for example \"127.0.0.1:53\" or "
	        "\"2001:db8::53\"\n"
	        "aegis.conf:7: resolver.servers[2]: is \"unix:/x\": a name server needs an IP address; write for example \"127.0.0.1:53\" "
	        "or "
	        "\"2001:db8::53\"\n"
	        "aegis.conf:7: resolver.servers[3]: is \":53\": a name server needs an IP address; write for example \"127.0.0.1:53\" or "
	        "\"2001:db8::53\"\n"
	        "aegis.conf:7: resolver.servers[4]: is \"ns.example.org:53\": a name server needs an IP address; write for example "
	        "\"127.0.0.1:53\" or \"2001:db8::53\"\n"
	        "aegis.conf:2: listeners[0].allow[1]: 10.1.2.3/8: bits beyond the prefix are set; did you mean 10.0.0.0/8? Write for "
	        "example "
	        "\"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"\n"
	        "aegis.conf:3: listeners[0].allow[2]: is \"\"; write for example \"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"\n"
	        "aegis.conf:3: listeners[0].allow[3]: x: this is not an IP address; write for example \"10.0.0.0/8\", \"192.0.2.7\" or "
	        "\"2001:db8::/32\"\n"
	        "aegis.conf:4: listeners[0].deny: is \"10.0.0.0/8\"; write a list of addresses and ranges, for example [ \"10.0.0.0/8\", "
	        "\"192.0.2.7\", \"2001:db8::/32\" ]\n");
	assert_string_equal(errors_of_text(LISTENER UPSTREAM "resolver = { servers = [ 5, 6 ]; };"),
	        "aegis.conf:3: resolver.servers[0]: is 5; write for example \"127.0.0.1:53\" or \"2001:db8::53\"\n"
	        "aegis.conf:3: resolver.servers[1]: is 6; write for example \"127.0.0.1:53\" or \"2001:db8::53\"\n");
	assert_string_equal(
	        errors_of_text(LISTENER UPSTREAM "resolver = { servers = [ \"::1\", \"::2\", \"::3\", \"::4\", \"::5\", \"::6\", "
	                                         "\"::7\", \"::8\", \"::9\" ]; };"),
	        "aegis.conf:3: resolver.servers: has 9 elements; there may be at most 8\n");
}

/* Ranges of the values of the shield, at both ends. */
static void wrong_values_of_the_shield_are_told(void **state)
{
	(void)state;
	static const struct {
		const char *text, *problem;
	} rows[] = {
		{ "balance = \"consistant_hash\";", "balance: is \"consistant_hash\"; did you mean \"consistent_hash\"? Write" },
		{ "balance = \"consistent_hash\"; hash_key = \"name\";",
		        "hash_key: is \"name\"; write \"address\", \"address_port\" or \"sni\"" },
		{ "affinity = { };", "affinity.ttl: is missing; write a duration with its unit from \"1ms\" to \"365d\", or \"0s\" (off)" },
		{ "health = { type = \"icmp\"; };", "health.type: is \"icmp\"; write \"none\", \"tcp\"" },
		{ "health = { type = \"htp\"; };", "health.type: is \"htp\"; did you mean \"http\"? Write" },
		{ "health = { interval = \"9ms\"; };",
		        "health.interval: is \"9ms\"; write a duration with its unit from \"10ms\" to \"1d\"" },
		{ "health = { fast_interval = \"9ms\"; };", "health.fast_interval: is \"9ms\"; write" },
		{ "health = { timeout = \"0s\"; };", "health.timeout: is \"0s\"; write a duration with its unit from \"10ms\" to \"1h\"" },
		{ "health = { rise = 0; };", "health.rise: is 0; write a number from 1 to 255" },
		{ "health = { fall = 256; };", "health.fall: is 256; write a number from 1 to 255" },
		{ "health = { port = 65536; };", "health.port: is 65536; write a number from 1 to 65535, or 0 (the server's own)" },
		{ "health = { type = \"http\"; path = \"health\"; };",
		        "health.path: is \"health\": it does not start with \"/\"; write the path" },
		{ "health = { type = \"http\"; path = \"/a b\"; };", "it has a character that must be written as %XX in a URL" },
		{ "health = { type = \"http\"; path = \"/\\xc3\\xbc\"; };", "it has a character that must be written as %XX in a URL" },
		{ "health = { type = \"http\"; host = \"a b\"; };", "health.host: is \"a b\": it has a character that no host name has" },
		{ "health = { type = \"https\"; verify = 1; };", "health.verify: is 1; write true or false" },
		{ "health = { send = 5; };", "health.send: is 5; write text between quotes, at most 1024 bytes" },
		{ "health = 5;", "health: is not a group; write health = { ... };" },
		{ "health = { typ = \"tcp\"; };", "health.typ: unknown key \"typ\"; did you mean \"type\"?" },
		{ "circuit_breaker = { error_threshold = 65536; };",
		        "error_threshold: is 65536; write a number from 1 to 65535, or 0 (off)" },
		{ "circuit_breaker = { timeout = \"0s\"; };", "circuit_breaker.timeout: is \"0s\"; write" },
		{ "circuit_breaker = { probes = 0; };", "circuit_breaker.probes: is 0; write a number from 1 to 1000" },
		{ "outlier = { max_percent = 0; };", "outlier.max_percent: is 0; write a number from 1 to 100" },
		{ "outlier = { max_percent = 101; };", "outlier.max_percent: is 101; write a number from 1 to 100" },
		{ "outlier = { ejection = \"1ms\"; };", "outlier.ejection: is \"1ms\"; write" },
		{ "slow_start = \"2d\";", "slow_start: is \"2d\"; write a duration with its unit from \"1ms\" to \"1d\", or \"0s\" (off)" },
		{ "when_all_down = \"reject\";", "when_all_down: is \"reject\"; write \"refuse\", \"any\" or \"wait\"" },
		{ "on_down = \"reset\";", "on_down: is \"reset\"; write \"keep\" or \"close\"" },
		{ "queue = { timeout = \"1s\"; };", "queue.size: is missing; write a number from 1 to 1000000, or 0 (nobody waits)" },
		{ "connect_rate = 100;", "connect_rate: is 100; write a rate from \"1/s\" to" },
		{ "connect_rate = \"100\";", "connect_rate: is \"100\"; write a rate from \"1/s\" to" },
		{ "connect_burst = -1;", "connect_burst: is -1; write a number from 1 to 1000000, or 0 (none)" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512];
		snprintf(text, sizeof text, LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; } );\n%s } );",
		        rows[i].text);
		const char *lines = errors_of_text(text);
		if (strncmp(lines, "aegis.conf:3: upstreams[0].", 27) != 0 || strstr(lines, rows[i].problem) == NULL ||
		        strchr(lines, '\n')[1] != '\0')
			fail_msg("%s gives %s", rows[i].text, lines);
	}
}

static void wrong_values_of_a_listeners_guards_are_told(void **state)
{
	(void)state;
	static const struct {
		const char *text, *problem;
	} rows[] = {
		{ "rate_limit = { burst = 5; };",
		        "rate_limit.connections_per_second: is missing; write a number from 1 to 10000000, or 0 (no limit)" },
		{ "rate_limit = { per = \"address\"; };", "rate_limit.connections_per_second: is missing; write" },
		{ "rate_limit = { connections_per_second = \"5/s\"; };", "rate_limit.connections_per_second: is \"5/s\"; write a number" },
		{ "rate_limit = { connections_per_second = 5; per = \"client\"; };",
		        "rate_limit.per: is \"client\"; write \"listener\", \"address\"" },
		{ "rate_limit = { connections_per_second = 5; burst = -1; };", "rate_limit.burst: is -1; write" },
		{ "bandwidth = { up = \"10M\"; };",
		        "bandwidth.up: is \"10M\"; write a rate from \"1k/s\" to \"1T/s\", or \"0/s\" (no limit)" },
		{ "bandwidth = { down = \"10/s\"; };", "bandwidth.down: is \"10/s\"; write a rate from \"1k/s\"" },
		{ "bandwidth = { down = \"1M/s\"; per = \"address\"; };",
		        "bandwidth.per: is \"address\"; write \"connection\" or \"listener\"" },
		{ "min_rate = \"5\";", "min_rate: is \"5\"; write a rate from \"1/s\" to \"1G/s\", or \"0/s\" (none)" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512];
		snprintf(text, sizeof text, "listeners = ( { address = \":1\";\n%s } );\n" UPSTREAM, rows[i].text);
		const char *lines = errors_of_text(text);
		if (strncmp(lines, "aegis.conf:2: listeners[0].", 27) != 0 || strstr(lines, rows[i].problem) == NULL ||
		        strchr(lines, '\n')[1] != '\0')
			fail_msg("%s gives %s", rows[i].text, lines);
	}
	config_free(load_text("listeners = ( { address = \":1\"; min_rate = \"0\"; bandwidth = { up = \"0\"; down = \"0\"; per = "
	                      "\"connection\"; }; } );" UPSTREAM));
}

/* --- what must hold between settings ----------------------------------------------------------------------------------------- */

/* Each text is an upstream on line 3; the error is about it, and the only one. */
static void what_does_not_fit_together_in_an_upstream(void **state)
{
	(void)state;
	static const char down[] =
	        "and nothing here can tell that a server is down; write health = { ... };, circuit_breaker = { ... }; or "
	        "outlier = { ... };, or leave it out";
	static const struct {
		const char *text, *problem, *more;
	} rows[] = {
		/* what is only for other values of a neighbour */
		{ "hash_key = \"address\";", "hash_key: is only for balance = \"consistent_hash\"; write that, or leave hash_key out", "" },
		{ "health = { path = \"/health\"; };",
		        "health.path: is only for type = \"http\" or \"https\"; write that, or leave path out", "" },
		{ "health = { type = \"redis\"; expect = \"2xx\"; };",
		        "health.expect: is only for type = \"tcp\", \"http\", \"https\" or \"udp\"; write that, or leave expect out", "" },
		{ "health = { type = \"http\"; send = \"\"; };",
		        "health.send: is only for type = \"tcp\" or \"udp\"; write that, or leave send out", "" },
		{ "health = { type = \"tcp\"; host = \"h\"; };", "health.host: is only for type = \"http\" or \"https\"; write", "" },
		{ "health = { type = \"http\"; verify = false; };", "health.verify: is only for type = \"https\"; write", "" },
		{ "health = { type = \"redis\"; user = \"u\"; };", "health.user: is only for type = \"postgres\" or \"mysql\"; write", "" },
		/* health */
		{ "health = { expect = \"2xx\"; };",
		        "health.expect: is the answer to what send says, which is missing; write send = \"...\"; or", "" },
		{ "health = { type = \"http\"; expect = \"OK\"; };",
		        "health.expect: is \"OK\": not a status code (100 to 599), a class (2xx) or a range (200-399); write for example "
		        "\"2xx\"",
		        "" },
		{ "health = { type = \"https\"; expect = \"\"; };", "health.expect: is \"\": not a status code", "" },
		{ "health = { type = \"http\"; expect = \"399-200\"; };",
		        "health.expect: is \"399-200\": the range ends before it begins; write", "" },
		{ "health = { type = \"http\"; expect = \"200,\"; };", "health.expect: is \"200,\": not a status code", "" },
		{ "health = { fast_interval = \"6s\"; };", "health.fast_interval: is more than interval; write less, or leave it out", "" },
		/* the line */
		{ "queue = { size = 5; };",
		        "queue: is a queue without a limit: nothing would ever make a client wait in it; write max_connections", "" },
		{ "queue = { size = 5; }; connect_rate = \"0/s\";", "queue: is a queue without a limit", "" },
		{ "connect_burst = 5;",
		        "connect_burst: is beyond the pace of connect_rate, which is missing; write connect_rate = \"N/s\";", "" },
		{ "when_all_down = \"wait\"; health = { };",
		        "when_all_down: is \"wait\", and there is no queue to wait in; write queue = { size = N; };", "" },
		/* what nothing would ever cause */
		{ "when_all_down = \"wait\"; queue = { size = 5; };", "when_all_down: is \"wait\", ", down },
		{ "slow_start = \"1s\";", "slow_start: is for servers that come back, ", down },
		{ "on_down = \"close\";", "on_down: is \"close\", and nothing checks the servers; write health = { ... };", "" },
		{ "on_down = \"close\"; health = { type = \"none\"; }; outlier = { };", "on_down: is \"close\", and nothing checks", "" },
		{ "on_down = \"close\"; circuit_breaker = { };", "on_down: is \"close\", and nothing checks", "" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512], want[512];
		snprintf(text, sizeof text, LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; } );\n%s } );",
		        rows[i].text);
		snprintf(want, sizeof want, "aegis.conf:3: upstreams[0].%s%s", rows[i].problem, rows[i].more);
		const char *lines = errors_of_text(text);
		if (strncmp(lines, want, strlen(want)) != 0 || strchr(lines, '\n')[1] != '\0')
			fail_msg("%s gives %s", rows[i].text, lines);
	}
}

static void what_fits_together_in_an_upstream(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"balance = \"consistent_hash\"; affinity = { ttl = \"1m\"; };",
		"balance = \"consistent_hash\"; hash_key = \"address\";",
		"health = { send = \"\"; expect = \"220\"; };",
		"health = { send = \"PING\"; };",
		"health = { interval = \"1s\"; timeout = \"10s\"; };",
		"health = { type = \"http\"; expect = \"2xx, 304\"; port = 8081; };",
		"health = { }; slow_start = \"1s\"; on_down = \"close\";",
		"circuit_breaker = { }; slow_start = \"1s\";",
		"outlier = { }; slow_start = \"1s\";",
		"when_all_down = \"wait\"; queue = { size = 5; }; health = { };",
		"when_all_down = \"any\"; on_down = \"keep\"; slow_start = \"0s\";",
		"connect_rate = \"5/s\"; queue = { size = 5; };",
		"connect_rate = \"5/s\"; connect_burst = 5;",
		"connect_rate = \"0/s\"; connect_burst = 5;",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char text[512];
		snprintf(text, sizeof text, LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; } ); %s } );",
		        texts[i]);
		config_free(load_text(text));
	}
}

static void limits_of_servers(void **state)
{
	(void)state;
#define TWO(first, second)                                                                                       \
	LISTENER "upstreams = ( { name = \"u\"; queue = { size = 5; };\nservers = ( { address = \"h:1\"; " first \
	         " },\n{ address = \"h:2\"; " second " } ); } );"
	assert_string_equal(errors_of_text(TWO("max_connections = 5; soft_limit = 6;", "soft_limit = 9;")),
	        "aegis.conf:3: upstreams[0].servers[0].soft_limit: is 6 and max_connections is 5; write a soft_limit that is not more\n");
	config_free(load_text(TWO("max_connections = 5; soft_limit = 5;", "soft_limit = 9;")));
	config_free(load_text(TWO("", "max_connections = 5;")));
	assert_non_null(strstr(errors_of_text(TWO("max_connections = 0;", "soft_limit = 5;")), "is a queue without a limit"));
	/* a limit that is wrong in itself is not told to be missing, too */
	assert_string_equal(errors_of_text(TWO("max_connections = -5;", "max_connections = \"5\";")),
	        "aegis.conf:3: upstreams[0].servers[0].max_connections: is -5; write a number from 1 to 10000000, or 0 (no limit)\n"
	        "aegis.conf:4: upstreams[0].servers[1].max_connections: is \"5\"; write a number from 1 to 10000000, or 0 (no limit)\n");
#undef TWO
}

static void a_unix_socket_has_no_port_to_check(void **state)
{
	(void)state;
	assert_string_equal(
	        errors_of_text(LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; }, { address = \"unix:/a\"; } );\n"
	                                "health = { port = 80; }; } );"),
	        "aegis.conf:3: upstreams[0].health.port: servers[1] (\"unix:/a\") is a unix socket, which has no port; leave port out\n");
	config_free(load_text(LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"unix:/a\"; } ); health = { }; } );"));
}

/* What is wrong in itself does not make a second error about what depends on it. */
static void one_mistake_in_a_group_is_told_once(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"health = { type = \"htp\"; path = \"/x\"; expect = \"2xx\"; send = \"\"; }; on_down = \"close\";",
		"balance = \"consistent_hsh\"; hash_key = \"address\";",
		"health = { type = \"http\"; expect = 200; };",
		"circuit_breaker = { error_threshold = \"5\"; }; slow_start = \"1s\";",
		"health = 5;",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char text[512];
		snprintf(text, sizeof text, LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; } ); %s } );",
		        texts[i]);
		const char *lines = errors_of_text(text);
		if (strchr(lines, '\n')[1] != '\0')
			fail_msg("%s gives %s", texts[i], lines);
	}
}

static void ranges_stand_once(void **state)
{
	(void)state;
	assert_string_equal(
	        errors_of_text("listeners = ( { address = \":1\"; allow = [ \"10.0.0.0/8\",\n\"10.0.0.0/9\", \"::ffff:10.0.0.0/104\" ];\n"
	                       "deny = [ \"all\", \"10.0.0.0/8\",\n\"all\" ]; } );\n" UPSTREAM),
	        "aegis.conf:2: listeners[0].allow[2]: 10.0.0.0/8 is in allow[0] already (aegis.conf:1); leave one of the two out\n"
	        "aegis.conf:3: listeners[0].deny[1]: 10.0.0.0/8 is in allow[0] too (aegis.conf:1); nobody can be both let in and kept out\n"
	        "aegis.conf:4: listeners[0].deny[2]: all is in deny[0] already (aegis.conf:3); leave one of the two out\n");
	config_free(load_text(
	        "listeners = ( { address = \":1\"; allow = [ \"10.0.0.0/8\", \"10.0.0.0/9\", \"0.0.0.0/0\", \"::/0\", \"10.0.0.0\" ]; "
	        "deny = [ \"all\", \"10.0.0.0/10\" ]; }, { address = \":2\"; deny = [ \"10.0.0.0/8\" ]; } );" UPSTREAM));
}

static void guards_that_cannot_work(void **state)
{
	(void)state;
	static const struct {
		const char *text, *problem;
	} rows[] = {
		{ "address = \":1\"; bandwidth = { per = \"listener\"; };",
		        "bandwidth.per: says of what, and nothing says how much; write up or down, or leave per out\n" },
		{ "address = \":1\"; bandwidth = { up = \"1M/s\"; down = \"2M/s\"; }; min_rate = \"1048577/s\";",
		        "min_rate: is more than bandwidth.up lets through, so that every client would be too slow; write less\n" },
		{ "address = \":1\"; bandwidth = { down = \"2M/s\"; }; min_rate = \"3M/s\";",
		        "min_rate: is more than bandwidth.down lets through" },
		{ "address = \"unix:/l\"; allow = [ \"10.0.0.0/8\" ];",
		        "allow: clients of a unix socket have no IP address; leave allow and" },
		{ "address = \"unix:/l\"; deny = [ \"10.0.0.0/8\" ];",
		        "deny: clients of a unix socket have no IP address; leave allow and" },
		{ "address = \"unix:/l\"; rate_limit = { connections_per_second = 5; per = \"prefix\"; };",
		        "rate_limit.per: clients of a unix socket have no IP address; write per = \"listener\"\n" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512], want[512];
		snprintf(text, sizeof text, "listeners = ( {\n%s } );\n" UPSTREAM, rows[i].text);
		snprintf(want, sizeof want, "aegis.conf:2: listeners[0].%s", rows[i].problem);
		const char *lines = errors_of_text(text);
		if (strncmp(lines, want, strlen(want)) != 0 || strchr(lines, '\n')[1] != '\0')
			fail_msg("%s gives %s", rows[i].text, lines);
	}
	config_free(load_text(
	        "listeners = ( { address = \"unix:/l\"; allow = [ ]; rate_limit = { connections_per_second = 5; }; min_rate = \"1k/s\"; "
	        "bandwidth = { up = \"1k/s\"; per = \"listener\"; }; } );" UPSTREAM));
}

/* Long lists are taken at once, and one that is too long is told. */
static void a_hundred_thousand_ranges(void **state)
{
	(void)state;
	enum { SIZE = 4 << 20 };
	char *text = malloc(SIZE);

	assert_non_null(text);
	for (int more = 0; more < 2; more++) {
		size_t length = (size_t)snprintf(text, SIZE, UPSTREAM "listeners = ( { address = \":1\"; deny = [\n");
		for (int i = 0; i < CONFIG_MAX_PREFIXES + more; i++)
			length += (size_t)snprintf(
			        text + length, SIZE - length, "%s\"10.%d.%d.%d\"", i > 0 ? "," : "", i >> 16, i >> 8 & 255, i & 255);
		snprintf(text + length, SIZE - length, "]; } );");
		if (more == 1) {
			assert_string_equal(errors_of_text(text),
			        "aegis.conf:2: listeners[0].deny: has 100001 elements; there may be at most 100000\n");
			continue;
		}
		struct config *config = load_text(text);
		assert_int_equal(config->listeners[0].n_deny, CONFIG_MAX_PREFIXES);
		char *dump = dump_of(config, true);
		config_free(config);
		config = load_text(dump); /* the dump has them all */
		assert_int_equal(config->listeners[0].n_deny, CONFIG_MAX_PREFIXES);
		config_free(config);
		free(dump);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_group_brings_its_defaults),
		cmocka_unit_test(every_setting_of_the_shield_reaches_its_field),
		cmocka_unit_test(what_is_derived_for_health),
		cmocka_unit_test(wrong_elements_are_told),
		cmocka_unit_test(wrong_values_of_the_shield_are_told),
		cmocka_unit_test(wrong_values_of_a_listeners_guards_are_told),
		cmocka_unit_test(what_does_not_fit_together_in_an_upstream),
		cmocka_unit_test(what_fits_together_in_an_upstream),
		cmocka_unit_test(limits_of_servers),
		cmocka_unit_test(a_unix_socket_has_no_port_to_check),
		cmocka_unit_test(one_mistake_in_a_group_is_told_once),
		cmocka_unit_test(ranges_stand_once),
		cmocka_unit_test(guards_that_cannot_work),
		cmocka_unit_test(a_hundred_thousand_ranges),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
