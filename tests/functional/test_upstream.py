"""The choice of a server: exact sequences, who may be asked at all, and what happens when one does not answer."""
import collections
import re
import socket
import threading

import aegis
from aegis import Case, Echo, dial, echo, free_address, how_it_ends, receive_line, wait_until


class Servers(Case):
    def servers(self, names, **options):
        """An echo server for each letter, which says its name first."""
        self.echoes = {name: Echo(self, banner=name.encode() + b"\n") for name in names}
        return [{"name": name, "address": server.address, **options.get(name, {})} for name, server in self.echoes.items()]

    def dead(self, name, **options):
        return {"name": name, "address": free_address(), **options}

    def ask(self, address):
        """Which server answers? Who sees the end finds his place free."""
        with dial(address) as sock:
            name = receive_line(sock).strip()
            echo(sock)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        return name

    def sequence(self, address, count):
        return "".join(self.ask(address) for _ in range(count))


class RoundRobin(Servers):
    def test_weights_smooth(self):
        """5, 1, 1: a a b a c a a, over and over."""
        rows = self.servers("abc", a={"weight": 5}, b={"weight": 1}, c={"weight": 1})
        proxy, address = self.proxy(rows, workers=1)
        self.assertEqual(self.sequence(address, 28), "aabacaa" * 4)
        self.assertEqual([proxy.server(name)["total"] for name in "abc"], [20, 4, 4])
        self.assertEqual([proxy.server(name)["weight"] for name in "abc"], [5, 1, 1])

    def test_equal_weights_evenly(self):
        """Ten servers, one worker: each gets every tenth connection. Three workers: still even, up to one turn of each worker."""
        rows = self.servers("abcdefghij")
        proxy, address = self.proxy(rows, workers=1)
        first = self.sequence(address, 10)
        self.assertEqual(sorted(first), sorted("abcdefghij"))
        self.assertEqual(self.sequence(address, 40), first * 4)
        proxy.stop()
        proxy, address = self.proxy(rows, workers=3)
        counts = collections.Counter(self.sequence(address, 300))
        self.assertEqual(sum(counts.values()), 300)
        self.assertLessEqual(max(counts.values()) - min(counts[name] for name in "abcdefghij"), 3, counts)

    def test_disabled_and_weight_0(self):
        rows = self.servers("abcd", b={"disabled": True}, c={"weight": 0})
        proxy, address = self.proxy(rows, workers=1)
        self.assertEqual(collections.Counter(self.sequence(address, 20)), {"a": 10, "d": 10})
        self.assertTrue(proxy.server("b")["disabled"])
        self.assertEqual((self.echoes["b"].accepted, self.echoes["c"].accepted), (0, 0))


class LeastConnections(Servers):
    def hold(self, address, count):
        socks = []
        for _ in range(count):
            sock = self.connect(address)
            socks.append((receive_line(sock).strip(), sock))
        return socks

    def test_over_all_workers(self):
        """Four workers see the same counts: 30 held connections are 10 for each of three servers, and a freed place is found."""
        proxy, address = self.proxy(self.servers("abc"), upstream={"balance": "least_connections"}, workers=4)
        held = self.hold(address, 30)
        self.assertEqual(collections.Counter(name for name, _ in held), {"a": 10, "b": 10, "c": 10})
        for name, sock in held:
            if name == "b":
                sock.close()
        proxy.wait_stat(lambda stat: [row["active"] for row in stat["upstreams"][0]["servers"]] == [10, 0, 10], "b to be free")
        self.assertEqual({name for name, _ in self.hold(address, 10)}, {"b"})

    def test_weights(self):
        proxy, address = self.proxy(self.servers("ab", a={"weight": 3}, b={"weight": 1}), upstream={"balance": "least_connections"}, workers=2)
        held = self.hold(address, 40)
        self.assertEqual(collections.Counter(name for name, _ in held), {"a": 30, "b": 10})
        self.assertEqual([proxy.server(name)["active"] for name in "ab"], [30, 10])

    def test_idle_servers_in_turn(self):
        """Ties do not all go to the first row: nine idle servers share 450 connections that come one after the other."""
        proxy, address = self.proxy(self.servers("abcdefghi"), upstream={"balance": "least_connections"}, workers=2)
        counts = collections.Counter()
        for _ in range(450):
            counts[self.ask(address)] += 1
        self.assertEqual(sum(counts.values()), 450)
        for name in "abcdefghi":
            self.assertTrue(40 <= counts[name] <= 60, counts)


