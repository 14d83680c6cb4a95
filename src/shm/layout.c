#include "shm/layout.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"

static const char magic[8] = "AEGIS";

static_assert(sizeof(struct limit) == CACHE_LINE_BYTES, "limits share no cache line");
static_assert(sizeof(struct server_row) % CACHE_LINE_BYTES == 0 && sizeof(struct listener_row) % CACHE_LINE_BYTES == 0, "nor do rows");
static_assert(sizeof(struct shm_certificate) % CACHE_LINE_BYTES == 0, "nor do certificates");
static_assert(sizeof(struct shm_seat) % CACHE_LINE_BYTES == 0, "nor do seats");
static_assert(offsetof(struct shm_seat, base_accepts) < CACHE_LINE_BYTES &&
                      offsetof(struct shm_seat, ledger_sequence) == CACHE_LINE_BYTES &&
                      offsetof(struct shm_seat, sessions) > CACHE_LINE_BYTES && offsetof(struct shm_seat, accepts) > CACHE_LINE_BYTES,
        "nor does what a worker writes for each connection with what the master writes");
static_assert(sizeof(struct shm_header) % CACHE_LINE_BYTES == 0 && sizeof(struct shm_listener) % CACHE_LINE_BYTES == 0 &&
                      sizeof(struct shm_server) % CACHE_LINE_BYTES == 0 && sizeof(struct shm_upstream) % CACHE_LINE_BYTES == 0,
        "nor does what the master writes with what stands behind it");
static_assert(offsetof(struct shm_header, layout_hash) == 8 && offsetof(struct shm_header, size_bytes) == 16 &&
                      offsetof(struct shm_header, dims) == 24 && offsetof(struct shm_header, version) == 36,
        "every version of Aegis reads these to tell the others apart");
static_assert(sizeof(struct roll_row) % CACHE_LINE_BYTES == 0 && sizeof(struct roll_box) == 2 * CACHE_LINE_BYTES &&
                      sizeof(struct recorder_head) == CACHE_LINE_BYTES,
        "nor do the boxes and rings of seats");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "processes cannot share a lock of the compiler's");

const char *instance_state_name(enum instance_state state)
{
	static const char *const names[] = {
#define X(id, name) [INSTANCE_##id] = name,
		INSTANCE_STATES(X)
#undef X
	};
	return state < ARRAY_LEN(names) ? names[state] : "unknown";
}

const char *seat_state_name(enum seat_state state)
{
	static const char *const names[] = {
#define X(id, name) [SEAT_##id] = name,
		SEAT_STATES(X)
#undef X
	};
	return state < ARRAY_LEN(names) ? names[state] : "unknown";
}

/* --- where everything is ------------------------------------------------------------------------------------------------ */

struct places {
	uint64_t limits, listeners, servers, seats, ledgers, listener_rows, server_rows, listener_index, server_index;
	uint64_t upstreams, upstream_index, rates, affinities, line_heads;
	uint64_t recorder_heads, recorder_rings, roll_boxes, roll_rows, logs, certificates;
	uint64_t size;
};

/* The next array: count times size bytes from *end on, a whole number of cache lines. False when it cannot be addressed. */
static bool place(uint64_t *end, uint64_t count, uint64_t size, uint64_t *out)
{
	uint64_t bytes, next;
	if (__builtin_mul_overflow(count, size, &bytes) || __builtin_add_overflow(bytes, *end + CACHE_LINE_BYTES - 1, &next) ||
	        next > INT64_MAX)
		return false;
	*out = *end;
	*end = next / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
	return true;
}

/* What comes next is used by whole pages: it begins with one. */
static bool to_page(uint64_t *end)
{
	uint64_t next;
	if (__builtin_add_overflow(*end, SHM_PAGE_BYTES - 1, &next))
		return false;
	*end = next / SHM_PAGE_BYTES * SHM_PAGE_BYTES;
	return true;
}

