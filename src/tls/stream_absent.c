/* Built without OpenSSL: there are no streams, so nothing of this is ever called, but for the desk's own end. */
#include <errno.h>

#include "tls/stream.h"

int tls_desk_init(struct tls_desk *desk)
{
	(void)desk;
	return -ENOSYS;
}

void tls_desk_fini(struct tls_desk *desk)
{
	(void)desk;
}

int tls_stream_open(struct tls_stream *stream, struct tls_desk *desk, struct ssl_st *ssl, int fd)
{
	(void)stream;
	(void)desk;
	(void)ssl;
	(void)fd;
	return -ENOSYS;
}

void tls_stream_close(struct tls_stream *stream)
{
	(void)stream;
}

enum tls_state tls_stream_handshake(struct tls_stream *stream)
{
	(void)stream;
	return TLS_FAILED;
}

enum tls_failure tls_stream_failure(const struct tls_stream *stream, char *text, size_t size)
{
	return tls_failure_of(stream->ssl, text, size);
}

bool tls_stream_is_deserted(const struct tls_stream *stream)
{
	(void)stream;
	return false;
}

void tls_stream_to_desk(struct tls_stream *stream)
{
	(void)stream;
}

enum tls_state tls_stream_decrypt(struct tls_stream *stream, char *plain, size_t room, size_t *count)
{
	(void)stream;
	(void)plain;
	(void)room;
	*count = 0;
	return TLS_FAILED;
}

bool tls_stream_encrypt(struct tls_stream *stream, const char *bytes, size_t count, uint64_t now_ns)
{
	(void)stream;
	(void)bytes;
	(void)count;
	(void)now_ns;
	return false;
}

void tls_stream_end(struct tls_stream *stream)
{
	(void)stream;
}

void tls_stream_farewell(struct tls_stream *stream)
{
	(void)stream;
}

bool tls_stream_holds(const struct tls_stream *stream)
{
	(void)stream;
	return false;
}

bool tls_stream_to_kernel(struct tls_stream *stream)
{
	(void)stream;
	return false;
}

ssize_t tls_stream_send(struct tls_stream *stream, const char *bytes, size_t count, uint64_t now_ns)
{
	(void)stream;
	(void)bytes;
	(void)count;
	(void)now_ns;
	errno = ENOSYS;
	return -1;
}

int tls_stream_say(struct tls_stream *stream, bool last_words)
{
	(void)stream;
	(void)last_words;
	return -ENOSYS;
}

int tls_stream_held(struct tls_stream *stream, uint64_t now_ns, uint64_t *look_again_ns)
{
	(void)stream;
	(void)now_ns;
	(void)look_again_ns;
	return 0;
}
