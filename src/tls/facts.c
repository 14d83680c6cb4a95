/* What came of a handshake, and why one failed. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "tls/own.h"

void tls_facts(SSL *ssl, struct tls_facts *out)
{
	X509 *peer = SSL_get0_peer_certificate(ssl);
	unsigned alpn_length;

	*out = (struct tls_facts){ .version = SSL_get_version(ssl),
		.cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)),
		.cipher_number = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)),
		.server_name = SSL_is_server(ssl) ? server_name_of(ssl) : "",
		.resumed = SSL_session_reused(ssl) == 1,
		.peer_verified = peer && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE && SSL_get_verify_result(ssl) == X509_V_OK };
	SSL_get0_alpn_selected(ssl, &out->alpn, &alpn_length);
	out->alpn_length = alpn_length;
}

/* --- who the peer is ------------------------------------------------------------------------------------------------------- */

static bool add_string(struct text *out, const ASN1_STRING *string)
{
	unsigned char *utf8;
	int length = string ? ASN1_STRING_to_UTF8(&utf8, string) : -1;

	if (length <= 0)
		return false;
	for (int i = 0; i < length; i++)
		text_add(out, utf8[i] > ' ' - 1 && utf8[i] < 0x7f && utf8[i] != '\\' ? "%c" : "\\x%02x", utf8[i]);
	OPENSSL_free(utf8);
	return true;
}

static bool add_common_name(struct text *out, const X509_NAME *subject)
{
	int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

	return index >= 0 && add_string(out, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
}

static bool add_alternative(struct text *out, const X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool done = false;

	for (int i = 0; !done && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type == GEN_DNS || name->type == GEN_EMAIL)
			done = add_string(out, name->d.ia5);
	}
	GENERAL_NAMES_free(names);
	return done;
}

const char *tls_peer_name(SSL *ssl, char *out, size_t size)
{
	const X509 *cert = SSL_get0_peer_certificate(ssl);
	struct text text = text_of(out, size);

	if (!cert || SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE || SSL_get_verify_result(ssl) != X509_V_OK)
		return out;
	const X509_NAME *subject = X509_get_subject_name(cert);
	if (add_common_name(&text, subject) || add_alternative(&text, cert))
		return out;
	char line[256];
	if (X509_NAME_oneline(subject, line, sizeof line))
		text_add_printable(&text, line);
	ERR_clear_error();
	return out;
}

/* --- why it failed --------------------------------------------------------------------------------------------------------- */

static enum tls_failure failure_of_reason(int reason)
{
	if (reason > SSL_AD_REASON_OFFSET)
		return TLS_FAILURE_ALERT;
	switch (reason) {
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_WRONG_VERSION_NUMBER:
		return TLS_FAILURE_NOT_TLS;
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_UNSUPPORTED_SSL_VERSION:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_VERSION_TOO_HIGH:
	case SSL_R_NO_PROTOCOLS_AVAILABLE:
	case SSL_R_WRONG_SSL_VERSION:
		return TLS_FAILURE_VERSION;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SHARED_GROUPS:
	case SSL_R_NO_SUITABLE_GROUPS:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
	case SSL_R_NO_APPLICATION_PROTOCOL:
		return TLS_FAILURE_NO_COMMON;
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return TLS_FAILURE_CERTIFICATE;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return TLS_FAILURE_TRUNCATED;
	case ERR_R_MALLOC_FAILURE:
	case ERR_R_INTERNAL_ERROR:
		return TLS_FAILURE_OWN;
	default:
		return TLS_FAILURE_PROTOCOL;
	}
}

enum tls_distrust tls_distrust_of(SSL *ssl)
{
	switch (SSL_get_verify_result(ssl)) {
	case X509_V_OK:
		return TLS_DISTRUST_NOTHING;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return TLS_DISTRUST_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return TLS_DISTRUST_NOT_YET;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return TLS_DISTRUST_NAME;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		return TLS_DISTRUST_ISSUER;
	case X509_V_ERR_CERT_REVOKED:
		return TLS_DISTRUST_REVOKED;
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_CRL_NOT_YET_VALID:
		return TLS_DISTRUST_LIST;
	default:
		return TLS_DISTRUST_OTHER;
	}
}

/* What is met most is said in plain words; NULL: OpenSSL's do. */
static const char *plain_words(const SSL *ssl, int reason)
{
	switch (reason) {
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
		return "HTTP without TLS";
	case SSL_R_WRONG_VERSION_NUMBER:
		return "no TLS (wrong version number)";
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
		return X509_verify_cert_error_string(SSL_get_verify_result(ssl));
	default:
		return NULL;
	}
}

enum tls_failure tls_failure_of(SSL *ssl, char *text, size_t size)
{
	unsigned long error = ERR_peek_error();
	bool is_tls = ERR_GET_LIB(error) == ERR_LIB_SSL;
	const char *reason = is_tls ? plain_words(ssl, ERR_GET_REASON(error)) : NULL;
	enum tls_failure failure = is_tls ? failure_of_reason(ERR_GET_REASON(error)) : TLS_FAILURE_PROTOCOL;

	if (error == 0)
		failure = TLS_FAILURE_OWN;
	else if (!reason)
		reason = ERR_reason_error_string(error);
	(void)snprintf(text, size, "%s", reason ? reason : "no reason given");
	ERR_clear_error();
	return failure;
}
