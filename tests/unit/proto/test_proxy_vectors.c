/* Headers of the PROXY protocol with the verdict of the specification. Not part of the sources: AEGIS_TEST_VECTORS names the folder with
 * proxy_protocol/vectors.json. Where it is not there, this is skipped. "either": the specification leaves it open; here a header that tells
 * of no family or of unix sockets is taken, one of datagrams on a stream is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../vectors.h"
#include "proto/proxy_read.h"

enum { LINE_BYTES = 64 << 10, HEADER_MAX = 8 << 10, VECTORS = 96 };

struct vector {
	char id[64], verdict[16], source[80];
	uint8_t bytes[HEADER_MAX];
	size_t count;
};

static FILE *file;

/* One member for each line. */
static bool next_vector(struct vector *vector)
{
	static char line[LINE_BYTES];

	memset(vector, 0, sizeof *vector);
	while (fgets(line, sizeof line, file) != NULL) {
		const char *hex = vectors_member(line, "   \"hex\"");
		if (hex != NULL)
			vector->count = vectors_bytes(hex, vector->bytes, sizeof vector->bytes);
		vectors_copy(line, "   \"id\"", vector->id, sizeof vector->id);
		vectors_copy(line, "   \"src\"", vector->source, sizeof vector->source);
		vectors_copy(line, "   \"spec\"", vector->verdict, sizeof vector->verdict);
		if (strncmp(line, "  }", 3) == 0 && vector->id[0])
			return true;
	}
	return false;
}

static void assert_source(const struct vector *vector, const struct proxy_header *header)
{
	char address[INET6_ADDRSTRLEN] = "", text[80] = "peer";
	const struct addr *source = &header->ends.source;
	if (header->ends.known && source->sa.sa_family != AF_UNIX) {
		bool wide = source->sa.sa_family == AF_INET6;
		const void *at = wide ? (const void *)&source->in6.sin6_addr : (const void *)&source->in.sin_addr;
		assert_non_null(inet_ntop(source->sa.sa_family, at, address, sizeof address));
		snprintf(text, sizeof text, "%s:%u", address, addr_port(source));
	}
	if (strcmp(text, vector->source) != 0)
		fail_msg("%s: source %s, not %s", vector->id, text, vector->source);
}

static void check(const struct vector *vector)
{
	struct proxy_header header = { 0 };
	const char *why = "";
	enum proxy_verdict verdict = proxy_read(vector->bytes, vector->count, false, &header, &why);
	if (strcmp(vector->verdict, "accept") == 0) {
		if (verdict != PROXY_GOOD)
			fail_msg("%s: %s", vector->id, verdict == PROXY_BAD ? why : "needs more");
		assert_source(vector, &header);
	} else if (strcmp(vector->verdict, "reject") == 0 && verdict == PROXY_GOOD) {
		fail_msg("%s: taken", vector->id);
	} else if (strcmp(vector->verdict, "either") == 0) {
		bool datagrams = strstr(vector->id, "udp") != NULL;
		if ((verdict == PROXY_GOOD) == datagrams)
			fail_msg("%s: verdict %d", vector->id, (int)verdict);
	}
	for (size_t n = 0; n < vector->count; n++) { /* as it comes in, byte by byte */
		enum proxy_verdict now = proxy_read(vector->bytes, n, false, &header, &why);
		if (verdict == PROXY_GOOD ? now != (n < header.length ? PROXY_NEED_MORE : PROXY_GOOD) : now == PROXY_GOOD)
			fail_msg("%s: verdict %d with %zu bytes", vector->id, (int)now, n);
	}
}

/* What follows is not looked at. */
static void check_with_more(struct vector *vector)
{
	static const char more[] = "GET / HTTP/1.0\r\n\r\n";
	struct proxy_header header;
	const char *why;
	if (strcmp(vector->verdict, "accept") != 0)
		return;
	memcpy(vector->bytes + vector->count, more, sizeof more - 1);
	assert_int_equal(proxy_read(vector->bytes, vector->count + sizeof more - 1, false, &header, &why), PROXY_GOOD);
	if (header.length != vector->count)
		fail_msg("%s: %zu bytes, not %zu", vector->id, header.length, vector->count);
}

static void test_vectors(void **state)
{
	struct vector *vector = malloc(sizeof *vector);
	size_t n = 0;

	(void)state;
	assert_non_null(vector);
	for (; next_vector(vector); n++) {
		check(vector);
		check_with_more(vector);
	}
	assert_true(n >= VECTORS);
	free(vector);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_vectors) };

	file = vectors_open("proxy_protocol/vectors.json");
	if (!file)
		return VECTORS_SKIPPED;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	fclose(file);
	return failed;
}