static bool find_places(const struct shm_dims *dims, struct places *out)
{
	if (dims->listeners > INT32_MAX / 2 || dims->servers > INT32_MAX / 2)
		return false; /* a limit has a 32-bit index, a row too */
	const struct shm shm = { .dims = *dims };
	uint64_t listeners = dims->listeners, servers = dims->servers, seats = dims->seats;
	uint64_t rows, end = sizeof(struct shm_header);
	bool ok = place(&end, shm_n_limits(&shm), sizeof(struct limit), &out->limits) &&
	          place(&end, listeners, sizeof(struct shm_listener), &out->listeners) &&
	          place(&end, servers, sizeof(struct shm_server), &out->servers) &&
	          place(&end, shm_index_length(dims->listeners), sizeof(uint32_t), &out->listener_index) &&
	          place(&end, SHM_UPSTREAMS, sizeof(struct shm_upstream), &out->upstreams) &&
	          place(&end, shm_index_length(SHM_UPSTREAMS), sizeof(uint32_t), &out->upstream_index) &&
	          place(&end, rate_table_bytes(SHM_RATE_CELLS), 1, &out->rates) &&
	          place(&end, affinity_bytes(SHM_AFFINITY_ENTRIES), 1, &out->affinities) &&
	          place(&end, SHM_UPSTREAMS * seats, sizeof(struct line_head), &out->line_heads) &&
	          place(&end, shm_index_length(dims->servers), sizeof(uint32_t), &out->server_index) &&
	          place(&end, seats, sizeof(struct shm_seat), &out->seats) &&
	          !__builtin_mul_overflow(seats, (uint64_t)shm_ledger_stride(&shm), &rows) &&
	          place(&end, rows, sizeof(uint32_t), &out->ledgers) && !__builtin_mul_overflow(seats, listeners, &rows) &&
	          place(&end, rows, sizeof(struct listener_row), &out->listener_rows) && !__builtin_mul_overflow(seats, servers, &rows) &&
	          place(&end, rows, sizeof(struct server_row), &out->server_rows) &&
	          place(&end, seats, sizeof(struct recorder_head), &out->recorder_heads) &&
	          place(&end, seats, sizeof(struct roll_box), &out->roll_boxes) &&
	          place(&end, seats * ROLL_ROWS, sizeof(struct roll_row), &out->roll_rows) && to_page(&end) &&
	          place(&end, seats, RECORDER_BYTES_MOST, &out->recorder_rings) && place(&end, seats, SHM_LOG_BYTES, &out->logs) &&
	          place(&end, SHM_CERTIFICATES, sizeof(struct shm_certificate), &out->certificates);
	out->size = end;
	return ok;
}

uint64_t shm_size_bytes(const struct shm_dims *dims)
{
	struct places places;
	return find_places(dims, &places) ? places.size : 0;
}

static void point(struct shm *shm, void *base, const struct places *places, const struct shm_dims *dims)
{
	char *start = base;
	*shm = (struct shm){
		.dims = *dims,
		.header = base,
		.limits = (void *)(start + places->limits),
		.listeners = (void *)(start + places->listeners),
		.servers = (void *)(start + places->servers),
		.seats = (void *)(start + places->seats),
		.ledgers = (void *)(start + places->ledgers),
		.listener_rows = (void *)(start + places->listener_rows),
		.server_rows = (void *)(start + places->server_rows),
		.listener_index = (void *)(start + places->listener_index),
		.server_index = (void *)(start + places->server_index),
		.upstreams = (void *)(start + places->upstreams),
		.upstream_index = (void *)(start + places->upstream_index),
		.line_heads = (void *)(start + places->line_heads),
		.recorder_heads = (void *)(start + places->recorder_heads),
		.recorder_rings = start + places->recorder_rings,
		.roll_boxes = (void *)(start + places->roll_boxes),
		.roll_rows = (void *)(start + places->roll_rows),
		.logs = start + places->logs,
		.certificates = (void *)(start + places->certificates),
	};
	rate_table_open(&shm->rates, start + places->rates, SHM_RATE_CELLS);
	affinity_open(&shm->affinities, start + places->affinities, SHM_AFFINITY_ENTRIES);
}

void shm_init(struct shm *shm, void *base, const struct shm_dims *dims)
{
	struct places places;
	ensure(find_places(dims, &places));
	point(shm, base, &places, dims);
	struct shm_header *header = shm->header;
	header->layout_hash = shm_layout_hash();
	header->size_bytes = places.size;
	header->dims = *dims;
	text_copy(header->version, sizeof header->version, PACKAGE_VERSION);
	header->limits_offset = places.limits;
	header->listeners_offset = places.listeners;
	header->servers_offset = places.servers;
	header->seats_offset = places.seats;
	header->ledgers_offset = places.ledgers;
	header->listener_rows_offset = places.listener_rows;
	header->server_rows_offset = places.server_rows;
	header->listener_index_offset = places.listener_index;
	header->server_index_offset = places.server_index;
	header->upstreams_offset = places.upstreams;
	header->upstream_index_offset = places.upstream_index;
	header->rates_offset = places.rates;
	header->affinities_offset = places.affinities;
	header->line_heads_offset = places.line_heads;
	header->recorder_heads_offset = places.recorder_heads;
	header->recorder_rings_offset = places.recorder_rings;
	header->roll_boxes_offset = places.roll_boxes;
	header->roll_rows_offset = places.roll_rows;
	header->logs_offset = places.logs;
	header->certificates_offset = places.certificates;
	atomic_thread_fence(memory_order_release);
	memcpy(header->magic, magic, sizeof magic);
}

