/* Where connections to servers come from: what is an address, and what does not go with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loading.h"

#define TO(server, more) LISTENER "upstreams = ( { name = \"u\"; " more " servers = ( { address = \"" server "\"; } ); } );\n"

static void kinds(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER UPSTREAM);
	assert_int_equal(config->upstreams[0].source_kind, SOURCE_ANY);
	config_free(config);
	config = load_text(TO("10.0.0.1:53", "source = \"\";"));
	assert_int_equal(config->upstreams[0].source_kind, SOURCE_ANY);
	config_free(config);
	config = load_text(TO("10.0.0.1:53", "source = \"10.0.0.2\";"));
	assert_int_equal(config->upstreams[0].source_kind, SOURCE_ADDRESS);
	assert_int_equal(config->upstreams[0].source_addr.in.sin_addr.s_addr, htonl(0x0a000002));
	assert_int_equal(addr_port(&config->upstreams[0].source_addr), 0);
	config_free(config);
	config = load_text(TO("[fd00::1]:53", "source = \"fd00::2\";"));
	assert_int_equal(config->upstreams[0].source_addr.sa.sa_family, AF_INET6);
	config_free(config);
	config = load_text(TO("[fd00::1]:53", "source = \"client\";"));
	assert_int_equal(config->upstreams[0].source_kind, SOURCE_CLIENT);
	config_free(config);
	config_free(load_text(TO("localhost:53", "source = \"10.0.0.2\"; pool = { warm = 1; };")));
}

static void no_addresses(void **state)
{
	static const char *const texts[] = {
		TO("10.0.0.1:53", "source = \"10.0.0.2:80\";"),
		TO("10.0.0.1:53", "source = \"10.0.0\";"),
		TO("10.0.0.1:53", "source = \"[fd00::1]\";"),
		TO("10.0.0.1:53", "source = \"localhost\";"),
		TO("10.0.0.1:53", "source = \"clients\";"),
		TO("10.0.0.1:53", "source = \"0.0.0.0\";"),
		TO("10.0.0.1:53", "source = \"::\";"),
		TO("10.0.0.1:53", "source = \"*\";"),
		TO("10.0.0.1:53", "source = \"unix:/x\";"),
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_non_null(strstr(errors_of_text(texts[i]), "upstreams[0].source: \""));
}

static void refused(void **state)
{
	(void)state;
	assert_non_null(strstr(errors_of_text(TO("unix:/x", "source = \"10.0.0.2\";")),
	        "upstreams[0].servers[0].address: \"unix:/x\" is a unix socket, and source is"));
	assert_non_null(strstr(errors_of_text(TO("unix:/x", "source = \"client\";")), "is a unix socket, and source is"));
	assert_non_null(strstr(errors_of_text(TO("[fd00::1]:53", "source = \"10.0.0.2\";")),
	        "upstreams[0].servers[0].address: is IPv6, and source is IPv4"));
	assert_non_null(
	        strstr(errors_of_text(TO("10.0.0.1:53", "source = \"fd00::2\";")), "servers[0].address: is IPv4, and source is IPv6"));
	assert_non_null(strstr(errors_of_text(TO("10.0.0.1:53", "source = \"client\"; pool = { warm = 1; };")),
	        "upstreams[0].source: is \"client\", a connection for each, and pool.warm has"));
	assert_non_null(strstr(
	        errors_of_text(TO("10.0.0.1:53", "source = \"client\"; pool = { keep = 1; framing = \"line\"; };")), "pool.keep has"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(no_addresses),
		cmocka_unit_test(refused),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
