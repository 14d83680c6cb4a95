/* The counters and histograms, declared once: object, name, unit, help. From these rows come the shared layout, aegis-stat,
 * the JSON and the Prometheus text. To add one is a line here, an increment, a test.
 *
 * Every row of counters has one writer, the worker that holds the seat; readers add the rows up. They never go backwards:
 * a seat's next worker goes on where the last one stopped.
 */
#ifndef AEGIS_SHM_COUNTERS_H
#define AEGIS_SHM_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* X(field, metric name without "aegis_", help) */

/* per worker */
#define WORKER_COUNTERS(X)                                                                                                          \
	X(accepts, "worker_accepts_total", "Connections accepted by the worker")                                                    \
	X(accept_pauses, "worker_accept_pauses_total", "Times accepting was paused for want of descriptors, memory or room")        \
	X(turns, "worker_loop_turns_total", "Turns of the event loop")                                                              \
	X(buffer_exhausted, "worker_buffer_exhausted_total", "Times the buffer memory was used up and data was left in the kernel") \
	X(spliced_bytes, "worker_spliced_bytes_total", "Bytes moved by splice, without copying")                                    \
	X(pipe_exhausted, "worker_pipe_exhausted_total", "Times bulk was copied because no pipe for splice was free")               \
	X(log_drops, "log_dropped_total{log=\"error\"}", "Lines of the log that nobody took in time")                               \
	X(access_drops, "log_dropped_total{log=\"access\"}", "Records of the access log that nobody took in time")

/* Datagrams, of listeners with protocol = "udp": Y(X, direction, text). One that was received and not passed on is in one of the drops. */
#define UDP_DIRECTIONS(Y, X)                                 \
	Y(X, from_client, "Datagrams received from clients") \
	Y(X, to_server, "Datagrams passed on to servers")    \
	Y(X, from_server, "Datagrams received from servers") \
	Y(X, to_client, "Datagrams passed on to clients")
#define UDP_DIRECTION_COUNTER(X, name, text) X(udp_##name, "udp_datagrams_total{direction=\"" #name "\"}", text)

/* Datagrams that one worker read and another one has the session of, and what becomes of sessions: Y(X, field, metric, text). */
#define UDP_MOVES(Y, X)                                                                                                              \
	Y(X, handed_over, "udp_handed_over_total", "Datagrams handed over to the worker that has their session")                     \
	Y(X, taken_over, "udp_taken_over_total", "Datagrams taken in from workers that read them")                                   \
	Y(X, recovered, "udp_sessions_recovered_total",                                                                              \
	        "UDP sessions of a worker that died which went on with their server in another one")                                 \
	Y(X, unlisted, "udp_sessions_unlisted_total",                                                                                \
	        "UDP sessions that no other worker finds: no place was free in the list of all, or a younger worker is there")       \
	Y(X, unanswered, "udp_datagrams_unanswered_total",                                                                           \
	        "Datagrams passed on by a worker that was killed, which no answer had come for: answers under way are lost with it") \
	Y(X, returned, "udp_datagrams_returned_total",                                                                               \
	        "Datagrams that were passed on, and are gone as a router or a server's machine says: each is one of the drops, too")
#define UDP_MOVE_COUNTER(X, field, name, text) X(udp_##field, name, text)

/* Why a datagram was not passed on: Y(X, field, name, text). The queues are the kernel's: what is dropped there was never received. */
#define UDP_DROPS(Y, X)                                                                                                                   \
	Y(X, refused, "refused", "Datagrams whose session was refused, which is counted with its reason")                                 \
	Y(X, table_full, "table_full", "Datagrams that would have begun a session where a worker has no room for more")                   \
	Y(X, stopping, "stopping", "Datagrams that would have begun a session while Aegis stops")                                         \
	Y(X, unreachable, "unreachable", "Datagrams for which there is no way to where they go, or that the kernel does not let through") \
	Y(X, too_large, "too_large", "Datagrams larger than the way takes")                                                               \
	Y(X, send_full, "send_queue_full", "Datagrams for which the kernel had no room when they were sent")                              \
	Y(X, worker_died, "worker_died", "Datagrams that a worker had in hand when it was killed")                                        \
	Y(X, hand_over, "hand_over_full", "Datagrams for which the worker with their session had no room")                                \
	Y(X, client_queue, "client_queue_full", "Datagrams of clients that came faster than they were read (udp.receive_buffer)")         \
	Y(X, server_queue, "server_queue_full", "Datagrams of servers that came faster than they were read (udp.buffer)")
#define UDP_DROP_COUNTER(X, field, name, text) X(udp_drop_##field, "udp_drops_total{reason=\"" name "\"}", text)

