/* Rows by name. An index has one bucket per hash, each the head of a list of rows, and behind the buckets the next row of each
 * row; all are 1 + the row, 0 = none. Only the master reads or writes it.
 *
 * A master may be killed at any point and the next one goes on with the segment: a row is counted as used first and entered into
 * the index last, so that what was left half-way is a retired row without a name, to be made anew one day. */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "shm/hash.h"
#include "shm/layout.h"

struct rows {
	uint32_t *buckets, *next;
	uint32_t mask, count;
	uint32_t *cursor;         /* where the search for a retired row goes on */
	_Atomic uint32_t *n_used; /* rows 0..n-1 have been used */
	const char *first_in_use; /* in_use of row 0, and the bytes to that of the next */
	size_t stride;
	uint32_t first_limit;
};

static struct rows all_listeners(struct shm *shm)
{
	struct shm_header *header = shm->header;
	uint32_t buckets = shm_index_buckets(shm->dims.listeners);
	return (struct rows){ .buckets = shm->listener_index,
		.next = shm->listener_index + buckets,
		.mask = buckets - 1,
		.count = shm->dims.listeners,
		.cursor = &header->listener_cursor,
		.n_used = &header->n_listeners,
		.first_in_use = (const char *)&shm->listeners[0].in_use,
		.stride = sizeof(struct shm_listener),
		.first_limit = limit_listener(0) };
}

static struct rows all_servers(struct shm *shm)
{
	struct shm_header *header = shm->header;
	uint32_t buckets = shm_index_buckets(shm->dims.servers);
	return (struct rows){ .buckets = shm->server_index,
		.next = shm->server_index + buckets,
		.mask = buckets - 1,
		.count = shm->dims.servers,
		.cursor = &header->server_cursor,
		.n_used = &header->n_servers,
		.first_in_use = (const char *)&shm->servers[0].in_use,
		.stride = sizeof(struct shm_server),
		.first_limit = limit_server(shm, 0) };
}

static struct rows all_upstreams(struct shm *shm)
{
	struct shm_header *header = shm->header;
	uint32_t buckets = shm_index_buckets(SHM_UPSTREAMS);
	return (struct rows){ .buckets = shm->upstream_index,
		.next = shm->upstream_index + buckets,
		.mask = buckets - 1,
		.count = SHM_UPSTREAMS,
		.cursor = &header->upstream_cursor,
		.n_used = &header->n_upstreams,
		.first_in_use = (const char *)&shm->upstreams[0].in_use,
		.stride = sizeof(struct shm_upstream),
		.first_limit = limit_upstream(shm, 0) };
}

static uint32_t *bucket_of(const struct rows *rows, const char *upstream, const char *name)
{
	uint64_t hash = hash_bytes(HASH_START, upstream, strlen(upstream) + 1);
	hash = hash_bytes(hash, name, strlen(name));
	return &rows->buckets[(hash ^ hash >> 32) & rows->mask];
}

static void enter_row(const struct rows *rows, uint32_t *bucket, uint32_t row)
{
	rows->next[row] = *bucket;
	atomic_signal_fence(memory_order_seq_cst); /* see above: this order is for a successor, not for another thread */
	*bucket = row + 1;
}

/* The next row of a list that the link points to: true and *row, or false at its end. *steps, from 0 on, bounds a damaged list. */
static bool follow(const struct rows *rows, const uint32_t *link, uint32_t *steps, uint32_t *row)
{
	if (*link == 0 || *link > rows->count || (*steps)++ >= rows->count)
		return false;
	*row = *link - 1;
	return true;
}

static void remove_row(const struct rows *rows, uint32_t *bucket, uint32_t row)
{
	uint32_t at, steps = 0;
	for (uint32_t *link = bucket; follow(rows, link, &steps, &at); link = &rows->next[at]) {
		if (at == row) {
			*link = rows->next[row];
			return;
		}
	}
}

/* Out of the settings, and nobody holds anything of it: no worker, draining or not, will write to its counters again. */
static bool row_is_free(const struct shm *shm, const struct rows *rows, uint32_t row)
{
	const _Atomic uint32_t *in_use = (const void *)(rows->first_in_use + row * rows->stride);
	return atomic_load_explicit(in_use, memory_order_relaxed) == 0 &&
	       atomic_load_explicit(&shm_limit(shm, rows->first_limit + row)->used, memory_order_acquire) == 0;
}

