/* Settings of TLS on either side: who is plain, what is made of what was left out, what contradicts itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "config/diff.h"
#include "loading.h"

#define TLS(more) "listeners = ( { address = \"127.0.0.1:443\"; tls = { " more " }; } );\n"
#define TO(more) "upstreams = ( { name = \"u\"; " more " servers = ( { address = \"10.0.0.1:53\"; } ); } );\n"
#define PAIR "certificates = ( { cert = \"/c\"; key = \"/k\"; } );"
#define LISTENERS_ERROR(key, text) "aegis.conf:1: listeners[0].tls" key ": " text "\n"
#define UPSTREAMS_ERROR(key, text) "aegis.conf:2: upstreams[0].tls" key ": " text "\n"

static void without_a_group_it_is_plain(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER UPSTREAM);
	assert_false(config->listeners[0].tls.enabled);
	assert_int_equal(config->listeners[0].tls.n_certificates, 0);
	assert_false(config->upstreams[0].tls.enabled);
	assert_int_equal(config->tls.ticket_rotation_ns, 8 * 3600 * NS_PER_S);
	assert_true(config->tls.watch);
	assert_true(config->tls.ktls);
	assert_int_equal(config->tls.ktls_from_bytes, 256 * 1024);
	config_free(config);
	config = load_text(TLS("enabled = false; " PAIR) TO("tls = { enabled = false; };"));
	assert_false(config->listeners[0].tls.enabled);
	assert_false(config->upstreams[0].tls.enabled);
	config_free(config);
}

static void what_is_left_out(void **state)
{
	(void)state;
	struct config *config = load_text(TLS(PAIR) TO("tls = { };"));
	const struct listener_tls_config *tls = &config->listeners[0].tls;
	assert_true(tls->enabled);
	assert_int_equal(tls->n_certificates, 1);
	assert_string_equal(tls->certificates[0].key, "/k");
	assert_string_equal(tls->certificates[0].ocsp, "");
	assert_int_equal(tls->certificates[0].line, 1);
	assert_int_equal(tls->client_verify, CLIENT_VERIFY_OFF);
	assert_int_equal(tls->offer.min_version, TLS_VERSION_1_2);
	assert_true(tls->tickets);
	assert_int_equal(tls->timeout_ns, 10 * NS_PER_S);
	assert_true(config->upstreams[0].tls.enabled);
	assert_true(config->upstreams[0].tls.verify);
	assert_true(config->upstreams[0].tls.resume);
	assert_string_equal(config->upstreams[0].tls.name, "");
	config_free(config);
	/* One file for both; who may vouch means that it is asked for. */
	config = load_text(TLS("certificates = ( { cert = \"/a\"; }, { cert = \"/b\"; ocsp = \"/o\"; } ); client_ca = \"/ca\";")
	                TO("tls = { cert = \"/own\"; };"));
	assert_string_equal(config->listeners[0].tls.certificates[0].key, "/a");
	assert_string_equal(config->listeners[0].tls.certificates[1].ocsp, "/o");
	assert_int_equal(config->listeners[0].tls.client_verify, CLIENT_VERIFY_REQUIRED);
	assert_string_equal(config->upstreams[0].tls.key, "/own");
	config_free(config);
	config = load_text(TLS(
	        PAIR " client_ca = \"/ca\"; client_verify = \"optional\"; min_version = \"1.3\"; tickets = false; alpn = \"h2, http/1.1\";")
	                TO("tls = { name = \"db.internal\"; verify = true; ca = \"/ca\"; crl = \"/crl\"; resume = false; };"));
	assert_int_equal(config->listeners[0].tls.client_verify, CLIENT_VERIFY_OPTIONAL);
	assert_int_equal(config->listeners[0].tls.offer.min_version, TLS_VERSION_1_3);
	assert_false(config->listeners[0].tls.tickets);
	assert_string_equal(config->upstreams[0].tls.name, "db.internal");
	assert_false(config->upstreams[0].tls.resume);
	config_free(config);
}

