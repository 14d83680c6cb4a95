#include "tls/offer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Forward secrecy and authenticated encryption only. A server lets the client choose among equals: one without AES in hardware is better
 * off with ChaCha20. */
static const char default_ciphers[] =
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
        "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char default_ciphersuites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char default_groups[] = "X25519:P-256:P-384";

static const char *or_default(const char *setting, const char *otherwise)
{
	return setting[0] != '\0' ? setting : otherwise;
}

static int refuse(SSL_CTX *ctx, char *why, size_t size, const char *what, const char *value)
{
	(void)snprintf(why, size, "%s: OpenSSL knows none of \"%.200s\", or not all; see openssl-ciphers(1)", what, value);
	ERR_clear_error();
	SSL_CTX_free(ctx);
	return -EINVAL;
}

int offer_context(const struct tls_offer_config *offer, bool server, SSL_CTX **out, char *why, size_t size)
{
	const char *ciphers = or_default(offer->ciphers, default_ciphers);
	const char *ciphersuites = or_default(offer->ciphersuites, default_ciphersuites);
	const char *groups = or_default(offer->groups, default_groups);
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	if (!ctx) {
		(void)snprintf(why, size, "OpenSSL is out of memory");
		ERR_clear_error();
		return -ENOMEM;
	}
	(void)SSL_CTX_set_min_proto_version(ctx, offer->min_version == TLS_VERSION_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
	(void)SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION);
	(void)SSL_CTX_set_options(
	        ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	(void)SSL_CTX_set_max_early_data(ctx, 0);
	if (SSL_CTX_set_cipher_list(ctx, ciphers) != 1)
		return refuse(ctx, why, size, "ciphers", ciphers);
	if (SSL_CTX_set_ciphersuites(ctx, ciphersuites) != 1)
		return refuse(ctx, why, size, "ciphersuites", ciphersuites);
	if (SSL_CTX_set1_groups_list(ctx, groups) != 1)
		return refuse(ctx, why, size, "groups", groups);
	*out = ctx;
	return 0;
}

size_t offer_alpn(const char *alpn, unsigned char *out)
{
	size_t n = 0, start = 0;

	if (alpn[0] == '\0')
		return 0;
	for (n = 1; *alpn != '\0'; alpn++)
		if (*alpn == ',') {
			out[start] = (unsigned char)(n - start - 1);
			start = n++;
		} else if (*alpn != ' ') {
			out[n++] = (unsigned char)*alpn;
		}
	out[start] = (unsigned char)(n - start - 1);
	return n;
}