class Failures(Servers):
    def test_backup(self):
        """A backup gets nothing while a primary answers, everything when none does."""
        rows = self.servers("abc", c={"backup": True})
        proxy, address = self.proxy(rows, workers=2, upstream={"retries": 2})
        self.assertEqual(set(self.sequence(address, 20)), {"a", "b"})
        proxy.wait_closes("finished", 20)
        self.echoes["a"].close()
        self.assertEqual(set(self.sequence(address, 10)), {"b"})
        proxy.wait_closes("finished", 30)
        self.echoes["b"].close()
        self.assertEqual(set(self.sequence(address, 10)), {"c"})
        self.assertEqual(proxy.server("c")["total"], 10)
        self.assertTrue(proxy.server("c")["backup"])
        proxy.wait_closes("finished", 40)

    def test_retry_on_another_server_first(self):
        """One refuses, two live, one retry: no client ever notices. Each failure is one retry."""
        rows = [self.dead("x", weight=10)] + [{**row, "weight": 1} for row in self.servers("ab")]
        for balance in ("round_robin", "least_connections"):
            with self.subTest(balance=balance):
                proxy, address = self.proxy(rows, workers=2, upstream={"retries": 1, "balance": balance})
                self.assertLessEqual(set(self.sequence(address, 60)), {"a", "b"})
                failures = proxy.server("x")["failures"]
                self.assertGreaterEqual(failures, 10)
                self.assertEqual(proxy.listener()["retries"], failures)
                self.assertEqual(proxy.server("x")["total"], 0)
                proxy.wait_closes("finished", 60)
                proxy.stop()

    def test_several_dead(self):
        """Three of four refuse; three retries find the fourth each time, and without a retry most clients do not."""
        rows = [self.dead("x"), self.dead("y"), self.dead("z")] + self.servers("a")
        proxy, address = self.proxy(rows, workers=1, upstream={"retries": 3})
        self.assertEqual(self.sequence(address, 20), "a" * 20)
        rows_failures = sum(proxy.server(name)["failures"] for name in "xyz")
        self.assertEqual(proxy.listener()["retries"], rows_failures)
        proxy.stop()
        proxy, address = self.proxy(rows, workers=1, upstream={"retries": 0})
        ends = []
        for _ in range(8):
            with dial(address) as sock:
                ends.append(how_it_ends_after_banner(sock))
        self.assertEqual(ends.count("a"), 2, ends)
        proxy.wait_closes("connect_refused", 6)
        self.assertEqual(proxy.listener()["retries"], 0)

    def test_all_down(self):
        """The client is closed at once, for a reason; when a server comes back it is used again."""
        row = self.dead("x")
        proxy, address = self.proxy([row], upstream={"retries": 2})
        for count in (1, 2, 3):
            with dial(address) as sock:
                self.assertEqual(how_it_ends(sock)[1], b"")
            proxy.wait_closes("connect_refused", count)
        self.assertEqual(proxy.listener()["errors"], 3)
        self.assertEqual(proxy.listener()["retries"], 6)
        self.assertEqual(proxy.server("x")["failures"], 9)
        Echo(self, banner=b"x\n", address=row["address"])
        self.assertEqual(self.ask(address), "x")

    def test_unix_server_that_is_not_there(self):
        server = Echo(self, banner=b"a\n", address=f"unix:{self.directory}/there.sock")
        rows = [{"name": "gone", "address": f"unix:{self.directory}/gone.sock"}, {"name": "a", "address": server.address}]
        proxy, address = self.proxy(rows, workers=1)
        self.assertEqual(self.sequence(address, 10), "a" * 10)
        self.assertGreaterEqual(proxy.server("gone")["failures"], 4)

    def test_no_usable_server(self):
        """Where none could ever be used the settings are wrong; where the only one is not to be used now, clients are closed at once."""
        rows = self.servers("ab", a={"disabled": True}, b={"weight": 0})
        self.must_fail(aegis.app(rows), 1, says=["upstreams[0].servers: all are disabled or have weight 0"])
        dead = self.dead("x")
        breaker = {"error_threshold": 1, "timeout": "1h", "probes": 1}
        proxy, address = self.proxy([dead, *rows], upstream={"circuit_breaker": breaker, "retries": 0})
        for reason in ("connect_refused", "no_server"):
            with dial(address) as sock:
                self.assertEqual(how_it_ends(sock)[1], b"")
            proxy.wait_closes(reason)
        self.assertEqual(proxy.server("x")["failures"], 1)
        self.assertEqual((self.echoes["a"].accepted, self.echoes["b"].accepted), (0, 0))

    def test_server_flaps_under_load(self):
        """A server that comes and goes while clients connect: no client fails, and no count is left over."""
        rows = self.servers("ab")
        flapping = free_address()
        proxy, address = self.proxy([*rows, {"name": "f", "address": flapping}], upstream={"balance": "least_connections", "retries": 2})
        done, failures = threading.Event(), []

        def clients():
            while not done.is_set():
                # The flapping server resets what it has when it goes away: that is not a failed connect, so only the first line counts.
                sock = dial(address)
                try:
                    receive_line(sock)
                except (OSError, AssertionError) as error:
                    failures.append(repr(error))
                sock.close()

        task = aegis.Task(clients)
        for _ in range(10):
            before = proxy.server("f")["total"]
            server = Echo(self, banner=b"f\n", address=flapping)
            wait_until(lambda: proxy.server("f")["total"] > before, "the server to be used")
            server.close()
            before = proxy.listener()["total"]
            wait_until(lambda: proxy.listener()["total"] > before + 20, "clients to go on")
        done.set()
        task.result()
        # A connection that the kernel of the flapping server had accepted when it went away was reset afterwards: at most one each time.
        self.assertLessEqual(len(failures), 10, failures)
        self.assertEqual(proxy.listener()["closes"]["connect_refused"], 0)
        self.assertEqual(proxy.listener()["closes"]["no_server"], 0)


