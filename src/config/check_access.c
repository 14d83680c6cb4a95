/* What must hold between the settings that guard a listener. */
#include <inttypes.h>
#include <string.h>

#include "config/check_parts.h"

enum { KEY_SIZE = 48 };

/* The ranges of both lists, one after the other, and where each was written. */
struct ranges {
	const struct listener_config *listener;
	const struct node *allow, *deny;
	char (*keys)[KEY_SIZE];
	struct names names;
};

static const struct cidr *range_at(const struct ranges *ranges, size_t i)
{
	const struct listener_config *listener = ranges->listener;
	return i < listener->n_allow ? &listener->allow[i] : &listener->deny[i - listener->n_allow];
}

static const struct node *node_at(const struct ranges *ranges, size_t i)
{
	size_t n = ranges->listener->n_allow;
	return i < n ? ranges->allow->children[i] : ranges->deny->children[i - n];
}

/* "allow[3]". Returns out. */
static const char *name_at(const struct ranges *ranges, size_t i, char *out, size_t size)
{
	size_t n = ranges->listener->n_allow;
	snprintf(out, size, "%s[%zu]", i < n ? "allow" : "deny", i < n ? i : i - n);
	return out;
}

static void check_range(const struct check *check, struct ranges *ranges, size_t i, const char *prefix)
{
	const struct cidr *cidr = range_at(ranges, i);
	char own[32], first[32], place[512], text[CIDR_TEXT_SIZE];
	uint64_t halves[2];

	memcpy(halves, cidr->bytes, sizeof halves);
	snprintf(ranges->keys[i], KEY_SIZE, "%x/%x/%" PRIx64 "/%" PRIx64, cidr->family, cidr->bits, halves[0], halves[1]);
	size_t other = names_add(&ranges->names, ranges->keys[i], i);
	if (other == i)
		return;
	bool same_list = (other < ranges->listener->n_allow) == (i < ranges->listener->n_allow);
	check_complain(check, node_at(ranges, i), prefix, name_at(ranges, i, own, sizeof own), "%s is in %s %s%s; %s",
	        cidr_format(cidr, text, sizeof text), name_at(ranges, other, first, sizeof first), same_list ? "already" : "too",
	        check_place_of(node_at(ranges, other), place, sizeof place),
	        same_list ? "leave one of the two out" : "nobody can be both let in and kept out");
}

static bool is_unix(const struct listener_config *listener)
{
	return listener->endpoint.kind == ENDPOINT_ADDRESS && listener->endpoint.addr.sa.sa_family == AF_UNIX;
}

void check_access(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix)
{
	struct ranges ranges = { .listener = listener, .allow = node_find(node, "allow"), .deny = node_find(node, "deny") };
	size_t count = listener->n_allow + listener->n_deny;

	if (count == 0)
		return;
	if (is_unix(listener) && !listener->accept_proxy.enabled)
		check_complain(check, node, prefix, listener->n_allow > 0 ? "allow" : "deny",
		        "clients of a unix socket have no IP address; leave allow and deny out, and set the permissions of the socket's "
		        "folder");
	ranges.keys = calloc(count, KEY_SIZE);
	ensure(ranges.keys != NULL);
	ranges.names = names_of(count);
	for (size_t i = 0; i < count; i++)
		check_range(check, &ranges, i, prefix);
	names_fini(&ranges.names);
	free(ranges.keys);
}

void check_rates(const struct check *check, const struct listener_config *listener, const struct node *node, const char *prefix)
{
	const struct node *bandwidth = node_find(node, "bandwidth");
	const uint64_t up = listener->bandwidth.up_bytes_per_s, down = listener->bandwidth.down_bytes_per_s;
	const uint64_t slowest = listener->min_rate_bytes_per_s;

	if (is_unix(listener) && !listener->accept_proxy.enabled && listener->rate_limit.per != RATE_LIMIT_PER_LISTENER)
		check_complain(
		        check, node, prefix, "rate_limit.per", "clients of a unix socket have no IP address; write per = \"listener\"");
	if (node_find(bandwidth, "per") != NULL && node_find(bandwidth, "up") == NULL && node_find(bandwidth, "down") == NULL)
		check_complain(check, node, prefix, "bandwidth.per",
		        "says of what, and nothing says how much; write up or down, or leave per out");
	if ((up != 0 && slowest > up) || (down != 0 && slowest > down))
		check_complain(check, node, prefix, "min_rate",
		        "is more than bandwidth.%s lets through, so that every client would be too slow; write less",
		        up != 0 && slowest > up ? "up" : "down");
}
