/* Names as they are: of three labels and four, one of ten routes a wildcard; clients ask for one of them, or one below it. */
#include <stdio.h>
#include <string.h>

#include "micro.h"
#include "policy/routes.h"

enum { NAME_SIZE = 48 };

struct routes_bench {
	struct routes *routes;
	struct route_config *configs;
	char (*names)[NAME_SIZE]; /* as in the settings */
	char (*asked)[NAME_SIZE];
	uint32_t *order;
	uint32_t n, next;
};

static const uint8_t *no_protocol(const void *from, size_t n, size_t *length)
{
	(void)from;
	(void)n;
	*length = 0;
	return NULL;
}

void *routes_begin(uint32_t n, uint32_t kind)
{
	struct routes_bench *bench = micro_memory(1, sizeof *bench);
	(void)kind;
	bench->configs = micro_memory(n, sizeof *bench->configs);
	bench->names = micro_memory(n, sizeof *bench->names);
	bench->asked = micro_memory(n, sizeof *bench->asked);
	for (uint32_t i = 0; i < n; i++) {
		bool wild = i % 10 == 9;
		(void)snprintf(bench->names[i], NAME_SIZE, "%scustomer%u.shop.example.org", wild ? "*." : "", i);
		(void)snprintf(bench->asked[i], NAME_SIZE, "%scustomer%u.shop.example.org", wild ? "www." : "", i);
		bench->configs[i] = (struct route_config){ .name = bench->names[i], .alpn = "" };
	}
	ensure(routes_new(bench->configs, n, &bench->routes) == 0);
	bench->order = micro_order(n);
	bench->n = n;
	return bench;
}

uint64_t routes_run(void *state, uint64_t times)
{
	struct routes_bench *bench = state;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < times; i++) {
		const char *name = bench->asked[bench->order[bench->next]];
		const struct route_client client = { .name = name, .name_length = strlen(name), .protocol = no_protocol };
		bench->next = bench->next + 1 < bench->n ? bench->next + 1 : 0;
		const struct route_config *route = routes_find(bench->routes, &client);
		ensure(route);
		sum += (uint64_t)(route - bench->configs);
	}
	micro_sink = sum;
	return times;
}

void routes_end(void *state)
{
	struct routes_bench *bench = state;

	routes_free(bench->routes);
	free(bench->configs);
	free(bench->names);
	free(bench->asked);
	free(bench->order);
	free(bench);
}
