/* A text of settings with its @includes put in place, and where each of its lines came from. Included paths are relative to
 * the file that includes them. */
#ifndef AEGIS_CONFIG_SOURCE_H
#define AEGIS_CONFIG_SOURCE_H

#include "config/arena.h"
#include "config/config.h"

enum { SOURCE_MAX_BYTES = 16 * 1024 * 1024, SOURCE_MAX_INCLUDES = 1000, SOURCE_MAX_INCLUDE_DEPTH = 10 };

/* Where a run of lines came from. */
struct source_run {
	int first_line; /* in the whole text */
	const char *file;
	int file_line;
};

struct source {
	struct arena *arena; /* owns the file names, which outlive the source */
	struct file_at *at;  /* as in config_source */
	struct config_errors *errors;
	char *bytes; /* NUL-terminated; ends with a line end */
	size_t length, size;
	int lines;
	struct source_run *runs;
	size_t n_runs, runs_size;
	size_t n_includes;
};

/* Read a file, or a text that stands for a file called name. False when there was an error. */
must_check bool source_read_file(struct source *source, const char *path);
must_check bool source_read_text(struct source *source, const char *name, const char *text);
void source_fini(struct source *source);

/* Where a line of the whole text came from. */
struct source_run source_place(const struct source *source, int line);

/* Add an error about a line of the whole text. */
void source_error(const struct source *source, int line, const char *format, ...) printf_like(3, 4);

#endif
