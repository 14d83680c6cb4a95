#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tools/bench_message.h"

static struct message message;

/* The whole message, put together from steps of a size. */
static unsigned char *assemble(struct message_id id, uint64_t step)
{
	uint64_t size = message_bytes(&message);
	unsigned char *bytes = malloc((size_t)size);
	assert_non_null(bytes);
	struct message_room room;
	for (uint64_t at = 0; at < size;) {
		struct iovec iov[MESSAGE_PIECES];
		int pieces = message_iov(&message, id, at, step, &room, iov);
		assert_in_range(pieces, 1, MESSAGE_PIECES);
		uint64_t before = at;
		for (int i = 0; i < pieces; i++) {
			memcpy(bytes + at, iov[i].iov_base, iov[i].iov_len);
			at += iov[i].iov_len;
		}
		assert_in_range(at - before, 1, step);
	}
	return bytes;
}

static const uint64_t sizes[] = { 1, 15, 16, 17, 128, MESSAGE_ROOM_BYTES, MESSAGE_ROOM_BYTES + 1, 300000, 3000000 };

static void test_an_echo_is_the_same_in_all_pieces(void **state)
{
	(void)state;
	struct message_id id = { .client = 7, .sequence = 99 };
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		message_init_echo(&message, sizes[i], 1234);
		assert_int_equal(message_bytes(&message), sizes[i]);
		unsigned char *whole = assemble(id, UINT64_MAX), *pieces = assemble(id, sizes[i] / 3 + 1);
		assert_memory_equal(whole, pieces, sizes[i]);
		assert_int_equal(message_compare(&message, id, 0, whole, (size_t)sizes[i]), sizes[i]);
		free(whole);
		free(pieces);
	}
}

static void test_each_wrong_byte_is_found(void **state)
{
	(void)state;
	struct message_id id = { .client = 3, .sequence = 5 };
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		size_t size = (size_t)sizes[i];
		message_init_echo(&message, size, 1);
		unsigned char *bytes = assemble(id, UINT64_MAX);
		for (size_t at = 0; at < size; at += 1 + size / 50) {
			size_t from = at / 2;
			bytes[at] ^= 1;
			assert_int_equal(message_compare(&message, id, 0, bytes, size), at);
			assert_int_equal(message_compare(&message, id, from, bytes + from, size - from), at - from);
			assert_int_equal(message_compare(&message, id, 0, bytes, at), at);
			bytes[at] ^= 1;
		}
		free(bytes);
	}
}

static void test_other_clients_and_messages_differ(void **state)
{
	(void)state;
	message_init_echo(&message, 128, 42);
	struct message_id id = { .client = 1, .sequence = 1 }, owner;
	unsigned char *bytes = assemble(id, UINT64_MAX);
	assert_true(message_whose(&message, bytes, 128, &owner));
	assert_true(owner.client == 1 && owner.sequence == 1);
	assert_false(message_whose(&message, bytes, MESSAGE_STAMP_BYTES - 1, &owner));
	for (uint32_t client = 0; client < 100; client++)
		for (uint64_t sequence = 0; sequence < 100; sequence++) {
			struct message_id other = { .client = client, .sequence = sequence };
			bool same = client == 1 && sequence == 1;
			assert_int_equal(message_compare(&message, other, 0, bytes, 128) == 128, same);
			/* Behind the stamp, where a mix-up of pieces would show, too. */
			assert_int_equal(message_compare(&message, other, 16, bytes + 16, 112) == 112, same);
		}
	message.run = 43;
	assert_int_not_equal(message_compare(&message, id, 0, bytes, 128), 128);
	assert_false(message_whose(&message, bytes, 128, &owner));
	free(bytes);
}

static void test_http_requests(void **state)
{
	(void)state;
	struct message_id id = { .client = 1, .sequence = 1 };
	assert_int_equal(message_init_http(&message, "GET", "h:1", "/a", 0), 0);
	unsigned char *bytes = assemble(id, 5);
	static const char get[] = "GET /a HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive\r\n\r\n";
	assert_int_equal(message_bytes(&message), sizeof get - 1);
	assert_memory_equal(bytes, get, sizeof get - 1);
	free(bytes);

	assert_int_equal(message_init_http(&message, "POST", "h:1", "/a", 70000), 0);
	bytes = assemble(id, 10000);
	static const char post[] = "POST /a HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive\r\nContent-Length: 70000\r\n\r\n";
	assert_int_equal(message_bytes(&message), sizeof post - 1 + 70000);
	assert_memory_equal(bytes, post, sizeof post - 1);
	assert_memory_equal(bytes + sizeof post - 1, message.pattern.bytes, 70000);
	free(bytes);

	char path[MESSAGE_HEAD_SIZE];
	memset(path, 'x', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	assert_int_equal(message_init_http(&message, "GET", "h:1", path, 0), -ERANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_echo_is_the_same_in_all_pieces),
		cmocka_unit_test(test_each_wrong_byte_is_found),
		cmocka_unit_test(test_other_clients_and_messages_differ),
		cmocka_unit_test(test_http_requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
