/* The web page: GET /. */
#include <string.h>

#include "control/api.h"
#include "control/page.h"

/* Weak or strong, one of several or alone: that the tag stands in it is enough. */
static bool is_known(const struct api_call *call)
{
	const char *tags = http_header(call->http, "If-None-Match");
	return tags && strstr(tags, page_etag);
}

void api_page(struct api_call *call)
{
	struct api_text text;
	bool known = is_known(call);
	if (!api_text_begin(call, &text))
		return;
	http_add_header(call->http, "Content-Security-Policy", page_policy);
	http_add_header(call->http, "Referrer-Policy", "no-referrer");
	http_add_header(call->http, "Cache-Control", "no-cache");
	http_add_header(call->http, "ETag", page_etag);
	if (!known)
		fwrite(page_bytes, 1, page_size, text.out);
	api_text_end(call, &text, known ? 304 : 200, "text/html; charset=utf-8");
}
