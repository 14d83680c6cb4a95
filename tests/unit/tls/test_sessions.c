/* Handshakes without sockets: what listeners and upstreams begin sessions with, against OpenSSL alone and against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "base/clock.h"
#include "paper.h"
#include "tls/build.h"
#include "tls/tickets.h"
#include "tls/tls.h"

/* What a worker has. */
struct side {
	struct config *config;
	struct tls *tls;
};

static struct scratch scratch;
static struct tickets *tickets;
static int tickets_fd;
static struct paper ca;

static int setup(void **state)
{
	(void)state;
	scratch_make(&scratch);
	assert_int_equal(tickets_new(&tickets, &tickets_fd), 0);
	ca = paper_make(&(struct paper_wish){ .name = "Test CA", .ca = true });
	paper_write_cert(&scratch, "ca.pem", &ca, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	paper_free(&ca);
	tickets_close(tickets);
	close(tickets_fd);
	scratch_remove(&scratch);
	return 0;
}

/* NAME.pem and NAME.key, signed by the CA. */
static void put(const char *file, const struct paper_wish *wish)
{
	struct paper_wish own = *wish;
	char name[64];
	own.issuer = &ca;
	struct paper paper = paper_make(&own);
	snprintf(name, sizeof name, "%s.pem", file);
	paper_write_cert(&scratch, name, &paper, NULL);
	snprintf(name, sizeof name, "%s.key", file);
	paper_write_key(&scratch, name, &paper);
	paper_free(&paper);
}

static int build(const struct config *config)
{
	struct tls_files files;
	struct vault_findings findings = { 0 };
	int fd = vault_make_fd();
	assert_int_equal(tls_files_read(config, &files), 0);
	assert_int_equal(vault_build(config, &files, (int64_t)time(NULL), fd, &findings), 0);
	if (findings.errors.count > 0)
		fail_msg("%s", findings.errors.lines);
	vault_findings_clear(&findings);
	tls_files_free(&files);
	return fd;
}

static struct side side_of(const char *settings)
{
	char why[256];
	struct side side = { .config = paper_settings(&scratch, settings) };
	int fd = build(side.config);
	if (tls_new(side.config, fd, tickets, &side.tls, why, sizeof why))
		fail_msg("%s", why);
	close(fd);
	return side;
}

static void side_free(struct side *side)
{
	tls_free(side->tls);
	config_free(side->config);
	*side = (struct side){ 0 };
}

#define LISTENER(tls) "{ name = \"a\"; address = \"127.0.0.1:1\"; tls = { " tls " }; }"
#define UPSTREAM(tls) "{ name = \"u\"; servers = ( { address = \"s.example.org:2\"; }, { address = \"127.0.0.9:2\"; } ); " tls " }"
#define SERVER(tls) "listeners = ( " LISTENER(tls) " ); upstreams = ( " UPSTREAM("") " );"
#define CLIENT(tls) "listeners = ( { address = \"127.0.0.1:1\"; } ); upstreams = ( " UPSTREAM("tls = { " tls " };") " );"
#define ONE "certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; } );"

/* --- handshakes ------------------------------------------------------------------------------------------------------------ */

static void connect_ends(SSL *a, SSL *b)
{
	BIO *one, *other;
	assert_int_equal(BIO_new_bio_pair(&one, 0, &other, 0), 1);
	SSL_set_bio(a, one, one);
	SSL_set_bio(b, other, other);
}

/* True when both ends say that it is done. A byte goes to the client then: what comes behind a handshake, tickets and refusals, is read. */
static bool shake(SSL *server, SSL *client)
{
	char byte;
	connect_ends(server, client);
	for (int i = 0; i < 10; i++) {
		int c = SSL_do_handshake(client);
		if (c != 1 && SSL_get_error(client, c) == SSL_ERROR_SSL)
			return false; /* the next call would forget why */
		int s = SSL_do_handshake(server);
		if (s != 1 && SSL_get_error(server, s) == SSL_ERROR_SSL)
			return false;
		if (c == 1 && s == 1)
			return SSL_write(server, "x", 1) == 1 && SSL_read(client, &byte, 1) == 1;
	}
	return false;
}

/* A client of its own, which trusts the CA. */
static SSL_CTX *stranger(int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_load_verify_file(ctx, scratch_path(&scratch, "ca.pem")), 1);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
	SSL_CTX_set_max_proto_version(ctx, version);
	return ctx;
}

static SSL *ask(SSL_CTX *ctx, const char *name)
{
	SSL *ssl = SSL_new(ctx);
	SSL_set_connect_state(ssl);
	if (name)
		SSL_set_tlsext_host_name(ssl, name);
	return ssl;
}

