/* What the parts of the loader share: what the arena of a struct config holds besides it. */
#ifndef AEGIS_CONFIG_LOAD_H
#define AEGIS_CONFIG_LOAD_H

#include "config/arena.h"
#include "config/node.h"

struct config_origin {
	struct arena arena;
	const struct node *root; /* the settings as written, element for element the lists of the struct */
};

#endif
