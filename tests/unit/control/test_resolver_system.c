/* Names as the system resolves them: /etc/resolv.conf and /etc/hosts of the test's own, DNS on port 53 of its own network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "../os/scratch.h"
#include "base/log.h"
#include "names.h"

#define SOON_NS (40 * NS_PER_MS)

static struct dns dns, other;
static struct scratch scratch;

/* Written in place: the file is mounted over the system's. */
static void write_file(const char *name, const char *content)
{
	FILE *file = fopen(scratch_path(&scratch, name), "w");
	assert_non_null(file);
	fputs(content, file);
	assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
	const struct resolver_settings settings = { .way = (enum resolver_way)(uintptr_t)*state,
		.families = RESOLVER_IPV4 | RESOLVER_IPV6,
		.min_ttl_ns = SOON_NS,
		.max_ttl_ns = SOON_NS,
		.timeout_ns = NS_PER_S,
		.retry_min_ns = SOON_NS / 2,
		.retry_max_ns = SOON_NS };
	write_file("hosts", "127.0.0.1 localhost\n");
	write_file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
	loop = loop_new();
	return loop ? resolver_new(loop, &settings, on_changed, &resolver) : -1;
}

static int tear_down(void **state)
{
	(void)state;
	resolver_free(resolver);
	loop_free(loop);
	return 0;
}

static void test_follows_dns(void **state)
{
	(void)state;
	struct seen seen;
	dns_say(&dns, "answer follow.test A 0 192.0.2.2 192.0.2.1");
	dns_say(&dns, "answer follow.test AAAA 0 2001:db8::1");
	watch(&seen, "follow.test", 80, "192.0.2.1:80 192.0.2.2:80");
	wait_for(seen.calls == 1);
	assert_told(&seen, "192.0.2.1:80 192.0.2.2:80 [2001:db8::1]:80");
	dns_say(&dns, "answer follow.test A 0 192.0.2.3");
	wait_for(seen.calls == 2);
	assert_told(&seen, "192.0.2.3:80 [2001:db8::1]:80");
}

static void test_keeps_what_it_had(void **state)
{
	(void)state;
	static const char *const behaviours[] = { "servfail", "refused", "cut", "nxdomain" };
	for (size_t i = 0; i < ARRAY_LEN(behaviours); i++) {
		struct seen seen;
		bool cut = strcmp(behaviours[i], "cut") == 0, gone = strcmp(behaviours[i], "nxdomain") == 0;
		dns_say(&dns, "forget keep.test");
		dns_say(&dns, "answer keep.test A 0 192.0.2.1");
		watch(&seen, "keep.test", 80, "");
		wait_for(seen.calls == 1);
		print_message("%s\n", behaviours[i]);
		dns_say(&dns, "behave keep.test * %s", behaviours[i]);
		wait_for(stats(&seen).bad_in_a_row >= 2);
		if (!cut) /* which the C library takes for none at all */
			assert_int_equal(gone ? stats(&seen).failures : stats(&seen).gone, 0);
		assert_int_equal(seen.calls, 1);
		dns_say(&dns, "answer keep.test AAAA 0");
		dns_say(&dns, "answer keep.test A 0 192.0.2.2");
		wait_for(seen.calls == 2);
		forget(&seen);
		wait_for(resolver_totals(resolver).names == 0);
	}
}

static void test_keeps_each_family(void **state)
{
	(void)state;
	struct seen seen;
	dns_say(&dns, "answer half.test A 0 192.0.2.1");
	dns_say(&dns, "answer half.test AAAA 0 2001:db8::1");
	watch(&seen, "half.test", 80, "192.0.2.1:80 [2001:db8::1]:80");
	wait_for(stats(&seen).last_success_ns > 0);
	dns_say(&dns, "behave half.test AAAA servfail");
	dns_say(&dns, "answer half.test A 0 192.0.2.2");
	wait_for(seen.calls == 1 && stats(&seen).failures > 1);
	assert_told(&seen, "192.0.2.2:80 [2001:db8::1]:80");
	dns_say(&dns, "answer half.test AAAA 0");
	wait_for(seen.calls == 2);
	assert_told(&seen, "192.0.2.2:80");
}

