#include "master/adopt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "master/master.h"
#include "master/segment.h"
#include "master/transition.h"
#include "master/yield.h"
#include "os/channel.h"
#include "os/process.h"
#include "shm/sums.h"

static struct adoption *adoption_of(struct master *master)
{
	return &master->adoption;
}

static struct elder *parent_of(const struct master *master)
{
	for (struct elder *elder = master->adoption.elders; elder; elder = elder->next)
		if (elder->is_parent)
			return elder;
	return NULL;
}

bool adopt_is_under_way(const struct master *master)
{
	enum adopt_state state = master->adoption.state;
	return state == ADOPT_ADOPTING || state == ADOPT_ASKED || state == ADOPT_IN_CHARGE;
}

/* --- taking things over ------------------------------------------------------------------------------------------------------- */

int adopt_begin(struct master *master, char *why, size_t why_size)
{
	struct adoption *adoption = adoption_of(master);
	int memfd = handover_import();
	if (memfd < 0)
		return 0;
	int error = handover_read(memfd, &adoption->handover, why, why_size);
	if (error)
		return error;
	struct handed *channel = handover_next(&adoption->handover, HANDED_CHANNEL, NULL);
	if (!channel || !handover_next(&adoption->handover, HANDED_PID_FILE, NULL)) {
		(void)snprintf(why, why_size, "the old master handed over no channel or no pid file");
		return -EPROTO;
	}
	adoption->from = (pid_t)channel->number;
	error = elder_add(master, handed_take(channel), adoption->from, true);
	if (error) {
		(void)snprintf(why, why_size, "out of memory");
		return error;
	}
	adoption->state = ADOPT_ADOPTING;
	master->guest = true;
	master->last_generation = adoption->handover.generation;
	return 0;
}

const char *adopt_runtime_dir(const struct master *master)
{
	return master->adoption.handover.runtime_dir;
}

int adopt_pid_file(struct master *master)
{
	struct handed *item = handover_next(&master->adoption.handover, HANDED_PID_FILE, NULL);
	return item ? handed_take(item) : -1;
}

/* What the old control process may be checking: all servers in use. */
static int note_held(struct master *master)
{
	bool *held = calloc(master->shm.dims.servers, sizeof *held);
	if (!held)
		return -ENOMEM;
	for (uint32_t i = 0; i < sums_n_servers(&master->shm); i++)
		held[i] = atomic_load(&master->shm.servers[i].in_use);
	master->adoption.held = held;
	return 0;
}

int adopt_segment(struct master *master, const struct shm_dims *dims)
{
	struct adoption *adoption = adoption_of(master);
	if (segment_join(&master->shm, master->stats_path, dims) == 0) {
		adoption->same_segment = true;
		return note_held(master);
	}
	master->guest = false;
	int error = segment_make_next(&master->shm, master->stats_path, dims, master->identity.change ? master->identity.gid : (gid_t)-1);
	if (error)
		return error;
	log_info("the old master's segment has another layout or is too small: going on with a new one, counters are carried over");
	atomic_store(&master->shm.header->master_pid, (int32_t)adoption->from);
	atomic_store(&master->shm.header->heir_pid, (int32_t)getpid());
	return 0;
}

bool adopt_tickets(struct master *master)
{
	struct handed *item = handover_next(&master->adoption.handover, HANDED_TICKETS, NULL);
	int error = item ? tickets_adopt(item->fd, &master->tickets) : -ENOENT;
	if (error == 0)
		master->tickets_fd = handed_take(item);
	else if (adopt_is_under_way(master))
		log_info("the old master hands over no keys of session tickets that this program knows: clients with TLS begin anew, once");
	return error == 0;
}

void adopt_gates(struct master *master)
{
	const struct handover *handover = &master->adoption.handover;
	for (struct handed *item = NULL; (item = handover_next(handover, HANDED_GATE, item)) != NULL;) {
		struct endpoint endpoint = { .kind = ENDPOINT_NONE };
		const char *why;
		bool is_unix = item->number == HTTP_GATE_UNIX;
		if (item->number >= N_HTTP_GATES || master->gates.now[item->number].fd >= 0 ||
		        (!is_unix && (endpoint_parse(item->text, &endpoint, &why) || endpoint.kind != ENDPOINT_ADDRESS)))
			continue; /* it is made anew, where it is wanted */
		gates_adopt(&master->gates, (enum http_gate)item->number, handed_take(item), is_unix ? NULL : &endpoint.addr);
	}
}

static struct listener *find_listener(const struct master *master, const struct handed *item)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		if (strcmp(master->listeners[i]->name, item->name) == 0 && strcmp(master->listeners[i]->address, item->text) == 0)
			return master->listeners[i];
	return NULL;
}

