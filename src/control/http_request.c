/* Requests: read, handed over whole, and remembered until they are answered. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/http_library.h"
#include "control/http_own.h"

#define ANSWER_NS (30 * NS_PER_S) /* for an answer to be taken */
#define TURN_NS (20 * NS_PER_MS)  /* of answering, until the rest of the process has its turn */

enum { DISCARD_BYTES = 1 << 20 };

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

enum MHD_Result http_on_request(void *arg, struct MHD_Connection *mhd_connection, const char *url, const char *method, const char *version,
        const char *upload, size_t *upload_bytes, void **slot)
{
	struct call *call = *slot;
	(void)arg;
	(void)version;
	if (!call) {
		struct connection *connection = http_connection_of(mhd_connection);
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

void http_on_completed(void *arg, struct MHD_Connection *mhd_connection, void **slot, enum MHD_RequestTerminationCode code)
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
	http_connection_wait(connection);
	if (http->retired)
		http_connection_end(connection);
	http_look_whether_idle(http);
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
