/* Connections, one by one: GET /connections, DELETE /connections/ID, GET /why. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/api.h"
#include "control/roll_call.h"
#include "view/flight.h"

enum { LIST_LIMIT = 1000, WHY_LIMIT = 20, WHY_LIMIT_MOST = 1000 };

/* A call that waits for the workers. */
struct asked {
	struct api_call *call;
	struct roll_question question;
	struct flight_question why; /* of /why */
	char address[NAMING_SIZE], listener[NAMING_SIZE], server[NAMING_SIZE];
};

static void on_gone(struct api_call *call)
{
	struct asked *asked = call->user;
	roll_calls_forget(api_roll_calls(call->api), &asked->question);
	roll_question_free(&asked->question);
	free(asked);
}

/* The call is held from here on. NULL: no memory, and it is answered. */
static struct asked *hold(struct api_call *call, enum roll_kind kind, roll_done_fn *done)
{
	struct asked *asked = calloc(1, sizeof *asked);
	if (!asked) {
		api_refuse(call, 503, "out of memory");
		return NULL;
	}
	*asked = (struct asked){ .call = call, .question = { .kind = kind, .done = done, .arg = asked } };
	call->user = asked;
	call->gone = on_gone;
	return asked;
}

/* --- arguments: each is true, or the call was refused -------------------------------------------------------------------------- */

static bool take_limit(struct api_call *call, uint32_t most, uint32_t *limit)
{
	char text[16];
	uint64_t value = 0;
	int found = api_argument(call, "limit", text, sizeof text);
	if (found <= 0)
		return found == 0;
	size_t length = strlen(text);
	for (size_t i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++)
		value = value * 10 + (uint64_t)(text[i] - '0');
	if (length == 0 || strspn(text, "0123456789") != length || value < 1 || value > most) {
		api_refuse(call, 400, "the argument \"limit\" is \"%s\"; write a number from 1 to %u", text, most);
		return false;
	}
	*limit = (uint32_t)value;
	return true;
}

static bool take_name(struct api_call *call, const char *key, char *out, size_t size, const char **name)
{
	int found = api_argument(call, key, out, size);
	*name = found > 0 ? out : NULL;
	return found >= 0;
}

/* *given: there is one. */
static bool take_client(struct api_call *call, const char *key, char *text, size_t size, struct client_filter *out, bool *given)
{
	char why[CIDR_WHY_SIZE];
	int found = api_argument(call, key, text, size);
	*given = found > 0;
	if (found <= 0)
		return found == 0;
	if (client_filter_parse(text, out, why, sizeof why) == 0)
		return true;
	api_refuse(call, 400, "the argument \"%s\": %s", key, why);
	return false;
}

/* --- the list ------------------------------------------------------------------------------------------------------------------ */

static void on_listed(struct roll_question *question)
{
	struct asked *asked = question->arg;
	struct api_call *call = asked->call;
	struct api_text text;
	if (!api_text_begin(call, &text))
		return;
	roll_question_print(question, call->args->shm, clock_now_ns(), text.out);
	api_text_end(call, &text, 200, "application/json");
}

void api_connections(struct api_call *call)
{
	struct connections_filter filter = { 0 };
	char client[NAMING_SIZE], listener[NAMING_SIZE], server[NAMING_SIZE];
	uint32_t limit = LIST_LIMIT;
	if (!take_limit(call, ROLL_LIMIT_MOST, &limit) || !take_name(call, "listener", listener, sizeof listener, &filter.listener) ||
	        !take_name(call, "server", server, sizeof server, &filter.server) ||
	        !take_client(call, "client", client, sizeof client, &filter.client, &filter.by_client))
		return;
	struct asked *asked = hold(call, ROLL_LIST, on_listed);
	if (!asked)
		return;
	if (filter.listener)
		filter.listener = strcpy(asked->listener, listener);
	if (filter.server)
		filter.server = strcpy(asked->server, server);
	asked->question.filter = filter;
	asked->question.limit = limit;
	roll_calls_ask(api_roll_calls(call->api), &asked->question);
}

/* --- the end of one ------------------------------------------------------------------------------------------------------------ */

