#include "net/options.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/clock.h"

static int seconds(uint64_t ns)
{
	uint64_t s = (ns + NS_PER_S - 1) / NS_PER_S;
	return s > 32767 ? 32767 : (int)s; /* the kernel's greatest TCP_KEEPIDLE */
}

static int milliseconds(uint64_t ns)
{
	uint64_t ms = ns / NS_PER_MS;
	return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

static int bytes(uint64_t n)
{
	return n > INT32_MAX / 2 ? INT32_MAX / 2 : (int)n;
}

struct socket_option {
	const char *name;
	int level;
	int option;
	int value;
	bool wanted;
};

/* The rows that both kinds share: those to be set before connecting, then the others. What is the kernel's own default is not set: a call
 * less for each connection. */
enum { N_EARLY = 3, N_COMMON = 9, KEEPALIVE_PROBES = 4 };
enum { ROW_NODELAY = N_EARLY, ROW_KEEPALIVE, ROW_USER_TIMEOUT };
static void common_options(const struct tcp_config *tcp, struct socket_option out[N_COMMON])
{
	int idle = seconds(tcp->keepalive_ns);
	const struct socket_option rows[N_COMMON] = {
		/* An urgent byte is a byte of the stream; without this the kernel would leave it out. */
		{ "urgent data", SOL_SOCKET, SO_OOBINLINE, 1, true },
		{ "receive_buffer", SOL_SOCKET, SO_RCVBUF, bytes(tcp->receive_buffer_bytes), tcp->receive_buffer_bytes > 0 },
		{ "send_buffer", SOL_SOCKET, SO_SNDBUF, bytes(tcp->send_buffer_bytes), tcp->send_buffer_bytes > 0 },
		[ROW_NODELAY] = { "nodelay", IPPROTO_TCP, TCP_NODELAY, 1, tcp->nodelay },
		[ROW_KEEPALIVE] = { "keepalive", SOL_SOCKET, SO_KEEPALIVE, 1, idle > 0 },
		[ROW_USER_TIMEOUT] = { "user_timeout", IPPROTO_TCP, TCP_USER_TIMEOUT, milliseconds(tcp->user_timeout_ns),
		        tcp->user_timeout_ns > 0 },
		{ "keepalive", IPPROTO_TCP, TCP_KEEPIDLE, idle, idle > 0 },
		/* The kernel's own nine probes at 75 s would take eleven minutes more. */
		{ "keepalive", IPPROTO_TCP, TCP_KEEPINTVL, (idle + KEEPALIVE_PROBES - 1) / KEEPALIVE_PROBES, idle > 0 },
		{ "keepalive", IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES, idle > 0 },
	};
	memcpy(out, rows, sizeof rows);
}

static int apply(int fd, const struct socket_option *options, size_t count, const char **failed)
{
	for (size_t i = 0; i < count; i++) {
		if (!options[i].wanted ||
		        setsockopt(fd, options[i].level, options[i].option, &options[i].value, sizeof options[i].value) == 0)
			continue;
		*failed = options[i].name;
		return -errno;
	}
	return 0;
}

static bool is_tcp(int fd)
{
	int domain = 0;
	socklen_t length = sizeof domain;
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && (domain == AF_INET || domain == AF_INET6);
}

int options_set_listener(int fd, const struct tcp_config *tcp, const char **option)
{
	if (!is_tcp(fd))
		return 0;
	struct socket_option options[N_COMMON + 2];
	common_options(tcp, options);
	/* A listening socket lives over reloads: what was switched off must be said, too. */
	options[ROW_NODELAY].value = tcp->nodelay;
	options[ROW_KEEPALIVE].value = tcp->keepalive_ns > 0;
	options[ROW_NODELAY].wanted = options[ROW_KEEPALIVE].wanted = options[ROW_USER_TIMEOUT].wanted = true;
	options[N_COMMON] = (struct socket_option){ "defer_accept", IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds(tcp->defer_accept_ns), true };
	options[N_COMMON + 1] = (struct socket_option){ "fast_open", IPPROTO_TCP, TCP_FASTOPEN, (int)tcp->fast_open, true };
	return apply(fd, options, ARRAY_LEN(options), option);
}

void options_set_dialled(int fd, sa_family_t family, const struct tcp_config *tcp)
{
	if (family != AF_INET && family != AF_INET6)
		return;
	struct socket_option options[N_COMMON];
	const char *failed;
	common_options(tcp, options);
	(void)apply(fd, options, N_EARLY, &failed);
}

void options_set_late(int fd, const struct tcp_config *tcp)
{
	struct socket_option options[N_COMMON];
	const char *failed;
	common_options(tcp, options);
	(void)apply(fd, options + N_EARLY, N_COMMON - N_EARLY, &failed);
}
