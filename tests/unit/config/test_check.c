/* What must hold between settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loading.h"

#define SERVERS "servers = ( { address = \"10.0.0.1:1\"; } );"

static void names_are_unique(void **state)
{
	(void)state;
	assert_string_equal(errors_of_text("listeners = ( { name = \"l\"; address = \":1\"; },\n{ name = \"l\"; address = \":2\"; },\n{ "
	                                   "address = \":3\"; } );\n"
	                                   "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; },\n{ address = \"h:1\"; },\n"
	                                   "  { name = \"h:1\"; address = \"h:2\"; } ); } );"),
	        "aegis.conf:5: upstreams[0].servers[1].name: \"h:1\" is the name of servers[0] too (aegis.conf:4); give each its own name\n"
	        "aegis.conf:6: upstreams[0].servers[2].name: \"h:1\" is the name of servers[0] too (aegis.conf:4); give each its own name\n"
	        "aegis.conf:2: listeners[1].name: \"l\" is the name of listeners[0] too (aegis.conf:1); give each its own name\n");
	assert_string_equal(errors_of_text(LISTENER "upstreams = ( { name = \"u\"; " SERVERS " },\n{ name = \"u\"; " SERVERS " } );"),
	        "aegis.conf:3: upstreams[1].name: \"u\" is the name of upstreams[0] too (aegis.conf:2); give each its own name\n"
	        "aegis.conf:1: listeners[0].upstream: is missing, and there are several upstreams; write upstream = \"NAME\";\n");

	/* the same server in two upstreams is none of that */
	config_free(load_text("listeners = ( { address = \":1\"; upstream = \"b\"; } ); upstreams = ( { name = \"a\"; " SERVERS
	                      " }, { name = \"b\"; " SERVERS " } );"));
}

static void names_are_of_good_letters(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "a b", "a\\\"b", "a\\\\b", "a{b", "a\\nb", "\xc3\xbc",
		"0123456789012345678901234567890123456789012345678901234567890123" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char text[512];
		snprintf(text, sizeof text, LISTENER "upstreams = ( { name = \"%s\"; " SERVERS " } );", bad[i]);
		assert_non_null(strstr(errors_of_text(text), "aegis.conf:2: upstreams[0].name: is \""));
	}
	config_free(load_text("listeners = ( { name = \"aZ09._:/@%*[]-\"; address = \":1\"; } );" UPSTREAM));
}

static void a_name_from_the_address_keeps_the_rules(void **state)
{
	(void)state;
	assert_string_equal(
	        errors_of_text(
	                "listeners = ( { address = \"unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"; } );\n"
	                "upstreams = ( { name = \"u\"; servers = ( { address = \"unix:/my app\"; } ); } );"),
	        "aegis.conf:2: upstreams[0].servers[0].name: the address cannot be the name: it has a character that is not allowed in "
	        "names; add "
	        "name = \"NAME\";\n"
	        "aegis.conf:1: listeners[0].name: the address cannot be the name: it is too long; add name = \"NAME\";\n");
	config_free(load_text("listeners = ( { name = \"l\"; address = "
	                      "\"unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"; } );\n"
	                      "upstreams = ( { name = \"u\"; servers = ( { name = \"s\"; address = \"unix:/my app\"; } ); } );"));
}

static void the_upstream_exists(void **state)
{
	(void)state;
	assert_string_equal(
	        errors_of_text("listeners = ( { address = \":1\"; upstream = \"databse\"; },\n{ address = \":2\"; upstream = \"x\"; },\n"
	                       "{ address = \":3\"; } );\n"
	                       "upstreams = ( { name = \"database\"; " SERVERS " }, { name = \"web\"; " SERVERS " } );"),
	        "aegis.conf:1: listeners[0].upstream: there is no upstream called \"databse\"; did you mean \"database\"?\n"
	        "aegis.conf:2: listeners[1].upstream: there is no upstream called \"x\"; there are: \"database\", \"web\"\n"
	        "aegis.conf:3: listeners[2].upstream: is missing, and there are several upstreams; write upstream = \"NAME\";\n");
}

