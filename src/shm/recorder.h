/* The flight recorder: what happened to the last connections of each worker, step by step, for who asks why.
 *
 * Each seat has a ring of records of one cache line, in the shared segment. Its one writer is the worker that holds the seat; when that is
 * dead and until the next one begins, the master, which notes the end. A record is written with plain stores and published by the number of
 * records that were written (head), which is never set back: a worker that is killed between any two instructions leaves a ring with all
 * that it published, and the next one goes on behind it.
 *
 * A reader copies records and looks at head before and after: what may have been overwritten meanwhile does not count, nor does what has
 * not the number that belongs there (of a ring of another size, or that was never written). It believes nothing else either: see
 * view/flight.h.
 *
 * Memory: only what is in use is ever touched; the file has room for the largest rings.
 */
#ifndef AEGIS_SHM_RECORDER_H
#define AEGIS_SHM_RECORDER_H

#include <assert.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"

/* X(id, name of the step) */
#define RECORD_KINDS(X)                     \
	X(NONE, "none")                     \
	X(WORKER_BEGAN, "worker began")     \
	X(WORKER_ENDED, "worker ended")     \
	X(ACCEPTED, "accepted")             \
	X(INTRODUCED, "introduced")         \
	X(DENIED, "denied")                 \
	X(RATE_LIMITED, "rate limited")     \
	X(FULL, "full")                     \
	X(ROUTED, "routed")                 \
	X(CHOSEN, "server chosen")          \
	X(NOT_CHOSEN, "no server chosen")   \
	X(IN_LINE, "in line")               \
	X(CONNECTED, "connected")           \
	X(CONNECT_FAILED, "connect failed") \
	X(STALE, "stale connection")        \
	X(FIRST_BYTE, "first byte")         \
	X(CLOSED, "closed")

enum record_kind {
#define X(id, name) RECORD_##id,
	RECORD_KINDS(X)
#undef X
	        N_RECORD_KINDS
};
const char *record_kind_name(enum record_kind kind);

/* A client, or a range of addresses. family is 4, 6 or 0 for a unix socket. */
struct record_address {
	uint8_t bytes[16];
	uint16_t port; /* in host order */
	uint8_t family, bits;
};

/* How a server was chosen, or why none was; as the worker found it, and the record has it. */
enum choice_way { CHOICE_BY_BALANCE, CHOICE_BY_AFFINITY, CHOICE_BEYOND_SOFT_LIMIT, CHOICE_BY_SEARCH, CHOICE_AS_BEFORE, N_CHOICE_WAYS };
/* Of what kind the connection to it is. */
enum choice_conn { CHOICE_NEW, CHOICE_WARM, CHOICE_KEPT, N_CHOICE_CONNS };
struct record_choice {
	uint8_t way;     /* enum choice_way */
	uint8_t balance; /* enum balance_kind of the settings */
	uint8_t conn;    /* enum choice_conn */
	uint8_t probe;   /* its breaker is half-open, and this connection is one that it tries the server with */
	uint8_t any;     /* no server was usable, and when_all_down = "any" */
	uint8_t tried;   /* servers that failed for this client before */
	/* Servers that were asked and passed over for this client */
	uint8_t full, not_yet, refused; /* no place; connect_rate; their breakers */
	uint16_t n_servers, n_usable;
	uint16_t weight;
	uint32_t load;       /* connections of the server with this one; not chosen: 0 */
	uint8_t unusable[8]; /* not chosen: how many servers for which reason, by enum usability; 255 is as many or more */
};

/* Why none was chosen. */
enum record_want { WANT_PLACE, WANT_RATE, WANT_SERVER, WANT_TURN, N_RECORD_WANTS };

enum record_limit { RECORD_LIMIT_ALL, RECORD_LIMIT_LISTENER };

