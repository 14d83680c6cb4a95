#include "tools/bench_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

static int write_all(int fd, const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t written = write(fd, bytes, size);
		if (written < 0 && errno != EINTR)
			return -errno;
		if (written > 0) {
			bytes += written;
			size -= (size_t)written;
		}
	}
	return 0;
}

int rows_create(const char *path, const char *client)
{
	char headings[ROWS_LINE_BYTES];
	struct text text = text_of(headings, sizeof headings);
	text_add(&text, "%s,sequence,start_us,latency_us,bytes,ok\n", client);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	int rc = write_all(fd, headings, text.length);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

void rows_flush(struct rows *rows)
{
	/* One write of whole lines at the end of the file: those of other processes go before or after it. */
	if (rows->used > 0 && write_all(rows->fd, rows->buffer, rows->used) < 0)
		rows->failed = true;
	rows->used = 0;
}

void rows_add(struct rows *rows, const struct row *row)
{
	if (rows->fd < 0)
		return;
	if (sizeof rows->buffer - rows->used < ROWS_LINE_BYTES)
		rows_flush(rows);
	int length = snprintf(rows->buffer + rows->used, ROWS_LINE_BYTES, "%" PRIu32 ",%" PRIu64 ",%.3f,%.3f,%" PRIu64 ",%d\n", row->client,
	        row->sequence, (double)row->start_ns / (double)NS_PER_US, (double)row->latency_ns / (double)NS_PER_US, row->bytes, row->ok);
	ensure(length > 0 && length < ROWS_LINE_BYTES);
	rows->used += (size_t)length;
}
