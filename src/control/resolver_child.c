/* Asking by getaddrinfo(3), which blocks, in a child process. For a build without c-ares; it also knows what only the C library's
 * name service switch knows. It has no TTL to tell.
 *
 * One child at a time takes all that was asked for until it starts, and ends when the last of it is answered or too late. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/resolver_lookup.h"
#include "os/loop.h"
#include "os/signals.h"
#include "os/title.h"

enum { CHILD_TTL_S = 30 };
#define CHILD_LIMIT_NS (30 * NS_PER_S)

/* What the child says of a name. Less than PIPE_BUF: it arrives whole or not at all. */
struct record {
	uint32_t index;
	int32_t error; /* of getaddrinfo(3), for the log */
	int32_t outcome[IP_FAMILIES];
	struct ip_set found[IP_FAMILIES];
};
static_assert(sizeof(struct record) <= 4096, "a record is written at once");

struct child {
	struct lookups base;
	struct lookup *asked[LOOKUPS_AT_ONCE]; /* for the next child */
	struct lookup *batch[LOOKUPS_AT_ONCE]; /* of this one; NULL = answered */
	size_t n_asked, n_batch, n_left;
	pid_t pid; /* 0 = none */
	struct loop_io io;
	struct loop_timer start, limit;
};

static int family_number(int family)
{
	return family == IP_V4 ? AF_INET : AF_INET6;
}

static bool asks_for(const struct lookup *lookup, int family)
{
	return lookup->families & (family == IP_V4 ? RESOLVER_IPV4 : RESOLVER_IPV6);
}

/* --- in the child ---------------------------------------------------------------------------------------------------------- */

struct work {
	const struct lookup *lookup;
	struct addrinfo hints;
	struct gaicb request;
	int alone;    /* the family that is asked for once more, by itself; -1 = none */
	bool refused; /* the C library could not take it up */
	struct record record;
};

static enum lookup_outcome outcome_of(int error)
{
	return error == EAI_NONAME || error == EAI_NODATA || error == EAI_ADDRFAMILY ? LOOKUP_ABSENT : LOOKUP_FAILED;
}

static void submit(struct work *work, int family)
{
	struct gaicb *request = &work->request;
	work->hints = (struct addrinfo){ .ai_family = family, .ai_socktype = SOCK_STREAM };
	work->request = (struct gaicb){ .ar_name = work->lookup->name, .ar_request = &work->hints };
	work->refused = getaddrinfo_a(GAI_NOWAIT, &request, 1, NULL) != 0;
}

static void take_list(struct work *work, const struct addrinfo *list)
{
	struct ip_pick picks[IP_FAMILIES] = { { .known = &work->lookup->known[IP_V4] }, { .known = &work->lookup->known[IP_V6] } };
	for (; list; list = list->ai_next) {
		struct ip ip;
		enum ip_family family;
		if (ip_from_sockaddr(list->ai_addr, list->ai_addrlen, &ip, &family) && ip_is_server(&ip, family))
			ip_pick_add(&picks[family], &ip);
	}
	for (int family = 0; family < IP_FAMILIES; family++) {
		work->record.found[family] = ip_pick_result(&picks[family]);
		work->record.outcome[family] = work->record.found[family].n ? LOOKUP_GOOD : LOOKUP_ABSENT;
	}
}

/* An answer for both families does not say whether a missing one is absent or has failed. Where that matters, it is asked for alone. */
static bool ask_for_missing(struct work *work)
{
	for (int family = 0; family < IP_FAMILIES; family++)
		if (work->record.found[family].n == 0 && work->lookup->known[family].n > 0 && asks_for(work->lookup, family)) {
			work->alone = family;
			submit(work, family_number(family));
			return true;
		}
	return false;
}

