#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "paper.h"
#include "tls/build.h"

static struct scratch scratch;
static struct config *config;
static struct vault_findings findings;
static int fd = -1;
static struct vault vault;

#define SETTINGS(tls)                                                                        \
	"listeners = ( { name = \"a\"; address = \"127.0.0.1:1\"; tls = { " tls " }; } );\n" \
	"upstreams = ( { name = \"u\"; servers = ( { address = \"127.0.0.1:2\"; } ); } );\n"

static int setup(void **state)
{
	(void)state;
	scratch_make(&scratch);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vault_unmap(&vault);
	vault_findings_clear(&findings);
	if (fd >= 0)
		close(fd);
	fd = -1;
	config_free(config);
	config = NULL;
	scratch_remove(&scratch);
	return 0;
}

/* A certificate and its key, in NAME.pem and NAME.key. */
static struct paper put(const char *file, const struct paper_wish *wish)
{
	struct paper paper = paper_make(wish);
	char name[64];
	snprintf(name, sizeof name, "%s.pem", file);
	paper_write_cert(&scratch, name, &paper, NULL);
	snprintf(name, sizeof name, "%s.key", file);
	paper_write_key(&scratch, name, &paper);
	return paper;
}

static void put_and_forget(const char *file, const struct paper_wish *wish)
{
	struct paper paper = put(file, wish);
	paper_free(&paper);
}

static void build(const char *settings)
{
	struct tls_files files;
	vault_findings_clear(&findings);
	config_free(config);
	config = paper_settings(&scratch, settings);
	if (fd >= 0)
		close(fd);
	fd = vault_make_fd();
	assert_true(fd >= 0);
	assert_int_equal(tls_files_read(config, &files), 0);
	assert_int_equal(vault_build(config, &files, (int64_t)time(NULL), fd, &findings), 0);
	tls_files_free(&files);
}

static void build_good(const char *settings)
{
	build(settings);
	if (findings.errors.count > 0)
		fail_msg("%s", findings.errors.lines);
	vault_unmap(&vault);
	assert_int_equal(vault_map(fd, config->n_listeners, config->n_upstreams, &vault), 0);
}

/* One error, and it says that. */
static void check_error(const char *settings, const char *wanted)
{
	build(settings);
	assert_int_equal(findings.errors.count, 1);
	if (!strstr(findings.errors.lines, wanted))
		fail_msg("this is missing:\n%s\nin:\n%s", wanted, findings.errors.lines);
	if (!strstr(findings.errors.lines, "aegis.conf:1: listeners[0].tls"))
		fail_msg("it does not say where: %s", findings.errors.lines);
	assert_int_not_equal(vault_map(fd, config->n_listeners, config->n_upstreams, &vault), 0);
}

static void check_choice(const char *name, enum vault_kind kind, uint32_t wanted, bool is_known)
{
	bool known;
	const uint32_t *numbers = vault_find(&vault, vault_listener(&vault, 0), name, strlen(name), &known);
	assert_int_equal(numbers[kind], wanted);
	assert_int_equal(known, is_known);
}

/* --- for who checks servers ------------------------------------------------------------------------------------------------- */

static bool has(const struct vault *in, const void *bytes, size_t length)
{
	return memmem(in->header, in->size, bytes, length) != NULL;
}

static bool has_key_of(const struct vault *in, const struct vault_certificate *of)
{
	return has(in, vault_bytes(&vault, &of->key), of->key.length);
}

