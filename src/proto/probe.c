#include "proto/probe.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "proto/probe_kinds.h"

enum { SAID_MAX = 100 }; /* bytes of the server's words in a reason */

#define KIND_NAME(identifier, name) [PROBE_##identifier] = name,
static const char *const kind_names[] = { PROBE_KINDS(KIND_NAME) };
#undef KIND_NAME
static_assert(ARRAY_LEN(kind_names) == PROBE_KIND_COUNT, "each kind has a name");

const char *probe_kind_name(enum probe_kind kind)
{
	return kind_names[kind];
}

static size_t length_of(const char *text)
{
	return text ? strlen(text) : 0;
}

size_t probe_send_count(const struct probe_rules *rules)
{
	return rules->send_count ? rules->send_count : length_of(rules->send);
}

size_t probe_expect_count(const struct probe_rules *rules)
{
	return rules->expect_count ? rules->expect_count : length_of(rules->expect);
}

int probe_rules_check(const struct probe_rules *rules, const char **why)
{
	const char *wrong = NULL;

	size_t sent = probe_send_count(rules), expected = probe_expect_count(rules);

	if (rules->kind != PROBE_TCP && rules->kind != PROBE_UDP && (sent || expected))
		wrong = "only a tcp or udp check sends and expects a text";
	else if (rules->silent && (rules->kind != PROBE_UDP || expected))
		wrong = "only a udp check that expects nothing may remain without an answer";
	else if (sent > PROBE_TEXT_MAX || expected > PROBE_TEXT_MAX)
		wrong = "the text is longer than 1024 bytes";
	else if (length_of(rules->user) > PROBE_USER_MAX)
		wrong = "the user's name is longer than 63 bytes";
	if (!wrong)
		return 0;
	*why = wrong;
	return -EINVAL;
}

/* ---- what the kinds share ---- */

void probe_conclude(struct probe *probe, enum probe_verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(probe->reason, sizeof probe->reason, format, args);
	va_end(args);
	probe->verdict = verdict;
}

void probe_conclude_said(struct probe *probe, enum probe_verdict verdict, const char *what, const char *said, size_t count)
{
	char cut[SAID_MAX + 1];
	struct text text = text_of(probe->reason, sizeof probe->reason);

	count = strnlen(said, count < SAID_MAX ? count : SAID_MAX);
	memcpy(cut, said, count);
	cut[count] = '\0';
	text_add(&text, "%s: ", what);
	text_add_printable(&text, cut);
	probe->verdict = verdict;
}

void probe_wait_for(struct probe *probe, const char *what)
{
	(void)text_copy(probe->reason, sizeof probe->reason, what);
}

void probe_say(struct probe *probe, const void *bytes, size_t count)
{
	if (count > sizeof probe->message - probe->message_length)
		return; /* a server that is never content is no server of that kind */
	memcpy(probe->message + probe->message_length, bytes, count);
	probe->message_length += count;
}

const char *probe_user(const struct probe *probe)
{
	return length_of(probe->rules->user) ? probe->rules->user : "aegis";
}

/* ---- tcp ---- */

static void tcp_begin(struct probe *probe)
{
	if (probe_expect_count(probe->rules) == 0)
		probe_conclude(probe, PROBE_GOOD, "connected");
	else
		probe_wait_for(probe, "the expected text");
}

/* What is read is what cannot be the beginning of the text any more. */
static bool tcp_step(struct probe *probe)
{
	const char *expect = probe->rules->expect;
	size_t length = probe_expect_count(probe->rules), count;
	const uint8_t *unread = probe_unread(probe, &count);

	if (memmem(unread, count, expect, length))
		probe_conclude(probe, PROBE_GOOD, "the expected text came");
	else if (count >= length)
		probe->read += count - (length - 1);
	return false;
}

/* ---- redis ---- */

static const char redis_ping[] = "*1\r\n$4\r\nPING\r\n";

