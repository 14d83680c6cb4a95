/* What is wrong with a text before its settings have a meaning: words, brackets, includes, files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loading.h"

static void each_mistake_has_its_words(void **state)
{
	(void)state;
	static const struct {
		const char *text, *error;
	} rows[] = {
		{ "workers", "aegis.conf:1: a \"=\" is missing after \"workers\"; write workers = VALUE;\n" },
		{ "\nworkers =\n;", "aegis.conf:2: the value of \"workers\" is missing; write workers = VALUE;\n" },
		{ "workers = auto;", "aegis.conf:1: auto must stand between quotes: \"auto\"\n" },
		{ "workers = 2;;", "aegis.conf:1: a \";\" too many; one ends a setting\n" },
		{ "log = {\n level = \"info\";\n", "aegis.conf:1: this \"{\" is never closed; add \"}\"\n" },
		{ "log = {\n level = \"info\";\n)", "aegis.conf:3: expected NAME = VALUE; or \"}\" but found \")\"\n" },
		{ "listeners = (\n{ }", "aegis.conf:1: this \"(\" is never closed; add \")\"\n" },
		{ "listeners = (", "aegis.conf:1: this \"(\" is never closed; add \")\"\n" },
		{ "listeners = ( { }\n{ } );", "aegis.conf:2: expected \",\" or \")\" but found \"{\"; elements are separated by \",\"\n" },
		{ "listeners = ( , );", "aegis.conf:1: expected a value but found \",\"\n" },
		{ "x = [ 1", "aegis.conf:1: this \"[\" is never closed; add \"]\"\n" },
		{ "x = [ { } ]", "aegis.conf:1: an array [ ] holds plain values only; write a list ( )\n" },
		{ "x = [ 1, \"a\" ];", "aegis.conf:1: mismatched element type in array\n" },
		{ "}", "aegis.conf:1: expected NAME = VALUE; but found \"}\"\n" },
		{ "\"workers\" = 2;", "aegis.conf:1: expected NAME = VALUE; but found \"\"workers\"\"\n" },
		{ "true = 1;", "aegis.conf:1: expected NAME = VALUE; but found \"true\"\n" },
		{ "workers = 1;\n\nworkers = 2;", "aegis.conf:3: \"workers\" is set already in aegis.conf:1; keep one of the two\n" },
		{ "log = { level = \"info\", level = \"warn\" };",
		        "aegis.conf:1: \"level\" is set already in aegis.conf:1; keep one of the two\n" },
		{ "user = \"me;\ngroup = \"us\";", "aegis.conf:1: this text has no closing quote on its line; add the \"\n" },
		{ "user = \"a\\x00b\";", "aegis.conf:1: this text holds \\x00; a NUL byte cannot be part of a text\n" },
		{ "user = 'me';", "aegis.conf:1: text stands between double quotes, like \"this\"\n" },
		{ "user = me$;", "aegis.conf:1: this character has no meaning here; text stands between double quotes\n" },
		{ "workers = 1;\n/* no end\n", "aegis.conf:2: this comment has no end; add */\n" },
		{ "workers = 5s;", "aegis.conf:1: this is not a number; put text between quotes, and what has a unit, like \"5s\"\n" },
		{ "workers = 127.0.0.1;",
		        "aegis.conf:1: this is not a number; put text between quotes, and what has a unit, like \"5s\"\n" },
		{ "workers = 1-2;", "aegis.conf:1: this is not a number; put text between quotes, and what has a unit, like \"5s\"\n" },
		{ "workers = 0x;", "aegis.conf:1: this is not a number; put text between quotes, and what has a unit, like \"5s\"\n" },
		{ "workers = -;", "aegis.conf:1: this is not a number; put text between quotes, and what has a unit, like \"5s\"\n" },
		{ "workers = .;", "aegis.conf:1: this is not a number; put text between quotes, and what has a unit, like \"5s\"\n" },
		{ "workers = 1e;", "aegis.conf:1: this is not a number; put text between quotes, and what has a unit, like \"5s\"\n" },
		{ "workers = 4294967298;",
		        "aegis.conf:1: this number is too large; the largest is 2147483647\n" }, /* libconfig makes 2 of it */
		{ "workers = 0x100000002;", "aegis.conf:1: this number is too large; the largest is 2147483647\n" },
		{ "workers = 99999999999999999999L;", "aegis.conf:1: this number is too large\n" },
		{ "workers = 11111111111111111111111111111111111111111;", "aegis.conf:1: this number is too long\n" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = 1;",
		        "aegis.conf:1: this name is too long; no setting has more than 64 letters\n" },
		{ "x = @;", "aegis.conf:1: a '@' is only known at the start of a line, as in @include \"FILE\"\n" },
		{ "x = 1; @include \"a\"", "aegis.conf:1: @include must stand at the start of its line\n" },
		{ "@include a", "aegis.conf:1: the file is missing; write @include \"FILE\"\n" },
		{ "@include\"a\"", "aegis.conf:1: the file is missing; write @include \"FILE\"\n" },
		{ "@include \"a\n", "aegis.conf:1: the file has no closing quote; write @include \"FILE\"\n" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(errors_of_text(rows[i].text), rows[i].error);
}

