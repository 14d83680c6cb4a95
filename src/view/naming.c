#include "view/naming.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/addr.h"
#include "base/text.h"
#include "shm/sums.h"

/* A string of the segment: perhaps without an end, perhaps hostile. */
static char *take(char *out, size_t size, const char *bytes, size_t n)
{
	char raw[NAMING_SIZE];
	ensure(n < sizeof raw);
	memcpy(raw, bytes, n);
	raw[n] = '\0';
	struct text text = text_of(out, size);
	text_add_printable(&text, raw);
	return out;
}

static char *nameless(char *out, size_t size)
{
	(void)snprintf(out, size, "?");
	return out;
}

char *naming_listener(const struct shm *shm, uint32_t row, char *out, size_t size)
{
	if (row >= sums_n_listeners(shm))
		return nameless(out, size);
	return take(out, size, shm->listeners[row].name, sizeof shm->listeners[row].name);
}

char *naming_server(const struct shm *shm, uint32_t row, char *out, size_t size)
{
	if (row >= sums_n_servers(shm))
		return nameless(out, size);
	return take(out, size, shm->servers[row].name, sizeof shm->servers[row].name);
}

char *naming_server_upstream(const struct shm *shm, uint32_t row, char *out, size_t size)
{
	if (row >= sums_n_servers(shm))
		return nameless(out, size);
	return take(out, size, shm->servers[row].upstream, sizeof shm->servers[row].upstream);
}

char *naming_upstream(const struct shm *shm, uint32_t row, char *out, size_t size)
{
	if (row >= sums_n_upstreams(shm))
		return nameless(out, size);
	return take(out, size, shm->upstreams[row].name, sizeof shm->upstreams[row].name);
}

char *naming_client(const struct record_address *client, char *out, size_t size)
{
	char host[INET6_ADDRSTRLEN];
	bool six = client->family == 6;
	if (client->family != 4 && !six) {
		(void)snprintf(out, size, "unix");
		return out;
	}
	if (!inet_ntop(six ? AF_INET6 : AF_INET, client->bytes, host, sizeof host))
		return nameless(out, size);
	if (client->port)
		(void)snprintf(out, size, six ? "[%s]:%u" : "%s:%u", host, client->port);
	else
		(void)snprintf(out, size, "%s", host);
	return out;
}

static void cidr_from(const struct record_address *address, uint32_t bits, struct cidr *out)
{
	*out = (struct cidr){ .family = address->family == 6 ? AF_INET6 : address->family == 4 ? AF_INET : AF_UNSPEC };
	uint32_t most = out->family == AF_INET6 ? 128 : out->family == AF_INET ? 32 : 0;
	out->bits = (uint8_t)(bits < most ? bits : most);
	memcpy(out->bytes, address->bytes, most / 8);
}

char *naming_range(const struct record_address *range, char *out, size_t size)
{
	struct cidr cidr;
	char text[CIDR_TEXT_SIZE];
	cidr_from(range, range->bits, &cidr);
	(void)snprintf(out, size, "%s", cidr_format(&cidr, text, sizeof text));
	return out;
}

char *naming_connection(uint32_t seat, uint32_t serial, char *out, size_t size)
{
	(void)snprintf(out, size, "%u.%u", seat, serial);
	return out;
}

/* Digits, no more than fit. Returns what stands behind them, NULL where there are none. */
static const char *number(const char *s, uint32_t *out)
{
	uint64_t value = 0;
	const char *at = s;
	for (; *at >= '0' && *at <= '9' && value <= UINT32_MAX; at++)
		value = value * 10 + (uint64_t)(*at - '0');
	if (at == s || value > UINT32_MAX)
		return NULL;
	*out = (uint32_t)value;
	return at;
}

bool naming_parse_connection(const char *s, uint32_t *seat, uint32_t *serial)
{
	uint32_t first, second;
	const char *rest = number(s, &first);
	rest = rest && *rest == '.' ? number(rest + 1, &second) : NULL;
	if (!rest || *rest)
		return false;
	*seat = first;
	*serial = second;
	return true;
}

/* --- which clients are meant ------------------------------------------------------------------------------------------------- */

int client_filter_parse(const char *s, struct client_filter *out, char *why, size_t size)
{
	struct client_filter filter = { .unix_clients = strcmp(s, "unix") == 0 };
	struct endpoint endpoint;
	const char *trouble;
	bool with_port = s[0] == '[' || (strchr(s, ':') && strchr(s, ':') == strrchr(s, ':'));
	if (filter.unix_clients) {
		*out = filter;
		return 0;
	}
	if (!with_port) {
		int error = cidr_parse(s, &filter.range, why, size);
		if (!error)
			*out = filter;
		return error;
	}
	if (endpoint_parse(s, &endpoint, &trouble) || endpoint.kind != ENDPOINT_ADDRESS || !cidr_of(&endpoint.addr.sa, &filter.range)) {
		(void)snprintf(why, size, "this is not the address of a client: write 1.2.3.4, 1.2.3.4:5678, ::1, [::1]:5678 or unix");
		return -EINVAL;
	}
	filter.port = addr_port(&endpoint.addr);
	*out = filter;
	return 0;
}

bool client_filter_has(const struct client_filter *filter, const struct record_address *client)
{
	struct cidr one;
	if (filter->unix_clients)
		return client->family == 0;
	if (client->family != 4 && client->family != 6)
		return false;
	if (filter->port && filter->port != client->port)
		return false;
	cidr_from(client, 128, &one);
	return cidr_contains(&filter->range, &one);
}
