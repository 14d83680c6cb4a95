/* The types of settings that are written as text, and lists of these. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

#include "config/value.h"
#include "config/value_type.h"

void value_add_quoted(struct text *out, const char *s)
{
	text_add(out, "\"");
	for (; s != NULL && *s != '\0'; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			text_add(out, "\\x%02x", (unsigned)*s);
		else
			text_add(out, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
	}
	text_add(out, "\"");
}

/* --- texts ----------------------------------------------------------------------------------------------------------------- */

static bool complain(struct text *problem, const struct node *node, const char *why)
{
	value_is_not(node, problem);
	text_add(problem, ": %s", why);
	return false;
}

static bool bytes_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (node->type != NODE_TEXT)
		return value_is_not(node, problem);
	if (strlen(node->text) > option->max) {
		value_is_not(node, problem);
		text_add(problem, ": it is longer than %" PRIu64 " bytes", option->max);
		return false;
	}
	out->text = node->text;
	return true;
}

/* Spaces may stand between the bytes. What was withheld is taken, too: it is read back to be compared. */
static bool hex_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!bytes_read(option, node, out, problem))
		return false;
	if (strcmp(node->text, VALUE_HIDDEN) == 0)
		return true;
	if (node->text[strspn(node->text, "0123456789abcdefABCDEF ")] != '\0')
		return complain(problem, node, "it has something else than hexadecimal digits and spaces");
	for (const char *p = node->text; *p != '\0'; p++)
		if (*p != ' ' && (*++p == ' ' || *p == '\0'))
			return complain(problem, node, "half of a byte is missing: each has two digits");
	return true;
}

static bool text_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!bytes_read(option, node, out, problem))
		return false;
	for (const char *p = node->text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return complain(problem, node, "it has a control character");
	return true;
}

const char *value_why_no_name(const char *s)
{
	if (*s == '\0')
		return "it is empty";
	for (; *s != '\0'; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("._:/@%*[]-", *s) != NULL))
			return "it has a character that is not allowed in names";
	return NULL;
}

static bool name_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!text_read(option, node, out, problem))
		return false;
	const char *why = value_why_no_name(node->text);
	return why == NULL || complain(problem, node, why);
}

static bool path_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!text_read(option, node, out, problem))
		return false;
	return node->text[0] == '/' || complain(problem, node, "it does not start with \"/\"");
}

static bool file_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!text_read(option, node, out, problem))
		return false;
	return node->text[0] == '\0' || node->text[0] == '/' || complain(problem, node, "it does not start with \"/\"");
}

static bool target_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	static const char *const targets[] = { "stderr", "syslog", "journal" };

	if (!text_read(option, node, out, problem))
		return false;
	if (node->text[0] == '\0' && option->zero != NULL)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(targets); i++)
		if (strcmp(node->text, targets[i]) == 0)
			return true;
	if (node->text[0] == '/')
		return true;
	const char *nearest = text_nearest(node->text, targets, ARRAY_LEN(targets));
	value_is_not(node, problem);
	if (nearest != NULL)
		text_add(problem, "; did you mean \"%s\"?", nearest);
	return false;
}

/* What goes into a line of HTTP as it is. */
static bool url_path_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!path_read(option, node, out, problem))
		return false;
	for (const char *p = node->text; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return complain(problem, node, "it has a character that must be written as %XX in a URL");
	return true;
}

static bool host_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!text_read(option, node, out, problem))
		return false;
	for (const char *p = node->text; *p != '\0'; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-._:[]", *p) != NULL))
			return complain(problem, node, "it has a character that no host name has");
	return true;
}

static void text_store(const struct option *option, const struct value *value, unsigned char *base)
{
	memcpy(base + option->offset, &value->text, sizeof value->text);
}

static void text_show(const struct option *option, const unsigned char *base, struct text *out)
{
	const char *s;
	memcpy(&s, base + option->offset, sizeof s);
	value_add_quoted(out, s);
}

static void text_wanted(const struct option *option, struct text *out)
{
	text_add(out, "text between quotes, at most %" PRIu64 " bytes", option->max);
}

static void name_wanted(const struct option *option, struct text *out)
{
	text_add(out, "a name between quotes: at most %" PRIu64 " letters, digits and any of ._:/@%%*[]-", option->max);
}

static void path_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "an absolute path between quotes");
}

