/* One connection with TLS: its handshake, and then turning bytes into records and records into bytes. Nothing here waits.
 *
 * Process: a worker. Owner: the session; struct tls_desk is what all streams of a worker share.
 * States:  at the socket  from tls_stream_open() on: it reads and writes the socket by itself, for the handshake
 *          at the desk    from tls_stream_to_desk() on: the owner puts what it received onto the desk and sends what it finds there.
 * Between two calls of its owner the desk is empty, so that all streams can share it, and an idle stream holds no buffer. over after CLOSED
 * or FAILED: nothing more is read. What a peer may have sent behind its handshake stays inside the stream; see `pending`.
 *
 * in_kernel, after tls_stream_to_kernel(): what is sent the kernel encrypts (kTLS), for good. What is received is decrypted as before. Then
 * tls_stream_send() takes the place of tls_stream_encrypt(), and alerts and answers to key updates are sent by tls_stream_say() and not
 * found on the desk.
 *
 * A stream begins at the first byte that its socket has to give: who reads something before it (a PROXY header, a name in a ClientHello)
 * takes from the socket just what is his own, and only peeks at the rest.
 */
#ifndef AEGIS_TLS_STREAM_H
#define AEGIS_TLS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/clock.h"
#include "tls/kernel.h"
#include "tls/tls.h"

struct bio_method_st; /* of OpenSSL */
struct kernel_side;

/* What a record adds to its bytes at most, and the most bytes in one. */
enum { TLS_RECORD_BYTES = 16 * 1024, TLS_RECORD_EXTRA = 320 };
/* What OpenSSL has of a session that is idle, about. */
enum { TLS_SESSION_BYTES = 14 * 1024 };
/* The desk: what can be decrypted at a time, with what a stream may hold of a record before it, gives at most TLS_PLAIN_BYTES; what can be
 * encrypted at a time fits into as much. */
enum {
	TLS_PLAIN_BYTES = 64 * 1024,
	TLS_READ_BYTES = TLS_PLAIN_BYTES - TLS_RECORD_BYTES - 2048,
	TLS_WRITE_BYTES = TLS_PLAIN_BYTES - 2048, /* there is room for a ticket, too */
	TLS_OUT_BYTES = 2 * TLS_PLAIN_BYTES
};

struct tls_desk {
	char *in, *out; /* TLS_READ_BYTES, TLS_OUT_BYTES */
	uint32_t in_at, in_end, out_end;
	struct bio_method_st *method;
	/* Set by the owner before the first stream: what the kernel is able to take over, and from how many bytes in a row it does. */
	struct kernel_ability able;
	uint64_t kernel_from;
};

/* 0 or a negative errno. */
must_check int tls_desk_init(struct tls_desk *desk);
void tls_desk_fini(struct tls_desk *desk);

enum tls_state {
	TLS_DONE,        /* the handshake is over */
	TLS_WANTS_INPUT, /* when the socket has more to read */
	TLS_WANTS_ROOM,  /* when the socket takes more */
	TLS_MORE,        /* there was no room for all: call again */
	TLS_CLOSED,      /* the peer said that nothing more comes (close_notify) */
	TLS_FAILED       /* for good: see tls_stream_failure() */
};

struct tls_stream {
	struct tls_desk *desk;
	struct ssl_st *ssl;
	int fd;
	int error;        /* errno of the socket */
	bool at_desk : 1; /* else at the socket */
	bool drained : 1; /* at the socket: the last read took all that there was */
	bool gone : 1;    /* at the socket: its end was read */
	bool starved : 1; /* asked for input that was not there */
	bool pending : 1; /* at the desk: it may have something to decrypt though nothing was received */
	bool over : 1;    /* nothing more can be read */
	bool hushed : 1;  /* for the relay: not to be read until what it is owed is sent */
	bool in_kernel : 1;
	bool owes_ticket : 1;       /* the client gets it with the first bytes */
	uint8_t alert;              /* the last one that was sent, 0 = none; close_notify does not count */
	uint8_t heard;              /* the last one that came, the same */
	uint8_t messages;           /* without data, in a row */
	uint32_t written;           /* bytes since it was silent, up to where records are whole */
	uint32_t burst;             /* bytes since it was silent; only while the kernel may take over */
	uint64_t wrote_ns;          /* when it wrote last */
	struct kernel_side *kernel; /* NULL: the kernel will not take over */
};

/* After a silence the first records are small: whoever is far away can use each as it comes, while one of 16 kB is of no use before all of
 * it is there, which takes a round trip more at first. */
