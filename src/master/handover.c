#include "master/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/word.h"
#include "os/channel.h"

#define VARIABLE "AEGIS_UPGRADE"
#define FIRST_LINE "aegis-handover 1"

static const char *const kind_names[] = {
#define X(id, name) [HANDED_##id] = name,
	HANDED_KINDS(X)
#undef X
};

/* --- writing ---------------------------------------------------------------------------------------------------------------- */

int handover_add(struct handover *handover, const struct handed *item)
{
	struct handed *items = realloc(handover->items, (handover->n_items + 1) * sizeof *items);
	if (!items)
		return -ENOMEM;
	handover->items = items;
	items[handover->n_items++] = *item;
	return 0;
}

static void write_all(FILE *out, const struct handover *handover)
{
	fprintf(out, FIRST_LINE "\ngeneration %" PRIu32 "\nruntime_dir", handover->generation);
	word_write(out, handover->runtime_dir);
	for (size_t i = 0; i < handover->n_items; i++) {
		const struct handed *item = &handover->items[i];
		fprintf(out, "\nitem %s %d %" PRIu32 " %" PRIu64, kind_names[item->kind], item->fd, item->number, item->extra);
		word_write(out, item->name);
		word_write(out, item->text);
	}
	fputs("\nend\n", out);
}

static int make_memfd(const char *bytes, size_t length)
{
	int fd = memfd_create("aegis", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (size_t written = 0; written < length;) {
		ssize_t n = write(fd, bytes + written, length - written);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int error = n < 0 ? -errno : -ENOSPC;
			close(fd);
			return error;
		}
		written += (size_t)n;
	}
	return fd;
}

int handover_write(const struct handover *handover)
{
	char *bytes = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&bytes, &length);
	if (!out)
		return -ENOMEM;
	write_all(out, handover);
	bool failed = ferror(out);
	if (fclose(out) != 0 || failed) {
		free(bytes);
		return -ENOMEM;
	}
	int fd = length <= HANDOVER_BYTES_MOST ? make_memfd(bytes, length) : -E2BIG;
	free(bytes);
	return fd;
}

int handover_export(const struct handover *handover, int memfd)
{
	char value[64];
	(void)snprintf(value, sizeof value, "%d:%d", memfd, (int)getpid());
	if (setenv(VARIABLE, value, 1) < 0)
		return -errno;
	if (fcntl(memfd, F_SETFD, 0) < 0)
		return -errno;
	for (size_t i = 0; i < handover->n_items; i++)
		if (fcntl(handover->items[i].fd, F_SETFD, 0) < 0)
			return -errno;
	return 0;
}

/* --- reading ---------------------------------------------------------------------------------------------------------------- */

int handover_import(void)
{
	const char *value = getenv(VARIABLE);
	int fd = -1, pid = -1, used = 0;
	if (!value)
		return -ENOENT;
	if (sscanf(value, "%9d:%9d%n", &fd, &pid, &used) != 2 || value[used] != '\0')
		fd = -1;
	unsetenv(VARIABLE);
	/* Whoever inherited it from somebody else is not meant. */
	return fd > STDERR_FILENO && pid == (int)getpid() ? fd : -ENOENT;
}

static int refuse(char *why, size_t why_size, const char *what, size_t line)
{
	(void)snprintf(why, why_size, "what the old master handed over is damaged: line %zu: %s", line, what);
	return -EPROTO;
}

/* One of a kind that is not known has the kind N_HANDED_KINDS: only its descriptor matters, which is to be closed. */
static bool read_item(char *line, struct handed *out)
{
	uint64_t fd, number;
	unsigned kind = 0;
	const char *name = word_next(&line);
	while (name && kind < N_HANDED_KINDS && strcmp(name, kind_names[kind]) != 0)
		kind++;
	struct handed item = { .kind = (enum handed_kind)kind };
	if (!name || !word_next_number(&line, INT32_MAX, &fd) || !word_next_number(&line, UINT32_MAX, &number) ||
	        !word_next_number(&line, UINT64_MAX, &item.extra) || !(item.name = word_next_text(&line)) ||
	        !(item.text = word_next_text(&line)))
		return false;
	item.fd = (int)fd;
	item.number = (uint32_t)number;
	*out = item;
	return fd > STDERR_FILENO;
}

/* NULL, or what is wrong with the line. */
static const char *read_line(struct handover *out, char *line)
{
	const char *key = word_next(&line);
	uint64_t number;
	struct handed item;
	if (!key)
		return "it is empty";
	if (strcmp(key, "generation") == 0) {
		if (!word_next_number(&line, UINT32_MAX - 1, &number))
			return "no generation";
		out->generation = (uint32_t)number;
	} else if (strcmp(key, "runtime_dir") == 0) {
		out->runtime_dir = word_next_text(&line);
		if (!out->runtime_dir || !*out->runtime_dir)
			return "no runtime directory";
	} else if (strcmp(key, "item") == 0) {
		if (!read_item(line, &item))
			return "no item";
		if (out->n_items == HANDOVER_ITEMS_MOST)
			return "too many items";
		if (handover_add(out, &item))
			return "out of memory";
	}
	return NULL; /* a later version may say more */
}

