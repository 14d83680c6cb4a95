"""The shield: what a bad server, a full one, or one that recovers does to the clients of the others."""
import collections
import contextlib
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time

import aegis
import secure
from aegis import OWN_ADDRESS, SLOW, Case, Echo, Task, dial, echo, free_address, how_it_ends, parse, receive, receive_line, reset, wait_until

BREAKER = {"error_threshold": 3, "timeout": "1h", "probes": 3}


def loopback(index):
    """Many client addresses, far apart from each other."""
    return f"127.{1 + index % 250}.{index // 250 % 250}.{1 + index * 7 % 250}"


class Counted(Echo):
    """Knows how many connections were established at one time at most, as its kernel sees it: one whose end has come does not count. Beyond
    `most` it looks twice: neither does one whose other end has closed, and whose FIN is in some queue of the kernel yet."""

    ESTABLISHED = 1
    most = 1000

    def _accept(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                self.accepted += 1
                self.open += 1
                self._owed[sock] = bytearray()
                self._selector.register(sock, selectors.EVENT_READ)
                if self.open > self.peak:
                    self.peak = max(self.peak, self._count())
                with contextlib.suppress(OSError):
                    sock.send(self.banner)

    def _count(self):
        established = [sock for sock in self._owed if self._is_established(sock)]
        if len(established) <= self.most:
            return len(established)
        open_ends = set()
        with open("/proc/net/tcp") as table:
            for line in table.readlines()[1:]:
                _, local, remote, state, *_ = line.split()
                if int(state, 16) == self.ESTABLISHED:
                    open_ends.add((local, remote))
        return sum(self._ends(sock) in open_ends for sock in established)

    def _ends(self, sock):
        try:
            return self._form(sock.getpeername()), self._form(sock.getsockname())
        except OSError:  # reset meanwhile
            return None

    @staticmethod
    def _form(name):
        return f"{int.from_bytes(socket.inet_aton(name[0]), sys.byteorder):08X}:{name[1]:04X}"

    def _is_established(self, sock):
        return struct.unpack("B", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0] == self.ESTABLISHED


class Crowd:
    """Many clients at the same moment, in one thread. Each gets the server's banner, or its connection ends, or neither."""

    def __init__(self, test, address, count):
        self.selector, self.banners, self.ended = selectors.DefaultSelector(), {}, 0
        test.addCleanup(self.close)
        for sock in self.with_tls(address, count) if secure.CLIENTS else self.at_once(address, count):
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ)

    def at_once(self, address, count):
        family, name = parse(address)
        socks = [socket.socket(family, socket.SOCK_STREAM) for _ in range(count)]
        for sock in socks:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(name)
        return socks

    def with_tls(self, address, count):
        tasks = [Task(lambda: [dial(address) for _ in range(count // 20)]) for _ in range(20)]
        return [sock for task in tasks for sock in task.result()]

    def listen(self, enough, what, seconds=15.0):
        """Until enough(self)."""
        end = time.monotonic() + seconds * SLOW
        while not enough(self):
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds * SLOW:.0f} s: {what}; {self.names()}, {self.ended} ended")
            for key, _ in self.selector.select(0.02):
                try:
                    data = key.fileobj.recv(4096)
                except OSError:
                    data = b""
                if data:
                    self.banners[key.fileobj] = data.decode().strip()
                else:
                    self.ended += 1
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()
                    self.banners.pop(key.fileobj, None)

    def answered(self):
        return len(self.banners) + self.ended

    def names(self):
        return collections.Counter(self.banners.values())

    def close(self):
        if self.selector.get_map() is None:
            return
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


class Shield(Case):
    def servers(self, names, **options):
        """An echo server for each letter, which says its name first."""
        self.echoes = {name: Counted(self, banner=name.encode() + b"\n") for name in names}
        for name, row in options.items():
            self.echoes[name].most = row.get("max_connections", Counted.most)
        return [{"name": name, "address": server.address, **options.get(name, {})} for name, server in self.echoes.items()]

    def dead(self, name, **options):
        return {"name": name, "address": free_address(), **options}

    def ask(self, address, source="127.0.0.1"):
        """Which server answers?"""
        with dial(address, source=source) as sock:
            name = receive_line(sock).strip()
            echo(sock)
        return name

    def ask_many(self, address, count):
        return collections.Counter(self.ask(address) for _ in range(count))

    def failures(self, proxy, name):
        return proxy.server(name)["failures"]

    def kill_worker(self, proxy, index=0):
        restarts = proxy.stat()["worker_restarts"]
        proxy.lost, proxy.restarts = True, restarts + 1
        os.kill(proxy.workers()[index]["pid"], signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == restarts + 1 and all(row["state"] == "running" for row in stat["workers"]),
                        "a new worker")


class Killed(Shield):
    deadline = 120.0

    def test_server_killed_under_load(self):
        """A server refuses all of a sudden: with retries no client notices. It gets nothing but probes until it is back, and then its share."""
        rows = self.servers("ab")
        dying = Counted(self, banner=b"d\n", address=free_address())
        rows.append({"name": "d", "address": dying.address})
        proxy, address = self.proxy(rows, workers=4, upstream={"retries": 2, "circuit_breaker": {**BREAKER, "timeout": "500ms"}})
        done, seen, failures = threading.Event(), collections.Counter(), []

        def clients():
            while not done.is_set():
                sock = dial(address)
                try:
                    name = receive_line(sock).strip()
                    seen[name] += 1
                except (OSError, AssertionError) as error:
                    failures.append(repr(error))
                sock.close()

        tasks = [Task(clients) for _ in range(3)]
        wait_until(lambda: seen["d"] > 50, "the server to be used")
        dying.close()
        before = seen["a"]
        wait_until(lambda: seen["a"] > before + 300, "the clients to go on")
        # What its kernel had accepted for it when it went away was reset: no more than clients at a time.
        self.assertLessEqual(len(failures), len(tasks), failures)
        # They, too, may have been what opened the breaker: then the first connect that fails is a probe.
        started = time.monotonic()
        failed = wait_until(lambda: self.failures(proxy, "d"), "a connect to fail")
        before = seen["a"]
        wait_until(lambda: seen["a"] > before + 300, "the clients to go on")
        more = self.failures(proxy, "d") - failed
        rounds = int((time.monotonic() - started) / 0.5) + 2
        self.assertLessEqual(more, max(60, rounds * BREAKER["probes"]), "a dead server gets no more than probes")
        seen["d"] = 0
        back = Counted(self, banner=b"d\n", address=dying.address)
        wait_until(lambda: seen["d"] > 50, "the server to be used again")
        done.set()
        for task in tasks:
            task.result()
        self.assertLessEqual(len(failures), len(tasks), failures)
        self.assertGreater(back.accepted, 50)
        closes = proxy.listener()["closes"]
        self.assertEqual((closes["connect_refused"], closes["no_server"], closes["servers_full"]), (0, 0, 0))


class Breaker(Shield):
    def test_opens_in_every_worker(self):
        """The third failure is the last one, whichever workers had them, and a reload or a killed worker changes nothing."""
        rows = [self.dead("x"), *self.servers("a")]
        proxy, address = self.proxy(rows, workers=4, upstream={"retries": 1, "circuit_breaker": BREAKER})
        self.assertEqual(self.ask_many(address, 100), {"a": 100})
        self.assertEqual(self.failures(proxy, "x"), 3)
        proxy.must_reload()
        self.assertEqual(self.ask_many(address, 50), {"a": 50})
        self.kill_worker(proxy, 2)
        self.assertEqual(self.ask_many(address, 50), {"a": 50})
        self.assertEqual(self.failures(proxy, "x"), 3)
        self.assertEqual(proxy.listener()["retries"], 3)

    def test_reset_before_the_first_byte(self):
        """A server that takes connections only to reset them is left out like one that refuses; one that closes is not."""
        def resets(sock):
            reset(sock)
        bad = aegis.Backend(self, resets)
        rows = [{"name": "x", "address": bad.address}, *self.servers("a")]
        proxy, address = self.proxy(rows, workers=2, upstream={"circuit_breaker": BREAKER})
        ends = collections.Counter()
        for _ in range(40):
            with dial(address) as sock:
                ends[self.first_line(sock)] += 1
        # One that is reset before the connect is known to have succeeded is tried again elsewhere.
        self.assertLessEqual(ends["none"], 3)
        self.assertEqual(ends["a"] + ends["none"], 40)
        self.assertEqual(bad.accepted, 3)
        proxy.stop()

        good = aegis.Backend(self, lambda sock: None)
        proxy, address = self.proxy([{"name": "y", "address": good.address}], workers=2, upstream={"circuit_breaker": BREAKER})
        for _ in range(20):
            with dial(address) as sock:
                self.assertEqual(how_it_ends(sock), ("eof", b""))

    def first_line(self, sock):
        try:
            return receive_line(sock).strip()
        except (ConnectionResetError, AssertionError):
            return "none"

    def test_all_open(self):
        """refuse: clients are closed at once; any: the servers are tried nevertheless."""
        for mode, reason, more in (("refuse", "no_server", 0), ("any", "connect_refused", 10)):
            with self.subTest(mode=mode):
                proxy, address = self.proxy(self.dead("x"), workers=2,
                                            upstream={"retries": 0, "circuit_breaker": BREAKER, "when_all_down": mode})
                for _ in range(13):
                    with dial(address) as sock:
                        self.assertEqual(how_it_ends(sock)[1], b"")
                proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all to be closed")
                self.assertEqual(self.failures(proxy, "x"), 3 + more)
                self.assertEqual(proxy.listener()["closes"][reason], 10 + (3 if reason == "connect_refused" else 0))
                proxy.stop()

    def test_half_open(self):
        """300 clients at once after the timeout, four workers: the server sees exactly `probes`; they succeed, and it gets others again."""
        for clients in (300, 300, 100, 100, 40, 40):
            if self.half_open_round(clients):
                return
        self.fail("the machine is too slow: probes were good before all clients had come")

    def half_open_round(self, clients):
        row = self.dead("x")
        rows = [row, *self.servers("a")]
        breaker = {**BREAKER, "error_threshold": 1, "timeout": "2s"}
        proxy, address = self.proxy(rows, workers=4, upstream={"retries": 1, "circuit_breaker": breaker})
        wait_until(lambda: self.ask(address) == "a" and self.failures(proxy, "x") == 1, "the breaker to open")
        silent = Echo(self, address=row["address"])
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 2.1, "the breaker's timeout")
        self.assertEqual(silent.accepted, 0)
        begun = time.monotonic()
        crowd = Crowd(self, address, clients)
        crowd.listen(lambda crowd: len(crowd.banners) >= clients - 3, "all answers of the other server but three")
        in_time = time.monotonic() - begun < 0.9
        if in_time:
            self.assertEqual((crowd.names(), crowd.ended), ({"a": clients - 3}, 0))
            self.assertEqual(silent.accepted, 3)
            # A connection that stands for a second is a good one, though the server has nothing to say.
            wait_until(lambda: self.ask_either(address) == "x", "the breaker to close")
            self.assertEqual(self.failures(proxy, "x"), 1)
        crowd.close()
        proxy.stop()
        silent.close()
        return in_time

    def ask_either(self, address):
        with dial(address) as sock:
            sock.sendall(b"hello\n")
            line = receive_line(sock).strip()
        return "x" if line == "hello" else line

    def test_probes_that_fail(self):
        """A round of one probe after each timeout, no more."""
        rows = [self.dead("x"), *self.servers("a")]
        breaker = {"error_threshold": 1, "timeout": "300ms", "probes": 3}
        proxy, address = self.proxy(rows, workers=4, upstream={"retries": 1, "circuit_breaker": breaker})
        started = time.monotonic()
        while time.monotonic() - started < 2:
            self.assertEqual(self.ask(address), "a")
        lasted = time.monotonic() - started
        # One connection at a time: the first probe of a round fails before there is another.
        self.assertIn(self.failures(proxy, "x"), range(2, int(lasted / 0.3) + 2))


class Down(Shield):
    """Two servers, each with a port that says how it is."""

    def servers_with_health(self):
        self.health, rows = {}, []
        port = int(free_address().rpartition(":")[2])
        for name, host in (("a", OWN_ADDRESS[:-1] + "1"), ("b", OWN_ADDRESS[:-1] + "2")):
            server = Counted(self, banner=name.encode() + b"\n", address=f"{host}:0")
            self.health[name] = Echo(self, address=f"{host}:{port}")
            rows.append({"name": name, "address": server.address})
        return rows, {"type": "tcp", "port": port, "interval": "100ms", "fast_interval": "50ms", "rise": 1, "fall": 1}

    def hold(self, address, count):
        held = {"a": [], "b": []}
        for _ in range(count):
            sock = self.connect(address)
            held[receive_line(sock).strip()].append(sock)
        return held

    def test_close(self):
        """A server goes down: its clients are cut off, those of draining workers too; the others' go on. It gets no new one until it is up."""
        rows, health = self.servers_with_health()
        proxy, address = self.proxy(rows, workers=2, upstream={"health": health, "on_down": "close"}, drain={"timeout": "1h"})
        old = self.hold(address, 12)
        proxy.must_reload()
        new = self.hold(address, 12)
        self.health["a"].close()
        for sock in old["a"] + new["a"]:
            self.assertEqual(how_it_ends(sock), ("reset", b""))
        for sock in old["b"] + new["b"]:
            echo(sock)
        proxy.wait_closes("server_down", 12)
        self.assertEqual(self.ask_many(address, 20), {"b": 20})
        self.health["a"] = Echo(self, address=self.health["a"].address)
        wait_until(lambda: self.ask(address) == "a", "the server to be used again")
        for sock in old["b"] + new["b"]:
            echo(sock)
            sock.close()

    def test_keep(self):
        rows, health = self.servers_with_health()
        proxy, address = self.proxy(rows, workers=2, upstream={"health": health})
        held = self.hold(address, 12)
        self.health["a"].close()
        wait_until(lambda: self.ask_many(address, 12) == {"b": 12}, "the server to be left out")
        for sock in held["a"] + held["b"]:
            echo(sock)
            sock.close()

    def test_hot_connections(self):
        """on_down = "close": warm connections to a server that went down are closed, and dialled again when it is up."""
        rows, health = self.servers_with_health()
        proxy, address = self.proxy(rows, workers=1, upstream={"health": health, "on_down": "close", "pool": {"warm": 3}})

        def hot(stat):
            return [row["hot"] for row in stat["upstreams"][0]["servers"]]
        proxy.wait_stat(lambda stat: hot(stat) == [3, 3], "warm connections")
        self.health["b"].close()
        proxy.wait_stat(lambda stat: hot(stat) == [3, 0], "those of the server that is down to be closed")
        self.assertEqual(self.ask_many(address, 10), {"a": 10})
        self.health["b"] = Echo(self, address=self.health["b"].address)
        proxy.wait_stat(lambda stat: hot(stat) == [3, 3], "warm connections again")


class Outlier(Shield):
    def test_max_percent(self):
        """Of two bad servers among four a quarter may be out: one is, the other goes on failing; with a half both are."""
        for percent, ejected in ((25, 1), (50, 2), (10, 0)):
            with self.subTest(percent=percent):
                rows = [self.dead("x"), self.dead("y"), *self.servers("ab")]
                outlier = {"failures": 2, "ejection": "1h", "max_percent": percent}
                proxy, address = self.proxy(rows, workers=3, upstream={"retries": 3, "outlier": outlier})
                for _ in range(2):
                    self.assertLessEqual(set(self.ask_many(address, 40)), {"a", "b"})
                failures = sorted(self.failures(proxy, name) for name in "xy")
                self.assertEqual([count == 2 for count in failures].count(True), ejected, failures)
                proxy.must_reload()
                self.assertLessEqual(set(self.ask_many(address, 40)), {"a", "b"})
                after = sorted(self.failures(proxy, name) for name in "xy")
                self.assertEqual(after[:ejected], [2] * ejected)
                self.assertTrue(all(late > early for late, early in zip(after[ejected:], failures[ejected:])), (failures, after))
                proxy.stop()

    def test_comes_back(self):
        row = self.dead("x")
        rows = [row, *self.servers("a")]
        outlier = {"failures": 1, "ejection": "1s", "max_percent": 50}
        proxy, address = self.proxy(rows, workers=3, upstream={"retries": 1, "outlier": outlier})
        self.assertEqual(self.ask_many(address, 12), {"a": 12})
        Echo(self, banner=b"x\n", address=row["address"])
        wait_until(lambda: self.ask(address) == "x", "the server to be back")
        seen = self.ask_many(address, 60)
        self.assertGreaterEqual(seen["x"], 25, seen)


class SlowStart(Shield):
    def test_share_grows(self):
        """Weights of 1: a server that recovered has about a tenth of the other's share first, and all of its own in the end."""
        row = self.dead("x", weight=1)
        rows = [row, *self.servers("a", a={"weight": 1})]
        breaker = {"error_threshold": 1, "timeout": "1s", "probes": 1}
        proxy, address = self.proxy(rows, workers=2, upstream={"retries": 1, "circuit_breaker": breaker, "slow_start": "10s"})
        wait_until(lambda: self.ask(address) == "a" and self.failures(proxy, "x") == 1, "the breaker to open")
        Echo(self, banner=b"x\n", address=row["address"])
        wait_until(lambda: self.ask(address) == "x", "the server to be back")
        recovered = time.monotonic()
        seen = self.ask_many(address, 44)
        if time.monotonic() - recovered < 0.9:
            self.assertIn(seen["x"], range(2, 9), seen)  # 44 / 11 of two workers
        wait_until(lambda: self.ask_many(address, 40)["x"] >= 18, "the full share", 20)
        self.assertGreaterEqual(time.monotonic() - recovered, 5)


class Limits(Shield):
    deadline = 180.0

    def check_full(self, proxy, crowd, server, most):
        crowd.listen(lambda crowd: crowd.answered() == 500, "an end for each client")
        self.assertEqual((len(crowd.banners), crowd.ended), (most, 500 - most))
        self.assertLessEqual(server.peak, most)
        self.assertEqual(server.open, most)

    def test_hard_limit(self):
        """500 clients at once, eight workers, room for 100: the server never sees 101. Ten times kill -9 on a worker, and the same again."""
        rows = self.servers("a", a={"max_connections": 100})
        server = self.echoes["a"]
        proxy, address = self.proxy(rows, workers=8)
        crowd = Crowd(self, address, 500)
        self.check_full(proxy, crowd, server, 100)
        self.assertEqual(server.peak, 100)
        proxy.wait_closes("servers_full", 400)
        for number in range(10):
            victim = max(proxy.workers(), key=lambda worker: worker["connections"])["slot"]
            self.kill_worker(proxy, victim)
            crowd.close()
            crowd = Crowd(self, address, 500)
            crowd.listen(lambda crowd: crowd.answered() == 500, "an end for each client")
            self.assertGreater(len(crowd.banners), 0)
            self.assertLessEqual(server.peak, 100)
            proxy.wait_stat(lambda stat: stat["upstreams"][0]["servers"][0]["active"] == len(crowd.banners), "the count to be right")
        crowd.close()
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all places to be free")
        crowd = Crowd(self, address, 500)
        self.check_full(proxy, crowd, server, 100)
        crowd.close()

    def test_churn_on_a_full_server(self):
        """Places that come free are taken at once by others, whether clients close or reset, and still the server never sees more."""
        rows = self.servers("a", a={"max_connections": 10})
        proxy, address = self.proxy(rows, workers=4)
        seen = collections.Counter()

        def clients(end):
            for _ in range(200):
                sock = dial(address)
                try:
                    seen[receive_line(sock).strip()] += 1
                except (ConnectionResetError, AssertionError):
                    seen["full"] += 1
                end(sock)

        for task in [Task(clients, end) for end in 10 * [socket.socket.close, reset]]:
            task.result()
        self.assertGreater(seen["a"], 100, seen)
        self.assertLessEqual(self.echoes["a"].peak, 10)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all places to be free")

    def test_kept_connections_count(self):
        """Connections that are kept, and those left to all workers, are within the limit: clients get them, or one of them makes way."""
        rows = self.servers("a", a={"max_connections": 10})
        server = self.echoes["a"]
        server.banner = b""
        pool = {"keep": 8, "framing": "line", "share": True, "warm": 1}
        proxy, address = self.proxy(rows, workers=4, upstream={"pool": pool})
        seen = collections.Counter()

        def clients(index):
            for turn in range(150):
                with dial(address) as sock:
                    try:
                        sock.sendall(b"PING\n" if turn % 3 else b"not finished")
                        seen[receive(sock, 5)] += 1
                    except (OSError, AssertionError):
                        seen["full"] += 1
                if turn == 75 and index == 0:
                    self.kill_worker(proxy, 1)

        for task in [Task(clients, index) for index in range(16)]:
            task.result()
        self.assertGreater(seen[b"PING\n"], 100, seen)
        self.assertLessEqual(server.peak, 10)
        row = proxy.server("a")
        self.assertGreater(row["pool"]["hits"], 50)
        wait_until(lambda: proxy.server("a")["active"] == 0, "no connection to be used")
        wait_until(lambda: proxy.server("a")["hot"] == server.open, "what is kept to be what the server has")

    def test_others_are_used(self):
        rows = self.servers("abc", a={"max_connections": 3}, b={"soft_limit": 5})
        for balance in ("round_robin", "least_connections", "p2c", "random", "consistent_hash"):
            with self.subTest(balance=balance):
                proxy, address = self.proxy(rows, workers=2, upstream={"balance": balance})
                socks = [dial(address, source=loopback(i)) for i in range(60)]
                names = collections.Counter(receive_line(sock).strip() for sock in socks)
                self.assertEqual(names, {"a": 3, "b": 5, "c": 52} if balance != "least_connections" else names)
                self.assertLessEqual((names["a"], names["b"]), (3, 5))
                for sock in socks:
                    sock.close()
                proxy.stop()

    def test_hot_connections_make_way(self):
        """Warm connections take all places of a server: clients get them, and fresh ones where they are used up."""
        rows = self.servers("a", a={"max_connections": 4})
        proxy, address = self.proxy(rows, workers=1, upstream={"pool": {"warm": 4}})
        proxy.wait_stat(lambda stat: stat["upstreams"][0]["servers"][0]["hot"] == 4, "warm connections")
        socks = [dial(address) for _ in range(4)]
        for sock in socks:
            self.assertEqual(receive_line(sock), "a\n")
        with dial(address) as sock:
            self.assertEqual(how_it_ends(sock)[1], b"")
        self.assertLessEqual(self.echoes["a"].peak, 4)
        for sock in socks:
            sock.close()
        proxy.wait_closes("servers_full", 1)


class Balance(Shield):
    def test_random(self):
        """By weight: 1000 connections, weights 1 and 3."""
        rows = self.servers("ab", a={"weight": 1}, b={"weight": 3})
        proxy, address = self.proxy(rows, workers=2, upstream={"balance": "random"})
        seen = self.ask_many(address, 1000)
        self.assertIn(seen["a"], range(180, 320), seen)  # five standard deviations

    def test_p2c(self):
        """Held connections are spread nearly evenly, and a server that is busier gets fewer."""
        proxy, address = self.proxy(self.servers("abcde"), workers=4, upstream={"balance": "p2c"})
        socks = [self.connect(address) for _ in range(200)]
        seen = collections.Counter(receive_line(sock).strip() for sock in socks)
        self.assertLessEqual(max(seen.values()) - min(seen.values()), 8, seen)

    def places(self, address, count=400):
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(dial(address, source=loopback(i))) for i in range(count)]
            return [receive_line(sock).strip() for sock in socks]

    def test_consistent_hash(self):
        """The same client, the same server: in every worker, after a reload, a restart. One of ten goes: hardly any of the others' clients move."""
        rows = self.servers("abcdefghij")
        proxy, address = self.proxy(rows, workers=4, upstream={"balance": "consistent_hash"})
        first = self.places(address)
        counts = collections.Counter(first)
        self.assertEqual(len(counts), 10)
        self.assertLessEqual(max(counts.values()), 80, counts)
        self.assertEqual(self.places(address), first)
        settings = proxy.settings
        fewer = {**settings, "upstreams": [{**settings["upstreams"][0], "servers": rows[:4] + rows[5:]}]}
        proxy.must_reload(fewer)
        second = self.places(address)
        moved = sum(now != then for now, then in zip(second, first))
        gone = counts["e"]
        self.assertNotIn("e", second)
        self.assertLessEqual(moved - gone, 0.02 * len(first), "clients of servers that stayed")
        self.assertLessEqual(moved, max(0.12 * len(first), gone + 0.02 * len(first)))
        proxy.must_reload({**settings, "workers": 2})
        self.assertEqual(self.places(address), first)
        proxy.stop()
        proxy, address = self.proxy(list(reversed(rows)), workers=3, upstream={"balance": "consistent_hash"})
        self.assertEqual(self.places(address), first)

    def test_consistent_hash_with_ports(self):
        rows = self.servers("abcd")
        proxy, address = self.proxy(rows, workers=2, upstream={"balance": "consistent_hash", "hash_key": "address_port"})
        self.assertEqual(len(self.ask_many(address, 100)), 4)

    def test_consistent_hash_when_its_server_is_gone(self):
        """Its clients go to others, spread out, and come back when it does; the others' stay where they are."""
        rows = self.servers("abcd")
        flapping = Counted(self, banner=b"e\n", address=free_address())
        rows.append({"name": "e", "address": flapping.address})
        breaker = {"error_threshold": 1, "timeout": "500ms", "probes": 1}
        proxy, address = self.proxy(rows, workers=2, upstream={"balance": "consistent_hash", "retries": 2, "circuit_breaker": breaker})
        first = self.places(address, 100)
        self.assertIn("e", first)
        flapping.close()
        second = self.places(address, 100)
        self.assertEqual([now for now, then in zip(second, first) if then != "e"], [then for then in first if then != "e"])
        self.assertGreater(len({now for now, then in zip(second, first) if then == "e"}), 1)
        Counted(self, banner=b"e\n", address=flapping.address)
        wait_until(lambda: self.places(address, 100) == first, "the clients to come back")


class Affinity(Shield):
    def places(self, address, count=60):
        return [self.ask(address, loopback(i)) for i in range(count)]

    def test_affinity(self):
        """A client stays with its server: over workers, a reload and a killed worker; when that one is gone it has another one for good."""
        rows = self.servers("abc")
        flapping = Counted(self, banner=b"f\n", address=free_address())
        rows.append({"name": "f", "address": flapping.address})
        proxy, address = self.proxy(rows, workers=4, upstream={"affinity": {"ttl": "1h"}, "retries": 2})
        first = self.places(address)
        self.assertEqual(len(set(first)), 4)
        for _ in range(2):
            self.assertEqual(self.places(address), first)
        proxy.must_reload()
        self.assertEqual(self.places(address), first)
        self.kill_worker(proxy, 1)
        self.assertEqual(self.places(address), first)
        flapping.close()
        second = self.places(address)
        self.assertNotIn("f", second)
        self.assertEqual([now for now, then in zip(second, first) if then != "f"], [then for then in first if then != "f"])
        back = Counted(self, banner=b"f\n", address=flapping.address)
        self.assertEqual(self.places(address), second)
        self.assertEqual(back.accepted, 0)

    def test_full_or_disabled(self):
        """Its server is full: the client has another one."""
        rows = self.servers("ab", a={"max_connections": 1}, b={"max_connections": 1})
        proxy, address = self.proxy(rows, workers=2, upstream={"affinity": {"ttl": "1h"}})
        with dial(address, source="127.7.7.7") as one, dial(address, source="127.7.7.7") as other:
            self.assertEqual({receive_line(sock).strip() for sock in (one, other)}, {"a", "b"})

    def test_it_ends(self):
        rows = self.servers("abcd")
        proxy, address = self.proxy(rows, workers=1, upstream={"affinity": {"ttl": "500ms"}})
        first = self.ask(address, "127.8.8.8")
        others = iter(range(100000))

        def is_forgotten():
            """Long enough after its last connection the client has its turn like any other."""
            started = time.monotonic()
            wait_until(lambda: time.monotonic() - started > 0.6, "the end of the ttl")
            self.ask(address, loopback(next(others)))
            return self.ask(address, "127.8.8.8") != first
        wait_until(is_forgotten, "another server")


if __name__ == "__main__":
    aegis.main()
