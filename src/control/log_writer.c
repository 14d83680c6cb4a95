#include "control/log_writer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/log_stream.h"
#include "os/process.h"
#include "shm/log_port.h"

#define LOOK_NS (50 * NS_PER_MS)
#define LOOK_ASLEEP_NS NS_PER_S /* a bell may be lost with who was to ring it */
enum { LOOKS_BEFORE_SLEEP = 20 };
enum { FLUSH_TURNS = 1000 };

struct log_writer {
	struct loop *loop;
	struct shm *shm;
	const struct bells *bell;
	struct loop_io bell_io;
	struct loop_timer look;
	bool going;
	int32_t master; /* whose workers these are; 0: whoever has the segment */
	uint32_t idle_looks;
	uint64_t tell_ns; /* not before */
	uint64_t unsound_told[N_LOG_KINDS];
	bool refusal_told[N_LOG_KINDS];
	struct log_stream streams[N_LOG_KINDS];
};

static const char *const log_names[N_LOG_KINDS] = { [LOG_KIND_ERROR] = "log", [LOG_KIND_ACCESS] = "access log" };
static const char *const line_names[N_LOG_KINDS] = { [LOG_KIND_ERROR] = "lines of workers", [LOG_KIND_ACCESS] = "records" };

/* --- what the log says about logs ---------------------------------------------------------------------------------------------- */

static void tell_refusal(struct log_writer *writer, enum log_kind kind)
{
	const struct log_stream *stream = &writer->streams[kind];
	bool refused = stream->error && stream->error != EAGAIN;
	if (refused && !writer->refusal_told[kind])
		log_error("the %s cannot be written: %s; %s wait in memory, and are dropped when that is full", log_names[kind],
		        strerror(stream->error), line_names[kind]);
	writer->refusal_told[kind] = stream->error && (refused || writer->refusal_told[kind]);
}

/* Only while lines are taken: this one would be lost as well. */
static void tell_drops(struct log_writer *writer, enum log_kind kind)
{
	struct log_stream *stream = &writer->streams[kind];
	uint64_t drops = log_stream_drops(stream), told = atomic_load_explicit(&writer->shm->header->log_told[kind], memory_order_relaxed);
	if (stream->error)
		return;
	if (drops > told)
		log_warn("%s: %llu %s were lost, because they were not taken in time", log_names[kind], (unsigned long long)(drops - told),
		        line_names[kind]);
	if (drops != told)
		atomic_store_explicit(&writer->shm->header->log_told[kind], drops, memory_order_relaxed);
	if (stream->unsound != writer->unsound_told[kind])
		log_warn("%s: %llu %s in shared memory were damaged and left out", log_names[kind],
		        (unsigned long long)(stream->unsound - writer->unsound_told[kind]), line_names[kind]);
	writer->unsound_told[kind] = stream->unsound;
}

static void tell(struct log_writer *writer)
{
	uint64_t now_ns = loop_now_ns(writer->loop);
	for (enum log_kind kind = 0; kind < N_LOG_KINDS; kind++)
		tell_refusal(writer, kind);
	if (now_ns < writer->tell_ns)
		return;
	writer->tell_ns = now_ns + NS_PER_S;
	for (enum log_kind kind = 0; kind < N_LOG_KINDS; kind++)
		tell_drops(writer, kind);
}

/* --- looking ------------------------------------------------------------------------------------------------------------------- */

/* True when there is more to be done at once. */
static bool work(struct log_writer *writer, bool *any)
{
	bool more = false;
	for (enum log_kind kind = 0; kind < N_LOG_KINDS; kind++)
		more = log_stream_work(&writer->streams[kind], any) || more;
	tell(writer);
	return more;
}

/* Another master that took the segment over has a control process of its own. */
static bool is_ours(const struct log_writer *writer)
{
	return !writer->master || atomic_load(&writer->shm->header->master_pid) == writer->master;
}

static void look(struct log_writer *writer)
{
	if (unlikely(!is_ours(writer))) {
		log_writer_stop(writer);
		return;
	}
	bool any = false, more = work(writer, &any);
	writer->idle_looks = any ? 0 : writer->idle_looks + 1;
	if (writer->idle_looks < LOOKS_BEFORE_SLEEP) {
		loop_timer_start(writer->loop, &writer->look, more ? 0 : LOOK_NS);
		return;
	}
	log_port_sleep(writer->shm);
	(void)work(writer, &any);
	if (any) {
		log_port_awake(writer->shm);
		writer->idle_looks = 0;
	}
	loop_timer_start(writer->loop, &writer->look, any ? LOOK_NS : LOOK_ASLEEP_NS);
}

