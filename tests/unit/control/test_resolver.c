#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/resource.h>

#include "../os/scratch.h"
#include "base/log.h"
#include "names.h"

#define SOON_NS (40 * NS_PER_MS)
enum { AT_ONCE = 64, MANY = 500 };

static struct dns dns;

static struct resolver_settings quick(void)
{
	static char servers[64];
	snprintf(servers, sizeof servers, "127.0.0.1:%d", dns.port);
	return (struct resolver_settings){ .servers = servers,
		.way = RESOLVER_CARES,
		.families = RESOLVER_IPV4 | RESOLVER_IPV6,
		.min_ttl_ns = SOON_NS,
		.max_ttl_ns = 100 * NS_PER_S,
		.timeout_ns = NS_PER_S,
		.retry_min_ns = SOON_NS / 2,
		.retry_max_ns = SOON_NS };
}

static void begin(const struct resolver_settings *settings)
{
	assert_int_equal(resolver_new(loop, settings, on_changed, &resolver), 0);
}

static int set_up(void **state)
{
	(void)state;
	loop = loop_new();
	return loop ? 0 : -1;
}

static int set_up_quick(void **state)
{
	struct resolver_settings settings = quick();
	return set_up(state) || resolver_new(loop, &settings, on_changed, &resolver) ? -1 : 0;
}

/* For those that wait for answers that do not come: here one that is only late counts as a failure, too. */
static int set_up_hasty(void **state)
{
	struct resolver_settings settings = quick();
	settings.timeout_ns = SOON_NS;
	return set_up(state) || resolver_new(loop, &settings, on_changed, &resolver) ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	resolver_free(resolver);
	resolver = NULL;
	loop_free(loop);
	return 0;
}

/* --- good answers ---------------------------------------------------------------------------------------------------------- */

static void test_tells_both_families_in_order(void **state)
{
	(void)state;
	struct seen seen, reversed;
	dns_say(&dns, "answer both.test A 9 192.0.2.2 192.0.2.1");
	dns_say(&dns, "answer both.test AAAA 9 2001:db8::2 2001:db8::1");
	watch(&seen, "both.test", 80, "");
	wait_for(seen.calls == 1);
	assert_told(&seen, "[2001:db8::1]:80 [2001:db8::2]:80 192.0.2.1:80 192.0.2.2:80");
	dns_say(&dns, "answer v4first.test A 9 192.0.2.2 192.0.2.1");
	dns_say(&dns, "answer v4first.test AAAA 9 2001:db8::1");
	watch(&reversed, "v4first.test", 80, "192.0.2.9:80 [2001:db8::1]:80");
	wait_for(reversed.calls == 1);
	assert_told(&reversed, "192.0.2.1:80 192.0.2.2:80 [2001:db8::1]:80");
	assert_int_equal(stats(&seen).changes, 1);
	assert_int_equal(resolver_totals(resolver).names, 2);
}

static void test_rotation_is_no_change(void **state)
{
	(void)state;
	struct seen seen;
	dns_say(&dns, "answer turn.test A 0 192.0.2.3 192.0.2.1 192.0.2.2");
	dns_say(&dns, "answer turn.test AAAA 0 2001:db8::2 2001:db8::1");
	dns_say(&dns, "behave turn.test * rotate");
	watch(&seen, "turn.test", 80, "192.0.2.2:80 192.0.2.3:80 192.0.2.1:80 [2001:db8::1]:80 [2001:db8::2]:80");
	wait_for(stats(&seen).queries > 8);
	assert_int_equal(seen.calls, 0);
	assert_int_equal(stats(&seen).changes, 0);
	assert_int_equal(stats(&seen).failures, 0);
}

