#include "config/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_at.h"
#include "base/text.h"
#include "config/token.h"

/* A file that is being read, and the one that includes it. */
struct reading {
	const struct reading *parent;
	const char *file;
	int include_line; /* in parent */
	int depth;
	bool on_disk;
	dev_t device;
	ino_t inode;
};

static bool add_file(struct source *source, const struct reading *reading);

/* About the file itself: tell where it was asked for. */
static bool fail(const struct source *source, const struct reading *reading, const char *format, ...) printf_like(3, 4);
static bool fail(const struct source *source, const struct reading *reading, const char *format, ...)
{
	char problem[512];
	va_list args;

	va_start(args, format);
	if (vsnprintf(problem, sizeof problem, format, args) < 0)
		problem[0] = '\0';
	va_end(args);
	if (reading->parent != NULL)
		config_errors_add(
		        source->errors, reading->parent->file, reading->include_line, NULL, "@include \"%s\": %s", reading->file, problem);
	else
		config_errors_add(source->errors, reading->file, 0, NULL, "%s", problem);
	return false;
}

/* --- the whole text -------------------------------------------------------------------------------------------------------- */

static void append(struct source *source, const char *bytes, size_t length)
{
	size_t needed = source->length + length + 1;

	if (needed > source->size) {
		source->size = needed * 2;
		source->bytes = realloc(source->bytes, source->size);
		ensure(source->bytes != NULL);
	}
	memcpy(source->bytes + source->length, bytes, length);
	source->length += length;
	source->bytes[source->length] = '\0';
	for (const char *at = bytes; (at = memchr(at, '\n', length - (size_t)(at - bytes))) != NULL; at++)
		source->lines++;
}

static void end_line(struct source *source)
{
	if (source->length == 0 || source->bytes[source->length - 1] != '\n')
		append(source, "\n", 1);
}

static void start_run(struct source *source, const char *file, int file_line)
{
	if (source->n_runs == source->runs_size) {
		source->runs_size = source->runs_size * 2 + 8;
		source->runs = realloc(source->runs, source->runs_size * sizeof *source->runs);
		ensure(source->runs != NULL);
	}
	source->runs[source->n_runs++] = (struct source_run){ .first_line = source->lines + 1, .file = file, .file_line = file_line };
}

struct source_run source_place(const struct source *source, int line)
{
	size_t low = 0, high = source->n_runs;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (source->runs[middle].first_line <= line)
			low = middle;
		else
			high = middle;
	}
	struct source_run place = source->runs[low];
	place.file_line += line > place.first_line ? line - place.first_line : 0;
	place.first_line = line;
	return place;
}

void source_error(const struct source *source, int line, const char *format, ...)
{
	struct source_run place = source_place(source, line);
	char problem[512];
	va_list args;

	va_start(args, format);
	if (vsnprintf(problem, sizeof problem, format, args) < 0)
		problem[0] = '\0';
	va_end(args);
	config_errors_add(source->errors, place.file, place.file_line, NULL, "%s", problem);
}

/* --- includes -------------------------------------------------------------------------------------------------------------- */

/* The path of @include "path" without its escapes, relative to the folder of the file that it stands in. */
static const char *include_path(struct arena *arena, const char *from, const struct token *token)
{
	char path[PATH_MAX];
	struct text text = text_of(path, sizeof path);
	const char *at = memchr(token->at, '"', token->length), *end = token->at + token->length - 1;
	const char *slash = strrchr(from, '/');

	at++;
	if (slash != NULL && *at != '/')
		text_add(&text, "%.*s", (int)(slash - from + 1), from);
	for (; at < end; at++) {
		if (*at == '\\')
			at++;
		text_add(&text, "%c", *at);
	}
	return text.cut ? NULL : arena_copy(arena, path, text.length);
}

static bool include(struct source *source, const struct reading *from, const struct token *token)
{
	const char *path = include_path(source->arena, from->on_disk ? from->file : "", token);
	struct reading reading = { .parent = from, .file = path, .include_line = token->line, .depth = from->depth + 1 };

	if (path == NULL) {
		config_errors_add(source->errors, from->file, token->line, NULL, "the path of the included file is too long");
		return false;
	}
	if (++source->n_includes > SOURCE_MAX_INCLUDES)
		return fail(source, &reading, "there are more than %d includes", SOURCE_MAX_INCLUDES);
	if (reading.depth > SOURCE_MAX_INCLUDE_DEPTH)
		return fail(source, &reading, "includes are nested more than %d deep", SOURCE_MAX_INCLUDE_DEPTH);
	return add_file(source, &reading);
}

