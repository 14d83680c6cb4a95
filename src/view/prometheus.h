/* What a snapshot says, as Prometheus text (exposition format 0.0.4): the output of aegis-stat -p and of GET /metrics.
 *
 * Process: aegis-stat, and the control process.
 */
#ifndef AEGIS_VIEW_PROMETHEUS_H
#define AEGIS_VIEW_PROMETHEUS_H

#include <stdio.h>

#include "view/snapshot.h"

#define PROMETHEUS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* All of it; trouble shows in ferror(out). */
void prometheus_print(const struct snapshot *snapshot, FILE *out);

#endif
