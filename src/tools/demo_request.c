#include "tools/demo_request.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* A piece of the head. */
struct span {
	const char *at;
	size_t length;
};

/* What the header lines said, before it is put together. */
struct seen {
	int hosts;
	bool close;
	bool keep_alive;
	bool length;
};

static int refuse(struct request_error *error, int status, const char *why)
{
	*error = (struct request_error){ .status = status, .why = why };
	return -EINVAL;
}

static bool span_is(struct span span, const char *word)
{
	return span.length == strlen(word) && strncasecmp(span.at, word, span.length) == 0;
}

/* Cut at the first separator: what stands before it is returned, span becomes what follows. */
static struct span span_take(struct span *span, char separator)
{
	const char *end = memchr(span->at, separator, span->length);
	struct span first = { span->at, end == NULL ? span->length : (size_t)(end - span->at) };
	size_t skip = first.length + (end != NULL);
	span->at += skip;
	span->length -= skip;
	return first;
}

static struct span span_trim(struct span span)
{
	while (span.length > 0 && (*span.at == ' ' || *span.at == '\t')) {
		span.at++;
		span.length--;
	}
	while (span.length > 0 && (span.at[span.length - 1] == ' ' || span.at[span.length - 1] == '\t'))
		span.length--;
	return span;
}

/* Copy, or leave "" where it does not fit. */
static void span_copy(struct span span, char *out, size_t size)
{
	if (span.length >= size)
		span.length = 0;
	memcpy(out, span.at, span.length);
	out[span.length] = '\0';
}

static int parse_length(struct span value, uint64_t *out)
{
	if (value.length == 0 || value.length > 18)
		return -EINVAL;
	uint64_t number = 0;
	for (size_t i = 0; i < value.length; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return -EINVAL;
		number = number * 10 + (uint64_t)(value.at[i] - '0');
	}
	*out = number;
	return 0;
}

static enum request_method parse_method(struct span word)
{
	static const struct {
		const char *name;
		enum request_method method;
	} methods[] = { { "GET", METHOD_GET }, { "HEAD", METHOD_HEAD }, { "POST", METHOD_POST }, { "PUT", METHOD_PUT } };
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (word.length == strlen(methods[i].name) && memcmp(word.at, methods[i].name, word.length) == 0)
			return methods[i].method;
	return METHOD_OTHER;
}

static int parse_request_line(struct span line, struct request *out, struct request_error *error)
{
	struct span method = span_take(&line, ' ');
	struct span target = span_take(&line, ' ');
	if (method.length == 0 || line.length == 0)
		return refuse(error, 400, "the request line must be: METHOD PATH HTTP/1.1");
	bool http10 = line.length == 8 && memcmp(line.at, "HTTP/1.0", 8) == 0;
	bool http11 = line.length == 8 && memcmp(line.at, "HTTP/1.1", 8) == 0;
	if (!http10 && !http11)
		return refuse(error, 400, "the version must be HTTP/1.0 or HTTP/1.1");
	if (target.length == 0 || target.at[0] != '/')
		return refuse(error, 400, "the path must start with a slash");
	out->method = parse_method(method);
	struct span path = span_take(&target, '?');
	span_copy(path, out->path, sizeof out->path);
	span_copy(target, out->query, sizeof out->query);
	out->keep_alive = http11;
	return 0;
}

static void parse_connection(struct span value, struct seen *seen)
{
	while (value.length > 0) {
		struct span word = span_trim(span_take(&value, ','));
		seen->close |= span_is(word, "close");
		seen->keep_alive |= span_is(word, "keep-alive");
	}
}

static int parse_header(struct span line, struct request *out, struct seen *seen, struct request_error *error)
{
	struct span value = line;
	struct span name = span_take(&value, ':');
	if (name.length == 0 || name.length == line.length || memchr(name.at, ' ', name.length) || memchr(name.at, '\t', name.length))
		return refuse(error, 400, "a header must be: Name: value");
	value = span_trim(value);
	if (span_is(name, "content-length")) {
		uint64_t bytes;
		if (parse_length(value, &bytes) < 0 || (seen->length && bytes != out->body_bytes))
			return refuse(error, 400, "Content-Length must be one number");
		out->body_bytes = bytes;
		seen->length = true;
	} else if (span_is(name, "transfer-encoding")) {
		return refuse(error, 501, "Transfer-Encoding is not supported, send Content-Length");
	} else if (span_is(name, "connection")) {
		parse_connection(value, seen);
	} else if (span_is(name, "expect")) {
		out->expects_continue = span_is(value, "100-continue");
	} else if (span_is(name, "host")) {
		seen->hosts++;
	}
	return 0;
}

/* The length of the head with its empty line, or 0 while it is not complete. */
static size_t head_length(const char *bytes, size_t length)
{
	const char *end = memmem(bytes, length, "\r\n\r\n", 4);
	return end == NULL ? 0 : (size_t)(end - bytes) + 4;
}

/* The next line without its end; the caller knows that there is one. */
static struct span next_line(struct span *head)
{
	const char *end = memmem(head->at, head->length, "\r\n", 2);
	struct span line = { head->at, (size_t)(end - head->at) };
	head->at += line.length + 2;
	head->length -= line.length + 2;
	return line;
}

int request_parse(const char *bytes, size_t length, struct request *out, struct request_error *error)
{
	/* Empty lines before a request are allowed (RFC 9112, 2.2). */
	size_t skipped = 0;
	while (length - skipped >= 2 && memcmp(bytes + skipped, "\r\n", 2) == 0)
		skipped += 2;
	size_t size = head_length(bytes + skipped, length - skipped);
	if (memchr(bytes, '\0', size > 0 ? skipped + size : length) != NULL)
		return refuse(error, 400, "a zero byte in the request");
	if (size == 0)
		return length < REQUEST_HEAD_BYTES ? -EAGAIN : refuse(error, 431, "the head of the request is too large");
	struct request request = { .head_bytes = skipped + size };
	struct seen seen = { 0 };
	struct span head = { bytes + skipped, size - 2 };
	int rc = parse_request_line(next_line(&head), &request, error);
	if (rc < 0)
		return rc;
	bool http11 = request.keep_alive;
	while (head.length > 0) {
		rc = parse_header(next_line(&head), &request, &seen, error);
		if (rc < 0)
			return rc;
	}
	if (seen.hosts > 1 || (http11 && seen.hosts == 0))
		return refuse(error, 400, "HTTP/1.1 needs one Host header");
	request.keep_alive = !seen.close && (http11 || seen.keep_alive);
	request.expects_continue &= http11;
	*out = request;
	return 0;
}

bool request_query(const struct request *request, const char *name, char *out, size_t size)
{
	struct span query = { request->query, strlen(request->query) };
	while (query.length > 0) {
		struct span value = span_take(&query, '&');
		struct span key = span_take(&value, '=');
		if (!span_is(key, name) || value.length >= size)
			continue;
		span_copy(value, out, size);
		return true;
	}
	return false;
}