/* False: no master before this one has connections in another segment. */
static bool refuse_elders(struct api_call *call, const struct roll_question *question)
{
	const struct shm_seat *elder = connections_elder(call->args->shm);
	if (!elder)
		return false;
	api_refuse(call, 404,
	        "there is no connection %u.%u with the workers of this master; one of the master before (pid %d) cannot be ended alone: it "
	        "ends with "
	        "the drain of that one",
	        question->seat, question->serial, (int)atomic_load_explicit(&elder->pid, memory_order_relaxed));
	return true;
}

static void on_ended(struct roll_question *question)
{
	struct asked *asked = question->arg;
	struct api_call *call = asked->call;
	struct api_text text;
	if (!question->killed && question->n_silent > 0) {
		api_refuse(call, 504, "the worker of connection %u.%u does not answer", question->seat, question->serial);
		return;
	}
	if (!question->killed && !question->truncated && refuse_elders(call, question))
		return;
	if (!question->killed && question->truncated) {
		api_refuse(call, 503, "the worker of connection %u.%u was not waited for: whether it ends is not known; ask again",
		        question->seat, question->serial);
		return;
	}
	if (!question->killed) {
		api_refuse(call, 404, "there is no connection %u.%u", question->seat, question->serial);
		return;
	}
	if (!api_text_begin(call, &text))
		return;
	char id[NAMING_SIZE];
	emit_open(&text.emit, NULL, '{');
	emit_string(&text.emit, "id", naming_connection(question->seat, question->serial, id, sizeof id));
	emit_bool(&text.emit, "killed", true);
	emit_close(&text.emit, '}');
	api_text_end_json(call, &text, 200);
}

void api_kill(struct api_call *call)
{
	uint32_t seat, serial;
	if (!naming_parse_connection(call->name, &seat, &serial)) {
		api_refuse(call, 400, "\"%.100s\" is no connection: its id is like 3.18472, see GET /connections", call->name);
		return;
	}
	struct asked *asked = hold(call, ROLL_KILL, on_ended);
	if (!asked)
		return;
	char id[NAMING_SIZE], who[API_WHO_SIZE];
	log_info("end of connection %s asked for by %s", naming_connection(seat, serial, id, sizeof id), api_who(call, who));
	asked->question.seat = seat;
	asked->question.serial = serial;
	roll_calls_ask(api_roll_calls(call->api), &asked->question);
}

/* --- what happened ------------------------------------------------------------------------------------------------------------- */

static uint64_t unix_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* The recorders are looked at after the workers answered: who is in neither of them was not there. */
static void on_why(struct roll_question *question)
{
	struct asked *asked = question->arg;
	struct api_call *call = asked->call;
	struct api_text text;
	asked->why.open = question->found;
	asked->why.n_open = question->n;
	asked->why.now_ns = clock_now_ns();
	asked->why.now_unix_ns = unix_now_ns();
	if (!api_text_begin(call, &text))
		return;
	if (flight_explain(call->args->shm, &asked->why, text.out)) {
		fclose(text.out);
		free(text.bytes);
		api_refuse(call, 503, "out of memory");
		return;
	}
	api_text_end(call, &text, 200, "application/json");
}

void api_why(struct api_call *call)
{
	char address[NAMING_SIZE];
	struct flight_question why = { .most = WHY_LIMIT };
	bool given;
	if (!take_client(call, "address", address, sizeof address, &why.client, &given) || !take_limit(call, WHY_LIMIT_MOST, &why.most))
		return;
	if (!given) {
		api_refuse(call, 400, "whose connections? Write /why?address=1.2.3.4 (or 1.2.3.4:5678, a range, unix)");
		return;
	}
	if (call->args->config->flight_recorder_bytes == 0) {
		api_refuse(call, 409, "the flight recorder is off (flight_recorder = \"0\")");
		return;
	}
	struct asked *asked = hold(call, ROLL_LIST, on_why);
	if (!asked)
		return;
	why.address = strcpy(asked->address, address);
	asked->why = why;
	asked->question.filter = (struct connections_filter){ .by_client = true, .client = why.client };
	asked->question.limit = ROLL_LIMIT_MOST;
	roll_calls_ask(api_roll_calls(call->api), &asked->question);
}
