/* The option table is whole: whoever adds a row and forgets a column learns it here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "config/options.h"
#include "config/value.h"

/* Room for the settings of any object. */
static union {
	struct config config;
	struct listener_config listener;
	struct upstream_config upstream;
	struct server_config server;
} any;

static size_t size_of(enum object object)
{
	while (object != OBJECT_TOP && !object_rows[object].list)
		object = object_rows[object].parent;
	return object == OBJECT_TOP ? sizeof(struct config) : object_rows[object].element_size;
}

static void every_row_is_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option *option = &option_rows[i];
		size_t length = strlen(option->help);
		if (length < 10 || option->help[length - 1] != '.')
			fail_msg("%s: the help is no sentence", option->key);
		assert_true(option->offset < size_of(option->object));
		assert_true(option->type < N_OPTION_TYPES && option->reload < N_RELOADS);
		assert_true(option->min <= option->max);
		assert_int_equal(option->type == OPTION_ENUM, option->words != NULL);
		for (size_t word = 0; word < option->n_words; word++)
			assert_non_null(option->words[word]);
		assert_ptr_equal(option_find(option->object, option->key), option); /* once */
		assert_int_equal(object_find(option->object, option->key), N_OBJECTS);
		assert_int_equal(value_is_list(option), option->count_offset != 0);
	}
}

static void every_default_fits_its_own_row(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option *option = &option_rows[i];
		char shown[256], written[256];
		struct text a = text_of(shown, sizeof shown), b = text_of(written, sizeof written);

		memset(&any, 0xff, sizeof any);
		if (option->fallback == NULL || option->derived_default != NULL)
			continue;
		value_set_default(option, true, &any); /* ends the test where it does not fit */
		value_add_default(option, &b);
		assert_true(b.length > 0);
		if (value_is_list(option)) {
			assert_string_equal(written, "[ ]");
			continue;
		}
		value_add(option, &any, &a);
		if (strcmp(shown, "\"1m\"") != 0) /* written as 60s */
			assert_string_equal(shown, written);
	}
}

static void every_object_is_reachable(void **state)
{
	(void)state;
	for (enum object object = OBJECT_TOP + 1; object < N_OBJECTS; object++) {
		const char *keys[64];
		assert_true(object_rows[object].parent < object);
		assert_int_equal(object_find(object_rows[object].parent, object_rows[object].key), object);
		assert_true(option_keys(object, keys, ARRAY_LEN(keys)) > 0);
		assert_non_null(object_rows[object].help);
		if (object_rows[object].list)
			assert_true(object_rows[object].element_size > 0 && object_rows[object].max > 0);
	}
	for (enum object object = OBJECT_TOP; object < N_OBJECTS; object++) {
		const char *keys[64];
		assert_true(option_keys(object, keys, ARRAY_LEN(keys)) < ARRAY_LEN(keys));
	}
}

/* A group that is off when it is not written has a switch that is 0 then, and not when the group is there. */
static void every_switch_works(void **state)
{
	(void)state;
	size_t switches = 0, switched = 0;

	for (enum object object = OBJECT_TOP; object < N_OBJECTS; object++) {
		if (object_rows[object].switch_key == NULL) {
			assert_true(object_is_on(object, &any));
			continue;
		}
		const struct option *option = option_find(object, object_rows[object].switch_key);
		assert_non_null(option);
		assert_non_null(option->without_group);
		assert_true(option->type == OPTION_NUMBER || option->type == OPTION_DURATION || option->type == OPTION_ENUM ||
		            option->type == OPTION_TARGET || option->type == OPTION_FILE || option->type == OPTION_BOOL);
		memset(&any, 0xff, sizeof any);
		value_set_default(option, false, &any);
		if (object_rows[object].other_switch_offset != 0) {
			assert_true(object_is_on(object, &any));
			((unsigned char *)&any)[object_rows[object].other_switch_offset] = 0;
		}
		assert_false(object_is_on(object, &any));
		if (option->fallback != NULL) {
			value_set_default(option, true, &any);
			assert_true(object_is_on(object, &any));
		}
		switches++;
	}
	for (size_t i = 0; i < n_option_rows; i++)
		switched += option_rows[i].without_group != NULL;
	assert_int_equal(switches, switched);
}

static void what_a_setting_is_only_for_is_there(void **state)
{
	(void)state;
	char bytes[256];
	size_t count = 0;

	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option *option = &option_rows[i];
		if (option->only_with == NULL)
			continue;
		const struct option *other = option_find(option->object, option->only_with);
		if (other == NULL) /* it stands beside the group */
			other = option_find(object_rows[option->object].parent, option->only_with);
		assert_non_null(other);
		assert_int_equal(other->type, OPTION_ENUM);
		assert_true(option->only_words != 0 && option->only_words >> other->n_words == 0);
		struct text use = text_of(bytes, sizeof bytes);
		option_add_use(option, &use);
		if (strcmp(option->key, "expect") == 0)
			assert_string_equal(bytes, "type = \"tcp\", \"http\", \"https\" or \"udp\"");
		else if (strcmp(option->key, "path") == 0)
			assert_string_equal(bytes, "type = \"http\" or \"https\"");
		else if (strcmp(option->key, "hash_key") == 0)
			assert_string_equal(bytes, "balance = \"consistent_hash\"");
		else if (strcmp(option->key, "first_byte") == 0)
			assert_string_equal(bytes, "protocol = \"tcp\"");
		count++;
	}
	assert_true(count >= 11);
}

static void what_a_group_is_only_for_is_there(void **state)
{
	(void)state;
	struct listener_config listener = { .protocol = PROTOCOL_UDP };
	char bytes[256];
	size_t count = 0;

	for (enum object object = 0; object < N_OBJECTS; object++) {
		if (object_rows[object].only_with == NULL) {
			assert_true(object_is_of_use(object, &any));
			continue;
		}
		const struct option *other = option_find(object_rows[object].parent, object_rows[object].only_with);
		assert_non_null(other);
		assert_int_equal(other->type, OPTION_ENUM);
		count++;
	}
	assert_true(count >= 3);
	struct text use = text_of(bytes, sizeof bytes);
	object_add_use(OBJECT_LISTENER_UDP, &use);
	assert_string_equal(bytes, "protocol = \"udp\"");
	assert_true(object_is_of_use(OBJECT_LISTENER_UDP, &listener));
	assert_false(object_is_of_use(OBJECT_LISTENER_TCP, &listener));
	assert_true(option_is_of_use(option_find(OBJECT_LISTENER_UDP, "responses"), &listener));
	assert_false(option_is_of_use(option_find(OBJECT_LISTENER_TCP, "nodelay"), &listener));
	assert_false(option_is_of_use(option_find(OBJECT_LISTENER_TIMEOUT, "first_byte"), &listener));
	assert_true(option_is_of_use(option_find(OBJECT_LISTENER_TIMEOUT, "idle"), &listener));
}

static void names_have_rules(void **state)
{
	(void)state;
	assert_null(value_why_no_name("a-b_c.d:1/[x]@%*"));
	assert_non_null(value_why_no_name(""));
	assert_non_null(value_why_no_name("a b"));
	assert_non_null(value_why_no_name("a\"b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_is_whole),
		cmocka_unit_test(every_default_fits_its_own_row),
		cmocka_unit_test(every_object_is_reachable),
		cmocka_unit_test(every_switch_works),
		cmocka_unit_test(what_a_setting_is_only_for_is_there),
		cmocka_unit_test(what_a_group_is_only_for_is_there),
		cmocka_unit_test(names_have_rules),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
