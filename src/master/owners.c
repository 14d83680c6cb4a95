#include "master/owners.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "config/config.h"
#include "master/handover.h"
#include "udp/udp.h"

/* What waits for a worker that is held up for a moment: without the right to have as much the kernel gives less. */
enum { QUEUE_BYTES = 8 * 1024 * 1024 };

void owners_init(struct owners *owners)
{
	*owners = (struct owners){ .flows = { .fd = -1 } };
}

static void close_at(struct owners *owners, uint32_t index)
{
	close(owners->list[index].fd);
	if (owners->inboxes[index] >= 0)
		close(owners->inboxes[index]);
	owners->list[index] = owners->list[--owners->n];
	owners->inboxes[index] = owners->inboxes[owners->n];
}

void owners_close(struct owners *owners)
{
	while (owners->n > 0)
		close_at(owners, 0);
	while (owners->n_orphans > 0)
		close(owners->orphans[--owners->n_orphans].inbox);
	free(owners->list);
	free(owners->inboxes);
	free(owners->orphans);
	flows_close(&owners->flows);
	owners_init(owners);
}

static int open_table(struct owners *owners, const struct config *config)
{
	uint64_t seed[2], state = clock_now_ns();
	if (owners->flows.shared)
		return 0;
	if (getrandom(seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
		seed[0] = hash_next(&state);
		seed[1] = hash_next(&state);
	}
	return flows_new(&owners->flows, config->max_connections, seed);
}

static void set_queue(int fd)
{
	int size = QUEUE_BYTES;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static int keep(struct owners *owners, uint32_t id, int fd, int inbox)
{
	struct udp_owner *list = realloc(owners->list, (owners->n + 1) * sizeof *list);
	if (!list)
		return -ENOMEM;
	owners->list = list;
	int *inboxes = realloc(owners->inboxes, (owners->n + 1) * sizeof *inboxes);
	if (!inboxes)
		return -ENOMEM;
	owners->inboxes = inboxes;
	inboxes[owners->n] = inbox;
	list[owners->n++] = (struct udp_owner){ .id = id, .fd = fd };
	return 0;
}

/* Those of another master end without a word to us. */
static void forget_dead(struct owners *owners)
{
	for (uint32_t i = owners->n; i-- > 0;)
		if (!flows_lives(&owners->flows, owners->list[i].id))
			close_at(owners, i);
}

/* Both ends are each other's peer: so the kernel counts bytes, and not messages, of which it would take ten. */
static int add(struct owners *owners, uint32_t *out)
{
	int ends[2];
	uint32_t id = flows_join(&owners->flows);
	if (!id)
		return -ENOSPC;
	int error = socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
	if (!error) {
		error = keep(owners, id, ends[1], ends[0]);
		if (error) {
			close(ends[0]);
			close(ends[1]);
		}
	}
	if (error) {
		flows_leave(&owners->flows, id);
		return error;
	}
	set_queue(ends[1]);
	*out = id;
	return 0;
}

uint32_t owners_add(struct owners *owners, const struct config *config)
{
	uint32_t id = 0;
	if (!udp_is_wanted(config, PROTOCOL_UDP))
		return 0;
	int error = open_table(owners, config);
	if (!error) {
		forget_dead(owners);
		error = add(owners, &id);
	}
	if (error)
		log_error("UDP sessions of a worker will not be found by other workers: %s", strerror(-error));
	return id;
}

static int64_t index_of(const struct owners *owners, uint32_t id)
{
	for (uint32_t i = 0; i < owners->n; i++)
		if (owners->list[i].id == id)
			return i;
	return -1;
}

/* One that ended by itself has left nothing. */
static bool has_letters(int inbox)
{
	char byte;
	return recv(inbox, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void orphan(struct owners *owners, uint32_t index)
{
	int inbox = owners->inboxes[index];
	if (inbox < 0)
		return;
	(void)shutdown(inbox, SHUT_RD); /* who sends is told that nobody is there; what was sent stays */
	struct orphan *orphans = has_letters(inbox) ? realloc(owners->orphans, (owners->n_orphans + 1) * sizeof *orphans) : NULL;
	if (!orphans)
		return;
	owners->orphans = orphans;
	orphans[owners->n_orphans++] = (struct orphan){ .inbox = inbox };
	owners->inboxes[index] = -1;
}

void owners_remove(struct owners *owners, uint32_t id)
{
	if (!id || !owners->flows.shared)
		return;
	int64_t index = index_of(owners, id);
	flows_leave(&owners->flows, id);
	if (index >= 0) {
		orphan(owners, (uint32_t)index);
		close_at(owners, (uint32_t)index);
	}
}

int owners_orphan(struct owners *owners, uint32_t heir)
{
	for (uint32_t i = owners->n_orphans; i-- > 0;) {
		struct orphan *orphan = &owners->orphans[i];
		if (!has_letters(orphan->inbox)) {
			close(orphan->inbox);
			*orphan = owners->orphans[--owners->n_orphans];
		} else if (orphan->heir != heir && !flows_lives(&owners->flows, orphan->heir)) { /* to nobody twice, were he dead as well */
			orphan->heir = heir;
			return orphan->inbox;
		}
	}
	return -1;
}

void owners_post(const struct owners *owners, uint32_t id, struct udp_post *out)
{
	int64_t index = id ? index_of(owners, id) : -1;
	*out = (struct udp_post){ .inbox = -1 };
	if (index < 0)
		return;
	*out = (struct udp_post){
		.flows = &owners->flows, .self = id, .inbox = owners->inboxes[index], .others = owners->list, .n_others = owners->n
	};
}

void owners_release_in_child(const struct owners *owners, uint32_t id)
{
	if (owners->flows.shared)
		close(owners->flows.fd); /* what is mapped stays */
	for (uint32_t i = 0; i < owners->n; i++) {
		if (!id)
			close(owners->list[i].fd);
		if (owners->inboxes[i] >= 0 && (!id || owners->list[i].id != id))
			close(owners->inboxes[i]);
	}
	for (uint32_t i = 0; i < owners->n_orphans; i++)
		close(owners->orphans[i].inbox);
}

/* --- upgrade ----------------------------------------------------------------------------------------------------------------- */

int owners_hand_over(const struct owners *owners, struct handover *handover)
{
	if (!owners->flows.shared)
		return 0;
	int error = handover_add(handover, &(struct handed){ .kind = HANDED_FLOWS, .fd = owners->flows.fd });
	for (uint32_t i = 0; !error && i < owners->n; i++)
		error = handover_add(
		        handover, &(struct handed){ .kind = HANDED_OWNER, .fd = owners->list[i].fd, .number = owners->list[i].id });
	return error;
}

int owners_adopt(struct owners *owners, const struct handover *handover)
{
	struct handed *item = handover_next(handover, HANDED_FLOWS, NULL);
	if (!item)
		return 0;
	int error = flows_open(&owners->flows, item->fd);
	if (error) {
		log_warn("UDP sessions of the old master's workers will not be found: their table is of another kind");
		return 0;
	}
	(void)handed_take(item);
	for (item = NULL; !error && (item = handover_next(handover, HANDED_OWNER, item)) != NULL;) {
		error = keep(owners, item->number, item->fd, -1);
		if (!error)
			(void)handed_take(item);
	}
	return error;
}