static void listeners_are_in_different_places(void **state)
{
	(void)state;
	static const struct {
		const char *one, *other;
		bool clash;
	} rows[] = {
		{ "127.0.0.1:80", "127.0.0.1:80", true },
		{ "127.0.0.1:80", "127.0.0.1:81", false },
		{ "127.0.0.1:80", "127.0.0.2:80", false },
		{ "127.0.0.1:80", "0.0.0.0:80", false },
		{ "127.0.0.1:0", "127.0.0.1:0", false }, /* two ports that the kernel chooses */
		{ "*:80", ":80", true },
		{ "*:80", "0.0.0.0:80", true },
		{ "[::]:80", "*:80", true },
		{ "[::1]:80", "[0::1]:80", true },
		{ "unix:/a", "unix:/a", true },
		{ "unix:/a", "unix:@a", false },
		{ "fd:3", "fd:3", true },
		{ "fd:3", "fd:4", false },
		{ "systemd:a", "systemd:a", true },
		{ "systemd:a", "systemd:b", false },
		{ "systemd:a", "unix:/a", false },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512], want[512];
		snprintf(text, sizeof text, "listeners = ( { name = \"a\"; address = \"%s\"; },\n{ name = \"b\"; address = \"%s\"; } ); %s",
		        rows[i].one, rows[i].other, UPSTREAM);
		if (!rows[i].clash) {
			config_free(load_text(text));
			continue;
		}
		snprintf(want, sizeof want,
		        "aegis.conf:2: listeners[1].address: \"%s\" is where listeners[0] (\"%s\") listens already (aegis.conf:1); change "
		        "one of the two\n",
		        rows[i].other, rows[i].one);
		assert_string_equal(errors_of_text(text), want);
	}
}

static void some_server_gets_connections(void **state)
{
	(void)state;
	assert_string_equal(
	        errors_of_text(LISTENER "upstreams = ( { name = \"u\";\nservers = ( { address = \"h:1\"; backup = true; } ); } );"),
	        "aegis.conf:3: upstreams[0].servers: all are backups; one at least must not be: leave backup out there\n");
	assert_string_equal(errors_of_text(LISTENER
	                            "upstreams = ( { name = \"u\";\nservers = ( { address = \"h:1\"; weight = 0; }, { address = \"h:2\"; "
	                            "weight = 0; } ); } );"),
	        "aegis.conf:3: upstreams[0].servers: all have weight 0: no server could ever get a connection; give one at least a "
	        "weight\n");
	assert_string_equal(errors_of_text(LISTENER "upstreams = ( { name = \"u\";\nservers = ( { address = \"h:1\"; disabled = true; }, "
	                                            "{ address = \"h:2\"; weight = 0; } ); } );"),
	        "aegis.conf:3: upstreams[0].servers: all are disabled or have weight 0: no server could ever get a connection; enable one "
	        "at least that has a weight\n");
	config_free(load_text(LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; disabled = true; }, { address = "
	                               "\"h:2\"; backup = true; } ); } );"));
	config_free(load_text(LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; backup = true; }, { address = "
	                               "\"h:2\"; weight = 0; } ); } );"));
}

static void nobody_connects_to_itself(void **state)
{
	(void)state;
	static const struct {
		const char *listen, *server;
		bool circle;
	} rows[] = {
		{ "127.0.0.1:80", "127.0.0.1:80", true },
		{ "127.0.0.1:80", "127.0.0.1:81", false },
		{ "127.0.0.1:80", "127.0.0.2:80", false },
		{ "0.0.0.0:80", "127.0.0.5:80", true },
		{ ":80", "[::1]:80", true },
		{ ":80", "10.0.0.1:80", false },
		{ ":80", "localhost:80", false }, /* not resolved here */
		{ "unix:/a", "unix:/a", true },
		{ "unix:/a", "unix:/b", false },
		{ "fd:80", "127.0.0.1:80", false },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[512], want[512];
		snprintf(text, sizeof text,
		        "listeners = ( { address = \"%s\"; } ); upstreams = ( { name = \"u\";\nservers = ( { address = \"%s\"; } ); } );",
		        rows[i].listen, rows[i].server);
		if (!rows[i].circle) {
			config_free(load_text(text));
			continue;
		}
		snprintf(want, sizeof want,
		        "aegis.conf:2: upstreams[0].servers[0].address: \"%s\" is where Aegis itself listens (\"%s\"); write the address "
		        "of the server\n",
		        rows[i].server, rows[i].listen);
		assert_string_equal(errors_of_text(text), want);
	}
}

