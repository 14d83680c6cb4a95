#include "tls/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/build.h"
#include "tls/own.h"

bool tls_available(char *text, size_t size)
{
	(void)snprintf(text, size, "%s", OpenSSL_version(OPENSSL_VERSION));
	return true;
}

static int make_all(struct tls *tls, char *why, size_t size)
{
	const struct config *config = tls->config;
	int error = 0;

	for (uint32_t i = 0; i < config->n_listeners && !error && !tls->for_checks; i++)
		if (config->listeners[i].tls.enabled && config->listeners[i].protocol == PROTOCOL_TCP)
			error = server_new(tls, i, &tls->servers[i], why, size);
	for (uint32_t i = 0; i < config->n_upstreams && !error; i++)
		if (tls->for_checks ? config->upstreams[i].health.tls : config->upstreams[i].tls.enabled)
			error = client_new(tls, i, &tls->clients[i], why, size);
	return error;
}

static int map_vault(const struct config *config, int fd, struct vault *out, char *why, size_t size)
{
	int error = vault_map(fd, config->n_listeners, config->n_upstreams, out);

	if (error)
		(void)snprintf(why, size, "cannot use the certificates that were handed over: %s", strerror(-error));
	return error;
}

/* As `like`, but for what is in the vault. */
static int make(const struct tls *like, int vault_fd, struct tls **out, char *why, size_t size)
{
	const struct config *config = like->config;
	struct tls *tls = malloc(sizeof *tls);
	int error = -ENOMEM;

	(void)snprintf(why, size, "out of memory");
	if (tls) {
		*tls = *like;
		tls->servers = calloc(config->n_listeners, sizeof(struct tls_server *));
		tls->clients = calloc(config->n_upstreams, sizeof(struct tls_client *));
	}
	if (tls && tls->servers && tls->clients)
		error = map_vault(config, vault_fd, &tls->vault, why, size);
	if (!error)
		error = make_all(tls, why, size);
	if (error) {
		tls_free(tls);
		return error;
	}
	*out = tls;
	return 0;
}

int tls_new(const struct config *config, int vault_fd, const struct tickets *tickets, struct tls **out, char *why, size_t size)
{
	struct tls like = { .config = config, .tickets = tickets };

	if (config->tls.ktls && vault_is_needed(config))
		like.able = kernel_probe("");
	if (vault_is_needed(config))
		return make(&like, vault_fd, out, why, size);
	*out = NULL;
	return 0;
}

int tls_new_for_checks(const struct config *config, int excerpt_fd, struct tls **out, char *why, size_t size)
{
	if (vault_has_excerpt(config))
		return make(&(struct tls){ .config = config, .for_checks = true }, excerpt_fd, out, why, size);
	*out = NULL;
	return 0;
}

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	for (size_t i = 0; tls->servers && i < tls->config->n_listeners; i++)
		server_free(tls->servers[i]);
	for (size_t i = 0; tls->clients && i < tls->config->n_upstreams; i++)
		client_free(tls->clients[i]);
	vault_unmap(&tls->vault);
	free(tls->servers);
	free(tls->clients);
	free(tls);
}

/* --- others in their place ------------------------------------------------------------------------------------------------- */

/* What is to be taken over, all of it or nothing. */
struct renewal {
	struct vault vault;
	SSL_CTX **servers, **clients;
};

static int prepare(const struct tls *tls, struct renewal *renewal, char *why, size_t size)
{
	const struct config *config = tls->config;

	(void)snprintf(why, size, "out of memory");
	renewal->servers = calloc(config->n_listeners, sizeof(SSL_CTX *));
	renewal->clients = calloc(config->n_upstreams, sizeof(SSL_CTX *));
	if (!renewal->servers || !renewal->clients)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_listeners; i++)
		if (tls->servers[i] && !(renewal->servers[i] = server_context(tls->servers[i], &renewal->vault, why, size)))
			return -EINVAL;
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (tls->clients[i] && !(renewal->clients[i] = client_context(tls->clients[i], &renewal->vault, why, size)))
			return -EINVAL;
	return 0;
}

static void give_up(const struct tls *tls, struct renewal *renewal)
{
	for (size_t i = 0; renewal->servers && i < tls->config->n_listeners; i++)
		SSL_CTX_free(renewal->servers[i]);
	for (size_t i = 0; renewal->clients && i < tls->config->n_upstreams; i++)
		SSL_CTX_free(renewal->clients[i]);
	vault_unmap(&renewal->vault);
}

int tls_renew(struct tls *tls, int vault_fd, char *why, size_t size)
{
	struct renewal renewal = { 0 };
	int error = map_vault(tls->config, vault_fd, &renewal.vault, why, size);

	if (!error)
		error = prepare(tls, &renewal, why, size);
	if (error) {
		give_up(tls, &renewal);
	} else {
		struct vault old = tls->vault;
		tls->vault = renewal.vault;
		for (size_t i = 0; i < tls->config->n_listeners; i++)
			if (tls->servers[i])
				server_take(tls->servers[i], renewal.servers[i]);
		for (size_t i = 0; i < tls->config->n_upstreams; i++)
			if (tls->clients[i])
				client_take(tls->clients[i], renewal.clients[i]);
		vault_unmap(&old);
	}
	free(renewal.servers);
	free(renewal.clients);
	return error;
}

struct tls_server *tls_server_of(const struct tls *tls, uint32_t listener)
{
	return tls ? tls->servers[listener] : NULL;
}

struct tls_client *tls_client_of(const struct tls *tls, uint32_t upstream)
{
	return tls ? tls->clients[upstream] : NULL;
}

struct kernel_ability tls_kernel_ability(const struct tls *tls)
{
	return tls ? tls->able : (struct kernel_ability){ 0 };
}
