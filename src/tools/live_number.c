#include <stdio.h>

#include "base/units.h"
#include "tools/live_parts.h"

struct scale {
	double factor;
	const char *name;
};

/* Three digits that tell something, a decimal below 100. */
static char *scaled(double number, const struct scale *scales, size_t n, char *out, size_t size)
{
	size_t i = 0;
	/* A scale takes over where the smaller one would round up to it. */
	while (i + 1 < n && number < scales[i].factor * 0.9995)
		i++;
	double value = number / scales[i].factor;
	snprintf(
	        out, size, "%.*f%s", value < 99.95 && (scales[i].factor > 1 || (value < 9.95 && value > 0)) ? 1 : 0, value, scales[i].name);
	return out;
}

char *live_number(double number, char *out, size_t size)
{
	static const struct scale one = { 1, "" };
	static const struct scale scales[] = { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } };
	if (number < 9999.5)
		return scaled(number, &one, 1, out, size);
	return scaled(number, scales, ARRAY_LEN(scales), out, size);
}

char *live_bits(double bits_per_second, char *out, size_t size)
{
	static const struct scale scales[] = { { 1e12, " Tbps" }, { 1e9, " Gbps" }, { 1e6, " Mbps" }, { 1e3, " kbps" }, { 1, " bps" } };
	return scaled(bits_per_second, scales, ARRAY_LEN(scales), out, size);
}

char *live_bytes(double bytes, char *out, size_t size)
{
	return units_human_bytes((uint64_t)bytes, out, size);
}
