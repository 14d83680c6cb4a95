#include "master/yield.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/word.h"
#include "master/master.h"

/* How many messages it takes to name any of the listeners. */
static uint32_t message_count(const struct generation *generation)
{
	return ((uint32_t)generation->config->n_listeners + MESSAGE_LISTENERS - 1) / MESSAGE_LISTENERS;
}

/* --- who reads what -------------------------------------------------------------------------------------------------------- */

static bool is_read_by_heir(const struct master *master, const struct listener *listener)
{
	for (size_t i = 0; i < master->n_listeners; i++)
		if (master->listeners[i] == listener)
			return listener->read_by_heir;
	return false;
}

/* Newer ones are the next one, the running one, and those before it in the list of those that drain. */
static bool is_used_by_newer(
        const struct master *master, const struct generation *next, const struct generation *generation, const struct listener *listener)
{
	if (is_read_by_heir(master, listener) || (next && generation != next && generation_uses(next, listener)))
		return true;
	if (generation == next || generation == master->running)
		return false;
	if (master->running && generation_uses(master->running, listener))
		return true;
	for (const struct generation *newer = master->draining; newer && newer != generation; newer = newer->next)
		if (generation_alive(newer) > 0 && generation_uses(newer, listener))
			return true;
	return false;
}

/* Of a generation that drains, listeners may be closed and gone: they are compared, and not looked into. */
static uint64_t wanted_bits(const struct master *master, const struct generation *next, const struct generation *generation, uint32_t first)
{
	const struct config *config = generation->config;
	uint64_t bits = 0;
	for (uint32_t i = first; generation->listeners && i < config->n_listeners && i - first < MESSAGE_LISTENERS; i++)
		if (config->listeners[i].protocol == PROTOCOL_UDP && generation->listeners[i] &&
		        is_used_by_newer(master, next, generation, generation->listeners[i]))
			bits |= UINT64_C(1) << (i - first);
	return bits;
}

static void yield_one(const struct master *master, const struct generation *next, struct generation *generation)
{
	for (uint32_t part = 0; part < message_count(generation); part++) {
		uint32_t first = part * MESSAGE_LISTENERS;
		uint64_t bits = wanted_bits(master, next, generation, first);
		if (bits == generation->yielded[part])
			continue;
		generation->yielded[part] = bits;
		generation_tell_yield(generation, first, bits);
	}
}

void yield_all(struct master *master, const struct generation *next)
{
	if (master->running)
		yield_one(master, next, master->running);
	for (struct generation *generation = master->draining; generation; generation = generation->next)
		yield_one(master, next, generation);
}

bool yield_is_over(const struct master *master)
{
	if (master->running && !generation_yielded(master->running))
		return false;
	for (const struct generation *generation = master->draining; generation; generation = generation->next)
		if (!generation_yielded(generation))
			return false;
	return true;
}

bool yield_must_come_first(const struct generation *next)
{
	for (size_t i = 0; i < next->config->n_listeners; i++)
		if (listener_is_growing(next->listeners[i]))
			return true;
	return false;
}

/* --- upgrade --------------------------------------------------------------------------------------------------------------- */

/* Where it is bound to; "" for one that somebody else bound. */
static const char *bound_text(const struct listener *listener, char out[ADDR_TEXT_SIZE])
{
	return listener->inherited ? "" : addr_format(&listener->bound, out, ADDR_TEXT_SIZE);
}

static void write_listener(FILE *out, const struct listener *listener)
{
	char text[ADDR_TEXT_SIZE];
	word_write(out, listener->name);
	word_write(out, listener->address);
	word_write(out, bound_text(listener, text));
}

/* The listeners of such a text, one by one. */
struct named {
	const char *name, *address, *bound;
};

static bool next_named(char **text, struct named *out)
{
	return (out->name = word_next_text(text)) && (out->address = word_next_text(text)) && (out->bound = word_next_text(text));
}

