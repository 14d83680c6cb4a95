/* The shared segment: the one place where the processes of Aegis meet, and what aegis-stat reads.
 *
 * A file (DIR/stats) that all processes map. It is sized for the most there can be; pages that nobody touched cost nothing,
 * so readers look at rows in use only. Rows are found by stable names and addressed by index: a listener or a server keeps
 * its row, and with it its counters, over reloads and worker crashes.
 *
 * Writers: `master` rows are written by the master, `worker` ones by the worker that holds the seat; what has several
 *          writers is atomic and says so. Nothing here is a pointer.
 *
 * A seat is the place of one worker process, of whatever generation: while an old generation drains, old and new workers
 * sit side by side. Counters belong to the seat and are never reset, so that sums over all seats never go backwards.
 */
#ifndef AEGIS_SHM_LAYOUT_H
#define AEGIS_SHM_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "shm/addresses.h"
#include "shm/affinity.h"
#include "shm/condition.h"
#include "shm/counters.h"
#include "shm/histogram.h"
#include "shm/log_ring.h"
#include "shm/rate_table.h"
#include "shm/reasons.h"
#include "shm/recorder.h"
#include "shm/roll.h"

enum { SHM_NAME_SIZE = 64, SHM_ADDRESS_SIZE = 136, SHM_VERSION_SIZE = 32, SHM_NOTE_SIZE = 160, SHM_BOOT_ID_SIZE = 40 };

/* Part of the layout hash: raised when the meaning of a field changes without its name, place or size. (A test of upgrades builds a
 * program with another one.) */
#ifndef SHM_LAYOUT_VERSION
#define SHM_LAYOUT_VERSION 1
#endif

#define INSTANCE_STATES(X)        \
	X(STARTING, "starting")   \
	X(RUNNING, "running")     \
	X(RELOADING, "reloading") \
	X(DRAINING, "draining")   \
	X(DRAINED, "drained")     \
	X(STOPPING, "stopping")

#define SEAT_STATES(X)          \
	X(FREE, "free")         \
	X(STARTING, "starting") \
	X(RUNNING, "running")   \
	X(DRAINING, "draining")

enum instance_state {
#define X(id, name) INSTANCE_##id,
	INSTANCE_STATES(X)
#undef X
};
const char *instance_state_name(enum instance_state state);

enum seat_state {
#define X(id, name) SEAT_##id,
	SEAT_STATES(X)
#undef X
};
const char *seat_state_name(enum seat_state state);

/* The same in every segment. */
enum { SHM_SLOTS = 256, SHM_UPSTREAMS = 1024, SHM_RATE_CELLS = 65536, SHM_AFFINITY_ENTRIES = 65536, SHM_CERTIFICATES = 4096 };

/* How many of each there is room for; fixed when the segment is made. */
struct shm_dims {
	uint32_t seats;
	uint32_t listeners;
	uint32_t servers;
};

/* A count with a limit that holds over all workers; see limit.h for how it is kept exact. */
struct limit {
	_Alignas(CACHE_LINE_BYTES) _Atomic uint32_t used; /* writers: every worker */
	_Atomic uint32_t max;                             /* master; 0 = no limit */
};

struct shm_header {
	/* What stands before the offsets keeps its place for good, so that every version can name the other one. */
	char magic[8]; /* "AEGIS\0\0\0"; written last */
	uint64_t layout_hash;
	uint64_t size_bytes;
	struct shm_dims dims;
	char version[SHM_VERSION_SIZE]; /* of the master that made it */
	/* offsets of the arrays, in bytes from the start */
	uint64_t limits_offset, listeners_offset, servers_offset, seats_offset, ledgers_offset, listener_rows_offset, server_rows_offset;
	uint64_t listener_index_offset, server_index_offset, upstreams_offset, upstream_index_offset, rates_offset, affinities_offset;
	char boot_id[SHM_BOOT_ID_SIZE]; /* in which its times were taken; "" = unknown */
	uint64_t line_heads_offset, recorder_heads_offset, recorder_rings_offset, roll_boxes_offset, roll_rows_offset, logs_offset,
	        certificates_offset;

