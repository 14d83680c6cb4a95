#include "config/diff.h"

#include <string.h>

#include "base/text.h"
#include "config/names.h"
#include "config/options.h"
#include "config/value.h"

/* A text of the table is at most 4000 characters, each written with at most four. */
enum { VALUE_SIZE = 17 * 1024, SHOWN_SIZE = 200, PATH_SIZE = 512 };

struct diff {
	config_change_fn *fn;
	void *arg;
	char path_bytes[PATH_SIZE];
	struct text path;
	struct config_place old, new;
};

static const struct config_place nowhere = { CONFIG_NOWHERE, CONFIG_NOWHERE, CONFIG_NOWHERE };

static void set_place(struct config_place *place, enum object object, size_t index)
{
	if (object == OBJECT_LISTENER)
		place->listener = index;
	else if (object == OBJECT_UPSTREAM)
		place->upstream = index;
	else if (object == OBJECT_SERVER)
		place->server = index;
}

/* One more part of the path; leave() with what it returns takes it away again. */
static size_t enter(struct diff *diff, const char *part)
{
	size_t length = diff->path.length;

	text_add(&diff->path, "%s%s", length > 0 ? "." : "", part);
	return length;
}

static void leave(struct diff *diff, size_t length)
{
	diff->path.length = length;
	diff->path.bytes[length] = '\0';
}

static void tell(struct diff *diff, enum config_change_kind kind, const char *part)
{
	size_t length = enter(diff, part);
	const struct config_change change = {
		.kind = kind, .path = diff->path.bytes, .before = "", .after = "", .old = diff->old, .new = diff->new
	};

	diff->fn(diff->arg, &change);
	leave(diff, length);
}

/* --- values ---------------------------------------------------------------------------------------------------------------- */

struct elements {
	const unsigned char *at;
	size_t count, size;
};

static struct elements elements_at(const void *base, size_t array_offset, size_t count_offset, size_t size)
{
	struct elements elements = { .size = size };

	memcpy(&elements.at, (const unsigned char *)base + array_offset, sizeof elements.at);
	memcpy(&elements.count, (const unsigned char *)base + count_offset, sizeof elements.count);
	return elements;
}

static struct elements elements_of_value(const struct option *option, const void *base)
{
	return elements_at(base, option->offset, option->count_offset, value_element_size(option));
}

static bool same_value(const struct option *option, const void *before, const void *after)
{
	char a[VALUE_SIZE], b[VALUE_SIZE];
	struct text one = text_of(a, sizeof a), other = text_of(b, sizeof b);

	value_add(option, before, &one);
	value_add(option, after, &other);
	return one.length == other.length && memcmp(a, b, one.length) == 0;
}

/* One was written down without its secret, and may be the other one. */
static bool is_withheld(const struct option *option, const void *before, const void *after)
{
	const char *text;

	if (!value_is_hidden(option, before) || !value_is_hidden(option, after))
		return false;
	memcpy(&text, (const unsigned char *)before + option->offset, sizeof text);
	return strcmp(text, VALUE_HIDDEN) == 0;
}

static bool same(const struct option *option, const void *before, const void *after)
{
	if (!value_is_list(option))
		return is_withheld(option, before, after) || same_value(option, before, after);
	const struct elements one = elements_of_value(option, before), other = elements_of_value(option, after);
	if (one.count != other.count)
		return false;
	for (size_t i = 0; i < one.count; i++)
		if (!same_value(option, one.at + i * one.size, other.at + i * one.size))
			return false;
	return true;
}

static void show(const struct option *option, const void *base, char *out, size_t size)
{
	char bytes[VALUE_SIZE];
	struct text text = text_of(bytes, sizeof bytes);

	if (value_is_hidden(option, base)) {
		text_add(&text, VALUE_HIDDEN);
	} else if (!value_is_list(option)) {
		value_add(option, base, &text);
	} else {
		const struct elements elements = elements_of_value(option, base);
		text_add(&text, "[");
		for (size_t i = 0; i < elements.count && text.length < size; i++) {
			text_add(&text, i > 0 ? ", " : " ");
			value_add(option, elements.at + i * elements.size, &text);
		}
		text_add(&text, " ]");
	}
	if (text.length < size)
		memcpy(out, bytes, text.length + 1);
	else
		(void)snprintf(out, size, "%.*s...", (int)size - 4, bytes);
}

