/* A set of names with the index of each: finds doubles among thousands of servers at once. */
#ifndef AEGIS_CONFIG_NAMES_H
#define AEGIS_CONFIG_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

struct names {
	struct names_slot *slots;
	size_t mask;
};

/* Room for count names, which must outlive the set. */
struct names names_of(size_t count);
void names_fini(struct names *names);

/* The index of name, or of the equal one that was added before. */
size_t names_add(struct names *names, const char *name, size_t index);
/* True and *index, or false. */
bool names_find(const struct names *names, const char *name, size_t *index);

#endif
