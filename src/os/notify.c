#include "os/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

enum { FIRST_PASSED_FD = 3, MAX_PASSED = 1024, MAX_MESSAGE = 2048 };

/* What the environment said; there is one environment. */
static struct {
	int fd; /* valid where length is set */
	socklen_t length;
	struct sockaddr_un target;
	uint64_t watchdog_ns;
	int n_sockets;
	char *names; /* of the sockets, ':'-separated; NULL = not given */
} notify;

/* A variable as a whole number of at most max; 0 and *out, or -EINVAL when it is missing or anything else. */
static int number_from(const char *variable, uint64_t max, uint64_t *out)
{
	const char *value = getenv(variable);
	if (!value || *value < '0' || *value > '9')
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long number = strtoull(value, &end, 10);
	if (errno || *end || number > max)
		return -EINVAL;
	*out = number;
	return 0;
}

static void init_socket(void)
{
	const char *address = getenv("NOTIFY_SOCKET");
	if (!address || (address[0] != '/' && address[0] != '@') || !address[1])
		return;
	size_t length = strlen(address);
	if (length >= sizeof notify.target.sun_path)
		return;
	notify.target.sun_family = AF_UNIX;
	memcpy(notify.target.sun_path, address, length + 1);
	size_t used = offsetof(struct sockaddr_un, sun_path) + length;
	if (address[0] == '@')
		notify.target.sun_path[0] = '\0'; /* an abstract name is as long as it says, without a NUL */
	else
		used++;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	notify.fd = fd;
	notify.length = (socklen_t)used;
}

static void init_watchdog(void)
{
	uint64_t period_us, pid;
	if (number_from("WATCHDOG_USEC", UINT64_MAX / NS_PER_US, &period_us) || period_us == 0)
		return;
	if (getenv("WATCHDOG_PID") && (number_from("WATCHDOG_PID", INT32_MAX, &pid) || (pid_t)pid != getpid()))
		return;
	notify.watchdog_ns = period_us * NS_PER_US / 2;
}

static void init_passed(void)
{
	uint64_t pid, count;
	if (number_from("LISTEN_PID", INT32_MAX, &pid) || (pid_t)pid != getpid() || number_from("LISTEN_FDS", MAX_PASSED, &count))
		return;
	int n = 0;
	while (n < (int)count && fcntl(FIRST_PASSED_FD + n, F_SETFD, FD_CLOEXEC) == 0)
		n++;
	notify.n_sockets = n;
	const char *names = getenv("LISTEN_FDNAMES");
	notify.names = names ? strdup(names) : NULL;
}

void notify_init(void)
{
	static const char *const variables[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS",
		"LISTEN_FDNAMES", "LISTEN_PIDFDID" };
	if (notify.length)
		close(notify.fd);
	free(notify.names);
	memset(&notify, 0, sizeof notify);
	init_passed(); /* before a descriptor of ours could be taken for one of the passed */
	init_socket();
	init_watchdog();
	for (size_t i = 0; i < ARRAY_LEN(variables); i++)
		unsetenv(variables[i]);
}

bool notify_enabled(void)
{
	return notify.length != 0;
}

void notify_send(const char *format, ...)
{
	if (!notify.length)
		return;
	char message[MAX_MESSAGE];
	va_list args;
	va_start(args, format);
	int length = vsnprintf(message, sizeof message, format, args);
	va_end(args);
	if (length <= 0)
		return;
	size_t used = (size_t)length < sizeof message ? (size_t)length : sizeof message - 1;
	ssize_t sent;
	do
		sent = sendto(
		        notify.fd, message, used, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&notify.target, notify.length);
	while (sent < 0 && errno == EINTR);
}

uint64_t notify_watchdog_ns(void)
{
	return notify.watchdog_ns;
}

int notify_socket(const char *name, int n)
{
	size_t wanted = strlen(name);
	const char *at = notify.names;
	for (int i = 0; i < notify.n_sockets; i++) {
		/* systemd calls a socket "unknown" where it says nothing else */
		size_t length = at ? strcspn(at, ":") : 7;
		if (length == wanted && memcmp(at ? at : "unknown", name, wanted) == 0 && n-- == 0)
			return FIRST_PASSED_FD + i;
		if (at)
			at = at[length] ? at + length + 1 : NULL;
	}
	return -ENOENT;
}

int notify_socket_count(void)
{
	return notify.n_sockets;
}

static int export_number(const char *variable, uint64_t number)
{
	char value[32];
	(void)snprintf(value, sizeof value, "%llu", (unsigned long long)number);
	return setenv(variable, value, 1) < 0 ? -errno : 0;
}

static int export_passed(void)
{
	int error = export_number("LISTEN_FDS", (uint64_t)notify.n_sockets);
	if (!error)
		error = export_number("LISTEN_PID", (uint64_t)getpid());
	if (!error && notify.names && setenv("LISTEN_FDNAMES", notify.names, 1) < 0)
		error = -errno;
	for (int i = 0; !error && i < notify.n_sockets; i++)
		if (fcntl(FIRST_PASSED_FD + i, F_SETFD, 0) < 0)
			error = -errno;
	return error;
}

int notify_export(void)
{
	char address[sizeof notify.target.sun_path + 1];
	int error = notify.n_sockets ? export_passed() : 0;
	if (!error && notify.watchdog_ns)
		error = export_number("WATCHDOG_USEC", 2 * notify.watchdog_ns / NS_PER_US);
	if (error || !notify.length)
		return error;
	size_t length = notify.length - offsetof(struct sockaddr_un, sun_path);
	memcpy(address, notify.target.sun_path, length);
	address[length] = '\0';
	if (!address[0])
		address[0] = '@';
	return setenv("NOTIFY_SOCKET", address, 1) < 0 ? -errno : 0;
}

void notify_release_in_child(void)
{
	if (notify.length)
		close(notify.fd);
	notify.length = 0;
	for (int i = 0; i < notify.n_sockets; i++)
		close(FIRST_PASSED_FD + i);
	notify.n_sockets = 0;
}
