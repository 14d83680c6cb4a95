/* Certificates with their keys and OCSP answers, authorities, and lists of what was revoked: parsed, checked, and put into the vault. */
#include <stdio.h>
#include <time.h>

#include "base/text.h"
#include "tls/build_names.h"
#include "tls/build_own.h"
#include "tls/pem.h"

enum { DAY_S = 86400, SOON_DAYS = 14 };

static const char *day_of(int64_t time_s, char *out, size_t size)
{
	time_t time = (time_t)time_s;
	struct tm tm;

	if (!gmtime_r(&time, &tm) || strftime(out, size, "%Y-%m-%d %H:%M UTC", &tm) == 0)
		(void)snprintf(out, size, "in a far time");
	return out;
}

/* --- a pair ---------------------------------------------------------------------------------------------------------------- */

static enum vault_kind kind_of(EVP_PKEY *key)
{
	int id = EVP_PKEY_get_base_id(key);
	return id == EVP_PKEY_EC ? VAULT_ECDSA : id == EVP_PKEY_RSA || id == EVP_PKEY_RSA_PSS ? VAULT_RSA : VAULT_OTHER;
}

static void check_key_file(struct build *build, const struct tls_file *file)
{
	if ((file->mode & 07) != 0)
		wrong(build, file, "everybody on this machine may use this private key (mode %04o); chmod o= it, and think of a new key",
		        (unsigned)file->mode);
}

static void check_dates(struct build *build, const struct tls_file *file, X509 *leaf)
{
	int64_t from = pem_time(X509_get0_notBefore(leaf)), until = pem_time(X509_get0_notAfter(leaf));
	char day[64];

	if (until <= build->now_s)
		warn(build, file, "the certificate expired on %s; renew it", day_of(until, day, sizeof day));
	else if (until - build->now_s < SOON_DAYS * DAY_S)
		warn(build, file, "the certificate expires on %s; renew it", day_of(until, day, sizeof day));
	if (from > build->now_s)
		warn(build, file, "the certificate is not good before %s; is the clock right?", day_of(from, day, sizeof day));
}

/* By its name, and by its key: an authority may have had others under the same name. */
static bool is_signed_by(X509 *one, X509 *next)
{
	bool same =
	        X509_NAME_cmp(X509_get_issuer_name(one), X509_get_subject_name(next)) == 0 && X509_verify(one, X509_get0_pubkey(next)) != 0;

	ERR_clear_error(); /* what OpenSSL cannot verify is for clients to judge */
	return same;
}

/* Each certificate must be signed by the one that follows it. */
static void check_order(struct build *build, const struct tls_file *file, STACK_OF(X509) * certificates)
{
	for (int i = 0; i + 1 < sk_X509_num(certificates); i++) {
		if (is_signed_by(sk_X509_value(certificates, i), sk_X509_value(certificates, i + 1)))
			continue;
		wrong(build, file,
		        "certificate %d in it is not the one that signed certificate %d; write the server's own first, then each that "
		        "signed the one "
		        "before it",
		        i + 2, i + 1);
		return;
	}
}

static const char *why_refused(void)
{
	unsigned long error = ERR_peek_error();
	int reason = ERR_GET_REASON(error);

	if (ERR_GET_LIB(error) == ERR_LIB_X509 || (ERR_GET_LIB(error) == ERR_LIB_EVP && reason == EVP_R_DIFFERENT_KEY_TYPES) ||
	        reason == SSL_R_PRIVATE_KEY_MISMATCH)
		return "it is not the key of the certificate";
	if (reason == SSL_R_EE_KEY_TOO_SMALL || reason == SSL_R_CA_KEY_TOO_SMALL)
		return "a key of the certificate or of its chain is too short; use RSA with 2048 bits or ECDSA with P-256";
	if (reason == SSL_R_CA_MD_TOO_WEAK)
		return "the certificate or its chain is signed with a weak hash; use SHA-256";
	const char *text = ERR_reason_error_string(error);
	return text ? text : "OpenSSL does not take it";
}

/* Would a handshake take it? */
static bool is_taken(struct build *build, const struct tls_file *file, STACK_OF(X509) * certificates, EVP_PKEY *key)
{
	X509 *leaf = sk_X509_value(certificates, 0);
	STACK_OF(X509) *chain = sk_X509_dup(certificates);

	ensure(chain);
	(void)sk_X509_shift(chain);
	bool taken = SSL_CTX_use_cert_and_key(build->trial, leaf, key, chain, 1) == 1;
	if (!taken)
		wrong(build, file, "%s", why_refused());
	sk_X509_free(chain);
	ERR_clear_error();
	return taken;
}

static struct vault_span put_chain(struct build *build, STACK_OF(X509) * certificates, int from)
{
	struct vault_span span = { .offset = build->heap.length };
	int total = 0;

	for (int i = from; i < sk_X509_num(certificates); i++)
		total += i2d_X509(sk_X509_value(certificates, i), NULL);
	span.offset = heap_take(&build->heap, (size_t)total);
	unsigned char *at = heap_at(&build->heap, span.offset);
	for (int i = from; i < sk_X509_num(certificates); i++)
		(void)i2d_X509(sk_X509_value(certificates, i), &at);
	span.length = (uint64_t)total;
	return span;
}

