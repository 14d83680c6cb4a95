#include "control/control.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/api.h"
#include "control/checks.h"
#include "control/log_writer.h"
#include "control/names.h"
#include "control/prober.h"
#include "control/resolver.h"
#include "control/watch.h"
#include "os/channel.h"
#include "os/signals.h"
#include "os/title.h"

#define BEAT_NS NS_PER_S
#define LAST_ANSWERS_NS (2 * NS_PER_S)
#define END_NS (500 * NS_PER_MS)
#define FLUSH_NS (300 * NS_PER_MS)
#define ORPHAN_NS (100 * NS_PER_MS)

struct control {
	const struct control_args *args;
	struct loop *loop;
	struct checks *checks; /* NULL at rest */
	struct names *names;   /* NULL in the trial, at rest, and where there are none */
	struct api *api;
	struct log_writer *log_writer;
	struct watch *watch; /* files of certificates; NULL at rest, and where there are none */
	bool working;        /* no longer in the trial */
	struct loop_io channel_io;
	struct loop_timer beat;
	struct loop_timer last;   /* answers that are not done by then are not given */
	struct loop_timer orphan; /* the master is gone, and workers still log */
};

/* --- before there is one --------------------------------------------------------------------------------------------------- */

static bool has_names(const struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++)
			if (config->upstreams[i].servers[j].endpoint.kind == ENDPOINT_NAME)
				return true;
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

static void find_errors(const struct config *config, struct config_errors *errors)
{
	if (config->resolver.n_servers && !resolver_cares_version())
		config_errors_add(errors, "resolver", 0, "resolver.servers",
		        "this Aegis was built without c-ares, which that needs; leave it out, and the system's servers are asked");
	for (size_t i = 0; i < config->n_upstreams; i++)
		find_upstream_errors(&config->upstreams[i], errors);
}

void control_find_errors(const struct config *config, struct config_errors *errors)
{
	char why[512];
	struct token token;
	find_errors(config, errors);
	if (!http_is_built() && (config->admin.address[0] || config->admin.metrics_address[0]))
		config_errors_add(errors, "admin", 0, "admin.address", "%s", HTTP_NOT_BUILT);
	if (config->admin.token_file[0] && token_read(config->admin.token_file, &token, why, sizeof why))
		config_errors_add(errors, "admin", 0, "admin.token_file", "%s", why);
	token_forget(&token);
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

static void on_certificates(void *arg)
{
	say(arg, CONTROL_CERTIFICATES);
}

/* From here on nobody else writes. What a predecessor changed last it may not have told. */
static void go(struct control *control)
{
	if (control->working)
		return;
	control->working = true;
	title_set("aegis: control");
	raise_epochs(control->args);
	log_writer_go(control->log_writer);
	if (control->checks)
		checks_begin(control->checks, false, NULL, NULL);
	bool named = control->checks && has_names(control->args->config);
	int error = named ? names_new(control->loop, control->args, control->checks, &control->names) : 0;
	if (error)
		log_error("cannot watch the names of servers: %s; their addresses stay", strerror(-error));
	error = control->args->watch < 0 ? 0
	                                 : watch_new(control->loop, control->args->watch, control->args->replaces, on_certificates, control,
	                                           &control->watch);
	if (error)
		log_error("cannot watch the files of certificates: %s; what changes is taken over at a reload", strerror(-error));
	api_open(control->api);
}

static void rest(struct control *control)
{
	watch_free(control->watch);
	control->watch = NULL;
	names_free(control->names);
	control->names = NULL;
	checks_free(control->checks);
	control->checks = NULL;
}

static void on_last_answer(void *arg)
{
	struct control *control = arg;
	loop_stop(control->loop);
}

static void on_last(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct control, last)->loop);
}

