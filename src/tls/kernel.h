/* TLS in the kernel (kTLS), as sockets have it: what it can do here, and giving it keys. Of what is sent alone: what is received OpenSSL
 * decrypts. Nothing here knows OpenSSL.
 *
 * Process: a worker; "aegis -V". With its keys a socket turns what is written to it into records by itself, each write into records of its
 * own. That cannot be undone as long as the socket lives.
 */
#ifndef AEGIS_TLS_KERNEL_H
#define AEGIS_TLS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum kernel_cipher { KERNEL_AES_128_GCM, KERNEL_AES_256_GCM, KERNEL_CHACHA20_POLY1305, N_KERNEL_CIPHERS };

/* Bits: 1 << enum kernel_cipher. With TLS 1.3 either end may ask for new keys at any time, so that tls13 has what can also take those. */
struct kernel_ability {
	uint8_t tls12, tls13;
};
static inline bool kernel_is_able(const struct kernel_ability *ability)
{
	return ability->tls12 || ability->tls13;
}

/* Tried out with connections over the loopback, once for each cipher. A kernel that tells that it has no TLS is not asked: root's asking
 * might load its module. root is "" outside of tests, see os/machine.h. */
struct kernel_ability kernel_probe(const char *root);
/* For people: "yes: TLS 1.2 and 1.3", or why not. Returns text. */
const char *kernel_ability_text(const struct kernel_ability *ability, char *text, size_t size);

struct kernel_keys {
	bool is_tls13;
	enum kernel_cipher cipher;
	unsigned char key[32]; /* 16 of them with AES-128 */
	unsigned char iv[12];  /* AES-GCM with TLS 1.2: 4 of the handshake, and the next record's own 8 */
	uint64_t sequence;     /* of the next record */
};
/* What a record adds to its bytes. */
size_t kernel_record_extra(const struct kernel_keys *keys);

/* From now on the socket makes records. 0 or a negative errno; then it is as it was. */
must_check int kernel_take_over(int fd, const struct kernel_keys *keys);
/* Other keys, TLS 1.3 alone. 0 or a negative errno. */
must_check int kernel_change_keys(int fd, const struct kernel_keys *keys);
/* The number of the next record. 0 or a negative errno. */
must_check int kernel_sequence(int fd, const struct kernel_keys *keys, uint64_t *out);
/* A record of another type than data. 0, -EAGAIN when there is no room, or another negative errno. */
must_check int kernel_send_control(int fd, unsigned char type, const void *bytes, size_t count);
/* How many bytes, records as they are, TCP has of a connection since it began, and how many of them the peer does not have yet. 0,
 * -EAGAIN when that changes too fast to be told, or another negative errno. */
must_check int kernel_sent_bytes(int fd, uint64_t *all, uint64_t *unacknowledged);

#endif
