/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/cpu.h"
#include "scratch.h"

/* --- a machine of several nodes: what libnuma would say of it, and what the kernel is asked for --------------------------- */

static struct {
	bool on;
	int node; /* of every CPU */
	int error;
	int calls;
	int mode;
	unsigned long nodes;
	unsigned long bits;
} fake;

int numa_available(void)
{
	return fake.on || syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0) == 0 ? 0 : -1;
}

int numa_node_of_cpu(int cpu)
{
	(void)cpu;
	return fake.on ? fake.node : 0;
}

long set_mempolicy(int mode, const unsigned long *nodes, unsigned long bits)
{
	fake.calls++;
	fake.mode = mode;
	fake.nodes = nodes ? *nodes : 0;
	fake.bits = bits;
	errno = fake.error;
	return fake.error ? -1 : 0;
}

struct file {
	const char *name;
	const char *content;
};

/* The quota that is found in a tree of files, and the number of workers for a mask of 8 CPUs. */
static void check_tree(const struct file *files, size_t count, double quota, int workers)
{
	struct scratch root;
	scratch_make(&root);
	for (size_t i = 0; i < count; i++)
		scratch_write(&root, files[i].name, files[i].content);
	static struct cpu_set set;
	cpu_usable(root.path, &set);
	scratch_remove(&root);
	if (set.quota != quota)
		fail_msg("quota %g, not %g", set.quota, quota);
	set.n = 8;
	assert_int_equal(cpu_worker_count(&set), workers);
}

#define CHECK_TREE(quota, workers, ...)                              \
	do {                                                         \
		const struct file files[] = { __VA_ARGS__ };         \
		check_tree(files, ARRAY_LEN(files), quota, workers); \
	} while (0)

static void test_v2(void **state)
{
	(void)state;
	CHECK_TREE(0.5, 1, { "proc/self/cgroup", "0::/a/b\n" }, { "sys/fs/cgroup/a/b/cpu.max", "50000 100000\n" });
	CHECK_TREE(2.5, 3, { "proc/self/cgroup", "0::/a\n" }, { "sys/fs/cgroup/a/cpu.max", "250000 100000\n" });
	CHECK_TREE(2, 2, { "proc/self/cgroup", "0::/a\n" }, { "sys/fs/cgroup/a/cpu.max", "20000 10000\n" });
	CHECK_TREE(0, 8, { "proc/self/cgroup", "0::/a\n" }, { "sys/fs/cgroup/a/cpu.max", "max 100000\n" });
	CHECK_TREE(64, 8, { "proc/self/cgroup", "0::/a\n" }, { "sys/fs/cgroup/a/cpu.max", "6400000 100000\n" });
}

static void test_v2_groups_above_count(void **state)
{
	(void)state;
	/* the least one wins, wherever it stands */
	CHECK_TREE(1.5, 2, { "proc/self/cgroup", "0::/a/b/c\n" }, { "sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n" },
	        { "sys/fs/cgroup/a/b/cpu.max", "400000 100000\n" }, { "sys/fs/cgroup/a/cpu.max", "150000 100000\n" });
	CHECK_TREE(4, 4, { "proc/self/cgroup", "0::/a/b\n" }, { "sys/fs/cgroup/a/b/cpu.max", "400000 100000\n" },
	        { "sys/fs/cgroup/a/cpu.max", "600000 100000\n" });
	/* not those beside or below */
	CHECK_TREE(0, 8, { "proc/self/cgroup", "0::/a\n" }, { "sys/fs/cgroup/ab/cpu.max", "100000 100000\n" },
	        { "sys/fs/cgroup/a/b/cpu.max", "100000 100000\n" });
}

