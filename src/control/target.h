/* What stands in the target of a request: percent-encoding (RFC 3986, 2.1), paths and the patterns that they match. Pure. */
#ifndef AEGIS_CONTROL_TARGET_H
#define AEGIS_CONTROL_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* Decode %XX; with plus, a '+' is a space, as in queries. 0, or -EINVAL (not two digits, a NUL, not UTF-8 or a control character), or
 * -ENAMETOOLONG. */
must_check int target_decode(const char *text, bool plus, char *out, size_t size);

/* Does the path match? A pattern may have one '*', which stands for one letter or more, slashes too; they go to out ("" without a star),
 * which must be as large as the path. */
must_check bool target_matches(const char *path, const char *pattern, char *out, size_t size);

#endif
