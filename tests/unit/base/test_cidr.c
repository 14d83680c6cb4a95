/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "base/cidr.h"
#include "parsed.h"

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407U;
	return (uint32_t)(random_state >> 33) % limit;
}

static void test_what_can_be_written(void **state)
{
	(void)state;
	static const struct {
		const char *text, *shortest;
		uint8_t family, bits;
	} cases[] = {
		{ "10.0.0.0/8", "10.0.0.0/8", AF_INET, 8 },
		{ "10.1.2.3", "10.1.2.3", AF_INET, 32 },
		{ "10.1.2.3/32", "10.1.2.3", AF_INET, 32 },
		{ "0.0.0.0/0", "0.0.0.0/0", AF_INET, 0 },
		{ "255.255.255.255", "255.255.255.255", AF_INET, 32 },
		{ "128.0.0.0/1", "128.0.0.0/1", AF_INET, 1 },
		{ "10.1.2.2/31", "10.1.2.2/31", AF_INET, 31 },
		{ "2001:db8::/32", "2001:db8::/32", AF_INET6, 32 },
		{ "2001:0DB8:0:0::/32", "2001:db8::/32", AF_INET6, 32 },
		{ "::1", "::1", AF_INET6, 128 },
		{ "::/0", "::/0", AF_INET6, 0 },
		{ "8000::/1", "8000::/1", AF_INET6, 1 },
		{ "::fffe/127", "::255.254/127", AF_INET6, 127 },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", AF_INET6, 127 },
		{ "::ffff:10.1.2.3", "10.1.2.3", AF_INET, 32 },
		{ "::ffff:10.0.0.0/104", "10.0.0.0/8", AF_INET, 8 },
		{ "::ffff:0:0/96", "0.0.0.0/0", AF_INET, 0 },
		{ "::fffe:0:0/95", "::fffe:0:0/95", AF_INET6, 95 },
		{ "::1:ffff:1.2.3.4", "::1:ffff:102:304", AF_INET6, 128 },
		{ "all", "all", AF_UNSPEC, 0 },
	};
	char out[CIDR_TEXT_SIZE], expected[CIDR_TEXT_SIZE];
	struct in6_addr ip;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct cidr cidr = parsed(cases[i].text);
		assert_int_equal(cidr.family, cases[i].family);
		assert_int_equal(cidr.bits, cases[i].bits);
		/* how ::fffe is shortest is the C library's opinion */
		strcpy(expected, cases[i].shortest);
		if (strcmp(cases[i].text, "::fffe/127") == 0) {
			assert_int_equal(inet_pton(AF_INET6, "::fffe", &ip), 1);
			assert_non_null(inet_ntop(AF_INET6, &ip, expected, sizeof expected));
			strcat(expected, "/127");
		}
		assert_string_equal(cidr_format(&cidr, out, sizeof out), expected);
	}
	const uint8_t bytes[16] = { 10, 1, 2, 3 };
	struct cidr mapped = parsed("::ffff:10.1.2.3");
	assert_memory_equal(mapped.bytes, bytes, sizeof bytes);
}

static void test_what_cannot(void **state)
{
	(void)state;
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "", ": it is empty" },
		{ "/8", "/8: the address is missing" },
		{ "10.1.2.3/8", "10.1.2.3/8: bits beyond the prefix are set; did you mean 10.0.0.0/8?" },
		{ "10.1.2.3/31", "10.1.2.3/31: bits beyond the prefix are set; did you mean 10.1.2.2/31?" },
		{ "10.1.2.3/0", "10.1.2.3/0: bits beyond the prefix are set; did you mean 0.0.0.0/0?" },
		{ "2001:db8::1/32", "2001:db8::1/32: bits beyond the prefix are set; did you mean 2001:db8::/32?" },
		{ "::1/127", "::1/127: bits beyond the prefix are set; did you mean ::/127?" },
		{ "::1/0", "::1/0: bits beyond the prefix are set; did you mean ::/0?" },
		{ "::ffff:10.1.2.3/104", "::ffff:10.1.2.3/104: bits beyond the prefix are set; did you mean 10.0.0.0/8?" },
		{ "10.0.0.0/33", "10.0.0.0/33: the length of the prefix is not a number from 0 to 32" },
		{ "10.0.0.0/4294967304", "10.0.0.0/4294967304: the length of the prefix is not a number from 0 to 32" },
		{ "10.0.0.0/", "10.0.0.0/: the length of the prefix is not a number from 0 to 32" },
		{ "10.0.0.0/08", "10.0.0.0/08: the length of the prefix is not a number from 0 to 32" },
		{ "10.0.0.0/ 8", "10.0.0.0/ 8: the length of the prefix is not a number from 0 to 32" },
		{ "10.0.0.0/+8", "10.0.0.0/+8: the length of the prefix is not a number from 0 to 32" },
		{ "10.0.0.0/8x", "10.0.0.0/8x: the length of the prefix is not a number from 0 to 32" },
		{ "10.0.0.0/8/8", "10.0.0.0/8/8: the length of the prefix is not a number from 0 to 32" },
		{ "10.0.0.0/255.0.0.0", "10.0.0.0/255.0.0.0: the length of the prefix is not a number from 0 to 32" },
		{ "::/129", "::/129: the length of the prefix is not a number from 0 to 128" },
		{ "::/-1", "::/-1: the length of the prefix is not a number from 0 to 128" },
		{ "10.0.0", "10.0.0: this is not an IP address" },
		{ "10.0.0.256", "10.0.0.256: this is not an IP address" },
		{ "010.0.0.1", "010.0.0.1: this is not an IP address" },
		{ "10.0.0.1:80", "10.0.0.1:80: this is not an IP address" },
		{ " 10.0.0.1", " 10.0.0.1: this is not an IP address" },
		{ "10.0.0.1 ", "10.0.0.1 : this is not an IP address" },
		{ "2001:db8:/32", "2001:db8:/32: this is not an IP address" },
		{ "localhost", "localhost: this is not an IP address" },
		{ "any", "any: this is not an IP address" },
		{ "ALL", "ALL: this is not an IP address" },
		{ "all/0", "all/0: this is not an IP address" },
		{ "[::1]", "[::1]: an IPv6 address stands without brackets here" },
		{ "fe80::1%eth0", "fe80::1%eth0: an interface ('%') cannot be named here" },
		{ "1:2:3:4:5:6:7:8:9:a:b:c:d:e:f:0:1:2:3:4:5:6:7:8",
		        "1:2:3:4:5:6:7:8:9:a:b:c:d:e:f:0:1:2:3:4:5:6:7:8: this is not an IP address" },
		{ "a text that is longer than any address with its prefix can be",
		        "a text that is longer than any address with its pre...: this is not an IP address" },
	};
	char why[CIDR_WHY_SIZE], small[9];
	struct cidr out, untouched;

	memset(&untouched, 0xa5, sizeof untouched);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		out = untouched;
		assert_int_equal(cidr_parse(cases[i].text, &out, why, sizeof why), -EINVAL);
		assert_string_equal(why, cases[i].why);
		assert_memory_equal(&out, &untouched, sizeof out);
	}
	assert_int_equal(cidr_parse("10.1.2.3/8", &out, small, sizeof small), -EINVAL);
	assert_string_equal(small, "10.1.2.3");
	assert_int_equal(cidr_parse("\x1b[2J", &out, why, sizeof why), -EINVAL);
	assert_null(strchr(why, '\x1b'));
}

