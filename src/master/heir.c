#include "master/heir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "master/handover.h"
#include "master/master.h"
#include "os/channel.h"
#include "os/notify.h"

static int add_listener(struct handover *handover, const struct listener *listener)
{
	int error = 0;
	if (listener->leaving || listener->hidden || listener->inherited)
		return 0; /* what was inherited is inherited once more */
	for (uint32_t i = 0; !error && i < listener->n_fds; i++)
		error = handover_add(handover, &(struct handed){ .kind = HANDED_LISTENER,
		                                       .fd = listener->fds[i],
		                                       .number = i,
		                                       .extra = listener->inode,
		                                       .name = listener->name,
		                                       .text = listener->address });
	return error;
}

static int add_box(void *arg, uint32_t row, enum pool_framing framing, const struct box *box)
{
	struct handover *handover = arg;
	int error = handover_add(handover, &(struct handed){ .kind = HANDED_BOX_PUT, .fd = box->put_fd, .number = row, .extra = framing });
	if (error)
		return error;
	return handover_add(handover, &(struct handed){ .kind = HANDED_BOX_TAKE, .fd = box->take_fd, .number = row, .extra = framing });
}

typedef char gate_texts[N_HTTP_GATES][ADDR_TEXT_SIZE];

static int add_gates(struct handover *handover, const struct gates *gates, gate_texts texts)
{
	int error = 0;
	for (uint32_t i = 0; !error && i < N_HTTP_GATES; i++) {
		if (gates->now[i].fd < 0)
			continue;
		const char *text = i == HTTP_GATE_UNIX ? gates->path : addr_format(&gates->now[i].address, texts[i], ADDR_TEXT_SIZE);
		error = handover_add(handover, &(struct handed){ .kind = HANDED_GATE, .fd = gates->now[i].fd, .number = i, .text = text });
	}
	return error;
}

static int describe(const struct master *master, int channel, gate_texts texts, struct handover *out)
{
	*out = (struct handover){ .generation = master->last_generation, .runtime_dir = master->runtime_dir };
	int error = handover_add(out, &(struct handed){ .kind = HANDED_CHANNEL, .fd = channel, .number = (uint32_t)getpid() });
	if (!error)
		error = handover_add(out, &(struct handed){ .kind = HANDED_PID_FILE, .fd = master->pid_fd });
	for (size_t i = 0; !error && i < master->n_listeners; i++)
		error = add_listener(out, master->listeners[i]);
	for (uint32_t i = 0; !error && i < master->bells.n; i++)
		error = handover_add(out, &(struct handed){ .kind = HANDED_BELL, .fd = master->bells.fds[i], .number = i });
	if (!error)
		error = handover_add(out, &(struct handed){ .kind = HANDED_LOG_BELL, .fd = master->log_bell.fds[0] });
	if (!error)
		error = boxes_for_each(&master->boxes, add_box, out);
	if (!error)
		error = add_gates(out, &master->gates, texts);
	if (!error)
		error = owners_hand_over(&master->owners, out);
	if (!error)
		error = handover_add(out, &(struct handed){ .kind = HANDED_TICKETS, .fd = master->tickets_fd });
	for (const struct elder *elder = master->adoption.elders; !error && elder; elder = elder->next)
		error = handover_add(out, &(struct handed){ .kind = HANDED_ELDER,
		                                  .fd = elder->channel,
		                                  .number = (uint32_t)elder->pid,
		                                  .extra = elder->has_seat ? 1 + (uint64_t)elder->seat : 0 });
	return error;
}

static int inherit_originals(const struct master *master)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		if (master->listeners[i]->original >= 0 && fcntl(master->listeners[i]->original, F_SETFD, 0) < 0)
			return -errno;
	return 0;
}

/* In the child. All signals stay blocked, so that none is lost until the new master asks for them. */
static _Noreturn void become(struct master *master, const struct handover *handover, int memfd, int channel)
{
	char note[SHM_NOTE_SIZE];
	atomic_store(&master->shm.header->heir_pid, getpid());
	int error = handover_export(handover, memfd);
	if (!error)
		error = inherit_originals(master);
	if (!error)
		error = notify_export();
	if (!error) {
		(void)execv(master->upgrade.program, master->upgrade.arguments);
		error = -errno;
	}
	(void)snprintf(note, sizeof note, "cannot execute %s: %s", master->upgrade.program, strerror(-error));
	error = upgrade_say(channel, UPGRADE_FAILED, note, strlen(note));
	_exit(error ? EXIT_FAILURE : EXIT_START);
}

int heir_fork(struct master *master, pid_t *out, int *channel)
{
	struct handover handover;
	gate_texts texts;
	int ends[2], memfd = -1;
	int error = channel_pair(ends);
	if (error)
		return error;
	error = describe(master, ends[1], texts, &handover);
	if (!error)
		error = memfd = handover_write(&handover);
	if (error >= 0) {
		pid_t pid = fork();
		error = pid < 0 ? -errno : 0;
		if (pid == 0)
			become(master, &handover, memfd, ends[1]);
		*out = pid > 0 ? pid : 0;
	}
	if (memfd >= 0)
		close(memfd);
	handover_free(&handover);
	close(ends[1]);
	if (error)
		close(ends[0]);
	else
		*channel = ends[0];
	return error;
}
