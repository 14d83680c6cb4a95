/* What happened between two snapshots, for each second of the time between them.
 *
 * Process: aegis-stat. Owner: the caller, until rates_free(). Lists lie beside those of the later snapshot: same length, same order.
 * A row is compared with the one of its name; one that is new has no rates yet. Where another instance with counters of its own took the
 * place of the one before, or there was none, nothing is known.
 */
#ifndef AEGIS_TOOLS_RATES_H
#define AEGIS_TOOLS_RATES_H

#include "view/snapshot.h"

/* What lies behind a quantile, and three of them. */
struct percentiles {
	uint64_t count;
	uint64_t p50_ns, p95_ns, p99_ns;
};

struct listener_rates {
	bool is_known;
	double connections, rejected, errors, received_bytes, sent_bytes;
	double datagrams, drops; /* received from both sides; not passed on */
	struct percentiles first_byte, duration;
};

#define RATES_NO_ROW SIZE_MAX

struct server_rates {
	size_t before; /* where it stood in the snapshot before; RATES_NO_ROW = it is new */
	double connections, failures, sent_bytes, received_bytes;
};

struct worker_rates {
	bool is_known;
	double accepts, turns, pauses, no_buffer;
};

struct rates {
	bool is_known;
	double seconds;
	double connections, errors, rejected, received_bytes, sent_bytes;
	double closes[N_REASONS];
	struct percentiles connect, first_byte, duration; /* of those that came to an end in between */
	struct listener_rates *listeners;
	struct server_rates *servers;
	struct worker_rates *workers;
};

/* before may be NULL. 0 and *out, or -ENOMEM. */
must_check int rates_make(struct rates *out, const struct snapshot *before, const struct snapshot *now, uint64_t elapsed_ns);
void rates_free(struct rates *rates);

/* Are these the same counters, further on? False when another instance counts anew. */
bool rates_continue(const struct snapshot *before, const struct snapshot *now);

#endif
