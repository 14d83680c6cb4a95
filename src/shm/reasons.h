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
	X(PROXY_UNTRUSTED, "proxy_untrusted", REJECTED, "not one of the proxies that accept_proxy.from names")                      \
	X(PROXY_HEADER, "proxy_header", REJECTED, "no header of the PROXY protocol, or one that is wrong")                          \
	X(PROXY_TIMEOUT, "proxy_timeout", ERROR, "no whole header of the PROXY protocol within accept_proxy.timeout")               \
	X(PROXY_LEFT, "proxy_left", DONE, "a proxy that left without a byte: most likely it looked if the port is open")            \
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
	X(CHALLENGE_ANSWERED, "challenge_answered", DONE, "an ACME authority got the answer to its challenge (acme.challenges)")    \
	X(CHALLENGE_TIMEOUT, "challenge_timeout", ERROR, "asked for the answer to a challenge, but not to the end in acme.timeout") \
	X(BAD_CHALLENGE, "bad_challenge", REJECTED, "asked for the answer to a challenge with a head of over 8 kB, or without end") \
	X(NO_CHALLENGE, "no_challenge", REJECTED, "asked for no challenge, where nothing else is answered (acme.only)")             \
	X(CHALLENGE_LOST, "challenge_lost", ERROR, "the file with the answer to a challenge was changed while it was asked for")    \
	X(HELLO_TIMEOUT, "hello_timeout", ERROR, "no complete ClientHello within client_hello.timeout of the listener")             \
	X(HELLO_TOO_LARGE, "hello_too_large", REJECTED, "a ClientHello longer than client_hello.max of the listener")               \
	X(BAD_HELLO, "bad_hello", REJECTED, "a ClientHello that is malformed, or asks for what is no name of a host")               \
	X(NO_ROUTE, "no_route", REJECTED, "no route for the name that the client asks for, and no upstream for the others")         \
	X(CLIENT_LEFT, "client_left", DONE, "the client left before it had said where it wanted to go")                             \
	X(SERVER_NO_TLS, "server_no_tls", ERROR, "the server declined TLS, which the client asked for (PostgreSQL)")                \
	X(NOT_TLS, "not_tls", ERROR, "what the client sent is no TLS")                                                              \
	X(TLS_MISMATCH, "tls_mismatch", ERROR, "no version, cipher or protocol (ALPN) of TLS in common with the client")            \
	X(CLIENT_CERTIFICATE, "client_certificate", ERROR, "the client's certificate is missing, expired, revoked or not trusted")  \
	X(CLIENT_ALERT, "client_alert", ERROR, "the client refused the TLS handshake with an alert")                                \
	X(HANDSHAKE_LEFT, "handshake_left", DONE, "the client ended the connection before its TLS handshake was over")              \
	X(HANDSHAKE_TIMEOUT, "handshake_timeout", ERROR, "no TLS handshake with the client within tls.timeout")                     \
	X(CLIENT_TLS_ERROR, "client_tls_error", ERROR, "the client broke the rules of TLS, or its bytes were changed on the way")   \
	X(SERVER_TLS_ERROR, "server_tls_error", ERROR, "the server broke the rules of TLS, or its bytes were changed on the way")   \
	X(CLIENT_CUT_OFF, "client_cut_off", ERROR, "the client's TLS stream ended without a close_notify, as if cut off")           \
	X(SERVER_CUT_OFF, "server_cut_off", ERROR, "the server's TLS stream ended without a close_notify, as if cut off")           \
	X(SERVER_HANDSHAKE, "server_handshake", ERROR, "no TLS handshake with any server, the last one failed")                     \
	X(SERVER_HANDSHAKE_TIMEOUT, "server_handshake_timeout", ERROR, "no TLS handshake with any server within timeout.connect")   \
	X(SERVER_CERTIFICATE, "server_certificate", ERROR, "the certificate of the server does not hold")                           \
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
/* The same in words. */
const char *reason_connect_words(int error);
/* It was for want of an address of ours to come from, and says nothing of the server. */
bool reason_is_of_source(int error);

/* The name in metrics and logs, the sentence for people, the class. */
const char *reason_name(enum reason reason);
const char *reason_text(enum reason reason);
enum reason_class reason_class(enum reason reason);

#endif