static void check_peer(SSL *client, const char *name, int type)
{
	X509 *cert = SSL_get0_peer_certificate(client);
	char common[64];
	assert_non_null(cert);
	X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, common, sizeof common);
	assert_string_equal(common, name);
	if (type)
		assert_int_equal(EVP_PKEY_get_base_id(X509_get0_pubkey(cert)), type);
}

static void check_failure(SSL *ssl, enum tls_failure wanted)
{
	char text[256];
	enum tls_failure failure = tls_failure_of(ssl, text, sizeof text);
	if (failure != wanted)
		fail_msg("failure %d is not %d: %s", (int)failure, (int)wanted, text);
	assert_int_equal(ERR_peek_error(), 0);
}

/* --- listeners ------------------------------------------------------------------------------------------------------------- */

static void clients_get_what_they_ask_for(void **state)
{
	(void)state;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	put("rsa", &(struct paper_wish){ .name = "one.example.org", .rsa_bits = 2048 });
	put("two", &(struct paper_wish){ .name = "two", .alternatives = "DNS:*.two.example.org" });
	struct side side = side_of(
	        SERVER("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; }, { cert = \"%/rsa.pem\"; key = \"%/rsa.key\"; }, "
	               "{ cert = \"%/two.pem\"; key = \"%/two.key\"; } );"));
	static const struct {
		const char *name, *algorithms, *common;
		int version, type;
	} cases[] = {
		{ "one.example.org", NULL, "one.example.org", TLS1_3_VERSION, EVP_PKEY_EC },
		{ "one.example.org", "rsa_pss_rsae_sha256", "one.example.org", TLS1_3_VERSION, EVP_PKEY_RSA },
		{ "one.example.org", NULL, "one.example.org", TLS1_2_VERSION, EVP_PKEY_EC },
		{ "one.example.org", "rsa_pkcs1_sha256", "one.example.org", TLS1_2_VERSION, EVP_PKEY_RSA },
		{ "www.two.example.org", NULL, "two", TLS1_3_VERSION, EVP_PKEY_EC },
		{ "nobody.example.com", NULL, "one.example.org", TLS1_3_VERSION, EVP_PKEY_EC },
		{ NULL, "rsa_pss_rsae_sha256", "one.example.org", TLS1_3_VERSION, EVP_PKEY_RSA },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		SSL_CTX *ctx = stranger(cases[i].version);
		SSL *server = tls_server_session(tls_server_of(side.tls, 0)), *client = ask(ctx, cases[i].name);
		struct tls_facts facts;
		if (cases[i].algorithms)
			assert_int_equal(SSL_set1_sigalgs_list(client, cases[i].algorithms), 1);
		assert_true(shake(server, client));
		check_peer(client, cases[i].common, cases[i].type);
		tls_facts(server, &facts);
		assert_string_equal(facts.server_name, cases[i].name ? cases[i].name : "");
		assert_string_equal(facts.version, cases[i].version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
		assert_false(facts.resumed);
		assert_false(facts.peer_verified);
		SSL_free(server);
		SSL_free(client);
		SSL_CTX_free(ctx);
	}
	side_free(&side);
}

/* The bytes of a hello with a name as they are; what the server makes of it. */
static void check_name_refused(struct side *side, const char *name, size_t length)
{
	SSL_CTX *ctx = stranger(TLS1_3_VERSION);
	SSL *server = tls_server_session(tls_server_of(side->tls, 0)), *client = ask(ctx, "x.aaaaaaaa.example");
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	char *bytes;
	SSL_set_bio(client, BIO_new(BIO_s_mem()), in);
	assert_int_equal(SSL_do_handshake(client), -1);
	long total = BIO_get_mem_data(in, &bytes);
	char *place = memmem(bytes, (size_t)total, "aaaaaaaa", 8);
	assert_non_null(place);
	memcpy(place, name, length);
	BIO *hello = BIO_new(BIO_s_mem());
	assert_int_equal(BIO_write(hello, bytes, (int)total), total);
	SSL_set_bio(server, hello, out);
	int result = SSL_do_handshake(server);
	assert_int_equal(SSL_get_error(server, result), SSL_ERROR_SSL);
	check_failure(server, TLS_FAILURE_PROTOCOL);
	assert_int_equal(BIO_get_mem_data(out, &bytes), 7); /* a fatal alert, nothing else */
	assert_memory_equal(bytes, "\x15\x03\x03\x00\x02\x02", 6);
	SSL_free(server);
	SSL_free(client);
	SSL_CTX_free(ctx);
}

static void names_that_are_none_are_refused(void **state)
{
	(void)state;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	struct side side = side_of(SERVER(ONE));
	check_name_refused(&side, "a\0", 2);
	check_name_refused(&side, "a\n", 2);
	check_name_refused(&side, "a b", 3);
	check_name_refused(&side, "\xff", 1);
	check_name_refused(&side, "*", 1);
	side_free(&side);
}

static void application_protocols(void **state)
{
	(void)state;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	struct side side = side_of(SERVER(ONE " alpn = \"h2, http/1.1\";"));
	static const struct {
		const char *offer, *chosen; /* chosen NULL: refused */
	} cases[] = { { "\x08http/1.1\x02h2", "h2" }, { "\x08http/1.1", "http/1.1" }, { "\x03xyz", NULL }, { "", "" } };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		SSL_CTX *ctx = stranger(TLS1_3_VERSION);
		SSL *server = tls_server_session(tls_server_of(side.tls, 0)), *client = ask(ctx, NULL);
		struct tls_facts facts;
		if (cases[i].offer[0])
			SSL_set_alpn_protos(client, (const unsigned char *)cases[i].offer, (unsigned)strlen(cases[i].offer));
		bool done = shake(server, client);
		assert_int_equal(done, cases[i].chosen != NULL);
		if (done) {
			tls_facts(server, &facts);
			assert_int_equal(facts.alpn_length, strlen(cases[i].chosen));
			assert_memory_equal(facts.alpn ? (const char *)facts.alpn : "", cases[i].chosen, facts.alpn_length);
		} else {
			ERR_clear_error();
		}
		SSL_free(server);
		SSL_free(client);
		SSL_CTX_free(ctx);
	}
	side_free(&side);
}

