#include "config/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

/* Lines of the head: "#! key value", the value with everything but plain letters as %XX. */
#define HEAD "#! "

static const char title[] = "# The settings in force, for aegis -p to compare with. Nothing reads this at a start.\n";

/* --- writing --------------------------------------------------------------------------------------------------------------- */

static void write_value(FILE *out, const char *value)
{
	for (const unsigned char *at = (const unsigned char *)value; *at; at++)
		if (*at > ' ' && *at < 0x7f && *at != '%')
			putc(*at, out);
		else
			fprintf(out, "%%%02x", *at);
}

static void write_line(FILE *out, const char *key, const char *value)
{
	if (!value)
		return;
	fprintf(out, HEAD "%s ", key);
	write_value(out, value);
	putc('\n', out);
}

static void write_number(FILE *out, const char *key, uint64_t value)
{
	fprintf(out, HEAD "%s %llu\n", key, (unsigned long long)value);
}

/* Who reads it may stand elsewhere. */
static void write_path(FILE *out, const char *key, const char *path)
{
	char cwd[PATH_MAX], absolute[2 * PATH_MAX];

	if (path && path[0] != '/' && getcwd(cwd, sizeof cwd)) {
		(void)snprintf(absolute, sizeof absolute, "%s/%s", cwd, path);
		path = absolute;
	}
	write_line(out, key, path);
}

static void write_head(FILE *out, const struct settings_origin *origin)
{
	const struct config_source *source = &origin->source;

	fputs(title, out);
	write_line(out, "version", PACKAGE_VERSION);
	write_number(out, "pid", (uint64_t)origin->pid);
	write_number(out, "generation", origin->generation);
	write_number(out, "max_workers", origin->max_workers);
	write_number(out, "max_draining", origin->max_draining);
	write_path(out, "file", source->file);
	write_path(out, "runtime_dir", source->runtime_dir);
	for (size_t i = 0; i < source->n_overrides; i++)
		write_line(out, "override", source->overrides[i]);
	write_line(out, "listen", source->quick_listen);
	for (size_t i = 0; i < source->n_quick_upstreams; i++)
		write_line(out, "upstream", source->quick_upstreams[i]);
}

/* Nobody but us may have written what gets the name in the end. */
static int open_fresh(const char *path, gid_t gid)
{
	(void)unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if ((gid != (gid_t)-1 && fchown(fd, (uid_t)-1, gid) < 0) || fchmod(fd, 0640) < 0) {
		int error = -errno;
		close(fd);
		(void)unlink(path);
		return error;
	}
	return fd;
}

int settings_write(const char *path, const struct config *config, const struct settings_origin *origin, gid_t gid)
{
	char fresh[PATH_MAX];

	if ((size_t)snprintf(fresh, sizeof fresh, "%s.new", path) >= sizeof fresh)
		return -ENAMETOOLONG;
	int fd = open_fresh(fresh, gid);
	if (fd < 0)
		return fd;
	FILE *out = fdopen(fd, "w");
	int error = 0;
	if (out) {
		write_head(out, origin);
		config_dump_bare(config, out);
		error = ferror(out) ? -EIO : 0;
		if (fclose(out) != 0)
			error = -errno;
	} else {
		error = -errno;
		close(fd);
	}
	if (!error && rename(fresh, path) < 0)
		error = -errno;
	if (error)
		(void)unlink(fresh);
	return error;
}

/* --- reading --------------------------------------------------------------------------------------------------------------- */

/* In place; what is broken stays as it is. */
static void decode(char *value)
{
	char *out = value;

	for (const char *at = value; *at; at++) {
		unsigned byte;
		if (*at == '%' && at[1] && at[2] && sscanf(at + 1, "%2x", &byte) == 1 && byte > 0) {
			*out++ = (char)byte;
			at += 2;
		} else {
			*out++ = *at;
		}
	}
	*out = '\0';
}

