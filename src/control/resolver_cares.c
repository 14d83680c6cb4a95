/* c-ares on the loop of the process: its sockets, its timer, its channels. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/resolver_cares_own.h"

enum { ATTEMPTS = 2 };

/* A descriptor of c-ares that the loop watches. */
struct socket_watch {
	struct loop_io io;
	struct cares *cares;
	struct socket_watch *next;
};

static const char system_file[] = "/etc/resolv.conf";

/* --- sockets and time ------------------------------------------------------------------------------------------------------ */

void cares_set_timer(struct cares *cares)
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
	cares_set_timer(cares);
}

/* The watch may be gone afterwards. */
static void on_socket(struct loop_io *io, int events)
{
	struct cares *cares = container_of(io, struct socket_watch, io)->cares;
	int fd = io->fd;
	ares_process_fd(cares->now.dns, events & LOOP_READ ? fd : ARES_SOCKET_BAD, events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
	cares_set_timer(cares);
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
