/* Settings of the PROXY protocol, in and out, for connections: their values, and what does not go with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "loading.h"

#define AT(address, more) "listeners = ( { address = \"" address "\"; " more " } );\n"
#define WITH(more) "upstreams = ( { name = \"u\"; " more " servers = ( { address = \"10.0.0.1:53\"; } ); } );\n"
#define ACCEPT(more) AT("127.0.0.1:80", "accept_proxy = { " more " };") UPSTREAM

static void in(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER UPSTREAM);
	assert_false(config->listeners[0].accept_proxy.enabled);
	config_free(config);
	config = load_text(ACCEPT("from = [ \"10.0.0.0/8\", \"::1\" ];"));
	assert_true(config->listeners[0].accept_proxy.enabled);
	assert_int_equal(config->listeners[0].accept_proxy.n_from, 2);
	assert_true(config->listeners[0].accept_proxy.required);
	assert_int_equal(config->listeners[0].accept_proxy.timeout_ns, 3 * NS_PER_S);
	config_free(config);
	config = load_text(ACCEPT("from = [ \"10.0.0.0/8\" ]; required = false; timeout = \"500ms\";"));
	assert_false(config->listeners[0].accept_proxy.required);
	assert_int_equal(config->listeners[0].accept_proxy.timeout_ns, NS_PER_S / 2);
	config_free(config);
	config = load_text(ACCEPT("enabled = false;"));
	assert_false(config->listeners[0].accept_proxy.enabled);
	config_free(config);
}

static void in_refused(void **state)
{
	(void)state;
	assert_non_null(strstr(errors_of_text(ACCEPT("")), "listeners[0].accept_proxy: nobody may tell who the client is"));
	assert_non_null(strstr(errors_of_text(ACCEPT("from = [ \"10.0.0.0/8\" ]; timeout = \"0s\";")), "accept_proxy.timeout"));
	assert_non_null(strstr(errors_of_text(AT("127.0.0.1:80", "protocol = \"udp\"; accept_proxy = { from = [ \"::1\" ]; };") UPSTREAM),
	        "listeners[0].accept_proxy: is only for protocol = \"tcp\""));
}

/* Peers of a unix socket have no address, but clients that are told of do. */
static void of_unix_sockets(void **state)
{
	(void)state;
	config_free(load_text(AT("unix:/tmp/x", "accept_proxy = { }; allow = [ \"10.0.0.0/8\" ];") UPSTREAM));
	assert_non_null(strstr(errors_of_text(AT("unix:/tmp/x", "accept_proxy = { from = [ \"::1\" ]; };") UPSTREAM),
	        "accept_proxy.from: peers of a unix socket have no IP address"));
	assert_non_null(strstr(errors_of_text(AT("unix:@x", "accept_proxy = { };") UPSTREAM),
	        "listeners[0].accept_proxy: everybody on this machine can connect"));
	assert_non_null(
	        strstr(errors_of_text(AT("unix:/tmp/x", "allow = [ \"10.0.0.0/8\" ];") UPSTREAM), "listeners[0].allow: clients of a"));
}

static void out(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER WITH("send_proxy = \"v1\";"));
	assert_int_equal(config->upstreams[0].send_proxy, SEND_PROXY_V1);
	config_free(config);
	config = load_text(LISTENER WITH(
	        "send_proxy = \"v2\"; send_proxy_check_sum = true; send_proxy_unique_id = true; send_proxy_traceparent = 224;"));
	assert_int_equal(config->upstreams[0].send_proxy, SEND_PROXY_V2);
	assert_true(config->upstreams[0].send_proxy_check_sum);
	assert_true(config->upstreams[0].send_proxy_unique_id);
	assert_int_equal(config->upstreams[0].send_proxy_traceparent, 0xe0);
	config_free(config);
}

static void out_refused(void **state)
{
	(void)state;
	assert_non_null(strstr(errors_of_text(LISTENER WITH("send_proxy = \"v2\"; pool = { warm = 1; };")),
	        "upstreams[0].send_proxy: tells of one client for each connection, and pool.warm has connections without one"));
	assert_non_null(strstr(errors_of_text(LISTENER WITH("send_proxy = \"v1\"; pool = { keep = 1; framing = \"line\"; };")),
	        "upstreams[0].send_proxy: tells of one client for each connection, and pool.keep has"));
	assert_non_null(strstr(errors_of_text(LISTENER WITH("send_proxy_check_sum = true;")),
	        "upstreams[0].send_proxy_check_sum: is only for send_proxy = \"v2\" or \"v2-each\""));
	assert_non_null(
	        strstr(errors_of_text(LISTENER WITH("send_proxy = \"v2\"; send_proxy_traceparent = 1;")), "send_proxy_traceparent"));
	assert_non_null(strstr(errors_of_text(LISTENER WITH("send_proxy = \"v3\";")), "upstreams[0].send_proxy"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in),
		cmocka_unit_test(in_refused),
		cmocka_unit_test(of_unix_sockets),
		cmocka_unit_test(out),
		cmocka_unit_test(out_refused),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
