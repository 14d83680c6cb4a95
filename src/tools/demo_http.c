/* The HTTP service: one request after the other, each answered before the next is looked at. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/units.h"
#include "tools/demo.h"
#include "tools/demo_request.h"

enum { ANSWER_SIZE = 1024, TEXT_SIZE = 384, PATTERN_PIECES = 4, LINGER_BYTES = 1 << 20 };
/* How long a client that was told off may take to close. */
static const uint64_t linger_ns = 2 * NS_PER_S;

struct http {
	struct conn conn;
	struct request request;
	bool in_body;   /* the request's body is being read */
	bool ended;     /* the client sends no more */
	bool last;      /* close after the answer */
	bool lingering; /* all is said; wait for the client to close, so that what it still sends does not reset the answer */
	uint64_t body_left, linger_left;
	uint64_t pattern_offset, pattern_left;
	size_t answer_start, answer_end;
	size_t in_start, in_end;
	char answer[ANSWER_SIZE];
	char in[REQUEST_HEAD_BYTES];
};

static const char *status_text(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 431:
		return "Request Header Fields Too Large";
	case 501:
		return "Not Implemented";
	default:
		return "Service Unavailable";
	}
}

/* Write the head of an answer with a body of that many bytes, for as far as the method has one. */
static void answer_head(struct http *http, int status, uint64_t body_bytes, struct text *text)
{
	*text = text_of(http->answer, sizeof http->answer);
	text_add(text, "HTTP/1.1 %d %s\r\nServer: aegis-demo\r\nX-Served-By: %s\r\n", status, status_text(status), http->conn.demo->name);
	text_add(text, "Content-Type: %s\r\n", http->pattern_left > 0 ? "application/octet-stream" : "text/plain");
	text_add(text, "%sContent-Length: %" PRIu64 "\r\n", status == 405 ? "Allow: GET, HEAD\r\n" : "", body_bytes);
	text_add(text, "Connection: %s\r\n\r\n", http->last ? "close" : "keep-alive");
}

static void answer_text(struct http *http, int status, const char *body)
{
	struct text text;
	http->last |= !http->request.keep_alive;
	answer_head(http, status, strlen(body), &text);
	if (http->request.method != METHOD_HEAD)
		text_add(&text, "%s", body);
	ensure(!text.cut);
	http->answer_start = 0;
	http->answer_end = text.length;
}

static void answer_hello(struct http *http)
{
	char peer[ADDR_TEXT_SIZE], body[TEXT_SIZE];
	struct text text = text_of(body, sizeof body);
	bool local = http->conn.peer.sa.sa_family == AF_UNIX;
	text_add(&text, "Hello from %s. You came from %s.\n", http->conn.demo->name,
	        local ? "a unix socket" : addr_format(&http->conn.peer, peer, sizeof peer));
	answer_text(http, 200, body);
}

static void answer_bytes(struct http *http)
{
	char number[32];
	uint64_t bytes;
	if (!request_query(&http->request, "n", number, sizeof number) || units_parse_size(number, &bytes) < 0) {
		answer_text(http, 400, "n must be a size: /bytes?n=100, 64k, 10M or 1G\n");
		return;
	}
	struct text text;
	http->last |= !http->request.keep_alive;
	http->pattern_offset = 0;
	http->pattern_left = bytes;
	answer_head(http, 200, bytes, &text);
	if (http->request.method == METHOD_HEAD)
		http->pattern_left = 0;
	http->answer_start = 0;
	http->answer_end = text.length;
}

static void answer_count(struct http *http)
{
	char body[32];
	struct text text = text_of(body, sizeof body);
	text_add(&text, "%" PRIu64 "\n", http->request.body_bytes);
	answer_text(http, 200, body);
}

static void answer_request(struct http *http)
{
	const char *path = http->request.path;
	bool reads = http->request.method == METHOD_GET || http->request.method == METHOD_HEAD;
	if (strcmp(path, "/count") == 0)
		answer_count(http);
	else if (!reads)
		answer_text(http, 405, "only /count takes this method\n");
	else if (strcmp(path, "/") == 0)
		answer_hello(http);
	else if (strcmp(path, "/health") == 0)
		answer_text(http, http->conn.demo->healthy ? 200 : 503, http->conn.demo->healthy ? "ok\n" : "unhealthy\n");
	else if (strcmp(path, "/bytes") == 0)
		answer_bytes(http);
	else
		answer_text(http, 404, "there is /, /health, /bytes?n=SIZE and POST /count\n");
}

static void answer_error(struct http *http, const struct request_error *error)
{
	char body[TEXT_SIZE];
	struct text text = text_of(body, sizeof body);
	text_add(&text, "%s\n", error->why);
	http->request = (struct request){ .keep_alive = false };
	http->linger_left = LINGER_BYTES;
	answer_text(http, error->status, body);
}

static bool has_answer(const struct http *http)
{
	return http->answer_start < http->answer_end || http->pattern_left > 0;
}

