#include "tools/bench_answer.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

void answer_begin(struct answer *answer)
{
	answer->phase = ANSWER_HEAD;
	answer->status = 0;
	answer->keep_alive = false;
	answer->digits = false;
	answer->left = 0;
	answer->body_bytes = 0;
	answer->head_bytes = 0;
}

void answer_fini(struct answer *answer)
{
	free(answer->head);
	answer->head = NULL;
}

struct head {
	bool chunked, has_length, close, keep_alive;
	uint64_t length;
};

static int read_length(const char *value, size_t size, struct head *head)
{
	uint64_t length = 0;
	if (size == 0 || size > 18 || head->has_length)
		return -EPROTO;
	for (size_t i = 0; i < size; i++) {
		if (value[i] < '0' || value[i] > '9')
			return -EPROTO;
		length = length * 10 + (uint64_t)(value[i] - '0');
	}
	head->length = length;
	head->has_length = true;
	return 0;
}

static bool is_word(const char *text, size_t size, const char *word)
{
	return size == strlen(word) && strncasecmp(text, word, size) == 0;
}

static int read_field(const char *line, size_t size, struct head *head)
{
	const char *colon = memchr(line, ':', size);
	if (colon == NULL)
		return -EPROTO;
	size_t name = (size_t)(colon - line);
	const char *value = colon + 1;
	size_t length = size - name - 1;
	while (length > 0 && (value[0] == ' ' || value[0] == '\t')) {
		value++;
		length--;
	}
	while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t'))
		length--;
	if (is_word(line, name, "content-length"))
		return read_length(value, length, head);
	if (is_word(line, name, "transfer-encoding"))
		head->chunked = is_word(value, length, "chunked");
	if (is_word(line, name, "transfer-encoding") && !head->chunked)
		return -EPROTO;
	if (is_word(line, name, "connection")) {
		head->close = head->close || is_word(value, length, "close");
		head->keep_alive = head->keep_alive || is_word(value, length, "keep-alive");
	}
	return 0;
}

/* "HTTP/1.1 200 OK" */
static int read_status(struct answer *answer, const char *line, size_t size)
{
	if (size < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[7] < '0' || line[7] > '1' || line[8] != ' ')
		return -EPROTO;
	int status = 0;
	for (size_t i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return -EPROTO;
		status = status * 10 + (line[i] - '0');
	}
	if (status < 100)
		return -EPROTO;
	answer->status = status;
	answer->keep_alive = line[7] == '1';
	return 0;
}

static void head_done(struct answer *answer, const struct head *head)
{
	if (answer->status < 200 && answer->status != 101) { /* the real one follows */
		answer_begin(answer);
		return;
	}
	answer->keep_alive = !head->close && (answer->keep_alive || head->keep_alive);
	answer->left = head->length;
	if (answer->status == 204 || answer->status == 304 || answer->status == 101)
		answer->phase = ANSWER_COMPLETE;
	else if (head->chunked)
		answer->phase = ANSWER_CHUNK_SIZE;
	else if (head->has_length)
		answer->phase = head->length > 0 ? ANSWER_BODY : ANSWER_COMPLETE;
	else
		answer->phase = ANSWER_UNTIL_CLOSE;
	answer->left = answer->phase == ANSWER_BODY ? head->length : 0;
	answer->digits = false;
}

/* A whole head, with the empty line. */
static int read_head(struct answer *answer, const char *bytes, size_t size)
{
	struct head head = { .chunked = false };
	const char *line = bytes, *end = bytes + size - 2;
	int rc = 0;
	for (bool first = true; rc == 0 && line < end; first = false) {
		const char *stop = memchr(line, '\r', (size_t)(end - line));
		ensure(stop != NULL); /* the head ends with an empty line */
		if (stop[1] != '\n')
			return -EPROTO;
		size_t length = (size_t)(stop - line);
		rc = first ? read_status(answer, line, length) : read_field(line, length, &head);
		line = stop + 2;
	}
	if (rc == 0)
		head_done(answer, &head);
	return rc;
}

