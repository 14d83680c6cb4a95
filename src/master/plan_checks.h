/* What a start would hit, or a reload: each check adds to the plan what is in the way, and what it looked at.
 *
 * Process: `aegis -p`. Nothing is disturbed: no address of a live listener is bound, nothing listens, no file is made or changed. What
 * connects is the start test, where the settings ask for one, as a reload does it.
 */
#ifndef AEGIS_MASTER_PLAN_CHECKS_H
#define AEGIS_MASTER_PLAN_CHECKS_H

#include "config/settings.h"
#include "master/plan.h"
#include "os/privileges.h"
#include "view/snapshot.h"

struct plan_ground {
	const struct config *before; /* the settings in force, NULL = none */
	struct config *after;
	const struct settings_origin *origin; /* of the running instance, NULL = there is none */
	const struct snapshot *snapshot;      /* of the running instance; NULL = none, or not to be had */
	const char *runtime_dir;
	bool is_running;                 /* an instance, though its settings may not be ours to read */
	const struct identity *identity; /* of workers and of the control process */
	bool same_rights;                /* we are who the master is, or would be */
	uint32_t workers;
	struct file_at *at; /* for who waits for it */
};

void plan_check_ports(struct plan *plan, const struct plan_ground *ground);
void plan_check_files(struct plan *plan, const struct plan_ground *ground);
void plan_check_names(struct plan *plan, const struct plan_ground *ground);
void plan_check_certificates(struct plan *plan, const struct plan_ground *ground);
/* Descriptors, where connections come from, memory, room for workers, rows in shared memory. */
void plan_check_needs(struct plan *plan, const struct plan_ground *ground);

#endif
