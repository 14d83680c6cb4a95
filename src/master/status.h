/* What the master tells once a second: systemd's STATUS, the process title, quick mode's live line. */
#ifndef AEGIS_MASTER_STATUS_H
#define AEGIS_MASTER_STATUS_H

#include "master/master.h"

void status_tick(struct master *master);
/* What a start says of itself: workers, listeners, upstreams, limits. */
void status_log_start(const struct master *master);

#endif
