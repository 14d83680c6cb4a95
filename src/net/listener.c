#include "net/listener.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "net/bind.h"
#include "net/listener_own.h"
#include "net/options.h"

int listener_try(const struct listener_config *config, bool elsewhere, char *why, size_t why_size)
{
	struct addr addr = config->endpoint.addr;
	if (elsewhere)
		addr_set_port(&addr, 0);
	int error = bind_probe(&addr, config->protocol, bind_both_families(config->address), PORT_ALONE);
	return error ? bind_explain(error, &config->endpoint.addr, config->protocol, why, why_size) : 0;
}

int listener_add_fd(struct listener *listener, int fd)
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
	bool both = bind_both_families(config->address);
	return listener->protocol == PROTOCOL_UDP ? bind_make(&listener->bound, PROTOCOL_UDP, both, PORT_SHARED)
	                                          : bind_open(&listener->bound, PROTOCOL_TCP, both, PORT_SHARED);
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
			return bind_fail(error, why, why_size, "cannot have the addresses of datagrams told on listener %s (%s): %s",
			        config->name, addr_format(&listener->bound, text, sizeof text), strerror(-error));
		if (i < listener->n_bound)
			continue;
		error = bind_to(listener->fds[i], &listener->bound);
		if (error)
			return bind_explain(error, &listener->bound, PROTOCOL_UDP, why, why_size);
		listener->n_bound = i + 1;
	}
	return 0;
}

static int bind_slots(struct listener *listener, const struct listener_config *config, uint32_t slots, char *why, size_t why_size)
{
	uint32_t before = listener->n_fds;
	while (listener->n_fds < slots) {
		int fd = open_slot(listener, config);
		int error = fd < 0 ? bind_explain(fd, &listener->bound, config->protocol, why, why_size) : listener_add_fd(listener, fd);
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
	int error = bind_probe(&listener->bound, PROTOCOL_TCP, bind_both_families(config->address), beside_own ? PORT_SHARED : PORT_ALONE);
	if (error)
		return bind_explain(error, &config->endpoint.addr, PROTOCOL_TCP, why, why_size);
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
	int error = bind_probe(beside_own ? &elsewhere : bound, PROTOCOL_UDP, bind_both_families(config->address), PORT_ALONE);
	if (error)
		return bind_explain(error, &config->endpoint.addr, PROTOCOL_UDP, why, why_size);
	if (beside_own && elsewhere.sa.sa_family != bound->sa.sa_family) {
		addr_set_port(&elsewhere, addr_port(bound));
		*bound = elsewhere; /* IPv4 is all there is */
	}
	listener->any_address = addr_is_any(bound);
	error = bind_slots(listener, config, slots, why, why_size);
	return error || beside_own ? error : take_part(listener, config, why, why_size);
}

static int bind_unix(struct listener *listener, const struct listener_config *config, char *why, size_t why_size)
{
	struct addr *addr = &listener->bound;
	*addr = config->endpoint.addr;
	bool in_files = addr->un.sun_path[0] != '\0';
	int fd = bind_open(addr, PROTOCOL_TCP, false, PORT_ALONE);
	if (fd == -EADDRINUSE && in_files && bind_is_stale_path(addr)) {
		(void)unlink(addr->un.sun_path);
		fd = bind_open(addr, PROTOCOL_TCP, false, PORT_ALONE);
	}
	if (fd < 0)
		return bind_explain(fd, addr, PROTOCOL_TCP, why, why_size);
	struct stat st;
	if (in_files && lstat(addr->un.sun_path, &st) == 0) {
		listener->inode = st.st_ino;
		/* As with a port, who may connect is decided elsewhere: by the permissions of the directory. */
		(void)chmod(addr->un.sun_path, 0666);
	}
	int error = listener_add_fd(listener, fd);
	if (error)
		close(fd);
	return error;
}

int listener_bind(const struct listener_config *config, uint32_t slots, bool beside_own, struct listener **out, char *why, size_t why_size)
{
	const struct endpoint *endpoint = &config->endpoint;
	struct listener *listener = calloc(1, sizeof *listener);
	if (!listener || !(listener->name = strdup(config->name)) || !(listener->address = strdup(config->address))) {
		listener_free(listener);
		return bind_fail(-ENOMEM, why, why_size, "out of memory");
	}
	int error;
	listener->endpoint = *endpoint;
	listener->protocol = config->protocol;
	listener->inherited = endpoint->kind != ENDPOINT_ADDRESS;
	listener->original = endpoint->kind == ENDPOINT_FD ? endpoint->fd : -1;
	if (endpoint->kind == ENDPOINT_FD)
		error = listener_adopt_fd(listener, endpoint->fd, why, why_size);
	else if (endpoint->kind == ENDPOINT_SYSTEMD)
		error = listener_adopt_systemd(listener, endpoint->name, why, why_size);
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

int listener_grow(struct listener *listener, const struct listener_config *config, uint32_t slots, char *why, size_t why_size)
{
	if (!listener->per_slot || listener->inherited)
		return 0;
	if (listener->n_fds == 0) { /* it rested */
		int error = bind_probe(&listener->bound, listener->protocol, bind_both_families(config->address), PORT_ALONE);
		if (error)
			return bind_explain(error, &listener->bound, listener->protocol, why, why_size);
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
			return bind_fail(error, why, why_size, "cannot set tcp.%s on listener %s (%s): %s", option, config->name, text,
			        strerror(-error));
		if (listen(listener->fds[i], (int)config->backlog) < 0)
			return bind_fail(-errno, why, why_size, "cannot listen on %s: %s", text, strerror(errno));
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
