/* DIR/settings: written and read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/diff.h"
#include "config/settings.h"
#include "loading.h"

static void on_change(void *arg, const struct config_change *change)
{
	(void)arg;
	fail_msg("%s: %s -> %s", change->path, change->before, change->after);
}

static const char strange[] = "log = { target = \"/tmp/\\\"#%\"; };\n# two\nworkers = 3;";

static void what_is_written_is_read(void **state)
{
	(void)state;
	struct config *config = load_text(
	        "workers = 3; max_connections = 77; log = { target = \"/x y\"; };\n"
	        "listeners = ( { name = \"l\"; address = \"127.0.0.1:1\"; upstream = \"a\"; allow = [ \"10.0.0.0/8\" ];\n"
	        "  rate_limit = { connections_per_second = 5; }; } );\n"
	        "upstreams = ( { name = \"a\"; health = { send = \"\\x01\\r\\n\\\"\"; expect = \"ok\"; }; connect_rate = \"5/s\";\n"
	        "  servers = ( { name = \"s\"; address = \"h:1\"; weight = 3; }, { address = \"unix:/s\"; disabled = true; } ); } );\n");
	static const char *const overrides[] = { "workers = 3;", strange, "" }, *const upstreams[] = { "a:1", "b:2" };
	const struct settings_origin origin = { .pid = 4711,
		.generation = 12,
		.max_workers = 16,
		.max_draining = 4,
		.source = { .file = "/etc/a b.conf",
		        .overrides = overrides,
		        .n_overrides = 3,
		        .runtime_dir = "/run/\xc3\xa4",
		        .quick_listen = ":80",
		        .quick_upstreams = upstreams,
		        .n_quick_upstreams = 2 } };
	const char *path = in_directory("settings");
	struct settings back;
	struct config_errors errors = { 0 };
	struct stat st;

	assert_int_equal(settings_write(path, config, &origin, (gid_t)-1), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(access(in_directory("settings.new"), F_OK), -1);
	assert_int_equal(settings_read(path, &back, &errors), 0);
	assert_string_equal(back.config->upstreams[0].health.send, "(hidden)"); /* it may be a password */
	config_diff(back.config, config, on_change, NULL);
	assert_int_equal(back.origin.pid, 4711);
	assert_int_equal(back.origin.generation, 12);
	assert_int_equal(back.origin.max_workers, 16);
	assert_int_equal(back.origin.max_draining, 4);
	assert_string_equal(back.origin.source.file, "/etc/a b.conf");
	assert_string_equal(back.origin.source.runtime_dir, "/run/\xc3\xa4");
	assert_int_equal(back.origin.source.n_overrides, 3);
	for (size_t i = 0; i < 3; i++)
		assert_string_equal(back.origin.source.overrides[i], overrides[i]);
	assert_string_equal(back.origin.source.quick_listen, ":80");
	assert_int_equal(back.origin.source.n_quick_upstreams, 2);
	assert_string_equal(back.origin.source.quick_upstreams[1], "b:2");
	settings_fini(&back);
	config_free(config);
}

static void a_relative_path_becomes_absolute(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER UPSTREAM);
	const struct settings_origin origin = { .pid = 1, .source = { .file = "a.conf" } };
	struct settings back;
	struct config_errors errors = { 0 };
	char cwd[4096], expected[4200];

	assert_int_equal(settings_write(in_directory("settings"), config, &origin, (gid_t)-1), 0);
	assert_int_equal(settings_read(in_directory("settings"), &back, &errors), 0);
	assert_non_null(getcwd(cwd, sizeof cwd));
	snprintf(expected, sizeof expected, "%s/a.conf", cwd);
	assert_string_equal(back.origin.source.file, expected);
	assert_null(back.origin.source.runtime_dir);
	assert_null(back.origin.source.quick_listen);
	assert_int_equal(back.origin.source.n_overrides, 0);
	settings_fini(&back);
	config_free(config);
}

static void something_else_is_refused(void **state)
{
	(void)state;
	struct settings back;
	struct config_errors errors = { 0 };

	assert_int_equal(settings_read(in_directory("none"), &back, &errors), -ENOENT);
	assert_int_equal(settings_read(in_directory(""), &back, &errors), -EINVAL); /* a directory */
	assert_int_equal(errors.count, 0);
	assert_int_equal(settings_read(write_file("other", LISTENER UPSTREAM), &back, &errors), -EINVAL);
	assert_int_equal(errors.count, 1);
	config_errors_clear(&errors);
	assert_int_equal(symlink(in_directory("other"), in_directory("link")), 0);
	assert_int_equal(settings_read(in_directory("link"), &back, &errors), -ELOOP);
}

static void a_broken_head_does_no_harm(void **state)
{
	(void)state;
	struct settings back;
	struct config_errors errors = { 0 };
	const char *path = write_file("settings",
	        "# The settings in force, for aegis -p to compare with. Nothing reads this at a start.\n"
	        "#!\n#! \n#! pid\n#! pid x\n#! what 5\n#! generation 99999999999999999999\n#! file a%2\n#! override %zz%0\n#\n" LISTENER
	                UPSTREAM);

	assert_int_equal(settings_read(path, &back, &errors), 0);
	assert_int_equal(back.origin.pid, 0);
	assert_int_equal(back.origin.generation, UINT32_MAX);
	assert_string_equal(back.origin.source.file, "a%2");
	assert_string_equal(back.origin.source.overrides[0], "%zz%0");
	settings_fini(&back);
}

static void only_its_own_is_removed(void **state)
{
	(void)state;
	struct config *config = load_text(LISTENER UPSTREAM);
	const struct settings_origin origin = { .pid = 4711 };
	const char *path = in_directory("settings");

	assert_int_equal(settings_write(path, config, &origin, (gid_t)-1), 0);
	settings_remove(path, 4712);
	assert_int_equal(access(path, F_OK), 0);
	settings_remove(path, 4711);
	assert_int_equal(access(path, F_OK), -1);
	settings_remove(path, 4711);
	config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(a_relative_path_becomes_absolute),
		cmocka_unit_test(something_else_is_refused),
		cmocka_unit_test(a_broken_head_does_no_harm),
		cmocka_unit_test(only_its_own_is_removed),
	};

	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
