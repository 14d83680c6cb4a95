#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "control/ip_set.h"

static struct ip v4(unsigned last)
{
	return (struct ip){ .bytes = { 192, 0, 2, (uint8_t)last } };
}

static struct ip parsed(const char *text, enum ip_family *family)
{
	struct endpoint endpoint;
	struct ip ip;
	const char *why;
	assert_int_equal(endpoint_parse(text, &endpoint, &why), 0);
	assert_true(ip_from_sockaddr(&endpoint.addr.sa, endpoint.addr.length, &ip, family));
	return ip;
}

static void test_order_of_adding_does_not_matter(void **state)
{
	(void)state;
	struct ip_set up = { .n = 0 }, down = { .n = 0 };
	for (unsigned i = 1; i <= 5; i++) {
		struct ip ip = v4(i), other = v4(6 - i);
		ip_set_add(&up, &ip);
		assert_false(ip_set_equal(&up, &down));
		ip_set_add(&down, &other);
		ip_set_add(&down, &other);
	}
	assert_int_equal(up.n, 5);
	assert_true(ip_set_equal(&up, &down));
	struct ip six = v4(6);
	assert_false(ip_set_has(&up, &six));
	up.ips[4] = six;
	assert_false(ip_set_equal(&up, &down));
}

static void test_full_set_keeps_the_smallest(void **state)
{
	(void)state;
	struct ip_set set = { .n = 0 };
	for (unsigned i = 0; i < 100; i++) {
		struct ip ip = v4(1 + (i * 37) % 100);
		ip_set_add(&set, &ip);
	}
	assert_int_equal(set.n, SERVER_MAX_ADDRESSES);
	for (unsigned i = 0; i < SERVER_MAX_ADDRESSES; i++)
		assert_int_equal(set.ips[i].bytes[3], i + 1);
}

static void test_pick_keeps_what_was_known(void **state)
{
	(void)state;
	struct ip_set known = { .n = 0 };
	struct ip ninety = v4(90), gone = v4(200);
	ip_set_add(&known, &ninety);
	ip_set_add(&known, &gone);
	struct ip_pick pick = { .known = &known };
	for (unsigned i = 100; i > 0; i--) {
		struct ip ip = v4(i);
		ip_pick_add(&pick, &ip);
	}
	struct ip_set result = ip_pick_result(&pick);
	assert_int_equal(result.n, SERVER_MAX_ADDRESSES);
	assert_true(ip_set_has(&result, &ninety));
	assert_false(ip_set_has(&result, &gone));
	for (unsigned i = 1; i < SERVER_MAX_ADDRESSES; i++)
		assert_int_equal(result.ips[i - 1].bytes[3], i);
}

static void test_addresses_there_and_back(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum ip_family family;
	} rows[] = { { "192.0.2.7:80", IP_V4 }, { "[2001:db8::7]:80", IP_V6 }, { "[fe80::7%1]:80", IP_V6 } };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum ip_family family;
		struct ip ip = parsed(rows[i].text, &family);
		struct addr addr;
		struct endpoint endpoint;
		const char *why;
		assert_int_equal(family, rows[i].family);
		ip_to_addr(&ip, family, 80, &addr);
		assert_int_equal(endpoint_parse(rows[i].text, &endpoint, &why), 0);
		assert_true(addr_equal(&addr, &endpoint.addr));
	}
	struct ip ip;
	enum ip_family family;
	struct addr local = { .length = 20, .un = { .sun_family = AF_UNIX, .sun_path = "/run/x" } }, cut = { .in.sin_family = AF_INET };
	assert_false(ip_from_sockaddr(&local.sa, local.length, &ip, &family));
	assert_false(ip_from_sockaddr(&cut.sa, sizeof cut.in - 1, &ip, &family));
}

static void test_text(void **state)
{
	(void)state;
	char text[IP_TEXT_SIZE];
	enum ip_family family;
	struct ip ip = parsed("192.0.2.7:80", &family);
	assert_string_equal(ip_format(&ip, family, text), "192.0.2.7");
	ip = parsed("[fe80::7%1]:80", &family);
	assert_string_equal(ip_format(&ip, family, text), "fe80::7%1");
}

static void test_what_a_server_can_have(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool server;
	} rows[] = {
		{ "192.0.2.1:1", true },
		{ "127.0.0.1:1", true },
		{ "240.0.0.1:1", true },
		{ "0.0.0.0:1", false },
		{ "224.0.0.1:1", false },
		{ "239.255.255.255:1", false },
		{ "255.255.255.255:1", false },
		{ "[::1]:1", true },
		{ "[2001:db8::1]:1", true },
		{ "[fe80::1%1]:1", true },
		{ "[fe80::1]:1", false },
		{ "[::]:1", false },
		{ "[ff02::1]:1", false },
		{ "[::ffff:192.0.2.1]:1", true },
		{ "[::ffff:0.0.0.0]:1", false },
		{ "[::ffff:224.0.0.1]:1", false },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum ip_family family;
		struct ip ip = parsed(rows[i].text, &family);
		if (ip_is_server(&ip, family) != rows[i].server)
			fail_msg("%s", rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_of_adding_does_not_matter),
		cmocka_unit_test(test_full_set_keeps_the_smallest),
		cmocka_unit_test(test_pick_keeps_what_was_known),
		cmocka_unit_test(test_addresses_there_and_back),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_what_a_server_can_have),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
