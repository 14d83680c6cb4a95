/* What begins sessions with servers. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tls/kernel_side.h"
#include "tls/offer.h"
#include "tls/own.h"

static int peer_index = -1; /* of the peer in a session, among what OpenSSL lets us keep there */

/* --- the name of a server -------------------------------------------------------------------------------------------------- */

static void name_peer(struct tls_peer *peer, const struct upstream_tls_config *tls, const struct server_config *server)
{
	const struct endpoint *endpoint = &server->endpoint;
	unsigned char bytes[16];

	if (tls->name[0] != '\0')
		(void)text_copy(peer->name, sizeof peer->name, tls->name);
	else if (endpoint->kind == ENDPOINT_NAME)
		(void)text_copy(peer->name, sizeof peer->name, endpoint->name);
	else if (endpoint->addr.sa.sa_family == AF_INET)
		(void)inet_ntop(AF_INET, &endpoint->addr.in.sin_addr, peer->name, sizeof peer->name);
	else if (endpoint->addr.sa.sa_family == AF_INET6)
		(void)inet_ntop(AF_INET6, &endpoint->addr.in6.sin6_addr, peer->name, sizeof peer->name);
	size_t length = strlen(peer->name);
	if (length > 1 && peer->name[length - 1] == '.')
		peer->name[length - 1] = '\0'; /* it is for resolvers; nobody is asked for with it (RFC 6066), nor certified */
	peer->is_address = inet_pton(AF_INET, peer->name, bytes) == 1 || inet_pton(AF_INET6, peer->name, bytes) == 1;
}

/* --- resuming -------------------------------------------------------------------------------------------------------------- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_peer *peer = SSL_get_ex_data(ssl, peer_index);

	/* A connection that began with other certificates may tell of a session late. */
	if (!SSL_SESSION_is_resumable(session) || SSL_get_SSL_CTX(ssl) != peer->client->ctx)
		return 0;
	SSL_SESSION_free(peer->session);
	peer->session = session;
	return 1; /* ours now */
}

/* The server asks for a certificate of ours; OpenSSL goes on with what there is. */
static int on_asked(SSL *ssl, void *arg)
{
	struct tls_peer *peer = SSL_get_ex_data(ssl, peer_index);

	(void)arg;
	peer->was_asked = true;
	return 1;
}

/* --- making ---------------------------------------------------------------------------------------------------------------- */