/* False when there is more to ask for. */
static bool take_result(struct work *work, int error)
{
	if (work->alone >= 0) {
		/* An answer now is not that of a moment ago: it may be another host's, from another search domain. Next time. */
		work->record.outcome[work->alone] = error ? (int32_t)outcome_of(error) : LOOKUP_FAILED;
		work->record.error = error ? error : EAI_AGAIN;
		return true;
	}
	work->record.error = error;
	if (!error) {
		take_list(work, work->request.ar_result);
		return !(work->record.found[IP_V4].n || work->record.found[IP_V6].n) || !ask_for_missing(work);
	}
	for (int family = 0; family < IP_FAMILIES; family++)
		work->record.outcome[family] = (int32_t)outcome_of(error);
	return true;
}

static int result_of(struct work *work)
{
	int error = work->refused ? EAI_AGAIN : gai_error(&work->request);
	return error == 0 && !work->request.ar_result ? EAI_FAIL : error;
}

static void child_main(struct work *works, size_t n, int fd)
{
	const struct gaicb *requests[LOOKUPS_AT_ONCE];
	for (size_t i = 0; i < n; i++) {
		submit(&works[i], works[i].hints.ai_family);
		requests[i] = &works[i].request;
	}
	for (size_t left = n; left > 0;) {
		for (size_t i = 0; i < n; i++) {
			int error = requests[i] ? result_of(&works[i]) : EAI_INPROGRESS;
			if (error == EAI_INPROGRESS || !take_result(&works[i], error))
				continue;
			if (write(fd, &works[i].record, sizeof works[i].record) != (ssize_t)sizeof works[i].record)
				_exit(EXIT_FAILURE);
			requests[i] = NULL;
			left--;
		}
		if (left)
			(void)gai_suspend(requests, (int)n, NULL);
	}
	_exit(EXIT_SUCCESS);
}

static void become_child(const struct child *child, pid_t parent, int fd)
{
	static struct work works[LOOKUPS_AT_ONCE];
	signals_for_child();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_FAILURE);
	title_set("aegis: resolving names");
	if (dup2(fd, STDIN_FILENO) < 0)
		_exit(EXIT_FAILURE);
	(void)syscall(SYS_close_range, (unsigned)STDERR_FILENO + 1, ~0U, 0); /* nobody should wait for our copies to be closed */
	for (size_t i = 0; i < child->n_batch; i++) {
		bool both = asks_for(child->batch[i], IP_V4) && asks_for(child->batch[i], IP_V6);
		works[i].lookup = child->batch[i];
		works[i].alone = -1;
		works[i].record.index = (uint32_t)i;
		works[i].hints.ai_family = both ? AF_UNSPEC : family_number(asks_for(child->batch[i], IP_V4) ? IP_V4 : IP_V6);
	}
	child_main(works, child->n_batch, STDIN_FILENO);
}

/* --- in the process that asks ---------------------------------------------------------------------------------------------- */

static void fail(struct child *child, struct lookup *lookup, const char *why)
{
	lookup->outcome[IP_V4] = LOOKUP_FAILED;
	lookup->why = why;
	child->base.answered(lookup);
}

static void stop_child(struct child *child)
{
	if (!child->pid)
		return;
	int fd = child->io.fd;
	loop_timer_stop(child->base.loop, &child->limit);
	loop_io_stop(child->base.loop, &child->io);
	close(fd);
	(void)kill(child->pid, SIGKILL);
	while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
		;
	child->pid = 0;
}

static void finish_batch(struct child *child, const char *why)
{
	stop_child(child);
	for (size_t i = 0; i < child->n_batch; i++) {
		struct lookup *lookup = child->batch[i];
		child->batch[i] = NULL;
		if (lookup)
			fail(child, lookup, why);
	}
	child->n_batch = 0;
	if (child->n_asked > 0)
		loop_timer_start(child->base.loop, &child->start, 0);
}

