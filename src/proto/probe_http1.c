/* HTTP/1 as far as a check goes: one request, and the status of the answer. What a server says before that (1xx) is skipped. */
#include <stdio.h>
#include <string.h>

#include "proto/probe_kinds.h"

enum { DIGITS = 3, SWITCHING = 101, FINAL = 200 };

static const char version[] = "HTTP/1.";
enum { VERSION_BYTES = sizeof version - 1, LINE_BYTES = VERSION_BYTES + 2 + DIGITS + 1 }; /* "HTTP/1.1 200", and one byte behind it */

size_t probe_http_request(const char *path, const char *host, char *out, size_t size)
{
	int length = snprintf(out, size,
	        "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: aegis/" PACKAGE_VERSION "\r\nAccept: */*\r\nConnection: close\r\n\r\n", path,
	        host);

	return length > 0 && (size_t)length < size ? (size_t)length : 0;
}

void probe_http_begin(struct probe *probe)
{
	probe_wait_for(probe, "the answer");
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* 0: it is none. */
static uint32_t status_of(const uint8_t *line)
{
	const uint8_t *at = line + VERSION_BYTES;
	uint32_t status = 0;

	if (memcmp(line, version, VERSION_BYTES) != 0 || !is_digit(at[0]) || at[1] != ' ')
		return 0;
	for (size_t i = 2; i < 2 + DIGITS; i++) {
		if (!is_digit(at[i]))
			return 0;
		status = status * 10 + (uint32_t)(at[i] - '0');
	}
	uint8_t end = at[2 + DIGITS];
	return status >= 100 && (end == ' ' || end == '\r' || end == '\n') ? status : 0;
}

/* Behind the empty line that ends a header; NULL: it is not there yet. */
static const uint8_t *behind_header(const uint8_t *bytes, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (bytes[i] == '\n' && (bytes[i - 1] == '\n' || (i >= 2 && bytes[i - 1] == '\r' && bytes[i - 2] == '\n')))
			return bytes + i + 1;
	return NULL;
}

bool probe_http_step(struct probe *probe)
{
	size_t count;
	const uint8_t *bytes = probe_unread(probe, &count);
	size_t seen = count < VERSION_BYTES ? count : VERSION_BYTES;

	if (memcmp(bytes, version, seen) != 0) {
		probe_conclude(probe, PROBE_BAD, "not an answer of HTTP");
		return false;
	}
	if (count < LINE_BYTES)
		return false;
	uint32_t status = status_of(bytes);
	if (status == 0) {
		probe_conclude(probe, PROBE_BAD, "not an answer of HTTP");
		return false;
	}
	if (status < FINAL && status != SWITCHING) {
		const uint8_t *end = behind_header(bytes, count);
		probe->read += end ? (size_t)(end - bytes) : 0;
		return end && probe->read < probe->kept;
	}
	probe->status = status;
	probe_conclude(probe, status_set_has(probe->rules->statuses, status) ? PROBE_GOOD : PROBE_BAD, "status %u", (unsigned)status);
	return false;
}
