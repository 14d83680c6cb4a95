#include <inttypes.h>
#include <time.h>

#include "base/clock.h"
#include "tools/stat.h"

static uint64_t bytes_both_ways(const struct snapshot *snapshot)
{
	return snapshot->totals.received_bytes + snapshot->totals.sent_bytes;
}

void stat_print_line(const struct snapshot *before, const struct snapshot *now, uint64_t elapsed_ns, FILE *out)
{
	uint64_t bytes = bytes_both_ways(now), moved = 0;
	/* Another instance may have taken the place of the one before; then everything it moved is new. */
	if (before != NULL && before->started_ns == now->started_ns && bytes_both_ways(before) <= bytes)
		moved = bytes - bytes_both_ways(before);
	else if (before != NULL)
		moved = bytes;
	double gbps = elapsed_ns == 0 ? 0 : (double)moved * 8 / (double)elapsed_ns;
	fprintf(out, "%8" PRIu32 " active | %6" PRIu64 " err | %6" PRIu64 " rej | %7.2f Gbps | %9.2f GB total\n", now->active,
	        sums_closes(&now->totals, REASON_ERROR), sums_closes(&now->totals, REASON_REJECTED), gbps, (double)bytes / 1e9);
}

static void sleep_until(uint64_t when_ns)
{
	struct timespec when = { .tv_sec = (time_t)(when_ns / NS_PER_S), .tv_nsec = (long)(when_ns % NS_PER_S) };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) != 0)
		continue;
}

enum stat_exit stat_run_lines(const char *dir, const struct stat_periods *periods)
{
	char why[STAT_WHY_SIZE];
	struct snapshot *before = NULL, *now = NULL;
	enum stat_exit code = stat_look(dir, &before, why, sizeof why);
	uint64_t looked_ns = clock_now_ns(), due_ns = looked_ns;
	for (uint64_t n = 0; code == STAT_OK && (periods->count == 0 || n < periods->count); n++) {
		due_ns += periods->period_ns;
		/* After a stop (Ctrl-Z) the periods that were missed stay missed. */
		if (due_ns < clock_now_ns())
			due_ns = clock_now_ns();
		sleep_until(due_ns);
		code = stat_look(dir, &now, why, sizeof why);
		if (code != STAT_OK)
			break;
		uint64_t now_ns = clock_now_ns();
		stat_print_line(before, now, now_ns - looked_ns, stdout);
		snapshot_free(before);
		before = now;
		looked_ns = now_ns;
		if (fflush(stdout) != 0)
			break;
	}
	snapshot_free(before);
	if (code != STAT_OK)
		fprintf(stderr, "aegis-stat: %s\n", why);
	return code;
}
