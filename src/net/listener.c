#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/udp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "net/options.h"
#include "os/notify.h"
#include "os/sockets.h"

enum { WHO_SIZE = 128 };

static int fail(int error, char *why, size_t why_size, const char *format, ...) printf_like(4, 5);
static int fail(int error, char *why, size_t why_size, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(why, why_size, format, args);
	va_end(args);
	return error;
}

/* "*:80" and ":80" mean both families on one socket; "[::]:80" is IPv6 alone, so that 0.0.0.0:80 may stand beside it. */
static bool both_families(const char *address)
{
	return address[0] == '*' || address[0] == ':';
}

static int bind_socket(int fd, const struct addr *addr)
{
	return bind(fd, &addr->sa, addr->length) < 0 ? -errno : 0;
}

enum port_use { PORT_ALONE, PORT_SHARED };

/* SO_REUSEADDR is for what a TCP connection leaves behind; with UDP it would let anybody in who sets it, too. */
static int make_socket(const struct addr *addr, enum protocol protocol, bool both, enum port_use use)
{
	int on = 1, off = 0, type = protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
	int fd = socket(addr->sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int failed = 0;
	if (addr->sa.sa_family != AF_UNIX && protocol != PROTOCOL_UDP)
		failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (!failed && use == PORT_SHARED)
		failed = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (!failed && addr->sa.sa_family == AF_INET6)
		failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, both ? &off : &on, sizeof on);
	if (!failed)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

static int open_socket(const struct addr *addr, enum protocol protocol, bool both, enum port_use use)
{
	int fd = make_socket(addr, protocol, both, use);
	int error = fd < 0 ? fd : bind_socket(fd, addr);
	if (error && fd >= 0)
		close(fd);
	return error ? error : fd;
}

struct search {
	struct socket_owner owner;
	bool found;
};

static bool on_socket(void *arg, const struct socket_owner *owner)
{
	struct search *search = arg;
	if (sockets_is_owned_by("", owner->inode, getpid()))
		return false; /* shared with our own, which is in nobody's way */
	*search = (struct search){ *owner, true };
	return true;
}

static int explain_busy(const struct addr *addr, enum protocol protocol, char *why, size_t why_size)
{
	char text[ADDR_TEXT_SIZE], who[WHO_SIZE];
	struct search search = { .found = false };
	int error = 0;
	for (int tries = 0; !error && !search.found && tries < SOCKETS_TRIES; tries++)
		error = protocol == PROTOCOL_UDP ? sockets_bound_udp("", addr, false, on_socket, &search)
		                                 : sockets_listening("", addr, false, on_socket, &search);
	addr_format(addr, text, sizeof text);
	if (error || !search.found)
		return fail(-EADDRINUSE, why, why_size, "cannot listen on %s: someone else listens there; `ss -%s` shows who", text,
		        protocol == PROTOCOL_UDP ? "lunp" : "ltnp");
	return fail(-EADDRINUSE, why, why_size, "cannot listen on %s: someone else listens there, %s", text,
	        sockets_name_owner("", &search.owner, who, sizeof who));
}

static int explain_bind(int error, const struct addr *addr, enum protocol protocol, char *why, size_t why_size)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(addr, text, sizeof text);
	switch (-error) {
	case EADDRINUSE:
		return explain_busy(addr, protocol, why, why_size);
	case EACCES:
		if (addr_port(addr) > 0 && addr_port(addr) < 1024)
			return fail(error, why, why_size,
			        "cannot listen on %s: permission denied; ports below 1024 need root, or `setcap cap_net_bind_service=+ep` "
			        "on the program, or a port above",
			        text);
		break;
	case EADDRNOTAVAIL:
		return fail(
		        error, why, why_size, "cannot listen on %s: this machine has no such address; `ip addr` shows those it has", text);
	case EAFNOSUPPORT:
		return fail(error, why, why_size,
		        "cannot listen on %s: this machine has no IPv6; write the address as *:%u to use what there is", text,
		        addr_port(addr));
	default:
		break;
	}
	return fail(error, why, why_size, "cannot listen on %s: %s", text, strerror(-error));
}

/* Is the address free, and which port is it when the kernel is to choose? A socket with SO_REUSEPORT would silently share a
 * port with another program of the same user, so a first one is bound without it. It never listens. */
