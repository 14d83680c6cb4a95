/* Datagrams in batches, over the loopback; with each combination of what a kernel may have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "udp/datagram.h"

enum { LARGEST = 65507 };

static struct datagram_features features;

struct ground {
	struct batch batch;
	struct outbox outbox;
	struct sending out;
	int in, from; /* a socket to receive with, and one that is connected to it */
	struct sockaddr_in6 at;
};

static int open_at(sa_family_t family, const char *address, struct sockaddr_in6 *at)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), size = 4 << 20;
	socklen_t length = sizeof *at;
	*at = (struct sockaddr_in6){ .sin6_family = family };
	void *where = family == AF_INET ? (void *)&((struct sockaddr_in *)(void *)at)->sin_addr : (void *)&at->sin6_addr;
	assert_true(fd >= 0);
	assert_int_equal(inet_pton(family, address, where), 1);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	assert_int_equal(bind(fd, (struct sockaddr *)at, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof *at), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, &length), 0);
	return fd;
}

static void connect_to(int fd, const struct sockaddr_in6 *at)
{
	socklen_t length = at->sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof *at;
	assert_int_equal(connect(fd, (const struct sockaddr *)at, length), 0);
}

static int open_to(const struct sockaddr_in6 *at)
{
	int fd = socket(at->sin6_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	connect_to(fd, at);
	return fd;
}

static void begin(struct ground *ground, const struct datagram_features *with)
{
	memset(ground, 0, sizeof *ground);
	assert_int_equal(batch_init(&ground->batch, with, true), 0);
	assert_int_equal(outbox_init(&ground->outbox, with), 0);
	ground->in = open_at(AF_INET, "127.0.0.1", &ground->at);
	ground->from = open_to(&ground->at);
}

static void end(struct ground *ground)
{
	batch_fini(&ground->batch);
	outbox_fini(&ground->outbox);
	close(ground->in);
	close(ground->from);
}

static void set(int fd, int level, int option)
{
	int on = 1;
	assert_int_equal(setsockopt(fd, level, option, &on, sizeof on), 0);
}

/* --- receiving --------------------------------------------------------------------------------------------------------------- */

static void test_receives_what_came(void **state)
{
	(void)state;
	static char large[LARGEST];
	struct datagram_features all[] = { features, { .batches = false } };
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct ground ground;
		struct parcel parcel;
		begin(&ground, &all[i]);
		assert_int_equal(batch_receive(&ground.batch, ground.in, 5), 0);
		assert_int_equal(send(ground.from, "one", 3, 0), 3);
		assert_int_equal(send(ground.from, "", 0, 0), 0);
		memset(large, 'x', sizeof large);
		assert_int_equal(send(ground.from, large, sizeof large, 0), sizeof large);
		assert_int_equal(batch_receive(&ground.batch, ground.in, 2), 2);
		assert_int_equal(batch_receive(&ground.batch, ground.in, DATAGRAM_BATCH), 1);
		static const uint32_t lengths[] = { 3, 0, LARGEST };
		for (uint32_t j = 0; j < 3; j++) {
			batch_parcel(&ground.batch, j, &parcel, NULL);
			assert_int_equal(parcel.length, lengths[j]);
			assert_int_equal(parcel_datagrams(&parcel), 1);
			assert_int_equal(ground.batch.peers[j].sin6_family, AF_INET);
		}
		assert_int_equal(parcel.bytes[LARGEST - 1], 'x');
		batch_clear(&ground.batch);
		batch_trim(&ground.batch);
		batch_trim(&ground.batch);
		assert_int_equal(parcel.bytes[LARGEST - 1], 0); /* the memory was given back */
		assert_int_equal(send(ground.from, "two", 3, 0), 3);
		assert_int_equal(batch_receive_one(&ground.batch, ground.in), 1);
		assert_int_equal(batch_receive_one(&ground.batch, ground.in), 0);
		batch_parcel(&ground.batch, 0, &parcel, NULL);
		assert_memory_equal(parcel.bytes, "two", 3);
		end(&ground);
	}
}

static void test_does_not_receive_more_than_it_holds(void **state)
{
	(void)state;
	struct ground ground;
	begin(&ground, &features);
	for (int i = 0; i < DATAGRAM_BATCH + 3; i++)
		assert_int_equal(send(ground.from, &(char){ (char)i }, 1, 0), 1);
	assert_int_equal(batch_receive(&ground.batch, ground.in, 1000), DATAGRAM_BATCH);
	assert_int_equal(batch_room(&ground.batch), 0);
	for (uint32_t i = 0; i < DATAGRAM_BATCH; i++) {
		struct parcel parcel;
		batch_parcel(&ground.batch, i, &parcel, NULL);
		assert_int_equal(parcel.bytes[0], i);
	}
	batch_clear(&ground.batch);
	assert_int_equal(batch_receive(&ground.batch, ground.in, 1000), 3);
	end(&ground);
}

