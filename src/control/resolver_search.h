/* The names that a name may stand for: the search domains of resolv.conf(5). */
#ifndef AEGIS_CONTROL_RESOLVER_SEARCH_H
#define AEGIS_CONTROL_RESOLVER_SEARCH_H

#include <stdbool.h>

#include "base/addr.h"

enum { SEARCH_MAX_DOMAINS = 32 };

struct search {
	int ndots; /* a name with that many dots is tried as it is first, any other one last */
	int n_domains;
	char domains[SEARCH_MAX_DOMAINS][HOST_NAME_SIZE];
};

/* Without effect for the root, a domain too long, and beyond SEARCH_MAX_DOMAINS. */
void search_add(struct search *search, const char *domain);

/* The candidate of that number from 0 on, without a dot at the end; "" for one that is too long to exist. False after the last one. name
 * is shorter than HOST_NAME_SIZE; with a dot at the end it stands for itself only. */
bool search_name(const struct search *search, const char *name, int candidate, char out[static HOST_NAME_SIZE]);

#endif
