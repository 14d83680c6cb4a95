/* Read a header of the PROXY protocol (proxy.h), strictly by its specification.
 *
 * Pure: what it says depends on the bytes alone, which are the first ones of a connection, as many as there are. The caller keeps them, and
 * asks again with more of them while more are needed; what can never become a header is refused with the first byte that shows it. Bytes
 * behind the header are not looked at.
 *
 * Stricter than other readers, as the specification demands: one space between words, no leading zeros, addresses of the family that is
 * told, no undefined command, family or transport, TLVs that fill their place exactly (or zeros as padding), a check sum that is right, in
 * a header that speaks for somebody. A header that speaks for nobody (LOCAL) may have anything behind its first 16 bytes.
 *
 * Bounded: a line of version 1 has PROXY_V1_MOST bytes at most; behind the first 16 bytes of version 2 there are PROXY_V2_BODY_MOST at
 * most, though the specification has 65535: no sender is known that has a use for more than some hundred.
 */
#ifndef AEGIS_PROTO_PROXY_READ_H
#define AEGIS_PROTO_PROXY_READ_H

#include "proto/proxy.h"

enum { PROXY_V2_BODY_MOST = 4096, PROXY_HEADER_MOST = PROXY_V2_HEAD + PROXY_V2_BODY_MOST };

enum proxy_verdict { PROXY_NEED_MORE, PROXY_GOOD, PROXY_BAD };

struct proxy_header {
	int version;   /* 1 or 2 */
	size_t length; /* of all of it */
	struct proxy_ends ends;
	const uint8_t *tlvs; /* where they are in what was read; well-formed, to be had one by one from proxy_next_tlv() */
	size_t tlvs_length;
};

/* datagrams: what the listener takes; ends of the other kind are refused. On PROXY_GOOD *out; on PROXY_BAD *why, what is wrong with it, the
 * rest of a sentence. Nothing else is touched. */
must_check enum proxy_verdict proxy_read(const void *bytes, size_t count, bool datagrams, struct proxy_header *out, const char **why);

/* Could this be the beginning of a header? Of what is none the first byte nearly always shows it. */
bool proxy_may_begin(const void *bytes, size_t count);

/* The TLV at *at, which goes on to the next one; false at the end, or where none stands. */
bool proxy_next_tlv(const uint8_t **at, const uint8_t *end, struct proxy_tlv *out);
/* The first one of a type; false where there is none. */
bool proxy_find_tlv(const struct proxy_header *header, uint8_t type, struct proxy_tlv *out);

/* What PROXY_TLV_SSL says: of the connection that the client made to the proxy. */
struct proxy_ssl {
	uint8_t flags;       /* enum proxy_ssl_flag */
	bool verified;       /* the client sent a certificate, and it is good */
	const uint8_t *tlvs; /* of enum proxy_ssl_type */
	const uint8_t *end;
};
/* False where it is malformed, which proxy_read() refuses. */
must_check bool proxy_read_ssl(const struct proxy_tlv *tlv, struct proxy_ssl *out);

#endif
