/* What differs between two trees of settings: by the option table, so that no setting is left out. Listeners, upstreams and servers are the
 * same where they have the same name. What has no effect in either tree is no difference.
 */
#ifndef AEGIS_CONFIG_DIFF_H
#define AEGIS_CONFIG_DIFF_H

#include "config/config.h"

struct option;

enum config_change_kind {
	CONFIG_CHANGED,  /* the value of a setting */
	CONFIG_ADDED,    /* a listener, an upstream or a server; its settings are not told one by one */
	CONFIG_REMOVED,  /* the same */
	CONFIG_REORDERED /* a list of them: those that are in both stand in another order */
};

/* Where in a tree: a listener, an upstream, or a server with its upstream. CONFIG_NOWHERE: not one of these, or not in this tree. */
#define CONFIG_NOWHERE SIZE_MAX
struct config_place {
	size_t listener, upstream, server;
};

/* The texts are good until the callback returns. */
struct config_change {
	enum config_change_kind kind;
	const char *path;             /* upstreams.app.servers.a.weight, upstreams.app.servers.a, upstreams.app.servers */
	const struct option *option;  /* of CONFIG_CHANGED, else NULL */
	const char *before, *after;   /* of CONFIG_CHANGED: as they would be written, a long one cut off with "..."; else "" */
	bool in_place;                /* workers that run can take it over: see RELOAD_IN_PLACE */
	struct config_place old, new; /* the listener, upstream or server that it is about, in either tree */
};

typedef void config_change_fn(void *arg, const struct config_change *change);

/* Tell fn each change: first of the object, then of its groups and lists, in the order of the table. */
void config_diff(const struct config *before, const struct config *after, config_change_fn *fn, void *arg);

#endif
