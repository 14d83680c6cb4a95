/* aegis-bench: see bench.h and aegis-bench(1). This is the parent: it forks, gives the start and adds up. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/bench.h"
#include "tools/processes.h"

struct worker {
	pid_t pid;
	int channel; /* it says "r" when it is ready and is told the time of the start */
};

struct bench {
	struct plan plan;
	struct message *message;
	struct tally *tallies; /* one for each process, shared */
	struct tally sum;
	struct worker *workers;
	int rows_fd;
};

static bool make_message(struct bench *bench)
{
	const struct plan *plan = &bench->plan;
	uint64_t body = plan->mode == BENCH_UPLOAD ? plan->payload_bytes : 0;
	const char *host = plan->target.sa.sa_family == AF_UNIX ? "localhost" : plan->target_text;
	bench->message = calloc(1, sizeof *bench->message);
	if (bench->message == NULL)
		return false;
	if (plan->mode == BENCH_ECHO || plan->mode == BENCH_HOLD) {
		message_init_echo(bench->message, plan->payload_bytes, (uint32_t)getpid());
		return true;
	}
	return message_init_http(bench->message, plan->mode == BENCH_UPLOAD ? "POST" : "GET", host, plan->path, body) == 0;
}

static bool prepare(struct bench *bench)
{
	const struct plan *plan = &bench->plan;
	if (!processes_have_descriptors("aegis-bench", "connections", plan->clients, plan->processes))
		return false;
	bench->rows_fd = plan->csv != NULL ? rows_create(plan->csv, "connection") : -1;
	if (plan->csv != NULL && bench->rows_fd < 0) {
		fprintf(stderr, "aegis-bench: %s: %s\n", plan->csv, strerror(-bench->rows_fd));
		return false;
	}
	void *shared = mmap(NULL, plan->processes * sizeof *bench->tallies, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bench->tallies = shared != MAP_FAILED ? shared : NULL;
	bench->workers = calloc(plan->processes, sizeof *bench->workers);
	if (bench->tallies == NULL || bench->workers == NULL || !make_message(bench)) {
		fputs("aegis-bench: no memory\n", stderr);
		return false;
	}
	return true;
}

static bool fork_worker(struct bench *bench, uint32_t i, uint32_t first, uint32_t n)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	pid_t pid = processes_fork();
	if (pid == 0) {
		close(pair[0]);
		for (uint32_t other = 0; other < i; other++)
			close(bench->workers[other].channel);
		_exit(load_main(&bench->plan, bench->message, &bench->tallies[i], first, n, pair[1], bench->rows_fd));
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return false;
	}
	bench->workers[i] = (struct worker){ .pid = pid, .channel = pair[0] };
	return true;
}

/* How many processes there are now: all, or the plan cannot be carried out. */
static uint32_t fork_all(struct bench *bench)
{
	const struct plan *plan = &bench->plan;
	uint32_t first = 0;
	for (uint32_t i = 0; i < plan->processes; i++) {
		uint32_t n = processes_share(plan->clients, plan->processes, i);
		if (!fork_worker(bench, i, first, n)) {
			fprintf(stderr, "aegis-bench: cannot start load process %" PRIu32 ": %s\n", i + 1, strerror(errno));
			return i;
		}
		first += n;
	}
	return plan->processes;
}

static bool await_ready(const struct worker *worker)
{
	char byte;
	ssize_t got;
	do
		got = read(worker->channel, &byte, 1);
	while (got < 0 && errno == EINTR);
	return got == 1;
}

static void hold(const struct plan *plan)
{
	uint64_t now = clock_now_ns(), until = plan->hold_ns == UINT64_MAX ? UINT64_MAX : now + plan->hold_ns;
	struct pollfd input = { .fd = plan->until_eof ? STDIN_FILENO : -1, .events = POLLIN };
	while (now < until) {
		uint64_t left_ms = (until - now) / NS_PER_MS + 1;
		char bytes[512];
		int n = poll(&input, 1, left_ms < 60000 ? (int)left_ms : 60000);
		if (n > 0 && read(STDIN_FILENO, bytes, sizeof bytes) <= 0 && errno != EINTR)
			return;
		now = clock_now_ns();
	}
}

static void add_tallies(struct bench *bench)
{
	bench->sum = (struct tally){ .requests = 0 };
	for (uint32_t i = 0; i < bench->plan.processes; i++)
		tally_add(&bench->sum, &bench->tallies[i]);
}

static bool nothing_opened(struct bench *bench)
{
	add_tallies(bench);
	if (bench->sum.opened > 0 || bench->sum.connect_errors == 0)
		return false;
	fprintf(stderr, "aegis-bench: cannot connect to %s; %s\n", bench->plan.target_text, bench->sum.first_failure);
	return true;
}

/* From all connections open to all processes at their end. */
static int conduct(struct bench *bench)
{
	const struct plan *plan = &bench->plan;
	bool well = true;
	for (uint32_t i = 0; i < plan->processes; i++)
		well = await_ready(&bench->workers[i]) && well;
	if (well && nothing_opened(bench))
		return BENCH_START;
	if (plan->mode == BENCH_HOLD) {
		fprintf(stderr, "aegis-bench: holding %" PRIu64 " connections\n", bench->sum.opened - bench->sum.errors);
		hold(plan);
	}
	uint64_t start_ns = clock_now_ns();
	for (uint32_t i = 0; i < plan->processes; i++)
		well = send(bench->workers[i].channel, &start_ns, sizeof start_ns, MSG_NOSIGNAL) == (ssize_t)sizeof start_ns && well;
	for (uint32_t i = 0; i < plan->processes; i++) {
		well = processes_ended_well(bench->workers[i].pid) && well;
		bench->workers[i].pid = 0;
	}
	if (nothing_opened(bench))
		return BENCH_START;
	double seconds = (double)(int64_t)(bench->sum.end_ns - start_ns - plan->warmup_ns) / (double)NS_PER_S;
	bench_report(plan, &bench->sum, seconds > 0 ? seconds : 0);
	bench_report_failures(&bench->sum);
	if (!well)
		fputs("aegis-bench: a load process ended early; the figures are not complete\n", stderr);
	return well && bench->sum.errors == 0 && bench->sum.connect_errors == 0 && !bench->sum.rows_lost ? BENCH_OK : BENCH_FAILED;
}

/* Who still waits for the start sees its channel closed and ends. */
static void end_workers(struct bench *bench)
{
	for (uint32_t i = 0; bench->workers != NULL && i < bench->plan.processes; i++) {
		if (bench->workers[i].channel > 0)
			close(bench->workers[i].channel);
		if (bench->workers[i].pid > 0)
			waitpid(bench->workers[i].pid, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	struct bench *bench = calloc(1, sizeof *bench);
	if (bench == NULL)
		return BENCH_START;
	bench->rows_fd = -1;
	int code = plan_read(&bench->plan, argc, argv);
	if (code >= 0)
		goto out;
	code = BENCH_START;
	if (!prepare(bench))
		goto out;
	fflush(stdout);
	if (fork_all(bench) == bench->plan.processes)
		code = conduct(bench);
	end_workers(bench);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "aegis-bench: cannot write: %s\n", strerror(errno));
		code = BENCH_START;
	}

out:
	if (bench->tallies != NULL)
		munmap(bench->tallies, bench->plan.processes * sizeof *bench->tallies);
	if (bench->rows_fd >= 0)
		close(bench->rows_fd);
	free(bench->workers);
	free(bench->message);
	free(bench);
	return code;
}
