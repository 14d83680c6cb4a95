#include "control/resolver_own.h"

#include <string.h>

#include "base/clock.h"
#include "base/text.h"

unsigned resolver_known_count(const struct name *name)
{
	return name->known[IP_V4].n + name->known[IP_V6].n;
}

uint64_t resolver_random(struct resolver *resolver, uint64_t most)
{
	resolver->random ^= resolver->random << 13; /* xorshift64 */
	resolver->random ^= resolver->random >> 7;
	resolver->random ^= resolver->random << 17;
	return resolver->random % (most + 1);
}

/* Not before the TTL is over: a cache would give the same answer again. */
static uint64_t pause_after_good(struct name *name)
{
	struct resolver *resolver = name->resolver;
	uint64_t pause_ns = name->lookup.ttl_s > UINT32_MAX ? UINT64_MAX : name->lookup.ttl_s * NS_PER_S;
	pause_ns = pause_ns < resolver->settings.min_ttl_ns ? resolver->settings.min_ttl_ns : pause_ns;
	pause_ns = pause_ns > resolver->settings.max_ttl_ns ? resolver->settings.max_ttl_ns : pause_ns;
	return pause_ns + resolver_random(resolver, pause_ns / 10);
}

static uint64_t pause_after_bad(struct name *name)
{
	const struct resolver_settings *settings = &name->resolver->settings;
	uint64_t pause_ns = settings->retry_min_ns;
	for (uint64_t i = 1; i < name->stats.bad_in_a_row && pause_ns < settings->retry_max_ns; i++)
		pause_ns *= 2;
	pause_ns = pause_ns < settings->retry_max_ns ? pause_ns : settings->retry_max_ns;
	return pause_ns - resolver_random(name->resolver, pause_ns / 4);
}

/* At most SERVER_MAX_ADDRESSES of what is known, of the first family before the other. */
static void choose(const struct name *name, struct ip_set out[IP_FAMILIES])
{
	enum ip_family other = name->first == IP_V4 ? IP_V6 : IP_V4;
	memcpy(out, name->known, sizeof name->known);
	if (out[name->first].n + out[other].n > SERVER_MAX_ADDRESSES)
		out[other].n = SERVER_MAX_ADDRESSES - out[name->first].n;
}

static bool same_addresses(const struct ip_set a[IP_FAMILIES], const struct ip_set b[IP_FAMILIES])
{
	return ip_set_equal(&a[IP_V4], &b[IP_V4]) && ip_set_equal(&a[IP_V6], &b[IP_V6]);
}

/* --- telling --------------------------------------------------------------------------------------------------------------- */

static size_t list_addresses(const struct ip_set chosen[IP_FAMILIES], enum ip_family first, uint16_t port, struct addr *out)
{
	size_t n = 0;
	for (int turn = 0; turn < IP_FAMILIES; turn++) {
		enum ip_family family = (turn == 0) == (first == IP_V4) ? IP_V4 : IP_V6;
		for (uint32_t i = 0; i < chosen[family].n; i++)
			ip_to_addr(&chosen[family].ips[i], family, port, &out[n++]);
	}
	return n;
}

void resolver_tell(struct name *name)
{
	struct resolver *resolver = name->resolver;
	struct ip_set chosen[IP_FAMILIES];
	choose(name, chosen);
	name->telling = true;
	resolver->cursor = name->watches;
	while (resolver->cursor) {
		struct watch *watch = resolver->cursor;
		resolver->cursor = watch->next;
		if (same_addresses(watch->told, chosen))
			continue;
		struct addr addrs[SERVER_MAX_ADDRESSES];
		size_t n = list_addresses(chosen, name->first, watch->port, addrs);
		memcpy(watch->told, chosen, sizeof watch->told);
		resolver->changed(watch->owner, addrs, n);
	}
	name->telling = false;
}

static void log_change(struct name *name)
{
	struct resolver *resolver = name->resolver;
	uint64_t held_back;
	char line[SERVER_MAX_ADDRESSES * IP_TEXT_SIZE], ip[IP_TEXT_SIZE];
	struct text text = text_of(line, sizeof line);
	if (!log_gate_open(&resolver->changed_gate, loop_now_ns(resolver->loop), &held_back))
		return;
	for (int family = 0; family < IP_FAMILIES; family++)
		for (uint32_t i = 0; i < name->known[family].n; i++)
			text_add(
			        &text, "%s%s", text.length ? ", " : "", ip_format(&name->known[family].ips[i], (enum ip_family)family, ip));
	log_info("the addresses of \"%s\" are now %s (%llu more changes of names not logged)", name->text, line,
	        (unsigned long long)held_back);
}

