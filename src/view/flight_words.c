#include "view/flight_words.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "config/config.h"
#include "view/naming.h"

enum { ERRNO_MOST = 4095 };

static void add_ms(struct text *out, uint64_t ns)
{
	text_add(out, "%llu.%llu ms", (unsigned long long)(ns / NS_PER_MS), (unsigned long long)(ns % NS_PER_MS / (NS_PER_MS / 10)));
}

static void add_server(const struct shm *shm, const struct record *record, struct text *out)
{
	char name[NAMING_SIZE];
	text_add(out, "server %s", naming_server(shm, record->row, name, sizeof name));
}

static void add_listener(const struct shm *shm, const struct record *record, struct text *out)
{
	char name[NAMING_SIZE];
	text_add(out, "listener %s", naming_listener(shm, record->row, name, sizeof name));
}

static void say_accepted(const struct shm *shm, const struct record *record, struct text *out)
{
	text_add(out, "accepted by ");
	add_listener(shm, record, out);
}

static void say_introduced(const struct shm *shm, const struct record *record, struct text *out)
{
	char client[NAMING_SIZE];
	(void)shm;
	if (record->number)
		text_add(out, "a proxy (PROXY protocol, version %u) speaks for %s", record->detail,
		        naming_client(&record->client, client, sizeof client));
	else
		text_add(out, "a proxy (PROXY protocol, version %u) speaks for itself", record->detail);
}

/* --- refused ----------------------------------------------------------------------------------------------------------------- */

static void say_denied(const struct shm *shm, const struct record *record, struct text *out)
{
	char range[NAMING_SIZE];
	text_add(out, "refused: ");
	if (record->detail != 0) {
		text_add(out, "in the range %s (number %u) of deny of ", naming_range(&record->denied.range, range, sizeof range),
		        record->number + 1);
		add_listener(shm, record, out);
		return;
	}
	add_listener(shm, record, out);
	text_add(out, " lets in who is in its allow only, and this address is in none of its ranges");
}

static void say_rate_limited(const struct shm *shm, const struct record *record, struct text *out)
{
	static const char *const whose[] = { [RATE_LIMIT_PER_LISTENER] = "all its clients together",
		[RATE_LIMIT_PER_ADDRESS] = "each address",
		[RATE_LIMIT_PER_PREFIX] = "each network" };
	text_add(out, "refused: rate_limit of ");
	add_listener(shm, record, out);
	text_add(out, " is %u new connections a second (and %u at once) for %s", record->number, record->rate.burst,
	        record->detail < ARRAY_LEN(whose) ? whose[record->detail] : "whom?");
}

static void say_full(const struct shm *shm, const struct record *record, struct text *out)
{
	text_add(out, "refused: max_connections of ");
	if (record->detail == RECORD_LIMIT_ALL)
		text_add(out, "all listeners together");
	else
		add_listener(shm, record, out);
	text_add(out, " reached: %u of %u", record->full.used, record->full.max);
}

static bool is_of_name(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_' || byte == '.';
}

static void say_routed(const struct shm *shm, const struct record *record, struct text *out)
{
	char upstream[NAMING_SIZE];
	size_t length = strnlen(record->route.name, sizeof record->route.name);
	if (length == 0)
		text_add(out, "asks for no name");
	else
		text_add(out, "asks for ");
	for (size_t i = 0; i < length; i++)
		text_add(out, "%c", is_of_name(record->route.name[i]) ? record->route.name[i] : '?');
	text_add(out, "%s%s: ", record->route.flags & RECORD_ROUTE_CUT ? "..." : "",
	        record->route.flags & RECORD_ROUTE_ECH ? ", and for another one that is encrypted (ECH)" : "");
	if (record->number == UINT32_MAX)
		text_add(out, "there is no route for it in ");
	else
		text_add(out, "upstream %s, %s ", naming_upstream(shm, record->number, upstream, sizeof upstream),
		        record->detail ? "by a route of" : "for which there is no route in");
	add_listener(shm, record, out);
}

/* --- a server ---------------------------------------------------------------------------------------------------------------- */