static int probe_address(struct addr *addr, enum protocol protocol, bool both, enum port_use use)
{
	int fd = open_socket(addr, protocol, both, use);
	if (fd == -EAFNOSUPPORT && both) {
		struct addr v4 = { .length = sizeof v4.in, .in = { .sin_family = AF_INET, .sin_port = addr->in6.sin6_port } };
		*addr = v4;
		fd = open_socket(addr, protocol, false, use);
	}
	if (fd < 0)
		return fd;
	addr->length = sizeof *addr - offsetof(struct addr, sa);
	int error = getsockname(fd, &addr->sa, &addr->length) < 0 ? -errno : 0;
	close(fd);
	return error;
}

int listener_try(const struct listener_config *config, bool elsewhere, char *why, size_t why_size)
{
	struct addr addr = config->endpoint.addr;
	if (elsewhere)
		addr_set_port(&addr, 0);
	int error = probe_address(&addr, config->protocol, both_families(config->address), PORT_ALONE);
	return error ? explain_bind(error, &config->endpoint.addr, config->protocol, why, why_size) : 0;
}

static int add_fd(struct listener *listener, int fd)
{
	int *fds = realloc(listener->fds, (listener->n_fds + 1) * sizeof *fds);
	if (!fds)
		return -ENOMEM;
	listener->fds = fds;
	fds[listener->n_fds++] = fd;
	return 0;
}

/* A datagram socket that is to be sent nothing yet is not bound. */
static int open_slot(const struct listener *listener, const struct listener_config *config)
{
	bool both = both_families(config->address);
	return listener->protocol == PROTOCOL_UDP ? make_socket(&listener->bound, PROTOCOL_UDP, both, PORT_SHARED)
	                                          : open_socket(&listener->bound, PROTOCOL_TCP, both, PORT_SHARED);
}

/* The options that a datagram socket needs before it is sent anything, and those that a reload may change. A kernel without UDP_GRO hands
 * over datagram by datagram. */
static int set_udp_options(int fd, const struct listener *listener, const struct udp_config *udp)
{
	int on = 1, size = (int)udp->receive_buffer_bytes;
	bool v6 = listener->bound.sa.sa_family == AF_INET6;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	/* The answers for all clients leave by it, those of a turn at once. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	(void)setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
	if (!listener->any_address)
		return 0;
	if (v6) /* of both families: where what was sent to all of IPv4 is to be answered from */
		(void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
	if (setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVPKTINFO : IP_PKTINFO, &on, sizeof on) < 0)
		return -errno;
	return 0;
}

/* Every UDP socket is sent its share of the datagrams from here on. */
static int take_part(struct listener *listener, const struct listener_config *config, char *why, size_t why_size)
{
	char text[ADDR_TEXT_SIZE];
	for (uint32_t i = 0; i < listener->n_fds; i++) {
		int error = set_udp_options(listener->fds[i], listener, &config->udp);
		if (error)
			return fail(error, why, why_size, "cannot have the addresses of datagrams told on listener %s (%s): %s",
			        config->name, addr_format(&listener->bound, text, sizeof text), strerror(-error));
		if (i < listener->n_bound)
			continue;
		error = bind_socket(listener->fds[i], &listener->bound);
		if (error)
			return explain_bind(error, &listener->bound, PROTOCOL_UDP, why, why_size);
		listener->n_bound = i + 1;
	}
	return 0;
}

static int bind_slots(struct listener *listener, const struct listener_config *config, uint32_t slots, char *why, size_t why_size)
{
	uint32_t before = listener->n_fds;
	while (listener->n_fds < slots) {
		int fd = open_slot(listener, config);
		int error = fd < 0 ? explain_bind(fd, &listener->bound, config->protocol, why, why_size) : add_fd(listener, fd);
		if (error) {
			if (fd >= 0)
				close(fd);
			listener_shrink(listener, before);
			return error;
		}
	}
	return 0;
}

static int bind_tcp(
        struct listener *listener, const struct listener_config *config, uint32_t slots, bool beside_own, char *why, size_t why_size)
{
	listener->per_slot = true;
	listener->bound = config->endpoint.addr;
	int error = probe_address(&listener->bound, PROTOCOL_TCP, both_families(config->address), beside_own ? PORT_SHARED : PORT_ALONE);
	if (error)
		return explain_bind(error, &config->endpoint.addr, PROTOCOL_TCP, why, why_size);
	return bind_slots(listener, config, slots, why, why_size);
}

