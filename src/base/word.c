#include "base/word.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

void word_write(FILE *out, const char *word)
{
	fputc(' ', out);
	if (!word || !*word)
		fputc('-', out);
	for (const unsigned char *at = (const unsigned char *)word; at && *at; at++)
		if (*at <= ' ' || *at >= 0x7f || *at == '%' || *at == '-')
			fprintf(out, "%%%02x", *at);
		else
			fputc(*at, out);
}

char *word_next(char **line)
{
	char *word = *line, *end = word + strcspn(word, " ");
	if (end == word)
		return NULL;
	*line = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

static bool unescape(char *word)
{
	char *out = word;
	if (strcmp(word, "-") == 0)
		*word = '\0';
	for (const char *at = word; *at; at++) {
		if (*at != '%') {
			*out++ = *at;
			continue;
		}
		if (!isxdigit((unsigned char)at[1]) || !isxdigit((unsigned char)at[2]))
			return false;
		const char digits[] = { at[1], at[2], '\0' };
		*out = (char)strtoul(digits, NULL, 16);
		if (!*out++)
			return false;
		at += 2;
	}
	*out = '\0';
	return true;
}

char *word_next_text(char **line)
{
	char *word = word_next(line);
	return word && unescape(word) ? word : NULL;
}

bool word_next_number(char **line, uint64_t most, uint64_t *out)
{
	char *end, *word = word_next(line);
	if (!word || !isdigit((unsigned char)*word))
		return false;
	errno = 0;
	unsigned long long number = strtoull(word, &end, 10);
	if (errno || *end || number > most)
		return false;
	*out = number;
	return true;
}
