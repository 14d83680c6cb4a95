/* Is a listener the one that some settings mean? */
#include <string.h>

#include "net/bind.h"
#include "net/listener.h"

static bool is_ip(const struct endpoint *endpoint)
{
	return endpoint->kind == ENDPOINT_ADDRESS && endpoint->addr.sa.sa_family != AF_UNIX;
}

bool listener_shares_port(const struct listener *listener, const struct listener_config *config)
{
	if (listener->protocol != config->protocol || !is_ip(&listener->endpoint) || !is_ip(&config->endpoint))
		return false;
	return addr_port(&config->endpoint.addr) != 0 && addr_port(&listener->bound) == addr_port(&config->endpoint.addr);
}

static bool same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == ENDPOINT_ADDRESS)
		return addr_equal(&a->addr, &b->addr);
	return a->kind == ENDPOINT_FD ? a->fd == b->fd : strcmp(a->name, b->name) == 0;
}

static bool is_chosen_by_kernel(const struct endpoint *endpoint)
{
	return is_ip(endpoint) && addr_port(&endpoint->addr) == 0;
}

bool listener_is_same(const struct listener_config *a, const struct listener_config *b)
{
	if (a->protocol != b->protocol || !same_endpoint(&a->endpoint, &b->endpoint) ||
	        bind_both_families(a->address) != bind_both_families(b->address))
		return false;
	return !is_chosen_by_kernel(&a->endpoint) || strcmp(a->name, b->name) == 0;
}

bool listener_matches(const struct listener *listener, const struct listener_config *config)
{
	if (listener->protocol != config->protocol || !same_endpoint(&listener->endpoint, &config->endpoint) ||
	        bind_both_families(listener->address) != bind_both_families(config->address))
		return false;
	if (listener->leaving || (listener->hidden && !listener_revivable(listener)))
		return false;
	/* Port 0 is another port for each listener that asks for one. */
	return !is_chosen_by_kernel(&config->endpoint) || strcmp(listener->name, config->name) == 0;
}
