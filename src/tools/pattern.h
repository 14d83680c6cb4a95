/* The bytes that aegis-demo makes and counts, so that both ends of a test can check each byte.
 *
 * Pattern: byte i is (j * 7 + j / 251) mod 256 with j = i mod 65521. The period is a prime, so that a lost or repeated block
 *          of any usual size shifts the pattern and shows. In Python: bytes((j * 7 + j // 251) & 255 for j in range(65521)).
 * Hash:    FNV-1a, 64 bits.
 */
#ifndef AEGIS_TOOLS_PATTERN_H
#define AEGIS_TOOLS_PATTERN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"

enum { PATTERN_PERIOD = 65521, PATTERN_REPEATS = 4 };

struct pattern {
	unsigned char bytes[PATTERN_PERIOD * PATTERN_REPEATS];
};

void pattern_fill(struct pattern *pattern);

/* Point up to n entries of iov at the pattern from byte offset on, at most left bytes. Returns the entries used. */
int pattern_iov(const struct pattern *pattern, uint64_t offset, uint64_t left, struct iovec *iov, int n);

/* Where a hash starts, and how it goes on with size more bytes. */
#define FNV1A_START UINT64_C(0xcbf29ce484222325)
uint64_t fnv1a_add(uint64_t hash, const void *bytes, size_t size);

#endif
