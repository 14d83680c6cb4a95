/* What the tests of the resolver stand on: a DNS server in a child process (tests/functional/dns_server.py), a loop, and what was told of
 * each name. */
#ifndef AEGIS_TESTS_CONTROL_NAMES_H
#define AEGIS_TESTS_CONTROL_NAMES_H

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/resolver.h"
#include "os/loop.h"

/* --- the server ------------------------------------------------------------------------------------------------------------ */

struct dns {
	pid_t pid;
	FILE *to, *from;
	int port;
};

static inline void dns_fail(const char *what)
{
	fprintf(stderr, "dns_server.py: %s\n", what);
	abort();
}

static inline void dns_line(struct dns *dns, char *line, size_t size)
{
	if (!fgets(line, (int)size, dns->from))
		dns_fail("ended");
	line[strcspn(line, "\n")] = '\0';
}

/* port 0 = any */
static inline void dns_start(struct dns *dns, const char *address, int port)
{
	int in[2], out[2];
	char script[1024], number[16], line[64];
	const char *source = getenv("AEGIS_SRCDIR");
	snprintf(script, sizeof script, "%s/tests/functional/dns_server.py", source ? source : ".");
	snprintf(number, sizeof number, "%d", port);
	if (pipe(in) < 0 || pipe(out) < 0)
		dns_fail("no pipe");
	dns->pid = fork();
	if (dns->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		for (int fd = STDERR_FILENO + 1; fd < 256; fd++)
			close(fd);
		execlp("python3", "python3", "-B", script, address, number, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	dns->to = fdopen(in[1], "w");
	dns->from = fdopen(out[0], "r");
	dns_line(dns, line, sizeof line);
	dns->port = atoi(line);
}

static inline void dns_stop(struct dns *dns)
{
	kill(dns->pid, SIGKILL);
	waitpid(dns->pid, NULL, 0);
	fclose(dns->to);
	fclose(dns->from);
}

/* Say a line to it and hear its answer: "answer db.test A 1 192.0.2.1", see dns_server.py. */
static inline long printf_like(2, 3) dns_say(struct dns *dns, const char *format, ...)
{
	char line[64];
	va_list args;
	va_start(args, format);
	vfprintf(dns->to, format, args);
	va_end(args);
	fputc('\n', dns->to);
	fflush(dns->to);
	dns_line(dns, line, sizeof line);
	return strcmp(line, "ok") == 0 ? 0 : atol(line);
}

/* --- the resolver and who listens to it ------------------------------------------------------------------------------------ */

struct seen {
	struct watch *watch;
	int calls;
	size_t n;
	struct addr addrs[16];
};

static struct loop *loop;
static struct resolver *resolver;

static inline void on_changed(void *owner, const struct addr *addrs, size_t n)
{
	struct seen *seen = owner;
	seen->calls++;
	seen->n = n;
	memcpy(seen->addrs, addrs, n * sizeof *addrs);
	loop_stop(loop);
}

static inline void on_tick(struct loop_timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

/* Let the loop run until something was told, or for a moment. */
static inline void turn(void)
{
	struct loop_timer tick;
	loop_timer_init(&tick, on_tick);
	loop_timer_start(loop, &tick, 3 * NS_PER_MS);
	loop_run(loop);
	loop_timer_stop(loop, &tick);
}

#define wait_for(condition)                                                  \
	do {                                                                 \
		uint64_t end_ns = clock_now_ns() + 30 * NS_PER_S;            \
		while (!(condition)) {                                       \
			if (clock_now_ns() > end_ns)                         \
				fail_msg("not within 30 s: %s", #condition); \
			turn();                                              \
		}                                                            \
	} while (0)

/* "192.0.2.1:80 [2001:db8::1]:80" */
static inline const char *list(const struct addr *addrs, size_t n)
{
	static char line[2048];
	char one[ADDR_TEXT_SIZE];
	line[0] = '\0';
	for (size_t i = 0; i < n; i++)
		snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? " " : "", addr_format(&addrs[i], one, sizeof one));
	return line;
}

#define assert_told(seen, text) assert_string_equal(list((seen)->addrs, (seen)->n), text)

/* Watch a name with the addresses that are known from the start, like "192.0.2.1:80 [2001:db8::1]:80". */
static inline void watch(struct seen *seen, const char *name, uint16_t port, const char *known)
{
	char copy[1024];
	size_t n = 0;
	const char *why;
	*seen = (struct seen){ .calls = 0 };
	snprintf(copy, sizeof copy, "%s", known);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
		struct endpoint endpoint;
		if (endpoint_parse(word, &endpoint, &why))
			dns_fail(why);
		seen->addrs[n++] = endpoint.addr;
	}
	if (resolver_watch(resolver, seen, name, port, seen->addrs, n, &seen->watch))
		dns_fail("cannot watch");
}

static inline void forget(struct seen *seen)
{
	resolver_forget(resolver, seen->watch);
	seen->watch = NULL;
}

static inline struct resolver_stats stats(const struct seen *seen)
{
	return resolver_stats(seen->watch);
}

#endif
