/* CRC-32C (Castagnoli): the check sum of iSCSI (RFC 3720, appendix B.4), SCTP and the PROXY protocol. For short pieces: a table of 64
 * bytes, four bits at a time. */
#ifndef AEGIS_BASE_CRC32C_H
#define AEGIS_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of the bytes behind others whose sum is known; of the first ones: 0. */
uint32_t crc32c(uint32_t before, const void *bytes, size_t size);

#endif