static void old_versions_and_renegotiation_are_refused(void **state)
{
	(void)state;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	struct side side = side_of(SERVER(ONE)), newest = side_of(SERVER(ONE " min_version = \"1.3\";"));
	SSL_CTX *ctx = stranger(TLS1_2_VERSION);
	SSL *server = tls_server_session(tls_server_of(newest.tls, 0)), *client = ask(ctx, NULL);
	assert_false(shake(server, client));
	check_failure(server, TLS_FAILURE_VERSION);
	SSL_free(server);
	SSL_free(client);
	server = tls_server_session(tls_server_of(side.tls, 0));
	client = ask(ctx, NULL);
	assert_true(shake(server, client));
	assert_int_equal(SSL_get_current_compression(server), NULL);
	char byte;
	assert_int_equal(SSL_renegotiate(client), 1);
	(void)SSL_do_handshake(client);
	assert_int_equal(SSL_read(server, &byte, 1), -1);
	(void)SSL_do_handshake(client);
	assert_int_equal(SSL_num_renegotiations(server), 0);
	ERR_clear_error();
	SSL_free(server);
	SSL_free(client);
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, TLS1_1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
	server = tls_server_session(tls_server_of(side.tls, 0));
	client = ask(ctx, NULL);
	assert_false(shake(server, client));
	check_failure(server, TLS_FAILURE_VERSION);
	SSL_free(server);
	SSL_free(client);
	SSL_CTX_free(ctx);
	side_free(&side);
	side_free(&newest);
}

/* --- clients' certificates ------------------------------------------------------------------------------------------------- */

static bool show(struct side *side, const char *file, char *name, size_t size)
{
	SSL_CTX *ctx = stranger(TLS1_3_VERSION);
	char path[64];
	if (file) {
		snprintf(path, sizeof path, "%s.pem", file);
		assert_int_equal(SSL_CTX_use_certificate_file(ctx, scratch_path(&scratch, path), SSL_FILETYPE_PEM), 1);
		snprintf(path, sizeof path, "%s.key", file);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, scratch_path(&scratch, path), SSL_FILETYPE_PEM), 1);
	}
	SSL *server = tls_server_session(tls_server_of(side->tls, 0)), *client = ask(ctx, NULL);
	bool done = shake(server, client);
	struct tls_facts facts;
	if (done) {
		tls_facts(server, &facts);
		assert_int_equal(facts.peer_verified, file != NULL);
		assert_ptr_equal(tls_peer_name(server, name, size), name);
	} else {
		check_failure(server, TLS_FAILURE_CERTIFICATE);
	}
	SSL_free(server);
	SSL_free(client);
	SSL_CTX_free(ctx);
	return done;
}

