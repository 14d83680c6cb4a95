/* aegis-stat -w: the live view in a terminal. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "tools/live.h"
#include "tools/screen.h"
#include "tools/stat.h"

struct watch {
	const char *dir;
	struct screen screen;
	struct canvas canvas;
	struct live live;
};

/* Look once. An instance that is gone may come back: that is shown and no reason to end. */
static int watch_look(struct watch *watch)
{
	char why[STAT_WHY_SIZE];
	struct snapshot *now;
	enum stat_exit code = stat_look(watch->dir, &now, why, sizeof why);
	uint64_t unix_s = (uint64_t)time(NULL);
	if (code == STAT_OK)
		return live_feed(&watch->live, now, clock_now_ns(), unix_s);
	live_lost(&watch->live, why, unix_s);
	return 0;
}

static int watch_show(struct watch *watch)
{
	if (watch->canvas.rows != watch->screen.rows || watch->canvas.columns != watch->screen.columns) {
		int rc = canvas_resize(&watch->canvas, watch->screen.rows, watch->screen.columns);
		if (rc < 0)
			return rc;
	}
	live_draw(&watch->live, &watch->canvas);
	return screen_show(&watch->screen, &watch->canvas);
}

/* False when it is to end. */
static bool watch_take(struct watch *watch, enum screen_event event)
{
	if (event == SCREEN_KEY)
		return live_key(&watch->live, watch->screen.key);
	return event != SCREEN_QUIT && event != SCREEN_SIGNAL;
}

/* 0 when it ended as it should, or a negative errno. */
static int watch_run(struct watch *watch, const struct stat_periods *periods)
{
	uint64_t due_ns = 0, looks = 0, began_ns = 0;
	for (;;) {
		int rc = 0;
		if (clock_now_ns() >= due_ns && !watch->live.is_paused) {
			rc = watch_look(watch);
			looks++;
			began_ns = clock_now_ns();
		}
		if (rc == 0)
			rc = watch_show(watch);
		if (rc < 0)
			return rc;
		/* A key may have changed the period. */
		due_ns = began_ns + watch->live.period_ns;
		enum screen_event event = screen_wait(&watch->screen, watch->live.is_paused ? UINT64_MAX : due_ns);
		/* The last look stays for its period, as all do. */
		if (!watch_take(watch, event) || (event == SCREEN_TIME && looks == periods->count))
			return 0;
	}
}

static enum stat_exit refuse(const char *dir)
{
	char why[STAT_WHY_SIZE];
	struct snapshot *now;
	enum stat_exit code = stat_look(dir, &now, why, sizeof why);
	if (code == STAT_OK)
		snapshot_free(now);
	else
		fprintf(stderr, "aegis-stat: %s\n", why);
	return code;
}

enum stat_exit stat_run_screen(const char *dir, const struct stat_periods *periods)
{
	const char *none;
	if (!screen_possible(&none)) {
		fprintf(stderr,
		        "aegis-stat: -w needs a terminal, and %s; use -l for a line each second, -j for JSON, or no option for tables\n",
		        none);
		return STAT_ARGUMENTS;
	}
	/* Nothing there at the start is an error as for the other outputs; going away later is not. */
	enum stat_exit code = refuse(dir);
	if (code != STAT_OK)
		return code;
	struct watch *watch = calloc(1, sizeof *watch);
	int rc = watch != NULL ? live_init(&watch->live, periods->period_ns) : -ENOMEM;
	if (rc == 0) {
		watch->dir = dir;
		rc = screen_open(&watch->screen);
	}
	if (rc == 0) {
		watch->canvas.ascii = !watch->screen.is_utf8;
		rc = watch_run(watch, periods);
		screen_close(&watch->screen);
		if (watch->screen.signal != 0)
			screen_die(&watch->screen);
	}
	if (watch != NULL) {
		live_fini(&watch->live);
		canvas_free(&watch->canvas);
	}
	free(watch);
	if (rc < 0) {
		fprintf(stderr, "aegis-stat: the terminal: %s\n", strerror(-rc));
		return STAT_UNREADABLE;
	}
	return STAT_OK;
}
