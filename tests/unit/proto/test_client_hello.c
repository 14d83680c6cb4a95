#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/attr.h"
#include "hello.h"
#include "proto/client_hello.h"
#include "proto/postgres_request.h"

enum { MOST = 16384 };

static struct client_hello read_all(const struct hello_bytes *bytes)
{
	struct client_hello hello;
	client_hello_init(&hello, MOST);
	(void)client_hello_feed(&hello, bytes->bytes, bytes->count);
	return hello;
}

static void test_name_and_protocols(void **state)
{
	static const size_t records[] = { 4096, 1, 2, 3, 7, 50 };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(records); i++) {
		struct hello_bytes bytes;
		size_t length;
		hello_make(&bytes, "WWW.example.org", "h2,http/1.1", records[i]);
		struct client_hello hello = read_all(&bytes);
		assert_int_equal(hello.verdict, CLIENT_HELLO_DONE);
		assert_string_equal(hello.name, "www.example.org");
		assert_int_equal(hello.name_length, 15);
		assert_false(hello.ech);
		assert_memory_equal(client_hello_protocol(&hello, 0, &length), "h2", 2);
		assert_int_equal(length, 2);
		assert_memory_equal(client_hello_protocol(&hello, 1, &length), "http/1.1", 8);
		assert_int_equal(length, 8);
		assert_null(client_hello_protocol(&hello, 2, &length));
	}
}

/* What is missing is never more than what is really to come, and the end is known with the last byte. */
static void test_missing(void **state)
{
	struct hello_bytes bytes;
	(void)state;
	for (size_t record = 1; record < 200; record += 13) {
		struct client_hello hello;
		hello_make(&bytes, "a.example.org", "h2", record);
		client_hello_init(&hello, MOST);
		for (size_t at = 0; at < bytes.count; at++) {
			assert_in_range(client_hello_missing(&hello), 1, bytes.count - at);
			enum client_hello_verdict verdict = client_hello_feed(&hello, bytes.bytes + at, 1);
			assert_int_equal(verdict, at + 1 < bytes.count ? CLIENT_HELLO_MORE : CLIENT_HELLO_DONE);
		}
		hello_make(&bytes, "a.example.org", "h2", 4096);
		client_hello_init(&hello, MOST);
		(void)client_hello_feed(&hello, bytes.bytes, 9);
		assert_int_equal(client_hello_missing(&hello), bytes.count - 9);
	}
}

static void test_what_comes_after_is_left_alone(void **state)
{
	struct hello_bytes bytes;
	(void)state;
	hello_make(&bytes, "a.example.org", NULL, 4096);
	size_t count = bytes.count;
	hello_add(&bytes, "more", 4);
	struct client_hello hello = read_all(&bytes);
	assert_int_equal(hello.verdict, CLIENT_HELLO_DONE);
	assert_int_equal(hello.consumed, count);
}

static void check_name(const char *name, size_t length, const char *expected)
{
	struct hello_bytes extensions = { .count = 0 }, message = { .count = 0 }, bytes = { .count = 0 };
	hello_add_name(&extensions, name, length);
	hello_message(&message, &extensions);
	hello_records(&bytes, &message, 4096);
	struct client_hello hello = read_all(&bytes);
	if (expected) {
		assert_int_equal(hello.verdict, CLIENT_HELLO_DONE);
		assert_string_equal(hello.name, expected);
	} else {
		assert_int_equal(hello.verdict, CLIENT_HELLO_BAD);
		assert_int_equal(hello.name_length, 0);
		assert_true(hello.alert == TLS_ALERT_ILLEGAL_PARAMETER || hello.alert == TLS_ALERT_DECODE_ERROR);
	}
}

#define NAME(bytes, expected) check_name(bytes, sizeof(bytes) - 1, expected)

static void test_names(void **state)
{
	char label[64 + 5];
	(void)state;
	NAME("a", "a");
	NAME("xn--bcher-kva.example", "xn--bcher-kva.example");
	NAME("_dmarc.A-b.example.", "_dmarc.a-b.example");
	NAME("192.0.2.1", "192.0.2.1");
	NAME("", NULL);
	NAME(".", NULL);
	NAME("a..b", NULL);
	NAME(".a", NULL);
	NAME("a.b..", NULL);
	NAME("a\0.example", NULL);
	NAME("a\nb", NULL);
	NAME("a b", NULL);
	NAME("a\"b", NULL);
	NAME("*.example.org", NULL);
	NAME("b\xc3\xbc"
	     "cher",
	        NULL);
	NAME("[::1]", NULL);
	memset(label, 'a', sizeof label);
	check_name(label, 64, NULL);
	label[63] = '.';
	label[65] = '\0';
	check_name(label, 65, label);
}