/* What the control process gets: nothing of listeners, nor of upstreams whose checks do without TLS. */
static void an_excerpt_has_no_more_than_checks_need(void **state)
{
	struct vault excerpt;
	(void)state;
	put_and_forget("front", &(struct paper_wish){ .name = "front.test" });
	put_and_forget("checked", &(struct paper_wish){ .name = "checked.test" });
	put_and_forget("other", &(struct paper_wish){ .name = "other.test" });
	put_and_forget("ca", &(struct paper_wish){ .name = "ca.test", .ca = true });
	build_good("listeners = ( { name = \"a\"; address = \"127.0.0.1:1\"; upstream = \"u\"; tls = { certificates = ( { cert = "
	           "\"%/front.pem\"; "
	           "key = \"%/front.key\"; } ); }; } );\n"
	           "upstreams = ( { name = \"u\"; servers = ( { address = \"127.0.0.1:2\"; } ); health = { }; "
	           "tls = { ca = \"%/ca.pem\"; cert = \"%/checked.pem\"; key = \"%/checked.key\"; }; },\n"
	           "{ name = \"v\"; servers = ( { address = \"127.0.0.1:3\"; } ); health = { tls = false; }; "
	           "tls = { cert = \"%/other.pem\"; key = \"%/other.key\"; }; } );\n");
	assert_true(vault_has_excerpt(config));
	int out = vault_make_fd();
	assert_int_equal(vault_excerpt(config, fd, out), 0);
	assert_int_equal(vault_map(out, config->n_listeners, config->n_upstreams, &excerpt), 0);
	close(out);
	const struct vault_upstream *from = vault_upstream(&vault, 0), *to = vault_upstream(&excerpt, 0);
	assert_int_equal(to->own.length, 1);
	assert_int_equal(to->ca.length, from->ca.length);
	assert_memory_equal(vault_bytes(&excerpt, &to->ca), vault_bytes(&vault, &from->ca), to->ca.length);
	assert_true(has_key_of(&excerpt, vault_certificates(&vault, &from->own)));
	assert_false(has_key_of(&excerpt, vault_certificates(&vault, &vault_upstream(&vault, 1)->own)));
	assert_false(has_key_of(&excerpt, vault_certificates(&vault, &vault_listener(&vault, 0)->certificates)));
	assert_int_equal(vault_upstream(&excerpt, 1)->own.length, 0);
	assert_int_equal(vault_listener(&excerpt, 0)->certificates.length, 0);
	vault_unmap(&excerpt);
}

static void without_such_checks_there_is_none(void **state)
{
	(void)state;
	put_and_forget("one", &(struct paper_wish){ .name = "one.test" });
	build_good(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } );"));
	assert_false(vault_has_excerpt(config));
}

/* --- the choice ------------------------------------------------------------------------------------------------------------ */

