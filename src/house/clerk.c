#include "house/clerk.h"

#include <string.h>

#include "base/text.h"
#include "house/caller.h"
#include "house/house.h"
#include "tls/tls.h"

/* Looked up when it is asked for: a session has OpenSSL's state anyhow. */
static void describe_tls(const struct visit *visit, enum roll_side which, struct roll_row *out)
{
	const struct visit_kind *kind = visit->entrance->kind;
	struct ssl_st *ssl = kind->secured ? kind->secured(visit, which) : NULL;
	struct tls_facts facts;
	if (!ssl)
		return;
	tls_facts(ssl, &facts);
	out->tls[which] =
	        (uint8_t)((strcmp(facts.version, "TLSv1.3") == 0 ? ROLL_TLS_1_3 : ROLL_TLS_1_2) | (facts.resumed ? ROLL_RESUMED : 0));
	out->ciphers[which] = facts.cipher_number;
	if (which == ROLL_CLIENT)
		(void)text_copy(out->name, sizeof out->name, facts.server_name);
}

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
	describe_tls(visit, ROLL_CLIENT, out);
	describe_tls(visit, ROLL_SERVER, out);
	if (visit->caller && visit->caller->name[0])
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
