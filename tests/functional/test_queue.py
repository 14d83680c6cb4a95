"""The line in front of full servers: who waits is served in turn, whoever leaves or dies, and no server ever sees more than it should."""
import contextlib
import os
import select
import signal
import socket
import threading
import time

import aegis
from aegis import AEGIS_STAT, OWN_ADDRESS, Case, Echo, Task, bind, dial, echo, form, free_address, how_it_ends, receive_line, reset, run, wait_until

HELLO = b"hello\n"


class Counter:
    """A server that says hello, echoes, and counts exactly: before a new connection is counted, those whose end has come are counted off.
    `began` is when each one was accepted."""

    def __init__(self, test, banner=HELLO, address="127.0.0.1:0"):
        self.banner, self.open, self.peak, self.accepted, self.began, self.bytes = banner, 0, 0, 0, [], 0
        self._listener = bind(address)
        self._listener.setblocking(False)
        self.address = form(self._listener)
        self._socks = {}
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._wake, self._woken = socket.socketpair()
        self._epoll.register(self._woken, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        test.addCleanup(self.close)

    def _run(self):
        while True:
            ready = self._epoll.poll()
            self._serve(ready)
            if any(fd == self._woken.fileno() for fd, _ in ready):
                return
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock, _ = self._listener.accept()
                    self._serve(self._epoll.poll(0))
                    self._begin(sock)

    def _begin(self, sock):
        sock.setblocking(False)
        self._socks[sock.fileno()] = sock
        self._epoll.register(sock, select.EPOLLIN | select.EPOLLRDHUP)
        self.accepted += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        self.began.append(time.monotonic())
        with contextlib.suppress(OSError):
            sock.send(self.banner)

    def _serve(self, ready):
        for fd, _ in ready:
            sock = self._socks.get(fd)
            if sock:
                try:
                    data = sock.recv(65536)
                    self.bytes += len(data)
                    if data:
                        sock.send(data)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    del self._socks[fd]
                    self._epoll.unregister(fd)
                    sock.close()
                    self.open -= 1

    def close(self):
        if not self._thread.is_alive():
            return
        self._wake.send(b"x")
        self._thread.join()
        self._listener.close()
        for sock in self._socks.values():
            reset(sock)
        self._socks.clear()
        self._epoll.close()
        self._wake.close()
        self._woken.close()


def end_of(sock):
    """Wait until the client is served or turned away: the greeting, or "" at once."""
    try:
        return receive_line(sock).encode()
    except (ConnectionResetError, BrokenPipeError, AssertionError):
        return b""


def in_turn(socks):
    """Each of them when it has something to read, in that order."""
    rest = list(socks)
    while rest:
        ready = select.select(rest, [], [], 50 * aegis.SLOW)[0]
        if not ready:
            raise AssertionError(f"{len(rest)} clients never had their turn")
        for sock in ready:
            rest.remove(sock)
            yield sock


class Queue(Case):
    def settings(self, server, size=1000, timeout="10m", max_connections=100, **options):
        servers = server if isinstance(server, list) else [{"address": server.address, "max_connections": max_connections}]
        upstream = {"queue": {"size": size, "timeout": timeout}, **options.pop("upstream", {})}
        return aegis.app(servers, upstream=upstream, **options)

    def queue(self, server, **options):
        proxy = self.aegis(self.settings(server, **options))
        return proxy, proxy.address()

    def waiting(self, proxy):
        """Those who are with Aegis and not with a server."""
        stat = proxy.stat()
        return stat["connections"]["active"] - sum(row["active"] for group in stat["upstreams"] for row in group["servers"])

    def wait_waiting(self, proxy, count):
        wait_until(lambda: self.waiting(proxy) == count, lambda: f"{count} to wait in line; now {self.waiting(proxy)}")

    def queued(self, proxy, listener="app"):
        """The counter of those who had to wait."""
        text = run(AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        lines = [line for line in text.splitlines() if line.startswith("aegis_queue_waits_total{") and f'"{listener}"' in line]
        self.assertEqual(len(lines), 1, text[:2000])
        return int(lines[0].split()[-1])

    def line_up(self, proxy, count):
        """Clients that wait, one after the other."""
        before = self.waiting(proxy)
        clients = []
        for number in range(count):
            clients.append(self.connect(proxy.address()))
            self.wait_waiting(proxy, before + number + 1)
        return clients

    def fill(self, address, count):
        held = [self.connect(address) for _ in range(count)]
        for sock in held:
            self.assertEqual(end_of(sock), HELLO)
        return held


class Order(Queue):
    def test_500_for_100_places(self):
        """500 clients at once, 100 places, eight workers: all are served in the end, and the server never sees 101."""
        server = Counter(self)
        proxy, address = self.queue(server, workers=8)
        barrier = threading.Barrier(10, timeout=30 * aegis.SLOW)

        def client_thread():
            barrier.wait()
            socks = [dial(address, seconds=50) for _ in range(50)]
            wait_until(lambda: server.peak == 100 and self.queued(proxy) == 400, "all places to be taken, and the rest to wait")
            served = 0
            for sock in in_turn(socks):
                served += end_of(sock) == HELLO
                echo(sock)
                sock.close()
            return served

        self.assertEqual(sum(task.result() for task in [Task(client_thread) for _ in range(10)]), 500)
        self.assertEqual(server.peak, 100)
        proxy.wait_closes("finished", 500)
        self.assertEqual(self.queued(proxy), 400)

    def test_first_come_first_served(self):
        """One place, eight workers: those who came one after the other are served in that order."""
        server = Counter(self)
        proxy, address = self.queue(server, max_connections=1, workers=8)
        holder, = self.fill(address, 1)
        clients = self.line_up(proxy, 40)
        self.assertGreater(sum(1 for worker in proxy.workers() if worker["connections"] > 0), 1, "more than one worker has clients")
        self.assertEqual(select.select(clients, [], [], 0)[0], [])
        order = []
        while len(order) < len(clients):
            holder.close()
            rest = [sock for sock in clients if sock not in order]
            ready = select.select(rest, [], [], 20 * aegis.SLOW)[0]
            self.assertEqual(len(ready), 1, "exactly one has its turn")
            holder = ready[0]
            self.assertEqual(end_of(holder), HELLO)
            order.append(holder)
        self.assertEqual(order, clients)
        self.assertEqual(server.peak, 1)
        self.assertEqual(self.queued(proxy), 40)

    def test_a_newcomer_does_not_overtake(self):
        """Places come and go while newcomers come all the time: who waited is served before any of them."""
        server = Counter(self)
        proxy, address = self.queue(server, max_connections=4, workers=4)
        held = self.fill(address, 4)
        early = [self.connect(address) for _ in range(20)]
        self.wait_waiting(proxy, 20)
        late = [self.connect(address) for _ in range(20)]
        self.wait_waiting(proxy, 40)
        served, open_ = [], list(held)
        while len(served) < 40:
            open_.pop(0).close()
            ready = select.select([sock for sock in early + late if sock not in served], [], [], 20 * aegis.SLOW)[0]
            self.assertTrue(ready)
            for sock in ready:
                self.assertEqual(end_of(sock), HELLO)
                served.append(sock)
                open_.append(sock)
        self.assertEqual(set(served[:20]), set(early))
        self.assertEqual(server.peak, 4)

    def test_exact_however_connections_end(self):
        """Clients that reset, or leave what they should read: the connection to the server has ended before its place is given again."""
        for engine in ("epoll", "io_uring"):
            with self.subTest(engine=engine):
                server = Counter(self)
                proxy, address = self.queue(server, max_connections=4, workers=4, engine=engine)

                def client_thread():
                    for number in range(40):
                        sock = dial(address)
                        self.assertEqual(end_of(sock), HELLO)
                        sock.sendall(b"and more")
                        (reset if number % 2 else socket.socket.close)(sock)

                for task in [Task(client_thread) for _ in range(12)]:
                    task.result()
                self.assertEqual(server.peak, 4)
                proxy.stop()

    def test_other_upstreams_do_not_wait(self):
        full, free = Counter(self), Counter(self)
        settings = self.settings(full, max_connections=1, workers=2)
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "other"})
        settings["upstreams"].append({"name": "other", "servers": [{"address": free.address}]})
        proxy = self.aegis(settings)
        self.fill(proxy.address(), 1)
        waiting = [self.connect(proxy.address()) for _ in range(10)]
        self.wait_waiting(proxy, 10)
        for _ in range(20):
            with dial(proxy.address("other")) as sock:
                self.assertEqual(end_of(sock), HELLO)
        self.assertEqual(select.select(waiting, [], [], 0)[0], [])
        self.assertEqual(self.queued(proxy, "other"), 0)

    def test_without_a_queue_nobody_waits(self):
        server = Counter(self)
        proxy, address = self.proxy([{"address": server.address, "max_connections": 1}], workers=4)
        self.fill(address, 1)
        for _ in range(5):
            with dial(address) as sock:
                self.assertEqual(end_of(sock), b"")
        proxy.wait_closes("servers_full", 5)
        self.assertEqual(self.queued(proxy), 0)

    def test_early_bytes_wait_too(self):
        """What a client says while it waits reaches its server, whole."""
        server = Counter(self, banner=b"")
        proxy, address = self.queue(server, max_connections=1, workers=2)
        holder = self.connect(address)
        echo(holder)
        early = self.connect(address)
        early.sendall(b"early " * 10000)
        self.wait_waiting(proxy, 1)
        bytes_before = server.bytes
        holder.close()
        self.assertEqual(aegis.receive(early, 60000), b"early " * 10000)
        self.assertEqual(server.bytes - bytes_before, 60000)