/* Write what is wrong with a segment of another layout. Its version may be anything, so that only plain characters are shown. */
static void explain_other_layout(const struct shm_header *header, char *why, size_t why_size)
{
	char version[SHM_VERSION_SIZE];
	size_t length = 0;
	while (length < sizeof version - 1 && header->version[length]) {
		char c = header->version[length];
		version[length++] = c > ' ' && c <= '~' ? c : '?';
	}
	version[length] = '\0';
	if (strcmp(version, PACKAGE_VERSION) == 0)
		snprintf(why, why_size, "was written by another build of Aegis %s: use the aegis-stat of that build or restart Aegis",
		        version);
	else
		snprintf(why, why_size,
		        "was written by Aegis %s, this is " PACKAGE_VERSION ": use the aegis-stat of that version or restart Aegis",
		        version);
}

static bool same_places(const struct shm_header *header, const struct places *places)
{
	return header->limits_offset == places->limits && header->listeners_offset == places->listeners &&
	       header->servers_offset == places->servers && header->seats_offset == places->seats &&
	       header->ledgers_offset == places->ledgers && header->listener_rows_offset == places->listener_rows &&
	       header->server_rows_offset == places->server_rows && header->listener_index_offset == places->listener_index &&
	       header->server_index_offset == places->server_index && header->upstreams_offset == places->upstreams &&
	       header->upstream_index_offset == places->upstream_index && header->rates_offset == places->rates &&
	       header->affinities_offset == places->affinities && header->line_heads_offset == places->line_heads &&
	       header->recorder_heads_offset == places->recorder_heads && header->recorder_rings_offset == places->recorder_rings &&
	       header->roll_boxes_offset == places->roll_boxes && header->roll_rows_offset == places->roll_rows &&
	       header->logs_offset == places->logs && header->certificates_offset == places->certificates;
}

int shm_attach(struct shm *shm, void *base, uint64_t size_bytes, char *why, size_t why_size)
{
	const struct shm_header *header = base;
	if (size_bytes < offsetof(struct shm_header, version) + sizeof header->version || memcmp(header->magic, magic, sizeof magic) != 0) {
		snprintf(why, why_size, "is not a statistics segment of Aegis, or not a finished one");
		return -EINVAL;
	}
	atomic_thread_fence(memory_order_acquire);
	if (header->layout_hash != shm_layout_hash()) {
		explain_other_layout(header, why, why_size);
		return -EINVAL;
	}
	if (size_bytes < sizeof *header || header->size_bytes > size_bytes) {
		snprintf(why, why_size, "is cut short: it has %llu of %llu bytes; restart Aegis", (unsigned long long)size_bytes,
		        (unsigned long long)header->size_bytes);
		return -EINVAL;
	}
	const struct shm_dims dims = header->dims;
	struct places places;
	if (!find_places(&dims, &places) || places.size != header->size_bytes || places.size > size_bytes ||
	        !same_places(header, &places)) {
		snprintf(why, why_size, "is damaged: its size and places do not belong together; restart Aegis");
		return -EINVAL;
	}
	point(shm, base, &places, &dims);
	return 0;
}

bool shm_seat_is_elder(const struct shm *shm, uint32_t seat)
{
	const struct shm_seat *row = &shm->seats[seat];
	return atomic_load_explicit(&row->is_elder, memory_order_relaxed) == 1 &&
	       atomic_load_explicit(&row->state, memory_order_relaxed) == SEAT_DRAINING;
}

bool shm_seat_ever_used(const struct shm *shm, uint32_t seat)
{
	const struct shm_seat *row = &shm->seats[seat];
	return atomic_load_explicit(&row->started_ns, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&row->state, memory_order_relaxed) != SEAT_FREE;
}

bool shm_is_of_this_boot(const struct shm_header *header, const char *boot_id, uint64_t now_ns)
{
	if (atomic_load_explicit(&header->started_ns, memory_order_relaxed) > now_ns)
		return false;
	return header->boot_id[0] == '\0' || boot_id[0] == '\0' || strncmp(header->boot_id, boot_id, sizeof header->boot_id) == 0;
}
