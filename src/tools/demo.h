/* aegis-demo: small servers to try Aegis with, and the backend of its tests.
 *
 * Process: one, with one event loop; everything hangs off struct demo.
 * Owner:   struct demo owns its listeners and connections. A connection is one heap object of the size its service asks for,
 *          made at accept and gone at close; bytes pass through one shared scratch buffer, so that an idle one holds none.
 * Service: what a listener does with a connection. run() is called when the connection was made and at every event; it does
 *          some work, says what it waits for (conn_wait) and returns, or calls conn_close() as its last act.
 */
#ifndef AEGIS_TOOLS_DEMO_H
#define AEGIS_TOOLS_DEMO_H

#include <stdbool.h>

#include "base/addr.h"
#include "os/loop.h"
#include "tools/pattern.h"

enum { DEMO_NAME_SIZE = 64, DEMO_SCRATCH_BYTES = 65536 };
/* How many rounds of work a connection does before others get their turn. */
enum { DEMO_ROUNDS = 8 };

struct demo_listener;
struct udp_echo;
struct conn;

struct demo {
	struct loop *loop;
	char name[DEMO_NAME_SIZE];
	bool healthy;
	struct loop_io signals;
	int signals_fd;
	struct demo_listener *listeners;
	struct udp_echo *udp_echoes;
	struct conn *conns;
	struct pattern pattern;
	unsigned char scratch[DEMO_SCRATCH_BYTES];
};

struct service {
	char option;
	const char *name;
	size_t conn_bytes;
	void (*run)(struct conn *conn);
	void (*fini)(struct conn *conn); /* NULL = nothing to give back */
	const char *greeting;            /* sent first, before a ' ', the demo's name and " ready\r\n"; NULL = none */
};

struct conn {
	struct loop_io io;
	struct loop_timer timer;
	struct demo *demo;
	const struct service *service;
	struct conn *next;
	struct conn **link; /* what points at this one */
	int fd;
	struct addr peer;
};

/* The services by option; NULL where there is none. */
const struct service *service_http(void);
const struct service *service_stream(char option);

/* Events to be woken for. */
void conn_wait(struct conn *conn, int events);
/* Close, give back, forget. With reset the peer gets RST. */
void conn_close(struct conn *conn, bool reset);
/* Read into the buffer: bytes, 0 at the end of input, or a negative errno (-EAGAIN: nothing now). */
must_check ssize_t conn_read(struct conn *conn, void *bytes, size_t size);
/* Send at once what the kernel takes. Bytes, or a negative errno. */
must_check ssize_t conn_send(struct conn *conn, struct iovec *iov, int n);
must_check ssize_t conn_send_bytes(struct conn *conn, const void *bytes, size_t size);

/* Bind the address and serve it. Prints "SERVICE ADDRESS" to stdout. 0, or a negative errno after one line on stderr. */
must_check int demo_listen(struct demo *demo, const struct service *service, const char *address);
must_check int demo_udp(struct demo *demo, const char *address);
/* Parse, make a socket of the type and bind it, unix:/path too (replacing a dead socket). The descriptor and *bound as bound, or a
 * negative errno after one line on stderr. */
must_check int demo_bind(const char *address, int type, struct addr *bound);
/* Close all that demo_listen() and demo_udp() opened, and every connection. */
void demo_close_all(struct demo *demo);
void demo_udp_close_all(struct demo *demo);

#endif