static void file_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "an absolute path between quotes, or \"\" for none");
}

static void target_wanted(const struct option *option, struct text *out)
{
	text_add(out, "\"stderr\", \"syslog\", \"journal\" or the absolute path of a file");
	if (option->zero != NULL)
		text_add(out, ", or \"\" (%s)", option->zero);
}

static void bytes_wanted(const struct option *option, struct text *out)
{
	text_add(out, "text between quotes, at most %" PRIu64 " bytes; \\r, \\n and \\xHH are known in it", option->max);
}

static void hex_wanted(const struct option *option, struct text *out)
{
	text_add(out, "bytes between quotes, as two hexadecimal digits each, with spaces where you like, at most %" PRIu64 " characters",
	        option->max);
}

static void url_path_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "the path of a URL between quotes, for example \"/health\"");
}

static void host_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "a host name between quotes, for example \"app.example.org\"");
}

/* --- addresses ------------------------------------------------------------------------------------------------------------- */

static bool endpoint_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	const char *why = NULL;

	if (!text_read(option, node, out, problem))
		return false;
	return endpoint_parse(node->text, &out->endpoint, &why) == 0 || complain(problem, node, why);
}

static bool listen_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	if (!endpoint_read(option, node, out, problem))
		return false;
	return out->endpoint.kind != ENDPOINT_NAME || complain(problem, node, "listening needs an IP address, not a host name");
}

static bool admin_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	const char *why = NULL;

	if (!text_read(option, node, out, problem))
		return false;
	out->endpoint = (struct endpoint){ .kind = ENDPOINT_NONE };
	if (node->text[0] == '\0')
		return true;
	if (endpoint_parse(node->text, &out->endpoint, &why) != 0)
		return complain(problem, node, why);
	return (out->endpoint.kind == ENDPOINT_ADDRESS && out->endpoint.addr.sa.sa_family != AF_UNIX) ||
	       complain(problem, node, "listening for the operator needs an IP address and a port");
}

static bool server_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	const struct endpoint *endpoint = &out->endpoint;

	if (node->type == NODE_TEXT && node->text[0] != '\0' && node->text[strspn(node->text, "0123456789")] == '\0')
		return complain(problem, node, "the host is missing");
	if (!endpoint_read(option, node, out, problem))
		return false;
	if (endpoint->kind == ENDPOINT_FD || endpoint->kind == ENDPOINT_SYSTEMD)
		return complain(problem, node, "that is for listeners only");
	if (endpoint->kind == ENDPOINT_ADDRESS && addr_is_any(&endpoint->addr))
		return complain(problem, node, "the host is missing");
	bool has_port = endpoint->kind == ENDPOINT_NAME ? endpoint->port != 0
	                                                : endpoint->addr.sa.sa_family == AF_UNIX || addr_port(&endpoint->addr) != 0;
	return has_port || complain(problem, node, "port 0 cannot be connected to");
}

static void endpoint_store(const struct option *option, const struct value *value, unsigned char *base)
{
	text_store(option, value, base);
	memcpy(base + option->endpoint_offset, &value->endpoint, sizeof value->endpoint);
}

static void listen_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "for example \"127.0.0.1:8080\", \"[::1]:8080\", \":8080\" (all addresses) or \"unix:/path\"");
}

static void admin_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "for example \"127.0.0.1:9090\" or \"[::1]:9090\", or \"\" for none");
}

static void server_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "for example \"10.0.0.5:3000\", \"[::1]:3000\", \"db.example.org:5432\" or \"unix:/path\"");
}

/* --- lists ----------------------------------------------------------------------------------------------------------------- */

static bool cidr_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	char why[CIDR_WHY_SIZE];

	(void)option;
	if (node->type != NODE_TEXT || node->text[0] == '\0')
		return value_is_not(node, problem);
	if (cidr_parse(node->text, &out->cidr, why, sizeof why) == 0)
		return true;
	text_add(problem, "%s", why);
	return false;
}

static void cidr_store(const struct option *option, const struct value *value, unsigned char *element)
{
	(void)option;
	memcpy(element, &value->cidr, sizeof value->cidr);
}

static void cidr_show(const struct option *option, const unsigned char *element, struct text *out)
{
	char bytes[CIDR_TEXT_SIZE];
	struct cidr cidr;

	(void)option;
	memcpy(&cidr, element, sizeof cidr);
	text_add(out, "\"%s\"", cidr_format(&cidr, bytes, sizeof bytes));
}

