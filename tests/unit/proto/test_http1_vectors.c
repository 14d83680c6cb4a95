/* HTTP/1 messages of other parsers' tests, with what those make of them. Not part of the sources: AEGIS_TEST_VECTORS names the folder with
 *   llhttp_vectors.jsonl        one message or more for each line, with the verdict of llhttp
 *   te_gadgets_smuggler.jsonl   spellings of Transfer-Encoding that some servers take and others do not
 *   oracle_matrix.tsv           how many answers a real server gave to the former (line N is llhttp-N)
 * (below http1/). Where they are not there, this is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vectors.h"
#include "exchange.h"
#include "proto/framing.h"

enum { MESSAGE_MAX = 16 << 10, LINE_MAX_BYTES = 64 << 10 };

struct vector {
	char title[256], type[64], verdict[32];
	char bytes[MESSAGE_MAX];
	size_t count;
	uint32_t messages;
	bool has_host;
};

static FILE *open_file(const char *name)
{
	FILE *file = vectors_open(name);
	if (file == NULL)
		fail_msg("%s does not open", name);
	return file;
}

/* The text behind "key": in a line of JSON without escapes in what is looked for; the rest of the line where it is a number. */
static const char *value_of(const char *line, const char *key)
{
	char quoted[64];

	snprintf(quoted, sizeof quoted, "\"%s\": ", key);
	const char *at = strstr(line, quoted);
	assert_non_null(at);
	return at + strlen(quoted);
}

static void copy_text(char *to, size_t size, const char *line, const char *key)
{
	const char *at = value_of(line, key);

	assert_true(*at == '"');
	snprintf(to, size, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
}

static size_t copy_hex(char *to, size_t size, const char *line, const char *key)
{
	return vectors_bytes(value_of(line, key) + 1, to, size);
}

static bool next_vector(FILE *file, struct vector *vector)
{
	static char line[LINE_MAX_BYTES];

	if (fgets(line, sizeof line, file) == NULL)
		return false;
	memset(vector, 0, sizeof *vector);
	copy_text(vector->title, sizeof vector->title, line, "title");
	copy_text(vector->type, sizeof vector->type, line, "type");
	copy_text(vector->verdict, sizeof vector->verdict, line, "llhttp");
	vector->count = copy_hex(vector->bytes, sizeof vector->bytes, line, "input_hex");
	vector->messages = (uint32_t)strtoul(value_of(line, "messages_complete"), NULL, 10);
	vector->has_host = strncmp(value_of(line, "has_host"), "true", 4) == 0;
	return true;
}

/* Insert Host into every request: most vectors go without, which alone pins. */
static void add_hosts(struct vector *vector)
{
	static const char end_of_line[] = " HTTP/1.1\r\n", host[] = "Host: a\r\n";
	size_t at = 0;

	for (;;) {
		char *found = memmem(vector->bytes + at, vector->count - at, end_of_line, sizeof end_of_line - 1);
		if (found == NULL)
			return;
		at = (size_t)(found - vector->bytes) + sizeof end_of_line - 1;
		assert_true(vector->count + sizeof host <= sizeof vector->bytes);
		memmove(vector->bytes + at + sizeof host - 1, vector->bytes + at, vector->count - at);
		memcpy(vector->bytes + at, host, sizeof host - 1);
		vector->count += sizeof host - 1;
	}
}

/* The verdict on these bytes of one side, the same for every split. */
static enum framing_verdict verdict_on(struct framing *framing, char direction, const char *bytes, size_t count, uint32_t asked)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	static const size_t pieces[] = { 1, 5, SIZE_MAX / 2 };
	enum framing_verdict verdicts[ARRAY_LEN(pieces)];

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		framing_init(framing, FRAMING_HTTP1);
		for (uint32_t n = 0; n < asked; n++)
			framing_request(framing, get, sizeof get - 1);
		exchange_feed(framing, direction, bytes, count, pieces[i]);
		verdicts[i] = framing_verdict(framing);
		assert_int_equal(verdicts[i], verdicts[0]);
	}
	return verdicts[0];
}

