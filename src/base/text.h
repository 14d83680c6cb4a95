/* A bounded text under construction: appends never overflow, a cut is remembered. No allocation.
 *
 *   char line[256]; struct text text = text_of(line, sizeof line); text_add(&text, "%d", 7);
 */
#ifndef AEGIS_BASE_TEXT_H
#define AEGIS_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

struct text {
	char *bytes;   /* always NUL-terminated */
	size_t size;   /* of the buffer, >= 1 */
	size_t length; /* without the NUL */
	bool cut;      /* something did not fit */
};

struct text text_of(char *bytes, size_t size);
void text_add(struct text *text, const char *format, ...) printf_like(2, 3);

/* Append s, with control bytes, '"' and '\\' as JSON escapes and invalid UTF-8 as '?'. */
void text_add_escaped(struct text *text, const char *s);

/* The same for people: '"' and '\\' stay as they are. */
void text_add_printable(struct text *text, const char *s);

/* Copy src into dst of size bytes, cut where it does not fit, always NUL-terminated. True when all of it fitted. */
bool text_copy(char *dst, size_t size, const char *src);

/* The candidate nearest to word by edit distance (count of them), or NULL where none is near enough to be a likely
 * misspelling (more than a third of the letters differ). */
const char *text_nearest(const char *word, const char *const *candidates, size_t count);

#endif
