/* From sources to the struct: defaults, values, overrides, quick mode, and what is wrong with a value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "base/clock.h"
#include "loading.h"
#include "os/runtime_dir.h"

static void the_defaults(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER UPSTREAM);
	char directory[256];

	assert_int_equal(config->workers, 0);
	assert_true(config->pin);
	assert_int_equal(config->engine, ENGINE_AUTO);
	assert_string_equal(config->user, "");
	assert_string_equal(config->group, "");
	assert_string_equal(config->runtime_dir, runtime_dir_default(directory, sizeof directory));
	assert_int_equal(config->max_connections, 100000);
	assert_int_equal(config->buffer_memory_bytes, 256 << 20);
	assert_int_equal(config->flight_recorder_bytes, 128 << 10);
	assert_int_equal(config->log.level, LOG_LEVEL_INFO);
	assert_string_equal(config->log.target, "stderr");
	assert_int_equal(config->log.format, LOG_FORMAT_TEXT);
	assert_int_equal(config->drain.timeout_ns, 30 * NS_PER_S);
	assert_int_equal(config->drain.pace, 0);
	assert_int_equal(config->drain.max_generations, 4);
	assert_int_equal(config->resolver.min_ttl_ns, NS_PER_S);
	assert_int_equal(config->resolver.max_ttl_ns, 300 * NS_PER_S);
	assert_int_equal(config->resolver.timeout_ns, 2 * NS_PER_S);
	assert_int_equal(config->resolver.n_servers, 0);

	assert_int_equal(config->n_listeners, 1);
	const struct listener_config *listener = &config->listeners[0];
	assert_string_equal(listener->name, "127.0.0.1:8080");
	assert_string_equal(listener->upstream_name, "app");
	assert_int_equal(listener->upstream, 0);
	assert_int_equal(listener->protocol, PROTOCOL_TCP);
	assert_int_equal(listener->backlog, 4096);
	assert_int_equal(listener->max_connections, 0);
	assert_int_equal(listener->on_full, ON_FULL_REJECT);
	assert_true(listener->tcp.nodelay);
	assert_false(listener->tcp.quickack);
	assert_int_equal(listener->tcp.fast_open, 0);
	assert_int_equal(listener->tcp.defer_accept_ns, 0);
	assert_int_equal(listener->tcp.keepalive_ns, 60 * NS_PER_S);
	assert_int_equal(listener->tcp.user_timeout_ns, 0);
	assert_int_equal(listener->tcp.receive_buffer_bytes, 0);
	assert_int_equal(listener->tcp.send_buffer_bytes, 0);
	assert_int_equal(listener->timeout.first_byte_ns, 0);
	assert_int_equal(listener->timeout.idle_ns, 0);
	assert_int_equal(listener->timeout.lifetime_ns, 0);
	assert_int_equal(listener->n_allow, 0);
	assert_int_equal(listener->n_deny, 0);
	assert_int_equal(listener->rate_limit.connections_per_second, 0);
	assert_int_equal(listener->rate_limit.burst, 100);
	assert_int_equal(listener->rate_limit.per, RATE_LIMIT_PER_LISTENER);
	assert_int_equal(listener->bandwidth.up_bytes_per_s, 0);
	assert_int_equal(listener->bandwidth.down_bytes_per_s, 0);
	assert_int_equal(listener->bandwidth.per, BANDWIDTH_PER_CONNECTION);
	assert_int_equal(listener->min_rate_bytes_per_s, 0);

	assert_int_equal(config->n_upstreams, 1);
	const struct upstream_config *upstream = &config->upstreams[0];
	assert_string_equal(upstream->name, "app");
	assert_int_equal(upstream->balance, BALANCE_ROUND_ROBIN);
	assert_int_equal(upstream->timeout.connect_ns, 5 * NS_PER_S);
	assert_int_equal(upstream->timeout.read_ns, 0);
	assert_int_equal(upstream->retries, 2);
	assert_int_equal(upstream->start_test, START_TEST_OFF);
	assert_int_equal(upstream->affinity.ttl_ns, 0);
	assert_int_equal(upstream->health.type, HEALTH_TYPE_NONE);
	assert_int_equal(upstream->circuit_breaker.error_threshold, 0);
	assert_int_equal(upstream->outlier.failures, 0);
	assert_int_equal(upstream->slow_start_ns, 0);
	assert_int_equal(upstream->when_all_down, ALL_DOWN_REFUSE);
	assert_int_equal(upstream->on_down, ON_DOWN_KEEP);
	assert_int_equal(upstream->queue.size, 0);
	assert_int_equal(upstream->connect_rate_per_s, 0);
	assert_int_equal(upstream->connect_burst, 0);
	assert_true(upstream->tcp.nodelay);
	assert_int_equal(upstream->tcp.keepalive_ns, 60 * NS_PER_S);
	assert_int_equal(upstream->n_servers, 1);
	const struct server_config *server = &upstream->servers[0];
	assert_string_equal(server->name, "127.0.0.1:3000");
	assert_int_equal(server->weight, 100);
	assert_int_equal(server->max_connections, 0);
	assert_int_equal(server->soft_limit, 0);
	assert_false(server->backup);
	assert_false(server->disabled);
	assert_string_equal(server->file, in_directory("aegis.conf"));
	assert_int_equal(server->line, 2);
	assert_int_equal(server->n_addrs, 0);
	config_free(config);
}

static void every_setting_reaches_its_field(void **state)
{
	(void)state;
	struct config *config = load_text(
	        "workers = 3; pin = false; engine = \"epoll\"; user = \"u\"; group = \"g\"; runtime_dir = \"/r\"; max_connections = 7;\n"
	        "buffer_memory = \"3M\"; log = { level = \"debug\"; target = \"/l\"; format = \"json\"; };\n"
	        "drain = { timeout = \"2m\"; pace = 9; max_generations = 2; };\n"
	        "listeners = (\n"
	        " { name = \"l\"; address = \"[::1]:1\"; protocol = \"tcp\"; upstream = \"two\"; backlog = 5; max_connections = 6; on_full "
	        "= \"wait\";\n"
	        "   tcp = { nodelay = false; quickack = true; fast_open = 8; defer_accept = \"2s\"; keepalive = \"0s\"; user_timeout = "
	        "\"1ms\";\n"
	        "           receive_buffer = \"4k\"; send_buffer = \"1G\"; };\n"
	        "   timeout = { first_byte = \"1s\"; idle = \"2s\"; lifetime = \"3s\"; }; },\n"
	        " { name = \"f\"; address = \"fd:9\"; upstream = \"one\"; } );\n"
	        "upstreams = (\n"
	        " { name = \"one\"; servers = ( { address = \"h:1\"; } ); },\n"
	        " { name = \"two\"; balance = \"least_connections\"; retries = 7; start_test = \"fail\"; timeout = { connect = \"10m\"; "
	        "read = \"4s\"; };\n"
	        "   tcp = { nodelay = false; quickack = true; keepalive = \"5s\"; user_timeout = \"6s\"; receive_buffer = "
	        "\"8k\";\n"
	        "           send_buffer = \"16k\"; };\n"
	        "   servers = ( { name = \"a\"; address = \"unix:/s\"; weight = 65535; },\n"
	        "               { name = \"b\"; address = \"db.example.org:5432\"; weight = 0; backup = true; disabled = true; } ); } "
	        ");\n");

	assert_int_equal(config->workers, 3);
	assert_false(config->pin);
	assert_int_equal(config->engine, ENGINE_EPOLL);
	assert_string_equal(config->user, "u");
	assert_string_equal(config->group, "g");
	assert_string_equal(config->runtime_dir, "/r");
	assert_int_equal(config->max_connections, 7);
	assert_int_equal(config->buffer_memory_bytes, 3 << 20);
	assert_int_equal(config->log.level, LOG_LEVEL_DEBUG);
	assert_string_equal(config->log.target, "/l");
	assert_int_equal(config->log.format, LOG_FORMAT_JSON);
	assert_int_equal(config->drain.timeout_ns, 120 * NS_PER_S);
	assert_int_equal(config->drain.pace, 9);
	assert_int_equal(config->drain.max_generations, 2);
	const struct listener_config *listener = &config->listeners[0];
	assert_string_equal(listener->name, "l");
	assert_string_equal(listener->address, "[::1]:1");
	assert_int_equal(listener->endpoint.kind, ENDPOINT_ADDRESS);
	assert_int_equal(addr_port(&listener->endpoint.addr), 1);
	assert_int_equal(listener->upstream, 1);
	assert_int_equal(listener->backlog, 5);
	assert_int_equal(listener->max_connections, 6);
	assert_int_equal(listener->on_full, ON_FULL_WAIT);
	assert_false(listener->tcp.nodelay);
	assert_true(listener->tcp.quickack);
	assert_int_equal(listener->tcp.fast_open, 8);
	assert_int_equal(listener->tcp.defer_accept_ns, 2 * NS_PER_S);
	assert_int_equal(listener->tcp.keepalive_ns, 0);
	assert_int_equal(listener->tcp.user_timeout_ns, NS_PER_MS);
	assert_int_equal(listener->tcp.receive_buffer_bytes, 4096);
	assert_int_equal(listener->tcp.send_buffer_bytes, 1 << 30);
	assert_int_equal(listener->timeout.first_byte_ns, NS_PER_S);
	assert_int_equal(listener->timeout.idle_ns, 2 * NS_PER_S);
	assert_int_equal(listener->timeout.lifetime_ns, 3 * NS_PER_S);
	assert_int_equal(config->listeners[1].endpoint.kind, ENDPOINT_FD);
	assert_int_equal(config->listeners[1].endpoint.fd, 9);
	assert_int_equal(config->listeners[1].upstream, 0);
	const struct upstream_config *upstream = &config->upstreams[1];
	assert_int_equal(upstream->balance, BALANCE_LEAST_CONNECTIONS);
	assert_int_equal(upstream->retries, 7);
	assert_int_equal(upstream->start_test, START_TEST_FAIL);
	assert_int_equal(upstream->timeout.connect_ns, 600 * NS_PER_S);
	assert_int_equal(upstream->timeout.read_ns, 4 * NS_PER_S);
	assert_false(upstream->tcp.nodelay);
	assert_true(upstream->tcp.quickack);
	assert_int_equal(upstream->tcp.keepalive_ns, 5 * NS_PER_S);
	assert_int_equal(upstream->tcp.user_timeout_ns, 6 * NS_PER_S);
	assert_int_equal(upstream->tcp.receive_buffer_bytes, 8192);
	assert_int_equal(upstream->tcp.send_buffer_bytes, 16384);
	assert_int_equal(upstream->servers[0].weight, 65535);
	assert_int_equal(upstream->servers[1].weight, 0);
	assert_int_equal(upstream->servers[1].endpoint.kind, ENDPOINT_NAME);
	assert_string_equal(upstream->servers[1].endpoint.name, "db.example.org");
	assert_true(upstream->servers[1].backup);
	assert_true(upstream->servers[1].disabled);
	config_free(config);
}

static void all_errors_are_listed_at_once(void **state)
{
	(void)state;
	assert_string_equal(
	        errors_of_text("workers = 2000;\n"
	                       "pinn = true;\n"
	                       "log = { level = \"inof\"; colour = 1; };\n"
	                       "drain = 5;\n"
	                       "listeners = (\n"
	                       "  { adress = \"0.0.0.0:80\"; backlog = \"many\"; upstream = \"app\"; },\n"
	                       "  \"x\",\n"
	                       "  { address = \"127.0.0.1\"; upstream = \"app\";\n"
	                       "    tcp = { keepalive = 60; receive_buffer = \"1k\"; }; timeout = { idle = \"5\"; }; } );\n"
	                       "upstreams = ( { name = \"app\"; retries = 8; servers = ( { address = \"fd:3\"; weight = 1.5; } ); } );\n"),
	        "aegis.conf:2: pinn: unknown key \"pinn\"; did you mean \"pin\"?\n"
	        "aegis.conf:1: workers: is 2000; write a number from 1 to 256, or \"auto\"\n"
	        "aegis.conf:3: log.colour: unknown key \"colour\"; known here: level, target, format\n"
	        "aegis.conf:3: log.level: is \"inof\"; did you mean \"info\"? Write \"error\", \"warn\", \"info\" or \"debug\"\n"
	        "aegis.conf:4: drain: is not a group; write drain = { ... };\n"
	        "aegis.conf:6: listeners[0].adress: unknown key \"adress\"; did you mean \"address\"?\n"
	        "aegis.conf:6: listeners[0].backlog: is \"many\"; write a number from 1 to 65535\n"
	        "aegis.conf:7: listeners[1]: is not a group; the elements of this list are groups { ... }\n"
	        "aegis.conf:8: listeners[2].address: is \"127.0.0.1\": the port is missing; write for example \"127.0.0.1:8080\", "
	        "\"[::1]:8080\", \":8080\" (all addresses) or \"unix:/path\"\n"
	        "aegis.conf:9: listeners[2].tcp.keepalive: is 60; write a duration with its unit from \"1s\" to \"32767s\", or \"0s\" (no "
	        "probes)\n"
	        "aegis.conf:9: listeners[2].tcp.receive_buffer: is \"1k\"; write a size from \"4k\" to \"1G\", or \"0\" (the kernel "
	        "decides)\n"
	        "aegis.conf:9: listeners[2].timeout.idle: is \"5\"; write a duration with its unit from \"1ms\" to \"365d\", or \"0s\" "
	        "(none)\n"
	        "aegis.conf:10: upstreams[0].retries: is 8; write a number from 1 to 7, or 0 (one attempt only)\n"
	        "aegis.conf:10: upstreams[0].servers[0].address: is \"fd:3\": that is for listeners only; write for example "
	        "\"10.0.0.5:3000\", \"[::1]:3000\", \"db.example.org:5432\" or \"unix:/path\"\n"
	        "aegis.conf:10: upstreams[0].servers[0].weight: is 1.5; write a number from 1 to 65535, or 0 (no new connection)\n");
}

static void wrong_values_are_told(void **state)
{
	(void)state;
	static const struct {
		const char *text, *problem;
	} rows[] = {
		{ "pin = \"yes\";", "pin: is \"yes\"; write true or false" },
		{ "pin = 1;", "pin: is 1; write true or false" },
		{ "workers = 0;", "workers: is 0; write a number from 1 to 256, or \"auto\"" },
		{ "workers = \"2\";", "workers: is \"2\"; write" },
		{ "workers = -1;", "workers: is -1; write" },
		{ "workers = 2.0;", "workers: is 2; write" },
		{ "workers = true;", "workers: is true; write" },
		{ "workers = { };", "workers: is a group; write" },
		{ "workers = ( );", "workers: is a list; write" },
		{ "max_connections = 10000001;", "max_connections: is 10000001; write" },
		{ "max_connections = 99999999999L;", "max_connections: is 99999999999; write" },
		{ "buffer_memory = \"1M/s\";", "buffer_memory: is \"1M/s\"; write a size" },
		{ "buffer_memory = \"99999999999T\";", "write a size from \"1M\" to \"1T\"" },
		{ "engine = \"kqueue\";", "engine: is \"kqueue\"; write \"auto\", \"epoll\" or \"io_uring\"" },
		{ "engine = 5;", "engine: is 5; write \"auto\", \"epoll\" or \"io_uring\"" },
		{ "user = 5;", "user: is 5; write text" },
		{ "user = \"123456789012345678901234567890123\";", "it is longer than 32 bytes" },
		{ "runtime_dir = \"run\";", "it does not start with \"/\"; write an absolute path" },
		{ "runtime_dir = \"\";", "it does not start with \"/\"; write an absolute path" },
		{ "log = { target = \"sysolg\"; };", "log.target: is \"sysolg\"; did you mean \"syslog\"? Write \"stderr\"" },
		{ "log = { target = \"aegis.log\"; };", "log.target: is \"aegis.log\"; write \"stderr\"" },
		{ "log = ( );", "log: is not a group; write log = { ... };" },
		{ "drain = { timeout = \"-1s\"; };", "drain.timeout: is \"-1s\"; write" },
		{ "drain = { timeout = \"9999999999999999999s\"; };", "drain.timeout: is \"9999999999999999999s\"; write" },
		{ "udp = { };", "udp: unknown key \"udp\"; known here: workers, pin" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512];
		snprintf(text, sizeof text, LISTENER UPSTREAM "%s", rows[i].text);
		const char *lines = errors_of_text(text);
		if (strncmp(lines, "aegis.conf:3: ", 14) != 0 || strstr(lines, rows[i].problem) == NULL || strchr(lines, '\n')[1] != '\0')
			fail_msg("%s gives %s", rows[i].text, lines);
	}
}

static void wrong_addresses_are_told(void **state)
{
	(void)state;
	static const struct {
		const char *listen, *server, *problem;
	} rows[] = {
		{ "localhost:80", "h:1", "listeners[0].address: is \"localhost:80\": listening needs an IP address, not a host name" },
		{ "8080", "h:1", "a port alone is written with a colon" },
		{ "::1:80", "h:1", "an IPv6 address needs brackets" },
		{ "", "h:1", "listeners[0].address: is \"\": it is empty" },
		{ ":80", ":1", "upstreams[0].servers[0].address: is \":1\": the host is missing" },
		{ ":80", "*:1", "the host is missing" },
		{ ":80", "0.0.0.0:1", "the host is missing" },
		{ ":80", "3000", "the host is missing" },
		{ ":80", "h:0", "port 0 cannot be connected to" },
		{ ":80", "127.0.0.1:0", "port 0 cannot be connected to" },
		{ ":80", "systemd:web", "that is for listeners only" },
		{ ":80",
		        "unix:/"
		        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		        "the path of a unix socket is longer than 107 bytes" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512];
		snprintf(text, sizeof text,
		        "listeners = ( { address = \"%s\"; } ); upstreams = ( { name = \"a\"; servers = ( { address = \"%s\"; } ); } );",
		        rows[i].listen, rows[i].server);
		const char *lines = errors_of_text(text);
		if (strstr(lines, rows[i].problem) == NULL || strchr(lines, '\n')[1] != '\0')
			fail_msg("%s, %s give %s", rows[i].listen, rows[i].server, lines);
	}
}

static void what_is_missing_is_told(void **state)
{
	(void)state;
	assert_string_equal(errors_of_text(""),
	        "aegis.conf: listeners: there is none; write listeners = ( { address = \"HOST:PORT\"; } );\n"
	        "aegis.conf: upstreams: there is none; write upstreams = ( { name = \"NAME\"; servers = ( ... ); } );\n");
	assert_string_equal(
	        errors_of_text(
	                "listeners = ( );\n\nupstreams = ( { servers = ( { } ) },\n{ name = \"b\" }, { name = \"c\"; servers = { } } );"),
	        "aegis.conf:1: listeners: there is none; write listeners = ( { address = \"HOST:PORT\"; } );\n"
	        "aegis.conf:3: upstreams[0].name: is missing; write a name between quotes: at most 63 letters, digits and any of "
	        "._:/@%*[]-\n"
	        "aegis.conf:3: upstreams[0].servers[0].address: is missing; write for example \"10.0.0.5:3000\", \"[::1]:3000\", "
	        "\"db.example.org:5432\" or \"unix:/path\"\n"
	        "aegis.conf:4: upstreams[1].servers: there is none; write servers = ( { address = \"HOST:PORT\"; } );\n"
	        "aegis.conf:4: upstreams[2].servers: is not a list; write servers = ( { ... }, { ... } );\n");
	assert_string_equal(errors_of(&(struct config_source){ .file = NULL }),
	        "command line: listeners: there is none; write listeners = ( { address = \"HOST:PORT\"; } );\n"
	        "command line: upstreams: there is none; write upstreams = ( { name = \"NAME\"; servers = ( ... ); } );\n");
}

static void overrides_replace_and_merge(void **state)
{
	(void)state;
	static const char *const overrides[] = { "workers = 2;", "log = { level = \"debug\"; };", "workers = 3", "drain = { pace = 5; };",
		"drain.timeout = 1;" };
	struct config_source source = { .file = write_file("aegis.conf",
		                                LISTENER UPSTREAM "workers = 1; log = { target = \"/l\"; level = \"warn\"; };"),
		.overrides = overrides,
		.n_overrides = 4 };
	struct config *config = load(&source);

	assert_int_equal(config->workers, 3);
	assert_int_equal(config->log.level, LOG_LEVEL_DEBUG);
	assert_string_equal(config->log.target, "/l");
	assert_int_equal(config->drain.pace, 5);
	assert_int_equal(config->drain.timeout_ns, 30 * NS_PER_S);
	config_free(config);

	source.n_overrides = 5;
	assert_non_null(strstr(errors_of(&source), "-e:1: "));
}

static void a_list_in_an_override_replaces(void **state)
{
	(void)state;
	static const char *const overrides[] = { "upstreams = ( { name = \"other\"; servers = ( { address = \"127.0.0.1:1\"; } ); } );",
		LISTENER };
	struct config_source source = { .file = write_file("aegis.conf", LISTENER UPSTREAM), .overrides = overrides, .n_overrides = 1 };
	struct config *config = load(&source);
	assert_int_equal(config->n_upstreams, 1);
	assert_string_equal(config->upstreams[0].name, "other");
	config_free(config);

	/* no file at all */
	config = load(&(struct config_source){ .overrides = overrides, .n_overrides = 2 });
	assert_string_equal(config->listeners[0].upstream_name, "other");
	assert_string_equal(config->upstreams[0].servers[0].file, "-e");
	config_free(config);
}

