/* The small files in which the kernel tells of itself (/proc, /sys): their first line says it all. */
#ifndef AEGIS_OS_FIRST_LINE_H
#define AEGIS_OS_FIRST_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* The first line that a file has, without its end, cut where it does not fit; false where there is none. */
must_check bool first_line(const char *path, char *line, size_t size);

#endif
