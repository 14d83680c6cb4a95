#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "paper.h"

#include <openssl/rsa.h>
#include <time.h>

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX place;
	X509V3_set_ctx(&place, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &place, nid, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(cert, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

struct paper paper_make(const struct paper_wish *wish)
{
	static long serials = 1000;
	struct paper paper = { .cert = X509_new(), .key = wish->rsa_bits ? EVP_RSA_gen(wish->rsa_bits) : EVP_EC_gen("P-256") };
	const struct paper *issuer = wish->issuer ? wish->issuer : &paper;
	X509_NAME *subject = X509_get_subject_name(paper.cert);
	assert_non_null(paper.key);
	X509_set_version(paper.cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(paper.cert), wish->serial ? wish->serial : serials++);
	X509_gmtime_adj(X509_getm_notBefore(paper.cert), wish->from_s ? wish->from_s : -3600);
	X509_gmtime_adj(X509_getm_notAfter(paper.cert), wish->until_s ? wish->until_s : 30L * 86400);
	if (wish->name)
		X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)wish->name, -1, -1, 0);
	X509_set_issuer_name(paper.cert, X509_get_subject_name(issuer->cert));
	X509_set_pubkey(paper.cert, paper.key);
	if (wish->ca)
		add_extension(paper.cert, issuer->cert, NID_basic_constraints, "critical,CA:TRUE");
	if (wish->alternatives)
		add_extension(paper.cert, issuer->cert, NID_subject_alt_name, wish->alternatives);
	assert_true(X509_sign(paper.cert, issuer->key, EVP_sha256()) > 0);
	return paper;
}

void paper_free(struct paper *paper)
{
	X509_free(paper->cert);
	EVP_PKEY_free(paper->key);
	*paper = (struct paper){ 0 };
}

static FILE *open_new(struct scratch *scratch, const char *file, mode_t mode)
{
	int fd = open(scratch_path(scratch, file), O_WRONLY | O_CREAT | O_TRUNC, mode);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	FILE *out = fdopen(fd, "w");
	assert_non_null(out);
	return out;
}

void paper_write_cert(struct scratch *scratch, const char *file, const struct paper *paper, const struct paper *next)
{
	FILE *out = open_new(scratch, file, 0644);
	assert_int_equal(PEM_write_X509(out, paper->cert), 1);
	if (next)
		assert_int_equal(PEM_write_X509(out, next->cert), 1);
	assert_int_equal(fclose(out), 0);
}

void paper_write_key(struct scratch *scratch, const char *file, const struct paper *paper)
{
	FILE *out = open_new(scratch, file, 0600);
	assert_int_equal(PEM_write_PKCS8PrivateKey(out, paper->key, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(out), 0);
}

void paper_write_crl(struct scratch *scratch, const char *file, const struct paper *ca, long serial, long until_s)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *now = X509_gmtime_adj(NULL, -7200), *until = X509_gmtime_adj(NULL, until_s);
	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->cert));
	X509_CRL_set1_lastUpdate(crl, now);
	X509_CRL_set1_nextUpdate(crl, until);
	if (serial) {
		X509_REVOKED *revoked = X509_REVOKED_new();
		ASN1_INTEGER *number = ASN1_INTEGER_new();
		ASN1_INTEGER_set(number, serial);
		X509_REVOKED_set_serialNumber(revoked, number);
		X509_REVOKED_set_revocationDate(revoked, now);
		X509_CRL_add0_revoked(crl, revoked);
		ASN1_INTEGER_free(number);
	}
	assert_true(X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0);
	FILE *out = open_new(scratch, file, 0644);
	assert_int_equal(PEM_write_X509_CRL(out, crl), 1);
	assert_int_equal(fclose(out), 0);
	ASN1_TIME_free(now);
	ASN1_TIME_free(until);
	X509_CRL_free(crl);
}

void paper_write_ocsp(struct scratch *scratch, const char *file, const struct paper *ca, const struct paper *about, int status,
        const EVP_MD *hash, long until_s)
{
	OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
	OCSP_CERTID *id = OCSP_cert_to_id(hash, about->cert, ca->cert);
	ASN1_TIME *now = X509_gmtime_adj(NULL, -7200), *until = X509_gmtime_adj(NULL, until_s);
	assert_non_null(OCSP_basic_add1_status(basic, id, status, OCSP_REVOKED_STATUS_NOSTATUS, now, now, until));
	assert_int_equal(OCSP_basic_sign(basic, ca->cert, ca->key, EVP_sha256(), NULL, 0), 1);
	OCSP_RESPONSE *response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
	unsigned char *der = NULL;
	int length = i2d_OCSP_RESPONSE(response, &der);
	FILE *out = open_new(scratch, file, 0644);
	assert_true(length > 0 && fwrite(der, 1, (size_t)length, out) == (size_t)length);
	assert_int_equal(fclose(out), 0);
	OPENSSL_free(der);
	OCSP_RESPONSE_free(response);
	OCSP_CERTID_free(id);
	OCSP_BASICRESP_free(basic);
	ASN1_TIME_free(now);
	ASN1_TIME_free(until);
}

struct config *paper_settings(struct scratch *scratch, const char *text)
{
	char *bytes = calloc(1, strlen(text) + 1 + 100 * sizeof scratch->path), *out = bytes;
	struct config_errors errors = { 0 };
	struct config *config = NULL;
	for (; *text; text++)
		out += *text == '%' ? sprintf(out, "%s", scratch->path) : sprintf(out, "%c", *text);
	scratch_write(scratch, "aegis.conf", bytes);
	if (config_load(&(struct config_source){ .file = scratch_path(scratch, "aegis.conf") }, &config, &errors))
		fail_msg("%s", errors.lines);
	free(bytes);
	return config;
}
