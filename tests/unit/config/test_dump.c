/* "aegis -T", the manual page and the shipped files: each loads again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loading.h"

static const char rich[] =
        "workers = 3; pin = false; user = \"a\\\\b\\\"c\"; runtime_dir = \"/r\"; buffer_memory = \"1234567\";\n"
        "log = { level = \"warn\"; target = \"/var/log/x \\\" # y\"; }; drain = { timeout = \"1500ms\"; };\n"
        "listeners = (\n"
        "  { name = \"l\"; address = \"[::1]:1\"; upstream = \"two\"; tcp = { keepalive = \"0s\"; send_buffer = \"5000\"; }; },\n"
        "  { address = \"systemd:web\"; upstream = \"one\"; timeout = { idle = \"90s\"; }; } );\n"
        "upstreams = (\n"
        "  { name = \"one\"; servers = ( { address = \"h:1\"; }, { address = \"unix:@x\"; backup = true; } ); },\n"
        "  { name = \"two\"; balance = \"least_connections\"; servers = ( { name = \"s\"; address = \"10.0.0.1:5\"; weight = 7; },\n"
        "    { address = \"a-host-name-that-is-longer-than-the-name-of-a-listener.may-be.example.org:443\"; } ); } );\n";

static void it_loads_again_to_the_same(void **state)
{
	(void)state;
	static const char *const texts[] = { LISTENER UPSTREAM, rich };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct config *config = load_text(texts[i]);
		char *comments = dump_of(config, true), *first = dump_of(config, false);
		config_free(config);
		config = load_text(comments);
		char *second = dump_of(config, false);
		assert_string_equal(first, second);
		config_free(config);
		free(comments);
		free(first);
		free(second);
	}
}

static void has_line(const char *dump, const char *setting, const char *origin)
{
	for (const char *line = dump; line != NULL; line = strchr(line, '\n')) {
		line += strspn(line, "\n\t");
		size_t n = strlen(setting), end = strcspn(line, "\n");
		if (strncmp(line, setting, n) != 0)
			continue;
		const char *comment = line + n + strspn(line + n, " ");
		if (strncmp(comment, "# ", 2) == 0 && (size_t)(line + end - comment - 2) == strlen(origin) &&
		        strncmp(comment + 2, origin, strlen(origin)) == 0)
			return;
	}
	fail_msg("no line %s # %s in\n%s", setting, origin, dump);
}

static void it_says_where_each_came_from(void **state)
{
	(void)state;
	static const char *const overrides[] = { "log = { level = \"debug\"; };" };
	const char *part = write_file("part.conf", "\npin = false;\n");
	const char *path = write_file("aegis.conf", "@include \"part.conf\"\n" LISTENER UPSTREAM "log = {\ntarget = \"syslog\"; };");
	struct config *config =
	        load(&(struct config_source){ .file = path, .overrides = overrides, .n_overrides = 1, .runtime_dir = "/run/me" });
	char *dump = dump_of(config, true), origin[600];

	snprintf(origin, sizeof origin, "%s:2", part);
	has_line(dump, "pin = false;", origin);
	snprintf(origin, sizeof origin, "%s:5", path);
	has_line(dump, "target = \"syslog\";", origin);
	snprintf(origin, sizeof origin, "%s:3", path);
	has_line(dump, "address = \"127.0.0.1:3000\";", origin);
	has_line(dump, "level = \"debug\";", "-e");
	has_line(dump, "runtime_dir = \"/run/me\";", "-r");
	has_line(dump, "workers = \"auto\";", "default");
	has_line(dump, "name = \"127.0.0.1:3000\";", "default");
	has_line(dump, "protocol = \"tcp\";", "default");
	config_free(config);
	free(dump);

	static const char *const servers[] = { "h:1" };
	config = load(&(struct config_source){ .quick_listen = ":1", .quick_upstreams = servers, .n_quick_upstreams = 1 });
	dump = dump_of(config, true);
	has_line(dump, "address = \"h:1\";", "command line");
	config_free(config);
	free(dump);
}

/* A file whose name would end the comment behind a setting. */
static void a_strange_file_name_does_no_harm(void **state)
{
	(void)state;
	struct config *config = load_file(write_file("a\nworkers = 5; # ", LISTENER UPSTREAM "pin = true;"));
	char *dump = dump_of(config, true);

	config_free(config);
	config = load_text(dump);
	assert_int_equal(config->workers, 0);
	config_free(config);
	free(dump);
}

