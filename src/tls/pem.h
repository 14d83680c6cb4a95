/* Certificates, keys, revocation lists and OCSP answers, from the bytes of files. Private to src/tls. */
#ifndef AEGIS_TLS_PEM_H
#define AEGIS_TLS_PEM_H

#include "base/attr.h"
#include "tls/openssl.h"

/* All certificates in the text, in its order; at least one. NULL with *why, a piece of a sentence. */
STACK_OF(X509) * pem_certificates(const unsigned char *bytes, size_t length, const char **why);
/* The private key in it; like is the certificate that it should belong to (NULL: unknown), which spares the search among all kinds of keys.
 * NULL with *why. */
EVP_PKEY *pem_key(const unsigned char *bytes, size_t length, X509 *like, const char **why);
/* All revocation lists, at least one. NULL with *why. */
STACK_OF(X509_CRL) * pem_crls(const unsigned char *bytes, size_t length, const char **why);
/* An OCSP answer (DER) for this certificate by this issuer (NULL: unknown): when it ends, seconds since 1970, or -1 with *why. One that
 * says something else than that the certificate is good has a *why, too; NULL otherwise. */
int64_t pem_ocsp(const unsigned char *bytes, size_t length, X509 *leaf, X509 *issuer, const char **why);
/* Seconds since 1970; what is beyond reckoning is the end of time. */
int64_t pem_time(const ASN1_TIME *time);
/* One certificate of DER, and *at behind it; NULL where there is none. */
X509 *pem_next(const unsigned char **at, const unsigned char *end);

#endif
