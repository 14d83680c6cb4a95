#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "master/plan_checks.h"
#include "net/listener.h"
#include "os/sockets.h"

enum { WHY_SIZE = 256, WHO_SIZE = 128, PATH_SIZE = CONFIG_NAME_SIZE + 32 };

struct port_check {
	struct plan *plan;
	const struct plan_ground *ground;
	const struct listener_config *listener;
	char path[PATH_SIZE];
};

static pid_t master_of(const struct plan_ground *ground)
{
	return ground->origin ? ground->origin->pid : 0;
}

/* --- who is in the way ----------------------------------------------------------------------------------------------------- */

struct search {
	pid_t master; /* what is its own is in nobody's way */
	bool found;
	struct socket_owner owner;
};

static bool on_socket(void *arg, const struct socket_owner *owner)
{
	struct search *search = arg;
	if (search->master && sockets_is_owned_by("", owner->inode, search->master))
		return false;
	search->owner = *owner;
	search->found = true;
	return true;
}

static bool takes_both(const struct listener_config *listener)
{
	return listener->address[0] == '*' || listener->address[0] == ':';
}

/* Another one than the running instance, that listens where the listener would. */
static bool find_other(const struct port_check *check, struct search *search)
{
	*search = (struct search){ .master = master_of(check->ground) };
	if (search->master && !sockets_may_look("", search->master))
		return false; /* those of the instance itself could not be told apart */
	const struct addr *addr = &check->listener->endpoint.addr;
	bool both = takes_both(check->listener);
	int error = 0;
	for (int tries = 0; !error && !search->found && tries < SOCKETS_TRIES; tries++)
		error = check->listener->protocol == PROTOCOL_UDP ? sockets_bound_udp("", addr, both, on_socket, search)
		                                                  : sockets_listening("", addr, both, on_socket, search);
	return !error && search->found;
}

static void tell_busy(const struct port_check *check, struct search *search)
{
	char who[WHO_SIZE], address[ADDR_TEXT_SIZE];
	plan_add(check->plan, PLAN_ERROR, check->path, "cannot listen on %s: %s listens there",
	        addr_format(&check->listener->endpoint.addr, address, sizeof address),
	        sockets_name_owner("", &search->owner, who, sizeof who));
}

/* --- TCP and UDP ----------------------------------------------------------------------------------------------------------- */

/* The port that a listener in force really has. */
static unsigned port_in_force(const struct plan_ground *ground, const struct listener_config *listener)
{
	struct endpoint endpoint;
	const char *why;
	if (listener->endpoint.kind != ENDPOINT_ADDRESS || listener->endpoint.addr.sa.sa_family == AF_UNIX)
		return 0;
	unsigned port = addr_port(&listener->endpoint.addr);
	for (size_t i = 0; port == 0 && ground->snapshot && i < ground->snapshot->n_listeners; i++)
		if (strcmp(ground->snapshot->listeners[i].name, listener->name) == 0 &&
		        endpoint_parse(ground->snapshot->listeners[i].address, &endpoint, &why) == 0)
			port = addr_port(&endpoint.addr);
	return port;
}

static bool is_beside_own(const struct plan_ground *ground, enum protocol protocol, unsigned port)
{
	for (size_t i = 0; port && ground->before && i < ground->before->n_listeners; i++)
		if (ground->before->listeners[i].protocol == protocol && port_in_force(ground, &ground->before->listeners[i]) == port)
			return true;
	return false;
}

static void check_ip(const struct port_check *check)
{
	char why[WHY_SIZE];
	struct search search;
	bool beside_own = is_beside_own(check->ground, check->listener->protocol, addr_port(&check->listener->endpoint.addr));
	int error = listener_try(check->listener, beside_own, why, sizeof why);
	if (error == -EACCES && !check->ground->same_rights)
		plan_add(check->plan, PLAN_NOTE, check->path, "cannot be tried by this user; ask as the user that started Aegis");
	else if ((error == -EADDRINUSE || (beside_own && error == 0)) && find_other(check, &search))
		tell_busy(check, &search);
	else if (error)
		plan_add(check->plan, PLAN_ERROR, check->path, "%s", why);
}