/* A row that was never used (from here on it is), or else a free one with *anew. 0 and *out, or -ENOSPC. The search goes on where
 * the last one ended: a reload that replaces all names would otherwise walk over the same rows again and again. */
static int find_row(const struct shm *shm, const struct rows *rows, uint32_t *out, bool *anew)
{
	uint32_t n_used = atomic_load_explicit(rows->n_used, memory_order_relaxed);
	if (n_used < rows->count) {
		atomic_store_explicit(rows->n_used, n_used + 1, memory_order_release);
		*anew = false;
		*out = n_used;
		return 0;
	}
	for (uint32_t tried = 0; tried < rows->count; tried++) {
		uint32_t row = (*rows->cursor)++ % rows->count;
		if (row_is_free(shm, rows, row)) {
			*anew = true;
			*out = row;
			return 0;
		}
	}
	return -ENOSPC;
}

/* Copy a name to where it has size bytes. One that is too long ends in a hash of all of it: no two share a row, and the same one
 * finds its row again. */
static void fit_name(char *out, size_t size, const char *name)
{
	if (text_copy(out, size, name))
		return;
	char tail[18];
	snprintf(tail, sizeof tail, "~%016llx", (unsigned long long)hash_bytes(HASH_START, name, strlen(name)));
	memcpy(out + size - sizeof tail, tail, sizeof tail);
}

static void clear_listener(struct shm *shm, const struct rows *rows, uint32_t row)
{
	struct shm_listener *listener = &shm->listeners[row];
	remove_row(rows, bucket_of(rows, "", listener->name), row);
	memset((void *)listener, 0, sizeof *listener);
	atomic_store_explicit(&shm_limit(shm, limit_listener(row))->max, 0, memory_order_relaxed);
	for (uint32_t seat = 0; seat < shm->dims.seats; seat++)
		if (shm_seat_ever_used(shm, seat))
			memset((void *)shm_listener_row(shm, seat, row), 0, sizeof(struct listener_row));
}

static void clear_server(struct shm *shm, const struct rows *rows, uint32_t row)
{
	struct shm_server *server = &shm->servers[row];
	remove_row(rows, bucket_of(rows, server->upstream, server->name), row);
	memset((void *)server, 0, sizeof *server);
	atomic_store_explicit(&shm_limit(shm, limit_server(shm, row))->max, 0, memory_order_relaxed);
	for (uint32_t seat = 0; seat < shm->dims.seats; seat++)
		if (shm_seat_ever_used(shm, seat))
			memset((void *)shm_server_row(shm, seat, row), 0, sizeof(struct server_row));
}

static bool find_listener(const struct shm *shm, const struct rows *rows, const uint32_t *bucket, const char *name, uint32_t *out)
{
	uint32_t row, steps = 0;
	for (const uint32_t *link = bucket; follow(rows, link, &steps, &row); link = &rows->next[row]) {
		if (strncmp(shm->listeners[row].name, name, SHM_NAME_SIZE) == 0) {
			*out = row;
			return true;
		}
	}
	return false;
}

int shm_claim_listener(struct shm *shm, const char *name, uint32_t *out)
{
	char fitted[SHM_NAME_SIZE];
	fit_name(fitted, sizeof fitted, name);
	const struct rows rows = all_listeners(shm);
	uint32_t *bucket = bucket_of(&rows, "", fitted);
	uint32_t row;
	if (!find_listener(shm, &rows, bucket, fitted, &row)) {
		bool anew;
		int err = find_row(shm, &rows, &row, &anew);
		if (err)
			return err;
		if (anew)
			clear_listener(shm, &rows, row);
		text_copy(shm->listeners[row].name, SHM_NAME_SIZE, fitted);
		enter_row(&rows, bucket, row);
	}
	atomic_store_explicit(&shm->listeners[row].in_use, 1, memory_order_release);
	*out = row;
	return 0;
}

