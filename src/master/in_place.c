#include "master/in_place.h"

#include <string.h>

#include "base/text.h"
#include "config/diff.h"
#include "control/control.h"

struct changes {
	uint32_t count;
	bool all_in_place;
	char bytes[SHM_NOTE_SIZE];
	struct text list;
};

static void on_change(void *arg, const struct config_change *change)
{
	struct changes *changes = arg;
	changes->count++;
	changes->all_in_place = changes->all_in_place && change->in_place;
	if (change->in_place)
		text_add(
		        &changes->list, "%s%s %s -> %s", changes->list.length > 0 ? ", " : "", change->path, change->before, change->after);
}

enum checks { CHECKS_STAY, CHECKS_END, CHECKS_BEGIN };

static bool is_checked(const struct upstream_config *upstream, const struct server_config *server)
{
	return control_checks(upstream, server) || (upstream->start_test != START_TEST_OFF && !server->disabled);
}

/* Do other servers have to be checked, now or all the time? The two have the same ones in the same order. */
static enum checks compare_checks(const struct config *before, const struct config *after)
{
	enum checks checks = CHECKS_STAY;
	for (size_t i = 0; i < after->n_upstreams; i++)
		for (size_t j = 0; j < after->upstreams[i].n_servers; j++) {
			bool was = is_checked(&before->upstreams[i], &before->upstreams[i].servers[j]);
			bool is = is_checked(&after->upstreams[i], &after->upstreams[i].servers[j]);
			if (is && !was)
				return CHECKS_BEGIN;
			checks = was && !is ? CHECKS_END : checks;
		}
	return checks;
}

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

static void write_note(const struct changes *changes, char *note, size_t size)
{
	struct text text = text_of(note, size);
	text_add(&text, "%u setting%s changed in place (", changes->count, changes->count == 1 ? "" : "s");
	size_t room = size - text.length - sizeof "...)";
	if (!changes->list.cut && changes->list.length <= room)
		text_add(&text, "%s)", changes->bytes);
	else
		text_add(&text, "%.*s...)", (int)room, changes->bytes);
}

bool in_place_apply(struct master *master, struct config *config, char *note, size_t note_size)
{
	struct generation *generation = master->running;
	struct changes changes = { .all_in_place = true };
	if (!generation)
		return false;
	changes.list = text_of(changes.bytes, sizeof changes.bytes);
	config_diff(generation->config, config, on_change, &changes);
	if (changes.count == 0 || !changes.all_in_place)
		return false;
	enum checks checks = compare_checks(generation->config, config);
	if (checks == CHECKS_BEGIN)
		return false; /* a dead server gets no client: preflight and trial of a transition find out first */
	write_note(&changes, note, note_size);
	keep_addrs(config, generation->config);
	config_free(generation->config);
	generation->config = config;
	if (checks == CHECKS_END) /* what it said of them is forgotten, and it shall not say it again */
		helper_end_running(&master->helper);
	places_publish_again(&generation->places, &master->shm, config, generation->listeners);
	if (checks == CHECKS_END)
		helper_renew(&master->helper);
	return true;
}
