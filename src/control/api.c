#include "control/api.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "control/permit.h"
#include "control/target.h"
#include "os/channel.h"

#define JSON_TYPE "application/json"

enum { MOST_ORDERS = 16 };

struct api {
	struct loop *loop;
	const struct control_args *args;
	struct http *http;
	struct roll_calls *rolls;
	struct token token;
	struct log_gate strangers;
	uint32_t last_order;
	struct api_call *ordered; /* calls that wait for the master */
};

/* --- answers ----------------------------------------------------------------------------------------------------------------- */

static void answer(struct api_call *call, unsigned status, const char *type, char *bytes, size_t n)
{
	/* The answer to HEAD says how long that to GET would be: the server leaves the body out. */
	http_answer(call->http, status, type, bytes, n);
}

bool api_text_begin(struct api_call *call, struct api_text *text)
{
	*text = (struct api_text){ 0 };
	text->out = open_memstream(&text->bytes, &text->n);
	text->emit.out = text->out;
	if (!text->out)
		answer(call, 503, JSON_TYPE, NULL, 0);
	return text->out != NULL;
}

void api_text_end(struct api_call *call, struct api_text *text, unsigned status, const char *type)
{
	bool cut = ferror(text->out) != 0;
	if (fclose(text->out) != 0 || cut) {
		free(text->bytes);
		text->bytes = NULL;
	}
	answer(call, text->bytes ? status : 503, type, text->bytes, text->n);
}

void api_text_end_json(struct api_call *call, struct api_text *text, unsigned status)
{
	fputc('\n', text->out);
	api_text_end(call, text, status, JSON_TYPE);
}

void api_refuse(struct api_call *call, unsigned status, const char *format, ...)
{
	struct api_text text;
	char line[1024];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (!api_text_begin(call, &text))
		return;
	emit_open(&text.emit, NULL, '{');
	emit_string(&text.emit, "error", line);
	emit_close(&text.emit, '}');
	api_text_end_json(call, &text, status);
}

struct snapshot *api_look(struct api_call *call)
{
	struct snapshot *snapshot;
	if (snapshot_make(call->args->shm, clock_now_ns(), &snapshot) == 0)
		return snapshot;
	answer(call, 503, JSON_TYPE, NULL, 0);
	return NULL;
}

struct roll_calls *api_roll_calls(const struct api *api)
{
	return api->rolls;
}

