/* A private copy of the rows in use of a shared segment, laid out as the segment is, so that shm/layout.h reads it.
 *
 * Process: aegis-stat and its like. Owner: the caller, until segment_copy_free().
 */
#ifndef AEGIS_VIEW_SEGMENT_COPY_H
#define AEGIS_VIEW_SEGMENT_COPY_H

#include "shm/layout.h"

struct segment_copy {
	struct shm shm;
	void *base; /* reserved only where nothing was copied */
	uint64_t size_bytes;
};

/* 0 and *out, or a negative errno; -EINVAL comes with *why, which
 * follows the path ("is cut short"). The file is only read, and never followed as a symbolic link. */
must_check int segment_copy_read(struct segment_copy *out, const char *path, char *why, size_t why_size);
void segment_copy_free(struct segment_copy *copy);

#endif
