/* What a stream needs so that the kernel can take over what it sends (see stream.h), and what is under way then. Private to src/tls.
 *
 * Process: a worker. Owner: the stream. Only where the kernel is able, and until it is tried in vain.
 * The keys are derived here, from the traffic secret (TLS 1.3: OpenSSL tells it for the log of keys) or the master secret (TLS 1.2), when
 * the kernel is to have them. OpenSSL could do it by itself (SSL_OP_ENABLE_KTLS), where it is built so; but not at any time, not with new
 * keys, and by a structure that it keeps to itself. So it does not know: what it still wants to say then (alerts, key updates) is seen in
 * clear and made again as a record of the kernel's, and its own record is dropped.
 */
#ifndef AEGIS_TLS_KERNEL_SIDE_H
#define AEGIS_TLS_KERNEL_SIDE_H

#include "tls/kernel.h"
#include "tls/openssl.h"
#include "tls/stream.h"

struct kernel_side {
	unsigned char secret[EVP_MAX_MD_SIZE]; /* TLS 1.3: of what we send */
	size_t secret_length;                  /* 0 = not known */
	uint64_t records;                      /* sent with the key in use, by OpenSSL */
	uint64_t nonce;                        /* TLS 1.2 with AES-GCM: of the last record that was seen, 0 = none */
	/* While the kernel has it. */
	struct kernel_keys keys; /* but for the key itself */
	bool update_due;         /* a KeyUpdate is to be sent, and new keys from then on */
	bool alert_due;
	unsigned char alert[2];
	uint64_t before, given, made;  /* bytes of the connection until then; given to the kernel; records made with earlier keys */
	uint64_t held, unacknowledged; /* at the last look, see tls_stream_held() */
	uint64_t moved_ns;             /* when they changed last */
};

/* Begin before the handshake. 0 or -ENOMEM. */
must_check int kernel_side_begin(struct tls_stream *stream);
void kernel_side_drop(struct tls_stream *stream);
/* Every record that OpenSSL sends at the desk. */
void kernel_side_note(struct kernel_side *side, const char *record, size_t count);
/* A session of the context is about to begin. Of TLS 1.3 it can only be taken over when its secret was told, which costs OpenSSL some 15 us
 * (it writes all secrets as text): so they are told only `always`, or to the next ones after one that carried bulk. interest is the
 * context's own, counts them, and lives as long as its sessions. */
enum { KERNEL_INTEREST = 16 };
void kernel_side_expect(SSL_CTX *ctx, unsigned *interest, bool always);

/* The keys for the next record. False: not of a kind that the kernel is able to take. */
must_check bool kernel_keys_derive(SSL *ssl, const struct kernel_side *side, const struct kernel_ability *ability, struct kernel_keys *out);
/* The secret after this one (RFC 8446, 7.2). */
must_check bool kernel_secret_renew(SSL *ssl, struct kernel_side *side);

#endif
