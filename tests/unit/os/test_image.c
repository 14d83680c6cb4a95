/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os/image.h"

enum { MUCH = 1 << 20 };

/* Something in the program's file that is only read, several pages of it. */
static const unsigned char constants[MUCH] = { [0] = 1, [MUCH / 2] = 2, [MUCH - 1] = 3 };
static int variable = 4;
/* The address is written here by the dynamic linker, after which the page is read-only. */
static const int *const pointer = &variable;

static uintptr_t page_bytes(void)
{
	return (uintptr_t)sysconf(_SC_PAGESIZE);
}

static bool is_mapped(const void *address)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);
	if (fd < 0)
		skip();
	ssize_t bytes = pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)address / page_bytes() * sizeof entry));
	close(fd);
	assert_int_equal(bytes, sizeof entry);
	return entry >> 63;
}

static int sum(void)
{
	const volatile unsigned char *at = constants;
	int result = 0;
	for (size_t i = 0; i < MUCH; i++)
		result += at[i];
	return result;
}

static void test_constants(void **state)
{
	(void)state;
	assert_int_equal(sum(), 6);
	assert_true(is_mapped(&constants[MUCH / 2]));
	image_let_go();
	assert_false(is_mapped(&constants[MUCH / 2]));
	assert_int_equal(sum(), 6);
	const int *const volatile *seen = &pointer;
	assert_int_equal(**seen, 4);
	image_let_go();
	assert_int_equal(sum(), 6);
}

/* As a debugger does: what was written to a page that is read-only now stays, and so do the pages around it. */
static void test_what_was_written_stays(void **state)
{
	(void)state;
	char *page = (char *)((uintptr_t)&constants[MUCH / 2] / page_bytes() * page_bytes());
	char *const byte = (char *)(uintptr_t)&constants[MUCH / 2];
	assert_int_equal(mprotect(page, page_bytes(), PROT_READ | PROT_WRITE), 0);
	*(volatile char *)byte = 7;
	assert_int_equal(mprotect(page, page_bytes(), PROT_READ), 0);
	image_let_go();
	assert_true(is_mapped(byte));
	assert_int_equal(sum(), 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constants),
		cmocka_unit_test(test_what_was_written_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
