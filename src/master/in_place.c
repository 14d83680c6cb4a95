#include "master/in_place.h"

#include <string.h>

#include "base/text.h"

/* What the preflight found out still holds: the addresses are the same. */
static void keep_addrs(struct config *config, const struct config *running)
{
	for (size_t i = 0; i < config->n_upstreams; i++)
		for (size_t j = 0; j < config->upstreams[i].n_servers; j++) {
			const struct server_config *known = &running->upstreams[i].servers[j];
			struct server_config *server = &config->upstreams[i].servers[j];
			server->n_addrs = known->n_addrs;
			memcpy(server->addrs, known->addrs, sizeof server->addrs);
		}
}

static void write_note(const struct plan *plan, char *note, size_t size)
{
	struct text text = text_of(note, size);
	text_add(&text, "%zu setting%s changed in place (", plan->count, plan->count == 1 ? "" : "s");
	for (size_t i = 0; i < plan->n_changes && !text.cut; i++)
		text_add(&text, "%s%s %s -> %s", i > 0 ? ", " : "", plan->changes[i].path, plan->changes[i].before, plan->changes[i].after);
	text_add(&text, ")");
	if (text.cut)
		(void)text_copy(note + size - sizeof "...)", sizeof "...)", "...)");
}

bool in_place_apply(struct master *master, struct config *config, const struct plan *plan, char *note, size_t note_size)
{
	struct generation *generation = master->running;
	if (!generation || plan->outcome != PLAN_TAKE_IN_PLACE)
		return false;
	write_note(plan, note, note_size);
	keep_addrs(config, generation->config);
	config_free(generation->config);
	generation->config = config;
	if (plan->checks == PLAN_CHECKS_END) /* what it said of them is forgotten, and it shall not say it again */
		helper_end_running(&master->helper);
	places_publish_again(&generation->places, &master->shm, config, generation->listeners);
	if (plan->checks == PLAN_CHECKS_END)
		helper_renew(&master->helper);
	return true;
}
