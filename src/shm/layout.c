#include "shm/layout.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "shm/hash.h"
#include "shm/log_records.h"

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

/* --- the hash of the layout --------------------------------------------------------------------------------------------- */

struct hashed {
	const char *name;
	uint64_t offset, size;
};

/* clang-format off */
#define STRUCT(type) { #type, _Alignof(struct type), sizeof(struct type) },
#define FIELD(type, field) { #type "." #field, offsetof(struct type, field), sizeof(((struct type *)0)->field) },
#define MARK(name, value, more) { name, value, more },

static const struct hashed hashed_rows[] = {
	STRUCT(limit)
	FIELD(limit, used)
	FIELD(limit, max)

	STRUCT(shm_header)
	FIELD(shm_header, limits_offset)
	FIELD(shm_header, listeners_offset)
	FIELD(shm_header, servers_offset)
	FIELD(shm_header, seats_offset)
	FIELD(shm_header, ledgers_offset)
	FIELD(shm_header, listener_rows_offset)
	FIELD(shm_header, server_rows_offset)
	FIELD(shm_header, listener_index_offset)
	FIELD(shm_header, server_index_offset)
	FIELD(shm_header, upstreams_offset)
	FIELD(shm_header, upstream_index_offset)
	FIELD(shm_header, rates_offset)
	FIELD(shm_header, affinities_offset)
	FIELD(shm_header, boot_id)
	FIELD(shm_header, line_heads_offset)
	FIELD(shm_header, recorder_heads_offset)
	FIELD(shm_header, recorder_rings_offset)
	FIELD(shm_header, roll_boxes_offset)
	FIELD(shm_header, roll_rows_offset)
	FIELD(shm_header, logs_offset)
	FIELD(shm_header, certificates_offset)
	FIELD(shm_header, state)
	FIELD(shm_header, master_pid)
	FIELD(shm_header, heir_pid)
	FIELD(shm_header, started_ns)
	FIELD(shm_header, started_unix_s)
	FIELD(shm_header, generation)
	FIELD(shm_header, workers)
	FIELD(shm_header, n_listeners)
	FIELD(shm_header, n_servers)
	FIELD(shm_header, n_upstreams)
	FIELD(shm_header, n_certificates)
	FIELD(shm_header, last_reload_unix_s)
	FIELD(shm_header, last_reload_ok)
	FIELD(shm_header, reloads_begun)
	FIELD(shm_header, reloads_ended)
	FIELD(shm_header, last_reload_sequence)
	FIELD(shm_header, last_reload_note)
	FIELD(shm_header, upgrades_begun)
	FIELD(shm_header, upgrades_ended)
	FIELD(shm_header, last_upgrade_ok)
	FIELD(shm_header, last_upgrade_note)
	FIELD(shm_header, engine)
	FIELD(shm_header, config_file)
#define X(field, metric, help) FIELD(shm_header, field)
	MASTER_COUNTERS(X)
#undef X
	FIELD(shm_header, log_asleep)
	FIELD(shm_header, log_told)

	STRUCT(shm_listener)
	FIELD(shm_listener, name)
	FIELD(shm_listener, address)
	FIELD(shm_listener, upstream)
	FIELD(shm_listener, in_use)
	FIELD(shm_listener, is_udp)
	FIELD(shm_listener, rate)
	FIELD(shm_listener, up)
	FIELD(shm_listener, down)
	FIELD(shm_listener, queue_drops)

	STRUCT(shm_certificate)
	FIELD(shm_certificate, not_before)
	FIELD(shm_certificate, not_after)
	FIELD(shm_certificate, listener)
	FIELD(shm_certificate, name)
	MARK("certificates", SHM_CERTIFICATES, 0)

	STRUCT(shm_upstream)
	FIELD(shm_upstream, name)
	FIELD(shm_upstream, in_use)
	FIELD(shm_upstream, is_checked)
	FIELD(shm_upstream, breaker_threshold)
	FIELD(shm_upstream, breaker_probes)
	FIELD(shm_upstream, outlier_failures)
	FIELD(shm_upstream, breaker_timeout_ns)
	FIELD(shm_upstream, slow_start_ns)
	FIELD(shm_upstream, epoch)
	FIELD(shm_upstream, connect_rate)
	FIELD(shm_upstream, tickets)
	FIELD(shm_upstream, line_seats)
	FIELD(shm_upstream, hot_wanted)
	MARK("slots", SHM_SLOTS, 0)
	MARK("upstreams", SHM_UPSTREAMS, 0)
	MARK("rates", SHM_RATE_CELLS, RATE_TABLE_WAYS)
	MARK("affinities", SHM_AFFINITY_ENTRIES, AFFINITY_WAYS)
	STRUCT(line_head)
	FIELD(line_head, ticket)
	FIELD(line_head, looked_ns)
	STRUCT(recorder_head)
	FIELD(recorder_head, head)
	FIELD(recorder_head, size)
	STRUCT(record)
	FIELD(record, time_ns)
	FIELD(record, sequence)
	FIELD(record, serial)
	FIELD(record, kind)
	FIELD(record, detail)
	FIELD(record, row)
	FIELD(record, number)
	FIELD(record, closed)
	FIELD(record, choice)
	FIELD(record, dial)
	STRUCT(roll_box)
	FIELD(roll_box, asked)
	FIELD(roll_box, series)
	FIELD(roll_box, answered)
	STRUCT(roll_row)
	FIELD(roll_row, client)
	FIELD(roll_row, tls)
	FIELD(roll_row, ciphers)
	FIELD(roll_row, accepted_ns)
	FIELD(roll_row, up_bytes)
	FIELD(roll_row, up_datagrams)
	FIELD(roll_row, is_udp)
	MARK("recorders", RECORDER_BYTES_MOST, ROLL_ROWS)
	STRUCT(rate)
	FIELD(rate, tat)
	STRUCT(cell)
	STRUCT(rate_table_shared)
	STRUCT(affinity_shared)
	STRUCT(affinity_bucket)

	STRUCT(shm_server)
	FIELD(shm_server, upstream)
	FIELD(shm_server, name)
	FIELD(shm_server, address)
	FIELD(shm_server, in_use)
	FIELD(shm_server, weight)
	FIELD(shm_server, flags)
	FIELD(shm_server, soft_limit)
	FIELD(shm_server, boxed)
	FIELD(shm_server, addresses)
	FIELD(shm_server, condition)
	STRUCT(addresses)
	FIELD(addresses, sequence)
	FIELD(addresses, n)
	FIELD(addresses, words)
	STRUCT(condition)
	FIELD(condition, breaker)
	FIELD(condition, ejection)
	FIELD(condition, recovered_ns)
	FIELD(condition, override)
	FIELD(condition, health)
	FIELD(breaker, round)
	FIELD(breaker, since_ns)
	FIELD(breaker, trips)
	FIELD(ejection, word)
	FIELD(ejection, failures)
	FIELD(ejection, count)
	FIELD(health, verdict)
	FIELD(health, last)
	FIELD(health, checked_ns)
	FIELD(health, changed_ns)
	FIELD(health, passed)
	FIELD(health, failed)
	MARK("backup", SHM_SERVER_BACKUP, 0)
	MARK("disabled", SHM_SERVER_DISABLED, 0)

	STRUCT(shm_seat)
	FIELD(shm_seat, state)
	FIELD(shm_seat, pid)
	FIELD(shm_seat, pid_start_ticks)
	FIELD(shm_seat, slot)
	FIELD(shm_seat, generation)
	FIELD(shm_seat, cpu)
	FIELD(shm_seat, is_elder)
	FIELD(shm_seat, sessions)
	FIELD(shm_seat, udp_sessions)
	FIELD(shm_seat, started_ns)
	FIELD(shm_seat, base_accepts)
	FIELD(shm_seat, engine)
	FIELD(shm_seat, loop_lag_ns)
	FIELD(shm_seat, beat_ns)
	FIELD(shm_seat, ledger_sequence)
#define X(field, metric, help) FIELD(shm_seat, field)
	WORKER_COUNTERS(X)
#undef X

	STRUCT(listener_row)
#define X(field, metric, help) FIELD(listener_row, field)
	LISTENER_COUNTERS(X)
	LISTENER_HISTOGRAMS(X)
#undef X
	FIELD(listener_row, closes)

	STRUCT(server_row)
#define X(field, metric, help) FIELD(server_row, field)
	SERVER_COUNTERS(X)
	SERVER_GAUGES(X)
#undef X

	STRUCT(log_ring)
	FIELD(log_ring, head)
	FIELD(log_ring, capacity)
	FIELD(log_ring, tail)
	MARK("log_ring.bytes", offsetof(struct log_ring, bytes), 0)
	MARK("logs", LOG_RING_ERROR_MOST, LOG_RING_ACCESS_MOST)
	STRUCT(line_record)
	FIELD(line_record, unix_ns)
	FIELD(line_record, pid)
	FIELD(line_record, slot)
	FIELD(line_record, level)
	STRUCT(access_record)
	FIELD(access_record, at_ns)
	FIELD(access_record, duration_ns)
	FIELD(access_record, connect_ns)
	FIELD(access_record, first_byte_ns)
	FIELD(access_record, received_bytes)
	FIELD(access_record, sent_bytes)
	FIELD(access_record, received_datagrams)
	FIELD(access_record, sent_datagrams)
	FIELD(access_record, serial)
	FIELD(access_record, waited_ms)
	FIELD(access_record, listener)
	FIELD(access_record, upstream)
	FIELD(access_record, server)
	FIELD(access_record, phase)
	FIELD(access_record, reason)
	FIELD(access_record, client)
	FIELD(access_record, server_first)
	FIELD(access_record, is_udp)
#define X(id, name) MARK(name, ACCESS_##id, 0)
	ACCESS_PHASES(X)
#undef X

	MARK("histogram", HISTOGRAM_MIN_SHIFT, HISTOGRAM_OCTAVES)
#define X(id, name, class, text) MARK(name, REASON_##id, 0)
	REASONS(X)
#undef X
#define X(id, name) MARK(name, RECORD_##id, 0)
	RECORD_KINDS(X)
#undef X
#define X(id, name) MARK(name, STEP_##id, 0)
	SESSION_STEPS(X)
#undef X
#define X(id, name) MARK(name, INSTANCE_##id, 0)
	INSTANCE_STATES(X)
#undef X
#define X(id, name) MARK(name, SEAT_##id, 0)
	SEAT_STATES(X)
#undef X
#define X(id, name) MARK(name, HEALTH_##id, 0)
	HEALTH_STATES(X)
#undef X
#define X(id, effect, text) MARK(text, HEALTH_RESULT_##id, 0)
	HEALTH_RESULTS(X)
#undef X
#define X(id, name) MARK(name, BREAKER_##id, 0)
	BREAKER_STATES(X)
#undef X
#define X(id, name) MARK(name, OVERRIDE_##id, 0)
	OVERRIDES(X)
#undef X
};
/* clang-format on */

uint64_t shm_layout_hash(void)
{
	const uint32_t start[] = { SHM_LAYOUT_VERSION, 0x01020304 }; /* the byte order, too */
	uint64_t hash = hash_bytes(HASH_START, start, sizeof start);
	for (size_t i = 0; i < ARRAY_LEN(hashed_rows); i++) {
		const struct hashed *row = &hashed_rows[i];
		hash = hash_bytes(hash, row->name, strlen(row->name) + 1);
		hash = hash_bytes(hash, &row->offset, sizeof row->offset);
		hash = hash_bytes(hash, &row->size, sizeof row->size);
	}
	return hash;
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
	          place(&end, seats * ROLL_ROWS, sizeof(struct roll_row), &out->roll_rows) &&
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
