/* Settings from texts, for the tests of src/config. */
#ifndef AEGIS_TESTS_LOADING_H
#define AEGIS_TESTS_LOADING_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

#define LISTENER "listeners = ( { address = \"127.0.0.1:8080\"; } );\n"
#define UPSTREAM "upstreams = ( { name = \"app\"; servers = ( { address = \"127.0.0.1:3000\"; } ); } );\n"

/* A file in the directory for tests, which is made when first asked for. The path is good until the 8th next call. */
static inline const char *in_directory(const char *name)
{
	static char directory[64];
	static char paths[8][512];
	static unsigned next;
	char *path = paths[next++ % 8];

	if (directory[0] == '\0') {
		snprintf(directory, sizeof directory, "/tmp/aegis-config-XXXXXX");
		assert_non_null(mkdtemp(directory));
	}
	snprintf(path, sizeof paths[0], "%s/%s", directory, name);
	return path;
}

static inline int remove_directory(void **state)
{
	char command[600];

	(void)state;
	snprintf(command, sizeof command, "rm -rf '%s'", in_directory(""));
	return system(command) == 0 ? 0 : -1;
}

static inline const char *write_bytes(const char *name, const void *bytes, size_t length)
{
	const char *path = in_directory(name);
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
	return path;
}

static inline const char *write_file(const char *name, const char *text)
{
	return write_bytes(name, text, strlen(text));
}

static inline struct config *load(const struct config_source *source)
{
	struct config *config = NULL;
	struct config_errors errors = { .count = 0 };

	if (config_load(source, &config, &errors) != 0)
		fail_msg("%s", errors.lines);
	assert_int_equal(errors.count, 0);
	assert_null(errors.lines);
	return config;
}

static inline struct config *load_file(const char *path)
{
	return load(&(struct config_source){ .file = path });
}

static inline struct config *load_text(const char *text)
{
	return load_file(write_file("aegis.conf", text));
}

/* The lines of what must fail, without the directory in front of the file names. Static. */
static inline const char *errors_of(const struct config_source *source)
{
	static char lines[1 << 20];
	struct config *config = (struct config *)&lines; /* any value: must be left alone */
	struct config_errors errors = { .count = 0 };
	size_t prefix = strlen(in_directory("")), count = 0;
	char *out = lines;

	assert_int_equal(config_load(source, &config, &errors), -22);
	assert_ptr_equal(config, &lines);
	assert_true(errors.count > 0);
	for (const char *at = errors.lines; *at != '\0'; at++) {
		if (strncmp(at, in_directory(""), prefix) == 0)
			at += prefix;
		count += *at == '\n';
		assert_true(out < lines + sizeof lines - 1);
		*out++ = *at;
	}
	*out = '\0';
	assert_int_equal(count, errors.count);
	config_errors_clear(&errors);
	assert_null(errors.lines);
	return lines;
}

static inline const char *errors_of_text(const char *text)
{
	return errors_of(&(struct config_source){ .file = write_file("aegis.conf", text) });
}

/* The comment at the end of each line, and the space before it. */
static inline void remove_comments(char *text)
{
	char *out = text;

	for (char *at = text, *end; *at != '\0'; at = end + 1) {
		char *comment = NULL;
		end = strchr(at, '\n');
		for (char *p = at; p + 2 < end; p++)
			if (memcmp(p, " # ", 3) == 0)
				comment = p;
		char *stop = comment != NULL ? comment : end;
		while (stop > at && stop[-1] == ' ')
			stop--;
		memmove(out, at, (size_t)(stop - at));
		out += stop - at;
		*out++ = '\n';
	}
	*out = '\0';
}

/* What is dumped; the caller frees it. With its comments, or without. */
static inline char *dump_of(const struct config *config, bool comments)
{
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&bytes, &size);

	assert_non_null(out);
	config_dump(config, out);
	assert_int_equal(fclose(out), 0);
	if (!comments)
		remove_comments(bytes);
	return bytes;
}

#endif
