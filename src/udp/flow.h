/* One UDP session: a client and the address of ours that it talks to, and a connected socket to a server of its own.
 *
 * Process: a worker. Owner: struct udp (udp.h), from whose slab it comes.
 * Steps:   admit -> reserve -> choose -> connect -> relay, all of them at once, within the first datagram: connect(2) of a datagram socket
 * does not wait, so that nothing has to be kept for later, and nobody waits in line. Server:  a session whose server says that nobody is
 * there (ICMP) leaves it, and goes to another one with its next datagram, or with the one at hand: up to `retries` times, until a server
 * answers. Meanwhile it has none. Ends:    idle; all answers came (responses); as many datagrams as it may take came, and no answers are
 * awaited (requests); its server went down or was disabled; drain; kill. One that took its requests and awaits answers is no longer in the
 * table: the client's next datagram begins another one.
 */
#ifndef AEGIS_UDP_FLOW_H
#define AEGIS_UDP_FLOW_H

#include "base/wheel.h"
#include "house/visit.h"
#include "os/loop.h"
#include "udp/flow_table.h"

struct transfer_found;
struct udp;
struct udp_socket;

struct flow {
	struct visit visit;
	struct loop_io io; /* of the socket to the server */
	struct wheel_entry timer;
	struct flow_key key;
	uint64_t hash; /* of the key, and of the listener */
	uint64_t cell; /* in shared memory, where other workers find it; 0 = nowhere */
	struct udp *udp;
	struct udp_socket *socket; /* that its client sends to */
	uint64_t active_ns;        /* the last datagram either way */
	uint64_t first_byte_ns;    /* when the server's first one came; 0 = not yet */
	uint64_t datagrams[2];     /* by direction */
	struct breaker_pass pass;
	uint16_t tried[CONFIG_MAX_RETRIES + 1];
	uint32_t had; /* which server it was with, in another worker, and is with; 0 = it is not */
	int fd;       /* to the server; -1 = it has none */
	bool in_table : 1;
	bool unasked : 1;    /* nothing was sent to the server since it was read from last */
	bool unsplit : 1;    /* the kernel does not split what goes to the server */
	bool gro : 1;        /* its socket has UDP_GRO */
	bool unproven : 1;   /* nothing was sent to this server before */
	bool introduces : 1; /* a header that says who the client is goes in front of the next datagram to the server */
	uint16_t port;       /* that it sends to the server from, where there are other workers */
	uint8_t burst;       /* how many parcels to read at once */
	uint8_t streak;      /* how often in a row that was the wrong number */
};

/* The session of a key, or NULL. */
struct flow *flow_find(const struct udp *udp, const struct flow_key *key, uint64_t hash);
/* May it go on with its client's next datagram? Or it is over, and another one begins. */
must_check bool flow_goes_on(struct flow *flow);
/* A new one; with the server that is known of it, where that may be had. NULL when it was refused, which is counted. */
must_check struct flow *flow_begin(struct udp *udp, struct udp_socket *socket, const struct sockaddr_in6 *peer, const struct flow_key *key,
        uint64_t hash, const struct transfer_found *found);
/* How many more datagrams it takes from its client. */
uint64_t flow_takes(const struct flow *flow);
/* Pass on what its client sent: so many datagrams in all, no more than it takes. The session may be over when this returns. */
void flow_send(struct flow *flow, const struct parcel *parcels, uint32_t n, uint32_t datagrams);
/* End it: it is gone. */
void flow_end(struct flow *flow, enum reason reason);
/* Its timer fired. */
void flow_due(struct flow *flow);

extern const struct visit_kind flow_kind;

#endif
