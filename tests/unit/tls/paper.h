/* Certificates, keys and what belongs to them, made for a test and written into a directory of its own. Keys are of P-256 unless it is said
 * otherwise, which takes no time. */
#ifndef AEGIS_TESTS_PAPER_H
#define AEGIS_TESTS_PAPER_H

#include "../os/scratch.h"
#include "config/config.h"
#include "tls/openssl.h"

struct paper {
	X509 *cert;
	EVP_PKEY *key;
};

/* What a certificate is to say; NULL and 0 = nothing special. */
struct paper_wish {
	const char *name;           /* common name */
	const char *alternatives;   /* as in openssl's configuration: "DNS:a.example.org,DNS:*.b.example.org" */
	const struct paper *issuer; /* NULL = itself */
	bool ca;
	unsigned rsa_bits;    /* 0 = P-256 */
	long from_s, until_s; /* from now; 0 = an hour ago, a day hence */
	long serial;
};

struct paper paper_make(const struct paper_wish *wish);
void paper_free(struct paper *paper);

/* Files in PEM: a certificate with what follows it in the chain (NULL = nothing); a key, mode 0600. */
void paper_write_cert(struct scratch *scratch, const char *file, const struct paper *paper, const struct paper *next);
void paper_write_key(struct scratch *scratch, const char *file, const struct paper *paper);
/* A revocation list with one serial number in it (0 = none), good until from now. */
void paper_write_crl(struct scratch *scratch, const char *file, const struct paper *ca, long serial, long until_s);
/* An OCSP answer (DER) that says this of the certificate (V_OCSP_CERTSTATUS_...), which it names by this hash, until from now. */
void paper_write_ocsp(struct scratch *scratch, const char *file, const struct paper *ca, const struct paper *about, int status,
        const EVP_MD *hash, long until_s);

/* Settings from a text in which "%" stands for the directory. The caller's; the test fails where they are not valid. */
struct config *paper_settings(struct scratch *scratch, const char *text);

#endif
