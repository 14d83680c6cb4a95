/* Session tickets: what all workers can read, and each name its own. */
#include <stdio.h>
#include <string.h>

#include "tls/own.h"

static int tls_index = -1; /* of struct tls_server in a context */

static const struct tls_server *server_of(SSL *ssl)
{
	return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_index);
}

/* Looked up once: to find an algorithm by its name takes OpenSSL longer than to use it. */
static const EVP_CIPHER *ticket_cipher(void)
{
	static EVP_CIPHER *cipher;

	if (!cipher)
		cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	return cipher;
}

static bool set_mac(EVP_MAC_CTX *mac, struct ticket_key *key)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end() };

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int encrypt_with(struct ticket_key *key, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	int length = EVP_CIPHER_get_iv_length(ticket_cipher());

	memcpy(name, key->name, sizeof key->name);
	bool done = RAND_bytes(iv, length) == 1 && EVP_EncryptInit_ex2(cipher, ticket_cipher(), key->cipher, iv, NULL) == 1 &&
	            set_mac(mac, key);
	return done ? 1 : -1;
}

/* 1 = good, 2 = good, and the client shall have a new one, 0 = not ours, -1 = failed. */
static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
	const struct tickets *tickets = server_of(ssl)->tls->tickets;
	struct ticket_key key;
	bool old = false;
	int result;

	if (!ticket_cipher())
		return -1;
	if (encrypt) {
		tickets_current(tickets, &key);
		result = encrypt_with(&key, name, iv, cipher, mac);
	} else if (!tickets_find(tickets, name, &key, &old)) {
		return 0;
	} else {
		bool done = EVP_DecryptInit_ex2(cipher, ticket_cipher(), key.cipher, iv, NULL) == 1 && set_mac(mac, &key);
		result = !done ? -1 : old ? 2 : 1;
	}
	explicit_bzero(&key, sizeof key);
	return result;
}

/* The name that the session began with goes into the ticket. */
static int on_ticket_made(SSL *ssl, void *arg)
{
	const char *name = server_name_of(ssl);

	(void)arg;
	return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), name, strlen(name));
}

/* Nobody knows who was revoked since the end of a list. */
static bool are_lists_in_force(const SSL *ssl)
{
	const STACK_OF(X509_OBJECT) *trusted = X509_STORE_get0_objects(SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl)));

	for (int i = 0; i < sk_X509_OBJECT_num(trusted); i++) {
		const X509_CRL *list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(trusted, i));
		const ASN1_TIME *end = list ? X509_CRL_get0_nextUpdate(list) : NULL;
		if (end && X509_cmp_current_time(end) <= 0)
			return false;
	}
	return true;
}

/* Who showed a certificate is whom it names until it ends. OpenSSL looks at that in a full handshake only, and a ticket begets others. */
static bool is_in_force(const SSL *ssl, SSL_SESSION *session)
{
	const X509 *shown = SSL_SESSION_get0_peer(session);

	return !shown || (X509_cmp_current_time(X509_get0_notAfter(shown)) > 0 && are_lists_in_force(ssl));
}

/* A session of another name is not resumed: its handshake proved nothing of this one's certificate. */
static SSL_TICKET_RETURN on_ticket_read(
        SSL *ssl, SSL_SESSION *session, const unsigned char *key_name, size_t key_length, SSL_TICKET_STATUS status, void *arg)
{
	const char *name = server_name_of(ssl);
	void *began;
	size_t length;

	(void)key_name;
	(void)key_length;
	(void)arg;
	if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	if (SSL_SESSION_get0_ticket_appdata(session, &began, &length) != 1 || length != strlen(name) || memcmp(began, name, length) != 0 ||
	        !is_in_force(ssl, session))
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	/* Clients of TLS 1.3 use a ticket once (RFC 8446, appendix C.4). */
	bool renew = status == SSL_TICKET_SUCCESS_RENEW || SSL_version(ssl) == TLS1_3_VERSION;
	return renew ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
}

bool server_use_tickets(struct tls_server *server, SSL_CTX *ctx)
{
	const struct config *config = server->tls->config;

	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (!server->config->tls.tickets) {
		(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		return SSL_CTX_set_num_tickets(ctx, 0) == 1;
	}
	if (tls_index < 0)
		tls_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	(void)SSL_CTX_set_timeout(ctx, (long)(config->tls.ticket_rotation_ns / 1000000000));
	bool done = tls_index >= 0 && SSL_CTX_set_ex_data(ctx, tls_index, server) == 1 && SSL_CTX_set_num_tickets(ctx, 1) == 1 &&
	            SSL_CTX_set_session_ticket_cb(ctx, on_ticket_made, on_ticket_read, NULL) == 1;
	if (server->tls->tickets)
		done = done && SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket_key) == 1;
	return done;
}
