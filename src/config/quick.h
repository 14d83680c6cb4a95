/* Quick mode: aegis LISTEN UPSTREAM... as settings. */
#ifndef AEGIS_CONFIG_QUICK_H
#define AEGIS_CONFIG_QUICK_H

#include "config/config.h"
#include "config/node.h"

/* Add one listener and one upstream, both called "quick", to root. */
void quick_settings(struct arena *arena, const struct config_source *source, struct node *root);

#endif
