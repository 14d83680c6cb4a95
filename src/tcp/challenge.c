#include "tcp/challenge.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/acme.h"
#include "tcp/tcp.h"

/* A content has 65 to 172 bytes and a line end; a head of a request some 200. */
enum { CONTENT_MOST = 4096, HEAD_MOST = 8192, LINGER_MOST = 64 * 1024, PIECE = 2048 };

static struct conn *client_of(const struct session *session)
{
	return session->relay.side[SIDE_CLIENT].conn;
}

static const struct listener_config *config_of(const struct session *session)
{
	return session->visit.entrance->config;
}

static enum step_result leave(struct session *session, enum reason reason)
{
	session_end(session, reason);
	return STEP_LEFT;
}

static enum reason end_of(const struct session *session)
{
	return session->challenge.refused ? REASON_NO_CHALLENGE : REASON_CHALLENGE_ANSWERED;
}

static void count(struct session *session, unsigned direction, size_t bytes)
{
	struct listener_row *row = session->visit.entrance->row;
	session->visit.bytes[direction] += bytes;
	counter_add(direction == FROM_CLIENT ? &row->received_bytes : &row->sent_bytes, bytes);
}

/* --- the log ----------------------------------------------------------------------------------------------------------------- */

static void log_unusable(const struct session *session, const char *what, const char *why)
{
	uint64_t held_back;
	if (log_gate_open(&session_listener(session)->challenge_gate, loop_now_ns(session_tcp(session)->loop), &held_back))
		log_warn("listener %s: acme.challenges: %s: %s (%llu more not logged)", config_of(session)->name, what, why,
		        (unsigned long long)held_back);
}

static void log_answered(const struct session *session)
{
	char peer[ADDR_TEXT_SIZE];
	struct addr addr;
	uint64_t held_back;
	if (!log_gate_open(&session_listener(session)->challenge_gate, loop_now_ns(session_tcp(session)->loop), &held_back))
		return;
	addr_from_sockaddr(
	        &addr, (const struct sockaddr *)&session->visit.peer, session->visit.peer.sin6_family ? sizeof session->visit.peer : 0);
	log_info("listener %s: answered the ACME challenge of %s (%llu more not logged)", config_of(session)->name,
	        addr_format(&addr, peer, sizeof peer), (unsigned long long)held_back);
}

/* --- the file ---------------------------------------------------------------------------------------------------------------- */

/* NULL, or why it is no answer. One that is empty is being written. */
static const char *why_not(int fd)
{
	struct stat st;
	if (fstat(fd, &st))
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "is no regular file";
	return st.st_size == 0 ? "is empty" : st.st_size > CONTENT_MOST ? "is longer than 4 kB" : NULL;
}

/* By the path of the folder each time: a descriptor would stay with a folder that was taken away. The token is no path, and what it names
 * is neither followed nor waited for. -1 = there is no answer; where somebody meant it to be one, the log tells. */
