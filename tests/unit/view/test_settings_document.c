/* The effective settings as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loading.h"
#include "view/settings_document.h"

static char *document_of(const char *settings)
{
	struct config *config = load_text(settings);
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&bytes, &size);
	struct emit emit = { .out = out };

	settings_document(&emit, NULL, config);
	assert_int_equal(fclose(out), 0);
	config_free(config);
	return bytes;
}

static void has(const char *document, const char *part)
{
	if (strstr(document, part) == NULL)
		fail_msg("%s is not in %s", part, document);
}

static void each_type_has_its_form(void **state)
{
	(void)state;
	char *document =
	        document_of("workers = 3; pin = false; buffer_memory = \"1M\"; log = { target = \"/a\\\"b\\\\\"; };\n"
	                    "resolver = { servers = [ \"10.0.0.1\", \"[::1]:53\" ]; };\n"
	                    "listeners = ( { name = \"l\"; address = \"127.0.0.1:1\"; upstream = \"u\"; allow = [ \"10.0.0.0/8\" ];\n"
	                    "  bandwidth = { up = \"1M/s\"; }; timeout = { idle = \"90s\"; }; } );\n"
	                    "upstreams = ( { name = \"u\"; health = { send = \"AUTH x\"; expect = \"\\x01ok\"; }; servers = ( "
	                    "{ name = \"s\"; address = \"h:1\"; weight = 7; } ); } );\n");

	has(document, "{\"workers\":3,\"pin\":false,\"engine\":\"auto\",");
	has(document, "\"buffer_memory\":\"1M\"");
	has(document, "\"target\":\"/a\\\"b\\\\\"");
	has(document, "\"servers\":[\"10.0.0.1:53\",\"[::1]:53\"]");
	has(document, "\"listeners\":[{\"name\":\"l\",\"address\":\"127.0.0.1:1\"");
	has(document, "\"allow\":[\"10.0.0.0/8\"],\"deny\":[]");
	has(document, "\"bandwidth\":{\"up\":\"1M/s\",\"down\":\"0/s\",");
	has(document, "\"idle\":\"90s\"");
	has(document, "\"send\":\"(hidden)\",\"send_hex\":\"\",\"expect\":\"\\u0001ok\"");
	has(document, "\"servers\":[{\"name\":\"s\",\"address\":\"h:1\",\"weight\":7,\"max_connections\":0,");
	assert_null(strstr(document, "AUTH"));
	free(document);
}

static void a_group_that_is_off_has_its_switch_alone(void **state)
{
	(void)state;
	char *document = document_of(LISTENER UPSTREAM);

	has(document, "\"health\":{\"type\":\"none\"}");
	has(document, "\"workers\":\"auto\"");
	free(document);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_type_has_its_form),
		cmocka_unit_test(a_group_that_is_off_has_its_switch_alone),
	};

	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
