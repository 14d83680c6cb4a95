/* Write headers of the PROXY protocol (proxy.h).
 *
 * Both ends are written as IPv4 where both are or are mapped (::ffff:192.0.2.1), and as IPv6 where one of them is. Ends that are not known,
 * or of a family that the version has no word for, are written as LOCAL (version 2) or UNKNOWN (version 1), which servers answer as if the
 * connection were the proxy's own.
 */
#ifndef AEGIS_PROTO_PROXY_WRITE_H
#define AEGIS_PROTO_PROXY_WRITE_H

#include "proto/proxy.h"

/* Version 1. Returns the length; no NUL is written. */
size_t proxy_write_v1(const struct proxy_ends *ends, char out[PROXY_V1_MOST]);

/* Version 2, with a check sum where that is wanted. The length, or -EMSGSIZE when it is more than size, or than a header can be. The
 * TLVs have none of type PROXY_TLV_CRC32C. size of PROXY_V2_BARE_MOST is always enough without TLVs and check sum. */
must_check int proxy_write_v2(
        const struct proxy_ends *ends, const struct proxy_tlv *tlvs, size_t n, bool check_sum, void *out, size_t size);

#endif
