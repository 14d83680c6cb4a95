/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "os/title.h"

static char *path_before;
static char **arguments;

/* What ps would show: /proc/self/cmdline up to the zeros at its end. Returns the length. */
static size_t read_title(char *out, size_t size)
{
	int fd = open("/proc/self/cmdline", O_RDONLY);
	assert_true(fd >= 0);
	ssize_t length = read(fd, out, size - 1);
	close(fd);
	assert_true(length >= 0);
	while (length > 0 && out[length - 1] == '\0')
		length--;
	out[length] = '\0';
	return (size_t)length;
}

static void expect_title(const char *expected)
{
	char got[8192];
	assert_int_equal(read_title(got, sizeof got), strlen(expected));
	assert_string_equal(got, expected);
}

static void test_title(void **state)
{
	(void)state;
	title_set("aegis: worker %d gen %d draining %d", 1, 3, 41);
	expect_title("aegis: worker 1 gen 3 draining 41");
	title_set("aegis: master");
	expect_title("aegis: master"); /* nothing of the longer one is left */
	char name[16] = "";
	prctl(PR_GET_NAME, name);
	assert_string_equal(name, "aegis");
}

static void test_every_length(void **state)
{
	(void)state;
	char title[400];
	for (size_t length = 1; length < sizeof title; length++) { /* shorter and longer than the command line was, and as long */
		memset(title, 'a' + (int)(length % 26), length);
		title[length] = '\0';
		title_set("%s", title);
		expect_title(title);
	}
}

static void test_too_long_is_cut(void **state)
{
	(void)state;
	size_t length = 4 << 20;
	char *title = malloc(length + 1);
	assert_non_null(title);
	memset(title, 'x', length);
	title[length] = '\0';
	title_set("%s", title);
	char got[8192];
	assert_true(read_title(got, sizeof got) > 0);
	assert_int_equal(strspn(got, "x"), strlen(got));
	free(title);
	title_set("aegis: short");
	expect_title("aegis: short");
}

static void test_arguments_and_environment_live_on(void **state)
{
	(void)state;
	title_set("%0300d", 0);
	assert_non_null(strstr(arguments[0], "test_title"));
	assert_string_equal(arguments[1], "second argument");
	assert_null(arguments[2]);
	assert_string_equal(getenv("PATH") ? getenv("PATH") : "", path_before);
	assert_string_equal(getenv("AEGIS_TEST_TITLE"), "here");
	assert_int_equal(setenv("AEGIS_TEST_TITLE", "changed", 1), 0);
	assert_string_equal(getenv("AEGIS_TEST_TITLE"), "changed");
}

int main(int argc, char **argv)
{
	if (argc < 2) { /* with arguments and an environment in fresh memory, as the kernel lays them out */
		setenv("AEGIS_TEST_TITLE", "here", 1);
		execl("/proc/self/exe", argv[0], "second argument", (char *)NULL);
		perror("execl");
		return 1;
	}
	title_set("no effect before title_init()");
	path_before = strdup(getenv("PATH") ? getenv("PATH") : "");
	arguments = argv;
	title_init(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_title),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_too_long_is_cut),
		cmocka_unit_test(test_arguments_and_environment_live_on),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(path_before);
	return failed;
}
