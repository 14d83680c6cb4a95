/* Asking by c-ares, on the loop of the process.
 *
 * Two channels: `hosts` knows /etc/hosts (and localhost) and answers at once; `dns` asks DNS for one name as it stands and one family at a
 * time. ares_getaddrinfo() would go through all that by itself, but it hides that one family failed while the other one was answered,
 * and after a failure it goes on to the next search domain, where another host may have the same name. */
#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/resolver_lookup.h"
#include "control/resolver_search.h"
#include "os/loop.h"

enum { HOSTS_TTL_S = 10, ATTEMPTS = 2 };

/* A descriptor of c-ares that the loop watches. */
struct socket_watch {
	struct loop_io io;
	struct cares *cares;
	struct socket_watch *next;
};

/* What may change while we run. */
struct channels {
	ares_channel hosts, dns;
	struct search search;
	struct stat file;
};

struct cares {
	struct lookups base;
	struct channels now;
	char *servers; /* NULL = the system's */
	int timeout_ms;
	uint64_t serial; /* of the channels: what a lookup remembers is good for one only */
	struct socket_watch *sockets;
	struct loop_timer timer;
	bool closing;
};

struct question {
	struct request *request;
	enum ip_family family;
	struct ip_pick pick;
};

/* A lookup on its way through /etc/hosts and the search domains. */
struct request {
	struct cares *cares;
	struct lookup *lookup;
	struct question questions[IP_FAMILIES];
	int candidate;
	int pending;
	const char *failure; /* the last one, at whatever candidate; NULL = none */
};

static const char system_file[] = "/etc/resolv.conf";

/* --- sockets and time ------------------------------------------------------------------------------------------------------ */

static void set_timer(struct cares *cares)
{
	struct timeval left;
	if (!ares_timeout(cares->now.dns, NULL, &left)) {
		loop_timer_stop(cares->base.loop, &cares->timer);
		return;
	}
	uint64_t after_ns = (uint64_t)left.tv_sec * NS_PER_S + (uint64_t)left.tv_usec * NS_PER_US;
	/* The loop's time is a little behind that of c-ares: not again and again until they agree. */
	loop_timer_start(cares->base.loop, &cares->timer, after_ns > NS_PER_MS ? after_ns : NS_PER_MS);
}

