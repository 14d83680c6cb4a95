/* What the files share that build a vault: build.c (listeners, upstreams, and all of it), build_certificates.c (what the settings name) and
 * build_findings.c (the files one by one, and what is wrong with them). Private to these.
 *
 * What is wrong is told, and building goes on: nobody wants to learn of his mistakes one by one.
 */
#ifndef AEGIS_TLS_BUILD_OWN_H
#define AEGIS_TLS_BUILD_OWN_H

#include "tls/build.h"
#include "tls/name_table.h"
#include "tls/openssl.h"

struct build {
	const struct config *config;
	const struct tls_files *files;
	size_t next; /* of the files */
	int64_t now_s;
	struct vault_findings *findings;
	struct heap heap;
	SSL_CTX *trial;    /* to find out whether OpenSSL will take a pair */
	uint32_t listener; /* the one that is being built */
	unsigned n_twice;
	size_t first_fact; /* of the listener */
};

/* Tell of a mistake, or of something that may be one, where in the settings the file is named. */
void build_say(struct build *build, bool warning, const struct tls_file *file, const char *format, ...) printf_like(4, 5);
#define wrong(build, file, ...) build_say(build, false, file, __VA_ARGS__)
#define warn(build, file, ...) build_say(build, true, file, __VA_ARGS__)

/* The next file, where it is this one; else NULL: the settings do not name it. That it cannot be read is told. */
const struct tls_file *build_take(struct build *build, enum file_role role, uint32_t owner, uint32_t item);

/* A certificate of the listener that is being built: its names are added, and what is known of it. */
void build_certificate(struct build *build, uint32_t item, struct own_names *names, struct vault_certificate *out);
/* A certificate with its key. False when it is of no use; then it was told why. */
bool build_pair(struct build *build, const struct tls_file *cert, const struct tls_file *key_file, STACK_OF(X509) * certificates,
        struct vault_certificate *out);
/* Those who may vouch for the other side, and the lists of what they have revoked; empty where there is no file, or it is of no use. */
struct vault_span build_ca(struct build *build, const struct tls_file *file);
struct vault_span build_crls(struct build *build, const struct tls_file *file);

#endif
