/* One value of a setting: from what was written into its struct, and back. */
#ifndef AEGIS_CONFIG_VALUE_H
#define AEGIS_CONFIG_VALUE_H

#include "base/text.h"
#include "config/node.h"
#include "config/options.h"

/* Put node into base by the row of its setting; texts keep pointing into the node. False, with "is ...; write ..." added to
 * problem and base unchanged, when it does not fit. */
must_check bool value_set(const struct option *option, const struct node *node, void *base, struct text *problem);

/* Lists of texts: the size of an element in the struct, 0 for what is no list; whether a node is a list and not too long, and an
 * element from its node, with problem as above. */
bool value_is_list(const struct option *option);
size_t value_element_size(const struct option *option);
must_check bool value_is_good_list(const struct option *option, const struct node *node, struct text *problem);
must_check bool value_set_element(const struct option *option, const struct node *node, void *element, struct text *problem);

/* The default, where the row has one; in_group: the group that the setting belongs to was written. Lists stay as they are. */
void value_set_default(const struct option *option, bool in_group, void *base);

/* What stands for a secret that is not told, and whether the setting has a secret to keep. */
#define VALUE_HIDDEN "(hidden)"
bool value_is_hidden(const struct option *option, const void *base);
/* A name that is not set: there is nothing to write. */
bool value_is_absent(const struct option *option, const void *base);

/* What is in base, or, of a list, in one of its elements, as it would be written. */
void value_add(const struct option *option, const void *base, struct text *out);

/* The default as it would be written; nothing where it is derived or there is none. */
void value_add_default(const struct option *option, struct text *out);

/* What holds where its group was not written, for a row that says so. */
void value_add_without_group(const struct option *option, struct text *out);

/* What may be written, in words: a number from 1 to 256, or "auto". */
void value_add_wanted(const struct option *option, struct text *out);

/* Text between quotes, as libconfig reads it. */
void value_add_quoted(struct text *out, const char *s);

/* Why a text is no good name, or NULL. */
const char *value_why_no_name(const char *s);

#endif
