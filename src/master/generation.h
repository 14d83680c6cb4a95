/* A generation: the workers that run with one set of settings.
 *
 * Process: the master. States: STARTING (forked, not all ready) -> RUNNING -> DRAINING -> gone when its last worker is.
 * Owner:   the generation owns its settings, its places in shared memory and its workers; the sockets are the master's.
 */
#ifndef AEGIS_MASTER_GENERATION_H
#define AEGIS_MASTER_GENERATION_H

#include "config/config.h"
#include "master/places.h"
#include "net/listener.h"
#include "os/loop.h"
#include "worker/message.h"

struct master;
struct generation;

enum worker_state {
	WORKER_DEAD,
	WORKER_STARTING,
	WORKER_READY,
	WORKER_RUNNING,
	WORKER_DRAINING,
	WORKER_STOPPED,
	WORKER_EXITED /* the process is gone; its connections are until the kernel has taken its ring down, and its channel ends then */
};

struct worker_process {
	struct generation *generation;
	uint32_t slot;
	uint32_t seat;
	enum worker_state state;
	pid_t pid;
	int channel;
	uint32_t owner; /* its number as one who has UDP sessions (owners.h); 0 = none */
	struct loop_io channel_io;
	bool hung_up; /* the channel has ended */
	struct loop_timer burial;
	struct loop_timer respawn;
	uint64_t forked_ns;
	uint32_t quick_deaths; /* in a row: the next one waits longer */
	uint32_t yields_due;   /* MESSAGE_YIELD that it has not answered */
};

enum generation_state { GENERATION_STARTING, GENERATION_RUNNING, GENERATION_DRAINING };

struct generation {
	struct generation *next;
	struct master *master;
	uint32_t number;
	enum generation_state state;
	bool refusing; /* draining, and nobody goes on with its sockets */
	bool refused;  /* all have stopped, and the sockets refuse new clients */
	bool quitting;
	struct loop_timer deadline; /* workers that still live then are killed */
	struct config *config;
	struct listener **
	        listeners; /* [config->n_listeners], into the master's; NULL: closed before its time. Of one that drains they may be gone */
	uint64_t yielded[CONFIG_MAX_LISTENERS / MESSAGE_LISTENERS]; /* UDP listeners that others read, by their number (yield.h) */
	struct places places;
	int vault;   /* certificates and keys for its workers (master/keys.h); -1 = they need none */
	int excerpt; /* of it, for the control process; -1 = no check speaks TLS */
	int watch;   /* hears when files of certificates change (os/path_watch.h), for its control process; -1 = none */
	uint32_t n_workers;
	struct worker_process *workers; /* [n_workers] */
};

/* Takes over config, listeners and places, on success only. NULL when out of memory. No worker is forked yet. */
must_check struct generation *generation_new(struct master *master, uint32_t number, struct config *config, struct listener **listeners,
        const struct places *places, uint32_t n_workers);
void generation_free(struct generation *generation);

/* Fork all workers. 0 or a negative errno: then some may run, end them with generation_kill(). */
must_check int generation_fork(struct generation *generation);

/* All workers are ready: accept. */
void generation_go(struct generation *generation);

/* Accept no more and end; whoever does not end in time is killed. refuse: nobody goes on with the sockets. */
void generation_drain(struct generation *generation, bool refuse, uint32_t pace, uint64_t timeout_ns);

/* End all connections and exit, now; whoever does not hear that is killed a moment later. */
void generation_quit(struct generation *generation);
/* SIGKILL, for what does not hear. */
void generation_kill(struct generation *generation);

/* To all its workers. */
void generation_tell(struct generation *generation, const struct channel_message *message);
/* The same with MESSAGE_YIELD; and did all answer that live? */
void generation_tell_yield(struct generation *generation, uint32_t first, uint64_t listeners);
bool generation_yielded(const struct generation *generation);
/* Listen on all its sockets, whoever shut them down. */
void generation_listen_again(const struct generation *generation);
/* Fork those workers that died while another master was in charge. */
void generation_replace_dead(struct generation *generation);

/* Other certificates for all its workers, and for those that take their place; takes over the descriptor. */
void generation_renew_certificates(struct generation *generation, int vault, int excerpt);

/* The engine that its first worker came up with, by name. */
const char *generation_engine(const struct generation *generation);

uint32_t generation_alive(const struct generation *generation);
/* Does it accept from the listener? */
bool generation_uses(const struct generation *generation, const struct listener *listener);
/* Let a forked child not keep the master's ends of its channels. NULL is fine. */
void generation_release_in_child(const struct generation *generation);
/* Did every worker that lives say that it accepts no more? */
bool generation_stopped(const struct generation *generation);

/* Look for one dead worker, and deal with it (one of a running generation is replaced). True when there was one: the generation may be
 * gone then. */
bool generation_reap_one(struct generation *generation);

#endif
