/* "aegis -T", the manual page and the shipped files: each loads again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/options.h"
#include "config/value.h"
#include "loading.h"

static const char rich[] =
        "workers = 3; pin = false; user = \"a\\\\b\\\"c\"; runtime_dir = \"/r\"; buffer_memory = \"1234567\";\n"
        "log = { level = \"warn\"; target = \"/var/log/x \\\" # y\"; }; drain = { timeout = \"1500ms\"; };\n"
        "listeners = (\n"
        "  { name = \"l\"; address = \"[::1]:1\"; upstream = \"two\"; allow = [ \"::/0\", \"10.0.0.0/8\" ]; deny = ( \"::ffff:10.0.0.1\" "
        ");\n"
        "    rate_limit = { connections_per_second = 5; }; bandwidth = { up = \"1M/s\"; }; min_rate = \"0\"; tcp = { keepalive = \"0s\"; "
        "send_buffer = \"5000\"; }; },\n"
        "  { address = \"systemd:web\"; upstream = \"one\"; timeout = { idle = \"90s\"; }; } );\n"
        "upstreams = (\n"
        "  { name = \"one\"; balance = \"consistent_hash\"; affinity = { ttl = \"1m\"; }; circuit_breaker = { }; outlier = { };\n"
        "    health = { send = \"a\\r\\n\\x01\\\"\"; expect = \"\\x7f\\\\\"; }; queue = { size = 5; }; connect_rate = \"1k/s\"; servers = "
        "( { address = \"h:1\"; }, { address = \"unix:@x\"; backup = true; max_connections = 5; } ); },\n"
        "  { name = \"two\"; balance = \"least_connections\"; health = { type = \"https\"; expect = \"200-204, 3xx\"; }; servers = ( { "
        "name = \"s\"; address = \"10.0.0.1:5\"; weight = 7; },\n"
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
	char *page = manual();

	for (size_t i = 0; i < n_option_rows; i++) {
		char item[80];
		snprintf(item, sizeof item, "\n.It Ic %s\n", option_rows[i].key);
		if (strstr(page, item) == NULL)
			fail_msg("the manual has no \"%s\"", option_rows[i].key);
	}
	assert_non_null(strstr(page, "Only with type = \"http\" or \"https\".\n"));
	assert_non_null(strstr(page, "Default: \"tcp\".\nWithout health: \"none\".\n"));
	free(page);
}

/* Where a group is off, or a setting has nothing to say: nobody is led to think that it does anything. */
static void what_has_no_effect_is_left_out(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER "upstreams = ( { name = \"u\"; servers = ( { address = \"h:1\"; } );\n"
	                                           "health = { type = \"none\"; interval = \"9s\"; }; circuit_breaker = { }; } );");
	char *dump = dump_of(config, true), origin[600];

	snprintf(origin, sizeof origin, "%s:3", in_directory("aegis.conf"));
	has_line(dump, "type = \"none\";", origin);
	has_line(dump, "error_threshold = 5;", "default");
	has_line(dump, "probes = 3;", "default");
	has_line(dump, "connections_per_second = 0;", "default");
	has_line(dump, "size = 0;", "default");
	has_line(dump, "ttl = \"0s\";", "default");
	assert_null(strstr(dump, "interval"));
	assert_null(strstr(dump, "max_percent"));
	assert_null(strstr(dump, "burst = 100"));
	assert_null(strstr(dump, "hash_key"));
	config_free(config);
	free(dump);
}

static void long_lists_go_over_several_lines(void **state)
{
	(void)state;
	struct config *config = load_text("listeners = ( { address = \":1\"; allow = [ \"2001:db8:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa\", "
	                                  "\"2001:db8:bbbb:bbbb:bbbb:bbbb:bbbb:bbbb\", \"10.0.0.0/8\" ]; } );" UPSTREAM);
	char *dump = dump_of(config, true), origin[600];

	assert_non_null(
	        strstr(dump, "\n\t\tallow = [ \"2001:db8:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa\", \"2001:db8:bbbb:bbbb:bbbb:bbbb:bbbb:bbbb\",\n"));
	snprintf(origin, sizeof origin, "%s:1", in_directory("aegis.conf"));
	has_line(dump, "\"10.0.0.0/8\" ];", origin);
	has_line(dump, "deny = [ ];", "default");
	config_free(config);
	free(dump);
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
	static const char *const names[] = { "aegis.conf", "quickstart.conf", "database.conf", "dns.conf", "service.conf", "syslog.conf" };
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

/* Where in the settings the line after this one is: a group or list may begin or end here. */
static enum object object_after(const char *line, enum object object)
{
	const enum object parent = object_rows[object].parent;
	char key[64], open;

	if (*line == ')' || (*line == '}' && !object_rows[object].list))
		return parent;
	if (sscanf(line, "%63[a-z_] = %c", key, &open) != 2 || (open != '{' && open != '('))
		return object;
	enum object child = object_find(object, key);
	if (child == N_OBJECTS)
		fail_msg("no %s in %s", key, object_rows[object].key);
	return strchr(line, '}') == NULL ? child : object;
}

/* The settings in its comments, "#key = value;", are there, and have the defaults that the table has. */
static void the_comments_of_the_commented_file_are_right(void **state)
{
	(void)state;
	const char *source = getenv("AEGIS_SRCDIR");
	char path[4096], line[512];
	enum object object = OBJECT_TOP;
	size_t checked = 0;

	snprintf(path, sizeof path, "%s/conf/aegis.conf", source != NULL ? source : AEGIS_SOURCE_DIR);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof line, file) != NULL) {
		char *at = line + strspn(line, "\t"), key[64], value[128], shown[256];
		struct text text = text_of(shown, sizeof shown);
		bool comment = *at == '#';
		if (strncmp(at, "# ", 2) == 0)
			continue; /* words */
		at += comment;
		at += strspn(at, "\t");
		object = object_after(at, object);
		if (!comment || sscanf(at, "%63[a-z_] = %127[^;{(]", key, value) != 2)
			continue;
		const struct option *option = option_find(object, key);
		if (option == NULL) {
			fail_msg("no setting %s in %s", key, object_rows[object].key);
			break;
		}
		value_add_default(option, &text);
		if (text.length > 0 && strcmp(shown, value) != 0)
			fail_msg("%s: the file says %s, the default is %s", key, value, shown);
		checked++;
	}
	assert_int_equal(object, OBJECT_TOP);
	assert_int_equal(fclose(file), 0);
	assert_true(checked > 25);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_loads_again_to_the_same),
		cmocka_unit_test(it_says_where_each_came_from),
		cmocka_unit_test(a_strange_file_name_does_no_harm),
		cmocka_unit_test(what_has_no_effect_is_left_out),
		cmocka_unit_test(long_lists_go_over_several_lines),
		cmocka_unit_test(the_manual_names_every_setting),
		cmocka_unit_test(the_examples_of_the_manual_are_right),
		cmocka_unit_test(no_line_of_the_manual_is_a_request_by_chance),
		cmocka_unit_test(the_shipped_files_are_right),
		cmocka_unit_test(the_commented_file_has_the_defaults),
		cmocka_unit_test(the_comments_of_the_commented_file_are_right),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