/* per listener and worker; the reasons of reasons.h are counted beside them */
#define LISTENER_COUNTERS(X)                                                                                               \
	X(connections, "connections_total", "Connections accepted")                                                        \
	X(received_bytes, "bytes_received_total", "Bytes received from clients")                                           \
	X(sent_bytes, "bytes_sent_total", "Bytes sent to clients")                                                         \
	X(retries, "connect_retries_total", "Further connect attempts after a failed one")                                 \
	X(queued, "queue_waits_total", "Clients that had to wait in line for a place at a server")                         \
	X(handshakes, "tls_handshakes_total{resumed=\"no\"}", "TLS handshakes with clients that succeeded")                \
	X(handshakes_resumed, "tls_handshakes_total{resumed=\"yes\"}", "TLS handshakes with clients that succeeded")       \
	X(by_kernel, "tls_by_kernel_total", "Connections of clients for which the kernel took over the encryption (kTLS)") \
	UDP_DIRECTIONS(UDP_DIRECTION_COUNTER, X)                                                                           \
	UDP_MOVES(UDP_MOVE_COUNTER, X)                                                                                     \
	UDP_DROPS(UDP_DROP_COUNTER, X)

/* per server and worker */
#define SERVER_COUNTERS(X)                                                                                                           \
	X(connections, "server_connections_total", "Connections established to the server")                                          \
	X(failures, "server_failures_total", "Connect attempts to the server that failed")                                           \
	X(sent_bytes, "server_bytes_sent_total", "Bytes sent to the server")                                                         \
	X(received_bytes, "server_bytes_received_total", "Bytes received from the server")                                           \
	X(handshakes, "server_tls_handshakes_total{resumed=\"no\"}", "TLS handshakes with the server that succeeded")                \
	X(handshakes_resumed, "server_tls_handshakes_total{resumed=\"yes\"}", "TLS handshakes with the server that succeeded")       \
	X(by_kernel, "server_tls_by_kernel_total", "Connections to the server for which the kernel took over the encryption (kTLS)") \
	X(pool_hits, "pool_hits_total", "Clients that got a connection that was ready")                                              \
	X(pool_misses, "pool_misses_total", "Clients for which none was ready, where there is a pool")                               \
	X(pool_kept, "pool_kept_total", "Connections kept for another client")                                                       \
	X(pool_pinned, "pool_pinned_total",                                                                                          \
	        "Connections that could not be kept: the client left state in them, or they could not be followed")                  \
	X(pool_stale, "pool_stale_total", "Ready connections that the server closed or spoiled before a client came")                \
	X(pool_stale_retries, "pool_stale_retries_total",                                                                            \
	        "Ready connections that failed at first use and were replaced without the client noticing")

/* gauges per server and worker: set by the worker, cleared when it died */
#define SERVER_GAUGES(X) X(hot, "server_connections_hot", "Connections to the server that are ready for a client")

/* histograms per listener and worker, of nanoseconds */
#define LISTENER_HISTOGRAMS(X)                                                                    \
	X(connect, "connect_seconds", "Time to connect to a server, retries included")            \
	X(first_byte, "first_byte_seconds", "Time from accept to the first byte from the server") \
	X(duration, "connection_seconds", "Time from accept to close")

/* whole instance, written by the master */
#define MASTER_COUNTERS(X)                                                                                                 \
	X(reloads_ok, "reloads_total{result=\"ok\"}", "Reloads that took effect")                                          \
	X(reloads_failed, "reloads_total{result=\"failed\"}", "Reloads that were refused; the running settings stayed")    \
	X(upgrades_ok, "upgrades_total{result=\"ok\"}", "Upgrades of the program that took effect")                        \
	X(upgrades_failed, "upgrades_total{result=\"failed\"}", "Upgrades that were given up; the running program stayed") \
	X(worker_restarts, "worker_restarts_total", "Workers replaced after they died")                                    \
	X(control_restarts, "control_restarts_total", "Control processes replaced after they died")                        \
	X(certificates_ok, "certificate_reloads_total{result=\"ok\"}",                                                     \
	        "Certificates that changed and were taken over by the workers that run")                                   \
	X(certificates_failed, "certificate_reloads_total{result=\"failed\"}",                                             \
	        "Certificates that changed and were refused; the old ones stayed")

typedef _Atomic uint64_t counter_t;

/* Add n. Only the one writer may call it: a plain load and store, no lock prefix. */
static inline void counter_add(counter_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* The same for a gauge that falls. */
static inline void gauge_subtract(counter_t *gauge, uint64_t n)
{
	atomic_store_explicit(gauge, atomic_load_explicit(gauge, memory_order_relaxed) - n, memory_order_relaxed);
}

static inline uint64_t counter_get(const counter_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
