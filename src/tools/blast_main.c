/* aegis-udpblast: see blast.h and aegis-udpblast(1). This is the parent: it forks, gives the start and adds up. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/blast.h"
#include "tools/processes.h"

struct parent {
	struct blast_plan plan;
	struct blast_shared *shared;
	size_t shared_bytes;
	struct blast_tally sum;
	pid_t *children;
	int ready[2]; /* each child writes a byte when it is ready, and has it open until it ends */
	int go[2];    /* the children read it; that nobody writes to it any more is the start */
	int rows_fd;
};

static bool prepare(struct parent *parent)
{
	const struct blast_plan *plan = &parent->plan;
	if (!processes_have_descriptors("aegis-udpblast", "flows", plan->flows, plan->processes))
		return false;
	parent->rows_fd = plan->csv != NULL ? rows_create(plan->csv, "flow") : -1;
	if (plan->csv != NULL && parent->rows_fd < 0) {
		fprintf(stderr, "aegis-udpblast: %s: %s\n", plan->csv, strerror(-parent->rows_fd));
		return false;
	}
	parent->shared_bytes = sizeof *parent->shared + plan->processes * sizeof parent->shared->tallies[0];
	void *shared = mmap(NULL, parent->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	parent->shared = shared != MAP_FAILED ? shared : NULL;
	parent->children = calloc(plan->processes, sizeof *parent->children);
	if (parent->shared == NULL || parent->children == NULL || pipe2(parent->ready, O_CLOEXEC) < 0 || pipe2(parent->go, O_CLOEXEC) < 0) {
		fprintf(stderr, "aegis-udpblast: cannot start: %s\n", strerror(errno));
		return false;
	}
	return true;
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static bool fork_all(struct parent *parent)
{
	const struct blast_plan *plan = &parent->plan;
	uint32_t first = 0;
	for (uint32_t i = 0; i < plan->processes; i++) {
		uint32_t n = processes_share(plan->flows, plan->processes, i);
		pid_t pid = processes_fork();
		if (pid < 0) {
			fprintf(stderr, "aegis-udpblast: cannot start load process %" PRIu32 ": %s\n", i + 1, strerror(errno));
			return false;
		}
		if (pid == 0) {
			close_end(&parent->go[1]);
			close_end(&parent->ready[0]);
			_exit(blast_main(plan, parent->shared, i, first, n, parent->ready[1], parent->go[0], parent->rows_fd));
		}
		parent->children[i] = pid;
		first += n;
	}
	return true;
}

static bool await_ready(const struct parent *parent)
{
	for (uint32_t i = 0; i < parent->plan.processes; i++) {
		char byte;
		ssize_t got;
		do
			got = read(parent->ready[0], &byte, 1);
		while (got < 0 && errno == EINTR);
		if (got != 1 || byte != BLAST_READY)
			return false;
	}
	return true;
}

static void add_tallies(struct parent *parent)
{
	parent->sum = (struct blast_tally){ .sent = 0 };
	for (uint32_t i = 0; i < parent->plan.processes; i++)
		blast_tally_add(&parent->sum, &parent->shared->tallies[i]);
}

/* --- while it runs ---------------------------------------------------------------- */

struct look {
	uint64_t at_ns, sent, answered, lost;
};

static struct look look(const struct parent *parent)
{
	struct look now = { .at_ns = clock_now_ns() };
	for (uint32_t i = 0; i < parent->plan.processes; i++) {
		struct blast_tally *tally = &parent->shared->tallies[i];
		now.sent += atomic_load(&tally->sent_now);
		now.answered += atomic_load(&tally->answered_now);
		now.lost += atomic_load(&tally->lost_now);
	}
	return now;
}

static void report_period(const struct parent *parent, uint64_t start_ns, struct look *last)
{
	struct look now = look(parent);
	/* What was given up and answered after all is taken back, which may be more than was given up since. */
	blast_report_period(&parent->plan, (double)(now.at_ns - start_ns) / (double)NS_PER_S, now.sent - last->sent,
	        now.answered - last->answered, now.lost > last->lost ? now.lost - last->lost : 0,
	        (double)(now.at_ns - last->at_ns) / (double)NS_PER_S);
	*last = now;
}

/* Until the children have closed their end of `ready`: tell when it is warm, and a line each period. */
static void watch(const struct parent *parent, uint64_t start_ns)
{
	const struct blast_plan *plan = &parent->plan;
	uint64_t warm_ns = plan->warmup_ns > 0 ? start_ns + plan->warmup_ns : UINT64_MAX;
	uint64_t period_ns = plan->period_ns > 0 ? start_ns + plan->period_ns : UINT64_MAX;
	struct look last = { .at_ns = start_ns };
	for (;;) {
		uint64_t now_ns = clock_now_ns(), until_ns = warm_ns < period_ns ? warm_ns : period_ns;
		struct pollfd input = { .fd = parent->ready[0], .events = POLLIN };
		uint64_t ms = until_ns == UINT64_MAX ? UINT64_MAX : until_ns > now_ns ? (until_ns - now_ns) / NS_PER_MS + 1 : 0;
		if (poll(&input, 1, ms < 60000 ? (int)ms : 60000) > 0)
			return;
		now_ns = clock_now_ns();
		if (now_ns >= warm_ns) {
			fputs("aegis-udpblast: warm\n", stderr);
			warm_ns = UINT64_MAX;
		}
		if (now_ns >= period_ns) {
			report_period(parent, start_ns, &last);
			period_ns += plan->period_ns;
		}
	}
}

/* From all flows open to all processes at their end. */
static int conduct(struct parent *parent)
{
	const struct blast_plan *plan = &parent->plan;
	close_end(&parent->ready[1]);
	close_end(&parent->go[0]);
	bool well = await_ready(parent);
	if (!well) {
		add_tallies(parent);
		fputs("aegis-udpblast: cannot start\n", stderr);
		blast_report_failures(&parent->sum);
		return BLAST_START;
	}
	uint64_t start_ns = clock_now_ns();
	atomic_store(&parent->shared->start_ns, start_ns);
	close_end(&parent->go[1]);
	watch(parent, start_ns);
	for (uint32_t i = 0; i < plan->processes; i++) {
		well = processes_ended_well(parent->children[i]) && well;
		parent->children[i] = 0;
	}
	add_tallies(parent);
	double seconds = (double)(int64_t)(parent->sum.end_ns - start_ns - plan->warmup_ns) / (double)NS_PER_S;
	blast_report(plan, &parent->sum, seconds > 0 ? seconds : 0);
	blast_report_failures(&parent->sum);
	if (parent->sum.sent == 0)
		fputs("aegis-udpblast: nothing was sent that counts\n", stderr);
	if (!well)
		fputs("aegis-udpblast: a load process ended early; the figures are not complete\n", stderr);
	return well && blast_is_well(plan, &parent->sum) ? BLAST_OK : BLAST_FAILED;
}

int main(int argc, char **argv)
{
	struct parent *parent = calloc(1, sizeof *parent);
	if (parent == NULL)
		return BLAST_START;
	parent->rows_fd = parent->ready[0] = parent->ready[1] = parent->go[0] = parent->go[1] = -1;
	int code = blast_plan_read(&parent->plan, argc, argv);
	if (code >= 0)
		goto out;
	code = BLAST_START;
	if (!prepare(parent))
		goto out;
	fflush(stdout);
	if (fork_all(parent))
		code = conduct(parent);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "aegis-udpblast: cannot write: %s\n", strerror(errno));
		code = BLAST_START;
	}

out:
	/* Who is still there waits for the start: it is not to be waited for, but ended. */
	for (uint32_t i = 0; parent->children != NULL && i < parent->plan.processes; i++) {
		if (parent->children[i] > 0) {
			kill(parent->children[i], SIGKILL);
			waitpid(parent->children[i], NULL, 0);
		}
	}
	if (parent->shared != NULL)
		munmap(parent->shared, parent->shared_bytes);
	for (int i = 0; i < 2; i++) {
		close_end(&parent->ready[i]);
		close_end(&parent->go[i]);
	}
	close_end(&parent->rows_fd);
	free(parent->children);
	free(parent);
	return code;
}
