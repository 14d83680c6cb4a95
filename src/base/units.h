/* Numbers with units, as users write them: durations "500ms", "5s", "1m", "2h", "1d" (and us, ns); sizes "1500", "64k", "1M",
 * "2G", "1T" (powers of 1024); rates "100/s", "10M/s". "0" needs no unit. Parsing is strict: no sign, no space, no overflow, no fraction.
 */
#ifndef AEGIS_BASE_UNITS_H
#define AEGIS_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

/* 0 and *out, or -EINVAL (not of the form), or -ERANGE (does not fit into 63 bits). */
must_check int units_parse_duration(const char *s, uint64_t *out_ns);
must_check int units_parse_size(const char *s, uint64_t *out_bytes);
must_check int units_parse_rate(const char *s, uint64_t *out_per_s);

/* The shortest exact text; size 32 always suffices. Returns out. */
char *units_format_duration(uint64_t ns, char *out, size_t size);
char *units_format_size(uint64_t bytes, char *out, size_t size);
char *units_format_rate(uint64_t per_s, char *out, size_t size);

/* For people, rounded: "12.3 GB", "870 us", "4.2 s". Returns out. */
char *units_human_bytes(uint64_t bytes, char *out, size_t size);
char *units_human_ns(uint64_t ns, char *out, size_t size);

#endif
