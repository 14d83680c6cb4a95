/* What a process is about to read, for another one that shares the memory: when it does not go on, that one can say which file does not
 * answer.
 *
 * Writer: the process that reads, before and after each file. Reader: the one that waits for it (master/patience.h). Where there is no
 * such, at is NULL.
 */
#ifndef AEGIS_BASE_FILE_AT_H
#define AEGIS_BASE_FILE_AT_H

#include <stdint.h>

#include "base/attr.h"

enum { FILE_AT_SIZE = 1024 };

struct file_at {
	_Atomic uint32_t turns; /* odd while something is read */
	char what[FILE_AT_SIZE];
};

/* What it is, and where it is asked for, as an error would begin. */
void file_at_begin(struct file_at *at, const char *format, ...) printf_like(2, 3);
void file_at_end(struct file_at *at);

#endif
