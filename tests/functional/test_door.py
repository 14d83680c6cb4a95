"""Who comes in, and how fast they may be: access lists, rate limits, bandwidth, and the guard against slow clients.

"Not more than is allowed" is asked for firmly; "not much less" with room for a machine that has other things to do."""
import contextlib
import multiprocessing
import socket
import threading
import time
import unittest

import aegis
from aegis import KIB, Backend, Case, Demo, Echo, Pattern, Task, dial, echo, how_it_ends, receive, receive_line, wait_until

HELLO = b"hello\n"


def comes_in(sock):
    """Does this client get through to a server that says something, or is it turned away with a RST?"""
    try:
        return receive_line(sock) != ""
    except ConnectionResetError:
        return False


def asks(source, address):
    with dial(address, source=source) as sock:
        return comes_in(sock)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


class Lists(Case):
    def check(self, proxy, address, verdicts):
        denied = proxy.listener()["closes"]["denied"]
        for source, expected in verdicts.items():
            self.assertEqual(asks(source, address), expected, f"{source} is let in")
        proxy.wait_closes("denied", denied + list(verdicts.values()).count(False))

    def test_allow_and_deny(self):
        """The longest prefix decides; those who are refused get a RST and are counted as rejected, and no server hears of them."""
        server = Echo(self, HELLO)
        proxy, address = self.proxy(server.address, listener={"allow": ["127.0.0.0/8"], "deny": ["127.1.0.0/16", "127.2.3.4"]})
        self.check(proxy, address, {"127.0.0.1": True, "127.1.0.1": False, "127.1.255.254": False, "127.2.3.4": False, "127.2.3.5": True,
                                    "127.3.0.1": True})
        proxy.wait_closes("finished", 3)
        stat = proxy.stat()
        self.assertEqual((stat["connections"]["total"], stat["connections"]["rejected"]), (6, 3))
        self.assertEqual((server.accepted, server.resets), (3, 0))

    def test_only_who_is_allowed(self):
        """With allow alone nobody else comes in; with deny alone everybody else does."""
        server = Echo(self, HELLO)
        settings = aegis.app(server.address, {"allow": ["127.7.0.0/16"]})
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "app", "deny": ["127.7.0.0/16"]})
        proxy = self.aegis(settings)
        for source in ("127.0.0.1", "127.7.0.1", "127.7.9.9", "127.8.0.1"):
            inside = source.startswith("127.7.")
            self.assertEqual(asks(source, proxy.address()), inside)
            self.assertEqual(asks(source, proxy.address("other")), not inside)

    @unittest.skipUnless(has_ipv6(), "no IPv6 here")
    def test_ipv6(self):
        """IPv6 addresses are looked up as well."""
        server = Echo(self, HELLO)
        settings = aegis.app(server.address, {"address": "[::1]:0", "deny": ["::/64"], "allow": ["all", "::2"]})
        settings["listeners"].append({"name": "other", "address": "[::1]:0", "upstream": "app", "allow": ["::1"], "deny": ["::/64"]})
        proxy = self.aegis(settings)
        self.assertFalse(asks("::1", proxy.address()))
        self.assertTrue(asks("::1", proxy.address("other")))

    def test_five_thousand_entries(self):
        """As many as real lists have; each of them holds, and a reload changes them under connections that stay."""
        server = Echo(self, HELLO)

        def deny(second):
            return [f"127.{second}.{i // 250}.{i % 250}" for i in range(5000)]
        settings = aegis.app(server.address, {"deny": deny(5)})
        proxy = self.aegis(settings)
        address = proxy.address()
        self.check(proxy, address, {"127.5.0.0": False, "127.5.19.249": False, "127.5.10.100": False, "127.5.19.250": True, "127.6.0.0": True})
        held = self.connect(address, source="127.6.0.0")
        self.assertTrue(comes_in(held))
        settings["listeners"][0]["deny"] = deny(6)
        proxy.must_reload(settings)
        self.check(proxy, address, {"127.6.0.0": False, "127.6.19.249": False, "127.5.0.0": True, "127.5.10.100": True})
        echo(held)

    def test_refused_ones_take_no_place(self):
        """on_full = "wait" reserves the place before it accepts: who is refused then gives it back."""
        server = Echo(self, HELLO)
        proxy, address = self.proxy(server.address, listener={"deny": ["127.1.0.0/16"], "max_connections": 2, "on_full": "wait"},
                                    max_connections=3)
        for _ in range(20):
            self.assertFalse(asks("127.1.0.1", address))
        held = [self.connect(address) for _ in range(2)]
        for sock in held:
            self.assertTrue(comes_in(sock))
        proxy.wait_closes("denied", 20)
        self.assertEqual(proxy.stat()["connections"]["active"], 2)


