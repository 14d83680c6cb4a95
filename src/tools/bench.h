/* aegis-bench: load for a server, and how long it took to answer.
 *
 * Process: the parent reads the plan, forks the load processes, gives the start and adds up. A load process (struct load) has its
 *          share of the clients and one edge-triggered epoll of its own; what it counts goes into its struct tally, in shared memory.
 * Life:    a load process opens its clients (some at a time; none with --churn), tells "ready", waits for the time of the start, runs
 *          until each client has done its part or the deadline is over, and ends. In the mode "hold" the start comes after the hold.
 * Client:  one connection at a time, one message at a time. client_step() is called when something may have changed and does what can
 *          be done; a client that must go on without an event (its turn was over, it failed) stands in the list of struct load.
 * Memory:  all of it is taken before the start; a message takes none.
 */
#ifndef AEGIS_TOOLS_BENCH_H
#define AEGIS_TOOLS_BENCH_H

#include <stdbool.h>

#include "base/addr.h"
#include "tools/bench_answer.h"
#include "tools/bench_histogram.h"
#include "tools/bench_message.h"
#include "tools/bench_rows.h"
#include "tools/sleeper.h"
#include "tools/source_range.h"

enum bench_exit { BENCH_OK = 0, BENCH_ARGUMENTS = 1, BENCH_START = 2, BENCH_FAILED = 3 };

#define BENCH_MODES(X)                \
	X(BENCH_ECHO, "echo")         \
	X(BENCH_HTTP, "http")         \
	X(BENCH_DOWNLOAD, "download") \
	X(BENCH_UPLOAD, "upload")     \
	X(BENCH_HOLD, "hold")

/* What can become of a message, and a name for each in the report of errors. */
#define BENCH_FAILURES(X)                                                     \
	X(FAILURE_CONNECT, "could not connect")                               \
	X(FAILURE_CLOSED, "closed by the server before the answer was there") \
	X(FAILURE_RESET, "reset, or another error of the connection")         \
	X(FAILURE_WRONG, "wrong bytes")                                       \
	X(FAILURE_UNASKED, "bytes that nobody asked for")                     \
	X(FAILURE_HTTP, "not an HTTP response")                               \
	X(FAILURE_STATUS, "a status other than 2xx")                          \
	X(FAILURE_MISSING, "missing at the deadline")

#define X(name, text) name,
enum bench_mode { BENCH_MODES(X) BENCH_MODE_COUNT };
enum failure { BENCH_FAILURES(X) FAILURE_COUNT };
#undef X

const char *bench_mode_name(enum bench_mode mode);
const char *failure_text(enum failure failure);

enum { PLAN_PATH_SIZE = 1024 };

/* What is to be done. */
struct plan {
	enum bench_mode mode;
	struct addr target;
	char target_text[HOST_NAME_SIZE + 16]; /* as given: for Host: and messages */
	char path[PLAN_PATH_SIZE];
	uint32_t clients;
	uint32_t processes;
	uint64_t messages; /* for each client; UINT64_MAX = as many as the time allows */
	uint64_t payload_bytes;
	uint64_t run_ns;  /* 0 = until all messages are done */
	uint64_t hold_ns; /* BENCH_HOLD: UINT64_MAX = until stdin ends */
	uint64_t warmup_ns;
	uint64_t timeout_ns;
	double rate_per_s; /* all clients together; 0 = closed loop */
	struct source_range sources;
	bool churn, until_eof, json;
	const char *csv; /* a path, or NULL */
};

/* Exit code, or -1 to go on with *plan. Tells on stderr what is wrong. */
int plan_read(struct plan *plan, int argc, char **argv);

enum { TALLY_TEXT_SIZE = 256 };