static void test_change_is_seen_when_the_ttl_is_over(void **state)
{
	(void)state;
	struct seen seen;
	dns_say(&dns, "answer ttl.test A 1 192.0.2.1");
	watch(&seen, "ttl.test", 80, "");
	wait_for(seen.calls == 1);
	uint64_t first_ns = stats(&seen).last_success_ns;
	dns_say(&dns, "answer ttl.test A 1 192.0.2.2");
	wait_for(seen.calls == 2);
	assert_told(&seen, "192.0.2.2:80");
	assert_true(stats(&seen).last_success_ns - first_ns >= NS_PER_S);
	assert_int_equal(stats(&seen).queries, 2);
	assert_int_equal(dns_say(&dns, "count ttl.test"), 4); /* A and AAAA each time */
}

static void test_ttl_is_bounded(void **state)
{
	(void)state;
	static const long ttls[] = { 0, 86400, 2147483648 };
	struct resolver_settings settings = quick();
	settings.max_ttl_ns = settings.min_ttl_ns;
	begin(&settings);
	for (size_t i = 0; i < ARRAY_LEN(ttls); i++) {
		struct seen seen;
		dns_say(&dns, "answer bound.test A %ld 192.0.2.1", ttls[i]);
		watch(&seen, "bound.test", 80, "");
		wait_for(stats(&seen).last_success_ns > 0);
		uint64_t first_ns = stats(&seen).last_success_ns, queries = stats(&seen).queries;
		wait_for(stats(&seen).queries >= queries + 3 && resolver_totals(resolver).in_flight == 0);
		assert_true(stats(&seen).last_success_ns - first_ns >= (stats(&seen).queries - queries) * SOON_NS);
		forget(&seen);
		wait_for(resolver_totals(resolver).names == 0);
	}
}

static void test_aliases_are_followed(void **state)
{
	(void)state;
	struct seen seen;
	dns_say(&dns, "answer alias.test CNAME 0 second.test");
	dns_say(&dns, "answer second.test CNAME 1000 real.test");
	dns_say(&dns, "answer real.test A 1000 192.0.2.1");
	watch(&seen, "alias.test", 80, "");
	wait_for(seen.calls == 1);
	assert_told(&seen, "192.0.2.1:80");
	dns_say(&dns, "answer second.test CNAME 1000 moved.test"); /* the TTL of the first alias counts, too */
	dns_say(&dns, "answer moved.test A 1000 192.0.2.2");
	wait_for(seen.calls == 2);
	assert_told(&seen, "192.0.2.2:80");
}

static void test_long_answer_comes_over_tcp(void **state)
{
	(void)state;
	struct seen seen, flagged;
	char line[8192] = "answer long.test A 0";
	for (int i = 0; i < 300; i++)
		snprintf(line + strlen(line), sizeof line - strlen(line), " 10.0.%d.%d", i / 200, 1 + i % 200);
	dns_say(&dns, "%s", line);
	dns_say(&dns, "behave long.test A rotate");
	watch(&seen, "long.test", 80, "10.0.1.99:80 203.0.113.1:80");
	wait_for(seen.calls == 1 && stats(&seen).queries > 6);
	assert_told(&seen, "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80 10.0.0.4:80 10.0.0.5:80 10.0.0.6:80 10.0.0.7:80 10.0.1.99:80");
	assert_int_equal(seen.calls, 1);

	dns_say(&dns, "answer flag.test A 9 192.0.2.1");
	dns_say(&dns, "behave flag.test A truncate");
	watch(&flagged, "flag.test", 80, "");
	wait_for(flagged.calls == 1);
	assert_told(&flagged, "192.0.2.1:80");
}

static void test_only_addresses_that_a_server_can_have(void **state)
{
	(void)state;
	struct seen seen, none;
	dns_say(&dns, "answer odd.test A 9 0.0.0.0 192.0.2.1 224.0.0.1 255.255.255.255");
	dns_say(&dns, "answer odd.test AAAA 9 :: fe80::1 ff02::1 ::ffff:0.0.0.0");
	watch(&seen, "odd.test", 80, "");
	wait_for(seen.calls == 1);
	assert_told(&seen, "192.0.2.1:80");
	dns_say(&dns, "answer sink.test A 9 0.0.0.0");
	watch(&none, "sink.test", 80, "192.0.2.1:80");
	wait_for(stats(&none).gone > 2);
	assert_int_equal(none.calls, 0);
}

