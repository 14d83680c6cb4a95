/* What does not go with answers to the challenges of ACME. */
#include "config/check_parts.h"

/* Authorities begin at port 80, without TLS; what clients of TLS say first is no request. */
void check_acme(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix)
{
	bool is_on = listener->acme.challenges != NULL && listener->acme.challenges[0] != '\0';

	if (is_on && (listener->tls.enabled || listener->n_routes > 0))
		check_complain(check, node, prefix, "acme",
		        "does not go with %s: authorities ask at port 80, without TLS; write it in the listener there",
		        listener->tls.enabled ? "tls" : "sni");
	if (listener->acme.only && !is_on)
		check_complain(check, node, prefix, "acme.only", "is true, but challenges is \"\"; name the folder, or leave only out");
	if (is_on && listener->acme.only && listener->upstream_name != NULL)
		check_complain(check, node, prefix, "acme.only",
		        "is true, so upstream = \"%.64s\" would get nobody; leave one of the two out", listener->upstream_name);
}
