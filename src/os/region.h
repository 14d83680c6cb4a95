/* Shared and private regions of memory. */
#ifndef AEGIS_OS_REGION_H
#define AEGIS_OS_REGION_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

/* Make the file at path (replacing what is there, by rename, so that who maps the old one keeps it), sparse, size bytes of
 * zeros, mode 0640 and group gid ((gid_t)-1 = leave), and map it shared and writable. 0 and *out, or a negative errno. */
must_check int region_create(const char *path, uint64_t size_bytes, gid_t gid, void **out);

/* Map an existing file, whole. 0, *out and *size_bytes, or a negative errno (-EINVAL: not a regular file, or empty). */
must_check int region_open(const char *path, int writable, void **out, uint64_t *size_bytes);

/* Private zeroed memory that is only reserved: pages cost something when first touched. 0 and *out, or a negative errno. */
must_check int region_reserve(uint64_t size_bytes, void **out);

/* Make sure that these bytes of a shared file have room on its file system, where touching them would otherwise be a SIGBUS. 0, or
 * -ENOSPC. Kernels before 5.14 cannot tell: 0. */
must_check int region_populate(void *start, uint64_t size_bytes);

/* Whole pages of private memory that nobody needs: they cost nothing until they are touched again, and hold zeros then. */
void region_discard(void *start, uint64_t size_bytes);

void region_close(void *base, uint64_t size_bytes);

#endif
