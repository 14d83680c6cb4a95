#include "config/options.h"

#include <string.h>

#include "config/field.h"

const char *const reload_texts[N_RELOADS] = {
	[RELOAD_LIVE] = "at once",
	[RELOAD_IN_PLACE] = "at once, in place",
	[RELOAD_WORKERS] = "for new connections",
	[RELOAD_RESTART] = "after a restart",
};

const struct object_row object_rows[N_OBJECTS] = {
	[OBJECT_TOP] = { .parent = OBJECT_TOP, .key = "" },
	[OBJECT_LOG] = { .parent = OBJECT_TOP, .key = "log", .help = "Aegis's own messages." },
	[OBJECT_ACCESS_LOG] = { .parent = OBJECT_TOP,
	        .key = "access_log",
	        .switch_key = "path",
	        .help = "One record for each connection when it ends, whatever its end, those that were refused included; and from time to "
	                "time "
	                "one for each that lasts. See ACCESS LOG." },
	[OBJECT_DRAIN] = { .parent = OBJECT_TOP,
	        .key = "drain",
	        .help = "What happens to connections when their workers are to end: at a reload, a stop, a drain." },
	[OBJECT_ADMIN] = { .parent = OBJECT_TOP,
	        .key = "admin",
	        .help = "The admin API and the metrics over TCP, see aegis(8). The unix socket admin.sock in runtime_dir is always "
	                "there." },
	[OBJECT_LISTENER] = { .parent = OBJECT_TOP,
	        .key = "listeners",
	        .list = true,
	        .required = true,
	        .array_offset = FIELD(config, listeners, struct listener_config *),
	        .count_offset = FIELD(config, n_listeners, size_t),
	        .element_size = sizeof(struct listener_config),
	        .max = CONFIG_MAX_LISTENERS,
	        .help = "Where clients connect to. At least one." },
	[OBJECT_RESOLVER] = { .parent = OBJECT_TOP,
	        .key = "resolver",
	        .help = "How host names of servers are looked up. They are looked up again when the answer is no longer good; while no "
	                "name "
	                "server answers, the last good answer stays." },
	[OBJECT_LISTENER_ROUTE] = { .parent = OBJECT_LISTENER,
	        .key = "sni",
	        .list = true,
	        .array_offset = FIELD(listener_config, routes, struct route_config *),
	        .count_offset = FIELD(listener_config, n_routes, size_t),
	        .element_size = sizeof(struct route_config),
	        .max = CONFIG_MAX_ROUTES,
	        .labelled = true,
	        .label_offset = FIELD(route_config, label, const char *),
	        .only_with = "protocol",
	        .only_words = UINT32_C(1) << PROTOCOL_TCP,
	        .help = "Routes: which upstream clients of TLS go to, by the name of the server that they ask for. Aegis reads the first "
	                "message of the client, and takes no part in the encryption: certificates and keys are those of the servers. See "
	                "ROUTES." },
	[OBJECT_LISTENER_HELLO] = { .parent = OBJECT_LISTENER,
	        .key = "client_hello",
	        .switch_offset = FIELD(listener_config, n_routes, size_t),
	        .only_with = "protocol",
	        .only_words = UINT32_C(1) << PROTOCOL_TCP,
	        .help = "How the first message of a client of TLS is read where sni is written; without that it is not read at all." },
	[OBJECT_LISTENER_ACME] = { .parent = OBJECT_LISTENER,
	        .key = "acme",
	        .switch_key = "challenges",
	        .only_with = "protocol",
	        .only_words = UINT32_C(1) << PROTOCOL_TCP,
	        .help = "Aegis itself gives authorities of ACME the answers that prove whose a name is (http-01): for the listener at port "
	                "80. See ACME." },
	[OBJECT_LISTENER_ACCEPT_PROXY] = { .parent = OBJECT_LISTENER,
	        .key = "accept_proxy",
	        .switch_key = "enabled",
	        .only_with = "protocol",
	        .only_words = UINT32_C(1) << PROTOCOL_TCP,
	        .help = "Connections come from other proxies, which tell who the client is by a header of the PROXY protocol (version 1 or "
	                "2) "
	                "in front of all that he says. The client that they tell of then counts: for allow and deny, rate_limit, the "
	                "choice "
	                "of a server, logs and the flight recorder. See PROXY PROTOCOL." },
	[OBJECT_LISTENER_RATE_LIMIT] = { .parent = OBJECT_LISTENER,
	        .key = "rate_limit",
	        .switch_key = "connections_per_second",
	        .help = "How fast new connections may come, exact over all workers. Those that come faster are closed at once." },
	[OBJECT_LISTENER_BANDWIDTH] = { .parent = OBJECT_LISTENER,
	        .key = "bandwidth",
	        .only_with = "protocol",
	        .only_words = UINT32_C(1) << PROTOCOL_TCP,
	        .help = "How fast bytes may go. What comes faster waits; nothing is lost." },
	[OBJECT_LISTENER_UDP] = { .parent = OBJECT_LISTENER,
	        .key = "udp",
	        .only_with = "protocol",
	        .only_words = UINT32_C(1) << PROTOCOL_UDP,
	        .help = "Sessions of datagrams: all that one client, known by its address and port, says to one address of this machine, "
	                "and "
	                "what the server answers. A session has a server, and counts as a connection." },
	[OBJECT_LISTENER_TCP] = { .parent = OBJECT_LISTENER,
	        .key = "tcp",
	        .only_with = "protocol",
	        .only_words = UINT32_C(1) << PROTOCOL_TCP,
	        .help = "Socket options of the connections from clients; see tcp(7)." },
	[OBJECT_TLS] = { .parent = OBJECT_TOP, .key = "tls", .help = "What all listeners with TLS have in common." },
	[OBJECT_LISTENER_TLS] = { .parent = OBJECT_LISTENER,
	        .key = "tls",
	        .switch_key = "enabled",
	        .only_with = "protocol",
	        .only_words = UINT32_C(1) << PROTOCOL_TCP,
	        .help = "Clients speak TLS, and Aegis ends it here. TLS 1.2 and 1.3 with forward secrecy, no renegotiation, no "
	                "compression, no early data." },
	[OBJECT_CERTIFICATE] = { .parent = OBJECT_LISTENER_TLS,
	        .key = "certificates",
	        .list = true,
	        .array_offset = FIELD(listener_config, tls.certificates, struct certificate_config *),
	        .count_offset = FIELD(listener_config, tls.n_certificates, size_t),
	        .element_size = sizeof(struct certificate_config),
	        .max = CONFIG_MAX_CERTIFICATES,
	        .labelled = true,
	        .label_offset = FIELD(certificate_config, cert, const char *),
	        .help = "At least one. The name that a client asks for (SNI) decides: an exact name of a certificate, else one with a "
	                "wildcard (*.example.org), else the first of the list. Two of one name, one with an RSA and one with an ECDSA "
	                "key, are a pair: the client gets the one that it can verify, ECDSA first." },
	[OBJECT_LISTENER_TIMEOUT] = { .parent = OBJECT_LISTENER, .key = "timeout", .help = "How long a connection may take." },
	[OBJECT_UPSTREAM] = { .parent = OBJECT_TOP,
	        .key = "upstreams",
	        .list = true,
	        .array_offset = FIELD(config, upstreams, struct upstream_config *),
	        .count_offset = FIELD(config, n_upstreams, size_t),
	        .element_size = sizeof(struct upstream_config),
	        .max = CONFIG_MAX_SERVERS,
	        .required = true,
	        .help = "Groups of servers that do the same work. At least one." },
	[OBJECT_SERVER] = { .parent = OBJECT_UPSTREAM,
	        .key = "servers",
	        .list = true,
	        .required = true,
	        .array_offset = FIELD(upstream_config, servers, struct server_config *),
	        .count_offset = FIELD(upstream_config, n_servers, size_t),
	        .element_size = sizeof(struct server_config),
	        .max = CONFIG_MAX_SERVERS,
	        .help = "The servers of the upstream. At least one that is not a backup." },
	[OBJECT_UPSTREAM_TIMEOUT] = { .parent = OBJECT_UPSTREAM, .key = "timeout", .help = "How long a server may take." },
	[OBJECT_UPSTREAM_AFFINITY] = { .parent = OBJECT_UPSTREAM,
	        .key = "affinity",
	        .switch_key = "ttl",
	        .help = "Clients come back to the server that they had before, over all workers." },
	[OBJECT_UPSTREAM_HEALTH] = { .parent = OBJECT_UPSTREAM,
	        .key = "health",
	        .switch_key = "type",
	        .help = "Active checks: Aegis asks each server time and again whether it can do its work. A server that is down gets no "
	                "new "
	                "connection." },
	[OBJECT_UPSTREAM_BREAKER] = { .parent = OBJECT_UPSTREAM,
	        .key = "circuit_breaker",
	        .switch_key = "error_threshold",
	        .help = "A server that fails client after client gets no new connection for a while, then a few to try, and all again when "
	                "these went well." },
	[OBJECT_UPSTREAM_OUTLIER] = { .parent = OBJECT_UPSTREAM,
	        .key = "outlier",
	        .switch_key = "failures",
	        .help = "A server that fails while others do not is taken out for a while; the same server longer each time." },
	[OBJECT_UPSTREAM_QUEUE] = { .parent = OBJECT_UPSTREAM,
	        .key = "queue",
	        .switch_key = "size",
	        .help = "The line in front of full servers: clients wait for a place, first come, first served, instead of being "
	                "refused." },
	[OBJECT_UPSTREAM_POOL] = { .parent = OBJECT_UPSTREAM,
	        .key = "pool",
	        .help = "Connections to the servers that are established before a client needs them. They count as connections of the "
	                "server." },
	[OBJECT_UPSTREAM_TCP] = { .parent = OBJECT_UPSTREAM,
	        .key = "tcp",
	        .help = "Socket options of the connections to the servers; see tcp(7)." },
	[OBJECT_UPSTREAM_TLS] = { .parent = OBJECT_UPSTREAM,
	        .key = "tls",
	        .switch_key = "enabled",
	        .other_switch_offset = FIELD(upstream_config, health.tls, bool),
	        .help = "Speak TLS to the servers. Without this group bytes go to them as they are." },
};

