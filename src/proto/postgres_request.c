#include "proto/postgres_request.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

enum { SSL_CODE = 0x2f, GSSENC_CODE = 0x30, LENGTH_BYTES = 4, MAJOR_VERSION = 3 };

const uint8_t postgres_ssl_request[POSTGRES_REQUEST_BYTES] = { 0, 0, 0, 8, 0x04, 0xd2, 0x16, SSL_CODE };

/* 'E', a length, and fields that each begin with a letter and end with a NUL; 28000 is invalid_authorization_specification. */
#define FIELDS     \
	"SFATAL\0" \
	"VFATAL\0" \
	"C28000\0" \
	"MTLS is required here: connect with sslmode=verify-full, or require\0"
const char postgres_needs_tls[] = "E\0\0\0\x5e" FIELDS;
const size_t postgres_needs_tls_bytes = sizeof postgres_needs_tls; /* the last NUL ends the fields */
static_assert(sizeof FIELDS + LENGTH_BYTES == 0x5e, "the length is in the message");

static bool begins_with(const uint8_t *bytes, size_t count, const uint8_t *with, size_t length)
{
	return memcmp(bytes, with, count < length ? count : length) == 0;
}

enum postgres_request postgres_request(const void *bytes, size_t count)
{
	static const uint8_t version[] = { 0, MAJOR_VERSION };
	const uint8_t *at = bytes;
	uint8_t code = count < POSTGRES_REQUEST_BYTES ? 0 : at[POSTGRES_REQUEST_BYTES - 1];
	bool may_be_request = begins_with(at, count, postgres_ssl_request, POSTGRES_REQUEST_BYTES - 1);
	bool may_be_startup =
	        at[0] == 0 && (count <= LENGTH_BYTES || begins_with(at + LENGTH_BYTES, count - LENGTH_BYTES, version, sizeof version));
	if (count < POSTGRES_REQUEST_BYTES)
		return may_be_request || may_be_startup ? POSTGRES_MAYBE : POSTGRES_NO_REQUEST;
	if (may_be_request && code == SSL_CODE)
		return POSTGRES_SSL_REQUEST;
	if (may_be_request && code == GSSENC_CODE)
		return POSTGRES_GSSENC_REQUEST;
	return may_be_startup ? POSTGRES_STARTUP : POSTGRES_NO_REQUEST;
}
