/* Which worker has which UDP session, and with which server: a table for all workers, of all generations and of the masters of an upgrade.
 *
 * It lies in a memfd of its own, and not in the segment: a new master whose segment has another layout goes on with it, too.
 *
 * A bounded table of cells of 16 bytes, four in a cache line. A cell belongs to the owner in its `holder`, who alone writes to it while he
 * lives: it is claimed by compare and swap of a holder that is nobody or dead, at first without a server, which says that the tag is not
 * written yet. So there is nothing to clean up after a killed worker: his cells say which server his clients had until somebody needs them.
 *
 * Of what is read here everything may be out of date at once: whoever is asked for a session that he has not must know what to do. A
 * session that is not found is as one that is new.
 *
 * An owner is a worker, under a number that no other one has: a place in the list of those that live, and how often places were given away.
 *
 * Beside it there is a list of the ports that sessions send to their servers from. What a dead worker's servers still answer comes to its
 * ports: whoever got one of them from the kernel would take that for answers of his own. So for FLOWS_PORT_S nobody is to use them.
 *
 * Writers: workers, each its own cells. Masters: the list of owners; a worker that finds an owner dead may say so, too. struct flows is
 * each process's own.
 */
#ifndef AEGIS_SHM_FLOWS_H
#define AEGIS_SHM_FLOWS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

enum {
	FLOWS_OWNERS = 4096, /* at a time */
	FLOWS_PORT_S = 30,   /* a port of a dead worker is left alone, from when somebody first got it */
	FLOWS_LOOK = 32      /* cells in which a session may be, from the line of its hash on */
};

struct flows_cell {
	_Atomic uint64_t tag;    /* the hash */
	_Atomic uint64_t holder; /* owner and server; 0 = free */
};

struct flows_shared {
	uint64_t magic;
	uint64_t n_lines; /* a power of two */
	uint64_t seed[2]; /* of the hashes: who does not know it cannot aim at a place */
	_Atomic uint32_t serial;
	_Alignas(CACHE_LINE_BYTES) _Atomic uint32_t owners[FLOWS_OWNERS];
	_Atomic uint64_t ports[65536]; /* owner and, when that was found dead, the second in which; 0 = free */
	struct flows_line {
		_Alignas(CACHE_LINE_BYTES) struct flows_cell cells[CACHE_LINE_BYTES / sizeof(struct flows_cell)];
	} lines[];
};

struct flows {
	struct flows_shared *shared; /* NULL: there is none */
	uint64_t line_mask;          /* our own copy: whoever can write to it must not lead others out of it */
	int fd;
};

/* Make one for so many sessions at a time (within bounds); memory costs something when it is touched. 0 or a negative errno. */
must_check int flows_new(struct flows *out, uint64_t sessions, const uint64_t seed[2]);
/* One that another master made; fd is the caller's still on failure. 0 or a negative errno (-EINVAL: it is none). */
must_check int flows_open(struct flows *out, int fd);
void flows_close(struct flows *flows);

/* One more owner: its number, or 0 when there is no room. */
must_check uint32_t flows_join(const struct flows *flows);
/* It is dead, or says that it has no sessions any more. */
void flows_leave(const struct flows *flows, uint32_t owner);
bool flows_lives(const struct flows *flows, uint32_t owner);

struct flows_found {
	uint32_t owner, server;
	bool lives; /* the owner */
};
/* Who has the session, or had it when it died. */
must_check bool flows_find(const struct flows *flows, uint64_t hash, struct flows_found *out);

/* The owner has the session, with the server (not 0). The number of its cell, or 0 when there is no room: then nobody finds it. */
must_check uint64_t flows_put(const struct flows *flows, uint64_t hash, uint32_t owner, uint32_t server);
/* It has another server; and it is over. Only by its owner, with what flows_put() gave (0: nothing is done). */
void flows_move(const struct flows *flows, uint64_t cell, uint32_t owner, uint32_t server);
void flows_drop(const struct flows *flows, uint64_t cell);

/* The owner got this port, in host order, for a session. False when it is to take another one. */
must_check bool flows_take_port(const struct flows *flows, uint16_t port, uint32_t owner, uint64_t now_ns);
/* It is done with it. */
void flows_leave_port(const struct flows *flows, uint16_t port, uint32_t owner);

#endif
