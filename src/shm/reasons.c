#include "shm/reasons.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/attr.h"

static const struct {
	const char *name;
	const char *text;
	enum reason_class class;
} rows[] = {
#define X(id, name, class, text) [REASON_##id] = { name, text, REASON_##class },
	REASONS(X)
#undef X
};
static_assert(ARRAY_LEN(rows) == N_REASONS, "one row per reason");

const char *reason_name(enum reason reason)
{
	return reason < N_REASONS ? rows[reason].name : "unknown";
}

const char *reason_text(enum reason reason)
{
	return reason < N_REASONS ? rows[reason].text : "unknown";
}

enum reason_class reason_class(enum reason reason)
{
	return reason < N_REASONS ? rows[reason].class : REASON_ERROR;
}

enum closer reason_closer(enum reason reason, bool server_first)
{
	switch (reason) {
	case REASON_FINISHED:
		return server_first ? CLOSER_SERVER : CLOSER_CLIENT;
	case REASON_CLIENT_RESET:
	case REASON_CLIENT_LOST:
	case REASON_CLIENT_GAVE_UP:
	case REASON_CLIENT_LEFT:
	case REASON_PROXY_LEFT:
	case REASON_CLIENT_ALERT:
	case REASON_CLIENT_CUT_OFF:
	case REASON_HANDSHAKE_LEFT:
		return CLOSER_CLIENT;
	case REASON_SERVER_RESET:
	case REASON_SERVER_LOST:
	case REASON_SERVER_CUT_OFF:
		return CLOSER_SERVER;
	default:
		return reason_class(reason) == REASON_OPERATOR ? CLOSER_OPERATOR : CLOSER_AEGIS;
	}
}

const char *closer_name(enum closer closer)
{
	static const char *const names[] = {
#define X(id, name) [CLOSER_##id] = name,
		CLOSERS(X)
#undef X
	};
	return closer < N_CLOSERS ? names[closer] : "unknown";
}

enum reason reason_of_connect(int error)
{
	switch (error) {
	case ECONNREFUSED:
	case ECONNRESET:
	case ENOENT: /* a unix socket that is not there, */
	case EAGAIN: /* or whose backlog is full */
		return REASON_CONNECT_REFUSED;
	case ETIMEDOUT:
		return REASON_CONNECT_TIMEOUT;
	case EPROTO:
		return REASON_SERVER_HANDSHAKE;
	case ETIME:
		return REASON_SERVER_HANDSHAKE_TIMEOUT;
	case EKEYREJECTED:
		return REASON_SERVER_CERTIFICATE;
	case ENOPROTOOPT: /* it has connected, and not what the client needs */
		return REASON_SERVER_NO_TLS;
	case EADDRNOTAVAIL:
		return REASON_NO_PORTS;
	case EMFILE:
	case ENFILE:
		return REASON_NO_DESCRIPTORS;
	case ENOMEM:
	case ENOBUFS:
		return REASON_NO_MEMORY;
	default:
		return REASON_CONNECT_FAILED;
	}
}

bool reason_is_of_source(int error)
{
	return error == EPROTOTYPE || error == ENONET;
}

const char *reason_connect_words(int error)
{
	switch (error) {
	case ENOPROTOOPT:
		return "it declined TLS";
	case EPROTOTYPE:
		return "what source names has no address of the same family, IPv4 or IPv6";
	case ENONET:
		return "the address that source names is not one of this machine";
	default:
		return strerror(error);
	}
}
