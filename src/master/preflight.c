#include "master/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/first_answer.h"
#include "net/dial.h"
#include "os/signals.h"
#include "os/title.h"
#include "shm/reasons.h"

/* What the child says of a server. */
struct answer {
	uint32_t upstream, server;
	int32_t resolve_error; /* of getaddrinfo(3), 0 = resolved */
	int32_t test_error;    /* errno of the last address tried, 0 = reached or not asked */
	uint32_t n_addrs;
	struct addr addrs[SERVER_MAX_ADDRESSES];
};

bool preflight_needed(const struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++) {
		if (config->upstreams[i].start_test != START_TEST_OFF)
			return true;
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++)
			if (config->upstreams[i].servers[j].endpoint.kind == ENDPOINT_NAME)
				return true;
	}
	return false;
}

static size_t count_servers(const struct config *config)
{
	size_t count = 0;
	for (size_t i = 0; i < config->n_upstreams; i++)
		count += config->upstreams[i].n_servers;
	return count;
}

/* --- in the child ---------------------------------------------------------------------------------------------------------- */

struct lookup {
	struct answer answer;
	const struct server_config *server;
	struct gaicb request;
	struct addrinfo hints;
	char port[8];
};

static bool known_already(const struct answer *answer, const struct addr *addr)
{
	for (uint32_t i = 0; i < answer->n_addrs; i++)
		if (addr_equal(&answer->addrs[i], addr))
			return true;
	return false;
}

static void take_addresses(struct answer *answer, const struct addrinfo *list)
{
	for (; list && answer->n_addrs < SERVER_MAX_ADDRESSES; list = list->ai_next) {
		struct addr addr;
		addr_from_sockaddr(&addr, list->ai_addr, list->ai_addrlen);
		if (!known_already(answer, &addr))
			answer->addrs[answer->n_addrs++] = addr;
	}
}

static void resolve_by_system(struct lookup *lookups, size_t count)
{
	struct gaicb **requests = calloc(count ? count : 1, sizeof(struct gaicb *));
	int n = 0;
	for (size_t i = 0; requests && i < count; i++) {
		struct lookup *lookup = &lookups[i];
		if (lookup->server->endpoint.kind != ENDPOINT_NAME) {
			lookup->answer.addrs[lookup->answer.n_addrs++] = lookup->server->endpoint.addr;
			continue;
		}
		(void)snprintf(lookup->port, sizeof lookup->port, "%u", lookup->server->endpoint.port);
		lookup->hints =
		        (struct addrinfo){ .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG };
		lookup->request = (struct gaicb){
			.ar_name = lookup->server->endpoint.name, .ar_service = lookup->port, .ar_request = &lookup->hints
		};
		requests[n++] = &lookup->request;
	}
	if (n)
		(void)getaddrinfo_a(GAI_WAIT, requests, n, NULL);
	for (size_t i = 0; requests && i < count; i++)
		if (lookups[i].request.ar_name) {
			lookups[i].answer.resolve_error = gai_error(&lookups[i].request);
			take_addresses(&lookups[i].answer, lookups[i].request.ar_result);
		}
	free(requests);
}

/* The name servers of the settings are asked as the control process asks them from then on. */
static void resolve_by_settings(const struct config *config, struct lookup *lookups, size_t count)
{
	struct first_answer *answers = calloc(count ? count : 1, sizeof *answers);
	for (size_t i = 0; answers && i < count; i++)
		answers[i].endpoint = &lookups[i].server->endpoint;
	if (answers)
		first_answers(config, answers, count);
	for (size_t i = 0; i < count; i++) {
		struct answer *answer = &lookups[i].answer;
		answer->resolve_error = answers ? answers[i].error : EAI_MEMORY;
		answer->n_addrs = answers ? (uint32_t)answers[i].n_addrs : 0;
		if (answers)
			memcpy(answer->addrs, answers[i].addrs, sizeof answer->addrs);
	}
	free(answers);
}

