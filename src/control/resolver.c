#include "control/resolver.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "control/host_families.h"
#include "control/resolver_own.h"

#define LOOK_AROUND_NS (30 * NS_PER_S) /* between two looks at the interfaces of the host */

/* --- names ----------------------------------------------------------------------------------------------------------------- */

static struct name **bucket_of(struct resolver *resolver, const char *text)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
	return &resolver->buckets[hash % RESOLVER_BUCKETS];
}

static struct name *find_name(struct resolver *resolver, const char *text)
{
	struct name *name = *bucket_of(resolver, text);
	while (name && strcmp(name->text, text) != 0)
		name = name->next_in_bucket;
	return name;
}

static struct name *add_name(struct resolver *resolver, const char *text)
{
	struct name *name = calloc(1, sizeof *name);
	if (!name)
		return NULL;
	struct name **bucket = bucket_of(resolver, text);
	(void)text_copy(name->text, sizeof name->text, text);
	name->lookup = (struct lookup){ .name = name->text, .known = name->known };
	name->resolver = resolver;
	name->first = resolver->families & RESOLVER_IPV6 ? IP_V6 : IP_V4;
	name->next_in_bucket = *bucket;
	*bucket = name;
	resolver->totals.names++;
	return name;
}

static void drop_if_unused(struct name *name)
{
	if (name->watches || name->waiting || name->asked || name->telling)
		return;
	struct name **link = bucket_of(name->resolver, name->text);
	while (*link != name)
		link = &(*link)->next_in_bucket;
	*link = name->next_in_bucket;
	wheel_disarm(&name->due);
	name->resolver->totals.names--;
	free(name);
}

/* --- when to ask ----------------------------------------------------------------------------------------------------------- */

static void ask_after(struct name *name, uint64_t after_ns)
{
	wheel_arm(&name->resolver->wheel, &name->due, loop_now_ns(name->resolver->loop) + after_ns);
}

/* The next thing to do by itself; an answer calls here too. */
static void set_timer(struct resolver *resolver)
{
	uint64_t now_ns = loop_now_ns(resolver->loop), next_ns = wheel_next_ns(&resolver->wheel);
	uint64_t most = resolver->renewing ? 1 : LOOKUPS_AT_ONCE;
	if (resolver->waiting && resolver->totals.in_flight < most)
		loop_timer_start(resolver->loop, &resolver->timer, 0);
	else if (next_ns != WHEEL_NEVER)
		loop_timer_start(resolver->loop, &resolver->timer, next_ns > now_ns ? next_ns - now_ns : 0);
	else
		loop_timer_stop(resolver->loop, &resolver->timer);
}

static void on_answered(struct lookup *lookup)
{
	struct name *name = container_of(lookup, struct name, lookup);
	struct resolver *resolver = name->resolver;
	name->asked = false;
	resolver->totals.in_flight--;
	if (name->watches) {
		bool good;
		ask_after(name, resolver_take_answer(name, &good));
		if (good)
			resolver_tell(name);
	}
	drop_if_unused(name);
	set_timer(resolver);
}

/* --- asking ---------------------------------------------------------------------------------------------------------------- */

/* Only ever more of them: an interface that is down for a moment must not take addresses away. */
static void update_families(struct resolver *resolver)
{
	uint64_t now_ns = loop_now_ns(resolver->loop);
	if (resolver->settings.families || now_ns < resolver->look_again_ns)
		return;
	resolver->look_again_ns = now_ns + LOOK_AROUND_NS;
	resolver->families |= host_families();
}

static unsigned families_of(const struct name *name)
{
	unsigned families = name->resolver->families;
	if (families && !name->resolver->settings.families)
		families |= (name->known[IP_V4].n ? RESOLVER_IPV4 : 0U) | (name->known[IP_V6].n ? RESOLVER_IPV6 : 0U);
	return families ? families : RESOLVER_IPV4 | RESOLVER_IPV6; /* only loopback: nothing to tell by */
}

