#include "proto/framing.h"

#include <string.h>

#include "proto/parsers.h"

static void none_passed(struct framing *framing, const char *at, const char *end)
{
	(void)at;
	framing_pin(framing, end, "bytes without framing");
}

struct parser {
	void (*request)(struct framing *framing, const char *at, const char *end);
	void (*response)(struct framing *framing, const char *at, const char *end);
};

static const struct parser parsers[] = {
	[FRAMING_NONE] = { none_passed, none_passed },
	[FRAMING_HTTP1] = { http1_request, http1_response },
	[FRAMING_REDIS] = { redis_request, redis_response },
	[FRAMING_LINE] = { line_request, line_response },
};

void framing_init(struct framing *framing, enum framing_kind kind)
{
	ensure((size_t)kind < ARRAY_LEN(parsers));
	memset(framing, 0, sizeof *framing);
	framing->kind = (uint8_t)kind;
}

void framing_request(struct framing *framing, const char *bytes, size_t count)
{
	if (framing->pinned_by == NULL && count > 0)
		parsers[framing->kind].request(framing, bytes, bytes + count);
}

void framing_response(struct framing *framing, const char *bytes, size_t count)
{
	if (framing->pinned_by == NULL && count > 0)
		parsers[framing->kind].response(framing, bytes, bytes + count);
}

enum framing_verdict framing_verdict(const struct framing *framing)
{
	if (framing->pinned_by != NULL)
		return FRAMING_PINNED;
	if (framing->request.state != FRAMING_START)
		return FRAMING_PARTIAL;
	if (framing->owed > 0 || framing->response.state != FRAMING_START)
		return FRAMING_OWED;
	return FRAMING_CLEAN;
}

const char *framing_pinned_by(const struct framing *framing)
{
	return framing->pinned_by;
}

uint32_t framing_owed(const struct framing *framing)
{
	return framing->pinned_by == NULL ? framing->owed : 0;
}
