/* One control process as the master has it: forked, told, ended. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/helper_own.h"

static void close_channel(struct helper_process *process)
{
	if (process->channel < 0)
		return;
	loop_io_stop(process->master->loop, &process->io);
	close(process->channel);
	process->channel = -1;
}

void helper_forget(struct helper_process *process)
{
	close_channel(process);
	process->pid = 0;
}

void helper_end(struct helper_process *process)
{
	if (!process->pid)
		return;
	(void)kill(process->pid, SIGKILL);
	while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
		;
	helper_forget(process);
}

/* The rows that the running control process writes to, by row; all of them are in shared memory, so that NULL = out of memory. */
static bool *list_held(const struct master *master)
{
	const struct generation *running = master->running;
	const bool *elders = adopt_held(master);
	bool *held = calloc(master->shm.dims.servers, sizeof *held);
	if (held && elders)
		memcpy(held, elders, master->shm.dims.servers * sizeof *held);
	for (size_t i = 0; held && running && i < running->config->n_upstreams; i++)
		for (size_t j = 0; j < running->config->upstreams[i].n_servers; j++)
			if (control_checks(&running->config->upstreams[i], &running->config->upstreams[i].servers[j]))
				held[running->places.servers[i][j]] = true;
	return held;
}

static _Noreturn void child_main(struct master *master, const struct helper_ground *ground, bool trial, int channel)
{
	const struct places *places = ground->places;
	struct control_args args = { .config = ground->config,
		.servers = (const uint32_t *const *)places->servers,
		.upstreams = places->upstreams,
		.shm = &master->shm,
		.settings_path = master->settings_path,
		.held = trial ? list_held(master) : NULL,
		.bells = &master->bells,
		.log_bell = &master->log_bell,
		.access_log = trial ? &master->next_access_log : &master->access_log,
		.watch = ground->watch >= 0 ? fcntl(ground->watch, F_DUPFD_CLOEXEC, 0) : -1, /* as the excerpt */
		.replaces = !trial,
		.channel = channel,
		.excerpt = ground->excerpt >= 0 ? fcntl(ground->excerpt, F_DUPFD_CLOEXEC, 0)
		                                : -1, /* that one is closed with all of the master's */
		.identity = &master->identity };
	gates_describe(&master->gates, trial, &args.admin);
	args.admin.run_uid = master->identity.change ? master->identity.uid : args.admin.uid;
	master_release_in_control(master, &args.admin);
	_exit(trial && !args.held ? EXIT_FAILURE : control_run(&args));
}

int helper_fork(struct helper_process *process, const struct helper_ground *ground, bool trial)
{
	int ends[2];
	int error = channel_pair(ends);
	if (error)
		return error;
	process->forked_ns = process->heard_ns = clock_now_ns();
	pid_t pid = fork();
	if (pid < 0) {
		error = -errno;
		close(ends[0]);
		close(ends[1]);
		return error;
	}
	if (pid == 0) {
		close(ends[0]);
		child_main(process->master, ground, trial, ends[1]);
	}
	close(ends[1]);
	process->pid = pid;
	process->channel = ends[0];
	error = loop_io_set(process->master->loop, &process->io, process->channel, LOOP_READ);
	if (error)
		helper_end(process);
	return error;
}

void helper_tell_more(struct helper_process *process, const struct channel_message *message, int fd)
{
	int error = process->pid && process->channel >= 0 ? channel_send(process->channel, message, fd) : 0;
	if (error && error != -EPIPE)
		log_error("the control process (pid %d) does not listen: %s", (int)process->pid, strerror(-error));
}

void helper_tell(struct helper_process *process, enum control_message kind, int fd)
{
	helper_tell_more(process, &(struct channel_message){ .kind = kind }, fd);
}

void helper_move(struct helper_process *from, struct helper_process *to)
{
	struct loop *loop = from->master->loop;
	loop_io_stop(loop, &from->io);
	to->pid = from->pid;
	to->channel = from->channel;
	to->forked_ns = from->forked_ns;
	to->heard_ns = from->heard_ns;
	from->pid = 0;
	from->channel = -1;
	if (to->channel >= 0 && loop_io_set(loop, &to->io, to->channel, LOOP_READ))
		(void)kill(to->pid, SIGKILL); /* no memory to hear it: the next one may be luckier */
}
