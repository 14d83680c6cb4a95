/* DIR/settings: the settings in force, as the running instance wrote them down at the last switch or change in place, so that `aegis -p`
 * can compare others with them. An aegis.conf that holds every effective setting, with what else belongs to them in comments: which command
 * line they come from, and what room was made at the start.
 *
 * Writers: the master, by rename: who reads it finds all of one version. It is removed at a clean end; whether one that is there is of a
 *          process that lives its pid tells.
 */
#ifndef AEGIS_CONFIG_SETTINGS_H
#define AEGIS_CONFIG_SETTINGS_H

#include <sys/types.h>

#include "config/config.h"

struct settings_origin {
	pid_t pid;
	uint32_t generation;
	uint32_t max_workers, max_draining; /* for so many there is room until a restart */
	struct config_source source;        /* file: absolute */
};

/* Write it to path, mode 0640, of the group gid ((gid_t)-1 = leave). 0 or a negative errno. */
must_check int settings_write(const char *path, const struct config *config, const struct settings_origin *origin, gid_t gid);

struct settings {
	struct settings_origin origin;
	struct config *config; /* the caller may take it over and set this to NULL */
	char *bytes;           /* what the texts of origin point into */
};

/* Read it. 0 and *out (owned by the caller), or -EINVAL with at least one error where it is none, or another negative errno. */
must_check int settings_read(const char *path, struct settings *out, struct config_errors *errors);
void settings_fini(struct settings *settings);

/* Remove it, if it is of that process. */
void settings_remove(const char *path, pid_t pid);

#endif