/* --- unix sockets ---------------------------------------------------------------------------------------------------------- */

static void check_directory(const struct port_check *check, const char *path)
{
	char directory[sizeof check->listener->endpoint.addr.un.sun_path + 1];
	(void)snprintf(directory, sizeof directory, "%s", path);
	char *slash = strrchr(directory, '/');
	if (slash)
		slash[slash == directory] = '\0';
	const char *where = slash ? directory : ".";
	if (faccessat(AT_FDCWD, where, W_OK | X_OK, AT_EACCESS) < 0 && check->ground->same_rights)
		plan_add(check->plan, PLAN_ERROR, check->path, "cannot make the socket in %s: %s", where, strerror(errno));
}

static void check_unix(const struct port_check *check)
{
	const struct addr *addr = &check->listener->endpoint.addr;
	struct search search;
	struct stat st;
	if (find_other(check, &search))
		tell_busy(check, &search);
	else if (addr->un.sun_path[0] == '\0')
		return;
	else if (lstat(addr->un.sun_path, &st) == 0 && !S_ISSOCK(st.st_mode))
		plan_add(check->plan, PLAN_ERROR, check->path, "cannot listen on unix:%s: the path is taken by something that is no socket",
		        addr->un.sun_path);
	else
		check_directory(check, addr->un.sun_path);
}

/* --- all ------------------------------------------------------------------------------------------------------------------- */

static bool is_held(const struct plan_ground *ground, const struct listener_config *listener)
{
	for (size_t i = 0; ground->before && i < ground->before->n_listeners; i++)
		if (listener_is_same(&ground->before->listeners[i], listener))
			return true;
	return false;
}

static void check_one(struct port_check *check)
{
	const struct endpoint *endpoint = &check->listener->endpoint;
	check->plan->checked.addresses++;
	if (is_held(check->ground, check->listener))
		check->plan->checked.held++;
	else if (endpoint->kind != ENDPOINT_ADDRESS)
		plan_add(check->plan, PLAN_NOTE, check->path, "%s: only the instance itself can tell whether it was handed over",
		        check->listener->address);
	else if (endpoint->addr.sa.sa_family == AF_UNIX)
		check_unix(check);
	else
		check_ip(check);
}

/* The addresses of the admin API: nothing is shared there. */
static void check_gate(
        struct plan *plan, const struct plan_ground *ground, const char *path, const struct endpoint *before, const struct endpoint *after)
{
	const struct listener_config gate = { .name = "", .address = "", .endpoint = *after };
	struct port_check check = { .plan = plan, .ground = ground, .listener = &gate };
	struct search search;
	char why[WHY_SIZE];
	if (after->kind != ENDPOINT_ADDRESS)
		return;
	(void)text_copy(check.path, sizeof check.path, path);
	plan->checked.addresses++;
	if (before && before->kind == ENDPOINT_ADDRESS && addr_equal(&before->addr, &after->addr)) {
		plan->checked.held++;
		return;
	}
	int error = listener_try(&gate, false, why, sizeof why);
	if (error == -EADDRINUSE && find_other(&check, &search))
		tell_busy(&check, &search);
	else if (error && (error != -EACCES || ground->same_rights))
		plan_add(plan, PLAN_ERROR, path, "%s", why);
}

void plan_check_ports(struct plan *plan, const struct plan_ground *ground)
{
	const struct config *before = ground->before, *after = ground->after;
	check_gate(plan, ground, "admin.address", before ? &before->admin.endpoint : NULL, &after->admin.endpoint);
	check_gate(plan, ground, "admin.metrics_address", before ? &before->admin.metrics_endpoint : NULL, &after->admin.metrics_endpoint);
	for (size_t i = 0; i < ground->after->n_listeners; i++) {
		struct port_check check = { .plan = plan, .ground = ground, .listener = &ground->after->listeners[i] };
		(void)snprintf(check.path, sizeof check.path, "listeners.%s.address", check.listener->name);
		check_one(&check);
	}
}
