/* What listeners begin handshakes with: the choice of a certificate by the name that the client asks for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls/kernel_side.h"
#include "tls/offer.h"
#include "tls/own.h"

static int name_index = -1; /* of the name in a session, a string */

/* --- the hello ------------------------------------------------------------------------------------------------------------- */

static void on_free_name(void *parent, void *name, CRYPTO_EX_DATA *data, int index, long arg_long, void *arg)
{
	(void)parent;
	(void)data;
	(void)index;
	(void)arg_long;
	(void)arg;
	free(name);
}

const char *server_name_of(const SSL *ssl)
{
	const char *name = name_index >= 0 ? SSL_get_ex_data(ssl, name_index) : NULL;

	return name ? name : "";
}

/* A host name as the wire has it, in lower case; NULL where it is none. */
static char *copy_name(const unsigned char *bytes, size_t length)
{
	char *name = length > 0 && length < VAULT_NAME_SIZE ? malloc(length + 1) : NULL;

	for (size_t i = 0; name && i < length; i++) {
		unsigned char c = bytes[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.') {
			free(name);
			return NULL;
		}
		name[i] = letter ? (char)(c | 0x20) : (char)c;
	}
	if (name)
		name[length] = '\0';
	return name;
}

/* One host name in a list of one (RFC 6066, section 3); empty where none is asked for. 0, or the alert. */
static int read_name(SSL *ssl, char **out)
{
	const unsigned char *ext;
	size_t length;

	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &ext, &length) != 1) {
		*out = calloc(1, 1);
		return *out ? 0 : SSL_AD_INTERNAL_ERROR;
	}
	if (length < 5 || (size_t)(ext[0] << 8 | ext[1]) != length - 2 || ext[2] != TLSEXT_NAMETYPE_host_name ||
	        (size_t)(ext[3] << 8 | ext[4]) != length - 5)
		return SSL_AD_DECODE_ERROR;
	*out = copy_name(ext + 5, length - 5);
	return *out ? 0 : SSL_AD_ILLEGAL_PARAMETER;
}

/* The first hello says the name, by which a route may have been chosen already. One after a HelloRetryRequest is the same but for what that
 * asked for (RFC 8446, 4.1.2): with another name the route would be that of one, certificate and log those of the other. */
static int on_hello(SSL *ssl, int *alert, void *arg)
{
	const struct tls_server *server = arg;
	const char *before = SSL_get_ex_data(ssl, name_index);
	char *name = NULL;

	if (unlikely(SSL_get_SSL_CTX(ssl) != server->ctx)) /* there are other certificates since it connected */
		(void)SSL_set_SSL_CTX(ssl, server->ctx);
	*alert = read_name(ssl, &name);
	if (!name)
		return SSL_CLIENT_HELLO_ERROR;
	if (!before && SSL_set_ex_data(ssl, name_index, name) == 1)
		return SSL_CLIENT_HELLO_SUCCESS; /* the session's now */
	bool same = before && strcmp(before, name) == 0;
	*alert = before ? SSL_AD_ILLEGAL_PARAMETER : SSL_AD_INTERNAL_ERROR;
	free(name);
	return same ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_ERROR;
}

