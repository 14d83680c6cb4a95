/* The names of a listener's certificates, and the table by which a worker finds them (vault_find()). Private to the files that build a
 * vault. */
#ifndef AEGIS_TLS_NAME_TABLE_H
#define AEGIS_TLS_NAME_TABLE_H

#include "tls/heap.h"

struct own_name {
	struct vault_span name; /* in the heap */
	uint32_t certificate;   /* number among those of the listener, plus one */
	enum vault_kind kind;
};

struct own_names {
	struct own_name *names;
	size_t n, size;
};

/* The table, and what is for clients that ask for nothing in it. listener: where in the heap it is. twice is called for each name that two
 * certificates of one kind have: the first one of them gets it. */
void own_names_write(const struct own_names *names, struct heap *heap, uint64_t listener,
        void (*twice)(void *arg, const char *name, size_t length, uint32_t first, uint32_t second), void *arg);
void own_names_free(struct own_names *names);

#endif
