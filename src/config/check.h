/* What must hold between settings. */
#ifndef AEGIS_CONFIG_CHECK_H
#define AEGIS_CONFIG_CHECK_H

#include "config/config.h"
#include "config/node.h"

/* Add an error for each breach; where a setting is missing or wrong in itself, it was told already and is passed over. Sets
 * listener.upstream. */
void check_config(struct config *config, const struct node *root, struct config_errors *errors);

#endif
