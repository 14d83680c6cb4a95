/* Listening sockets: one SO_REUSEPORT socket per listener and worker slot for TCP and UDP, one socket shared by all slots for unix
 * sockets and for those handed over (fd:N, systemd:NAME).
 *
 * Process: the master makes and owns them for its whole life; workers inherit them and accept. A socket that may hold
 *          queued connections is never closed while someone may still be sent to it.
 * States:  bound -> listening -> stopped (shutdown: new clients are refused) -> listening again.
 *
 * Binding and listening are two steps: a socket joins its reuseport group, and is sent connections, only when it listens, and
 * that is when a worker is ready to accept from it.
 *
 * A UDP socket has no such second step: it is in its group, and is sent datagrams, from when it is bound. So listener_bind() binds all of
 * an address that is new, where nothing could be taken from anybody, and what comes early waits in their queues; what is added to a group
 * that is in use (listener_grow()), or stands beside our own on a port, is only made, and bound by listener_listen().
 */
#ifndef AEGIS_NET_LISTENER_H
#define AEGIS_NET_LISTENER_H

#include "config/config.h"

struct listener {
	char *name;               /* of the settings */
	char *address;            /* as written there */
	struct endpoint endpoint; /* what that means */
	enum protocol protocol;
	struct addr bound; /* the real one, with the port that the kernel chose */
	bool per_slot;     /* fds[slot] belongs to a slot (of UDP always, so that all of a client comes to one worker); else every
	                      worker accepts from all fds */
	bool any_address;  /* UDP: one of many was asked, and each datagram tells which (IP_PKTINFO, IPV6_PKTINFO) */
	bool hidden;       /* listener_hide() was called */
	bool leaving;      /* listener_leave() was called */
	bool read_by_heir; /* UDP: workers of another master read it; ours only answer by it */
	bool shared;       /* another master has the sockets too, and goes on with them */
	bool inherited;    /* fd:N, systemd:NAME: not ours to unlink or to shut down */
	uint32_t n_fds;
	uint32_t n_bound; /* UDP: the first so many of them are bound */
	int *fds;
	int original; /* fd:N: what was handed over, -1 = none; fds holds a copy of it, and it is never closed here */
	ino_t inode;  /* of a unix socket's path, so that only our own is unlinked */
};

/* Bind sockets for slots workers. 0 and *out (owned by the caller), or a negative errno with *why a sentence for the user. A
 * port that someone else listens on is -EADDRINUSE, although SO_REUSEPORT would allow to share it; beside_own says that we listen on
 * that port ourselves, with another address, and that it is to be shared. */
must_check int listener_bind(
        const struct listener_config *config, uint32_t slots, bool beside_own, struct listener **out, char *why, size_t why_size);

/* Take sockets over from another master, which bound them for a listener of this name and address (as written in the settings): one, for a
 * slot; more with listener_adopt_more(). inode is that of a unix socket's path, 0 = none. The descriptors are CLOEXEC, and become the
 * listener's on success. 0 and *out, or a negative errno (-EINVAL: they are not what they should be). */
must_check int listener_adopt(const char *name, const char *address, ino_t inode, int fd, struct listener **out);
must_check int listener_adopt_more(struct listener *listener, int fd);

/* Could listener_bind() bind its TCP address, with nobody of us on that port? Found out by a socket that is closed at once, joins no group
 * and never listens. elsewhere: only whether this machine has the address, on whatever port. 0 or a negative errno, with *why. */
must_check int listener_try(const struct listener_config *config, bool elsewhere, char *why, size_t why_size);
/* The addresses of two listeners mean the same. Port 0 is another port for each listener that asks for one. */
bool listener_is_same(const struct listener_config *a, const struct listener_config *b);

/* Would the two stand on the same port? */
bool listener_shares_port(const struct listener *listener, const struct listener_config *config);

/* More sockets, so that there are slots. Not listening yet. 0 or a negative errno; what was there stays as it was. */
must_check int listener_grow(struct listener *listener, const struct listener_config *config, uint32_t slots, char *why, size_t why_size);

/* Are there sockets that are to take part beside others, which are in use? */
bool listener_is_growing(const struct listener *listener);

/* Take back what listener_grow() added. */
void listener_shrink(struct listener *listener, uint32_t slots);

/* Apply the settings (backlog, tcp) and listen on all sockets; again after a stop, or to change the backlog. 0 or a negative errno. */
must_check int listener_listen(struct listener *listener, const struct listener_config *config, char *why, size_t why_size);

/* Nobody will accept from it: take a unix socket's path away, so that new clients are refused. (A worker that stops shuts a TCP socket
 * down itself, right after it accepted what was queued.) */
void listener_hide(struct listener *listener);
/* The settings no longer name it: from here on no new connection begins there. (A SYN is not answered, and comes again a second later, when
 * the socket is closed and whoever listens on the port then gets it.) Those that are queued or in their handshake can still be accepted. 0,
 * or a negative errno: where filters are not allowed, who connects between the last accept and the close is reset. */
must_check int listener_leave(struct listener *listener);
/* Another master was to let it leave, and did not come to it. */
void listener_stay(struct listener *listener);
/* The same for who is about to connect over TCP: nobody is left to accept. Not for sockets that were handed over. */
void listener_refuse(struct listener *listener);
/* One socket of it. Only while it listens: a second shutdown() would mark it for good, and what it accepts after a revival would be reset.
 */
void listener_refuse_fd(int fd);
/* UDP: nobody reads, nobody is to wait: close the sockets, so that new clients are refused. listener_grow() makes them anew, with the same
 * port. Not for sockets that were handed over. */
void listener_rest(struct listener *listener);
/* Can it listen again after that? A unix socket has to be bound anew. */
bool listener_revivable(const struct listener *listener);

/* Does it serve what the settings ask for? Compared by meaning: ":80" is "*:80". */
bool listener_matches(const struct listener *listener, const struct listener_config *config);

/* In a forked child: let go of what was handed over (the copies in fds stay). */
void listener_release_in_child(const struct listener *listener);

/* Close all; unlink a unix socket that is still ours. NULL is fine. */
void listener_free(struct listener *listener);

#endif