static void clients_are_verified(void **state)
{
	(void)state;
	char name[64] = "";
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	put("good", &(struct paper_wish){ .name = "Good\n(client)", .serial = 7 });
	put("unnamed", &(struct paper_wish){ .alternatives = "email:someone@example.org" });
	put("revoked", &(struct paper_wish){ .name = "revoked", .serial = 8 });
	put("expired", &(struct paper_wish){ .name = "expired", .from_s = -7200, .until_s = -3600 });
	struct paper other = paper_make(&(struct paper_wish){ .name = "stranger" });
	paper_write_cert(&scratch, "stranger.pem", &other, NULL);
	paper_write_key(&scratch, "stranger.key", &other);
	paper_write_crl(&scratch, "crl.pem", &ca, 8, 3600);
	paper_write_crl(&scratch, "crl-old.pem", &ca, 8, -3600);
	struct side required = side_of(SERVER(ONE " client_ca = \"%/ca.pem\"; crl = \"%/crl.pem\";"));
	struct side optional = side_of(SERVER(ONE " client_ca = \"%/ca.pem\"; client_verify = \"optional\";"));
	struct side stale = side_of(SERVER(ONE " client_ca = \"%/ca.pem\"; crl = \"%/crl-old.pem\";"));
	assert_int_equal(required.config->listeners[0].tls.client_verify, CLIENT_VERIFY_REQUIRED);
	assert_true(show(&required, "good", name, sizeof name));
	assert_string_equal(name, "Good\\x0a(client)");
	assert_true(show(&required, "unnamed", name, sizeof name));
	assert_string_equal(name, "someone@example.org");
	assert_false(show(&required, NULL, name, sizeof name));
	assert_false(show(&required, "revoked", name, sizeof name));
	assert_false(show(&required, "expired", name, sizeof name));
	assert_false(show(&required, "stranger", name, sizeof name));
	assert_false(show(&stale, "good", name, sizeof name));
	assert_true(show(&optional, NULL, name, sizeof name));
	assert_string_equal(name, "");
	assert_true(show(&optional, "revoked", name, sizeof name)); /* nobody told it of the list */
	assert_false(show(&optional, "stranger", name, sizeof name));
	paper_free(&other);
	side_free(&required);
	side_free(&optional);
	side_free(&stale);
}

/* --- resuming -------------------------------------------------------------------------------------------------------------- */

/* One connection to a side; *session is resumed where there is one, and becomes what the server gave. */
static bool come(struct side *side, SSL_CTX *ctx, const char *name, SSL_SESSION **session)
{
	SSL *server = tls_server_session(tls_server_of(side->tls, 0)), *client = ask(ctx, name);
	struct tls_facts facts;
	if (*session)
		assert_int_equal(SSL_set_session(client, *session), 1);
	assert_true(shake(server, client));
	tls_facts(server, &facts);
	assert_string_equal(facts.server_name, name);
	bool resumed = SSL_session_reused(client) == 1;
	assert_int_equal(facts.resumed, resumed);
	SSL_SESSION_free(*session);
	*session = SSL_get1_session(client);
	(void)SSL_shutdown(client); /* one that breaks off is not resumed */
	SSL_free(server);
	SSL_free(client);
	return resumed;
}

static void check_resuming(int version)
{
	put("one", &(struct paper_wish){ .name = "one.example.org", .alternatives = "DNS:one.example.org,DNS:two.example.org" });
	struct side first = side_of(SERVER(ONE)), second = side_of(SERVER(ONE));
	SSL_CTX *ctx = stranger(version);
	SSL_SESSION *session = NULL;
	assert_false(come(&first, ctx, "one.example.org", &session));
	assert_true(come(&first, ctx, "one.example.org", &session));
	assert_true(come(&second, ctx, "one.example.org", &session));  /* another worker, or one after a reload */
	assert_false(come(&second, ctx, "two.example.org", &session)); /* the same certificate, and another name */
	assert_true(come(&first, ctx, "two.example.org", &session));
	/* A key that was replaced is honoured once more, and the client gets a ticket with the new one. */
	uint64_t now_ns = clock_now_ns();
	assert_true(tickets_tick(tickets, NS_PER_S, now_ns + 10 * NS_PER_S));
	assert_true(come(&first, ctx, "two.example.org", &session));
	assert_true(tickets_tick(tickets, NS_PER_S, now_ns + 20 * NS_PER_S));
	assert_true(come(&first, ctx, "two.example.org", &session));
	assert_true(tickets_tick(tickets, NS_PER_S, now_ns + 30 * NS_PER_S));
	assert_true(tickets_tick(tickets, NS_PER_S, now_ns + 40 * NS_PER_S));
	assert_false(come(&first, ctx, "two.example.org", &session));
	SSL_SESSION_free(session);
	SSL_CTX_free(ctx);
	side_free(&first);
	side_free(&second);
}

static void sessions_are_resumed_at_any_worker(void **state)
{
	(void)state;
	check_resuming(TLS1_3_VERSION);
}

static void and_with_tls_1_2(void **state)
{
	(void)state;
	check_resuming(TLS1_2_VERSION);
}

