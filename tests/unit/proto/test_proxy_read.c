/* Headers of the PROXY protocol as they are read: what is told, what is refused and how early, TLVs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "proto/proxy_read.h"
#include "proto/proxy_write.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define ENDS "\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x7b\x16\x2e"
#define BYTES(literal) literal, sizeof(literal) - 1

static struct proxy_header header;
static const char *why;

static void assert_ends(const char *source, const char *destination)
{
	char text[ADDR_TEXT_SIZE];
	assert_true(header.ends.known);
	assert_string_equal(addr_format(&header.ends.source, text, sizeof text), source);
	assert_string_equal(addr_format(&header.ends.destination, text, sizeof text), destination);
}

static void assert_bad(const void *bytes, size_t count, const char *wanted)
{
	why = NULL;
	if (proxy_read(bytes, count, false, &header, &why) != PROXY_BAD)
		fail_msg("not refused; it should be: %s", wanted);
	assert_string_equal(why, wanted);
}

static void version_1(void **state)
{
	static const char line[] = "PROXY TCP4 192.0.2.1 192.0.2.2 123 5678\r\nmore";

	(void)state;
	assert_int_equal(proxy_read(BYTES(line), false, &header, &why), PROXY_GOOD);
	assert_int_equal(header.version, 1);
	assert_int_equal(header.length, sizeof line - 1 - 4);
	assert_ends("192.0.2.1:123", "192.0.2.2:5678");
	assert_null(header.tlvs);
	assert_int_equal(proxy_read(BYTES("PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n"), false, &header, &why), PROXY_GOOD);
	assert_ends("[2001:db8::1]:0", "[::1]:65535");
	assert_int_equal(proxy_read(BYTES("PROXY UNKNOWN ::1\n\r \r\n"), false, &header, &why), PROXY_GOOD);
	assert_false(header.ends.known);
	assert_int_equal(header.length, 22);
}

/* With the first byte that shows it. */
static void refused_at_once(void **state)
{
	static const char no_header[] = "no header of the PROXY protocol", family[] = "the family is neither TCP4, TCP6 nor UNKNOWN";
	static const char behind[] = "what stands behind the family is neither addresses nor ports";
	char line[200];

	(void)state;
	assert_bad(BYTES("G"), no_header);
	assert_bad(BYTES("PROXX"), no_header);
	assert_bad(BYTES("\r\n\r\n\0\r\nQUIT\r"), no_header);
	assert_bad(BYTES("PROXY TCP5"), family);
	assert_bad(BYTES("PROXY UDP"), family);
	assert_bad(BYTES("PROXY UNKNOWNX"), family);
	assert_bad(BYTES("PROXY TCP\r\n"), family);
	assert_bad(BYTES("PROXY UNKNO\r\n"), family);
	assert_bad(BYTES("PROXY TCP4 1.2.3.4\t"), behind);
	assert_bad(BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), behind);
	assert_bad(BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx"), behind);
	memset(line, 'x', sizeof line);
	memcpy(line, "PROXY UNKNOWN ", 14);
	assert_int_equal(proxy_read(line, 106, false, &header, &why), PROXY_NEED_MORE);
	assert_bad(line, 107, "the line has no end within 107 bytes");
	assert_bad(BYTES(SIGNATURE "\x11"), "its version is not 2, or its command is neither LOCAL nor PROXY");
	assert_bad(BYTES(SIGNATURE "\x21\x41"), "its family or transport is undefined, or not of this listener");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x10\x01"), "it is longer than 4096 bytes");
	assert_bad(BYTES(SIGNATURE "\x20\x00\xff\xff"), "it is longer than 4096 bytes");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x0b"), "it is too short for its addresses");
}

static void words_of_version_1(void **state)
{
	static const char address[] = "an address is none, or of another family", port[] = "a port is none";
	static const struct {
		const char *words, *why;
	} rows[] = {
		{ "1.2.3.4 1.2.3.4 1", port },
		{ "1.2.3.4 1.2.3.4 1 ", port },
		{ "1.2.3.4 1.2.3.4 1 65536", port },
		{ "1.2.3.4 1.2.3.4 01 2", port },
		{ "1.2.3.4 1.2.3.4 000001 2", port },
		{ "1.2.3.4 1.2.3.4 1 2 ", "there are words behind the ports" },
		{ "1.2.3.4 1.2.3.4 1 2 3", "there are words behind the ports" },
		{ "1.2.3.4  1.2.3.4 1 2", address },
		{ " 1.2.3.4 1.2.3.4 1 2", address },
		{ "1.2.3 1.2.3.4 1 2", address },
		{ "1.2.3.4.5 1.2.3.4 1 2", address },
		{ "1.2.3.4. 1.2.3.4 1 2", address },
		{ "1.2.3.04 1.2.3.4 1 2", address },
		{ "1.2.3.256 1.2.3.4 1 2", address },
		{ "1..3.4 1.2.3.4 1 2", address },
		{ "::1 ::1 1 2", address },
		{ "1.2.3.4 ::1 1 2", address },
		{ "", address },
	};
	char line[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int length = snprintf(line, sizeof line, "PROXY TCP4 %s\r\n", rows[i].words);
		assert_bad(line, (size_t)length, rows[i].why);
	}
	assert_bad(BYTES("PROXY TCP6 1.2.3.4 ::1 1 2\r\n"), address);
	assert_bad(BYTES("PROXY TCP6 ::1::2 ::1 1 2\r\n"), address);
}

