/* A directory of its own for a test, under the system's temporary one, and files in it. */
#ifndef AEGIS_TESTS_SCRATCH_H
#define AEGIS_TESTS_SCRATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct scratch {
	char path[256];
};

static inline void scratch_make(struct scratch *scratch)
{
	const char *base = getenv("TMPDIR");
	memset(scratch, 0, sizeof *scratch);
	snprintf(scratch->path, sizeof scratch->path, "%.200s/aegis-test.XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(scratch->path)) {
		perror(scratch->path);
		abort();
	}
}

static inline int scratch_remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	(void)status;
	(void)kind;
	(void)place;
	return remove(path);
}

static inline void scratch_remove(struct scratch *scratch)
{
	nftw(scratch->path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The path of a name in it; good until the fourth next call. */
static inline const char *scratch_path(const struct scratch *scratch, const char *name)
{
	static char joined[4][512];
	static unsigned next;
	char *out = joined[next++ % 4];
	snprintf(out, sizeof joined[0], "%s/%.240s", scratch->path, name);
	return out;
}

/* Write a file, with the directories that it needs. */
static inline void scratch_write(struct scratch *scratch, const char *name, const char *content)
{
	char path[512];
	snprintf(path, sizeof path, "%s", scratch_path(scratch, name));
	for (char *slash = path + strlen(scratch->path) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	FILE *file = fopen(path, "w");
	if (!file || fputs(content, file) < 0 || fclose(file) != 0) {
		perror(path);
		abort();
	}
}

/* How many files there are in it. */
static inline int scratch_count(const struct scratch *scratch)
{
	DIR *directory = opendir(scratch->path);
	int count = 0;
	for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;)
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	if (directory)
		closedir(directory);
	return count;
}

#endif
