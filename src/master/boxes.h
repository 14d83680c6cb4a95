/* The boxes of servers that share their idle connections (upstream/box.h). A box lives as long as a generation uses it: what a draining
 * generation leaves there is the next one's.
 *
 * Process: the master. Owner: struct boxes is the master's, each generation holds what it claimed.
 */
#ifndef AEGIS_MASTER_BOXES_H
#define AEGIS_MASTER_BOXES_H

#include "config/config.h"
#include "shm/layout.h"
#include "upstream/box.h"

struct shared_box;

struct boxes {
	struct shared_box *first;
	bool handed_over;
};

/* The box of a server's row, for connections with this framing: the one there is, or a new one. 0 and *out, or a negative errno. */
must_check int boxes_claim(struct boxes *boxes, const struct shm *shm, uint32_t row, enum pool_framing framing, struct box *out);
/* Boxes that the master before us made are ours as well. It uses them until boxes_forget_elder(). 0 or -ENOMEM: the caller's still. */
must_check int boxes_adopt(struct boxes *boxes, const struct shm *shm, uint32_t row, enum pool_framing framing, const struct box *box);
void boxes_forget_elder(struct boxes *boxes, struct shm *shm);
/* Another master goes on with all of them: what lies in them is no longer counted off when they are dropped here. Or not, after all. */
void boxes_hand_over(struct boxes *boxes, bool handed);
/* Call fn for each. */
typedef int boxes_fn(void *arg, uint32_t row, enum pool_framing framing, const struct box *box);
must_check int boxes_for_each(const struct boxes *boxes, boxes_fn *fn, void *arg);
/* The other end of it; without a user the box is closed, with all that is in it. */
void boxes_drop(struct boxes *boxes, struct shm *shm, const struct box *box);
/* How many places of a limit are those of connections in boxes; arg is the struct boxes. */
uint32_t boxes_places(const void *arg, uint32_t limit);
/* In a forked child: close all but those of [n_keep] keep. */
void boxes_release_in_child(const struct boxes *boxes, const struct box *const *keep, const struct config *config);

#endif
