#include "control/http.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/http_library.h"
#include "control/http_own.h"

enum { MEMORY_BYTES = 32 << 10 };

bool http_is_built(void)
{
	return true;
}

bool http_available(char *text, size_t size)
{
	if (!http_library_load(text, size))
		return false;
	(void)snprintf(text, size, "libmicrohttpd %s", mhd.get_version());
	return true;
}

/* --- between libmicrohttpd and the loop -------------------------------------------------------------------------------------- */

void http_run(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;
	http->turn_began_ns = clock_now_ns();
	(void)mhd.run(http->daemon);
	if (mhd.get_timeout(http->daemon, &timeout_ms) == MHD_YES)
		loop_timer_start(http->loop, &http->timer, timeout_ms * NS_PER_MS);
	else
		loop_timer_stop(http->loop, &http->timer);
}

static void on_ready(struct loop_io *io, int events)
{
	(void)events;
	http_run(container_of(io, struct http, io));
}

static void on_timer(struct loop_timer *timer)
{
	http_run(container_of(timer, struct http, timer));
}

static void on_next_turn(struct loop_timer *timer)
{
	struct http *http = container_of(timer, struct http, next_turn);
	struct call *call = http->late;
	http->late = NULL;
	http->late_end = &http->late;
	while (call) {
		struct call *next = call->next_late;
		call->next_late = NULL;
		call->suspended = false;
		mhd.resume_connection(call->mhd);
		call = next;
	}
	http_run(http);
}

/* Names of files and servers are for those who know them to decode. */
static size_t leave_escapes(void *arg, struct MHD_Connection *mhd_connection, char *text)
{
	(void)arg;
	(void)mhd_connection;
	return strlen(text);
}

static void on_complaint(void *arg, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void on_complaint(void *arg, const char *format, va_list args)
{
	char line[256];
	(void)arg;
	(void)vsnprintf(line, sizeof line, format, args);
	log_debug("admin: %.*s", (int)strcspn(line, "\n"), line);
}

int http_start_daemon(struct http *http)
{
	char why[256];
	uint64_t held_back;
	if (!http_library_load(why, sizeof why)) {
		if (log_gate_open(&http->trouble, loop_now_ns(http->loop), &held_back))
			log_error("nobody can be answered at the admin API: %s", why);
		return -ENOTSUP;
	}
	http->daemon = mhd.start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL,
	        NULL, http_on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_complaint, NULL, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed,
	        http, MHD_OPTION_NOTIFY_CONNECTION, http_on_connection, http, MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL,
	        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(N_HTTP_GATES * (HTTP_GATE_PLACES + HTTP_ACCEPTS_A_TURN)),
	        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT,
	        1, MHD_OPTION_END);
	const union MHD_DaemonInfo *fact = http->daemon ? mhd.get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	int error = fact ? loop_io_set(http->loop, &http->io, fact->epoll_fd, LOOP_READ) : -ENOMEM;
	if (!error)
		return 0;
	if (http->daemon)
		mhd.stop_daemon(http->daemon);
	http->daemon = NULL;
	return error;
}

/* --- from beginning to end --------------------------------------------------------------------------------------------------- */

void http_look_whether_idle(struct http *http)
{
	if (!http->retired || !http->idle)
		return;
	for (const struct connection *connection = http->connections; connection; connection = connection->next)
		if (!connection->ending && (connection->call || !connection->answered))
			return;
	loop_timer_start(http->loop, &http->ended, 0);
}

static void on_ended(struct loop_timer *timer)
{
	struct http *http = container_of(timer, struct http, ended);
	http_idle_fn *idle = http->idle;
	http->idle = NULL;
	if (idle)
		idle(http->idle_arg);
}

struct http *http_new(struct loop *loop, http_handle_fn *screen, http_handle_fn *handle_call, void *arg)
{
	struct http *http = calloc(1, sizeof *http);
	if (!http)
		return NULL;
	*http = (struct http){ .loop = loop, .screen = screen, .handle = handle_call, .arg = arg };
	loop_io_init(&http->io, on_ready);
	loop_timer_init(&http->timer, on_timer);
	loop_timer_init(&http->ended, on_ended);
	loop_timer_init(&http->next_turn, on_next_turn);
	http->late_end = &http->late;
	for (size_t i = 0; i < N_HTTP_GATES; i++)
		http_gate_init(&http->gates[i], http);
	return http;
}

static void close_gates(struct http *http)
{
	for (size_t i = 0; i < N_HTTP_GATES; i++)
		http_gate_close(&http->gates[i]);
}

void http_retire(struct http *http, http_idle_fn *idle, void *arg)
{
	close_gates(http);
	if (http->daemon)
		http_run(http); /* what has come already is a request under way */
	http->retired = true;
	http->idle = idle;
	http->idle_arg = arg;
	for (struct connection *connection = http->connections; connection; connection = connection->next)
		if (!connection->call && connection->answered)
			http_connection_end(connection);
	http_look_whether_idle(http);
}

/* libmicrohttpd does not end while one of them is held. */
static void let_go_of_held(struct http *http)
{
	for (struct connection *connection = http->connections; connection; connection = connection->next)
		if (connection->call && connection->call->suspended) {
			http_connection_end(connection);
			http_answer(&connection->call->call, MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain", strdup(""), 0);
		}
}

void http_free(struct http *http)
{
	if (!http)
		return;
	close_gates(http);
	http->retired = true;
	http->idle = NULL;
	if (http->daemon) {
		let_go_of_held(http);
		loop_io_stop(http->loop, &http->io);
		mhd.stop_daemon(http->daemon);
	}
	loop_timer_stop(http->loop, &http->timer);
	loop_timer_stop(http->loop, &http->ended);
	loop_timer_stop(http->loop, &http->next_turn);
	free(http);
}
