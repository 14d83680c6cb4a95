#include "control/http.h"

#include <dlfcn.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define REQUEST_NS (10 * NS_PER_S)  /* for a request to come, and between two of them */
#define ANSWER_NS (30 * NS_PER_S)   /* for an answer to be taken */
#define SLOW_NS (2 * NS_PER_S)      /* without progress of an answer: then it may make room */
#define SILENT_NS (200 * NS_PER_MS) /* without a whole request: then it may make room */
#define PAUSE_NS (100 * NS_PER_MS)  /* without a descriptor or a place for the next client */
#define TURN_NS (20 * NS_PER_MS)    /* of answering, until the rest of the process has its turn */

enum { ACCEPTS_A_TURN = 16, MEMORY_BYTES = 32 << 10, DISCARD_BYTES = 1 << 20, MOST_HEADERS = 4, BLOCK_BYTES = 64 << 10 };

/* Of answers that wait to be taken, at each gate; one of any size may always wait. */
enum { MOST_HELD_BYTES = 64 << 20 };

/* --- libmicrohttpd itself ---------------------------------------------------------------------------------------------------- */

/* clang-format off */
#define MHD_FUNCTIONS(X) \
	X(add_connection) X(add_response_header) X(create_response_from_buffer) X(create_response_from_callback) \
	X(destroy_response) X(get_connection_info) X(get_daemon_info) X(get_timeout) X(get_version) X(lookup_connection_value) X(queue_response) X(resume_connection) \
	X(run) X(start_daemon) X(stop_daemon) X(suspend_connection)
/* clang-format on */

/* As with libcurl: a library is there once for a process, and so is this. */
static struct {
	void *handle;
#define X(name) typeof(&MHD_##name) name;
	MHD_FUNCTIONS(X)
#undef X
} mhd;

