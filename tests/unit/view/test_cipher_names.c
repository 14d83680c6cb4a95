#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "base/attr.h"
#include "tls/openssl.h"
#include "view/cipher_names.h"

static bool is_a_number(const char *name)
{
	return strncmp(name, "0x", 2) == 0;
}

/* The names that are known are OpenSSL's, and those of all that are spoken by default, or may be asked for without a pre-shared key, are.
 */
static void test_names_are_those_of_openssl(void **state)
{
	char name[CIPHER_NAME_SIZE];
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	unsigned known = 0;

	(void)state;
	assert_non_null(ctx);
	assert_int_equal(SSL_CTX_set_cipher_list(ctx, "ALL:!PSK:!SRP"), 1);
	STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(ctx);
	for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
		const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, i);
		const char *wanted = SSL_CIPHER_get_name(cipher);
		if (is_a_number(cipher_name(SSL_CIPHER_get_protocol_id(cipher), name, sizeof name)))
			continue;
		assert_string_equal(name, wanted);
		known++;
	}
	assert_true(known >= 12);
	SSL_CTX_free(ctx);
}

static void test_numbers(void **state)
{
	char name[CIPHER_NAME_SIZE];

	(void)state;
	assert_string_equal(cipher_name(0x1301, name, sizeof name), "TLS_AES_128_GCM_SHA256");
	assert_string_equal(cipher_name(0xc02b, name, sizeof name), "ECDHE-ECDSA-AES128-GCM-SHA256");
	assert_string_equal(cipher_name(0xfafa, name, sizeof name), "0xFAFA");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_those_of_openssl),
		cmocka_unit_test(test_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