static void on_look(struct loop_timer *timer)
{
	look(container_of(timer, struct log_writer, look));
}

static void on_bell(struct loop_io *io, int events)
{
	struct log_writer *writer = container_of(io, struct log_writer, bell_io);
	(void)events;
	if (!writer->going)
		return;
	writer->idle_looks = 0;
	look(writer);
}

/* --- from the first to the last ------------------------------------------------------------------------------------------------ */

int log_writer_new(struct loop *loop, const struct log_writer_args *args, struct log_writer **out)
{
	struct log_writer *writer = calloc(1, sizeof *writer);
	if (!writer)
		return -ENOMEM;
	writer->loop = loop;
	writer->shm = args->shm;
	writer->bell = args->bell;
	struct log_sink *access = args->access && args->access->kind != LOG_SINK_NONE ? args->access : NULL;
	log_stream_init(&writer->streams[LOG_KIND_ERROR], args->shm, LOG_KIND_ERROR, log_target(), log_format());
	log_stream_init(&writer->streams[LOG_KIND_ACCESS], args->shm, LOG_KIND_ACCESS, access, args->access_format);
	loop_timer_init(&writer->look, on_look);
	loop_io_init(&writer->bell_io, on_bell);
	int error = loop_io_set(loop, &writer->bell_io, bell_fd(args->bell, 0), LOOP_READ | LOOP_EDGE);
	if (error) {
		free(writer);
		return error;
	}
	*out = writer;
	return 0;
}

void log_writer_free(struct log_writer *writer)
{
	if (!writer)
		return;
	loop_io_stop(writer->loop, &writer->bell_io);
	loop_timer_stop(writer->loop, &writer->look);
	free(writer);
}

void log_writer_go(struct log_writer *writer)
{
	if (writer->going)
		return;
	writer->going = true;
	log_port_awake(writer->shm); /* a predecessor may have slept */
	look(writer);
}

void log_writer_stop(struct log_writer *writer)
{
	if (!writer->going)
		return;
	writer->going = false;
	loop_timer_stop(writer->loop, &writer->look);
	for (enum log_kind kind = 0; kind < N_LOG_KINDS; kind++)
		log_stream_stop(&writer->streams[kind]);
}

/* Until one of those who take nothing now does, or the time is over. */
static bool wait_for_room(const struct log_writer *writer, uint64_t until_ns)
{
	struct pollfd fds[N_LOG_KINDS];
	nfds_t n = 0;
	for (enum log_kind kind = 0; kind < N_LOG_KINDS; kind++)
		if (writer->streams[kind].error == EAGAIN)
			fds[n++] = (struct pollfd){ .fd = writer->streams[kind].sink->fd, .events = POLLOUT };
	uint64_t now_ns = clock_now_ns();
	return n > 0 && now_ns < until_ns && poll(fds, n, (int)((until_ns - now_ns) / NS_PER_MS) + 1) > 0;
}

void log_writer_flush(struct log_writer *writer, uint64_t within_ns)
{
	uint64_t until_ns = clock_now_ns() + within_ns;
	bool any = false;
	if (!writer || !writer->going)
		return;
	for (int i = 0; i < FLUSH_TURNS && (work(writer, &any) || wait_for_room(writer, until_ns)); i++)
		;
	writer->tell_ns = 0;
	tell(writer);
}

void log_writer_orphaned(struct log_writer *writer)
{
	writer->master = atomic_load(&writer->shm->header->master_pid);
}

static bool lives(const struct shm_seat *seat)
{
	return atomic_load_explicit(&seat->state, memory_order_relaxed) != SEAT_FREE &&
	       process_is_aegis(atomic_load_explicit(&seat->pid, memory_order_relaxed));
}

bool log_writer_is_needed(const struct log_writer *writer)
{
	bool any = false;
	for (uint32_t i = 0; writer->going && is_ours(writer) && !any && i < writer->shm->dims.seats; i++)
		any = lives(&writer->shm->seats[i]);
	return any;
}

void log_writer_adopt_access(struct log_writer *writer, int fd)
{
	struct log_sink *sink = writer->streams[LOG_KIND_ACCESS].sink;
	if (sink && sink->kind == LOG_SINK_FILE)
		log_sink_adopt(sink, fd);
	else
		close(fd);
}
