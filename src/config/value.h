/* One value of a setting: from what was written into its struct, and back. */
#ifndef AEGIS_CONFIG_VALUE_H
#define AEGIS_CONFIG_VALUE_H

#include "base/text.h"
#include "config/node.h"
#include "config/options.h"

/* Put node into base by the row of its setting; texts keep pointing into the node. False, with "is ...; write ..." added to
 * problem and base unchanged, when it does not fit. */
must_check bool value_set(const struct option *option, const struct node *node, void *base, struct text *problem);

/* The default, where the row has one. */
void value_set_default(const struct option *option, void *base);

/* What is in base, as it would be written. */
void value_add(const struct option *option, const void *base, struct text *out);

/* The default as it would be written; nothing where it is derived or there is none. */
void value_add_default(const struct option *option, struct text *out);

/* What may be written, in words: a number from 1 to 256, or "auto". */
void value_add_wanted(const struct option *option, struct text *out);

/* Text between quotes, as libconfig reads it. */
void value_add_quoted(struct text *out, const char *s);

/* Why a text is no good name, or NULL. */
const char *value_why_no_name(const char *s);

#endif
