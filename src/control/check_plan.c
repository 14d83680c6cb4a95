#include "control/check_plan.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"

enum { HTTPS_PORT = 443, REQUEST_BYTES = PROBE_HTTP_TEXT_MAX + HOST_NAME_SIZE + 160 };

static bool is_http(enum probe_kind kind)
{
	return kind == PROBE_HTTP || kind == PROBE_HTTPS;
}

bool check_plan_is_by_libcurl(enum probe_kind kind, const struct probe_tls *tls)
{
	return kind == PROBE_HTTPS || (kind == PROBE_HTTP && !tls->wanted);
}

static const char *text_or(const char *text, const char *otherwise)
{
	return text ? text : otherwise;
}

static struct probe_http_rules http_rules(const struct prober_settings *settings)
{
	return (struct probe_http_rules){
		.tls = settings->rules.kind == PROBE_HTTPS,
		.introduced = settings->rules.introduced != 0,
		.path = text_or(settings->http.path, "/"),
		.host = text_or(settings->http.host, ""),
		.verify = settings->http.verify,
		.ca = text_or(settings->http.ca, ""),
	};
}

static int check_http(const struct prober_settings *settings, struct probe_http_rules *rules, const char **why)
{
	char text[160];

	if (check_plan_is_by_libcurl(settings->rules.kind, &settings->tls) && !probe_http_available(text, sizeof text)) {
		*why = "there is no libcurl, which http and https checks need";
		return -ENOTSUP;
	}
	*rules = http_rules(settings);
	int error = probe_http_rules_check(rules, why);
	return error ? error : status_set_parse(text_or(settings->http.expect, "2xx"), &rules->expect, why);
}

int prober_check(const struct prober_settings *settings, const char **why)
{
	struct probe_http_rules rules;

	if (settings->interval_ns == 0 || settings->timeout_ns == 0) {
		*why = "an interval or a timeout of 0";
		return -EINVAL;
	}
	int error = probe_rules_check(&settings->rules, why);
	return error || !is_http(settings->rules.kind) ? error : check_http(settings, &rules, why);
}

/* The host of a request by TLS, where the settings say none: whom the session asks for, with its port where it is not that of https. */
static void write_host(const struct prober_settings *settings, char *out, size_t size)
{
	const char *name = tls_client_name(settings->tls.client, settings->tls.server);
	const struct addr *addr = &settings->addrs[0];
	bool bare6 = strchr(name, ':') != NULL;
	struct text text = text_of(out, size);

	text_add(&text, bare6 ? "[%s]" : "%s", name[0] ? name : "localhost");
	if (addr->sa.sa_family != AF_UNIX && addr_port(addr) != HTTPS_PORT)
		text_add(&text, ":%u", addr_port(addr));
}

/* The request of a check that is spoken here. */
static void write_request(const struct prober_settings *settings, const struct probe_http_rules *http, char *out, size_t size)
{
	char host[HOST_NAME_SIZE + 16];

	if (http->host[0])
		(void)text_copy(host, sizeof host, http->host);
	else
		write_host(settings, host, sizeof host);
	ensure(probe_http_request(http->path, host, out, size) > 0); /* both were checked */
}

/* A text of a plan. */
struct kept {
	const char **text;
	size_t size;
};

/* Copy it behind those that are there. */
static void keep_text(const struct kept *kept, char **at)
{
	if (!*kept->text)
		return;
	*kept->text = memcpy(*at, *kept->text, kept->size);
	*at += kept->size;
}

static struct kept to_keep(const char **text)
{
	return (struct kept){ text, *text ? strlen(*text) + 1 : 0 };
}

struct check_plan *check_plan_new(const struct prober_settings *settings)
{
	struct probe_rules rules = settings->rules;
	struct probe_http_rules http = http_rules(settings);
	char request[REQUEST_BYTES];
	if (rules.kind == PROBE_HTTP && settings->tls.wanted) {
		write_request(settings, &http, request, sizeof request);
		rules.send = request;
	}
	const struct kept texts[] = { { &rules.send, probe_send_count(&rules) + 1 }, { &rules.expect, probe_expect_count(&rules) + 1 },
		to_keep(&rules.user), to_keep(&http.path), to_keep(&http.host), to_keep(&http.ca) };
	size_t addrs_bytes = settings->n_addrs * sizeof *settings->addrs, texts_bytes = 0;
	const char *why;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		texts_bytes += texts[i].size;
	struct check_plan *plan = malloc(sizeof *plan + addrs_bytes + texts_bytes);
	if (!plan)
		return NULL;
	char *at = (char *)plan->addrs + addrs_bytes;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		keep_text(&texts[i], &at);
	if (is_http(rules.kind))
		ensure(status_set_parse(text_or(settings->http.expect, "2xx"), &http.expect, &why) == 0);
	plan->key = settings->key;
	plan->source = settings->source;
	plan->n_addrs = settings->n_addrs;
	memcpy(plan->addrs, settings->addrs, addrs_bytes);
	plan->rules = rules;
	plan->http = http;
	plan->rules.statuses = &plan->http.expect;
	plan->tls = settings->tls;
	return plan;
}