static void tickets_may_be_off(void **state)
{
	(void)state;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	struct side side = side_of(SERVER(ONE " tickets = false;"));
	for (int i = 0; i < 2; i++) {
		SSL_CTX *ctx = stranger(i ? TLS1_3_VERSION : TLS1_2_VERSION);
		SSL_SESSION *session = NULL;
		assert_false(come(&side, ctx, "one.example.org", &session));
		assert_false(come(&side, ctx, "one.example.org", &session));
		SSL_SESSION_free(session);
		SSL_CTX_free(ctx);
	}
	side_free(&side);
}

static void who_may_vouch_is_part_of_a_session(void **state)
{
	(void)state;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	paper_write_crl(&scratch, "crl.pem", &ca, 0, 3600);
	struct side side = side_of(SERVER(ONE " client_ca = \"%/ca.pem\"; client_verify = \"optional\"; crl = \"%/crl.pem\";"));
	SSL_CTX *ctx = stranger(TLS1_3_VERSION);
	SSL_SESSION *session = NULL;
	assert_false(come(&side, ctx, "one.example.org", &session));
	assert_true(come(&side, ctx, "one.example.org", &session));
	paper_write_crl(&scratch, "crl.pem", &ca, 9, 3600);
	char why[256];
	int fd = build(side.config);
	assert_int_equal(tls_renew(side.tls, fd, why, sizeof why), 0);
	close(fd);
	assert_false(come(&side, ctx, "one.example.org", &session)); /* somebody was revoked: who it is is looked at again */
	assert_true(come(&side, ctx, "one.example.org", &session));
	SSL_SESSION_free(session);
	SSL_CTX_free(ctx);
	side_free(&side);
}

/* One connection to a side, with this session: is the client let in, and is it resumed? */
static bool comes_back(struct side *side, SSL_CTX *ctx, SSL_SESSION *session, bool *resumed)
{
	SSL *server = tls_server_session(tls_server_of(side->tls, 0)), *client = ask(ctx, "one.example.org");
	assert_int_equal(SSL_set_session(client, session), 1);
	bool done = shake(server, client);
	*resumed = SSL_session_reused(server) == 1;
	if (!done)
		check_failure(server, TLS_FAILURE_CERTIFICATE);
	SSL_free(server);
	SSL_free(client);
	return done;
}

static void nobody_is_resumed_where_he_must_show_a_certificate(void **state)
{
	(void)state;
	bool resumed;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	struct side optional = side_of(SERVER(ONE " client_ca = \"%/ca.pem\"; client_verify = \"optional\";"));
	struct side required = side_of(SERVER(ONE " client_ca = \"%/ca.pem\";"));
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_CTX *ctx = stranger(version);
		SSL_SESSION *session = NULL;
		assert_false(come(&optional, ctx, "one.example.org", &session));
		assert_false(comes_back(&required, ctx, session, &resumed));
		assert_false(resumed);
		assert_true(comes_back(&optional, ctx, session, &resumed));
		assert_true(resumed);
		SSL_SESSION_free(session);
		SSL_CTX_free(ctx);
	}
	side_free(&optional);
	side_free(&required);
}

/* A session that began when all was good, and what ended since: the client must prove himself anew, and cannot. */
static void check_ended(struct side *side, const char *cert, const char *key)
{
	bool resumed;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_CTX *ctx = stranger(version);
		assert_int_equal(SSL_CTX_use_certificate_file(ctx, scratch_path(&scratch, cert), SSL_FILETYPE_PEM), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, scratch_path(&scratch, key), SSL_FILETYPE_PEM), 1);
		SSL *server = tls_server_session(tls_server_of(side->tls, 0)), *client = ask(ctx, "one.example.org");
		X509_VERIFY_PARAM_set_time(SSL_get0_param(server), time(NULL) - 90);
		assert_true(shake(server, client));
		SSL_SESSION *session = SSL_get1_session(client);
		(void)SSL_shutdown(client);
		assert_false(comes_back(side, ctx, session, &resumed));
		assert_false(resumed);
		SSL_SESSION_free(session);
		SSL_free(server);
		SSL_free(client);
		SSL_CTX_free(ctx);
	}
}

static void a_session_ends_with_the_certificate_that_was_shown(void **state)
{
	(void)state;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	put("late", &(struct paper_wish){ .name = "late", .from_s = -7200, .until_s = -60 });
	struct side side = side_of(SERVER(ONE " client_ca = \"%/ca.pem\";"));
	check_ended(&side, "late.pem", "late.key");
	side_free(&side);
}

static void and_with_the_list_of_who_was_revoked(void **state)
{
	(void)state;
	put("one", &(struct paper_wish){ .name = "one.example.org" });
	put("good", &(struct paper_wish){ .name = "good" });
	paper_write_crl(&scratch, "crl.pem", &ca, 0, -60);
	struct side side = side_of(SERVER(ONE " client_ca = \"%/ca.pem\"; crl = \"%/crl.pem\";"));
	check_ended(&side, "good.pem", "good.key");
	side_free(&side);
}

