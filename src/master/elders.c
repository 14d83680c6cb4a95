#include "master/elders.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/handover.h"
#include "master/master.h"
#include "master/segment.h"
#include "master/supervise.h"
#include "master/transition.h"
#include "os/channel.h"
#include "os/process.h"
#include "shm/carry.h"
#include "shm/sums.h"

#define KILL_AFTER_DRAIN_NS (10 * NS_PER_S) /* beyond drain.timeout: it kills its own workers before */
#define KILL_AFTER_QUIT_NS (10 * NS_PER_S)  /* the same */

static void on_channel(struct loop_io *io, int events);
static void on_deadline(struct loop_timer *timer);

int elder_add(struct master *master, int channel, pid_t pid, bool is_parent)
{
	struct elder *elder = calloc(1, sizeof *elder), **link = &master->adoption.elders;
	if (!elder)
		return -ENOMEM;
	*elder = (struct elder){ .master = master, .pid = pid, .channel = channel, .is_parent = is_parent };
	loop_io_init(&elder->io, on_channel);
	loop_timer_init(&elder->deadline, on_deadline);
	while (*link)
		link = &(*link)->next;
	*link = elder;
	return 0;
}

void elder_free(struct elder *elder)
{
	struct elder **link = &elder->master->adoption.elders;
	while (*link != elder)
		link = &(*link)->next;
	*link = elder->next;
	if (elder->master->loop) {
		loop_io_stop(elder->master->loop, &elder->io);
		loop_timer_stop(elder->master->loop, &elder->deadline);
	}
	close(elder->channel);
	free(elder);
}

int elder_watch(struct elder *elder)
{
	return loop_io_set(elder->master->loop, &elder->io, elder->channel, LOOP_READ);
}

void elders_watch(struct master *master)
{
	for (struct elder *elder = master->adoption.elders; elder; elder = elder->next)
		if (elder_watch(elder))
			log_error("the old master (pid %d) cannot be heard: the kernel has no memory", (int)elder->pid);
}

void elders_leave(struct master *master, bool same_segment)
{
	for (struct elder *elder = master->adoption.elders; elder; elder = elder->next) {
		loop_io_stop(master->loop, &elder->io);
		loop_timer_stop(master->loop, &elder->deadline);
		if (elder->has_seat && !same_segment)
			carry_let_go(&master->shm, elder->seat); /* its own connections it tells to the next one */
	}
}

void elder_tell(struct elder *elder, enum upgrade_message kind, uint32_t value, uint64_t value_ns)
{
	const struct channel_message message = { .kind = kind, .value = value, .value_ns = value_ns };
	int error = channel_send(elder->channel, &message, -1);
	if (error && error != -EPIPE)
		log_error("the old master (pid %d) does not listen: %s", (int)elder->pid, strerror(-error));
}

/* --- its counters, where it has another segment ------------------------------------------------------------------------------- */

void elder_take_seat(struct elder *elder, uint32_t generation)
{
	struct shm *shm = &elder->master->shm;
	uint32_t index;
	if (segment_take_seat(shm, UINT32_MAX, &index) || segment_make_room_for_seat(shm, index)) {
		log_error("there is no room for the counters of the old master (pid %d): they are lost", (int)elder->pid);
		return;
	}
	struct shm_seat *seat = &shm->seats[index];
	atomic_store(&seat->pid_start_ticks, process_start_ticks(elder->pid));
	atomic_store(&seat->pid, (int32_t)elder->pid);
	atomic_store(&seat->slot, 0);
	atomic_store(&seat->generation, generation);
	atomic_store(&seat->cpu, -1);
	atomic_store(&seat->is_elder, 1);
	atomic_store(&seat->started_ns, clock_now_ns());
	atomic_store(&seat->base_accepts, counter_get(&seat->accepts));
	atomic_store(&seat->beat_ns, clock_now_ns());
	atomic_store(&seat->state, SEAT_DRAINING);
	elder->has_seat = true;
	elder->seat = index;
}

/* Sums look at new rows in all seats. */
static int make_room(const struct shm *shm, uint32_t listeners, uint32_t servers)
{
	int error = segment_make_room(shm, listeners, servers, 0);
	for (uint32_t seat = 0; !error && seat < shm->dims.seats; seat++)
		if (shm_seat_ever_used(shm, seat))
			error = segment_make_room_for_seat(shm, seat);
	return error;
}

