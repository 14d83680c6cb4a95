/* What a transition opens in the master, and takes back when it fails. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "master/transition_own.h"
#include "net/dial.h"
#include "worker/room.h"

static struct listener *find_listener(const struct transition *transition, const struct listener_config *config)
{
	const struct master *master = transition->master;
	for (size_t i = 0; i < master->n_listeners; i++)
		if (listener_matches(master->listeners[i], config))
			return master->listeners[i];
	return NULL;
}

static bool port_is_ours(const struct master *master, const struct listener_config *config)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		if (listener_shares_port(master->listeners[i], config))
			return true;
	return false;
}

static int bind_one(struct transition *transition, const struct listener_config *config, uint32_t slots, struct listener **out, char *why,
        size_t why_size)
{
	struct listener *listener = find_listener(transition, config);
	bool made = !listener;
	uint32_t before = listener ? listener->n_fds : 0;
	int error = listener ? listener_grow(listener, config, slots, why, why_size)
	                     : listener_bind(config, slots, port_is_ours(transition->master, config), &listener, why, why_size);
	if (error)
		return error;
	if (made && master_keep_listener(transition->master, listener)) {
		listener_free(listener);
		(void)snprintf(why, why_size, "out of memory");
		return -ENOMEM;
	}
	transition->changes[transition->n_changes++] = (struct change){ listener, made, before };
	*out = listener;
	return 0;
}

/* All that cannot be bound is told, not only the first. */
static bool bind_all(struct transition *transition)
{
	const struct config *config = transition->config;
	char why[256];
	size_t failed = 0;
	transition->listeners = calloc(config->n_listeners, sizeof(struct listener *));
	transition->changes = calloc(config->n_listeners, sizeof *transition->changes);
	if (!transition->listeners || !transition->changes) {
		transition_fail(transition, EXIT_START, "out of memory");
		return false;
	}
	for (size_t i = 0; i < config->n_listeners; i++)
		if (bind_one(transition, &config->listeners[i], transition_worker_count(transition), &transition->listeners[i], why,
		            sizeof why)) {
			master_tell(transition->master, PLAN_ERROR, "listener %s: %s", config->listeners[i].name, why);
			failed++;
		}
	if (failed)
		transition_fail(transition, EXIT_START, "%s", why);
	return failed == 0;
}

static bool open_gates(struct transition *transition)
{
	char why[1024];
	int error = gates_prepare(&transition->master->gates, transition->config, why, sizeof why);
	if (!error)
		return true;
	master_tell(transition->master, PLAN_ERROR, "%s", why);
	transition_fail(transition, EXIT_START, "%s", why);
	return false;
}

static bool same_text(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static bool open_log(struct transition *transition)
{
	const struct config *config = transition->config, *running = transition_running_config(transition);
	if (running && same_text(running->log.target, config->log.target) && running->log.level == config->log.level &&
	        running->log.format == config->log.format)
		return true;
	int error = log_open(config->log.target, config->log.level, config->log.format);
	if (error) {
		master_tell(transition->master, PLAN_ERROR, "cannot open the log %s: %s; check log.target and its permissions",
		        config->log.target, strerror(-error));
		transition_fail(transition, EXIT_START, "cannot open the log %s: %s", config->log.target, strerror(-error));
		return false;
	}
	transition->log_changed = true;
	return true;
}

static bool open_access_log(struct transition *transition)
{
	const char *path = transition->config->access_log.path;
	struct log_sink *sink = &transition->master->next_access_log;
	*sink = (struct log_sink){ .kind = LOG_SINK_NONE };
	int error = *path ? log_sink_open(sink, path) : 0;
	if (!error)
		return true;
	const char *why = error == -ENXIO ? "nobody reads this FIFO" : strerror(-error);
	master_tell(
	        transition->master, PLAN_ERROR, "cannot open the access log %s: %s; check access_log.path and its permissions", path, why);
	transition_fail(transition, EXIT_START, "cannot open the access log %s: %s", path, why);
	return false;
}

/* All that cannot be done is told, not only the first. */
static bool sources_are_ours(struct transition *transition)
{
	const struct config *config = transition->config;
	char why[512], told[512];
	size_t failed = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (dial_source_check(&config->upstreams[i], why, sizeof why)) {
			master_tell(transition->master, PLAN_ERROR, "%s", why);
			memcpy(told, why, sizeof told);
			failed++;
		}
	if (failed)
		transition_fail(transition, EXIT_START, "%s", told);
	return failed == 0;
}

static bool fits(struct transition *transition)
{
	const struct config *running = transition_running_config(transition), *next = transition->config;
	transition->master->descriptors = privileges_raise_descriptors(worker_wanted_descriptors(next));
	if (transition_worker_count(transition) > transition->master->max_workers) {
		master_tell(transition->master, PLAN_ERROR, "workers = %u: this instance has room for %u; restart Aegis to run more",
		        transition_worker_count(transition), transition->master->max_workers);
		transition_fail(transition, EXIT_START, "more workers than there is room for; restart");
		return false;
	}
	if (next->drain.max_generations > transition->master->max_draining)
		master_tell(transition->master, PLAN_WARNING,
		        "drain.max_generations = %u: this instance has room for %u; restart Aegis to let more drain",
		        next->drain.max_generations, transition->master->max_draining);
	if (running && (!same_text(running->user, next->user) || !same_text(running->group, next->group)))
		master_tell(transition->master, PLAN_WARNING, "user and group take effect at the next start");
	return true;
}

bool transition_open(struct transition *transition)
{
	return fits(transition) && sources_are_ours(transition) && open_log(transition) && open_access_log(transition) &&
	       bind_all(transition) && open_gates(transition);
}

/* --- taking back ----------------------------------------------------------------------------------------------------------- */

static void forget_listener(struct master *master, struct listener *listener)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		if (master->listeners[i] == listener) {
			master->listeners[i] = master->listeners[--master->n_listeners];
			break;
		}
	listener_free(listener);
}

void transition_take_back(struct transition *transition)
{
	struct master *master = transition->master;
	const struct config *running = transition_running_config(transition);
	for (size_t i = transition->n_changes; i-- > 0;) {
		struct change *change = &transition->changes[i];
		if (!change->made)
			listener_shrink(change->listener, change->fds_before);
		else
			forget_listener(master, change->listener);
	}
	transition->n_changes = 0;
	if (transition->log_changed && running && log_open(running->log.target, running->log.level, running->log.format))
		log_error("cannot open the log %s again", running->log.target);
	log_sink_close(&master->next_access_log);
}
