/* Certificates change without new workers: their files are read again for the generation that runs, and when all of them are good its
 * workers get them. A bad one is told, and all of the old ones stay.
 *
 * Process: the master; the reading and checking is a child's (master/keys.h).
 * States:  IDLE -> READING -> IDLE. What is asked for while READING is done once more after it. A reload that is to see first whether
 * nothing but certificates changed waits for it, too (certificates_first()). Where the child is killed, crashes or hangs nothing is known
 * of the files, so they are read again: after a first crash at once, then ever later, for as long as it takes.
 */
#ifndef AEGIS_MASTER_CERTIFICATES_H
#define AEGIS_MASTER_CERTIFICATES_H

#include "master/helper.h"
#include "master/keys.h"

struct generation;
struct master;

enum { CERTIFICATES_ASKERS_MOST = 16 };

enum certificates_end { CERTIFICATES_SAME, CERTIFICATES_CHANGED, CERTIFICATES_REFUSED, CERTIFICATES_UNREAD };

struct certificates {
	struct keys keys; /* pid 0: IDLE */
	struct loop_io io;
	struct loop_timer deadline;
	struct loop_timer retry;
	uint32_t failures;   /* in a row, of reading them */
	uint32_t generation; /* whose they are */
	bool again;          /* asked for while READING, by nobody who waits */
	struct asker askers[CERTIFICATES_ASKERS_MOST], later[CERTIFICATES_ASKERS_MOST];
	size_t n_askers, n_later;
	unsigned char refused[VAULT_DIGEST_BYTES]; /* of those that were refused last */
	struct config *waiting;                    /* settings of a reload that waits; it owns them */
	unsigned char digest[VAULT_DIGEST_BYTES];  /* of the files that the running generation has */
};

void certificates_init(struct master *master);
void certificates_fini(struct master *master);

/* A generation takes over with these: what is known of them goes to shared memory. */
void certificates_publish(struct master *master, const struct generation *generation, const struct vault_findings *findings);

/* Read the files again. asker: who is answered, NULL = nobody. */
void certificates_reload(struct master *master, const struct asker *asker);

/* A reload with the settings that run: see whether certificates changed, and call order_reload_after_certificates() then, with the
 * settings, which are the caller's again. False when there are none to look at. */
must_check bool certificates_first(struct master *master, struct config *config);
bool certificates_hold_reload(const struct master *master);
/* The reload that waits is given up. */
void certificates_cancel(struct master *master);

/* Once a second: say what is waited for. */
void certificates_tick(struct master *master);

/* Let a forked child not keep what is read. */
void certificates_release_in_child(const struct master *master);

#endif