static const char *kept(const struct name *name)
{
	return resolver_known_count(name) ? "the addresses it had stay in use" : "it has no address yet";
}

/* The first time, and then ever more rarely. */
static bool worth_a_line(const struct name *name)
{
	return (name->stats.bad_in_a_row & (name->stats.bad_in_a_row - 1)) == 0;
}

static void log_failure(struct name *name, uint64_t pause_ns, bool partly)
{
	uint64_t held_back;
	if (worth_a_line(name) && log_gate_open(&name->resolver->failed_gate, loop_now_ns(name->resolver->loop), &held_back))
		log_warn("cannot resolve \"%s\"%s now: %s; %s; attempt %llu, the next one in %llu ms (%llu more failures of names not "
		         "logged)",
		        name->text, partly ? " in one family" : "", name->lookup.why, kept(name),
		        (unsigned long long)name->stats.bad_in_a_row, (unsigned long long)(pause_ns / NS_PER_MS),
		        (unsigned long long)held_back);
}

static void log_gone(struct name *name)
{
	uint64_t held_back;
	if (worth_a_line(name) && log_gate_open(&name->resolver->gone_gate, loop_now_ns(name->resolver->loop), &held_back))
		log_error("the name \"%s\" is gone: %s; %s; if that is for good, correct or remove the server (%llu more such names not "
		          "logged)",
		        name->text, name->lookup.why, kept(name), (unsigned long long)held_back);
}

static void log_again(struct name *name)
{
	uint64_t held_back;
	if (log_gate_open(&name->resolver->again_gate, loop_now_ns(name->resolver->loop), &held_back))
		log_info("\"%s\" is resolved again, at attempt %llu (%llu more such names not logged)", name->text,
		        (unsigned long long)name->stats.bad_in_a_row + 1, (unsigned long long)held_back);
}

/* --- answers --------------------------------------------------------------------------------------------------------------- */

/* A family that failed keeps what it had. True when that was something. */
static bool take_families(struct name *name)
{
	bool partly = false;
	for (int family = 0; family < IP_FAMILIES; family++)
		if (name->lookup.outcome[family] != LOOKUP_FAILED)
			name->known[family] = name->lookup.found[family];
		else if (name->known[family].n > 0)
			partly = true;
	return partly;
}

static uint64_t take_good(struct name *name)
{
	struct resolver *resolver = name->resolver;
	struct ip_set before[IP_FAMILIES], after[IP_FAMILIES];
	uint64_t pause_ns = pause_after_good(name);
	choose(name, before);
	bool partly = take_families(name);
	choose(name, after);
	name->stats.last_success_ns = loop_now_ns(resolver->loop);
	if (!same_addresses(before, after)) {
		name->stats.changes++;
		resolver->totals.changes++;
		log_change(name);
	}
	if (partly) {
		name->stats.failures++;
		name->stats.bad_in_a_row++;
		resolver->totals.failures++;
		uint64_t retry_ns = pause_after_bad(name);
		pause_ns = retry_ns < pause_ns ? retry_ns : pause_ns;
		log_failure(name, pause_ns, true);
	} else if (name->stats.bad_in_a_row > 0) {
		log_again(name);
		name->stats.bad_in_a_row = 0;
	}
	return pause_ns;
}

static uint64_t take_bad(struct name *name, bool failed)
{
	struct resolver_stats *totals = &name->resolver->totals;
	name->stats.bad_in_a_row++;
	uint64_t pause_ns = pause_after_bad(name);
	if (failed) {
		name->stats.failures++;
		totals->failures++;
		log_failure(name, pause_ns, false);
	} else {
		name->stats.gone++;
		totals->gone++;
		log_gone(name);
	}
	return pause_ns;
}

uint64_t resolver_take_answer(struct name *name, bool *good)
{
	const enum lookup_outcome *outcome = name->lookup.outcome;
	*good = outcome[IP_V4] == LOOKUP_GOOD || outcome[IP_V6] == LOOKUP_GOOD;
	return *good ? take_good(name) : take_bad(name, outcome[IP_V4] == LOOKUP_FAILED || outcome[IP_V6] == LOOKUP_FAILED);
}
