/* Any bytes as what a TLS client says first: the verdict and what is read of it are the same however the bytes are split, a verdict is for
 * ever, a name is one that may stand in a log, and what is taken as a hello is one by a second reading from its end. */
#include <string.h>

#include "fuzz.h"
#include "proto/client_hello.h"
#include "proto/postgres_request.h"

enum { MOST = 4096 };

static void ensure_sound(const struct client_hello *hello)
{
	size_t length, n = 0;

	ensure(hello->consumed <= MOST);
	ensure((hello->verdict > CLIENT_HELLO_DONE) == (hello->fault != NULL));
	if (hello->verdict == CLIENT_HELLO_MORE) {
		ensure(client_hello_missing(hello) > 0);
		ensure(hello->consumed + client_hello_missing(hello) <= MOST + 1);
	}
	if (hello->verdict != CLIENT_HELLO_DONE)
		return;
	ensure(strlen(hello->name) == hello->name_length);
	for (const char *at = hello->name; *at; at++)
		ensure((*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9') || *at == '-' || *at == '_' || *at == '.');
	for (const uint8_t *protocol; (protocol = client_hello_protocol(hello, n, &length)) != NULL; n++)
		ensure(length > 0 && protocol + length <= hello->protocols + hello->protocols_length);
}

/* In pieces of up to piece bytes; the verdict never goes back. */
static void feed(struct client_hello *hello, const uint8_t *bytes, size_t size, size_t piece)
{
	client_hello_init(hello, MOST);
	for (size_t at = 0; at < size; at += piece) {
		enum client_hello_verdict before = hello->verdict;
		enum client_hello_verdict now = client_hello_feed(hello, bytes + at, size - at < piece ? size - at : piece);
		ensure(before == CLIENT_HELLO_MORE || before == now);
		ensure_sound(hello);
	}
}

/* What PostgreSQL's clients say before: once it is known what it is, more bytes make nothing else of it. */
static void ensure_decided(const uint8_t *bytes, size_t size)
{
	enum postgres_request before = POSTGRES_MAYBE;

	for (size_t count = 1; count <= size && count <= 2 * POSTGRES_REQUEST_BYTES; count++) {
		enum postgres_request now = postgres_request(bytes, count);
		ensure(before == POSTGRES_MAYBE || now == before);
		ensure(now != POSTGRES_MAYBE || count < POSTGRES_REQUEST_BYTES);
		before = now;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct client_hello whole, bytewise, pieces, exact;

	ensure_decided(bytes, size);
	feed(&whole, bytes, size, size + 1);
	feed(&bytewise, bytes, size, 1);
	feed(&pieces, bytes, size, 7);
	ensure(memcmp(&whole, &bytewise, sizeof whole) == 0 && memcmp(&whole, &pieces, sizeof whole) == 0);
	if (whole.verdict != CLIENT_HELLO_DONE)
		return 0;
	feed(&exact, bytes, whole.consumed, size + 1);
	ensure(memcmp(&whole, &exact, sizeof whole) == 0);
	feed(&exact, bytes, whole.consumed - 1, size + 1);
	ensure(exact.verdict == CLIENT_HELLO_MORE);
	return 0;
}
