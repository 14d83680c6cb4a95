#include "view/emit.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

/* A part of a value at most, at the end of a character of UTF-8: text_add_escaped() judges whole characters. */
enum { PART_BYTES = 256 };

static bool is_middle(char byte)
{
	return ((unsigned char)byte & 0xc0) == 0x80;
}

static void add_escaped(struct emit *emit, const char *value)
{
	char part[PART_BYTES + 1], escaped[6 * PART_BYTES + 1];
	while (*value != '\0') {
		size_t n = strnlen(value, PART_BYTES);
		/* No character has more than three of them. */
		for (int i = 0; i < 3 && n > 1 && is_middle(value[n]); i++)
			n--;
		memcpy(part, value, n);
		part[n] = '\0';
		struct text text = text_of(escaped, sizeof escaped);
		text_add_escaped(&text, part);
		fputs(escaped, emit->out);
		value += n;
	}
}

static void comma(struct emit *emit)
{
	if (emit->comma)
		fputc(',', emit->out);
	emit->comma = true;
}

void emit_key(struct emit *emit, const char *key)
{
	comma(emit);
	if (key != NULL)
		fprintf(emit->out, "\"%s\":", key);
}

void emit_name(struct emit *emit, const char *name)
{
	comma(emit);
	fputc('"', emit->out);
	add_escaped(emit, name);
	fputs("\":", emit->out);
	emit->comma = false;
}

void emit_open(struct emit *emit, const char *key, char bracket)
{
	emit_key(emit, key);
	fputc(bracket, emit->out);
	emit->comma = false;
}

void emit_close(struct emit *emit, char bracket)
{
	fputc(bracket, emit->out);
	emit->comma = true;
}

void emit_u64(struct emit *emit, const char *key, uint64_t value)
{
	emit_key(emit, key);
	fprintf(emit->out, "%" PRIu64, value);
}

void emit_i32(struct emit *emit, const char *key, int32_t value)
{
	emit_key(emit, key);
	fprintf(emit->out, "%" PRId32, value);
}

void emit_bool(struct emit *emit, const char *key, bool value)
{
	emit_key(emit, key);
	fputs(value ? "true" : "false", emit->out);
}

void emit_null(struct emit *emit, const char *key)
{
	emit_key(emit, key);
	fputs("null", emit->out);
}

void emit_string(struct emit *emit, const char *key, const char *value)
{
	emit_key(emit, key);
	fputc('"', emit->out);
	add_escaped(emit, value);
	fputc('"', emit->out);
}

void emit_ms(struct emit *emit, const char *key, uint64_t ns)
{
	emit_key(emit, key);
	fprintf(emit->out, "%" PRIu64 ".%06" PRIu64, ns / NS_PER_MS, ns % NS_PER_MS);
}

void emit_seconds(struct emit *emit, const char *key, uint64_t ns)
{
	emit_key(emit, key);
	fprintf(emit->out, "%" PRIu64 ".%03" PRIu64, ns / NS_PER_S, ns % NS_PER_S / NS_PER_MS);
}
