#include "control/target.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"

static int digit(char letter)
{
	if (letter >= '0' && letter <= '9')
		return letter - '0';
	letter = (char)(letter | 0x20);
	return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* A name in the settings is printable: what is not can be none. */
static bool is_printable(const char *text, size_t length)
{
	char bytes[64];
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	/* Only what was changed is not UTF-8: the rest passes as it is. A character is at most four bytes long. */
	for (size_t at = 0; at < length;) {
		size_t n = 1;
		while (at + n < length && n < 4 && ((unsigned char)text[at + n] & 0xc0) == 0x80)
			n++;
		memcpy(bytes, text + at, n);
		bytes[n] = '\0';
		char printed[64];
		struct text out = text_of(printed, sizeof printed);
		text_add_printable(&out, bytes);
		if (strcmp(printed, bytes) != 0)
			return false;
		at += n;
	}
	return true;
}

int target_decode(const char *text, bool plus, char *out, size_t size)
{
	size_t n = 0;
	for (; *text; text++) {
		char letter = *text;
		if (letter == '%') {
			int high = digit(text[1]), low = high < 0 ? -1 : digit(text[2]);
			if (low < 0 || (high == 0 && low == 0))
				return -EINVAL;
			letter = (char)(high << 4 | low);
			text += 2;
		} else if (plus && letter == '+') {
			letter = ' ';
		}
		if (n + 1 >= size)
			return -ENAMETOOLONG;
		out[n++] = letter;
	}
	if (n >= size)
		return -ENAMETOOLONG;
	out[n] = '\0';
	return is_printable(out, n) ? 0 : -EINVAL;
}

bool target_matches(const char *path, const char *pattern, char *out, size_t size)
{
	const char *star = strchr(pattern, '*');
	if (!star) {
		out[0] = '\0';
		return strcmp(path, pattern) == 0;
	}
	size_t before = (size_t)(star - pattern), after = strlen(star + 1), length = strlen(path);
	if (length <= before + after || strncmp(path, pattern, before) != 0 || strcmp(path + length - after, star + 1) != 0)
		return false;
	size_t n = length - before - after;
	if (n >= size)
		return false;
	memcpy(out, path + before, n);
	out[n] = '\0';
	return true;
}
