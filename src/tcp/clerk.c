#include "tcp/clerk.h"

#include "tcp/tcp.h"

static void describe(const struct session *session, struct roll_row *out)
{
	const struct server *server = session->server;
	*out = (struct roll_row){ .serial = session->serial,
		.step = (uint8_t)session->step,
		.listener = (uint16_t)session->listener->shm_row,
		.server = server ? (uint16_t)(server->shared - session->tcp->shm->servers) : (uint16_t)ROLL_NO_SERVER,
		.accepted_ns = session->accepted_ns,
		.active_ns = session->step == STEP_RELAY ? session->activity_ns : session->step_ns,
		.up_bytes = session->bytes[SIDE_CLIENT],
		.down_bytes = session->bytes[SIDE_SERVER] };
	record_address_of(&out->client, &session->peer);
}

static void list(struct tcp *tcp, const struct roll_request *request)
{
	struct clerk *clerk = &tcp->clerk;
	struct roll_row *rows = shm_roll_rows(tcp->shm, tcp->seat);
	uint32_t n = 0;
	for (; clerk->next && n < ROLL_ROWS; clerk->next = clerk->next->next)
		describe(clerk->next, &rows[n++]);
	roll_answer(&tcp->shm->roll_boxes[tcp->seat], request, clerk->next ? ROLL_MORE : ROLL_END, n);
}

static void end_one(struct tcp *tcp, const struct roll_request *request)
{
	struct clerk *clerk = &tcp->clerk;
	struct session *found = NULL;
	for (uint32_t looks = 0; clerk->next && looks < ROLL_LOOKS && !found; looks++, clerk->next = clerk->next->next)
		if (clerk->next->serial == request->serial)
			found = clerk->next;
	if (found)
		session_end(found, REASON_KILLED);
	roll_answer(&tcp->shm->roll_boxes[tcp->seat], request, found ? ROLL_KILLED : clerk->next ? ROLL_MORE : ROLL_END, 0);
}

void clerk_answer(struct tcp *tcp)
{
	struct roll_box *box = &tcp->shm->roll_boxes[tcp->seat];
	struct roll_request request;
	if (likely(!roll_is_asked(box, &request)))
		return;
	if (request.number == request.series)
		tcp->clerk = (struct clerk){ .series = request.series, .next = tcp->oldest };
	if (request.series != tcp->clerk.series)
		roll_answer(box, &request, ROLL_LOST, 0);
	else if (request.kind == ROLL_KILL)
		end_one(tcp, &request);
	else
		list(tcp, &request);
}

void clerk_forget(struct clerk *clerk, const struct session *session)
{
	if (unlikely(clerk->next == session))
		clerk->next = session->next;
}
