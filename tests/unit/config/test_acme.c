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
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