/* What is written by one process at a time is left alone before the other one hears that it may begin. */
static void retire(struct control *control, uint64_t within_ns)
{
	rest(control);
	title_set("aegis: control retiring");
	loop_timer_start(control->loop, &control->last, within_ns);
	api_retire(control->api, on_last_answer, control);
	say(control, CONTROL_RETIRED);
}

static void on_no_answer(void *arg)
{
	(void)arg;
}

static void on_orphan(struct loop_timer *timer)
{
	struct control *control = container_of(timer, struct control, orphan);
	if (log_writer_is_needed(control->log_writer))
		loop_timer_start(control->loop, &control->orphan, ORPHAN_NS);
	else
		loop_stop(control->loop);
}

/* Its workers drain, and what they log is still written; nothing else is left to do. */
static void on_master_gone(struct control *control)
{
	loop_io_stop(control->loop, &control->channel_io);
	if (!control->working) {
		loop_stop(control->loop);
		return;
	}
	rest(control);
	api_retire(control->api, on_no_answer, control);
	loop_timer_stop(control->loop, &control->beat);
	title_set("aegis: control, the master is gone");
	log_writer_orphaned(control->log_writer);
	on_orphan(&control->orphan);
}

static void on_message(struct control *control, const struct channel_message *message, int fd)
{
	switch (message->kind) {
	case CONTROL_GO:
		go(control);
		break;
	case CONTROL_LOG:
		if (fd >= 0)
			log_adopt_file(fd);
		return;
	case CONTROL_ACCESS_LOG:
		if (fd >= 0)
			log_writer_adopt_access(control->log_writer, fd);
		return;
	case CONTROL_EXCERPT:
		if (fd >= 0 && control->checks)
			checks_renew_certificates(control->checks, fd);
		break;
	case CONTROL_REST:
		rest(control);
		break;
	case CONTROL_RETIRE:
		log_writer_stop(control->log_writer);
		retire(control, LAST_ANSWERS_NS);
		break;
	case CONTROL_END:
		log_writer_flush(control->log_writer, FLUSH_NS);
		retire(control, END_NS);
		break;
	case CONTROL_ANSWER:
		api_answered(control->api, message->value, -(int)message->value_ns, fd);
		break;
	default:
		break;
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
			on_master_gone(control);
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
	find_errors(config, &errors);
	bool possible = errors.count == 0;
	for (const char *line = errors.lines; line && *line; line += strcspn(line, "\n") + 1)
		log_error("%.*s", (int)strcspn(line, "\n"), line);
	config_errors_clear(&errors);
	return possible;
}

/* --- from fork to exit ----------------------------------------------------------------------------------------------------- */

/* Without it nothing is changed over TCP. The settings were looked through with it: it was readable then. */
static void read_token(const struct config *config, struct token *token)
{
	char why[512];
	if (config->admin.token_file[0] && token_read(config->admin.token_file, token, why, sizeof why))
		log_error("admin.token_file: %s; nobody is let in by a token", why);
}

static int set_up(struct control *control)
{
	const struct control_args *args = control->args;
	struct token token = { 0 };
	read_token(args->config, &token); /* which may be for the eyes of root alone */
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
		error = log_writer_new(control->loop,
		        &(struct log_writer_args){ .shm = args->shm,
		                .bell = args->log_bell,
		                .access = args->access_log,
		                .access_format = args->config->access_log.format },
		        &control->log_writer);
	if (!error) {
		control->checks = checks_new(control->loop, args);
		if (args->excerpt >= 0)
			close(args->excerpt); /* it was taken over */
		control->api = api_new(control->loop, args, &token);
	}
	token_forget(&token);
	loop_timer_init(&control->last, on_last);
	loop_timer_init(&control->orphan, on_orphan);
	if (error || !control->checks || !control->api) {
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
	api_free(control.api);
	log_writer_flush(control.log_writer, 0);
	log_writer_free(control.log_writer);
	watch_free(control.watch);
	names_free(control.names);
	checks_free(control.checks);
	loop_free(control.loop);
	return status;
}
