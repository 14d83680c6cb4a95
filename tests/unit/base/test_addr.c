#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/addr.h"

static struct endpoint parse(const char *s)
{
	struct endpoint out = { .kind = ENDPOINT_NONE };
	const char *why = NULL;

	if (endpoint_parse(s, &out, &why) != 0)
		fail_msg("%s: %s", s, why);
	return out;
}

static void addresses_print_as_they_parse(void **state)
{
	(void)state;
	static const struct {
		const char *s, *text;
	} rows[] = {
		{ "127.0.0.1:80", "127.0.0.1:80" },
		{ "0.0.0.0:0", "0.0.0.0:0" },
		{ "[::1]:65535", "[::1]:65535" },
		{ "[2001:DB8::0:1]:53", "[2001:db8::1]:53" },
		{ "[::ffff:10.1.2.3]:53", "10.1.2.3:53" },
		{ "[fe80::1%7]:80", "[fe80::1%7]:80" },
		{ "[fe80::1%lo]:80", "[fe80::1%1]:80" },
		{ "*:8080", "[::]:8080" },
		{ ":8080", "[::]:8080" },
		{ "unix:/run/app.sock", "unix:/run/app.sock" },
		{ "unix:@hidden", "unix:@hidden" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[ADDR_TEXT_SIZE];
		struct endpoint endpoint = parse(rows[i].s);
		assert_int_equal(endpoint.kind, ENDPOINT_ADDRESS);
		assert_string_equal(addr_format(&endpoint.addr, text, sizeof text), rows[i].text);
	}
}

static void other_endpoints_are_parsed(void **state)
{
	(void)state;
	struct endpoint endpoint = parse("db-1.example_x.org:5432");
	assert_int_equal(endpoint.kind, ENDPOINT_NAME);
	assert_string_equal(endpoint.name, "db-1.example_x.org");
	assert_int_equal(endpoint.port, 5432);

	endpoint = parse("example.org.:1");
	assert_string_equal(endpoint.name, "example.org.");

	endpoint = parse("fd:7");
	assert_int_equal(endpoint.kind, ENDPOINT_FD);
	assert_int_equal(endpoint.fd, 7);

	endpoint = parse("systemd:web-http");
	assert_int_equal(endpoint.kind, ENDPOINT_SYSTEMD);
	assert_string_equal(endpoint.name, "web-http");
}

static void wrong_endpoints_say_why(void **state)
{
	(void)state;
	static const struct {
		const char *s, *why;
	} rows[] = {
		{ "", "empty" },
		{ "localhost", "port is missing" },
		{ "localhost:", "port is missing" },
		{ "[::1]", "port is missing" },
		{ "8080", "like :80" },
		{ "a:65536", "0 to 65535" },
		{ "a:-1", "0 to 65535" },
		{ "a:99999999999999999999", "0 to 65535" },
		{ "a:http", "0 to 65535" },
		{ "::1:80", "brackets" },
		{ "[::1:80", "']' is missing" },
		{ "[1.2.3.4]:80", "not an IPv6" },
		{ "[]:80", "not an IPv6" },
		{ "[::1%no-such-link0]:80", "no such network interface" },
		{ "[00000000000000000000000000000000000000000000000000000::1]:80", "not an IPv6" },
		{ "1.2.3:80", "not an IPv4" },
		{ "256.1.1.1:80", "not an IPv4" },
		{ "a..b:80", "empty part" },
		{ ".:80", "empty part" },
		{ "-a:80", "starts with '-'" },
		{ "a b:80", "neither a letter" },
		{ "a/b:80", "neither a letter" },
		{ "unix:", "unix:/path" },
		{ "unix:run/x", "unix:/path" },
		{ "unix:@", "path is missing" },
		{ "unix:/", "path is missing" },
		{ "unix:/a\nb", "control character" },
		{ "fd:", "not a number" },
		{ "fd:-1", "not a number" },
		{ "fd:99999999999", "not a number" },
		{ "systemd:", "missing" },
		{ "systemd:a:b", "does not allow" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct endpoint out = { .kind = ENDPOINT_FD, .fd = 99 };
		const char *why = "";
		assert_int_equal(endpoint_parse(rows[i].s, &out, &why), -EINVAL);
		if (strstr(why, rows[i].why) == NULL)
			fail_msg("%s: %s", rows[i].s, why);
		assert_int_equal(out.fd, 99); /* untouched */
	}
}

static void too_long_ones_are_refused(void **state)
{
	(void)state;
	char s[400];
	struct endpoint out;
	const char *why;

	/* a path of 107 bytes is the longest */
	memset(s, 'a', sizeof s);
	memcpy(s, "unix:/", 6);
	s[5 + 107] = '\0';
	out = parse(s);
	assert_int_equal(out.addr.length, sizeof(struct sockaddr_un));
	memset(s + 5 + 107, 'a', 1);
	s[5 + 108] = '\0';
	assert_int_equal(endpoint_parse(s, &out, &why), -EINVAL);

	/* a label of 63, a name of 253 */
	memset(s, 'a', sizeof s);
	memcpy(s + 64, ":1", 3);
	assert_int_equal(endpoint_parse(s, &out, &why), -EINVAL);
	memcpy(s + 63, ":1", 3);
	assert_int_equal(endpoint_parse(s, &out, &why), 0);
	memset(s, 'a', sizeof s);
	for (size_t i = 50; i < sizeof s; i += 50)
		s[i] = '.';
	memcpy(s + 254, ":1", 3);
	assert_int_equal(endpoint_parse(s, &out, &why), -EINVAL);
	memcpy(s + 253, ":1", 3);
	assert_int_equal(endpoint_parse(s, &out, &why), 0);
	assert_int_equal(strlen(out.name), 253);
	memset(s, 'a', sizeof s);
	memcpy(s + sizeof s - 3, ":1", 3);
	assert_int_equal(endpoint_parse(s, &out, &why), -EINVAL);
	memcpy(s, "systemd:", 8);
	s[sizeof s - 3] = '\0';
	assert_int_equal(endpoint_parse(s, &out, &why), -EINVAL);
}

static void equal_means_the_same_socket(void **state)
{
	(void)state;
	static const char *const all[] = { "127.0.0.1:80", "127.0.0.1:81", "127.0.0.2:80", "[::1]:80", "[::2]:80", "[fe80::1%1]:80",
		"[fe80::1%2]:80", "unix:/a", "unix:/ab", "unix:@a" };
	struct addr none = { .length = 0 };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct addr a = parse(all[i]).addr;
		assert_false(addr_equal(&a, &none));
		assert_false(addr_equal(&none, &a));
		for (size_t j = 0; j < ARRAY_LEN(all); j++) {
			struct addr b = parse(all[j]).addr;
			assert_int_equal(addr_equal(&a, &b), i == j);
		}
	}
	assert_true(addr_equal(&none, &none));
}

static void ports_are_read_and_set(void **state)
{
	(void)state;
	struct addr v4 = parse("1.2.3.4:80").addr, v6 = parse("[::1]:81").addr, un = parse("unix:/a").addr, none = { .length = 0 };

	assert_int_equal(addr_port(&v4), 80);
	assert_int_equal(addr_port(&v6), 81);
	assert_int_equal(addr_port(&un), 0);
	assert_int_equal(addr_port(&none), 0);
	addr_set_port(&v4, 443);
	addr_set_port(&v6, 444);
	addr_set_port(&un, 445);
	addr_set_port(&none, 446);
	assert_int_equal(addr_port(&v4), 443);
	assert_int_equal(addr_port(&v6), 444);
	assert_true(addr_equal(&un, &(struct addr){ .length = parse("unix:/a").addr.length, .un = parse("unix:/a").addr.un }));
}

static void takes_over_what_the_kernel_says(void **state)
{
	(void)state;
	char text[ADDR_TEXT_SIZE];
	struct addr out;
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	/* the unnamed socket of a unix client */
	addr_from_sockaddr(&out, (struct sockaddr *)&un, sizeof(sa_family_t));
	assert_string_equal(addr_format(&out, text, sizeof text), "unix:");
	addr_from_sockaddr(&out, (struct sockaddr *)&un, 0);
	assert_string_equal(addr_format(&out, text, sizeof text), "-");

	/* 108 bytes without a NUL: the kernel's length is one more than the struct */
	struct {
		struct sockaddr_un un;
		char more;
	} longest = { .un.sun_family = AF_UNIX };
	memset(longest.un.sun_path, 'x', sizeof longest.un.sun_path);
	addr_from_sockaddr(&out, (struct sockaddr *)&longest.un, sizeof longest.un + 1);
	assert_int_equal(strlen(addr_format(&out, text, sizeof text)), 5 + 108);

	/* a hostile name */
	memcpy(un.sun_path, "\0a\n\x1b", 5);
	addr_from_sockaddr(&out, (struct sockaddr *)&un, offsetof(struct sockaddr_un, sun_path) + 4);
	assert_string_equal(addr_format(&out, text, sizeof text), "unix:@a??");

	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x7f000001) };
	struct sockaddr_storage storage = { 0 };
	memcpy(&storage, &in, sizeof in);
	addr_from_sockaddr(&out, (struct sockaddr *)&storage, sizeof storage);
	assert_int_equal(out.length, sizeof in);
	assert_string_equal(addr_format(&out, text, sizeof text), "127.0.0.1:9");
	addr_from_sockaddr(&out, (struct sockaddr *)&storage, 4); /* cut short */
	assert_int_equal(out.length, 0);
	storage.ss_family = AF_NETLINK;
	addr_from_sockaddr(&out, (struct sockaddr *)&storage, sizeof storage);
	assert_int_equal(out.length, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_print_as_they_parse),
		cmocka_unit_test(other_endpoints_are_parsed),
		cmocka_unit_test(wrong_endpoints_say_why),
		cmocka_unit_test(too_long_ones_are_refused),
		cmocka_unit_test(equal_means_the_same_socket),
		cmocka_unit_test(ports_are_read_and_set),
		cmocka_unit_test(takes_over_what_the_kernel_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
