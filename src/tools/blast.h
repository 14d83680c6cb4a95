/* aegis-udpblast: load for a UDP server that sends back what it gets, and what became of each datagram.
 *
 * Process: the parent reads the plan, forks the load processes, gives the start and adds up. A load process (struct blast) has its share
 *          of the flows and one epoll of its own; what it counts goes into its struct blast_tally, in shared memory.
 * Flow:    one connected socket. Each datagram bears a stamp (tools/bench_message.h) that names the run, the flow and the number of the
 *          datagram, so that the answer to another flow, to an earlier one of this address, or to nothing at all shows.
 * Life:    with a window a flow sends when answers came: a turn is over when all that it sent is settled, and the flow goes to the end of
 *          the queue. With a rate each flow sends when its time has come, whatever came back.
 * Memory:  all of it is taken before the start.
 */
#ifndef AEGIS_TOOLS_BLAST_H
#define AEGIS_TOOLS_BLAST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "tools/bench_histogram.h"
#include "tools/bench_message.h"
#include "tools/bench_rows.h"
#include "tools/blast_track.h"
#include "tools/sleeper.h"
#include "tools/source_range.h"

enum blast_exit { BLAST_OK = 0, BLAST_ARGUMENTS = 1, BLAST_START = 2, BLAST_FAILED = 3 };

enum { BLAST_MAX_PAYLOAD = 65507, BLAST_MAX_BURST = 1024, BLAST_MAX_WINDOW = 1 << 16, BLAST_SEGMENTS = 64 };

/* What is counted beside the datagrams sent and answered, and a name for each in the report. A failure makes the exit code 3. */
#define BLAST_COUNTS(X)                                                                                 \
	X(lost, true, "not answered")                                                                   \
	X(late, false, "answered only after they had been given up")                                    \
	X(duplicates, true, "answers to a datagram that was answered already")                          \
	X(reordered, false, "answers that came after one to a later datagram of their flow")            \
	X(foreign, true, "answers to a datagram of another flow")                                       \
	X(wrong, true, "answers with wrong bytes, or to a datagram that was not sent or needs none")    \
	X(stale, true, "answers to a datagram so old that nobody knows whether it was answered before") \
	X(refused, true, "times the network told that nobody can take a datagram (ICMP)")               \
	X(unsent, true, "datagrams that the own kernel did not take")                                   \
	X(unopened, true, "times a flow could not be opened")

/* What is to be done. */
struct blast_plan {
	struct addr target;
	char target_text[HOST_NAME_SIZE + 16]; /* as given, for messages */
	uint32_t flows, processes;
	uint32_t at_once; /* flows that have a turn at the same time */
	uint32_t window;  /* datagrams of a flow that are under way at one time; with a rate: for how many an answer is awaited */
	uint32_t burst;
	uint64_t datagrams; /* for each flow; UINT64_MAX = as many as the time allows */
	uint64_t renew;     /* a new socket after so many; 0 = never */
	uint32_t payload_bytes;
	uint64_t run_ns; /* 0 = until all are sent */
	uint64_t warmup_ns, lost_after_ns, period_ns;
	double rate_per_s;   /* all flows together; 0 = by the window */
	double loss_percent; /* that is allowed */
	struct source_range sources;
	bool segment, coalesce, one_way, in_order, json;
	const char *csv; /* a path, or NULL */
};

/* Exit code, or -1 to go on with *plan. Tells on stderr what is wrong. */
int blast_plan_read(struct blast_plan *plan, int argc, char **argv);

enum { BLAST_TEXT_SIZE = 128 };

/* What one load process counted. Of the datagrams counted as sent each is either answered or lost. */
struct blast_tally {
	_Atomic uint64_t sent_now, answered_now, lost_now; /* of all, warm-up too: for who looks on while it runs */
	uint64_t sent, answered;
#define X(field, failure, text) uint64_t field;
	BLAST_COUNTS(X)
#undef X
	uint64_t opened; /* sockets, in warm-up too */
	uint64_t bytes_in, bytes_out;
	uint64_t cpu_ns;
	uint64_t end_ns;
	char first_error[BLAST_TEXT_SIZE];
	bool rows_lost; /* the file of rows could not be written */
	struct bench_histogram latency;
};