static void test_tells_the_address_that_was_asked(void **state)
{
	(void)state;
	static const struct {
		sa_family_t family;
		const char *any, *asked;
	} rows[] = { { AF_INET, "0.0.0.0", "127.0.0.77" }, { AF_INET6, "::", "::1" } };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct ground ground;
		struct parcel parcel;
		struct local_address local;
		char text[INET6_ADDRSTRLEN];
		bool v4 = rows[i].family == AF_INET;
		begin(&ground, &features);
		close(ground.in);
		close(ground.from);
		ground.in = open_at(rows[i].family, rows[i].any, &ground.at);
		set(ground.in, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_PKTINFO : IPV6_RECVPKTINFO);
		struct sockaddr_in6 asked, client;
		close(open_at(rows[i].family, rows[i].asked, &asked));
		asked.sin6_port = ground.at.sin6_port;
		ground.from = open_at(rows[i].family, v4 ? "127.0.0.5" : "::1", &client);
		assert_int_equal(
		        sendto(ground.from, "x", 1, 0, (struct sockaddr *)&asked, v4 ? sizeof(struct sockaddr_in) : sizeof asked), 1);
		assert_int_equal(batch_receive(&ground.batch, ground.in, 1), 1);
		batch_parcel(&ground.batch, 0, &parcel, &local);
		if (v4)
			inet_ntop(AF_INET, &local.address.s6_addr[12], text, sizeof text);
		else
			inet_ntop(AF_INET6, &local.address, text, sizeof text);
		assert_string_equal(text, rows[i].asked);

		/* And the answer leaves from there. */
		struct sockaddr_in6 answerer;
		socklen_t length = sizeof answerer;
		char byte;
		outbox_add(&ground.outbox, &parcel, &ground.batch.peers[0], &local, false);
		assert_int_equal(outbox_send(&ground.outbox, ground.in, false, &ground.out), 0);
		assert_int_equal(recvfrom(ground.from, &byte, 1, 0, (struct sockaddr *)&answerer, &length), 1);
		assert_memory_equal(&answerer, &asked, v4 ? 8 : sizeof answerer);
		end(&ground);
	}
}

/* --- sending ----------------------------------------------------------------------------------------------------------------- */

static void add(struct outbox *outbox, const char *bytes, uint32_t length, uint16_t segment, bool same)
{
	const struct parcel parcel = { .bytes = bytes, .length = length, .segment = segment };
	outbox_add(outbox, &parcel, NULL, NULL, same);
}

/* What comes out, datagram by datagram, is "aaa|bb|". */
static void assert_came(struct ground *ground, const char *want)
{
	char got[256] = "";
	size_t length = 0;
	for (;;) {
		ssize_t n = recv(ground->in, got + length, sizeof got - length - 2, 0);
		if (n < 0)
			break;
		length += (size_t)n;
		got[length++] = '|';
	}
	got[length] = '\0';
	assert_string_equal(got, want);
}

static void test_sends_all_in_order(void **state)
{
	(void)state;
	const struct datagram_features all[] = {
		features,
		{ .batches = true },
		{ .batches = false, .gso = features.gso },
		{ .batches = false },
	};
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct ground ground;
		begin(&ground, &all[i]);
		add(&ground.outbox, "aaa", 3, 0, false);
		add(&ground.outbox, "bbb", 3, 0, true);
		add(&ground.outbox, "c", 1, 0, true); /* the shorter last one */
		add(&ground.outbox, "d", 1, 0, true);
		add(&ground.outbox, "ee", 2, 0, true); /* longer: not with that */
		add(&ground.outbox, "", 0, 0, true);
		add(&ground.outbox, "", 0, 0, true);
		add(&ground.outbox, "ffggh", 5, 2, true); /* came as three */
		add(&ground.outbox, "iijj", 4, 2, true);
		add(&ground.outbox, "kk", 2, 0, true);
		add(&ground.outbox, "ll", 2, 0, false); /* to somebody else */
		assert_int_equal(ground.outbox.n, all[i].gso ? 8 : 11);
		assert_int_equal(outbox_send(&ground.outbox, ground.from, true, &ground.out), 0);
		assert_true(outbox_is_empty(&ground.outbox));
		assert_int_equal(ground.out.sent, 14);
		assert_int_equal(ground.out.sent_bytes, 23);
		assert_int_equal(ground.out.full + ground.out.too_large + ground.out.unreachable, 0);
		assert_came(&ground, "aaa|bbb|c|d|ee|||ff|gg|h|ii|jj|kk|ll|");
		end(&ground);
	}
}