/* What one load process counted. A message that is counted ends in exactly one of requests, errors and connect_errors. */
struct tally {
	uint64_t requests, errors, connect_errors;
	uint64_t opened; /* connections that came about, in warm-up too */
	uint64_t bytes_in, bytes_out;
	uint64_t cpu_ns;
	uint64_t end_ns;
	uint64_t failures[FAILURE_COUNT];
	char first_failure[TALLY_TEXT_SIZE];
	bool rows_lost; /* the file of rows could not be written */
	struct bench_histogram latency, connect;
};

void tally_add(struct tally *sum, const struct tally *tally);
/* seconds is the counted time. */
void bench_report(const struct plan *plan, const struct tally *sum, double seconds);
/* What failed, on stderr; nothing where nothing did. */
void bench_report_failures(const struct tally *sum);

enum { LOAD_SCRATCH_BYTES = 1 << 18 };

struct client {
	int fd; /* -1 = not connected */
	uint32_t id;
	bool dialing; /* not known to be connected yet */
	bool busy;    /* a message is under way */
	bool counted; /* and it began after the warm-up */
	bool done;    /* no message follows */
	bool lost;    /* broke while no message was under way: the next one fails */
	bool hung_up; /* the server sends no more: read to the end of input */
	bool listed;  /* stands in the list of who goes on without an event */
	bool resting; /* not before rest_ns */
	enum failure why_lost;
	uint32_t watched;    /* the events that epoll was asked for */
	struct client *next; /* in the list */
	uint64_t rest_ns;
	uint64_t sequence; /* messages begun */
	uint64_t messages; /* of them counted */
	uint64_t dial_ns;
	uint64_t start_ns;              /* of the message; with a rate: when it was due */
	uint64_t sent_bytes, got_bytes; /* of the message */
	struct answer answer;
};

struct client_list {
	struct client *first, **end;
};

struct load {
	const struct plan *plan;
	const struct message *message;
	struct tally *tally;
	struct rows rows;
	struct sleeper sleeper;
	uint64_t now_ns;
	uint64_t progress_ns; /* when a client last ended a message or an opening */
	/* opening */
	bool opening;
	uint32_t opens_left; /* clients that are not through with it */
	/* the run */
	uint64_t start_ns, warm_ns, end_ns; /* warm_ns: messages from then on count; end_ns: none begins from then on */
	uint64_t due_round;                 /* with a rate: the next one due is this message ... */
	uint32_t due_client;                /* ... of this client */
	uint32_t working;                   /* clients that are not done */
	bool refused;                       /* no connection ever came about */
	struct client_list ready, resting;
	uint32_t n;
	struct client *clients;
	unsigned char scratch[LOAD_SCRATCH_BYTES];
};

/* One load process, first to last. channel: tell "ready", hear the time of the start. Exit code. */
int load_main(
        const struct plan *plan, const struct message *message, struct tally *tally, uint32_t first, uint32_t n, int channel, int rows_fd);
/* Let the client go on in the next turn, or, after a failure to connect, a little later. */
void load_again(struct load *load, struct client *client, bool rest);
/* With a rate: when the next message of this client is due; else 0. */
uint64_t load_due_ns(const struct load *load, const struct client *client);

static inline struct message_id client_message(const struct client *client)
{
	return (struct message_id){ .client = client->id, .sequence = client->sequence - 1 };
}

/* Connect, and in the mode "hold" exchange the first echo. */
void client_open(struct load *load, struct client *client);
/* Begin the next message when it is time, and go on with the one under way. */
void client_step(struct load *load, struct client *client);
void client_on_events(struct load *load, struct client *client, uint32_t events);
/* Read the answer to the message under way; it may be complete then and the next message begun. */
void client_receive(struct load *load, struct client *client);
/* How a message ends: answered, failed for a reason, failed by an error number of the connection. */
void client_answered(struct load *load, struct client *client);
void client_failed(struct load *load, struct client *client, enum failure failure, const char *detail);
void client_failed_by(struct load *load, struct client *client, int error);
/* The deadline is over: what is under way and what never began is missing. */
void client_give_up(struct load *load, struct client *client);

#endif
