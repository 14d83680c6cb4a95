/* A segment with known numbers: two listeners in use and a retired one, two upstreams of which one has a shield, three seats, two slots.
 * Linked by the unit tests of the outputs, and by stat_fixture, which puts it into a file. */
#ifndef AEGIS_TESTS_SEGMENT_H
#define AEGIS_TESTS_SEGMENT_H

#include "shm/layout.h"

/* The time in the segment: it started 3723.5 seconds before. */
#define SEGMENT_NOW_NS UINT64_C(5000500000000)

extern const struct shm_dims segment_dims;

/* Fill a segment that shm_init() laid out. */
void segment_fill(struct shm *shm);

/* Let the listener "db" take datagrams: 4 sessions, some drops. */
void segment_add_datagrams(struct shm *shm);

/* Give the rows names that try to break out of every output. */
void segment_make_hostile(struct shm *shm);

#endif
