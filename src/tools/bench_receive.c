/* What a client of the load reads, and whether it is what was asked for. See bench.h. */
#include <errno.h>
#include <inttypes.h>
#include <sys/socket.h>

#include "tools/bench.h"

/* How many reads a client has before others get their turn; how much of a body is worth not copying. */
enum { CLIENT_ROUNDS = 8, SKIP_LEAST_BYTES = 16384 };

/* --- receiving -------------------------------------------------------------------- */

/* Bytes of an echo. True when they are part of the message and more is to come. */
static bool take_echo(struct load *load, struct client *client, size_t size)
{
	const struct message *message = load->message;
	uint64_t left = message->body_bytes - client->got_bytes;
	size_t compared = size < left ? size : (size_t)left;
	size_t wrong = message_compare(message, client_message(client), client->got_bytes, load->scratch, compared);
	if (wrong < compared) {
		char detail[128];
		struct message_id owner;
		int length = snprintf(detail, sizeof detail, "at byte %" PRIu64, client->got_bytes + wrong);
		if (client->got_bytes == 0 && message_whose(message, load->scratch, size, &owner))
			snprintf(detail + length, sizeof detail - (size_t)length, "; it begins as connection %" PRIu32 ", message %" PRIu64,
			        owner.client, owner.sequence);
		client_failed(load, client, FAILURE_WRONG, detail);
		return false;
	}
	client->got_bytes += compared;
	if (size > compared) {
		client_failed(load, client, FAILURE_UNASKED, "more than was sent");
		return false;
	}
	if (compared < left)
		return true;
	client_answered(load, client);
	return false;
}

static bool take_http(struct load *load, struct client *client, size_t size)
{
	size_t used = 0;
	int rc = answer_feed(&client->answer, (const char *)load->scratch, size, &used);
	if (rc < 0) {
		client_failed(load, client, FAILURE_HTTP, "");
		return false;
	}
	if (client->answer.phase != ANSWER_COMPLETE)
		return true;
	if (used < size)
		client_failed(load, client, FAILURE_UNASKED, "after the response");
	else
		client_answered(load, client);
	return false;
}

/* A body that nobody looks at stays in the kernel (MSG_TRUNC): the load costs less, and what is measured has more of the machine. */
static bool take_skipped(struct load *load, struct client *client, size_t size)
{
	answer_skip(&client->answer, size);
	if (client->answer.phase != ANSWER_COMPLETE)
		return true;
	client_answered(load, client);
	return false;
}

static void client_end_of_input(struct load *load, struct client *client)
{
	client->hung_up = true;
	if (!load->message->echo && answer_ends(&client->answer))
		client_answered(load, client);
	else
		client_failed(load, client, client->dialing ? FAILURE_CONNECT : FAILURE_CLOSED, "");
}

static bool skips(const struct load *load, const struct client *client, size_t *size)
{
	uint64_t left = load->plan->target.sa.sa_family != AF_UNIX && !load->message->echo ? answer_skippable(&client->answer) : 0;
	*size = left < sizeof load->scratch ? (size_t)left : sizeof load->scratch;
	return left >= SKIP_LEAST_BYTES;
}

void client_receive(struct load *load, struct client *client)
{
	for (int round = 0; round < CLIENT_ROUNDS; round++) {
		size_t size;
		bool skip = skips(load, client, &size);
		size = skip ? size : sizeof load->scratch;
		ssize_t got = recv(client->fd, load->scratch, size, skip ? MSG_TRUNC : 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got < 0) {
			client_failed_by(load, client, errno);
			return;
		}
		if (got == 0) {
			client_end_of_input(load, client);
			return;
		}
		bool more = skip ? take_skipped(load, client, (size_t)got)
		                 : (load->message->echo ? take_echo : take_http)(load, client, (size_t)got);
		/* Less than there was room for means that no more is there, unless the end of input was told of already. */
		if (!more || ((size_t)got < size && !client->hung_up))
			return;
	}
	load_again(load, client, false);
}
