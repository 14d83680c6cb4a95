/* The first steps of a transition: names are looked up, certificates read. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "master/transition_own.h"

#define PREFLIGHT_NS (30 * NS_PER_S)

/* True when a certificate or key is of no use. */
static bool tell_of_certificates(struct transition *transition)
{
	if (!transition->keys.pid)
		return false;
	(void)keys_findings(&transition->keys, transition->config, &transition->certificates);
	master_tell_lines(transition->master, PLAN_WARNING, &transition->certificates.warnings);
	master_tell_lines(transition->master, PLAN_ERROR, &transition->certificates.errors);
	return transition->certificates.errors.count > 0;
}

static void after_preflight(struct transition *transition)
{
	struct preflight_findings findings = { 0 };
	preflight_apply(&transition->preflight, transition->config, transition_running_config(transition), &findings);
	master_tell_lines(transition->master, PLAN_WARNING, &findings.warnings);
	master_tell_lines(transition->master, PLAN_ERROR, &findings.errors);
	master_tell_lines(transition->master, PLAN_ERROR, &findings.unreachable);
	bool bad_certificates = tell_of_certificates(transition);
	bool unresolved = findings.errors.count > 0, unreachable = findings.unreachable.count > 0;
	preflight_findings_clear(&findings);
	if (bad_certificates) {
		transition_fail(transition, EXIT_SETTINGS, "certificates cannot be used; see the log");
		return;
	}
	if (unresolved) {
		transition_fail(transition, EXIT_SETTINGS, "a server's name cannot be resolved; see the log");
		return;
	}
	if (unreachable) {
		transition_fail(transition, EXIT_START, "no server of an upstream with start_test = \"fail\" can be reached");
		return;
	}
	transition_go_on(transition);
}

/* Both children have answered. */
static void go_on_when_known(struct transition *transition)
{
	if (!transition->preflight_over || !transition->keys_over)
		return;
	loop_timer_stop(transition->master->loop, &transition->deadline);
	after_preflight(transition);
}

static void on_preflight(struct loop_io *io, int events)
{
	struct transition *transition = container_of(io, struct transition, preflight_io);
	(void)events;
	int error = preflight_read(&transition->preflight);
	if (error == -EAGAIN)
		return;
	loop_io_stop(transition->master->loop, io);
	transition->preflight_over = true;
	go_on_when_known(transition);
}

static void release_in_child(void *arg)
{
	struct transition *transition = arg;
	master_release_in_child(transition->master, NULL, 0);
}

static int watch_child(struct transition *transition, struct loop_io *io, loop_io_fn *fn, int fd)
{
	loop_io_init(io, fn);
	return loop_io_set(transition->master->loop, io, fd, LOOP_READ);
}

static void on_keys(struct loop_io *io, int events);

/* Certificates and keys are read while the master goes on. */
static int start_keys(struct transition *transition)
{
	struct master *master = transition->master;
	int error = keys_start(&transition->keys, transition->config, &master->identity, -1, &master->hung, release_in_child, transition);
	return error ? error : watch_child(transition, &transition->keys_io, on_keys, transition->keys.fd);
}

/* A crash may be none of the files' doing: one is made up for. True when nothing more is to be done about it now. */
static bool read_keys_again(struct transition *transition)
{
	struct vault_findings findings;
	if (transition->keys_again || !keys_ended_early(&transition->keys))
		return false;
	transition->keys_again = true;
	(void)keys_findings(&transition->keys, transition->config, &findings);
	master_log_errors(&findings.errors);
	vault_findings_clear(&findings);
	log_warn("certificates are read again");
	keys_end(&transition->keys, &transition->master->hung);
	int error = start_keys(transition);
	if (error) {
		log_error("cannot start the process that reads certificates: %s", keys_why_not(error));
		transition_fail(transition, EXIT_START, "certificates cannot be read: %s", keys_why_not(error));
	}
	return true;
}

static void on_keys(struct loop_io *io, int events)
{
	struct transition *transition = container_of(io, struct transition, keys_io);
	(void)events;
	int error = keys_read(&transition->keys);
	if (error == -EAGAIN)
		return;
	loop_io_stop(transition->master->loop, io);
	if (read_keys_again(transition))
		return;
	transition->keys_over = true;
	go_on_when_known(transition);
}

static void on_preflight_overdue(struct loop_timer *timer)
{
	struct transition *transition = container_of(timer, struct transition, deadline);
	if (transition->preflight_over) {
		const char *why = keys_give_up(&transition->keys, transition->config);
		log_error("certificates cannot be read: %s", why);
		transition_fail(transition, EXIT_SETTINGS, "certificates cannot be read: %s", why);
		return;
	}
	log_error("resolving the servers' names took longer than %llu s; is the DNS server reachable?",
	        (unsigned long long)(PREFLIGHT_NS / NS_PER_S));
	transition_fail(transition, EXIT_SETTINGS, "names could not be resolved in time");
}

/* Names are looked up and certificates read while the master goes on. */
static int start_children(struct transition *transition)
{
	const struct config *config = transition->config;
	const struct identity *identity = &transition->master->identity;
	int error = 0;
	transition->keys_over = !vault_is_needed(config);
	transition->preflight_over = !preflight_needed(config);
	if (!transition->keys_over)
		error = start_keys(transition);
	if (!error && !transition->preflight_over)
		error = preflight_start(&transition->preflight, config, identity, release_in_child, transition);
	if (!error && transition->preflight.pid)
		error = watch_child(transition, &transition->preflight_io, on_preflight, transition->preflight.fd);
	return error;
}

void transition_start_preflight(struct transition *transition)
{
	struct loop *loop = transition->master->loop;
	loop_timer_init(&transition->deadline, on_preflight_overdue);
	loop_io_init(&transition->preflight_io, on_preflight);
	loop_io_init(&transition->keys_io, on_keys);
	int error = start_children(transition);
	if (error) {
		log_error("cannot start the processes that read certificates and resolve names: %s", keys_why_not(error));
		transition_fail(transition, EXIT_START, "certificates cannot be read, or names not resolved: %s", keys_why_not(error));
		return;
	}
	if (transition->preflight_over && transition->keys_over)
		after_preflight(transition);
	else
		loop_timer_start(loop, &transition->deadline, PREFLIGHT_NS);
}

void transition_end_preflight(struct transition *transition)
{
	struct loop *loop = transition->master->loop;
	if (transition->preflight.pid) {
		loop_io_stop(loop, &transition->preflight_io);
		preflight_end(&transition->preflight, &transition->master->hung);
	}
	if (transition->keys.pid)
		loop_io_stop(loop, &transition->keys_io);
	keys_end(&transition->keys, &transition->master->hung);
}

void transition_tick(struct transition *transition)
{
	if (transition && !transition->keys_over)
		keys_tick(&transition->keys, transition->config);
}