static void test_what_was_sent_at_once_is_received_at_once(void **state)
{
	(void)state;
	struct ground ground;
	struct parcel parcel;
	static char bytes[40 * 100 + 7];
	if (!features.gro || !features.gso)
		skip();
	begin(&ground, &features);
	set(ground.in, SOL_UDP, UDP_GRO);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (char)(i % 251);
	for (uint32_t i = 0; i < 40; i++)
		add(&ground.outbox, bytes + i * 100, 100, 0, true);
	add(&ground.outbox, bytes + 4000, 7, 0, true);
	assert_int_equal(outbox_send(&ground.outbox, ground.from, true, &ground.out), 0);
	assert_int_equal(ground.out.sent, 41);
	assert_int_equal(batch_receive(&ground.batch, ground.in, DATAGRAM_BATCH), 1);
	batch_parcel(&ground.batch, 0, &parcel, NULL);
	assert_int_equal(parcel.segment, 100);
	assert_int_equal(parcel_datagrams(&parcel), 41);
	assert_int_equal(parcel.length, sizeof bytes);
	assert_memory_equal(parcel.bytes, bytes, sizeof bytes);
	end(&ground);
}

static void test_no_more_at_once_than_the_kernel_takes(void **state)
{
	(void)state;
	struct ground ground;
	static char bytes[DATAGRAM_BATCH * 1400];
	begin(&ground, &features);
	for (uint32_t i = 0; i < DATAGRAM_BATCH; i++)
		add(&ground.outbox, bytes + i * 1400, 1400, 0, true);
	assert_true(outbox_is_full(&ground.outbox));
	assert_int_equal(outbox_send(&ground.outbox, ground.from, true, &ground.out), 0);
	assert_int_equal(ground.out.sent, DATAGRAM_BATCH);
	for (uint32_t n = 0; n < DATAGRAM_BATCH;) {
		int came = batch_receive(&ground.batch, ground.in, DATAGRAM_BATCH);
		assert_true(came > 0);
		n += (uint32_t)came;
		batch_clear(&ground.batch);
	}
	end(&ground);
}

static void test_where_the_kernel_refuses_to_split(void **state)
{
	(void)state;
	struct ground ground;
	begin(&ground, &features);
	set(ground.from, SOL_SOCKET, SO_NO_CHECK);
	add(&ground.outbox, "aa", 2, 0, false);
	add(&ground.outbox, "bb", 2, 0, true);
	add(&ground.outbox, "ccdde", 5, 2, true);
	add(&ground.outbox, "ff", 2, 0, false);
	assert_int_equal(outbox_send(&ground.outbox, ground.from, true, &ground.out), 0);
	assert_int_equal(ground.out.unsplit, features.gso);
	assert_int_equal(ground.out.sent, 6);
	assert_came(&ground, "aa|bb|cc|dd|e|ff|");
	end(&ground);
}

static void test_drops_what_cannot_be_sent(void **state)
{
	(void)state;
	struct ground ground;
	static char bytes[LARGEST + 1];
	begin(&ground, &features);
	const struct parcel one = { .bytes = "1", .length = 1 }, large = { .bytes = bytes, .length = sizeof bytes },
	                    two = { .bytes = "2", .length = 1 };
	struct sockaddr_in6 everybody = { .sin6_family = AF_INET };
	((struct sockaddr_in *)(void *)&everybody)->sin_addr.s_addr = INADDR_BROADCAST; /* without SO_BROADCAST */
	everybody.sin6_port = ground.at.sin6_port;
	outbox_add(&ground.outbox, &one, &ground.at, NULL, false);
	outbox_add(&ground.outbox, &large, &ground.at, NULL, false);
	outbox_add(&ground.outbox, &one, &everybody, NULL, false);
	outbox_add(&ground.outbox, &two, &ground.at, NULL, false);
	int free_one = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(outbox_send(&ground.outbox, free_one, false, &ground.out), 0);
	close(free_one);
	assert_int_equal(ground.out.sent, 2);
	assert_int_equal(ground.out.too_large, 1);
	assert_int_equal(ground.out.unreachable, 1);
	assert_came(&ground, "1|2|");
	outbox_add(&ground.outbox, &one, &ground.at, NULL, false);
	assert_int_equal(outbox_drop(&ground.outbox), 1);
	assert_true(outbox_is_empty(&ground.outbox));
	end(&ground);
}

