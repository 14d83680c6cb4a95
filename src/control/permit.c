#include "control/permit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { MOST_GROUPS = 256 };

static unsigned refuse(unsigned status, char *why, size_t why_size, const char *text)
{
	(void)snprintf(why, why_size, "%s", text);
	return status;
}

static bool is_in_group(int fd, const struct ucred *peer, gid_t gid)
{
	gid_t groups[MOST_GROUPS];
	socklen_t length = sizeof groups;
	if (peer->gid == gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) < 0)
		return false;
	for (size_t i = 0; i < length / sizeof groups[0]; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

static unsigned check_peer(const struct http_call *call, const struct control_admin *admin, char *why, size_t why_size)
{
	struct ucred peer;
	socklen_t length = sizeof peer;
	if (getsockopt(call->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return refuse(403, why, why_size, "the kernel does not say who you are");
	if (peer.uid == 0 || peer.uid == admin->uid || peer.uid == admin->run_uid || is_in_group(call->fd, &peer, admin->gid))
		return 0;
	return refuse(403, why, why_size, "be root, the user that Aegis runs as, or a member of its group");
}

bool permit_host_is_local(const char *host)
{
	char name[64];
	struct in6_addr address;
	if (!host)
		return true;
	bool bracket = host[0] == '[';
	size_t length = bracket ? strcspn(host, "]") : strcspn(host, ":");
	if (length >= sizeof name || (bracket && host[length] != ']'))
		return false;
	memcpy(name, host + bracket, length - bracket);
	name[length - bracket] = '\0';
	if (bracket)
		return inet_pton(AF_INET6, name, &address) == 1;
	return strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, &address) == 1;
}

unsigned permit_check(const struct http_call *call, const struct control_admin *admin, const struct token *token, bool changes, char *why,
        size_t why_size)
{
	if (call->gate == HTTP_GATE_UNIX)
		return check_peer(call, admin, why, why_size);
	const char *given = http_header(call, "Authorization");
	if (token_matches(token, given))
		return 0;
	if (given)
		return refuse(401, why, why_size, "this is not the token of admin.token_file");
	if (!admin->is_loopback[call->gate])
		return refuse(401, why, why_size, "the token of admin.token_file is needed (Authorization: Bearer TOKEN)");
	/* A page of the world in a browser of this machine can have its own name stand for 127.0.0.1. */
	if (!permit_host_is_local(http_header(call, "Host")))
		return refuse(403, why, why_size, "ask for localhost or an address, or use the token of admin.token_file");
	if (!changes)
		return 0;
	if (token->length)
		return refuse(401, why, why_size, "changes need the token of admin.token_file (Authorization: Bearer TOKEN)");
	return refuse(403, why, why_size, "changes over TCP need a token, and admin.token_file is not set; use the unix socket admin.sock");
}
