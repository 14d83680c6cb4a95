/* The head of an HTTP/1 request, as far as aegis-demo needs it. A pure parser: no socket, no allocation, strict. */
#ifndef AEGIS_TOOLS_DEMO_REQUEST_H
#define AEGIS_TOOLS_DEMO_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum { REQUEST_HEAD_BYTES = 8192, REQUEST_PATH_SIZE = 64, REQUEST_QUERY_SIZE = 128 };

enum request_method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_PUT, METHOD_OTHER };

struct request {
	enum request_method method;
	char path[REQUEST_PATH_SIZE];   /* "" when it is longer than any path that exists */
	char query[REQUEST_QUERY_SIZE]; /* what follows '?'; "" when there is none or it is too long */
	bool keep_alive;
	bool expects_continue;
	uint64_t body_bytes; /* of Content-Length */
	size_t head_bytes;   /* up to and including the empty line */
};

/* What is wrong with a request: the status to answer and a sentence for the client. */
struct request_error {
	int status;
	const char *why;
};

/* 0 and *out; -EAGAIN when the head is not complete yet; -EINVAL and *error when it will never be good. */
must_check int request_parse(const char *bytes, size_t length, struct request *out, struct request_error *error);

/* The value of name in a query ("a=1&b=2"). True, or false when it is not there or does not fit. */
bool request_query(const struct request *request, const char *name, char *out, size_t size);

#endif