static bool find_server(
        const struct shm *shm, const struct rows *rows, const uint32_t *bucket, const char *upstream, const char *name, uint32_t *out)
{
	uint32_t row, steps = 0;
	for (const uint32_t *link = bucket; follow(rows, link, &steps, &row); link = &rows->next[row]) {
		const struct shm_server *server = &shm->servers[row];
		if (strncmp(server->name, name, SHM_ADDRESS_SIZE) == 0 && strncmp(server->upstream, upstream, SHM_NAME_SIZE) == 0) {
			*out = row;
			return true;
		}
	}
	return false;
}

int shm_claim_server(struct shm *shm, const char *upstream, const char *name, uint32_t *out)
{
	char fitted_upstream[SHM_NAME_SIZE], fitted[SHM_ADDRESS_SIZE];
	fit_name(fitted_upstream, sizeof fitted_upstream, upstream);
	fit_name(fitted, sizeof fitted, name);
	const struct rows rows = all_servers(shm);
	uint32_t *bucket = bucket_of(&rows, fitted_upstream, fitted);
	uint32_t row;
	if (!find_server(shm, &rows, bucket, fitted_upstream, fitted, &row)) {
		bool anew;
		int err = find_row(shm, &rows, &row, &anew);
		if (err)
			return err;
		if (anew)
			clear_server(shm, &rows, row);
		text_copy(shm->servers[row].upstream, SHM_NAME_SIZE, fitted_upstream);
		text_copy(shm->servers[row].name, SHM_ADDRESS_SIZE, fitted);
		enter_row(&rows, bucket, row);
	}
	atomic_store_explicit(&shm->servers[row].in_use, 1, memory_order_release);
	*out = row;
	return 0;
}

static void clear_upstream(struct shm *shm, const struct rows *rows, uint32_t row)
{
	struct shm_upstream *upstream = &shm->upstreams[row];
	remove_row(rows, bucket_of(rows, "", upstream->name), row);
	memset((void *)upstream, 0, sizeof *upstream);
	memset((void *)shm_line_head(shm, row, 0), 0, shm->dims.seats * sizeof(struct line_head));
	atomic_store_explicit(&shm_limit(shm, limit_upstream(shm, row))->max, 0, memory_order_relaxed);
}

bool shm_find_listener(struct shm *shm, const char *name, uint32_t *out)
{
	char fitted[SHM_NAME_SIZE];
	fit_name(fitted, sizeof fitted, name);
	const struct rows rows = all_listeners(shm);
	return find_listener(shm, &rows, bucket_of(&rows, "", fitted), fitted, out);
}

bool shm_find_server(struct shm *shm, const char *upstream, const char *name, uint32_t *out)
{
	char fitted_upstream[SHM_NAME_SIZE], fitted[SHM_ADDRESS_SIZE];
	fit_name(fitted_upstream, sizeof fitted_upstream, upstream);
	fit_name(fitted, sizeof fitted, name);
	const struct rows rows = all_servers(shm);
	return find_server(shm, &rows, bucket_of(&rows, fitted_upstream, fitted), fitted_upstream, fitted, out);
}

static bool find_upstream(const struct shm *shm, const struct rows *rows, const uint32_t *bucket, const char *name, uint32_t *out)
{
	uint32_t row, steps = 0;
	for (const uint32_t *link = bucket; follow(rows, link, &steps, &row); link = &rows->next[row]) {
		if (strncmp(shm->upstreams[row].name, name, SHM_NAME_SIZE) == 0) {
			*out = row;
			return true;
		}
	}
	return false;
}

int shm_claim_upstream(struct shm *shm, const char *name, uint32_t *out)
{
	char fitted[SHM_NAME_SIZE];
	fit_name(fitted, sizeof fitted, name);
	const struct rows rows = all_upstreams(shm);
	uint32_t *bucket = bucket_of(&rows, "", fitted);
	uint32_t row;
	if (!find_upstream(shm, &rows, bucket, fitted, &row)) {
		bool anew;
		int err = find_row(shm, &rows, &row, &anew);
		if (err)
			return err;
		if (anew)
			clear_upstream(shm, &rows, row);
		text_copy(shm->upstreams[row].name, SHM_NAME_SIZE, fitted);
		enter_row(&rows, bucket, row);
	}
	atomic_store_explicit(&shm->upstreams[row].in_use, 1, memory_order_release);
	*out = row;
	return 0;
}
