#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/units.h"
#include "tools/ctl_cells.h"

/* --- status --------------------------------------------------------------------------------------------------- */

static void print_instance(const struct tree *answer, FILE *out)
{
	char up[CTL_UNIT_SIZE];
	const struct tree *reloads = tree_get(answer, "reloads");
	fputs("Aegis ", out);
	ctl_print_text(tree_string(answer, "version"), out);
	fputs(", ", out);
	ctl_print_text(tree_string(answer, "state"), out);
	fprintf(out, ", generation %" PRIu64 ", up %s, pid %" PRIu64 ", engine ", tree_u64(answer, "generation"),
	        ctl_human(tree_number(answer, "uptime_seconds"), NS_PER_S, up), tree_u64(answer, "pid"));
	ctl_print_text(tree_string(answer, "engine"), out);
	fputs("\nsettings: ", out);
	ctl_print_text(tree_string(answer, "config_file")[0] != '\0' ? tree_string(answer, "config_file") : "command line", out);
	fprintf(out, "; reloads: %" PRIu64 " ok, %" PRIu64 " failed; workers replaced: %" PRIu64 "\n", tree_u64(reloads, "ok"),
	        tree_u64(reloads, "failed"), tree_u64(answer, "worker_restarts"));
	if (tree_u64(reloads, "last_unix") == 0)
		return;
	fputs("last reload ", out);
	ctl_print_moment(tree_number(reloads, "last_unix"), out);
	fputs(tree_bool(reloads, "last_ok") ? ": ok" : ": failed, the settings before stay", out);
	fputs(tree_string(reloads, "last_note")[0] != '\0' ? "; " : "", out);
	ctl_print_text(tree_string(reloads, "last_note"), out);
	fputc('\n', out);
}

static bool takes_datagrams(const struct tree *listener)
{
	return strcmp(tree_string(listener, "protocol"), "udp") == 0;
}

/* As aegis-stat has it, and why some were dropped. */
static void print_datagrams(const struct tree *answer, FILE *out)
{
	const struct tree *udp = tree_get(answer, "udp"), *datagrams = tree_get(udp, "datagrams"), *row = ctl_first(answer, "listeners");
	uint64_t dropped = 0;
	while (row && !takes_datagrams(row))
		row = row->next;
	if (!row && tree_u64(udp, "sessions") == 0)
		return;
	for (const struct tree *drop = ctl_first(udp, "drops"); drop; drop = drop->next)
		dropped += (uint64_t)drop->number;
	fprintf(out, "datagrams    %" PRIu64 " sessions, %" PRIu64 " from clients, %" PRIu64 " to clients, %" PRIu64 " dropped",
	        tree_u64(udp, "sessions"), tree_u64(datagrams, "from_client"), tree_u64(datagrams, "to_client"), dropped);
	const char *before = ": ";
	for (const struct tree *drop = ctl_first(udp, "drops"); drop; drop = drop->next) {
		if (drop->number == 0)
			continue;
		fprintf(out, "%s%.0f ", before, drop->number);
		ctl_print_text(drop->key, out);
		before = ", ";
	}
	fputc('\n', out);
}

static void print_totals(const struct tree *answer, FILE *out)
{
	char received[CTL_UNIT_SIZE], sent[CTL_UNIT_SIZE];
	const struct tree *connections = tree_get(answer, "connections"), *bytes = tree_get(answer, "bytes");
	fprintf(out, "\nconnections  %" PRIu64 " active", tree_u64(connections, "active"));
	if (tree_u64(connections, "max") != 0)
		fprintf(out, " of at most %" PRIu64, tree_u64(connections, "max"));
	fprintf(out, ", %" PRIu64 " in total, %" PRIu64 " rejected, %" PRIu64 " errors\n", tree_u64(connections, "total"),
	        tree_u64(connections, "rejected"), tree_u64(connections, "errors"));
	print_datagrams(answer, out);
	fprintf(out, "bytes        %s from clients, %s to clients\n",
	        units_human_bytes(tree_u64(bytes, "received"), received, sizeof received),
	        units_human_bytes(tree_u64(bytes, "sent"), sent, sizeof sent));
}

