/* What is derived from other settings: names, defaults that depend on what else was written, and where an element stands in the file. */
#ifndef AEGIS_CONFIG_COMPLETE_H
#define AEGIS_CONFIG_COMPLETE_H

#include "config/arena.h"
#include "config/config.h"
#include "config/node.h"

/* Once all of it was loaded from root, even where that found errors: what is missing or wrong is left as it is. */
void complete_config(struct config *config, const struct node *root, struct arena *arena);

#endif