enum { TLS_SMALL_RECORD = 1360, TLS_SMALL_UNTIL = 16 * 1024 };
#define TLS_SILENCE_NS NS_PER_S
/* It writes now. */
static inline void tls_stream_note_time(struct tls_stream *stream, uint64_t now_ns)
{
	if (now_ns - stream->wrote_ns >= TLS_SILENCE_NS)
		stream->written = stream->burst = 0;
	stream->wrote_ns = now_ns;
}
/* How much of it the next record takes. */
static inline size_t tls_record_bytes(struct tls_stream *stream, size_t count)
{
	if (likely(stream->written >= TLS_SMALL_UNTIL))
		return count;
	size_t most = count < TLS_SMALL_RECORD ? count : TLS_SMALL_RECORD;
	stream->written += (uint32_t)most;
	return most;
}

/* ssl becomes the stream's, also on error: it has the settings of its listener or server, and knows which end it is (accept or connect
 * state). fd stays the caller's. 0 or -ENOMEM. */
must_check int tls_stream_open(struct tls_stream *stream, struct tls_desk *desk, struct ssl_st *ssl, int fd);
/* May be called for one that is all zero. */
void tls_stream_close(struct tls_stream *stream);

/* Go on with the handshake: DONE, WANTS_INPUT, WANTS_ROOM or FAILED; then the alert that is due has been sent. */
must_check enum tls_state tls_stream_handshake(struct tls_stream *stream);
/* Why it FAILED: takes the thread's queue of errors. text says it for people, with the alert that was sent. */
enum tls_failure tls_stream_failure(const struct tls_stream *stream, char *text, size_t size);

/* At the socket: was the peer gone already when the last of the handshake was sent? What it sent before can still be read. */
must_check bool tls_stream_is_deserted(const struct tls_stream *stream);

/* The handshake is over: from now on its owner reads and writes the socket. */
void tls_stream_to_desk(struct tls_stream *stream);
/* Decrypt what lies on the desk, all of it: *count bytes, which may be 0, with any of WANTS_INPUT, MORE, CLOSED and FAILED. room is at
 * least TLS_RECORD_BYTES. What is to be sent to the peer (an alert, an answer to a key update) is on the desk. */
must_check enum tls_state tls_stream_decrypt(struct tls_stream *stream, char *plain, size_t room, size_t *count);
/* Encrypt bytes (at most TLS_WRITE_BYTES) onto the desk. False when that cannot be. */
must_check bool tls_stream_encrypt(struct tls_stream *stream, const char *bytes, size_t count, uint64_t now_ns);
/* Say that nothing more comes: close_notify, onto the desk. */
void tls_stream_end(struct tls_stream *stream);
/* The connection is about to be closed in good order: send a close_notify, if it was not and there is room. */
void tls_stream_farewell(struct tls_stream *stream);
/* Does it hold a part of a record, or bytes that were not taken? */
must_check bool tls_stream_holds(const struct tls_stream *stream);

/* Is it to be tried whether the kernel takes over? */
static inline bool tls_stream_wants_kernel(const struct tls_stream *stream)
{
	return stream->kernel && !stream->in_kernel && stream->burst >= stream->desk->kernel_from;
}
/* Nothing that was made into records is still to be sent. False: it does not, and all is as it was; it will not be asked again. */
must_check bool tls_stream_to_kernel(struct tls_stream *stream);
/* In the kernel: how many of the bytes the socket took, or -1 and errno. EAGAIN as with any socket. */
must_check ssize_t tls_stream_send(struct tls_stream *stream, const char *bytes, size_t count, uint64_t now_ns);
/* In the kernel: send what is due of the protocol's own. last_words: alerts, too, for nothing is owed that comes before them. 0, -EAGAIN
 * when there is no room, or another negative errno: it does not go on. */
must_check int tls_stream_say(struct tls_stream *stream, bool last_words);
/* In the kernel: how many bytes were taken and not yet passed on to TCP, or a negative errno: nobody takes them any more. They would be
 * gone when the socket is closed, and a FIN would overtake them. No event tells when they are on their way: *look_again_ns is a good time
 * to ask again. */
must_check int tls_stream_held(struct tls_stream *stream, uint64_t now_ns, uint64_t *look_again_ns);

/* Take what lies on the desk to be sent: until the next call of any stream. */
static inline const char *tls_desk_output(struct tls_desk *desk, size_t *count)
{
	*count = desk->out_end;
	desk->out_end = 0;
	return desk->out;
}

#endif