static void print_latency(const struct tree *answer, FILE *out)
{
	static const char *const rows[][2] = { { "connect", "connect to server" }, { "first_byte", "first byte of server" },
		{ "connection", "whole connection" } };
	struct grid grid;
	grid_init(&grid, "lrrrr");
	CTL_TITLES(&grid, "LATENCY", "COUNT", "P50", "P95", "P99");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct tree *row = tree_get(tree_get(answer, "latency"), rows[i][0]);
		bool empty = tree_u64(row, "count") == 0;
		grid_add(&grid, "%s", rows[i][1]);
		ctl_add_u64(&grid, row, "count");
		ctl_add_time(&grid, empty ? NULL : row, "p50_ms", NS_PER_MS);
		ctl_add_time(&grid, empty ? NULL : row, "p95_ms", NS_PER_MS);
		ctl_add_time(&grid, empty ? NULL : row, "p99_ms", NS_PER_MS);
	}
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

static void print_listeners(const struct tree *answer, FILE *out)
{
	struct grid grid;
	grid_init(&grid, "lllrrrrrr");
	CTL_TITLES(&grid, "LISTENER", "ADDRESS", "UPSTREAM", "ACTIVE", "TOTAL", "REJ", "ERR", "RECEIVED", "SENT");
	for (const struct tree *row = ctl_first(answer, "listeners"); row != NULL; row = row->next) {
		ctl_add_text(&grid, row, "name");
		ctl_add_text(&grid, row, "address");
		ctl_add_text(&grid, row, "upstream");
		ctl_add_of(&grid, row, "active", "max");
		ctl_add_u64(&grid, row, "total");
		ctl_add_u64(&grid, row, "rejected");
		ctl_add_u64(&grid, row, "errors");
		ctl_add_bytes(&grid, row, "received");
		ctl_add_bytes(&grid, row, "sent");
	}
	fputc('\n', out);
	grid_print(&grid, 0, out);
}

static void add_certificate(struct grid *grid, const struct tree *row, double now_s)
{
	double left_s = tree_number(row, "not_after_unix") - now_s;
	char left[CTL_UNIT_SIZE];
	ctl_add_text(grid, row, "listener");
	ctl_add_text(grid, row, "name");
	if (left_s > 0)
		grid_add(grid, "in %s", ctl_human(left_s, NS_PER_S, left));
	else
		grid_add(grid, "EXPIRED");
}

/* Those that end soonest, where there are many. */
static void print_certificates(const struct tree *answer, FILE *out)
{
	enum { MOST = 20, SOON_S = 30 * 86400 };
	struct grid grid;
	double now_s = (double)time(NULL);
	size_t count = 0, left_out = 0;
	for (const struct tree *row = ctl_first(answer, "certificates"); row != NULL; row = row->next)
		count++;
	if (count == 0)
		return;
	grid_init(&grid, "lll");
	CTL_TITLES(&grid, "CERTIFICATE OF", "NAME", "EXPIRES");
	for (const struct tree *row = ctl_first(answer, "certificates"); row != NULL; row = row->next)
		if (count <= MOST || tree_number(row, "not_after_unix") - now_s < SOON_S)
			add_certificate(&grid, row, now_s);
		else
			left_out++;
	fputc('\n', out);
	grid_print(&grid, 0, out);
	if (left_out > 0)
		fprintf(out, "%zu more, which do not expire within 30 days\n", left_out);
}

void ctl_print_status(const struct tree *answer, char **words, FILE *out)
{
	(void)words;
	print_instance(answer, out);
	print_totals(answer, out);
	print_latency(answer, out);
	print_listeners(answer, out);
	print_certificates(answer, out);
}

/* --- health, servers ------------------------------------------------------------------------------------------ */

