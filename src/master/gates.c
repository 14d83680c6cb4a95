#include "master/gates.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "control/token.h"

enum { BACKLOG = 1024 };

void gates_init(struct gates *gates)
{
	*gates = (struct gates){ .gid = (gid_t)-1 };
	for (enum http_gate gate = 0; gate < N_HTTP_GATES; gate++)
		gates->now[gate].fd = gates->next[gate].fd = -1;
}

/* --- the unix socket --------------------------------------------------------------------------------------------------------- */

/* A path that is too long for a socket address is short enough from its folder. */
static int bind_path(int fd, const char *path, const char *dir)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if ((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s", path) < sizeof address.sun_path)
		return bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
	int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	(void)snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", folder, strrchr(path, '/') + 1);
	int error = bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
	close(folder);
	return error;
}

static int make_socket(const char *path, const char *dir, gid_t gid)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	(void)unlink(path); /* the leavings of a master that was killed */
	mode_t mask = umask(S_IXUSR | S_IXGRP | S_IRWXO);
	int error = bind_path(fd, path, dir);
	(void)umask(mask);
	if (!error && ((gid != (gid_t)-1 && lchown(path, (uid_t)-1, gid) < 0) || listen(fd, BACKLOG) < 0)) {
		error = -errno;
		(void)unlink(path);
	}
	if (!error)
		return fd;
	close(fd);
	return error;
}

void gates_adopt(struct gates *gates, enum http_gate gate, int fd, const struct addr *address)
{
	gates->now[gate] = gates->next[gate] = (struct gate_socket){ .fd = fd };
	if (address)
		gates->now[gate].address = gates->next[gate].address = *address;
}

int gates_open(struct gates *gates, const char *dir, gid_t gid, char *why, size_t why_size)
{
	struct stat status;
	char *path;
	if (!http_is_built())
		return 0; /* who connected would wait for ever */
	if (asprintf(&path, "%s/admin.sock", dir) < 0)
		return -ENOMEM;
	int fd = gates->now[HTTP_GATE_UNIX].fd;
	if (fd < 0)
		fd = lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode) ? -EEXIST : make_socket(path, dir, gid);
	if (fd < 0) {
		(void)snprintf(why, why_size, "cannot make %s: %s", path, fd == -EEXIST ? "something else stands there" : strerror(-fd));
		free(path);
		return fd;
	}
	gates->path = path;
	gates->gid = gid != (gid_t)-1 ? gid : getegid();
	gates->now[HTTP_GATE_UNIX].fd = gates->next[HTTP_GATE_UNIX].fd = fd;
	return 0;
}

/* --- over TCP ---------------------------------------------------------------------------------------------------------------- */

