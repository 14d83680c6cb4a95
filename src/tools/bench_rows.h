/* The file of --csv: a row for each message, from all processes into one file. Whole lines are appended in large pieces.
 *
 * Process: a load tool makes the file, its load processes add to it, each by a struct rows of its own.
 */
#ifndef AEGIS_TOOLS_BENCH_ROWS_H
#define AEGIS_TOOLS_BENCH_ROWS_H

#include <stdbool.h>

#include "base/attr.h"

enum { ROWS_BUFFER_BYTES = 65536, ROWS_LINE_BYTES = 160 };

struct rows {
	int fd; /* -1 = none are wanted */
	bool failed;
	size_t used;
	char buffer[ROWS_BUFFER_BYTES];
};

struct row {
	uint32_t client;
	uint64_t sequence, start_ns, latency_ns, bytes;
	bool ok;
};

/* Make the file with the line of headings; `client` is the name of the first column. A descriptor or a negative errno. */
must_check int rows_create(const char *path, const char *client);
void rows_add(struct rows *rows, const struct row *row);
void rows_flush(struct rows *rows);

#endif
