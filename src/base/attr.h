/* Small language helpers that every folder uses. */
#ifndef AEGIS_BASE_ATTR_H
#define AEGIS_BASE_ATTR_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define must_check __attribute__((warn_unused_result))
#define printf_like(at, first) __attribute__((__format__(__printf__, at, first)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

enum { CACHE_LINE_BYTES = 64 };

/* An invariant of Aegis itself, checked in every build. Never used on what came from a peer or from a file. */
#define ensure(condition)                                                                                        \
	do {                                                                                                     \
		if (unlikely(!(condition))) {                                                                    \
			fprintf(stderr, "aegis: %s:%d: invariant broken: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                                 \
		}                                                                                                \
	} while (0)

#endif