static void redis_begin(struct probe *probe)
{
	probe_say(probe, redis_ping, sizeof redis_ping - 1);
	probe_wait_for(probe, "the answer to PING");
}

static bool says(const char *line, size_t count, const char *word)
{
	size_t length = strlen(word);

	return count >= length && memcmp(line, word, length) == 0;
}

static void redis_judge(struct probe *probe, const char *line, size_t count)
{
	if (count == 5 && says(line, count, "+PONG"))
		probe_conclude(probe, PROBE_GOOD, "answered PONG");
	else if (line[0] == '+')
		probe_conclude_said(probe, PROBE_BAD, "another answer than PONG", line + 1, count - 1);
	else if (says(line, count, "-NOAUTH") || says(line, count, "-NOPERM"))
		probe_conclude_said(probe, PROBE_GOOD, "alive", line + 1, count - 1);
	else
		probe_conclude_said(probe, PROBE_BAD, "an error", line + 1, count - 1);
}

static bool redis_step(struct probe *probe)
{
	const char *line = probe->bytes, *newline = memchr(line, '\n', probe->kept);

	if (line[0] != '+' && line[0] != '-')
		probe_conclude(probe, PROBE_BAD, "not an answer of Redis");
	else if (newline && newline[-1] == '\r')
		redis_judge(probe, line, (size_t)(newline - line) - 1);
	else if (newline)
		probe_conclude(probe, PROBE_BAD, "not an answer of Redis");
	return false;
}

/* ---- all of them ---- */

static const struct {
	void (*begin)(struct probe *probe);
	bool (*step)(struct probe *probe); /* true: call again, there may be more to read */
} kinds[PROBE_KIND_COUNT] = {
	[PROBE_TCP] = { tcp_begin, tcp_step },
	[PROBE_HTTP] = { probe_http_begin, probe_http_step },
	[PROBE_REDIS] = { redis_begin, redis_step },
	[PROBE_POSTGRES] = { probe_postgres_begin, probe_postgres_step },
	[PROBE_MYSQL] = { probe_mysql_begin, probe_mysql_step },
};

enum probe_verdict probe_begin(struct probe *probe, const struct probe_rules *rules)
{
	ensure(kinds[rules->kind].begin);
	memset(probe, 0, offsetof(struct probe, message));
	probe->rules = rules;
	kinds[rules->kind].begin(probe);
	return probe->verdict;
}

enum probe_verdict probe_feed(struct probe *probe, const void *bytes, size_t count)
{
	size_t room = sizeof probe->bytes - probe->kept, taken = count < room ? count : room;

	if (probe->verdict != PROBE_NEED_MORE || count == 0)
		return probe->verdict;
	memcpy(probe->bytes + probe->kept, bytes, taken);
	probe->kept += taken;
	while (probe->verdict == PROBE_NEED_MORE && kinds[probe->rules->kind].step(probe))
		;
	if (probe->verdict == PROBE_NEED_MORE && probe->kept == sizeof probe->bytes)
		probe_conclude(probe, PROBE_BAD, "still not the right answer after 4096 bytes");
	return probe->verdict;
}

enum probe_verdict probe_end(struct probe *probe)
{
	char awaited[PROBE_REASON_SIZE];

	if (probe->verdict != PROBE_NEED_MORE)
		return probe->verdict;
	(void)text_copy(awaited, sizeof awaited, probe->reason);
	probe_conclude(probe, PROBE_BAD, "closed the connection before %s%s", awaited, probe->kept > probe->read ? " was complete" : "");
	return probe->verdict;
}

size_t probe_output(const struct probe *probe, const char **bytes)
{
	if (probe->rules->kind != PROBE_TCP && probe->rules->kind != PROBE_HTTP) {
		*bytes = probe->message + probe->sent;
		return probe->message_length - probe->sent;
	}
	const char *text = probe->rules->send ? probe->rules->send : "";
	*bytes = text + probe->sent;
	return probe_send_count(probe->rules) - probe->sent;
}

void probe_sent(struct probe *probe, size_t count)
{
	probe->sent += count;
}
