/* Before a generation is forked: what do the host names stand for, and (start_test) can servers be reached?
 *
 * Both may take long, so a child process does it, without privileges, while the master goes on supervising; it answers over
 * a pipe. Names are resolved all at once.
 */
#ifndef AEGIS_MASTER_PREFLIGHT_H
#define AEGIS_MASTER_PREFLIGHT_H

#include "config/config.h"
#include "master/hung.h"
#include "os/privileges.h"

struct preflight {
	pid_t pid; /* 0 = none was needed */
	int fd;    /* readable when there is an answer, end of file when it is complete */
	char *answer;
	size_t answer_bytes;
	size_t most_bytes; /* a longer answer is none */
};

/* Is there a name to resolve or a server to test? When not, preflight_apply() with a zeroed preflight does all. */
bool preflight_needed(const struct config *config);

/* Start the child. 0 and *out, or a negative errno. close_fds is called in the child to let go of what is the master's. */
must_check int preflight_start(
        struct preflight *out, const struct config *config, const struct identity *identity, void (*close_fds)(void *), void *arg);

/* The descriptor is readable: -EAGAIN when there is more to come, 0 when the answer is complete, or a negative errno. */
must_check int preflight_read(struct preflight *preflight);

/* What came of it, one line each. */
struct preflight_findings {
	struct config_errors errors;      /* names that mean nothing */
	struct config_errors unreachable; /* upstreams with start_test = "fail" of which no server could be reached */
	struct config_errors warnings;
};
void preflight_findings_clear(struct preflight_findings *findings);

/* Write the addresses into the servers of config. running, where not NULL, are the settings in force: a name that cannot be resolved now
 * keeps the addresses it has there, with a warning. */
void preflight_apply(
        const struct preflight *preflight, struct config *config, const struct config *running, struct preflight_findings *findings);

/* End the child if it still runs, close, free. */
void preflight_end(struct preflight *preflight, struct hung *hung);

#endif