	/* master */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint32_t state; /* enum instance_state */
	_Atomic int32_t master_pid;
	_Atomic int32_t heir_pid;        /* of the one that takes its place just now; 0 = none. One of the two goes on with the sockets */
	_Atomic uint64_t started_ns;     /* CLOCK_MONOTONIC */
	_Atomic uint64_t started_unix_s; /* wall clock */
	_Atomic uint32_t generation;     /* the running one; the first is 1 */
	_Atomic uint32_t workers;        /* of the running generation */
	_Atomic uint32_t n_listeners;    /* rows ever used: 0..n-1, in use or retired */
	_Atomic uint32_t n_servers;
	_Atomic uint32_t n_upstreams;
	_Atomic uint32_t n_certificates;
	uint32_t listener_cursor, server_cursor, upstream_cursor; /* where the search for a retired row goes on */
	_Atomic uint64_t last_reload_unix_s;                      /* 0 = never */
	_Atomic uint32_t last_reload_ok;
	_Atomic uint32_t reloads_begun; /* and reloads_ended: the number of the one that ended last */
	_Atomic uint32_t reloads_ended;
	_Atomic uint32_t last_reload_sequence; /* odd while the note is being written */
	char last_reload_note[SHM_NOTE_SIZE];
	_Atomic uint32_t upgrades_begun, upgrades_ended; /* as with reloads */
	_Atomic uint32_t last_upgrade_ok;
	char last_upgrade_note[SHM_NOTE_SIZE];
	char engine[16];
	char config_file[256];
#define X(field, metric, help) counter_t field;
	MASTER_COUNTERS(X)
#undef X

	/* control; log_asleep: it sleeps until the bell of the logs rings. Who rings sets it back. */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint32_t log_asleep;
	_Atomic uint64_t log_told[N_LOG_KINDS]; /* drops that the log speaks of */
};

enum { SHM_PAGE_BYTES = 4096 };

/* The log rings of a seat, a number of pages. */
enum {
	SHM_LOG_ERROR_BYTES = sizeof(struct log_ring) + LOG_RING_ERROR_MOST,
	SHM_LOG_ACCESS_BYTES = sizeof(struct log_ring) + LOG_RING_ACCESS_MOST
};
enum { SHM_LOG_BYTES = (SHM_LOG_ERROR_BYTES + SHM_LOG_ACCESS_BYTES + SHM_PAGE_BYTES - 1) / SHM_PAGE_BYTES * SHM_PAGE_BYTES };

/* writer: master */
struct shm_listener {
	_Alignas(CACHE_LINE_BYTES) char name[SHM_NAME_SIZE]; /* "" = never used */
	char address[SHM_ADDRESS_SIZE];                      /* as bound */
	char upstream[SHM_NAME_SIZE];
	_Atomic uint32_t in_use; /* 0 = retired: gone from the settings, the counters stay */
	_Atomic uint32_t is_udp; /* it takes datagrams */
	/* writers: all workers */
	_Alignas(CACHE_LINE_BYTES) struct rate rate; /* of new connections */
	struct rate up, down;                        /* of bytes */
	_Atomic uint32_t queue_drops[SHM_SLOTS];     /* UDP, by socket: drops in the kernel's queue that are counted somewhere */
};

/* A certificate that a listener shows: nothing secret. writer: master */
struct shm_certificate {
	_Atomic int64_t not_before, not_after; /* seconds since 1970 */
	_Atomic uint32_t listener;             /* row */
	uint32_t unused;
	char name[104]; /* its first name, perhaps cut; unique in the listener */
};

