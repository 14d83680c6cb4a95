/* What is known of a client besides its address: what it said before it got a server.
 *
 * Process: a worker. Owner: the session; from a slab of its own, since sessions of most listeners have none (visit.h).
 */
#ifndef AEGIS_HOUSE_CALLER_H
#define AEGIS_HOUSE_CALLER_H

#include <stdbool.h>
#include <stdint.h>

enum { CALLER_NAME_SIZE = 116 };

struct caller {
	uint64_t name_hash;          /* of the name of the server that it asked for, in full; 0 = it asked for none */
	char name[CALLER_NAME_SIZE]; /* the same, as much of it as there is room for: "" or the name of a host in lower case */
	bool ech : 1;                /* that name is the outer one, and the real one is encrypted */
	bool starttls : 1;           /* it asked for TLS in the protocol of PostgreSQL, which was granted */
	bool gss_declined : 1;
	bool passes : 1;         /* its TLS is for the server, although that of the listener's other clients ends here */
	bool told : 1;           /* why it is refused: not to be lost by a RST */
	uint32_t low_water : 20; /* its socket tells of no fewer bytes (SO_RCVLOWAT) */
};

#endif