static void version_2(void **state)
{
	(void)state;
	assert_int_equal(proxy_read(BYTES(SIGNATURE "\x21\x11\x00\x0c" ENDS "more"), false, &header, &why), PROXY_GOOD);
	assert_int_equal(header.version, 2);
	assert_int_equal(header.length, 28);
	assert_int_equal(header.tlvs_length, 0);
	assert_ends("192.0.2.1:123", "192.0.2.2:5678");
	assert_int_equal(proxy_read(BYTES(SIGNATURE "\x20\x99\x00\x02xx"), false, &header, &why), PROXY_GOOD); /* whatever it has */
	assert_false(header.ends.known);
	assert_int_equal(header.length, 18);
	assert_int_equal(proxy_read(BYTES(SIGNATURE "\x21\x00\x00\x00"), false, &header, &why), PROXY_GOOD);
	assert_false(header.ends.known);
}

/* Each kind of listener takes its own. */
static void of_datagrams(void **state)
{
	(void)state;
	assert_int_equal(proxy_read(BYTES(SIGNATURE "\x21\x12\x00\x0c" ENDS), true, &header, &why), PROXY_GOOD);
	assert_true(header.ends.datagrams);
	assert_int_equal(proxy_read(BYTES(SIGNATURE "\x21\x12\x00\x0c" ENDS), false, &header, &why), PROXY_BAD);
	assert_int_equal(proxy_read(BYTES(SIGNATURE "\x21\x11\x00\x0c" ENDS), true, &header, &why), PROXY_BAD);
	assert_int_equal(proxy_read(BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), true, &header, &why), PROXY_BAD);
	assert_int_equal(proxy_read(BYTES("PROXY UNKNOWN\r\n"), true, &header, &why), PROXY_GOOD);
}

static void unix_sockets(void **state)
{
	static const struct proxy_ends ends = { .known = true,
		.source = { .length = 2, .un = { .sun_family = AF_UNIX } },
		.destination = { .length = 2 + 12, .un = { .sun_family = AF_UNIX, .sun_path = "/tmp/b.sock" } } };
	uint8_t bytes[PROXY_V2_BARE_MOST];

	(void)state;
	int length = proxy_write_v2(&ends, NULL, 0, false, bytes, sizeof bytes);
	assert_int_equal(proxy_read(bytes, (size_t)length, false, &header, &why), PROXY_GOOD);
	assert_int_equal(header.ends.source.length, 2);
	assert_int_equal(header.ends.destination.length, 2 + 12);
	assert_string_equal(header.ends.destination.un.sun_path, "/tmp/b.sock");
	assert_int_equal(proxy_read(bytes, (size_t)length - 1, false, &header, &why), PROXY_NEED_MORE);
}

static void tlvs(void **state)
{
	static const char bytes[] = SIGNATURE "\x21\x11\x00\x30" ENDS "\x01\x00\x02h2\x02\x00\x07"
	                                      "foo.com\x20\x00\x0f\x07\x00\x00\x00\x00\x21\x00\x07TLSv1.3"
	                                      "\xe0\x00\x00";
	struct proxy_tlv tlv;
	struct proxy_ssl ssl;

	(void)state;
	assert_int_equal(proxy_read(BYTES(bytes), false, &header, &why), PROXY_GOOD);
	assert_int_equal(header.length, sizeof bytes - 1);
	assert_true(proxy_find_tlv(&header, PROXY_TLV_ALPN, &tlv));
	assert_int_equal(tlv.length, 2);
	assert_memory_equal(tlv.bytes, "h2", 2);
	assert_true(proxy_find_tlv(&header, PROXY_TLV_AUTHORITY, &tlv));
	assert_memory_equal(tlv.bytes, "foo.com", 7);
	assert_true(proxy_find_tlv(&header, 0xe0, &tlv));
	assert_int_equal(tlv.length, 0);
	assert_false(proxy_find_tlv(&header, PROXY_TLV_NETNS, &tlv));
	assert_true(proxy_find_tlv(&header, PROXY_TLV_SSL, &tlv));
	assert_true(proxy_read_ssl(&tlv, &ssl));
	assert_true(ssl.verified);
	assert_true(proxy_next_tlv(&ssl.tlvs, ssl.end, &tlv));
	assert_int_equal(tlv.type, PROXY_SSL_VERSION);
	assert_memory_equal(tlv.bytes, "TLSv1.3", 7);
	assert_false(proxy_next_tlv(&ssl.tlvs, ssl.end, &tlv));
}

