/* A stream of TLS against OpenSSL at the other end of a socket pair: the handshake at the socket, everything else at the desk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "tls/openssl.h"
#include "tls/stream.h"

struct pair {
	SSL_CTX *server_ctx, *client_ctx;
	SSL *client; /* the peer */
	int fds[2];
	struct tls_desk desk;
	struct tls_stream stream;
	uint64_t now_ns;
};

static char plain[TLS_PLAIN_BYTES], bytes[TLS_PLAIN_BYTES];

static void make_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_set_version(cert, 2);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static int set_up(void **state)
{
	struct pair *pair = calloc(1, sizeof *pair);
	pair->server_ctx = SSL_CTX_new(TLS_server_method());
	pair->client_ctx = SSL_CTX_new(TLS_client_method());
	make_certificate(pair->server_ctx);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair->fds), 0);
	assert_int_equal(tls_desk_init(&pair->desk), 0);
	SSL *server = SSL_new(pair->server_ctx);
	SSL_set_accept_state(server);
	assert_int_equal(tls_stream_open(&pair->stream, &pair->desk, server, pair->fds[0]), 0);
	pair->client = SSL_new(pair->client_ctx);
	SSL_set_fd(pair->client, pair->fds[1]);
	SSL_set_connect_state(pair->client);
	pair->now_ns = 100 * NS_PER_S;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (char)(i * 7 + i / 251);
	*state = pair;
	return 0;
}

static int tear_down(void **state)
{
	struct pair *pair = *state;
	tls_stream_close(&pair->stream);
	tls_desk_fini(&pair->desk);
	SSL_free(pair->client);
	SSL_CTX_free(pair->server_ctx);
	SSL_CTX_free(pair->client_ctx);
	close(pair->fds[0]);
	close(pair->fds[1]);
	free(pair);
	return 0;
}

static void shake_hands(struct pair *pair)
{
	enum tls_state state = TLS_WANTS_INPUT;
	int done = 0;
	for (int turn = 0; turn < 10 && (state != TLS_DONE || done != 1); turn++) {
		done = SSL_do_handshake(pair->client);
		if (state != TLS_DONE)
			state = tls_stream_handshake(&pair->stream);
	}
	assert_int_equal(state, TLS_DONE);
	assert_int_equal(done, 1);
	tls_stream_to_desk(&pair->stream);
}

/* What the peer has sent is put onto the desk, at most so much. How much. */
static size_t receive(struct pair *pair, size_t most)
{
	ssize_t count = recv(pair->fds[0], pair->desk.in, most < TLS_READ_BYTES ? most : TLS_READ_BYTES, 0);
	pair->desk.in_at = 0;
	pair->desk.in_end = count > 0 ? (uint32_t)count : 0;
	return pair->desk.in_end;
}

/* What lies on the desk goes to the peer. How much. */
static size_t deliver(struct pair *pair)
{
	size_t count;
	const char *out = tls_desk_output(&pair->desk, &count);
	assert_int_equal(send(pair->fds[0], out, count, 0), (ssize_t)count);
	return count;
}

static size_t read_at_peer(struct pair *pair, size_t wanted)
{
	size_t sum = 0, count;
	while (sum < wanted && SSL_read_ex(pair->client, plain + sum, sizeof plain - sum, &count))
		sum += count;
	return sum;
}

static unsigned records_on_the_desk(const struct tls_desk *desk, size_t *largest)
{
	unsigned records = 0;
	*largest = 0;
	for (uint32_t at = 0; at < desk->out_end; records++) {
		size_t size = (size_t)(uint8_t)desk->out[at + 3] << 8 | (uint8_t)desk->out[at + 4];
		*largest = size > *largest ? size : *largest;
		at += 5 + (uint32_t)size;
	}
	return records;
}

