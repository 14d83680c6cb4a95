#include <inttypes.h>
#include <string.h>

#include "tools/ctl_cells.h"

/* --- reload --------------------------------------------------------------------------------------------------- */

static void print_what(const struct tree *change, FILE *out)
{
	const char *before = tree_string(change, "before"), *after = tree_string(change, "after");
	ctl_print_text(before, out);
	fputs(before[0] != '\0' && after[0] != '\0' ? " -> " : "", out);
	ctl_print_text(after, out);
	uint64_t connections = tree_u64(change, "connections");
	if (connections > 0)
		fprintf(out, "   [%" PRIu64 " connection%s]", connections, connections == 1 ? "" : "s");
	fputc('\n', out);
}

static void print_changes(const struct tree *plan, FILE *out)
{
	for (const struct tree *change = ctl_first(plan, "changes"); change != NULL; change = change->next) {
		const char *kind = tree_string(change, "kind");
		fprintf(out, "  %c ", strcmp(kind, "added") == 0 ? '+' : strcmp(kind, "dropped") == 0 ? '-' : '~');
		ctl_print_text(tree_string(change, "path"), out);
		fputs(tree_get(change, "before") != NULL || tree_get(change, "after") != NULL ? "  " : "", out);
		print_what(change, out);
	}
	if (tree_u64(plan, "changes_left_out") > 0)
		fprintf(out, "  ... and %" PRIu64 " more\n", tree_u64(plan, "changes_left_out"));
	for (const struct tree *problem = ctl_first(plan, "problems"); problem != NULL; problem = problem->next) {
		fputs("  ", out);
		ctl_print_text(tree_string(problem, "weight"), out);
		fputs(": ", out);
		ctl_print_text(tree_string(problem, "text"), out);
		fputc('\n', out);
	}
}

static void print_state(const struct tree *answer, FILE *out)
{
	ctl_print_text(tree_string(answer, "state"), out);
	if (tree_get(answer, "generation") != NULL)
		fprintf(out, ", generation %" PRIu64, tree_u64(answer, "generation"));
	if (tree_get(answer, "connections") != NULL)
		fprintf(out, ", %" PRIu64 " connection%s open", tree_u64(answer, "connections"),
		        tree_u64(answer, "connections") == 1 ? "" : "s");
	const char *note = tree_string(answer, "note");
	fputs(note[0] != '\0' ? "; " : "", out);
	ctl_print_text(note, out);
	fputc('\n', out);
}

void ctl_print_state(const struct tree *answer, char **words, FILE *out)
{
	(void)words;
	print_state(answer, out);
	print_changes(tree_get(answer, "plan"), out);
}

/* --- certificates --------------------------------------------------------------------------------------------- */

void ctl_print_certificates(const struct tree *answer, char **words, FILE *out)
{
	(void)words;
	uint64_t count = tree_u64(answer, "certificates");
	bool changed = strcmp(tree_string(answer, "status"), "changed") == 0;
	if (count == 0)
		fputs("no listener has certificates\n", out);
	else
		fprintf(out, "%" PRIu64 " certificate%s, %s\n", count, count == 1 ? "" : "s",
		        changed ? "taken over: handshakes from now on have what changed" : "unchanged");
	for (const struct tree *line = ctl_first(answer, "warnings"); line != NULL; line = line->next) {
		fputs("  warning: ", out);
		ctl_print_text(line->text, out);
		fputc('\n', out);
	}
}

/* --- others --------------------------------------------------------------------------------------------------- */

void ctl_print_killed(const struct tree *answer, char **words, FILE *out)
{
	(void)answer;
	fputs("connection ", out);
	ctl_print_text(words[0], out);
	fputs(" is ended\n", out);
}

void ctl_print_reset(const struct tree *answer, char **words, FILE *out)
{
	(void)answer;
	(void)words;
	fputs("what was learnt of the servers, and what was set by hand, is forgotten\n", out);
}