static void what_is_kept_must_be_understood(void **state)
{
	(void)state;
#define POOL(text) LISTENER "upstreams = ( { name = \"u\"; " SERVERS "\npool = { " text " }; } );"
	assert_string_equal(errors_of_text(POOL("keep = 4;")),
	        "aegis.conf:3: upstreams[0].pool.keep: needs a framing that tells when a connection is free for another client: write "
	        "framing = \"http1\", \"redis\" or \"line\", or keep = 0\n");
	assert_string_equal(errors_of_text(POOL("share = true; framing = \"redis\";")),
	        "aegis.conf:3: upstreams[0].pool.share: shares the connections that keep allows, and keep is 0; write how many, or leave "
	        "share out\n");
	struct config *config = load_text(POOL("warm = 3; keep = 4; framing = \"line\"; share = true; max_idle = \"0s\";"));
	assert_int_equal(config->upstreams[0].pool.warm, 3);
	assert_int_equal(config->upstreams[0].pool.keep, 4);
	assert_int_equal(config->upstreams[0].pool.framing, POOL_FRAMING_LINE);
	assert_true(config->upstreams[0].pool.share);
	assert_int_equal(config->upstreams[0].pool.max_idle_ns, 0);
	config_free(config);
	config_free(load_text(POOL("warm = 3;"))); /* nothing is kept: no need to understand */
}

static void the_bounds_of_the_resolver(void **state)
{
	(void)state;
	assert_string_equal(errors_of_text(LISTENER UPSTREAM "resolver = {\nmin_ttl = \"10m\"; };"),
	        "aegis.conf:4: resolver.min_ttl: is more than max_ttl; write less, or a longer max_ttl\n");
	assert_string_equal(errors_of_text(LISTENER UPSTREAM "resolver = {\nmax_ttl = \"10ms\"; };"),
	        "aegis.conf:4: resolver.max_ttl: is less than min_ttl; write more, or a shorter min_ttl\n");
	config_free(load_text(LISTENER UPSTREAM "resolver = { min_ttl = \"1m\"; max_ttl = \"60s\"; };"));
}

static void admin_is_not_open_to_the_world(void **state)
{
	(void)state;
	static const char open[] =
	        ": is open to other machines, and nothing protects it; set admin.token_file, or write an address of this "
	        "machine (127.0.0.1, [::1])\n";
	static const char *const worlds[] = { "0.0.0.0:9090", ":9090", "*:9090", "[::]:9090", "192.0.2.1:9090", "[2001:db8::1]:9090" };
	static const char *const locals[] = { "", "127.0.0.1:9090", "127.9.9.9:9090", "[::1]:9090", "127.0.0.1:0" };
	static const char *const keys[] = { "address", "metrics_address" };
	char text[512], expected[256];
	for (size_t key = 0; key < ARRAY_LEN(keys); key++) {
		for (size_t i = 0; i < ARRAY_LEN(worlds); i++) {
			snprintf(text, sizeof text, LISTENER UPSTREAM "admin = { %s = \"%s\"; };", keys[key], worlds[i]);
			snprintf(expected, sizeof expected, "aegis.conf:3: admin.%s%s", keys[key], open);
			assert_string_equal(errors_of_text(text), expected);
			snprintf(text, sizeof text, LISTENER UPSTREAM "admin = { %s = \"%s\"; token_file = \"/etc/token\"; };", keys[key],
			        worlds[i]);
			config_free(load_text(text));
		}
		for (size_t i = 0; i < ARRAY_LEN(locals); i++) {
			snprintf(text, sizeof text, LISTENER UPSTREAM "admin = { %s = \"%s\"; };", keys[key], locals[i]);
			config_free(load_text(text));
		}
	}
}