def how_it_ends_after_banner(sock):
    """The name of the server, or how the connection ended without one."""
    try:
        return receive_line(sock).strip()
    except (ConnectionResetError, AssertionError):
        return "closed"


class Start(Servers):
    def test_start_test_fail(self):
        dead = self.dead("x")
        text = self.must_fail(aegis.app([dead], upstream={"start_test": "fail"}), 2, says=[dead["address"]])
        self.assertRegex(text, r"(?i)refused|cannot|reach")

    def test_start_test_fail_with_a_server_that_answers(self):
        proxy, address = self.proxy(self.servers("a"), upstream={"start_test": "fail"})
        self.assertEqual(self.ask(address), "a")
        proxy.stop()

    def test_start_test_warn_and_off(self):
        for mode, warned in (("warn", True), ("off", False)):
            dead = self.dead("x")
            proxy, address = self.proxy([dead, *self.servers("a")], upstream={"start_test": mode})
            lines = [line for line in proxy.log().splitlines() if dead["address"] in line and re.search("refused|cannot|reach", line)]
            self.assertEqual(bool(lines), warned, proxy.log())
            self.assertEqual(self.sequence(address, 4), "aaaa")
            proxy.stop()

    def test_unresolvable_name(self):
        settings = aegis.app([{"name": "x", "address": "no-such-host.invalid:80"}])
        text = self.must_fail(settings, 1, says=["no-such-host.invalid"])
        self.assertRegex(text, r"bad\.conf:\d+: ")


if __name__ == "__main__":
    aegis.main()