/* They come slot by slot. */
static int adopt_listener(struct master *master, struct handed *item)
{
	struct listener *listener = find_listener(master, item);
	int error;
	if (listener) {
		error = item->number == listener->n_fds ? listener_adopt_more(listener, item->fd) : -EINVAL;
	} else {
		error = item->number == 0 ? listener_adopt(item->name, item->text, (ino_t)item->extra, item->fd, &listener) : -EINVAL;
		if (!error)
			error = master_keep_listener(master, listener);
	}
	if (!error)
		(void)handed_take(item);
	return error;
}

static int adopt_listeners(struct master *master)
{
	const struct handover *handover = &master->adoption.handover;
	for (struct handed *item = handover_next(handover, HANDED_LISTENER, NULL); item;
	        item = handover_next(handover, HANDED_LISTENER, item)) {
		int error = adopt_listener(master, item);
		if (error) {
			log_error("the socket %u of listener %s (%s) cannot be taken over: %s", item->number, item->name, item->text,
			        strerror(-error));
			return error;
		}
	}
	return 0;
}

/* Who waits in line is rung by workers of both masters then. Otherwise he looks by himself every so often. */
static int adopt_bells(struct master *master)
{
	struct adoption *adoption = adoption_of(master);
	uint32_t n = 0;
	for (struct handed *item = NULL; (item = handover_next(&adoption->handover, HANDED_BELL, item)) != NULL;)
		n += item->number == n;
	if (!adoption->same_segment || n < master->max_workers)
		return bells_open(&master->bells, master->max_workers);
	for (struct handed *item = NULL; (item = handover_next(&adoption->handover, HANDED_BELL, item)) != NULL;) {
		if (item->number != master->bells.n)
			continue;
		int error = bells_add(&master->bells, item->fd);
		if (error)
			return error;
		(void)handed_take(item);
	}
	return 0;
}

/* The control process hears workers of both masters then. */
static int adopt_log_bell(struct master *master)
{
	struct handed *item = handover_next(&master->adoption.handover, HANDED_LOG_BELL, NULL);
	if (!item || !master->adoption.same_segment)
		return bells_open(&master->log_bell, 1);
	int error = bells_add(&master->log_bell, item->fd);
	if (!error)
		(void)handed_take(item);
	return error;
}

static int adopt_boxes(struct master *master)
{
	const struct handover *handover = &master->adoption.handover;
	struct handed *put = NULL, *take;
	while (master->adoption.same_segment && (put = handover_next(handover, HANDED_BOX_PUT, put)) != NULL) {
		take = handover_next(handover, HANDED_BOX_TAKE, put);
		if (!take || take->number != put->number || take->extra != put->extra || put->number >= sums_n_servers(&master->shm) ||
		        put->extra > POOL_FRAMING_LINE)
			return -EINVAL;
		const struct box box = { .put_fd = put->fd, .take_fd = take->fd };
		int error = boxes_adopt(&master->boxes, &master->shm, put->number, (enum pool_framing)put->extra, &box);
		if (error)
			return error;
		(void)handed_take(put);
		(void)handed_take(take);
	}
	return 0;
}

static int adopt_elders(struct master *master)
{
	const struct handover *handover = &master->adoption.handover;
	for (struct handed *item = NULL; (item = handover_next(handover, HANDED_ELDER, item)) != NULL;) {
		int error = elder_add(master, item->fd, (pid_t)item->number, false);
		if (error)
			return error;
		(void)handed_take(item);
		struct elder *elder = master->adoption.elders;
		while (elder->next)
			elder = elder->next;
		elder->shares = master->adoption.same_segment && item->extra == 0;
		if (master->adoption.same_segment && item->extra > 0 && item->extra <= master->shm.dims.seats) {
			elder->has_seat = true;
			elder->seat = (uint32_t)item->extra - 1;
		}
	}
	return 0;
}

int adopt_all(struct master *master)
{
	int error = adopt_bells(master);
	if (!error)
		error = adopt_log_bell(master);
	if (error || !adopt_is_under_way(master))
		return error;
	error = adopt_listeners(master);
	if (!error)
		error = adopt_boxes(master);
	if (!error)
		error = adopt_elders(master);
	if (!error)
		error = owners_adopt(&master->owners, &master->adoption.handover);
	if (error)
		return error;
	struct elder *parent = parent_of(master);
	parent->shares = master->adoption.same_segment;
	return elder_watch(parent);
}

const bool *adopt_held(const struct master *master)
{
	return master->adoption.held;
}

/* --- the switch --------------------------------------------------------------------------------------------------------------- */

