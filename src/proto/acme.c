#include "proto/acme.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PATH "/.well-known/acme-challenge/"
static const char get[] = "GET " PATH, head[] = "HEAD " PATH;
static const char tail[] = " HTTP/1.?\r\n"; /* '?': a digit */

static_assert(sizeof head - 1 + ACME_TOKEN_MOST + sizeof tail - 1 <= ACME_LINE_MOST, "all of a line that counts has room");

static bool is_digit(char byte)
{
	return byte >= '0' && byte <= '9';
}

static bool is_in_token(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || is_digit(byte) || byte == '-' || byte == '_';
}

static enum acme_verdict judge_tail(const char *bytes, size_t count)
{
	for (size_t i = 0; i < sizeof tail - 1; i++) {
		if (i == count)
			return ACME_MORE;
		if (tail[i] == '?' ? !is_digit(bytes[i]) : bytes[i] != tail[i])
			return ACME_OTHER;
	}
	return ACME_REQUEST;
}

enum acme_verdict acme_request(const char *bytes, size_t count, struct acme_request *out)
{
	bool is_head = count > 0 && bytes[0] == head[0];
	size_t before = is_head ? sizeof head - 1 : sizeof get - 1, at = before;

	if (memcmp(bytes, is_head ? head : get, count < before ? count : before) != 0)
		return ACME_OTHER;
	while (at < count && is_in_token(bytes[at]))
		at++;
	if (count > before && (at == before || at - before > ACME_TOKEN_MOST))
		return ACME_OTHER;
	if (at >= count)
		return ACME_MORE;
	enum acme_verdict verdict = judge_tail(bytes + at, count - at);
	if (verdict != ACME_REQUEST)
		return verdict;
	*out = (struct acme_request){ .head = is_head, .token_length = (uint8_t)(at - before) };
	memcpy(out->token, bytes + before, at - before);
	return ACME_REQUEST;
}

/* An empty line; a line may end without the CR (RFC 9112 2.2). */
static enum acme_head next(enum acme_head head_is, char byte)
{
	bool empty = head_is == ACME_HEAD_LINE_BEGINS || head_is == ACME_HEAD_CR;

	if (byte == '\n')
		return empty ? ACME_HEAD_ENDED : ACME_HEAD_LINE_BEGINS;
	return byte == '\r' && head_is == ACME_HEAD_LINE_BEGINS ? ACME_HEAD_CR : ACME_HEAD_LINE;
}

enum acme_head acme_head_feed(enum acme_head head_is, const char *bytes, size_t count)
{
	for (size_t at = 0; at < count && head_is != ACME_HEAD_ENDED; at++)
		head_is = next(head_is, bytes[at]);
	return head_is;
}

size_t acme_answer_head(char out[ACME_ANSWER_HEAD_SIZE], size_t content_length, time_t now)
{
	char date[64] = "";
	struct tm tm;

	if (!gmtime_r(&now, &tm) || strftime(date, sizeof date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm) == 0)
		date[0] = '\0';
	int length = snprintf(out, ACME_ANSWER_HEAD_SIZE,
	        "HTTP/1.1 200 OK\r\n%sContent-Type: application/octet-stream\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", date,
	        content_length);
	ensure(length > 0 && length < ACME_ANSWER_HEAD_SIZE);
	return (size_t)length;
}