static void test_asks_for_the_wanted_families_only(void **state)
{
	(void)state;
	struct seen seen;
	struct resolver_settings settings = quick();
	settings.families = RESOLVER_IPV4;
	begin(&settings);
	dns_say(&dns, "answer four.test A 0 192.0.2.1");
	dns_say(&dns, "answer four.test AAAA 0 2001:db8::1");
	watch(&seen, "four.test", 80, "");
	wait_for(seen.calls == 1 && stats(&seen).queries > 2);
	assert_told(&seen, "192.0.2.1:80");
	assert_int_equal(dns_say(&dns, "count four.test AAAA"), 0);
}

/* Whatever the host has: a name that has both is asked for in both. */
static void test_asks_for_the_families_that_are_known(void **state)
{
	(void)state;
	struct seen seen;
	struct resolver_settings settings = quick();
	settings.families = 0;
	begin(&settings);
	dns_say(&dns, "answer two.test A 0 192.0.2.2");
	dns_say(&dns, "answer two.test AAAA 0 2001:db8::2");
	watch(&seen, "two.test", 80, "192.0.2.1:80 [2001:db8::1]:80");
	wait_for(seen.calls == 1);
	assert_told(&seen, "192.0.2.2:80 [2001:db8::2]:80");
}

/* --- watches --------------------------------------------------------------------------------------------------------------- */

static void test_a_name_is_asked_for_once(void **state)
{
	(void)state;
	struct seen seen[20];
	dns_say(&dns, "answer shared.test A 0 192.0.2.1");
	for (uint16_t i = 0; i < 20; i++)
		watch(&seen[i], i % 2 ? "Shared.Test" : "shared.test", (uint16_t)(1000 + i), "");
	for (int i = 0; i < 20; i++)
		wait_for(seen[i].calls == 1);
	assert_told(&seen[0], "192.0.2.1:1000");
	assert_told(&seen[19], "192.0.2.1:1019");
	assert_int_equal(resolver_totals(resolver).names, 1);
	wait_for(stats(&seen[0]).queries > 3 && resolver_totals(resolver).in_flight == 0);
	assert_int_equal(dns_say(&dns, "count shared.test A"), stats(&seen[7]).queries);
}

/* As after a reload: what the new watch knows may be older or newer than what we know. */
static void test_a_later_watch_is_told_what_is_true(void **state)
{
	(void)state;
	struct seen first, second, third;
	dns_say(&dns, "answer later.test A 1000 192.0.2.1");
	watch(&first, "later.test", 80, "");
	wait_for(first.calls == 1);
	watch(&second, "later.test", 81, "192.0.2.99:81");
	watch(&third, "later.test", 82, "192.0.2.1:82");
	wait_for(second.calls == 1);
	assert_told(&second, "192.0.2.1:81");
	assert_int_equal(stats(&first).queries, 2);
	assert_int_equal(first.calls, 1);
	assert_int_equal(third.calls, 0);
}

static void test_forgotten_during_a_question(void **state)
{
	(void)state;
	struct seen seen, again;
	dns_say(&dns, "behave slow.test * silent");
	watch(&seen, "slow.test", 80, "");
	wait_for(resolver_totals(resolver).in_flight == 1);
	forget(&seen);
	assert_int_equal(resolver_totals(resolver).names, 1);
	watch(&again, "slow.test", 80, ""); /* comes back before the answer */
	wait_for(stats(&again).failures > 1);
	wait_for(resolver_totals(resolver).in_flight == 1);
	forget(&again);
	wait_for(resolver_totals(resolver).in_flight == 0);
	assert_int_equal(resolver_totals(resolver).names, 0);
	assert_int_equal(seen.calls + again.calls, 0);
}

