/* Tell a server who the client is: the header of the PROXY protocol that goes before all else, of upstreams with send_proxy.
 *
 * Process: a worker.
 * Source:      the client, as the session knows it. Destination: the address that it asked; what another proxy told of it, where one did.
 * Besides:     version 2 passes on the TLVs of another proxy, and has what is known here: the host that is asked for (authority), also
 * where the client's hello was only read; ALPN and TLS of a connection that is secured here, in place of what another proxy says of them; a
 * unique id and a traceparent where they are wanted and none was told.
 *
 * It is sent in a step of its own, right after the connect: the server may speak first, and a handshake with the server comes behind it.
 */
#ifndef AEGIS_TCP_INTRODUCE_H
#define AEGIS_TCP_INTRODUCE_H

#include "proto/proxy_read.h"
#include "tcp/steps.h"

enum { INTRODUCTION_TLVS_MOST = 1280 };

/* What another proxy told; from the session's header until its server was told. From a slab of struct tcp. */
struct introduction {
	struct addr source, destination;
	uint16_t tlvs_length;
	uint8_t tlvs[INTRODUCTION_TLVS_MOST];
};

/* Do any settings need one? */
bool introduction_is_wanted(const struct config *config);
/* Keep what a header told, where somebody may be told of it. TLVs beyond the room are left out. 0 or -ENOMEM. */
must_check int introduction_keep(struct session *session, const struct proxy_header *header);
/* It relays, or ends: nobody else is to be told. */
void introduction_drop(struct session *session);

/* The step. */
must_check enum step_result introduce(struct session *session);

#endif