static int read_all(struct handover *out, char *why, size_t why_size)
{
	size_t number = 1;
	char *line = out->bytes;
	for (; *line; number++) {
		char *end = strchr(line, '\n');
		if (!end)
			return refuse(why, why_size, "it is cut short", number);
		*end = '\0';
		if (number == 1 && strcmp(line, FIRST_LINE) != 0)
			return refuse(why, why_size, "of another kind", number);
		if (strcmp(line, "end") == 0)
			return out->runtime_dir ? 0 : refuse(why, why_size, "no runtime directory", number);
		char *next = end + 1;
		const char *wrong = number > 1 ? read_line(out, line) : NULL;
		if (wrong)
			return refuse(why, why_size, wrong, number);
		line = next;
	}
	return refuse(why, why_size, "it is cut short", number);
}

int handover_parse(char *bytes, struct handover *out, char *why, size_t why_size)
{
	struct handover handover = { .bytes = bytes };
	int error = read_all(&handover, why, why_size);
	if (error) { /* no descriptor is known to be ours */
		free(handover.items);
		free(bytes);
		return error;
	}
	*out = handover;
	return 0;
}

/* From here on they are ours. One that is not open was never handed over, and one that is CLOEXEC is our own, or was named before. */
static int check_descriptors(struct handover *handover, char *why, size_t why_size)
{
	for (size_t i = 0; i < handover->n_items; i++) {
		int flags = fcntl(handover->items[i].fd, F_GETFD);
		if (flags < 0 || (flags & FD_CLOEXEC) || fcntl(handover->items[i].fd, F_SETFD, FD_CLOEXEC) < 0) {
			(void)snprintf(
			        why, why_size, "the old master named descriptor %d, which it did not hand over", handover->items[i].fd);
			return -EBADF;
		}
	}
	return 0;
}

int handover_read(int memfd, struct handover *out, char *why, size_t why_size)
{
	struct handover handover;
	char *bytes = upgrade_read_text(memfd, HANDOVER_BYTES_MOST);
	if (!bytes) {
		(void)snprintf(why, why_size, "what the old master handed over cannot be read");
		return -EPROTO;
	}
	int error = handover_parse(bytes, &handover, why, why_size);
	if (error)
		return error;
	error = check_descriptors(&handover, why, why_size);
	if (error) {
		free(handover.items);
		free(handover.bytes);
		return error;
	}
	*out = handover;
	return 0;
}

struct handed *handover_next(const struct handover *handover, enum handed_kind kind, const struct handed *after)
{
	for (size_t i = after ? (size_t)(after - handover->items) + 1 : 0; i < handover->n_items; i++)
		if (handover->items[i].kind == kind)
			return &handover->items[i];
	return NULL;
}

bool handover_named(const struct handover *handover, enum handed_kind kind, const char *name, const char *text)
{
	for (const struct handed *item = NULL; (item = handover_next(handover, kind, item)) != NULL;)
		if (strcmp(item->name, name) == 0 && strcmp(item->text, text) == 0)
			return true;
	return false;
}

int handed_take(struct handed *item)
{
	int fd = item->fd;
	item->fd = -1;
	return fd;
}

void handover_free(struct handover *handover)
{
	for (size_t i = 0; i < handover->n_items; i++)
		if (handover->bytes && handover->items[i].fd >= 0) /* the writer's are not its own */
			close(handover->items[i].fd);
	free(handover->items);
	free(handover->bytes);
	*handover = (struct handover){ 0 };
}

/* --- texts between the two -------------------------------------------------------------------------------------------------- */

int upgrade_say(int channel, enum upgrade_message kind, const char *text, size_t length)
{
	int fd = make_memfd(text, length);
	if (fd < 0)
		return fd;
	int error = channel_send(channel, &(struct channel_message){ .kind = kind }, fd);
	close(fd);
	return error;
}

char *upgrade_read_text(int memfd, size_t most_bytes)
{
	struct stat file;
	char *text = NULL;
	if (fstat(memfd, &file) < 0 || !S_ISREG(file.st_mode) || file.st_size < 0 || (uint64_t)file.st_size > most_bytes)
		goto out;
	size_t size = (size_t)file.st_size, length = 0;
	text = malloc(size + 1);
	while (text && length < size) {
		ssize_t n = pread(memfd, text + length, size - length, (off_t)length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		length += (size_t)n;
	}
	if (text)
		text[length] = '\0';
out:
	close(memfd);
	return text;
}