static void test_forgotten_before_its_turn(void **state)
{
	(void)state;
	struct seen seen[AT_ONCE + 10], asked;
	char name[64];
	for (int i = 0; i < AT_ONCE + 10; i++) {
		snprintf(name, sizeof name, "queue%d.test", i);
		dns_say(&dns, "behave %s * silent", name);
		watch(&seen[i], name, 80, "");
	}
	wait_for(resolver_totals(resolver).in_flight == AT_ONCE);
	for (int i = 0; i < AT_ONCE + 10; i++)
		forget(&seen[i]);
	wait_for(resolver_totals(resolver).names == 0);
	assert_int_equal(resolver_totals(resolver).queries, AT_ONCE);
	dns_say(&dns, "answer then.test A 9 192.0.2.1");
	watch(&asked, "then.test", 80, "");
	wait_for(asked.calls == 1);
}

static struct seen chain[4];

/* Forgets them all, itself too, and watches anew. */
static void on_changed_forget(void *owner, const struct addr *addrs, size_t n)
{
	on_changed(owner, addrs, n);
	for (int i = 0; i < 3; i++)
		if (chain[i].watch)
			forget(&chain[i]);
	if (!chain[3].watch)
		watch(&chain[3], "fresh.test", 80, "");
}

static void test_a_callback_may_forget_and_watch(void **state)
{
	(void)state;
	struct resolver_settings settings = quick();
	assert_int_equal(resolver_new(loop, &settings, on_changed_forget, &resolver), 0);
	memset(chain, 0, sizeof chain);
	dns_say(&dns, "answer chain.test A 0 192.0.2.1");
	dns_say(&dns, "answer fresh.test A 0 192.0.2.2");
	for (int i = 0; i < 3; i++)
		watch(&chain[i], "chain.test", 80, "");
	wait_for(chain[3].calls == 1);
	assert_int_equal(chain[0].calls + chain[1].calls + chain[2].calls, 1);
	assert_told(&chain[3], "192.0.2.2:80");
	assert_int_equal(resolver_totals(resolver).names, 1);
}

static void test_freed_during_a_question(void **state)
{
	(void)state;
	struct seen seen, local;
	dns_say(&dns, "behave slow2.test * silent");
	watch(&seen, "slow2.test", 80, "");
	watch(&local, "later2.test", 80, "192.0.2.1:80");
	wait_for(resolver_totals(resolver).in_flight > 0);
	resolver_free(resolver);
	resolver = NULL;
	turn(); /* nothing is left that could be called */
	assert_int_equal(seen.calls, 0);
}

static uint64_t most_in_flight;

static bool all_told(const struct seen seen[MANY], int calls)
{
	uint64_t in_flight = resolver_totals(resolver).in_flight;
	most_in_flight = in_flight > most_in_flight ? in_flight : most_in_flight;
	for (int i = 0; i < MANY; i++)
		if (seen[i].calls != calls)
			return false;
	return true;
}

static void test_many_names_on_one_loop(void **state)
{
	(void)state;
	static struct seen seen[MANY];
	most_in_flight = 0;
	for (int round = 1; round <= 2; round++) {
		for (int i = 0; i < MANY; i++) {
			char name[32];
			snprintf(name, sizeof name, "many%d.test", i);
			dns_say(&dns, "answer %s A 0 10.%d.%d.%d", name, round, i / 200, 1 + i % 200);
			if (round == 1)
				watch(&seen[i], name, (uint16_t)(i + 1), "");
		}
		wait_for(all_told(seen, round));
	}
	for (int i = 0; i < MANY; i++) {
		char expected[64];
		snprintf(expected, sizeof expected, "10.2.%d.%d:%d", i / 200, 1 + i % 200, i + 1);
		assert_told(&seen[i], expected);
	}
	assert_in_range(most_in_flight, 2, AT_ONCE);
	assert_int_equal(resolver_totals(resolver).names, MANY);
	assert_int_equal(resolver_totals(resolver).changes, 2 * MANY);
}

