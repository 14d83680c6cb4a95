/* What the files of this folder share in a worker. Private to src/tls. */
#ifndef AEGIS_TLS_OWN_H
#define AEGIS_TLS_OWN_H

#include "config/config.h"
#include "tls/kernel.h"
#include "tls/openssl.h"
#include "tls/tickets.h"
#include "tls/tls.h"
#include "tls/vault.h"

/* A certificate of the vault as OpenSSL wants it: made when the first client needs it. */
struct tls_pair {
	X509 *leaf; /* NULL = not made yet */
	EVP_PKEY *key;
	STACK_OF(X509) * chain;
};

struct tls_server {
	const struct tls *tls;
	uint32_t index; /* of the listener */
	const struct listener_config *config;
	SSL_CTX *ctx;             /* sessions hold it, too */
	unsigned kernel_interest; /* see kernel_side.h */
	struct tls_pair *pairs;
	size_t n_pairs;
	unsigned char alpn[256]; /* as the wire has it */
	unsigned alpn_length;
};

/* Where sessions with one server of an upstream are kept to be resumed: its name never changes. */
struct tls_peer {
	const struct tls_client *client;
	char name[256]; /* "" = none: it is neither asked for nor verified */
	bool is_address;
	bool was_asked; /* of checks: the server wanted a certificate of us */
	SSL_SESSION *session;
};

struct tls_client {
	const struct tls *tls;
	uint32_t index; /* of the upstream */
	const struct upstream_config *config;
	SSL_CTX *ctx;
	unsigned char alpn[256];
	unsigned alpn_length;
	unsigned kernel_interest; /* see kernel_side.h */
	struct tls_peer *peers;   /* one for each server */
};

struct tls {
	const struct config *config;
	struct kernel_ability able;    /* of which use is made */
	const struct tickets *tickets; /* NULL: OpenSSL's own, of this process alone */
	bool for_checks;
	struct vault vault;
	struct tls_server **servers; /* one for each listener, NULL where it is plain */
	struct tls_client **clients; /* one for each upstream, the same */
};

must_check int server_new(const struct tls *tls, uint32_t index, struct tls_server **out, char *why, size_t size);
void server_free(struct tls_server *server);
must_check int client_new(const struct tls *tls, uint32_t index, struct tls_client **out, char *why, size_t size);
void client_free(struct tls_client *client);

/* A context for sessions that begin from now on, by this vault; the caller's, or NULL with why. */
must_check SSL_CTX *server_context(struct tls_server *server, const struct vault *vault, char *why, size_t size);
must_check SSL_CTX *client_context(struct tls_client *client, const struct vault *vault, char *why, size_t size);
/* From now on sessions begin with this one, and certificates are those of tls->vault. */
void server_take(struct tls_server *server, SSL_CTX *ctx);
void client_take(struct tls_client *client, SSL_CTX *ctx);

/* The certificate and chain of the vault. False when it cannot be made of that. */
must_check bool pair_make(struct tls_pair *pair, const struct vault *vault, const struct vault_certificate *from);
void pair_drop(struct tls_pair *pair);
/* The name that a client asked for, in lower case; "" = none. */
const char *server_name_of(const SSL *ssl);
/* A store of those who may vouch: DER certificates one after the other, PEM revocation lists. NULL: out of memory or nonsense. */
must_check X509_STORE *trust_store(const struct vault *vault, const struct vault_span *ca, const struct vault_span *crls);
/* Tickets of all workers, or none, as the settings say. */
must_check bool server_use_tickets(struct tls_server *server, SSL_CTX *ctx);

#endif
