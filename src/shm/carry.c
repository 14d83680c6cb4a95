#include "shm/carry.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/word.h"
#include "shm/limit.h"
#include "shm/sums.h"

#define FIRST_LINE "aegis-counters 1"

struct instance_sum {
#define X(field, metric, help) uint64_t field;
	MASTER_COUNTERS(X)
	WORKER_COUNTERS(X)
#undef X
};

/* What was said already. */
struct carry {
	struct instance_sum instance;
	struct listener_sum *listeners;
	struct server_sum *servers;
	uint32_t n_listeners, n_servers;
};

struct carry *carry_new(void)
{
	return calloc(1, sizeof(struct carry));
}

void carry_free(struct carry *carry)
{
	if (!carry)
		return;
	free(carry->listeners);
	free(carry->servers);
	free(carry);
}

/* --- writing ---------------------------------------------------------------------------------------------------------------- */

static bool remember(void **rows, uint32_t *n, uint32_t wanted, size_t size)
{
	if (wanted <= *n)
		return true;
	void *more = realloc(*rows, wanted * size);
	if (!more)
		return false;
	memset((char *)more + *n * size, 0, (wanted - *n) * size);
	*rows = more;
	*n = wanted;
	return true;
}

static void write_count(FILE *out, const char *kind, const char *name, uint64_t now, uint64_t *said)
{
	if (now == *said)
		return;
	fputs(kind, out);
	word_write(out, name);
	fprintf(out, " %" PRIu64 "\n", now - *said);
	*said = now;
}

static void write_times(FILE *out, const char *name, const struct histogram_sum *now, struct histogram_sum *said)
{
	if (now->count == said->count)
		return;
	fputs("times", out);
	word_write(out, name);
	fprintf(out, " %" PRIu64, now->sum_ns - said->sum_ns);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		if (now->buckets[i] != said->buckets[i])
			fprintf(out, " %" PRIu64 ":%" PRIu64, histogram_lower_ns(i), now->buckets[i] - said->buckets[i]);
	fputc('\n', out);
	*said = *now;
}

static void write_instance(FILE *out, struct carry *carry, const struct shm *shm)
{
	struct instance_sum now = { 0 };
#define X(field, metric, help) now.field = counter_get(&shm->header->field);
	MASTER_COUNTERS(X)
#undef X
	for (uint32_t seat = 0; seat < shm->dims.seats; seat++) {
		if (!shm_seat_ever_used(shm, seat))
			continue;
#define X(field, metric, help) now.field += counter_get(&shm->seats[seat].field);
		WORKER_COUNTERS(X)
#undef X
	}
	fprintf(out, "instance %" PRIu32 "\n", limit_used(shm, limit_global()));
#define X(field, metric, help) write_count(out, "count", metric, now.field, &carry->instance.field);
	MASTER_COUNTERS(X)
	WORKER_COUNTERS(X)
#undef X
}

static void write_listener(FILE *out, struct listener_sum *said, const struct shm *shm, uint32_t row)
{
	struct listener_sum now = { 0 };
	sums_add_listener(shm, row, &now);
	fputs("listener", out);
	word_write(out, shm->listeners[row].name);
	fprintf(out, " %" PRIu32 "\n", limit_used(shm, limit_listener(row)));
#define X(field, metric, help) write_count(out, "count", metric, now.field, &said->field);
	LISTENER_COUNTERS(X)
#undef X
	for (unsigned i = 0; i < N_REASONS; i++)
		write_count(out, "close", reason_name((enum reason)i), now.closes[i], &said->closes[i]);
#define X(field, metric, help) write_times(out, metric, &now.field, &said->field);
	LISTENER_HISTOGRAMS(X)
#undef X
}

static void write_server(FILE *out, struct server_sum *said, const struct shm *shm, uint32_t row)
{
	struct server_sum now = { 0 };
	sums_add_server(shm, row, &now);
	fputs("server", out);
	word_write(out, shm->servers[row].upstream);
	word_write(out, shm->servers[row].name);
	fprintf(out, " %" PRIu32 "\n", limit_used(shm, limit_server(shm, row)));
#define X(field, metric, help) write_count(out, "count", metric, now.field, &said->field);
	SERVER_COUNTERS(X)
#undef X
}

char *carry_write(struct carry *carry, const struct shm *shm, size_t *length)
{
	uint32_t n_listeners = sums_n_listeners(shm), n_servers = sums_n_servers(shm);
	void *listeners = carry->listeners, *servers = carry->servers;
	bool room = remember(&listeners, &carry->n_listeners, n_listeners, sizeof *carry->listeners);
	carry->listeners = listeners;
	room = room && remember(&servers, &carry->n_servers, n_servers, sizeof *carry->servers);
	carry->servers = servers;
	char *text = NULL;
	FILE *out = room ? open_memstream(&text, length) : NULL;
	if (!out)
		return NULL;
	fputs(FIRST_LINE "\n", out);
	write_instance(out, carry, shm);
	for (uint32_t i = 0; i < n_listeners; i++)
		if (shm->listeners[i].name[0])
			write_listener(out, &carry->listeners[i], shm, i);
	for (uint32_t i = 0; i < n_servers; i++)
		if (shm->servers[i].name[0])
			write_server(out, &carry->servers[i], shm, i);
	fputs("end\n", out);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

/* --- reading ---------------------------------------------------------------------------------------------------------------- */

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
		if (first ? strcmp(text, FIRST_LINE) != 0 : !read_line(&reader, text))
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