class Limits(Queue):
    def test_size_over_all_workers(self):
        """queue.size = 20 over eight workers: of 60 clients at once exactly 20 wait, 40 are turned away at once."""
        server = Counter(self)
        proxy, address = self.queue(server, size=20, max_connections=2, workers=8)
        held = self.fill(address, 2)
        barrier = threading.Barrier(6, timeout=30 * aegis.SLOW)

        def client_thread():
            barrier.wait()
            return [dial(address) for _ in range(10)]

        clients = [sock for task in [Task(client_thread) for _ in range(6)] for sock in task.result()]
        for sock in clients:
            self.addCleanup(sock.close)
        proxy.wait_closes("queue_full", 40)
        self.wait_waiting(proxy, 20)
        stay = [sock for sock in clients if not select.select([sock], [], [], 0)[0]]
        self.assertEqual(len(stay), 20)
        stay.pop().close()
        proxy.wait_closes("client_gave_up", 1)
        with dial(address) as one, dial(address) as more:  # the place in line is given again, once
            proxy.wait_closes("queue_full", 41)
            self.wait_waiting(proxy, 20)
            for sock in held:
                sock.close()
            answers = []
            for sock in in_turn([*stay, one, more]):
                answers.append(end_of(sock))
                sock.close()
            self.assertEqual(sorted(answers), [b""] + [HELLO] * 20)
        self.assertEqual(server.peak, 2)

    def test_timeout(self):
        server = Counter(self)
        proxy, address = self.queue(server, timeout="300ms", max_connections=1, workers=4)
        self.fill(address, 1)
        began = time.monotonic()
        clients = [self.connect(address) for _ in range(12)]
        self.assertEqual([end_of(sock) for sock in clients], [b""] * 12)
        self.assertGreaterEqual(time.monotonic() - began, 0.3)
        proxy.wait_closes("queue_timeout", 12)
        self.assertEqual(server.accepted, 1)

    def test_who_leaves_gives_its_place_up(self):
        """By FIN, by RST, with and without bytes that were never read: no server hears of them, and the next one has its turn."""
        server = Counter(self)
        proxy, address = self.queue(server, max_connections=1, workers=4)
        holder, = self.fill(address, 1)
        leaving = [self.connect(address) for _ in range(12)]
        for number, sock in enumerate(leaving):
            if number % 3 == 2:
                sock.sendall(b"nobody reads this")
        self.wait_waiting(proxy, 12)
        last = self.connect(address)
        self.wait_waiting(proxy, 13)
        for number, sock in enumerate(leaving):
            (reset if number % 2 else socket.socket.close)(sock)
        proxy.wait_closes("client_gave_up", 12)
        self.wait_waiting(proxy, 1)
        holder.close()
        self.assertEqual(end_of(last), HELLO)
        self.assertEqual(server.accepted, 2)

    def test_a_failed_connect_goes_on_in_line(self):
        """One server refuses and is ejected for it, the other one is full: the clients wait for that one, rather than fail."""
        server = Counter(self)
        rows = [{"name": "dead", "address": free_address(), "weight": 1000}, {"name": "full", "address": server.address, "max_connections": 1}]
        proxy, address = self.queue(rows, workers=2, upstream={"retries": 1, "outlier": {"failures": 1, "ejection": "1h"}})
        holder, = self.fill(address, 1)
        clients = [self.connect(address) for _ in range(5)]
        self.wait_waiting(proxy, 5)
        holder.close()
        for sock in in_turn(clients):
            self.assertEqual(end_of(sock), HELLO)
            sock.close()
        self.assertEqual(server.peak, 1)

    def test_who_failed_elsewhere_waits_for_who_is_full(self):
        """One server is full and the other one refuses: with a queue a client waits for the first instead of being refused by the second."""
        live = Echo(self)
        rows = [{"name": "live", "address": live.address, "max_connections": 1}, {"name": "dead", "address": free_address(), "max_connections": 5}]
        proxy, address = self.proxy(rows, upstream={"retries": 2, "queue": {"size": 10, "timeout": "60s"}})
        first = self.connect(address)
        echo(first)
        waiting = [self.connect(address) for _ in range(4)]
        proxy.wait_stat(lambda stat: stat["upstreams"][0]["waiting"] == 4, "all of them to wait")
        first.close()

        def use(sock):  # in the order of their tickets, which need not be that of the list
            echo(sock)
            sock.close()
        for task in [Task(use, sock) for sock in waiting]:
            task.result()
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all to be gone")
        self.assertEqual(proxy.stat()["listeners"][0]["closes"]["connect_refused"], 0)

    def test_wait_while_all_are_down(self):
        """when_all_down = "wait": clients wait until a server is usable again, up to queue.timeout."""
        server, health = Counter(self, address=f"{OWN_ADDRESS}:0"), Echo(self, address=f"{OWN_ADDRESS}:0")
        check = {"type": "tcp", "port": int(health.address.rpartition(":")[2]), "interval": "100ms", "fast_interval": "50ms", "rise": 1, "fall": 1}
        proxy, address = self.queue(server, workers=2, upstream={"when_all_down": "wait", "health": check})
        health.close()
        proxy.wait_stat(lambda stat: stat["upstreams"][0]["servers"][0]["health"]["state"] == "down", "the server to be down")
        clients = [self.connect(address) for _ in range(20)]
        self.wait_waiting(proxy, 20)
        self.assertEqual((server.accepted, select.select(clients, [], [], 0)[0]), (0, []))
        Echo(self, address=health.address)
        for sock in in_turn(clients):
            self.assertEqual(end_of(sock), HELLO)
        self.assertEqual(server.accepted, 20)

    def test_wait_while_the_breaker_is_open(self):
        """The server is back at once, but nobody asks it before the breaker's timeout: they come in between."""
        address = free_address()
        proxy, front = self.queue([{"address": address}], workers=2, upstream={
            "when_all_down": "wait", "retries": 0, "circuit_breaker": {"error_threshold": 1, "timeout": "2s", "probes": 1}})
        before = time.monotonic()  # it opens after that
        with dial(front) as sock:
            self.assertEqual(end_of(sock), b"")
        server = Counter(self, address=address)
        clients = [self.connect(front) for _ in range(20)]
        for sock in in_turn(clients):
            self.assertEqual(end_of(sock), HELLO)
        self.assertEqual(server.accepted, 20)
        self.assertGreater(server.began[0] - before, 1.9, "somebody was not held back")
        proxy.wait_closes("connect_refused", 1)

    def test_engine_of_its_own(self):
        """The same with epoll: a client is watched while it waits, and relayed after that."""
        server = Counter(self)
        for engine in ("epoll", "io_uring"):
            with self.subTest(engine=engine):
                proxy, address = self.queue(server, max_connections=1, workers=2, engine=engine)
                holder, = self.fill(address, 1)
                gone, stays = self.connect(address), self.connect(address)
                self.wait_waiting(proxy, 2)
                gone.close()
                proxy.wait_closes("client_gave_up", 1)
                stays.sendall(b"x" * 5000)
                holder.close()
                self.assertEqual(end_of(stays), HELLO)
                self.assertEqual(aegis.receive(stays, 5000), b"x" * 5000)
                stays.shutdown(socket.SHUT_WR)
                self.assertEqual(how_it_ends(stays), ("eof", b""))
                proxy.wait_closes("finished", 2)
                proxy.stop()