void elder_read_counts(struct elder *elder, char *text)
{
	struct shm *shm = &elder->master->shm;
	uint32_t listeners, servers, before = sums_n_listeners(shm) + sums_n_servers(shm);
	if (!elder->has_seat)
		return;
	carry_count_rows(text, &listeners, &servers);
	int error = segment_make_room(shm, listeners, servers, 0);
	if (!error)
		error = carry_claim(shm, text);
	if (!error && sums_n_listeners(shm) + sums_n_servers(shm) != before)
		error = make_room(shm, 0, 0);
	if (!error)
		error = carry_read(shm, elder->seat, text);
	atomic_store(&shm->seats[elder->seat].beat_ns, clock_now_ns());
	if (error)
		log_error("counters of the old master (pid %d) are not all taken over: %s", (int)elder->pid, strerror(-error));
}

/* --- listening ---------------------------------------------------------------------------------------------------------------- */

static void bury(const struct elder *elder, uint32_t seat)
{
	struct master *master = elder->master;
	if (elder->shares && seat < master->shm.dims.seats && segment_seat_is_gone(&master->shm, seat))
		master_clear_seat(master, seat);
}

static void on_end(struct elder *elder)
{
	struct master *master = elder->master;
	bool early = elder->is_parent && master->guest;
	bool waiting = elder->is_parent && adopt_is_under_way(master);
	if (waiting)
		log_warn("the old master (pid %d) is gone: going on without it", (int)elder->pid);
	else
		log_info("the old master (pid %d) is done", (int)elder->pid);
	if (elder->has_seat) {
		carry_let_go(&master->shm, elder->seat);
		master_clear_seat(master, elder->seat);
	}
	if (elder->is_parent)
		adopt_parent_stopped(master);
	elder_free(elder);
	if (early || master->adoption.state == ADOPT_ADOPTING || master->adoption.state == ADOPT_ASKED)
		adopt_take_charge(master, NULL);
	else
		master_generation_changed(master);
}

static void hear(struct elder *elder, const struct channel_message *message, char *text)
{
	struct master *master = elder->master;
	switch ((enum upgrade_message)message->kind) {
	case UPGRADE_GO:
		if (elder->is_parent && master->adoption.state == ADOPT_ASKED)
			adopt_take_charge(master, text);
		break;
	case UPGRADE_STOPPED:
		elder->stopped = true;
		if (elder->is_parent)
			adopt_parent_stopped(master);
		if (master->transition)
			transition_try_switch(master->transition);
		break;
	case UPGRADE_BURIED:
		bury(elder, message->value);
		break;
	case UPGRADE_COUNTS:
		if (text)
			elder_read_counts(elder, text);
		break;
	default:
		break;
	}
}

static void on_channel(struct loop_io *io, int events)
{
	struct elder *elder = container_of(io, struct elder, io);
	struct channel_message message;
	int fd;
	(void)events;
	int error = channel_receive(elder->channel, &message, &fd);
	if (error == -EAGAIN)
		return;
	if (error) {
		on_end(elder);
		return;
	}
	char *text = fd >= 0 ? upgrade_read_text(fd, CARRY_BYTES_MOST) : NULL;
	hear(elder, &message, text); /* the elder may be gone after that */
	free(text);
}

/* --- orders ------------------------------------------------------------------------------------------------------------------- */

static void on_deadline(struct loop_timer *timer)
{
	struct elder *elder = container_of(timer, struct elder, deadline);
	log_error("the old master (pid %d) does not end: killing it", (int)elder->pid);
	(void)kill(elder->pid, SIGKILL);
}

void elders_drain(struct master *master, uint32_t pace, uint64_t timeout_ns)
{
	for (struct elder *elder = master->adoption.elders; elder; elder = elder->next) {
		elder_tell(elder, UPGRADE_DRAIN, pace, timeout_ns);
		if (timeout_ns)
			loop_timer_start(master->loop, &elder->deadline, timeout_ns + KILL_AFTER_DRAIN_NS);
	}
}

void elders_quit(struct master *master, uint32_t keep)
{
	uint32_t count = 0;
	for (struct elder *elder = master->adoption.elders; elder; elder = elder->next)
		if (++count > keep) {
			elder_tell(elder, UPGRADE_QUIT, 0, 0);
			loop_timer_start(master->loop, &elder->deadline, KILL_AFTER_QUIT_NS);
		}
}

void elders_reopen_log(struct master *master)
{
	for (struct elder *elder = master->adoption.elders; elder; elder = elder->next)
		elder_tell(elder, UPGRADE_REOPEN, 0, 0);
}

void elders_release_in_child(const struct master *master)
{
	for (const struct elder *elder = master->adoption.elders; elder; elder = elder->next)
		close(elder->channel);
}
