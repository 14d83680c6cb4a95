/* All certificates and keys of some settings in one piece of memory, checked and indexed: what vault_build() makes once, without rights,
 * and what all workers share. It is a file without a name (memfd), sealed, so that it costs its size once, and nobody can change it under a
 * worker. Certificates are in it as DER and parsed by a worker when a client asks for their name; to find that name takes no parsing.
 *
 * Process: the child of the master that reads the files writes one (master/keys.h); the master holds the descriptor and never looks inside;
 *          workers map it, and check all places in it before they follow one.
 * Layout:  a header, then arrays and bytes; every reference is an offset from the start of the header and a length.
 */
#ifndef AEGIS_TLS_VAULT_H
#define AEGIS_TLS_VAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "config/config.h"

enum { VAULT_DIGEST_BYTES = 32, VAULT_NAME_SIZE = 256 };

/* Of keys. A name may have one certificate of each. */
enum vault_kind { VAULT_ECDSA, VAULT_RSA, VAULT_OTHER, N_VAULT_KINDS };

struct vault_span {
	uint64_t offset, length; /* length: bytes, or elements of an array */
};

struct vault_certificate {
	struct vault_span leaf, chain, key; /* DER; of the chain one certificate after the other */
	struct vault_span ocsp;             /* length 0 = none */
	struct vault_span label;            /* its first name, for people */
	int64_t not_before, not_after;      /* seconds since 1970 */
	int64_t ocsp_until;                 /* the same; the answer is not passed on from then on */
	uint64_t kind;
};

/* A place of the table of a listener's names; one with no name is empty. */
struct vault_name {
	uint64_t hash;
	struct vault_span name;              /* lower case; "*.example.org" for a wildcard */
	uint32_t certificate[N_VAULT_KINDS]; /* number among those of the listener, plus one; 0 = none */
	uint32_t unused;
};

struct vault_listener {
	struct vault_span certificates; /* struct vault_certificate[] */
	struct vault_span names;        /* struct vault_name[], a power of two, or none */
	struct vault_span client_ca;    /* DER, one after the other */
	struct vault_span crls;
	uint32_t fallback[N_VAULT_KINDS]; /* as in struct vault_name: for clients that ask for no name, or for one that is not here */
	uint32_t unused;
	unsigned char trust[VAULT_DIGEST_BYTES]; /* of client_ca and crls: a session that began under others is not resumed */
};

struct vault_upstream {
	struct vault_span ca, crls;
	struct vault_span own; /* struct vault_certificate[], one or none */
};

struct vault_header {
	uint64_t magic;
	uint64_t size;
	struct vault_span listeners, upstreams;   /* struct vault_listener[], struct vault_upstream[], as in the settings */
	unsigned char digest[VAULT_DIGEST_BYTES]; /* of all that was read: the same files make the same */
};

/* One that is mapped. */
struct vault {
	const struct vault_header *header;
	size_t size;
};

/* Map the descriptor, which stays the caller's, for settings with so many listeners and upstreams. 0 and *out, or a negative errno
 * (-EINVAL: it is no vault, or not of these settings). */
must_check int vault_map(int fd, size_t n_listeners, size_t n_upstreams, struct vault *out);
void vault_unmap(struct vault *vault);

const struct vault_listener *vault_listener(const struct vault *vault, uint32_t listener);
const struct vault_upstream *vault_upstream(const struct vault *vault, uint32_t upstream);
const struct vault_certificate *vault_certificates(const struct vault *vault, const struct vault_span *span);
static inline const unsigned char *vault_bytes(const struct vault *vault, const struct vault_span *span)
{
	return (const unsigned char *)vault->header + span->offset;
}

/* The certificates for a name that a client asked for: the exact one, else a wildcard for its first label, else the fallback. Each is a
 * number among those of the listener plus one, 0 = none of this kind. *known tells whether the name is there. */
const uint32_t *vault_find(const struct vault *vault, const struct vault_listener *listener, const char *name, size_t length, bool *known);

/* The place of a name in a table of count places (a power of two, one of them empty at least): where it is, or the empty one where it would
 * be. base is what offsets count from. The name is in lower case. */
size_t vault_place(const struct vault_name *names, uint64_t count, const void *base, const char *name, size_t length, uint64_t *hash);

#endif
