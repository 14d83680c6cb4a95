/* doc/metrics.md: see stat.h. */
#include "tools/stat.h"
#include "view/metrics.h"

/* Who is to blame, in the words of the page. */
static const char *class_text(enum reason_class class)
{
	static const char *const texts[] = {
		[REASON_DONE] = "ordinary", [REASON_REJECTED] = "rejected", [REASON_ERROR] = "error", [REASON_OPERATOR] = "operator"
	};
	return texts[class];
}

void stat_print_reference(FILE *out)
{
	size_t n;
	const struct metric *rows = metrics_rows(&n);
	fputs("# Metrics\n\n"
	      "This page is written by `aegis-stat --metrics`, from the tables in the code. `aegis-stat -p` prints all of it as "
	      "Prometheus\n"
	      "text, and [aegis-stat(1)](aegis-stat.1) says how to read it. Counters never go backwards while the master lives: not over "
	      "a\n"
	      "reload, not over the death of a worker. A listener or a server that is gone from the settings keeps its counters.\n\n"
	      "Histograms have a bucket for each power of two from 1.024 us to 68.7 s, a `_sum` and a `_count`.\n\n"
	      "| metric | type | labels | meaning |\n|---|---|---|---|\n",
	        out);
	for (size_t i = 0; i < n; i++)
		fprintf(out, "| `aegis_%s` | %s | %s | %s |\n", rows[i].name, metrics_type_name(rows[i].type), rows[i].labels,
		        rows[i].help);
	fputs("\n## Why connections end\n\n"
	      "Every connection ends with exactly one reason: the label `reason` of `aegis_closes_total`, the keys of `closes` in\n"
	      "`aegis-stat -j`. Reasons of the class `rejected` are counted in `aegis_connections_rejected_total` too, those of the class\n"
	      "`error` in `aegis_errors_total`.\n\n"
	      "| reason | class | meaning |\n|---|---|---|\n",
	        out);
	for (unsigned i = 0; i < N_REASONS; i++)
		fprintf(out, "| `%s` | %s | %s |\n", reason_name(i), class_text(reason_class(i)), reason_text(i));
}
