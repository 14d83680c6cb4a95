/* An HTTP/1.1 server on the loop of the control process: requests that came whole are handed to one function, which answers them at once or
 * later. On libmicrohttpd, which nobody else uses (http_library.h).
 *
 * Process: control.
 * States:  a connection waits for a request (its headers, then its body), is under way (its request is being answered), waits again, ...,
 * is closed. Who waits has a deadline. Where a gate is full, who comes stays in the backlog until a place is free; room is made by who does
 * not take an answer, and by who waited longest without sending, so that neither of them keeps anybody out for long. One whose request has
 * come is never cut off.
 *
 * Owner:   the server owns calls; one that was handed over stays until http_answer(), or until on_gone() where the client will never get an
 * answer.
 */
#ifndef AEGIS_CONTROL_HTTP_H
#define AEGIS_CONTROL_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "os/loop.h"

/* Where requests come in. Each has so many places, so that a crowd at one of them does not shut the others. */
enum http_gate { HTTP_GATE_UNIX, HTTP_GATE_ADMIN, HTTP_GATE_METRICS, N_HTTP_GATES };
enum { HTTP_GATE_PLACES = 64 };

enum { HTTP_BODY_BYTES = 64 << 10, HTTP_HEADER_VALUE_SIZE = 512 };

#define HTTP_NOT_BUILT "this Aegis was built without libmicrohttpd or jansson, which that needs; leave the address out"

struct http;

struct http_call {
	const char *method;
	const char *path; /* as it came, escapes and all, without the query */
	enum http_gate gate;
	int fd;                                  /* of the connection: to ask who it is */
	const char *body;                        /* NUL-terminated, but it may hold more of them */
	size_t body_bytes;                       /* at most HTTP_BODY_BYTES */
	bool body_too_large;                     /* there was more */
	void *user;                              /* of who answers */
	void (*on_gone)(struct http_call *call); /* the end of the call, answered or not; may be NULL */
};

typedef void http_handle_fn(void *arg, struct http_call *call);
typedef void http_idle_fn(void *arg);

/* Whether there is libmicrohttpd, in this build and on this system: its version, or why not. It is loaded for that, for good. */
must_check bool http_available(char *text, size_t size);

/* Whether this was built with it. Without, there is a server that accepts nobody. */
must_check bool http_is_built(void);

/* screen sees a request when its headers have come, and may answer it: then its body is not read, and handle does not see it. It may be
 * NULL, and so may what is returned: out of memory. */
must_check struct http *http_new(struct loop *loop, http_handle_fn *screen, http_handle_fn *handle, void *arg);
/* Accept clients from a listening socket, which stays the caller's. 0 or a negative errno. */
must_check int http_open(struct http *http, enum http_gate gate, int fd);
/* No new clients; those that wait for the answer to their request get it. idle is called once, from the loop, when nobody is left who is
 * owed one. */
void http_retire(struct http *http, http_idle_fn *idle, void *arg);
void http_free(struct http *http);

/* A header of the request, or NULL. */
const char *http_header(const struct http_call *call, const char *name);
/* What stands behind KEY= in the query, escapes and all, or NULL. */
const char *http_argument(const struct http_call *call, const char *key);

/* Before the answer: a header of it, cut where it is longer than HTTP_HEADER_VALUE_SIZE; at most four. */
void http_add_header(struct http_call *call, const char *name, const char *value);
/* The answer; bytes come from malloc(), and go to the server. The call may be gone after that. */
void http_answer(struct http_call *call, unsigned status, const char *type, char *bytes, size_t n);

#endif
