#include "tls/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "tls/kernel_side.h"
#include "tls/openssl.h"

/* So many messages without data in a row (key updates), of what came at once, are no conversation any more. */
enum { SILENT_MESSAGES = 64 };

/* --- between OpenSSL and the socket or the desk ------------------------------------------------------------------------------ */

static int read_socket(struct tls_stream *stream, char *to, int size)
{
	ssize_t count = recv(stream->fd, to, (size_t)size, MSG_DONTWAIT);
	stream->drained = count < size;
	stream->gone = count == 0;
	stream->error = count < 0 ? errno : 0;
	return (int)count;
}

static int write_socket(struct tls_stream *stream, const char *bytes, int count)
{
	ssize_t sent = send(stream->fd, bytes, (size_t)count, MSG_DONTWAIT | MSG_NOSIGNAL);
	stream->error = sent < 0 ? errno : 0;
	return (int)sent;
}

static int read_desk(struct tls_stream *stream, char *to, int size)
{
	struct tls_desk *desk = stream->desk;
	uint32_t there = desk->in_end - desk->in_at, count = there < (uint32_t)size ? there : (uint32_t)size;
	if (count == 0) {
		stream->starved = true;
		stream->error = EAGAIN;
		return -1;
	}
	memcpy(to, desk->in + desk->in_at, count);
	desk->in_at += count;
	return (int)count;
}

/* Each write is a record. */
static int write_desk(struct tls_stream *stream, const char *bytes, int count)
{
	struct tls_desk *desk = stream->desk;
	if (unlikely(stream->kernel)) {
		if (stream->in_kernel)
			return count; /* the kernel makes its own of it */
		kernel_side_note(stream->kernel, bytes, (size_t)count);
	}
	if ((uint32_t)count > TLS_OUT_BYTES - desk->out_end) {
		stream->error = EAGAIN;
		return -1;
	}
	memcpy(desk->out + desk->out_end, bytes, (size_t)count);
	desk->out_end += (uint32_t)count;
	return count;
}

static bool is_for_later(int error)
{
	return error == EAGAIN || error == EINTR;
}

static int on_read(BIO *bio, char *to, int size)
{
	struct tls_stream *stream = BIO_get_data(bio);
	int count = stream->at_desk ? read_desk(stream, to, size) : read_socket(stream, to, size);
	BIO_clear_retry_flags(bio);
	if (count < 0 && is_for_later(stream->error))
		BIO_set_retry_read(bio);
	return count;
}

static int on_write(BIO *bio, const char *bytes, int count)
{
	struct tls_stream *stream = BIO_get_data(bio);
	int sent = stream->at_desk ? write_desk(stream, bytes, count) : write_socket(stream, bytes, count);
	BIO_clear_retry_flags(bio);
	if (sent < 0 && is_for_later(stream->error))
		BIO_set_retry_write(bio);
	return sent;
}

static long on_control(BIO *bio, int command, long number, void *pointer)
{
	const struct tls_stream *stream = BIO_get_data(bio);
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH || (command == BIO_CTRL_EOF && stream->gone);
}

static BIO_METHOD *new_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "aegis");
	if (!method)
		return NULL;
	BIO_meth_set_read(method, on_read);
	BIO_meth_set_write(method, on_write);
	BIO_meth_set_ctrl(method, on_control);
	return method;
}

int tls_desk_init(struct tls_desk *desk)
{
	*desk = (struct tls_desk){ .in = malloc(TLS_READ_BYTES), .out = malloc(TLS_OUT_BYTES), .method = new_method() };
	if (desk->in && desk->out && desk->method)
		return 0;
	tls_desk_fini(desk);
	return -ENOMEM;
}

void tls_desk_fini(struct tls_desk *desk)
{
	if (desk->in)
		OPENSSL_cleanse(desk->in, TLS_READ_BYTES);
	free(desk->in);
	free(desk->out);
	BIO_meth_free(desk->method);
	*desk = (struct tls_desk){ 0 };
}

/* --- from open to close ------------------------------------------------------------------------------------------------------ */

/* What an earlier call left behind would be taken for the reason of the next failure. */
static void clear_errors(void)
{
	if (unlikely(ERR_peek_error()))
		ERR_clear_error();
}

static void on_alert(const SSL *ssl, int where, int value)
{
	struct tls_stream *stream = BIO_get_data(SSL_get_rbio(ssl));
	if ((value & 0xff) == SSL_AD_CLOSE_NOTIFY)
		return;
	if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT)
		stream->alert = (uint8_t)value;
	else if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT)
		stream->heard = (uint8_t)value;
}

/* A client of TLS 1.3 gets its ticket in front of the first bytes that there are for it, and in the same segment. By itself it is one that
 * a client which only sends does not read: what such a client sent may be lost by the RST that its kernel answers it with. Not put off are
 * tickets with a client's certificate in them, which may not fit beside those bytes, and those of streams that the kernel encrypts from
 * the first byte on. With TLS 1.2 a ticket is a part of the handshake. */
static void put_off_ticket(struct tls_stream *stream)
{
	const struct tls_desk *desk = stream->desk;
	bool may_wait = SSL_is_server(stream->ssl) && SSL_get_verify_mode(stream->ssl) == SSL_VERIFY_NONE &&
	                (desk->kernel_from > 0 || !kernel_is_able(&desk->able));
	stream->owes_ticket = may_wait && SSL_get_num_tickets(stream->ssl) > 0 && SSL_set_num_tickets(stream->ssl, 0) == 1;
}

