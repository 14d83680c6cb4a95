/* Streams for which the kernel makes the records: see stream.h and kernel_side.h. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "tls/kernel_side.h"

#define LOOK_LEAST_NS (5 * NS_PER_MS)
#define LOOK_MOST_NS (500 * NS_PER_MS)

static int stream_index = -1; /* of the stream in a session */

/* --- what OpenSSL tells ------------------------------------------------------------------------------------------------------- */

static bool read_hex(const char *text, unsigned char *out, size_t length)
{
	for (size_t i = 0; i < 2 * length; i++) {
		char c = text[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
		if (digit < 0)
			return false;
		out[i / 2] = (unsigned char)(i % 2 ? out[i / 2] | digit : digit << 4);
	}
	return true;
}

/* "SERVER_TRAFFIC_SECRET_0 <random of the client> <secret>", when what is sent begins to be encrypted with it. */
static void on_secret(const SSL *ssl, const char *line)
{
	const struct tls_stream *stream = stream_index >= 0 ? SSL_get_ex_data(ssl, stream_index) : NULL;
	const char *label = SSL_is_server(ssl) ? "SERVER_TRAFFIC_SECRET_0 " : "CLIENT_TRAFFIC_SECRET_0 ";
	const char *text = strrchr(line, ' ');

	if (!stream || !stream->kernel || !text || strncmp(line, label, strlen(label)) != 0)
		return;
	struct kernel_side *side = stream->kernel;
	size_t length = strlen(++text) / 2;
	if (length <= sizeof side->secret && read_hex(text, side->secret, length))
		side->secret_length = length;
	side->records = 0;
}

void kernel_side_expect(SSL_CTX *ctx, unsigned *interest, bool always)
{
	SSL_CTX_set_keylog_callback(ctx, always || *interest > 0 ? on_secret : NULL);
	SSL_CTX_set_app_data(ctx, interest);
	*interest -= *interest > 0;
}

/* Every record and every message that OpenSSL sends, in clear. */
static void on_message(int written, int version, int type, const void *bytes, size_t count, SSL *ssl, void *arg)
{
	const struct tls_stream *stream = arg;
	struct kernel_side *side = stream->kernel;
	const unsigned char *byte = bytes;

	(void)version;
	if (!written || !side || count == 0)
		return;
	if (type == SSL3_RT_HEADER) {
		side->records = byte[0] == SSL3_RT_CHANGE_CIPHER_SPEC ? 0 : side->records + 1;
	} else if (type == SSL3_RT_HANDSHAKE && byte[0] == SSL3_MT_KEY_UPDATE) {
		if (stream->in_kernel)
			side->update_due = true;
		else if (!kernel_secret_renew(ssl, side))
			side->secret_length = 0;
	} else if (type == SSL3_RT_ALERT && stream->in_kernel && count == sizeof side->alert) {
		memcpy(side->alert, bytes, sizeof side->alert);
		side->alert_due = true;
	}
}

int kernel_side_begin(struct tls_stream *stream)
{
	if (stream_index < 0)
		stream_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	stream->kernel = stream_index >= 0 ? calloc(1, sizeof *stream->kernel) : NULL;
	if (!stream->kernel || SSL_set_ex_data(stream->ssl, stream_index, stream) != 1)
		return -ENOMEM;
	SSL_set_msg_callback(stream->ssl, on_message);
	SSL_set_msg_callback_arg(stream->ssl, stream);
	return 0;
}

void kernel_side_drop(struct tls_stream *stream)
{
	if (!stream->kernel)
		return;
	if (stream->ssl)
		SSL_set_msg_callback(stream->ssl, NULL);
	OPENSSL_cleanse(stream->kernel, sizeof *stream->kernel);
	free(stream->kernel);
	stream->kernel = NULL;
}

void kernel_side_note(struct kernel_side *side, const char *record, size_t count)
{
	enum { HEAD = 5, NONCE = 8 };
	if (count < HEAD + NONCE)
		return;
	side->nonce = 0;
	for (size_t i = HEAD; i < HEAD + NONCE; i++)
		side->nonce = side->nonce << 8 | (unsigned char)record[i];
}

/* --- from one to the other ---------------------------------------------------------------------------------------------------- */

/* The kernel has them now, and nobody else needs the key. */
static void forget_key(struct kernel_keys *keys)
{
	OPENSSL_cleanse(keys->key, sizeof keys->key);
	OPENSSL_cleanse(keys->iv, sizeof keys->iv);
}

bool tls_stream_to_kernel(struct tls_stream *stream)
{
	struct kernel_side *side = stream->kernel;
	unsigned *interest = SSL_CTX_get_app_data(SSL_get_SSL_CTX(stream->ssl));
	uint64_t unacknowledged;

	if (interest)
		*interest = KERNEL_INTEREST;
	bool able = stream->at_desk && !(SSL_get_shutdown(stream->ssl) & SSL_SENT_SHUTDOWN) &&
	            kernel_keys_derive(stream->ssl, side, &stream->desk->able, &side->keys) &&
	            kernel_sent_bytes(stream->fd, &side->before, &unacknowledged) == 0 && kernel_take_over(stream->fd, &side->keys) == 0;

	ERR_clear_error();
	forget_key(&side->keys);
	if (!able) {
		kernel_side_drop(stream);
		return false;
	}
	stream->in_kernel = true;
	return true;
}

/* All that is sent from now on is sent with other keys. 0 or -EBADMSG: what follows would be of no use to the peer. */
static int change_keys(struct tls_stream *stream)
{
	struct kernel_side *side = stream->kernel;
	const struct kernel_ability any = { .tls13 = UINT8_MAX };
	struct kernel_keys keys;
	uint64_t next;
	if (kernel_sequence(stream->fd, &side->keys, &next))
		return -EBADMSG;
	side->made += next - side->keys.sequence;
	if (!kernel_secret_renew(stream->ssl, side) || !kernel_keys_derive(stream->ssl, side, &any, &keys)) {
		ERR_clear_error();
		return -EBADMSG;
	}
	int error = kernel_change_keys(stream->fd, &keys);
	forget_key(&keys);
	side->keys = keys;
	return error ? -EBADMSG : 0;
}

/* --- sending ------------------------------------------------------------------------------------------------------------------ */

/* The KeyUpdate that is due. It need not wait for what is owed, which the kernel did not encrypt yet. */
static int say_update(struct tls_stream *stream)
{
	static const unsigned char key_update[] = { SSL3_MT_KEY_UPDATE, 0, 0, 1, SSL_KEY_UPDATE_NOT_REQUESTED };
	struct kernel_side *side = stream->kernel;
	int error = kernel_send_control(stream->fd, SSL3_RT_HANDSHAKE, key_update, sizeof key_update);

	if (error)
		return error;
	side->given += sizeof key_update;
	side->update_due = false;
	return change_keys(stream);
}

int tls_stream_say(struct tls_stream *stream, bool last_words)
{
	struct kernel_side *side = stream->kernel;
	int error = side->update_due ? say_update(stream) : 0;

	if (error || !last_words || !side->alert_due)
		return error;
	error = kernel_send_control(stream->fd, SSL3_RT_ALERT, side->alert, sizeof side->alert);
	if (error)
		return error;
	side->given += sizeof side->alert;
	side->alert_due = false;
	return 0;
}

ssize_t tls_stream_send(struct tls_stream *stream, const char *bytes, size_t count, uint64_t now_ns)
{
	size_t sum = 0;
	int error = tls_stream_say(stream, false);

	if (error) {
		errno = -error;
		return -1;
	}
	tls_stream_note_time(stream, now_ns);
	while (sum < count) {
		size_t part = tls_record_bytes(stream, count - sum);
		ssize_t sent = send(stream->fd, bytes + sum, part, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && sum == 0)
			return -1;
		sum += sent > 0 ? (size_t)sent : 0;
		if (sent < (ssize_t)part)
			break;
	}
	stream->kernel->given += sum;
	return (ssize_t)sum;
}

int tls_stream_held(struct tls_stream *stream, uint64_t now_ns, uint64_t *look_again_ns)
{
	struct kernel_side *side = stream->kernel;
	uint64_t next, all, unacknowledged, held = 0;
	int error = kernel_sequence(stream->fd, &side->keys, &next);

	if (!error)
		error = kernel_sent_bytes(stream->fd, &all, &unacknowledged);
	*look_again_ns = now_ns + LOOK_LEAST_NS;
	if (error)
		return error == -EAGAIN ? 1 : error;
	uint64_t records = side->made + next - side->keys.sequence;
	uint64_t due = side->given + records * kernel_record_extra(&side->keys), sent = all - side->before;
	if (due > sent)
		held = due - sent;
	if (held != side->held || unacknowledged != side->unacknowledged)
		side->moved_ns = now_ns;
	side->held = held;
	side->unacknowledged = unacknowledged;
	uint64_t still_ns = now_ns - side->moved_ns;
	if (unacknowledged == 0 && still_ns >= NS_PER_S)
		return 0; /* TCP had room for all of it for long: whatever is counted there is nothing to be sent */
	if (still_ns > LOOK_LEAST_NS)
		*look_again_ns = now_ns + (still_ns < LOOK_MOST_NS ? still_ns : LOOK_MOST_NS);
	return held < INT_MAX ? (int)held : INT_MAX;
}
