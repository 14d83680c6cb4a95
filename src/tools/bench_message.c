#include "tools/bench_message.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"

/* Primes, so that neighbours in both directions start far from each other in the pattern. */
static const uint64_t client_stride = 7919, sequence_stride = 104729;

struct stamp {
	uint32_t run;
	uint32_t client;
	uint64_t sequence;
};
static_assert(sizeof(struct stamp) == MESSAGE_STAMP_BYTES, "a stamp has no holes");

void message_init_echo(struct message *message, uint64_t bytes, uint32_t run)
{
	pattern_fill(&message->pattern);
	message->echo = true;
	message->run = run;
	message->head_bytes = 0;
	message->body_bytes = bytes;
}

int message_init_http(struct message *message, const char *method, const char *host, const char *path, uint64_t body_bytes)
{
	struct text head = text_of(message->head, sizeof message->head);
	text_add(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive\r\n", method, path, host);
	if (strcmp(method, "POST") == 0)
		text_add(&head, "Content-Length: %" PRIu64 "\r\n", body_bytes);
	text_add(&head, "\r\n");
	if (head.cut)
		return -ERANGE;
	pattern_fill(&message->pattern);
	message->echo = false;
	message->head_bytes = head.length;
	message->body_bytes = body_bytes;
	return 0;
}

uint64_t message_bytes(const struct message *message)
{
	return message->head_bytes + message->body_bytes;
}

static uint64_t pattern_start(struct message_id id)
{
	return (id.client * client_stride + id.sequence % PATTERN_PERIOD * sequence_stride) % PATTERN_PERIOD;
}

/* The part before the pattern: the stamp or the head. */
static size_t put_start(const struct message *message, struct message_id id, struct message_room *room, const unsigned char **out)
{
	*out = (const unsigned char *)message->head;
	if (!message->echo)
		return message->head_bytes;
	struct stamp stamp = { .run = message->run, .client = id.client, .sequence = id.sequence };
	*out = room->bytes;
	if (message->body_bytes < MESSAGE_STAMP_BYTES)
		return 0;
	memcpy(room->bytes, &stamp, sizeof stamp);
	return sizeof stamp;
}

int message_iov(
        const struct message *message, struct message_id id, uint64_t offset, uint64_t limit, struct message_room *room, struct iovec *iov)
{
	const unsigned char *start;
	size_t start_bytes = put_start(message, id, room, &start);
	uint64_t total = message_bytes(message), left = total - offset < limit ? total - offset : limit;
	uint64_t shift = message->echo ? pattern_start(id) : 0;
	if (message->echo && total <= sizeof room->bytes) { /* one piece is cheaper for the kernel than two */
		memcpy(room->bytes + start_bytes, &message->pattern.bytes[shift], (size_t)total - start_bytes);
		iov[0] = (struct iovec){ .iov_base = room->bytes + offset, .iov_len = (size_t)left };
		return 1;
	}
	int used = 0;
	if (offset < start_bytes) {
		size_t size = start_bytes - (size_t)offset;
		size = size < left ? size : (size_t)left;
		iov[used].iov_base = (void *)(uintptr_t)(start + offset);
		iov[used++].iov_len = size;
		offset += size;
		left -= size;
	}
	return used + pattern_iov(&message->pattern, shift + offset - start_bytes, left, iov + used, MESSAGE_PIECES - used);
}

static size_t first_difference(const unsigned char *a, const unsigned char *b, size_t size)
{
	size_t at = 0;
	while (at < size && a[at] == b[at])
		at++;
	return at;
}

size_t message_compare(const struct message *message, struct message_id id, uint64_t offset, const unsigned char *bytes, size_t size)
{
	struct message_room room;
	struct iovec iov[MESSAGE_PIECES];
	size_t at = 0;
	while (at < size) {
		int pieces = message_iov(message, id, offset + at, size - at, &room, iov);
		for (int i = 0; i < pieces; i++) {
			if (memcmp(bytes + at, iov[i].iov_base, iov[i].iov_len) != 0)
				return at + first_difference(bytes + at, iov[i].iov_base, iov[i].iov_len);
			at += iov[i].iov_len;
		}
	}
	return size;
}

bool message_whose(const struct message *message, const unsigned char *bytes, size_t size, struct message_id *id)
{
	struct stamp stamp;
	if (!message->echo || size < sizeof stamp)
		return false;
	memcpy(&stamp, bytes, sizeof stamp);
	if (stamp.run != message->run)
		return false;
	*id = (struct message_id){ .client = stamp.client, .sequence = stamp.sequence };
	return true;
}
