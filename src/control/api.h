/* The admin API: which request goes where, who may ask for what, and how answers are written.
 *
 * Process: control. It looks at shared memory, and asks the master for what only that can do; no worker is asked or waits.
 *
 * An endpoint is a row in api_routes.c and a function in an api_*.c. The function ends in one of the answers below, at once or later: a
 * call that is held sets call->gone, which is told when the client will not hear it any more.
 * A GET never changes anything. What changes something is a POST or a DELETE, and over TCP needs the token.
 */
#ifndef AEGIS_CONTROL_API_H
#define AEGIS_CONTROL_API_H

#include "control/control.h"
#include "control/http.h"
#include "control/json.h"
#include "control/roll_call.h"
#include "control/token.h"
#include "view/emit.h"
#include "view/snapshot.h"

enum { API_PATH_SIZE = 1024, API_WHO_SIZE = 160 };

struct api;
struct api_call;

typedef void api_fn(struct api_call *call);
/* What the master answered to an order: 0 or a negative errno, and a JSON object ("" = none), which is the caller's. */
typedef void api_ordered_fn(struct api_call *call, int error, const char *text);

struct api_call {
	struct api *api;
	const struct control_args *args;
	struct loop *loop;
	struct http_call *http;
	const struct route *route;
	char path[API_PATH_SIZE]; /* decoded */
	char name[API_PATH_SIZE]; /* what stood for the star of the route, decoded */
	struct json_body *body;   /* of a POST; never NULL then */
	void *user;               /* of the endpoint */
	api_fn *gone;             /* the call ends: forget it. Told after an answer, too */
	uint32_t order;           /* 0 = none */
	api_ordered_fn *ordered;
	struct api_call *next; /* among those that wait for the master */
};

struct route {
	const char *method, *pattern; /* see target_matches() */
	api_fn *fn;
	unsigned gates;          /* bits of enum http_gate */
	bool is_open;            /* for anybody who can connect: it tells nothing of this instance */
	const char *const *keys; /* what may stand in the body; NULL = nothing */
	size_t n_keys;
};
/* Rows with the same pattern stand together. */
extern const struct route api_routes[];
extern const size_t n_api_routes;

/* Serve. The token (may be NULL) is copied. NULL when out of memory. */
must_check struct api *api_new(struct loop *loop, const struct control_args *args, const struct token *token);
/* Begin to accept clients. */
void api_open(struct api *api);
/* No new ones; done is called when all that are there have their answer. */
void api_retire(struct api *api, http_idle_fn *done, void *arg);
void api_free(struct api *api);

/* --- for endpoints ----------------------------------------------------------------------------------------------------------- */

/* The argument KEY=VALUE of the query, decoded. 1, 0 where there is none, or -EINVAL when it was refused: then it is answered. */
must_check int api_argument(struct api_call *call, const char *key, char *out, size_t size);

/* Who asks, for the log: "uid 0 (pid 4711)" or "127.0.0.1:40022". Returns out. */
const char *api_who(const struct api_call *call, char out[API_WHO_SIZE]);

/* An answer under construction: begin, write to it, end. */
struct api_text {
	FILE *out;
	struct emit emit;
	char *bytes;
	size_t n;
};
/* False: out of memory, and the call is answered. */
must_check bool api_text_begin(struct api_call *call, struct api_text *text);
/* Answer with it; JSON gets a line end. */
void api_text_end_json(struct api_call *call, struct api_text *text, unsigned status);
void api_text_end(struct api_call *call, struct api_text *text, unsigned status, const char *type);

/* Answer {"error":"..."}. */
void api_refuse(struct api_call *call, unsigned status, const char *format, ...) printf_like(3, 4);

/* Who asks the workers. */
struct roll_calls *api_roll_calls(const struct api *api);

/* The segment at this moment; NULL: out of memory, and the call is answered. */
must_check struct snapshot *api_look(struct api_call *call);

/* Ask the master for something (CONTROL_ASK_...); ordered hears the answer, unless the client or the master went away. */
void api_order(struct api_call *call, enum control_message ask, uint64_t value_ns, api_ordered_fn *ordered);
/* What the master said to order number: fd holds the text, and stays the caller's; -1 = none. */
void api_answered(struct api *api, uint32_t number, int error, int fd);

/* --- the endpoints ----------------------------------------------------------------------------------------------------------- */

api_fn api_page, api_health, api_status, api_settings, api_metrics;
api_fn api_servers, api_server, api_server_enable, api_server_disable, api_server_drain, api_server_weight, api_reset;
api_fn api_reload, api_certificates, api_drain, api_undrain;
api_fn api_connections, api_kill, api_why;

#endif
