/* The live view of aegis-stat -w without the terminal: snapshots and keys go in, a canvas comes out.
 *
 * Process: aegis-stat. Owner: struct live owns the last snapshot and what was made of it, from live_init() to live_fini().
 * States:  it shows what was fed last; after live_lost() why there is nothing to see, until it is fed again. Trends and events stay
 *          over that. While it is paused nobody feeds it.
 *
 * From top to bottom: a line about the instance, charts and percentiles, the names of the panes, the pane that is shown, keys.
 */
#ifndef AEGIS_TOOLS_LIVE_H
#define AEGIS_TOOLS_LIVE_H

#include "tools/events.h"
#include "tools/table.h"

/* Keys beyond ASCII. */
enum live_key {
	LIVE_KEY_UP = 0x110000, /* no character */
	LIVE_KEY_DOWN,
	LIVE_KEY_LEFT,
	LIVE_KEY_RIGHT,
	LIVE_KEY_PAGE_UP,
	LIVE_KEY_PAGE_DOWN,
	LIVE_KEY_HOME,
	LIVE_KEY_END,
	LIVE_KEY_BACKSPACE,
	LIVE_KEY_ENTER,
	LIVE_KEY_ESCAPE,
	LIVE_KEY_BACK_TAB,
};

#define LIVE_PANES(X)             \
	X(OVERVIEW, "overview")   \
	X(SERVERS, "servers")     \
	X(LISTENERS, "listeners") \
	X(WORKERS, "workers")     \
	X(LINES, "lines")         \
	X(ENDS, "ends")           \
	X(EVENTS, "events")

enum live_pane {
#define X(id, name) PANE_##id,
	LIVE_PANES(X)
#undef X
	        N_PANES
};

enum { LIVE_FILTER_SIZE = 48, LIVE_WHY_SIZE = 512 };

/* What the charts at the top follow. */
#define LIVE_CHARTS(X)               \
	X(CONNECTIONS, "connects/s") \
	X(THROUGHPUT, "throughput")  \
	X(ACTIVE, "active")          \
	X(ERRORS, "errors/s")        \
	X(REJECTED, "rejected/s")

enum live_chart {
#define X(id, name) CHART_##id,
	LIVE_CHARTS(X)
#undef X
	        N_CHARTS
};

/* The servers of an upstream together. */
struct live_upstream {
	uint32_t servers, usable;
	uint64_t active, hot;
};

struct live {
	struct snapshot *now; /* NULL = nothing to see */
	struct rates rates;
	uint64_t looked_ns;
	uint64_t unix_s;
	char why[LIVE_WHY_SIZE];         /* there is nothing to see */
	struct live_upstream *upstreams; /* beside those of the snapshot */
	struct trend *server_trends;     /* of connections/s; beside the servers of the snapshot */
	struct trend *line_trends;       /* of who waits, by the row of the upstream */
	size_t n_server_trends;
	struct trend charts[N_CHARTS];
	struct events events;

	/* how someone looks at it */
	uint64_t period_ns;
	bool is_paused, in_help, is_typing;
	enum live_pane pane;
	struct table_look looks[N_PANES];
	size_t help_first;
	char filter[LIVE_FILTER_SIZE];
	unsigned page; /* lines of the pane as it was drawn last */
};

/* 0 or -ENOMEM. */
must_check int live_init(struct live *live, uint64_t period_ns);
void live_fini(struct live *live);

/* Take the next snapshot over, taken at that time. 0, or -ENOMEM; the snapshot is freed then. */
must_check int live_feed(struct live *live, struct snapshot *snapshot, uint64_t now_ns, uint64_t unix_s);
/* There is none: why. */
void live_lost(struct live *live, const char *why, uint64_t unix_s);

/* A key: an ASCII character, a byte of UTF-8, or one of enum live_key. False: it was the one that quits. */
must_check bool live_key(struct live *live, int key);

void live_draw(struct live *live, struct canvas *canvas);

#endif
