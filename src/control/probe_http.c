#include "control/probe_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "control/probe_http_own.h"

bool probe_http_available(char *text, size_t size)
{
	if (!curl_library_load(text, size))
		return false;
	const curl_version_info_data *version = libcurl.version_info(CURLVERSION_NOW);
	snprintf(text, size, "libcurl %s%s%s", version->version, version->ssl_version ? ", " : "",
	        version->ssl_version ? version->ssl_version : "");
	return true;
}

/* ---- between libcurl and the loop ---- */

/* Over is what libcurl says so of; the outcome may stop any other check. */
static void reap(struct probe_http *http);

static void on_ready(struct loop_io *io, int events)
{
	struct probe_http_check *check = container_of(io, struct probe_http_check, io);
	struct probe_http *http = check->http;
	int running, mask = (events & LOOP_READ ? CURL_CSELECT_IN : 0) | (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0);

	(void)libcurl.multi_socket_action(http->multi, check->curl_fd, mask, &running);
	reap(http);
}

static void on_timer(struct loop_timer *timer)
{
	struct probe_http *http = container_of(timer, struct probe_http, timer);
	int running;

	(void)libcurl.multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	reap(http);
}

static int on_timer_wish(CURLM *multi, long timeout_ms, void *arg)
{
	struct probe_http *http = arg;

	(void)multi;
	if (timeout_ms < 0)
		loop_timer_stop(http->loop, &http->timer);
	else
		loop_timer_start(http->loop, &http->timer, (uint64_t)timeout_ms * NS_PER_MS);
	return 0;
}

/* Handles of libcurl's own, which close connections when their check is gone, have no check. An error would fail every transfer there is:
 * so of a kernel that has no room for another watch only the timeout tells. */
static int on_watch_wish(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	struct probe_http *http = arg;
	struct probe_http_check *check = NULL;

	(void)unused;
	if (libcurl.easy_getinfo(easy, CURLINFO_PRIVATE, &check) != CURLE_OK || !check || fd != check->curl_fd)
		return 0;
	int events = what == CURL_POLL_REMOVE ? 0 : (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);
	if (loop_io_set(http->loop, &check->io, check->own_fd, events))
		log_debug("health checks: no room to watch a connection");
	return 0;
}

static void let_go(struct probe_http_check *check)
{
	if (check->own_fd < 0)
		return;
	loop_io_stop(check->http->loop, &check->io);
	linger_close(check->http->linger, check->own_fd);
	check->own_fd = check->curl_fd = -1;
}

static int open_socket(struct probe_http_check *check)
{
	int fd = socket(check->addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = fd < 0 ? -errno : dial_bind(fd, check->addr->sa.sa_family, check->source);
	int own_fd = error ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own_fd < 0) {
		check->open_error = error ? error : -errno;
		if (fd >= 0)
			close(fd);
		return CURL_SOCKET_BAD;
	}
	check->own_fd = own_fd;
	check->curl_fd = fd;
	return fd;
}

/* To our address, whatever libcurl has made of it: that has no scope and knows no other family. */
static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct probe_http_check *check = arg;

	(void)purpose;
	let_go(check); /* of an attempt that libcurl has given up */
	address->family = check->addr->sa.sa_family;
	address->addrlen = check->addr->length;
	memcpy(&address->addr, &check->addr->sa, check->addr->length); /* there is room for any address */
	return open_socket(check);
}

struct probe_http *probe_http_new(struct linger_set *linger)
{
	char why[160];
	struct probe_http *http = curl_library_load(why, sizeof why) ? calloc(1, sizeof *http) : NULL;

	if (!http || libcurl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(http);
		return NULL;
	}
	http->loop = linger->loop;
	http->linger = linger;
	loop_timer_init(&http->timer, on_timer);
	http->multi = libcurl.multi_init();
	if (!http->multi) {
		probe_http_free(http);
		return NULL;
	}
	libcurl.multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_watch_wish);
	libcurl.multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	libcurl.multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer_wish);
	libcurl.multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	return http;
}

void probe_http_free(struct probe_http *http)
{
	if (!http)
		return;
	libcurl.multi_cleanup(http->multi);
	loop_timer_stop(http->loop, &http->timer);
	libcurl.global_cleanup();
	free(http);
}

/* ---- one check ---- */

static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
	struct probe_http_check *check = arg;

	(void)bytes;
	check->received += size * n;
	return check->received <= PROBE_HTTP_BYTES ? size * n : 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct probe_http_check *check = arg;

	(void)bytes;
	if (!check->in_body)
		check->received = 0;
	check->in_body = true;
	check->received += size * n;
	return check->received <= PROBE_HTTP_BYTES ? size * n : 0;
}

/* "[::1]:80" without a scope, for libcurl to read; what it dials is in on_open(). */
static void write_authority(struct text *text, const struct addr *addr)
{
	char ip[INET6_ADDRSTRLEN] = "";

	if (addr->sa.sa_family == AF_UNIX)
		text_add(text, "localhost");
	else if (addr->sa.sa_family == AF_INET6)
		text_add(text, "[%s]:%u", inet_ntop(AF_INET6, &addr->in6.sin6_addr, ip, sizeof ip), addr_port(addr));
	else
		text_add(text, "%s:%u", inet_ntop(AF_INET, &addr->in.sin_addr, ip, sizeof ip), addr_port(addr));
}