const struct option *option_find(enum object object, const char *key)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_rows[i].object == object && strcmp(option_rows[i].key, key) == 0)
			return &option_rows[i];
	return NULL;
}

enum object object_find(enum object parent, const char *key)
{
	for (enum object object = OBJECT_TOP + 1; object < N_OBJECTS; object++)
		if (object_rows[object].parent == parent && strcmp(object_rows[object].key, key) == 0)
			return object;
	return N_OBJECTS;
}

size_t option_keys(enum object object, const char *out[], size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < n_option_rows && n < size; i++)
		if (option_rows[i].object == object)
			out[n++] = option_rows[i].key;
	for (enum object child = OBJECT_TOP + 1; child < N_OBJECTS && n < size; child++)
		if (object_rows[child].parent == object)
			out[n++] = object_rows[child].key;
	return n;
}

bool object_is_on(enum object object, const void *base)
{
	const char *key = object_rows[object].switch_key;
	size_t offset = object_rows[object].switch_offset, other = object_rows[object].other_switch_offset, count = 1;

	if (offset != 0)
		memcpy(&count, (const unsigned char *)base + offset, sizeof count);
	if (key == NULL)
		return count > 0;
	if (other != 0 && ((const unsigned char *)base)[other] != 0)
		return true;
	const struct option *option = option_find(object, key);
	const unsigned char *at = (const unsigned char *)base + option->offset;
	uint32_t word;
	uint64_t number;
	const char *text;
	if (option->type == OPTION_TARGET || option->type == OPTION_FILE) {
		memcpy(&text, at, sizeof text);
		return text != NULL && *text != '\0';
	}
	if (option->type == OPTION_BOOL)
		return *at != 0;
	memcpy(&word, at, sizeof word);
	if (option->type != OPTION_DURATION)
		return word != 0;
	memcpy(&number, at, sizeof number);
	return number != 0;
}

