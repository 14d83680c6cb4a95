#include <inttypes.h>
#include <string.h>

#include "tools/ctl_cells.h"

/* What is only there for some of them has a column when one has it. */
static bool any_has(const struct tree *answer, const char *key)
{
	for (const struct tree *row = ctl_first(answer, "connections"); row != NULL; row = row->next)
		if (tree_get(row, key) != NULL)
			return true;
	return false;
}

static void add_datagrams(struct grid *grid, const struct tree *row)
{
	if (tree_get(row, "up_datagrams") != NULL)
		grid_add(grid, "%" PRIu64 "/%" PRIu64, tree_u64(row, "up_datagrams"), tree_u64(row, "down_datagrams"));
	else
		grid_add(grid, "-");
}

/* "TLSv1.3 TLS_AES_128_GCM_SHA256 resumed" */
static void add_tls(struct grid *grid, const struct tree *tls)
{
	if (tls == NULL)
		grid_add(grid, "-");
	else
		grid_add(grid, "%s %s%s", tree_string(tls, "version"), tree_string(tls, "cipher"),
		        tree_bool(tls, "resumed") ? " resumed" : "");
}

/* What the old masters have is known by number only. */
static void print_elders(const struct tree *answer, const char *what, FILE *out)
{
	for (const struct tree *elder = ctl_first(answer, "elders"); elder != NULL; elder = elder->next) {
		uint64_t n = tree_u64(elder, "connections");
		fprintf(out, "\n%" PRIu64 " connection%s of the master before (pid %" PRIu64 ") %s not %s.\n", n, n == 1 ? "" : "s",
		        tree_u64(elder, "pid"), n == 1 ? "is" : "are", what);
	}
}

void ctl_print_connections(const struct tree *answer, char **words, FILE *out)
{
	(void)words;
	struct grid grid;
	bool datagrams = any_has(answer, "up_datagrams"), names = any_has(answer, "sni");
	bool clients = any_has(answer, "client_tls"), servers = any_has(answer, "server_tls");
	char columns[20];
	(void)snprintf(columns, sizeof columns, "llllllrrrr%s%s%s%s", datagrams ? "r" : "", names ? "l" : "", clients ? "l" : "",
	        servers ? "l" : "");
	grid_init(&grid, columns);
	CTL_TITLES(&grid, "ID", "CLIENT", "LISTENER", "UPSTREAM", "SERVER", "STEP", "AGE", "IDLE", "UP", "DOWN");
	if (datagrams)
		CTL_TITLES(&grid, "DATAGRAMS");
	if (names)
		CTL_TITLES(&grid, "SNI");
	if (clients)
		CTL_TITLES(&grid, "CLIENT TLS");
	if (servers)
		CTL_TITLES(&grid, "SERVER TLS");
	for (const struct tree *row = ctl_first(answer, "connections"); row != NULL; row = row->next) {
		static const char *const texts[] = { "id", "client", "listener", "upstream", "server", "step" };
		for (size_t i = 0; i < ARRAY_LEN(texts); i++)
			ctl_add_text(&grid, row, texts[i]);
		ctl_add_time(&grid, row, "age_ms", NS_PER_MS);
		ctl_add_time(&grid, row, "idle_ms", NS_PER_MS);
		ctl_add_bytes(&grid, row, "up_bytes");
		ctl_add_bytes(&grid, row, "down_bytes");
		if (datagrams)
			add_datagrams(&grid, row);
		if (names)
			ctl_add_text(&grid, row, "sni");
		if (clients)
			add_tls(&grid, tree_get(row, "client_tls"));
		if (servers)
			add_tls(&grid, tree_get(row, "server_tls"));
	}
	grid_print(&grid, 0, out);
	if (tree_bool(answer, "truncated"))
		fputs("\nThere are more than these; limit=N lists more, client=, listener= and server= say which.\n", out);
	for (const struct tree *worker = ctl_first(answer, "silent_workers"); worker != NULL; worker = worker->next)
		fprintf(out, "\nWorker %" PRIu64 " (pid %" PRIu64 ") does not answer: its connections are not listed.\n",
		        tree_u64(worker, "slot"), tree_u64(worker, "pid"));
	print_elders(answer, "listed", out);
}

/* A moment as text, or as seconds since 1970. */
static void print_when(const struct tree *object, const char *key, FILE *out)
{
	const struct tree *member = tree_get(object, key);
	if (member != NULL && member->kind == TREE_NUMBER)
		ctl_print_moment(member->number, out);
	else
		ctl_print_text(tree_string(object, key), out);
}

static void print_story(const struct tree *connection, FILE *out)
{
	struct grid grid;
	grid_init(&grid, "rll");
	const struct tree *ended = tree_get(connection, "ended");
	ctl_print_text(tree_string(connection, "id"), out);
	fputs("  ", out);
	ctl_print_text(tree_string(connection, "client"), out);
	fputs(" to ", out);
	ctl_print_text(tree_string(connection, "listener"), out);
	fputs(", began ", out);
	print_when(connection, "began", out);
	if (ended != NULL && ended->kind != TREE_NULL) {
		fputs(", ended ", out);
		print_when(connection, "ended", out);
		fputs(": ", out);
		ctl_print_text(tree_string(connection, "reason"), out);
	} else {
		fputs(", is open", out);
	}
	fputc('\n', out);
	for (const struct tree *step = ctl_first(connection, "steps"); step != NULL; step = step->next) {
		ctl_add_time(&grid, step, "at_ms", NS_PER_MS);
		ctl_add_text(&grid, step, "step");
		ctl_add_text(&grid, step, "text");
	}
	grid_print(&grid, 4, out);
}

/* Who asks for ::/0 may mean everybody. */
static void print_nobody(const char *address, FILE *out)
{
	size_t length = strlen(address);
	fputs("No connection of ", out);
	ctl_print_text(address, out);
	fputs(" is remembered.\n", out);
	if (length > 2 && strcmp(address + length - 2, "/0") == 0)
		fputs("A range is of one family: 0.0.0.0/0 are all of IPv4, ::/0 all of IPv6, \"all\" those of both.\n", out);
}

void ctl_print_why(const struct tree *answer, char **words, FILE *out)
{
	bool any = false;
	for (const struct tree *row = ctl_first(answer, "connections"); row != NULL; row = row->next) {
		fputs(any ? "\n" : "", out);
		print_story(row, out);
		any = true;
	}
	if (!any)
		print_nobody(words[0], out);
	print_elders(answer, "looked through", out);
}