static uint32_t number_of(const char *value)
{
	unsigned long long number = strtoull(value, NULL, 10);
	return number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

static void add_text(const char *const **list, size_t *count, char *text)
{
	const char **longer = realloc((void *)*list, (*count + 1) * sizeof *longer);
	ensure(longer);
	longer[(*count)++] = text;
	*list = longer;
}

static void read_line(struct settings_origin *origin, const char *key, char *value)
{
	struct config_source *source = &origin->source;

	decode(value);
	if (strcmp(key, "pid") == 0)
		origin->pid = (pid_t)number_of(value);
	else if (strcmp(key, "generation") == 0)
		origin->generation = number_of(value);
	else if (strcmp(key, "max_workers") == 0)
		origin->max_workers = number_of(value);
	else if (strcmp(key, "max_draining") == 0)
		origin->max_draining = number_of(value);
	else if (strcmp(key, "file") == 0)
		source->file = value;
	else if (strcmp(key, "runtime_dir") == 0)
		source->runtime_dir = value;
	else if (strcmp(key, "override") == 0)
		add_text(&source->overrides, &source->n_overrides, value);
	else if (strcmp(key, "listen") == 0)
		source->quick_listen = value;
	else if (strcmp(key, "upstream") == 0)
		add_text(&source->quick_upstreams, &source->n_quick_upstreams, value);
}

/* Takes the bytes apart: lines become texts. */
static void read_head(struct settings_origin *origin, char *bytes)
{
	for (char *line = bytes, *next; line && *line == '#'; line = next) {
		char *end = strchr(line, '\n');
		next = end ? end + 1 : NULL;
		if (end)
			*end = '\0';
		char *key = line + strlen(HEAD);
		char *value = strncmp(line, HEAD, strlen(HEAD)) == 0 ? strchr(key, ' ') : NULL;
		if (!value)
			continue;
		*value = '\0';
		read_line(origin, key, value + 1);
	}
}

/* All of a file that is as long as it may be, with a NUL behind it. 0 and *out, or a negative errno. */
static int read_all(const char *path, char **out)
{
	enum { MOST_BYTES = 64 * 1024 * 1024 };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	struct stat st;
	int error = fstat(fd, &st) < 0 ? -errno : !S_ISREG(st.st_mode) || st.st_size > MOST_BYTES ? -EINVAL : 0;
	char *bytes = error ? NULL : malloc((size_t)st.st_size + 1);
	size_t length = 0;
	ssize_t n = 1;
	while (bytes && length < (size_t)st.st_size && (n = read(fd, bytes + length, (size_t)st.st_size - length)) > 0)
		length += (size_t)n;
	if (!error)
		error = !bytes ? -ENOMEM : n < 0 ? -errno : 0;
	close(fd);
	if (error) {
		free(bytes);
		return error;
	}
	bytes[length] = '\0';
	*out = bytes;
	return 0;
}

int settings_read(const char *path, struct settings *out, struct config_errors *errors)
{
	struct settings settings = { 0 };
	int error = read_all(path, &settings.bytes);

	if (!error && strncmp(settings.bytes, title, strlen(title)) != 0) {
		config_errors_add(errors, path, 0, "", "was not written by this version of Aegis");
		error = -EINVAL;
	}
	/* Not by its path: another one may have got that name meanwhile. */
	const char *const text[] = { settings.bytes };
	if (!error)
		error = config_load(&(struct config_source){ .overrides = text, .n_overrides = 1 }, &settings.config, errors);
	if (error) {
		free(settings.bytes);
		return error;
	}
	read_head(&settings.origin, settings.bytes);
	*out = settings;
	return 0;
}

void settings_fini(struct settings *settings)
{
	config_free(settings->config);
	free((void *)settings->origin.source.overrides);
	free((void *)settings->origin.source.quick_upstreams);
	free(settings->bytes);
	*settings = (struct settings){ 0 };
}

void settings_remove(const char *path, pid_t pid)
{
	struct settings_origin origin = { 0 };
	char *bytes;

	if (read_all(path, &bytes))
		return;
	read_head(&origin, bytes);
	if (origin.pid == pid)
		(void)unlink(path);
	free((void *)origin.source.overrides);
	free((void *)origin.source.quick_upstreams);
	free(bytes);
}
