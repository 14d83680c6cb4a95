#include "view/prometheus.h"

#include <string.h>

#include "view/metrics.h"

/* Is the row the first of its family? */
static bool starts_family(const struct metric *rows, size_t i)
{
	size_t length = metrics_name_length(&rows[i]);
	return i == 0 || metrics_name_length(&rows[i - 1]) != length || strncmp(rows[i - 1].name, rows[i].name, length) != 0;
}

void prometheus_print(const struct snapshot *snapshot, FILE *out)
{
	size_t n;
	const struct metric *rows = metrics_rows(&n);
	for (size_t i = 0; i < n; i++) {
		int length = (int)metrics_name_length(&rows[i]);
		if (starts_family(rows, i)) {
			fprintf(out, "# HELP aegis_%.*s ", length, rows[i].name);
			metrics_help(i, out);
			fprintf(out, "\n# TYPE aegis_%.*s %s\n", length, rows[i].name, metrics_type_name(rows[i].type));
		}
		rows[i].print(&rows[i], snapshot, out);
	}
}
