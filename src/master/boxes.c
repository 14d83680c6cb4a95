#include "master/boxes.h"

#include <errno.h>

struct shared_box {
	struct shared_box *next;
	uint32_t row, limit;
	enum pool_framing framing;
	uint32_t users;
	bool elders; /* the master before us is one of the users */
	struct box box;
};

int boxes_claim(struct boxes *boxes, const struct shm *shm, uint32_t row, enum pool_framing framing, struct box *out)
{
	struct shared_box *shared = boxes->first;
	while (shared && (shared->row != row || shared->framing != framing))
		shared = shared->next;
	if (!shared) {
		shared = calloc(1, sizeof *shared);
		int error = shared ? box_open(&shared->box) : -ENOMEM;
		if (error) {
			free(shared);
			return error;
		}
		shared->row = row;
		shared->limit = limit_server(shm, row);
		shared->framing = framing;
		shared->next = boxes->first;
		boxes->first = shared;
	}
	shared->users++;
	*out = shared->box;
	return 0;
}

int boxes_adopt(struct boxes *boxes, const struct shm *shm, uint32_t row, enum pool_framing framing, const struct box *box)
{
	struct shared_box *shared = calloc(1, sizeof *shared);
	if (!shared)
		return -ENOMEM;
	*shared = (struct shared_box){ .next = boxes->first,
		.row = row,
		.limit = limit_server(shm, row),
		.framing = framing,
		.users = 1,
		.elders = true,
		.box = *box };
	boxes->first = shared;
	return 0;
}

static void drop(struct boxes *boxes, struct shm *shm, struct shared_box **link)
{
	struct shared_box *shared = *link;
	if (--shared->users > 0)
		return;
	/* Nobody else has it open any more: what is in it is closed now, and then counted no longer. */
	uint32_t places = box_count(&shared->box);
	box_close(&shared->box);
	if (!boxes->handed_over) {
		atomic_fetch_sub_explicit(&shm_limit(shm, limit_server(shm, shared->row))->used, places, memory_order_acq_rel);
		atomic_store(&shm->servers[shared->row].boxed, 0);
	}
	*link = shared->next;
	free(shared);
}

void boxes_drop(struct boxes *boxes, struct shm *shm, const struct box *box)
{
	struct shared_box **link = &boxes->first;
	if (box->put_fd < 0)
		return;
	while ((*link)->box.put_fd != box->put_fd)
		link = &(*link)->next;
	drop(boxes, shm, link);
}

void boxes_forget_elder(struct boxes *boxes, struct shm *shm)
{
	for (struct shared_box **link = &boxes->first; *link;) {
		struct shared_box *shared = *link;
		bool stays = !shared->elders || shared->users > 1;
		bool was = shared->elders;
		shared->elders = false;
		if (was)
			drop(boxes, shm, link);
		if (stays)
			link = &shared->next;
	}
}

void boxes_hand_over(struct boxes *boxes, bool handed)
{
	boxes->handed_over = handed;
}

int boxes_for_each(const struct boxes *boxes, boxes_fn *fn, void *arg)
{
	int error = 0;
	for (const struct shared_box *shared = boxes->first; shared && !error; shared = shared->next)
		error = fn(arg, shared->row, shared->framing, &shared->box);
	return error;
}

uint32_t boxes_places(const void *arg, uint32_t limit)
{
	const struct boxes *boxes = arg;
	uint32_t places = 0;
	for (const struct shared_box *shared = boxes->first; shared; shared = shared->next)
		if (shared->limit == limit)
			places += box_count(&shared->box);
	return places;
}

static bool is_kept(const struct shared_box *shared, const struct box *const *keep, const struct config *config)
{
	for (size_t i = 0; keep && i < config->n_upstreams; i++)
		for (size_t j = 0; keep[i] && j < config->upstreams[i].n_servers; j++)
			if (keep[i][j].put_fd == shared->box.put_fd)
				return true;
	return false;
}

void boxes_release_in_child(const struct boxes *boxes, const struct box *const *keep, const struct config *config)
{
	for (struct shared_box *shared = boxes->first; shared; shared = shared->next)
		if (!is_kept(shared, keep, config))
			box_close(&shared->box);
}
