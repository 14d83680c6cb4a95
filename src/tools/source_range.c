#include "tools/source_range.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool source_range_parse(const char *text, struct source_range *out)
{
	char address[INET_ADDRSTRLEN] = "";
	const char *slash = strchr(text, '/');
	size_t digits = slash != NULL ? strlen(slash + 1) : 0;
	if (digits == 0 || digits > 2 || strspn(slash + 1, "0123456789") != digits || (size_t)(slash - text) >= sizeof address)
		return false;
	memcpy(address, text, (size_t)(slash - text));
	unsigned long bits = strtoul(slash + 1, NULL, 10);
	struct in_addr in;
	if (bits < 8 || bits > 32 || inet_pton(AF_INET, address, &in) != 1)
		return false;
	uint32_t size = (uint32_t)(UINT64_C(1) << (32 - bits));
	uint32_t first = ntohl(in.s_addr) & ~(size - 1);
	out->first = size > 2 ? first + 1 : first;
	out->count = size > 2 ? size - 2 : size;
	return true;
}

int source_range_bind(const struct source_range *range, uint64_t turn, int fd)
{
	if (range->count == 0)
		return 0;
	struct sockaddr_in source = { .sin_family = AF_INET };
	source.sin_addr.s_addr = htonl(range->first + (uint32_t)(turn % range->count));
	source.sin_port = htons((uint16_t)(range->port + (range->port != 0 ? turn / range->count : 0)));
	int on = 1;
	/* The port is chosen when the target is known: then it need only be free for this pair of addresses (TCP). */
	if ((range->port == 0 && setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0) ||
	        bind(fd, (struct sockaddr *)&source, sizeof source) < 0)
		return -errno;
	return 0;
}