/* The child parsed what came from the network: what it says is input. */
static bool is_sound(const struct child *child, const struct record *record)
{
	if (record->index >= child->n_batch || !child->batch[record->index])
		return false;
	for (int family = 0; family < IP_FAMILIES; family++) {
		const struct ip_set *found = &record->found[family];
		if (record->outcome[family] < LOOKUP_ABSENT || record->outcome[family] > LOOKUP_FAILED || found->n > SERVER_MAX_ADDRESSES)
			return false;
		if ((found->n > 0) != (record->outcome[family] == LOOKUP_GOOD))
			return false;
		for (uint32_t i = 0; i < found->n; i++)
			if (!ip_is_server(&found->ips[i], (enum ip_family)family))
				return false;
	}
	return true;
}

static void take_record(struct child *child, const struct record *record)
{
	struct lookup *lookup = child->batch[record->index];
	child->batch[record->index] = NULL;
	child->n_left--;
	for (int family = 0; family < IP_FAMILIES; family++) {
		lookup->outcome[family] = (enum lookup_outcome)record->outcome[family];
		lookup->found[family] = (struct ip_set){ .n = 0 };
		for (uint32_t i = 0; i < record->found[family].n; i++)
			ip_set_add(&lookup->found[family], &record->found[family].ips[i]);
	}
	lookup->ttl_s = CHILD_TTL_S;
	lookup->why = record->error == 0 ? "the answer has no address that a server can have" : gai_strerror(record->error);
	child->base.answered(lookup);
}

static void on_readable(struct loop_io *io, int events)
{
	struct child *child = container_of(io, struct child, io);
	struct record record;
	(void)events;
	ssize_t length = read(io->fd, &record, sizeof record);
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (length != (ssize_t)sizeof record || !is_sound(child, &record)) {
		finish_batch(child, "the process that resolves names ended early");
		return;
	}
	take_record(child, &record);
	if (child->n_left == 0)
		finish_batch(child, "");
}

static void on_limit(struct loop_timer *timer)
{
	finish_batch(container_of(timer, struct child, limit), "no answer in time");
}

static int start_child(struct child *child)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid == 0)
		become_child(child, parent, ends[1]);
	int err = pid < 0 ? -errno : 0;
	close(ends[1]);
	if (!err) {
		child->pid = pid;
		(void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
		err = loop_io_set(child->base.loop, &child->io, ends[0], LOOP_READ);
		if (!err)
			return 0;
		child->io.fd = ends[0];
		stop_child(child);
		return err;
	}
	close(ends[0]);
	return err;
}

static void on_start(struct loop_timer *timer)
{
	struct child *child = container_of(timer, struct child, start);
	memcpy(child->batch, child->asked, sizeof child->batch);
	child->n_batch = child->n_left = child->n_asked;
	child->n_asked = 0;
	if (start_child(child))
		finish_batch(child, "cannot start a process to resolve names");
	else
		loop_timer_start(child->base.loop, &child->limit, CHILD_LIMIT_NS);
}

static void child_ask(struct lookups *lookups, struct lookup *lookup)
{
	struct child *child = container_of(lookups, struct child, base);
	ensure(child->n_asked < LOOKUPS_AT_ONCE);
	child->asked[child->n_asked++] = lookup;
	if (!child->pid && !loop_timer_active(&child->start))
		loop_timer_start(child->base.loop, &child->start, 0);
}

static void child_close(struct lookups *lookups)
{
	struct child *child = container_of(lookups, struct child, base);
	stop_child(child);
	loop_timer_stop(child->base.loop, &child->start);
	free(child);
}

static int child_open(const struct resolver_settings *settings, struct loop *loop, lookup_answered_fn *answered, struct lookups **out)
{
	if (settings->servers)
		return -ENOTSUP;
	struct child *child = calloc(1, sizeof *child);
	if (!child)
		return -ENOMEM;
	child->base = (struct lookups){ .kind = &lookup_child, .loop = loop, .answered = answered };
	loop_io_init(&child->io, on_readable);
	loop_timer_init(&child->start, on_start);
	loop_timer_init(&child->limit, on_limit);
	*out = &child->base;
	return 0;
}

const struct lookup_kind lookup_child = { .open = child_open, .ask = child_ask, .close = child_close };
