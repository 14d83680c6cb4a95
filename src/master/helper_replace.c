/* A control process that died, and the one in its place. */
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/settings.h"
#include "master/helper_own.h"
#include "master/respawn.h"

#define RESPAWN_MOST_NS (500 * NS_PER_MS) /* shorter than with workers: their rings for the logs fill up meanwhile */

void helper_try_again(struct helper *helper, uint64_t after_ns)
{
	loop_timer_start(helper->running.master->loop, &helper->respawn, after_ns);
}

/* Those that were last in force, whatever the file says by now; the file is for where somebody took them away. 0, or a negative errno,
 * and it was logged. */
static int load_resting(const struct master *master, struct config **out)
{
	struct settings last = { 0 };
	struct config_errors errors = { 0 };
	int error = settings_read(master->settings_path, &last, &errors);
	config_errors_clear(&errors);
	if (!error) {
		*out = last.config;
		last.config = NULL;
		settings_fini(&last);
		return 0;
	}
	log_warn("cannot read %s: %s; the control process gets the settings of the file", master->settings_path, strerror(-error));
	error = config_load(&master->source, out, &errors);
	if (error)
		master_log_errors(&errors);
	config_errors_clear(&errors);
	return error;
}

/* While nothing runs it has nothing to check, but who asks is answered. */
static int fork_resting(struct helper *helper)
{
	static const struct places nowhere;
	struct master *master = helper->running.master;
	struct config *config;
	struct helper_ground ground = { .places = &nowhere, .excerpt = -1, .watch = -1 };
	if (master->draining) {
		ground = helper_ground_of(master->draining);
		ground.watch = -1;
		return helper_fork(&helper->running, &ground, false);
	}
	int error = load_resting(master, &config);
	if (error)
		return error;
	config->n_upstreams = 0;
	config->n_listeners = 0;
	ground.config = config;
	error = helper_fork(&helper->running, &ground, false);
	config_free(config);
	return error;
}

/* One, where there is none. True when it was forked. */
static bool spawn(struct helper *helper)
{
	struct master *master = helper->running.master;
	const struct generation *generation = master->running;
	if (helper->running.pid || (!generation && !helper->resting))
		return false;
	const struct helper_ground ground =
	        generation ? helper_ground_of(generation) : (struct helper_ground){ .excerpt = -1, .watch = -1 };
	int error = generation ? helper_fork(&helper->running, &ground, false) : fork_resting(helper);
	if (error) {
		log_error("cannot start the control process: %s; trying again", strerror(-error));
		helper_try_again(helper, NS_PER_S);
		return false;
	}
	if (!generation)
		helper_tell(&helper->running, CONTROL_REST, -1);
	helper_tell(&helper->running, CONTROL_GO, -1);
	return true;
}

void helper_renew(struct helper *helper)
{
	(void)spawn(helper); /* or it is tried again */
}

static void respawn(struct helper *helper)
{
	if (!spawn(helper))
		return;
	counter_add(&helper->running.master->shm.header->control_restarts, 1);
	log_info("the control process is replaced by pid %d", (int)helper->running.pid);
}

void helper_on_respawn(struct loop_timer *timer)
{
	respawn(container_of(timer, struct helper, respawn));
}

static void replace(struct helper *helper)
{
	uint64_t delay_ns = respawn_delay_ns(&helper->quick_deaths, clock_now_ns() - helper->running.forked_ns, RESPAWN_MOST_NS);
	if (delay_ns == 0) {
		respawn(helper);
		return;
	}
	log_warn("the control process keeps dying: the next try in %llu ms; until then no server is checked, no name resolved and no "
	         "operator answered",
	        (unsigned long long)(delay_ns / NS_PER_MS));
	helper_try_again(helper, delay_ns);
}

static void log_death(const struct helper_process *process, int status)
{
	char end[RESPAWN_END_SIZE];
	log_error("the control process (pid %d) %s", (int)process->pid, respawn_end_text(status, end));
}

static bool reap(struct helper_process *process)
{
	int status;
	if (!process->pid || waitpid(process->pid, &status, WNOHANG) <= 0)
		return false;
	if (!helper_is_retired(process) || WIFSIGNALED(status))
		log_death(process, status);
	helper_forget(process);
	return true;
}

static bool reap_retired(struct helper *helper)
{
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++)
		if (reap(&helper->retired[i]))
			return true;
	return false;
}

bool helper_reap_one(struct helper *helper)
{
	if (reap(&helper->running)) {
		replace(helper);
		return true;
	}
	if (reap_retired(helper))
		return true;
	if (!reap(&helper->next))
		return false;
	helper_end_trial(helper);
	return true;
}