static void zeros_are_padding(void **state)
{
	(void)state;
	assert_int_equal(proxy_read(BYTES(SIGNATURE "\x21\x11\x00\x13" ENDS "\x04\0\0\0\0\0\0"), false, &header, &why), PROXY_GOOD);
	assert_int_equal(proxy_read(BYTES(SIGNATURE "\x21\x11\x00\x14" ENDS "\x04\0\0\0\0\0\0\0"), false, &header, &why), PROXY_GOOD);
	assert_int_equal(header.tlvs_length, 6);
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x14" ENDS "\x04\0\0\0\0\0\0\1"), "a TLV is longer than its place");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x10" ENDS "\x04\0\0\0"), "a TLV is longer than its place");
}

static void tlvs_that_are_refused(void **state)
{
	(void)state;
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x0d" ENDS "\x04"), "a TLV is longer than its place");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x10" ENDS "\x04\x00\x02x"), "a TLV is longer than its place");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x13" ENDS "\x03\x00\x04\x1c\x2b\x48\x6d"), "the check sum is wrong");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x12" ENDS "\x03\x00\x03xyz"), "the check sum has not 4 bytes");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x11" ENDS "\x02\x00\x02"
	                           "a\n"),
	        "the authority has spaces or control characters");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x11" ENDS "\x30\x00\x02"
	                           "a\0"),
	        "the network namespace has spaces or control characters");
	assert_bad(BYTES(SIGNATURE "\x21\x11\x00\x13" ENDS "\x20\x00\x04\x01\x00\x00\x00"), "the TLV about TLS is malformed");
	assert_bad(
	        BYTES(SIGNATURE "\x21\x11\x00\x17" ENDS "\x20\x00\x08\x01\x00\x00\x00\x00\x21\x00\x01"), "the TLV about TLS is malformed");
}

static void check_sums(void **state)
{
	const struct proxy_tlv more = { .type = PROXY_TLV_UNIQUE_ID, .bytes = "abc", .length = 3 };
	const struct proxy_ends ends = { .known = true,
		.source = { .length = sizeof(struct sockaddr_in), .in = { .sin_family = AF_INET } },
		.destination = { .length = sizeof(struct sockaddr_in), .in = { .sin_family = AF_INET } } };
	uint8_t bytes[256], twice[256];

	(void)state;
	int length = proxy_write_v2(&ends, &more, 1, true, bytes, sizeof bytes);
	assert_int_equal(proxy_read(bytes, (size_t)length, false, &header, &why), PROXY_GOOD);
	for (int i = 16; i < length; i++) {
		bytes[i] ^= 0x10;
		assert_int_equal(
		        proxy_read(bytes, (size_t)length, false, &header, &why), i == length - PROXY_CRC_BYTES ? PROXY_GOOD : PROXY_BAD);
		bytes[i] ^= 0x10; /* only that of the sum's own type makes it another TLV, which nobody sums up */
	}
	const struct proxy_tlv sum = { .type = PROXY_TLV_CRC32C, .bytes = "\0\0\0", .length = 4 };
	length = proxy_write_v2(&ends, &sum, 1, true, twice, sizeof twice);
	assert_bad(twice, (size_t)length, "the check sum is wrong");
}

static void too_long_an_id(void **state)
{
	static const char id[129];
	const struct proxy_tlv tlv = { .type = PROXY_TLV_UNIQUE_ID, .bytes = id, .length = sizeof id };
	const struct proxy_ends ends = { .known = true,
		.source = { .length = sizeof(struct sockaddr_in), .in = { .sin_family = AF_INET } },
		.destination = { .length = sizeof(struct sockaddr_in), .in = { .sin_family = AF_INET } } };
	uint8_t bytes[256];

	(void)state;
	int length = proxy_write_v2(&ends, &tlv, 1, false, bytes, sizeof bytes);
	assert_bad(bytes, (size_t)length, "the unique id has more than 128 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_1),
		cmocka_unit_test(refused_at_once),
		cmocka_unit_test(words_of_version_1),
		cmocka_unit_test(version_2),
		cmocka_unit_test(of_datagrams),
		cmocka_unit_test(unix_sockets),
		cmocka_unit_test(tlvs),
		cmocka_unit_test(zeros_are_padding),
		cmocka_unit_test(tlvs_that_are_refused),
		cmocka_unit_test(check_sums),
		cmocka_unit_test(too_long_an_id),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
