/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <ifaddrs.h>
#include <net/if.h>

#include "os/machine.h"
#include "scratch.h"

#define GB (UINT64_C(1) << 30)

struct file {
	const char *name;
	const char *content;
};

static void check_memory(const struct file *files, size_t count, uint64_t bytes, bool is_cgroup)
{
	struct scratch scratch;
	bool group = !is_cgroup;

	scratch_make(&scratch);
	for (size_t i = 0; i < count; i++)
		scratch_write(&scratch, files[i].name, files[i].content);
	assert_int_equal(machine_memory(scratch.path, 7, &group), bytes);
	assert_int_equal(group, is_cgroup);
	scratch_remove(&scratch);
}
#define MEMORY(files, bytes, is_cgroup) check_memory(files, sizeof(files) / sizeof *(files), bytes, is_cgroup)

#define MEMINFO                                                                 \
	{                                                                       \
		"proc/meminfo", "MemTotal:        8388608 kB\nMemFree:  1 kB\n" \
	}

static void memory_is_what_the_machine_has(void **state)
{
	(void)state;
	static const struct file alone[] = { MEMINFO };
	static const struct file unlimited[] = { MEMINFO, { "proc/7/cgroup", "0::/a/b\n" }, { "sys/fs/cgroup/a/b/memory.max", "max\n" } };
	static const struct file more[] = { MEMINFO, { "proc/7/cgroup", "0::/a\n" }, { "sys/fs/cgroup/a/memory.max", "99999999999\n" } };
	static const struct file broken[] = { MEMINFO, { "proc/7/cgroup", "0::/a\nrubbish\n:\n" },
		{ "sys/fs/cgroup/a/memory.max", "12x\n" } };

	MEMORY(alone, 8 * GB, false);
	MEMORY(unlimited, 8 * GB, false);
	MEMORY(more, 8 * GB, false);
	MEMORY(broken, 8 * GB, false);
}

static void or_the_least_of_its_groups(void **state)
{
	(void)state;
	static const struct file own[] = { MEMINFO, { "proc/7/cgroup", "0::/a/b\n" }, { "sys/fs/cgroup/a/b/memory.max", "1073741824\n" } };
	static const struct file above[] = { MEMINFO, { "proc/7/cgroup", "0::/a/b\n" }, { "sys/fs/cgroup/a/b/memory.max", "2147483648\n" },
		{ "sys/fs/cgroup/a/memory.max", "1073741824\n" } };
	static const struct file container[] = { MEMINFO, { "proc/7/cgroup", "0::/not/here\n" },
		{ "sys/fs/cgroup/memory.max", "1073741824\n" } };
	static const struct file v1[] = { MEMINFO, { "proc/7/cgroup", "3:cpu:/\n4:cpuset,memory:/a\n" },
		{ "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n" } };
	static const struct file unknown[] = { { "proc/7/cgroup", "0::/\n" }, { "sys/fs/cgroup/memory.max", "1073741824\n" } };

	MEMORY(own, GB, true);
	MEMORY(above, GB, true);
	MEMORY(container, GB, true);
	MEMORY(v1, GB, true);
	MEMORY(unknown, GB, true);
}

static void nothing_is_known_of_nothing(void **state)
{
	(void)state;
	struct scratch scratch;
	bool group;

	scratch_make(&scratch);
	assert_int_equal(machine_memory(scratch.path, 7, &group), 0);
	assert_false(group);
	assert_int_equal(machine_descriptors(scratch.path, 7, 100), 0);
	assert_int_equal(machine_local_ports(scratch.path), 0);
	scratch_remove(&scratch);
}

#define LIMITS(soft, hard)                                                                 \
	"Limit                     Soft Limit           Hard Limit           Units     \n" \
	"Max open files            " soft "                 " hard "                 files     \n"
#define STATUS(capabilities) "Name:\taegis\nCapPrm:\t0000000000000000\nCapEff:\t" capabilities "\n"

static uint64_t descriptors(const char *limits, const char *status, uint64_t want)
{
	struct scratch scratch;

	scratch_make(&scratch);
	scratch_write(&scratch, "proc/7/limits", limits);
	scratch_write(&scratch, "proc/7/status", status);
	scratch_write(&scratch, "proc/sys/fs/nr_open", "50000\n");
	uint64_t granted = machine_descriptors(scratch.path, 7, want);
	scratch_remove(&scratch);
	return granted;
}