static void many_merges_keep_all(void **state)
{
	(void)state;
	/* groups grow over the room that their file made for them */
	static const char *const overrides[] = { "log = { format = \"json\"; };", "log = { target = \"/a\"; };", "pin = false;",
		"user = \"u\";", "group = \"g\";", "workers = 4;", "engine = \"epoll\";", "max_connections = 5;",
		"buffer_memory = \"1M\";" };
	for (size_t n = 0; n <= ARRAY_LEN(overrides); n++) {
		struct config *config =
		        load(&(struct config_source){ .file = write_file("aegis.conf", LISTENER UPSTREAM "log = { level = \"warn\"; };"),
		                .overrides = overrides,
		                .n_overrides = n });
		assert_int_equal(config->log.level, LOG_LEVEL_WARN);
		assert_int_equal(config->log.format, n > 0 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
		assert_string_equal(config->log.target, n > 1 ? "/a" : "stderr");
		assert_int_equal(config->pin, n <= 2);
		assert_string_equal(config->group, n > 4 ? "g" : "");
		assert_int_equal(config->max_connections, n > 7 ? 5 : 100000);
		assert_int_equal(config->n_listeners, 1);
		config_free(config);
	}
}

static void errors_in_overrides_are_told(void **state)
{
	(void)state;
	static const char *const overrides[] = { "wrkers = 2;", "workers =", "\nworkers = 0;", "@include \"/none\"" };

	assert_string_equal(errors_of(&(struct config_source){
	                            .file = write_file("aegis.conf", LISTENER UPSTREAM), .overrides = overrides, .n_overrides = 1 }),
	        "-e:1: wrkers: unknown key \"wrkers\"; did you mean \"workers\"?\n");
	assert_string_equal(errors_of(&(struct config_source){
	                            .file = write_file("aegis.conf", LISTENER UPSTREAM), .overrides = overrides + 2, .n_overrides = 1 }),
	        "-e:2: workers: is 0; write a number from 1 to 256, or \"auto\"\n");
	/* what cannot be read is told in all places, and nothing else is guessed then */
	assert_string_equal(errors_of(&(struct config_source){ .file = "/none", .overrides = overrides, .n_overrides = 4 }),
	        "/none: cannot be opened: No such file or directory; check the path\n"
	        "-e:1: the value of \"workers\" is missing; write workers = VALUE;\n"
	        "-e:1: @include \"/none\": cannot be opened: No such file or directory; check the path\n");
}

static void the_runtime_directory(void **state)
{
	(void)state;
	static const char *const overrides[] = { "runtime_dir = \"/from-e\";" };
	struct config_source source = { .file = write_file("aegis.conf", LISTENER UPSTREAM "runtime_dir = \"/from-file\";") };
	char directory[64], want[64], cwd[4096], absolute[4200];

	struct config *config = load(&source);
	assert_string_equal(config->runtime_dir, "/from-file");
	config_free(config);
	source.overrides = overrides;
	source.n_overrides = 1;
	config = load(&source);
	assert_string_equal(config->runtime_dir, "/from-e");
	config_free(config);
	source.runtime_dir = "/from-r";
	config = load(&source);
	assert_string_equal(config->runtime_dir, "/from-r");
	config_free(config);
	source.runtime_dir = "here";
	config = load(&source);
	assert_non_null(getcwd(cwd, sizeof cwd));
	snprintf(absolute, sizeof absolute, "%s/here", cwd);
	assert_string_equal(config->runtime_dir, absolute);
	config_free(config);
	source.runtime_dir = "";
	assert_string_equal(
	        errors_of(&source), "-r: runtime_dir: is \"\": it does not start with \"/\"; write an absolute path between quotes\n");

	snprintf(want, sizeof want, "/tmp/aegis-%u", (unsigned)geteuid());
	setenv("XDG_RUNTIME_DIR", "/run/user/5", 1);
	assert_string_equal(runtime_dir_default(directory, sizeof directory), geteuid() == 0 ? "/run/aegis" : "/run/user/5/aegis");
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	assert_string_equal(runtime_dir_default(directory, sizeof directory), geteuid() == 0 ? "/run/aegis" : want);
	unsetenv("XDG_RUNTIME_DIR");
	assert_string_equal(runtime_dir_default(directory, sizeof directory), geteuid() == 0 ? "/run/aegis" : want);
}

static void quick_mode(void **state)
{
	(void)state;
	static const char *const servers[] = { "127.0.0.1:3000", "unix:/run/app", "app.example.org:80" };
	static const char *const overrides[] = { "workers = 2;" };
	static const char *const listens[] = { "8080", ":8080", "*:8080", "[::]:8080" };
	struct config_source source = { .quick_upstreams = servers, .n_quick_upstreams = 3, .overrides = overrides, .n_overrides = 1 };

	for (size_t i = 0; i < ARRAY_LEN(listens); i++) {
		char text[ADDR_TEXT_SIZE];
		source.quick_listen = listens[i];
		struct config *config = load(&source);
		assert_int_equal(config->workers, 2);
		assert_int_equal(config->n_listeners, 1);
		assert_string_equal(config->listeners[0].name, "quick");
		assert_string_equal(addr_format(&config->listeners[0].endpoint.addr, text, sizeof text), "[::]:8080");
		assert_string_equal(config->upstreams[0].name, "quick");
		assert_int_equal(config->upstreams[0].n_servers, 3);
		assert_string_equal(config->upstreams[0].servers[1].name, "unix:/run/app");
		assert_null(config->upstreams[0].servers[1].file);
		config_free(config);
	}
}

static void quick_mode_with_errors(void **state)
{
	(void)state;
	static const char *const servers[] = { "127.0.0.1", "127.0.0.1:8080", "a:1", "a:1" };

	assert_string_equal(
	        errors_of(&(struct config_source){ .quick_listen = "host", .quick_upstreams = servers, .n_quick_upstreams = 1 }),
	        "command line: listeners[0].address: is \"host\": the port is missing; write for example \"127.0.0.1:8080\", "
	        "\"[::1]:8080\", "
	        "\":8080\" (all addresses) or \"unix:/path\"\n"
	        "command line: upstreams[0].servers[0].address: is \"127.0.0.1\": the port is missing; write for example "
	        "\"10.0.0.5:3000\", "
	        "\"[::1]:3000\", \"db.example.org:5432\" or \"unix:/path\"\n");
	assert_string_equal(errors_of(&(struct config_source){ .quick_listen = ":8080" }),
	        "command line: upstreams[0].servers: there is none; write servers = ( { address = \"HOST:PORT\"; } );\n");
	assert_string_equal(
	        errors_of(&(struct config_source){ .quick_listen = "8080", .quick_upstreams = servers + 1, .n_quick_upstreams = 3 }),
	        "command line: upstreams[0].servers[2].name: \"a:1\" is the name of servers[1] too; give each its own name\n"
	        "command line: upstreams[0].servers[0].address: \"127.0.0.1:8080\" is where Aegis itself listens (\":8080\"); write the "
	        "address "
	        "of the server\n");
}

static void ten_thousand_servers(void **state)
{
	(void)state;
	enum { COUNT = 10000, SIZE = 1 << 20 };
	char *text = malloc(SIZE);
	size_t length = (size_t)snprintf(text, SIZE, LISTENER "upstreams = ( { name = \"app\"; servers = (\n");

	for (int i = 0; i < COUNT; i++)
		length +=
		        (size_t)snprintf(text + length, SIZE - length, "%s{ name = \"s%d\"; address = \"10.0.%d.%d:80\"; weight = %d; }\n",
		                i > 0 ? "," : "", i, i / 256, i % 256, i % 100 + 1);
	snprintf(text + length, SIZE - length, "); } );");
	struct config *config = load_text(text);
	assert_int_equal(config->upstreams[0].n_servers, COUNT);
	assert_string_equal(config->upstreams[0].servers[COUNT - 1].name, "s9999");
	assert_int_equal(config->upstreams[0].servers[COUNT - 1].line, COUNT + 2);
	config_free(config);
	free(text);
}

static void more_than_there_is_room_for(void **state)
{
	(void)state;
	enum { SIZE = 1 << 20 };
	char *text = malloc(SIZE);
	size_t length = (size_t)snprintf(text, SIZE, "%s", UPSTREAM "listeners = ( { }");

	for (int i = 0; i < CONFIG_MAX_LISTENERS; i++)
		length += (size_t)snprintf(text + length, SIZE - length, ", { }");
	snprintf(text + length, SIZE - length, ");");
	assert_string_equal(errors_of_text(text), "aegis.conf:2: listeners: there are more than 256 of these together\n");
	length = (size_t)snprintf(text, SIZE, "%s", LISTENER "upstreams = (");
	for (int upstream = 0; upstream < 2; upstream++) {
		length += (size_t)snprintf(
		        text + length, SIZE - length, "%s\n{ name = \"u%d\"; servers = ( ", upstream > 0 ? "," : "", upstream);
		for (int i = 0; i < CONFIG_MAX_SERVERS / 2 + upstream; i++)
			length += (size_t)snprintf(text + length, SIZE - length, "%s{ address = \"h%d:1\"; }", i > 0 ? "," : "", i);
		length += (size_t)snprintf(text + length, SIZE - length, "); }");
	}
	snprintf(text + length, SIZE - length, ");");
	assert_non_null(strstr(errors_of_text(text), "aegis.conf:4: upstreams[1].servers: there are more than 16384 of these together\n"));
	free(text);
}

static void errors_are_added_to_what_is_there(void **state)
{
	(void)state;
	struct config_errors errors = { .count = 0 };
	struct config *config = NULL;

	config_errors_add(&errors, "f", 3, "a.b", "is %d\n; write %s", 5, "6");
	config_errors_add(&errors, "f", 0, NULL, "all");
	config_errors_add(&errors, NULL, 7, "", "none");
	assert_string_equal(errors.lines, "f:3: a.b: is 5\\n; write 6\nf: all\ncommand line:7: none\n");
	assert_int_equal(config_load(&(struct config_source){ .file = write_file("aegis.conf", LISTENER UPSTREAM) }, &config, &errors), 0);
	assert_int_equal(errors.count, 3);
	config_free(config);
	config_free(NULL);
	assert_int_equal(config_load(&(struct config_source){ .file = "/" }, &config, &errors), -22);
	assert_int_equal(errors.count, 4);
	config_errors_clear(&errors);
	assert_int_equal(errors.count, 0);
	config_errors_clear(&errors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_defaults),
		cmocka_unit_test(every_setting_reaches_its_field),
		cmocka_unit_test(all_errors_are_listed_at_once),
		cmocka_unit_test(wrong_values_are_told),
		cmocka_unit_test(wrong_addresses_are_told),
		cmocka_unit_test(what_is_missing_is_told),
		cmocka_unit_test(overrides_replace_and_merge),
		cmocka_unit_test(a_list_in_an_override_replaces),
		cmocka_unit_test(many_merges_keep_all),
		cmocka_unit_test(errors_in_overrides_are_told),
		cmocka_unit_test(the_runtime_directory),
		cmocka_unit_test(quick_mode),
		cmocka_unit_test(quick_mode_with_errors),
		cmocka_unit_test(ten_thousand_servers),
		cmocka_unit_test(more_than_there_is_room_for),
		cmocka_unit_test(errors_are_added_to_what_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