# --- rate limits -----------------------------------------------------------------------------------------------------------


def flood(address, source, seconds, queue):
    """Connect as fast as it goes. Puts (when it began, when it ended, how many came in, when others were refused)."""
    came_in, refused = 0, []
    started = time.monotonic()
    while time.monotonic() < started + seconds:
        if asks(source, address):
            came_in += 1
        else:
            refused.append(time.monotonic())
    queue.put((started, time.monotonic(), came_in, refused))


class Rates(Case):
    deadline = 90.0

    def flood(self, address, seconds, sources=("127.0.0.1",) * 3):
        """A process for each source; returns (when the first began, when the last ended, how many came in, when others were refused)."""
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        processes = [context.Process(target=flood, args=(address, source, seconds, queue), daemon=True) for source in sources]
        for process in processes:
            process.start()
        results = [queue.get(timeout=(seconds + 30) * aegis.SLOW) for _ in processes]
        for process in processes:
            process.join()
        begins, ends, counts, refused = zip(*results)
        return min(begins), max(ends), sum(counts), sorted(moment for moments in refused for moment in moments)

    def test_exact_over_all_workers(self):
        """1000 a second and a burst of 100, four workers, five seconds of more than that: 5100 come in. Of a machine that is too busy for such
        a flood less is asked for."""
        server = Demo(self, "banner")
        self.assertTrue(any(self.exact_round(server["banner"], rate) for rate in (1000, 500, 250, 125)), "the flood was none")

    def exact_round(self, server, rate):
        """Whether there was a flood."""
        proxy, address = self.proxy(server, workers=4, listener={"rate_limit": {"connections_per_second": rate, "burst": rate // 10}})
        began, ended, came_in, refused = self.flood(address, 5)
        most = (ended - began) * rate + rate // 10 + 1
        # While nobody asks for longer than the burst lasts, what could have come in is lost.
        moments = [began, *refused, ended]
        lost = sum(max(0.0, later - earlier - 0.1) * rate for earlier, later in zip(moments, moments[1:]))
        self.assertLessEqual(came_in, most * 1.02)
        self.assertGreaterEqual(came_in, (most - 1 - lost) * 0.98)
        proxy.wait_closes("rate_limited", len(refused))
        self.assertEqual(proxy.stat()["connections"]["rejected"], len(refused))
        proxy.stop()
        return len(refused) > 100

    def test_kept_over_reloads(self):
        """What was used stays used over twenty reloads, whatever becomes of the servers in between."""
        server = Echo(self, HELLO)
        proxy, address = self.proxy(server.address, listener={"rate_limit": {"connections_per_second": 1, "burst": 300}})
        started = time.monotonic()
        came_in = 0
        while asks("127.0.0.1", address):
            came_in += 1
        self.assertGreaterEqual(came_in, 301)
        settings = proxy.settings
        for number in range(20):
            settings["upstreams"][0]["servers"] = [{"address": server.address if number % 2 else aegis.free_address()}]
            proxy.must_reload(settings)
            came_in += asks("127.0.0.1", address) if number % 2 else 0
        while asks("127.0.0.1", address):
            came_in += 1
        self.assertLessEqual(came_in, 301 + time.monotonic() - started)

    def test_each_address(self):
        """Addresses do not disturb each other, and another listener has limits of its own."""
        server = Echo(self, HELLO)
        limit = {"rate_limit": {"connections_per_second": 1, "burst": 4, "per": "address"}}
        settings = aegis.app(server.address, limit)
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "app", **limit})
        proxy = self.aegis(settings)
        for listener in ("app", "other"):
            address = proxy.address(listener)
            for host in range(1, 6):
                started = time.monotonic()
                came_in = sum(asks(f"127.1.0.{host}", address) for _ in range(30))
                self.assertGreaterEqual(came_in, 5)
                self.assertLessEqual(came_in, 5 + time.monotonic() - started)

    def test_honest_ones_during_a_flood(self):
        """Three addresses flood and thousands come once: who keeps within the limit is never refused."""
        server = Echo(self, HELLO)
        proxy, address = self.proxy(server.address, workers=4,
                                    listener={"rate_limit": {"connections_per_second": 10, "burst": 2, "per": "address"}})
        task = Task(self.flood, address, 3, ("127.1.0.1", "127.1.0.2", "127.1.0.3"))
        number = 0
        pace = threading.Event()
        while task.is_alive():
            for honest in ("127.2.0.1", "127.2.0.2"):
                self.assertTrue(asks(honest, address), honest)
            end = time.monotonic() + 0.15 # twice in 0.3 s is less than 10 a second
            while time.monotonic() < end:
                number += 1
                self.assertTrue(asks(f"127.{100 + number // 62500}.{number // 250 % 250}.{number % 250}", address))
            pace.wait(0.001)
        began, ended, came_in, refused = task.result()
        self.assertLessEqual(came_in, 3 * ((ended - began) * 10 + 3))
        self.assertGreater(len(refused), 10)
        self.assertGreater(number, 100)


# --- bandwidth -------------------------------------------------------------------------------------------------------------


def answer(sock):
    """Does what the first line says: "down N" sends N bytes; "up N" takes N and says so; "both N" at the same time."""
    pattern = Pattern(7)
    what, count = receive_line(sock).split()
    count = int(count)
    if what == "down":
        pattern.send(sock, count)
    elif what == "up":
        pattern.receive(sock, count)
        sock.sendall(b"done\n")
    elif what == "whole":
        count = pattern.receive_all(sock)
        sock.sendall(b"%d\n" % count)
        return what, count
    with contextlib.suppress(OSError):
        sock.recv(1)
    return what, count


def transfer(address, what, count):
    """Seconds that it takes."""
    pattern = Pattern(7)
    with dial(address, seconds=60) as sock:
        started = time.monotonic()
        sock.sendall(f"{what} {count}\n".encode())
        if what == "down":
            pattern.receive(sock, count)
        else:
            pattern.send(sock, count)
            receive_line(sock)
        return time.monotonic() - started


class Bandwidth(Case):
    deadline = 120.0
    SECONDS = 2.5

    def check_time(self, took, count, rate, what):
        """Firmly not faster (a tenth of a second's worth is the burst, 4 kB at least); and not much slower, where that can be asked."""
        self.check_not_faster(took, count, rate, what)
        self.assertLessEqual(took, self.longest(count, rate), f"{what}: {count} bytes at {rate} bytes/s")

    def check_not_faster(self, took, count, rate, what):
        burst = max(rate / 10, 5000)
        self.assertGreaterEqual(took * 1.05, (count - burst) / rate, f"{what}: {count} bytes at {rate} bytes/s took {took:.2f} s")

    @staticmethod
    def longest(count, rate):
        return (count / rate) * 2 * aegis.SLOW + 1

    def test_both_ways_and_kinds(self):
        """10 MB/s and 100 kB/s, for each connection and for a listener, up and down at the same time."""
        server = Backend(self, answer)
        rates = {"fast": 10_000_000, "slow": 100_000}
        settings = aegis.app(server.address)
        settings["listeners"] = [{"name": f"{name}-{per}", "address": "127.0.0.1:0", "upstream": "app",
                                  "bandwidth": {"up": f"{rate}/s", "down": f"{rate}/s", "per": per}}
                                 for name, rate in rates.items() for per in ("connection", "listener")]
        proxy = self.aegis(settings)
        tasks = {}
        for row in settings["listeners"]:
            rate = rates[row["name"].partition("-")[0]]
            for what in ("up", "down"):
                count = int(rate * self.SECONDS)
                tasks[row["name"], what] = count, rate, Task(transfer, proxy.address(row["name"]), what, count)
        for what, (count, rate, task) in tasks.items():
            took = task.result()
            self.check_not_faster(took, count, rate, " ".join(what))
            if took > self.longest(count, rate):  # all at once may be too much for a busy machine
                self.check_time(transfer(proxy.address(what[0]), what[1], count), count, rate, " ".join(what))

    def test_each_connection_has_its_own(self):
        """Four connections at 1 MB/s each take no longer than one."""
        server = Backend(self, answer)
        _, address = self.proxy(server.address, listener={"bandwidth": {"down": "1000000/s"}})
        tasks = [Task(transfer, address, "down", 2_000_000) for _ in range(4)]
        for task in tasks:
            self.check_time(task.result(), 2_000_000, 1_000_000, "one of four")

    def test_many_share_what_a_listener_has(self):
        """Twelve connections on four workers share 3 MB/s: together not more than that, and each its part."""
        server = Demo(self, "generator")
        proxy, address = self.proxy(server["generator"], workers=4, listener={"bandwidth": {"down": "3000000/s", "per": "listener"}})
        got = [0] * 12
        over = threading.Event()

        def take(number):
            with dial(address) as sock:
                sock.sendall(b"1000000000\n")
                while not over.is_set():
                    got[number] += len(sock.recv(64 * KIB))
        tasks = [Task(take, number) for number in range(12)]
        wait_until(lambda: min(got) > 0, "all to have something")
        before, started = list(got), time.monotonic()
        wait_until(lambda: time.monotonic() - started > 3, "three seconds", 10)
        shares = [now - then for then, now in zip(before, got)]
        lasted = time.monotonic() - started
        over.set()
        for task in tasks:
            task.result()
        self.assertLessEqual(sum(shares), (lasted + 0.2) * 3_000_000 * 1.05)
        self.assertGreaterEqual(sum(shares), lasted * 3_000_000 / 2 / aegis.SLOW)
        mean = sum(shares) / len(shares)
        self.assertGreater(min(shares), mean * 0.4, shares)
        self.assertLess(max(shares), mean * 2.5, shares)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all to be gone")

    def test_half_close(self):
        """The end of a stream comes after all of it, and the other way goes on; then the other end comes as well."""
        server = Backend(self, answer)
        for per in ("connection", "listener"):
            proxy, address = self.proxy(server.address, listener={"bandwidth": {"up": "200000/s", "down": "200000/s", "per": per}})
            with dial(address) as sock:
                started = time.monotonic()
                sock.sendall(b"whole 0\n")
                Pattern(7).send(sock, 300_000)
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_line(sock), "300000\n")
                self.check_time(time.monotonic() - started, 300_000, 200_000, "up to the end")
                self.assertEqual(how_it_ends(sock), ("eof", b""))
            self.assertEqual(server.result(), ("whole", 300_000))
            proxy.wait_closes("finished")
            proxy.stop()

    def test_ends_need_no_allowance(self):
        """When all that is allowed is used up, an end and a RST pass all the same."""
        ended = threading.Event()

        def see(sock):
            how = how_it_ends(sock)
            ended.set()
            return how[0], len(how[1])
        server = Backend(self, see)
        proxy, address = self.proxy(server.address, listener={"bandwidth": {"up": "1k/s", "per": "listener"}})
        for number, (end, expected) in enumerate((((lambda sock: sock.shutdown(socket.SHUT_WR)), "eof"), (aegis.reset, "reset")), 1):
            sock = self.connect(address)
            sock.sendall(b"x" * 2048)
            proxy.wait_stat(lambda stat: stat["listeners"][0]["received"] == number * 2048, "the bytes to be passed")
            end(sock)
            self.assertEqual(server.result(), (expected, 2048))
            sock.close()

    def test_unlimited_in_one_way(self):
        """A limit on what comes down leaves what goes up alone."""
        server = Backend(self, answer)
        _, address = self.proxy(server.address, listener={"bandwidth": {"down": "10k/s"}})
        self.assertLess(transfer(address, "up", 20_000_000), 20_000_000 / 100_000)

    def test_over_hot_connections(self):
        """Connections out of a pool, warm or kept, have the bandwidth of each new client."""
        server = Demo(self, "http", "banner")
        size, rate = 300_000, 200_000
        for pool in ({"warm": 2}, {"keep": 2, "framing": "http1"}):
            with self.subTest(pool=pool):
                proxy, address = self.proxy(server["http"], workers=1, upstream={"pool": pool},
                                            listener={"bandwidth": {"down": f"{rate}/s", "per": "listener"}})
                started = time.monotonic()
                for _ in range(3):
                    with dial(address) as sock:
                        sock.sendall(b"GET /bytes?n=%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
                        receive(sock, size)
                self.check_time(time.monotonic() - started, 3 * size, rate, "three times")
                self.assertGreaterEqual(proxy.server(server["http"])["pool"]["hits"], 2)
                proxy.stop()

    def test_waiting_for_the_rate_is_not_idle(self):
        """A connection that has bytes to pass and may not is neither idle nor without an answer."""
        server = Backend(self, answer)
        proxy, address = self.proxy(server.address, listener={"bandwidth": {"down": "2k/s"}, "timeout": {"idle": "1s"}},
                                    upstream={"timeout": {"read": "1s"}})
        with dial(address) as sock:
            sock.sendall(b"down 8000\n")
            Pattern(7).receive(sock, 8000)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "the end")
        self.assertEqual(proxy.listener()["closes"]["read_timeout"], 0)