static void on_timer(struct loop_timer *timer)
{
	struct cares *cares = container_of(timer, struct cares, timer);
	ares_process_fd(cares->now.dns, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	set_timer(cares);
}

/* The watch may be gone afterwards. */
static void on_socket(struct loop_io *io, int events)
{
	struct cares *cares = container_of(io, struct socket_watch, io)->cares;
	int fd = io->fd;
	ares_process_fd(cares->now.dns, events & LOOP_READ ? fd : ARES_SOCKET_BAD, events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
	set_timer(cares);
}

static void watch_socket(struct cares *cares, int fd, int events)
{
	struct socket_watch *watch = cares->sockets;
	while (watch && watch->io.fd != fd)
		watch = watch->next;
	if (!watch) {
		watch = calloc(1, sizeof *watch);
		if (!watch)
			return; /* the question times out */
		loop_io_init(&watch->io, on_socket);
		watch->cares = cares;
		watch->next = cares->sockets;
		cares->sockets = watch;
	}
	int err = loop_io_set(cares->base.loop, &watch->io, fd, events);
	if (err)
		log_warn("cannot watch a socket to a DNS server: %s", strerror(-err));
}

/* c-ares is about to close it. */
static void forget_socket(struct cares *cares, int fd)
{
	struct socket_watch **link = &cares->sockets;
	while (*link && (*link)->io.fd != fd)
		link = &(*link)->next;
	struct socket_watch *watch = *link;
	if (!watch)
		return;
	*link = watch->next;
	loop_io_stop(cares->base.loop, &watch->io);
	free(watch);
}

static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	if (readable || writable)
		watch_socket(arg, fd, (readable ? LOOP_READ : 0) | (writable ? LOOP_WRITE : 0));
	else
		forget_socket(arg, fd);
}

/* --- channels -------------------------------------------------------------------------------------------------------------- */

static int error_of(int status)
{
	return status == ARES_ENOMEM ? -ENOMEM : status == ARES_SUCCESS ? 0 : -EINVAL;
}

static void read_file_status(struct stat *out)
{
	if (stat(system_file, out) < 0)
		memset(out, 0, sizeof *out);
}

/* The search domains, which are ours to go through. */
static int read_domains(struct channels *channels)
{
	struct ares_options options = { 0 };
	int mask = 0;
	int status = ares_save_options(channels->hosts, &options, &mask);
	if (status != ARES_SUCCESS)
		return error_of(status);
	channels->search.ndots = options.ndots;
	for (int i = 0; i < options.ndomains; i++)
		search_add(&channels->search, options.domains[i]);
	ares_destroy_options(&options);
	return 0;
}

static int open_hosts(struct channels *channels)
{
	char files_only[] = "f";
	struct ares_options options = { .flags = ARES_FLAG_NOALIASES, .lookups = files_only };
	return error_of(ares_init_options(&channels->hosts, &options, ARES_OPT_FLAGS | ARES_OPT_LOOKUPS));
}

static int open_dns(struct cares *cares, struct channels *channels)
{
	char dns_only[] = "b";
	struct ares_options options = { .flags = ARES_FLAG_NOALIASES,
		.timeout = cares->timeout_ms,
		.tries = ATTEMPTS,
		.lookups = dns_only,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = cares };
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_DOMAINS | ARES_OPT_SOCK_STATE_CB;
	int status = ares_init_options(&channels->dns, &options, mask);
	if (status == ARES_SUCCESS && cares->servers)
		status = ares_set_servers_ports_csv(channels->dns, cares->servers);
	return error_of(status);
}

static void close_channels(struct channels *channels)
{
	if (channels->dns)
		ares_destroy(channels->dns);
	if (channels->hosts)
		ares_destroy(channels->hosts);
}

static int open_channels(struct cares *cares, struct channels *out)
{
	struct channels channels = { .hosts = NULL };
	read_file_status(&channels.file); /* before it is read: a change in between is seen later */
	int err = open_hosts(&channels);
	if (!err)
		err = read_domains(&channels);
	if (!err)
		err = open_dns(cares, &channels);
	if (err)
		close_channels(&channels);
	else
		*out = channels;
	return err;
}

/* --- a lookup -------------------------------------------------------------------------------------------------------------- */

/* What a lookup remembers: by which candidate it was last answered. */
static uint64_t via_of(const struct request *request)
{
	return request->cares->serial << 8 | (uint64_t)(request->candidate + 1);
}

static void take_ttl(struct lookup *lookup, int ttl_s)
{
	uint64_t seconds = ttl_s < 0 ? 0 : (uint64_t)ttl_s; /* RFC 2181, section 8 */
	if (seconds < lookup->ttl_s)
		lookup->ttl_s = seconds;
}

static void take_addresses(struct question *question, const struct ares_addrinfo *answer)
{
	for (const struct ares_addrinfo_node *node = answer->nodes; node; node = node->ai_next) {
		struct ip ip;
		enum ip_family family;
		if (!node->ai_addr || !ip_from_sockaddr(node->ai_addr, (socklen_t)node->ai_addrlen, &ip, &family) ||
		        family != question->family || !ip_is_server(&ip, family))
			continue;
		ip_pick_add(&question->pick, &ip);
		take_ttl(question->request->lookup, node->ai_ttl);
	}
	for (const struct ares_addrinfo_cname *cname = answer->cnames; cname; cname = cname->next)
		take_ttl(question->request->lookup, cname->ttl);
}

static enum lookup_outcome outcome_of(int status)
{
	switch (status) {
	case ARES_ENOTFOUND:
	case ARES_ENODATA:
	case ARES_EBADNAME:
		return LOOKUP_ABSENT;
	default:
		return LOOKUP_FAILED;
	}
}

static bool any(const struct lookup *lookup, enum lookup_outcome outcome)
{
	return lookup->outcome[IP_V4] == outcome || lookup->outcome[IP_V6] == outcome;
}

static const char *reason_of(int status)
{
	/* c-ares asks the next server after these and does not say in the end which it was. */
	return status == ARES_ECONNREFUSED ? "no DNS server can be reached, or all answer SERVFAIL or REFUSED" : ares_strerror(status);
}

/* Why there are no addresses: a failure tells more than that there are none. */
static void take_reason(struct lookup *lookup, enum ip_family family, enum lookup_outcome outcome, const char *why)
{
	if (outcome == LOOKUP_FAILED || !any(lookup, LOOKUP_FAILED))
		lookup->why = why;
	lookup->outcome[family] = outcome;
}

static void take_answer(struct question *question, int status, const struct ares_addrinfo *answer)
{
	struct lookup *lookup = question->request->lookup;
	if (status != ARES_SUCCESS) {
		take_reason(lookup, question->family, outcome_of(status), reason_of(status));
		return;
	}
	take_addresses(question, answer);
	lookup->found[question->family] = ip_pick_result(&question->pick);
	if (lookup->found[question->family].n > 0)
		lookup->outcome[question->family] = LOOKUP_GOOD;
	else
		take_reason(lookup, question->family, LOOKUP_ABSENT, "the answer has no address that a server can have");
}

static bool asks_for(const struct lookup *lookup, enum ip_family family)
{
	return lookup->families & (family == IP_V4 ? RESOLVER_IPV4 : RESOLVER_IPV6);
}

static void finish(struct request *request)
{
	struct lookup *lookup = request->lookup;
	lookup_answered_fn *answered = request->cares->base.answered;
	free(request);
	answered(lookup);
}

/* Forget what an earlier candidate was answered. */
static void prepare(struct request *request)
{
	struct lookup *lookup = request->lookup;
	lookup->ttl_s = UINT64_MAX;
	for (int family = 0; family < IP_FAMILIES; family++) {
		lookup->outcome[family] = LOOKUP_ABSENT;
		request->questions[family] =
		        (struct question){ .request = request, .family = (enum ip_family)family, .pick.known = &lookup->known[family] };
	}
}

static void ask_candidate(struct request *request);

/* Both families are answered. The next search domain has its turn after an answer that there is nothing; after a failure only while we
 * do not know where the name was found before: another domain may have a host of that name, too. */
static void candidate_done(struct request *request)
{
	struct lookup *lookup = request->lookup;
	if (any(lookup, LOOKUP_GOOD)) {
		lookup->via = via_of(request);
		finish(request);
		return;
	}
	if (any(lookup, LOOKUP_FAILED)) {
		request->failure = lookup->why;
		if (lookup->via == via_of(request)) {
			finish(request);
			return;
		}
	}
	request->candidate++;
	ask_candidate(request);
}

static void question_done(struct request *request)
{
	if (--request->pending > 0)
		return;
	if (request->cares->closing)
		free(request);
	else
		candidate_done(request);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
	struct question *question = arg;
	(void)timeouts;
	if (!question->request->cares->closing)
		take_answer(question, status, answer);
	ares_freeaddrinfo(answer);
	question_done(question->request);
}

static void ask_candidate(struct request *request)
{
	struct cares *cares = request->cares;
	struct lookup *lookup = request->lookup;
	char name[HOST_NAME_SIZE];
	if (!search_name(&cares->now.search, lookup->name, request->candidate, name)) {
		if (request->failure) { /* that another domain has no such name says nothing */
			lookup->outcome[IP_V4] = LOOKUP_FAILED;
			lookup->why = request->failure;
		}
		finish(request);
		return;
	}
	prepare(request);
	request->pending = 1; /* an answer may come from inside */
	for (int family = 0; family < IP_FAMILIES; family++)
		if (name[0] && asks_for(lookup, (enum ip_family)family)) {
			struct ares_addrinfo_hints hints = {
				.ai_flags = ARES_AI_NOSORT, .ai_family = family == IP_V4 ? AF_INET : AF_INET6, .ai_socktype = SOCK_STREAM
			};
			request->pending++;
			ares_getaddrinfo(cares->now.dns, name, NULL, &hints, on_answer, &request->questions[family]);
		}
	question_done(request);
}

static void on_hosts_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
	struct request *request = arg;
	(void)timeouts;
	for (int family = 0; status == ARES_SUCCESS && family < IP_FAMILIES; family++)
		if (asks_for(request->lookup, (enum ip_family)family))
			take_answer(&request->questions[family], status, answer);
	ares_freeaddrinfo(answer);
}

