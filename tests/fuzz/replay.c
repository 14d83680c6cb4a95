/* Runs a fuzz target over its corpus, without a fuzzer: FUZZ_CORPUS is its folder below tests/fuzz/corpus of the sources.
 * With arguments: over those files. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "fuzz.h"

static void replay(const char *path)
{
	FILE *file = fopen(path, "r");
	uint8_t *bytes = NULL;
	size_t size = 0, room = 0, n;

	if (file == NULL) {
		perror(path);
		exit(1);
	}
	do {
		room = room * 2 + 4096;
		bytes = realloc(bytes, room);
		ensure(bytes != NULL);
		n = fread(bytes + size, 1, room - size, file);
		size += n;
	} while (n > 0);
	fclose(file);
	/* of just this size, so that a sanitizer sees each byte too far */
	uint8_t *input = malloc(size > 0 ? size : 1);
	ensure(input != NULL);
	memcpy(input, bytes, size);
	free(bytes);
	ensure(LLVMFuzzerTestOneInput(input, size) == 0);
	free(input);
}

static int replay_folder(const char *folder)
{
	struct dirent **entries;
	int count = scandir(folder, &entries, NULL, alphasort), replayed = 0;

	for (int i = 0; i < count; i++) {
		char path[4096 + 256]; /* folder and NAME_MAX */
		snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
		if (entries[i]->d_name[0] != '.') {
			replay(path);
			replayed++;
		}
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	printf("%d inputs of %s\n", replayed, folder);
	return replayed > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	const char *source = getenv("AEGIS_SRCDIR");
	char folder[4096];

	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	if (argc > 1)
		return 0;
	snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", source != NULL ? source : AEGIS_SOURCE_DIR, FUZZ_CORPUS);
	return replay_folder(folder);
}