static void what_is_right_is_taken(void **state)
{
	(void)state;
	static const char *const texts[] = {
		LISTENER UPSTREAM "workers = 2",
		LISTENER UPSTREAM "workers : 0x2L,",
		LISTENER UPSTREAM "workers = +2 pin = FALSE",
		LISTENER UPSTREAM "# a comment at the end without a line end",
		LISTENER UPSTREAM "// another",
		LISTENER UPSTREAM "/**/ /* * / // \" @include */ # /*\n",
		LISTENER UPSTREAM "user = \"a\" /* neighbours */ \"b\";\r\n\f\t",
		"\xef\xbb\xbf" LISTENER UPSTREAM,
		/* a comma after the last one */
		("listeners = ( { address = \"127.0.0.1:80\"; }, );" UPSTREAM),
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		config_free(load_text(texts[i]));

	struct config *config = load_text(LISTENER UPSTREAM "user = \"a\\\"\\\\\\x62\" \"c\";");
	assert_string_equal(config->user, "a\"\\bc");
	config_free(config);
}

static void deep_nesting_does_not_reach_the_stack(void **state)
{
	(void)state;
	static char text[400000];

	for (size_t i = 0; i + 4 < sizeof text; i += 4)
		memcpy(text + i, "a=({", 4);
	assert_string_equal(errors_of_text(text), "aegis.conf:1: groups and lists are nested more than 32 deep; no setting needs that\n");
	memset(text, '(', sizeof text - 1);
	memcpy(text, "a=", 2);
	assert_string_equal(errors_of_text(text), "aegis.conf:1: groups and lists are nested more than 32 deep; no setting needs that\n");
}

static void many_names_in_a_group_are_refused(void **state)
{
	(void)state;
	static char text[40000];
	size_t length = 0;

	for (int i = 0; i < 1100; i++)
		length += (size_t)snprintf(text + length, sizeof text - length, "a%d = 1;\n", i);
	assert_string_equal(errors_of_text(text), "aegis.conf:1025: there are more than 1024 settings in one group\n");
}

static void includes_take_their_place(void **state)
{
	(void)state;
	assert_int_equal(mkdir(in_directory("conf.d"), 0700), 0);
	write_file(
	        "conf.d/servers.conf", "{ address = \"127.0.0.1:3000\"; },\n@include \"more.conf\"\n, { address = \"127.0.0.1:3002\"; }");
	write_file("conf.d/more.conf", "\n\n{ address = \"127.0.0.1:3001\"; weight = 1; } # no line end");
	struct config *config =
	        load_text(LISTENER "upstreams = ( { name = \"app\"; servers = (\n  @include \"conf.d/servers.conf\"\n); } );\n");

	assert_int_equal(config->upstreams[0].n_servers, 3);
	const struct server_config *servers = config->upstreams[0].servers;
	assert_string_equal(servers[1].address, "127.0.0.1:3001");
	assert_string_equal(servers[1].file, in_directory("conf.d/more.conf"));
	assert_int_equal(servers[1].line, 3);
	assert_string_equal(servers[2].file, in_directory("conf.d/servers.conf"));
	assert_int_equal(servers[2].line, 3);
	config_free(config);
}

static void errors_name_the_included_file(void **state)
{
	(void)state;
	write_file("part.conf", "pin = true;\nwrkers = 2;\n");
	assert_string_equal(errors_of_text("\n@include \"part.conf\"\nuser = 5;\n" LISTENER UPSTREAM),
	        "part.conf:2: wrkers: unknown key \"wrkers\"; did you mean \"workers\"?\n"
	        "aegis.conf:3: user: is 5; write text between quotes, at most 32 bytes\n");
	write_file("part.conf", "pin = true;\nworkers = \n");
	assert_string_equal(errors_of_text("\n@include \"part.conf\"\n\n"),
	        "part.conf:2: the value of \"workers\" is missing; write workers = VALUE;\n");
	write_file("part.conf", "pin = true;\nworkers 2\n");
	assert_string_equal(errors_of_text("\n@include \"part.conf\"\n"),
	        "part.conf:2: a \"=\" is missing after \"workers\"; write workers = VALUE;\n");
	write_file("part.conf", "workers = 2;");
	assert_string_equal(errors_of_text("\n@include \"part.conf\"\nworkers = 3;"),
	        "aegis.conf:3: \"workers\" is set already in part.conf:1; keep one of the two\n");
	write_file("part.conf", "/* open\n");
	assert_string_equal(errors_of_text("@include \"part.conf\"\n"), "part.conf:1: this comment has no end; add */\n");
}

static void includes_that_cannot_be_are_told(void **state)
{
	(void)state;
	char text[600];

	assert_string_equal(errors_of_text("\n@include \"none.conf\"\n"),
	        "aegis.conf:2: @include \"none.conf\": cannot be opened: No such file or directory; check the path\n");
	assert_string_equal(errors_of_text("@include \"aegis.conf\"\n"),
	        "aegis.conf:1: @include \"aegis.conf\": the file includes itself, directly or through others\n");
	write_file("a.conf", "@include \"b.conf\"\n");
	write_file("b.conf", "\n@include \"a.conf\"\n");
	assert_string_equal(errors_of_text("@include \"a.conf\"\n"),
	        "b.conf:2: @include \"a.conf\": the file includes itself, directly or through others\n");
	for (int i = 0; i < 12; i++) {
		char name[32];
		snprintf(name, sizeof name, "deep%d.conf", i);
		snprintf(text, sizeof text, "@include \"deep%d.conf\"\n", i + 1);
		write_file(name, text);
	}
	assert_string_equal(errors_of_text("@include \"deep0.conf\"\n"),
	        "deep9.conf:1: @include \"deep10.conf\": includes are nested more than 10 deep\n");

	/* a few files that make very many */
	snprintf(text, sizeof text, "@include \"%s\"\n@include \"%s\"\n@include \"%s\"\n", "wide1.conf", "wide1.conf", "wide1.conf");
	for (int i = 0; i < 9; i++) {
		char name[32];
		snprintf(name, sizeof name, "wide%d.conf", i);
		for (char *at = text; (at = strstr(at, "wide")) != NULL; at++)
			at[4] = (char)('1' + i);
		write_file(name, text);
	}
	write_file("wide9.conf", "");
	assert_non_null(strstr(errors_of_text("@include \"wide0.conf\"\n"), "there are more than 1000 includes"));
}

static void all_bad_includes_are_listed(void **state)
{
	(void)state;
	const char *lines = errors_of_text("@include \"x1\"\n@include \"x2\"\n");
	assert_non_null(strstr(lines, "aegis.conf:1: @include \"x1\""));
	assert_non_null(strstr(lines, "aegis.conf:2: @include \"x2\""));
}

static void files_that_are_none_are_told(void **state)
{
	(void)state;
	static char large[17 * 1024 * 1024];

	assert_string_equal(errors_of(&(struct config_source){ .file = "/no/such.conf" }),
	        "/no/such.conf: cannot be opened: No such file or directory; check the path\n");
	assert_string_equal(errors_of(&(struct config_source){ .file = "/" }), "/: is a directory; name a file in it\n");
	assert_string_equal(errors_of(&(struct config_source){ .file = "/dev/null" }), "/dev/null: is not a regular file\n");
	assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0); /* does not wait for a writer */
	assert_string_equal(errors_of(&(struct config_source){ .file = in_directory("fifo") }), "fifo: is not a regular file\n");
	memset(large, ' ', sizeof large);
	write_bytes("large.conf", large, sizeof large);
	assert_string_equal(errors_of(&(struct config_source){ .file = in_directory("large.conf") }),
	        "large.conf: the file is larger than 16 MB; is it the right one?\n");
	/* two that are too large together */
	write_bytes("half.conf", large, 9 * 1024 * 1024);
	assert_string_equal(errors_of_text("@include \"half.conf\"\n@include \"half.conf\"\n"),
	        "aegis.conf:2: @include \"half.conf\": the settings are larger than 16 MB together\n");
	if (geteuid() != 0) {
		assert_int_equal(chmod(in_directory("half.conf"), 0), 0);
		assert_non_null(strstr(errors_of(&(struct config_source){ .file = in_directory("half.conf") }), "check the permissions"));
	}
}

