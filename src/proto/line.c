/* One line asks, one line answers; "\n" or "\r\n" ends a line. A CR or NUL elsewhere pins: some servers end a line there. */
#include <string.h>

#include "proto/parsers.h"

enum { LINE_INSIDE = FRAMING_START + 1 };

enum { LINE_CR = 1 }; /* seen: the last byte was a CR */

/* Whether a part of a line, which ends before newline where that is not NULL, has only bytes that mean the same to everyone. */
static bool part_is_plain(struct framing_side *side, const char *at, const char *part_end, const char *newline)
{
	const char *cr = memchr(at, '\r', (size_t)(part_end - at));

	if ((side->seen & LINE_CR) != 0 && at != newline)
		return false;
	if (cr != NULL && cr + 1 < part_end)
		return false;
	side->seen = cr != NULL && newline == NULL ? LINE_CR : 0;
	return memchr(at, '\0', (size_t)(part_end - at)) == NULL;
}

/* Take up to the end of the line: true when it is there. */
static bool take_line(struct framing *framing, struct framing_side *side, const char **from, const char *end)
{
	const char *at = *from, *newline = memchr(at, '\n', (size_t)(end - at));
	const char *next = newline != NULL ? newline + 1 : end;

	if ((size_t)(next - at) > FRAMING_LINE_MAX - side->passed) {
		*from = framing_pin(framing, end, "a line is too long");
		return false;
	}
	if (!part_is_plain(side, at, newline != NULL ? newline : end, newline)) {
		*from = framing_pin(framing, end, "a CR or NUL inside of a line");
		return false;
	}
	side->passed = newline != NULL ? 0 : side->passed + (uint32_t)(next - at);
	side->state = newline != NULL ? FRAMING_START : LINE_INSIDE;
	*from = next;
	return newline != NULL;
}

void line_request(struct framing *framing, const char *at, const char *end)
{
	while (at < end)
		if (take_line(framing, &framing->request, &at, end) && ++framing->owed > FRAMING_OWED_MAX)
			at = framing_pin(framing, end, "too many requests at once");
}

void line_response(struct framing *framing, const char *at, const char *end)
{
	while (at < end) {
		if (framing->owed == 0)
			at = framing_pin(framing, end, "an answer that no request asked for");
		else if (take_line(framing, &framing->response, &at, end))
			framing->owed--;
	}
}