static void write_header(struct master *master)
{
	struct shm_header *header = master->shm.header;
	atomic_store(&header->started_ns, master->started_ns);
	atomic_store(&header->started_unix_s, master->started_unix_s);
	atomic_store(&header->state, INSTANCE_RUNNING); /* for clients it never did anything else */
	(void)text_copy(header->config_file, sizeof header->config_file, master->source.file ? master->source.file : "");
}

void adopt_take_charge(struct master *master, char *counts)
{
	struct adoption *adoption = adoption_of(master);
	struct elder *parent = parent_of(master);
	adoption->state = ADOPT_IN_CHARGE;
	master->guest = false;
	free(adoption->held);
	adoption->held = NULL;
	for (struct elder *elder = adoption->elders; elder; elder = elder->next)
		if (!adoption->same_segment && !elder->has_seat)
			elder_take_seat(elder, adoption->handover.generation);
	if (counts)
		elder_read_counts(parent, counts);
	write_header(master);
	if (!adoption->same_segment)
		atomic_fetch_add(&master->shm.header->upgrades_begun, 1);
	int error = adoption->same_segment ? 0 : segment_put_next(master->stats_path);
	if (error) {
		log_error("cannot put the new segment in the place of %s: %s", master->stats_path, strerror(-error));
		if (master->transition)
			transition_cancel(master->transition);
		return;
	}
	master->orphans = adoption->same_segment;
	elders_watch(master);
	for (struct elder *elder = adoption->elders; elder; elder = elder->next)
		if (!elder->is_parent && elder->has_seat)
			elder_tell(elder, UPGRADE_TELL, 0, 0); /* the next one may be a second away */
	if (master->transition)
		transition_try_switch(master->transition);
}

bool adopt_may_switch(struct master *master)
{
	struct adoption *adoption = adoption_of(master);
	struct elder *parent = parent_of(master);
	if (adoption->state != ADOPT_ADOPTING)
		return adoption->state != ADOPT_ASKED;
	adoption->state = ADOPT_ASKED;
	if (parent)
		elder_tell(parent, UPGRADE_READY, adoption->same_segment, 0);
	return false;
}

void adopt_listens(struct master *master)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		master->listeners[i]->shared = false;
}

void adopt_reads(struct master *master, const struct generation *reader)
{
	if (!master->adoption.elders)
		return;
	char *text = yield_write(reader);
	for (const struct elder *elder = master->adoption.elders; elder; elder = elder->next) {
		int error = text ? upgrade_say(elder->channel, UPGRADE_YIELD, text, strlen(text)) : -ENOMEM;
		if (error && error != -EPIPE)
			log_error("the old master (pid %d) cannot be told which datagrams are no longer its own: %s", (int)elder->pid,
			        strerror(-error));
	}
	free(text);
}

void adopt_switched(struct master *master)
{
	struct shm_header *header = master->shm.header;
	const struct config *config = master->running->config;
	struct elder *parent = parent_of(master);
	if (master->adoption.state != ADOPT_IN_CHARGE)
		return;
	master->adoption.state = ADOPT_DONE;
	if (process_write_pid(master->pid_fd))
		log_error("cannot write %s: aegis -s does not find this instance", master->pid_path);
	counter_add(&header->upgrades_ok, 1);
	atomic_store(&header->master_pid, getpid());
	atomic_store(&header->heir_pid, 0);
	handover_free(&master->adoption.handover);
	if (parent)
		elder_tell(parent, UPGRADE_DRAIN, config->drain.pace, config->drain.timeout_ns);
}

void adopt_parent_stopped(struct master *master)
{
	struct shm_header *header = master->shm.header;
	if (master->adoption.same_segment || master->adoption.state != ADOPT_DONE)
		return; /* the old one says so itself */
	atomic_store(&header->last_upgrade_ok, 1);
	atomic_store(&header->upgrades_ended, atomic_load(&header->upgrades_begun));
}

bool adopt_waits(const struct master *master)
{
	const struct elder *parent = parent_of(master);
	return parent && !parent->stopped;
}

void adopt_give_up(struct master *master, const char *why)
{
	struct elder *parent = parent_of(master);
	if (!adopt_is_under_way(master))
		return;
	for (size_t i = 0; i < master->n_listeners; i++)
		if (handover_named(&master->adoption.handover, HANDED_LISTENER, master->listeners[i]->name, master->listeners[i]->address))
			master->listeners[i]->shared = true;
	if (parent && upgrade_say(parent->channel, UPGRADE_FAILED, why, strlen(why)))
		log_error("the old master cannot be told why");
}

void adopt_fini(struct master *master)
{
	while (master->adoption.elders)
		elder_free(master->adoption.elders);
	handover_free(&master->adoption.handover);
	free(master->adoption.held);
}
