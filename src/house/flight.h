/* What a session writes into the flight recorder of its worker (shm/recorder.h): a record for each step that tells why it went as it did.
 *
 * Process: a worker. Nothing is kept in the session for it. Where the recorder is off each of these is one test. Times are those of the
 * turn of the loop.
 */
#ifndef AEGIS_HOUSE_FLIGHT_H
#define AEGIS_HOUSE_FLIGHT_H

#include "house/house.h"

/* The worker begins, before the first session. */
void flight_begin(struct house *house, uint32_t generation, uint64_t bytes);

void flight_accepted(const struct visit *visit);
/* A proxy told who the client is; known: it speaks for somebody else. */
void flight_introduced(const struct visit *visit, int version, bool known);
/* Refused at the door, or for a limit of connections. */
void flight_refused(const struct visit *visit, enum reason reason);
/* Its caller is known, and with it its upstream; found: by a route. */
void flight_routed(const struct visit *visit, bool found);
/* It has a server; or got none for now, or for good. */
void flight_chosen(const struct visit *visit);
void flight_not_chosen(const struct visit *visit, enum record_want want);
void flight_in_line(const struct visit *visit);
void flight_connected(const struct visit *visit);
/* addr is where to, NULL where the server has no address. last: it is not tried again. */
void flight_connect_failed(const struct visit *visit, const struct addr *addr, int error, bool last);
/* Its connection out of the pool turned out to be dead, and is replaced. */
void flight_stale(const struct visit *visit);
void flight_first_byte(const struct visit *visit);
void flight_closed(const struct visit *visit, enum reason reason);

#endif
