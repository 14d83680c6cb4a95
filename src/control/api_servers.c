/* Servers, and what the operator wants of them over what the settings say: GET /servers, POST /servers/NAME/..., /reset. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "control/api.h"
#include "shm/sums.h"
#include "view/document.h"

enum { MOST_WEIGHT = 65535, FULL_NAME_SIZE = SHM_NAME_SIZE + SHM_ADDRESS_SIZE + 2 };

static const struct condition_rules *rules_of(const struct shm *shm, uint32_t row, struct condition_rules *out)
{
	*out = (struct condition_rules){ 0 };
	for (uint32_t i = 0; i < sums_n_upstreams(shm); i++)
		if (strncmp(shm->upstreams[i].name, shm->servers[row].upstream, SHM_NAME_SIZE) == 0)
			out->epoch = &shm->upstreams[i].epoch;
	return out;
}

static char *full_name(const struct shm_server *server, char out[FULL_NAME_SIZE])
{
	(void)snprintf(out, FULL_NAME_SIZE, "%.*s/%.*s", SHM_NAME_SIZE - 1, server->upstream, SHM_ADDRESS_SIZE - 1, server->name);
	return out;
}

/* The row of "upstream/server", or of a server's own name where that is no other's. False: the call is answered. */
static bool find_server(struct api_call *call, uint32_t *out)
{
	const struct shm *shm = call->args->shm;
	char name[FULL_NAME_SIZE], bytes[512];
	struct text found = text_of(bytes, sizeof bytes);
	uint32_t row = 0, count = 0;
	for (uint32_t i = 0; i < sums_n_servers(shm); i++) {
		const struct shm_server *server = &shm->servers[i];
		if (!atomic_load(&server->in_use))
			continue;
		if (strcmp(full_name(server, name), call->name) == 0) {
			*out = i;
			return true;
		}
		if (strncmp(server->name, call->name, SHM_ADDRESS_SIZE) != 0)
			continue;
		text_add(&found, "%s%s", count++ ? ", " : "", name);
		row = i;
	}
	if (count == 1) {
		*out = row;
		return true;
	}
	if (count == 0)
		api_refuse(call, 404, "there is no server \"%.200s\"; GET /servers lists them", call->name);
	else
		api_refuse(call, 409, "there are several servers \"%.200s\": %s", call->name, bytes);
	return false;
}

/* --- what there is ----------------------------------------------------------------------------------------------------------- */

void api_servers(struct api_call *call)
{
	struct api_text text;
	struct snapshot *snapshot = api_look(call);
	if (!snapshot)
		return;
	if (api_text_begin(call, &text)) {
		emit_open(&text.emit, NULL, '{');
		document_upstreams(&text.emit, snapshot);
		emit_close(&text.emit, '}');
		api_text_end_json(call, &text, 200);
	}
	snapshot_free(snapshot);
}

static void answer_server(struct api_call *call, uint32_t row)
{
	const struct shm_server *server = &call->args->shm->servers[row];
	struct api_text text;
	struct snapshot *snapshot = api_look(call);
	if (!snapshot)
		return;
	if (api_text_begin(call, &text)) {
		emit_open(&text.emit, NULL, '{');
		emit_string(&text.emit, "upstream", server->upstream);
		emit_key(&text.emit, "server");
		text.emit.comma = false;
		for (size_t i = 0; i < snapshot->n_servers; i++)
			if (strcmp(snapshot->servers[i].upstream, server->upstream) == 0 &&
			        strcmp(snapshot->servers[i].name, server->name) == 0)
				document_server(&text.emit, &snapshot->servers[i]);
		emit_close(&text.emit, '}');
		api_text_end_json(call, &text, 200);
	}
	snapshot_free(snapshot);
}

void api_server(struct api_call *call)
{
	uint32_t row;
	if (find_server(call, &row))
		answer_server(call, row);
}

/* --- what is wanted ---------------------------------------------------------------------------------------------------------- */

static void set(struct api_call *call, uint32_t row, struct override override, const char *what)
{
	struct shm *shm = call->args->shm;
	struct condition_rules rules;
	char who[API_WHO_SIZE], name[FULL_NAME_SIZE];
	condition_set_override(&shm->servers[row].condition, rules_of(shm, row, &rules), override);
	bells_ring_all(call->args->bells); /* clients may wait for it */
	log_info("server %s: %s, by %s", full_name(&shm->servers[row], name), what, api_who(call, who));
	answer_server(call, row);
}

static void set_mode(struct api_call *call, enum override_mode mode, const char *what)
{
	uint32_t row;
	if (!find_server(call, &row))
		return;
	struct override override = condition_override(&call->args->shm->servers[row].condition);
	override.mode = mode;
	set(call, row, override, what);
}

/* Over what the settings say only where they say otherwise: what they say later counts then. */
void api_server_enable(struct api_call *call)
{
	uint32_t row;
	if (!find_server(call, &row))
		return;
	const struct shm_server *server = &call->args->shm->servers[row];
	struct override override = condition_override(&server->condition);
	override.mode = atomic_load(&server->flags) & SHM_SERVER_DISABLED ? OVERRIDE_ENABLED : OVERRIDE_NONE;
	set(call, row, override, "enabled");
}

void api_server_disable(struct api_call *call)
{
	set_mode(call, OVERRIDE_DISABLED, "disabled");
}

void api_server_drain(struct api_call *call)
{
	set_mode(call, OVERRIDE_DRAIN, "draining");
}

void api_server_weight(struct api_call *call)
{
	uint64_t weight = 0;
	uint32_t row;
	char why[128], what[64];
	bool back = json_body_is_null(call->body, "weight");
	int found = back ? 1 : json_body_whole(call->body, "weight", 0, MOST_WEIGHT, &weight, why, sizeof why);
	if (found <= 0) {
		api_refuse(call, 400, "%s", found < 0 ? why : "\"weight\" is missing: a number, or null for that of the settings");
		return;
	}
	if (!find_server(call, &row))
		return;
	struct override override = condition_override(&call->args->shm->servers[row].condition);
	override.has_weight = !back;
	override.weight = (uint16_t)weight;
	(void)snprintf(what, sizeof what, back ? "weight as in the settings" : "weight %u", (unsigned)weight);
	set(call, row, override, what);
}

/* What was learnt is learnt anew; what was counted stays. */
void api_reset(struct api_call *call)
{
	struct shm *shm = call->args->shm;
	struct condition_rules rules;
	struct api_text text;
	char who[API_WHO_SIZE];
	uint32_t n = 0;
	for (uint32_t i = 0; i < sums_n_servers(shm); i++) {
		if (!atomic_load(&shm->servers[i].in_use))
			continue;
		struct condition *condition = &shm->servers[i].condition;
		condition_set_override(condition, rules_of(shm, i, &rules), (struct override){ 0 });
		condition_reset(condition, &rules);
		n++;
	}
	bells_ring_all(call->args->bells);
	log_info("all that was learnt about %u servers, and set for them, is forgotten, by %s", n, api_who(call, who));
	if (!api_text_begin(call, &text))
		return;
	emit_open(&text.emit, NULL, '{');
	emit_u64(&text.emit, "servers", n);
	emit_close(&text.emit, '}');
	api_text_end_json(call, &text, 200);
}
