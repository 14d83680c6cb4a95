/* Plays an exchange through a framing: whole, byte by byte and in pieces, which must come to the same. A part begins with '>' (the
 * client sent the rest of it) or '<' (the server did); NULL ends the parts. */
#ifndef AEGIS_TESTS_EXCHANGE_H
#define AEGIS_TESTS_EXCHANGE_H

#include <string.h>

#include "base/attr.h"
#include "proto/framing.h"

enum { EXCHANGE_PARTS_MAX = 16 };

static inline void exchange_feed(struct framing *framing, char direction, const char *bytes, size_t count, size_t piece)
{
	for (size_t at = 0; at < count; at += piece) {
		size_t now = count - at < piece ? count - at : piece;
		/* a copy of just this size, so that a sanitizer sees each byte too far */
		char *copy = malloc(now);

		assert_non_null(copy);
		memcpy(copy, bytes + at, now);
		if (direction == '>')
			framing_request(framing, copy, now);
		else
			framing_response(framing, copy, now);
		free(copy);
	}
}

static inline enum framing_verdict exchange_play(struct framing *framing, enum framing_kind kind, const char *const *parts, size_t piece)
{
	framing_init(framing, kind);
	for (size_t i = 0; parts[i] != NULL; i++) {
		assert_true(parts[i][0] == '>' || parts[i][0] == '<');
		exchange_feed(framing, parts[i][0], parts[i] + 1, strlen(parts[i] + 1), piece);
	}
	return framing_verdict(framing);
}

static inline void exchange_assert(enum framing_kind kind, enum framing_verdict expected, const char *const *parts, int line)
{
	static const size_t pieces[] = { SIZE_MAX / 2, 1, 2, 3, 7, 16 };
	struct framing framing;

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		enum framing_verdict verdict = exchange_play(&framing, kind, parts, pieces[i]);
		const char *why = framing_pinned_by(&framing);

		assert_int_equal(verdict == FRAMING_PINNED, why != NULL);
		if (verdict != expected)
			fail_msg("line %d, pieces of %zu: verdict %d, expected %d (%s)", line, pieces[i], (int)verdict, (int)expected,
			        why != NULL ? why : "not pinned");
	}
}

#define ASSERT_EXCHANGE(kind, expected, ...) \
	exchange_assert(kind, expected, (const char *const[EXCHANGE_PARTS_MAX]){ __VA_ARGS__ }, __LINE__)
#define ASSERT_CLEAN(...) ASSERT_EXCHANGE(KIND, FRAMING_CLEAN, __VA_ARGS__)
#define ASSERT_OWED(...) ASSERT_EXCHANGE(KIND, FRAMING_OWED, __VA_ARGS__)
#define ASSERT_PARTIAL(...) ASSERT_EXCHANGE(KIND, FRAMING_PARTIAL, __VA_ARGS__)
#define ASSERT_PINNED(...) ASSERT_EXCHANGE(KIND, FRAMING_PINNED, __VA_ARGS__)

#endif