static struct vault_span put_one(struct build *build, X509 *cert)
{
	unsigned char *der = NULL;
	int length = i2d_X509(cert, &der);

	ensure(length > 0);
	struct vault_span span = heap_put(&build->heap, der, (size_t)length);
	OPENSSL_free(der);
	return span;
}

bool build_pair(struct build *build, const struct tls_file *cert, const struct tls_file *key_file, STACK_OF(X509) * certificates,
        struct vault_certificate *out)
{
	X509 *leaf = sk_X509_value(certificates, 0);
	const char *why;

	check_dates(build, cert, leaf);
	check_order(build, cert, certificates);
	out->not_before = pem_time(X509_get0_notBefore(leaf));
	out->not_after = pem_time(X509_get0_notAfter(leaf));
	if (!key_file || key_file->error)
		return false;
	EVP_PKEY *key = pem_key(key_file->bytes, key_file->length, leaf, &why);
	if (!key) {
		bool is_cert = strcmp(key_file->path, cert->path) == 0;
		wrong(build, key_file, "%s%s", why, is_cert ? "; write key = \"/path\" where it is in another file" : "");
		return false;
	}
	check_key_file(build, key_file);
	bool taken = is_taken(build, key_file, certificates, key);
	out->kind = kind_of(key);
	EVP_PKEY_free(key);
	out->leaf = put_one(build, leaf);
	out->chain = put_chain(build, certificates, 1);
	out->key = heap_put(&build->heap, key_file->bytes, key_file->length);
	return taken;
}

static void build_ocsp(struct build *build, const struct tls_file *file, STACK_OF(X509) * certificates, struct vault_certificate *out)
{
	const char *why = NULL;
	char day[64];

	if (!file || file->error)
		return;
	int64_t end = pem_ocsp(file->bytes, file->length, sk_X509_value(certificates, 0),
	        sk_X509_num(certificates) > 1 ? sk_X509_value(certificates, 1) : NULL, &why);
	if (end < 0) {
		wrong(build, file, "%s; write what the authority's OCSP server answered for this certificate, in DER", why);
		return;
	}
	if (why)
		warn(build, file, "%s, which clients will be told; get a new certificate", why);
	if (end <= build->now_s)
		warn(build, file, "the OCSP answer ended on %s, and is not passed on; fetch a new one", day_of(end, day, sizeof day));
	out->ocsp = heap_put(&build->heap, file->bytes, file->length);
	out->ocsp_until = end;
}

static void tell_fact(struct build *build, uint32_t item, const struct vault_certificate *certificate, const char *label)
{
	struct vault_findings *findings = build->findings;
	struct vault_fact *fact = &findings->facts[findings->n_facts++];

	*fact = (struct vault_fact){
		.listener = build->listener, .item = item, .not_before = certificate->not_before, .not_after = certificate->not_after
	};
	(void)text_copy(fact->label, sizeof fact->label, label);
}

void build_certificate(struct build *build, uint32_t item, struct own_names *names, struct vault_certificate *out)
{
	const struct tls_file *cert = build_take(build, FILE_CERT, build->listener, item);
	const struct tls_file *key = build_take(build, FILE_KEY, build->listener, item);
	const struct tls_file *ocsp = build_take(build, FILE_OCSP, build->listener, item);
	const char *why = NULL;
	char label[VAULT_NAME_SIZE];

	if (!cert || cert->error)
		return;
	STACK_OF(X509) *certificates = pem_certificates(cert->bytes, cert->length, &why);
	if (!certificates) {
		wrong(build, cert, "%s", why);
		return;
	}
	(void)build_pair(build, cert, key, certificates, out);
	build_ocsp(build, ocsp, certificates, out);
	(void)own_names_gather(
	        names, &build->heap, sk_X509_value(certificates, 0), item + 1, (enum vault_kind)out->kind, label, sizeof label);
	out->label = heap_put(&build->heap, label, strlen(label));
	tell_fact(build, item, out, label);
	sk_X509_pop_free(certificates, X509_free);
}

/* --- who may vouch for whom ------------------------------------------------------------------------------------------------ */

struct vault_span build_ca(struct build *build, const struct tls_file *file)
{
	const char *why = NULL;
	STACK_OF(X509) *certificates = file && !file->error ? pem_certificates(file->bytes, file->length, &why) : NULL;

	if (why)
		wrong(build, file, "%s", why);
	if (!certificates)
		return (struct vault_span){ 0 };
	struct vault_span span = put_chain(build, certificates, 0);
	sk_X509_pop_free(certificates, X509_free);
	return span;
}

struct vault_span build_crls(struct build *build, const struct tls_file *file)
{
	const char *why = NULL;
	STACK_OF(X509_CRL) *crls = file && !file->error ? pem_crls(file->bytes, file->length, &why) : NULL;
	char day[64];

	if (why)
		wrong(build, file, "%s", why);
	for (int i = 0; i < sk_X509_CRL_num(crls); i++) {
		int64_t end = pem_time(X509_CRL_get0_nextUpdate(sk_X509_CRL_value(crls, i)));
		if (end <= build->now_s)
			warn(build, file, "a revocation list in it ended on %s: nobody is let in until there is a new one",
			        day_of(end, day, sizeof day));
	}
	if (!crls)
		return (struct vault_span){ 0 };
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return heap_put(&build->heap, file->bytes, file->length); /* PEM, as it is */
}