void blast_tally_add(struct blast_tally *sum, const struct blast_tally *tally);
/* Is that what was to be expected? */
bool blast_is_well(const struct blast_plan *plan, const struct blast_tally *sum);
/* seconds is the counted time. */
void blast_report(const struct blast_plan *plan, const struct blast_tally *sum, double seconds);
/* What failed, on stderr; nothing where nothing did. */
void blast_report_failures(const struct blast_tally *sum);
/* A line while it runs: what was sent, answered and lost since the last one. */
void blast_report_period(const struct blast_plan *plan, double at_s, uint64_t sent, uint64_t answered, uint64_t lost, double seconds);

enum { BLAST_RECEIVE_BATCH = 32, BLAST_RECEIVE_BYTES = 65536, BLAST_CONTROL_BYTES = 64 };

struct blast_flow {
	int fd; /* -1 = not open */
	uint32_t id;
	uint64_t left;      /* datagrams that it still has to send */
	uint64_t turn_left; /* of these in its turn */
	uint64_t here;      /* sent on this socket */
	bool active;        /* it has a turn */
	bool begun;         /* something of it is settled */
	struct blast_flow *next;
	struct track track;
};

/* What one call sends: messages, each with room of its own. */
struct blast_outbox {
	struct message_room *rooms;                        /* [burst] */
	struct iovec (*iov)[MESSAGE_PIECES];               /* [burst] */
	struct iovec run[BLAST_SEGMENTS * MESSAGE_PIECES]; /* of one send in segments */
	struct mmsghdr *headers;                           /* [burst] */
	_Alignas(struct cmsghdr) unsigned char control[BLAST_CONTROL_BYTES];
};

struct blast_inbox {
	struct mmsghdr headers[BLAST_RECEIVE_BATCH];
	struct iovec iov[BLAST_RECEIVE_BATCH];
	struct {
		_Alignas(struct cmsghdr) unsigned char bytes[BLAST_CONTROL_BYTES];
	} control[BLAST_RECEIVE_BATCH];
	unsigned char bytes[BLAST_RECEIVE_BATCH][BLAST_RECEIVE_BYTES];
};

struct blast {
	const struct blast_plan *plan;
	const struct message *message;
	struct blast_tally *tally;
	struct rows rows;
	struct sleeper sleeper;
	uint64_t now_ns;
	uint64_t start_ns, warm_ns, end_ns; /* warm_ns: datagrams from then on count; end_ns: none is sent from then on */
	uint64_t last_sent_ns, last_answer_ns;
	uint64_t next_look_ns; /* when to look for what is lost */
	/* by the window */
	struct blast_flow *first, **end; /* the queue of those that wait for a turn */
	uint32_t at_once, active, beginning;
	uint64_t rest_until_ns; /* the kernel took nothing more: none is sent before */
	/* by the rate */
	uint64_t due_round; /* the next burst is this one ... */
	uint32_t due_flow;  /* ... of this flow */
	uint32_t first_flow;
	uint32_t n, sending; /* flows; those that still have something to send */
	struct blast_flow *flows;
	uint64_t *entries;
	struct blast_outbox outbox;
	struct blast_inbox inbox;
};

/* What all load processes share. */
struct blast_shared {
	_Atomic uint64_t start_ns;
	struct blast_tally tallies[];
};

/* What a load process says before the start. */
enum { BLAST_READY = 'r', BLAST_UNREADY = 'f' };

/* One load process, first to last: flows first..first+n-1. It writes one of the above to ready, and reads go until its end, which is the
 * start. */
int blast_main(const struct blast_plan *plan, struct blast_shared *shared, uint32_t process, uint32_t first, uint32_t n, int ready, int go,
        int rows_fd);

/* Sockets and bytes of one flow (blast_flow.c). */
must_check int blast_open(struct blast *blast, struct blast_flow *flow);
void blast_close(struct blast *blast, struct blast_flow *flow);
must_check int blast_make_boxes(struct blast *blast);
void blast_free_boxes(struct blast *blast);
/* Send a burst of n, which count as sent at sent_ns. How many the kernel took. */
uint32_t blast_send(struct blast *blast, struct blast_flow *flow, uint32_t n, uint64_t sent_ns);
/* Take what came, as much as one call brings. */
void blast_receive(struct blast *blast, struct blast_flow *flow);
/* Give up what is awaited for lost_after or longer; the oldest one, whenever it was sent. */
void blast_give_up(struct blast *blast, struct blast_flow *flow);
void blast_give_up_oldest(struct blast *blast, struct blast_flow *flow);

/* For counts that belong to no datagram, after the warm-up. */
static inline bool blast_counts(const struct blast *blast)
{
	return blast->now_ns >= blast->warm_ns;
}

#endif