struct shm_upstream {
	/* writer: master */
	_Alignas(CACHE_LINE_BYTES) char name[SHM_NAME_SIZE]; /* "" = never used */
	_Atomic uint32_t in_use;
	/* of the settings, for who wants to tell the condition of its servers without knowing them: see struct condition_rules */
	_Atomic uint32_t is_checked, breaker_threshold, breaker_probes, outlier_failures;
	_Atomic uint64_t breaker_timeout_ns, slow_start_ns;
	/* writers: all processes */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t epoch; /* moves when the condition of a server changes: see condition.h */
	/* writers: all workers */
	_Alignas(CACHE_LINE_BYTES) struct rate connect_rate; /* of new connections to its servers */
	_Atomic uint64_t tickets;                            /* the last one given to who waits in its line */
	_Atomic uint32_t line_seats;                         /* beyond these nobody ever waited */
	_Atomic uint32_t hot_wanted;                         /* who waits asks for the place of a hot connection */
};

/* Who is first of those that wait with the worker of a seat for a server of an upstream; see line.h. Writer: that worker. */
struct line_head {
	_Atomic uint64_t ticket;    /* 0 = nobody waits here */
	_Atomic uint64_t looked_ns; /* when the worker last looked after them */
};

enum shm_server_flag { SHM_SERVER_BACKUP = 1, SHM_SERVER_DISABLED = 2 };

/* writer: master */
struct shm_server {
	_Alignas(CACHE_LINE_BYTES) char upstream[SHM_NAME_SIZE];
	char name[SHM_ADDRESS_SIZE]; /* "" = never used */
	char address[SHM_ADDRESS_SIZE];
	_Atomic uint32_t in_use;
	_Atomic uint32_t weight;
	_Atomic uint32_t flags; /* enum shm_server_flag */
	_Atomic uint32_t soft_limit;
	_Atomic uint32_t boxed;     /* workers: ready connections that are nobody's, as counted last */
	struct addresses addresses; /* writer: control; of a server that was named by a host name */
	struct condition condition; /* writers: control and all workers, see there */
};

enum seat_engine { SEAT_ENGINE_EPOLL, SEAT_ENGINE_IO_URING, N_SEAT_ENGINES };

struct shm_seat {
	/* writer: master, and the worker its own steps from starting on */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint32_t state; /* enum seat_state; master to SEAT_FREE and SEAT_STARTING */
	_Atomic int32_t pid;
	_Atomic uint64_t pid_start_ticks; /* tells a reused pid apart */
	_Atomic uint32_t slot;
	_Atomic uint32_t generation;
	_Atomic int32_t cpu;           /* -1 = not pinned */
	_Atomic uint32_t is_elder;     /* 1: pid is a master before this one, and the seat stands for all its workers */
	_Atomic uint64_t started_ns;   /* never set back to 0, which tells that the seat was never used */
	_Atomic uint64_t base_accepts; /* accepts counted in this seat before this worker */

	/* writer: the worker, on lines of its own */
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t ledger_sequence; /* odd while a limit is being changed; see limit.h */
	_Atomic uint32_t sessions;                                   /* gauge; zeroed by the master after a crash */
	_Atomic uint32_t udp_sessions;                               /* so many of them are UDP; likewise */
	_Atomic uint32_t engine;                                     /* enum seat_engine */
#define X(field, metric, help) counter_t field;
	WORKER_COUNTERS(X)
#undef X
	_Atomic uint64_t loop_lag_ns; /* the longest turn of the loop in the last second */
	_Atomic uint64_t beat_ns;     /* when the loop last turned (at least once a second) */
};

/* writer: the worker in the seat; one per seat and listener */
struct listener_row {
	_Alignas(CACHE_LINE_BYTES)
#define X(field, metric, help) counter_t field;
	        LISTENER_COUNTERS(X)
#undef X
	                counter_t closes[N_REASONS];
	counter_t udp_awaited; /* of the sessions that live: so many datagrams more than answers; see udp_unanswered */
#define X(field, metric, help) struct histogram field;
	LISTENER_HISTOGRAMS(X)
#undef X
};

