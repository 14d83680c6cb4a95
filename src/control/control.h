/* The control process: the only prober and the only resolver. It checks the servers and resolves their names, and writes what it learns to
 * shared memory, where workers find it; they never wait for it, and without it they go on with what it wrote last.
 *
 * Process: forked by the master with the settings, as workers are, but without sockets and without a seat. It has no privileges, ignores
 *          signals, and ends when the master's end of the channel is closed.
 * States:  TRIAL -> (CHECKED) -> (GO) -> at work until it ends. In the trial it checks only servers that no other control process writes
 * to, so that those of new settings are known before a client is sent to them; a reload that fails ends it there. Writes:  the health of
 * the servers that are checked, the addresses of those that were named, the epochs of the upstreams. It may be killed at any instruction;
 * the next one goes on.
 */
#ifndef AEGIS_CONTROL_CONTROL_H
#define AEGIS_CONTROL_CONTROL_H

#include "config/config.h"
#include "os/bell.h"
#include "os/privileges.h"
#include "shm/layout.h"

/* Over the channel (os/channel.h). */
enum control_message {
	/* control to master */
	CONTROL_CHECKED = 1, /* each server that is to be checked in the trial has its first result, or has used up its time */
	CONTROL_REFUSED,     /* a check of these settings cannot be made here; it was logged which one */
	CONTROL_BEAT,        /* once a second: it lives */
	/* master to control */
	CONTROL_GO, /* nobody else writes any more */
	CONTROL_LOG /* comes with a descriptor: log there from now on */
};

struct control_args {
	const struct config *config;
	const uint32_t *const *servers; /* rows, [upstream][server] */
	const uint32_t *upstreams;      /* rows, [upstream] */
	struct shm *shm;
	const bool *held;          /* by row: another control process writes to it until GO; NULL = there is none */
	const struct bells *bells; /* of the workers: they are woken when something changed */
	int channel;
	const struct identity *identity;
};

/* Whether these settings leave it anything to do. */
must_check bool control_needed(const struct config *config);
/* Whether a server is checked. */
must_check bool control_checks(const struct upstream_config *upstream, const struct server_config *server);

/* What of the settings cannot work in this build or on this system goes to errors. Loads libraries. */
void control_find_errors(const struct config *config, struct config_errors *errors);

/* The life of the control process, in the forked process: returns its exit status. */
must_check int control_run(const struct control_args *args);

#endif
