#include "view/cipher_names.h"

#include <stdio.h>

#include "base/attr.h"

static const struct {
	uint16_t number;
	const char *name;
} ciphers[] = {
	{ 0x1301, "TLS_AES_128_GCM_SHA256" },
	{ 0x1302, "TLS_AES_256_GCM_SHA384" },
	{ 0x1303, "TLS_CHACHA20_POLY1305_SHA256" },
	{ 0x1304, "TLS_AES_128_CCM_SHA256" },
	{ 0x1305, "TLS_AES_128_CCM_8_SHA256" },
	{ 0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256" },
	{ 0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384" },
	{ 0xc02f, "ECDHE-RSA-AES128-GCM-SHA256" },
	{ 0xc030, "ECDHE-RSA-AES256-GCM-SHA384" },
	{ 0xcca8, "ECDHE-RSA-CHACHA20-POLY1305" },
	{ 0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305" },
	{ 0xccaa, "DHE-RSA-CHACHA20-POLY1305" },
	{ 0x009e, "DHE-RSA-AES128-GCM-SHA256" },
	{ 0x009f, "DHE-RSA-AES256-GCM-SHA384" },
	{ 0x009c, "AES128-GCM-SHA256" },
	{ 0x009d, "AES256-GCM-SHA384" },
	{ 0xc009, "ECDHE-ECDSA-AES128-SHA" },
	{ 0xc00a, "ECDHE-ECDSA-AES256-SHA" },
	{ 0xc013, "ECDHE-RSA-AES128-SHA" },
	{ 0xc014, "ECDHE-RSA-AES256-SHA" },
	{ 0xc023, "ECDHE-ECDSA-AES128-SHA256" },
	{ 0xc024, "ECDHE-ECDSA-AES256-SHA384" },
	{ 0xc027, "ECDHE-RSA-AES128-SHA256" },
	{ 0xc028, "ECDHE-RSA-AES256-SHA384" },
	{ 0x002f, "AES128-SHA" },
	{ 0x0035, "AES256-SHA" },
	{ 0x003c, "AES128-SHA256" },
	{ 0x003d, "AES256-SHA256" },
};

const char *cipher_name(uint16_t number, char *out, size_t size)
{
	for (size_t i = 0; i < ARRAY_LEN(ciphers); i++)
		if (ciphers[i].number == number) {
			(void)snprintf(out, size, "%s", ciphers[i].name);
			return out;
		}
	(void)snprintf(out, size, "0x%04X", (unsigned)number);
	return out;
}
