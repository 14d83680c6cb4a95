/* A JSON text under construction, written as it comes. Lists and objects are opened and closed by the caller; commas come by themselves.
 *
 *   struct emit emit = { .out = out };
 *   emit_open(&emit, NULL, '{'); emit_u64(&emit, "active", 7); emit_close(&emit, '}');
 */
#ifndef AEGIS_VIEW_EMIT_H
#define AEGIS_VIEW_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct emit {
	FILE *out;  /* trouble shows in ferror(out) */
	bool comma; /* something stands before, on this level */
};

/* key is NULL in a list, for the outermost value and behind emit_name(). It is printed as it is: a name that is not of the program
 * goes through emit_name(). */
void emit_key(struct emit *emit, const char *key);
void emit_name(struct emit *emit, const char *name);
void emit_open(struct emit *emit, const char *key, char bracket);
void emit_close(struct emit *emit, char bracket);
void emit_u64(struct emit *emit, const char *key, uint64_t value);
void emit_i32(struct emit *emit, const char *key, int32_t value);
void emit_bool(struct emit *emit, const char *key, bool value);
void emit_null(struct emit *emit, const char *key);
/* Of any length; bytes that are not UTF-8 come out as '?'. */
void emit_string(struct emit *emit, const char *key, const char *value);
/* A time with six decimals, in milliseconds; with three, in seconds. */
void emit_ms(struct emit *emit, const char *key, uint64_t ns);
void emit_seconds(struct emit *emit, const char *key, uint64_t ns);

#endif