static void both_ways(void **state)
{
	struct pair *pair = *state;
	size_t count;
	shake_hands(pair);
	assert_true(tls_stream_encrypt(&pair->stream, bytes, 5000, pair->now_ns));
	(void)deliver(pair);
	assert_int_equal(read_at_peer(pair, 5000), 5000);
	assert_memory_equal(plain, bytes, 5000);
	assert_int_equal(SSL_write(pair->client, bytes, 3000), 3000);
	assert_true(receive(pair, SIZE_MAX) > 3000);
	assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &count), TLS_WANTS_INPUT);
	assert_int_equal(count, 3000);
	assert_memory_equal(plain, bytes, 3000);
	assert_false(tls_stream_holds(&pair->stream));
}

/* With the first bytes and not before, in one piece with them, once. */
static void a_ticket_waits_for_bytes(void **state)
{
	struct pair *pair = *state;
	size_t largest;
	shake_hands(pair);
	assert_int_equal(recv(pair->fds[1], plain, 1, MSG_PEEK), -1);
	assert_int_equal(SSL_write(pair->client, bytes, 10), 10);
	assert_true(receive(pair, SIZE_MAX) > 0);
	assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &(size_t){ 0 }), TLS_WANTS_INPUT);
	assert_int_equal(records_on_the_desk(&pair->desk, &largest), 0);
	assert_true(tls_stream_encrypt(&pair->stream, bytes, 100, pair->now_ns));
	assert_int_equal(records_on_the_desk(&pair->desk, &largest), 2);
	(void)deliver(pair);
	assert_int_equal(read_at_peer(pair, 100), 100);
	assert_true(SSL_SESSION_is_resumable(SSL_get0_session(pair->client)));
	assert_true(tls_stream_encrypt(&pair->stream, bytes, 100, pair->now_ns));
	assert_int_equal(records_on_the_desk(&pair->desk, &largest), 1);
}

static void a_byte_at_a_time(void **state)
{
	struct pair *pair = *state;
	size_t count, sum = 0;
	shake_hands(pair);
	assert_int_equal(SSL_write(pair->client, bytes, 700), 700);
	while (receive(pair, 1) == 1) {
		assert_int_equal(sum, 0);
		assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &count), TLS_WANTS_INPUT);
		sum += count;
		assert_int_equal(tls_stream_holds(&pair->stream), sum == 0);
	}
	assert_int_equal(sum, 700);
	assert_memory_equal(plain, bytes, 700);
}

/* As much as is read at a time, behind a part of a record, has room. */
static void the_most(void **state)
{
	struct pair *pair = *state;
	size_t count, sum = 0, seen = 0;
	shake_hands(pair);
	for (int i = 0; i < 6; i++)
		assert_int_equal(SSL_write(pair->client, bytes, TLS_RECORD_BYTES), TLS_RECORD_BYTES);
	for (size_t most = TLS_RECORD_BYTES; receive(pair, most) > 0; most = SIZE_MAX) {
		assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &count), TLS_WANTS_INPUT);
		sum += count;
		seen = count > seen ? count : seen;
		assert_int_equal(pair->desk.in_at, pair->desk.in_end);
	}
	assert_int_equal(sum, 6 * TLS_RECORD_BYTES);
	assert_true(seen >= 3 * TLS_RECORD_BYTES);
}

static void what_is_encrypted_fits_into_a_buffer(void **state)
{
	struct pair *pair = *state;
	size_t count;
	shake_hands(pair);
	assert_true(tls_stream_encrypt(&pair->stream, bytes, TLS_WRITE_BYTES, pair->now_ns)); /* in small records at first */
	(void)tls_desk_output(&pair->desk, &count);
	assert_in_range(count, TLS_WRITE_BYTES, TLS_PLAIN_BYTES);
}

static void records_grow_and_shrink(void **state)
{
	struct pair *pair = *state;
	size_t count, largest;
	shake_hands(pair);
	for (int round = 0; round < 2; round++) {
		assert_true(tls_stream_encrypt(&pair->stream, bytes, TLS_RECORD_BYTES, pair->now_ns));
		assert_in_range(records_on_the_desk(&pair->desk, &largest), 12, 14);
		assert_true(largest < 1460);
		(void)tls_desk_output(&pair->desk, &count);
		assert_true(tls_stream_encrypt(&pair->stream, bytes, 2 * TLS_RECORD_BYTES, pair->now_ns + NS_PER_MS));
		assert_int_equal(records_on_the_desk(&pair->desk, &largest), 2);
		(void)tls_desk_output(&pair->desk, &count);
		pair->now_ns += 2 * NS_PER_S;
	}
}

