/* Built without libmicrohttpd or jansson: nobody is listened to; see http.h and json.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/http.h"
#include "control/json.h"

struct http {
	struct loop *loop;
	http_idle_fn *idle;
	void *idle_arg;
	struct loop_timer ended;
};

bool http_is_built(void)
{
	return false;
}

bool http_available(char *text, size_t size)
{
	(void)snprintf(text, size, "built without libmicrohttpd or jansson");
	return false;
}

static void on_ended(struct loop_timer *timer)
{
	struct http *http = container_of(timer, struct http, ended);
	http->idle(http->idle_arg);
}

struct http *http_new(struct loop *loop, http_handle_fn *screen, http_handle_fn *handle, void *arg)
{
	struct http *http = calloc(1, sizeof *http);
	(void)screen;
	(void)handle;
	(void)arg;
	if (!http)
		return NULL;
	http->loop = loop;
	loop_timer_init(&http->ended, on_ended);
	return http;
}

int http_open(struct http *http, enum http_gate gate, int fd)
{
	(void)http;
	(void)gate;
	(void)fd;
	return 0;
}

void http_retire(struct http *http, http_idle_fn *idle, void *arg)
{
	http->idle = idle;
	http->idle_arg = arg;
	loop_timer_start(http->loop, &http->ended, 0);
}

void http_free(struct http *http)
{
	if (http)
		loop_timer_stop(http->loop, &http->ended);
	free(http);
}

/* There is no call to speak of. */

const char *http_header(const struct http_call *call, const char *name)
{
	(void)call;
	(void)name;
	return NULL;
}

const char *http_argument(const struct http_call *call, const char *key)
{
	(void)call;
	(void)key;
	return NULL;
}

void http_add_header(struct http_call *call, const char *name, const char *value)
{
	(void)call;
	(void)name;
	(void)value;
}

void http_answer(struct http_call *call, unsigned status, const char *type, char *bytes, size_t n)
{
	(void)call;
	(void)status;
	(void)type;
	(void)n;
	free(bytes);
}

int json_body_read(const char *bytes, size_t n, struct json_body **out, char *why, size_t why_size)
{
	(void)bytes;
	(void)n;
	(void)out;
	(void)snprintf(why, why_size, "built without jansson");
	return -ENOTSUP;
}

void json_body_free(struct json_body *body)
{
	(void)body;
}

const char *json_body_stranger(const struct json_body *body, const char *const *known, size_t n)
{
	(void)body;
	(void)known;
	(void)n;
	return NULL;
}

bool json_body_is_null(const struct json_body *body, const char *key)
{
	(void)body;
	(void)key;
	return false;
}

int json_body_whole(const struct json_body *body, const char *key, uint64_t min, uint64_t max, uint64_t *out, char *why, size_t why_size)
{
	(void)body;
	(void)key;
	(void)min;
	(void)max;
	(void)out;
	(void)why;
	(void)why_size;
	return -ENOTSUP;
}

int json_body_number(const struct json_body *body, const char *key, double min, double max, double *out, char *why, size_t why_size)
{
	(void)body;
	(void)key;
	(void)min;
	(void)max;
	(void)out;
	(void)why;
	(void)why_size;
	return -ENOTSUP;
}