static bool set_trust(const struct tls_client *client, SSL_CTX *ctx, const struct vault *vault)
{
	const struct upstream_tls_config *tls = &client->config->tls;
	const struct vault_upstream *own = vault_upstream(vault, client->index);

	SSL_CTX_set_verify(ctx, tls->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (!tls->verify)
		return true;
	if (tls->ca[0] == '\0')
		return SSL_CTX_set_default_verify_paths(ctx) == 1;
	X509_STORE *store = trust_store(vault, &own->ca, &own->crls);
	if (store)
		SSL_CTX_set_cert_store(ctx, store);
	return store != NULL;
}

static bool set_own_certificate(const struct tls_client *client, SSL_CTX *ctx, const struct vault *vault)
{
	const struct vault_upstream *own = vault_upstream(vault, client->index);
	struct tls_pair pair = { 0 };

	if (own->own.length == 0)
		return true;
	bool done = pair_make(&pair, vault, vault_certificates(vault, &own->own)) &&
	            SSL_CTX_use_cert_and_key(ctx, pair.leaf, pair.key, pair.chain, 1) == 1;
	pair_drop(&pair);
	return done;
}

SSL_CTX *client_context(struct tls_client *client, const struct vault *vault, char *why, size_t size)
{
	SSL_CTX *ctx = NULL;

	if (offer_context(&client->config->tls.offer, false, &ctx, why, size))
		return NULL;
	if (!set_trust(client, ctx, vault) || !set_own_certificate(client, ctx, vault)) {
		(void)snprintf(why, size, "OpenSSL: %s", ERR_peek_error() ? ERR_reason_error_string(ERR_peek_error()) : "out of memory");
		ERR_clear_error();
		SSL_CTX_free(ctx);
		return NULL;
	}
	bool resume = client->config->tls.resume && !client->tls->for_checks;
	(void)SSL_CTX_set_session_cache_mode(ctx, resume ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL : SSL_SESS_CACHE_OFF);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	if (client->tls->for_checks)
		SSL_CTX_set_cert_cb(ctx, on_asked, NULL);
	return ctx;
}

/* Sessions that began with other certificates are not resumed. */
void client_take(struct tls_client *client, SSL_CTX *ctx)
{
	for (size_t i = 0; i < client->config->n_servers; i++) {
		SSL_SESSION_free(client->peers[i].session);
		client->peers[i].session = NULL;
	}
	SSL_CTX_free(client->ctx);
	client->ctx = ctx;
}

int client_new(const struct tls *tls, uint32_t index, struct tls_client **out, char *why, size_t size)
{
	const struct upstream_config *config = &tls->config->upstreams[index];
	struct tls_client *client = calloc(1, sizeof *client);

	(void)snprintf(why, size, "out of memory");
	if (peer_index < 0)
		peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (!client || peer_index < 0) {
		free(client);
		return -ENOMEM;
	}
	client->tls = tls;
	client->index = index;
	client->config = config;
	client->kernel_interest = KERNEL_INTEREST;
	client->peers = calloc(config->n_servers, sizeof *client->peers);
	client->alpn_length = (unsigned)offer_alpn(config->tls.offer.alpn, client->alpn);
	if (client->peers)
		client->ctx = client_context(client, &tls->vault, why, size);
	if (!client->ctx) {
		client_free(client);
		return -EINVAL;
	}
	for (size_t i = 0; i < config->n_servers; i++) {
		client->peers[i].client = client;
		name_peer(&client->peers[i], &config->tls, &config->servers[i]);
	}
	*out = client;
	return 0;
}

void client_free(struct tls_client *client)
{
	if (!client)
		return;
	if (client->peers)
		client_take(client, NULL);
	free(client->peers);
	free(client);
}

/* --- a session ------------------------------------------------------------------------------------------------------------- */

static bool set_name(SSL *ssl, const struct tls_peer *peer, bool verify)
{
	if (peer->name[0] == '\0')
		return !verify; /* a unix socket without tls.name: the settings do not allow it */
	if (!peer->is_address && SSL_set_tlsext_host_name(ssl, peer->name) != 1)
		return false;
	if (!verify)
		return true;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, peer->name) == 1; /* an address, too */
}

/* With what was agreed with the client, where the settings leave that open. */
static bool set_alpn(SSL *ssl, const struct tls_client *client, const unsigned char *alpn, size_t alpn_length)
{
	unsigned char wire[256];

	if (client->alpn_length > 0 && !(client->tls->for_checks && alpn_length > 0))
		return SSL_set_alpn_protos(ssl, client->alpn, client->alpn_length) == 0;
	if (alpn_length == 0 || alpn_length >= sizeof wire)
		return true;
	wire[0] = (unsigned char)alpn_length;
	memcpy(wire + 1, alpn, alpn_length);
	return SSL_set_alpn_protos(ssl, wire, (unsigned)alpn_length + 1) == 0;
}

SSL *tls_client_session(struct tls_client *client, uint32_t server, const unsigned char *alpn, size_t alpn_length)
{
	struct tls_peer *peer = &client->peers[server];

	if (kernel_is_able(&client->tls->able))
		kernel_side_expect(client->ctx, &client->kernel_interest, client->tls->config->tls.ktls_from_bytes == 0);
	SSL *ssl = SSL_new(client->ctx);
	bool done = ssl && SSL_set_ex_data(ssl, peer_index, peer) == 1 && set_name(ssl, peer, client->config->tls.verify) &&
	            set_alpn(ssl, client, alpn, alpn_length);

	peer->was_asked = false;
	if (done && peer->session)
		done = SSL_set_session(ssl, peer->session) == 1;
	if (done) {
		SSL_set_connect_state(ssl);
		return ssl;
	}
	ERR_clear_error();
	SSL_free(ssl);
	return NULL;
}

const char *tls_client_name(const struct tls_client *client, uint32_t server)
{
	return client->peers[server].name;
}

bool tls_client_was_asked(const struct tls_client *client, uint32_t server)
{
	return client->peers[server].was_asked;
}
