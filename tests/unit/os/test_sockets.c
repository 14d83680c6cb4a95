/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "os/sockets.h"
#include "scratch.h"

struct seen {
	size_t count;
	struct socket_owner last;
};

static bool on_socket(void *arg, const struct socket_owner *owner)
{
	struct seen *seen = arg;
	seen->count++;
	seen->last = *owner;
	return false;
}

static struct addr addr_of(const char *text)
{
	struct endpoint endpoint;
	const char *why;
	assert_int_equal(endpoint_parse(text, &endpoint, &why), 0);
	return endpoint.addr;
}

/* --- tables that were written down ------------------------------------------------------------------------------------------ */

#define TCP_HEAD "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
/* 127.0.0.1:8080 and 0.0.0.0:22 listen; a connection of 127.0.0.1:9090 */
static const char tcp[] = TCP_HEAD
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1 0000000000000000 100 0 0 10 0\n"
        "   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0000000000000000 100 0 0 10 0\n"
        "   2: 0100007F:2382 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0000000000000000 20 4 30 10 -1\n"
        "rubbish\n";
/* [::]:443 and [::1]:8080 listen */
static const char tcp6[] = TCP_HEAD "   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A "
                                    "00000000:00000000 00:00000000 00000000     0  "
                                    "      0 444 1 0000000000000000 100 0 0 10 0\n"
                                    "   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A "
                                    "00000000:00000000 00:00000000 00000000     5  "
                                    "      0 555 1 0000000000000000 100 0 0 10 0\n";
static const char unixes[] = "Num       RefCount Protocol Flags    Type St Inode Path\n"
                             "0000000000000000: 00000002 00000000 00010000 0001 01 666 /run/x.sock\n"
                             "0000000000000000: 00000003 00000000 00000000 0001 03 777 /run/y.sock\n"
                             "0000000000000000: 00000002 00000000 00010000 0001 01 888 @abstract\n"
                             "0000000000000000: 00000002 00000000 00010000 0001 01 999\n";

static void finds(const struct scratch *scratch, const char *address, bool both, size_t count, ino_t inode)
{
	struct seen seen = { 0 };
	struct addr addr = addr_of(address);
	assert_int_equal(sockets_listening(scratch->path, &addr, both, on_socket, &seen), 0);
	assert_int_equal(seen.count, count);
	if (count)
		assert_int_equal(seen.last.inode, inode);
}

static void it_finds_who_is_in_the_way(void **state)
{
	(void)state;
	struct scratch scratch;
	scratch_make(&scratch);
	scratch_write(&scratch, "proc/net/tcp", tcp);
	scratch_write(&scratch, "proc/net/tcp6", tcp6);
	scratch_write(&scratch, "proc/net/unix", unixes);
	/* the same address, all addresses, other addresses and ports */
	finds(&scratch, "127.0.0.1:8080", false, 1, 111);
	finds(&scratch, "0.0.0.0:8080", false, 1, 111);
	finds(&scratch, "127.0.0.2:8080", false, 0, 0);
	finds(&scratch, "127.0.0.1:8081", false, 0, 0);
	finds(&scratch, "10.0.0.1:22", false, 1, 222);
	/* who is connected does not listen */
	finds(&scratch, "127.0.0.1:9090", false, 0, 0);
	/* IPv6, and both at once */
	finds(&scratch, "[::1]:443", false, 1, 444);
	finds(&scratch, "[::1]:8080", false, 1, 555);
	finds(&scratch, "[::]:8080", false, 1, 555);
	finds(&scratch, "*:8080", true, 2, 555);
	finds(&scratch, "*:22", true, 1, 222);
	finds(&scratch, "[::]:22", false, 0, 0);
	/* unix sockets */
	finds(&scratch, "unix:/run/x.sock", false, 1, 666);
	finds(&scratch, "unix:/run/y.sock", false, 0, 0);
	finds(&scratch, "unix:/run/x", false, 0, 0);
	finds(&scratch, "unix:@abstract", false, 1, 888);
	scratch_remove(&scratch);
}

