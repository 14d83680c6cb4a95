#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "relay/pipes.h"

static unsigned descriptors(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void test_the_share_of_a_worker(void **state)
{
	(void)state;
	const uint64_t plenty = 1 << 30;
	assert_int_equal(pipes_share(1, 20000, plenty), 96);
	assert_int_equal(pipes_share(2, 20000, plenty), 48);
	assert_int_equal(pipes_share(0, 20000, plenty), 96);
	assert_int_equal(pipes_share(500, 20000, plenty), 1);
	assert_int_equal(pipes_share(1, 1024, plenty), 32);
	assert_int_equal(pipes_share(1, 64, plenty), 2);
	assert_int_equal(pipes_share(1, 16, plenty), 0);
	assert_int_equal(pipes_share(1, 20000, 1 << 20), 4);
	assert_int_equal(pipes_share(1, 20000, PIPE_BYTES - 1), 0);
}

static void test_none(void **state)
{
	(void)state;
	struct pipes pipes;
	assert_int_equal(pipes_init(&pipes, 0), 0);
	assert_null(pipes_take(&pipes, 1));
	pipes_fini(&pipes);
}

static void test_opened_when_wanted_up_to_the_bound(void **state)
{
	(void)state;
	struct pipes pipes;
	unsigned before = descriptors();
	assert_int_equal(pipes_init(&pipes, 3), 0);
	assert_int_equal(descriptors(), before);
	struct pipe *taken[3];
	for (int i = 0; i < 3; i++) {
		taken[i] = pipes_take(&pipes, 1);
		assert_non_null(taken[i]);
		assert_int_equal(descriptors(), before + 2 * (unsigned)(i + 1));
		assert_true(taken[i]->bytes >= PIPE_BYTES_LEAST);
		assert_true(fcntl(taken[i]->in, F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(taken[i]->out, F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(taken[i]->in, F_GETFD) & FD_CLOEXEC);
	}
	assert_null(pipes_take(&pipes, 1));
	pipes_give_back(&pipes, taken[1], true);
	assert_ptr_equal(pipes_take(&pipes, 1), taken[1]); /* the one that is warm */
	assert_int_equal(descriptors(), before + 6);
	pipes_fini(&pipes); /* those that are taken too */
	assert_int_equal(descriptors(), before);
}

static void test_what_is_not_empty_is_not_kept(void **state)
{
	(void)state;
	struct pipes pipes;
	char byte;
	unsigned before = descriptors();
	assert_int_equal(pipes_init(&pipes, 1), 0);
	struct pipe *pipe = pipes_take(&pipes, 1);
	assert_non_null(pipe);
	assert_int_equal(write(pipe->in, "x", 1), 1);
	pipes_give_back(&pipes, pipe, false);
	assert_int_equal(descriptors(), before);
	pipe = pipes_take(&pipes, 1);
	assert_non_null(pipe);
	assert_int_equal(read(pipe->out, &byte, 1), -1);
	pipes_give_back(&pipes, pipe, true);
	pipes_fini(&pipes);
}

static void test_where_splicing_does_not_work_there_are_none(void **state)
{
	(void)state;
	struct pipes pipes;
	unsigned before = descriptors();
	assert_int_equal(pipes_init(&pipes, 4), 0);
	struct pipe *idle = pipes_take(&pipes, 1), *taken = pipes_take(&pipes, 1);
	assert_true(idle && taken);
	pipes_give_back(&pipes, idle, true);
	pipes_disable(&pipes);
	assert_null(pipes_take(&pipes, 1));
	assert_int_equal(descriptors(), before + 2);
	pipes_give_back(&pipes, taken, true);
	assert_int_equal(descriptors(), before);
	assert_null(pipes_take(&pipes, 100 * NS_PER_S));
	pipes_fini(&pipes);
}

/* Without descriptors it is tried again after a while, not with each piece. */
static void test_out_of_descriptors(void **state)
{
	(void)state;
	struct pipes pipes;
	struct rlimit limit, none;
	int lowest = dup(0);
	assert_true(lowest >= 0);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(pipes_init(&pipes, 2), 0);
	none = limit;
	none.rlim_cur = (rlim_t)lowest + 1; /* for one end, not for two */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_null(pipes_take(&pipes, NS_PER_S));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_null(pipes_take(&pipes, NS_PER_S + 1));
	struct pipe *pipe = pipes_take(&pipes, 3 * NS_PER_S);
	assert_non_null(pipe);
	pipes_give_back(&pipes, pipe, true);
	pipes_fini(&pipes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_share_of_a_worker),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_opened_when_wanted_up_to_the_bound),
		cmocka_unit_test(test_what_is_not_empty_is_not_kept),
		cmocka_unit_test(test_where_splicing_does_not_work_there_are_none),
		cmocka_unit_test(test_out_of_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
