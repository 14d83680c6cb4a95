/* Certificates and keys as the master handles them: as descriptors that it never looks into.
 *
 * A child with the master's rights reads the files that the settings name (tls/files.h), gives these rights up, and only then parses: it
 * checks all of it and writes a vault (tls/vault.h) into a file without a name that the master made for it. Over a pipe it tells what is
 * wrong and what is known of the certificates. The master hands the vault's descriptor to its workers: those that it forks inherit it,
 * those that run get it over the channel. The control process gets an excerpt in the same way, without the keys of listeners.
 *
 * The child also says what the control process watches (os/path_watch.h): it may look into folders that the other may not enter, each time
 * anew, and does so before it reads.
 *
 * The master never waits for the child. It knows which file that is at, so that it can say what does not answer, and one that is no longer
 * wanted, or hangs, is killed and left (hung.h).
 */
#ifndef AEGIS_MASTER_KEYS_H
#define AEGIS_MASTER_KEYS_H

#include "config/config.h"
#include "master/hung.h"
#include "os/privileges.h"
#include "tls/build.h"

struct keys {
	pid_t pid;   /* 0 = none was needed, or it ended */
	int fd;      /* readable when there is an answer, end of file when it is complete */
	int vault;   /* -1 = none */
	int excerpt; /* of it, for who checks servers (vault_excerpt()); -1 = no check speaks TLS */
	int watch;   /* what hears of changes; -1 = none, or not its own */
	char *answer;
	size_t answer_bytes, answer_size;
	_Atomic uint32_t *at; /* shared with the child: the number of the file that it reads, from 1 on */
	uint64_t started_ns;
	bool told;      /* that it takes long */
	char late[512]; /* why it was given up, "" = it was not */
};

/* Time for all of it. */
#define KEYS_NS (30 * NS_PER_S)

/* Of a struct keys that nobody started. */
#define KEYS_NONE ((struct keys){ .fd = -1, .vault = -1, .excerpt = -1, .watch = -1 })

/* Start the child. 0 and *out, or a negative errno (-EBUSY: several hang, so that one more would, too). watch: what hears of changes
 * already, which stays the caller's; -1: it is made where the settings want it. close_fds is called in the child to let go of what is the
 * master's. config must stay until the end. */
must_check int keys_start(struct keys *out, const struct config *config, const struct identity *identity, int watch,
        const struct hung *hung, void (*close_fds)(void *), void *arg);
/* The same in words, for the user. */
const char *keys_why_not(int error);

/* The descriptor is readable: -EAGAIN when there is more to come, 0 when the answer is complete, or a negative errno. */
must_check int keys_read(struct keys *keys);

/* The answer is complete: what is wrong, and what is known. Where nothing is wrong the vault is good. False where the child did not do its
 * work, so that nothing is known of the files: an error of its own says why. */
bool keys_findings(const struct keys *keys, const struct config *config, struct vault_findings *out);

/* Did the child end before it had answered in full, by itself or killed by somebody else? Another one may do better. */
bool keys_ended_early(const struct keys *keys);

/* Now and then, while there is no answer: says once what it waits for. */
void keys_tick(struct keys *keys, const struct config *config);
/* KEYS_NS are over: what there is of an answer is none. Returns what did not answer, a sentence. */
const char *keys_give_up(struct keys *keys, const struct config *config);

/* They become the caller's. */
int keys_take_vault(struct keys *keys);
int keys_take_excerpt(struct keys *keys);
int keys_take_watch(struct keys *keys);

/* End the child if it still runs, close, free. */
void keys_end(struct keys *keys, struct hung *hung);
/* Let a forked child not keep them. */
void keys_release_in_child(const struct keys *keys);

#endif
