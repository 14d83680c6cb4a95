/* Certificates and keys as the master handles them: as descriptors that it never looks into.
 *
 * A child with the master's rights reads the files that the settings name (tls/files.h), gives these rights up, and only then parses: it
 * checks all of it and writes a vault (tls/vault.h) into a file without a name that the master made for it. Over a pipe it tells what is
 * wrong and what is known of the certificates. The master hands the vault's descriptor to its workers: those that it forks inherit it,
 * those that run get it over the channel.
 */
#ifndef AEGIS_MASTER_KEYS_H
#define AEGIS_MASTER_KEYS_H

#include "config/config.h"
#include "os/privileges.h"
#include "tls/build.h"

struct keys {
	pid_t pid; /* 0 = none was needed, or it ended */
	int fd;    /* readable when there is an answer, end of file when it is complete */
	int vault; /* -1 = none */
	char *answer;
	size_t answer_bytes, answer_size;
};

/* Of a struct keys that nobody started. */
#define KEYS_NONE ((struct keys){ .fd = -1, .vault = -1 })

/* Start the child. 0 and *out, or a negative errno. close_fds is called in the child to let go of what is the master's. config must stay
 * until the end. */
must_check int keys_start(
        struct keys *out, const struct config *config, const struct identity *identity, void (*close_fds)(void *), void *arg);

/* The descriptor is readable: -EAGAIN when there is more to come, 0 when the answer is complete, or a negative errno. */
must_check int keys_read(struct keys *keys);

/* The answer is complete: what is wrong, and what is known. Where nothing is wrong the vault is good. Adds an error of its own where the
 * child did not do its work. */
void keys_findings(const struct keys *keys, const struct config *config, struct vault_findings *out);

/* The vault becomes the caller's. */
int keys_take_vault(struct keys *keys);

/* End the child if it still runs, close, free. */
void keys_end(struct keys *keys);

#endif
