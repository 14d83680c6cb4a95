#include "base/status_set.h"

#include <errno.h>

enum { CLASS_SIZE = 100 };

struct range {
	long first, last;
};

static const char *skip_blanks(const char *at)
{
	while (*at == ' ' || *at == '\t')
		at++;
	return at;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Three digits, or a digit and "xx". NULL, or what follows. */
static const char *take_codes(const char *at, struct range *out)
{
	if (at[0] < '1' || at[0] > '5')
		return NULL;
	long class_first = (at[0] - '0') * CLASS_SIZE;
	if ((at[1] | 0x20) == 'x' && (at[2] | 0x20) == 'x') {
		*out = (struct range){ class_first, class_first + CLASS_SIZE - 1 };
	} else if (is_digit(at[1]) && is_digit(at[2])) {
		long code = class_first + (at[1] - '0') * 10 + (at[2] - '0');
		*out = (struct range){ code, code };
	} else {
		return NULL;
	}
	return at + 3;
}

/* One member of the list. NULL, or what follows. */
static const char *take_member(const char *at, struct range *out, const char **why)
{
	struct range end;

	*why = "not a status code (100 to 599), a class (2xx) or a range (200-399)";
	at = take_codes(skip_blanks(at), out);
	if (!at)
		return NULL;
	at = skip_blanks(at);
	if (*at != '-')
		return at;
	at = take_codes(skip_blanks(at + 1), &end);
	if (!at)
		return NULL;
	if (end.last < out->first) {
		*why = "the range ends before it begins";
		return NULL;
	}
	out->last = end.last;
	return skip_blanks(at);
}

static void add(struct status_set *set, const struct range *range)
{
	for (long i = range->first - STATUS_FIRST; i <= range->last - STATUS_FIRST; i++)
		set->bits[i / 64] |= UINT64_C(1) << (i % 64);
}

int status_set_parse(const char *text, struct status_set *out, const char **why)
{
	struct status_set set = { 0 };
	const char *at = text, *wrong = NULL;
	struct range range;

	do {
		at = take_member(at, &range, &wrong);
		if (at && *at != '\0' && *at != ',') {
			at = NULL;
			wrong = "the codes are not separated by commas";
		}
		if (!at) {
			*why = wrong;
			return -EINVAL;
		}
		add(&set, &range);
	} while (*at++ == ',');
	*out = set;
	return 0;
}

bool status_set_has(const struct status_set *set, long status)
{
	if (status < STATUS_FIRST || status > STATUS_LAST)
		return false;
	return (set->bits[(status - STATUS_FIRST) / 64] >> ((status - STATUS_FIRST) % 64) & 1) != 0;
}