static void test_what_is_left_of_a_dead_server_goes_to_another_one(void **state)
{
	(void)state;
	struct ground ground;
	struct sockaddr_in6 nowhere;
	begin(&ground, &features);
	close(open_at(AF_INET, "127.0.0.1", &nowhere));
	int dead = open_to(&nowhere);
	assert_int_equal(send(dead, "lost", 4, 0), 4);
	add(&ground.outbox, "aa", 2, 0, false);
	add(&ground.outbox, "bb", 2, 0, true);
	add(&ground.outbox, "c", 1, 0, false);
	assert_int_equal(outbox_send(&ground.outbox, dead, true, &ground.out), -ECONNREFUSED);
	assert_int_equal(ground.out.sent, 0);
	assert_false(outbox_is_empty(&ground.outbox));
	assert_int_equal(outbox_send(&ground.outbox, ground.from, true, &ground.out), 0);
	assert_int_equal(ground.out.sent, 3);
	assert_came(&ground, "aa|bb|c|");
	close(dead);
	end(&ground);
}

/* A head in front of the first one, wherever that stands, or of each: as one datagram with it. */
static void test_sends_with_a_head(void **state)
{
	(void)state;
	static const char *const want[] = { "H:aa|bb|c|dd|ee|||f|", "H:aa|H:bb|H:c|H:dd|H:ee|H:|H:|H:f|" };
	const struct datagram_features all[] = { features, { .batches = true }, { .batches = false } };
	for (size_t i = 0; i < 2 * ARRAY_LEN(all); i++) {
		struct ground ground;
		struct datagram_head head = { .bytes = "H:", .length = 2, .each = i % 2 };
		begin(&ground, &all[i / 2]);
		add(&ground.outbox, "aabbc", 5, 2, false);
		add(&ground.outbox, "ddee", 4, 2, true);
		add(&ground.outbox, "", 0, 0, true);
		add(&ground.outbox, "", 0, 0, true);
		add(&ground.outbox, "f", 1, 0, true);
		assert_int_equal(outbox_send_headed(&ground.outbox, ground.from, &head, &ground.out), 0);
		assert_true(outbox_is_empty(&ground.outbox));
		assert_int_equal(head.length, head.each ? 2 : 0);
		assert_int_equal(ground.out.sent, 8);
		assert_int_equal(ground.out.sent_bytes, 10); /* without it */
		assert_came(&ground, want[i % 2]);
		end(&ground);
	}
}

/* What is too large with it is dropped, and the next one has it. */
static void test_a_head_is_for_who_gets_through(void **state)
{
	(void)state;
	static char bytes[LARGEST];
	struct ground ground;
	struct datagram_head head = { .bytes = "H:", .length = 2 };
	begin(&ground, &features);
	add(&ground.outbox, bytes, sizeof bytes, 0, false);
	add(&ground.outbox, "a", 1, 0, true);
	add(&ground.outbox, "b", 1, 0, true);
	assert_int_equal(outbox_send_headed(&ground.outbox, ground.from, &head, &ground.out), 0);
	assert_int_equal(ground.out.too_large, 1);
	assert_int_equal(ground.out.sent, 2);
	assert_came(&ground, "H:a|b|");
	end(&ground);
}

/* Where it stopped at a server that is dead, the next server gets it before what is left. */
static void test_a_head_for_another_server(void **state)
{
	(void)state;
	struct ground ground;
	struct sockaddr_in6 nowhere;
	struct datagram_head head = { .bytes = "H:", .length = 2 };
	begin(&ground, &features);
	close(open_at(AF_INET, "127.0.0.1", &nowhere));
	int dead = open_to(&nowhere);
	add(&ground.outbox, "aabb", 4, 2, false);
	assert_int_equal(outbox_send_headed(&ground.outbox, dead, &head, &ground.out), -ECONNREFUSED); /* the second one hears of it */
	assert_int_equal(ground.out.sent, 1);
	assert_int_equal(head.length, 0);
	head.length = 2;
	assert_int_equal(outbox_send_headed(&ground.outbox, ground.from, &head, &ground.out), 0);
	assert_came(&ground, "H:bb|");
	close(dead);
	end(&ground);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receives_what_came),
		cmocka_unit_test(test_does_not_receive_more_than_it_holds),
		cmocka_unit_test(test_tells_the_address_that_was_asked),
		cmocka_unit_test(test_sends_all_in_order),
		cmocka_unit_test(test_what_was_sent_at_once_is_received_at_once),
		cmocka_unit_test(test_no_more_at_once_than_the_kernel_takes),
		cmocka_unit_test(test_where_the_kernel_refuses_to_split),
		cmocka_unit_test(test_drops_what_cannot_be_sent),
		cmocka_unit_test(test_what_is_left_of_a_dead_server_goes_to_another_one),
		cmocka_unit_test(test_sends_with_a_head),
		cmocka_unit_test(test_a_head_is_for_who_gets_through),
		cmocka_unit_test(test_a_head_for_another_server),
	};
	datagram_probe(&features);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
