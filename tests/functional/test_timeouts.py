"""Deadlines: each one ends the connection that it is for, with its own close reason, and leaves the others alone.

How long something took is only ever checked from below (not before its time), and "it lives on" by what happened to another connection
in the meantime, never by a clock."""
import contextlib
import socket
import threading
import time

import aegis
from aegis import Backend, Case, Echo, Task, bind, dial, echo, form, how_it_ends, receive

SHORT = 0.5 * aegis.SLOW  # seconds


def duration(seconds):
    return f"{round(seconds * 1000)}ms"


def black_hole(test):
    """An address that neither accepts nor refuses: a listening socket whose backlog is full, so that the kernel drops each SYN."""
    listener = bind(backlog=0)
    test.addCleanup(listener.close)
    while True:
        sock = socket.socket()
        test.addCleanup(sock.close)
        sock.settimeout(1.0)
        try:
            sock.connect(listener.getsockname())
        except TimeoutError:
            return form(listener)


class Connect(Case):
    def test_connect_timeout(self):
        """No answer at all: the client is closed after timeout.connect, not before."""
        proxy, address = self.proxy(black_hole(self), upstream={"timeout": {"connect": duration(SHORT)}, "retries": 0})
        started = time.monotonic()
        sock = self.connect(address)
        self.assertEqual(how_it_ends(sock)[1], b"")
        self.assertGreaterEqual(time.monotonic() - started, SHORT)
        proxy.wait_closes("connect_timeout")
        stat = proxy.stat()
        self.assertEqual(stat["connections"]["errors"], 1)
        self.assertEqual(stat["upstreams"][0]["servers"][0]["failures"], 1)
        self.assertEqual(stat["listeners"][0]["retries"], 0)

    def test_connect_timeout_then_another_server(self):
        """The next server is tried after the timeout, and the client never knows."""
        hole, server = black_hole(self), Echo(self)
        proxy, address = self.proxy([{"name": "hole", "address": hole}, {"name": "good", "address": server.address}], workers=1,
                                    upstream={"timeout": {"connect": duration(SHORT)}, "retries": 1})
        for number in range(6):
            with dial(address) as sock:
                echo(sock, b"number %d" % number)
        failures = proxy.server("hole")["failures"]
        self.assertGreaterEqual(failures, 2)
        self.assertEqual(proxy.listener()["retries"], failures)
        self.assertEqual(proxy.server("good")["total"], 6)
        proxy.wait_closes("finished", 6)

    def test_client_leaves_while_connecting(self):
        """A client that goes away during the connect gives its place back, at the latest at the deadline."""
        proxy, address = self.proxy(black_hole(self), upstream={"timeout": {"connect": duration(2 * SHORT)}, "retries": 0})
        for end in (socket.socket.close, aegis.reset):
            sock = dial(address)
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "the connection to be accepted")
            end(sock)
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "its place to be free")


class Relay(Case):
    def test_first_byte(self):
        """A client that says nothing is closed; one that said a byte lives on, as does one to whom the server spoke after its byte."""
        proxy, address = self.proxy(Echo(self).address, listener={"timeout": {"first_byte": duration(SHORT)}})
        spoken = self.connect(address)
        echo(spoken, b"x")
        started = time.monotonic()
        silent = [self.connect(address) for _ in range(3)]
        for sock in silent:
            self.assertEqual(how_it_ends(sock)[1], b"")
        self.assertGreaterEqual(time.monotonic() - started, SHORT)
        proxy.wait_closes("first_byte_timeout", 3)
        echo(spoken, b"still here")
        self.assertEqual(proxy.listener()["errors"], 3)

    def test_idle(self):
        """Bytes in either direction alone keep a connection; without any it ends after timeout.idle, not before."""
        idle = 4 * SHORT
        stop = threading.Event()

        def serve(sock):
            kind = receive(sock, 1)
            if kind == b"t":  # this one talks
                while not stop.wait(SHORT / 3):
                    sock.sendall(b".")
            elif kind == b"l":  # this one listens
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(100):
                        pass
            else:
                how_it_ends(sock)

        proxy, address = self.proxy(Backend(self, serve).address, listener={"timeout": {"idle": duration(idle)}})
        told, telling = self.connect(address), self.connect(address)
        told.sendall(b"t")
        telling.sendall(b"l")

        def tell():
            while not stop.wait(SHORT / 3):
                telling.sendall(b".")

        teller = Task(tell)
        for count in (1, 2):
            silent = self.connect(address)
            silent.sendall(b"s")
            started = time.monotonic()
            self.assertEqual(how_it_ends(silent)[1], b"")
            self.assertGreaterEqual(time.monotonic() - started, idle * 0.95)
            proxy.wait_closes("idle_timeout", count)
        # Both live still, after twice the time.
        self.assertEqual(proxy.stat()["connections"]["active"], 2)
        stop.set()
        teller.result()
        self.assertGreater(len(receive(told, 6)), 5)
        how, _ = how_it_ends(told)
        self.assertEqual(how, "eof")
        telling.close()
        self.assertEqual(proxy.listener()["errors"], 0)

    def test_lifetime(self):
        """However busy: after timeout.lifetime it is over."""
        proxy, address = self.proxy(Echo(self).address, listener={"timeout": {"lifetime": duration(2 * SHORT)}})
        started = time.monotonic()
        sock = self.connect(address)
        exchanges = 0
        with contextlib.suppress(OSError, AssertionError):
            while time.monotonic() - started < 30 * aegis.SLOW:
                echo(sock, b"%12d" % exchanges)
                exchanges += 1
        self.assertGreaterEqual(time.monotonic() - started, 2 * SHORT)
        self.assertGreater(exchanges, 10)
        proxy.wait_closes("lifetime")

    def test_upstream_read(self):
        """A server that does not answer a question in time; one that answers, and one that was not asked, are left alone."""
        def serve(sock):
            while True:
                kind = sock.recv(1)
                if kind == b"a":
                    sock.sendall(b"answer")
                elif kind != b"s":  # "s": say nothing
                    return

        proxy, address = self.proxy(Backend(self, serve).address, upstream={"timeout": {"read": duration(2 * SHORT)}})
        unasked, answered = self.connect(address), self.connect(address)
        for count in (1, 2):
            answered.sendall(b"a")
            self.assertEqual(receive(answered, 6), b"answer")
            sock = self.connect(address)
            sock.sendall(b"a")
            self.assertEqual(receive(sock, 6), b"answer")
            proxy.stat()  # takes longer than the turn in which the worker passed that on: a turn has one time for all that it reads
            started = time.monotonic()
            sock.sendall(b"s")
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(sock.recv(10), b"")
            self.assertGreaterEqual(time.monotonic() - started, 2 * SHORT)
            proxy.wait_closes("read_timeout", count)
        for sock in (unasked, answered):
            sock.sendall(b"a")
            self.assertEqual(receive(sock, 6), b"answer")
        self.assertEqual(proxy.listener()["errors"], 2)

    def test_hundreds_of_silent_clients(self):
        """300 clients that say nothing are all reclaimed, and a client among them is served as if they were not there."""
        proxy, address = self.proxy(Echo(self).address, listener={"timeout": {"idle": duration(3 * SHORT)}}, max_connections=400)
        silent = [self.connect(address) for _ in range(300)]
        while proxy.listener()["closes"]["idle_timeout"] < 300:
            with dial(address) as sock:
                echo(sock)
        for sock in silent:
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        self.assertEqual(proxy.stat()["connections"]["rejected"], 0)


if __name__ == "__main__":
    aegis.main()
