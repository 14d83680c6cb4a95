/* A load process: its loop, its schedule and its deadline. See bench.h. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/bench.h"
#include "tools/processes.h"

/* More connections at once than this would overflow the backlog of a listener, and wait a second for the next try. */
enum { OPENS_AT_ONCE = 256, EVENTS_PER_TURN = 256, LONGEST_SLEEP_MS = 100 };
/* Between two tries of a client that could not connect. */
static const uint64_t rest_ns = 10 * NS_PER_MS;

static void list_init(struct client_list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static void list_add(struct client_list *list, struct client *client)
{
	client->next = NULL;
	client->listed = true;
	*list->end = client;
	list->end = &client->next;
}

static struct client *list_take(struct client_list *list)
{
	struct client *client = list->first;
	list->first = client->next;
	if (list->first == NULL)
		list->end = &list->first;
	client->listed = false;
	return client;
}

void load_again(struct load *load, struct client *client, bool rest)
{
	if (client->listed)
		return;
	client->rest_ns = load->now_ns + rest_ns;
	list_add(rest ? &load->resting : &load->ready, client);
}

/* --- the schedule of a rate ------------------------------------------------------- */

/* All clients take turns: message number round of the client with this id. */
static uint64_t due_ns(const struct load *load, uint64_t round, uint32_t id)
{
	double turn = (double)round * load->plan->clients + id;
	return load->start_ns + (uint64_t)(turn * (double)NS_PER_S / load->plan->rate_per_s);
}

uint64_t load_due_ns(const struct load *load, const struct client *client)
{
	return load->plan->rate_per_s > 0 ? due_ns(load, client->sequence, client->id) : 0;
}

static uint64_t next_due_ns(const struct load *load)
{
	if (load->plan->rate_per_s <= 0 || load->opening)
		return UINT64_MAX;
	return due_ns(load, load->due_round, load->clients[load->due_client].id);
}

/* A client that is busy or listed when its message is due begins it later by itself. */
static void step_if_idle(struct load *load, struct client *client)
{
	if (!client->busy && !client->listed)
		client_step(load, client);
}

static void step_due(struct load *load)
{
	uint64_t due;
	while ((due = next_due_ns(load)) <= load->now_ns && due < load->end_ns) {
		step_if_idle(load, &load->clients[load->due_client]);
		if (++load->due_client == load->n) {
			load->due_client = 0;
			load->due_round++;
		}
	}
	/* Nothing more is due before the end: who waits is done. */
	if (due != UINT64_MAX && due >= load->end_ns)
		for (uint32_t i = 0; i < load->n; i++)
			step_if_idle(load, &load->clients[i]);
}

/* --- one turn --------------------------------------------------------------------- */

static int sleep_ms(struct load *load)
{
	if (load->ready.first != NULL)
		return 0;
	uint64_t due = next_due_ns(load);
	if (due < load->now_ns + LONGEST_SLEEP_MS * NS_PER_MS)
		sleeper_wake_at(&load->sleeper, due);
	int ms = LONGEST_SLEEP_MS;
	if (load->resting.first != NULL) {
		uint64_t wake = load->resting.first->rest_ns;
		ms = wake <= load->now_ns ? 0 : (int)((wake - load->now_ns) / NS_PER_MS) + 1;
	}
	return ms;
}

static int take_events(struct load *load, int timeout_ms)
{
	struct epoll_event events[EVENTS_PER_TURN];
	int n = epoll_wait(load->sleeper.epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
	load->now_ns = clock_now_ns();
	for (int i = 0; i < n; i++)
		if (events[i].data.ptr != NULL) /* NULL: the timer */
			client_on_events(load, events[i].data.ptr, events[i].events);
	return n;
}

static void turn(struct load *load)
{
	take_events(load, sleep_ms(load));
	struct client_list ready = load->ready;
	if (ready.first != NULL) {
		list_init(&load->ready);
		for (struct client *client = ready.first, *next; client != NULL; client = next) {
			next = client->next;
			client->listed = false;
			client_step(load, client);
		}
	}
	while (load->resting.first != NULL && load->resting.first->rest_ns <= load->now_ns)
		client_step(load, list_take(&load->resting));
	step_due(load);
}

/* --- opening ---------------------------------------------------------------------- */

static void load_open(struct load *load)
{
	uint32_t begun = 0;
	load->opening = true;
	load->opens_left = load->n;
	load->now_ns = load->progress_ns = clock_now_ns();
	while (load->opens_left > 0 && load->now_ns - load->progress_ns < load->plan->timeout_ns) {
		while (begun < load->n && begun - (load->n - load->opens_left) < OPENS_AT_ONCE)
			client_open(load, &load->clients[begun++]);
		if (load->opens_left > 0)
			turn(load);
	}
	for (uint32_t i = 0; i < load->n && load->opens_left > 0; i++)
		if (i >= begun || load->clients[i].dialing || load->clients[i].busy)
			client_give_up(load, &load->clients[i]);
	load->opening = false;
}

/* --- the run ---------------------------------------------------------------------- */

static bool load_stuck(const struct load *load)
{
	if (load->plan->run_ns > 0)
		return load->now_ns > load->end_ns && load->now_ns - load->end_ns > load->plan->timeout_ns;
	uint64_t since = load->progress_ns, due = next_due_ns(load);
	if (due != UINT64_MAX && due > since)
		since = due;
	return load->now_ns > since && load->now_ns - since > load->plan->timeout_ns;
}

static void load_run(struct load *load, uint64_t start_ns)
{
	const struct plan *plan = load->plan;
	uint64_t cpu_before_ns = processes_cpu_ns();
	load->start_ns = start_ns;
	load->warm_ns = start_ns + plan->warmup_ns;
	load->end_ns = plan->run_ns > 0 ? load->warm_ns + plan->run_ns : UINT64_MAX;
	load->now_ns = load->progress_ns = clock_now_ns();
	for (uint32_t i = 0; i < load->n; i++)
		load->working += !load->clients[i].done;
	/* What happened to a connection before the start comes first. */
	while (take_events(load, 0) > 0)
		;
	for (uint32_t i = 0; i < load->n; i++) {
		load->now_ns = clock_now_ns(); /* to send to those before it took its time */
		step_if_idle(load, &load->clients[i]);
	}
	while (load->working > 0 && !load->refused && !load_stuck(load))
		turn(load);
	load->tally->end_ns = load->now_ns = clock_now_ns();
	for (uint32_t i = 0; i < load->n && !load->refused; i++)
		if (!load->clients[i].done)
			client_give_up(load, &load->clients[i]);
	load->tally->cpu_ns = processes_cpu_ns() - cpu_before_ns;
}

/* --- from first to last ----------------------------------------------------------- */

static int load_init(struct load *load, uint32_t first, uint32_t n)
{
	load->n = n;
	load->clients = calloc(n, sizeof *load->clients);
	int error = sleeper_open(&load->sleeper);
	if (load->clients == NULL || error)
		return -ENOMEM;
	list_init(&load->ready);
	list_init(&load->resting);
	for (uint32_t i = 0; i < n; i++) {
		load->clients[i].fd = -1;
		load->clients[i].id = first + i;
	}
	return 0;
}

static void load_free(struct load *load)
{
	for (uint32_t i = 0; load->clients != NULL && i < load->n; i++) {
		answer_fini(&load->clients[i].answer);
		if (load->clients[i].fd >= 0)
			close(load->clients[i].fd);
	}
	free(load->clients);
	sleeper_close(&load->sleeper);
	free(load);
}

/* Tell that all is open, and hear when to start; this may take as long as connections are to be held. */
static bool await_start(int channel, uint64_t *start_ns)
{
	ssize_t got;
	if (write(channel, "r", 1) != 1)
		return false;
	do
		got = read(channel, start_ns, sizeof *start_ns);
	while (got < 0 && errno == EINTR);
	return got == (ssize_t)sizeof *start_ns;
}

int load_main(
        const struct plan *plan, const struct message *message, struct tally *tally, uint32_t first, uint32_t n, int channel, int rows_fd)
{
	int code = BENCH_START;
	struct load *load = calloc(1, sizeof *load);
	if (load == NULL)
		return code;
	load->plan = plan;
	load->message = message;
	load->tally = tally;
	load->rows.fd = rows_fd;
	if (load_init(load, first, n) < 0)
		goto out;
	if (!plan->churn)
		load_open(load);
	uint64_t start_ns;
	code = BENCH_OK;
	if (!await_start(channel, &start_ns))
		goto out;
	load_run(load, start_ns);
	rows_flush(&load->rows);
	tally->rows_lost = load->rows.failed;

out:
	load_free(load);
	return code;
}
