/* A client and a server that say any bytes, in any order: the verdict is the same however the bytes are split, a pin is for ever, and
 * what is CLEAN has as many answers as requests.
 *
 * The first byte chooses the kind. Then come parts: a byte with the direction (bit 7: the server) and the number of bytes that follow,
 * 127 = up to the next part that would be "\xff\xff". */
#include <string.h>

#include "base/attr.h"
#include "fuzz.h"
#include "proto/framing.h"

struct part {
	const char *bytes;
	size_t count;
	bool is_response;
};

enum { PARTS_MAX = 256 };

static size_t take_parts(struct part *parts, const uint8_t *bytes, size_t size)
{
	size_t n = 0;

	while (size > 0 && n < PARTS_MAX) {
		size_t count = bytes[0] & 0x7f, taken = count;
		bool is_response = (bytes[0] & 0x80) != 0;

		bytes++;
		size--;
		if (count == 0x7f) {
			const uint8_t *end = memmem(bytes, size, "\xff\xff", 2);
			count = end != NULL ? (size_t)(end - bytes) : size;
			taken = end != NULL ? count + 2 : count;
		}
		if (count > size)
			count = taken = size;
		parts[n++] = (struct part){ (const char *)bytes, count, is_response };
		bytes += taken;
		size -= taken;
	}
	return n;
}

static void feed(struct framing *framing, const struct part *part, size_t from, size_t count)
{
	bool was_pinned = framing_verdict(framing) == FRAMING_PINNED;
	const char *reason = framing_pinned_by(framing);

	if (part->is_response)
		framing_response(framing, part->bytes + from, count);
	else
		framing_request(framing, part->bytes + from, count);
	ensure((framing_verdict(framing) == FRAMING_PINNED) == (framing_pinned_by(framing) != NULL));
	ensure(!was_pinned || framing_pinned_by(framing) == reason);
	ensure(framing_verdict(framing) != FRAMING_CLEAN || framing_owed(framing) == 0);
	ensure(framing_verdict(framing) != FRAMING_OWED || framing_owed(framing) > 0);
}

/* In pieces of up to piece bytes, of varying size where seed is not 0. */
static void feed_in_pieces(struct framing *framing, const struct part *part, size_t piece, uint32_t *seed)
{
	for (size_t from = 0; from < part->count;) {
		size_t left = part->count - from, now = piece;

		if (*seed != 0) {
			*seed = *seed * 1664525 + 1013904223;
			now = 1 + (*seed >> 16) % piece;
		}
		if (now > left)
			now = left;
		feed(framing, part, from, now);
		from += now;
	}
}

static void ensure_same(const struct framing *a, const struct framing *b)
{
	ensure(framing_verdict(a) == framing_verdict(b));
	ensure(framing_owed(a) == framing_owed(b));
}

/* What is CLEAN for one client serves the next. */
static void ensure_serves_another(struct framing *framing, enum framing_kind kind)
{
	static const char *const exchanges[][2] = {
		[FRAMING_HTTP1] = { "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" },
		[FRAMING_REDIS] = { "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$5\r\nhello\r\n" },
		[FRAMING_LINE] = { "get\n", "got\n" },
	};

	if (kind == FRAMING_NONE || framing_verdict(framing) != FRAMING_CLEAN)
		return;
	framing_request(framing, exchanges[kind][0], strlen(exchanges[kind][0]));
	ensure(framing_verdict(framing) == FRAMING_OWED && framing_owed(framing) == 1);
	framing_response(framing, exchanges[kind][1], strlen(exchanges[kind][1]));
	ensure(framing_verdict(framing) == FRAMING_CLEAN);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct part parts[PARTS_MAX];
	struct framing whole, bytewise, pieces;
	uint32_t seed = 1, none = 0;

	if (size == 0)
		return 0;
	enum framing_kind kind = (enum framing_kind)(bytes[0] % (FRAMING_LINE + 1));
	size_t n = take_parts(parts, bytes + 1, size - 1);
	framing_init(&whole, kind);
	framing_init(&bytewise, kind);
	framing_init(&pieces, kind);
	for (size_t i = 0; i < n; i++) {
		feed(&whole, &parts[i], 0, parts[i].count);
		feed_in_pieces(&bytewise, &parts[i], 1, &none);
		feed_in_pieces(&pieces, &parts[i], 24, &seed);
		ensure_same(&whole, &bytewise);
		ensure_same(&whole, &pieces);
	}
	ensure_serves_another(&whole, kind);
	return 0;
}