static bool load(char *why, size_t size)
{
	const char *missing = NULL;
	if (mhd.handle)
		return true;
	void *handle = dlopen("libmicrohttpd.so.12", RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		(void)snprintf(why, size, "%s", dlerror());
		return false;
	}
#define X(name)                                                    \
	*(void **)(void *)&mhd.name = dlsym(handle, "MHD_" #name); \
	missing = mhd.name ? missing : "MHD_" #name;
	MHD_FUNCTIONS(X)
#undef X
	if (missing) {
		(void)snprintf(why, size, "libmicrohttpd has no %s", missing);
		dlclose(handle);
		return false;
	}
	mhd.handle = handle;
	return true;
}

bool http_is_built(void)
{
	return true;
}

bool http_available(char *text, size_t size)
{
	if (!load(text, size))
		return false;
	(void)snprintf(text, size, "libmicrohttpd %s", mhd.get_version());
	return true;
}

/* --- what there is ----------------------------------------------------------------------------------------------------------- */

struct connection;

struct header {
	const char *name;
	char value[HTTP_HEADER_VALUE_SIZE];
};

struct call {
	struct http_call call;
	struct connection *connection;
	struct MHD_Connection *mhd;
	char *path; /* libmicrohttpd's own does not last until a late answer */
	char *body;
	size_t received_bytes;
	struct header headers[MOST_HEADERS];
	size_t n_headers;
	bool handled, suspended;
	struct call *next_late;        /* among those that wait for the next turn */
	struct MHD_Response *response; /* to be sent */
	unsigned status;
	char *bytes; /* of a large answer */
	size_t held_bytes;
	uint64_t progress_ns; /* when a part of the answer was taken last */
};

struct connection {
	struct http *http;
	struct connection *next; /* the newest first */
	struct connection **link;
	enum http_gate gate;
	int fd;
	uint64_t waits_since_ns;
	bool answered; /* it has had an answer */
	bool ending;   /* shut down */
	struct call *call;
	struct loop_timer deadline;
};

struct gate {
	struct http *http;
	struct loop_io io;
	int fd; /* -1 = closed */
	uint32_t used;
	size_t held_bytes; /* in answers */
	bool crowded;      /* all places are taken by those who cannot make room */
	struct loop_timer pause;
};

struct http {
	struct loop *loop;
	http_handle_fn *screen, *handle;
	void *arg;
	struct MHD_Daemon *daemon; /* NULL before the first client */
	struct loop_io io;
	struct loop_timer timer;
	struct gate gates[N_HTTP_GATES];
	struct connection *connections;
	uint64_t turn_began_ns;
	struct call *late, **late_end;
	struct loop_timer next_turn;
	http_idle_fn *idle;
	void *idle_arg;
	bool retired;
	struct loop_timer ended; /* nobody is owed an answer any more */
	struct log_gate trouble;
};

/* --- connections ------------------------------------------------------------------------------------------------------------- */

/* libmicrohttpd sees the end and closes it. */
static void end(struct connection *connection)
{
	connection->ending = true;
	(void)shutdown(connection->fd, SHUT_RDWR);
}

static void on_deadline(struct loop_timer *timer)
{
	end(container_of(timer, struct connection, deadline));
}

static void wait_for_request(struct connection *connection)
{
	connection->waits_since_ns = loop_now_ns(connection->http->loop);
	loop_timer_start(connection->http->loop, &connection->deadline, REQUEST_NS);
}

static struct connection *connection_new(struct http *http, enum http_gate gate, int fd)
{
	struct connection *connection = calloc(1, sizeof *connection);
	if (!connection)
		return NULL;
	*connection = (struct connection){ .http = http, .gate = gate, .fd = fd, .next = http->connections, .link = &http->connections };
	if (connection->next)
		connection->next->link = &connection->next;
	http->connections = connection;
	http->gates[gate].used++;
	loop_timer_init(&connection->deadline, on_deadline);
	wait_for_request(connection);
	return connection;
}

static struct connection *find_connection(const struct http *http, int fd)
{
	struct connection *connection = http->connections;
	while (connection && connection->fd != fd)
		connection = connection->next;
	return connection;
}

static void place_is_free(struct gate *gate);

/* Who retires and waits for the last ones hears of it from the loop. */
static void look_whether_idle(struct http *http)
{
	if (!http->retired || !http->idle)
		return;
	for (const struct connection *connection = http->connections; connection; connection = connection->next)
		if (!connection->ending && (connection->call || !connection->answered))
			return;
	loop_timer_start(http->loop, &http->ended, 0);
}

static void connection_free(struct connection *connection)
{
	struct http *http = connection->http;
	struct gate *gate = &http->gates[connection->gate];
	loop_timer_stop(http->loop, &connection->deadline);
	*connection->link = connection->next;
	if (connection->next)
		connection->next->link = connection->link;
	gate->used--;
	free(connection);
	place_is_free(gate);
	look_whether_idle(http);
}

static void on_connection(void *arg, struct MHD_Connection *mhd_connection, void **slot, enum MHD_ConnectionNotificationCode code)
{
	struct http *http = arg;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*slot)
			connection_free(*slot);
		return;
	}
	const union MHD_ConnectionInfo *fact = mhd.get_connection_info(mhd_connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	*slot = fact ? find_connection(http, fact->connect_fd) : NULL;
}

/* --- requests ---------------------------------------------------------------------------------------------------------------- */