/* --- others in their place ------------------------------------------------------------------------------------------------- */

static void certificates_change_under_sessions(void **state)
{
	(void)state;
	char why[256];
	put("one", &(struct paper_wish){ .name = "one.example.org", .serial = 1 });
	struct side side = side_of(SERVER(ONE));
	SSL_CTX *ctx = stranger(TLS1_3_VERSION);
	SSL *old = tls_server_session(tls_server_of(side.tls, 0)), *old_client = ask(ctx, NULL);
	SSL *begun = tls_server_session(tls_server_of(side.tls, 0)), *begun_client = ask(ctx, NULL);
	assert_true(shake(old, old_client));
	put("one", &(struct paper_wish){ .name = "one.example.org", .serial = 2, .rsa_bits = 2048 });
	int fd = build(side.config);
	assert_int_equal(tls_renew(side.tls, fd, why, sizeof why), 0);
	/* One that was begun goes on, one that is open moves bytes, a new one has what is new. */
	assert_true(shake(begun, begun_client));
	check_peer(begun_client, "one.example.org", EVP_PKEY_RSA);
	char byte;
	assert_int_equal(SSL_write(old, "y", 1), 1);
	assert_int_equal(SSL_read(old_client, &byte, 1), 1);
	assert_int_equal(byte, 'y');
	assert_int_equal(ASN1_INTEGER_get(X509_get0_serialNumber(SSL_get0_peer_certificate(old_client))), 1);
	/* What cannot be used changes nothing. */
	assert_int_not_equal(tls_renew(side.tls, -1, why, sizeof why), 0);
	int empty = vault_make_fd();
	assert_int_not_equal(tls_renew(side.tls, empty, why, sizeof why), 0);
	SSL *next = tls_server_session(tls_server_of(side.tls, 0)), *next_client = ask(ctx, NULL);
	assert_true(shake(next, next_client));
	check_peer(next_client, "one.example.org", EVP_PKEY_RSA);
	close(fd);
	close(empty);
	SSL_free(old);
	SSL_free(old_client);
	SSL_free(begun);
	SSL_free(begun_client);
	SSL_free(next);
	SSL_free(next_client);
	SSL_CTX_free(ctx);
	side_free(&side);
}

static void an_ocsp_answer_is_passed_on(void **state)
{
	(void)state;
	struct paper one = paper_make(&(struct paper_wish){ .name = "one.example.org", .issuer = &ca });
	paper_write_cert(&scratch, "one.pem", &one, &ca);
	paper_write_key(&scratch, "one.key", &one);
	for (int good = 0; good < 2; good++)
		for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
			paper_write_ocsp(&scratch, "one.ocsp", &ca, &one, V_OCSP_CERTSTATUS_GOOD, EVP_sha1(), good ? 3600 : -60);
			struct side side = side_of(
			        SERVER("certificates = ( { cert = \"%/one.pem\"; key = \"%/one.key\"; ocsp = \"%/one.ocsp\"; } );"));
			SSL_CTX *ctx = stranger(version);
			SSL *server = tls_server_session(tls_server_of(side.tls, 0)), *client = ask(ctx, NULL);
			const unsigned char *answer = NULL;
			SSL_set_tlsext_status_type(client, TLSEXT_STATUSTYPE_ocsp);
			assert_true(shake(server, client));
			long length = SSL_get_tlsext_status_ocsp_resp(client, &answer);
			assert_int_equal(length > 0, good);
			SSL_free(server);
			SSL_free(client);
			SSL_CTX_free(ctx);
			side_free(&side);
		}
	paper_free(&one);
}

/* --- upstreams ------------------------------------------------------------------------------------------------------------- */

/* From the upstream of one side to the listener of the other. */
static bool dial(struct side *from, uint32_t number, struct side *to, bool *resumed)
{
	SSL *server = tls_server_session(tls_server_of(to->tls, 0));
	SSL *client = tls_client_session(tls_client_of(from->tls, 0), number, (const unsigned char *)"h2", 2);
	assert_non_null(client);
	bool done = shake(server, client);
	struct tls_facts facts;
	if (done) {
		tls_facts(server, &facts);
		assert_string_equal(facts.server_name, number == 0 ? "s.example.org" : "");
		assert_int_equal(facts.alpn_length, 2);
		*resumed = facts.resumed;
		(void)SSL_shutdown(client);
	} else {
		check_failure(client, TLS_FAILURE_CERTIFICATE);
	}
	SSL_free(server);
	SSL_free(client);
	return done;
}

