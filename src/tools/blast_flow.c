/* One flow of aegis-udpblast: its socket, what it sends and what it gets. See blast.h. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "tools/blast.h"

/* For as much as a burst may bring at once; the kernel gives what it allows. */
enum { SOCKET_BUFFER_BYTES = 4 << 20 };

static void note_error(struct blast *blast, const char *what, int error)
{
	struct blast_tally *tally = blast->tally;
	struct text text = text_of(tally->first_error, sizeof tally->first_error);
	if (tally->first_error[0] == '\0')
		text_add(&text, "%s: %s", what, strerror(error));
}

static void count_now(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* --- the socket ------------------------------------------------------------------- */

static int set_options(const struct blast_plan *plan, int fd)
{
	int bytes = SOCKET_BUFFER_BYTES, on = 1, segment = (int)plan->payload_bytes;
	/* Only a matter of how much can be under way. */
	if (plan->window > 16)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	if ((plan->coalesce && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) < 0) ||
	        (plan->segment && setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) < 0))
		return -errno;
	return 0;
}

int blast_open(struct blast *blast, struct blast_flow *flow)
{
	const struct blast_plan *plan = blast->plan;
	struct epoll_event event = { .events = EPOLLIN, .data = { .ptr = flow } };
	int fd = socket(plan->target.sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? -errno : set_options(plan, fd);
	if (rc == 0)
		rc = source_range_bind(&plan->sources, flow->id, fd);
	if (rc == 0 && (connect(fd, &plan->target.sa, plan->target.length) < 0 ||
	                       epoll_ctl(blast->sleeper.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0))
		rc = -errno;
	if (rc < 0) {
		blast->tally->unopened++;
		note_error(blast, "cannot open a flow", -rc);
		if (fd >= 0)
			close(fd);
		return rc;
	}
	blast->tally->opened++;
	flow->fd = fd;
	flow->here = 0;
	return 0;
}

void blast_close(struct blast *blast, struct blast_flow *flow)
{
	(void)blast;
	if (flow->fd >= 0)
		close(flow->fd);
	flow->fd = -1;
}

int blast_make_boxes(struct blast *blast)
{
	struct blast_outbox *outbox = &blast->outbox;
	struct blast_inbox *inbox = &blast->inbox;
	uint32_t burst = blast->plan->burst;
	outbox->rooms = calloc(burst, sizeof *outbox->rooms);
	outbox->iov = calloc(burst, sizeof *outbox->iov);
	outbox->headers = calloc(burst, sizeof *outbox->headers);
	if (outbox->rooms == NULL || outbox->iov == NULL || outbox->headers == NULL)
		return -ENOMEM;
	for (int i = 0; i < BLAST_RECEIVE_BATCH; i++) {
		inbox->iov[i] = (struct iovec){ .iov_base = inbox->bytes[i], .iov_len = sizeof inbox->bytes[i] };
		inbox->headers[i].msg_hdr = (struct msghdr){ .msg_iov = &inbox->iov[i], .msg_iovlen = 1 };
	}
	return 0;
}

void blast_free_boxes(struct blast *blast)
{
	free(blast->outbox.rooms);
	free(blast->outbox.iov);
	free(blast->outbox.headers);
}

/* --- sending ---------------------------------------------------------------------- */

/* The errors of a connected socket tell what became of an earlier datagram. */
static bool is_refusal(int error)
{
	return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH;
}

static void count_refusal(struct blast *blast, int error)
{
	blast->tally->refused += blast_counts(blast);
	note_error(blast, "refused", error);
}

static uint32_t send_each(struct blast *blast, struct blast_flow *flow, uint32_t n)
{
	struct blast_outbox *outbox = &blast->outbox;
	for (uint32_t i = 0; i < n; i++) {
		struct message_id id = { .client = flow->id, .sequence = flow->track.next + i };
		int pieces = message_iov(blast->message, id, 0, UINT64_MAX, &outbox->rooms[i], outbox->iov[i]);
		outbox->headers[i].msg_hdr = (struct msghdr){ .msg_iov = outbox->iov[i], .msg_iovlen = (size_t)pieces };
	}
	int sent = n == 1 ? (sendmsg(flow->fd, &outbox->headers[0].msg_hdr, MSG_NOSIGNAL) < 0 ? -1 : 1)
	                  : sendmmsg(flow->fd, outbox->headers, n, MSG_NOSIGNAL);
	return sent < 0 ? 0 : (uint32_t)sent;
}

/* The socket cuts one send into datagrams of the size of the payload. */
static uint32_t send_segments(struct blast *blast, struct blast_flow *flow, uint32_t n)
{
	struct blast_outbox *outbox = &blast->outbox;
	uint32_t most = BLAST_MAX_PAYLOAD / blast->plan->payload_bytes, used = 0;
	most = most < BLAST_SEGMENTS ? most : BLAST_SEGMENTS;
	n = n < most ? n : most;
	for (uint32_t i = 0; i < n; i++) {
		struct message_id id = { .client = flow->id, .sequence = flow->track.next + i };
		used += (uint32_t)message_iov(blast->message, id, 0, UINT64_MAX, &outbox->rooms[i], outbox->run + used);
	}
	struct msghdr header = { .msg_iov = outbox->run, .msg_iovlen = used };
	ssize_t sent = sendmsg(flow->fd, &header, MSG_NOSIGNAL);
	return sent < 0 ? 0 : (uint32_t)sent / blast->plan->payload_bytes;
}

static void sent(struct blast *blast, struct blast_flow *flow, uint32_t n, uint64_t sent_ns)
{
	const struct blast_plan *plan = blast->plan;
	for (uint32_t i = 0; i < n && plan->one_way; i++)
		(void)track_send_one_way(&flow->track);
	for (uint32_t i = 0; i < n && !plan->one_way; i++)
		(void)track_send(&flow->track, sent_ns);
	flow->here += n;
	blast->last_sent_ns = blast->now_ns;
	count_now(&blast->tally->sent_now, n);
	if (sent_ns < blast->warm_ns)
		return;
	blast->tally->sent += n;
	blast->tally->bytes_out += (uint64_t)n * plan->payload_bytes;
}

uint32_t blast_send(struct blast *blast, struct blast_flow *flow, uint32_t n, uint64_t sent_ns)
{
	uint32_t done = 0;
	bool told = false;
	while (done < n) {
		uint32_t taken = (blast->plan->segment ? send_segments : send_each)(blast, flow, n - done);
		sent(blast, flow, taken, sent_ns);
		done += taken;
		if (taken > 0)
			continue;
		int error = errno;
		/* What the kernel knows of an earlier datagram is told once, and this one was not sent. */
		if (error == EINTR || (is_refusal(error) && !told)) {
			told = told || error != EINTR;
			if (error != EINTR)
				count_refusal(blast, error);
			continue;
		}
		blast->tally->unsent += blast_counts(blast) ? n - done : 0;
		note_error(blast, "cannot send", error);
		break;
	}
	return done;
}

/* --- receiving -------------------------------------------------------------------- */

static void add_row(struct blast *blast, const struct blast_flow *flow, uint64_t sequence, uint64_t sent_ns, bool ok)
{
	struct row row = { .client = flow->id,
		.sequence = sequence,
		.start_ns = sent_ns > blast->start_ns ? sent_ns - blast->start_ns : 0,
		.latency_ns = blast->now_ns > sent_ns ? blast->now_ns - sent_ns : 0,
		.bytes = ok ? blast->plan->payload_bytes : 0,
		.ok = ok };
	rows_add(&blast->rows, &row);
}

static void answered(struct blast *blast, struct blast_flow *flow, uint64_t sequence, uint64_t sent_ns, bool reordered, bool late)
{
	struct blast_tally *tally = blast->tally;
	count_now(&tally->answered_now, 1);
	count_now(&tally->lost_now, late ? UINT64_MAX : 0);
	blast->last_answer_ns = blast->now_ns;
	if (sent_ns < blast->warm_ns)
		return;
	tally->answered++;
	tally->reordered += reordered;
	tally->late += late;
	tally->lost -= late;
	tally->bytes_in += blast->plan->payload_bytes;
	bench_histogram_record(&tally->latency, blast->now_ns > sent_ns ? blast->now_ns - sent_ns : 0);
	add_row(blast, flow, sequence, sent_ns, true);
}

static void take_answer(struct blast *blast, struct blast_flow *flow, const unsigned char *bytes, size_t size)
{
	struct blast_tally *tally = blast->tally;
	struct message_id id;
	bool counts = blast_counts(blast), named = message_whose(blast->message, bytes, size, &id);
	if (named && id.client != flow->id) {
		tally->foreign += counts;
		return;
	}
	if (!named || blast->plan->one_way || size != blast->plan->payload_bytes ||
	        message_compare(blast->message, id, 0, bytes, size) != size) {
		tally->wrong += counts;
		return;
	}
	uint64_t sent_ns = 0;
	bool reordered = false;
	enum track_answer answer = track_receive(&flow->track, id.sequence, &sent_ns, &reordered);
	if (answer == TRACK_ANSWERED || answer == TRACK_LATE)
		answered(blast, flow, id.sequence, sent_ns, reordered, answer == TRACK_LATE);
	tally->duplicates += answer == TRACK_DUPLICATE && counts;
	tally->stale += answer == TRACK_STALE && counts;
	tally->wrong += answer == TRACK_UNSENT && counts;
}

/* Of what size the datagrams are that the kernel put together; that of the whole where it did not. */
static size_t segment_size(struct msghdr *header, size_t whole)
{
	for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control != NULL; control = CMSG_NXTHDR(header, control)) {
		int size = 0;
		if (control->cmsg_level != SOL_UDP || control->cmsg_type != UDP_GRO)
			continue;
		memcpy(&size, CMSG_DATA(control), sizeof size);
		return size > 0 ? (size_t)size : whole;
	}
	return whole;
}

static void take_message(struct blast *blast, struct blast_flow *flow, int i)
{
	struct blast_inbox *inbox = &blast->inbox;
	size_t whole = inbox->headers[i].msg_len, each = segment_size(&inbox->headers[i].msg_hdr, whole);
	const unsigned char *bytes = inbox->bytes[i];
	if (whole == 0)
		take_answer(blast, flow, bytes, 0);
	for (size_t at = 0; at < whole; at += each)
		take_answer(blast, flow, bytes + at, whole - at < each ? whole - at : each);
}

static bool give_one_up(struct blast *blast, struct blast_flow *flow, uint64_t before_ns)
{
	uint64_t sequence, sent_ns;
	if (!track_give_up(&flow->track, before_ns, &sequence, &sent_ns))
		return false;
	count_now(&blast->tally->lost_now, 1);
	if (sent_ns >= blast->warm_ns) {
		blast->tally->lost++;
		add_row(blast, flow, sequence, sent_ns, false);
	}
	return true;
}

void blast_give_up(struct blast *blast, struct blast_flow *flow)
{
	uint64_t after_ns = blast->plan->lost_after_ns;
	while (flow->track.awaited > 0 && blast->now_ns > after_ns && give_one_up(blast, flow, blast->now_ns - after_ns))
		;
}

void blast_receive(struct blast *blast, struct blast_flow *flow)
{
	struct blast_inbox *inbox = &blast->inbox;
	/* What is awaited and no more: what comes beside it is told by the next turn. */
	uint32_t n = flow->track.awaited < 1 ? 1 : flow->track.awaited < BLAST_RECEIVE_BATCH ? flow->track.awaited : BLAST_RECEIVE_BATCH;
	for (uint32_t i = 0; i < n && blast->plan->coalesce; i++) {
		inbox->headers[i].msg_hdr.msg_control = inbox->control[i].bytes;
		inbox->headers[i].msg_hdr.msg_controllen = sizeof inbox->control[i].bytes;
	}
	int got = recvmmsg(flow->fd, inbox->headers, n, 0, NULL);
	if (got < 0) {
		if (errno != EAGAIN && errno != EINTR)
			count_refusal(blast, errno);
		return;
	}
	blast->now_ns = clock_now_ns();
	blast_give_up(blast, flow); /* late is late, also where we were not there to see it */
	for (int i = 0; i < got; i++)
		take_message(blast, flow, i);
}

void blast_give_up_oldest(struct blast *blast, struct blast_flow *flow)
{
	(void)give_one_up(blast, flow, UINT64_MAX);
}
