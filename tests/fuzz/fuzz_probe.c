/* A server that answers a health check with any bytes: verdict, reason and what is said to it are the same however the bytes are split, a
 * verdict is for ever, and the end of the input always brings one.
 *
 * The first byte chooses the kind. With tcp it is followed by the expected text, up to a NUL. */
#include <string.h>

#include "base/attr.h"
#include "fuzz.h"
#include "proto/probe.h"

static const enum probe_kind kinds[] = { PROBE_TCP, PROBE_REDIS, PROBE_POSTGRES, PROBE_MYSQL, PROBE_HTTP };

/* All that was said, and how it ended. */
struct talk {
	struct probe probe;
	enum probe_verdict verdict;
	size_t said;
	char words[PROBE_MESSAGE_SIZE];
};

static void take_output(struct talk *talk)
{
	const char *bytes;
	size_t count = probe_output(&talk->probe, &bytes);

	ensure(talk->said + count <= sizeof talk->words);
	memcpy(talk->words + talk->said, bytes, count);
	talk->said += count;
	probe_sent(&talk->probe, count);
}

static void begin(struct talk *talk, const struct probe_rules *rules)
{
	talk->said = 0;
	talk->verdict = probe_begin(&talk->probe, rules);
	take_output(talk);
}

static void feed(struct talk *talk, const uint8_t *bytes, size_t count)
{
	enum probe_verdict before = talk->verdict;

	talk->verdict = probe_feed(&talk->probe, bytes, count);
	ensure(before == PROBE_NEED_MORE || before == talk->verdict);
	ensure(strlen(probe_reason(&talk->probe)) < PROBE_REASON_SIZE);
	for (const char *c = probe_reason(&talk->probe); *c; c++)
		ensure((unsigned char)*c >= ' ' && *c != 0x7f);
	take_output(talk);
}

static void end(struct talk *talk)
{
	enum probe_verdict before = talk->verdict;

	talk->verdict = probe_end(&talk->probe);
	ensure(talk->verdict == (before == PROBE_NEED_MORE ? PROBE_BAD : before));
	take_output(talk);
}

static void ensure_same(const struct talk *a, const struct talk *b)
{
	ensure(a->verdict == b->verdict);
	ensure(strcmp(probe_reason(&a->probe), probe_reason(&b->probe)) == 0);
	ensure(a->said == b->said && memcmp(a->words, b->words, a->said) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct talk whole, bytewise, pieces;
	char expect[64] = "";
	uint32_t seed = 1;

	if (size == 0)
		return 0;
	const struct status_set good = { .bits = { 0, UINT64_MAX } };
	struct probe_rules rules = { .kind = kinds[*bytes % ARRAY_LEN(kinds)], .expect = expect, .statuses = &good };
	if (rules.kind == PROBE_HTTP)
		rules.send = "GET / HTTP/1.1\r\n\r\n";
	bytes++;
	size--;
	if (rules.kind == PROBE_TCP) {
		size_t length = strnlen((const char *)bytes, size < sizeof expect ? size : sizeof expect - 1);
		memcpy(expect, bytes, length);
		bytes += length;
		size -= length;
	}
	begin(&whole, &rules);
	begin(&bytewise, &rules);
	begin(&pieces, &rules);
	feed(&whole, bytes, size);
	for (size_t i = 0; i < size; i++)
		feed(&bytewise, bytes + i, 1);
	for (size_t from = 0, now; from < size; from += now) {
		seed = seed * 1664525 + 1013904223;
		now = 1 + (seed >> 16) % 24;
		now = now < size - from ? now : size - from;
		feed(&pieces, bytes + from, now);
	}
	ensure_same(&whole, &bytewise);
	ensure_same(&whole, &pieces);
	end(&whole);
	end(&pieces);
	ensure_same(&whole, &pieces);
	return 0;
}
