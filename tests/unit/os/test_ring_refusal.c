#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "os/ring_refusal.h"

static void expect(int error, int disabled, const char *text)
{
	char why[128];
	ring_refusal(error, disabled, "5.10.0-9-amd64", why, sizeof why);
	assert_string_equal(why, text);
}

static void test_texts(void **state)
{
	(void)state;
	expect(EPERM, 2, "switched off (kernel.io_uring_disabled = 2)");
	expect(EPERM, 1, "only for members of kernel.io_uring_group (kernel.io_uring_disabled = 1)");
	expect(EPERM, 0, "forbidden here (EPERM: a seccomp filter, as containers have)");
	expect(EPERM, -1, "forbidden here (EPERM: a seccomp filter, as containers have)");
	expect(EACCES, 0, "forbidden here (EACCES: a security module such as SELinux)");
	expect(ENOSYS, -1, "not in this kernel, or hidden by a seccomp filter (ENOSYS)");
	expect(EINVAL, -1, "kernel too old: this is 5.10.0-9-amd64, 6.1 is needed");
	expect(ENOMEM, 0, "out of memory, or of memory that may be locked (ulimit -l, LimitMEMLOCK=)");
	expect(EMFILE, 0, "out of descriptors");
	expect(ENFILE, 0, "out of descriptors");
	expect(EIO, 0, strerror(EIO));
}

static void test_here(void **state)
{
	(void)state;
	char why[128] = "", short_why[8];
	ring_refusal_here(EINVAL, why, sizeof why);
	assert_non_null(strstr(why, "kernel too old: this is "));
	assert_null(strstr(why, "unknown"));
	ring_refusal_here(EINVAL, short_why, sizeof short_why);
	assert_string_equal(short_why, "kernel ");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_texts), cmocka_unit_test(test_here) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