class Death(Queue):
    deadline = 120.0

    def test_killed_workers(self):
        """kill -9 of workers that hold places and have clients in line, again and again: nobody hangs, and no place is lost."""
        server = Counter(self)
        proxy, address = self.queue(server, max_connections=10, workers=4, timeout="60s")
        proxy.lost, proxy.restarts = True, 10
        done = threading.Event()
        self.addCleanup(done.set)
        served, broken = [0] * 8, [0] * 8

        def client_thread(index):
            while not done.is_set():
                with contextlib.suppress(OSError, AssertionError):
                    with dial(address, seconds=50) as sock:
                        if end_of(sock) == HELLO:
                            echo(sock)
                            served[index] += 1
                            continue
                broken[index] += 1

        # Each thread has but one client; these wait with them, and hold some places.
        tasks = [Task(client_thread, index) for index in range(8)]
        crowd = [self.connect(address, seconds=100) for _ in range(30)]
        for number in range(10):
            victim = max(proxy.workers(), key=lambda worker: (worker["connections"], -worker["slot"]))
            os.kill(victim["pid"], signal.SIGKILL)
            proxy.wait_stat(lambda stat: stat["worker_restarts"] == number + 1
                            and [worker["state"] for worker in stat["workers"] if worker["generation"] == 1] == ["running"] * 4, "a new worker")
            before = sum(served)
            for sock in crowd:
                sock.close()
            wait_until(lambda: sum(served) > before + 8, "clients to be served after the death of a worker", 30)
            crowd = [self.connect(address, seconds=100) for _ in range(30)]
        for sock in crowd:
            sock.close()
        done.set()
        for task in tasks:
            task.result()
        self.assertGreater(sum(served), 100)
        wait_until(lambda: self.waiting(proxy) == 0, "nobody to wait any more")
        self.fill(address, 10)

    def test_a_killed_worker_with_the_first_in_line(self):
        server = Counter(self)
        proxy, address = self.queue(server, max_connections=1, workers=2, timeout="60s")
        proxy.lost, proxy.restarts = True, 1
        holder, = self.fill(address, 1)
        holding, = [worker["slot"] for worker in proxy.workers() if worker["connections"] == 1]
        clients = []
        while min(worker["connections"] - (worker["slot"] == holding) for worker in proxy.workers()) < 2:
            clients += self.line_up(proxy, 1)
        victim = next(worker for worker in proxy.workers() if worker["slot"] != holding)
        os.kill(victim["pid"], signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == 1, "a new worker")
        wait_until(lambda: len(select.select(clients, [], [], 0)[0]) == victim["connections"], "the victim's clients to break")
        rest = [sock for sock in clients if not select.select([sock], [], [], 0)[0]]
        holder.close()
        order = []
        for sock in in_turn(rest):
            self.assertEqual(end_of(sock), HELLO)
            order.append(sock)
            sock.close()
        self.assertEqual(order, rest)

    def test_reload_while_waiting(self):
        """Those who wait in the old generation are served, in turn with those of the new one, and by what the new settings allow."""
        server = Counter(self)
        settings = self.settings(server, max_connections=1, workers=2, timeout="60s")
        proxy = self.aegis(settings)
        holder, = self.fill(proxy.address(), 1)
        old = self.line_up(proxy, 5)
        proxy.must_reload()
        new = self.line_up(proxy, 5)
        self.assertEqual(select.select(old + new, [], [], 0)[0], [])
        holder.close()
        order = []
        for sock in in_turn(old + new):
            self.assertEqual(end_of(sock), HELLO)
            order.append(sock)
            sock.close()
        self.assertEqual([sock for sock in order if sock in old], old)
        self.assertEqual([sock for sock in order if sock in new], new)
        self.assertEqual(server.peak, 1)

    def test_more_places_by_a_reload(self):
        """A reload adds a server: who comes then does not wait behind those that know the old one only."""
        server, other = Counter(self), Counter(self)
        settings = self.settings(server, max_connections=1, workers=2, timeout="60s")
        proxy = self.aegis(settings)
        holder, = self.fill(proxy.address(), 1)
        old = [self.connect(proxy.address()) for _ in range(3)]
        self.wait_waiting(proxy, 3)
        settings["upstreams"][0]["servers"].append({"address": other.address, "max_connections": 5})
        proxy.must_reload(settings)
        self.fill(proxy.address(), 5)
        self.assertEqual(other.accepted, 5)
        self.assertEqual(select.select(old, [], [], 0)[0], [])
        settings["upstreams"][0]["servers"][0]["max_connections"] = 4
        proxy.must_reload(settings)
        for sock in old:  # their generation is not the running one any more, and the places are for all
            self.assertEqual(end_of(sock), HELLO)
        self.assertEqual(server.peak, 4)

    def test_stop_while_waiting(self):
        server = Counter(self)
        proxy, address = self.queue(server, max_connections=1, workers=2, drain={"timeout": "300ms"})
        self.fill(address, 1)
        for _ in range(5):
            self.connect(address)
        self.wait_waiting(proxy, 5)
        proxy.stop(gauges=False)