static void binary_is_an_error(void **state)
{
	(void)state;
	static char bytes[4096];

	memcpy(bytes, "pin = true;\nuser = \"x\0y\";", 25);
	write_bytes("nul.conf", bytes, 25);
	assert_string_equal(errors_of(&(struct config_source){ .file = in_directory("nul.conf") }),
	        "nul.conf:2: there is a NUL byte; this is not a text file\n");
	uint64_t random = 1;
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < sizeof bytes; i++) {
			random = random * 6364136223846793005U + 1442695040888963407U;
			bytes[i] = (char)(random >> 56);
		}
		write_bytes("random.conf", bytes, sizeof bytes);
		errors_of(&(struct config_source){ .file = in_directory("random.conf") });
	}
}

static void errors_cannot_be_forged(void **state)
{
	(void)state;
	const char *lines = errors_of_text(LISTENER UPSTREAM "user = \"\\n/etc/x:1: forged\\x1b[2J\";");
	assert_string_equal(lines,
	        "aegis.conf:3: user: is \"\\n/etc/x:1: forged\\u001b[2J\": it has a control character; write text between quotes, "
	        "at most 32 bytes\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_mistake_has_its_words),
		cmocka_unit_test(what_is_right_is_taken),
		cmocka_unit_test(deep_nesting_does_not_reach_the_stack),
		cmocka_unit_test(many_names_in_a_group_are_refused),
		cmocka_unit_test(includes_take_their_place),
		cmocka_unit_test(errors_name_the_included_file),
		cmocka_unit_test(includes_that_cannot_be_are_told),
		cmocka_unit_test(all_bad_includes_are_listed),
		cmocka_unit_test(files_that_are_none_are_told),
		cmocka_unit_test(binary_is_an_error),
		cmocka_unit_test(errors_cannot_be_forged),
	};
	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