/* 127.0.0.1:53 and 0.0.0.0:68 are bound, 127.0.0.1:4000 is connected, too */
static const char udp[] =
        TCP_HEAD "   0: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 111 2 0000000000000000 0\n"
                 "   1: 0100007F:0FA0 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 222 2 0000000000000000 0\n"
                 "   2: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 333 2 0000000000000000 0\n";
static const char udp6[] = TCP_HEAD "   0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 "
                                    "00000000:00000000 00:00000000 00000000     0        0 444 2 0000000000000000 0\n";

static void finds_udp(const struct scratch *scratch, const char *address, bool both, size_t count, ino_t inode)
{
	struct seen seen = { 0 };
	struct addr addr = addr_of(address);
	assert_int_equal(sockets_bound_udp(scratch->path, &addr, both, on_socket, &seen), 0);
	assert_int_equal(seen.count, count);
	if (count)
		assert_int_equal(seen.last.inode, inode);
}

static void it_finds_who_has_a_udp_port(void **state)
{
	(void)state;
	struct scratch scratch;
	scratch_make(&scratch);
	scratch_write(&scratch, "proc/net/tcp", tcp);
	scratch_write(&scratch, "proc/net/udp", udp);
	scratch_write(&scratch, "proc/net/udp6", udp6);
	finds_udp(&scratch, "127.0.0.1:53", false, 1, 111);
	finds_udp(&scratch, "127.0.0.2:53", false, 0, 0);
	finds_udp(&scratch, "10.0.0.1:68", false, 1, 333);
	finds_udp(&scratch, "127.0.0.1:4000", false, 1, 222);
	finds_udp(&scratch, "[::1]:53", false, 1, 444);
	finds_udp(&scratch, "*:53", true, 2, 444);
	finds_udp(&scratch, "127.0.0.1:8080", false, 0, 0); /* who listens there has the port of TCP */
	finds(&scratch, "127.0.0.1:53", false, 0, 0);
	scratch_remove(&scratch);
}

static void without_tables_it_says_so(void **state)
{
	(void)state;
	struct scratch scratch;
	struct seen seen = { 0 };
	struct addr ip = addr_of("127.0.0.1:1"), path = addr_of("unix:/x");
	scratch_make(&scratch);
	assert_int_equal(sockets_listening(scratch.path, &ip, false, on_socket, &seen), -ENOENT);
	assert_int_equal(sockets_listening(scratch.path, &path, false, on_socket, &seen), -ENOENT);
	assert_int_equal(sockets_bound_udp(scratch.path, &ip, false, on_socket, &seen), -ENOENT);
	scratch_write(&scratch, "proc/net/tcp", tcp); /* a kernel without IPv6 */
	assert_int_equal(sockets_listening(scratch.path, &ip, false, on_socket, &seen), 0);
	assert_int_equal(seen.count, 0);
	scratch_remove(&scratch);
}

/* --- a socket of our own ---------------------------------------------------------------------------------------------------- */

static void it_finds_ourselves(void **state)
{
	(void)state;
	struct seen seen = { 0 };
	struct addr addr = addr_of("127.0.0.1:0");
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, &addr.sa, addr.length), 0);
	assert_int_equal(getsockname(fd, &addr.sa, &addr.length), 0);
	assert_int_equal(sockets_listening("", &addr, false, on_socket, &seen), 0);
	assert_int_equal(seen.count, 0); /* bound, and does not listen */
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(sockets_listening("", &addr, false, on_socket, &seen), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.uid, geteuid());
	assert_true(sockets_is_owned_by("", seen.last.inode, getpid()));
	assert_false(sockets_is_owned_by("", seen.last.inode + 1, getpid()));
	assert_false(sockets_is_owned_by("", seen.last.inode, 0x7ffffffe));
	assert_true(sockets_may_look("", getpid()));
	assert_false(sockets_may_look("", 0x7ffffffe));
	sockets_find_owner("", &seen.last);
	assert_int_equal(seen.last.pid, getpid());
	assert_true(strncmp(seen.last.name, "test_sockets", 12) == 0 || strstr(seen.last.name, "test_sock") != NULL);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_finds_who_is_in_the_way),
		cmocka_unit_test(it_finds_who_has_a_udp_port),
		cmocka_unit_test(without_tables_it_says_so),
		cmocka_unit_test(it_finds_ourselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