static void test_container_sees_its_group_at_the_mount(void **state)
{
	(void)state;
	CHECK_TREE(3, 3, { "proc/self/cgroup", "0::/\n" }, { "sys/fs/cgroup/cpu.max", "300000 100000\n" });
	CHECK_TREE(3, 3, { "proc/self/cgroup", "0::/only/the/host/knows\n" }, { "sys/fs/cgroup/cpu.max", "300000 100000\n" });
	CHECK_TREE(3, 3, { "proc/self/cgroup", "0::/../..\n" }, { "sys/fs/cgroup/cpu.max", "300000 100000\n" },
	        { "sys/cpu.max", "100000 100000\n" });
	CHECK_TREE(3, 3, { "sys/fs/cgroup/cpu.max", "300000 100000\n" });
	CHECK_TREE(0.25, 1, { "proc/self/cgroup", "4:cpu,cpuacct:/docker/0123\n" }, { "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "25000\n" },
	        { "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n" });
}

static void test_v1(void **state)
{
	(void)state;
	CHECK_TREE(1.5, 2, { "proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/a/b\n" },
	        { "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "150000\n" },
	        { "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n" });
	CHECK_TREE(2, 2, { "proc/self/cgroup", "4:cpuset:/x\n3:cpuacct:/x\n2:cpu:/a/b\n" },
	        { "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n" }, { "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n" },
	        { "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "200000\n" }, { "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n" });
	/* another controller whose name begins with "cpu" does not say where we are */
	CHECK_TREE(0, 8, { "proc/self/cgroup", "4:cpuset:/a\n3:cpuacct:/a\n" }, { "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "100000\n" },
	        { "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n" });
}

static void test_hybrid(void **state)
{
	(void)state;
	CHECK_TREE(1, 1, { "proc/self/cgroup", "2:cpu:/a\n0::/b\n" }, { "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000\n" },
	        { "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n" }, { "sys/fs/cgroup/unified/b/cpu.max", "100000 100000\n" });
	CHECK_TREE(3, 3, { "proc/self/cgroup", "2:cpu:/a\n0::/b\n" }, { "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000\n" },
	        { "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n" }, { "sys/fs/cgroup/unified/b/cpu.max", "max 100000\n" });
}

static void test_garbage_is_no_quota(void **state)
{
	(void)state;
	static const char *const contents[] = { "", "\n", "max", "50000", "50000 ", "50000 x\n", "x 100000\n", "50000 0\n", "-5 100000\n",
		"50000 -1\n", "50000x 100000\n", "0 100000\n", " 50000 100000\n", "99999999999999999999999999 x\n" };
	for (size_t i = 0; i < ARRAY_LEN(contents); i++)
		CHECK_TREE(0, 8, { "proc/self/cgroup", "0::/a\n" }, { "sys/fs/cgroup/a/cpu.max", contents[i] });
	static const char *const groups[] = { "", "\n", ":", "::", "0::\n", "0:\n", "0::a\n", "cpu\n", "\n\n::/a\n", ":::/a:b\n" };
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		CHECK_TREE(7, 7, { "proc/self/cgroup", groups[i] }, { "sys/fs/cgroup/cpu.max", "700000 100000\n" });
	CHECK_TREE(0, 8, { "proc/self/cgroup", "2:cpu:/\n" }, { "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n" });
	CHECK_TREE(0, 8, { "nothing", "" });
}

static void test_path_too_long_falls_back_to_the_mount(void **state)
{
	(void)state;
	static char line[6000];
	snprintf(line, sizeof line, "0::/%05500d\n", 0);
	CHECK_TREE(7, 7, { "proc/self/cgroup", line }, { "sys/fs/cgroup/cpu.max", "700000 100000\n" });
	snprintf(line, sizeof line, "0::/%04090d\n", 0);
	CHECK_TREE(7, 7, { "proc/self/cgroup", line }, { "sys/fs/cgroup/cpu.max", "700000 100000\n" });
}

static void test_worker_count(void **state)
{
	(void)state;
	static struct cpu_set set = { .n = 3 };
	assert_int_equal(cpu_worker_count(&set), 3);
	set.quota = 0.01;
	assert_int_equal(cpu_worker_count(&set), 1);
	set.quota = 1;
	assert_int_equal(cpu_worker_count(&set), 1);
	set.quota = 1.01;
	assert_int_equal(cpu_worker_count(&set), 2);
	set.quota = 2.5;
	assert_int_equal(cpu_worker_count(&set), 3);
	set.quota = 1e300;
	assert_int_equal(cpu_worker_count(&set), 3);
}

static void test_mask_and_pin(void **state)
{
	(void)state;
	static struct cpu_set before;
	cpu_usable("", &before);
	assert_in_range(before.n, 1, CPU_MAX);
	int last = before.cpus[before.n - 1];
	pid_t child = fork();
	if (child == 0) {
		static struct cpu_set pinned;
		int node = -7;
		if (cpu_pin(last, &node) != 0 || node < -1)
			_exit(1);
		cpu_usable("", &pinned);
		if (pinned.n != 1 || pinned.cpus[0] != last || sched_getcpu() != last)
			_exit(2);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* In a child, which may pin itself. Returns its exit code. */
static int in_child(int (*function)(int cpu), int cpu)
{
	int status;
	pid_t child = fork();
	if (child == 0)
		_exit(function(cpu));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void fake_begin(int node, int error)
{
	memset(&fake, 0, sizeof fake); /* libnuma asks when it is loaded, too */
	fake.on = true;
	fake.node = node;
	fake.error = error;
}

static int pin_on_node_5(int cpu)
{
	int node = -7;
	fake_begin(5, 0);
	if (cpu_pin(cpu, &node) != 0 || node != 5)
		return 1;
	/* The kernel takes one bit less than it is told. */
	return fake.calls == 1 && fake.mode == MPOL_PREFERRED && fake.nodes == 1UL << 5 && fake.bits > 6 ? 0 : 2;
}

static int pin_in_a_sandbox(int cpu)
{
	int node = -7;
	fake_begin(1, EPERM);
	return cpu_pin(cpu, &node) == 0 && node == 1 ? 0 : 1;
}

static int pin_without_a_node(int cpu)
{
	int node = -7;
	fake_begin(-1, 0);
	return cpu_pin(cpu, &node) == 0 && node == -1 && fake.calls == 0 ? 0 : 1;
}

static void test_memory_is_asked_for_on_the_cpus_node(void **state)
{
	(void)state;
	static struct cpu_set cpus;
	cpu_usable("", &cpus);
	assert_int_equal(in_child(pin_on_node_5, cpus.cpus[0]), 0);
	assert_int_equal(in_child(pin_in_a_sandbox, cpus.cpus[0]), 0);
	assert_int_equal(in_child(pin_without_a_node, cpus.cpus[0]), 0);
}

static void test_pin_to_what_is_not_there(void **state)
{
	(void)state;
	int node = -7;
	assert_int_equal(cpu_pin(-1, &node), -EINVAL);
	assert_int_equal(cpu_pin(1 << 19, &node), -EINVAL);
	assert_int_equal(cpu_pin(1 << 30, &node), -EINVAL);
	assert_int_equal(node, -7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v2),
		cmocka_unit_test(test_v2_groups_above_count),
		cmocka_unit_test(test_container_sees_its_group_at_the_mount),
		cmocka_unit_test(test_v1),
		cmocka_unit_test(test_hybrid),
		cmocka_unit_test(test_garbage_is_no_quota),
		cmocka_unit_test(test_path_too_long_falls_back_to_the_mount),
		cmocka_unit_test(test_worker_count),
		cmocka_unit_test(test_mask_and_pin),
		cmocka_unit_test(test_memory_is_asked_for_on_the_cpus_node),
		cmocka_unit_test(test_pin_to_what_is_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