static void admin_has_a_place_of_its_own(void **state)
{
	(void)state;
	assert_string_equal(
	        errors_of_text("listeners = ( { address = \"127.0.0.1:1\"; } );\n" UPSTREAM "admin = {\naddress = \"127.0.0.1:1\"; };"),
	        "aegis.conf:4: admin.address: is where listeners[0] (\"127.0.0.1:1\") listens; change one of the two\n");
	assert_string_equal(errors_of_text(LISTENER UPSTREAM "admin = { address = \"127.0.0.1:2\";\nmetrics_address = \"127.0.0.1:2\"; };"),
	        "aegis.conf:4: admin.metrics_address: is the address of the admin API, which has the metrics, too; leave it out, or write "
	        "another one\n");
	config_free(load_text(LISTENER UPSTREAM "admin = { address = \"127.0.0.1:0\"; metrics_address = \"127.0.0.1:0\"; };"));
	static const char *const wrong[] = { "9090", "localhost:9090", "unix:/tmp/x", "fd:3", "systemd:x", "127.0.0.1" };
	char text[512];
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		snprintf(text, sizeof text, LISTENER UPSTREAM "admin = { address = \"%s\"; };", wrong[i]);
		assert_non_null(strstr(errors_of_text(text), "aegis.conf:3: admin.address: is \""));
	}
	assert_string_equal(errors_of_text(LISTENER UPSTREAM "admin = { token_file = \"token\"; };"),
	        "aegis.conf:3: admin.token_file: is \"token\": it does not start with \"/\"; write an absolute path between quotes, or "
	        "\"\" for "
	        "none\n");
}

static void one_mistake_is_told_once(void **state)
{
	(void)state;
	/* elements that are wrong in themselves do not make errors elsewhere */
	assert_string_equal(errors_of_text("listeners = ( 1, { address = \"x\"; upstream = \"u\"; } ); upstreams = ( { name = \"u\"; "
	                                   "servers = ( 2, { address = \"\"; } ); } );"),
	        "aegis.conf:1: listeners[0]: is not a group; the elements of this list are groups { ... }\n"
	        "aegis.conf:1: listeners[1].address: is \"x\": the port is missing; write for example \"127.0.0.1:8080\", \"[::1]:8080\", "
	        "\":8080\" (all "
	        "addresses) or \"unix:/path\"\n"
	        "aegis.conf:1: upstreams[0].servers[0]: is not a group; the elements of this list are groups { ... }\n"
	        "aegis.conf:1: upstreams[0].servers[1].address: is \"\": it is empty; write for example \"10.0.0.5:3000\", \"[::1]:3000\", "
	        "\"db.example.org:5432\" or \"unix:/path\"\n");
	assert_string_equal(errors_of_text("listeners = ( { address = \":1\"; } ); upstreams = ( 5 );"),
	        "aegis.conf:1: upstreams[0]: is not a group; the elements of this list are groups { ... }\n");
	assert_string_equal(errors_of_text("listeners = ( { address = \":1\"; upstream = \"u\"; } ); upstreams = 5;"),
	        "aegis.conf:1: upstreams: is not a list; write upstreams = ( { ... }, { ... } );\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_unique),
		cmocka_unit_test(names_are_of_good_letters),
		cmocka_unit_test(a_name_from_the_address_keeps_the_rules),
		cmocka_unit_test(the_upstream_exists),
		cmocka_unit_test(listeners_are_in_different_places),
		cmocka_unit_test(some_server_gets_connections),
		cmocka_unit_test(nobody_connects_to_itself),
		cmocka_unit_test(what_is_kept_must_be_understood),
		cmocka_unit_test(the_bounds_of_the_resolver),
		cmocka_unit_test(admin_is_not_open_to_the_world),
		cmocka_unit_test(admin_has_a_place_of_its_own),
		cmocka_unit_test(one_mistake_is_told_once),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