static int open_answer(const struct session *session, const char *token)
{
	const char *folder = config_of(session)->acme.challenges;
	int in = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (in < 0) {
		log_unusable(session, folder, strerror(errno));
		return -1;
	}
	int fd = openat(in, token, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int error = fd < 0 ? errno : 0;
	close(in);
	if (error == ENOENT)
		return -1;
	const char *why = error == ELOOP ? "is a symbolic link" : error ? strerror(error) : why_not(fd);
	if (!why)
		return fd;
	log_unusable(session, token, why);
	if (fd >= 0)
		close(fd);
	return -1;
}

/* --- the answer -------------------------------------------------------------------------------------------------------------- */

/* What still comes is nobody's. */
static enum step_result linger(struct session *session)
{
	char bytes[PIECE];
	while (session->visit.bytes[FROM_CLIENT] < LINGER_MOST) {
		ssize_t n = recv(client_of(session)->fd, bytes, sizeof bytes, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return STEP_WAIT;
		if (n <= 0)
			break;
		count(session, FROM_CLIENT, (size_t)n);
	}
	return leave(session, end_of(session));
}

static enum step_result finish(struct session *session)
{
	(void)shutdown(client_of(session)->fd, SHUT_WR);
	if (!session->challenge.refused)
		log_answered(session);
	session->challenge.phase = CHALLENGE_LINGER;
	session->visit.step_ns = loop_now_ns(session_tcp(session)->loop);
	return linger(session);
}

/* Head and content in out; the length, or 0 where the file is no answer any more: whoever writes it does not wait for us. */
static size_t compose(struct session *session, char out[ACME_ANSWER_HEAD_SIZE + CONTENT_MOST])
{
	char content[CONTENT_MOST];
	const char *why = why_not(session->challenge.fd);
	ssize_t n = why ? 0 : pread(session->challenge.fd, content, sizeof content, 0);
	if (n <= 0) {
		log_unusable(session, "a file that was asked for", why ? why : n < 0 ? strerror(errno) : "is empty");
		return 0;
	}
	size_t length = acme_answer_head(out, (size_t)n, time(NULL));
	if (session->challenge.without_content)
		return length;
	memcpy(out + length, content, (size_t)n);
	return length + (size_t)n;
}

/* Once more from the file where the socket did not take all of it, which is rare: it is empty. */
static enum step_result answer(struct session *session)
{
	struct challenge *challenge = &session->challenge;
	char bytes[ACME_ANSWER_HEAD_SIZE + CONTENT_MOST];
	size_t length = compose(session, bytes);
	if (length == 0 || (challenge->sent > 0 && length != challenge->length)) /* what was begun has another end now */
		return leave(session, REASON_CHALLENGE_LOST);
	challenge->length = (uint32_t)length;
	ssize_t n = send(client_of(session)->fd, bytes + challenge->sent, length - challenge->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return leave(session, REASON_CLIENT_RESET);
	if (n > 0) {
		count(session, FROM_SERVER, (size_t)n);
		challenge->sent += (uint32_t)n;
	}
	if (challenge->sent == length)
		return finish(session);
	return conn_want_room(client_of(session)) ? leave(session, REASON_NO_MEMORY) : STEP_WAIT;
}

/* --- the request ------------------------------------------------------------------------------------------------------------- */

static enum step_result read_head(struct session *session)
{
	struct challenge *challenge = &session->challenge;
	char bytes[PIECE];
	while (challenge->head != ACME_HEAD_ENDED) {
		size_t room = HEAD_MOST - (size_t)session->visit.bytes[FROM_CLIENT];
		ssize_t n = room ? recv(client_of(session)->fd, bytes, room < sizeof bytes ? room : sizeof bytes, MSG_DONTWAIT) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? STEP_WAIT : leave(session, REASON_CLIENT_RESET);
		count(session, FROM_CLIENT, (size_t)n);
		challenge->head = (uint8_t)acme_head_feed(challenge->head, bytes, (size_t)n);
		if (n == 0)
			return leave(session, REASON_BAD_CHALLENGE);
	}
	challenge->phase = CHALLENGE_ANSWER;
	return answer(session);
}

static void on_client(struct conn *conn, unsigned events);

/* By readiness, with either engine: what is received by completion is out of the kernel. */
static int watch(struct session *session)
{
	struct conn *client = client_of(session);
	conn_hand_over(client, on_client, session);
	if (client->by_completion)
		conn_use_readiness(client);
	return conn_watch(client);
}

/* Who asks for anything else is the upstream's, where there is one. Nobody reads a request for its own sake, be it whole or not. */
static enum step_result others(struct session *session)
{
	static const char answer[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	if (!config_of(session)->acme.only)
		return STEP_DONE;
	session->challenge = (struct challenge){ .fd = -1, .phase = CHALLENGE_LINGER, .refused = true };
	if (watch(session))
		return leave(session, REASON_NO_MEMORY);
	ssize_t n = send(client_of(session)->fd, answer, sizeof answer - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return leave(session, REASON_CLIENT_RESET);
	count(session, FROM_SERVER, (size_t)n);
	return finish(session);
}

static enum step_result take(struct session *session, const struct acme_request *request)
{
	int fd = open_answer(session, request->token);
	if (fd < 0)
		return others(session);
	session->challenge =
	        (struct challenge){ .fd = fd, .phase = CHALLENGE_HEAD, .head = ACME_HEAD_LINE_BEGINS, .without_content = request->head };
	return watch(session) ? leave(session, REASON_NO_MEMORY) : read_head(session);
}

/* Of half a request; a reset is seen behind what was received before it, too. */
static enum step_result nothing_more(struct session *session)
{
	int error = 0;
	socklen_t length = sizeof error;
	(void)getsockopt(client_of(session)->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error ? leave(session, REASON_CLIENT_RESET) : others(session);
}

static enum step_result look(struct session *session)
{
	const struct conn *client = client_of(session);
	char bytes[ACME_LINE_MOST];
	struct acme_request request;
	ssize_t n;
	do
		n = recv(client->fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? STEP_WAIT : leave(session, REASON_CLIENT_RESET);
	if (n == 0)
		return config_of(session)->acme.only ? leave(session, REASON_NO_CHALLENGE) : STEP_DONE;
	switch (acme_request(bytes, (size_t)n, &request)) {
	case ACME_MORE:
		return !client->by_completion && client->ended ? nothing_more(session) : STEP_WAIT;
	case ACME_REQUEST:
		return take(session, &request);
	default:
		return others(session);
	}
}

/* --- the step ---------------------------------------------------------------------------------------------------------------- */

static enum step_result go_on(struct session *session)
{
	switch (session->challenge.phase) {
	case CHALLENGE_HEAD:
		return read_head(session);
	case CHALLENGE_ANSWER:
		return answer(session);
	case CHALLENGE_LINGER:
		return linger(session);
	default:
		return look(session);
	}
}

static void on_client(struct conn *conn, unsigned events)
{
	struct session *session = conn->owner;
	(void)events;
	if (session->visit.step != STEP_CHALLENGE)
		return; /* what comes now is for later */
	enum step_result result = go_on(session);
	if (result != STEP_WAIT) /* the deadline stays, or is later: session_due() looks */
		session_went_on(session, result);
}

enum step_result challenge_begin(struct session *session)
{
	if (likely(!challenge_is_wanted(config_of(session))))
		return STEP_DONE;
	enum step_result result = look(session); /* mostly it came with the connection */
	if (result != STEP_WAIT || session->challenge.phase != CHALLENGE_UNKNOWN)
		return result;
	return watch(session) ? leave(session, REASON_NO_MEMORY) : STEP_WAIT;
}

uint64_t challenge_deadline(const struct session *session)
{
	uint64_t from_ns = session->challenge.phase == CHALLENGE_LINGER ? session->visit.step_ns : session->visit.accepted_ns;
	return from_ns + config_of(session)->acme.timeout_ns;
}

void challenge_overdue(struct session *session)
{
	if (session->challenge.phase == CHALLENGE_UNKNOWN && config_of(session)->acme.only)
		session_end(session, REASON_NO_CHALLENGE);
	else if (session->challenge.phase == CHALLENGE_UNKNOWN)
		session_went_on(session, STEP_DONE);
	else
		session_end(session, session->challenge.phase == CHALLENGE_LINGER ? end_of(session) : REASON_CHALLENGE_TIMEOUT);
}

bool challenge_is_answered(const struct session *session)
{
	return session->visit.step == STEP_CHALLENGE && session->challenge.phase == CHALLENGE_LINGER;
}

void challenge_end(struct session *session)
{
	if (unlikely(session->visit.step == STEP_CHALLENGE) && session->challenge.phase != CHALLENGE_UNKNOWN && session->challenge.fd >= 0)
		close(session->challenge.fd);
}