/* So that OpenSSL tells the client that its name was taken. */
static int on_name(SSL *ssl, int *alert, void *arg)
{
	(void)alert;
	(void)arg;
	return server_name_of(ssl)[0] != '\0' ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* --- the certificate ------------------------------------------------------------------------------------------------------- */

static const uint32_t *choose(const struct tls_server *server, const SSL *ssl)
{
	const struct vault *vault = &server->tls->vault;
	const char *name = server_name_of(ssl);
	bool known;

	return vault_find(vault, vault_listener(vault, server->index), name, strlen(name), &known);
}

static const struct vault_certificate *certificate_of(const struct tls_server *server, uint32_t number)
{
	const struct vault *vault = &server->tls->vault;

	return vault_certificates(vault, &vault_listener(vault, server->index)->certificates) + (number - 1);
}

/* Has every client the same certificates, whatever name it asks for? */
static bool is_without_choice(const struct vault *vault, const struct vault_listener *own)
{
	const struct vault_name *names = (const void *)vault_bytes(vault, &own->names);

	for (uint64_t i = 0; i < own->names.length; i++)
		if (names[i].name.length > 0 && memcmp(names[i].certificate, own->fallback, sizeof own->fallback) != 0)
			return false;
	return true;
}

/* Then sessions begin with them: OpenSSL checks a key and a certificate that it is given, and need not for each client. */
static bool set_certificates(SSL_CTX *ctx, const struct vault *vault, const struct vault_listener *own)
{
	const struct vault_certificate *certificates = vault_certificates(vault, &own->certificates);
	bool any = false;

	for (size_t kind = 0; kind < N_VAULT_KINDS; kind++) {
		struct tls_pair pair = { 0 };
		if (own->fallback[kind] == 0)
			continue;
		any = pair_make(&pair, vault, &certificates[own->fallback[kind] - 1]) &&
		      SSL_CTX_use_cert_and_key(ctx, pair.leaf, pair.key, pair.chain, 1) == 1;
		pair_drop(&pair);
		if (!any)
			break;
	}
	return any;
}

/* All kinds that there are for the name: OpenSSL takes the one that the client can verify. */
static int on_certificate(SSL *ssl, void *arg)
{
	struct tls_server *server = arg;
	const uint32_t *numbers = choose(server, ssl);
	bool any = false;

	for (size_t kind = 0; kind < N_VAULT_KINDS; kind++) {
		if (numbers[kind] == 0)
			continue;
		struct tls_pair *pair = &server->pairs[numbers[kind] - 1];
		if (!pair_make(pair, &server->tls->vault, certificate_of(server, numbers[kind])) ||
		        SSL_use_cert_and_key(ssl, pair->leaf, pair->key, pair->chain, 1) != 1)
			return 0;
		any = true;
	}
	return any;
}

/* Compared by its bytes: OpenSSL keeps a certificate that it was given by a pointer of its own. */
static bool is_of(const X509 *leaf, const struct vault *vault, const struct vault_certificate *certificate)
{
	unsigned char *der = NULL;
	int length = i2d_X509(leaf, &der);
	bool same = length > 0 && (size_t)length == certificate->leaf.length &&
	            memcmp(der, vault_bytes(vault, &certificate->leaf), certificate->leaf.length) == 0;

	OPENSSL_free(der);
	return same;
}

static int on_status(SSL *ssl, void *arg)
{
	struct tls_server *server = arg;
	const uint32_t *numbers = choose(server, ssl);
	const X509 *leaf = SSL_get_certificate(ssl);

	for (size_t kind = 0; kind < N_VAULT_KINDS; kind++) {
		const struct vault_certificate *certificate = numbers[kind] ? certificate_of(server, numbers[kind]) : NULL;
		if (!certificate || certificate->ocsp.length == 0 || !leaf || !is_of(leaf, &server->tls->vault, certificate))
			continue;
		if (certificate->ocsp_until <= (int64_t)time(NULL))
			break;
		void *answer = OPENSSL_memdup(vault_bytes(&server->tls->vault, &certificate->ocsp), certificate->ocsp.length);
		if (!answer)
			break;
		(void)SSL_set_tlsext_status_ocsp_resp(ssl, answer, (long)certificate->ocsp.length); /* OpenSSL's now */
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_length, const unsigned char *in, unsigned in_length, void *arg)
{
	const struct tls_server *server = arg;
	unsigned char *chosen;

	(void)ssl;
	if (SSL_select_next_proto(&chosen, out_length, server->alpn, server->alpn_length, in, in_length) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* --- making ---------------------------------------------------------------------------------------------------------------- */

static bool ask_for_certificate(const struct tls_server *server, SSL_CTX *ctx, const struct vault *vault)
{
	const struct vault_listener *own = vault_listener(vault, server->index);
	enum client_verify verify = server->config->tls.client_verify;

	if (verify == CLIENT_VERIFY_OFF)
		return true;
	X509_STORE *store = trust_store(vault, &own->client_ca, &own->crls);
	if (!store)
		return false;
	STACK_OF(X509_OBJECT) *trusted = X509_STORE_get0_objects(store);
	for (int i = 0; i < sk_X509_OBJECT_num(trusted); i++) {
		X509 *one = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(trusted, i));
		if (one && SSL_CTX_add_client_CA(ctx, one) != 1) {
			X509_STORE_free(store);
			return false;
		}
	}
	SSL_CTX_set_cert_store(ctx, store);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (verify == CLIENT_VERIFY_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	return true;
}

/* A session is of one listener, and of those who could vouch for its client when it began: where its client need not have shown a
 * certificate then, it is of no use where he must. */
static bool set_session_scope(const struct tls_server *server, SSL_CTX *ctx, const struct vault *vault)
{
	unsigned char scope[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	const struct vault_listener *own = vault_listener(vault, server->index);
	const unsigned char verify = (unsigned char)server->config->tls.client_verify;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool done = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
	            EVP_DigestUpdate(md, server->config->name, strlen(server->config->name) + 1) == 1 &&
	            EVP_DigestUpdate(md, &verify, sizeof verify) == 1 && EVP_DigestUpdate(md, own->trust, sizeof own->trust) == 1 &&
	            EVP_DigestFinal_ex(md, scope, &length) == 1;

	EVP_MD_CTX_free(md);
	return done && SSL_CTX_set_session_id_context(ctx, scope, length) == 1;
}

SSL_CTX *server_context(struct tls_server *server, const struct vault *vault, char *why, size_t size)
{
	const struct vault_listener *own = vault_listener(vault, server->index);
	const bool is_settled = is_without_choice(vault, own);
	SSL_CTX *ctx = NULL;

	if (offer_context(&server->config->tls.offer, true, &ctx, why, size))
		return NULL;
	if (!ask_for_certificate(server, ctx, vault) || !set_session_scope(server, ctx, vault) || !server_use_tickets(server, ctx) ||
	        (is_settled && !set_certificates(ctx, vault, own))) {
		(void)snprintf(why, size, "OpenSSL: %s", ERR_peek_error() ? ERR_reason_error_string(ERR_peek_error()) : "out of memory");
		ERR_clear_error();
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_client_hello_cb(ctx, on_hello, server);
	SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
	if (!is_settled)
		SSL_CTX_set_cert_cb(ctx, on_certificate, server);
	SSL_CTX_set_tlsext_status_cb(ctx, on_status);
	SSL_CTX_set_tlsext_status_arg(ctx, server);
	if (server->alpn_length > 0)
		SSL_CTX_set_alpn_select_cb(ctx, on_alpn, server);
	return ctx;
}

void server_take(struct tls_server *server, SSL_CTX *ctx)
{
	for (size_t i = 0; i < server->n_pairs; i++)
		pair_drop(&server->pairs[i]);
	SSL_CTX_free(server->ctx);
	server->ctx = ctx;
}

int server_new(const struct tls *tls, uint32_t index, struct tls_server **out, char *why, size_t size)
{
	struct tls_server *server = calloc(1, sizeof *server);

	(void)snprintf(why, size, "out of memory");
	if (name_index < 0)
		name_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, on_free_name);
	if (!server || name_index < 0) {
		free(server);
		return -ENOMEM;
	}
	server->tls = tls;
	server->index = index;
	server->config = &tls->config->listeners[index];
	server->kernel_interest = KERNEL_INTEREST;
	server->alpn_length = (unsigned)offer_alpn(server->config->tls.offer.alpn, server->alpn);
	server->n_pairs = server->config->tls.n_certificates;
	server->pairs = calloc(server->n_pairs, sizeof *server->pairs);
	if (server->pairs)
		server->ctx = server_context(server, &tls->vault, why, size);
	if (!server->ctx) {
		server_free(server);
		return -EINVAL;
	}
	*out = server;
	return 0;
}

void server_free(struct tls_server *server)
{
	if (!server)
		return;
	if (server->pairs)
		server_take(server, NULL);
	free(server->pairs);
	free(server);
}

SSL *tls_server_session(struct tls_server *server)
{
	if (kernel_is_able(&server->tls->able))
		kernel_side_expect(server->ctx, &server->kernel_interest, server->tls->config->tls.ktls_from_bytes == 0);
	SSL *ssl = SSL_new(server->ctx);

	if (!ssl)
		ERR_clear_error();
	else
		SSL_set_accept_state(ssl);
	return ssl;
}
