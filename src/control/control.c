#include "control/control.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/checks.h"
#include "control/names.h"
#include "control/prober.h"
#include "control/resolver.h"
#include "os/channel.h"
#include "os/signals.h"
#include "os/title.h"

#define BEAT_NS NS_PER_S

struct control {
	const struct control_args *args;
	struct loop *loop;
	struct checks *checks;
	struct names *names; /* NULL in the trial */
	struct loop_io channel_io;
	struct loop_timer beat;
};

/* --- before there is one --------------------------------------------------------------------------------------------------- */

bool control_needed(const struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++) {
			const struct server_config *server = &config->upstreams[i].servers[j];
			if (control_checks(&config->upstreams[i], server) || server->endpoint.kind == ENDPOINT_NAME)
				return true;
		}
	return false;
}

static void add_error(struct config_errors *errors, const struct upstream_config *upstream, const char *setting, const char *why)
{
	const struct server_config *server = &upstream->servers[0]; /* an upstream does not say where it stands */
	char path[128];
	(void)snprintf(path, sizeof path, "upstreams.%s.%s", upstream->name, setting);
	config_errors_add(errors, server->file ? server->file : "command line", server->line, path, "%s", why);
}

static void find_upstream_errors(const struct upstream_config *upstream, struct config_errors *errors)
{
	struct prober_settings settings;
	const char *why = NULL;
	char line[256];

	if (upstream->health.type == HEALTH_TYPE_NONE)
		return;
	checks_describe(upstream, &settings);
	int error = prober_check(&settings, &why);
	if (!error)
		return;
	(void)snprintf(line, sizeof line, "%s%s", why,
	        error == -ENOTSUP ? "; install it (aegis -V says whether it is found), or write type = \"tcp\"" : "");
	add_error(errors, upstream, "health", line);
}

void control_find_errors(const struct config *config, struct config_errors *errors)
{
	if (config->resolver.n_servers && !resolver_cares_version())
		config_errors_add(errors, "resolver", 0, "resolver.servers",
		        "this Aegis was built without c-ares, which that needs; leave it out, and the system's servers are asked");
	for (size_t i = 0; i < config->n_upstreams; i++)
		find_upstream_errors(&config->upstreams[i], errors);
}

/* --- talking to the master ------------------------------------------------------------------------------------------------- */

static void say(const struct control *control, enum control_message kind)
{
	int error = channel_send(control->args->channel, &(struct channel_message){ .kind = kind }, -1);
	if (error && error != -EPIPE && error != -EAGAIN) /* it does not listen just now: it will hear the next beat */
		log_error("cannot speak to the master: %s", strerror(-error));
}

static void on_beat(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, beat);
	say(control, CONTROL_BEAT);
	loop_timer_start(control->loop, &control->beat, BEAT_NS);
}

static void on_settled(void *arg)
{
	say(arg, CONTROL_CHECKED);
}

static void raise_epochs(const struct control_args *args)
{
	for (size_t i = 0; i < args->config->n_upstreams; i++)
		atomic_fetch_add_explicit(&args->shm->upstreams[args->upstreams[i]].epoch, 1, memory_order_release);
	bells_ring_all(args->bells);
}

/* From here on nobody else writes. What a predecessor changed last it may not have told. */
static void go(struct control *control)
{
	if (control->names)
		return;
	title_set("aegis: control");
	raise_epochs(control->args);
	checks_begin(control->checks, false, NULL, NULL);
	int error = names_new(control->loop, control->args, control->checks, &control->names);
	if (error)
		log_error("cannot watch the names of servers: %s; their addresses stay", strerror(-error));
}

static void on_message(struct control *control, const struct channel_message *message, int fd)
{
	if (message->kind == CONTROL_GO)
		go(control);
	if (message->kind == CONTROL_LOG && fd >= 0) {
		log_adopt_file(fd);
		return;
	}
	if (fd >= 0)
		close(fd);
}

static void on_channel(struct loop_io *io, int events)
{
	struct control *control = container_of(io, struct control, channel_io);
	struct channel_message message;
	int fd;
	(void)events;
	for (;;) {
		int error = channel_receive(control->args->channel, &message, &fd);
		if (error == -EAGAIN)
			return;
		if (error == -EPIPE) {
			loop_stop(control->loop);
			return;
		}
		if (error) { /* a log file for which there was no descriptor */
			log_error("cannot take what the master sent: %s", strerror(-error));
			continue;
		}
		on_message(control, &message, fd);
	}
}

/* All that is wrong is logged. */
static bool is_possible(const struct config *config)
{
	struct config_errors errors = { 0 };
	control_find_errors(config, &errors);
	bool possible = errors.count == 0;
	for (const char *line = errors.lines; line && *line; line += strcspn(line, "\n") + 1)
		log_error("%.*s", (int)strcspn(line, "\n"), line);
	config_errors_clear(&errors);
	return possible;
}

/* --- from fork to exit ----------------------------------------------------------------------------------------------------- */

static int set_up(struct control *control)
{
	const struct control_args *args = control->args;
	int error = privileges_drop(args->identity);
	if (error) {
		log_error("cannot give up privileges (become %s): %s", args->identity->user, strerror(-error));
		return error;
	}
	control->loop = loop_new();
	if (!control->loop) {
		log_error("cannot make an event loop (epoll): out of descriptors or memory");
		return -ENOMEM;
	}
	loop_timer_init(&control->beat, on_beat);
	loop_timer_start(control->loop, &control->beat, BEAT_NS);
	loop_io_init(&control->channel_io, on_channel);
	error = loop_io_set(control->loop, &control->channel_io, args->channel, LOOP_READ);
	if (!error)
		control->checks = checks_new(control->loop, args);
	if (error || !control->checks) {
		log_error("cannot set up: out of memory");
		return -ENOMEM;
	}
	return 0;
}

int control_run(const struct control_args *args)
{
	struct control control = { .args = args };
	int status = EXIT_FAILURE;

	log_set_process("control");
	signals_for_child();
	title_set("aegis: control starting");
	if (set_up(&control))
		goto out;
	if (!is_possible(args->config))
		say(&control, CONTROL_REFUSED);
	checks_begin(control.checks, true, on_settled, &control);
	loop_run(control.loop);
	status = EXIT_SUCCESS;
out:
	names_free(control.names);
	checks_free(control.checks);
	loop_free(control.loop);
	return status;
}
