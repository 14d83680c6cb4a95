/* Counters from text: what the new master makes of it. */
#include <errno.h>
#include <string.h>

#include "base/word.h"
#include "shm/carry.h"
#include "shm/limit.h"
#include "shm/sums.h"

enum row_kind { ROW_NONE, ROW_INSTANCE, ROW_LISTENER, ROW_SERVER };

struct reader {
	struct shm *shm;
	uint32_t seat;
	enum row_kind kind; /* of the row that the lines are about */
	uint32_t row;
	int error; /* -ENOSPC, when a row found no place */
};

static void hold(struct reader *reader, uint32_t limit, uint64_t n)
{
	limit_hold(reader->shm, reader->seat, limit, (uint32_t)n);
}

static bool begin_listener(struct reader *reader, char *line)
{
	uint64_t held;
	const char *name = word_next_text(&line);
	if (!name || !word_next_number(&line, INT32_MAX, &held))
		return false;
	reader->kind = shm_find_listener(reader->shm, name, &reader->row) ? ROW_LISTENER : ROW_NONE;
	if (reader->kind == ROW_LISTENER)
		hold(reader, limit_listener(reader->row), held);
	else
		reader->error = -ENOSPC;
	return true;
}

static bool begin_server(struct reader *reader, char *line)
{
	uint64_t held;
	const char *upstream = word_next_text(&line), *name = upstream ? word_next_text(&line) : NULL;
	if (!name || !word_next_number(&line, INT32_MAX, &held))
		return false;
	reader->kind = shm_find_server(reader->shm, upstream, name, &reader->row) ? ROW_SERVER : ROW_NONE;
	if (reader->kind == ROW_SERVER)
		hold(reader, limit_server(reader->shm, reader->row), held);
	else
		reader->error = -ENOSPC;
	return true;
}

static bool begin_instance(struct reader *reader, char *line)
{
	uint64_t held;
	if (!word_next_number(&line, INT32_MAX, &held))
		return false;
	reader->kind = ROW_INSTANCE;
	hold(reader, limit_global(), held);
	atomic_store(&reader->shm->seats[reader->seat].sessions, (uint32_t)held);
	return true;
}

/* NULL: this version has no such counter, or the row no place. */
static counter_t *find_counter(const struct reader *reader, const char *metric)
{
	struct shm *shm = reader->shm;
	switch (reader->kind) {
	case ROW_INSTANCE:
#define X(field, name, help)           \
	if (strcmp(metric, name) == 0) \
		return &shm->header->field;
		MASTER_COUNTERS(X)
#undef X
#define X(field, name, help)           \
	if (strcmp(metric, name) == 0) \
		return &shm->seats[reader->seat].field;
		WORKER_COUNTERS(X)
#undef X
		break;
	case ROW_LISTENER:
#define X(field, name, help)           \
	if (strcmp(metric, name) == 0) \
		return &shm_listener_row(shm, reader->seat, reader->row)->field;
		LISTENER_COUNTERS(X)
#undef X
		break;
	case ROW_SERVER:
#define X(field, name, help)           \
	if (strcmp(metric, name) == 0) \
		return &shm_server_row(shm, reader->seat, reader->row)->field;
		SERVER_COUNTERS(X)
#undef X
		break;
	case ROW_NONE:
		break;
	}
	return NULL;
}

static bool read_count(const struct reader *reader, char *line)
{
	uint64_t n;
	const char *metric = word_next_text(&line);
	if (!metric || !word_next_number(&line, INT64_MAX, &n))
		return false;
	counter_t *counter = find_counter(reader, metric);
	if (counter)
		counter_add(counter, n);
	return true;
}

static bool read_close(const struct reader *reader, char *line)
{
	uint64_t n;
	const char *name = word_next_text(&line);
	if (!name || !word_next_number(&line, INT64_MAX, &n))
		return false;
	for (unsigned i = 0; reader->kind == ROW_LISTENER && i < N_REASONS; i++)
		if (strcmp(name, reason_name((enum reason)i)) == 0)
			counter_add(&shm_listener_row(reader->shm, reader->seat, reader->row)->closes[i], n);
	return true;
}

static struct histogram *find_histogram(const struct reader *reader, const char *metric)
{
#define X(field, name, help)                                           \
	if (reader->kind == ROW_LISTENER && strcmp(metric, name) == 0) \
		return &shm_listener_row(reader->shm, reader->seat, reader->row)->field;
	LISTENER_HISTOGRAMS(X)
#undef X
	return NULL;
}