static void descriptors_are_raised_as_far_as_allowed(void **state)
{
	(void)state;
	static const char nobody[] = STATUS("0000000000000000"), root[] = STATUS("000001ffffffffff");

	assert_int_equal(descriptors(LIMITS("1024", "4096"), nobody, 100), 1024);
	assert_int_equal(descriptors(LIMITS("1024", "4096"), nobody, 2000), 2000);
	assert_int_equal(descriptors(LIMITS("1024", "4096"), nobody, 9000), 4096);
	assert_int_equal(descriptors(LIMITS("1024", "4096"), root, 9000), 9000);
	assert_int_equal(descriptors(LIMITS("1024", "4096"), root, 90000), 50000);
	assert_int_equal(descriptors(LIMITS("1024", "unlimited"), nobody, 9000), 9000);
}

static uint32_t local_ports(const char *text)
{
	struct scratch scratch;

	scratch_make(&scratch);
	scratch_write(&scratch, "proc/sys/net/ipv4/ip_local_port_range", text);
	uint32_t ports = machine_local_ports(scratch.path);
	scratch_remove(&scratch);
	return ports;
}

static void local_ports_are_counted(void **state)
{
	(void)state;
	assert_int_equal(local_ports("32768\t60999\n"), 28232);
	assert_int_equal(local_ports("1 65535\n"), 65535);
	assert_int_equal(local_ports("5 5\n"), 1);
	assert_int_equal(local_ports("60000 50000\n"), 0);
	assert_int_equal(local_ports("1 70000\n"), 0);
	assert_int_equal(local_ports("nonsense\n"), 0);
	assert_int_equal(local_ports(""), 0);
}

static void of_ourselves_it_knows_something(void **state)
{
	(void)state;
	bool group;

	assert_true(machine_memory("", 0, &group) > 1000000);
	assert_true(machine_descriptors("", getpid(), 0) > 0);
	assert_true(machine_local_ports("") > 0);
}

static bool is_own(const char *text)
{
	struct endpoint endpoint;
	const char *why;

	assert_int_equal(endpoint_parse(text, &endpoint, &why), 0);
	return machine_has_address(&endpoint.addr);
}

static void addresses_of_this_machine(void **state)
{
	(void)state;
	struct ifaddrs *all;

	assert_true(is_own("127.0.0.1:7"));
	assert_true(is_own("127.3.2.1:7"));
	assert_true(is_own("[::ffff:127.0.0.9]:7"));
	assert_false(is_own("192.0.2.1:7"));
	assert_false(is_own("[::ffff:192.0.2.1]:7"));
	assert_false(is_own("[2001:db8::1]:7"));
	assert_int_equal(getifaddrs(&all), 0);
	for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
		struct addr addr;
		if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET || !(one->ifa_flags & IFF_UP))
			continue;
		addr_from_sockaddr(&addr, one->ifa_addr, sizeof(struct sockaddr_in));
		addr_set_port(&addr, 7);
		assert_true(machine_has_address(&addr));
	}
	freeifaddrs(all);
}

static void tls_of_the_kernel(void **state)
{
	static const struct {
		const char *content;
		bool lacks;
	} cases[] = { { "mptcp tls\n", false }, { "tls mptcp\n", false }, { "mptcp\n", true }, { "espintcp nottls\n", true } };
	struct scratch scratch;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		scratch_make(&scratch);
		scratch_write(&scratch, "proc/sys/net/ipv4/tcp_available_ulp", cases[i].content);
		assert_int_equal(machine_lacks_kernel_tls(scratch.path), cases[i].lacks);
		scratch_remove(&scratch);
	}
	scratch_make(&scratch);
	assert_false(machine_lacks_kernel_tls(scratch.path)); /* it is not told */
	scratch_remove(&scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_of_this_machine),
		cmocka_unit_test(tls_of_the_kernel),
		cmocka_unit_test(memory_is_what_the_machine_has),
		cmocka_unit_test(or_the_least_of_its_groups),
		cmocka_unit_test(nothing_is_known_of_nothing),
		cmocka_unit_test(descriptors_are_raised_as_far_as_allowed),
		cmocka_unit_test(local_ports_are_counted),
		cmocka_unit_test(of_ourselves_it_knows_something),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
