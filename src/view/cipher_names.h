/* The ciphers of TLS by their numbers (the registry of RFC 8446 and RFC 5246), in the words of OpenSSL: so that a worker tells a number,
 * and programs that know nothing of OpenSSL a name.
 */
#ifndef AEGIS_VIEW_CIPHER_NAMES_H
#define AEGIS_VIEW_CIPHER_NAMES_H

#include <stddef.h>
#include <stdint.h>

enum { CIPHER_NAME_SIZE = 40 };

/* "TLS_AES_128_GCM_SHA256"; one that is not among those which anybody speaks is "0xC0AC". Returns out. */
const char *cipher_name(uint16_t number, char *out, size_t size);

#endif
