/* Counters as text: what the old master says. */
#include <inttypes.h>
#include <string.h>

#include "base/word.h"
#include "shm/carry.h"
#include "shm/limit.h"
#include "shm/sums.h"

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
	fputs(CARRY_FIRST_LINE "\n", out);
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