static char *manual(void)
{
	char *bytes = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&bytes, &size);

	assert_non_null(out);
	config_manual(out);
	assert_int_equal(fclose(out), 0);
	return bytes;
}

static void the_manual_names_every_setting(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER UPSTREAM);
	char *dump = dump_of(config, false), *page = manual();
	size_t settings = 0;

	for (char *line = strtok(dump, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		char key[64], item[80];
		line += strspn(line, "\t");
		if (sscanf(line, "%63[a-z_] = ", key) != 1)
			continue;
		size_t end = strlen(line);
		while (end > 0 && line[end - 1] == ' ')
			end--;
		if (end == 0 || line[end - 1] != ';' || line[0] == ')')
			continue;
		snprintf(item, sizeof item, "\n.It Ic %s\n", key);
		if (strstr(page, item) == NULL)
			fail_msg("the manual has no \"%s\"", key);
		settings++;
	}
	assert_true(settings > 40);
	config_free(config);
	free(dump);
	free(page);
}

static void the_examples_of_the_manual_are_right(void **state)
{
	(void)state;
	char *page = manual();
	size_t examples = 0;

	for (char *at = page; (at = strstr(at, "\n.Bd -literal")) != NULL; at++, examples++) {
		char *start = strchr(at + 1, '\n') + 1, *end = strstr(start, "\n.Ed\n");
		assert_non_null(end);
		*end = '\0';
		config_free(load_text(start));
		at = end;
	}
	assert_int_equal(examples, 2);
	free(page);
}

static void no_line_of_the_manual_is_a_request_by_chance(void **state)
{
	(void)state;
	static const char *const requests[] = { ".Dd", ".Dt", ".Os", ".Sh", ".Ss", ".Nm", ".Nd", ".Xr", ".Pa", ".Fl", ".Ic", ".Ql", ".Bl",
		".It", ".El", ".Pp", ".Va", ".Pq", ".Dl", ".Em", ".Bd", ".Ed", ".br" };
	char *page = manual();

	for (char *line = strtok(page, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		bool known = line[0] != '.' && line[0] != '\'';
		for (size_t i = 0; i < ARRAY_LEN(requests); i++)
			known |= strncmp(line, requests[i], 3) == 0;
		if (!known || strlen(line) > 90)
			fail_msg("%s", line);
	}
	free(page);
}

static void the_shipped_files_are_right(void **state)
{
	(void)state;
	static const char *const names[] = { "aegis.conf", "quickstart.conf", "database.conf", "service.conf" };
	const char *source = getenv("AEGIS_SRCDIR");

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[4096];
		snprintf(path, sizeof path, "%s/conf/%s", source != NULL ? source : AEGIS_SOURCE_DIR, names[i]);
		config_free(load_file(path));
	}
}

/* What the commented file shows as defaults are the defaults. */
static void the_commented_file_has_the_defaults(void **state)
{
	(void)state;
	const char *source = getenv("AEGIS_SRCDIR");
	char path[4096];

	snprintf(path, sizeof path, "%s/conf/aegis.conf", source != NULL ? source : AEGIS_SOURCE_DIR);
	struct config *config = load_file(path);
	char *shown = dump_of(config, false);
	config_free(config);
	config = load_text("listeners = ( { name = \"app\"; address = \"127.0.0.1:8080\"; upstream = \"app\"; } );\n"
	                   "upstreams = ( { name = \"app\"; servers = ( { name = \"a\"; address = \"127.0.0.1:3000\"; } ); } );\n");
	char *defaults = dump_of(config, false);
	assert_string_equal(shown, defaults);
	config_free(config);
	free(shown);
	free(defaults);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_loads_again_to_the_same),
		cmocka_unit_test(it_says_where_each_came_from),
		cmocka_unit_test(a_strange_file_name_does_no_harm),
		cmocka_unit_test(the_manual_names_every_setting),
		cmocka_unit_test(the_examples_of_the_manual_are_right),
		cmocka_unit_test(no_line_of_the_manual_is_a_request_by_chance),
		cmocka_unit_test(the_shipped_files_are_right),
		cmocka_unit_test(the_commented_file_has_the_defaults),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
