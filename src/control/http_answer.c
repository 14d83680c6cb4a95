/* Answers: their headers, and the memory that they take until the client has them. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "control/http_library.h"
#include "control/http_own.h"

enum { BLOCK_BYTES = 64 << 10 };

/* Of answers that wait to be taken, at each gate; one of any size may always wait. */
enum { MOST_HELD_BYTES = 64 << 20 };

void http_add_header(struct http_call *http_call, const char *name, const char *value)
{
	struct call *call = container_of(http_call, struct call, call);
	ensure(call->n_headers < HTTP_MOST_HEADERS);
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

/* Clients that take large answers slowly are not to fill the memory. */
static bool has_memory_for(struct gate *gate, size_t n)
{
	if (n <= BLOCK_BYTES || gate->held_bytes == 0 || gate->held_bytes + n <= MOST_HELD_BYTES)
		return true;
	http_gate_end_slow_readers(gate);
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
		if (call->n_headers < HTTP_MOST_HEADERS)
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