static void test_hosts_come_before_dns(void **state)
{
	(void)state;
	struct seen seen;
	write_file("hosts", "127.0.0.1 localhost\n192.0.2.1 pinned.test\n");
	dns_say(&dns, "answer pinned.test A 0 192.0.2.99");
	dns_say(&dns, "answer pinned.test AAAA 0 2001:db8::99");
	watch(&seen, "pinned.test", 80, "");
	wait_for(seen.calls == 1);
	assert_told(&seen, "192.0.2.1:80"); /* and no address of the other family from elsewhere */
	write_file("hosts", "127.0.0.1 localhost\n192.0.2.2 pinned.test\n2001:db8::2 pinned.test\n");
	wait_for(seen.calls == 2);
	assert_non_null(strstr(list(seen.addrs, seen.n), "192.0.2.2:80"));
	assert_non_null(strstr(list(seen.addrs, seen.n), "[2001:db8::2]:80"));
	assert_int_equal(seen.n, 2);
}

static void test_localhost(void **state)
{
	(void)state;
	struct seen seen;
	watch(&seen, "localhost", 80, "");
	wait_for(seen.calls == 1);
	assert_non_null(strstr(list(seen.addrs, seen.n), "127.0.0.1:80"));
}

static void test_search_domains(void **state)
{
	(void)state;
	struct seen seen, whole;
	write_file("resolv.conf", "nameserver 127.0.0.1\nsearch one.test two.test three.test\noptions timeout:1 attempts:1\n");
	dns_say(&dns, "answer db.two.test A 0 192.0.2.2");
	dns_say(&dns, "answer whole.name A 0 192.0.2.9");
	watch(&seen, "db", 80, "");
	watch(&whole, "whole.name.", 80, "");
	wait_for(seen.calls == 1 && whole.calls == 1);
	assert_told(&seen, "192.0.2.2:80");
	assert_told(&whole, "192.0.2.9:80");
	dns_say(&dns, "answer db.one.test A 0 192.0.2.1");
	wait_for(seen.calls == 2); /* it is there now */
	assert_told(&seen, "192.0.2.1:80");
	dns_say(&dns, "forget db.one.test");
	wait_for(seen.calls == 3);
	assert_told(&seen, "192.0.2.2:80");
}

/* A failure where the name was found must not lead to another host of that name, but a domain that always fails is passed by. */
static void test_search_domain_that_fails(void **state)
{
	(void)state;
	struct seen seen;
	write_file("resolv.conf", "nameserver 127.0.0.1\nsearch broken.test right.test wrong.test\noptions timeout:1 attempts:1\n");
	dns_say(&dns, "behave app.broken.test * servfail");
	dns_say(&dns, "answer app.right.test A 0 192.0.2.1");
	dns_say(&dns, "answer app.wrong.test A 0 192.0.2.66");
	watch(&seen, "app", 80, "");
	wait_for(seen.calls == 1 && stats(&seen).queries > 2);
	assert_told(&seen, "192.0.2.1:80");
	assert_int_equal(stats(&seen).failures, 0);
	dns_say(&dns, "behave app.right.test * servfail");
	wait_for(stats(&seen).failures > 3);
	assert_int_equal(seen.calls, 1);
	dns_say(&dns, "forget app.right.test"); /* that is an answer: it is not there */
	wait_for(seen.calls == 2);
	assert_told(&seen, "192.0.2.66:80");
}

static void test_new_servers_are_taken_up(void **state)
{
	(void)state;
	struct seen seen, silent;
	dns_say(&dns, "answer move.test A 0 192.0.2.1");
	dns_say(&other, "answer move.test A 0 192.0.2.2");
	dns_say(&dns, "behave never.test * silent");
	watch(&silent, "never.test", 80, ""); /* one is under way all the time */
	watch(&seen, "move.test", 80, "");
	wait_for(seen.calls == 1);
	assert_told(&seen, "192.0.2.1:80");
	write_file("resolv.conf", "nameserver 127.0.0.2\noptions timeout:1 attempts:1\n");
	wait_for(seen.calls == 2);
	assert_told(&seen, "192.0.2.2:80");
}

/* --- a child that fails ---------------------------------------------------------------------------------------------------- */

static void test_child_slow_name_holds_nobody_up(void **state)
{
	(void)state;
	struct seen slow, fast;
	dns_say(&dns, "behave slow.test * silent");
	dns_say(&dns, "answer fast.test A 0 192.0.2.1");
	watch(&slow, "slow.test", 80, "192.0.2.9:80");
	watch(&fast, "fast.test", 80, "");
	wait_for(fast.calls == 1);
	wait_for(stats(&slow).failures > 0);
	assert_int_equal(slow.calls, 0);
}

static pid_t only_child_but(pid_t first, pid_t second)
{
	char path[64];
	long pid, found = 0;
	snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
	FILE *file = fopen(path, "r");
	while (file && fscanf(file, "%ld", &pid) == 1)
		if (pid != first && pid != second)
			found = pid;
	if (file)
		fclose(file);
	return (pid_t)found;
}

