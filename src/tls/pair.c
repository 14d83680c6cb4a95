/* Certificates of the vault as OpenSSL wants them. */
#include "tls/own.h"
#include "tls/pem.h"

static STACK_OF(X509) * make_chain(const struct vault *vault, const struct vault_span *span)
{
	const unsigned char *at = vault_bytes(vault, span), *end = at + span->length;
	STACK_OF(X509) *chain = sk_X509_new_null();
	X509 *one;

	while (chain && (one = pem_next(&at, end)) != NULL)
		if (sk_X509_push(chain, one) == 0)
			X509_free(one);
	return chain;
}

bool pair_make(struct tls_pair *pair, const struct vault *vault, const struct vault_certificate *from)
{
	const unsigned char *at = vault_bytes(vault, &from->leaf);
	const char *why;

	if (pair->leaf)
		return true;
	pair->chain = make_chain(vault, &from->chain);
	pair->leaf = pem_next(&at, at + from->leaf.length);
	pair->key = pem_key(vault_bytes(vault, &from->key), from->key.length, pair->leaf, &why);
	if (pair->leaf && pair->key && pair->chain)
		return true;
	pair_drop(pair);
	return false;
}

void pair_drop(struct tls_pair *pair)
{
	X509_free(pair->leaf);
	EVP_PKEY_free(pair->key);
	sk_X509_pop_free(pair->chain, X509_free);
	*pair = (struct tls_pair){ 0 };
}

static bool add_crls(X509_STORE *store, const struct vault *vault, const struct vault_span *span)
{
	const char *why;
	STACK_OF(X509_CRL) *crls = pem_crls(vault_bytes(vault, span), span->length, &why);
	bool done = crls != NULL;

	for (int i = 0; i < sk_X509_CRL_num(crls) && done; i++)
		done = X509_STORE_add_crl(store, sk_X509_CRL_value(crls, i)) == 1;
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	return done && X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1;
}

X509_STORE *trust_store(const struct vault *vault, const struct vault_span *ca, const struct vault_span *crls)
{
	const unsigned char *at = vault_bytes(vault, ca), *end = at + ca->length;
	X509_STORE *store = X509_STORE_new();
	bool done = store != NULL;
	X509 *one;

	while (done && (one = pem_next(&at, end)) != NULL) {
		done = X509_STORE_add_cert(store, one) == 1;
		X509_free(one);
	}
	if (done && crls->length > 0)
		done = add_crls(store, vault, crls);
	ERR_clear_error();
	if (done)
		return store;
	X509_STORE_free(store);
	return NULL;
}