int tls_stream_open(struct tls_stream *stream, struct tls_desk *desk, struct ssl_st *ssl, int fd)
{
	clear_errors();
	BIO *bio = BIO_new(desk->method);
	*stream = (struct tls_stream){ .desk = desk, .ssl = ssl, .fd = fd };
	if (!bio) {
		tls_stream_close(stream);
		return -ENOMEM;
	}
	BIO_set_data(bio, stream);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_clear_mode(ssl, SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE);
	SSL_set_read_ahead(ssl, 1); /* or each record would be read in two pieces */
	SSL_set_info_callback(ssl, on_alert);
	put_off_ticket(stream);
	int error = unlikely(kernel_is_able(&desk->able)) ? kernel_side_begin(stream) : 0;
	if (error)
		tls_stream_close(stream);
	return error;
}

void tls_stream_close(struct tls_stream *stream)
{
	kernel_side_drop(stream);
	SSL_free(stream->ssl);
	*stream = (struct tls_stream){ 0 };
}

bool tls_stream_is_deserted(const struct tls_stream *stream)
{
	return !stream->at_desk && stream->error && !is_for_later(stream->error);
}

void tls_stream_to_desk(struct tls_stream *stream)
{
	stream->at_desk = true;
	SSL_set_read_ahead(stream->ssl, 0); /* the desk is near, and messages without data are told one by one */
	stream->pending = stream->over || SSL_has_pending(stream->ssl);
}

bool tls_stream_holds(const struct tls_stream *stream)
{
	/* Of a record of which nothing but the head is there, only the state tells. */
	return !stream->over && (SSL_has_pending(stream->ssl) || strcmp(SSL_rstate_string(stream->ssl), "RB") == 0);
}

/* --- moving ------------------------------------------------------------------------------------------------------------------ */

static enum tls_state wants(struct tls_stream *stream, int result)
{
	switch (SSL_get_error(stream->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANTS_INPUT;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANTS_ROOM;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_CLOSED;
	default:
		return TLS_FAILED;
	}
}

enum tls_state tls_stream_handshake(struct tls_stream *stream)
{
	clear_errors();
	int result = SSL_do_handshake(stream->ssl);
	enum tls_state state = result == 1 ? TLS_DONE : wants(stream, result);
	return state == TLS_CLOSED ? TLS_FAILED : state;
}

/* After a read that brought nothing. */
static enum tls_state nothing_read(struct tls_stream *stream)
{
	enum tls_state state = wants(stream, 0);
	if (state == TLS_WANTS_INPUT && stream->starved)
		return state;
	if (state == TLS_WANTS_INPUT && ++stream->messages < SILENT_MESSAGES)
		return TLS_MORE; /* it was a message of the protocol */
	stream->over = true;
	stream->desk->in_at = stream->desk->in_end;
	return state == TLS_CLOSED ? TLS_CLOSED : TLS_FAILED;
}

enum tls_state tls_stream_decrypt(struct tls_stream *stream, char *plain, size_t room, size_t *count)
{
	size_t got;
	*count = 0;
	stream->messages = 0;
	stream->pending = false;
	clear_errors();
	while (*count < room) {
		stream->starved = false;
		if (likely(SSL_read_ex(stream->ssl, plain + *count, room - *count, &got))) {
			*count += got;
			stream->messages = 0;
			continue;
		}
		enum tls_state state = nothing_read(stream);
		if (state != TLS_MORE)
			return state;
	}
	stream->pending = true;
	return TLS_MORE;
}

bool tls_stream_encrypt(struct tls_stream *stream, const char *bytes, size_t count, uint64_t now_ns)
{
	tls_stream_note_time(stream, now_ns);
	if (unlikely(stream->kernel) && stream->burst < stream->desk->kernel_from)
		stream->burst += (uint32_t)count;
	clear_errors();
	if (unlikely(stream->owes_ticket)) {
		stream->owes_ticket = false;
		(void)SSL_new_session_ticket(stream->ssl); /* which the next write sends; with TLS 1.2 nothing */
	}
	while (count > 0) {
		size_t written, most = tls_record_bytes(stream, count);
		if (!SSL_write_ex(stream->ssl, bytes, most, &written))
			return false;
		bytes += written;
		count -= written;
	}
	return true;
}

void tls_stream_end(struct tls_stream *stream)
{
	clear_errors();
	if (SSL_get_shutdown(stream->ssl) & SSL_SENT_SHUTDOWN)
		return;
	if (SSL_shutdown(stream->ssl) < 0)
		clear_errors(); /* it failed before: there is nothing to say any more */
}

void tls_stream_farewell(struct tls_stream *stream)
{
	size_t count;
	if (!stream->at_desk || !SSL_is_init_finished(stream->ssl))
		return;
	tls_stream_end(stream);
	if (stream->in_kernel) {
		int error = tls_stream_say(stream, true);
		(void)error; /* as below */
		return;
	}
	const char *bytes = tls_desk_output(stream->desk, &count);
	if (count > 0 && send(stream->fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return; /* without room, or without anybody there: it will look cut off, as it is */
}

/* --- why it failed ----------------------------------------------------------------------------------------------------------- */

enum tls_failure tls_stream_failure(const struct tls_stream *stream, char *text, size_t size)
{
	enum tls_failure failure = tls_failure_of(stream->ssl, text, size);
	if (stream->gone || tls_stream_is_deserted(stream)) {
		(void)snprintf(text, size, "%s", stream->gone ? "the connection was ended" : strerror(stream->error));
		failure = TLS_FAILURE_TRUNCATED;
	}
	size_t length = strlen(text);
	if (stream->alert)
		(void)snprintf(text + length, size - length, " (alert sent: %s)", SSL_alert_desc_string_long(stream->alert));
	return failure;
}