/* Can one of the addresses be connected to? 0 or the errno of the last one. */
static int test_server(const struct answer *answer, const struct upstream_config *upstream)
{
	int error = EHOSTUNREACH;
	struct dial_source room;
	for (uint32_t i = 0; i < answer->n_addrs && error; i++) {
		int fd = dial_open(&answer->addrs[i], &upstream->tcp);
		int result = fd < 0 ? fd : dial_bind(fd, answer->addrs[i].sa.sa_family, dial_source(upstream, NULL, &room));
		result = result ? result : dial_connect(fd, &answer->addrs[i]);
		if (result == -EINPROGRESS) {
			struct pollfd wait = { .fd = fd, .events = POLLOUT };
			uint64_t limit_ms = upstream->timeout.connect_ns / NS_PER_MS;
			int ready = poll(&wait, 1, limit_ms && limit_ms < INT32_MAX ? (int)limit_ms : 5000);
			result = ready > 0 ? dial_result(fd) : -ETIMEDOUT;
		}
		if (fd >= 0)
			close(fd);
		error = -result;
	}
	return error;
}

static void write_all(int fd, const void *bytes, size_t count)
{
	const char *at = bytes;
	while (count > 0) {
		ssize_t written = write(fd, at, count);
		if (written <= 0)
			_exit(EXIT_FAILURE); /* the master gave up on us */
		at += written;
		count -= (size_t)written;
	}
}

static void child_main(const struct config *config, const struct identity *identity, int fd)
{
	size_t count = count_servers(config), n = 0;
	signals_for_child();
	log_set_process("preflight");
	title_set("aegis: preflight (resolving names, testing servers)");
	if (privileges_drop(identity))
		_exit(EXIT_FAILURE);
	struct lookup *lookups = calloc(count ? count : 1, sizeof *lookups);
	if (!lookups)
		_exit(EXIT_FAILURE);
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++) {
			lookups[n].server = &config->upstreams[i].servers[j];
			lookups[n].answer.upstream = (uint32_t)i;
			lookups[n++].answer.server = (uint32_t)j;
		}
	if (config->resolver.n_servers)
		resolve_by_settings(config, lookups, count);
	else
		resolve_by_system(lookups, count);
	for (size_t i = 0; i < count; i++) {
		struct answer *answer = &lookups[i].answer;
		const struct upstream_config *upstream = &config->upstreams[answer->upstream];
		if (upstream->start_test != START_TEST_OFF && !lookups[i].server->disabled && !answer->resolve_error)
			answer->test_error = test_server(answer, upstream);
		write_all(fd, answer, sizeof *answer);
	}
	_exit(EXIT_SUCCESS);
}

/* --- in the master --------------------------------------------------------------------------------------------------------- */

int preflight_start(
        struct preflight *out, const struct config *config, const struct identity *identity, void (*close_fds)(void *), void *arg)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid < 0) {
		int error = errno;
		close(ends[0]);
		close(ends[1]);
		return -error;
	}
	if (pid == 0) {
		close(ends[0]);
		close_fds(arg);
		child_main(config, identity, ends[1]);
	}
	close(ends[1]);
	(void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
	*out = (struct preflight){ .pid = pid, .fd = ends[0], .most_bytes = count_servers(config) * sizeof(struct answer) };
	return 0;
}

int preflight_read(struct preflight *preflight)
{
	for (;;) {
		if (preflight->answer_bytes > preflight->most_bytes)
			return -EMSGSIZE;
		char *answer = realloc(preflight->answer, preflight->answer_bytes + 64 * sizeof(struct answer));
		if (!answer)
			return -ENOMEM;
		preflight->answer = answer;
		ssize_t count = read(preflight->fd, answer + preflight->answer_bytes, 64 * sizeof(struct answer));
		if (count == 0)
			return 0;
		if (count < 0)
			return -errno;
		preflight->answer_bytes += (size_t)count;
	}
}

static const struct server_config *find_server(const struct config *config, const char *upstream, const struct server_config *like)
{
	for (size_t i = 0; config && i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers && strcmp(config->upstreams[i].name, upstream) == 0; j++)
			if (strcmp(config->upstreams[i].servers[j].address, like->address) == 0)
				return &config->upstreams[i].servers[j];
	return NULL;
}

static const char *why_unresolved(int error)
{
	return error == EAI_SYSTEM ? "the resolver failed" : gai_strerror(error);
}

static void say_of_upstream(struct config_errors *list, const struct upstream_config *upstream, const char *format, ...) printf_like(3, 4);
static void say_of_upstream(struct config_errors *list, const struct upstream_config *upstream, const char *format, ...)
{
	char who[CONFIG_NAME_SIZE + 16], text[512];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	(void)snprintf(who, sizeof who, "upstream %s", upstream->name);
	config_errors_add(list, who, 0, "", "%s", text);
}

