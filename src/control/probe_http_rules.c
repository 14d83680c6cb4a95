#include "control/probe_http.h"

#include <errno.h>
#include <string.h>

static bool is_path(const char *path)
{
	for (const char *c = path; *c; c++)
		if (*c <= ' ' || *c > '~' || *c == '#')
			return false;
	return path[0] == '/';
}

/* Letters, digits and what stands in names, ports and IPv6 addresses: whether it is a host at all the server will tell. */
static bool is_host(const char *host)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]";

	return host[strspn(host, allowed)] == '\0';
}

int probe_http_rules_check(const struct probe_http_rules *rules, const char **why)
{
	const char *wrong = NULL;

	if (!is_path(rules->path))
		wrong = "the path does not begin with '/', or has a blank, a '#' or a byte that needs % encoding";
	else if (!is_host(rules->host))
		wrong = "the host has a character that is in no host name";
	else if (strlen(rules->path) > PROBE_HTTP_TEXT_MAX || strlen(rules->host) >= HOST_NAME_SIZE)
		wrong = "the path or the host is too long";
	if (!wrong)
		return 0;
	*why = wrong;
	return -EINVAL;
}