static struct connection *connection_of(struct MHD_Connection *mhd_connection)
{
	const union MHD_ConnectionInfo *fact = mhd.get_connection_info(mhd_connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return fact ? fact->socket_context : NULL;
}

static struct call *call_new(struct connection *connection, struct MHD_Connection *mhd_connection, const char *url, const char *method)
{
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT" };
	struct call *call = calloc(1, sizeof *call);
	char *path = strdup(url);
	if (!call || !path) {
		free(call);
		free(path);
		return NULL;
	}
	*call = (struct call){ .connection = connection, .mhd = mhd_connection, .path = path };
	call->call = (struct http_call){ .method = "?", .path = path, .gate = connection->gate, .fd = connection->fd, .body = "" };
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (strcmp(method, methods[i]) == 0)
			call->call.method = methods[i];
	connection->call = call;
	return call;
}

static void call_free(struct call *call)
{
	call->connection->call = NULL;
	if (call->call.on_gone)
		call->call.on_gone(&call->call);
	if (call->response)
		mhd.destroy_response(call->response);
	call->connection->http->gates[call->connection->gate].held_bytes -= call->held_bytes;
	free(call->bytes);
	free(call->path);
	free(call->body);
	free(call);
}

/* What is too large is read to its end, or the client would never see the answer; within reason. */
static enum MHD_Result take_body(struct call *call, const char *bytes, size_t n)
{
	call->received_bytes += n;
	if (call->received_bytes > DISCARD_BYTES)
		return MHD_NO;
	if (call->call.body_bytes + n > HTTP_BODY_BYTES) {
		call->call.body_too_large = true;
		return MHD_YES;
	}
	char *body = realloc(call->body, call->call.body_bytes + n + 1);
	if (!body)
		return MHD_NO;
	memcpy(body + call->call.body_bytes, bytes, n);
	call->call.body_bytes += n;
	body[call->call.body_bytes] = '\0';
	call->call.body = call->body = body;
	return MHD_YES;
}

static void handle(struct call *call)
{
	struct http *http = call->connection->http;
	call->handled = true;
	loop_timer_stop(http->loop, &call->connection->deadline);
	http->handle(http->arg, &call->call);
}

static bool has_body(const struct call *call)
{
	const char *length = http_header(&call->call, "Content-Length");
	return (length && strcmp(length, "0") != 0) || http_header(&call->call, "Transfer-Encoding");
}

/* Who is refused for what the headers say need not send a body, and cannot hold a place by not sending it. True: answer now, which ends the
 * connection. */
static bool is_refused_early(struct call *call)
{
	struct http *http = call->connection->http;
	if (http->screen)
		http->screen(http->arg, &call->call);
	call->handled = call->response != NULL;
	return call->handled && has_body(call);
}

/* Answers can be large, and clients many: checks, and the beat that the master listens to, have their turn in between. */
static enum MHD_Result wait_for_turn(struct call *call)
{
	struct http *http = call->connection->http;
	call->suspended = true;
	loop_timer_stop(http->loop, &call->connection->deadline); /* its request has come in time */
	mhd.suspend_connection(call->mhd);
	*http->late_end = call;
	http->late_end = &call->next_late;
	loop_timer_start(http->loop, &http->next_turn, 0);
	return MHD_YES;
}

static enum MHD_Result send_or_wait(struct call *call)
{
	struct connection *connection = call->connection;
	if (!call->response) {
		call->suspended = true;
		mhd.suspend_connection(call->mhd);
		return MHD_YES;
	}
	call->progress_ns = loop_now_ns(connection->http->loop);
	loop_timer_start(connection->http->loop, &connection->deadline, ANSWER_NS);
	return mhd.queue_response(call->mhd, call->status, call->response);
}

/* A client that says beforehand that it sends too much need not send it. */
static bool announces_too_much(const struct call *call)
{
	const char *length = http_header(&call->call, "Content-Length"), *expect = http_header(&call->call, "Expect");
	unsigned long long bytes = length ? strtoull(length, NULL, 10) : 0;
	return bytes > (expect ? HTTP_BODY_BYTES : DISCARD_BYTES);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *mhd_connection, const char *url, const char *method,
        const char *version, const char *upload, size_t *upload_bytes, void **slot)
{
	struct call *call = *slot;
	(void)arg;
	(void)version;
	if (!call) {
		struct connection *connection = connection_of(mhd_connection);
		call = connection ? call_new(connection, mhd_connection, url, method) : NULL;
		*slot = call;
		if (!call)
			return MHD_NO;
		if (is_refused_early(call))
			return send_or_wait(call);
		if (call->handled || !announces_too_much(call))
			return MHD_YES;
		call->call.body_too_large = true;
	} else if (*upload_bytes > 0) {
		enum MHD_Result result = take_body(call, upload, *upload_bytes);
		*upload_bytes = 0;
		return result;
	}
	if (!call->handled && clock_now_ns() - call->connection->http->turn_began_ns > TURN_NS)
		return wait_for_turn(call);
	if (!call->handled)
		handle(call);
	return send_or_wait(call);
}

static void on_completed(void *arg, struct MHD_Connection *mhd_connection, void **slot, enum MHD_RequestTerminationCode code)
{
	struct http *http = arg;
	struct call *call = *slot;
	(void)mhd_connection;
	(void)code;
	if (!call)
		return;
	struct connection *connection = call->connection;
	*slot = NULL;
	call_free(call);
	connection->answered = true;
	wait_for_request(connection);
	if (http->retired)
		end(connection);
	look_whether_idle(http);
}

const char *http_header(const struct http_call *http_call, const char *name)
{
	const struct call *call = container_of(http_call, struct call, call);
	return mhd.lookup_connection_value(call->mhd, MHD_HEADER_KIND, name);
}

const char *http_argument(const struct http_call *http_call, const char *key)
{
	const struct call *call = container_of(http_call, struct call, call);
	return mhd.lookup_connection_value(call->mhd, MHD_GET_ARGUMENT_KIND, key);
}

/* --- answers ----------------------------------------------------------------------------------------------------------------- */

void http_add_header(struct http_call *http_call, const char *name, const char *value)
{
	struct call *call = container_of(http_call, struct call, call);
	ensure(call->n_headers < MOST_HEADERS);
	struct header *header = &call->headers[call->n_headers++];
	header->name = name;
	(void)text_copy(header->value, sizeof header->value, value);
}

static bool is_given(const struct call *call, const char *name)
{
	for (size_t i = 0; i < call->n_headers; i++)
		if (strcmp(call->headers[i].name, name) == 0)
			return true;
	return false;
}

static void add_headers(struct call *call, const char *type)
{
	bool ok = mhd.add_response_header(call->response, "Content-Type", type) == MHD_YES &&
	          (is_given(call, "Cache-Control") || mhd.add_response_header(call->response, "Cache-Control", "no-store") == MHD_YES) &&
	          mhd.add_response_header(call->response, "X-Content-Type-Options", "nosniff") == MHD_YES;
	for (size_t i = 0; ok && i < call->n_headers; i++)
		ok = mhd.add_response_header(call->response, call->headers[i].name, call->headers[i].value) == MHD_YES;
	const struct http *http = call->connection->http;
	if (!ok || http->retired || http->gates[call->connection->gate].used >= HTTP_GATE_PLACES)
		(void)mhd.add_response_header(call->response, "Connection", "close");
}

static ssize_t read_answer(void *arg, uint64_t position, char *out, size_t size)
{
	struct call *call = arg;
	size_t n = call->held_bytes - (size_t)position < size ? call->held_bytes - (size_t)position : size;
	memcpy(out, call->bytes + position, n);
	call->progress_ns = loop_now_ns(call->connection->http->loop);
	return (ssize_t)n;
}

/* Large ones in blocks: that tells how far they have come. */
static struct MHD_Response *response_new(struct call *call, char *bytes, size_t n)
{
	if (!bytes)
		return NULL;
	if (n <= BLOCK_BYTES)
		return mhd.create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE);
	struct MHD_Response *response = mhd.create_response_from_callback(n, BLOCK_BYTES, read_answer, call, NULL);
	if (!response)
		return NULL;
	call->bytes = bytes;
	call->held_bytes = n;
	call->connection->http->gates[call->connection->gate].held_bytes += n;
	return response;
}

