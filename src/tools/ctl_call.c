#include "tools/ctl_call.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"

/* Bytes that grow as they come. */
struct bytes {
	char *at;
	size_t length, room;
};

/* A path that does not fit into the address of a socket is reached through a descriptor of its folder. */
static int make_address(const char *path, struct sockaddr_un *out, int *folder)
{
	const char *slash = strrchr(path, '/');
	char *parent;
	if (text_copy(out->sun_path, sizeof out->sun_path, path))
		return 0;
	if (slash == NULL)
		return -ENAMETOOLONG;
	parent = strndup(path, (size_t)(slash - path));
	if (parent == NULL)
		return -ENOMEM;
	*folder = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int rc = *folder < 0 ? -errno : 0;
	free(parent);
	if (rc == 0 && (size_t)snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d%s", *folder, slash) >= sizeof out->sun_path)
		rc = -ENAMETOOLONG;
	return rc;
}

static int open_socket(const char *path, int *out)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int folder = -1, fd = -1, rc = make_address(path, &address, &folder);
	if (rc < 0)
		goto out;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
		rc = -errno;
out:
	if (folder >= 0)
		close(folder);
	if (rc == 0)
		*out = fd;
	else if (fd >= 0)
		close(fd);
	return rc;
}

static int send_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		/* Who refuses before he has read everything may have answered: that is what counts. */
		if (n < 0)
			return errno == EPIPE || errno == ECONNRESET ? 0 : -errno;
		bytes += n;
		length -= (size_t)n;
	}
	return 0;
}

static int send_request(int fd, const char *method, const char *path, const char *body)
{
	char head[CTL_PATH_SIZE + 256];
	size_t length = body == NULL ? 0 : strlen(body);
	struct text text = text_of(head, sizeof head);
	text_add(&text, "%s %s HTTP/1.0\r\nHost: aegis\r\nAccept: application/json\r\n", method, path);
	if (body != NULL || strcmp(method, "POST") == 0)
		text_add(&text, "Content-Type: application/json\r\nContent-Length: %zu\r\n", length);
	text_add(&text, "\r\n");
	if (text.cut)
		return -ENAMETOOLONG;
	int rc = send_all(fd, head, text.length);
	return rc < 0 || length == 0 ? rc : send_all(fd, body, length);
}

static int make_room(struct bytes *bytes)
{
	if (bytes->length + 1 < bytes->room)
		return 0;
	if (bytes->room >= CTL_MAX_ANSWER_BYTES)
		return -EMSGSIZE;
	size_t room = bytes->room == 0 ? 16384 : bytes->room * 2;
	char *at = realloc(bytes->at, room);
	if (at == NULL)
		return -ENOMEM;
	bytes->at = at;
	bytes->room = room;
	return 0;
}

static int wait_readable(int fd, int timeout_ms)
{
	struct pollfd wanted = { .fd = fd, .events = POLLIN };
	int n;
	do
		n = poll(&wanted, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

static int receive_all(int fd, int timeout_ms, struct bytes *bytes)
{
	for (;;) {
		int rc = make_room(bytes);
		if (rc == 0)
			rc = wait_readable(fd, timeout_ms);
		if (rc < 0)
			return rc;
		ssize_t n = recv(fd, bytes->at + bytes->length, bytes->room - bytes->length - 1, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		/* A reset behind a whole answer does not matter, and one in the middle shows by its length. */
		if (n < 0 && errno != ECONNRESET)
			return -errno;
		if (n <= 0)
			return 0;
		bytes->length += (size_t)n;
	}
}

static int read_status(const char *line)
{
	if (strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) || line[8] != ' ')
		return -EPROTO;
	for (int i = 9; i < 12; i++)
		if (!isdigit((unsigned char)line[i]))
			return -EPROTO;
	int status = (int)strtol(line + 9, NULL, 10);
	return status >= 100 ? status : -EPROTO;
}

/* The value of Content-Length between the status line and the empty line; -1 when it is not told. */
static long long told_length(const char *head, const char *end)
{
	static const char name[] = "\r\nContent-Length:";
	for (const char *line = head; line < end; line++)
		if (line[0] == '\r' && strncasecmp(line, name, sizeof name - 1) == 0)
			return strtoll(line + sizeof name - 1, NULL, 10);
	return -1;
}

int ctl_read_answer(const char *bytes, size_t length, struct ctl_answer *out)
{
	const char *end = memmem(bytes, length, "\r\n\r\n", 4);
	int status = end == NULL || end - bytes < 12 ? -EPROTO : read_status(bytes);
	if (status < 0)
		return status;
	const char *body = end + 4;
	size_t body_length = length - (size_t)(body - bytes);
	long long told = told_length(bytes, end);
	if (told >= 0) {
		if ((unsigned long long)told > body_length)
			return -EPROTO; /* cut short */
		body_length = (size_t)told;
	}
	char *copy = malloc(body_length + 1);
	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, body, body_length);
	copy[body_length] = '\0';
	*out = (struct ctl_answer){ .status = status, .body = copy, .length = body_length };
	return 0;
}

int ctl_call(const char *socket_path, const char *method, const char *path, const char *body, int timeout_ms, struct ctl_answer *out)
{
	struct bytes bytes = { 0 };
	int fd = -1, rc = open_socket(socket_path, &fd);
	if (rc < 0)
		return rc;
	rc = send_request(fd, method, path, body);
	if (rc == 0)
		rc = receive_all(fd, timeout_ms, &bytes);
	close(fd);
	if (rc == 0) {
		bytes.at[bytes.length] = '\0';
		rc = ctl_read_answer(bytes.at, bytes.length, out);
	}
	free(bytes.at);
	return rc;
}

bool ctl_add_encoded(char *path, const char *s)
{
	size_t length = strlen(path);
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		if (length + 4 > CTL_PATH_SIZE)
			return false;
		if (isascii(c) && (isalnum(c) || strchr("-._~", c) != NULL))
			path[length++] = (char)c;
		else
			length += (size_t)snprintf(path + length, 4, "%%%02X", c);
	}
	path[length] = '\0';
	return true;
}