static struct cidr random_range(void)
{
	struct cidr cidr = { .family = random_below(2) != 0 ? AF_INET : AF_INET6 };
	uint32_t longest = cidr.family == AF_INET ? 32 : 128;

	cidr.bits = (uint8_t)random_below(longest + 1);
	for (uint32_t bit = 0; bit < cidr.bits; bit++)
		if (random_below(8) == 0)
			cidr.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	return cidr;
}

static void test_what_is_printed_is_read_again(void **state)
{
	(void)state;
	char text[CIDR_TEXT_SIZE];

	for (int i = 0; i < 20000; i++) {
		struct cidr cidr = random_range();
		struct cidr again = parsed(cidr_format(&cidr, text, sizeof text));
		/* the mapped ones are said as IPv4 */
		if (cidr.family == again.family)
			assert_memory_equal(&again, &cidr, sizeof cidr);
	}
	struct cidr longest = parsed("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.254/127");
	assert_true(strlen(cidr_format(&longest, text, sizeof text)) < sizeof text - 1);
}

static bool bit_of(const struct cidr *cidr, uint32_t bit)
{
	return cidr->bytes[bit / 8] >> (7 - bit % 8) & 1;
}

static uint32_t common_bits_one_by_one(const struct cidr *a, const struct cidr *b)
{
	uint32_t bit = 0;

	if (a->family != b->family)
		return 0;
	while (bit < a->bits && bit < b->bits && bit_of(a, bit) == bit_of(b, bit))
		bit++;
	return bit;
}

static void test_common_bits_and_contains(void **state)
{
	(void)state;
	uint32_t inside = 0;

	for (int i = 0; i < 100000; i++) {
		struct cidr a = random_range(), b = random_range();
		uint32_t common = common_bits_one_by_one(&a, &b);
		bool contains = a.family == b.family && common == a.bits;
		assert_int_equal(cidr_common_bits(&a, &b), common);
		assert_int_equal(cidr_common_bits(&b, &a), common);
		assert_int_equal(cidr_contains(&a, &b), contains);
		assert_true(cidr_contains(&a, &a));
		inside += contains;
	}
	assert_true(inside > 1000);

	struct cidr all = parsed("all"), every4 = parsed("0.0.0.0/0"), every6 = parsed("::/0");
	assert_true(cidr_contains(&all, &every4) && cidr_contains(&all, &every6) && cidr_contains(&all, &all));
	assert_false(cidr_contains(&every4, &all) || cidr_contains(&every6, &all));
	assert_false(cidr_contains(&every4, &every6) || cidr_contains(&every6, &every4));
}

static void test_range_of_an_address(void **state)
{
	(void)state;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a010203), .sin_port = 0xffff };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = 0xffff, .sin6_flowinfo = UINT32_MAX, .sin6_scope_id = 7 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct cidr expected = parsed("10.1.2.3"), out;

	assert_true(cidr_of((const struct sockaddr *)&in, &out));
	assert_memory_equal(&out, &expected, sizeof out);
	assert_int_equal(inet_pton(AF_INET6, "::ffff:10.1.2.3", &in6.sin6_addr), 1);
	memset(&out, 0xa5, sizeof out);
	assert_true(cidr_of((const struct sockaddr *)&in6, &out));
	assert_memory_equal(&out, &expected, sizeof out);
	assert_int_equal(inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr), 1);
	assert_true(cidr_of((const struct sockaddr *)&in6, &out));
	expected = parsed("fe80::1");
	assert_memory_equal(&out, &expected, sizeof out);
	assert_false(cidr_of((const struct sockaddr *)&un, &out));
	assert_false(cidr_of(&none, &out));
	assert_memory_equal(&out, &expected, sizeof out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_can_be_written),
		cmocka_unit_test(test_what_cannot),
		cmocka_unit_test(test_what_is_printed_is_read_again),
		cmocka_unit_test(test_common_bits_and_contains),
		cmocka_unit_test(test_range_of_an_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