static void close_notify(void **state)
{
	struct pair *pair = *state;
	size_t count;
	shake_hands(pair);
	assert_int_equal(SSL_write(pair->client, bytes, 10), 10);
	(void)SSL_shutdown(pair->client);
	assert_true(receive(pair, SIZE_MAX) > 0);
	assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &count), TLS_CLOSED);
	assert_int_equal(count, 10);
	tls_stream_to_desk(&pair->stream); /* for another relay: it is told again */
	assert_true(pair->stream.pending);
	assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &count), TLS_CLOSED);
	assert_int_equal(count, 0);
	tls_stream_end(&pair->stream);
	assert_true(deliver(pair) > 0);
	tls_stream_end(&pair->stream); /* once is enough */
	assert_int_equal(pair->desk.out_end, 0);
	assert_int_equal(SSL_read(pair->client, plain, 1), 0);
	assert_int_equal(SSL_get_error(pair->client, 0), SSL_ERROR_ZERO_RETURN);
}

static void garbage(void **state)
{
	struct pair *pair = *state;
	char text[200];
	size_t count;
	shake_hands(pair);
	assert_int_equal(send(pair->fds[1], "\x17\x03\x03\x00\x20 nobody has encrypted these bytes", 37, 0), 37);
	assert_int_equal(receive(pair, SIZE_MAX), 37);
	assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &count), TLS_FAILED);
	assert_int_equal(tls_stream_failure(&pair->stream, text, sizeof text), TLS_FAILURE_PROTOCOL);
	assert_non_null(strstr(text, "(alert sent: bad record mac)"));
	assert_true(deliver(pair) > 0);
	assert_true(SSL_read(pair->client, plain, 1) <= 0);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
	ERR_clear_error();
}

static void update_keys(struct pair *pair, int times)
{
	for (int i = 0; i < times; i++) {
		assert_int_equal(SSL_key_update(pair->client, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(pair->client), 1);
	}
}

static void key_updates(void **state)
{
	struct pair *pair = *state;
	size_t count;
	shake_hands(pair);
	update_keys(pair, 3);
	assert_int_equal(SSL_write(pair->client, bytes, 10), 10);
	(void)receive(pair, SIZE_MAX);
	assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &count), TLS_WANTS_INPUT);
	assert_int_equal(count, 10);
	assert_true(pair->desk.out_end > 0); /* an answer for each */
	(void)deliver(pair);
	assert_true(tls_stream_encrypt(&pair->stream, bytes, 10, pair->now_ns));
	(void)deliver(pair);
	assert_int_equal(read_at_peer(pair, 10), 10);
	update_keys(pair, 200);
	(void)receive(pair, SIZE_MAX);
	assert_int_equal(tls_stream_decrypt(&pair->stream, plain, sizeof plain, &count), TLS_FAILED);
}

static void a_peer_that_leaves(void **state)
{
	struct pair *pair = *state;
	char text[200];
	(void)SSL_do_handshake(pair->client);
	assert_int_equal(tls_stream_handshake(&pair->stream), TLS_WANTS_INPUT);
	assert_int_equal(shutdown(pair->fds[1], SHUT_WR), 0);
	assert_int_equal(tls_stream_handshake(&pair->stream), TLS_FAILED);
	assert_int_equal(tls_stream_failure(&pair->stream, text, sizeof text), TLS_FAILURE_TRUNCATED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(both_ways, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_ticket_waits_for_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_byte_at_a_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_most, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_encrypted_fits_into_a_buffer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(records_grow_and_shrink, set_up, tear_down),
		cmocka_unit_test_setup_teardown(close_notify, set_up, tear_down),
		cmocka_unit_test_setup_teardown(garbage, set_up, tear_down),
		cmocka_unit_test_setup_teardown(key_updates, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_peer_that_leaves, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