static int step_send(struct http *http)
{
	struct iovec iov[1 + PATTERN_PIECES];
	size_t head = http->answer_end - http->answer_start;
	int n = 0;
	if (head > 0)
		iov[n++] = (struct iovec){ .iov_base = http->answer + http->answer_start, .iov_len = head };
	n += pattern_iov(&http->conn.demo->pattern, http->pattern_offset, http->pattern_left, iov + n, PATTERN_PIECES);
	ssize_t sent = conn_send(&http->conn, iov, n);
	if (sent == -EAGAIN)
		conn_wait(&http->conn, LOOP_WRITE);
	if (sent < 0)
		return (int)sent;
	size_t of_head = (size_t)sent < head ? (size_t)sent : head;
	http->answer_start += of_head;
	http->pattern_offset += (uint64_t)sent - of_head;
	http->pattern_left -= (uint64_t)sent - of_head;
	return 0;
}

static int step_finish(struct http *http)
{
	if (http->linger_left == 0 || http->ended)
		return -ECANCELED;
	if (shutdown(http->conn.fd, SHUT_WR) < 0)
		return -errno;
	http->lingering = true;
	loop_timer_start(http->conn.demo->loop, &http->conn.timer, linger_ns);
	return 0;
}

static int step_linger(struct http *http)
{
	struct demo *demo = http->conn.demo;
	ssize_t got = conn_read(&http->conn, demo->scratch, sizeof demo->scratch);
	if (got == -EAGAIN)
		conn_wait(&http->conn, LOOP_READ);
	if (got < 0)
		return (int)got;
	if (got == 0 || (uint64_t)got >= http->linger_left)
		return -ECANCELED;
	http->linger_left -= (uint64_t)got;
	return 0;
}

static int step_body(struct http *http)
{
	size_t held = http->in_end - http->in_start;
	size_t used = held < http->body_left ? held : (size_t)http->body_left;
	http->in_start += used;
	http->body_left -= used;
	if (http->body_left == 0) {
		http->in_body = false;
		answer_request(http);
		return 0;
	}
	struct demo *demo = http->conn.demo;
	size_t size = http->body_left < sizeof demo->scratch ? (size_t)http->body_left : sizeof demo->scratch;
	ssize_t got = conn_read(&http->conn, demo->scratch, size);
	if (got == -EAGAIN)
		conn_wait(&http->conn, LOOP_READ);
	if (got <= 0)
		return got == 0 ? -ECANCELED : (int)got;
	http->body_left -= (uint64_t)got;
	return 0;
}

static int step_read(struct http *http)
{
	if (http->ended)
		return -ECANCELED;
	memmove(http->in, http->in + http->in_start, http->in_end - http->in_start);
	http->in_end -= http->in_start;
	http->in_start = 0;
	ssize_t got = conn_read(&http->conn, http->in + http->in_end, sizeof http->in - http->in_end);
	if (got == -EAGAIN)
		conn_wait(&http->conn, LOOP_READ);
	if (got < 0)
		return (int)got;
	http->ended = got == 0;
	http->in_end += (size_t)got;
	return 0;
}

static int step_request(struct http *http)
{
	struct request_error error;
	int rc = request_parse(http->in + http->in_start, http->in_end - http->in_start, &http->request, &error);
	if (rc == -EAGAIN)
		return step_read(http);
	if (rc < 0) {
		answer_error(http, &error);
		return 0;
	}
	http->in_start += http->request.head_bytes;
	http->body_left = http->request.body_bytes;
	http->in_body = true;
	if (http->request.expects_continue && http->body_left > 0 && http->in_start == http->in_end) {
		struct text text = text_of(http->answer, sizeof http->answer);
		text_add(&text, "HTTP/1.1 100 Continue\r\n\r\n");
		http->answer_start = 0;
		http->answer_end = text.length;
	}
	return 0;
}

/* One round: 0 to go on, -EAGAIN after saying what is waited for, -ECANCELED at the end, or another errno. */
static int http_round(struct http *http)
{
	if (has_answer(http))
		return step_send(http);
	if (http->in_body)
		return step_body(http);
	if (http->lingering)
		return step_linger(http);
	if (http->last)
		return step_finish(http);
	return step_request(http);
}

static void http_run(struct conn *conn)
{
	struct http *http = container_of(conn, struct http, conn);
	int rc = 0;
	for (int i = 0; i < 2 * DEMO_ROUNDS && rc == 0; i++)
		rc = http_round(http);
	/* Others first. A request that is already read brings no event, so wait for what is there at once. */
	if (rc == 0)
		conn_wait(conn, LOOP_READ | LOOP_WRITE);
	else if (rc != -EAGAIN)
		conn_close(conn, false);
}

const struct service *service_http(void)
{
	static const struct service service = { .option = 'H', .name = "http", .conn_bytes = sizeof(struct http), .run = http_run };
	return &service;
}