static CURLcode set_url(struct probe_http_check *check)
{
	char bytes[PROBE_HTTP_TEXT_MAX + HOST_NAME_SIZE + 64];
	struct text url = text_of(bytes, sizeof bytes);

	text_add(&url, "%s://", check->rules->tls ? "https" : "http");
	if (check->rules->host[0])
		text_add(&url, "%s", check->rules->host);
	else
		write_authority(&url, check->addr);
	text_add(&url, "%s", check->rules->path);
	return libcurl.easy_setopt(check->easy, CURLOPT_URL, bytes);
}

/* Where to, without a name to resolve. */
static CURLcode set_address(struct probe_http_check *check)
{
	const struct sockaddr_un *un = &check->addr->un;
	char bytes[INET6_ADDRSTRLEN + 32];
	struct text where = text_of(bytes, sizeof bytes);

	if (check->addr->sa.sa_family == AF_UNIX) {
		bool abstract = un->sun_path[0] == '\0';
		return libcurl.easy_setopt(check->easy, abstract ? CURLOPT_ABSTRACT_UNIX_SOCKET : CURLOPT_UNIX_SOCKET_PATH,
		        abstract ? "aegis" : "/"); /* that it is one; which one is in on_open() */
	}
	text_add(&where, "::");
	write_authority(&where, check->addr);
	check->connect_to = libcurl.slist_append(NULL, bytes);
	return check->connect_to ? libcurl.easy_setopt(check->easy, CURLOPT_CONNECT_TO, check->connect_to) : CURLE_OUT_OF_MEMORY;
}

static CURLcode set_headers(struct probe_http_check *check)
{
	check->headers = libcurl.slist_append(NULL, "Connection: close");
	return check->headers ? libcurl.easy_setopt(check->easy, CURLOPT_HTTPHEADER, check->headers) : CURLE_OUT_OF_MEMORY;
}

#define SET(option, value) (code = code ? code : libcurl.easy_setopt(check->easy, option, value))

static CURLcode set_request(struct probe_http_check *check)
{
	CURLcode code = set_url(check);

	code = code ? code : set_address(check);
	code = code ? code : set_headers(check);
	SET(CURLOPT_USERAGENT, "aegis/" PACKAGE_VERSION);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_PROXY, ""); /* not the environment's */
	SET(CURLOPT_NOPROXY, "*");
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	SET(CURLOPT_NOSIGNAL, 1L);
	if (check->rules->introduced)
		SET(CURLOPT_HAPROXYPROTOCOL, 1L);
	if (check->rules->tls) {
		SET(CURLOPT_SSL_VERIFYPEER, (long)check->rules->verify);
		SET(CURLOPT_SSL_VERIFYHOST, check->rules->verify ? 2L : 0L);
		if (check->rules->ca[0])
			SET(CURLOPT_CAINFO, check->rules->ca);
	}
	return code;
}

static CURLcode set_callbacks(struct probe_http_check *check)
{
	CURLcode code = libcurl.easy_setopt(check->easy, CURLOPT_PRIVATE, check);

	SET(CURLOPT_ERRORBUFFER, check->error);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, check);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, check);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(CURLOPT_OPENSOCKETDATA, check);
	return code;
}

static void free_check(struct probe_http_check *check)
{
	libcurl.easy_cleanup(check->easy);
	libcurl.slist_free_all(check->headers);
	libcurl.slist_free_all(check->connect_to);
	free(check);
}

int probe_http_start(struct probe_http *http, const struct addr *addr, const struct dial_source *source,
        const struct probe_http_rules *rules, outcome_fn *done, void *arg, struct probe_http_check **out)
{
	struct probe_http_check *check = calloc(1, sizeof *check);

	if (!check)
		return -ENOMEM;
	*check = (struct probe_http_check){
		.http = http, .rules = rules, .source = source, .addr = addr, .done = done, .arg = arg, .curl_fd = -1, .own_fd = -1
	};
	loop_io_init(&check->io, on_ready);
	check->easy = libcurl.easy_init();
	CURLcode code = check->easy ? set_request(check) : CURLE_OUT_OF_MEMORY;
	code = code ? code : set_callbacks(check);
	if (code != CURLE_OK || libcurl.multi_add_handle(http->multi, check->easy) != CURLM_OK) {
		free_check(check);
		return code == CURLE_OK || code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EPROTONOSUPPORT;
	}
	*out = check;
	return 0;
}

void probe_http_stop(struct probe_http_check *check)
{
	(void)libcurl.multi_remove_handle(check->http->multi, check->easy);
	let_go(check);
	free_check(check);
}

static void reap(struct probe_http *http)
{
	CURLMsg *message;
	int left;

	while ((message = libcurl.multi_info_read(http->multi, &left)) != NULL) {
		struct probe_http_check *check = NULL;
		struct outcome outcome = { 0 };
		(void)libcurl.easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &check);
		probe_http_judge(check, message->data.result, &outcome);
		outcome_fn *done = check->done;
		void *arg = check->arg;
		probe_http_stop(check);
		done(arg, &outcome);
	}
}
