/* What master and workers say to each other over their channel (os/channel.h). */
#ifndef AEGIS_WORKER_MESSAGE_H
#define AEGIS_WORKER_MESSAGE_H

#include <stdbool.h>

#include "os/channel.h"

enum message {
	/* worker to master */
	MESSAGE_READY = 1, /* all set up; value: how many connections it has descriptors for */
	MESSAGE_STOPPED,   /* accepts no more, and what was queued is accepted */
	MESSAGE_YIELDED,   /* the answer to each MESSAGE_YIELD, when it was done */
	/* master to worker */
	MESSAGE_GO,     /* accept, and read the UDP listeners that are not yielded */
	MESSAGE_DRAIN,  /* accept what is queued, then no more; end within value_ns, idle ones at value per second. Others go on with the
	                   sockets. UDP listeners that are not yielded are nobody else's: they are read on for the sessions that there
	                   are, and no session begins */
	MESSAGE_REFUSE, /* the same, but nobody goes on: new clients are refused */
	MESSAGE_QUIT,   /* end all connections and exit */
	/* About those of the UDP listeners from number value on which value_ns names, bit by bit (message_names()). */
	MESSAGE_YIELD, /* others read these from now on, and none but these: stop reading them, keep their sockets to answer by; read the
	                  others, as before if they were yielded */
	MESSAGE_CLOSE, /* take in what waits there, end their sessions, close their sockets */
	MESSAGE_INBOX, /* with a descriptor: the inbox of a worker that died, to which nobody can send any more (udp/transfer.h) */
	MESSAGE_CERTIFICATES /* comes with a descriptor: a vault (tls/vault.h) for the same settings; handshakes have these from now on */
};

enum { MESSAGE_LISTENERS = 64 }; /* that one message speaks of */

/* Does a MESSAGE_YIELD or MESSAGE_CLOSE speak of this listener? */
static inline bool message_speaks_of(const struct channel_message *message, uint32_t listener)
{
	return listener >= message->value && listener - message->value < MESSAGE_LISTENERS;
}

/* And does it name it? */
static inline bool message_names(const struct channel_message *message, uint32_t listener)
{
	return message_speaks_of(message, listener) && (message->value_ns >> (listener - message->value) & 1) != 0;
}

#endif