/* --- bad answers ----------------------------------------------------------------------------------------------------------- */

/* The last good answer is kept through each of them, and the next one is taken. */
static void test_bad_answers_drop_nothing(void **state)
{
	(void)state;
	static const struct {
		const char *behaviour;
		bool gone;
	} rows[] = { { "servfail", false }, { "refused", false }, { "notimp", false }, { "formerr", false }, { "silent", false },
		{ "cut", false }, { "noise", false }, { "wrong_id", false }, { "wrong_name", false }, { "loop", false }, { "lies", false },
		{ "empty", false }, { "nxdomain", true }, { "odd_size", true } };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct seen seen;
		dns_say(&dns, "forget bad.test");
		dns_say(&dns, "answer bad.test A 0 192.0.2.1");
		watch(&seen, "bad.test", 80, "");
		wait_for(seen.calls == 1);
		print_message("%s\n", rows[i].behaviour);
		dns_say(&dns, "behave bad.test * %s", rows[i].behaviour);
		wait_for((rows[i].gone ? stats(&seen).gone : stats(&seen).failures) >= 3);
		assert_int_equal(seen.calls, 1);
		if (!rows[i].gone)
			assert_int_equal(stats(&seen).gone, 0);
		dns_say(&dns, "answer bad.test AAAA 0");
		dns_say(&dns, "answer bad.test A 0 192.0.2.2");
		wait_for(seen.calls == 2);
		assert_told(&seen, "192.0.2.2:80");
		assert_int_equal(stats(&seen).bad_in_a_row, 0);
		forget(&seen);
		wait_for(resolver_totals(resolver).names == 0);
	}
}

static void test_empty_answer_drops_nothing(void **state)
{
	(void)state;
	struct seen seen;
	dns_say(&dns, "answer void.test A 0");
	watch(&seen, "void.test", 80, "192.0.2.1:80");
	wait_for(stats(&seen).gone > 3);
	assert_int_equal(stats(&seen).failures, 0);
	assert_int_equal(stats(&seen).last_success_ns, 0);
	assert_int_equal(seen.calls, 0);
}

static void test_server_killed_and_back(void **state)
{
	(void)state;
	struct seen seen;
	int port = dns.port;
	dns_say(&dns, "answer back.test A 0 192.0.2.1");
	watch(&seen, "back.test", 80, "");
	wait_for(seen.calls == 1);
	dns_stop(&dns);
	wait_for(stats(&seen).failures > 3);
	assert_int_equal(seen.calls, 1);
	dns_start(&dns, "127.0.0.1", port);
	assert_int_equal(dns.port, port);
	dns_say(&dns, "answer back.test A 0 192.0.2.2");
	wait_for(seen.calls == 2);
	assert_told(&seen, "192.0.2.2:80");
}

static void test_each_family_is_kept_for_itself(void **state)
{
	(void)state;
	static const char *const failures[] = { "servfail", "silent" };
	for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
		struct seen seen;
		dns_say(&dns, "answer half.test A 0 192.0.2.1");
		dns_say(&dns, "answer half.test AAAA 0 2001:db8::1 2001:db8::2");
		watch(&seen, "half.test", 80, "192.0.2.1:80");
		wait_for(seen.calls == 1);
		assert_told(&seen, "192.0.2.1:80 [2001:db8::1]:80 [2001:db8::2]:80");
		dns_say(&dns, "behave half.test AAAA %s", failures[i]);
		dns_say(&dns, "answer half.test A 0 192.0.2.2");
		wait_for(seen.calls == 2);
		assert_told(&seen, "192.0.2.2:80 [2001:db8::1]:80 [2001:db8::2]:80");
		wait_for(stats(&seen).failures > 2);
		assert_int_equal(seen.calls, 2);
		dns_say(&dns, "answer half.test AAAA 0"); /* there is none any more: that is an answer */
		wait_for(seen.calls == 3);
		assert_told(&seen, "192.0.2.2:80");
		forget(&seen);
		wait_for(resolver_totals(resolver).names == 0);
	}
}

