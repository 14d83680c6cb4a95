#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/api.h"
#include "control/permit.h"
#include "os/channel.h"
#include "os/loop.h"
#include "os/region.h"

/* --- in the place of http.c: what was answered is kept ---------------------------------------------------------------------- */

struct http {
	http_handle_fn *screen, *handle;
	void *arg;
};

static struct http server;
static const char *headers[8]; /* name, value, ..., NULL */
static unsigned status;
static char *text;
static char allow[HTTP_HEADER_VALUE_SIZE], authenticate[HTTP_HEADER_VALUE_SIZE];

struct http *http_new(struct loop *loop, http_handle_fn *screen, http_handle_fn *handle, void *arg)
{
	(void)loop;
	server = (struct http){ .screen = screen, .handle = handle, .arg = arg };
	return &server;
}

void http_free(struct http *http)
{
	(void)http;
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
	(void)http;
	(void)idle;
	(void)arg;
}

const char *http_header(const struct http_call *call, const char *name)
{
	(void)call;
	for (size_t i = 0; headers[i]; i += 2)
		if (strcasecmp(headers[i], name) == 0)
			return headers[i + 1];
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
	if (strcmp(name, "Allow") == 0)
		snprintf(allow, sizeof allow, "%s", value);
	if (strcmp(name, "WWW-Authenticate") == 0)
		snprintf(authenticate, sizeof authenticate, "%s", value);
}

bool http_is_built(void)
{
	return true;
}

bool http_available(char *out, size_t size)
{
	snprintf(out, size, "a stand-in");
	return true;
}

void http_answer(struct http_call *call, unsigned answer, const char *type, char *bytes, size_t n)
{
	(void)type;
	assert_int_equal(status, 0);
	status = answer;
	free(text);
	text = bytes ? strndup(bytes, n) : strdup("");
	free(bytes);
	if (call->on_gone)
		call->on_gone(call);
	call->on_gone = NULL;
}

/* --- ground ------------------------------------------------------------------------------------------------------------------ */

static const struct token token = { .length = 16, .bytes = "0123456789abcdef" };
static struct loop *loop;
static struct api *api;
static struct control_args args;
static struct shm shm;
static struct bells bells;
static const struct shm_dims dims = { .seats = 2, .listeners = 2, .servers = 2 };
static int channel[2], pair[2];

static int setup_with(const struct token *secret)
{
	static const struct config config;
	loop = loop_new();
	assert_non_null(loop);
	assert_int_equal(channel_pair(channel), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	void *base;
	assert_int_equal(region_reserve(shm_size_bytes(&dims), &base), 0);
	shm_init(&shm, base, &dims);
	args = (struct control_args){ .config = &config, .channel = channel[1], .shm = &shm, .bells = &bells };
	args.admin = (struct control_admin){ .fds = { -1, -1, -1 }, .is_loopback = { false, true, false } };
	args.admin.uid = args.admin.run_uid = geteuid();
	api = api_new(loop, &args, secret);
	assert_non_null(api);
	headers[0] = NULL;
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(&token);
}

static int setup_without_token(void **state)
{
	(void)state;
	return setup_with(NULL);
}

static int teardown(void **state)
{
	(void)state;
	api_free(api);
	loop_free(loop);
	region_close(shm.header, shm_size_bytes(&dims));
	for (int i = 0; i < 2; i++) {
		close(channel[i]);
		close(pair[i]);
	}
	free(text);
	text = NULL;
	return 0;
}

static struct http_call last;

/* As the server does: the headers first, and what they are answered is all. */
static unsigned bring(void)
{
	status = 0;
	server.screen(server.arg, &last);
	if (!status)
		server.handle(server.arg, &last);
	return status;
}

/* The status of the answer; 0 when it is held. */
static unsigned ask(enum http_gate gate, const char *method, const char *path, const char *body)
{
	allow[0] = authenticate[0] = '\0';
	last = (struct http_call){
		.method = method, .path = path, .gate = gate, .fd = pair[0], .body = body ? body : "", .body_bytes = body ? strlen(body) : 0
	};
	return bring();
}

static void check_error(const char *part)
{
	assert_ptr_equal(strstr(text, "{\"error\":\""), text);
	if (!strstr(text, part))
		fail_msg("%s", text);
}

/* --- the table --------------------------------------------------------------------------------------------------------------- */

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_api_routes; i++) {
		const struct route *row = &api_routes[i];
		assert_non_null(row->fn);
		assert_int_equal(row->pattern[0], '/');
		bool changes = strcmp(row->method, "GET") != 0;
		assert_true(!changes || strcmp(row->method, "POST") == 0 || strcmp(row->method, "DELETE") == 0);
		assert_true(changes || row->n_keys == 0);
		/* The gate of the metrics has those alone, and a page that is open is nothing but a page. */
		assert_int_equal(row->gates >> HTTP_GATE_METRICS & 1, row->fn == api_metrics);
		assert_true(!row->is_open || (!changes && strcmp(row->pattern, "/") == 0));
		for (size_t j = 0; j < i; j++) {
			bool same = strcmp(api_routes[j].pattern, row->pattern) == 0;
			assert_false(same && strcmp(api_routes[j].method, row->method) == 0);
			assert_true(!same || strcmp(api_routes[i - 1].pattern, row->pattern) == 0);
		}
	}
}

