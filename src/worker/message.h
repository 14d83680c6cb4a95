/* What master and workers say to each other over their channel (os/channel.h). */
#ifndef AEGIS_WORKER_MESSAGE_H
#define AEGIS_WORKER_MESSAGE_H

enum message {
	/* worker to master */
	MESSAGE_READY = 1, /* all set up; value: how many connections it has descriptors for */
	MESSAGE_STOPPED,   /* accepts no more, and what was queued is accepted */
	/* master to worker */
	MESSAGE_GO,     /* accept */
	MESSAGE_DRAIN,  /* accept what is queued, then no more; end within value_ns, idle ones at value per second. Others go on with the
	                   sockets */
	MESSAGE_REFUSE, /* the same, but nobody goes on: new clients are refused */
	MESSAGE_QUIT    /* end all connections and exit */
};

#endif