static int listen_at(const struct addr *address)
{
	int on = 1;
	int fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
	/* 0.0.0.0 may stand beside it. */
	if (ok && address->sa.sa_family == AF_INET6)
		ok = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
	if (ok && bind(fd, &address->sa, address->length) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

static void log_address(const char *what, int fd)
{
	struct addr bound = { .length = sizeof bound - offsetof(struct addr, sa) };
	char text[ADDR_TEXT_SIZE];
	if (getsockname(fd, &bound.sa, &bound.length) == 0)
		log_info("%s at %s", what, addr_format(&bound, text, sizeof text));
}

static const char *explain(const struct gates *gates, const struct addr *address, int error)
{
	if (error == -EACCES)
		return "permission denied; ports below 1024 need root: write a port above";
	if (error == -EADDRNOTAVAIL)
		return "this machine has no such address; `ip addr` shows those it has";
	if (error != -EADDRINUSE)
		return strerror(-error);
	for (enum http_gate gate = HTTP_GATE_ADMIN; gate < N_HTTP_GATES; gate++)
		if (gates->now[gate].fd >= 0 && addr_port(&gates->now[gate].address) == addr_port(address))
			return "Aegis itself listens on that port, with another address; write another port, or restart it";
	return "someone else listens there; `ss -ltnp` shows who";
}

static int prepare_one(struct gates *gates, enum http_gate gate, const struct endpoint *endpoint, char *why, size_t why_size)
{
	static const char *const names[] = { [HTTP_GATE_ADMIN] = "admin.address", [HTTP_GATE_METRICS] = "admin.metrics_address" };
	static const char *const texts[] = { [HTTP_GATE_ADMIN] = "the admin API is", [HTTP_GATE_METRICS] = "metrics are" };
	const struct gate_socket *now = &gates->now[gate];
	struct gate_socket *next = &gates->next[gate];
	char text[ADDR_TEXT_SIZE];

	*next = (struct gate_socket){ .fd = -1 };
	if (endpoint->kind != ENDPOINT_ADDRESS)
		return 0;
	if (!http_is_built()) {
		(void)snprintf(why, why_size, "%s: %s", names[gate], HTTP_NOT_BUILT);
		return -ENOTSUP;
	}
	if (now->fd >= 0 && addr_equal(&now->address, &endpoint->addr)) {
		*next = *now;
		return 0;
	}
	int fd = listen_at(&endpoint->addr);
	if (fd < 0) {
		(void)snprintf(why, why_size, "%s: cannot listen on %s: %s", names[gate], addr_format(&endpoint->addr, text, sizeof text),
		        explain(gates, &endpoint->addr, fd));
		return fd;
	}
	*next = (struct gate_socket){ .fd = fd, .address = endpoint->addr };
	log_address(texts[gate], fd);
	return 0;
}

int gates_prepare(struct gates *gates, const struct config *config, char *why, size_t why_size)
{
	struct token token;
	gates->next[HTTP_GATE_UNIX] = gates->now[HTTP_GATE_UNIX];
	if (config->admin.token_file[0]) {
		char reason[512];
		int error = token_read(config->admin.token_file, &token, reason, sizeof reason);
		token_forget(&token); /* the control process reads it for itself, and no worker inherits it */
		if (error) {
			(void)snprintf(why, why_size, "admin.token_file: %s", reason);
			gates_abandon(gates);
			return error;
		}
	}
	int error = prepare_one(gates, HTTP_GATE_ADMIN, &config->admin.endpoint, why, why_size);
	if (!error)
		error = prepare_one(gates, HTTP_GATE_METRICS, &config->admin.metrics_endpoint, why, why_size);
	if (error)
		gates_abandon(gates);
	return error;
}

static void close_all_but(const struct gate_socket *gates, const struct gate_socket *keep)
{
	for (enum http_gate gate = 0; gate < N_HTTP_GATES; gate++)
		if (gates[gate].fd >= 0 && gates[gate].fd != keep[gate].fd)
			close(gates[gate].fd);
}

void gates_switch(struct gates *gates)
{
	close_all_but(gates->now, gates->next);
	memcpy(gates->now, gates->next, sizeof gates->now);
}

void gates_abandon(struct gates *gates)
{
	close_all_but(gates->next, gates->now);
	memcpy(gates->next, gates->now, sizeof gates->next);
}

void gates_describe(const struct gates *gates, bool next, struct control_admin *out)
{
	const struct gate_socket *from = next ? gates->next : gates->now;
	*out = (struct control_admin){ .uid = geteuid(), .gid = gates->gid };
	for (enum http_gate gate = 0; gate < N_HTTP_GATES; gate++) {
		out->fds[gate] = from[gate].fd;
		out->is_loopback[gate] = gate != HTTP_GATE_UNIX && addr_is_loopback(&from[gate].address);
	}
}

void gates_release_in_child(const struct gates *gates, const struct control_admin *keep)
{
	for (enum http_gate gate = 0; gate < N_HTTP_GATES; gate++) {
		int now = gates->now[gate].fd, next = gates->next[gate].fd, kept = keep ? keep->fds[gate] : -1;
		if (now >= 0 && now != kept)
			close(now);
		if (next >= 0 && next != now && next != kept)
			close(next);
	}
}

void gates_let_go(struct gates *gates)
{
	free(gates->path);
	gates->path = NULL;
	gates_close(gates);
}

void gates_close(struct gates *gates)
{
	gates_abandon(gates);
	for (enum http_gate gate = 0; gate < N_HTTP_GATES; gate++)
		if (gates->now[gate].fd >= 0)
			close(gates->now[gate].fd);
	if (gates->path)
		(void)unlink(gates->path);
	free(gates->path);
	gates_init(gates);
}