static void test_places_and_methods(void **state)
{
	(void)state;
	assert_int_equal(ask(HTTP_GATE_UNIX, "GET", "/nothing", NULL), 404);
	check_error("/nothing");
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/status", NULL), 405);
	assert_string_equal(allow, "GET, HEAD");
	assert_int_equal(ask(HTTP_GATE_UNIX, "GET", "/reload", NULL), 405);
	assert_string_equal(allow, "POST");
	assert_int_equal(ask(HTTP_GATE_UNIX, "HEAD", "/reload", NULL), 405);
	assert_int_equal(ask(HTTP_GATE_UNIX, "?", "/metrics", NULL), 405);
	assert_int_equal(ask(HTTP_GATE_UNIX, "GET", "/servers/app%2Fa/drain", NULL), 405);
	assert_int_equal(ask(HTTP_GATE_UNIX, "GET", "/%zz", NULL), 400);
	assert_int_equal(ask(HTTP_GATE_UNIX, "GET", "/%00", NULL), 400);
	assert_int_equal(ask(HTTP_GATE_METRICS, "GET", "/status", NULL), 401);
	headers[0] = "Authorization";
	headers[1] = "Bearer 0123456789abcdef";
	headers[2] = NULL;
	assert_int_equal(ask(HTTP_GATE_METRICS, "GET", "/status", NULL), 404);
	assert_int_equal(ask(HTTP_GATE_METRICS, "POST", "/metrics", NULL), 405);
}

/* --- bodies ------------------------------------------------------------------------------------------------------------------ */

static void test_bodies(void **state)
{
	(void)state;
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/drain", "{"), 400);
	check_error("not JSON");
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/drain", "{\"time\":1}"), 400);
	check_error("there is no \\\"time\\\" here");
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/reload", "{\"timeout\":1}"), 400);
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/drain", "{\"timeout\":-1}"), 400);
	check_error("\\\"timeout\\\" must be a number");
	headers[0] = "content-type";
	headers[1] = "text/plain";
	headers[2] = NULL;
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/drain", "{}"), 415);
	headers[1] = "application/json; charset=utf-8";
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/drain", "{\"x\":1}"), 400);
	last = (struct http_call){
		.method = "POST", .path = "/drain", .gate = HTTP_GATE_UNIX, .fd = pair[0], .body = "", .body_too_large = true
	};
	assert_int_equal(bring(), 413);
}

/* --- rights ------------------------------------------------------------------------------------------------------------------ */

static void test_tokens(void **state)
{
	(void)state;
	assert_int_equal(ask(HTTP_GATE_ADMIN, "GET", "/nothing", NULL), 404);
	assert_int_equal(ask(HTTP_GATE_ADMIN, "POST", "/nothing", NULL), 401);
	assert_string_equal(authenticate, "Bearer");
	assert_int_equal(ask(HTTP_GATE_ADMIN, "DELETE", "/connections/1", NULL), 401);
	headers[0] = "Authorization";
	headers[1] = "Bearer 0123456789abcdeg";
	headers[2] = NULL;
	assert_int_equal(ask(HTTP_GATE_ADMIN, "GET", "/nothing", NULL), 401);
	headers[1] = "Bearer 0123456789abcdef";
	assert_int_equal(ask(HTTP_GATE_ADMIN, "POST", "/nothing", NULL), 404);
}

static void test_without_a_token(void **state)
{
	(void)state;
	assert_int_equal(ask(HTTP_GATE_ADMIN, "GET", "/nothing", NULL), 404);
	assert_int_equal(ask(HTTP_GATE_ADMIN, "POST", "/reload", NULL), 403);
	headers[0] = "Authorization";
	headers[1] = "Bearer ";
	headers[2] = NULL;
	assert_int_equal(ask(HTTP_GATE_ADMIN, "POST", "/reload", NULL), 401);
	/* Never so: the settings do not let such an address stand without a token. */
	headers[0] = NULL;
	assert_int_equal(ask(HTTP_GATE_METRICS, "GET", "/metrics", NULL), 401);
}

