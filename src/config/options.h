/* The option table: every setting declared once. The loader, the checker, "aegis -T" and the manual page read it; to add a
 * setting is a field in config.h, a row in option_rows.c, its use and a test. */
#ifndef AEGIS_CONFIG_OPTIONS_H
#define AEGIS_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "config/config.h"

/* What settings belong to: the file itself, its groups, and the elements of its lists. */
enum object {
	OBJECT_TOP,
	OBJECT_LOG,
	OBJECT_ACCESS_LOG,
	OBJECT_DRAIN,
	OBJECT_ADMIN,
	OBJECT_RESOLVER,
	OBJECT_TLS,
	OBJECT_LISTENER,
	OBJECT_LISTENER_ROUTE,
	OBJECT_LISTENER_HELLO,
	OBJECT_LISTENER_ACME,
	OBJECT_LISTENER_ACCEPT_PROXY,
	OBJECT_LISTENER_RATE_LIMIT,
	OBJECT_LISTENER_BANDWIDTH,
	OBJECT_LISTENER_TCP,
	OBJECT_LISTENER_UDP,
	OBJECT_LISTENER_TIMEOUT,
	OBJECT_LISTENER_TLS,
	OBJECT_CERTIFICATE,
	OBJECT_UPSTREAM,
	OBJECT_SERVER,
	OBJECT_UPSTREAM_TIMEOUT,
	OBJECT_UPSTREAM_AFFINITY,
	OBJECT_UPSTREAM_HEALTH,
	OBJECT_UPSTREAM_BREAKER,
	OBJECT_UPSTREAM_OUTLIER,
	OBJECT_UPSTREAM_QUEUE,
	OBJECT_UPSTREAM_POOL,
	OBJECT_UPSTREAM_TCP,
	OBJECT_UPSTREAM_TLS,
	N_OBJECTS
};

/* A group shares the struct of its parent; a list has elements of its own, in an array of the parent's struct. */
struct object_row {
	enum object parent; /* of OBJECT_TOP: itself */
	const char *key;    /* in the parent */
	bool list;
	bool required;       /* a list: needs at least one element */
	size_t array_offset; /* a list: of the pointer to its elements */
	size_t count_offset; /* a list: of their number, a size_t */
	size_t element_size;
	size_t max; /* a list: elements, over all parents together */
	/* A list whose elements are told apart by another text than their setting "name": where that is. */
	bool labelled;
	size_t label_offset;
	/* A group that is off when it is not written: the key of the setting in it that is 0 then, a number, a duration or an enum, or
	 * empty, a target, or false. */
	const char *switch_key;
	/* One with a switch_key that is of use where it is off, too, if something outside of it says so: the offset of that, a bool; 0 =
	 * none. */
	size_t other_switch_offset;
	/* A group that is off where a list beside it has no elements: the offset of their number, a size_t; 0 = none. */
	size_t switch_offset;
	/* A group that has a use only with some values of an enum in its parent, as a setting may have (struct option). */
	const char *only_with;
	uint32_t only_words;
	const char *help;
};
extern const struct object_row object_rows[N_OBJECTS];

enum option_type {
	OPTION_BOOL,     /* bool */
	OPTION_NUMBER,   /* uint32_t */
	OPTION_DURATION, /* uint64_t, ns */
	OPTION_SIZE,     /* uint64_t, bytes */
	OPTION_RATE,     /* uint64_t, per second */
	OPTION_ENUM,     /* an enum, by its word */
	OPTION_TEXT,     /* const char * */
	OPTION_NAME,     /* const char *: of a listener, upstream or server */
	OPTION_PATH,     /* const char *: absolute */
	OPTION_FILE,     /* the same, or empty */
	OPTION_TARGET,   /* const char *: where log lines go */
	OPTION_BYTES,    /* const char *: any bytes but NUL */
	OPTION_HEX,      /* const char *: any bytes, two hexadecimal digits each, or empty */
	OPTION_URL_PATH, /* const char *: absolute, printable, without spaces */
	OPTION_HOST,     /* const char *: a host name, or empty */
	OPTION_LISTEN,   /* const char * and struct endpoint: where to listen */
	OPTION_SERVER,   /* const char * and struct endpoint: where to connect to */
	OPTION_ADMIN,    /* const char * and struct endpoint: an IP address and a port to listen on, or empty */
	/* Lists of texts: a pointer to the elements, which is never NULL where there are any, and their number, a size_t. */
	OPTION_CIDRS,     /* struct cidr * */
	OPTION_RESOLVERS, /* struct addr * */
	N_OPTION_TYPES
};

/* When a changed value takes effect at a reload. RELOAD_IN_PLACE: as RELOAD_LIVE, and where nothing else changes without new workers: those
 * that run read it in shared memory. */
enum reload { RELOAD_LIVE, RELOAD_IN_PLACE, RELOAD_WORKERS, RELOAD_RESTART, N_RELOADS };
extern const char *const reload_texts[N_RELOADS];

struct option {
	enum object object;
	const char *key;
	enum option_type type;
	uint64_t min, max;        /* numbers, durations, sizes, rates; texts: length; lists: elements */
	const char *zero;         /* what 0 means where it is allowed, although it may be below min; NULL where it is not */
	const char *zero_word;    /* a word that may be written for 0 ("auto") */
	const char *const *words; /* enums: by value */
	size_t n_words;
	const char *fallback; /* the default, as it would be written, without quotes; NULL = must be set, or derived_from says what */
	const char *derived_default; /* for the manual: what the default is made from */
	const char *without_group;   /* the switch of a group: what holds where the group is not written; else NULL */
	/* Where a setting has a use only with some values of an enum that stands beside it, or beside its group: with others, to write it
	 * is an error. */
	const char *only_with;
	uint32_t only_words;    /* the values, as bits */
	size_t offset;          /* in the struct of the object's list element, or in struct config */
	size_t endpoint_offset; /* OPTION_LISTEN, OPTION_SERVER, OPTION_ADMIN */
	size_t count_offset;    /* lists */
	enum reload reload;
	bool secret;      /* a text that may hold a password: neither shown nor written down but for the user's own eyes (aegis -T) */
	const char *help; /* mdoc-free sentences */
};
extern const struct option option_rows[];
extern const size_t n_option_rows;

/* The row of a setting, or NULL. */
const struct option *option_find(enum object object, const char *key);
/* The object that is at key in another, or N_OBJECTS. */
enum object object_find(enum object parent, const char *key);
/* False for a group that is off: nothing in it but its switch has an effect. base is as for its settings. */
bool object_is_on(enum object object, const void *base);
/* Whether the value that a setting, or a group, depends on (only_with) is one of those that give it an effect; a setting needs its group to
 * have one as well. */
bool option_is_of_use(const struct option *option, const void *base);
bool object_is_of_use(enum object object, const void *base);
/* Both: of a group that is off the switch alone has an effect; of the rest what is of use beside the others. */
bool option_has_effect(const struct option *option, const void *base);
/* The values of only_with, for the user: type = "http" or "https". */
void option_add_use(const struct option *option, struct text *out);
void object_add_use(enum object object, struct text *out);
/* The names of all that may stand in an object; returns how many. */
size_t option_keys(enum object object, const char *out[], size_t size);

#endif
