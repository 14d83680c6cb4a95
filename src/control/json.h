/* The body of a request: one JSON object of a few settings. Only user of jansson.
 *
 * Hostile input: nothing in it is trusted; no more than JSON_BODY_DEPTH levels are looked into, however many there are.
 */
#ifndef AEGIS_CONTROL_JSON_H
#define AEGIS_CONTROL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

enum { JSON_BODY_DEPTH = 16 };

struct json_body;

/* 0 and *out, or -EINVAL with *why what is wrong with it, or -ENOTSUP where this was built without jansson. Nothing at all is an empty
 * object. */
must_check int json_body_read(const char *bytes, size_t n, struct json_body **out, char *why, size_t why_size);
void json_body_free(struct json_body *body);

/* The first key that is not one of [n] known, or NULL. */
const char *json_body_stranger(const struct json_body *body, const char *const *known, size_t n);

/* It is there, and null. */
must_check bool json_body_is_null(const struct json_body *body, const char *key);
/* 1 and *out, 0 where the key is not there, or -EINVAL with *why: not a number, or not from min to max. */
must_check int json_body_whole(
        const struct json_body *body, const char *key, uint64_t min, uint64_t max, uint64_t *out, char *why, size_t why_size);
must_check int json_body_number(
        const struct json_body *body, const char *key, double min, double max, double *out, char *why, size_t why_size);

#endif
