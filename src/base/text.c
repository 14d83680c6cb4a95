#include "base/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { WORD_MAX = 64 }; /* longer words are not looked at by text_nearest() */

struct text text_of(char *bytes, size_t size)
{
	ensure(size >= 1);
	bytes[0] = '\0';
	return (struct text){ .bytes = bytes, .size = size };
}

void text_add(struct text *text, const char *format, ...)
{
	va_list args;
	size_t room = text->size - text->length;

	va_start(args, format);
	int n = vsnprintf(text->bytes + text->length, room, format, args);
	va_end(args);
	if (n < 0) {
		text->bytes[text->length] = '\0';
		text->cut = true;
	} else if ((size_t)n >= room) {
		text->length = text->size - 1;
		text->cut = true;
	} else {
		text->length += (size_t)n;
	}
}

/* All of n bytes or nothing, so that no escape or character is torn. */
static void add_whole(struct text *text, const char *bytes, size_t n)
{
	if (n >= text->size - text->length) {
		text->cut = true;
		return;
	}
	memcpy(text->bytes + text->length, bytes, n);
	text->length += n;
	text->bytes[text->length] = '\0';
}

static bool is_tail(unsigned char byte)
{
	return (byte & 0xc0) == 0x80;
}

/* The length of the UTF-8 character at s (RFC 3629: no overlong forms, no surrogates) and its value, or 0. */
static size_t utf8_length(const unsigned char *s, uint32_t *out)
{
	if (s[0] < 0x80) {
		*out = s[0];
		return 1;
	}
	if (s[0] >= 0xc2 && s[0] <= 0xdf && is_tail(s[1])) {
		*out = (uint32_t)(s[0] & 0x1f) << 6 | (s[1] & 0x3f);
		return 2;
	}
	if ((s[0] & 0xf0) == 0xe0 && is_tail(s[1]) && is_tail(s[2])) {
		*out = (uint32_t)(s[0] & 0x0f) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
		return *out < 0x800 || (*out >= 0xd800 && *out <= 0xdfff) ? 0 : 3;
	}
	if (s[0] >= 0xf0 && s[0] <= 0xf4 && is_tail(s[1]) && is_tail(s[2]) && is_tail(s[3])) {
		*out = (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3f) << 12 | (uint32_t)(s[2] & 0x3f) << 6 | (s[3] & 0x3f);
		return *out < 0x10000 || *out > 0x10ffff ? 0 : 4;
	}
	return 0;
}

static bool is_control(uint32_t character)
{
	return character < 0x20 || (character >= 0x7f && character <= 0x9f) || character == 0x2028 || character == 0x2029;
}

static void add_control(struct text *text, uint32_t character)
{
	char escape[12];
	int n;

	if (character == '\n' || character == '\r' || character == '\t')
		n = snprintf(escape, sizeof escape, "\\%c", character == '\n' ? 'n' : character == '\r' ? 'r' : 't');
	else
		n = snprintf(escape, sizeof escape, "\\u%04x", (unsigned)character);
	add_whole(text, escape, (size_t)n);
}

static void add_safe(struct text *text, const char *s, bool quotes)
{
	const unsigned char *p = (const unsigned char *)s;

	while (*p != '\0' && !text->cut) {
		uint32_t character = 0;
		size_t n = utf8_length(p, &character);
		if (n == 0) {
			add_whole(text, "?", 1);
			n = 1;
		} else if (is_control(character)) {
			add_control(text, character);
		} else if (quotes && (character == '"' || character == '\\')) {
			add_whole(text, character == '"' ? "\\\"" : "\\\\", 2);
		} else {
			add_whole(text, (const char *)p, n);
		}
		p += n;
	}
}

void text_add_escaped(struct text *text, const char *s)
{
	add_safe(text, s, true);
}

void text_add_printable(struct text *text, const char *s)
{
	add_safe(text, s, false);
}

bool text_copy(char *dst, size_t size, const char *src)
{
	size_t length = strlen(src);
	bool fits = length < size;

	ensure(size >= 1);
	if (!fits)
		length = size - 1;
	memcpy(dst, src, length);
	dst[length] = '\0';
	return fits;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Edit distance where a swap of neighbours is one edit and case does not count (optimal string alignment). */
static unsigned distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned rows[3][WORD_MAX + 1];
	unsigned *before = rows[0], *last = rows[1], *now = rows[2];

	for (size_t j = 0; j <= b_length; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		now[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			char x = lower(a[i - 1]), y = lower(b[j - 1]);
			now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == lower(b[j - 2]) && y == lower(a[i - 2]))
				now[j] = least(now[j], before[j - 2] + 1);
		}
		unsigned *spare = before;
		before = last;
		last = now;
		now = spare;
	}
	return last[b_length];
}

const char *text_nearest(const char *word, const char *const *candidates, size_t count)
{
	const char *nearest = NULL;
	unsigned nearest_distance = 0;
	size_t length = strlen(word);

	if (length > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		size_t other = strlen(candidates[i]);
		size_t longer = length > other ? length : other, shorter = length < other ? length : other;
		if (other > WORD_MAX || (longer - shorter) * 3 > longer)
			continue;
		unsigned d = distance(word, length, candidates[i], other);
		if (d * 3 <= longer && (nearest == NULL || d < nearest_distance)) {
			nearest = candidates[i];
			nearest_distance = d;
		}
	}
	return nearest;
}
