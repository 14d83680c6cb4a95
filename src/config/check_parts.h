/* What the parts of the check share. Private to check*.c.
 *
 * A check adds a line for each breach and never stops at one. It sees what the loader made: where a setting was wrong in itself, that was
 * told, and its default stands there. */
#ifndef AEGIS_CONFIG_CHECK_PARTS_H
#define AEGIS_CONFIG_CHECK_PARTS_H

#include "config/config.h"
#include "config/names.h"
#include "config/node.h"

struct check {
	struct config *config;
	struct config_errors *errors;
	const struct node *listeners, *upstreams; /* lists of as many children as the struct has elements */
};

/* About key (or, where that is NULL, all) of the element that node describes and prefix names. "group.key" is in a group of it. */
void check_complain(const struct check *check, const struct node *node, const char *prefix, const char *key, const char *format, ...)
        printf_like(5, 6);

/* " (FILE:LINE)" of another element, or nothing where it is from the command line. Returns out. */
const char *check_place_of(const struct node *node, char *out, size_t size);

/* A name that was made from the address keeps the rules too. */
void check_derived_name(const struct check *check, const struct node *node, const char *prefix, const char *name, size_t max);

/* name is new in names, or an error is added. list is the nodes of all that have names there, which is called key. */
void check_unique(const struct check *check, struct names *names, const char *name, size_t index, const struct node *list, const char *key,
        const char *prefix);

/* All upstreams; their names are added to names. */
void check_upstreams(const struct check *check, struct names *names);

/* Of an upstream: health, circuit_breaker, outlier, queue and the limits of servers. Sets health.statuses. */
void check_shield(const struct check *check, struct upstream_config *upstream, const struct node *node, const char *prefix);

/* Of a listener: allow and deny; rate_limit, bandwidth and min_rate. */
void check_access(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix);
void check_rates(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix);

/* Of a listener: what holds for protocol = "udp". */
void check_udp_listener(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix);

/* What TLS needs beside it, and what contradicts itself in it. What stands in the files is not looked at here (tls/check.h). */
void check_listener_tls(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix);
void check_upstream_tls(const struct check *check, const struct upstream_config *upstream, const struct node *node, const char *prefix);

/* There is no upstream of this name. */
void check_complain_no_upstream(const struct check *check, const struct node *node, const char *prefix, const char *name);

/* Of a listener: sni. Sets the upstream of each route, CONFIG_NO_UPSTREAM where it is wrong. */
void check_routes(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix,
        const struct names *upstreams);

/* Of a listener: acme. */
void check_acme(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix);

/* Of a listener: accept_proxy. Of an upstream that these protocols use: send_proxy. */
void check_accept_proxy(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix);
void check_send_proxy(
        const struct check *check, const struct upstream_config *upstream, const struct node *node, const char *prefix, bool tcp, bool udp);

/* Of an upstream: source. Sets source_kind and source_addr. */
void check_source(const struct check *check, struct upstream_config *upstream, const struct node *node, const char *prefix);

/* Of an upstream that TCP listeners use, or UDP listeners, or both, or none. */
void check_protocols(const struct check *check, size_t index, bool tcp, bool udp);

#endif
