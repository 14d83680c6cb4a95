/* What TLS needs beside it, and what contradicts itself in it. */
#include <string.h>

#include "config/check_parts.h"

/* NULL, or what is wrong with "NAME,NAME,...", in one list of at most 255 bytes (RFC 7301 has room for more, nobody else has). Spaces
 * beside commas do not count. */
static const char *wrong_with_alpn(const char *alpn)
{
	size_t length = 0;
	bool gap = false;

	for (const char *at = alpn;; at++) {
		if (*at == ',' || *at == '\0') {
			if (length == 0)
				return "a name is empty";
			if (*at == '\0')
				return NULL;
			length = 0;
			gap = false;
		} else if (*at == ' ') {
			gap = length > 0;
		} else if (gap) {
			return "there is a space within a name";
		} else {
			length++;
		}
	}
}

static void check_alpn(const struct check *check, const char *alpn, const struct node *node, const char *prefix)
{
	const char *why = alpn != NULL && alpn[0] != '\0' ? wrong_with_alpn(alpn) : NULL;

	if (why != NULL)
		check_complain(check, node, prefix, "tls.alpn",
		        "\"%.64s\": %s; write names with commas between them, for example \"h2,http/1.1\"", alpn, why);
}

static void check_certificates(
        const struct check *check, const struct listener_tls_config *tls, const struct node *node, const char *prefix)
{
	const struct node *list = node_find(node_find(node, "tls"), "certificates");
	struct names names = names_of(tls->n_certificates);
	char own[96], place[512];

	if (tls->n_certificates == 0)
		check_complain(check, node, prefix, "tls.certificates",
		        "there is none; write certificates = ( { cert = \"/path\"; key = \"/path\"; } );");
	for (size_t i = 0; i < tls->n_certificates; i++) {
		if (list->children[i]->type != NODE_GROUP || tls->certificates[i].cert == NULL)
			continue; /* told already */
		size_t other = names_add(&names, tls->certificates[i].cert, i);
		snprintf(own, sizeof own, "%s.tls.certificates[%zu]", prefix, i);
		if (other != i)
			check_complain(check, list->children[i], own, "cert",
			        "is the same file as in certificates[%zu]%s; leave one of them out", other,
			        check_place_of(list->children[other], place, sizeof place));
	}
	names_fini(&names);
}

void check_listener_tls(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix)
{
	const struct listener_tls_config *tls = &listener->tls;

	if (!tls->enabled || listener->protocol != PROTOCOL_TCP || tls->client_ca == NULL || tls->crl == NULL)
		return;
	check_certificates(check, tls, node, prefix);
	check_alpn(check, tls->offer.alpn, node, prefix);
	if (tls->client_verify != CLIENT_VERIFY_OFF && tls->client_ca[0] == '\0')
		check_complain(check, node, prefix, "tls.client_verify",
		        "needs client_ca, the file that says whose certificates are good; write client_ca = \"/path\"");
	if (tls->client_verify == CLIENT_VERIFY_OFF && tls->client_ca[0] != '\0')
		check_complain(check, node, prefix, "tls.client_ca",
		        "is for client_verify = \"required\" or \"optional\"; write that, or leave client_ca out");
	if (tls->crl[0] != '\0' && tls->client_ca[0] == '\0')
		check_complain(check, node, prefix, "tls.crl", "is for clients' certificates, and there is no client_ca; leave it out");
}

static bool has_name(const struct server_config *server)
{
	return server->endpoint.kind == ENDPOINT_NAME ||
	       (server->endpoint.kind == ENDPOINT_ADDRESS && server->endpoint.addr.sa.sa_family != AF_UNIX);
}

void check_upstream_tls(const struct check *check, const struct upstream_config *upstream, const struct node *node, const char *prefix)
{
	const struct upstream_tls_config *tls = &upstream->tls;

	if (!upstream_has_tls(upstream) || tls->ca == NULL || tls->name == NULL || tls->cert == NULL || tls->key == NULL ||
	        tls->crl == NULL)
		return;
	check_alpn(check, tls->offer.alpn, node, prefix);
	for (size_t i = 0; i < upstream->n_servers && tls->verify && tls->name[0] == '\0'; i++)
		if (upstream->servers[i].endpoint.kind != ENDPOINT_NONE && !has_name(&upstream->servers[i])) {
			check_complain(check, node, prefix, "tls.name",
			        "is missing, and servers[%zu] (\"%.64s\") is a unix socket, which has no name; write the name in its "
			        "certificate",
			        i, upstream->servers[i].address);
			break;
		}
	if (tls->enabled && (upstream->pool.warm > 0 || upstream->pool.keep > 0))
		check_complain(check, node, prefix, "pool",
		        "does not go with tls: each client has its own connection then; leave one of them out");
	if (tls->key[0] != '\0' && tls->cert[0] == '\0')
		check_complain(check, node, prefix, "tls.key", "is of no use without a cert; write cert = \"/path\", or leave key out");
	if (!tls->verify && tls->ca[0] != '\0')
		check_complain(check, node, prefix, "tls.ca", "is of no use with verify = false; write verify = true");
	if (!tls->verify && tls->crl[0] != '\0')
		check_complain(check, node, prefix, "tls.crl", "is of no use with verify = false; write verify = true");
	if (tls->verify && tls->crl[0] != '\0' && tls->ca[0] == '\0')
		check_complain(check, node, prefix, "tls.crl", "needs ca, whose revocation lists it holds; write ca = \"/path\"");
}