static void test_hosts(void **state)
{
	(void)state;
	static const char *const local[] = { NULL, "localhost", "LOCALHOST:80", "127.0.0.1", "10.1.2.3:9090", "[::1]", "[2001:db8::1]:80" };
	static const char *const others[] = { "", ":80", "example.org", "localhost.example.org", "127.0.0.1.example.org", "[::1",
		"[localhost]", "::1", "127.0.0", "0x7f000001",
		"a-name-that-is-longer-than-any-address-could-possibly-be-in-this-world.example" };
	for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
		assert_true(permit_host_is_local(local[i]));
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (permit_host_is_local(others[i]))
			fail_msg("%s", others[i]);
	headers[0] = "Host";
	headers[1] = "example.org";
	headers[2] = NULL;
	assert_int_equal(ask(HTTP_GATE_ADMIN, "GET", "/nothing", NULL), 403);
	assert_int_equal(ask(HTTP_GATE_UNIX, "GET", "/nothing", NULL), 404);
}

static void test_strangers(void **state)
{
	(void)state;
	if (geteuid() == 0)
		skip(); /* root is nobody's stranger */
	args.admin.uid = args.admin.run_uid = geteuid() + 1;
	args.admin.gid = getegid() + 1;
	assert_int_equal(ask(HTTP_GATE_UNIX, "GET", "/nothing", NULL), 403);
	args.admin.gid = getegid();
	assert_int_equal(ask(HTTP_GATE_UNIX, "GET", "/nothing", NULL), 404);
}

/* --- orders ------------------------------------------------------------------------------------------------------------------ */

static int file_of(const char *bytes)
{
	int fd = memfd_create("answer", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, strlen(bytes)), strlen(bytes));
	return fd;
}

static struct channel_message heard(void)
{
	struct channel_message message = { .kind = 0 };
	int fd;
	assert_int_equal(channel_receive(channel[0], &message, &fd), 0);
	assert_int_equal(fd, -1);
	return message;
}

static void test_an_order(void **state)
{
	(void)state;
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/drain", "{\"timeout\":1.5}"), 0);
	struct channel_message message = heard();
	assert_int_equal(message.kind, CONTROL_ASK_DRAIN);
	assert_int_equal(message.value_ns, 1500000000);
	int fd = file_of("{\"state\":\"draining\"}");
	api_answered(api, message.value + 1, 0, fd); /* somebody else's */
	assert_int_equal(status, 0);
	api_answered(api, message.value, 0, fd);
	assert_int_equal(status, 200);
	assert_string_equal(text, "{\"state\":\"draining\"}\n");
	status = 0;
	api_answered(api, message.value, 0, fd); /* once */
	assert_int_equal(status, 0);
	close(fd);
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/drain", NULL), 0);
	message = heard();
	assert_true(message.value_ns == UINT64_MAX);
	api_answered(api, message.value, -ESHUTDOWN, -1);
	assert_int_equal(status, 409);
}

static void test_answers_of_the_master(void **state)
{
	(void)state;
	static const struct {
		int error;
		const char *text;
		unsigned status;
	} cases[] = { { 0, "{}", 200 }, { -EINVAL, "{\"error\":\"x\"}", 422 }, { -EINVAL, "", 503 }, { -ESHUTDOWN, "", 409 },
		{ -ECANCELED, "", 409 }, { -EAGAIN, "", 503 }, { -ENOMEM, "", 503 } };
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/reload", NULL), 0);
		int fd = file_of(cases[i].text);
		api_answered(api, heard().value, cases[i].error, fd);
		close(fd);
		assert_int_equal(status, cases[i].status);
	}
}

static void test_a_client_that_does_not_wait(void **state)
{
	(void)state;
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/reload", NULL), 0);
	last.on_gone(&last);
	api_answered(api, heard().value, 0, -1);
	assert_int_equal(status, 0);
}

static void test_too_many_orders(void **state)
{
	(void)state;
	struct http_call held[64];
	size_t n = 0;
	while (n < 64 && ask(HTTP_GATE_UNIX, "POST", "/undrain", NULL) == 0) {
		/* The server keeps a call where it is; here the next one takes its place. */
		held[n] = last;
		((struct api_call *)last.user)->http = &held[n];
		n++;
	}
	assert_in_range(n, 8, 63);
	assert_int_equal(status, 503);
	for (size_t i = 0; i < n; i++) {
		status = 0;
		api_answered(api, heard().value, 0, -1);
		assert_int_equal(status, 200);
	}
}

static void test_a_master_that_is_gone(void **state)
{
	(void)state;
	close(channel[0]);
	assert_int_equal(ask(HTTP_GATE_UNIX, "POST", "/reload", NULL), 503);
	check_error("the master does not listen");
	channel[0] = dup(0);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		EACH(test_places_and_methods),
		EACH(test_bodies),
		EACH(test_tokens),
		cmocka_unit_test_setup_teardown(test_without_a_token, setup_without_token, teardown),
		EACH(test_hosts),
		EACH(test_strangers),
		EACH(test_an_order),
		EACH(test_answers_of_the_master),
		EACH(test_a_client_that_does_not_wait),
		EACH(test_too_many_orders),
		EACH(test_a_master_that_is_gone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