/* The same extension twice, lists that do not fit, fields that are too long: each at its place. */
static void test_malformed(void **state)
{
	struct hello_bytes extensions = { .count = 0 }, message = { .count = 0 }, bytes = { .count = 0 };
	(void)state;
	hello_add_name(&extensions, "a", 1);
	hello_add_name(&extensions, "b", 1);
	hello_message(&message, &extensions);
	hello_records(&bytes, &message, 4096);
	struct client_hello hello = read_all(&bytes);
	assert_int_equal(hello.verdict, CLIENT_HELLO_BAD);
	assert_int_equal(hello.alert, TLS_ALERT_ILLEGAL_PARAMETER);
	hello_make(&bytes, "a.example.org", "h2", 4096);
	/* each length made longer by one: never taken, never waited for beyond the bound of the message */
	static const size_t lengths[] = { 8, 43, 45, 50, 53, 57, 59, 62, 79, 81, 82 };
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct hello_bytes changed = bytes;
		changed.bytes[lengths[i]]++;
		hello = read_all(&changed);
		if (lengths[i] == 8)
			assert_int_not_equal(hello.verdict, CLIENT_HELLO_DONE);
		else if (lengths[i] != 43)
			assert_int_equal(hello.verdict, CLIENT_HELLO_BAD);
	}
}

static void check_refused(const char *bytes, size_t count, enum client_hello_verdict verdict, enum tls_alert alert)
{
	struct client_hello hello;
	client_hello_init(&hello, MOST);
	assert_int_equal(client_hello_feed(&hello, bytes, count), verdict);
	assert_int_equal(hello.alert, alert);
	assert_non_null(hello.fault);
}

#define REFUSED(bytes, verdict, alert) check_refused(bytes, sizeof(bytes) - 1, verdict, alert)

static void test_other_protocols(void **state)
{
	(void)state;
	REFUSED("G", CLIENT_HELLO_NOT_TLS, TLS_ALERT_NONE);
	REFUSED("SSH-2.0-x\r\n", CLIENT_HELLO_NOT_TLS, TLS_ALERT_NONE);
	REFUSED("\x80\x2e\x01", CLIENT_HELLO_NOT_TLS, TLS_ALERT_PROTOCOL_VERSION);
	REFUSED("\x80\x2e\x02", CLIENT_HELLO_NOT_TLS, TLS_ALERT_NONE);
	REFUSED("\x16\x02", CLIENT_HELLO_NOT_TLS, TLS_ALERT_NONE);
	REFUSED("\x15\x03\x01", CLIENT_HELLO_BAD, TLS_ALERT_NONE);
	REFUSED("\x17\x03\x03", CLIENT_HELLO_BAD, TLS_ALERT_UNEXPECTED_MESSAGE);
	REFUSED("\x16\x03\x01\x40\x01", CLIENT_HELLO_BAD, TLS_ALERT_RECORD_OVERFLOW);
	REFUSED("\x16\x03\x01\x00\x00", CLIENT_HELLO_BAD, TLS_ALERT_UNEXPECTED_MESSAGE);
	REFUSED("\x16\x03\x01\x00\x10\x02", CLIENT_HELLO_BAD, TLS_ALERT_UNEXPECTED_MESSAGE);
	REFUSED("\x16\x03\x01\x00\x10\x01\x00\x40\x00", CLIENT_HELLO_TOO_LARGE, TLS_ALERT_ILLEGAL_PARAMETER);
	REFUSED("\x16\x03\x01\x00\x10\x01\x00\x00\x10", CLIENT_HELLO_BAD, TLS_ALERT_DECODE_ERROR);
}

/* Records of a byte each count with their headers. */
static void test_bound(void **state)
{
	struct hello_bytes bytes;
	struct client_hello hello;
	(void)state;
	hello_make(&bytes, "a.example.org", "h2", 1);
	client_hello_init(&hello, (uint32_t)bytes.count);
	assert_int_equal(client_hello_feed(&hello, bytes.bytes, bytes.count), CLIENT_HELLO_DONE);
	client_hello_init(&hello, (uint32_t)bytes.count - 1);
	assert_int_equal(client_hello_feed(&hello, bytes.bytes, bytes.count), CLIENT_HELLO_TOO_LARGE);
}

