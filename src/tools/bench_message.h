/* What a client of aegis-bench sends, and what an echo must send back.
 *
 * Echo: a stamp that names the run, the client and the message, then bytes of the pattern from an offset that differs for each client
 *       and message, so that bytes of another connection or another message show. Below 16 bytes there is no room for a stamp.
 * HTTP: a head, the same each time, then (uploads) bytes of the pattern. Nothing is stored per message: bytes are made when sent.
 */
#ifndef AEGIS_TOOLS_BENCH_MESSAGE_H
#define AEGIS_TOOLS_BENCH_MESSAGE_H

#include <stdbool.h>

#include "tools/pattern.h"

enum { MESSAGE_HEAD_SIZE = 2048, MESSAGE_STAMP_BYTES = 16, MESSAGE_ROOM_BYTES = 4096, MESSAGE_PIECES = 6 };

/* The message that a client sends as its sequence-th one. */
struct message_id {
	uint32_t client;
	uint64_t sequence;
};

struct message {
	struct pattern pattern;
	bool echo;
	uint32_t run; /* tells this run from others */
	char head[MESSAGE_HEAD_SIZE];
	size_t head_bytes;
	uint64_t body_bytes; /* of an echo: all */
};

/* Where small messages are put together. */
struct message_room {
	unsigned char bytes[MESSAGE_ROOM_BYTES];
};

void message_init_echo(struct message *message, uint64_t bytes, uint32_t run);
/* 0, or -ERANGE where host and path make too long a head. */
must_check int message_init_http(struct message *message, const char *method, const char *host, const char *path, uint64_t body_bytes);

uint64_t message_bytes(const struct message *message);

/* Point iov (of MESSAGE_PIECES entries) at the bytes of the message from offset on, at most limit of them. Returns the entries used. */
int message_iov(
        const struct message *message, struct message_id id, uint64_t offset, uint64_t limit, struct message_room *room, struct iovec *iov);

/* Compare what an echo sent back, from offset on. The index of the first wrong byte, or size. */
size_t message_compare(const struct message *message, struct message_id id, uint64_t offset, const unsigned char *bytes, size_t size);

/* Whose message of this run begins with these bytes. True and *id, or false. */
bool message_whose(const struct message *message, const unsigned char *bytes, size_t size, struct message_id *id);

#endif