static void end_slow_readers(struct gate *gate);

/* Clients that take large answers slowly are not to fill the memory. */
static bool has_memory_for(struct gate *gate, size_t n)
{
	if (n <= BLOCK_BYTES || gate->held_bytes == 0 || gate->held_bytes + n <= MOST_HELD_BYTES)
		return true;
	end_slow_readers(gate);
	return false;
}

void http_answer(struct http_call *http_call, unsigned status, const char *type, char *bytes, size_t n)
{
	struct call *call = container_of(http_call, struct call, call);
	ensure(!call->response);
	bool fits = has_memory_for(&call->connection->http->gates[call->connection->gate], n);
	call->status = status;
	call->response = fits ? response_new(call, bytes, n) : NULL;
	if (!call->response) { /* out of memory: for nothing there is always enough */
		free(bytes);
		call->status = MHD_HTTP_SERVICE_UNAVAILABLE;
		call->response = mhd.create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
		ensure(call->response);
		if (call->n_headers < MOST_HEADERS)
			http_add_header(http_call, "Retry-After", "2");
	}
	call->progress_ns = loop_now_ns(call->connection->http->loop);
	add_headers(call, type);
	if (!call->suspended)
		return;
	call->suspended = false;
	mhd.resume_connection(call->mhd);
	loop_timer_start(call->connection->http->loop, &call->connection->http->timer, 0);
}

