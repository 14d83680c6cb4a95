/* Vectors of other programs, which are not part of the sources: AEGIS_TEST_VECTORS names the folder that they lie in. A test that finds
 * none of its own is skipped. */
#ifndef AEGIS_TESTS_VECTORS_H
#define AEGIS_TESTS_VECTORS_H

#include <stdio.h>
#include <stdlib.h>

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

#endif
