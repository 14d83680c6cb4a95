/* Makes hellos: the parts that are given, in records of a length. */
#ifndef AEGIS_TESTS_PROTO_HELLO_H
#define AEGIS_TESTS_PROTO_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct hello_bytes {
	uint8_t bytes[4096];
	size_t count;
};

static inline void hello_add(struct hello_bytes *out, const void *bytes, size_t count)
{
	memcpy(out->bytes + out->count, bytes, count);
	out->count += count;
}

static inline void hello_add_number(struct hello_bytes *out, uint32_t number, unsigned bytes)
{
	while (bytes-- > 0)
		out->bytes[out->count++] = (uint8_t)(number >> 8 * bytes);
}

static inline void hello_add_extension(struct hello_bytes *out, uint32_t type, const struct hello_bytes *body)
{
	hello_add_number(out, type, 2);
	hello_add_number(out, (uint32_t)body->count, 2);
	hello_add(out, body->bytes, body->count);
}

static inline void hello_add_name(struct hello_bytes *out, const char *name, size_t length)
{
	struct hello_bytes body = { .count = 0 };
	hello_add_number(&body, (uint32_t)length + 3, 2);
	hello_add_number(&body, 0, 1);
	hello_add_number(&body, (uint32_t)length, 2);
	hello_add(&body, name, length);
	hello_add_extension(out, 0, &body);
}

/* protocols: names with commas between them. */
static inline void hello_add_protocols(struct hello_bytes *out, const char *protocols)
{
	struct hello_bytes list = { .count = 0 }, body = { .count = 0 };
	for (const char *at = protocols; *at != '\0';) {
		size_t length = strcspn(at, ",");
		hello_add_number(&list, (uint32_t)length, 1);
		hello_add(&list, at, length);
		at += length + (at[length] == ',');
	}
	hello_add_number(&body, (uint32_t)list.count, 2);
	hello_add(&body, list.bytes, list.count);
	hello_add_extension(out, 16, &body);
}

/* The message with these extensions, without a record. */
static inline void hello_message(struct hello_bytes *out, const struct hello_bytes *extensions)
{
	static const uint8_t random[32] = { 1 }, ciphers[] = { 0x13, 0x01, 0x13, 0x02 };
	struct hello_bytes body = { .count = 0 };
	hello_add_number(&body, 0x0303, 2);
	hello_add(&body, random, sizeof random);
	hello_add_number(&body, 0, 1);
	hello_add_number(&body, sizeof ciphers, 2);
	hello_add(&body, ciphers, sizeof ciphers);
	hello_add_number(&body, 1, 1);
	hello_add_number(&body, 0, 1);
	hello_add_number(&body, (uint32_t)extensions->count, 2);
	hello_add(&body, extensions->bytes, extensions->count);
	hello_add_number(out, 1, 1);
	hello_add_number(out, (uint32_t)body.count, 3);
	hello_add(out, body.bytes, body.count);
}

/* In records of up to so many bytes each. */
static inline void hello_records(struct hello_bytes *out, const struct hello_bytes *message, size_t most)
{
	for (size_t at = 0; at < message->count;) {
		size_t count = message->count - at < most ? message->count - at : most;
		hello_add_number(out, 0x160301, 3);
		hello_add_number(out, (uint32_t)count, 2);
		hello_add(out, message->bytes + at, count);
		at += count;
	}
}

/* All of it: NULL for what is not to be there. */
static inline void hello_make(struct hello_bytes *out, const char *name, const char *protocols, size_t record)
{
	struct hello_bytes extensions = { .count = 0 }, message = { .count = 0 };
	if (name != NULL)
		hello_add_name(&extensions, name, strlen(name));
	if (protocols != NULL)
		hello_add_protocols(&extensions, protocols);
	hello_message(&message, &extensions);
	out->count = 0;
	hello_records(out, &message, record);
}

#endif
