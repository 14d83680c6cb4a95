/* The small TCP services: echo, banner, reset, sink and generator. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "tools/demo.h"

enum { LINE_SIZE = 32, PATTERN_PIECES = 4 };

struct stream {
	struct conn conn;
	/* What the peer has not taken yet: heap, only while there is something. Nothing is read meanwhile. */
	unsigned char *pending;
	size_t pending_start, pending_end;
	bool greeted;
	bool ended; /* the peer sends no more */
	/* sink */
	uint64_t received_bytes;
	uint64_t hash;
	/* generator */
	char line[LINE_SIZE];
	size_t line_length;
	bool asked;
	uint64_t pattern_offset, pattern_left;
};

static struct stream *stream_of(struct conn *conn)
{
	return container_of(conn, struct stream, conn);
}

static void stream_fini(struct conn *conn)
{
	free(stream_of(conn)->pending);
}

/* Send, and keep what the kernel does not take. 0 or a negative errno. */
static int stream_send(struct stream *stream, const unsigned char *bytes, size_t size)
{
	ssize_t sent = conn_send_bytes(&stream->conn, bytes, size);
	if (sent < 0 && sent != -EAGAIN)
		return (int)sent;
	size_t done = sent < 0 ? 0 : (size_t)sent;
	if (done == size)
		return 0;
	stream->pending = malloc(size - done);
	if (stream->pending == NULL)
		return -ENOMEM;
	memcpy(stream->pending, bytes + done, size - done);
	stream->pending_start = 0;
	stream->pending_end = size - done;
	return 0;
}

/* 0 when nothing is pending any more, -EAGAIN, or another negative errno. */
static int stream_flush(struct stream *stream)
{
	if (stream->pending == NULL)
		return 0;
	ssize_t sent = conn_send_bytes(&stream->conn, stream->pending + stream->pending_start, stream->pending_end - stream->pending_start);
	if (sent < 0)
		return (int)sent;
	stream->pending_start += (size_t)sent;
	if (stream->pending_start < stream->pending_end)
		return -EAGAIN;
	free(stream->pending);
	stream->pending = NULL;
	return 0;
}

static int stream_greet(struct stream *stream)
{
	if (stream->greeted || stream->conn.service->greeting == NULL)
		return 0;
	char line[DEMO_NAME_SIZE + 32];
	struct text text = text_of(line, sizeof line);
	text_add(&text, "%s %s ready\r\n", stream->conn.service->greeting, stream->conn.demo->name);
	stream->greeted = true;
	return stream_send(stream, (const unsigned char *)line, text.length);
}

/* One round of an echo: 0 to go on, -EAGAIN after saying what is waited for, -ECANCELED at the end, or another errno. */
static int echo_round(struct stream *stream)
{
	struct demo *demo = stream->conn.demo;
	int rc = stream_flush(stream);
	if (rc == -EAGAIN)
		conn_wait(&stream->conn, LOOP_WRITE);
	if (rc < 0)
		return rc;
	ssize_t got = conn_read(&stream->conn, demo->scratch, sizeof demo->scratch);
	if (got == -EAGAIN)
		conn_wait(&stream->conn, LOOP_READ);
	if (got <= 0)
		return got == 0 ? -ECANCELED : (int)got;
	return stream_send(stream, demo->scratch, (size_t)got);
}

static void echo_run(struct conn *conn)
{
	struct stream *stream = stream_of(conn);
	int rc = stream_greet(stream);
	for (int i = 0; i < DEMO_ROUNDS && rc == 0; i++)
		rc = echo_round(stream);
	if (rc == 0)
		conn_wait(conn, stream->pending != NULL ? LOOP_WRITE : LOOP_READ);
	else if (rc != -EAGAIN)
		conn_close(conn, false);
}

static void reset_run(struct conn *conn)
{
	unsigned char byte;
	ssize_t got = conn_read(conn, &byte, 1);
	if (got == -EAGAIN)
		conn_wait(conn, LOOP_READ);
	else
		conn_close(conn, got > 0);
}

static int sink_answer(struct stream *stream)
{
	char line[64];
	struct text text = text_of(line, sizeof line);
	text_add(&text, "%" PRIu64 " %016" PRIx64 "\n", stream->received_bytes, stream->hash);
	stream->ended = true;
	return stream_send(stream, (const unsigned char *)line, text.length);
}