static void servers_are_verified(void **state)
{
	(void)state;
	bool resumed;
	put("one", &(struct paper_wish){ .name = "s.example.org", .alternatives = "DNS:s.example.org,IP:127.0.0.9" });
	put("other", &(struct paper_wish){ .name = "other.example.org" });
	struct side good = side_of(SERVER(ONE " alpn = \"h2\";"));
	struct side other = side_of(SERVER("certificates = ( { cert = \"%/other.pem\"; key = \"%/other.key\"; } ); alpn = \"h2\";"));
	struct side client = side_of(CLIENT("ca = \"%/ca.pem\";")), fresh = side_of(CLIENT("ca = \"%/ca.pem\";")),
	            dotted = side_of(CLIENT("ca = \"%/ca.pem\"; name = \"s.example.org.\";")), system = side_of(CLIENT("")),
	            blind = side_of(CLIENT("verify = false;"));
	assert_true(dial(&client, 0, &good, &resumed));
	assert_false(resumed);
	assert_true(dial(&client, 0, &good, &resumed));
	assert_true(resumed);
	assert_true(dial(&client, 1, &good, &resumed)); /* by its address; and not with the session of the other one */
	assert_false(resumed);
	assert_false(dial(&fresh, 0, &other, &resumed));
	assert_true(dial(&dotted, 0, &good, &resumed));
	assert_false(dial(&system, 0, &good, &resumed)); /* the system does not know this CA */
	assert_true(dial(&blind, 0, &other, &resumed));
	assert_null(tls_client_of(good.tls, 0));
	assert_null(tls_server_of(client.tls, 0));
	side_free(&good);
	side_free(&other);
	side_free(&client);
	side_free(&fresh);
	side_free(&dotted);
	side_free(&system);
	side_free(&blind);
}

/* Of who checks servers, with an excerpt of the vault. */
static struct side checking_side(const char *settings)
{
	char why[256];
	struct side side = { .config = paper_settings(&scratch, settings) };
	int fd = build(side.config), excerpt = vault_make_fd();
	assert_int_equal(vault_excerpt(side.config, fd, excerpt), 0);
	if (tls_new_for_checks(side.config, excerpt, &side.tls, why, sizeof why))
		fail_msg("%s", why);
	close(fd);
	close(excerpt);
	return side;
}

#define CHECKED(tls) "listeners = ( { address = \"127.0.0.1:1\"; } ); upstreams = ( " UPSTREAM("health = { }; tls = { " tls " };") " );"

static void check_distrust(struct side *client, struct side *server, enum tls_distrust wanted)
{
	SSL *accepts = tls_server_session(tls_server_of(server->tls, 0)),
	    *asks = tls_client_session(tls_client_of(client->tls, 0), 0, NULL, 0);
	assert_int_equal(shake(accepts, asks), wanted == TLS_DISTRUST_NOTHING);
	assert_int_equal(tls_distrust_of(asks), wanted);
	if (wanted != TLS_DISTRUST_NOTHING)
		check_failure(asks, TLS_FAILURE_CERTIFICATE);
	else
		(void)SSL_shutdown(asks);
	SSL_free(accepts);
	SSL_free(asks);
}

static void what_is_wrong_with_a_server_is_told(void **state)
{
	static const struct {
		struct paper_wish wish;
		enum tls_distrust wanted;
	} cases[] = {
		{ { .name = "s.example.org" }, TLS_DISTRUST_NOTHING },
		{ { .name = "s.example.org", .from_s = -7200, .until_s = -60 }, TLS_DISTRUST_EXPIRED },
		{ { .name = "s.example.org", .from_s = 3600, .until_s = 7200 }, TLS_DISTRUST_NOT_YET },
		{ { .name = "t.example.org" }, TLS_DISTRUST_NAME },
		{ { .name = "s.example.org", .serial = 8 }, TLS_DISTRUST_REVOKED },
	};
	(void)state;
	paper_write_crl(&scratch, "crl.pem", &ca, 8, 3600);
	paper_write_crl(&scratch, "old.pem", &ca, 0, -60);
	struct paper stranger = paper_make(&(struct paper_wish){ .name = "stranger", .ca = true });
	paper_write_cert(&scratch, "stranger.pem", &stranger, NULL);
	struct side client = checking_side(CHECKED("ca = \"%/ca.pem\"; crl = \"%/crl.pem\";")),
	            stale = checking_side(CHECKED("ca = \"%/ca.pem\"; crl = \"%/old.pem\";")),
	            elsewhere = checking_side(CHECKED("ca = \"%/stranger.pem\";"));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		put("one", &cases[i].wish);
		struct side server = side_of(SERVER(ONE));
		check_distrust(&client, &server, cases[i].wanted);
		if (i == 0) {
			check_distrust(&stale, &server, TLS_DISTRUST_LIST);
			check_distrust(&elsewhere, &server, TLS_DISTRUST_ISSUER);
		}
		side_free(&server);
	}
	side_free(&client);
	side_free(&stale);
	side_free(&elsewhere);
	paper_free(&stranger);
}

