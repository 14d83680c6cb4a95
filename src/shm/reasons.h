/* Why a connection ended: one row per reason. It declares the counter, what the log prints and whose doing it was.
 *
 * Class:  DONE     an ordinary end
 *         REJECTED turned away before any server was asked
 *         ERROR    something failed
 *         OPERATOR ended because someone asked Aegis to (drain, stop, kill)
 */
#ifndef AEGIS_SHM_REASONS_H
#define AEGIS_SHM_REASONS_H

#include <stdbool.h>

enum reason_class { REASON_DONE, REASON_REJECTED, REASON_ERROR, REASON_OPERATOR };

#define REASONS(X)                                                                                                                  \
	X(FINISHED, "finished", DONE, "both sides closed")                                                                          \
	X(CLIENT_RESET, "client_reset", ERROR, "the client reset the connection")                                                   \
	X(SERVER_RESET, "server_reset", ERROR, "the server reset the connection")                                                   \
	X(IDLE_TIMEOUT, "idle_timeout", DONE, "no byte either way for timeout.idle")                                                \
	X(LIFETIME, "lifetime", DONE, "older than timeout.lifetime")                                                                \
	X(FIRST_BYTE_TIMEOUT, "first_byte_timeout", ERROR, "the client sent nothing for timeout.first_byte")                        \
	X(READ_TIMEOUT, "read_timeout", ERROR, "the server did not answer for the upstream's timeout.read")                         \
	X(CLIENT_LOST, "client_lost", ERROR, "the client answers no more (keepalive or user_timeout)")                              \
	X(SERVER_LOST, "server_lost", ERROR, "the server answers no more (keepalive or user_timeout)")                              \
	X(NO_SERVER, "no_server", ERROR, "no server is usable (disabled, down, ejected or its breaker open)")                       \
	X(CONNECT_REFUSED, "connect_refused", ERROR, "no server accepted the connection, the last one refused")                     \
	X(CONNECT_TIMEOUT, "connect_timeout", ERROR, "no server answered within the upstream's timeout.connect")                    \
	X(CONNECT_FAILED, "connect_failed", ERROR, "no server could be reached (no route, or another network error)")               \
	X(FULL, "full", REJECTED, "max_connections of all listeners together reached")                                              \
	X(LISTENER_FULL, "listener_full", REJECTED, "max_connections of the listener reached")                                      \
	X(DENIED, "denied", REJECTED, "not let in by allow and deny of the listener")                                               \
	X(RATE_LIMITED, "rate_limited", REJECTED, "more new connections than rate_limit of the listener allows")                    \
	X(SERVERS_FULL, "servers_full", REJECTED, "all usable servers are at their max_connections, and the upstream has no queue") \
	X(QUEUE_FULL, "queue_full", REJECTED, "all usable servers are full, and queue.size clients wait already")                   \
	X(QUEUE_TIMEOUT, "queue_timeout", REJECTED, "no place at a server within queue.timeout")                                    \
	X(CLIENT_GAVE_UP, "client_gave_up", DONE, "the client left while it waited for a place at a server")                        \
	X(TOO_SLOW, "too_slow", ERROR, "the client was slower than min_rate of the listener")                                       \
	X(CONNECT_RATE, "connect_rate", REJECTED, "connect_rate of the upstream allows no new session now, and UDP does not wait")  \
	X(ANSWERED, "answered", DONE, "UDP: all answers came (udp.responses)")                                                      \
	X(REQUESTS_REACHED, "requests_reached", DONE, "UDP: the client sent as many datagrams as a session takes (udp.requests)")   \
	X(SERVER_DISABLED, "server_disabled", OPERATOR, "UDP: its server was disabled; the client goes on with another one")        \
	X(LISTENER_CLOSED, "listener_closed", OPERATOR, "UDP: its port is another listener's now, or the master is gone")           \
	X(SERVER_DOWN, "server_down", ERROR, "its server went down (on_down = \"close\")")                                          \
	X(NO_MEMORY, "no_memory", ERROR, "out of memory in Aegis or in the kernel")                                                 \
	X(NO_DESCRIPTORS, "no_descriptors", ERROR, "out of file descriptors")                                                       \
	X(NO_PORTS, "no_ports", ERROR, "out of local ports towards the server")                                                     \
	X(DRAIN_PACED, "drain_paced", OPERATOR, "idle connection closed while draining (drain.pace)")                               \
	X(DRAIN_TIMEOUT, "drain_timeout", OPERATOR, "still open when drain.timeout was over")                                       \
	X(KILLED, "killed", OPERATOR, "ended by the operator (aegisctl kill)")                                                      \
	X(WORKER_DIED, "worker_died", ERROR, "its worker died")                                                                     \
	X(INTERNAL, "internal", ERROR, "an error that Aegis did not expect; please report it")

enum reason {
#define X(id, name, class, text) REASON_##id,
	REASONS(X)
#undef X
	        N_REASONS
};

/* Who closed a connection, as far as its reason tells. */
#define CLOSERS(X)          \
	X(CLIENT, "client") \
	X(SERVER, "server") \
	X(AEGIS, "aegis")   \
	X(OPERATOR, "operator")

enum closer {
#define X(id, name) CLOSER_##id,
	CLOSERS(X)
#undef X
	        N_CLOSERS
};

/* server_first: of one that both sides ended, the server was the first to do so. */
enum closer reason_closer(enum reason reason, bool server_first);
const char *closer_name(enum closer closer);

/* Of a connection to a server that could not be made, with this errno. */
enum reason reason_of_connect(int error);

/* The name in metrics and logs, the sentence for people, the class. */
const char *reason_name(enum reason reason);
const char *reason_text(enum reason reason);
enum reason_class reason_class(enum reason reason);

#endif
