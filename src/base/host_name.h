/* Names of hosts as TLS and DNS have them: labels of letters, digits, '-' and '_', with dots between them. Names in other scripts are
 * written in punycode (RFC 3492) there. */
#ifndef AEGIS_BASE_HOST_NAME_H
#define AEGIS_BASE_HOST_NAME_H

#include <stddef.h>

#include "base/attr.h"

enum { HOST_NAME_LONGEST = 255, HOST_LABEL_LONGEST = 63 };

/* Lower-case a name in place. A dot at the end does not count. Returns its length without that, 0 where it is no name of a host. */
must_check size_t host_name_fold(char *name, size_t length);

#endif
