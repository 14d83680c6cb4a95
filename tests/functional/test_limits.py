"""Limits are exact over all workers, whatever dies; running out of something is counted and over when there is room again."""
import contextlib
import ctypes
import errno
import os
import re
import resource
import select
import signal
import socket
import threading
import time
import unittest

import aegis
from aegis import KIB, Case, Echo, Task, dial, drop_to_nobody, echo, need, receive_line, run, wait_until

HELLO = b"hello\n"


def served(sock):
    """Does this client get through to a server, or is it turned away? Waits for the one or the other."""
    try:
        return receive_line(sock).encode() == HELLO
    except (ConnectionResetError, BrokenPipeError):
        return False
    except AssertionError:
        return False


class Exact(Case):
    def test_reject_over_all_listeners(self):
        """max_connections = 10: the eleventh is turned away at once, on whichever listener; a freed place is given again."""
        server = Echo(self, HELLO)
        settings = aegis.app(server.address, max_connections=10)
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "app"})
        proxy = self.aegis(settings)
        addresses = [proxy.address("app"), proxy.address("other")]
        held = [self.connect(addresses[i % 2]) for i in range(10)]
        self.assertTrue(all(served(sock) for sock in held))
        for i in range(6):
            with dial(addresses[i % 2]) as sock:
                self.assertFalse(served(sock))
        proxy.wait_stat(lambda stat: stat["connections"]["rejected"] == 6, "six rejected")
        self.assertEqual([proxy.listener(name)["closes"]["full"] for name in ("app", "other")], [3, 3])
        held.pop().close()
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 9, "the place to be free")
        sock = self.connect(addresses[0])
        self.assertTrue(served(sock))
        with dial(addresses[1]) as late:
            self.assertFalse(served(late))
        self.assertEqual(server.peak, 10)
        for sock in held:
            echo(sock)

    def test_reject_of_one_listener(self):
        """A listener's own limit: the others go on."""
        server = Echo(self, HELLO)
        settings = aegis.app(server.address, {"max_connections": 3})
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "app"})
        proxy = self.aegis(settings)
        held = [self.connect(proxy.address()) for _ in range(3)]
        self.assertTrue(all(served(sock) for sock in held))
        with dial(proxy.address()) as sock:
            self.assertFalse(served(sock))
        for _ in range(10):
            sock = self.connect(proxy.address("other"))
            self.assertTrue(served(sock))
        proxy.wait_closes("listener_full")
        row = proxy.listener()
        self.assertEqual((row["closes"]["listener_full"], row["rejected"], row["max"], row["active"]), (1, 1, 3, 3))
        self.assertEqual(proxy.listener("other")["rejected"], 0)

    def test_burst_over_eight_workers(self):
        """500 clients at the same moment, eight workers, room for 100: the server never sees 101, and no place stays unused."""
        server = Echo(self, HELLO)
        proxy, address = self.proxy(server.address, max_connections=100, workers=8)
        for round_ in (1, 2):
            barrier = threading.Barrier(10, timeout=30 * aegis.SLOW)

            def clients():
                barrier.wait()
                socks = [dial(address) for _ in range(50)]
                return [(sock, served(sock)) for sock in socks]

            results = [pair for task in [Task(clients) for _ in range(10)] for pair in task.result()]
            self.assertEqual(sum(through for _, through in results), 100)
            self.assertEqual(server.peak, 100)
            proxy.wait_stat(lambda stat: (stat["connections"]["active"], stat["connections"]["rejected"]) == (100, round_ * 400),
                            "100 connections, and 400 rejected each round")
            for sock, _ in results:
                sock.close()
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all places to be free")
            wait_until(lambda: server.open == 0, "the server to be rid of all")

    def test_wait(self):
        """on_full = "wait": 40 clients, room for 10: never more than 10 at the server, and each gets through in the end."""
        server = Echo(self, HELLO)
        for top, listener in (({"max_connections": 10}, {"on_full": "wait"}), ({}, {"max_connections": 10, "on_full": "wait"})):
            with self.subTest(top=top):
                server.peak = 0
                proxy, address = self.proxy(server.address, listener=listener, workers=2, **top)
                waiting = [self.connect(address, later=True) for _ in range(40)]
                proxy.wait_stat(lambda stat: stat["connections"]["active"] == 10, "ten to get through")
                got = 0
                wait_until(lambda: sum(map(readable, waiting)) == 10, "ten to be answered")
                while waiting:
                    through = [sock for sock in waiting if readable(sock)]
                    self.assertTrue(all(served(sock) for sock in through))
                    for sock in through:
                        echo(sock)
                        sock.close()
                        waiting.remove(sock)
                        got += 1
                    wait_until(lambda: not waiting or any(readable(sock) for sock in waiting), f"the next client to get through after {got}")
                self.assertEqual(server.peak, 10)
                stat = proxy.stat()
                self.assertEqual((stat["connections"]["total"], stat["connections"]["rejected"]), (40, 0))
                self.assertGreater(sum(worker["accept_pauses"] for worker in stat["workers"]), 0)
                proxy.stop()

    def test_share_of_killed_workers(self):
        """Ten times kill -9 on a worker that holds places: after each its share is free, and in the end exactly max fit."""
        server = Echo(self, HELLO)
        proxy, address = self.proxy(server.address, listener={"max_connections": 20}, max_connections=25, workers=4)
        proxy.lost = True
        proxy.restarts = 10
        held = [self.connect(address) for _ in range(20)]
        self.assertTrue(all(served(sock) for sock in held))
        for number in range(10):
            # Who was turned away is counted for a moment longer than he can see.
            stat = proxy.wait_stat(lambda stat: sum(worker["connections"] for worker in stat["workers"]) == 20, "only those that are held")
            victim = max(stat["workers"], key=lambda worker: (worker["connections"], -worker["slot"]))
            os.kill(victim["pid"], signal.SIGKILL)
            stat = proxy.wait_stat(lambda stat: stat["worker_restarts"] == number + 1 and len(stat["workers"]) == 4
                                   and all(worker["state"] == "running" for worker in stat["workers"])
                                   and stat["connections"]["active"] == 20 - victim["connections"],
                                   "a new worker, and the places of the old one free")
            self.assertEqual(stat["listeners"][0]["active"], 20 - victim["connections"])
            # With io_uring the kernel takes the sockets of a killed process down a moment after the process.
            wait_until(lambda: sum(map(readable, held)) >= victim["connections"], "the killed worker's connections to break")
            alive = [sock for sock in held if not readable(sock)]
            self.assertEqual(len(alive), 20 - victim["connections"], "connections of other workers broke")
            for sock in alive:
                echo(sock)
            fresh = [self.connect(address) for _ in range(victim["connections"])]
            self.assertTrue(all(served(sock) for sock in fresh))
            held = alive + fresh
            with dial(address) as sock:
                self.assertFalse(served(sock), "one more than max_connections")
        self.assertEqual(server.peak, 20)


