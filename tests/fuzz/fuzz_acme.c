/* Any bytes as the first ones of a client: whether it asks for the answer to a challenge is the same however they are split, decided for
 * ever with the first byte that decides it, and what is taken as such a request is just one line that could be written in no other way; its
 * head ends where a second reading, from behind, finds the first empty line. */
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "fuzz.h"
#include "proto/acme.h"

static void ensure_only_way(const char *bytes, const struct acme_request *request)
{
	char line[ACME_LINE_MOST + 1];

	ensure(request->token_length > 0 && strlen(request->token) == request->token_length);
	ensure(strspn(request->token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == request->token_length);
	int length =
	        snprintf(line, sizeof line, "%s /.well-known/acme-challenge/%s HTTP/1.", request->head ? "HEAD" : "GET", request->token);
	ensure(length > 0 && memcmp(bytes, line, (size_t)length) == 0);
	ensure(bytes[length] >= '0' && bytes[length] <= '9' && bytes[length + 1] == '\r' && bytes[length + 2] == '\n');
}

static enum acme_verdict read_bytewise(const char *bytes, size_t size)
{
	enum acme_verdict before = ACME_MORE;
	struct acme_request request;

	for (size_t count = 0; count <= size; count++) {
		char exact[ACME_LINE_MOST]; /* more are not needed: that all of it is a token, or a line, was decided */
		if (count > sizeof exact)
			break;
		memcpy(exact, bytes, count);
		enum acme_verdict now = acme_request(exact, count, &request);
		ensure(before == ACME_MORE || now == before);
		ensure(now != ACME_MORE || count < ACME_LINE_MOST);
		if (now == ACME_REQUEST)
			ensure_only_way(exact, &request);
		before = now;
	}
	return before;
}

/* Behind the first line that is empty but for a CR; 0 = there is none. */
static size_t head_of(const char *bytes, size_t size)
{
	size_t begin = 0;

	for (size_t at = 0; at < size; at++) {
		if (bytes[at] != '\n')
			continue;
		if (at == begin || (at == begin + 1 && bytes[begin] == '\r'))
			return at + 1;
		begin = at + 1;
	}
	return 0;
}

static void ensure_head(const char *bytes, size_t size)
{
	size_t length = head_of(bytes, size);

	ensure((acme_head_feed(ACME_HEAD_LINE_BEGINS, bytes, size) == ACME_HEAD_ENDED) == (length > 0));
	enum acme_head head = ACME_HEAD_LINE_BEGINS;
	for (size_t at = 0; at < size; at++) {
		head = acme_head_feed(head, bytes + at, 1);
		ensure((head == ACME_HEAD_ENDED) == (length > 0 && at + 1 >= length));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const char *bytes = (const char *)input;
	struct acme_request request;

	ensure(acme_request(bytes, size, &request) == read_bytewise(bytes, size));
	ensure_head(bytes, size);
	return 0;
}