static void names_choose(void **state)
{
	(void)state;
	put_and_forget("one", &(struct paper_wish){ .name = "one.example.org", .alternatives = "DNS:one.example.org,DNS:WWW.Example.org" });
	put_and_forget("wild", &(struct paper_wish){ .name = "x", .alternatives = "DNS:*.example.org,DNS:*.a.example.org" });
	put_and_forget("old", &(struct paper_wish){ .name = "common.example.net" });
	put_and_forget("rsa", &(struct paper_wish){ .name = "x", .alternatives = "DNS:one.example.org", .rsa_bits = 2048 });
	build_good(SETTINGS(
	        "certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; }, { cert = \"%/wild.pem\"; key = \"%/wild.key\"; }, "
	        "{ cert = \"%/old.pem\"; key = \"%/old.key\"; }, { cert = \"%/rsa.pem\"; key = \"%/rsa.key\"; } );"));
	check_choice("one.example.org", VAULT_ECDSA, 1, true);
	check_choice("one.example.org", VAULT_RSA, 4, true);
	check_choice("ONE.example.ORG", VAULT_ECDSA, 1, true);
	check_choice("one.example.org.", VAULT_ECDSA, 1, true);
	check_choice("www.example.org", VAULT_ECDSA, 1, true);
	check_choice("www.example.org", VAULT_RSA, 0, true); /* exact: that of the wildcard is not mixed in */
	check_choice("two.example.org", VAULT_ECDSA, 2, true);
	check_choice("b.a.example.org", VAULT_ECDSA, 2, true);
	check_choice("a.example.org", VAULT_ECDSA, 2, true);
	check_choice("c.b.a.example.org", VAULT_ECDSA, 1, false); /* a wildcard is one label */
	check_choice("example.org", VAULT_ECDSA, 1, false);
	check_choice("common.example.net", VAULT_ECDSA, 3, true);
	check_choice("*.example.org", VAULT_ECDSA, 2, true); /* "*" is a label like another one */
	check_choice(".example.org", VAULT_ECDSA, 1, false);
	check_choice(".", VAULT_ECDSA, 1, false);
	/* The fallback is the first one with its other half. */
	check_choice("", VAULT_ECDSA, 1, false);
	check_choice("", VAULT_RSA, 4, false);
	check_choice("nobody.example.com", VAULT_RSA, 4, false);
	char longest[400];
	memset(longest, 'a', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	check_choice(longest, VAULT_ECDSA, 1, false);
}

static void the_first_of_a_kind_has_a_name(void **state)
{
	(void)state;
	put_and_forget("one", &(struct paper_wish){ .name = "a.example.org", .alternatives = "DNS:a.example.org,DNS:b.example.org" });
	put_and_forget("two", &(struct paper_wish){ .name = "a.example.org", .alternatives = "DNS:b.example.org,DNS:c.example.org" });
	build_good(SETTINGS(
	        "certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; }, { cert = \"%/two.pem\"; key = \"%/two.key\"; } );"));
	check_choice("b.example.org", VAULT_ECDSA, 1, true);
	check_choice("c.example.org", VAULT_ECDSA, 2, true);
	assert_int_equal(findings.warnings.count, 1);
	assert_non_null(strstr(findings.warnings.lines, "certificates[1].cert: "));
	assert_non_null(strstr(findings.warnings.lines, "two.pem: \"b.example.org\" is a name of certificates[0], too"));
	/* What they are called is what tells them apart. */
	assert_int_equal(findings.n_facts, 2);
	assert_string_equal(findings.facts[0].label, "a.example.org");
	assert_string_equal(findings.facts[1].label, "b.example.org#2");
}

static void a_thousand_names_are_found(void **state)
{
	(void)state;
	char *names = calloc(1, 1000 * 32);
	for (int i = 0; i < 1000; i++)
		sprintf(names + strlen(names), "%sDNS:n%d.example.org", i ? "," : "", i);
	put_and_forget("many", &(struct paper_wish){ .name = "x", .alternatives = names });
	build_good(SETTINGS("certificates = ( { cert = \"%/many.pem\"; key = \"%/many.key\"; } );"));
	for (int i = 0; i < 1000; i++) {
		sprintf(names, "n%d.example.org", i);
		check_choice(names, VAULT_ECDSA, 1, true);
	}
	check_choice("n1000.example.org", VAULT_ECDSA, 1, false);
	free(names);
}

/* --- what is wrong --------------------------------------------------------------------------------------------------------- */

static void bad_pairs_are_told(void **state)
{
	(void)state;
	put_and_forget("one", &(struct paper_wish){ .name = "one.example.org" });
	put_and_forget("two", &(struct paper_wish){ .name = "two.example.org" });
	put_and_forget("rsa", &(struct paper_wish){ .name = "one.example.org", .rsa_bits = 2048 });
	put_and_forget("weak", &(struct paper_wish){ .name = "weak.example.org", .rsa_bits = 1024 });
	scratch_write(&scratch, "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	scratch_write(&scratch, "nothing", "hello\n");
	scratch_write(&scratch, "empty", "");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/two.key\"; } );"), "not the key of the certificate");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/rsa.key\"; } );"), "not the key of the certificate");
	check_error(SETTINGS("certificates = ( { cert = \"%/rsa.pem\"; key = \"%/one.key\"; } );"), "not the key of the certificate");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/nothing\"; } );"), "or it is damaged\n");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; } );"), "or it is damaged; write key = ");
	check_error(SETTINGS("certificates = ( { cert = \"%/nothing\"; key = \"%/one.key\"; } );"), "no certificate in it");
	check_error(SETTINGS("certificates = ( { cert = \"%/garbage\"; key = \"%/one.key\"; } );"), "damaged");
	check_error(SETTINGS("certificates = ( { cert = \"%/missing\"; key = \"%/one.key\"; } );"), "no such file");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/empty\"; } );"), "it is empty");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%\"; } );"), "no regular file");
	check_error(SETTINGS("certificates = ( { cert = \"%/weak.pem\"; key = \"%/weak.key\"; } );"), "too short");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; ocsp = \"%/nothing\"; } );"), "no OCSP answer");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } ); client_ca = \"%/nothing\";"),
	        "no certificate in it");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } ); client_ca = \"%/one.pem\"; crl = "
	                     "\"%/nothing\";"),
	        "no revocation list");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } ); ciphers = \"NONSENSE\";"), "ciphers");
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } ); groups = \"P-9\";"), "groups");
	assert_int_equal(chmod(scratch_path(&scratch, "one.key"), 0604), 0);
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } );"), "everybody on this machine");
}

