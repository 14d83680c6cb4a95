/* CRC-32C against the examples of RFC 3720 (appendix B.4) and of the catalogue of CRCs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/crc32c.h"

static void known_sums(void **state)
{
	uint8_t bytes[32];

	(void)state;
	assert_int_equal(crc32c(0, "", 0), 0);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	memset(bytes, 0, sizeof bytes);
	assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
	memset(bytes, 0xff, sizeof bytes);
	assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
	for (uint8_t i = 0; i < sizeof bytes; i++)
		bytes[i] = i;
	assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x46dd794e);
}

static void in_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i <= 9; i++)
		assert_int_equal(crc32c(crc32c(0, "123456789", i), &"123456789"[i], 9 - i), 0xe3069283);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(known_sums), cmocka_unit_test(in_pieces) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