struct record {
	uint64_t time_ns;  /* CLOCK_MONOTONIC */
	uint32_t sequence; /* the low bits of its number: set by recorder_publish() */
	uint32_t serial;   /* of the connection; 0 = of the worker */
	uint8_t kind;      /* enum record_kind */
	uint8_t detail;    /* CLOSED: enum reason; NOT_CHOSEN: enum record_want */
	uint16_t row;      /* of the listener: ACCEPTED to FULL, CLOSED; else of the server */
	uint32_t number;   /* IN_LINE: how many wait; CLOSED: enum closer, and the step in bits 8 to 15; of others see there */
	union {
		struct record_address
		        client; /* ACCEPTED; INTRODUCED, detail: the version of the header, number: 0 = it speaks for nobody */
		struct {
			struct record_address client;
			uint32_t lived_ms;
			uint64_t up_bytes, down_bytes;
		} closed;
		struct {
			struct record_address range; /* that decided */
		} denied;                            /* detail: enum access_list; number: the rule's place there */
		struct {
			uint32_t burst;
		} rate; /* number: connections_per_second; detail: enum rate_limit_per */
		struct {
			uint32_t used, max;
		} full; /* detail: enum record_limit */
		struct {
			char name[39]; /* NUL-terminated; longer ones are cut */
			uint8_t flags; /* RECORD_ROUTE_* */
		} route;               /* detail: a route was found; number: the row of the upstream, UINT32_MAX = none */
		struct record_choice choice;
		struct {
			struct record_address to;
			uint32_t error;            /* errno; 0 of one that was good */
			uint8_t attempt, attempts; /* the first is 1; the most that there may be */
			uint8_t last;
		} dial;
		struct {
			int32_t pid;
			uint32_t generation;
		} worker;
		uint64_t words[5];
	};
};

static_assert(sizeof(struct record) == CACHE_LINE_BYTES, "a record costs one cache line");

enum { RECORD_ROUTE_CUT = 1, RECORD_ROUTE_ECH = 2 };

/* The serial of the connection that a seat accepts as its nth one, from 1: never 0. */
static inline uint32_t record_serial(uint64_t nth)
{
	return (uint32_t)((nth - 1) % UINT32_MAX) + 1;
}

/* Bytes of a ring: a power of two. */
enum { RECORDER_BYTES_LEAST = 4096, RECORDER_BYTES_MOST = 1 << 20 };

struct recorder_head {
	_Alignas(CACHE_LINE_BYTES) _Atomic uint64_t head; /* records ever written */
	_Atomic uint32_t size;                            /* of the ring, in records, a power of two; 0 = there is none */
};

/* A worker's own, or what a reader goes by. */
struct recorder {
	struct recorder_head *shared;
	struct record *ring;
	uint64_t next; /* writer: the number of the next record */
	uint32_t size; /* 0 = off */
};

/* How many bytes a ring has that shall have so many, at least RECORDER_BYTES_LEAST. */
must_check uint64_t recorder_bytes_used(uint64_t bytes);

/* The writer's: bytes is what the settings say, 0 = off; what a former writer wrote stays where the size is the same. */
void recorder_begin(struct recorder *out, struct recorder_head *shared, void *ring, uint64_t bytes);
/* With the size that the last writer had, for the master. What is no size is off. */
void recorder_go_on(struct recorder *out, struct recorder_head *shared, void *ring);

/* The place of the next record: all of it is to be filled in, right there, since to copy it would cost more than the rest. */
static inline struct record *recorder_next(struct recorder *recorder)
{
	struct record *next = &recorder->ring[recorder->next & (recorder->size - 1)];
	/* Who sees any of the new one sees that the record that was here before is gone. */
	atomic_thread_fence(memory_order_release);
	return next;
}
/* It is complete: for others it is there when this returns. */
static inline void recorder_publish(struct recorder *recorder)
{
	recorder->ring[recorder->next & (recorder->size - 1)].sequence = (uint32_t)recorder->next;
	atomic_store_explicit(&recorder->shared->head, ++recorder->next, memory_order_release);
}
/* Both. */
static inline void recorder_write(struct recorder *recorder, const struct record *record)
{
	*recorder_next(recorder) = *record;
	recorder_publish(recorder);
}

/* Of a reader: the oldest record that may be there, and how many there may be from there on. */
must_check uint64_t recorder_oldest(const struct recorder_head *shared, uint32_t *n);
/* Copy the record of this number. False when it is not there, or not any more. */
must_check bool recorder_read(const struct recorder_head *shared, const void *ring, uint64_t number, struct record *out);

/* The address of a peer: all zero for a unix socket. */
void record_address_of(struct record_address *out, const struct sockaddr_in6 *peer);
static inline bool record_address_equal(const struct record_address *a, const struct record_address *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

#endif
