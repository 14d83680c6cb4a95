/* What the files of the HTTP server share: http.c (from beginning to end, and libmicrohttpd on the loop), http_gate.c (who comes in),
 * http_connection.c, http_request.c and http_answer.c. See http.h.
 */
#ifndef AEGIS_CONTROL_HTTP_OWN_H
#define AEGIS_CONTROL_HTTP_OWN_H

#include <stdint.h>

#include "base/log.h"
#include "control/http.h"
#include "control/http_library.h"

enum { HTTP_ACCEPTS_A_TURN = 16, HTTP_MOST_HEADERS = 4 };

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
	struct header headers[HTTP_MOST_HEADERS];
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

/* --- connections (http_connection.c) ------------------------------------------------------------------------------------------ */

/* It has a place at the gate, and a deadline for its first request. NULL: out of memory. */
must_check struct connection *http_connection_new(struct http *http, enum http_gate gate, int fd);
/* The one with this descriptor, or NULL. */
struct connection *http_connection_find(const struct http *http, int fd);
/* The one that libmicrohttpd knows by this, or NULL. */
struct connection *http_connection_of(struct MHD_Connection *mhd_connection);
/* It is closed already. Its place is free then. */
void http_connection_free(struct connection *connection);
/* Now it waits for the next request. */
void http_connection_wait(struct connection *connection);
/* Shut it down: libmicrohttpd sees the end and closes it. */
void http_connection_end(struct connection *connection);

/* For libmicrohttpd, with the server as arg: a connection begins or is closed. */
void http_on_connection(void *arg, struct MHD_Connection *mhd_connection, void **slot, enum MHD_ConnectionNotificationCode code);

/* --- requests (http_request.c) ------------------------------------------------------------------------------------------------ */

/* For libmicrohttpd: a part of a request, or all of it, has come; and its answer has been sent, or never will be. */
enum MHD_Result http_on_request(void *arg, struct MHD_Connection *mhd_connection, const char *url, const char *method, const char *version,
        const char *upload, size_t *upload_bytes, void **slot);
void http_on_completed(void *arg, struct MHD_Connection *mhd_connection, void **slot, enum MHD_RequestTerminationCode code);

/* --- gates (http_gate.c) ------------------------------------------------------------------------------------------------------ */

void http_gate_init(struct gate *gate, struct http *http);
void http_gate_close(struct gate *gate);
/* Somebody has left: whoever is in the backlog may come in. */
void http_gate_place_is_free(struct gate *gate);
/* Those who do not take their answers. */
void http_gate_end_slow_readers(struct gate *gate);

/* --- the server (http.c) ------------------------------------------------------------------------------------------------------ */

/* libmicrohttpd, with the first client. 0 or a negative errno, and it was logged. */
must_check int http_start_daemon(struct http *http);
/* Let it do what there is to do. */
void http_run(struct http *http);
/* Who retires and waits for the last ones hears of it from the loop. */
void http_look_whether_idle(struct http *http);

#endif
