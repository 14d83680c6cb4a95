#include "control/first_answer.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "control/names.h"
#include "os/loop.h"

struct round {
	struct loop *loop;
	struct first_answer *answers;
	size_t n;
};

static void on_changed(void *owner, const struct addr *addrs, size_t n)
{
	struct first_answer *answer = owner;
	answer->error = 0;
	answer->n_addrs = n;
	memcpy(answer->addrs, addrs, n * sizeof *addrs);
}

/* A name that failed is asked for again, but not here. */
static bool is_over(struct first_answer *answer)
{
	if (!answer->watch || answer->n_addrs > 0)
		return true;
	const struct resolver_stats stats = resolver_stats(answer->watch);
	answer->error = stats.gone ? EAI_NONAME : EAI_AGAIN;
	return stats.bad_in_a_row > 0;
}

static void before_sleep(void *arg)
{
	const struct round *round = arg;
	for (size_t i = 0; i < round->n; i++)
		if (!is_over(&round->answers[i]))
			return;
	loop_stop(round->loop);
}

static void begin(struct resolver *resolver, struct first_answer *answer)
{
	const struct endpoint *endpoint = answer->endpoint;
	if (endpoint->kind != ENDPOINT_NAME) {
		answer->n_addrs = 1;
		answer->addrs[0] = endpoint->addr;
		return;
	}
	int error = resolver ? resolver_watch(resolver, answer, endpoint->name, endpoint->port, NULL, 0, &answer->watch) : -ENOMEM;
	if (error)
		answer->error = error == -EINVAL ? EAI_NONAME : EAI_MEMORY;
}

void first_answers(const struct config *config, struct first_answer *answers, size_t n)
{
	struct round round = { .loop = loop_new(), .answers = answers, .n = n };
	struct resolver *resolver = NULL;
	int error = round.loop ? names_resolver(config, round.loop, on_changed, &resolver) : -ENOMEM;
	for (size_t i = 0; i < n; i++)
		begin(error ? NULL : resolver, &answers[i]);
	if (!error) {
		loop_on_turn(round.loop, before_sleep, &round);
		loop_run(round.loop);
	}
	for (size_t i = 0; i < n; i++)
		if (answers[i].watch)
			resolver_forget(resolver, answers[i].watch);
	resolver_free(resolver);
	loop_free(round.loop);
}
