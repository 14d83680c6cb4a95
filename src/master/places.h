/* Where the listeners and servers of some settings have their rows in shared memory. */
#ifndef AEGIS_MASTER_PLACES_H
#define AEGIS_MASTER_PLACES_H

#include "config/config.h"
#include "master/boxes.h"
#include "net/listener.h"
#include "shm/layout.h"
#include "tcp/tcp.h"

struct places {
	uint32_t *listeners;
	uint32_t **servers;
	uint32_t *upstreams;
	struct box **boxes; /* [upstream]: NULL, or [server], of those that share */
	size_t *n_servers;  /* [upstream] */
	size_t n_upstreams;
};

/* Find a row for each by its stable name. 0 and *out, or -ENOSPC (more than the segment holds), -EDQUOT (its file system is full) or
 * -ENOMEM. */
must_check int places_claim(struct places *out, struct shm *shm, struct boxes *boxes, const struct config *config);
void places_free(struct places *places, struct shm *shm, struct boxes *boxes);

/* The settings take effect: write names, addresses and limits into the rows; what is no longer in the settings is retired.
 * listeners are the sockets, [config->n_listeners]. */
void places_publish(const struct places *places, struct shm *shm, const struct config *config, struct listener *const *listeners);
/* The same listeners and servers with other values: nobody sees them retired, not for a moment. */
void places_publish_again(const struct places *places, struct shm *shm, const struct config *config, struct listener *const *listeners);

#endif