static void a_key_with_a_password_is_told(void **state)
{
	(void)state;
	struct paper paper = put("one", &(struct paper_wish){ .name = "one.example.org" });
	FILE *out = fopen(scratch_path(&scratch, "one.key"), "w");
	assert_int_equal(PEM_write_PKCS8PrivateKey(out, paper.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL), 1);
	assert_int_equal(fclose(out), 0);
	paper_free(&paper);
	check_error(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } );"), "has a password");
}

static void all_that_is_wrong_is_told(void **state)
{
	(void)state;
	put_and_forget("one", &(struct paper_wish){ .name = "one.example.org" });
	build(SETTINGS(
	        "certificates = ( { cert = \"%/a\"; key = \"%/b\"; ocsp = \"%/c\"; }, { cert = \"%/one.pem\"; key = \"%/one.key\"; }, "
	        "{ cert = \"%/d\"; key = \"%/one.key\"; } ); client_ca = \"%/e\"; crl = \"%/f\";"));
	assert_int_equal(findings.errors.count, 6);
	assert_non_null(strstr(findings.errors.lines, "certificates[2].cert"));
	assert_int_equal(findings.n_facts, 1);
}

static void dates_are_warned_of(void **state)
{
	(void)state;
	put_and_forget("old", &(struct paper_wish){ .name = "old.example.org", .from_s = -7200, .until_s = -3600 });
	put_and_forget("soon", &(struct paper_wish){ .name = "soon.example.org", .until_s = 3600 });
	put_and_forget("early", &(struct paper_wish){ .name = "early.example.org", .from_s = 3600, .until_s = 30L * 86400 });
	build_good(SETTINGS(
	        "certificates = ( { cert = \"%/old.pem\"; key = \"%/old.key\"; }, { cert = \"%/soon.pem\"; key = \"%/soon.key\"; }, "
	        "{ cert = \"%/early.pem\"; key = \"%/early.key\"; } );"));
	assert_int_equal(findings.warnings.count, 3);
	assert_non_null(strstr(findings.warnings.lines, "certificates[0].cert: "));
	assert_non_null(strstr(findings.warnings.lines, "expired on 20"));
	assert_non_null(strstr(findings.warnings.lines, "expires on 20"));
	assert_non_null(strstr(findings.warnings.lines, "not good before"));
}

static void bad_news_of_an_authority_are_warned_of(void **state)
{
	static const struct {
		int status;
		const char *says;
	} rows[] = { { V_OCSP_CERTSTATUS_GOOD, NULL }, { V_OCSP_CERTSTATUS_REVOKED, "one.ocsp: it says that the certificate was revoked" },
		{ V_OCSP_CERTSTATUS_UNKNOWN, "one.ocsp: it says that the authority does not know the certificate" } };
	(void)state;
	struct paper ca = paper_make(&(struct paper_wish){ .name = "CA", .ca = true });
	struct paper one = put("one", &(struct paper_wish){ .name = "one.example.org", .issuer = &ca });
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		paper_write_ocsp(&scratch, "one.ocsp", &ca, &one, rows[i].status, EVP_sha1(), 3600);
		build_good(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; ocsp = \"%/one.ocsp\"; } );"));
		assert_int_equal(findings.warnings.count, rows[i].says ? 1 : 0);
		assert_true(!rows[i].says || strstr(findings.warnings.lines, rows[i].says));
	}
	paper_free(&one);
	paper_free(&ca);
}

/* By the hashes of its issuer, and whoever asked chose which. */
static void an_ocsp_answer_is_about_a_certificate(void **state)
{
	static const char settings[] =
	        SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; ocsp = \"%/one.ocsp\"; } );");
	(void)state;
	struct paper ca = paper_make(&(struct paper_wish){ .name = "CA", .ca = true });
	struct paper other = paper_make(&(struct paper_wish){ .name = "CA", .ca = true });
	struct paper one = put("one", &(struct paper_wish){ .name = "one.example.org", .issuer = &ca });
	const EVP_MD *const hashes[] = { EVP_sha1(), EVP_sha256(), EVP_sha384() };
	paper_write_cert(&scratch, "one.pem", &one, &ca);
	for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
		paper_write_ocsp(&scratch, "one.ocsp", &ca, &one, V_OCSP_CERTSTATUS_GOOD, hashes[i], 3600);
		build_good(settings);
		paper_write_ocsp(&scratch, "one.ocsp", &other, &one, V_OCSP_CERTSTATUS_GOOD, hashes[i], 3600);
		check_error(settings, "about another certificate");
	}
	paper_free(&one);
	paper_free(&other);
	paper_free(&ca);
}