static int sink_round(struct stream *stream)
{
	struct demo *demo = stream->conn.demo;
	int rc = stream_flush(stream);
	if (rc == -EAGAIN)
		conn_wait(&stream->conn, LOOP_WRITE);
	if (rc < 0)
		return rc;
	if (stream->ended)
		return -ECANCELED;
	ssize_t got = conn_read(&stream->conn, demo->scratch, sizeof demo->scratch);
	if (got == -EAGAIN)
		conn_wait(&stream->conn, LOOP_READ);
	if (got <= 0)
		return got == 0 ? sink_answer(stream) : (int)got;
	stream->hash = fnv1a_add(stream->hash, demo->scratch, (size_t)got);
	stream->received_bytes += (uint64_t)got;
	return 0;
}

static void sink_run(struct conn *conn)
{
	struct stream *stream = stream_of(conn);
	if (stream->received_bytes == 0)
		stream->hash = FNV1A_START;
	int rc = 0;
	for (int i = 0; i < DEMO_ROUNDS && rc == 0; i++)
		rc = sink_round(stream);
	if (rc == 0)
		conn_wait(conn, stream->ended ? LOOP_WRITE : LOOP_READ);
	else if (rc != -EAGAIN)
		conn_close(conn, false);
}

/* Take the count out of the line. -EINVAL where it is none. */
static int generator_parse(struct stream *stream)
{
	uint64_t number = 0;
	size_t digits = 0;
	for (; digits < stream->line_length && stream->line[digits] >= '0' && stream->line[digits] <= '9'; digits++)
		number = number * 10 + (uint64_t)(stream->line[digits] - '0');
	size_t rest = stream->line_length - digits;
	if (digits == 0 || digits > 18 || rest > 1 || (rest == 1 && stream->line[digits] != '\r'))
		return -EINVAL;
	stream->pattern_left = number;
	stream->asked = true;
	return 0;
}

/* Read the line "N\n", or to the end of input. */
static int generator_ask(struct stream *stream)
{
	char byte;
	ssize_t got = conn_read(&stream->conn, &byte, 1);
	if (got == -EAGAIN)
		conn_wait(&stream->conn, LOOP_READ);
	if (got < 0)
		return (int)got;
	if (got == 0 || byte == '\n')
		return generator_parse(stream);
	if (stream->line_length == sizeof stream->line)
		return -EINVAL;
	stream->line[stream->line_length++] = byte;
	return 0;
}

static int generator_round(struct stream *stream)
{
	struct conn *conn = &stream->conn;
	if (stream->pattern_left == 0)
		return -ECANCELED;
	struct iovec iov[PATTERN_PIECES];
	int n = pattern_iov(&conn->demo->pattern, stream->pattern_offset, stream->pattern_left, iov, PATTERN_PIECES);
	ssize_t sent = conn_send(conn, iov, n);
	if (sent == -EAGAIN)
		conn_wait(conn, LOOP_WRITE);
	if (sent < 0)
		return (int)sent;
	stream->pattern_offset += (uint64_t)sent;
	stream->pattern_left -= (uint64_t)sent;
	return 0;
}

static void generator_run(struct conn *conn)
{
	struct stream *stream = stream_of(conn);
	int rc = 0;
	while (!stream->asked && rc == 0)
		rc = generator_ask(stream);
	for (int i = 0; i < DEMO_ROUNDS && rc == 0; i++)
		rc = generator_round(stream);
	if (rc == -EAGAIN)
		return;
	if (rc == 0) {
		conn_wait(conn, LOOP_WRITE);
		return;
	}
	/* What the client sent beyond its line must be read, or closing would reset what is still on its way to the client. */
	if (rc == -ECANCELED && conn_read(conn, conn->demo->scratch, sizeof conn->demo->scratch) > 0) {
		conn_wait(conn, LOOP_READ | LOOP_WRITE);
		return;
	}
	conn_close(conn, false);
}

const struct service *service_stream(char option)
{
	static const struct service services[] = {
		{ .option = 'e', .name = "echo", .conn_bytes = sizeof(struct stream), .run = echo_run, .fini = stream_fini },
		{ .option = 'b',
		        .name = "banner",
		        .conn_bytes = sizeof(struct stream),
		        .run = echo_run,
		        .fini = stream_fini,
		        .greeting = "220" },
		{ .option = 'r', .name = "reset", .conn_bytes = sizeof(struct stream), .run = reset_run, .fini = stream_fini },
		{ .option = 's', .name = "sink", .conn_bytes = sizeof(struct stream), .run = sink_run, .fini = stream_fini },
		{ .option = 'g', .name = "generator", .conn_bytes = sizeof(struct stream), .run = generator_run, .fini = stream_fini },
	};
	for (size_t i = 0; i < ARRAY_LEN(services); i++)
		if (services[i].option == option)
			return &services[i];
	return NULL;
}