static const char *balance_name(uint8_t balance)
{
	static const char *const names[] = { [BALANCE_ROUND_ROBIN] = "round_robin",
		[BALANCE_LEAST_CONNECTIONS] = "least_connections",
		[BALANCE_P2C] = "p2c",
		[BALANCE_RANDOM] = "random",
		[BALANCE_CONSISTENT_HASH] = "consistent_hash" };
	static_assert(ARRAY_LEN(names) == N_BALANCE_KINDS, "a name for each");
	return balance < ARRAY_LEN(names) ? names[balance] : "?";
}

static void add_passed_over(const struct record_choice *choice, struct text *out)
{
	const struct {
		uint8_t n;
		const char *why;
	} rows[] = { { choice->full, "full" }, { choice->not_yet, "for connect_rate" }, { choice->refused, "refused by its breaker" } };
	const char *before = "; passed over: ";
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!rows[i].n)
			continue;
		text_add(out, "%s%u %s", before, rows[i].n, rows[i].why);
		before = ", ";
	}
	if (choice->tried)
		text_add(out, "; %u failed for this client before", choice->tried);
}

static void say_chosen(const struct shm *shm, const struct record *record, struct text *out)
{
	static const char *const ways[] = { [CHOICE_BY_BALANCE] = "",
		[CHOICE_BY_AFFINITY] = ", which this client had before (affinity)",
		[CHOICE_BEYOND_SOFT_LIMIT] = ", beyond its soft_limit as all are",
		[CHOICE_BY_SEARCH] = ", the first one found that has a place",
		[CHOICE_AS_BEFORE] = ", which its session was with in another worker" };
	static_assert(ARRAY_LEN(ways) == N_CHOICE_WAYS, "words for each");
	const struct record_choice *choice = &record->choice;
	char upstream[NAMING_SIZE];
	add_server(shm, record, out);
	text_add(out, " of upstream %s", naming_server_upstream(shm, record->row, upstream, sizeof upstream));
	if (choice->way == CHOICE_BY_BALANCE)
		text_add(out, " by %s", balance_name(choice->balance));
	text_add(out, "%s: ", choice->way < N_CHOICE_WAYS ? ways[choice->way] : "");
	text_add(out, "%u of %u servers usable, weight %u, %u connections with this one", choice->n_usable, choice->n_servers,
	        choice->weight, choice->load);
	add_passed_over(choice, out);
	if (choice->any)
		text_add(out, "; no server is usable, and when_all_down = \"any\"");
	if (choice->probe)
		text_add(out, "; its breaker is half-open and tries it with this connection");
	if (choice->conn == CHOICE_WARM || choice->conn == CHOICE_KEPT)
		text_add(out, "; a connection to it was ready (%s)", choice->conn == CHOICE_WARM ? "warm" : "kept");
}

static void add_unusable(const struct record_choice *choice, struct text *out)
{
	const char *before = ": ";
	for (unsigned i = USABILITY_USABLE + 1; i < N_USABILITIES; i++) {
		if (!choice->unusable[i])
			continue;
		text_add(out, "%s%u%s %s", before, choice->unusable[i], choice->unusable[i] == UINT8_MAX ? " or more" : "",
		        usability_name((enum usability)i));
		before = ", ";
	}
}

static void say_not_chosen(const struct shm *shm, const struct record *record, struct text *out)
{
	const struct record_choice *choice = &record->choice;
	char name[NAMING_SIZE];
	naming_upstream(shm, record->number, name, sizeof name);
	switch ((enum record_want)record->detail) {
	case WANT_PLACE:
		text_add(out, "no place at a server of upstream %s: %u of %u servers usable", name, choice->n_usable, choice->n_servers);
		break;
	case WANT_RATE:
		text_add(out, "connect_rate of upstream %s allows no new connection now", name);
		break;
	case WANT_TURN:
		text_add(out, "others wait for a server of upstream %s already, who came first is served first", name);
		return;
	case WANT_SERVER:
	default:
		text_add(out, "no server of upstream %s can be used", name);
		add_unusable(choice, out);
	}
	add_passed_over(choice, out);
}

