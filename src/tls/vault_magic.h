/* What tells a vault from other files. Private to vault.c and who writes one. */
#ifndef AEGIS_TLS_VAULT_MAGIC_H
#define AEGIS_TLS_VAULT_MAGIC_H

#include <fcntl.h>

#define VAULT_MAGIC UINT64_C(0x4145474953564c54)
#define VAULT_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

#endif