/* A name that /etc/hosts has in one family only has no address in the other one. */
static bool found_in_hosts(struct request *request)
{
	struct ares_addrinfo_hints hints = { .ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	char name[HOST_NAME_SIZE];
	(void)snprintf(name, sizeof name, "%s", request->lookup->name);
	size_t length = strlen(name);
	if (length > 0 && name[length - 1] == '.')
		name[length - 1] = '\0';
	prepare(request);
	ares_getaddrinfo(request->cares->now.hosts, name, NULL, &hints, on_hosts_answer, request);
	request->lookup->ttl_s = HOSTS_TTL_S;
	return any(request->lookup, LOOKUP_GOOD);
}

static void cares_ask(struct lookups *lookups, struct lookup *lookup)
{
	struct cares *cares = container_of(lookups, struct cares, base);
	struct request *request = calloc(1, sizeof *request);
	if (!request) {
		lookup->outcome[IP_V4] = LOOKUP_FAILED;
		lookup->why = "out of memory";
		lookups->answered(lookup);
		return;
	}
	*request = (struct request){ .cares = cares, .lookup = lookup };
	if (found_in_hosts(request))
		finish(request);
	else
		ask_candidate(request);
	set_timer(cares);
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

static bool cares_outdated(const struct lookups *lookups)
{
	const struct cares *cares = container_of(lookups, struct cares, base);
	struct stat file;
	const struct stat *old = &cares->now.file;
	read_file_status(&file);
	return file.st_dev != old->st_dev || file.st_ino != old->st_ino || file.st_size != old->st_size ||
	       file.st_mtim.tv_sec != old->st_mtim.tv_sec || file.st_mtim.tv_nsec != old->st_mtim.tv_nsec;
}

static void cares_renew(struct lookups *lookups)
{
	struct cares *cares = container_of(lookups, struct cares, base);
	struct channels channels;
	int err = open_channels(cares, &channels);
	if (err) {
		log_warn("cannot take the new %s up: %s; names are resolved by the old one", system_file, strerror(-err));
		read_file_status(&cares->now.file);
		return;
	}
	close_channels(&cares->now);
	cares->now = channels;
	cares->serial++;
	log_info("%s has changed: names are resolved by the new one", system_file);
}

static void cares_close(struct lookups *lookups)
{
	struct cares *cares = container_of(lookups, struct cares, base);
	cares->closing = true;
	close_channels(&cares->now);
	loop_timer_stop(cares->base.loop, &cares->timer);
	ares_library_cleanup();
	free(cares->servers);
	free(cares);
}

static int cares_open(const struct resolver_settings *settings, struct loop *loop, lookup_answered_fn *answered, struct lookups **out)
{
	uint64_t timeout_ms = settings->timeout_ns / NS_PER_MS;
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -ENOMEM;
	struct cares *cares = calloc(1, sizeof *cares);
	int err = cares ? 0 : -ENOMEM;
	if (err)
		goto out;
	cares->base = (struct lookups){ .kind = &lookup_cares, .loop = loop, .answered = answered };
	cares->serial = 1;
	cares->timeout_ms = timeout_ms < 1 ? 1 : timeout_ms > 60000 ? 60000 : (int)timeout_ms;
	loop_timer_init(&cares->timer, on_timer);
	cares->servers = settings->servers ? strdup(settings->servers) : NULL;
	if (settings->servers && !cares->servers)
		err = -ENOMEM;
	else
		err = open_channels(cares, &cares->now);
out:
	if (err) {
		if (cares)
			free(cares->servers);
		free(cares);
		ares_library_cleanup();
		return err;
	}
	*out = &cares->base;
	return 0;
}

const char *lookup_cares_version(void)
{
	return ares_version(NULL);
}

const struct lookup_kind lookup_cares = {
	.open = cares_open, .ask = cares_ask, .outdated = cares_outdated, .renew = cares_renew, .close = cares_close
};