static void test_child_killed(void **state)
{
	(void)state;
	struct seen seen;
	dns_say(&dns, "behave kill.test * silent");
	watch(&seen, "kill.test", 80, "192.0.2.1:80");
	wait_for(only_child_but(dns.pid, other.pid) > 0);
	kill(only_child_but(dns.pid, other.pid), SIGKILL);
	wait_for(stats(&seen).failures == 1);
	dns_say(&dns, "answer kill.test A 0 192.0.2.2");
	wait_for(seen.calls == 1);
	assert_told(&seen, "192.0.2.2:80");
}

static void test_child_freed_with_the_resolver(void **state)
{
	struct seen seen;
	dns_say(&dns, "behave free.test * silent");
	watch(&seen, "free.test", 80, "");
	wait_for(only_child_but(dns.pid, other.pid) > 0);
	tear_down(state);
	assert_int_equal(only_child_but(dns.pid, other.pid), 0);
	assert_int_equal(set_up(state), 0);
}

/* --- a network of our own -------------------------------------------------------------------------------------------------- */

static void write_line(const char *path, const char *format, unsigned id)
{
	char line[64];
	int length = snprintf(line, sizeof line, format, id);
	int fd = open(path, O_WRONLY);
	if (fd >= 0 && write(fd, line, (size_t)length) != length)
		perror(path);
	if (fd >= 0)
		close(fd);
}

static bool leave_the_system(void)
{
	unsigned uid = getuid(), gid = getgid();
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) == 0)
		return true;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) < 0)
		return false;
	write_line("/proc/self/setgroups", "deny", 0);
	write_line("/proc/self/uid_map", "0 %u 1", uid);
	write_line("/proc/self/gid_map", "0 %u 1", gid);
	return true;
}

static bool loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	return up;
}

static bool put_over(const char *name, const char *content)
{
	char path[64];
	snprintf(path, sizeof path, "/etc/%s", name);
	scratch_write(&scratch, name, content);
	return mount(scratch_path(&scratch, name), path, NULL, MS_BIND, NULL) == 0;
}

#define way(test, which)                                                                                       \
	{                                                                                                      \
		.name = #test " " #which, .test_func = test, .setup_func = set_up, .teardown_func = tear_down, \
		.initial_state = (void *)(uintptr_t)(which)                                                    \
	}

int main(void)
{
	const struct CMUnitTest cares[] = {
		way(test_follows_dns, RESOLVER_CARES),
		way(test_keeps_what_it_had, RESOLVER_CARES),
		way(test_keeps_each_family, RESOLVER_CARES),
		way(test_hosts_come_before_dns, RESOLVER_CARES),
		way(test_localhost, RESOLVER_CARES),
		way(test_search_domains, RESOLVER_CARES),
		way(test_search_domain_that_fails, RESOLVER_CARES),
		way(test_new_servers_are_taken_up, RESOLVER_CARES),
	};
	const struct CMUnitTest child[] = {
		way(test_follows_dns, RESOLVER_CHILD),
		way(test_keeps_what_it_had, RESOLVER_CHILD),
		way(test_keeps_each_family, RESOLVER_CHILD),
		way(test_hosts_come_before_dns, RESOLVER_CHILD),
		way(test_localhost, RESOLVER_CHILD),
		way(test_search_domains, RESOLVER_CHILD),
		way(test_new_servers_are_taken_up, RESOLVER_CHILD),
		way(test_child_slow_name_holds_nobody_up, RESOLVER_CHILD),
		way(test_child_killed, RESOLVER_CHILD),
		way(test_child_freed_with_the_resolver, RESOLVER_CHILD),
	};
	if (!leave_the_system() || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !loopback_up()) {
		puts("skipped: no network namespace of one's own here (it takes root, or user namespaces)");
		return 77;
	}
	scratch_make(&scratch);
	if (!put_over("hosts", "") || !put_over("resolv.conf", "") || !put_over("nsswitch.conf", "hosts: files dns\n")) {
		puts("skipped: cannot mount over /etc/hosts, /etc/resolv.conf and /etc/nsswitch.conf");
		scratch_remove(&scratch);
		return 77;
	}
	if (log_open("stderr", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT))
		return EXIT_FAILURE;
	dns_start(&dns, "127.0.0.1", 53);
	dns_start(&other, "127.0.0.2", 53);
	int failed = 0;
	if (resolver_cares_version())
		failed += cmocka_run_group_tests(cares, NULL, NULL);
	failed += cmocka_run_group_tests(child, NULL, NULL);
	dns_stop(&dns);
	dns_stop(&other);
	scratch_remove(&scratch);
	return failed;
}
