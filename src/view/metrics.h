/* The metrics, declared once: every family with its type, its labels and its help. The Prometheus text and doc/metrics.md are
 * both written from these rows; most of them come from the rows of shm/counters.h. */
#ifndef AEGIS_VIEW_METRICS_H
#define AEGIS_VIEW_METRICS_H

#include <stdio.h>

#include "view/snapshot.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* A row. Rows of one family stand together: what follows '{' in a name is one fixed label. */
struct metric {
	const char *name;   /* without "aegis_" */
	const char *labels; /* those that the samples have: "upstream, server" */
	const char *help;
	enum metric_type type;
	size_t offset; /* where the value lies in the totals that print() knows */
	void (*print)(const struct metric *metric, const struct snapshot *snapshot, FILE *out);
};

const struct metric *metrics_rows(size_t *n);

/* How long the name of the family is, without a fixed label. */
size_t metrics_name_length(const struct metric *metric);
/* The help of the whole family whose first row is i, for one line. */
void metrics_help(size_t i, FILE *out);
const char *metrics_type_name(enum metric_type type);

#endif