char *yield_write(const struct generation *reader)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);
	if (!out)
		return NULL;
	fputs("udp", out);
	for (size_t i = 0; i < reader->config->n_listeners; i++)
		if (reader->listeners[i]->protocol == PROTOCOL_UDP)
			write_listener(out, reader->listeners[i]);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

void yield_to_heir(struct master *master, char *text)
{
	struct named named;
	for (size_t i = 0; i < master->n_listeners; i++)
		master->listeners[i]->read_by_heir = false;
	if (text)
		(void)word_next(&text); /* what it is */
	while (text && next_named(&text, &named))
		for (size_t i = 0; i < master->n_listeners; i++)
			if (master->listeners[i]->protocol == PROTOCOL_UDP && strcmp(master->listeners[i]->name, named.name) == 0 &&
			        strcmp(master->listeners[i]->address, named.address) == 0)
				master->listeners[i]->read_by_heir = true;
	yield_all(master, NULL);
}

/* --- listeners that are in the way ----------------------------------------------------------------------------------------- */

static bool is_rival(const struct listener *listener, const struct generation *reader)
{
	if (listener->protocol != PROTOCOL_UDP || generation_uses(reader, listener))
		return false;
	for (size_t i = 0; i < reader->config->n_listeners; i++)
		if (listener_shares_port(listener, &reader->config->listeners[i]))
			return true;
	return false;
}

static void close_in(struct generation *generation, const struct listener *listener)
{
	for (uint32_t i = 0; generation->listeners && i < generation->config->n_listeners; i++) {
		if (generation->listeners[i] != listener)
			continue;
		uint32_t part = i / MESSAGE_LISTENERS;
		generation->listeners[i] = NULL;
		generation_tell(generation, &(struct channel_message){ .kind = MESSAGE_CLOSE,
		                                    .value = part * MESSAGE_LISTENERS,
		                                    .value_ns = UINT64_C(1) << (i % MESSAGE_LISTENERS) });
	}
}

static const char another_has_it[] = "another one has its port now";

static void close_with_sessions(struct master *master, size_t index, const char *why)
{
	struct listener *listener = master->listeners[index];
	log_info("listener %s (%s) is closed with its sessions: %s", listener->name, listener->address, why);
	for (struct generation *generation = master->draining; generation; generation = generation->next)
		close_in(generation, listener);
	master->listeners[index] = master->listeners[--master->n_listeners];
	listener_free(listener);
}

void yield_close_rivals(struct master *master, const struct generation *reader)
{
	for (size_t i = master->n_listeners; i-- > 0;)
		if (is_rival(master->listeners[i], reader))
			close_with_sessions(master, i, another_has_it);
}

/* On the port of another one, ":53" behind the last colon, and at none of their addresses. */
static bool is_rival_of_any(const struct listener *listener, char *text)
{
	struct named named;
	char own[ADDR_TEXT_SIZE];
	const char *bound = listener->protocol == PROTOCOL_UDP ? bound_text(listener, own) : "";
	const char *port = strrchr(bound, ':'), *other;
	bool shares = false;
	(void)word_next(&text);
	while (port && text && next_named(&text, &named)) {
		if (strcmp(named.bound, bound) == 0)
			return false;
		other = strrchr(named.bound, ':');
		shares = shares || (other && strcmp(other, port) == 0);
	}
	return shares;
}

void yield_close_rivals_of_heir(struct master *master, const char *text)
{
	for (size_t i = master->n_listeners; i-- > 0;) {
		char *words = strdup(text); /* it is taken apart */
		if (words && is_rival_of_any(master->listeners[i], words))
			close_with_sessions(master, i, another_has_it);
		free(words);
	}
}

void yield_close_all(struct master *master)
{
	for (size_t i = master->n_listeners; i-- > 0;)
		if (master->listeners[i]->protocol == PROTOCOL_UDP)
			close_with_sessions(master, i, "the new master is gone, and who starts next needs its port");
}
