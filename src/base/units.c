#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

struct unit {
	const char *name;
	uint64_t factor;
};

/* Both from the largest to the least, so that the first that divides a value gives the shortest text. */
static const struct unit durations[] = {
	{ "d", 86400 * NS_PER_S },
	{ "h", 3600 * NS_PER_S },
	{ "m", 60 * NS_PER_S },
	{ "s", NS_PER_S },
	{ "ms", NS_PER_MS },
	{ "us", NS_PER_US },
	{ "ns", 1 },
};
static const struct unit sizes[] = {
	{ "T", UINT64_C(1) << 40 },
	{ "G", UINT64_C(1) << 30 },
	{ "M", UINT64_C(1) << 20 },
	{ "k", UINT64_C(1) << 10 },
	{ "", 1 },
};

static const struct unit *unit_named(const struct unit *units, size_t count, const char *name, size_t length)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(units[i].name) == length && memcmp(units[i].name, name, length) == 0)
			return &units[i];
	return NULL;
}

/* Digits and then one of the units, the whole of s[0..length). */
static int parse(const char *s, size_t length, const struct unit *units, size_t count, uint64_t *out)
{
	uint64_t value = 0;
	size_t digits = 0;
	bool overflow = false;

	for (; digits < length && s[digits] >= '0' && s[digits] <= '9'; digits++) {
		overflow |= __builtin_mul_overflow(value, 10U, &value);
		overflow |= __builtin_add_overflow(value, (unsigned)(s[digits] - '0'), &value);
	}
	if (digits == 0)
		return -EINVAL;
	const struct unit *unit = unit_named(units, count, s + digits, length - digits);
	if (unit == NULL) {
		if (digits != length || value != 0 || overflow)
			return -EINVAL;
		*out = 0;
		return 0;
	}
	overflow |= __builtin_mul_overflow(value, unit->factor, &value);
	if (overflow || value > INT64_MAX)
		return -ERANGE;
	*out = value;
	return 0;
}

int units_parse_duration(const char *s, uint64_t *out_ns)
{
	return parse(s, strlen(s), durations, ARRAY_LEN(durations), out_ns);
}

int units_parse_size(const char *s, uint64_t *out_bytes)
{
	return parse(s, strlen(s), sizes, ARRAY_LEN(sizes), out_bytes);
}

int units_parse_rate(const char *s, uint64_t *out_per_s)
{
	size_t length = strlen(s);

	if (length >= 2 && strcmp(s + length - 2, "/s") == 0)
		return parse(s, length - 2, sizes, ARRAY_LEN(sizes), out_per_s);
	/* without a unit only zero is clear */
	return parse(s, length, NULL, 0, out_per_s);
}

static void format(uint64_t value, const struct unit *units, struct text *text)
{
	while (value % units->factor != 0)
		units++;
	text_add(text, "%" PRIu64 "%s", value / units->factor, units->name);
}

char *units_format_duration(uint64_t ns, char *out, size_t size)
{
	struct text text = text_of(out, size);

	if (ns == 0)
		text_add(&text, "0s");
	else
		format(ns, durations, &text);
	return out;
}

char *units_format_size(uint64_t bytes, char *out, size_t size)
{
	struct text text = text_of(out, size);

	if (bytes == 0)
		text_add(&text, "0");
	else
		format(bytes, sizes, &text);
	return out;
}

char *units_format_rate(uint64_t per_s, char *out, size_t size)
{
	struct text text = text_of(out, size);

	if (per_s != 0)
		format(per_s, sizes, &text);
	else
		text_add(&text, "0");
	text_add(&text, "/s");
	return out;
}

/* In the largest unit of which there is one, with a decimal below 100. Integers only; a unit takes over where the smaller one
 * would round up to it, so that "1000 ms" cannot happen. */
static char *human(uint64_t value, const struct unit *units, size_t count, char *out, size_t size)
{
	struct text text = text_of(out, size);
	size_t i = count - 1;

	while (i > 0 && value >= units[i - 1].factor - units[i].factor / 2)
		i--;
	uint64_t factor = units[i].factor;
	uint64_t tenths = value / factor * 10 + (value % factor * 10 + factor / 2) / factor;
	if (factor == 1)
		text_add(&text, "%" PRIu64 " %s", value, units[i].name);
	else if (tenths >= 1000)
		text_add(&text, "%" PRIu64 " %s", value / factor + (value % factor >= factor - factor / 2), units[i].name);
	else
		text_add(&text, "%" PRIu64 ".%u %s", tenths / 10, (unsigned)(tenths % 10), units[i].name);
	return out;
}

static const struct unit human_sizes[] = {
	{ "EB", UINT64_C(1000000000000000000) },
	{ "PB", UINT64_C(1000000000000000) },
	{ "TB", UINT64_C(1000000000000) },
	{ "GB", 1000000000 },
	{ "MB", 1000000 },
	{ "kB", 1000 },
	{ "B", 1 },
};
static const struct unit human_durations[] = {
	{ "d", 86400 * NS_PER_S },
	{ "h", 3600 * NS_PER_S },
	{ "min", 60 * NS_PER_S },
	{ "s", NS_PER_S },
	{ "ms", NS_PER_MS },
	{ "us", NS_PER_US },
	{ "ns", 1 },
};

char *units_human_bytes(uint64_t bytes, char *out, size_t size)
{
	return human(bytes, human_sizes, ARRAY_LEN(human_sizes), out, size);
}

char *units_human_ns(uint64_t ns, char *out, size_t size)
{
	return human(ns, human_durations, ARRAY_LEN(human_durations), out, size);
}
