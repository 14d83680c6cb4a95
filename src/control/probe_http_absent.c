/* Built without libcurl: no check is ever made, so that the rest is there for the linker only. */
#include "control/probe_http.h"

bool probe_http_available(char *text, size_t size)
{
	snprintf(text, size, "built without libcurl");
	return false;
}

struct probe_http *probe_http_new(struct linger_set *linger)
{
	(void)linger;
	return NULL;
}

void probe_http_free(struct probe_http *http)
{
	ensure(!http);
}

enum { THERE_IS_LIBCURL = 0 };

/* clang-format off */
#define UNUSED __attribute__((unused))

int probe_http_start(UNUSED struct probe_http *http, UNUSED const struct addr *addr, UNUSED const struct dial_source *source, UNUSED const struct probe_http_rules *rules,
	UNUSED outcome_fn *done, UNUSED void *arg, UNUSED struct probe_http_check **out) { ensure(THERE_IS_LIBCURL); return 0; }
void probe_http_stop(UNUSED struct probe_http_check *check) { ensure(THERE_IS_LIBCURL); }
const char *probe_http_awaits(UNUSED const struct probe_http_check *check) { ensure(THERE_IS_LIBCURL); return NULL; }