static int feed_head(struct answer *answer, const char *bytes, size_t size, size_t *used)
{
	const char *end;
	if (answer->head_bytes == 0 && (end = memmem(bytes, size, "\r\n\r\n", 4)) != NULL) {
		*used = (size_t)(end - bytes) + 4;
		return read_head(answer, bytes, *used);
	}
	if (answer->head == NULL && (answer->head = malloc(ANSWER_HEAD_BYTES)) == NULL)
		return -ENOMEM;
	size_t before = answer->head_bytes, room = ANSWER_HEAD_BYTES - before;
	size_t more = size < room ? size : room;
	memcpy(answer->head + before, bytes, more);
	answer->head_bytes += more;
	*used = more;
	if ((end = memmem(answer->head, answer->head_bytes, "\r\n\r\n", 4)) == NULL)
		return answer->head_bytes == ANSWER_HEAD_BYTES ? -EPROTO : 0;
	size_t length = (size_t)(end - answer->head) + 4;
	*used = length - before;
	answer->head_bytes = 0;
	return read_head(answer, answer->head, length);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The end of a line that says how long a chunk is. */
static void size_known(struct answer *answer)
{
	answer->phase = answer->left > 0 ? ANSWER_CHUNK : ANSWER_TRAILER;
	answer->digits = false;
}

/* One byte of what is between the chunks. */
static int feed_framing(struct answer *answer, char c)
{
	int digit = hex_value(c);
	switch (answer->phase) {
	case ANSWER_CHUNK_SIZE:
		if (digit >= 0 && answer->left < UINT64_C(1) << 56) {
			answer->left = answer->left * 16 + (uint64_t)digit;
			answer->digits = true;
			return 0;
		}
		if (!answer->digits || (c != '\r' && c != ';' && c != ' '))
			return -EPROTO;
		answer->phase = ANSWER_CHUNK_EXTENSION;
		return 0;
	case ANSWER_CHUNK_EXTENSION:
		if (c == '\n')
			size_known(answer);
		return 0;
	case ANSWER_CHUNK_END:
		if (c == '\n')
			answer->phase = ANSWER_CHUNK_SIZE;
		return c == '\n' || c == '\r' ? 0 : -EPROTO;
	default:
		if (c == '\n' && !answer->digits)
			answer->phase = ANSWER_COMPLETE;
		answer->digits = c != '\n' && (answer->digits || c != '\r');
		return 0;
	}
}

uint64_t answer_skippable(const struct answer *answer)
{
	if (answer->phase == ANSWER_UNTIL_CLOSE)
		return UINT64_MAX;
	return answer->phase == ANSWER_BODY || answer->phase == ANSWER_CHUNK ? answer->left : 0;
}

void answer_skip(struct answer *answer, uint64_t size)
{
	answer->body_bytes += size;
	if (answer->phase == ANSWER_UNTIL_CLOSE)
		return;
	ensure(size <= answer->left);
	answer->left -= size;
	if (answer->left == 0)
		answer->phase = answer->phase == ANSWER_BODY ? ANSWER_COMPLETE : ANSWER_CHUNK_END;
}

int answer_feed(struct answer *answer, const char *bytes, size_t size, size_t *used)
{
	size_t at = 0;
	int rc = 0;
	while (rc == 0 && at < size && answer->phase != ANSWER_COMPLETE) {
		size_t taken = 1;
		uint64_t body = answer_skippable(answer);
		if (answer->phase == ANSWER_HEAD) {
			rc = feed_head(answer, bytes + at, size - at, &taken);
		} else if (body > 0) {
			taken = body < size - at ? (size_t)body : size - at;
			answer_skip(answer, taken);
		} else {
			rc = feed_framing(answer, bytes[at]);
		}
		at += taken;
	}
	if (rc == 0)
		*used = at;
	return rc;
}

bool answer_ends(struct answer *answer)
{
	if (answer->phase != ANSWER_UNTIL_CLOSE)
		return false;
	answer->phase = ANSWER_COMPLETE;
	answer->keep_alive = false;
	return true;
}