/* A family that has never had an address loses nothing: some servers never answer for it. */
static void test_family_that_was_never_known_may_fail(void **state)
{
	(void)state;
	struct seen seen;
	dns_say(&dns, "answer broken6.test A 0 192.0.2.1");
	dns_say(&dns, "behave broken6.test AAAA servfail");
	watch(&seen, "broken6.test", 80, "");
	wait_for(seen.calls == 1 && stats(&seen).queries > 3);
	assert_int_equal(stats(&seen).failures, 0);
}

static void test_backs_off(void **state)
{
	(void)state;
	struct seen seen;
	struct resolver_settings settings = quick();
	settings.retry_min_ns = 20 * NS_PER_MS;
	settings.retry_max_ns = 80 * NS_PER_MS;
	begin(&settings);
	dns_say(&dns, "behave off.test * servfail");
	watch(&seen, "off.test", 80, "");
	uint64_t start_ns = clock_now_ns();
	wait_for(stats(&seen).failures == 6);
	assert_true(clock_now_ns() - start_ns >= (20 + 40 + 80 + 80 + 80) * NS_PER_MS * 3 / 4);
}

static void test_says_so_at_a_bounded_rate(void **state)
{
	(void)state;
	static char text[65536];
	struct scratch scratch;
	struct seen failing, gone;
	scratch_make(&scratch);
	const char *path = scratch_path(&scratch, "log");
	assert_int_equal(log_open(path, LOG_LEVEL_INFO, LOG_FORMAT_TEXT), 0);
	dns_say(&dns, "behave failing.test * servfail");
	watch(&failing, "failing.test", 80, "192.0.2.1:80");
	watch(&gone, "gone.test", 80, "");
	wait_for(stats(&failing).failures > 16 && stats(&gone).gone > 16);
	dns_say(&dns, "answer failing.test A 9 192.0.2.7");
	wait_for(failing.calls == 1);
	assert_int_equal(log_open("stderr", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT), 0);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	text[fread(text, 1, sizeof text - 1, file)] = '\0';
	fclose(file);
	int lines = 0;
	for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
		lines++;
	assert_in_range(lines, 4, 16);
	assert_non_null(strstr(text, " warn  "));
	assert_non_null(strstr(text, "cannot resolve \"failing.test\" now: no DNS server can be reached, or all answer SERVFAIL or "
	                             "REFUSED; the addresses it had stay in use"));
	assert_non_null(strstr(text, " error "));
	assert_non_null(strstr(text, "the name \"gone.test\" is gone: Domain name not found; it has no address yet"));
	assert_non_null(strstr(text, "\"failing.test\" is resolved again"));
	assert_non_null(strstr(text, "the addresses of \"failing.test\" are now 192.0.2.7"));
	scratch_remove(&scratch);
}

