/* Any bytes as a header of the PROXY protocol: a verdict is for ever, comes with the first byte that decides it, and depends on the header
 * alone; who is told of is the same when it is written and read again; TLVs lie within the header. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "proto/proxy_read.h"
#include "proto/proxy_write.h"

enum { TLVS_MOST = PROXY_V2_BODY_MOST / PROXY_TLV_HEAD + 1 };

static size_t take_tlvs(const struct proxy_header *header, const uint8_t *bytes, struct proxy_tlv *out)
{
	const uint8_t *at = header->tlvs, *end = at ? at + header->tlvs_length : at;
	struct proxy_tlv tlv;
	size_t n = 0;
	ensure(!at || (at >= bytes && end <= bytes + header->length));
	while (at && proxy_next_tlv(&at, end, &tlv))
		if (tlv.type != PROXY_TLV_CRC32C)
			out[n++] = tlv;
	ensure(at == end);
	return n;
}

static void ensure_same(const struct addr *a, const struct addr *b)
{
	char texts[2][ADDR_TEXT_SIZE];
	ensure(strcmp(addr_format(a, texts[0], ADDR_TEXT_SIZE), addr_format(b, texts[1], ADDR_TEXT_SIZE)) == 0);
}

/* Written, and read again. Mapped addresses come back as IPv4. */
static void ensure_written(const struct proxy_header *header, const uint8_t *bytes, bool datagrams)
{
	static struct proxy_tlv tlvs[TLVS_MOST];
	static char out[PROXY_HEADER_MOST + PROXY_CRC_BYTES];
	struct proxy_header again;
	const char *why;
	size_t n = take_tlvs(header, bytes, tlvs);
	int length = proxy_write_v2(&header->ends, tlvs, n, true, out, sizeof out);
	ensure(length > 0);
	if (length > PROXY_HEADER_MOST)
		return;
	ensure(proxy_read(out, (size_t)length, datagrams, &again, &why) == PROXY_GOOD && again.length == (size_t)length);
	ensure(again.ends.known && take_tlvs(&again, (const uint8_t *)out, tlvs) == n);
	ensure_same(&header->ends.source, &again.ends.source);
	ensure_same(&header->ends.destination, &again.ends.destination);
	size_t line = proxy_write_v1(&header->ends, out);
	ensure(proxy_read(out, line, false, &again, &why) == PROXY_GOOD && again.length == line);
	if (again.ends.known)
		ensure_same(&header->ends.source, &again.ends.source);
}

static void read_all(const uint8_t *bytes, size_t size, bool datagrams)
{
	struct proxy_header header = { 0 }, part;
	const char *why = NULL, *part_why;
	enum proxy_verdict verdict = proxy_read(bytes, size, datagrams, &header, &why);
	size_t decided = size;
	ensure((verdict == PROXY_BAD) == (why != NULL));
	for (size_t n = 0; n <= size; n++) { /* each beginning in a place of its own, so that nothing behind it is read unnoticed */
		uint8_t *copy = malloc(n ? n : 1);
		ensure(copy);
		memcpy(copy, bytes, n);
		enum proxy_verdict now = proxy_read(copy, n, datagrams, &part, &part_why);
		free(copy);
		ensure(now == verdict || now == PROXY_NEED_MORE);
		if (now != PROXY_NEED_MORE && decided == size)
			decided = n;
		ensure(n <= decided || now == verdict);
		if (n > PROXY_HEADER_MOST)
			break;
	}
	if (verdict != PROXY_GOOD)
		return;
	ensure(header.length == decided && header.length <= PROXY_HEADER_MOST);
	if (header.ends.known)
		ensure_written(&header, bytes, datagrams);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	read_all(bytes, size, false);
	read_all(bytes, size, true);
	return 0;
}
