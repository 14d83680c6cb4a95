/* The files that the settings of TLS name, as bytes: read with the rights that Aegis was started with, and parsed by who has given these
 * up (tls/vault.h). Nothing in here looks into them.
 */
#ifndef AEGIS_TLS_FILES_H
#define AEGIS_TLS_FILES_H

#include "config/config.h"

enum file_role {
	FILE_CERT, /* of a listener's certificate, as KEY and OCSP */
	FILE_KEY,
	FILE_OCSP,
	FILE_CLIENT_CA, /* of a listener, as LISTENER_CRL */
	FILE_LISTENER_CRL,
	FILE_CA, /* of an upstream, as those that follow */
	FILE_UPSTREAM_CRL,
	FILE_OWN_CERT,
	FILE_OWN_KEY,
	N_FILE_ROLES
};

struct tls_file {
	enum file_role role;
	uint32_t owner; /* listener or upstream */
	uint32_t item;  /* FILE_CERT, FILE_KEY, FILE_OCSP: which of its certificates */
	const char *path;
	unsigned char *bytes; /* NULL where error is not 0 */
	size_t length;
	int error;      /* errno; EISDIR: no regular file, EFBIG: too long, ENODATA: empty */
	uint32_t mode;  /* its permissions */
	uint32_t owned; /* by this user */
};

/* In the order of the settings: of each listener its certificates one after the other, then client_ca and crl; then the upstreams. */
struct tls_files {
	struct tls_file *files;
	size_t n;
};

/* Every file that is named, also those that cannot be read. 0 or -ENOMEM. */
must_check int tls_files_read(const struct config *config, struct tls_files *out);
/* The same without their bytes, for who wants the paths alone, or reads them one by one. */
must_check int tls_files_list(const struct config *config, struct tls_files *out);
void tls_file_read(struct tls_file *file);
/* What was read is overwritten first. */
void tls_files_free(struct tls_files *files);

/* Where in the settings it is: "listeners[0].tls.certificates[2].key", and the file and line of what it is in. Returns out. */
const char *tls_file_setting(const struct tls_file *file, char *out, size_t size);
const char *tls_file_place(const struct config *config, const struct tls_file *file, int *line);

#endif
