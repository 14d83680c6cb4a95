/* The half of conn.h that works by completion, for conn.c. */
#ifndef AEGIS_NET_CONN_RING_H
#define AEGIS_NET_CONN_RING_H

#include "net/conn.h"

must_check int conns_ring_init(struct conns *conns);
void conns_ring_fini(struct conns *conns);
void conn_ring_init(struct conn *conn);
void conn_ring_connect(struct conn *conn, const struct addr *addr);
void conn_ring_close(struct conn *conn);
void conn_free(struct conn *conn);

#endif
