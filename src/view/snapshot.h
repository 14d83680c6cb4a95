/* What the shared segment said at one moment, summed up over the workers, as plain structs. All outputs print one.
 *
 * Process: aegis-stat, and the control process. Owner: the caller, until snapshot_free().
 * A tool copies the segment with read(2) and never maps it: a file that shrinks is an error and not a SIGBUS, and looking at it
 * allocates nothing in it; the control process looks at what it has mapped. Nothing in it is trusted: strings are cut at their
 * size, and made printable.
 *
 * Each number is one that was in the segment; two numbers may be from moments some microseconds apart.
 */
#ifndef AEGIS_VIEW_SNAPSHOT_H
#define AEGIS_VIEW_SNAPSHOT_H

#include <stdbool.h>

#include "shm/sums.h"
#include "view/standing.h"

enum { VIEW_CERTIFICATE_SIZE = 128 };

struct worker_totals {
#define X(field, metric, help) uint64_t field;
	WORKER_COUNTERS(X)
#undef X
};

struct master_totals {
#define X(field, metric, help) uint64_t field;
	MASTER_COUNTERS(X)
#undef X
};

struct snapshot_listener {
	char name[SHM_NAME_SIZE];
	char address[SHM_ADDRESS_SIZE];
	char upstream[SHM_NAME_SIZE];
	bool in_use; /* false: gone from the settings, the counters stay */
	bool is_udp;
	uint32_t active;
	uint32_t max; /* 0 = no limit */
	struct listener_sum totals;
};

/* One that a listener shows. */
struct snapshot_certificate {
	char listener[SHM_NAME_SIZE];
	char name[VIEW_CERTIFICATE_SIZE]; /* its first name; where others have it, too, or there is none: with "#2", its place in the
	                                     settings */
	int64_t not_before, not_after;    /* seconds since 1970 */
};

struct snapshot_upstream {
	char name[SHM_NAME_SIZE];
	uint32_t row;
	bool in_use;
	uint32_t waiting; /* clients in its line */
	uint32_t queue_max;
	uint64_t epoch;
};

enum { SNAPSHOT_IP_SIZE = 80 }; /* "[2001:db8::1%interface]:65535" */

struct snapshot_server {
	char upstream[SHM_NAME_SIZE];
	char name[SHM_ADDRESS_SIZE];
	char address[SHM_ADDRESS_SIZE];
	bool in_use;
	bool backup;
	bool disabled;
	uint32_t active;          /* with a client; totals.hot wait for one */
	uint32_t max, soft_limit; /* of both together; 0 = no limit */
	uint32_t weight;          /* of the settings */
	size_t n_addresses;       /* what its name stands for now; 0 where it has none */
	char addresses[ADDRESSES_MOST][SNAPSHOT_IP_SIZE];
	struct standing standing;
	struct server_sum totals;
};

/* A worker process: a seat that is not free. */
struct snapshot_worker {
	enum seat_state state;
	int32_t pid;
	uint32_t slot;
	uint32_t generation;
	int32_t cpu; /* -1 = not pinned */
	uint32_t connections;
	uint32_t udp_sessions; /* of them */
	uint64_t accepts;      /* by this process; the totals are the seat's, over all processes that sat in it */
	uint64_t loop_lag_ns;
	struct worker_totals totals;
};

/* A worker slot: all seats that it has or had, whatever their generation. */
struct snapshot_slot {
	uint32_t slot;
	uint32_t connections;
	uint64_t loop_lag_ns; /* the largest */
	struct worker_totals totals;
};

struct snapshot {
	char version[SHM_VERSION_SIZE];
	char engine[16];
	char config_file[256];
	enum instance_state state;
	int32_t master_pid;
	uint32_t generation;
	uint32_t workers_wanted;
	uint64_t started_ns;
	uint64_t uptime_ns;
	uint64_t last_reload_unix_s; /* 0 = never */
	bool last_reload_ok;
	char last_reload_note[SHM_NOTE_SIZE];
	uint32_t active;
	uint32_t udp_sessions; /* of them */
	uint32_t max;          /* 0 = no limit */
	bool has_udp;          /* a listener in use takes datagrams */
	struct master_totals master;
	struct listener_sum totals;                                 /* over all listeners, retired ones too */
	uint64_t rate_evictions, rate_unbooked, affinity_evictions; /* see rate_table.h and affinity.h */
	size_t n_listeners, n_upstreams, n_servers, n_workers, n_slots, n_certificates;
	struct snapshot_listener *listeners;
	struct snapshot_upstream *upstreams;
	struct snapshot_server *servers;           /* those of one upstream side by side */
	struct snapshot_worker *workers;           /* by slot, then generation */
	struct snapshot_slot *slots;               /* by slot */
	struct snapshot_certificate *certificates; /* as in the settings */
};

/* Sum up a segment that is in memory. 0 and *out, or -ENOMEM. */
must_check int snapshot_make(const struct shm *shm, uint64_t now_ns, struct snapshot **out);

/* Read the segment at path. 0 and *out, or a negative errno: -EINVAL with *why (not a segment, of another version, cut short),
 * the others are what opening or reading said. */
must_check int snapshot_read(const char *path, uint64_t now_ns, struct snapshot **out, char *why, size_t why_size);

/* Datagrams of a listener, or of all, that were received or lost on the way and not passed on. */
uint64_t snapshot_drops(const struct listener_sum *totals);

/* The upstream of that name, or NULL. */
const struct snapshot_upstream *snapshot_upstream(const struct snapshot *snapshot, const char *name);

void snapshot_free(struct snapshot *snapshot);

#endif
