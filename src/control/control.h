/* The control process: the only prober, the only resolver, and who answers the operator. It checks the servers and resolves their names,
 * and writes what it learns to shared memory, where workers find it; they never wait for it, and without it they go on with what it wrote
 * last. It serves the admin API.
 *
 * Process: forked by the master with the settings, as workers are, but without their sockets and without a seat. It has no privileges,
 *          ignores signals, and ends when the master's end of the channel is closed.
 * States:  TRIAL -> (CHECKED) -> (GO) -> at work -> (REST) -> (RETIRE) -> (RETIRED) -> only answers what it was asked before -> gone.
 *          In the trial it checks only servers that no other control process writes to, so that those of new settings are known before a
 *          client is sent to them; a reload that fails ends it there.
 * Writes:  the health of the servers that are checked, the addresses of those that were named, what the operator sets, the epochs of the
 *          upstreams. It may be killed at any instruction; the next one goes on.
 */
#ifndef AEGIS_CONTROL_CONTROL_H
#define AEGIS_CONTROL_CONTROL_H

#include "config/config.h"
#include "control/http.h"
#include "os/bell.h"
#include "os/privileges.h"
#include "shm/layout.h"

/* Over the channel (os/channel.h). */
enum control_message {
	/* control to master */
	CONTROL_CHECKED = 1, /* each server that is to be checked in the trial has its first result, or has used up its time */
	CONTROL_REFUSED,     /* a check of these settings cannot be made here; it was logged which one */
	CONTROL_BEAT,        /* once a second: it lives */
	CONTROL_RETIRED,     /* it writes no more and accepts nobody; it goes when its clients have their answers */
	/* Orders of the operator; value: the number of the order, which CONTROL_ANSWER names. */
	CONTROL_ASK_RELOAD,
	CONTROL_ASK_DRAIN, /* value_ns: how long connections may go on, UINT64_MAX = as the settings say */
	CONTROL_ASK_UNDRAIN,
	CONTROL_ASK_CERTIFICATES, /* read certificates again */
	CONTROL_CERTIFICATES,     /* the same, for files of them changed: nobody waits for an answer */
	/* master to control */
	CONTROL_GO,         /* nobody else writes any more */
	CONTROL_LOG,        /* comes with a descriptor: log there from now on */
	CONTROL_ACCESS_LOG, /* the same for the access log */
	CONTROL_EXCERPT,    /* comes with a descriptor: other certificates by which checks speak TLS (vault_excerpt()) */
	CONTROL_REST,       /* no server gets a new connection: check and resolve no more */
	CONTROL_RETIRE,     /* another one is to take over: say RETIRED at once */
	CONTROL_ANSWER, /* value: the order; value_ns: 0 or what -errno is; comes with a descriptor: a file, the JSON text of the answer */
	CONTROL_END     /* the last worker is gone, and so will the master be */
};

/* The admin API as the master made it ready. */
struct control_admin {
	int fds[N_HTTP_GATES]; /* listening; -1 = none */
	bool is_loopback[N_HTTP_GATES];
	uid_t uid;     /* who started Aegis */
	uid_t run_uid; /* and who it became */
	gid_t gid;     /* of the unix socket */
};

struct control_args {
	const struct config *config;
	const uint32_t *const *servers; /* rows, [upstream][server] */
	const uint32_t *upstreams;      /* rows, [upstream] */
	struct shm *shm;
	const char *settings_path;    /* where the master writes the settings in force */
	const bool *held;             /* by row: another control process writes to it until GO; NULL = there is none */
	const struct bells *bells;    /* of the workers: they are woken when something changed */
	const struct bells *log_bell; /* workers ring it when there is something to log */
	struct log_sink *access_log;  /* of no kind where it is off */
	int watch;                    /* of the files of certificates (os/path_watch.h); -1 = none */
	bool replaces;                /* one that was at work with these settings: what that heard last it may not have told */
	int channel;
	int excerpt; /* by which checks speak TLS (tls/build.h); -1 = none does */
	const struct identity *identity;
	struct control_admin admin;
};

/* Whether a server is checked. */
must_check bool control_checks(const struct upstream_config *upstream, const struct server_config *server);

/* What of the settings cannot work in this build or on this system goes to errors. Loads libraries. */
void control_find_errors(const struct config *config, struct config_errors *errors);

/* The life of the control process, in the forked process: returns its exit status. */
must_check int control_run(const struct control_args *args);

#endif