/* writer: the worker in the seat; one per seat and server */
struct server_row {
	_Alignas(CACHE_LINE_BYTES)
#define X(field, metric, help) counter_t field;
	        SERVER_COUNTERS(X)
#undef X
#define X(field, metric, help) counter_t field;
	                SERVER_GAUGES(X)
#undef X
};

/* A mapping of the segment. */
struct shm {
	struct shm_dims dims; /* our own copy: whoever can write to the segment must not lead others out of it */
	struct shm_header *header;
	struct limit *limits; /* index: limit_global(), limit_listener(i), limit_server(i), limit_upstream(i) */
	struct shm_listener *listeners;
	struct shm_server *servers;
	struct shm_certificate *certificates; /* [SHM_CERTIFICATES] */
	struct shm_upstream *upstreams;       /* [SHM_UPSTREAMS] */
	struct line_head *line_heads;         /* [upstream][seat] */
	struct shm_seat *seats;
	_Atomic uint32_t *ledgers;          /* [seat][limit]: what each worker holds of each limit; see shm_ledger() */
	struct listener_row *listener_rows; /* [seat][listener] */
	struct server_row *server_rows;     /* [seat][server] */
	char *logs;                         /* [seat][SHM_LOG_BYTES]: see shm_log_ring() */
	uint32_t *listener_index;           /* master: names to rows, see rows.c */
	uint32_t *server_index;
	uint32_t *upstream_index;
	struct rate_table rates; /* of client addresses and networks; see rate_table.h */
	struct affinity affinities;
	struct recorder_head *recorder_heads; /* [seat] */
	char *recorder_rings;                 /* [seat]: RECORDER_BYTES_MOST, of which the worker uses as many as it may */
	struct roll_box *roll_boxes;          /* [seat] */
	struct roll_row *roll_rows;           /* [seat][ROLL_ROWS]; there is room for those of seats that were asked */

	/* master: places of a limit that are in no ledger (see limit.h); NULL = none */
	uint32_t (*nobodys)(const void *arg, uint32_t limit);
	const void *nobodys_arg;
};

/* A hash of names, sizes and offsets of all the above: two builds with equal hashes understand each other's segments. */
uint64_t shm_layout_hash(void);
/* 0 where so many cannot be addressed. */
uint64_t shm_size_bytes(const struct shm_dims *dims);

/* Lay a new segment out in shm_size_bytes() of zeros at base. The tables of client addresses are left to segment.c. */
void shm_init(struct shm *shm, void *base, const struct shm_dims *dims);

/* Look at an existing one of size_bytes, which may be read-only and may hold anything. 0, or -EINVAL with *why the end of a sentence
 * for the user that begins with the path ("was written by Aegis 0.0.9, this is 0.1.0: ..."). Counts that are not fixed at the
 * start, such as n_listeners, are not checked: read them through sums.h. */
must_check int shm_attach(struct shm *shm, void *base, uint64_t size_bytes, char *why, size_t why_size);

/* Do the times in it belong to this boot of the machine? boot_id as process_boot_id() says. In one that outlived a restart, be it of
 * the machine or of a container that keeps its time apart, moments lie in a future that may never come. */
must_check bool shm_is_of_this_boot(const struct shm_header *header, const char *boot_id, uint64_t now_ns);

