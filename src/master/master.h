/* The master: parses, binds, forks, supervises. Most privilege, least code: no client bytes, no name resolution.
 *
 * It owns every listening socket for its whole life and has at most one transition (start, reload) under way. Signals come in
 * through a descriptor; nothing runs in a handler.
 */
#ifndef AEGIS_MASTER_MASTER_H
#define AEGIS_MASTER_MASTER_H

#include "base/log_sink.h"
#include "config/config.h"
#include "master/adopt.h"
#include "master/certificates.h"
#include "master/gates.h"
#include "master/generation.h"
#include "master/helper.h"
#include "master/hung.h"
#include "master/owners.h"
#include "master/plan.h"
#include "master/upgrade.h"
#include "os/bell.h"
#include "os/cpu.h"
#include "os/privileges.h"
#include "shm/layout.h"
#include "tls/tickets.h"

struct transition;

enum { ASKERS_MOST = 16 };
/* Who waits for the answer to an order. */
struct askers {
	struct asker askers[ASKERS_MOST];
	size_t n;
};

/* Exit statuses of the program. */
enum { EXIT_SETTINGS = 1, EXIT_START = 2, EXIT_REFUSED = 3, EXIT_NOT_RUNNING = 4 };

struct master {
	struct loop *loop;
	struct config_source source;
	bool quick; /* quick mode: print a live line each second */
	char runtime_dir[256];
	char *pid_path, *stats_path, *settings_path;
	int pid_fd;
	int signal_fd;
	struct loop_io signal_io;
	struct loop_timer tick; /* once a second */
	struct loop_timer watchdog;
	struct loop_timer reclaim; /* seats of dead workers that could not be cleared at once */
	struct shm shm;
	uint32_t max_workers;  /* what the segment has room for, of one generation */
	uint32_t max_draining; /* and of generations that drain */
	struct identity identity;
	struct cpu_set cpus;
	uint64_t descriptors;
	struct boxes boxes;
	struct owners owners; /* of UDP sessions */
	struct helper helper;
	struct certificates certificates;
	struct hung hung;        /* children that were killed and have not ended */
	struct tickets *tickets; /* keys of session tickets, for workers of all generations */
	int tickets_fd;          /* the memory that they are in, for the master that takes over some day */
	struct gates gates;
	struct {
		struct askers askers, later; /* of the reload that is under way, and of the one that follows it */
		struct plan plan;            /* what it does, and what is in its way */
	} reload;
	struct bells bells;              /* of workers, one for each slot */
	struct bells log_bell;           /* of the control process */
	struct log_sink access_log;      /* of the running generation; of no kind = off */
	struct log_sink next_access_log; /* of the one to come, while a transition is under way */
	struct listener **listeners;     /* all sockets, of whatever generation */
	size_t n_listeners;
	uint32_t last_generation;
	uint32_t last_ready;         /* the last one that ran; 0 = still starting */
	struct generation *running;  /* NULL before the first and when drained */
	struct generation *draining; /* the newest first */
	struct transition *transition;
	bool reload_again; /* a reload was asked for while one was under way */
	bool stopping;
	bool draining_by_request; /* WINCH: stay up without accepting, until HUP */
	struct upgrade upgrade;   /* to a new master, of another program */
	struct adoption adoption; /* from an old one */
	bool guest;               /* another master is in charge of the segment: it reclaims, publishes and says how things are */
	uint64_t started_ns, started_unix_s;
	char failure[SHM_NOTE_SIZE]; /* of a start */
	bool orphans;                /* seats of a former master's workers may be taken */
	int exit_status;
	uint64_t live_bytes, live_connections, live_ns; /* quick mode: at the last line */
};

/* Run in the foreground until stopped. Returns the exit status of the program (see INTERFACE: 0, 1, 2). The source's texts must
 * stay, as must argv: with what it was started an upgrade starts the new program. */
must_check int master_run(const struct config_source *source, bool quick, char *const *argv);

/* For the other files of the master. */
void master_log_errors(const struct config_errors *errors);
/* Log what is in the way of a start or a reload, and let the plan know of it. */
void master_tell(struct master *master, enum plan_weight weight, const char *format, ...) printf_like(3, 4);
void master_tell_lines(struct master *master, enum plan_weight weight, const struct config_errors *lines);
/* Workers for these settings. */
uint32_t master_worker_count(const struct master *master, const struct config *config);
void master_set_state(struct master *master, enum instance_state state);
/* Let go, in a forked child, of the master's descriptors: all but the sockets that
 * keep_slot of `generation` (NULL: nobody) accepts from. */
void master_release_in_child(struct master *master, const struct generation *generation, uint32_t keep_slot);
void master_release_in_control(struct master *master, const struct control_admin *keep);
/* A worker of some generation died or stopped: drop what is over, go on with what waited for it. */
void master_generation_changed(struct master *master);
void master_clear_seat(struct master *master, uint32_t seat);
/* One more listener is the master's. 0 or -ENOMEM. */
must_check int master_keep_listener(struct master *master, struct listener *listener);
/* The transition ended. status 0, or what a start would exit with. */
void master_transition_done(struct master *master, struct transition *transition, int status);

#endif