static void test_grease_and_ech(void **state)
{
	struct hello_bytes extensions = { .count = 0 }, message = { .count = 0 }, bytes = { .count = 0 }, empty = { .count = 0 };
	struct hello_bytes ech = { .bytes = { 0, 1, 2, 3 }, .count = 4 };
	(void)state;
	hello_add_extension(&extensions, 0x0a0a, &empty);
	hello_add_extension(&extensions, 0xfe0d, &ech);
	hello_add_name(&extensions, "outer.example", 13);
	hello_add_extension(&extensions, 0x0a0a, &empty);
	hello_message(&message, &extensions);
	hello_records(&bytes, &message, 4096);
	struct client_hello hello = read_all(&bytes);
	assert_int_equal(hello.verdict, CLIENT_HELLO_DONE);
	assert_true(hello.ech);
	assert_string_equal(hello.name, "outer.example");
}

/* More protocols than there is room for: those that fit are whole. */
static void test_many_protocols(void **state)
{
	char list[2000] = "h2";
	size_t n = 0, length;
	struct hello_bytes bytes;
	(void)state;
	for (int i = 0; i < 100; i++)
		strcat(list, ",protocol");
	hello_make(&bytes, NULL, list, 4096);
	struct client_hello hello = read_all(&bytes);
	assert_int_equal(hello.verdict, CLIENT_HELLO_DONE);
	assert_true(hello.protocols_cut);
	assert_int_equal(hello.name_length, 0);
	while (client_hello_protocol(&hello, n, &length))
		assert_int_equal(length, n++ == 0 ? 2 : 8);
	assert_int_equal(n, 1 + (CLIENT_HELLO_PROTOCOLS_SIZE - 3) / 9);
}

static void test_postgres(void **state)
{
	static const uint8_t gss[] = { 0, 0, 0, 8, 4, 210, 22, 48 }, startup[] = { 0, 0, 0, 8, 0, 3, 0, 0 };
	(void)state;
	for (size_t count = 0; count < POSTGRES_REQUEST_BYTES; count++)
		assert_int_equal(postgres_request(postgres_ssl_request, count), POSTGRES_MAYBE);
	assert_int_equal(postgres_request(postgres_ssl_request, sizeof postgres_ssl_request), POSTGRES_SSL_REQUEST);
	assert_int_equal(postgres_request(gss, sizeof gss), POSTGRES_GSSENC_REQUEST);
	assert_int_equal(postgres_request(startup, sizeof startup), POSTGRES_STARTUP);
	assert_int_equal(postgres_request("\0\0\2\0\0\3\0\0user", 12), POSTGRES_STARTUP);
	assert_int_equal(postgres_request("\0\0\2\0\0\3\0", 7), POSTGRES_MAYBE);
	assert_int_equal(postgres_request("\0\0\2\0\0\4\0", 7), POSTGRES_NO_REQUEST);
	assert_int_equal(postgres_request("\0\0\0\x10\x04\xd2\x16\x2e", 8), POSTGRES_NO_REQUEST); /* a request to cancel */
	assert_int_equal(postgres_request("\x16", 1), POSTGRES_NO_REQUEST);
}

/* As libpq reads it: a length that is right, fields up to the empty one. */
static void test_postgres_error(void **state)
{
	const char *at = postgres_needs_tls, *end = at + postgres_needs_tls_bytes;
	(void)state;
	assert_int_equal(*at, 'E');
	assert_int_equal((unsigned char)at[4], postgres_needs_tls_bytes - 1);
	for (at += 5; at < end && *at != '\0'; at += strlen(at) + 1)
		assert_non_null(strchr("SVCM", *at));
	assert_ptr_equal(at, end - 1);
}

static void test_alert(void **state)
{
	uint8_t record[TLS_ALERT_RECORD_BYTES];
	(void)state;
	tls_alert_record(record, TLS_ALERT_UNRECOGNIZED_NAME);
	assert_memory_equal(record, "\x15\x03\x03\x00\x02\x02\x70", sizeof record);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name_and_protocols),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_what_comes_after_is_left_alone),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_other_protocols),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_grease_and_ech),
		cmocka_unit_test(test_many_protocols),
		cmocka_unit_test(test_postgres),
		cmocka_unit_test(test_postgres_error),
		cmocka_unit_test(test_alert),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
