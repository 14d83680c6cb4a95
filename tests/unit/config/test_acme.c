/* Settings of the answers to challenges: their values, and what does not go with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "loading.h"

#define WITH(more) "listeners = ( { address = \"127.0.0.1:80\"; " more " } );\n" UPSTREAM
#define ON "acme = { challenges = \"/c\"; };"
#define ONLY "acme = { challenges = \"/c\"; only = true; };"

static void values(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER UPSTREAM);
	assert_string_equal(config->listeners[0].acme.challenges, "");
	config_free(config);
	config = load_text(WITH(ON));
	assert_string_equal(config->listeners[0].acme.challenges, "/c");
	assert_int_equal(config->listeners[0].acme.timeout_ns, 5 * NS_PER_S);
	config_free(config);
	config = load_text(WITH("acme = { challenges = \"/c/d\"; timeout = \"250ms\"; };"));
	assert_string_equal(config->listeners[0].acme.challenges, "/c/d");
	assert_int_equal(config->listeners[0].acme.timeout_ns, NS_PER_S / 4);
	config_free(config);
	config = load_text(WITH("acme = { challenges = \"\"; };"));
	assert_string_equal(config->listeners[0].acme.challenges, "");
	config_free(config);
}

/* No upstream is taken for it, be there one or several. */
static void alone(void **state)
{
	(void)state;
	struct config *config = load_text(WITH(ON));
	assert_false(config->listeners[0].acme.only);
	assert_int_equal(config->listeners[0].upstream, 0);
	config_free(config);
	config = load_text(WITH(ONLY));
	assert_true(config->listeners[0].acme.only);
	assert_int_equal(config->listeners[0].upstream, CONFIG_NO_UPSTREAM);
	config_free(config);
	config = load_text("listeners = ( { address = \"127.0.0.1:80\"; " ONLY " } );\n"
	                   "upstreams = ( { name = \"a\"; servers = ( { address = \"127.0.0.1:1\"; } ); },"
	                   " { name = \"b\"; servers = ( { address = \"127.0.0.1:1\"; } ); } );");
	assert_int_equal(config->listeners[0].upstream, CONFIG_NO_UPSTREAM);
	config_free(config);
}

static void refused(void **state)
{
	(void)state;
	assert_non_null(strstr(errors_of_text(WITH("acme = { };")), "listeners[0].acme.challenges: is missing"));
	assert_non_null(strstr(errors_of_text(WITH("acme = { challenges = \"c\"; };")), "listeners[0].acme.challenges: "));
	assert_non_null(strstr(errors_of_text(WITH("acme = { challenges = \"/c\"; timeout = \"0s\"; };")), "listeners[0].acme.timeout: "));
	assert_non_null(strstr(errors_of_text(WITH("protocol = \"udp\"; " ON)), "listeners[0].acme: is only for protocol = \"tcp\""));
	assert_non_null(strstr(errors_of_text(WITH(ON "tls = { certificates = ( { cert = \"/a\"; key = \"/b\"; } ); };")),
	        "listeners[0].acme: does not go with tls: authorities ask at port 80, without TLS"));
	assert_non_null(strstr(errors_of_text(WITH(ON "sni = ( { name = \"a.test\"; upstream = \"app\"; } );")),
	        "listeners[0].acme: does not go with sni"));
	assert_non_null(strstr(errors_of_text(WITH(ONLY "upstream = \"app\";")), "listeners[0].acme.only: is true, so upstream = \"app\""));
	assert_non_null(
	        strstr(errors_of_text(WITH("acme = { challenges = \"\"; only = true; };")), "listeners[0].acme.only: is true, but"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(alone),
		cmocka_unit_test(refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
