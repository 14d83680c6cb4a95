#include "control/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static int fail(int error, char *why, size_t why_size, const char *path, const char *what)
{
	(void)snprintf(why, why_size, "%s: %s", path, what);
	return error;
}

static int read_whole(int fd, char *bytes, size_t size, size_t *out)
{
	size_t n = 0;
	while (n < size) {
		ssize_t got = read(fd, bytes + n, size - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	*out = n;
	return 0;
}

static int take(const char *bytes, size_t n, struct token *out, const char *path, char *why, size_t why_size)
{
	size_t length = 0;
	while (length < n && bytes[length] != '\n' && bytes[length] != '\r')
		length++;
	while (length > 0 && (bytes[length - 1] == ' ' || bytes[length - 1] == '\t'))
		length--;
	if (length > TOKEN_LONGEST)
		return fail(
		        -EINVAL, why, why_size, path, "its first line is longer than 512 letters; `openssl rand -hex 32` makes a token");
	if (length < TOKEN_SHORTEST)
		return fail(-EINVAL, why, why_size, path,
		        "its first line is shorter than 16 letters, which can be guessed; `openssl rand -hex 32` makes a token");
	for (size_t i = 0; i < length; i++)
		if (bytes[i] <= ' ' || bytes[i] > '~')
			return fail(-EINVAL, why, why_size, path, "a token is letters, digits and signs of ASCII, without spaces");
	out->length = length;
	memcpy(out->bytes, bytes, length);
	return 0;
}

int token_read(const char *path, struct token *out, char *why, size_t why_size)
{
	char bytes[TOKEN_LONGEST + 64];
	size_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fail(-errno, why, why_size, path, strerror(errno));
	int error = read_whole(fd, bytes, sizeof bytes, &n);
	close(fd);
	error = error ? fail(error, why, why_size, path, strerror(-error)) : take(bytes, n, out, path, why, why_size);
	explicit_bzero(bytes, sizeof bytes);
	return error;
}

void token_forget(struct token *token)
{
	explicit_bzero(token, sizeof *token);
}

bool token_matches(const struct token *token, const char *authorization)
{
	static const char scheme[] = "Bearer ";
	if (token->length == 0 || !authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
		return false;
	const char *given = authorization + sizeof scheme - 1;
	given += strspn(given, " ");
	size_t n = strlen(given);
	/* As long as what was given, whatever is in it. */
	unsigned char differs = n != token->length;
	for (size_t i = 0; i < n; i++)
		differs |= (unsigned char)(given[i] ^ token->bytes[i % token->length]);
	return differs == 0;
}
