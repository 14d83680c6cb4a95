#include "control/check_tls.h"

#include <string.h>

#include "base/log.h"

void check_tls_init(struct check_tls *check_tls, const struct config *config, int excerpt)
{
	char why[320];

	*check_tls = (struct check_tls){ .config = config };
	int error = tls_new_for_checks(config, excerpt, &check_tls->tls, why, sizeof why);
	if (error || !check_tls->tls) {
		check_tls->tls = NULL;
		if (error)
			log_error("cannot set up TLS for checks: %s", why);
		return;
	}
	error = tls_desk_init(&check_tls->desk);
	if (!error)
		return;
	log_error("cannot set up TLS for checks: %s", strerror(-error));
	tls_free(check_tls->tls);
	check_tls->tls = NULL;
}

void check_tls_fini(struct check_tls *check_tls)
{
	if (check_tls->tls)
		tls_desk_fini(&check_tls->desk);
	tls_free(check_tls->tls);
	*check_tls = (struct check_tls){ 0 };
}

void check_tls_renew(struct check_tls *check_tls, int excerpt)
{
	char why[320];

	if (check_tls->tls && tls_renew(check_tls->tls, excerpt, why, sizeof why))
		log_error("checks go on with the certificates that they had: %s", why);
}

/* Do clients that asked for TLS by PostgreSQL's request come to this upstream? Then its servers are asked in this way. */
static bool is_reached_by_starttls(const struct config *config, size_t upstream)
{
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		if (listener->n_routes == 0 || listener->client_hello.starttls != STARTTLS_POSTGRES)
			continue;
		bool leads = listener->upstream == upstream;
		for (size_t j = 0; j < listener->n_routes; j++)
			leads = leads || listener->routes[j].upstream == upstream;
		if (leads)
			return true;
	}
	return false;
}

/* What is spoken inside, where a server may insist on hearing its name; NULL = what the settings say. */
static const char *alpn_of(const struct upstream_config *upstream, bool starttls)
{
	if (upstream->health.type == HEALTH_TYPE_HTTP)
		return "http/1.1";
	/* Without the request before it PostgreSQL takes nobody else. */
	return upstream->health.type == HEALTH_TYPE_POSTGRES && !starttls && upstream->tls.offer.alpn[0] == '\0' ? "postgresql" : NULL;
}

void check_tls_describe(struct check_tls *check_tls, size_t upstream, size_t server, struct probe_tls *out)
{
	const struct upstream_config *config = &check_tls->config->upstreams[upstream];
	enum health_type type = config->health.type;

	if (!out->wanted)
		return;
	out->client = tls_client_of(check_tls->tls, (uint32_t)upstream);
	out->server = (uint32_t)server;
	out->desk = &check_tls->desk;
	out->starttls = (type == HEALTH_TYPE_POSTGRES || type == HEALTH_TYPE_TCP) && is_reached_by_starttls(check_tls->config, upstream);
	out->alpn = alpn_of(config, out->starttls);
}
