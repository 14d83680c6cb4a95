#include "pool_actors.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/attr.h"

const char *found;
uint64_t tagged_bytes;

enum { TAG = 0x80, NEUTRAL = '.' };

/* splitmix64 (Steele, Lea, Flood, 2014) */
uint32_t chance_below(struct chance *chance, uint32_t n)
{
	uint64_t z = (chance->state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ z >> 31) % n);
}

/* --- bytes ------------------------------------------------------------------------------------------------------------------- */

struct message {
	char *bytes;
	size_t length;
};

static void add_format(struct message *message, const char *format, ...) printf_like(2, 3);
static void add_format(struct message *message, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int count = vsnprintf(message->bytes + message->length, OUT_MOST - message->length, format, args);
	va_end(args);
	if (count > 0 && message->length + (size_t)count < OUT_MOST)
		message->length += (size_t)count;
}

static void add_bytes(struct message *message, uint8_t byte, size_t count)
{
	if (count > OUT_MOST - message->length)
		count = OUT_MOST - message->length;
	memset(message->bytes + message->length, byte, count);
	message->length += count;
}

static void close_fd(int *fd, bool reset)
{
	if (*fd < 0)
		return;
	if (reset)
		(void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
	close(*fd);
	*fd = -1;
}

/* --- what clients say -------------------------------------------------------------------------------------------------------- */

static void add_http_request(struct message *message, uint8_t tag, struct chance *chance)
{
	static const char *const methods[] = { "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS" };
	const char *method = methods[chance_below(chance, ARRAY_LEN(methods))];
	size_t body = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ? chance_below(chance, 300) : 0;
	bool chunked = body > 0 && chance_percent(chance, 30);
	add_format(message, "%s /t%02x HTTP/1.1\r\nHost: h\r\n", method, tag);
	if (chunked)
		add_format(message, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", body);
	else if (body > 0 || strcmp(method, "POST") == 0)
		add_format(message, "Content-Length: %zu\r\n\r\n", body);
	else
		add_format(message, "\r\n");
	add_bytes(message, (uint8_t)(TAG | tag), body);
	if (chunked)
		add_format(message, "\r\n0\r\n\r\n");
}

static void add_redis_request(struct message *message, uint8_t tag, struct chance *chance)
{
	size_t size = 1 + chance_below(chance, 200);
	add_format(message, "*2\r\n$4\r\n%s\r\n$%zu\r\n", chance_percent(chance, 50) ? "ECHO" : "echo", size);
	add_bytes(message, (uint8_t)(TAG | tag), size);
	add_format(message, "\r\n");
}

static void add_request(struct message *message, uint8_t tag, const struct manners *manners, struct chance *chance)
{
	if (manners->kind == FRAMING_HTTP1) {
		add_http_request(message, tag, chance);
	} else if (manners->kind == FRAMING_REDIS) {
		add_redis_request(message, tag, chance);
	} else {
		add_bytes(message, (uint8_t)(TAG | tag), 1 + chance_below(chance, 100));
		add_format(message, "\n");
	}
}

/* What a client should not say, or what leaves something behind. */
static void add_bad_request(struct message *message, uint8_t tag, const struct manners *manners, struct chance *chance)
{
	static const char *const bad[] = { "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "\r\n\r\n", "GET / HTT", "*1\r\n$5\r\nMULTI\r\n",
		"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n", "*2\r\n$4\r\nPI", "PING\r\n", "*-1\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "half a line" };
	size_t start = message->length;
	if (chance_percent(chance, 60)) {
		add_format(message, "%s", bad[chance_below(chance, ARRAY_LEN(bad))]);
		add_bytes(message, (uint8_t)(TAG | tag), chance_below(chance, 3));
		return;
	}
	add_request(message, tag, manners, chance);
	size_t length = message->length - start;
	if (length == 0)
		return;
	if (chance_percent(chance, 50))
		message->length = start + chance_below(chance, (uint32_t)length); /* the rest never comes */
	else
		message->bytes[start + chance_below(chance, (uint32_t)length)] =
		        " \r\n:;/!$*+-\t\0GHTPx"[chance_below(chance, 19)]; /* no other tag */
}

static void say_something(struct client *client, const struct manners *manners, struct chance *chance)
{
	struct message message = { client->out, 0 };
	for (uint32_t i = 1 + chance_below(chance, 3); i > 0; i--)
		if (chance_percent(chance, manners->bad_client))
			add_bad_request(&message, client->tag, manners, chance);
		else
			add_request(&message, client->tag, manners, chance);
	client->out_at = 0;
	client->out_length = message.length;
}

/* --- clients ----------------------------------------------------------------------------------------------------------------- */

void client_begin(struct client *client, int fd, uint8_t tag, const struct manners *manners, struct chance *chance)
{
	client->fd = fd;
	client->tag = tag;
	client->ended = false;
	client->out_at = client->out_length = 0;
	if (chance_percent(chance, 90))
		say_something(client, manners, chance);
}

void client_close(struct client *client)
{
	close_fd(&client->fd, true);
}

static void client_read(struct client *client)
{
	uint8_t bytes[4096];
	ssize_t count;
	while ((count = recv(client->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
		for (ssize_t i = 0; i < count; i++) {
			if (bytes[i] < TAG)
				continue;
			tagged_bytes++;
			if (bytes[i] != (TAG | client->tag)) {
				fprintf(stderr, "client %u received a byte of client %u\n", client->tag, bytes[i] & (TAG - 1));
				found = "a client received bytes of another one";
			}
		}
	if (count == 0 || errno != EAGAIN)
		close_fd(&client->fd, false);
}

static void client_write(struct client *client, struct chance *chance)
{
	size_t left = client->out_length - client->out_at;
	size_t piece = chance_percent(chance, 60) ? left : 1 + chance_below(chance, (uint32_t)left);
	ssize_t sent = send(client->fd, client->out + client->out_at, piece, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent > 0)
		client->out_at += (size_t)sent;
}

void client_act(struct client *client, const struct manners *manners, struct chance *chance)
{
	uint32_t what = chance_below(chance, 100);
	if (what < 50)
		client_read(client);
	else if (client->out_at < client->out_length && !client->ended)
		client_write(client, chance);
	else if (what < 75 && !client->ended)
		say_something(client, manners, chance);
	else if (what < 90 && !client->ended)
		client->ended = shutdown(client->fd, SHUT_WR) == 0;
	else if (what < 95)
		close_fd(&client->fd, what < 93);
}

/* --- what the server says ---------------------------------------------------------------------------------------------------- */

static uint8_t voice(const struct peer *peer)
{
	return peer->known && peer->owner >= 0 ? (uint8_t)(TAG | peer->owner) : NEUTRAL;
}

static void add_http_answer(struct message *message, const struct peer *peer, struct chance *chance)
{
	bool head = peer->framing.heads & 1;
	size_t size = chance_below(chance, 300);
	uint32_t what = chance_below(chance, 100);
	if (what < 5)
		add_format(message, "HTTP/1.1 100 Continue\r\n\r\n");
	if (what < 15) {
		add_format(message, "HTTP/1.1 %d Nothing\r\n\r\n", what < 10 ? 204 : 304);
	} else if (what < 40 && !head) {
		add_format(message, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", size + 1);
		add_bytes(message, voice(peer), size + 1);
		add_format(message, "\r\n0\r\n\r\n");
	} else {
		add_format(message, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
		add_bytes(message, voice(peer), head ? 0 : size);
	}
}

static void add_answer(struct message *message, const struct peer *peer, const struct manners *manners, struct chance *chance)
{
	if (manners->kind == FRAMING_HTTP1) {
		add_http_answer(message, peer, chance);
	} else if (manners->kind == FRAMING_REDIS) {
		size_t size = chance_below(chance, 200);
		add_format(message, "$%zu\r\n", size);
		add_bytes(message, voice(peer), size);
		add_format(message, "\r\n");
	} else {
		add_bytes(message, voice(peer), chance_below(chance, 100));
		add_format(message, "\n");
	}
}

static void add_bad_answer(struct message *message, const struct peer *peer, const struct manners *manners, struct chance *chance)
{
	static const char *const bad[] = { "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 101 Switching\r\n\r\n", "-ERR\r\n", ">3\r\n", "*2\r\n", "$-1\r\n", ":1\r\n",
		"HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\n", "\n", "\r\n" };
	uint32_t what = chance_below(chance, 100);
	if (what < 40)
		add_format(message, "%s", bad[chance_below(chance, ARRAY_LEN(bad))]);
	else
		add_answer(message, peer, manners, chance);
	if (what < 70)
		add_bytes(message, voice(peer), chance_below(chance, 30));
	else if (what < 90 && message->length > 0)
		message->length = chance_below(chance, (uint32_t)message->length);
	else
		add_answer(message, peer, manners, chance);
}

/* --- the server -------------------------------------------------------------------------------------------------------------- */

void peer_begin(struct peer *peer, int fd, const struct manners *manners)
{
	peer->fd = fd;
	peer->owner = -1;
	peer->known = peer->was_clean = true;
	peer->said_bad = false;
	peer->rest_at = peer->rest_length = 0;
	framing_init(&peer->framing, manners->kind);
}

void peer_close(struct peer *peer)
{
	close_fd(&peer->fd, true);
}

static int hex(uint8_t byte)
{
	return byte >= '0' && byte <= '9' ? byte - '0' : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The last tag in some bytes, or -1. */
static int last_tag(const uint8_t *bytes, size_t count)
{
	int tag = -1;
	for (size_t i = 0; i < count; i++)
		if (bytes[i] >= TAG)
			tag = bytes[i] & (TAG - 1);
		else if (i + 5 <= count && memcmp(bytes + i, "/t", 2) == 0 && hex(bytes[i + 2]) >= 0 && hex(bytes[i + 3]) >= 0 &&
		         bytes[i + 4] == ' ')
			tag = (hex(bytes[i + 2]) * 16 + hex(bytes[i + 3])) & (TAG - 1);
	return tag;
}

/* A new owner comes only when everything of the former one is done with. (A bad server's unasked answer may cross with a request; then the
 * two have different ideas of what is done.) */
static void heard(struct peer *peer, const uint8_t *bytes, size_t count)
{
	int tag = last_tag(bytes, count);
	enum framing_verdict verdict = framing_verdict(&peer->framing);
	if (peer->known || verdict == FRAMING_CLEAN)
		peer->was_clean = verdict == FRAMING_CLEAN || (verdict == FRAMING_PINNED && peer->said_bad);
	peer->known = tag >= 0;
	if (tag >= 0 && peer->owner >= 0 && tag != peer->owner && !peer->was_clean) {
		fprintf(stderr, "client %d has a connection on which client %d was not done\n", tag, peer->owner);
		found = "a connection was given away too early";
	}
	if (tag != peer->owner)
		peer->rest_at = peer->rest_length = 0; /* it was meant for somebody else */
	if (tag >= 0)
		peer->owner = tag;
	framing_request(&peer->framing, (const char *)bytes, count);
}

/* False when the connection is gone. */
static bool peer_read(struct peer *peer)
{
	uint8_t bytes[8192];
	ssize_t count;
	while ((count = recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
		heard(peer, bytes, (size_t)count);
	if (count < 0 && errno == EAGAIN)
		return true;
	close_fd(&peer->fd, false);
	return false;
}

static void say(struct peer *peer, const char *bytes, size_t count)
{
	ssize_t sent = count ? send(peer->fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	if (sent > 0)
		framing_response(&peer->framing, bytes, (size_t)sent);
}

static void say_rest(struct peer *peer, struct chance *chance)
{
	size_t left = peer->rest_length - peer->rest_at;
	size_t piece = chance_percent(chance, 70) ? left : 1 + chance_below(chance, (uint32_t)left);
	say(peer, peer->rest + peer->rest_at, piece);
	peer->rest_at += piece;
}

void peer_act(struct peer *peer, const struct manners *manners, struct chance *chance)
{
	struct message message = { peer->rest, 0 };
	if (!peer_read(peer))
		return;
	bool bad = chance_percent(chance, manners->bad_server);
	if (bad && chance_percent(chance, 30)) {
		close_fd(&peer->fd, chance_percent(chance, 50));
		return;
	}
	if (bad && chance_percent(chance, 5)) {
		(void)shutdown(peer->fd, SHUT_WR);
		return;
	}
	if (!bad && peer->rest_at < peer->rest_length) {
		say_rest(peer, chance);
		return;
	}
	peer->said_bad = peer->said_bad || bad;
	if (bad)
		add_bad_answer(&message, peer, manners, chance);
	else if (framing_owed(&peer->framing) > 0)
		add_answer(&message, peer, manners, chance);
	peer->rest_at = 0;
	peer->rest_length = message.length;
	if (message.length > 0)
		say_rest(peer, chance);
}
