#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/token.h"

static char path[64];

static int setup(void **state)
{
	(void)state;
	strcpy(path, "/tmp/aegis-test-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static int read_from(const char *bytes, size_t n, struct token *out, char why[256])
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, n, file), n);
	assert_int_equal(fclose(file), 0);
	return token_read(path, out, why, 256);
}

static void check_reads(const char *text, const char *expected)
{
	struct token token;
	char why[256];
	assert_int_equal(read_from(text, strlen(text), &token, why), 0);
	assert_int_equal(token.length, strlen(expected));
	assert_memory_equal(token.bytes, expected, token.length);
}

static void test_read(void **state)
{
	(void)state;
	check_reads("0123456789abcdef", "0123456789abcdef");
	check_reads("0123456789abcdef\n", "0123456789abcdef");
	check_reads("0123456789abcdef \t\r\nrest of the file\n", "0123456789abcdef");
	char longest[TOKEN_LONGEST + 2];
	memset(longest, 'x', sizeof longest);
	longest[TOKEN_LONGEST] = '\0';
	check_reads(longest, longest);
}

static void check_refused(const char *bytes, size_t n, const char *part)
{
	struct token token = { .length = 7 };
	char why[256] = "";
	assert_int_equal(read_from(bytes, n, &token, why), -EINVAL);
	assert_int_equal(token.length, 7);
	assert_ptr_equal(strstr(why, path), why);
	if (!strstr(why, part))
		fail_msg("%s", why);
}

static void test_what_is_no_token(void **state)
{
	(void)state;
	char longer[4 * TOKEN_LONGEST];
	memset(longer, 'x', sizeof longer);
	check_refused("", 0, "shorter than 16");
	check_refused("\n0123456789abcdef\n", 18, "shorter than 16");
	check_refused("0123456789abcde\n", 16, "shorter than 16");
	check_refused("0123456789abcde            \n", 28, "shorter than 16");
	check_refused(longer, TOKEN_LONGEST + 1, "longer than 512");
	check_refused(longer, sizeof longer, "longer than 512");
	check_refused("0123456789 abcdef", 17, "without spaces");
	check_refused("0123456789\0abcdef", 17, "without spaces");
	check_refused("0123456789\xc3\xa4"
	              "bcdef",
	        17, "without spaces");
}

static void test_files_that_cannot_be_read(void **state)
{
	(void)state;
	struct token token;
	char why[256];
	assert_int_equal(token_read("/nonexistent/token", &token, why, sizeof why), -ENOENT);
	assert_string_equal(why, "/nonexistent/token: No such file or directory");
	assert_int_equal(token_read("/", &token, why, sizeof why), -EISDIR);
	/* Nobody writes to it: it is not waited for. */
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(token_read(path, &token, why, sizeof why), -EINVAL);
}

static void test_matches(void **state)
{
	(void)state;
	const struct token token = { .length = 16, .bytes = "0123456789abcdef" }, none = { 0 };
	assert_true(token_matches(&token, "Bearer 0123456789abcdef"));
	assert_true(token_matches(&token, "bearer   0123456789abcdef"));
	static const char *const wrong[] = { NULL, "", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdeF",
		"Bearer 0123456789abcdef0123456789abcdef", "Bearer 0123456789abcdef ", "Bearer x123456789abcdef", "Basic 0123456789abcdef",
		"0123456789abcdef", "Bearer0123456789abcdef", "Bearer\t0123456789abcdef" };
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		assert_false(token_matches(&token, wrong[i]));
		assert_false(token_matches(&none, wrong[i]));
	}
	assert_false(token_matches(&none, "Bearer 0123456789abcdef"));
}

static void test_forget(void **state)
{
	(void)state;
	struct token token = { .length = 16, .bytes = "0123456789abcdef" }, none;
	memset(&none, 0, sizeof none);
	token_forget(&token);
	assert_memory_equal(&token, &none, sizeof none);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		EACH(test_read),
		EACH(test_what_is_no_token),
		EACH(test_files_that_cannot_be_read),
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_forget),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
