/* The plan of the reload that is under way, as the master makes and answers it; and DIR/settings, by which others can make it.
 *
 * Process: the master.
 */
#ifndef AEGIS_MASTER_RELOAD_PLAN_H
#define AEGIS_MASTER_RELOAD_PLAN_H

#include "master/master.h"

/* Compare with the settings in force; afterwards master->reload.plan holds it, until the next one. */
void reload_plan_make(struct master *master, const struct config *config);
/* The settings cannot be loaded: there is nothing to compare. */
void reload_plan_refuse(struct master *master, const struct config_errors *errors);

/* How the reload ended, as JSON: {"status":"reloaded","generation":N,"plan":{...}}, or {"error":"...","errors":[...],"plan":{...}}. note:
 * what was noted of its end. */
void reload_plan_report(const struct master *master, bool ok, const char *note, FILE *out);

/* The generation that runs has other settings now: write them to DIR/settings. */
void reload_plan_settle(struct master *master);

#endif
