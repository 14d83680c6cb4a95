/* Headers of the PROXY protocol as they are written. What is expected stands as bytes, most of them those of other programs' tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "proto/proxy_write.h"

static struct addr inet_addr_of(const char *address, uint16_t port)
{
	struct addr addr = { 0 };
	if (strchr(address, ':')) {
		addr.length = sizeof addr.in6;
		addr.in6.sin6_family = AF_INET6;
		assert_int_equal(inet_pton(AF_INET6, address, &addr.in6.sin6_addr), 1);
	} else {
		addr.length = sizeof addr.in;
		addr.in.sin_family = AF_INET;
		assert_int_equal(inet_pton(AF_INET, address, &addr.in.sin_addr), 1);
	}
	addr_set_port(&addr, port);
	return addr;
}

static struct proxy_ends ends_of(const char *source, uint16_t from, const char *destination, uint16_t to)
{
	return (struct proxy_ends){ .known = true, .source = inet_addr_of(source, from), .destination = inet_addr_of(destination, to) };
}

static void assert_line(const struct proxy_ends *ends, const char *want)
{
	char line[PROXY_V1_MOST];
	size_t length = proxy_write_v1(ends, line);
	assert_int_equal(length, strlen(want));
	assert_memory_equal(line, want, length);
}

static void version_1(void **state)
{
	static const char full[] = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
	struct proxy_ends ends = ends_of("1.2.3.4", 65535, "253.253.253.253", 1234);

	(void)state;
	assert_line(&ends, "PROXY TCP4 1.2.3.4 253.253.253.253 65535 1234\r\n");
	ends = ends_of("1:2:3::4", 65535, "5:6::7:8", 0);
	assert_line(&ends, "PROXY TCP6 1:2:3::4 5:6::7:8 65535 0\r\n");
	ends = ends_of(full, 65535, full, 65535);
	assert_line(&ends, "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n");
}

static void one_family_for_both_ends(void **state)
{
	struct proxy_ends ends = ends_of("::ffff:192.0.2.1", 1, "192.0.2.2", 2);

	(void)state;
	assert_line(&ends, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
	ends = ends_of("::ffff:192.0.2.1", 1, "::ffff:192.0.2.2", 2);
	assert_line(&ends, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
	ends = ends_of("192.0.2.1", 1, "2001:db8::2", 2);
	assert_line(&ends, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
}

static void nobody_known(void **state)
{
	struct proxy_ends ends = ends_of("192.0.2.1", 1, "192.0.2.2", 2);

	(void)state;
	ends.datagrams = true; /* no word for it */
	assert_line(&ends, "PROXY UNKNOWN\r\n");
	ends.datagrams = ends.known = false;
	assert_line(&ends, "PROXY UNKNOWN\r\n");
	ends.known = true;
	ends.destination.length = 0;
	assert_line(&ends, "PROXY UNKNOWN\r\n");
	ends.destination.length = sizeof(struct sockaddr_un);
	ends.destination.un.sun_family = AF_UNIX;
	assert_line(&ends, "PROXY UNKNOWN\r\n");
}

/* want is in hexadecimal digits, without the signature. */
static void assert_header(const void *header, int length, const char *want)
{
	char digits[2 * 512 + 1] = "";
	const uint8_t *at = header;
	assert_in_range(length, PROXY_V2_HEAD, 512);
	assert_memory_equal(header, "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a", 12);
	for (int i = 12; i < length; i++)
		snprintf(digits + 2 * (i - 12), 3, "%02x", at[i]);
	assert_string_equal(digits, want);
}

static void assert_v2(const struct proxy_ends *ends, const struct proxy_tlv *tlvs, size_t n, bool check_sum, const char *want)
{
	uint8_t header[512];
	assert_header(header, proxy_write_v2(ends, tlvs, n, check_sum, header, sizeof header), want);
}

