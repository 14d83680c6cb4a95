/* aegis-stat -w: the tables, live. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "tools/screen.h"
#include "tools/stat.h"

struct watch {
	const char *dir;
	struct screen screen;
	struct snapshot *now;
	uint64_t looked_ns;
	char *text; /* what is shown: the live line, then the tables; or why there is nothing to show */
	size_t lines;
	size_t first_line; /* scrolled down by so many */
};

static size_t count_lines(const char *text)
{
	size_t lines = 0;
	for (; *text != '\0'; text++)
		lines += *text == '\n';
	return lines;
}

/* Look, and write anew what is shown. An instance that is gone may come back: that is shown and no reason to end. */
static int watch_look(struct watch *watch)
{
	char why[STAT_WHY_SIZE], *text = NULL;
	size_t size = 0;
	struct snapshot *now = NULL;
	FILE *out = open_memstream(&text, &size);
	if (out == NULL)
		return -ENOMEM;
	enum stat_exit code = stat_look(watch->dir, &now, why, sizeof why);
	uint64_t now_ns = clock_now_ns();
	if (code == STAT_OK) {
		stat_print_line(watch->now, now, now_ns - watch->looked_ns, out);
		fputc('\n', out);
		stat_print_tables(now, out);
	} else {
		fprintf(out, "%s\n\nLooking again and again; q quits.\n", why);
	}
	if (fclose(out) != 0) {
		snapshot_free(now);
		free(text);
		return -ENOMEM;
	}
	snapshot_free(watch->now);
	free(watch->text);
	watch->now = now;
	watch->looked_ns = now_ns;
	watch->text = text;
	watch->lines = count_lines(text);
	return 0;
}

static size_t page(const struct watch *watch)
{
	return watch->screen.rows > 1 ? watch->screen.rows - 1 : 1;
}

static int watch_show(struct watch *watch)
{
	char last[128];
	size_t most = watch->lines > page(watch) ? watch->lines - page(watch) : 0;
	if (watch->first_line > most)
		watch->first_line = most;
	if (most == 0)
		snprintf(last, sizeof last, "q quits");
	else
		snprintf(last, sizeof last, "q quits, arrows and space scroll: lines %zu to %zu of %zu", watch->first_line + 1,
		        watch->first_line + page(watch), watch->lines);
	return screen_show(&watch->screen, watch->text, watch->first_line, last);
}

static void watch_scroll(struct watch *watch, enum screen_event event)
{
	size_t step = event == SCREEN_PAGE_UP || event == SCREEN_PAGE_DOWN ? page(watch) : 1;
	if (event == SCREEN_DOWN || event == SCREEN_PAGE_DOWN)
		watch->first_line += step;
	else if (event == SCREEN_UP || event == SCREEN_PAGE_UP)
		watch->first_line -= watch->first_line < step ? watch->first_line : step;
}

/* 0 when it ended as it should, or a negative errno. */
static int watch_run(struct watch *watch, const struct stat_periods *periods)
{
	uint64_t due_ns = 0, looks = 0;
	for (;;) {
		int rc = 0;
		if (clock_now_ns() >= due_ns) {
			rc = watch_look(watch);
			looks++;
			due_ns = clock_now_ns() + periods->period_ns;
		}
		if (rc == 0)
			rc = watch_show(watch);
		if (rc < 0)
			return rc;
		enum screen_event event = screen_wait(&watch->screen, due_ns);
		/* The last look stays for its period, as all do. */
		bool last = event == SCREEN_TIME && looks == periods->count;
		if (event == SCREEN_QUIT || event == SCREEN_SIGNAL || last)
			return 0;
		watch_scroll(watch, event);
	}
}

enum stat_exit stat_run_screen(const char *dir, const struct stat_periods *periods)
{
	if (!screen_possible()) {
		fputs("aegis-stat: -w needs a terminal (and TERM set); use -l for lines or -j for JSON\n", stderr);
		return STAT_ARGUMENTS;
	}
	/* Nothing there at the start is an error as for the other outputs; going away later is not. */
	char why[STAT_WHY_SIZE];
	struct watch watch = { .dir = dir, .looked_ns = clock_now_ns() };
	enum stat_exit code = stat_look(dir, &watch.now, why, sizeof why);
	if (code != STAT_OK) {
		fprintf(stderr, "aegis-stat: %s\n", why);
		return code;
	}
	/* A rate over the moment until the first screen would be noise. */
	snapshot_free(watch.now);
	watch.now = NULL;
	int rc = screen_open(&watch.screen);
	if (rc == 0) {
		rc = watch_run(&watch, periods);
		screen_close(&watch.screen);
		if (watch.screen.signal != 0)
			screen_die(&watch.screen);
	}
	snapshot_free(watch.now);
	free(watch.text);
	if (rc < 0) {
		fprintf(stderr, "aegis-stat: the terminal: %s\n", strerror(-rc));
		return STAT_UNREADABLE;
	}
	return STAT_OK;
}