static void what_contradicts_itself(void **state)
{
	(void)state;
	static const struct {
		const char *text, *error;
	} rows[] = {
		{ TLS("") UPSTREAM, LISTENERS_ERROR(".certificates",
		                            "there is none; write certificates = ( { cert = \"/path\"; key = \"/path\"; } );") },
		{ TLS("certificates = ( { key = \"/k\"; } );") UPSTREAM,
		        LISTENERS_ERROR(".certificates[0].cert", "is missing; write an absolute path between quotes") },
		{ TLS("certificates = ( { cert = \"c\"; } );") UPSTREAM,
		        LISTENERS_ERROR(
		                ".certificates[0].cert", "is \"c\": it does not start with \"/\"; write an absolute path between quotes") },
		{ TLS("certificates = ( { cert = \"/c\"; }, { cert = \"/c\"; } );") UPSTREAM,
		        LISTENERS_ERROR(
		                ".certificates[1].cert", "is the same file as in certificates[0] (aegis.conf:1); leave one of them out") },
		{ TLS(PAIR " client_verify = \"required\";") UPSTREAM,
		        LISTENERS_ERROR(".client_verify",
		                "needs client_ca, the file that says whose certificates are good; write client_ca = \"/path\"") },
		{ TLS(PAIR " client_verify = \"off\"; client_ca = \"/ca\";") UPSTREAM,
		        LISTENERS_ERROR(
		                ".client_ca", "is for client_verify = \"required\" or \"optional\"; write that, or leave client_ca out") },
		{ TLS(PAIR " crl = \"/crl\";") UPSTREAM,
		        LISTENERS_ERROR(".crl", "is for clients' certificates, and there is no client_ca; leave it out") },
		{ TLS(PAIR " alpn = \"h2 http/1.1\";") UPSTREAM,
		        LISTENERS_ERROR(".alpn",
		                "\"h2 http/1.1\": there is a space within a name; write names with commas between them, for example "
		                "\"h2,http/1.1\"") },
		{ TLS(PAIR " alpn = \"h2,,http/1.1\";") UPSTREAM,
		        LISTENERS_ERROR(".alpn",
		                "\"h2,,http/1.1\": a name is empty; write names with commas between them, for example \"h2,http/1.1\"") },
		{ TLS(PAIR " min_version = \"1.1\";") UPSTREAM,
		        LISTENERS_ERROR(".min_version", "is \"1.1\"; did you mean \"1.2\"? Write \"1.2\" or \"1.3\"") },
		{ LISTENER TO("tls = { verify = false; ca = \"/ca\"; };"),
		        UPSTREAMS_ERROR(".ca", "is of no use with verify = false; write verify = true") },
		{ LISTENER TO("tls = { key = \"/k\"; };"),
		        UPSTREAMS_ERROR(".key", "is of no use without a cert; write cert = \"/path\", or leave key out") },
		{ LISTENER TO("tls = { crl = \"/crl\"; };"),
		        UPSTREAMS_ERROR(".crl", "needs ca, whose revocation lists it holds; write ca = \"/path\"") },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *errors = errors_of_text(rows[i].text);
		if (!strstr(errors, strstr(rows[i].error, ".tls")))
			fail_msg("not %s but %s", rows[i].error, errors);
	}
	assert_non_null(strstr(
	        errors_of_text("listeners = ( { address = \"127.0.0.1:53\"; protocol = \"udp\"; tls = { " PAIR " }; } );\n" UPSTREAM),
	        "listeners[0].tls: is only for protocol = \"tcp\""));
	assert_non_null(
	        strstr(errors_of_text(LISTENER "upstreams = ( { name = \"u\"; tls = { }; servers = ( { address = \"unix:/x\"; } ); } );\n"),
	                "upstreams[0].tls.name: is missing, and servers[0] (\"unix:/x\") is a unix socket, which has no name"));
}

static void what_is_dumped_loads_again_to_the_same(void **state)
{
	(void)state;
	struct config *config = load_text(
	        TLS("certificates = ( { cert = \"/a\"; }, { cert = \"/b\"; key = \"/k\"; ocsp = \"/o\"; } ); client_ca = \"/ca\";")
	                TO("tls = { verify = false; };"));
	char *once = dump_of(config, false);
	struct config *again = load_text(once);
	char *twice = dump_of(again, false);
	assert_string_equal(once, twice);
	free(once);
	free(twice);
	config_free(config);
	config_free(again);
	/* Who is plain stays so. */
	config = load_text(LISTENER UPSTREAM);
	once = dump_of(config, false);
	again = load_text(once);
	assert_false(again->listeners[0].tls.enabled);
	assert_false(again->upstreams[0].tls.enabled);
	free(once);
	config_free(config);
	config_free(again);
}

static void count(void *arg, const struct config_change *change)
{
	char *paths = arg;
	strcat(strcat(paths, change->path), " ");
}

static void changes_are_told_by_the_file(void **state)
{
	(void)state;
	char paths[1024] = "";
	struct config *before = load_text(TLS("certificates = ( { cert = \"/a\"; }, { cert = \"/b\"; } );") UPSTREAM);
	struct config *after = load_text(TLS("certificates = ( { cert = \"/b\"; key = \"/k\"; }, { cert = \"/c\"; } );") UPSTREAM);
	config_diff(before, before, count, paths);
	assert_string_equal(paths, "");
	config_diff(before, after, count, paths);
	assert_non_null(strstr(paths, "tls.certificates./a "));
	assert_non_null(strstr(paths, "tls.certificates./c "));
	assert_non_null(strstr(paths, "tls.certificates./b.key "));
	config_free(before);
	config_free(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_group_it_is_plain),
		cmocka_unit_test(what_is_left_out),
		cmocka_unit_test(what_contradicts_itself),
		cmocka_unit_test(what_is_dumped_loads_again_to_the_same),
		cmocka_unit_test(changes_are_told_by_the_file),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