/* The setting that another one depends on: in its own object, or in that which its group is in. */
static const struct option *find_condition(enum object object, const char *key)
{
	const struct option *option = option_find(object, key);

	return option != NULL ? option : find_condition(object_rows[object].parent, key);
}

static bool has_word(enum object object, const char *only_with, uint32_t only_words, const void *base)
{
	uint32_t word;

	if (only_with == NULL)
		return true;
	memcpy(&word, (const unsigned char *)base + find_condition(object, only_with)->offset, sizeof word);
	return (only_words >> word & 1) != 0;
}

bool object_is_of_use(enum object object, const void *base)
{
	return has_word(object_rows[object].parent, object_rows[object].only_with, object_rows[object].only_words, base);
}

bool option_is_of_use(const struct option *option, const void *base)
{
	/* of a list base is one of its elements, which would not be there */
	bool in_use = object_rows[option->object].list || object_is_of_use(option->object, base);
	return in_use && has_word(option->object, option->only_with, option->only_words, base);
}

bool option_has_effect(const struct option *option, const void *base)
{
	const char *key = object_rows[option->object].switch_key;

	if (key != NULL && strcmp(key, option->key) == 0)
		return true;
	return object_is_on(option->object, base) && option_is_of_use(option, base);
}

static void add_use(enum object object, const char *only_with, uint32_t left, struct text *out)
{
	const struct option *other = find_condition(object, only_with);

	text_add(out, "%s = ", only_with);
	for (size_t i = 0; i < other->n_words && left != 0; i++) {
		if ((left >> i & 1) == 0)
			continue;
		left &= ~(UINT32_C(1) << i);
		const char *after = left == 0 ? "" : (left & (left - 1)) == 0 ? " or " : ", ";
		text_add(out, "\"%s\"%s", other->words[i], after);
	}
}

void option_add_use(const struct option *option, struct text *out)
{
	add_use(option->object, option->only_with, option->only_words, out);
}

void object_add_use(enum object object, struct text *out)
{
	add_use(object_rows[object].parent, object_rows[object].only_with, object_rows[object].only_words, out);
}
