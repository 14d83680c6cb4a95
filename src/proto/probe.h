/* What a health check says to a server, and what it makes of the answer.
 *
 * Process: control. Pure: bytes in, bytes out, a verdict; no socket, no clock, no allocation.
 * States:  probe_begin(), when connected; then probe_feed() with what comes and probe_output() for what goes, in any order, until the
 *          verdict is GOOD or BAD, which is for ever. After GOOD there may still be output: a farewell, so that the server does not log
 *          a client that broke off.
 *
 * A verdict depends on the bytes alone, never on how they were split, and is made from the first PROBE_KEPT_MAX of them at most.
 *
 *   tcp       Being connected is enough. With `expect`, that text must come within the first 4 kB. `send` is sent first.
 *   redis     PING. "+PONG" is good, and so is an error that only says who we are not (NOAUTH, NOPERM). Every other error is bad: the
 *             server loads its data (LOADING), has lost its master (MASTERDOWN), is full (ERR max number of clients), cannot write
 *             (MISCONF).
 *   postgres  A startup message, as pg_isready sends it. No SSLRequest: that one is answered by servers that start up, shut down or
 *             recover, too, and ends with a line in the server's log. Being asked for a password, being let in, or an error about who
 *             we are is good; an error of the classes 53 (no place left), 57 (shutting down, starting up, in recovery), 58 and XX is bad.
 *             A standby that takes connections is good.
 *   mysql     The greeting of protocol 10, and then the answer to a login. An error instead of the greeting is bad (too many
 *             connections, host blocked, host not allowed). A refused login is good, unless the server says that it is full or shutting
 *             down. The login is there for the server's sake: it takes clients that leave after its greeting for faulty and blocks their
 *             host after max_connect_errors (100) of them, and with it the clients behind the proxy. A refused login is not counted.
 *   http      The status of the answer to `send`, which is the request, is one of `statuses`. For servers that are reached by TLS as
 *             sessions are; others are asked by control/probe_http.c.
 *   udp       Not here: control/probe_datagram.c.
 *   https     Not here: control/probe_http.c, with libcurl.
 *
 * The database kinds log in as `user` (default "aegis") without a password. The user need not be there; where it is, without rights and
 * without a password, the server has no refused logins to log.
 */
#ifndef AEGIS_PROTO_PROBE_H
#define AEGIS_PROTO_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/status_set.h"

#define PROBE_KINDS(X) \
	X(TCP, "tcp") X(HTTP, "http") X(HTTPS, "https") X(UDP, "udp") X(REDIS, "redis") X(POSTGRES, "postgres") X(MYSQL, "mysql")

#define PROBE_KIND(identifier, name) PROBE_##identifier,
enum probe_kind { PROBE_KINDS(PROBE_KIND) PROBE_KIND_COUNT };
#undef PROBE_KIND

enum probe_verdict { PROBE_NEED_MORE, PROBE_GOOD, PROBE_BAD };

enum {
	PROBE_KEPT_MAX = 4096,   /* bytes of the answer that are looked at */
	PROBE_TEXT_MAX = 1024,   /* bytes of `send` and `expect` */
	PROBE_USER_MAX = 63,     /* bytes; what PostgreSQL takes */
	PROBE_REASON_SIZE = 160, /* for any reason */
	PROBE_MESSAGE_SIZE = 256 /* all that is ever said but `send` */
};

struct probe_rules {
	enum probe_kind kind;
	const char *send;                  /* tcp, udp; NULL or "" = nothing. http: the request, as probe_http_request() has it */
	const char *expect;                /* the same */
	size_t send_count;                 /* bytes of send; 0 = as many as it has before its NUL */
	size_t expect_count;               /* the same of expect */
	const struct status_set *statuses; /* http: what is good */
	const char *user;                  /* postgres, mysql; NULL or "" = "aegis" */
	bool silent;                       /* udp: the server does not answer */
	uint8_t introduced; /* begin with a header of the PROXY protocol of this version, which speaks for nobody; 0 = without */
};

size_t probe_send_count(const struct probe_rules *rules);
size_t probe_expect_count(const struct probe_rules *rules);

struct probe {
	const struct probe_rules *rules; /* the caller's, for as long as the probe */
	enum probe_verdict verdict;
	unsigned step;
	size_t kept;
	size_t read; /* of what is kept: what was understood */
	size_t message_length;
	size_t sent;
	uint32_t status; /* http: of the answer; 0 = none came */
	char reason[PROBE_REASON_SIZE];
	char message[PROBE_MESSAGE_SIZE];
	char bytes[PROBE_KEPT_MAX];
};

/* "tcp", "redis", ... */
const char *probe_kind_name(enum probe_kind kind);

/* 0, or -EINVAL with *why the rest of a sentence for the user. */
must_check int probe_rules_check(const struct probe_rules *rules, const char **why);

/* A request for http. Returns its length, or 0 where it does not fit. */
must_check size_t probe_http_request(const char *path, const char *host, char *out, size_t size);

/* Connected; the rules are such as probe_rules_check() takes, of any kind but https and udp; of http with send and statuses. */
must_check enum probe_verdict probe_begin(struct probe *probe, const struct probe_rules *rules);
must_check enum probe_verdict probe_feed(struct probe *probe, const void *bytes, size_t count);
/* The server has ended its side: never PROBE_NEED_MORE. */
must_check enum probe_verdict probe_end(struct probe *probe);

/* What is to be sent now: how many bytes, and where they are. */
must_check size_t probe_output(const struct probe *probe, const char **bytes);
void probe_sent(struct probe *probe, size_t count);

/* Why the verdict is what it is; while there is none, what is waited for. Printable. */
static inline const char *probe_reason(const struct probe *probe)
{
	return probe->reason;
}

#endif