# --- slow clients ----------------------------------------------------------------------------------------------------------


def serve(sock):
    """What the first byte says: "t" takes and never answers, "g" gives without end, "e" echoes, "w" waits for the end of its client."""
    kind = sock.recv(1)
    with contextlib.suppress(ConnectionError, socket.timeout):
        if kind == b"g":
            block = bytes(64 * KIB)
            while True:
                sock.sendall(block)
        while data := sock.recv(64 * KIB):
            if kind == b"e":
                sock.sendall(data)


class Slow(Case):
    deadline = 90.0
    MIN_RATE = 2000

    def play(self, sock, turn, every, over):
        """One client, which does something again and again until it is ended or all is over. Whether it was ended."""
        try:
            while not over.wait(every):
                turn(sock)
        except (ConnectionError, EOFError):
            return True
        return False

    def test_who_is_ended_and_who_lives(self):
        """Side by side: those who send or read a few bytes at a time are ended, for this reason and at no other's cost."""
        server = Backend(self, serve)
        proxy, address = self.proxy(server.address, listener={"min_rate": f"{self.MIN_RATE}/s"}, workers=2)

        def read_some(count):
            def read(sock):
                if not sock.recv(count):
                    raise EOFError
            return read

        def ask(sock):
            sock.sendall(b"hello")
            receive(sock, 5)

        clients = {  # the first byte, what it does, how often, whether it is to be ended
            "sends a byte a second": (b"t", lambda sock: sock.sendall(b"x"), 1.0, True),
            "reads nothing": (b"g", lambda sock: None, 0.5, True),
            "reads a little": (b"g", read_some(200), 0.5, True),
            "sends steadily": (b"t", lambda sock: sock.sendall(b"x" * self.MIN_RATE), 0.2, False),
            "reads steadily": (b"g", read_some(self.MIN_RATE * 5), 0.2, False),
            "asks now and then": (b"e", ask, 2.0, False),
            "waits for its answer": (b"w", lambda sock: None, 0.5, False),
            "says nothing": (b"", lambda sock: None, 0.5, False),
        }
        over = threading.Event()
        self.addCleanup(over.set)
        tasks, started = {}, time.monotonic()
        for name, (first, turn, every, _) in clients.items():
            sock = self.connect(address, seconds=60, receive_buffer=8 * KIB)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
            sock.sendall(first)
            tasks[name] = Task(self.play, sock, turn, every, over)
        doomed = sum(ended for _, _, _, ended in clients.values())
        proxy.wait_closes("too_slow", doomed, seconds=45)
        self.assertGreater(time.monotonic() - started, 9, "there is a grace and a window before anyone is slow")
        # The others have lived for as long, and for a window more.
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > 6, "another window", 10)
        over.set()
        for name, (_, _, _, ended) in clients.items():
            if not name.startswith("reads") or not ended:  # who does not read does not see its end either
                self.assertEqual(tasks[name].result(), ended, name)
        closes = proxy.listener()["closes"]
        self.assertEqual(closes["too_slow"], doomed, closes)
        self.assertEqual(proxy.stat()["connections"]["errors"], doomed)

    def test_slow_because_of_the_bandwidth(self):
        """Who is held to less than min_rate by Aegis itself is not slow."""
        server = Backend(self, answer)
        proxy, address = self.proxy(server.address, listener={"min_rate": "20000/s",
                                                              "bandwidth": {"up": "20000/s", "down": "20000/s", "per": "listener"}})
        tasks = [Task(transfer, address, what, 5000 * 13) for what in ("up", "down") for _ in range(4)]
        self.assertGreater(max(task.result() for task in tasks), 11)
        self.assertEqual(proxy.listener()["closes"]["too_slow"], 0)


if __name__ == "__main__":
    aegis.main()