static void say_in_line(const struct shm *shm, const struct record *record, struct text *out)
{
	(void)shm;
	text_add(out, "waits in line for a server, %u wait in all", record->number);
}

/* Where to, where the server's name does not say it. */
static void add_to(const struct shm *shm, const struct record *record, struct text *out)
{
	char address[NAMING_SIZE], name[NAMING_SIZE];
	if (record->dial.to.family == 0)
		return;
	naming_client(&record->dial.to, address, sizeof address);
	if (strcmp(address, naming_server(shm, record->row, name, sizeof name)) != 0)
		text_add(out, " (%s)", address);
}

static void say_connected(const struct shm *shm, const struct record *record, struct text *out)
{
	text_add(out, "connected to ");
	add_server(shm, record, out);
	add_to(shm, record, out);
	if (record->dial.attempt > 1)
		text_add(out, ", at the attempt number %u", record->dial.attempt);
}

static void say_connect_failed(const struct shm *shm, const struct record *record, struct text *out)
{
	uint32_t error = record->dial.error < ERRNO_MOST ? record->dial.error : 0;
	text_add(out, "cannot connect to ");
	add_server(shm, record, out);
	add_to(shm, record, out);
	text_add(out, ": %s; attempt %u of %u, %s", reason_connect_words((int)error), record->dial.attempt, record->dial.attempts,
	        record->dial.last ? "the client is given up" : "another server is tried");
}

static void say_stale(const struct shm *shm, const struct record *record, struct text *out)
{
	text_add(out, "the ready connection to ");
	add_server(shm, record, out);
	text_add(out, " was dead: a fresh one takes its place");
}

static void say_first_byte(const struct shm *shm, const struct record *record, struct text *out)
{
	text_add(out, "the first byte of ");
	add_server(shm, record, out);
}

/* --- the end ----------------------------------------------------------------------------------------------------------------- */

static void say_closed(const struct shm *shm, const struct record *record, struct text *out)
{
	(void)shm;
	text_add(out, "%s: %s; closed by %s in step %s, %llu bytes from the client, %llu from the server",
	        reason_name((enum reason)record->detail), reason_text((enum reason)record->detail),
	        closer_name((enum closer)(record->number & 0xff)), step_name((enum step)(record->number >> 8 & 0xff)),
	        (unsigned long long)record->closed.up_bytes, (unsigned long long)record->closed.down_bytes);
}

static void say_worker(const struct shm *shm, const struct record *record, struct text *out)
{
	(void)shm;
	text_add(out, "its worker (pid %d) died; what it did after this is not known", (int)record->worker.pid);
}

void flight_words(const struct shm *shm, const struct record *record, uint64_t since_ns, struct text *out)
{
	static void (*const say[])(const struct shm *shm, const struct record *record, struct text *out) = {
		[RECORD_NONE] = NULL,
		[RECORD_WORKER_BEGAN] = say_worker,
		[RECORD_WORKER_ENDED] = say_worker,
		[RECORD_ACCEPTED] = say_accepted,
		[RECORD_INTRODUCED] = say_introduced,
		[RECORD_DENIED] = say_denied,
		[RECORD_RATE_LIMITED] = say_rate_limited,
		[RECORD_FULL] = say_full,
		[RECORD_ROUTED] = say_routed,
		[RECORD_CHOSEN] = say_chosen,
		[RECORD_NOT_CHOSEN] = say_not_chosen,
		[RECORD_IN_LINE] = say_in_line,
		[RECORD_CONNECTED] = say_connected,
		[RECORD_CONNECT_FAILED] = say_connect_failed,
		[RECORD_STALE] = say_stale,
		[RECORD_FIRST_BYTE] = say_first_byte,
		[RECORD_CLOSED] = say_closed,
	};
	static_assert(ARRAY_LEN(say) == N_RECORD_KINDS, "words for each");
	if (record->kind >= N_RECORD_KINDS || !say[record->kind])
		return;
	say[record->kind](shm, record, out);
	if (record->kind == RECORD_CONNECTED || record->kind == RECORD_CONNECT_FAILED) {
		text_add(out, ", after ");
		add_ms(out, since_ns);
	}
}
