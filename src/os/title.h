/* The title that ps shows. */
#ifndef AEGIS_OS_TITLE_H
#define AEGIS_OS_TITLE_H

#include "base/attr.h"

/* Take the memory of argv and environ over (both are copied first), and set the short name (PR_SET_NAME) to "aegis". Call once, early in
 * main(). */
void title_init(int argc, char **argv);
/* "aegis: worker 1 gen 3 draining 41". Cheap; no effect before title_init(). */
void title_set(const char *format, ...) printf_like(1, 2);

#endif