/* --- between libmicrohttpd and the loop -------------------------------------------------------------------------------------- */

static void run(struct http *http)
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
	run(container_of(io, struct http, io));
}

static void on_timer(struct loop_timer *timer)
{
	run(container_of(timer, struct http, timer));
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
	run(http);
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

static int start_daemon(struct http *http)
{
	char why[256];
	uint64_t held_back;
	if (!load(why, sizeof why)) {
		if (log_gate_open(&http->trouble, loop_now_ns(http->loop), &held_back))
			log_error("nobody can be answered at the admin API: %s", why);
		return -ENOTSUP;
	}
	http->daemon = mhd.start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL,
	        NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_complaint, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
	        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL,
	        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(N_HTTP_GATES * (HTTP_GATE_PLACES + ACCEPTS_A_TURN)),
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

/* --- gates ------------------------------------------------------------------------------------------------------------------- */

static void watch_gate(struct gate *gate)
{
	if (gate->fd < 0 || loop_timer_active(&gate->pause))
		return;
	if (loop_io_set(gate->http->loop, &gate->io, gate->fd, LOOP_READ))
		loop_timer_start(gate->http->loop, &gate->pause, PAUSE_NS);
}

static void pause_gate(struct gate *gate)
{
	loop_io_stop(gate->http->loop, &gate->io);
	loop_timer_start(gate->http->loop, &gate->pause, PAUSE_NS);
}

static void on_pause_over(struct loop_timer *timer)
{
	struct gate *gate = container_of(timer, struct gate, pause);
	gate->crowded = false;
	watch_gate(gate);
}

static void place_is_free(struct gate *gate)
{
	if (!gate->crowded)
		return;
	gate->crowded = false;
	loop_timer_stop(gate->http->loop, &gate->pause);
	watch_gate(gate);
}

static bool has_unread(int fd)
{
	int n = 0;
	return ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

static bool is_slow_reader(const struct connection *connection)
{
	const struct call *call = connection->call;
	return !connection->ending && call && call->response && !call->suspended &&
	       loop_now_ns(connection->http->loop) - call->progress_ns >= SLOW_NS;
}

/* Whose request has come, or might be on its way, is not cut off: it was let in to be answered. */
static bool is_silent(const struct connection *connection)
{
	if (connection->ending || (connection->call && (connection->call->handled || connection->call->suspended)))
		return false;
	return loop_now_ns(connection->http->loop) - connection->waits_since_ns >= SILENT_NS && !has_unread(connection->fd);
}

/* Who waited longest for a request of theirs goes for who comes, and before those the ones that do not take their answers. NULL: nobody. */
static struct connection *find_dispensable(const struct gate *gate)
{
	struct connection *oldest = NULL;
	const struct http *http = gate->http;
	for (struct connection *connection = http->connections; connection; connection = connection->next) {
		if (&http->gates[connection->gate] != gate)
			continue;
		if (is_slow_reader(connection))
			return connection;
		if ((!oldest || connection->waits_since_ns <= oldest->waits_since_ns) && is_silent(connection))
			oldest = connection;
	}
	return oldest;
}

static void end_slow_readers(struct gate *gate)
{
	const struct http *http = gate->http;
	for (struct connection *connection = http->connections; connection; connection = connection->next)
		if (&http->gates[connection->gate] == gate && is_slow_reader(connection))
			end(connection);
}

static void admit(struct gate *gate, int fd, const struct sockaddr_storage *peer, socklen_t length)
{
	struct http *http = gate->http;
	struct connection *connection =
	        http->daemon || start_daemon(http) == 0 ? connection_new(http, (enum http_gate)(gate - http->gates), fd) : NULL;
	if (!connection) {
		close(fd);
		return;
	}
	/* It closes what it does not take. */
	if (mhd.add_connection(http->daemon, fd, (const struct sockaddr *)peer, length) == MHD_YES)
		return;
	connection = find_connection(http, fd);
	if (connection)
		connection_free(connection);
}

static void lack_descriptor(struct gate *gate, int error)
{
	uint64_t held_back;
	if (log_gate_open(&gate->http->trouble, loop_now_ns(gate->http->loop), &held_back))
		log_error("cannot accept clients of the admin API: %s", strerror(error));
	struct connection *dispensable = find_dispensable(gate);
	if (dispensable)
		end(dispensable);
	pause_gate(gate);
}

static void on_client(struct loop_io *io, int events)
{
	struct gate *gate = container_of(io, struct gate, io);
	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN && gate->fd >= 0; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t length = sizeof peer;
		struct connection *dispensable = gate->used >= HTTP_GATE_PLACES ? find_dispensable(gate) : NULL;
		if (gate->used >= HTTP_GATE_PLACES && !dispensable) {
			gate->crowded = true; /* the next one is let in when one of them is done */
			pause_gate(gate);
			break;
		}
		int fd = accept4(gate->fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			if (dispensable)
				end(dispensable);
			admit(gate, fd, &peer, length);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			lack_descriptor(gate, errno);
			break;
		}
		if (errno == EAGAIN)
			break;
	}
	if (gate->http->daemon)
		run(gate->http);
}

/* --- from beginning to end --------------------------------------------------------------------------------------------------- */

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
	for (size_t i = 0; i < N_HTTP_GATES; i++) {
		http->gates[i] = (struct gate){ .http = http, .fd = -1 };
		loop_io_init(&http->gates[i].io, on_client);
		loop_timer_init(&http->gates[i].pause, on_pause_over);
	}
	return http;
}

int http_open(struct http *http, enum http_gate which, int fd)
{
	struct gate *gate = &http->gates[which];
	ensure(gate->fd < 0);
	int error = loop_io_set(http->loop, &gate->io, fd, LOOP_READ);
	if (!error)
		gate->fd = fd;
	return error;
}

static void close_gates(struct http *http)
{
	for (size_t i = 0; i < N_HTTP_GATES; i++) {
		struct gate *gate = &http->gates[i];
		loop_io_stop(http->loop, &gate->io);
		loop_timer_stop(http->loop, &gate->pause);
		gate->fd = -1;
	}
}

void http_retire(struct http *http, http_idle_fn *idle, void *arg)
{
	close_gates(http);
	if (http->daemon)
		run(http); /* what has come already is a request under way */
	http->retired = true;
	http->idle = idle;
	http->idle_arg = arg;
	for (struct connection *connection = http->connections; connection; connection = connection->next)
		if (!connection->call && connection->answered)
			end(connection);
	look_whether_idle(http);
}

/* libmicrohttpd does not end while one of them is held. */
static void let_go_of_held(struct http *http)
{
	for (struct connection *connection = http->connections; connection; connection = connection->next)
		if (connection->call && connection->call->suspended) {
			connection->ending = true;
			(void)shutdown(connection->fd, SHUT_RDWR);
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