static bool add_bytes(struct source *source, const struct reading *reading, const char *bytes, size_t length)
{
	struct tokens tokens = { .bytes = bytes, .length = length, .line = 1 };
	const char *rest = bytes;
	bool ok = true;

	if (length > SOURCE_MAX_BYTES - source->length)
		return fail(source, reading, "the settings are larger than %d MB together", SOURCE_MAX_BYTES / 1024 / 1024);
	start_run(source, reading->file, 1);
	for (;;) {
		struct token token = token_next(&tokens);
		if (token.kind == TOKEN_WRONG) {
			config_errors_add(source->errors, reading->file, token.line, NULL, "%s", token.why);
			return false;
		}
		if (token.kind == TOKEN_END)
			break;
		if (token.kind != TOKEN_INCLUDE)
			continue;
		append(source, rest, (size_t)(token.at - rest));
		end_line(source);
		ok &= include(source, reading, &token);
		start_run(source, reading->file, token.line);
		rest = token.at + token.length;
	}
	append(source, rest, (size_t)(bytes + length - rest));
	end_line(source);
	return ok;
}

/* --- files ----------------------------------------------------------------------------------------------------------------- */

static bool in_loop(const struct reading *reading)
{
	for (const struct reading *other = reading->parent; other != NULL; other = other->parent)
		if (other->on_disk && other->device == reading->device && other->inode == reading->inode)
			return true;
	return false;
}

/* Before what may hang. */
static void tell_where(const struct source *source, const struct reading *reading)
{
	if (reading->parent != NULL)
		file_at_begin(source->at, "%s:%d: @include \"%s\"", reading->parent->file, reading->include_line, reading->file);
	else
		file_at_begin(source->at, "%s", reading->file);
}

/* All that fd holds, at most one byte more than may be. Returns the length or a negative errno. */
static ssize_t read_all(int fd, char **out)
{
	size_t size = 64 * 1024, length = 0;
	char *bytes = malloc(size);

	for (;;) {
		ensure(bytes != NULL);
		ssize_t n = read(fd, bytes + length, size - length - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int error = -errno;
			free(bytes);
			return error;
		}
		length += (size_t)n;
		if (n == 0 || length > SOURCE_MAX_BYTES)
			break;
		if (length == size - 1)
			bytes = realloc(bytes, size *= 2);
	}
	bytes[length] = '\0';
	*out = bytes;
	return (ssize_t)length;
}

static int line_of(const char *bytes, const char *at)
{
	int line = 1;

	for (; bytes < at; bytes++)
		line += *bytes == '\n';
	return line;
}

static bool add_content(struct source *source, const struct reading *reading, char *bytes, size_t length)
{
	const char *nul = memchr(bytes, '\0', length);

	if (length > SOURCE_MAX_BYTES)
		return fail(source, reading, "the file is larger than %d MB; is it the right one?", SOURCE_MAX_BYTES / 1024 / 1024);
	if (nul != NULL) {
		config_errors_add(source->errors, reading->file, line_of(bytes, nul), NULL, "there is a NUL byte; this is not a text file");
		return false;
	}
	if (length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
		memset(bytes, ' ', 3); /* the mark that some editors put in front of UTF-8 */
	return add_bytes(source, reading, bytes, length);
}

static bool add_open_file(struct source *source, struct reading *reading, int fd)
{
	struct stat st;
	char *bytes = NULL;

	if (fstat(fd, &st) != 0)
		return fail(source, reading, "cannot be read: %s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return fail(source, reading, "is a directory; name a file in it");
	if (!S_ISREG(st.st_mode))
		return fail(source, reading, "is not a regular file");
	reading->on_disk = true;
	reading->device = st.st_dev;
	reading->inode = st.st_ino;
	if (in_loop(reading))
		return fail(source, reading, "the file includes itself, directly or through others");
	tell_where(source, reading);
	ssize_t length = read_all(fd, &bytes);
	file_at_end(source->at);
	if (length < 0)
		return fail(source, reading, "cannot be read: %s", strerror((int)-length));
	bool ok = add_content(source, reading, bytes, (size_t)length);
	free(bytes);
	return ok;
}

static const char *hint(int error)
{
	if (error == ENOENT)
		return "; check the path";
	return error == EACCES ? "; check the permissions of the file and of the folders above it" : "";
}

static bool add_file(struct source *source, const struct reading *reading)
{
	struct reading own = *reading;

	tell_where(source, reading);
	int fd = open(own.file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	file_at_end(source->at);
	if (fd < 0)
		return fail(source, &own, "cannot be opened: %s%s", strerror(errno), hint(errno));
	bool ok = add_open_file(source, &own, fd);
	close(fd);
	return ok;
}

bool source_read_file(struct source *source, const char *path)
{
	struct reading reading = { .file = arena_copy(source->arena, path, strlen(path)) };
	return add_file(source, &reading);
}

bool source_read_text(struct source *source, const char *name, const char *text)
{
	struct reading reading = { .file = name };
	return add_bytes(source, &reading, text, strlen(text));
}

void source_fini(struct source *source)
{
	free(source->bytes);
	free(source->runs);
}
