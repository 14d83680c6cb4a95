#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "net/options.h"
#include "os/notify.h"

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

static int open_socket(const struct addr *addr, bool both, bool share_port)
{
	int on = 1, off = 0;
	int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int failed = 0;
	if (addr->sa.sa_family != AF_UNIX)
		failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (!failed && share_port)
		failed = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (!failed && addr->sa.sa_family == AF_INET6)
		failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, both ? &off : &on, sizeof on);
	if (!failed)
		failed = bind(fd, &addr->sa, addr->length);
	if (!failed)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

static int explain_bind(int error, const struct addr *addr, char *why, size_t why_size)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(addr, text, sizeof text);
	switch (-error) {
	case EADDRINUSE:
		return fail(error, why, why_size, "cannot listen on %s: someone else listens there; `ss -ltnp` shows who", text);
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
static int probe_address(struct addr *addr, bool both, bool beside_own)
{
	int fd = open_socket(addr, both, beside_own);
	if (fd == -EAFNOSUPPORT && both) {
		struct addr v4 = { .length = sizeof v4.in, .in = { .sin_family = AF_INET, .sin_port = addr->in6.sin6_port } };
		*addr = v4;
		fd = open_socket(addr, false, beside_own);
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
	int error = probe_address(&addr, both_families(config->address), false);
	return error ? explain_bind(error, &config->endpoint.addr, why, why_size) : 0;
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

static int bind_slots(struct listener *listener, const struct listener_config *config, uint32_t slots, char *why, size_t why_size)
{
	uint32_t before = listener->n_fds;
	while (listener->n_fds < slots) {
		int fd = open_socket(&listener->bound, both_families(config->address), true);
		int error = fd < 0 ? explain_bind(fd, &listener->bound, why, why_size) : add_fd(listener, fd);
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
	int error = probe_address(&listener->bound, both_families(config->address), beside_own);
	if (error)
		return explain_bind(error, &config->endpoint.addr, why, why_size);
	return bind_slots(listener, config, slots, why, why_size);
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
	int fd = open_socket(addr, false, false);
	if (fd == -EADDRINUSE && in_files && stale_unix_path(addr)) {
		(void)unlink(addr->un.sun_path);
		fd = open_socket(addr, false, false);
	}
	if (fd < 0)
		return explain_bind(fd, addr, why, why_size);
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

static int adopt_fd(struct listener *listener, int fd, char *why, size_t why_size)
{
	int type = 0;
	socklen_t length = sizeof type;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM)
		return fail(
		        -EINVAL, why, why_size, "descriptor %d (%s) is not a stream socket; pass one that is bound", fd, listener->address);
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
	if (error)
		close(copy);
	return error;
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
	listener->inherited = endpoint->kind != ENDPOINT_ADDRESS;
	listener->original = endpoint->kind == ENDPOINT_FD ? endpoint->fd : -1;
	if (endpoint->kind == ENDPOINT_FD)
		error = adopt_fd(listener, endpoint->fd, why, why_size);
	else if (endpoint->kind == ENDPOINT_SYSTEMD)
		error = adopt_systemd(listener, endpoint->name, why, why_size);
	else if (endpoint->addr.sa.sa_family == AF_UNIX)
		error = bind_unix(listener, config, why, why_size);
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
	int type = 0;
	socklen_t length = sizeof type;
	struct listener *listener = calloc(1, sizeof *listener);
	if (!listener || !(listener->name = strdup(name)) || !(listener->address = strdup(address))) {
		listener_free(listener);
		return -ENOMEM;
	}
	listener->shared = true;
	listener->original = -1;
	listener->inode = inode;
	int error = endpoint_parse(address, &listener->endpoint, &why);
	if (!error && (listener->endpoint.kind != ENDPOINT_ADDRESS || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
	                      type != SOCK_STREAM))
		error = -EINVAL;
	listener->bound.length = sizeof listener->bound - offsetof(struct addr, sa);
	if (!error && getsockname(fd, &listener->bound.sa, &listener->bound.length) < 0)
		error = -errno;
	listener->per_slot = listener->bound.sa.sa_family != AF_UNIX;
	if (!error)
		error = add_fd(listener, fd);
	if (error) {
		listener_free(listener);
		return error;
	}
	*out = listener;
	return 0;
}

int listener_adopt_more(struct listener *listener, int fd)
{
	return add_fd(listener, fd);
}

int listener_grow(struct listener *listener, const struct listener_config *config, uint32_t slots, char *why, size_t why_size)
{
	return listener->per_slot ? bind_slots(listener, config, slots, why, why_size) : 0;
}

void listener_shrink(struct listener *listener, uint32_t slots)
{
	while (listener->n_fds > slots)
		close(listener->fds[--listener->n_fds]);
}

int listener_listen(struct listener *listener, const struct listener_config *config, char *why, size_t why_size)
{
	char text[ADDR_TEXT_SIZE];
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

static bool is_tcp_address(const struct endpoint *endpoint)
{
	return endpoint->kind == ENDPOINT_ADDRESS && endpoint->addr.sa.sa_family != AF_UNIX;
}

bool listener_shares_port(const struct listener *listener, const struct listener_config *config)
{
	if (!is_tcp_address(&listener->endpoint) || !is_tcp_address(&config->endpoint))
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
	return is_tcp_address(endpoint) && addr_port(&endpoint->addr) == 0;
}

bool listener_is_same(const struct listener_config *a, const struct listener_config *b)
{
	if (!same_endpoint(&a->endpoint, &b->endpoint) || both_families(a->address) != both_families(b->address))
		return false;
	return !is_chosen_by_kernel(&a->endpoint) || strcmp(a->name, b->name) == 0;
}

bool listener_matches(const struct listener *listener, const struct listener_config *config)
{
	if (!same_endpoint(&listener->endpoint, &config->endpoint) || both_families(listener->address) != both_families(config->address))
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