/* Beside our own on its port not even a probe may be bound: what is sent to the other ones could go to it. */
static int bind_udp(
        struct listener *listener, const struct listener_config *config, uint32_t slots, bool beside_own, char *why, size_t why_size)
{
	struct addr *bound = &listener->bound, elsewhere = config->endpoint.addr;
	addr_set_port(&elsewhere, 0);
	listener->per_slot = true;
	*bound = config->endpoint.addr;
	int error = probe_address(beside_own ? &elsewhere : bound, PROTOCOL_UDP, both_families(config->address), PORT_ALONE);
	if (error)
		return explain_bind(error, &config->endpoint.addr, PROTOCOL_UDP, why, why_size);
	if (beside_own && elsewhere.sa.sa_family != bound->sa.sa_family) {
		addr_set_port(&elsewhere, addr_port(bound));
		*bound = elsewhere; /* IPv4 is all there is */
	}
	listener->any_address = addr_is_any(bound);
	error = bind_slots(listener, config, slots, why, why_size);
	return error || beside_own ? error : take_part(listener, config, why, why_size);
}

/* A socket file that nobody listens on was left behind by a crash. */
static bool stale_unix_path(const struct addr *addr)
{
	struct stat st;
	if (lstat(addr->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool refused = connect(fd, &addr->sa, addr->length) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int bind_unix(struct listener *listener, const struct listener_config *config, char *why, size_t why_size)
{
	struct addr *addr = &listener->bound;
	*addr = config->endpoint.addr;
	bool in_files = addr->un.sun_path[0] != '\0';
	int fd = open_socket(addr, PROTOCOL_TCP, false, PORT_ALONE);
	if (fd == -EADDRINUSE && in_files && stale_unix_path(addr)) {
		(void)unlink(addr->un.sun_path);
		fd = open_socket(addr, PROTOCOL_TCP, false, PORT_ALONE);
	}
	if (fd < 0)
		return explain_bind(fd, addr, PROTOCOL_TCP, why, why_size);
	struct stat st;
	if (in_files && lstat(addr->un.sun_path, &st) == 0) {
		listener->inode = st.st_ino;
		/* As with a port, who may connect is decided elsewhere: by the permissions of the directory. */
		(void)chmod(addr->un.sun_path, 0666);
	}
	int error = add_fd(listener, fd);
	if (error)
		close(fd);
	return error;
}

static int number_option(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	return getsockopt(fd, level, name, &value, &length) < 0 ? -1 : value;
}

static bool is_of_type(int fd, enum protocol protocol)
{
	if (protocol == PROTOCOL_UDP)
		return number_option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP;
	return number_option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM;
}

static int adopt_fd(struct listener *listener, int fd, char *why, size_t why_size)
{
	if (!is_of_type(fd, listener->protocol))
		return fail(-EINVAL, why, why_size, "descriptor %d (%s) is not a %s socket; pass one that is bound", fd, listener->address,
		        listener->protocol == PROTOCOL_UDP ? "UDP" : "stream");
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* The original stays open, so that a reload that gives the listener up and one that takes it back find it again. */
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return fail(-errno, why, why_size, "cannot copy descriptor %d (%s): %s", fd, listener->address, strerror(errno));
	int error = 0;
	if (listener->n_fds == 0) {
		listener->bound.length = sizeof listener->bound - offsetof(struct addr, sa);
		if (getsockname(fd, &listener->bound.sa, &listener->bound.length) < 0)
			error = fail(
			        -errno, why, why_size, "descriptor %d (%s) has no address: %s", fd, listener->address, strerror(errno));
	}
	if (!error)
		error = add_fd(listener, copy);
	if (error) {
		close(copy);
		return error;
	}
	listener->per_slot = listener->protocol == PROTOCOL_UDP;
	listener->n_bound = listener->n_fds;
	listener->any_address = listener->per_slot && addr_is_any(&listener->bound);
	return 0;
}

static int adopt_systemd(struct listener *listener, const char *name, char *why, size_t why_size)
{
	for (int n = 0;; n++) {
		int fd = notify_socket(name, n);
		if (fd == -ENOENT && n > 0)
			return 0;
		if (fd < 0)
			return fail(fd, why, why_size,
			        "systemd passed no socket named \"%s\" (%d sockets in all); see FileDescriptorName= in the .socket unit",
			        name, notify_socket_count());
		int error = adopt_fd(listener, fd, why, why_size);
		if (error)
			return error;
	}
}

int listener_bind(const struct listener_config *config, uint32_t slots, bool beside_own, struct listener **out, char *why, size_t why_size)
{
	const struct endpoint *endpoint = &config->endpoint;
	struct listener *listener = calloc(1, sizeof *listener);
	if (!listener || !(listener->name = strdup(config->name)) || !(listener->address = strdup(config->address))) {
		listener_free(listener);
		return fail(-ENOMEM, why, why_size, "out of memory");
	}
	int error;
	listener->endpoint = *endpoint;
	listener->protocol = config->protocol;
	listener->inherited = endpoint->kind != ENDPOINT_ADDRESS;
	listener->original = endpoint->kind == ENDPOINT_FD ? endpoint->fd : -1;
	if (endpoint->kind == ENDPOINT_FD)
		error = adopt_fd(listener, endpoint->fd, why, why_size);
	else if (endpoint->kind == ENDPOINT_SYSTEMD)
		error = adopt_systemd(listener, endpoint->name, why, why_size);
	else if (endpoint->addr.sa.sa_family == AF_UNIX)
		error = bind_unix(listener, config, why, why_size);
	else if (config->protocol == PROTOCOL_UDP)
		error = bind_udp(listener, config, slots, beside_own, why, why_size);
	else
		error = bind_tcp(listener, config, slots, beside_own, why, why_size);
	if (error) {
		listener_free(listener);
		return error;
	}
	*out = listener;
	return 0;
}

int listener_adopt(const char *name, const char *address, ino_t inode, int fd, struct listener **out)
{
	const char *why;
	struct listener *listener = calloc(1, sizeof *listener);
	if (!listener || !(listener->name = strdup(name)) || !(listener->address = strdup(address))) {
		listener_free(listener);
		return -ENOMEM;
	}
	listener->shared = true;
	listener->original = -1;
	listener->inode = inode;
	int error = endpoint_parse(address, &listener->endpoint, &why);
	listener->protocol = is_of_type(fd, PROTOCOL_UDP) ? PROTOCOL_UDP : PROTOCOL_TCP;
	if (!error && (listener->endpoint.kind != ENDPOINT_ADDRESS || !is_of_type(fd, listener->protocol)))
		error = -EINVAL;
	listener->bound.length = sizeof listener->bound - offsetof(struct addr, sa);
	if (!error && getsockname(fd, &listener->bound.sa, &listener->bound.length) < 0)
		error = -errno;
	listener->per_slot = listener->bound.sa.sa_family != AF_UNIX;
	listener->any_address = listener->protocol == PROTOCOL_UDP && addr_is_any(&listener->bound);
	if (!error)
		error = listener_adopt_more(listener, fd);
	if (error) {
		listener_free(listener);
		return error;
	}
	*out = listener;
	return 0;
}

int listener_adopt_more(struct listener *listener, int fd)
{
	int error = add_fd(listener, fd);
	if (!error && listener->protocol == PROTOCOL_UDP)
		listener->n_bound = listener->n_fds; /* whoever hands them over has bound all */
	return error;
}

int listener_grow(struct listener *listener, const struct listener_config *config, uint32_t slots, char *why, size_t why_size)
{
	if (!listener->per_slot || listener->inherited)
		return 0;
	if (listener->n_fds == 0) { /* it rested */
		int error = probe_address(&listener->bound, listener->protocol, both_families(config->address), PORT_ALONE);
		if (error)
			return explain_bind(error, &listener->bound, listener->protocol, why, why_size);
	}
	return bind_slots(listener, config, slots, why, why_size);
}

bool listener_is_growing(const struct listener *listener)
{
	return listener->protocol == PROTOCOL_UDP && listener->n_bound > 0 && listener->n_bound < listener->n_fds;
}

void listener_shrink(struct listener *listener, uint32_t slots)
{
	while (listener->n_fds > slots)
		close(listener->fds[--listener->n_fds]);
	if (listener->n_bound > listener->n_fds)
		listener->n_bound = listener->n_fds;
}

int listener_listen(struct listener *listener, const struct listener_config *config, char *why, size_t why_size)
{
	char text[ADDR_TEXT_SIZE];
	if (listener->protocol == PROTOCOL_UDP)
		return take_part(listener, config, why, why_size);
	addr_format(&listener->bound, text, sizeof text);
	for (uint32_t i = 0; i < listener->n_fds; i++) {
		const char *option = "";
		int error = options_set_listener(listener->fds[i], &config->tcp, &option);
		if (error)
			return fail(error, why, why_size, "cannot set tcp.%s on listener %s (%s): %s", option, config->name, text,
			        strerror(-error));
		if (listen(listener->fds[i], (int)config->backlog) < 0)
			return fail(-errno, why, why_size, "cannot listen on %s: %s", text, strerror(errno));
	}
	return 0;
}

static void unlink_own_path(const struct listener *listener)
{
	const struct addr *addr = &listener->bound;
	struct stat st;
	if (listener->inherited || listener->shared || addr->length == 0 || addr->sa.sa_family != AF_UNIX || addr->un.sun_path[0] == '\0')
		return;
	if (lstat(addr->un.sun_path, &st) == 0 && st.st_ino == listener->inode)
		(void)unlink(addr->un.sun_path);
}

int listener_leave(struct listener *listener)
{
	enum { FLAGS_AT = 13, SYN = 2 }; /* in the TCP header */
	struct sock_filter drop_syn[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS_AT),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, SYN, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = { .len = ARRAY_LEN(drop_syn), .filter = drop_syn };
	listener->leaving = true;
	listener_hide(listener);
	for (uint32_t i = 0; listener->per_slot && i < listener->n_fds; i++)
		if (setsockopt(listener->fds[i], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0)
			return -errno;
	return 0;
}

void listener_stay(struct listener *listener)
{
	int unused = 0;
	for (uint32_t i = 0; listener->per_slot && i < listener->n_fds; i++)
		(void)setsockopt(listener->fds[i], SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
}

bool listener_revivable(const struct listener *listener)
{
	return listener->inherited || listener->bound.sa.sa_family != AF_UNIX;
}

void listener_hide(struct listener *listener)
{
	unlink_own_path(listener);
	listener->hidden = true;
}

void listener_refuse_fd(int fd)
{
	int listening = 0;
	socklen_t length = sizeof listening;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening)
		(void)shutdown(fd, SHUT_RD);
}

void listener_refuse(struct listener *listener)
{
	for (uint32_t i = 0; !listener->inherited && i < listener->n_fds; i++)
		listener_refuse_fd(listener->fds[i]);
}

void listener_rest(struct listener *listener)
{
	if (listener->protocol == PROTOCOL_UDP && !listener->inherited)
		listener_shrink(listener, 0);
}

static bool is_ip(const struct endpoint *endpoint)
{
	return endpoint->kind == ENDPOINT_ADDRESS && endpoint->addr.sa.sa_family != AF_UNIX;
}

bool listener_shares_port(const struct listener *listener, const struct listener_config *config)
{
	if (listener->protocol != config->protocol || !is_ip(&listener->endpoint) || !is_ip(&config->endpoint))
		return false;
	return addr_port(&config->endpoint.addr) != 0 && addr_port(&listener->bound) == addr_port(&config->endpoint.addr);
}

static bool same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == ENDPOINT_ADDRESS)
		return addr_equal(&a->addr, &b->addr);
	return a->kind == ENDPOINT_FD ? a->fd == b->fd : strcmp(a->name, b->name) == 0;
}

static bool is_chosen_by_kernel(const struct endpoint *endpoint)
{
	return is_ip(endpoint) && addr_port(&endpoint->addr) == 0;
}

bool listener_is_same(const struct listener_config *a, const struct listener_config *b)
{
	if (a->protocol != b->protocol || !same_endpoint(&a->endpoint, &b->endpoint) ||
	        both_families(a->address) != both_families(b->address))
		return false;
	return !is_chosen_by_kernel(&a->endpoint) || strcmp(a->name, b->name) == 0;
}

bool listener_matches(const struct listener *listener, const struct listener_config *config)
{
	if (listener->protocol != config->protocol || !same_endpoint(&listener->endpoint, &config->endpoint) ||
	        both_families(listener->address) != both_families(config->address))
		return false;
	if (listener->leaving || (listener->hidden && !listener_revivable(listener)))
		return false;
	/* Port 0 is another port for each listener that asks for one. */
	return !is_chosen_by_kernel(&config->endpoint) || strcmp(listener->name, config->name) == 0;
}

void listener_release_in_child(const struct listener *listener)
{
	if (listener->original >= 0)
		close(listener->original);
}

void listener_free(struct listener *listener)
{
	if (!listener)
		return;
	unlink_own_path(listener);
	listener_shrink(listener, 0);
	free(listener->fds);
	free(listener->name);
	free(listener->address);
	free(listener);
}
