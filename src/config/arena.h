/* Memory that is given back all at once: the settings and all that they point to. Single owner, not shared.
 *
 * Where there is no memory left the process ends with a message: libconfig, which is used beside it, cannot go on either. */
#ifndef AEGIS_CONFIG_ARENA_H
#define AEGIS_CONFIG_ARENA_H

#include <stddef.h>

#include "base/attr.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	size_t used; /* of the newest chunk */
};

/* size bytes of zeros, aligned for any type. Never NULL. */
void *arena_take(struct arena *arena, size_t size);
/* A copy of length bytes, NUL-terminated. */
char *arena_copy(struct arena *arena, const char *bytes, size_t length);
void arena_free(struct arena *arena);

#endif
