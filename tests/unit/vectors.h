/* Vectors of other programs, which are not part of the sources: AEGIS_TEST_VECTORS names the folder that they lie in. A test that finds
 * none of its own is skipped. */
#ifndef AEGIS_TESTS_VECTORS_H
#define AEGIS_TESTS_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VECTORS_SKIPPED = 77 };

/* name: below the folder. NULL where it is not there, which was said. */
static FILE *vectors_open(const char *name)
{
	const char *folder = getenv("AEGIS_TEST_VECTORS");
	char path[4096];
	FILE *file = NULL;

	if (folder && snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path)
		file = fopen(path, "r");
	if (!file)
		printf("skipped: AEGIS_TEST_VECTORS does not name a folder with %s\n", name);
	return file;
}

/* The bytes of a text of hexadecimal digits, which a quote ends. How many there are. */
static inline size_t vectors_bytes(const char *hex, void *out, size_t size)
{
	uint8_t *bytes = out;
	size_t count = 0;

	for (unsigned byte; *hex != '"' && sscanf(hex, "%2x", &byte) == 1; hex += 2) {
		assert_true(count < size);
		bytes[count++] = (uint8_t)byte;
	}
	return count;
}

/* For files with one member a line: the text of this member, or NULL where the line is not that. key: with the quotes, and the spaces
 * before it, which tell members of other objects. */
static inline const char *vectors_member(const char *line, const char *key)
{
	const char *at = strncmp(line, key, strlen(key)) == 0 ? line + strlen(key) : "";
	return strncmp(at, ": \"", 3) == 0 ? at + 3 : NULL;
}

/* Copy the text of this member, where the line is that. */
static inline void vectors_copy(const char *line, const char *key, char *out, size_t size)
{
	const char *at = vectors_member(line, key);
	if (at != NULL)
		snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
}

#endif