static void version_2(void **state)
{
	struct proxy_ends ends = ends_of("192.0.2.1", 123, "192.0.2.2", 5678);

	(void)state;
	assert_v2(&ends, NULL, 0, false, "2111000cc0000201c0000202007b162e");
	assert_v2(&ends, NULL, 0, true, "21110013c0000201c0000202007b162e0300041c2b486c");
	ends.datagrams = true;
	assert_v2(&ends, NULL, 0, false, "2112000cc0000201c0000202007b162e");
	ends = ends_of("2001:db8::1", 123, "2001:db8::2", 5678);
	assert_v2(&ends, NULL, 0, false, "2121002420010db800000000000000000000000120010db8000000000000000000000002007b162e");
	ends.datagrams = true;
	assert_v2(&ends, NULL, 0, false, "2122002420010db800000000000000000000000120010db8000000000000000000000002007b162e");
	ends = ends_of("192.0.2.1", 123, "::1", 5678);
	assert_v2(&ends, NULL, 0, false, "2121002400000000000000000000ffffc000020100000000000000000000000000000001007b162e");
	assert_v2(&(struct proxy_ends){ .known = false }, NULL, 0, false, "20000000");
}

static void with_tlvs(void **state)
{
	const struct proxy_ends ends = ends_of("192.0.2.1", 123, "192.0.2.2", 5678);
	const struct proxy_tlv authority = { .type = PROXY_TLV_AUTHORITY, .bytes = "foo.com", .length = 7 };
	const struct proxy_tlv two[] = { { .type = PROXY_TLV_NOOP }, { .type = PROXY_TLV_UNIQUE_ID, .bytes = "\x01\x02", .length = 2 } };

	(void)state;
	assert_v2(&ends, &authority, 1, false, "21110016c0000201c0000202007b162e020007666f6f2e636f6d");
	assert_v2(&ends, two, 2, false, "21110014c0000201c0000202007b162e0400000500020102");
	assert_v2(&(struct proxy_ends){ .known = false }, two, 2, false, "200000080400000500020102");
}

static struct addr unix_addr_of(const char *path, size_t length)
{
	struct addr addr = { .length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length), .un = { .sun_family = AF_UNIX } };
	memcpy(addr.un.sun_path, path, length);
	return addr;
}

static void unix_sockets(void **state)
{
	struct proxy_ends ends = { .known = true, .source = unix_addr_of("", 0), .destination = unix_addr_of("/tmp/b.sock", 12) };
	uint8_t header[PROXY_V2_BARE_MOST], zeros[108] = { 0 };
	char longest[108];

	(void)state;
	assert_int_equal(proxy_write_v2(&ends, NULL, 0, false, header, sizeof header), 232);
	assert_memory_equal(header + 12, "\x21\x31\x00\xd8", 4);
	assert_memory_equal(header + 16, zeros, 108);
	assert_memory_equal(header + 124, "/tmp/b.sock", 12);
	assert_memory_equal(header + 136, zeros, 96);
	memset(longest, 'x', sizeof longest);
	ends.source = unix_addr_of(longest, sizeof longest);
	ends.destination = unix_addr_of("\0name", 5);
	assert_int_equal(proxy_write_v2(&ends, NULL, 0, false, header, sizeof header), 232);
	assert_memory_equal(header + 16, longest, 108);
	assert_memory_equal(header + 124, "\0name\0", 6);
}

static void no_more_than_there_is_room_for(void **state)
{
	static uint8_t large[PROXY_V2_HEAD + UINT16_MAX + 1], value[UINT16_MAX];
	const struct proxy_ends ends = ends_of("192.0.2.1", 123, "192.0.2.2", 5678), nobody = { .known = false };
	struct proxy_tlv tlvs[] = { { .type = 0xe0, .bytes = value, .length = UINT16_MAX - PROXY_TLV_HEAD }, { .type = 0xe1 } };
	uint8_t header[28] = { 0 };

	(void)state;
	assert_int_equal(proxy_write_v2(&ends, NULL, 0, false, header, 27), -EMSGSIZE);
	assert_int_equal(header[0], 0);
	assert_int_equal(proxy_write_v2(&ends, NULL, 0, false, header, 28), 28);
	assert_int_equal(proxy_write_v2(&ends, NULL, 0, true, header, 28), -EMSGSIZE);
	assert_int_equal(proxy_write_v2(&nobody, tlvs, 1, false, large, sizeof large), PROXY_V2_HEAD + UINT16_MAX);
	assert_int_equal(proxy_write_v2(&nobody, tlvs, 2, false, large, sizeof large), -EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_1),
		cmocka_unit_test(one_family_for_both_ends),
		cmocka_unit_test(nobody_known),
		cmocka_unit_test(version_2),
		cmocka_unit_test(with_tlvs),
		cmocka_unit_test(unix_sockets),
		cmocka_unit_test(no_more_than_there_is_room_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