class Rate(Queue):
    def rate(self, server, rate, burst, **options):
        upstream = {"connect_rate": rate, "connect_burst": burst, **options.pop("upstream", {})}
        proxy = self.aegis(aegis.app([{"address": server.address}], upstream=upstream, **options))
        return proxy, proxy.address()

    def test_a_rate_that_is_raised_holds_at_once(self):
        """What the former rate has booked ahead is not waited for."""
        server = Counter(self)
        proxy, address = self.rate(server, "1/s", 20, workers=2)
        for _ in range(21):
            with dial(address) as sock:
                self.assertEqual(receive_line(sock), HELLO.decode())
        settings = aegis.app([{"address": server.address}], upstream={"connect_rate": "1000/s", "connect_burst": 20}, workers=2)
        proxy.must_reload(settings)
        began = time.monotonic()
        with dial(address) as sock:
            self.assertEqual(receive_line(sock), HELLO.decode())
        self.assertLess(time.monotonic() - began, 10 * aegis.SLOW)

    def test_connect_rate_over_all_workers(self):
        """100/s, burst 10, and 300 clients at once with eight workers: some 110 in the first second, all within three, none fails."""
        for attempt in range(5):
            if self.connect_rate_round() or aegis.SLOW > 1:
                return
        self.fail("not even 80 in the first second, again and again")

    def connect_rate_round(self):
        """Whether 80 came in the first second: on a machine that has no time for them they need not."""
        server = Counter(self)
        proxy, address = self.rate(server, "100/s", 10, workers=8)
        began = time.monotonic()
        clients = [self.connect(address) for _ in range(300)]
        for sock in clients:
            self.assertEqual(end_of(sock), HELLO)
        for seconds in (0.1, 0.5, 1.0, 2.0):  # an upper bound that holds however slow the machine is
            count = sum(1 for when in server.began if when - began <= seconds)
            self.assertLessEqual(count, 100 * seconds + 11 + 5, f"connections within {seconds} s")
        self.assertGreaterEqual(server.began[-1] - began, 2.8)
        self.assertGreaterEqual(self.queued(proxy), 250)
        for sock in clients:
            sock.close()
        proxy.stop()
        return sum(1 for when in server.began if when - server.began[0] <= 1.0) >= 80

    def test_after_a_restart_of_the_server(self):
        """All connections break at once and 200 clients come again: the server is not stormed."""
        self.assertTrue(any(self.restart_round() for _ in range(5)), "too many in a quarter of a second, again and again")

    def restart_round(self):
        """Never more than the rate allows since they came; and whether in no quarter of a second there were more than it allows in such a time:
        who had to wait for the CPU sees several at once."""
        server = Counter(self)
        proxy, address = self.rate(server, "200/s", 20, workers=4, upstream={"queue": {"size": 1000, "timeout": "30s"}})
        held = [self.connect(address) for _ in range(40)]
        for sock in held:
            self.assertEqual(end_of(sock), HELLO)
        mark = len(server.began)
        for sock in held:
            sock.close()
        started = time.monotonic()
        again = [self.connect(address) for _ in range(200)]
        for sock in again:
            self.assertEqual(end_of(sock), HELLO)
        began = server.began[mark:]
        for index, when in enumerate(began):
            self.assertLessEqual(index + 1, (when - started) * 200 + 21 + 10)
        for sock in again:
            sock.close()
        proxy.stop()
        return all(sum(1 for when in began[index:] if when - began[index] <= 0.25) <= 0.25 * 200 + 21 + 10 for index in range(len(began)))

    def test_without_a_queue_for_five_seconds(self):
        """The default of queue.timeout holds for those that wait for connect_rate, too."""
        server = Counter(self)
        proxy, address = self.rate(server, "1/s", 0, workers=2)
        clients = [self.connect(address) for _ in range(12)]
        results = [end_of(sock) for sock in clients]
        self.assertIn(results.count(HELLO), range(4, 8))
        proxy.wait_closes("queue_timeout", 12 - results.count(HELLO))

    def test_the_rate_and_places(self):
        """Both at once: the first one in line may have to wait for either."""
        server = Counter(self)
        proxy, address = self.queue(server, max_connections=5, workers=4, upstream={"connect_rate": "100/s", "connect_burst": 5})
        for sock in in_turn([self.connect(address) for _ in range(60)]):
            self.assertEqual(end_of(sock), HELLO)
            sock.close()
        self.assertLessEqual(server.peak, 5)
        proxy.wait_closes("finished", 60)


