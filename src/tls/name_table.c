#include "tls/name_table.h"

/* The other kinds of a name of the first certificate are for clients without a name, too. */
static void choose_fallback(
        const struct own_names *names, struct heap *heap, const struct vault_name *table, uint64_t count, struct vault_listener *listener)
{
	const struct vault_certificate *first = heap_at(heap, listener->certificates.offset);

	if (listener->certificates.length == 0)
		return;
	listener->fallback[first->kind] = 1;
	for (size_t i = 0; i < names->n && names->names[i].certificate == 1; i++) {
		const struct own_name *name = &names->names[i];
		uint64_t hash;
		size_t at = vault_place(table, count, heap->bytes, heap_at(heap, name->name.offset), name->name.length, &hash);
		for (size_t kind = 0; kind < N_VAULT_KINDS; kind++)
			if (listener->fallback[kind] == 0)
				listener->fallback[kind] = table[at].certificate[kind];
	}
}

void own_names_write(const struct own_names *names, struct heap *heap, uint64_t listener_offset,
        void (*twice)(void *arg, const char *name, size_t length, uint32_t first, uint32_t second), void *arg)
{
	uint64_t count = 1;

	while (count < 2 * names->n + 1)
		count *= 2;
	uint64_t offset = heap_take(heap, count * sizeof(struct vault_name));
	struct vault_name *table = heap_at(heap, offset);
	for (size_t i = 0; i < names->n; i++) {
		const struct own_name *name = &names->names[i];
		const char *bytes = heap_at(heap, name->name.offset);
		uint64_t hash;
		size_t at = vault_place(table, count, heap->bytes, bytes, name->name.length, &hash);
		table[at].hash = hash;
		table[at].name = name->name;
		uint32_t *there = &table[at].certificate[name->kind];
		if (*there != 0 && *there != name->certificate)
			twice(arg, bytes, name->name.length, *there, name->certificate);
		else
			*there = name->certificate;
	}
	struct vault_listener *listener = heap_at(heap, listener_offset);
	listener->names = (struct vault_span){ .offset = offset, .length = count };
	choose_fallback(names, heap, table, count, listener);
}

void own_names_free(struct own_names *names)
{
	free(names->names);
	*names = (struct own_names){ 0 };
}
