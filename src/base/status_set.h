/* A set of HTTP status codes as users write it: "2xx", "200-399", "2xx,304". */
#ifndef AEGIS_BASE_STATUS_SET_H
#define AEGIS_BASE_STATUS_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

enum { STATUS_FIRST = 100, STATUS_LAST = 599 };

struct status_set {
	uint64_t bits[(STATUS_LAST - STATUS_FIRST) / 64 + 1];
};

/* Codes ("204"), classes ("2xx") and ranges ("200-399"), separated by commas; blanks around them do not matter. 0 and *out, or -EINVAL with
 * *why the rest of a sentence for the user. */
must_check int status_set_parse(const char *text, struct status_set *out, const char **why);

bool status_set_has(const struct status_set *set, long status);

#endif
