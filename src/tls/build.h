/* From the files that the settings of TLS name to a vault: everything is parsed and checked, and all that is wrong is told, not only the
 * first of it.
 *
 * Process: the child of the master that has read the files and given up its rights; or whoever checks settings (aegis -t, -p).
 */
#ifndef AEGIS_TLS_BUILD_H
#define AEGIS_TLS_BUILD_H

#include "base/file_at.h"
#include "config/config.h"
#include "tls/files.h"
#include "tls/vault.h"

enum { VAULT_LABEL_SIZE = 96 };

/* What is known of a certificate of a listener. */
struct vault_fact {
	uint32_t listener;
	uint32_t item; /* in its list */
	int64_t not_before, not_after;
	char label[VAULT_LABEL_SIZE]; /* its first name, printable, perhaps cut; with "#2", its place in the list, where it has none, or
	                                 another one has it, too */
};

struct vault_findings {
	struct config_errors errors, warnings;
	struct vault_fact *facts; /* of all certificates of listeners that could be parsed, in the order of the settings */
	size_t n_facts;
	unsigned char digest[VAULT_DIGEST_BYTES];
};
void vault_findings_clear(struct vault_findings *findings);

/* Is there anything that TLS needs files for? */
bool vault_is_needed(const struct config *config);

/* A descriptor for a vault, or a negative errno. */
must_check int vault_make_fd(void);

/* Check the settings and the files, and, where fd is not -1 and nothing is wrong, write the vault into it and seal it. now_s: seconds since
 * 1970. 0 (look into findings->errors, too), or a negative errno. */
must_check int vault_build(
        const struct config *config, const struct tls_files *files, int64_t now_s, int fd, struct vault_findings *findings);

/* Of a vault for these settings what checks of servers need, and nothing else: authorities, lists and certificates of the upstreams whose
 * checks speak TLS. Written into fd and sealed. 0 or a negative errno. */
must_check int vault_excerpt(const struct config *config, int vault_fd, int fd);
/* Are there such upstreams? */
bool vault_has_excerpt(const struct config *config);

/* All of it for who checks settings: read the files with what rights there are, and check. Warnings and errors are added to, where the
 * lists are not NULL; facts may be NULL. at: for who waits for it, or NULL. */
must_check int vault_check(const struct config *config, int64_t now_s, struct file_at *at, struct vault_findings *findings);

#endif