static void ask(struct name *name)
{
	struct resolver *resolver = name->resolver;
	struct lookup *lookup = &name->lookup;
	name->asked = true;
	name->stats.queries++;
	resolver->totals.queries++;
	resolver->totals.in_flight++;
	*lookup = (struct lookup){
		.name = lookup->name, .known = lookup->known, .via = lookup->via, .families = families_of(name), .why = "no answer"
	};
	resolver->lookups->kind->ask(resolver->lookups, lookup);
}

static void on_due(struct wheel_entry *entry, void *arg)
{
	struct resolver *resolver = arg;
	struct name *name = container_of(entry, struct name, due);
	name->waiting = true;
	name->next_waiting = NULL;
	*resolver->waiting_end = name;
	resolver->waiting_end = &name->next_waiting;
}

static struct name *first_waiting(struct resolver *resolver)
{
	struct name *name = resolver->waiting;
	resolver->waiting = name->next_waiting;
	if (!resolver->waiting)
		resolver->waiting_end = &resolver->waiting;
	name->waiting = false;
	return name;
}

/* Questions must not meet a change of the system's settings: then all wait until none is under way. */
static bool may_ask(struct resolver *resolver)
{
	const struct lookup_kind *kind = resolver->lookups->kind;
	if (!resolver->renewing)
		resolver->renewing = kind->outdated && kind->outdated(resolver->lookups);
	if (resolver->renewing && resolver->totals.in_flight == 0) {
		kind->renew(resolver->lookups);
		resolver->renewing = false;
	}
	return !resolver->renewing;
}

static void on_timer(struct loop_timer *timer)
{
	struct resolver *resolver = container_of(timer, struct resolver, timer);
	wheel_advance(&resolver->wheel, loop_now_ns(resolver->loop), on_due, resolver);
	if (resolver->waiting && may_ask(resolver)) {
		update_families(resolver);
		/* Bounded also where answers come at once, from a file: the loop has other things to do. */
		for (int i = 0; i < LOOKUPS_AT_ONCE && resolver->waiting && resolver->totals.in_flight < LOOKUPS_AT_ONCE; i++) {
			struct name *name = first_waiting(resolver);
			if (name->watches)
				ask(name);
			else
				drop_if_unused(name);
		}
	}
	set_timer(resolver);
}

/* --- for the caller -------------------------------------------------------------------------------------------------------- */

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

static void take_settings(struct resolver_settings *own, const struct resolver_settings *settings)
{
	enum { LEAST_TTL_MS = 10 }; /* whatever the settings say, a TTL of 0 is no reason to ask without a pause */
	*own = *settings;
	own->min_ttl_ns = or_default(settings->min_ttl_ns, NS_PER_S);
	if (own->min_ttl_ns < LEAST_TTL_MS * NS_PER_MS)
		own->min_ttl_ns = LEAST_TTL_MS * NS_PER_MS;
	own->max_ttl_ns = or_default(settings->max_ttl_ns, 300 * NS_PER_S);
	if (own->max_ttl_ns < own->min_ttl_ns)
		own->max_ttl_ns = own->min_ttl_ns;
	own->timeout_ns = or_default(settings->timeout_ns, 2 * NS_PER_S);
	own->retry_min_ns = or_default(settings->retry_min_ns, NS_PER_S);
	own->retry_max_ns = or_default(settings->retry_max_ns, 30 * NS_PER_S);
	if (own->servers && !*own->servers)
		own->servers = NULL;
}

static const struct lookup_kind *kind_of(enum resolver_way way)
{
#ifdef HAVE_CARES
	return way == RESOLVER_CHILD ? &lookup_child : &lookup_cares;
#else
	return way == RESOLVER_CARES ? NULL : &lookup_child;
#endif
}

const char *resolver_cares_version(void)
{
#ifdef HAVE_CARES
	return lookup_cares_version();
#else
	return NULL;
#endif
}