const char *api_who(const struct api_call *call, char out[API_WHO_SIZE])
{
	struct ucred peer;
	socklen_t length = sizeof peer;
	struct addr addr = { .length = sizeof addr - offsetof(struct addr, sa) };
	if (call->http->gate == HTTP_GATE_UNIX && getsockopt(call->http->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
		(void)snprintf(out, API_WHO_SIZE, "uid %u (pid %d)", (unsigned)peer.uid, (int)peer.pid);
	else if (call->http->gate != HTTP_GATE_UNIX && getpeername(call->http->fd, &addr.sa, &addr.length) == 0)
		addr_format(&addr, out, API_WHO_SIZE);
	else
		(void)text_copy(out, API_WHO_SIZE, "somebody");
	return out;
}

int api_argument(struct api_call *call, const char *key, char *out, size_t size)
{
	const char *value = http_argument(call->http, key);
	if (!value)
		return 0;
	int error = target_decode(value, true, out, size);
	if (!error)
		return 1;
	api_refuse(call, 400, "the argument \"%s\" is %s", key, error == -ENAMETOOLONG ? "too long" : "not well written");
	return -EINVAL;
}

/* --- orders ------------------------------------------------------------------------------------------------------------------ */

static void forget_order(struct api_call *call)
{
	struct api_call **link = &call->api->ordered;
	while (*link && *link != call)
		link = &(*link)->next;
	if (*link)
		*link = call->next;
	call->order = 0;
}

void api_order(struct api_call *call, enum control_message ask, uint64_t value_ns, api_ordered_fn *ordered)
{
	struct api *api = call->api;
	size_t waiting = 0;
	for (const struct api_call *other = api->ordered; other; other = other->next)
		waiting++;
	if (waiting >= MOST_ORDERS) {
		api_refuse(call, 503, "%zu orders are waiting for the master already; try again", waiting);
		return;
	}
	uint32_t number = ++api->last_order ? api->last_order : ++api->last_order;
	int error = channel_send(api->args->channel, &(struct channel_message){ .kind = ask, .value = number, .value_ns = value_ns }, -1);
	if (error) {
		api_refuse(call, 503, "the master does not listen: %s", strerror(-error));
		return;
	}
	call->order = number;
	call->ordered = ordered;
	call->next = api->ordered;
	api->ordered = call;
}

static char *read_text(int fd)
{
	struct stat status;
	if (fd < 0 || fstat(fd, &status) < 0 || status.st_size < 0)
		return strdup("");
	size_t size = (size_t)status.st_size, n = 0;
	char *text = malloc(size + 1);
	while (text && n < size) {
		ssize_t got = pread(fd, text + n, size - n, (off_t)n);
		if (got <= 0 && !(got < 0 && errno == EINTR))
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	if (text)
		text[n] = '\0';
	return text;
}

void api_answered(struct api *api, uint32_t number, int error, int fd)
{
	struct api_call *call = api->ordered;
	while (call && call->order != number)
		call = call->next;
	if (!call)
		return; /* the client did not wait */
	char *text = read_text(fd);
	forget_order(call);
	call->ordered(call, error, text ? text : "");
	free(text);
}

/* --- requests ---------------------------------------------------------------------------------------------------------------- */

static void on_gone(struct http_call *http)
{
	struct api_call *call = http->user;
	if (call->order)
		forget_order(call);
	if (call->gone)
		call->gone(call);
	json_body_free(call->body);
	free(call);
}

/* The first row whose pattern is that of the path; those for other methods follow it. NULL: nothing is there. */
static const struct route *find_place(struct api_call *call)
{
	for (size_t i = 0; i < n_api_routes; i++) {
		const struct route *route = &api_routes[i];
		if ((route->gates >> call->http->gate & 1) && target_matches(call->path, route->pattern, call->name, sizeof call->name))
			return route;
	}
	return NULL;
}

static bool same_place(const struct route *route, const struct route *first)
{
	return route < api_routes + n_api_routes && strcmp(route->pattern, first->pattern) == 0;
}

static void refuse_method(struct api_call *call, const struct route *first)
{
	char allowed[64];
	struct text text = text_of(allowed, sizeof allowed);
	for (const struct route *route = first; same_place(route, first); route++)
		text_add(&text, "%s%s%s", text.length ? ", " : "", route->method, strcmp(route->method, "GET") == 0 ? ", HEAD" : "");
	http_add_header(call->http, "Allow", allowed);
	api_refuse(call, 405, "%.200s is for %s", call->path, allowed);
}

/* What curl sends with -d is taken for what it is meant to be. */
static bool is_json(const char *type)
{
	static const char *const types[] = { "application/json", "text/json", "application/x-www-form-urlencoded" };
	if (!type)
		return true;
	size_t length = strcspn(type, "; \t");
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strlen(types[i]) == length && strncasecmp(type, types[i], length) == 0)
			return true;
	return false;
}

/* False: it was refused. */
static bool take_body(struct api_call *call, const struct route *route)
{
	char why[256];
	if (call->http->body_too_large) {
		api_refuse(call, 413, "the body is larger than %d bytes", HTTP_BODY_BYTES);
		return false;
	}
	if (call->http->body_bytes && !is_json(http_header(call->http, "Content-Type"))) {
		api_refuse(call, 415, "the body must be JSON (Content-Type: application/json)");
		return false;
	}
	if (json_body_read(call->http->body, call->http->body_bytes, &call->body, why, sizeof why)) {
		api_refuse(call, 400, "%s", why);
		return false;
	}
	const char *stranger = json_body_stranger(call->body, route->keys, route->n_keys);
	if (stranger)
		api_refuse(call, 400, "there is no \"%.100s\" here%s%s", stranger, route->n_keys ? "; there is: " : "",
		        route->n_keys ? route->keys[0] : "");
	return !stranger;
}

static bool changes(const struct api_call *call)
{
	return strcmp(call->http->method, "GET") != 0 && strcmp(call->http->method, "HEAD") != 0;
}

/* Whoever tries tokens is seen, and does not fill the log. */
static void log_stranger(struct api_call *call, const char *why)
{
	char who[API_WHO_SIZE];
	uint64_t held_back;
	if (log_gate_open(&call->api->strangers, loop_now_ns(call->loop), &held_back))
		log_warn("admin API: %s was refused (%llu more were before): %s", api_who(call, who), (unsigned long long)held_back, why);
}

/* What the headers alone tell: who asks, and for what. */
static void look_at_headers(struct api_call *call)
{
	const char *method = changes(call) ? call->http->method : "GET";
	char why[256];

	if (target_decode(call->http->path, false, call->path, sizeof call->path)) {
		api_refuse(call, 400, "the path is not well written");
		return;
	}
	const struct route *first = find_place(call), *route = first;
	unsigned status = 0;
	if (!first || !first->is_open)
		status = permit_check(call->http, &call->args->admin, &call->api->token, changes(call), why, sizeof why);
	if (status == 401) {
		http_add_header(call->http, "WWW-Authenticate", "Bearer");
		log_stranger(call, why);
	}
	if (status) {
		api_refuse(call, status, "%s", why);
		return;
	}
	if (!first) {
		api_refuse(call, 404, "there is no %.200s here", call->path);
		return;
	}
	while (same_place(route, first) && strcmp(route->method, method) != 0)
		route++;
	if (same_place(route, first))
		call->route = route;
	else
		refuse_method(call, first);
}

static void on_headers(void *arg, struct http_call *http)
{
	struct api *api = arg;
	struct api_call *call = calloc(1, sizeof *call);
	if (!call) {
		http_answer(http, 503, JSON_TYPE, NULL, 0);
		return;
	}
	*call = (struct api_call){ .api = api, .args = api->args, .loop = api->loop, .http = http };
	http->user = call;
	http->on_gone = on_gone;
	look_at_headers(call);
}

static void on_call(void *arg, struct http_call *http)
{
	struct api_call *call = http->user;
	(void)arg;
	if (!changes(call) || take_body(call, call->route))
		call->route->fn(call);
}

/* --- from beginning to end --------------------------------------------------------------------------------------------------- */

struct api *api_new(struct loop *loop, const struct control_args *args, const struct token *token)
{
	struct api *api = calloc(1, sizeof *api);
	if (!api)
		return NULL;
	*api = (struct api){ .loop = loop, .args = args };
	if (token)
		api->token = *token;
	api->http = http_new(loop, on_headers, on_call, api);
	if (api->http && roll_calls_new(loop, args->shm, args->bells, &api->rolls) == 0)
		return api;
	api_free(api);
	return NULL;
}

void api_open(struct api *api)
{
	const struct control_admin *admin = &api->args->admin;
	for (enum http_gate gate = 0; gate < N_HTTP_GATES; gate++) {
		int error = admin->fds[gate] >= 0 ? http_open(api->http, gate, admin->fds[gate]) : 0;
		if (error)
			log_error("cannot watch a socket of the admin API: %s", strerror(-error));
	}
}

void api_retire(struct api *api, http_idle_fn *done, void *arg)
{
	roll_calls_hurry(api->rolls);
	http_retire(api->http, done, arg);
}

void api_free(struct api *api)
{
	if (!api)
		return;
	http_free(api->http);
	roll_calls_free(api->rolls);
	token_forget(&api->token);
	free(api);
}
