/* Who the client is, told by another proxy: the step that reads the header of the PROXY protocol of a listener with accept_proxy.
 *
 * Process: a worker.
 * The header is looked at in the kernel (MSG_PEEK) until it is whole, and then taken out exactly: what stands behind it stays for whoever
 * reads next, a handshake or the relay, with either engine. From then on the client that it tells of is the client: for the lists and rates
 * of the door, the choice of a server, logs and the recorder. One that speaks for nobody leaves the proxy itself as the client.
 *
 * A peer that is not believed has none read. Where headers are not required it is a client itself, and one that is believed may leave it
 * out; else both are refused. A connection waits for its header with its place in max_connections.
 */
#ifndef AEGIS_TCP_PROXIED_H
#define AEGIS_TCP_PROXIED_H

#include "policy/access.h"
#include "tcp/steps.h"

struct introduction;

/* Of a listener: the peers that are believed; *out is NULL where it takes no headers, or its peers have no addresses. 0 or a negative
 * errno. */
must_check int proxied_peers(const struct listener_config *config, struct access **out);
/* Look at the peer: is it one that tells of the client (visit->proxied)? False when it may not come in. */
must_check bool proxied_admit(struct session *session);

/* The step, for who is to tell; it admits the client, too. */
must_check enum step_result proxied_begin(struct session *session);
uint64_t proxied_deadline(const struct session *session);
void proxied_overdue(struct session *session);

#endif