static void test_out_of_descriptors(void **state)
{
	(void)state;
	struct seen seen;
	struct rlimit before, none;
	dns_say(&dns, "answer fds.test A 0 192.0.2.1");
	watch(&seen, "fds.test", 80, "");
	wait_for(seen.calls == 1);
	wait_for(resolver_totals(resolver).in_flight == 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	wait_for(stats(&seen).failures > 2);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(seen.calls, 1);
	dns_say(&dns, "answer fds.test A 0 192.0.2.2");
	wait_for(seen.calls == 2);
}

/* --- the rest -------------------------------------------------------------------------------------------------------------- */

static void test_localhost_needs_no_server(void **state)
{
	(void)state;
	struct seen seen;
	struct resolver_settings settings = quick();
	settings.servers = "127.0.0.1:1";
	begin(&settings);
	watch(&seen, "localhost", 80, "");
	wait_for(seen.calls == 1);
	assert_non_null(strstr(list(seen.addrs, seen.n), "127.0.0.1:80"));
	assert_int_equal(stats(&seen).failures, 0);
}

static void test_a_second_server_answers(void **state)
{
	(void)state;
	struct seen seen;
	char servers[128];
	struct resolver_settings settings = quick();
	snprintf(servers, sizeof servers, "127.0.0.1:1,%s", settings.servers);
	settings.servers = servers;
	begin(&settings);
	memset(servers, 'x', sizeof servers); /* the resolver has its own */
	dns_say(&dns, "answer second-server.test A 9 192.0.2.1");
	watch(&seen, "second-server.test", 80, "");
	wait_for(seen.calls == 1);
	assert_int_equal(stats(&seen).failures, 0);
}

static void test_refuses_what_is_none(void **state)
{
	(void)state;
	struct seen seen;
	struct watch *none;
	char name[HOST_NAME_SIZE + 1];
	struct resolver *other = NULL;
	struct resolver_settings settings = quick();
	memset(name, 'a', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	assert_int_equal(resolver_watch(resolver, &seen, "", 1, NULL, 0, &none), -EINVAL);
	assert_int_equal(resolver_watch(resolver, &seen, name, 1, NULL, 0, &none), -EINVAL);
	settings.servers = "no address";
	assert_int_equal(resolver_new(loop, &settings, on_changed, &other), -EINVAL);
	settings.way = RESOLVER_CHILD;
	assert_int_equal(resolver_new(loop, &settings, on_changed, &other), -ENOTSUP);
	assert_null(other);
	resolver_free(NULL);
	/* What c-ares finds out by itself: it is no name. */
	memset(name, 'a', 100);
	name[100] = '\0';
	watch(&seen, name, 80, "192.0.2.1:80");
	wait_for(stats(&seen).bad_in_a_row > 1);
	assert_int_equal(seen.calls, 0);
}

#define with_quick(test) cmocka_unit_test_setup_teardown(test, set_up_quick, tear_down)
#define with_hasty(test) cmocka_unit_test_setup_teardown(test, set_up_hasty, tear_down)
#define with_own(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_quick(test_tells_both_families_in_order),
		with_quick(test_rotation_is_no_change),
		with_quick(test_change_is_seen_when_the_ttl_is_over),
		with_own(test_ttl_is_bounded),
		with_quick(test_aliases_are_followed),
		with_quick(test_long_answer_comes_over_tcp),
		with_quick(test_only_addresses_that_a_server_can_have),
		with_own(test_asks_for_the_wanted_families_only),
		with_own(test_asks_for_the_families_that_are_known),
		with_quick(test_a_name_is_asked_for_once),
		with_quick(test_a_later_watch_is_told_what_is_true),
		with_hasty(test_forgotten_during_a_question),
		with_hasty(test_forgotten_before_its_turn),
		with_own(test_a_callback_may_forget_and_watch),
		with_hasty(test_freed_during_a_question),
		with_quick(test_many_names_on_one_loop),
		with_hasty(test_bad_answers_drop_nothing),
		with_quick(test_empty_answer_drops_nothing),
		with_quick(test_server_killed_and_back),
		with_hasty(test_each_family_is_kept_for_itself),
		with_quick(test_family_that_was_never_known_may_fail),
		with_own(test_backs_off),
		with_quick(test_says_so_at_a_bounded_rate),
		with_quick(test_out_of_descriptors),
		with_own(test_localhost_needs_no_server),
		with_own(test_a_second_server_answers),
		with_quick(test_refuses_what_is_none),
	};
	if (!resolver_cares_version()) {
		puts("skipped: built without c-ares");
		return 77;
	}
	if (log_open("stderr", LOG_LEVEL_ERROR, LOG_FORMAT_TEXT))
		return EXIT_FAILURE;
	dns_start(&dns, "127.0.0.1", 0);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	dns_stop(&dns);
	return failed;
}
