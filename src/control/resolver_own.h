/* What the files of the resolver share: resolver.c (names, watches, when to ask) and resolver_answer.c (what an answer changes). */
#ifndef AEGIS_CONTROL_RESOLVER_OWN_H
#define AEGIS_CONTROL_RESOLVER_OWN_H

#include "base/log.h"
#include "base/wheel.h"
#include "control/resolver_lookup.h"
#include "os/loop.h"

enum { RESOLVER_BUCKETS = 1024 };

struct watch {
	struct name *name;
	struct watch *next;
	struct watch **link;
	void *owner;
	uint16_t port;
	struct ip_set told[IP_FAMILIES];
};

/* Lives as long as it is watched, asked for or waiting for it. */
struct name {
	struct lookup lookup;
	struct resolver *resolver;
	struct name *next_in_bucket;
	struct name *next_waiting;
	struct wheel_entry due; /* when to ask, unless it waits or is asked for */
	struct watch *watches;
	struct ip_set known[IP_FAMILIES]; /* the last good answer */
	struct resolver_stats stats;
	enum ip_family first; /* of the families, as it was at the start */
	bool waiting, asked, telling;
	char text[HOST_NAME_SIZE]; /* in small letters */
};

struct resolver {
	struct loop *loop;
	struct resolver_settings settings;
	resolver_changed_fn *changed;
	struct lookups *lookups;
	struct loop_timer timer;
	struct wheel wheel;
	struct name *buckets[RESOLVER_BUCKETS];
	struct name *waiting; /* due, first come first asked */
	struct name **waiting_end;
	struct watch *cursor; /* the next one to tell */
	struct resolver_stats totals;
	bool renewing; /* ask for nothing until nothing is under way */
	unsigned families;
	uint64_t look_again_ns; /* at the interfaces */
	uint64_t random;
	struct log_gate failed_gate, gone_gate, changed_gate, again_gate;
};

/* Take the answer in the name's lookup over: for how long to wait until the next question. True in *good when it was one, of which
 * resolver_tell() is to tell. */
uint64_t resolver_take_answer(struct name *name, bool *good);
/* Tell all watches of the name that do not know its addresses yet. A callback may forget any of them: the name may have none then. */
void resolver_tell(struct name *name);

/* 0..most, for spreading; nothing depends on its being hard to guess. */
uint64_t resolver_random(struct resolver *resolver, uint64_t most);
unsigned resolver_known_count(const struct name *name);

#endif