static void diff_option(struct diff *diff, const struct option *option, const void *before, const void *after)
{
	char old[SHOWN_SIZE], new[SHOWN_SIZE];

	if ((!option_has_effect(option, before) && !option_has_effect(option, after)) || same(option, before, after))
		return;
	show(option, before, old, sizeof old);
	show(option, after, new, sizeof new);
	size_t length = enter(diff, option->key);
	const struct config_change change = { .kind = CONFIG_CHANGED,
		.path = diff->path.bytes,
		.option = option,
		.before = old,
		.after = new,
		.old = diff->old,
		.new = diff->new,
		/* What a group is for was made room for at the start, or was not. */
		.in_place =
		        option->reload == RELOAD_IN_PLACE &&object_is_on(option->object, before) == object_is_on(option->object, after) };
	diff->fn(diff->arg, &change);
	leave(diff, length);
}

/* --- objects --------------------------------------------------------------------------------------------------------------- */

static void diff_object(struct diff *diff, enum object object, const void *before, const void *after);

/* name: where the text is that tells them apart. */
static const char *name_of(size_t name, const struct elements *elements, size_t index)
{
	const char *text;

	memcpy(&text, elements->at + index * elements->size + name, sizeof text);
	return text;
}

static struct names names_of_all(size_t name, const struct elements *elements)
{
	struct names names = names_of(elements->count);

	for (size_t i = 0; i < elements->count; i++)
		(void)names_add(&names, name_of(name, elements, i), i);
	return names;
}

static void diff_elements(
        struct diff *diff, enum object object, const struct elements *before, const struct elements *after, bool *reordered)
{
	const struct object_row *row = &object_rows[object];
	size_t name = row->labelled ? row->label_offset : option_find(object, "name")->offset;
	struct names old = names_of_all(name, before), new = names_of_all(name, after);
	size_t at, next = 0;

	for (size_t i = 0; i < before->count; i++)
		if (!names_find(&new, name_of(name, before, i), &at)) {
			set_place(&diff->old, object, i);
			tell(diff, CONFIG_REMOVED, name_of(name, before, i));
			set_place(&diff->old, object, CONFIG_NOWHERE);
		}
	for (size_t i = 0; i < after->count; i++) {
		set_place(&diff->new, object, i);
		if (!names_find(&old, name_of(name, after, i), &at)) {
			tell(diff, CONFIG_ADDED, name_of(name, after, i));
			continue;
		}
		*reordered = *reordered || at < next;
		next = at + 1;
		set_place(&diff->old, object, at);
		size_t length = enter(diff, name_of(name, after, i));
		diff_object(diff, object, before->at + at * before->size, after->at + i * after->size);
		leave(diff, length);
		set_place(&diff->old, object, CONFIG_NOWHERE);
	}
	set_place(&diff->new, object, CONFIG_NOWHERE);
	names_fini(&old);
	names_fini(&new);
}

static void diff_list(struct diff *diff, enum object object, const void *before, const void *after)
{
	const struct object_row *row = &object_rows[object];
	const struct elements old = elements_at(before, row->array_offset, row->count_offset, row->element_size);
	const struct elements new = elements_at(after, row->array_offset, row->count_offset, row->element_size);
	size_t length = enter(diff, row->key);
	bool reordered = false;

	diff_elements(diff, object, &old, &new, &reordered);
	leave(diff, length);
	if (reordered)
		tell(diff, CONFIG_REORDERED, row->key);
}

static void diff_group(struct diff *diff, enum object object, const void *before, const void *after)
{
	size_t length = enter(diff, object_rows[object].key);

	diff_object(diff, object, before, after);
	leave(diff, length);
}

static void diff_object(struct diff *diff, enum object object, const void *before, const void *after)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_rows[i].object == object)
			diff_option(diff, &option_rows[i], before, after);
	for (enum object child = OBJECT_TOP + 1; child < N_OBJECTS; child++)
		if (object_rows[child].parent == object)
			(object_rows[child].list ? diff_list : diff_group)(diff, child, before, after);
}

void config_diff(const struct config *before, const struct config *after, config_change_fn *fn, void *arg)
{
	struct diff diff = { .fn = fn, .arg = arg, .old = nowhere, .new = nowhere };

	diff.path = text_of(diff.path_bytes, sizeof diff.path_bytes);
	diff_object(&diff, OBJECT_TOP, before, after);
}
