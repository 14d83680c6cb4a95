/* What both sides of TLS offer: versions, ciphers, groups, and what is switched off for good. */
#ifndef AEGIS_TLS_OFFER_H
#define AEGIS_TLS_OFFER_H

#include "config/config.h"
#include "tls/openssl.h"

/* A context with all that does not depend on certificates. 0 and *out, or -EINVAL and why ("ciphers: ..."), or -ENOMEM. */
must_check int offer_context(const struct tls_offer_config *offer, bool server, SSL_CTX **out, char *why, size_t size);

/* "h2,http/1.1" as the wire has it: each with its length before it. Returns how many bytes; out has room for strlen(alpn) + 1. */
size_t offer_alpn(const char *alpn, unsigned char *out);

#endif