static void cidrs_wanted(const struct option *option, struct text *out)
{
	(void)option;
	text_add(out, "a list of addresses and ranges, for example [ \"10.0.0.0/8\", \"192.0.2.7\", \"2001:db8::/32\" ]");
}

/* An IP address alone means the port of name servers. */
static int resolver_parse(const char *s, struct endpoint *out, const char **why)
{
	char with_port[INET6_ADDRSTRLEN + sizeof "[]:53"];
	unsigned char bytes[16];

	if (inet_pton(AF_INET, s, bytes) == 1)
		snprintf(with_port, sizeof with_port, "%s:53", s);
	else if (inet_pton(AF_INET6, s, bytes) == 1)
		snprintf(with_port, sizeof with_port, "[%s]:53", s);
	else
		return endpoint_parse(s, out, why);
	return endpoint_parse(with_port, out, why);
}

static bool resolver_read(const struct option *option, const struct node *node, struct value *out, struct text *problem)
{
	const char *why = NULL;

	(void)option;
	if (node->type != NODE_TEXT)
		return value_is_not(node, problem);
	if (resolver_parse(node->text, &out->endpoint, &why) != 0)
		return complain(problem, node, why);
	const struct addr *addr = &out->endpoint.addr;
	if (out->endpoint.kind != ENDPOINT_ADDRESS || addr->sa.sa_family == AF_UNIX || addr_is_any(addr))
		return complain(problem, node, "a name server needs an IP address");
	return addr_port(addr) != 0 || complain(problem, node, "port 0 cannot be asked");
}

static void resolver_store(const struct option *option, const struct value *value, unsigned char *element)
{
	(void)option;
	memcpy(element, &value->endpoint.addr, sizeof value->endpoint.addr);
}

static void resolver_show(const struct option *option, const unsigned char *element, struct text *out)
{
	char bytes[ADDR_TEXT_SIZE];
	struct addr addr;

	(void)option;
	memcpy(&addr, element, sizeof addr);
	text_add(out, "\"%s\"", addr_format(&addr, bytes, sizeof bytes));
}

static void resolvers_wanted(const struct option *option, struct text *out)
{
	text_add(out, "a list of at most %" PRIu64 " IP addresses, for example [ \"127.0.0.1:53\", \"2001:db8::53\" ]", option->max);
}

/* clang-format off */
const struct value_type
	value_type_text = { text_read, text_store, text_show, text_wanted, NODE_TEXT, 0, NULL },
	value_type_name = { name_read, text_store, text_show, name_wanted, NODE_TEXT, 0, NULL },
	value_type_path = { path_read, text_store, text_show, path_wanted, NODE_TEXT, 0, NULL },
	value_type_file = { file_read, text_store, text_show, file_wanted, NODE_TEXT, 0, NULL },
	value_type_target = { target_read, text_store, text_show, target_wanted, NODE_TEXT, 0, NULL },
	value_type_bytes = { bytes_read, text_store, text_show, bytes_wanted, NODE_TEXT, 0, NULL },
	value_type_hex = { hex_read, text_store, text_show, hex_wanted, NODE_TEXT, 0, NULL },
	value_type_url_path = { url_path_read, text_store, text_show, url_path_wanted, NODE_TEXT, 0, NULL },
	value_type_host = { host_read, text_store, text_show, host_wanted, NODE_TEXT, 0, NULL },
	value_type_listen = { listen_read, endpoint_store, text_show, listen_wanted, NODE_TEXT, 0, NULL },
	value_type_admin = { admin_read, endpoint_store, text_show, admin_wanted, NODE_TEXT, 0, NULL },
	value_type_server = { server_read, endpoint_store, text_show, server_wanted, NODE_TEXT, 0, NULL },
	value_type_cidrs = { cidr_read, cidr_store, cidr_show, cidrs_wanted, NODE_ARRAY, sizeof(struct cidr),
		"for example \"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"" },
	value_type_resolvers = { resolver_read, resolver_store, resolver_show, resolvers_wanted, NODE_ARRAY, sizeof(struct addr),
		"for example \"127.0.0.1:53\" or \"2001:db8::53\"" };
/* clang-format on */
