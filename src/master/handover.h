/* What a master hands over to the one that takes its place when the program is upgraded: a text in a memfd, whose number stands in
 * the environment, with the pid of who is meant (AEGIS_UPGRADE). It names descriptors, which are inherited under their numbers, and holds
 * nothing that is secret.
 *
 *   aegis-handover 1
 *   generation 7
 *   runtime_dir /run/aegis
 *   item listener 12 0 0 app 127.0.0.1:8080       kind, descriptor, number, extra, name, text
 *   end
 *
 * Process: the old master writes it (upgrade.c), the new one reads it (adopt.c). The two may be of different versions: what the reader does
 *          not know it passes over, and closes. Below are also the messages that the two say to each other over a channel (os/channel.h).
 */
#ifndef AEGIS_MASTER_HANDOVER_H
#define AEGIS_MASTER_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"

enum { HANDOVER_BYTES_MOST = 16 * 1024 * 1024, HANDOVER_ITEMS_MOST = 65536 };

#define HANDED_KINDS(X)                                                                                              \
	X(CHANNEL, "channel")   /* to the old master; number: its pid */                                             \
	X(PID_FILE, "pid_file") /* locked: whoever has a copy keeps the lock */                                      \
	X(LISTENER, "listener") /* number: slot; extra: inode of a unix socket's path; name, text: address */        \
	X(BELL, "bell")         /* number: which */                                                                  \
	X(LOG_BELL, "log_bell") /* of the control process */                                                         \
	X(BOX_PUT, "box_put")   /* number: row of the server, extra: framing; to those who share the segment */      \
	X(BOX_TAKE, "box_take") /* the same */                                                                       \
	X(ELDER, "elder")       /* channel to a master that was replaced before and still drains; number: its pid */ \
	X(FLOWS, "flows")       /* the table of UDP sessions (shm/flows.h) */                                        \
	X(OWNER, "owner")       /* to a worker that has UDP sessions; number: as an owner */                         \
	X(TICKETS, "tickets")   /* keys of session tickets: the memory that they are in (tls/tickets.h) */           \
	X(GATE, "gate")         /* a socket of the admin API; number: which, text: address */

enum handed_kind {
#define X(id, name) HANDED_##id,
	HANDED_KINDS(X)
#undef X
	        N_HANDED_KINDS
};

struct handed {
	enum handed_kind kind;
	int fd; /* -1: taken by somebody */
	uint32_t number;
	uint64_t extra;
	const char *name, *text;
};

struct handover {
	uint32_t generation; /* the running one */
	pid_t pid;           /* of the old master */
	const char *runtime_dir;
	struct handed *items;
	size_t n_items;
	char *bytes; /* what the texts point into, once read */
};

/* --- the old master --------------------------------------------------------------------------------------------------------- */

/* The texts must stay until it was written. 0 or -ENOMEM. */
must_check int handover_add(struct handover *handover, const struct handed *item);
/* A memfd (CLOEXEC) with all of it, or a negative errno. */
must_check int handover_write(const struct handover *handover);
/* In the child that is to become the new master: let it find the memfd and inherit the descriptors. 0 or a negative errno. */
must_check int handover_export(const struct handover *handover, int memfd);

/* --- the new master --------------------------------------------------------------------------------------------------------- */

/* The memfd of the environment, which is cleared of it; -ENOENT when this is no upgrade. */
must_check int handover_import(void);
/* Read it; the memfd is closed. The descriptors are CLOEXEC after that and belong to the handover until they are taken. 0 and *out, or a
 * negative errno with *why a sentence for the user. */
must_check int handover_read(int memfd, struct handover *out, char *why, size_t why_size);
/* The same for bytes (NUL-terminated, malloc'd, taken over in any case), without a look at the descriptors. */
must_check int handover_parse(char *bytes, struct handover *out, char *why, size_t why_size);
/* The next item of a kind after `after` (NULL: the first one), or NULL. */
struct handed *handover_next(const struct handover *handover, enum handed_kind kind, const struct handed *after);
/* Is there one of that kind with this name and text? */
must_check bool handover_named(const struct handover *handover, enum handed_kind kind, const char *name, const char *text);
/* The descriptor becomes the caller's. */
int handed_take(struct handed *item);

/* Close what nobody took, free. */
void handover_free(struct handover *handover);

/* --- what they say to each other -------------------------------------------------------------------------------------------- */

enum upgrade_message {
	/* new to old */
	UPGRADE_READY = 1, /* all workers are ready; value: 1 = it uses the same segment */
	UPGRADE_DRAIN,  /* its workers accept: accept no more, end within value_ns, idle ones at value per second. Again: with other values
	                 */
	UPGRADE_FAILED, /* it gives up; comes with a memfd that says why */
	UPGRADE_QUIT,   /* end all connections now */
	UPGRADE_REOPEN, /* the log file was moved away */
	UPGRADE_TELL,   /* UPGRADE_COUNTS now, and from then on once a second, to one that has another segment */
	/* old to new */
	UPGRADE_GO,      /* the control process has ended; the segment is the new master's. Where they have two: with a memfd of counters */
	UPGRADE_STOPPED, /* accepts no more, and what was queued is accepted */
	UPGRADE_BURIED,  /* the worker in the seat `value` died */
	UPGRADE_COUNTS,  /* where they have two segments: comes with a memfd of counters */
	/* new to old */
	UPGRADE_YIELD /* its workers read UDP listeners: comes with a memfd of their names and addresses, word by word. Again after each
	                 reload */
};

/* Say it with a text in a memfd. 0 or a negative errno. */
must_check int upgrade_say(int channel, enum upgrade_message kind, const char *text, size_t length);
/* The text of a memfd that came, NUL-terminated, at most most_bytes; the memfd is closed. NULL when there is none. free() it. */
char *upgrade_read_text(int memfd, size_t most_bytes);

#endif