static bool read_times(const struct reader *reader, char *line)
{
	uint64_t sum_ns, lower_ns, n;
	const char *metric = word_next_text(&line);
	if (!metric || !word_next_number(&line, INT64_MAX, &sum_ns))
		return false;
	struct histogram *histogram = find_histogram(reader, metric);
	if (histogram)
		counter_add(&histogram->sum_ns, sum_ns);
	for (char *bucket = word_next(&line); bucket; bucket = word_next(&line)) {
		char *colon = strchr(bucket, ':');
		if (!colon)
			return false;
		*colon = '\0';
		char *count = colon + 1;
		if (!word_next_number(&bucket, INT64_MAX, &lower_ns) || !word_next_number(&count, INT64_MAX, &n))
			return false;
		if (histogram)
			counter_add(&histogram->buckets[histogram_bucket(lower_ns)], n);
	}
	return true;
}

static bool read_line(struct reader *reader, char *line)
{
	const char *key = word_next(&line);
	if (!key)
		return false;
	if (strcmp(key, "instance") == 0)
		return begin_instance(reader, line);
	if (strcmp(key, "listener") == 0)
		return begin_listener(reader, line);
	if (strcmp(key, "server") == 0)
		return begin_server(reader, line);
	if (strcmp(key, "count") == 0)
		return read_count(reader, line);
	if (strcmp(key, "close") == 0)
		return read_close(reader, line);
	return strcmp(key, "times") != 0 || read_times(reader, line); /* a later version may say more */
}

int carry_read(struct shm *shm, uint32_t seat, char *text)
{
	struct reader reader = { .shm = shm, .seat = seat };
	bool first = true;
	for (char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
		*end = '\0';
		if (!first && strcmp(text, "end") == 0)
			return reader.error;
		if (first ? strcmp(text, CARRY_FIRST_LINE) != 0 : !read_line(&reader, text))
			return -EPROTO;
		first = false;
	}
	return -EPROTO;
}

/* --- rows ------------------------------------------------------------------------------------------------------------------- */

static const char *line_after(const char *line, const char *key)
{
	size_t length = strlen(key);
	return strncmp(line, key, length) == 0 && line[length] == ' ' ? line + length + 1 : NULL;
}

static const char *next_line(const char *line)
{
	const char *end = strchr(line, '\n');
	return end ? end + 1 : NULL;
}

void carry_count_rows(const char *text, uint32_t *listeners, uint32_t *servers)
{
	*listeners = *servers = 0;
	for (const char *line = text; line && *line; line = next_line(line)) {
		*listeners += line_after(line, "listener") != NULL;
		*servers += line_after(line, "server") != NULL;
	}
}

static int claim_listener(struct shm *shm, const char *name)
{
	uint32_t row;
	if (shm_find_listener(shm, name, &row))
		return 0;
	int error = shm_claim_listener(shm, name, &row);
	if (!error)
		atomic_store(&shm->listeners[row].in_use, 0);
	return error;
}

static int claim_server(struct shm *shm, const char *upstream, const char *name)
{
	uint32_t row;
	if (shm_find_server(shm, upstream, name, &row))
		return 0;
	int error = shm_claim_server(shm, upstream, name, &row);
	if (!error)
		atomic_store(&shm->servers[row].in_use, 0);
	return error;
}

static int claim_row(struct shm *shm, const char *line, const char *words, bool is_server)
{
	char copy[3 * (SHM_NAME_SIZE + SHM_ADDRESS_SIZE) + 16], *at = copy;
	size_t length = strcspn(line, "\n");
	if (length >= sizeof copy)
		return -EPROTO;
	length -= (size_t)(words - line);
	memcpy(copy, words, length);
	copy[length] = '\0';
	const char *name = word_next_text(&at), *second = name && is_server ? word_next_text(&at) : NULL;
	if (!name || !*name || (is_server && (!second || !*second)))
		return -EPROTO;
	return is_server ? claim_server(shm, name, second) : claim_listener(shm, name);
}

int carry_claim(struct shm *shm, const char *text)
{
	int result = 0;
	for (const char *line = text; line && *line; line = next_line(line)) {
		const char *listener = line_after(line, "listener"), *server = line_after(line, "server");
		int error = listener || server ? claim_row(shm, line, listener ? listener : server, !listener) : 0;
		if (error == -EPROTO)
			return error;
		result = error ? error : result;
	}
	return result;
}

void carry_let_go(struct shm *shm, uint32_t seat)
{
	struct reader reader = { .shm = shm, .seat = seat };
	hold(&reader, limit_global(), 0);
	for (uint32_t i = 0; i < sums_n_listeners(shm); i++)
		hold(&reader, limit_listener(i), 0);
	for (uint32_t i = 0; i < sums_n_servers(shm); i++)
		hold(&reader, limit_server(shm, i), 0);
	atomic_store(&shm->seats[seat].sessions, 0);
}
