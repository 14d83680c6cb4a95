/* What clients of PostgreSQL say before TLS (frontend/backend protocol 3.0, "SSL Session Encryption" and "Message Formats"): a request of 8
 * bytes, answered by one byte, after which the hello of TLS follows or does not. Pure. */
#ifndef AEGIS_PROTO_POSTGRES_REQUEST_H
#define AEGIS_PROTO_POSTGRES_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum { POSTGRES_REQUEST_BYTES = 8 };
enum { POSTGRES_GRANTED = 'S', POSTGRES_DECLINED = 'N' }; /* the answer */

enum postgres_request {
	POSTGRES_NO_REQUEST, /* something else */
	POSTGRES_MAYBE,      /* too few bytes to say */
	POSTGRES_SSL_REQUEST,
	POSTGRES_GSSENC_REQUEST,
	POSTGRES_STARTUP /* it goes on without encryption */
};
must_check enum postgres_request postgres_request(const void *bytes, size_t count);
extern const uint8_t postgres_ssl_request[POSTGRES_REQUEST_BYTES];

/* To a client that goes on without: an error of the server's, which it shows to its user. */
extern const char postgres_needs_tls[];
extern const size_t postgres_needs_tls_bytes;

#endif