void ctl_print_health(const struct tree *answer, char **words, FILE *out)
{
	(void)words;
	struct grid grid;
	grid_init(&grid, "ll");
	for (const struct tree *row = ctl_first(answer, "backends"); row != NULL; row = row->next) {
		ctl_add_printable(&grid, row->key);
		grid_add(&grid, "%s", row->number != 0 ? "usable" : "not usable");
	}
	ctl_print_text(tree_string(answer, "status"), out);
	fputc('\n', out);
	grid_print(&grid, 2, out);
}

static void add_weight(struct grid *grid, const struct tree *server)
{
	const char *backup = tree_bool(server, "backup") ? "backup " : "";
	if (tree_u64(server, "weight_now") != tree_u64(server, "weight"))
		grid_add(grid, "%s%" PRIu64 "/%" PRIu64, backup, tree_u64(server, "weight_now"), tree_u64(server, "weight"));
	else
		grid_add(grid, "%s%" PRIu64, backup, tree_u64(server, "weight"));
}

/* The name of the upstream stands under key in another object. */
static void add_server(struct grid *grid, const struct tree *upstream, const char *key, const struct tree *server)
{
	const struct tree *health = tree_get(server, "health"), *override = tree_get(server, "override");
	bool checked = tree_get(health, "checked_seconds_ago") != NULL && tree_get(health, "checked_seconds_ago")->kind == TREE_NUMBER;
	bool set = override != NULL && override->kind == TREE_STRING && strcmp(override->text, "none") != 0;
	ctl_add_text(grid, upstream, key);
	ctl_add_text(grid, server, "name");
	if (strcmp(tree_string(server, "state"), "unknown") == 0)
		grid_add(grid, "-");
	else
		ctl_add_text(grid, server, "state");
	if (set)
		ctl_add_text(grid, server, "override");
	else
		grid_add(grid, "-");
	ctl_add_text(grid, server, "address");
	add_weight(grid, server);
	ctl_add_of(grid, server, "active", "max");
	ctl_add_u64(grid, server, "hot");
	ctl_add_u64(grid, server, "total");
	ctl_add_u64(grid, server, "failures");
	const char *why = checked ? tree_string(health, "why") : "";
	if (why[0])
		grid_add(grid, "%s (%s)", tree_string(health, "result"), why);
	else
		ctl_add_text(grid, checked ? health : NULL, "result");
	ctl_add_time(grid, health, "checked_seconds_ago", NS_PER_S);
}

static void begin_servers(struct grid *grid)
{
	grid_init(grid, "llllllrrrrlr");
	CTL_TITLES(grid, "UPSTREAM", "SERVER", "STATE", "BY HAND", "ADDRESS", "WEIGHT", "ACTIVE", "HOT", "TOTAL", "FAILED", "LAST CHECK",
	        "AGO");
}

void ctl_print_server(const struct tree *answer, char **words, FILE *out)
{
	(void)words;
	struct grid grid;
	begin_servers(&grid);
	add_server(&grid, answer, "upstream", tree_get(answer, "server"));
	grid_print(&grid, 0, out);
}

static void print_lines(const struct tree *answer, FILE *out)
{
	bool any = false;
	for (const struct tree *upstream = ctl_first(answer, "upstreams"); upstream != NULL; upstream = upstream->next) {
		if (tree_u64(upstream, "queue_max") == 0 && tree_u64(upstream, "waiting") == 0)
			continue;
		fprintf(out, "%sin line for ", any ? "" : "\n");
		ctl_print_text(tree_string(upstream, "name"), out);
		fprintf(out, ": %" PRIu64 " of at most %" PRIu64 "\n", tree_u64(upstream, "waiting"), tree_u64(upstream, "queue_max"));
		any = true;
	}
}

void ctl_print_servers(const struct tree *answer, char **words, FILE *out)
{
	(void)words;
	struct grid grid;
	begin_servers(&grid);
	for (const struct tree *upstream = ctl_first(answer, "upstreams"); upstream != NULL; upstream = upstream->next)
		for (const struct tree *server = ctl_first(upstream, "servers"); server != NULL; server = server->next)
			add_server(&grid, upstream, "name", server);
	grid_print(&grid, 0, out);
	print_lines(answer, out);
}