/* llhttp was told to skip the body there, which its test does not say in the bytes. */
static bool is_without_bodies(const struct vector *vector)
{
	return strcmp(vector->title, "Content-Length reset when no body is received") == 0;
}

static void check_request(struct vector *vector, unsigned *understood)
{
	struct framing framing;

	if (!vector->has_host)
		add_hosts(vector);
	enum framing_verdict verdict = verdict_on(&framing, '>', vector->bytes, vector->count, 0);
	if (verdict == FRAMING_PINNED || is_without_bodies(vector))
		return;
	if (strcmp(vector->verdict, "complete") == 0) {
		if (verdict != FRAMING_OWED || framing.owed != vector->messages)
			fail_msg("%s: verdict %d with %u requests, llhttp counts %u", vector->title, (int)verdict, framing.owed,
			        vector->messages);
	} else if (strcmp(vector->verdict, "incomplete") == 0) {
		if (verdict != FRAMING_PARTIAL || framing.owed != vector->messages)
			fail_msg("%s: verdict %d, llhttp wants more", vector->title, (int)verdict);
	} else {
		fail_msg("%s: verdict %d, llhttp says %s", vector->title, (int)verdict, vector->verdict);
	}
	(*understood)++;
}

static void check_response(const struct vector *vector, unsigned *understood)
{
	uint32_t asked = vector->messages > 0 ? vector->messages : 1;
	struct framing framing;
	enum framing_verdict verdict = verdict_on(&framing, '<', vector->bytes, vector->count, asked);

	if (verdict == FRAMING_PINNED || is_without_bodies(vector))
		return;
	if (strcmp(vector->verdict, "complete") == 0) {
		/* llhttp counts an interim answer as a message: the answer behind it may not be all there */
		bool is_interim = strncmp(vector->bytes, "HTTP/1.1 1", 10) == 0;
		if (verdict != FRAMING_CLEAN && !(is_interim && verdict == FRAMING_OWED))
			fail_msg("%s: verdict %d, llhttp says complete", vector->title, (int)verdict);
	} else if (strcmp(vector->verdict, "incomplete") == 0) {
		if (verdict != FRAMING_OWED)
			fail_msg("%s: verdict %d, llhttp wants more", vector->title, (int)verdict);
	} else {
		fail_msg("%s: verdict %d, llhttp says %s", vector->title, (int)verdict, vector->verdict);
	}
	(*understood)++;
}

static void test_agrees_with_llhttp_or_pins(void **state)
{
	FILE *file = open_file("http1/llhttp_vectors.jsonl");
	unsigned requests = 0, responses = 0;
	static struct vector vector;

	(void)state;
	while (next_vector(file, &vector)) {
		if (strcmp(vector.type, "request") == 0)
			check_request(&vector, &requests);
		else if (strcmp(vector.type, "response") == 0)
			check_response(&vector, &responses);
	}
	fclose(file);
	/* a parser that pins everything would pass otherwise */
	print_message("%u requests and %u answers were not pinned\n", requests, responses);
	assert_true(requests >= 25);
	assert_true(responses >= 12);
}

/* What only a lenient parser takes must pin, wherever the strict one does not take it. */
static void test_what_needs_leniency_pins(void **state)
{
	FILE *file = open_file("http1/llhttp_vectors.jsonl");
	static struct vector vector;
	unsigned count = 0;

	(void)state;
	while (next_vector(file, &vector)) {
		struct framing framing;

		if (strncmp(vector.type, "request-lenient", 15) != 0)
			continue;
		if (!vector.has_host)
			add_hosts(&vector);
		enum framing_verdict verdict = verdict_on(&framing, '>', vector.bytes, vector.count, 0);
		if (verdict != FRAMING_PINNED)
			fail_msg("%s: verdict %d", vector.title, (int)verdict);
		count++;
	}
	fclose(file);
	assert_true(count >= 20);
}

/* The number of answers in a cell such as "200,400/eof". */
static uint32_t answers_in(const char *cell)
{
	uint32_t count = *cell >= '0' && *cell <= '9' ? 1 : 0;

	for (; *cell != '\0' && *cell != '\t' && *cell != '/'; cell++)
		count += *cell == ',';
	return count;
}