static void apply_answer(const struct answer *answer, struct config *config, const struct config *running,
        struct preflight_findings *findings, bool reached[])
{
	struct upstream_config *upstream = &config->upstreams[answer->upstream];
	struct server_config *server = &upstream->servers[answer->server];
	char path[192];
	(void)snprintf(path, sizeof path, "upstreams.%s.servers.%s.address", upstream->name, server->name);
	if (answer->n_addrs > 0) {
		server->n_addrs = answer->n_addrs;
		memcpy(server->addrs, answer->addrs, sizeof server->addrs);
		if (answer->test_error)
			say_of_upstream(&findings->warnings, upstream, "server %s (%s) cannot be reached: %s", server->name,
			        server->address, reason_connect_words(answer->test_error));
		else if (!server->disabled)
			reached[answer->upstream] = true;
		return;
	}
	const struct server_config *known = find_server(running, upstream->name, server);
	if (known && known->n_addrs > 0) {
		server->n_addrs = known->n_addrs;
		memcpy(server->addrs, known->addrs, sizeof server->addrs);
		reached[answer->upstream] = true;
		config_errors_add(&findings->warnings, server->file ? server->file : "command line", server->line, path,
		        "cannot resolve \"%s\" now (%s); keeping the addresses it had", server->endpoint.name,
		        why_unresolved(answer->resolve_error));
		return;
	}
	config_errors_add(&findings->errors, server->file ? server->file : "command line", server->line, path,
	        "cannot resolve \"%s\": %s; check the name, or write an IP address", server->endpoint.name,
	        why_unresolved(answer->resolve_error));
}

/* The child has no privileges and talked to the network: what it says is input. */
static bool is_sound(const struct answer *answer, const struct config *config)
{
	if (answer->upstream >= config->n_upstreams || answer->server >= config->upstreams[answer->upstream].n_servers ||
	        answer->n_addrs > SERVER_MAX_ADDRESSES)
		return false;
	for (uint32_t i = 0; i < answer->n_addrs; i++) {
		const struct addr *addr = &answer->addrs[i];
		sa_family_t family = addr->sa.sa_family;
		bool sound = (family == AF_INET && addr->length == sizeof addr->in) ||
		             (family == AF_INET6 && addr->length == sizeof addr->in6) ||
		             (family == AF_UNIX && addr->length > sizeof(sa_family_t) && addr->length <= sizeof addr->un);
		if (!sound)
			return false;
	}
	return true;
}

static void apply_without_child(struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++) {
			config->upstreams[i].servers[j].n_addrs = 1;
			config->upstreams[i].servers[j].addrs[0] = config->upstreams[i].servers[j].endpoint.addr;
		}
}

void preflight_findings_clear(struct preflight_findings *findings)
{
	config_errors_clear(&findings->errors);
	config_errors_clear(&findings->unreachable);
	config_errors_clear(&findings->warnings);
}

void preflight_apply(
        const struct preflight *preflight, struct config *config, const struct config *running, struct preflight_findings *findings)
{
	if (!preflight->pid) {
		apply_without_child(config);
		return;
	}
	bool *reached = calloc(config->n_upstreams, sizeof *reached);
	size_t count = preflight->answer_bytes / sizeof(struct answer);
	if (!reached || count != count_servers(config)) {
		config_errors_add(&findings->errors, "preflight", 0, "upstreams",
		        "the process that resolves names ended early; see the log, try again");
		free(reached);
		return;
	}
	const struct answer *answers = (const struct answer *)(const void *)preflight->answer;
	for (size_t i = 0; i < count; i++)
		if (is_sound(&answers[i], config))
			apply_answer(&answers[i], config, running, findings, reached);
		else
			config_errors_add(&findings->errors, "preflight", 0, "upstreams",
			        "the process that resolves names answered nonsense; see the log, try again");
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (!reached[i] && config->upstreams[i].start_test == START_TEST_FAIL)
			say_of_upstream(&findings->unreachable, &config->upstreams[i],
			        "no server can be reached, and start_test = \"fail\"; start a server, or set start_test = \"warn\"");
	free(reached);
}

void preflight_end(struct preflight *preflight, struct hung *hung)
{
	if (!preflight->pid)
		return;
	hung_end(hung, preflight->pid, clock_now_ns());
	close(preflight->fd);
	free(preflight->answer);
	*preflight = (struct preflight){ 0 };
}
