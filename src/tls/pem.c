#include "tls/pem.h"

#include <stdbool.h>
#include <time.h>

/* A key with a password would have somebody asked at the terminal. */
static int no_password(char *buffer, int size, int writing, void *arg)
{
	(void)buffer;
	(void)size;
	(void)writing;
	*(bool *)arg = true;
	return -1;
}

/* The end of the file is an error to OpenSSL. */
static bool is_end_of_pem(void)
{
	unsigned long error = ERR_peek_last_error();
	bool end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;

	ERR_clear_error();
	return end;
}

static BIO *bio_of(const unsigned char *bytes, size_t length)
{
	return BIO_new_mem_buf(bytes, (int)length); /* files are at most 16 MB */
}

STACK_OF(X509) * pem_certificates(const unsigned char *bytes, size_t length, const char **why)
{
	BIO *bio = bio_of(bytes, length);
	STACK_OF(X509) *certificates = sk_X509_new_null();
	X509 *one;

	ERR_clear_error();
	while (bio && certificates && (one = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		if (sk_X509_push(certificates, one) == 0)
			X509_free(one);
	BIO_free(bio);
	*why = !is_end_of_pem()                ? "a certificate in it cannot be read: it is damaged, or no PEM"
	       : sk_X509_num(certificates) < 1 ? "there is no certificate in it (-----BEGIN CERTIFICATE-----)"
	                                       : NULL;
	if (!*why)
		return certificates;
	sk_X509_pop_free(certificates, X509_free);
	return NULL;
}

/* A key of one kind: a third of the time that any kind takes. */
static EVP_PKEY *key_of_kind(BIO *bio, const char *kind, bool *has_password)
{
	EVP_PKEY *key = NULL;
	OSSL_DECODER_CTX *decoder = OSSL_DECODER_CTX_new_for_pkey(&key, "PEM", NULL, kind, EVP_PKEY_KEYPAIR, NULL, NULL);

	if (decoder && OSSL_DECODER_CTX_set_pem_password_cb(decoder, no_password, has_password) == 1 &&
	        OSSL_DECODER_from_bio(decoder, bio) != 1) {
		EVP_PKEY_free(key);
		key = NULL;
	}
	OSSL_DECODER_CTX_free(decoder);
	return key;
}

EVP_PKEY *pem_key(const unsigned char *bytes, size_t length, X509 *like, const char **why)
{
	bool has_password = false;
	EVP_PKEY *public = like ? X509_get0_pubkey(like) : NULL;
	BIO *bio = bio_of(bytes, length);
	EVP_PKEY *key = bio && public ? key_of_kind(bio, EVP_PKEY_get0_type_name(public), &has_password) : NULL;

	if (bio && !key && BIO_reset(bio) == 1)
		key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &has_password);
	BIO_free(bio);
	if (!key)
		*why = has_password ? "the key has a password, and nobody is there to type it; take it off (openssl pkey)"
		                    : "there is no private key in it (-----BEGIN PRIVATE KEY-----), or it is damaged";
	ERR_clear_error();
	return key;
}

STACK_OF(X509_CRL) * pem_crls(const unsigned char *bytes, size_t length, const char **why)
{
	BIO *bio = bio_of(bytes, length);
	STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
	X509_CRL *one;

	ERR_clear_error();
	while (bio && crls && (one = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL)
		if (sk_X509_CRL_push(crls, one) == 0)
			X509_CRL_free(one);
	BIO_free(bio);
	*why = !is_end_of_pem()            ? "a revocation list in it cannot be read: it is damaged, or no PEM"
	       : sk_X509_CRL_num(crls) < 1 ? "there is no revocation list in it (-----BEGIN X509 CRL-----)"
	                                   : NULL;
	if (!*why)
		return crls;
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return NULL;
}

int64_t pem_time(const ASN1_TIME *time)
{
	struct tm tm;

	if (!time || ASN1_TIME_to_tm(time, &tm) != 1) {
		ERR_clear_error();
		return INT64_MAX;
	}
	return (int64_t)timegm(&tm);
}

static int64_t ocsp_end(OCSP_BASICRESP *basic, X509 *leaf, X509 *issuer, const char **why)
{
	for (int i = 0; i < OCSP_resp_count(basic); i++) {
		OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);
		ASN1_GENERALIZEDTIME *next = NULL;
		ASN1_INTEGER *serial = NULL;
		ASN1_OBJECT *hash = NULL;
		const OCSP_CERTID *id = OCSP_SINGLERESP_get0_id(single);
		OCSP_id_get0_info(NULL, &hash, NULL, &serial, (OCSP_CERTID *)(uintptr_t)id);
		if (ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(leaf)) != 0)
			continue;
		const EVP_MD *md = EVP_get_digestbyobj(hash); /* whoever asked chose it */
		OCSP_CERTID *own = issuer && md ? OCSP_cert_to_id(md, leaf, issuer) : NULL;
		bool other = own && OCSP_id_issuer_cmp(own, id) != 0;
		OCSP_CERTID_free(own);
		if (other)
			continue;
		int status = OCSP_single_get0_status(single, NULL, NULL, NULL, &next);
		*why = status == V_OCSP_CERTSTATUS_REVOKED   ? "it says that the certificate was revoked"
		       : status == V_OCSP_CERTSTATUS_UNKNOWN ? "it says that the authority does not know the certificate"
		                                             : NULL;
		return next ? pem_time(next) : INT64_MAX;
	}
	*why = "it is about another certificate";
	return -1;
}

int64_t pem_ocsp(const unsigned char *bytes, size_t length, X509 *leaf, X509 *issuer, const char **why)
{
	const unsigned char *at = bytes;
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)length);
	OCSP_BASICRESP *basic = response ? OCSP_response_get1_basic(response) : NULL;
	int64_t end = -1;

	if (!response)
		*why = "it is no OCSP answer (in DER)";
	else if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
		*why = "the OCSP server says in it that it has no answer";
	else if (!basic)
		*why = "it is no basic OCSP answer";
	else
		end = ocsp_end(basic, leaf, issuer, why);
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	ERR_clear_error();
	return end;
}

X509 *pem_next(const unsigned char **at, const unsigned char *end)
{
	X509 *one = *at < end ? d2i_X509(NULL, at, end - *at) : NULL;

	if (!one)
		ERR_clear_error();
	return one;
}
