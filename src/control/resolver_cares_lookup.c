/* A lookup by c-ares: /etc/hosts, then one search domain after the other. */
#include <netdb.h>
#include <string.h>

#include "control/resolver_cares_own.h"

enum { HOSTS_TTL_S = 10 };

struct question {
	struct request *request;
	enum ip_family family;
	struct ip_pick pick;
};

/* A lookup on its way through /etc/hosts and the search domains. */
struct request {
	struct cares *cares;
	struct lookup *lookup;
	struct question questions[IP_FAMILIES];
	int candidate;
	int pending;
	const char *failure; /* the last one, at whatever candidate; NULL = none */
};

/* What a lookup remembers: by which candidate it was last answered. */
static uint64_t via_of(const struct request *request)
{
	return request->cares->serial << 8 | (uint64_t)(request->candidate + 1);
}

static void take_ttl(struct lookup *lookup, int ttl_s)
{
	uint64_t seconds = ttl_s < 0 ? 0 : (uint64_t)ttl_s; /* RFC 2181, section 8 */
	if (seconds < lookup->ttl_s)
		lookup->ttl_s = seconds;
}

static void take_addresses(struct question *question, const struct ares_addrinfo *answer)
{
	for (const struct ares_addrinfo_node *node = answer->nodes; node; node = node->ai_next) {
		struct ip ip;
		enum ip_family family;
		if (!node->ai_addr || !ip_from_sockaddr(node->ai_addr, (socklen_t)node->ai_addrlen, &ip, &family) ||
		        family != question->family || !ip_is_server(&ip, family))
			continue;
		ip_pick_add(&question->pick, &ip);
		take_ttl(question->request->lookup, node->ai_ttl);
	}
	for (const struct ares_addrinfo_cname *cname = answer->cnames; cname; cname = cname->next)
		take_ttl(question->request->lookup, cname->ttl);
}

static enum lookup_outcome outcome_of(int status)
{
	switch (status) {
	case ARES_ENOTFOUND:
	case ARES_ENODATA:
	case ARES_EBADNAME:
		return LOOKUP_ABSENT;
	default:
		return LOOKUP_FAILED;
	}
}

static bool any(const struct lookup *lookup, enum lookup_outcome outcome)
{
	return lookup->outcome[IP_V4] == outcome || lookup->outcome[IP_V6] == outcome;
}

static const char *reason_of(int status)
{
	/* c-ares asks the next server after these and does not say in the end which it was. */
	return status == ARES_ECONNREFUSED ? "no DNS server can be reached, or all answer SERVFAIL or REFUSED" : ares_strerror(status);
}

/* Why there are no addresses: a failure tells more than that there are none. */
static void take_reason(struct lookup *lookup, enum ip_family family, enum lookup_outcome outcome, const char *why)
{
	if (outcome == LOOKUP_FAILED || !any(lookup, LOOKUP_FAILED))
		lookup->why = why;
	lookup->outcome[family] = outcome;
}

static void take_answer(struct question *question, int status, const struct ares_addrinfo *answer)
{
	struct lookup *lookup = question->request->lookup;
	if (status != ARES_SUCCESS) {
		take_reason(lookup, question->family, outcome_of(status), reason_of(status));
		return;
	}
	take_addresses(question, answer);
	lookup->found[question->family] = ip_pick_result(&question->pick);
	if (lookup->found[question->family].n > 0)
		lookup->outcome[question->family] = LOOKUP_GOOD;
	else
		take_reason(lookup, question->family, LOOKUP_ABSENT, "the answer has no address that a server can have");
}

static bool asks_for(const struct lookup *lookup, enum ip_family family)
{
	return lookup->families & (family == IP_V4 ? RESOLVER_IPV4 : RESOLVER_IPV6);
}

static void finish(struct request *request)
{
	struct lookup *lookup = request->lookup;
	lookup_answered_fn *answered = request->cares->base.answered;
	free(request);
	answered(lookup);
}

