/* From libconfig's text to the tree of nodes. The only user of libconfig. */
#ifndef AEGIS_CONFIG_PARSE_H
#define AEGIS_CONFIG_PARSE_H

#include "config/node.h"
#include "config/source.h"

/* Add what a source says to base (node_merge). False when there was an error. */
must_check bool parse_source(struct source *source, struct node *base);

#endif