def readable(sock):
    """Is there a byte, an end or an error to be read?"""
    return bool(select.select([sock], [], [], 0)[0])


class Descriptors(Case):
    deadline = 90.0
    WATCH = 3.0  # seconds

    def calm(self, proxy, pid):
        """Over some seconds in which it cannot accept, the worker hardly uses the CPU and hardly writes a log."""
        before, lines, started = aegis.cpu_seconds(pid), proxy.log().count("\n"), time.monotonic()
        wait_until(lambda: time.monotonic() - started > self.WATCH, "the time of observation", self.WATCH + 5)
        lasted = time.monotonic() - started
        self.assertLess(aegis.cpu_seconds(pid) - before, 0.05 * lasted * (3 if aegis.SANITIZED else 1), "CPU seconds while it cannot accept")
        self.assertLessEqual(proxy.log().count("\n") - lines, lasted + 1, "log lines while it cannot accept:\n" + proxy.log()[-3000:])

    def test_few_descriptors_from_the_start(self):
        """RLIMIT_NOFILE = 64: a worker takes what it can, the rest waits, calmly; all are served in the end."""
        server = Echo(self, HELLO)
        proxy = self.aegis(aegis.app(server.address, workers=1), nobody=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
        address = proxy.address()
        socks = [self.connect(address, seconds=60, later=True) for _ in range(80)]
        wait_until(lambda: sum(map(readable, socks)) >= 8, "some to get through")
        through = [sock for sock in socks if readable(sock)]
        self.assertTrue(all(served(sock) for sock in through))
        self.calm(proxy, proxy.workers()[0]["pid"])
        self.assertIn(server.open, range(8, 32))
        self.assertGreater(proxy.workers()[0]["accept_pauses"], 0)
        for sock in through:
            echo(sock)
            sock.close()
            socks.remove(sock)
        while socks:
            wait_until(lambda: any(readable(sock) for sock in socks), "the next clients to get through")
            for sock in [sock for sock in socks if readable(sock)]:
                self.assertTrue(served(sock))
                echo(sock)
                sock.close()
                socks.remove(sock)
        proxy.wait_closes("finished", 80)

    def test_descriptors_run_out(self):
        """The limit falls under a running worker (EMFILE in accept and in connect): no spin, no flood, and it recovers by itself."""
        server = Echo(self, HELLO)
        prlimit, = need("prlimit")
        proxy = self.aegis(aegis.app(server.address, workers=1), nobody=True)
        address, pid = proxy.address(), proxy.workers()[0]["pid"]

        def limit(soft):  # by the same user: root in a container may not be allowed to
            done = run(prlimit, "--pid", pid, f"--nofile={soft}:{hard}", **drop_to_nobody())
            self.assertEqual(done.returncode, 0, done.stderr)

        with dial(address) as sock:
            self.assertTrue(served(sock))
        proxy.wait_closes("finished")
        held = self.connect(address)
        self.assertTrue(served(held))
        used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
        lowest_free = next(fd for fd in range(1000) if fd not in used)
        soft, hard = re.search(r"Max open files +(\d+) +(\d+)", aegis.proc(pid, "limits")).groups()
        try:
            limit(lowest_free)
            waiting = [self.connect(address, seconds=60, later=True) for _ in range(20)]
            proxy.wait_stat(lambda stat: stat["workers"][0]["accept_pauses"] > 0, "accepting to be paused")
            self.calm(proxy, pid)
            echo(held)
        finally:
            limit(soft)
        for sock in waiting:
            self.assertTrue(served(sock))
            echo(sock)
            sock.close()
        proxy.wait_closes("finished", 21)
        # Enough for a client, not for its server as well: it is closed, and for that reason.
        used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
        try:
            limit(next(fd for fd in range(1000) if fd not in used) + 1)
            for _ in range(5):
                with dial(address) as sock:
                    self.assertFalse(served(sock))
        finally:
            limit(soft)
        proxy.wait_closes("no_descriptors", 5)
        with dial(address) as sock:
            self.assertTrue(served(sock))


# --- socket options --------------------------------------------------------------------------------------------------------


def socket_of(pid, match):
    """A copy of the first socket of the process that matches; skips where the kernel does not let us look."""
    pidfd_getfd = 438
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
            fd = libc.syscall(pidfd_getfd, pidfd, int(name), 0)
            if fd < 0:
                if ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
                    raise unittest.SkipTest("the kernel does not let us look into the worker (pidfd_getfd)")
                continue
            sock = socket.socket(fileno=fd)
            with contextlib.suppress(OSError):
                if sock.family in (socket.AF_INET, socket.AF_INET6) and match(sock):
                    return sock
            sock.close()
    finally:
        os.close(pidfd)
    raise AssertionError("no such socket in the worker")


def tcp(sock, option):
    return sock.getsockopt(socket.IPPROTO_TCP, option)


def level(sock, option):
    return sock.getsockopt(socket.SOL_SOCKET, option)


def listens(sock):
    return level(sock, socket.SO_ACCEPTCONN)


class Options(Case):
    def look(self, tcp_options, backlog=4096, second_message=True):
        """A worker's three kinds of socket: listening, towards the client, towards the server, after one message or two."""
        server = Echo(self)
        of_servers = {name: value for name, value in tcp_options.items() if name not in ("defer_accept", "fast_open")}
        proxy, address = self.proxy(server.address, listener={"tcp": tcp_options, "backlog": backlog}, upstream={"tcp": of_servers}, workers=1)
        client = self.connect(address)
        echo(client)
        if second_message:
            echo(client)
        pid = proxy.workers()[0]["pid"]
        found = [socket_of(pid, lambda sock: listens(sock)),
                 socket_of(pid, lambda sock: not listens(sock) and sock.getpeername() == client.getsockname()),
                 socket_of(pid, lambda sock: not listens(sock) and sock.getpeername() == server.listener.getsockname())]
        for sock in found:
            self.addCleanup(sock.close)
        return found

    def test_defaults(self):
        listening, client, server = self.look({})
        self.assertTrue(level(listening, socket.SO_REUSEPORT))
        self.assertEqual(tcp(listening, socket.TCP_DEFER_ACCEPT), 0)
        for sock in (client, server):
            self.assertTrue(tcp(sock, socket.TCP_NODELAY))
            self.assertTrue(level(sock, socket.SO_KEEPALIVE))
            self.assertEqual(tcp(sock, socket.TCP_KEEPIDLE), 60)
            self.assertEqual(tcp(sock, socket.TCP_USER_TIMEOUT), 0)

    def test_each_option(self):
        listening, client, server = self.look({"nodelay": False, "defer_accept": "5s", "keepalive": "17s", "user_timeout": "11s",
                                               "receive_buffer": "32k", "send_buffer": "48k", "fast_open": 7})
        self.assertGreaterEqual(tcp(listening, socket.TCP_DEFER_ACCEPT), 3)  # the kernel counts in retransmits
        self.assertEqual(tcp(listening, socket.TCP_FASTOPEN), 7)
        for sock in (client, server):
            self.assertFalse(tcp(sock, socket.TCP_NODELAY))
            self.assertEqual(tcp(sock, socket.TCP_KEEPIDLE), 17)
            self.assertEqual(tcp(sock, socket.TCP_USER_TIMEOUT), 11_000)
            self.assertEqual(level(sock, socket.SO_RCVBUF), 2 * 32 * KIB)  # the kernel doubles what is asked for
            self.assertEqual(level(sock, socket.SO_SNDBUF), 2 * 48 * KIB)

    def test_a_quiet_connection_gets_its_options_too(self):
        """The socket towards the server has most of its options from the second message on, or after a second."""
        _, _, server = self.look({}, second_message=False)
        self.assertFalse(level(server, socket.SO_KEEPALIVE))
        wait_until(lambda: level(server, socket.SO_KEEPALIVE), "keepalive on a quiet connection")
        self.assertEqual(tcp(server, socket.TCP_KEEPIDLE), 60)
        self.assertTrue(tcp(server, socket.TCP_NODELAY))

    def test_keepalive_off(self):
        _, client, server = self.look({"keepalive": "0s", "user_timeout": "0s"})
        for sock in (client, server):
            self.assertFalse(level(sock, socket.SO_KEEPALIVE))
            self.assertEqual(tcp(sock, socket.TCP_USER_TIMEOUT), 0)

    def test_backlog(self):
        """A stopped worker's queue holds what backlog says: as many clients get connected, the kernel lets no more in."""
        server = Echo(self)
        proxy, address = self.proxy(server.address, listener={"backlog": 16}, workers=1)
        pid = proxy.workers()[0]["pid"]
        socks = []
        os.kill(pid, signal.SIGSTOP)
        try:
            while len(socks) < 100:
                sock = socket.socket()
                self.addCleanup(sock.close)
                sock.settimeout(2 * aegis.SLOW)
                try:
                    sock.connect(aegis.parse(address)[1])
                except TimeoutError:
                    sock.close()
                    break
                socks.append(sock)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.assertIn(len(socks), (16, 17))
        for sock in socks:
            sock.settimeout(20 * aegis.SLOW)
            echo(sock)


if __name__ == "__main__":
    aegis.main()
