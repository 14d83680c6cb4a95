#include "config/names.h"

#include <stdint.h>
#include <string.h>

struct names_slot {
	const char *name;
	size_t index;
};

struct names names_of(size_t count)
{
	size_t size = 16;

	while (size < count * 2)
		size *= 2;
	struct names names = { .slots = calloc(size, sizeof(struct names_slot)), .mask = size - 1 };
	ensure(names.slots != NULL);
	return names;
}

void names_fini(struct names *names)
{
	free(names->slots);
	names->slots = NULL;
}

/* FNV-1a */
static uint64_t hash_of(const char *s)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (; *s != '\0'; s++)
		hash = (hash ^ (unsigned char)*s) * UINT64_C(1099511628211);
	return hash;
}

/* Where name is, or belongs. At most half of the slots are taken, so there is a free one. */
static struct names_slot *slot_of(const struct names *names, const char *name)
{
	size_t i = (size_t)hash_of(name) & names->mask;

	while (names->slots[i].name != NULL && strcmp(names->slots[i].name, name) != 0)
		i = (i + 1) & names->mask;
	return &names->slots[i];
}

size_t names_add(struct names *names, const char *name, size_t index)
{
	struct names_slot *slot = slot_of(names, name);

	if (slot->name == NULL)
		*slot = (struct names_slot){ name, index };
	return slot->index;
}

bool names_find(const struct names *names, const char *name, size_t *index)
{
	const struct names_slot *slot = slot_of(names, name);

	if (slot->name == NULL)
		return false;
	*index = slot->index;
	return true;
}
