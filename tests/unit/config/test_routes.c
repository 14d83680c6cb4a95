/* Settings of routes by name: what they load to, what is refused, how they are written down and compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "config/diff.h"
#include "loading.h"

#define LISTENERS(more) "listeners = ( { address = \"127.0.0.1:443\"; " more " } );\n"
#define TWO                                                                                     \
	"upstreams = ( { name = \"app\"; servers = ( { address = \"127.0.0.1:3000\"; } ); },\n" \
	"              { name = \"web\"; servers = ( { address = \"127.0.0.1:3001\"; } ); } );\n"

static void the_defaults(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENERS("") UPSTREAM);
	const struct listener_config *listener = &config->listeners[0];
	assert_int_equal(listener->n_routes, 0);
	assert_int_equal(listener->upstream, 0);
	config_free(config);

	config = load_text(LISTENERS("sni = ( { name = \"a.example.org\"; upstream = \"app\"; } );") UPSTREAM);
	listener = &config->listeners[0];
	assert_int_equal(listener->n_routes, 1);
	assert_null(listener->upstream_name);
	assert_int_equal(listener->upstream, CONFIG_NO_UPSTREAM);
	assert_int_equal(listener->client_hello.timeout_ns, 5 * NS_PER_S);
	assert_int_equal(listener->client_hello.most_bytes, 16 << 10);
	assert_int_equal(listener->client_hello.starttls, STARTTLS_NONE);
	config_free(config);
}

static void every_setting_reaches_its_field(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENERS("upstream = \"app\"; sni = ( { name = \"A.Example.org.\"; upstream = \"web\"; },\n"
	                                            "{ name = \"*.EXAMPLE.org\"; upstream = \"app\"; alpn = \"h2\"; },\n"
	                                            "{ alpn = \"acme-tls/1\"; upstream = \"web\"; } );\n"
	                                            "client_hello = { timeout = \"2s\"; max = \"4k\"; starttls = \"postgres\"; };") TWO);
	const struct listener_config *listener = &config->listeners[0];
	assert_int_equal(listener->upstream, 0);
	assert_int_equal(listener->n_routes, 3);
	assert_string_equal(listener->routes[0].name, "a.example.org");
	assert_string_equal(listener->routes[0].label, "a.example.org");
	assert_int_equal(listener->routes[0].upstream, 1);
	assert_string_equal(listener->routes[1].name, "*.example.org");
	assert_string_equal(listener->routes[1].label, "*.example.org (h2)");
	assert_int_equal(listener->routes[1].upstream, 0);
	assert_string_equal(listener->routes[2].name, "");
	assert_string_equal(listener->routes[2].label, "* (acme-tls/1)");
	assert_int_equal(listener->client_hello.timeout_ns, 2 * NS_PER_S);
	assert_int_equal(listener->client_hello.most_bytes, 4 << 10);
	assert_int_equal(listener->client_hello.starttls, STARTTLS_POSTGRES);
	config_free(config);
}

static void what_is_wrong_is_told(void **state)
{
	static const char *const rows[][2] = {
		{ "sni = ( { name = \"*\"; upstream = \"app\"; } );", "sni[0].name: \"*\" is not right: what no other route is for" },
		{ "sni = ( { name = \".a.org\"; upstream = \"app\"; } );", "sni[0].name: \".a.org\" is not right: write a star before" },
		{ "sni = ( { name = \"w*.a.org\"; upstream = \"app\"; } );", "is not right: a star stands for whole labels" },
		{ "sni = ( { name = \"*.*.org\"; upstream = \"app\"; } );", "is not right: a star stands for whole labels" },
		{ "sni = ( { name = \"192.0.2.1\"; upstream = \"app\"; } );", "is not right: it is an address" },
		{ "sni = ( { name = \"2001:db8::1\"; upstream = \"app\"; } );", "is not right: it is an address" },
		{ "sni = ( { name = \"b\xc3\xbc"
		  "cher.example\"; upstream = \"app\"; } );",
		        "punycode" },
		{ "sni = ( { name = \"a..b\"; upstream = \"app\"; } );", "is not right: it is no name of a host" },
		{ "sni = ( { name = \"a b\"; upstream = \"app\"; } );", "is not right: it is no name of a host" },
		{ "sni = ( { upstream = \"app\"; } );", "sni[0].name: is missing; write name" },
		{ "sni = ( { name = \"a.org\"; } );", "sni[0].upstream: is missing" },
		{ "sni = ( { name = \"a.org\"; upstream = \"appp\"; } );",
		        "sni[0].upstream: there is no upstream called \"appp\"; did you mean" },
		{ "sni = ( { name = \"a.org\"; upstream = \"app\"; }, { name = \"A.ORG.\"; upstream = \"app\"; } );",
		        "sni[1].name: \"a.org\" has a route in sni[0] already" },
		{ "sni = ( { alpn = \"h2\"; upstream = \"app\"; }, { alpn = \"h2\"; upstream = \"app\"; } );",
		        "sni[1].alpn: \"* (h2)\" has a route in sni[0] already" },
		{ "sni = ( 5 );", "sni[0]: is not a group" },
		{ "sni = \"a.org\";", "sni: is not a list" },
		{ "client_hello = { };", "client_hello: is for sni, and there is none" },
		{ "protocol = \"udp\"; sni = ( { name = \"a.org\"; upstream = \"app\"; } );", "sni: is only for protocol = \"tcp\"" },
		{ "sni = ( { name = \"a.org\"; upstream = \"app\"; } ); client_hello = { max = \"65k\"; };",
		        "client_hello.max: is \"65k\"" },
		{ "sni = ( { name = \"a.org\"; upstream = \"app\"; } ); tcp = { receive_buffer = \"8k\"; };",
		        "client_hello.max: is more than tcp.receive_buffer" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[1024];
		snprintf(text, sizeof text, "listeners = ( { address = \":443\"; %s } );\n" UPSTREAM, rows[i][0]);
		const char *errors = errors_of_text(text);
		if (strstr(errors, rows[i][1]) == NULL || strchr(errors, '\n')[1] != '\0')
			fail_msg("%s\n%s", rows[i][0], errors);
	}
}

/* The same name once with and once without a protocol is two routes. A circle is one by a route, too. */
static void what_leads_somewhere(void **state)
{
	(void)state;
	config_free(load_text(LISTENERS("sni = ( { name = \"a.org\"; upstream = \"app\"; },\n"
	                                "{ name = \"a.org\"; alpn = \"h2\"; upstream = \"web\"; } );") TWO));
	assert_non_null(strstr(
	        errors_of_text(
	                "listeners = ( { address = \"127.0.0.1:3001\";\n"
	                "sni = ( { name = \"a.org\"; upstream = \"web\"; }, { name = \"b.org\"; upstream = \"web\"; } ); } );\n" TWO),
	        "upstreams[1].servers[0].address: \"127.0.0.1:3001\" is where Aegis itself listens"));
}

