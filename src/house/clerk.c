#include "house/clerk.h"

#include <string.h>

#include "house/caller.h"
#include "house/house.h"

static void describe(const struct visit *visit, struct roll_row *out)
{
	const struct house *house = visit->entrance->house;
	struct visit_moments moments;
	visit->entrance->kind->tell(visit, &moments);
	*out = (struct roll_row){ .serial = visit->serial,
		.step = (uint8_t)visit->step,
		.is_udp = visit->entrance->kind->is_udp,
		.listener = (uint16_t)visit->entrance->shm_row,
		.server = visit->server ? (uint16_t)house_server_row(house, visit->server) : (uint16_t)ROLL_NO_SERVER,
		.accepted_ns = visit->accepted_ns,
		.active_ns = moments.active_ns,
		.up_bytes = visit->bytes[FROM_CLIENT],
		.down_bytes = visit->bytes[FROM_SERVER],
		.up_datagrams = moments.datagrams[FROM_CLIENT],
		.down_datagrams = moments.datagrams[FROM_SERVER] };
	record_address_of(&out->client, &visit->peer);
	if (visit->caller)
		memcpy(out->name, visit->caller->name, sizeof out->name - 1);
}

static void list(struct house *house, const struct roll_request *request)
{
	struct clerk *clerk = &house->clerk;
	struct roll_row *rows = shm_roll_rows(house->shm, house->seat);
	uint32_t n = 0;
	for (; clerk->next && n < ROLL_ROWS; clerk->next = clerk->next->next)
		describe(clerk->next, &rows[n++]);
	roll_answer(&house->shm->roll_boxes[house->seat], request, clerk->next ? ROLL_MORE : ROLL_END, n);
}

static void end_one(struct house *house, const struct roll_request *request)
{
	struct clerk *clerk = &house->clerk;
	struct visit *found = NULL;
	for (uint32_t looks = 0; clerk->next && looks < ROLL_LOOKS && !found; looks++, clerk->next = clerk->next->next)
		if (clerk->next->serial == request->serial)
			found = clerk->next;
	if (found)
		found->entrance->kind->end(found, REASON_KILLED);
	roll_answer(&house->shm->roll_boxes[house->seat], request, found ? ROLL_KILLED : clerk->next ? ROLL_MORE : ROLL_END, 0);
}

void clerk_answer(struct house *house)
{
	struct roll_box *box = &house->shm->roll_boxes[house->seat];
	struct roll_request request;
	if (likely(!roll_is_asked(box, &request)))
		return;
	if (request.number == request.series)
		house->clerk = (struct clerk){ .series = request.series, .next = house->oldest };
	if (request.series != house->clerk.series)
		roll_answer(box, &request, ROLL_LOST, 0);
	else if (request.kind == ROLL_KILL)
		end_one(house, &request);
	else
		list(house, &request);
}

void clerk_forget(struct clerk *clerk, const struct visit *visit)
{
	if (unlikely(clerk->next == visit))
		clerk->next = visit->next;
}
