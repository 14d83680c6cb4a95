"""The ground for tests of UDP: clients, servers and load. Every datagram bears a number that is used once, so that an answer that belongs
to another client, or to an earlier datagram, shows.

A session of UDP has no end of its own: datagram_app() lets it be idle for a second only, so that the gauges of a test get back to zero.
"""
import contextlib
import itertools
import json
import os
import select
import socket
import struct
import subprocess
import threading
import traceback

from aegis import app
from ground import BUILD, OWN_ADDRESS, SLOW
from wire import form, parse

AEGIS_UDPBLAST = BUILD / "aegis-udpblast"
IDLE = "1s"
# From <linux/udp.h>; Python has no names for them.
UDP_SEGMENT, UDP_GRO = 103, 104
ENOUGH = 4 << 20

_numbers = itertools.count()


def nonce(size=24):
    """Bytes that nobody else sends: of the process, then a number that is used once, then more of the same."""
    stamp = struct.pack("!IQ", os.getpid(), next(_numbers))
    return (stamp * (size // len(stamp) + 1))[:size] if size >= len(stamp) else stamp[-size:]


def datagram_app(servers, udp=None, listener=None, **more):
    """app() with a listener "app" for datagrams."""
    return app(servers, listener={"protocol": "udp", "udp": {"idle": IDLE, **(udp or {})}, **(listener or {})}, **more)


def open_udp(address="127.0.0.1:0"):
    family, name = parse(address)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ENOUGH)
    sock.bind(name)
    return sock


def free_udp_address():
    """An address on which nobody takes datagrams, on the loopback address of this script."""
    with open_udp(f"{OWN_ADDRESS}:0") as sock:
        return form(sock)


class DatagramClient:
    """A client with a socket of its own: for Aegis, a session."""

    def __init__(self, test, address, source=None, seconds=20.0):
        family, name = parse(address)
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        test.addCleanup(self.sock.close)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ENOUGH)
        if source:
            self.sock.bind(parse(source)[1])
        self.sock.settimeout(seconds * SLOW)
        self.sock.connect(name)
        self.address = form(self.sock)

    def send(self, data):
        self.sock.send(data)

    def receive(self):
        return self.sock.recv(65536)

    def ask(self, data=None, answer=lambda data: data):
        """Send, and expect what the server makes of it: this and nothing else. Returns the answer."""
        data = nonce() if data is None else data
        self.send(data)
        got, want = self.receive(), answer(data)
        if got != want:
            raise AssertionError(f"{self.address}: asked {data[:40]!r} ({len(data)} bytes), got {got[:40]!r} ({len(got)} bytes)")
        return got

    def gets(self, seconds):
        """A datagram, or None when none comes within the time."""
        ready, _, _ = select.select([self.sock], [], [], seconds)
        return self.receive() if ready else None

    def close(self):
        self.sock.close()


class DatagramServer:
    """A server with one thread. `answer(data, peer)` gives a list of datagrams to send back, or None; by default an echo with the name in
    front. What it raises fails the test. `seen` has (peer, data) of all that came, in order, and `mute` keeps the answers back."""

    def __init__(self, test, name="", address="127.0.0.1:0", answer=None, mute=False):
        self.name, self.mute, self.errors, self.seen, self._changed = name, mute, [], [], threading.Condition()
        self.answer = answer or (lambda data, peer: [name.encode() + data])
        self.sock = open_udp(address)
        self.address = form(self.sock)
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        test.addCleanup(self._check, test)
        test.addCleanup(self.close)

    def _run(self):
        while True:
            ready, _, _ = select.select([self.sock, self._woken], [], [])
            if self._woken in ready:
                return
            with contextlib.suppress(ConnectionRefusedError):  # a client of before is gone
                data, peer = self.sock.recvfrom(65536)
                self._take(data, peer)

    def _take(self, data, peer):
        with self._changed:
            self.seen.append((peer, data))
            self._changed.notify_all()
        if self.mute:
            return
        try:
            for reply in self.answer(data, peer) or ():
                with contextlib.suppress(ConnectionRefusedError):
                    self.sock.sendto(reply, peer)
        except BaseException:
            self.errors.append(traceback.format_exc())

    @property
    def peers(self):
        """Who has sent, in the order in which each came first: as many as there were sessions."""
        with self._changed:
            return list(dict.fromkeys(peer for peer, _ in self.seen))

    @property
    def data(self):
        with self._changed:
            return [data for _, data in self.seen]

    def wait_seen(self, count, seconds=15.0):
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.seen) >= count, seconds * SLOW):
                raise AssertionError(f"{len(self.seen)} of {count} datagrams within {seconds * SLOW:.0f} s")

    def send(self, data, peer):
        """Unasked."""
        self.sock.sendto(data, peer)

    def close(self):
        if self._thread.is_alive():
            os.write(self._wake, b"x")
            self._thread.join()
            os.close(self._wake)
            os.close(self._woken)
        self.sock.close()

    def _check(self, test):
        if self.errors and not test.has_failed:
            raise AssertionError("a server's answer failed:\n" + self.errors[0])


class Blast:
    """aegis-udpblast, beside the test. result() is its report."""

    def __init__(self, test, address, *options):
        self.log = test.directory / f"log-blast{next(_numbers)}"
        with open(self.log, "wb") as errors:
            self.process = subprocess.Popen([str(word) for word in (AEGIS_UDPBLAST, "-j", *options, address)], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=errors, text=True)
        test.addCleanup(self._end)

    def _end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def running(self):
        return self.process.poll() is None

    def result(self, seconds=60.0):
        """The report; what it counts is right even where it ended with code 3."""
        out, _ = self.process.communicate(timeout=seconds * SLOW)
        if self.process.returncode not in (0, 3):
            raise AssertionError(f"aegis-udpblast ended with {self.process.returncode}: {self.log.read_text()}")
        return json.loads(out.splitlines()[-1])


def blast(test, address, *options, seconds=60.0):
    """Run it to its end. What must never be: answers that are foreign, wrong, or come twice."""
    report = Blast(test, address, *options).result(seconds)
    for name in ("foreign", "wrong", "duplicates", "stale", "unsent", "unopened"):
        test.assertEqual(report[name], 0, f"{name}: {report}")
    return report


def demo(test, *options, name="demo"):
    """aegis-demo with a UDP service for each of the options ("", "named", "delay=10ms,answers=2"): their addresses."""
    command = [BUILD / "aegis-demo", "-n", name]
    for option in options or ("",):
        command += ["-u", "127.0.0.1:0" + ("," + option if option else "")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)

    def end():
        process.terminate()
        process.wait(20 * SLOW)
        process.stdout.close()

    test.addCleanup(end)
    addresses = []
    for line in process.stdout:
        if line == "ready\n":
            return addresses
        addresses.append(line.split()[1])
    raise AssertionError("aegis-demo ended before it was ready")