static inline uint32_t shm_n_limits(const struct shm *shm)
{
	return 1 + shm->dims.listeners + shm->dims.servers + SHM_UPSTREAMS;
}
static inline uint32_t limit_global(void)
{
	return 0;
}
static inline uint32_t limit_listener(uint32_t listener)
{
	return 1 + listener;
}
static inline uint32_t limit_server(const struct shm *shm, uint32_t server)
{
	return 1 + shm->dims.listeners + server;
}
/* Those who wait in the line of an upstream. */
static inline uint32_t limit_upstream(const struct shm *shm, uint32_t upstream)
{
	return 1 + shm->dims.listeners + shm->dims.servers + upstream;
}
static inline struct limit *shm_limit(const struct shm *shm, uint32_t limit)
{
	return &shm->limits[limit];
}
/* Buckets of an index of so many names: a power of two. */
static inline uint32_t shm_index_buckets(uint32_t names)
{
	uint32_t buckets = 16;
	while (buckets < names)
		buckets *= 2;
	return buckets;
}
static inline uint32_t shm_index_length(uint32_t names)
{
	return shm_index_buckets(names) + names;
}
/* From one seat to the next, so that no two workers write to one cache line. */
static inline size_t shm_ledger_stride(const struct shm *shm)
{
	const size_t per_line = CACHE_LINE_BYTES / sizeof(uint32_t);
	return (shm_n_limits(shm) + per_line - 1) / per_line * per_line;
}
static inline _Atomic uint32_t *shm_ledger(const struct shm *shm, uint32_t seat, uint32_t limit)
{
	return &shm->ledgers[seat * shm_ledger_stride(shm) + limit];
}
static inline struct line_head *shm_line_head(const struct shm *shm, uint32_t upstream, uint32_t seat)
{
	return &shm->line_heads[(size_t)upstream * shm->dims.seats + seat];
}
static inline struct listener_row *shm_listener_row(const struct shm *shm, uint32_t seat, uint32_t listener)
{
	return &shm->listener_rows[(size_t)seat * shm->dims.listeners + listener];
}
static inline struct server_row *shm_server_row(const struct shm *shm, uint32_t seat, uint32_t server)
{
	return &shm->server_rows[(size_t)seat * shm->dims.servers + server];
}

/* How many bytes there may be in the rings of a log. */
static inline uint32_t shm_log_most(enum log_kind kind)
{
	return kind == LOG_KIND_ERROR ? LOG_RING_ERROR_MOST : LOG_RING_ACCESS_MOST;
}
static inline struct log_ring *shm_log_ring(const struct shm *shm, uint32_t seat, enum log_kind kind)
{
	return (void *)(shm->logs + (size_t)seat * SHM_LOG_BYTES + (kind == LOG_KIND_ERROR ? 0 : SHM_LOG_ERROR_BYTES));
}

static inline void *shm_recorder_ring(const struct shm *shm, uint32_t seat)
{
	return &shm->recorder_rings[(size_t)seat * RECORDER_BYTES_MOST];
}
static inline struct roll_row *shm_roll_rows(const struct shm *shm, uint32_t seat)
{
	return &shm->roll_rows[(size_t)seat * ROLL_ROWS];
}

/* Whether the seat stands for an old master in another segment, which has workers that cannot be asked. */
bool shm_seat_is_elder(const struct shm *shm, uint32_t seat);

/* True once a worker had the seat: what never had one holds zeros, and looking at it would cost memory. */
bool shm_seat_ever_used(const struct shm *shm, uint32_t seat);

/* The row of a name: the one it has, else a new one, else a retired one made anew (its counters start at zero, its limit is none),
 * provided that no draining worker holds anything of it. The row is marked in_use, so that the next claim does not take it; a
 * reload that is given up sets in_use of what it claimed back to 0. Names too long for the row are told apart all the same.
 * 0 and *out, or -ENOSPC. Master only. */
must_check int shm_claim_listener(struct shm *shm, const char *name, uint32_t *out);
must_check int shm_claim_server(struct shm *shm, const char *upstream, const char *name, uint32_t *out);
must_check int shm_claim_upstream(struct shm *shm, const char *name, uint32_t *out);

/* The row that a name has. Master only. */
must_check bool shm_find_listener(struct shm *shm, const char *name, uint32_t *out);
must_check bool shm_find_server(struct shm *shm, const char *upstream, const char *name, uint32_t *out);

#endif