class Pools(Queue):
    HTTP = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    def test_hot_connections_make_way(self):
        """Connections that were kept hold places with other workers: who waits gets them nevertheless, and soon."""
        for share in (False, True):
            with self.subTest(share=share):
                server = aegis.Demo(self, "http")
                settings = self.settings([{"address": server["http"], "max_connections": 4}], workers=4, timeout="10s",
                                         upstream={"pool": {"keep": 8, "framing": "http1", "share": share}})
                proxy = self.aegis(settings)
                for _ in range(40):
                    with dial(proxy.address()) as sock:
                        sock.sendall(self.HTTP)
                        self.assertTrue(sock.recv(1000).startswith(b"HTTP/1.1 200"))
                tasks = [Task(self.ask_often, proxy.address()) for _ in range(16)]
                for task in tasks:
                    task.result()
                closes = proxy.listener()["closes"]
                self.assertEqual(closes["queue_timeout"], 0)
                proxy.stop(gauges=False)

    def test_a_retry_waits_in_line(self):
        """A connection that was kept turns out to be closed, and connect_rate allows no other one now: the request waits, and is answered."""
        for engine in ("epoll", "io_uring"):
            with self.subTest(engine=engine):
                self.assertTrue(any(self.retry_round(engine) for _ in range(10)), "the machine is too slow: a second had gone by each time")

    def retry_round(self, engine):
        """Whether the second request came within the second for which connect_rate allows no other connection."""
        connections = []

        def handler(sock):
            connections.append(sock)
            first, answered = len(connections) == 1, 0
            while self.read_request(sock) and not (first and answered):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + str(len(connections)).encode())
                answered += 1

        server = aegis.Backend(self, handler)
        proxy, address = self.proxy(server.address, workers=1, engine=engine, upstream={
            "pool": {"keep": 2, "framing": "http1"}, "connect_rate": "1/s", "connect_burst": 0})
        began = time.monotonic()
        self.assertEqual(self.ask(address), "1")
        proxy.wait_closes("finished", 1)
        self.assertEqual(self.ask(address), "2")
        took = time.monotonic() - began
        proxy.wait_closes("finished", 2)
        waited = self.queued(proxy)
        self.assertEqual(server.accepted, 2)
        proxy.stop(gauges=False)
        if waited == 0:
            self.assertGreaterEqual(took, 1, "the second one did not wait")
        return waited == 1

    def read_request(self, sock):
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            part = sock.recv(1000)
            if not part:
                return False
            data += part
        return True

    def ask(self, address):
        with dial(address) as sock:
            sock.sendall(self.HTTP)
            return aegis.receive(sock, len("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n") + 1)[-1:].decode()

    def ask_often(self, address):
        for _ in range(20):
            with dial(address) as sock:
                sock.sendall(self.HTTP)
                if not sock.recv(1000).startswith(b"HTTP/1.1 200"):
                    raise AssertionError("no answer")


if __name__ == "__main__":
    aegis.main()