int resolver_new(struct loop *loop, const struct resolver_settings *settings, resolver_changed_fn *changed, struct resolver **out)
{
	const struct lookup_kind *kind = kind_of(settings->way);
	if (!kind)
		return -ENOTSUP;
	struct resolver *resolver = calloc(1, sizeof *resolver);
	if (!resolver)
		return -ENOMEM;
	resolver->loop = loop;
	resolver->changed = changed;
	resolver->waiting_end = &resolver->waiting;
	resolver->random = (clock_now_ns() ^ (uint64_t)getpid() << 32) | 1;
	take_settings(&resolver->settings, settings);
	int err = kind->open(&resolver->settings, loop, on_answered, &resolver->lookups);
	if (err) {
		free(resolver);
		return err;
	}
	resolver->settings.servers = NULL; /* the caller's, and not needed any more */
	resolver->families = settings->families;
	update_families(resolver);
	loop_timer_init(&resolver->timer, on_timer);
	wheel_init(&resolver->wheel, loop_now_ns(loop));
	*out = resolver;
	return 0;
}

void resolver_free(struct resolver *resolver)
{
	if (!resolver)
		return;
	loop_timer_stop(resolver->loop, &resolver->timer);
	resolver->lookups->kind->close(resolver->lookups);
	for (size_t i = 0; i < RESOLVER_BUCKETS; i++)
		while (resolver->buckets[i]) {
			struct name *name = resolver->buckets[i];
			resolver->buckets[i] = name->next_in_bucket;
			while (name->watches) {
				struct watch *watch = name->watches;
				name->watches = watch->next;
				free(watch);
			}
			free(name);
		}
	free(resolver);
}

/* In small letters. */
static int copy_name(char out[static HOST_NAME_SIZE], const char *name)
{
	if (!*name || !text_copy(out, HOST_NAME_SIZE, name))
		return -EINVAL;
	for (; *out; out++)
		if (*out >= 'A' && *out <= 'Z')
			*out = (char)(*out - 'A' + 'a');
	return 0;
}

/* Into told, and into what is known of the name if nothing is. */
static void take_initial(struct watch *watch, const struct addr *addrs, size_t n)
{
	struct name *name = watch->name;
	bool first = true, empty = resolver_known_count(name) == 0;
	for (size_t i = 0; i < n; i++) {
		struct ip ip;
		enum ip_family family;
		if (!ip_from_sockaddr(&addrs[i].sa, addrs[i].length, &ip, &family))
			continue;
		if (first && empty)
			name->first = family;
		first = false;
		ip_set_add(&watch->told[family], &ip);
	}
	if (empty)
		memcpy(name->known, watch->told, sizeof name->known);
}

int resolver_watch(struct resolver *resolver, void *owner, const char *name_text, uint16_t port, const struct addr *addrs, size_t n,
        struct watch **out)
{
	char text[HOST_NAME_SIZE];
	int err = copy_name(text, name_text);
	if (err)
		return err;
	struct watch *watch = calloc(1, sizeof *watch);
	struct name *name = find_name(resolver, text);
	if (watch && !name)
		name = add_name(resolver, text);
	if (!watch || !name) {
		free(watch);
		return -ENOMEM;
	}
	*watch = (struct watch){ .name = name, .next = name->watches, .link = &name->watches, .owner = owner, .port = port };
	if (watch->next)
		watch->next->link = &watch->next;
	name->watches = watch;
	take_initial(watch, addrs, n);
	if (!name->waiting && !name->asked)
		ask_after(name, resolver_known_count(name) ? resolver_random(resolver, resolver->settings.min_ttl_ns) : 0);
	set_timer(resolver);
	*out = watch;
	return 0;
}

void resolver_forget(struct resolver *resolver, struct watch *watch)
{
	if (!watch)
		return;
	if (resolver->cursor == watch)
		resolver->cursor = watch->next;
	*watch->link = watch->next;
	if (watch->next)
		watch->next->link = watch->link;
	struct name *name = watch->name;
	free(watch);
	drop_if_unused(name);
}

struct resolver_stats resolver_stats(const struct watch *watch)
{
	return watch->name->stats;
}

struct resolver_stats resolver_totals(const struct resolver *resolver)
{
	return resolver->totals;
}
