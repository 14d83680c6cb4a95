#include "shm/reasons.h"

#include <assert.h>
#include <stddef.h>

#include "base/attr.h"

static const struct {
	const char *name;
	const char *text;
	enum reason_class class;
} rows[] = {
#define X(id, name, class, text) [REASON_##id] = { name, text, REASON_##class },
	REASONS(X)
#undef X
};
static_assert(ARRAY_LEN(rows) == N_REASONS, "one row per reason");

const char *reason_name(enum reason reason)
{
	return reason < N_REASONS ? rows[reason].name : "unknown";
}

const char *reason_text(enum reason reason)
{
	return reason < N_REASONS ? rows[reason].text : "unknown";
}

enum reason_class reason_class(enum reason reason)
{
	return reason < N_REASONS ? rows[reason].class : REASON_ERROR;
}
