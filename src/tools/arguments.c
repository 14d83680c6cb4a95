#include "tools/arguments.h"

#include <inttypes.h>
#include <netdb.h>
#include <string.h>

#include "base/clock.h"

enum { MAX_SECONDS = 86400 * 7 };

int arguments_wrong(const char *program, const char *format, const char *what)
{
	fprintf(stderr, "%s: ", program);
	fprintf(stderr, format, what);
	fprintf(stderr, "; see %s --help\n", program);
	return ARGUMENTS_BAD;
}

int arguments_general(const char *program, const char *usage, int option, const char *word)
{
	switch (option) {
	case 'h':
		fputs(usage, stdout);
		return ARGUMENTS_OK;
	case 'V':
		printf("%s %s\n", program, PACKAGE_VERSION);
		return ARGUMENTS_OK;
	case '?':
		return arguments_wrong(program, "there is no option %s", word);
	case ':':
		return arguments_wrong(program, "a value is missing after %s", word);
	default:
		return -1;
	}
}

int arguments_count(const char *program, const char *text, uint64_t most, uint64_t *out)
{
	size_t length = strlen(text);
	bool good = length > 0 && length <= 15 && strspn(text, "0123456789") == length;
	uint64_t value = good ? strtoull(text, NULL, 10) : 0;
	if (value == 0 || value > most) {
		fprintf(stderr, "%s: \"%s\" is not a whole number from 1 to %" PRIu64 "; see %s --help\n", program, text, most, program);
		return ARGUMENTS_BAD;
	}
	*out = value;
	return -1;
}

int arguments_decimal(const char *program, const char *text, double most, double *out)
{
	size_t length = strlen(text);
	char *end = NULL;
	double value = length > 0 && length <= 20 && strspn(text, "0123456789.") == length ? strtod(text, &end) : -1;
	if (end == NULL || *end != '\0' || value < 0 || value > most) {
		fprintf(stderr, "%s: \"%s\" is not a number from 0 to %.0f; see %s --help\n", program, text, most, program);
		return ARGUMENTS_BAD;
	}
	*out = value;
	return -1;
}

int arguments_seconds(const char *program, const char *text, uint64_t *out_ns)
{
	double seconds = 0;
	int code = arguments_decimal(program, text, MAX_SECONDS, &seconds);
	if (code < 0)
		*out_ns = (uint64_t)(seconds * (double)NS_PER_S);
	return code;
}

int arguments_sources(const char *program, const char *text, struct source_range *out)
{
	return source_range_parse(text, out) ? -1
	                                     : arguments_wrong(program, "\"%s\" is not a range of IPv4 addresses as in 127.0.0.0/8", text);
}

static int resolve(const char *program, const struct endpoint *endpoint, int socket_type, struct addr *out)
{
	struct addrinfo hints = { .ai_socktype = socket_type }, *found = NULL;
	int rc = getaddrinfo(endpoint->name, NULL, &hints, &found);
	if (rc != 0) {
		fprintf(stderr, "%s: %s: %s\n", program, endpoint->name, gai_strerror(rc));
		return ARGUMENTS_START;
	}
	addr_from_sockaddr(out, found->ai_addr, found->ai_addrlen);
	addr_set_port(out, endpoint->port);
	freeaddrinfo(found);
	return -1;
}

int arguments_target(const char *program, const char *text, int socket_type, struct addr *out)
{
	struct endpoint endpoint;
	const char *why;
	if (endpoint_parse(text, &endpoint, &why) < 0) {
		fprintf(stderr, "%s: \"%s\" is not HOST:PORT: %s\n", program, text, why);
		return ARGUMENTS_BAD;
	}
	if (endpoint.kind == ENDPOINT_NAME)
		return resolve(program, &endpoint, socket_type, out);
	bool local = endpoint.kind == ENDPOINT_ADDRESS && endpoint.addr.sa.sa_family == AF_UNIX;
	if (endpoint.kind != ENDPOINT_ADDRESS || (local ? socket_type != SOCK_STREAM : addr_port(&endpoint.addr) == 0) ||
	        addr_is_any(&endpoint.addr))
		return arguments_wrong(program, "\"%s\" is no address to connect to", text);
	*out = endpoint.addr;
	return -1;
}
