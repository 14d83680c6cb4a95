/* The names of a certificate that clients can ask for. Private to the files that build a vault. */
#ifndef AEGIS_TLS_BUILD_NAMES_H
#define AEGIS_TLS_BUILD_NAMES_H

#include "tls/name_table.h"
#include "tls/openssl.h"

/* DNS names of the certificate, else its common name: they are added. Returns the first one, for people: a copy in out, "" where there is
 * none. */
const char *own_names_gather(
        struct own_names *names, struct heap *heap, X509 *leaf, uint32_t certificate, enum vault_kind kind, char *out, size_t size);

#endif
