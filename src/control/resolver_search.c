#include "control/resolver_search.h"

#include <stdio.h>
#include <string.h>

void search_add(struct search *search, const char *domain)
{
	size_t length = strlen(domain);
	while (length > 0 && domain[length - 1] == '.')
		length--;
	if (length == 0 || length >= HOST_NAME_SIZE || search->n_domains == SEARCH_MAX_DOMAINS)
		return;
	char *own = search->domains[search->n_domains++];
	memcpy(own, domain, length);
	own[length] = '\0';
}

bool search_name(const struct search *search, const char *name, int candidate, char out[static HOST_NAME_SIZE])
{
	size_t length = strlen(name);
	bool absolute = length > 0 && name[length - 1] == '.';
	int dots = 0;
	for (const char *at = name; *at; at++)
		dots += *at == '.';
	int as_is = dots >= search->ndots ? 0 : search->n_domains;
	int domain = candidate - (candidate > as_is);
	if (absolute || candidate == as_is) {
		memcpy(out, name, length + 1 - absolute);
		out[length - absolute] = '\0';
		return !absolute || candidate == 0;
	}
	if (domain >= search->n_domains)
		return false;
	if (snprintf(out, HOST_NAME_SIZE, "%s.%s", name, search->domains[domain]) >= HOST_NAME_SIZE)
		out[0] = '\0'; /* too long to exist */
	return true;
}