static void who_speaks_first(void **state)
{
	(void)state;
	static const char *const routes[] = { "upstream = \"db\"; sni = ( { name = \"a.org\"; upstream = \"app\"; } );",
		"sni = ( { name = \"a.org\"; upstream = \"db\"; } );" };
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		char text[1024];
		snprintf(text, sizeof text,
		        "listeners = ( { address = \":443\"; %s } );\nupstreams = ( { name = \"app\"; servers = ( { address = "
		        "\"10.0.0.1:443\"; } ); },\n"
		        "{ name = \"db\"; health = { type = \"mysql\"; }; servers = ( { address = \"10.0.0.2:3306\"; } ); } );",
		        routes[i]);
		assert_non_null(strstr(errors_of_text(text), "upstream: \"db\" has servers of MySQL (health), which speak before"));
	}
}

static void it_is_written_down(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENERS("sni = ( { name = \"a.org\"; upstream = \"app\"; } );") TWO);
	char *dump = dump_of(config, false);
	assert_non_null(strstr(dump, "name = \"a.org\";"));
	assert_non_null(strstr(dump, "client_hello = {"));
	assert_null(strstr(dump, "upstream = \"\";"));
	struct config *again = load_text(dump);
	char *second = dump_of(again, false);
	assert_string_equal(dump, second);
	assert_int_equal(again->listeners[0].upstream, CONFIG_NO_UPSTREAM);
	free(dump);
	free(second);
	config_free(config);
	config_free(again);

	config = load_text(LISTENERS("") UPSTREAM);
	dump = dump_of(config, false);
	assert_null(strstr(dump, "client_hello"));
	free(dump);
	config_free(config);
}

static char told[512];

static void on_change(void *arg, const struct config_change *change)
{
	(void)arg;
	size_t length = strlen(told);
	snprintf(told + length, sizeof told - length, "%s %d %s\n", change->path, (int)change->kind, change->after);
	assert_false(change->in_place);
}

static void a_reload_sees_what_changed(void **state)
{
	(void)state;
	struct config *before = load_text(LISTENERS("sni = ( { name = \"a.org\"; upstream = \"app\"; },\n"
	                                            "{ name = \"a.org\"; alpn = \"h2\"; upstream = \"app\"; } );") TWO);
	struct config *after = load_text(LISTENERS("upstream = \"app\"; sni = ( { name = \"b.org\"; upstream = \"app\"; },\n"
	                                           "{ name = \"a.org\"; alpn = \"h2\"; upstream = \"web\"; } );") TWO);
	char expected[512];
	told[0] = '\0';
	config_diff(before, after, on_change, NULL);
	snprintf(expected, sizeof expected,
	        "listeners.127.0.0.1:443.upstream %d \"app\"\n"
	        "listeners.127.0.0.1:443.sni.a.org %d \n"
	        "listeners.127.0.0.1:443.sni.b.org %d \n"
	        "listeners.127.0.0.1:443.sni.a.org (h2).upstream %d \"web\"\n",
	        (int)CONFIG_CHANGED, (int)CONFIG_REMOVED, (int)CONFIG_ADDED, (int)CONFIG_CHANGED);
	assert_string_equal(told, expected);
	config_free(before);
	config_free(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_defaults),
		cmocka_unit_test(every_setting_reaches_its_field),
		cmocka_unit_test(what_is_wrong_is_told),
		cmocka_unit_test(what_leads_somewhere),
		cmocka_unit_test(who_speaks_first),
		cmocka_unit_test(it_is_written_down),
		cmocka_unit_test(a_reload_sees_what_changed),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
