/* From the secrets of a session to the keys for what it sends: RFC 8446, 7.1 to 7.3, and RFC 5246, 6.3. */
#include <string.h>

#include "tls/kernel_side.h"

static bool expand(const EVP_MD *digest, const struct kernel_side *side, const char *label, unsigned char *out, size_t length)
{
	unsigned char info[64];
	size_t n = strlen(label), at = 0;
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;

	info[at++] = (unsigned char)(length >> 8);
	info[at++] = (unsigned char)length;
	info[at++] = (unsigned char)(6 + n);
	memcpy(info + at, "tls13 ", 6);
	memcpy(info + at + 6, label, n);
	at += 6 + n;
	info[at++] = 0;
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(digest), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)side->secret, side->secret_length),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, at),
		OSSL_PARAM_construct_end(),
	};
	bool done = ctx && EVP_KDF_derive(ctx, out, length, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return done;
}

/* The key block of TLS 1.2: the keys of both, then the parts of nonces of both. */
static bool expand_master(SSL *ssl, const EVP_MD *digest, unsigned char *out, size_t length)
{
	static const char label[] = "key expansion";
	unsigned char master[SSL_MAX_MASTER_KEY_LENGTH], server[SSL3_RANDOM_SIZE], client[SSL3_RANDOM_SIZE];
	size_t n = SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof master);
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;

	(void)SSL_get_server_random(ssl, server, sizeof server);
	(void)SSL_get_client_random(ssl, client, sizeof client);
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)EVP_MD_get0_name(digest), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, n),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (void *)(uintptr_t)label, sizeof label - 1),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, server, sizeof server),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, client, sizeof client),
		OSSL_PARAM_construct_end(),
	};
	bool done = ctx && n > 0 && EVP_KDF_derive(ctx, out, length, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	OPENSSL_cleanse(master, sizeof master);
	return done;
}

static bool derive_tls12(SSL *ssl, const EVP_MD *digest, const struct kernel_side *side, size_t key_bytes, struct kernel_keys *keys)
{
	enum { FIXED_BYTES = 4, OWN_BYTES = 8 };
	unsigned char block[2 * (sizeof keys->key + sizeof keys->iv)];
	bool is_gcm = keys->cipher != KERNEL_CHACHA20_POLY1305, is_server = SSL_is_server(ssl);
	size_t iv_bytes = is_gcm ? FIXED_BYTES : sizeof keys->iv;
	bool done = expand_master(ssl, digest, block, 2 * (key_bytes + iv_bytes));

	memcpy(keys->key, block + (is_server ? key_bytes : 0), key_bytes);
	memcpy(keys->iv, block + 2 * key_bytes + (is_server ? iv_bytes : 0), iv_bytes);
	OPENSSL_cleanse(block, sizeof block);
	if (!is_gcm)
		return done;
	/* No two records may have the same: OpenSSL counts from where chance had it begin, and the kernel counts on. */
	if (side->nonce == 0)
		return done && RAND_bytes(keys->iv + FIXED_BYTES, OWN_BYTES) == 1;
	for (size_t i = 0; i < OWN_BYTES; i++)
		keys->iv[FIXED_BYTES + i] = (unsigned char)((side->nonce + 1) >> (8 * (OWN_BYTES - 1 - i)));
	return done;
}

static bool find_cipher(const SSL_CIPHER *cipher, enum kernel_cipher *out)
{
	switch (SSL_CIPHER_get_cipher_nid(cipher)) {
	case NID_aes_128_gcm:
		*out = KERNEL_AES_128_GCM;
		return true;
	case NID_aes_256_gcm:
		*out = KERNEL_AES_256_GCM;
		return true;
	case NID_chacha20_poly1305:
		*out = KERNEL_CHACHA20_POLY1305;
		return true;
	default:
		return false;
	}
}

bool kernel_keys_derive(SSL *ssl, const struct kernel_side *side, const struct kernel_ability *ability, struct kernel_keys *out)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	const EVP_MD *digest = cipher ? SSL_CIPHER_get_handshake_digest(cipher) : NULL;
	struct kernel_keys keys = { .is_tls13 = SSL_version(ssl) == TLS1_3_VERSION, .sequence = side->records };

	if (!digest || !find_cipher(cipher, &keys.cipher) || !((keys.is_tls13 ? ability->tls13 : ability->tls12) >> keys.cipher & 1))
		return false;
	size_t key_bytes = keys.cipher == KERNEL_AES_128_GCM ? 16 : sizeof keys.key;
	bool done;
	if (keys.is_tls13)
		done = side->secret_length > 0 && expand(digest, side, "key", keys.key, key_bytes) &&
		       expand(digest, side, "iv", keys.iv, sizeof keys.iv);
	else
		done = SSL_version(ssl) == TLS1_2_VERSION && derive_tls12(ssl, digest, side, key_bytes, &keys);
	if (done)
		*out = keys;
	OPENSSL_cleanse(&keys, sizeof keys);
	return done;
}

bool kernel_secret_renew(SSL *ssl, struct kernel_side *side)
{
	unsigned char next[EVP_MAX_MD_SIZE];
	bool done = side->secret_length > 0 &&
	            expand(SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl)), side, "traffic upd", next, side->secret_length);

	if (done)
		memcpy(side->secret, next, side->secret_length);
	OPENSSL_cleanse(next, sizeof next);
	side->records = 0;
	return done;
}