/* What a check proves, each one proves anew; and it knows whether the server wanted a certificate. */
static void checks_resume_nothing(void **state)
{
	(void)state;
	bool resumed;
	put("one", &(struct paper_wish){ .name = "s.example.org" });
	put("own", &(struct paper_wish){ .name = "aegis" });
	struct side server = side_of(SERVER(ONE " alpn = \"h2\";")),
	            asking = side_of(SERVER(ONE " alpn = \"h2\"; client_ca = \"%/ca.pem\";"));
	struct side client = checking_side(CHECKED("ca = \"%/ca.pem\"; cert = \"%/own.pem\"; key = \"%/own.key\"; alpn = \"other\";"));
	for (int i = 0; i < 3; i++) {
		assert_true(dial(&client, 0, &server, &resumed)); /* its alpn goes before that of the settings */
		assert_false(resumed);
		assert_false(tls_client_was_asked(tls_client_of(client.tls, 0), 0));
	}
	assert_true(dial(&client, 0, &asking, &resumed));
	assert_true(tls_client_was_asked(tls_client_of(client.tls, 0), 0));
	assert_string_equal(tls_client_name(tls_client_of(client.tls, 0), 0), "s.example.org");
	assert_string_equal(tls_client_name(tls_client_of(client.tls, 0), 1), "127.0.0.9");
	side_free(&server);
	side_free(&asking);
	side_free(&client);
}

static void a_certificate_is_shown_to_servers(void **state)
{
	(void)state;
	bool resumed;
	put("one", &(struct paper_wish){ .name = "s.example.org" });
	put("own", &(struct paper_wish){ .name = "aegis" });
	struct side server = side_of(SERVER(ONE " alpn = \"h2\"; client_ca = \"%/ca.pem\";"));
	struct side with = side_of(CLIENT("ca = \"%/ca.pem\"; cert = \"%/own.pem\"; key = \"%/own.key\";"));
	assert_true(dial(&with, 0, &server, &resumed));
	assert_true(dial(&with, 0, &server, &resumed));
	assert_true(resumed);
	side_free(&server);
	side_free(&with);
}

static void what_began_with_other_certificates_is_not_resumed(void **state)
{
	(void)state;
	bool resumed;
	char why[256], byte;
	put("one", &(struct paper_wish){ .name = "s.example.org" });
	struct side server = side_of(SERVER(ONE " alpn = \"h2\";")), client = side_of(CLIENT("ca = \"%/ca.pem\";"));
	SSL *one = tls_server_session(tls_server_of(server.tls, 0));
	SSL *other = tls_client_session(tls_client_of(client.tls, 0), 0, NULL, 0);
	connect_ends(one, other);
	while (SSL_do_handshake(other) + SSL_do_handshake(one) < 2)
		;
	int fd = build(client.config);
	assert_int_equal(tls_renew(client.tls, fd, why, sizeof why), 0);
	close(fd);
	assert_int_equal(SSL_read(other, &byte, 1), -1); /* the ticket of the server, and nothing else */
	assert_int_equal(SSL_get_error(other, -1), SSL_ERROR_WANT_READ);
	assert_true(dial(&client, 0, &server, &resumed));
	assert_false(resumed);
	assert_true(dial(&client, 0, &server, &resumed));
	assert_true(resumed);
	SSL_free(one);
	SSL_free(other);
	side_free(&server);
	side_free(&client);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(clients_get_what_they_ask_for),
		TEST(names_that_are_none_are_refused),
		TEST(application_protocols),
		TEST(old_versions_and_renegotiation_are_refused),
		TEST(clients_are_verified),
		TEST(sessions_are_resumed_at_any_worker),
		TEST(and_with_tls_1_2),
		TEST(tickets_may_be_off),
		TEST(who_may_vouch_is_part_of_a_session),
		TEST(nobody_is_resumed_where_he_must_show_a_certificate),
		TEST(a_session_ends_with_the_certificate_that_was_shown),
		TEST(and_with_the_list_of_who_was_revoked),
		TEST(certificates_change_under_sessions),
		TEST(an_ocsp_answer_is_passed_on),
		TEST(servers_are_verified),
		TEST(what_is_wrong_with_a_server_is_told),
		TEST(checks_resume_nothing),
		TEST(a_certificate_is_shown_to_servers),
		TEST(what_began_with_other_certificates_is_not_resumed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