/* Forget what an earlier candidate was answered. */
static void prepare(struct request *request)
{
	struct lookup *lookup = request->lookup;
	lookup->ttl_s = UINT64_MAX;
	for (int family = 0; family < IP_FAMILIES; family++) {
		lookup->outcome[family] = LOOKUP_ABSENT;
		request->questions[family] =
		        (struct question){ .request = request, .family = (enum ip_family)family, .pick.known = &lookup->known[family] };
	}
}

static void ask_candidate(struct request *request);

/* Both families are answered. The next search domain has its turn after an answer that there is nothing; after a failure only while we
 * do not know where the name was found before: another domain may have a host of that name, too. */
static void candidate_done(struct request *request)
{
	struct lookup *lookup = request->lookup;
	if (any(lookup, LOOKUP_GOOD)) {
		lookup->via = via_of(request);
		finish(request);
		return;
	}
	if (any(lookup, LOOKUP_FAILED)) {
		request->failure = lookup->why;
		if (lookup->via == via_of(request)) {
			finish(request);
			return;
		}
	}
	request->candidate++;
	ask_candidate(request);
}

static void question_done(struct request *request)
{
	if (--request->pending > 0)
		return;
	if (request->cares->closing)
		free(request);
	else
		candidate_done(request);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
	struct question *question = arg;
	(void)timeouts;
	if (!question->request->cares->closing)
		take_answer(question, status, answer);
	ares_freeaddrinfo(answer);
	question_done(question->request);
}

static void ask_candidate(struct request *request)
{
	struct cares *cares = request->cares;
	struct lookup *lookup = request->lookup;
	char name[HOST_NAME_SIZE];
	if (!search_name(&cares->now.search, lookup->name, request->candidate, name)) {
		if (request->failure) { /* that another domain has no such name says nothing */
			lookup->outcome[IP_V4] = LOOKUP_FAILED;
			lookup->why = request->failure;
		}
		finish(request);
		return;
	}
	prepare(request);
	request->pending = 1; /* an answer may come from inside */
	for (int family = 0; family < IP_FAMILIES; family++)
		if (name[0] && asks_for(lookup, (enum ip_family)family)) {
			struct ares_addrinfo_hints hints = {
				.ai_flags = ARES_AI_NOSORT, .ai_family = family == IP_V4 ? AF_INET : AF_INET6, .ai_socktype = SOCK_STREAM
			};
			request->pending++;
			ares_getaddrinfo(cares->now.dns, name, NULL, &hints, on_answer, &request->questions[family]);
		}
	question_done(request);
}

static void on_hosts_answer(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
	struct request *request = arg;
	(void)timeouts;
	for (int family = 0; status == ARES_SUCCESS && family < IP_FAMILIES; family++)
		if (asks_for(request->lookup, (enum ip_family)family))
			take_answer(&request->questions[family], status, answer);
	ares_freeaddrinfo(answer);
}

/* A name that /etc/hosts has in one family only has no address in the other one. */
static bool found_in_hosts(struct request *request)
{
	struct ares_addrinfo_hints hints = { .ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	char name[HOST_NAME_SIZE];
	(void)snprintf(name, sizeof name, "%s", request->lookup->name);
	size_t length = strlen(name);
	if (length > 0 && name[length - 1] == '.')
		name[length - 1] = '\0';
	prepare(request);
	ares_getaddrinfo(request->cares->now.hosts, name, NULL, &hints, on_hosts_answer, request);
	request->lookup->ttl_s = HOSTS_TTL_S;
	return any(request->lookup, LOOKUP_GOOD);
}

void cares_ask(struct lookups *lookups, struct lookup *lookup)
{
	struct cares *cares = container_of(lookups, struct cares, base);
	struct request *request = calloc(1, sizeof *request);
	if (!request) {
		lookup->outcome[IP_V4] = LOOKUP_FAILED;
		lookup->why = "out of memory";
		lookups->answered(lookup);
		return;
	}
	*request = (struct request){ .cares = cares, .lookup = lookup };
	if (found_in_hosts(request))
		finish(request);
	else
		ask_candidate(request);
	cares_set_timer(cares);
}