/* A real server gave as many answers as requests were counted here. */
static void test_agrees_with_a_real_server_or_pins(void **state)
{
	FILE *file = open_file("http1/llhttp_vectors.jsonl"), *matrix = open_file("http1/oracle_matrix.tsv");
	static struct vector vector;
	static char line[LINE_MAX_BYTES];
	long at = -1, row;
	unsigned compared = 0;

	(void)state;
	while (fgets(line, sizeof line, matrix) != NULL) {
		if (sscanf(line, "llhttp-%ld\t", &row) != 1)
			continue;
		for (; at < row; at++)
			assert_true(next_vector(file, &vector));
		struct framing framing;
		if (strncmp(vector.type, "request", 7) != 0 || verdict_on(&framing, '>', vector.bytes, vector.count, 0) != FRAMING_OWED)
			continue;
		const char *cell = strchr(strchr(line, '\t') + 1, '\t') + 1;
		if (answers_in(cell) != framing.owed)
			fail_msg("%s: %u requests, but the server answered %.20s", vector.title, framing.owed, cell);
		compared++;
	}
	fclose(file);
	fclose(matrix);
	print_message("%u compared with a real server\n", compared);
	assert_true(compared >= 4);
}

static bool is_plainly_chunked(const char *field, size_t count)
{
	static const char name[] = "Transfer-Encoding:", value[] = "chunked";
	size_t name_length = sizeof name - 1, value_length = sizeof value - 1;

	if (count < name_length + value_length || memcmp(field, name, name_length) != 0 ||
	        memcmp(field + count - value_length, value, value_length) != 0)
		return false;
	for (size_t i = name_length; i < count - value_length; i++)
		if (field[i] != ' ')
			return false;
	return true;
}

/* A POST with these fields and this body. */
static enum framing_verdict verdict_on_post(const char *fields, size_t count, const char *rest)
{
	static const char begin[] = "POST / HTTP/1.1\r\nHost: a\r\n";
	char request[1024];
	size_t length = sizeof begin - 1;
	struct framing framing;

	assert_true(length + count + strlen(rest) < sizeof request);
	memcpy(request, begin, length);
	memcpy(request + length, fields, count);
	length += count;
	memcpy(request + length, rest, strlen(rest));
	return verdict_on(&framing, '>', request, length + strlen(rest), 0);
}

static void test_gadgets_of_transfer_encoding_pin(void **state)
{
	FILE *file = open_file("http1/te_gadgets_smuggler.jsonl");
	static char line[LINE_MAX_BYTES];
	unsigned count = 0, plain = 0;

	(void)state;
	while (fgets(line, sizeof line, file) != NULL) {
		char field[256], id[64];
		size_t length = copy_hex(field, sizeof field, line, "te_line_hex");
		copy_text(id, sizeof id, line, "id");
		bool is_another_field = strcmp(id, "contentEnc") == 0;
		enum framing_verdict alone = verdict_on_post(field, length, "\r\n\r\n0\r\n\r\n");
		enum framing_verdict beside = verdict_on_post(field, length, "\r\nContent-Length: 5\r\n\r\n0\r\n\r\n");

		if (alone != (is_plainly_chunked(field, length) ? FRAMING_OWED : FRAMING_PINNED))
			fail_msg("%s alone: verdict %d", id, (int)alone);
		if (beside != (is_another_field ? FRAMING_OWED : FRAMING_PINNED))
			fail_msg("%s beside Content-Length: verdict %d", id, (int)beside);
		plain += is_plainly_chunked(field, length);
		count++;
	}
	fclose(file);
	assert_true(count > 600 && plain < 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agrees_with_llhttp_or_pins),
		cmocka_unit_test(test_what_needs_leniency_pins),
		cmocka_unit_test(test_agrees_with_a_real_server_or_pins),
		cmocka_unit_test(test_gadgets_of_transfer_encoding_pin),
	};

	FILE *file = vectors_open("http1/llhttp_vectors.jsonl");
	if (file == NULL)
		return VECTORS_SKIPPED;
	fclose(file);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