static void a_chain_has_an_order(void **state)
{
	(void)state;
	struct paper root = paper_make(&(struct paper_wish){ .name = "Root", .ca = true });
	struct paper middle = paper_make(&(struct paper_wish){ .name = "Middle", .ca = true, .issuer = &root });
	struct paper leaf = put("leaf", &(struct paper_wish){ .name = "leaf.example.org", .issuer = &middle });
	paper_write_cert(&scratch, "good.pem", &leaf, &middle);
	paper_write_cert(&scratch, "bad.pem", &leaf, &root);
	struct paper renewed = paper_make(&(struct paper_wish){ .name = "Middle", .ca = true, .issuer = &root });
	paper_write_cert(&scratch, "renewed.pem", &leaf, &renewed);
	build_good(SETTINGS("certificates = ( { cert = \"%/good.pem\"; key = \"%/leaf.key\"; } );"));
	check_error(SETTINGS("certificates = ( { cert = \"%/bad.pem\"; key = \"%/leaf.key\"; } );"),
	        "certificate 2 in it is not the one that signed");
	check_error(SETTINGS("certificates = ( { cert = \"%/renewed.pem\"; key = \"%/leaf.key\"; } );"),
	        "certificate 2 in it is not the one that signed");
	paper_free(&renewed);
	paper_free(&leaf);
	paper_free(&middle);
	paper_free(&root);
}

/* --- the thing itself ------------------------------------------------------------------------------------------------------ */

static void the_same_files_have_the_same_digest(void **state)
{
	(void)state;
	static const char settings[] = SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } );");
	unsigned char first[VAULT_DIGEST_BYTES];
	put_and_forget("one", &(struct paper_wish){ .name = "one.example.org" });
	build_good(settings);
	memcpy(first, findings.digest, sizeof first);
	build_good(settings);
	assert_memory_equal(findings.digest, first, sizeof first);
	put_and_forget("one", &(struct paper_wish){ .name = "one.example.org" });
	build_good(settings);
	assert_memory_not_equal(findings.digest, first, sizeof first);
}

static void what_is_no_vault_is_refused(void **state)
{
	(void)state;
	put_and_forget("one", &(struct paper_wish){ .name = "one.example.org" });
	build_good(SETTINGS("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } );"));
	struct vault other;
	assert_int_equal(vault_map(fd, 2, 1, &other), -EINVAL);
	assert_int_equal(vault_map(fd, 1, 0, &other), -EINVAL);
	/* Nobody can write to it any more. */
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	/* Each word of the head and of the arrays turned to nonsense, and sealed: it is refused, or nothing in it leads outside. */
	size_t size = vault.size;
	for (size_t at = 0; at + 8 <= sizeof(struct vault_header) + 2 * sizeof(struct vault_listener); at += 8) {
		int copy = vault_make_fd();
		assert_int_equal(write(copy, vault.header, size), size);
		uint64_t nonsense = UINT64_C(0x7fffffffffffff00);
		assert_int_equal(pwrite(copy, &nonsense, 8, (off_t)at), 8);
		assert_int_equal(vault_map(copy, 1, 1, &other), -EINVAL); /* not sealed yet */
		assert_int_equal(fcntl(copy, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
		if (vault_map(copy, 1, 1, &other) == 0) {
			bool known;
			(void)vault_find(&other, vault_listener(&other, 0), "one.example.org", 15, &known);
			vault_unmap(&other);
		}
		close(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_excerpt_has_no_more_than_checks_need, setup, teardown),
		cmocka_unit_test_setup_teardown(without_such_checks_there_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(names_choose, setup, teardown),
		cmocka_unit_test_setup_teardown(the_first_of_a_kind_has_a_name, setup, teardown),
		cmocka_unit_test_setup_teardown(a_thousand_names_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_pairs_are_told, setup, teardown),
		cmocka_unit_test_setup_teardown(a_key_with_a_password_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(all_that_is_wrong_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(dates_are_warned_of, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_news_of_an_authority_are_warned_of, setup, teardown),
		cmocka_unit_test_setup_teardown(an_ocsp_answer_is_about_a_certificate, setup, teardown),
		cmocka_unit_test_setup_teardown(a_chain_has_an_order, setup, teardown),
		cmocka_unit_test_setup_teardown(the_same_files_have_the_same_digest, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_vault_is_refused, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
