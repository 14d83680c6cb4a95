"""Bytes and the two ends of a connection: patterns, addresses, clients and backends."""
import contextlib
import errno
import fcntl
import os
import random
import selectors
import socket
import struct
import subprocess
import termios
import threading
import traceback
import unittest

import secure
from ground import AEGIS_DEMO, KIB, OWN_ADDRESS, SLOW, join, wait_until

# --- bytes -----------------------------------------------------------------------------------------------------------------


class Pattern:
    """Endless bytes that differ by seed; each received byte is compared with what stands at its offset."""

    PERIOD = 1_000_003  # a prime: a lost or repeated block of any usual size shifts the pattern and shows

    def __init__(self, seed=0):
        block = random.Random(seed).randbytes(self.PERIOD)
        self._view = memoryview(block + block)

    def at(self, offset, size):
        assert size <= self.PERIOD
        start = offset % self.PERIOD
        return self._view[start:start + size]

    def check(self, offset, data):
        if self.at(offset, len(data)) == data:
            return
        wrong = next(i for i, byte in enumerate(data) if self.at(offset + i, 1)[0] != byte)
        raise AssertionError(f"byte {offset + wrong} of the stream is not what was sent")

    def send(self, sock, size, offset=0, piece=256 * KIB):
        end = offset + size
        while offset < end:
            part = self.at(offset, min(piece, end - offset))
            sock.sendall(part)
            offset += len(part)

    def receive(self, sock, size, offset=0, piece=256 * KIB):
        """Exactly size bytes."""
        end = offset + size
        buffer = bytearray(min(piece, max(size, 1)))
        while offset < end:
            count = sock.recv_into(buffer, min(len(buffer), end - offset))
            if count == 0:
                raise AssertionError(f"the stream ended at byte {offset} of {end}")
            self.check(offset, memoryview(buffer)[:count])
            offset += count

    def receive_all(self, sock, offset=0, piece=256 * KIB):
        """Up to the end of the stream, which must be a clean one; returns how many bytes came. A reset is an exception."""
        first = offset
        buffer = bytearray(piece)
        while True:
            count = sock.recv_into(buffer)
            if count == 0:
                return offset - first
            self.check(offset, memoryview(buffer)[:count])
            offset += count


def receive(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise AssertionError(f"the stream ended after {len(data)} of {size} bytes: {data[:80]!r}")
        data += part
    return data


def receive_line(sock):
    line = b""
    while not line.endswith(b"\n"):
        line += receive(sock, 1)
    return line.decode()


def echo(sock, data=b"hello aegis"):
    """Send, and expect the same back."""
    sock.sendall(data)
    answer = receive(sock, len(data))
    if answer != data:
        raise AssertionError(f"sent {data[:80]!r}, got {answer[:80]!r}")


def how_it_ends(sock):
    """Read until the end: ("eof" or "reset", the bytes that came before)."""
    data = bytearray()
    while True:
        try:
            part = sock.recv(64 * KIB)
        except (ConnectionResetError, BrokenPipeError):
            return "reset", bytes(data)
        if not part:
            return "eof", bytes(data)
        data += part


def reset(sock):
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def unsent(sock):
    """How many bytes the peer's kernel has not acknowledged."""
    return struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0] + len(getattr(sock, "rest", b""))


# --- addresses -------------------------------------------------------------------------------------------------------------


def parse(address):
    """(family, sockaddr) of an address as Aegis writes it."""
    if address.startswith("unix:"):
        path = address[5:]
        return socket.AF_UNIX, "\0" + path[1:] if path.startswith("@") else path
    host, _, port = address.rpartition(":")
    if host.startswith("["):
        return socket.AF_INET6, (host[1:-1], int(port))
    return socket.AF_INET, (host, int(port))


def form(sock):
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return "unix:" + (name if isinstance(name, str) else "@" + name[1:].decode())
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


IP_BIND_ADDRESS_NO_PORT = 24


class Dialled(socket.socket):
    """The kernel tells a reset once: when connect() told it, a read would say that the stream has ended."""
    was_reset = False

    def recv(self, *args):
        if self.was_reset:
            raise ConnectionResetError
        return super().recv(*args)


def dial(address, seconds=20.0, receive_buffer=0, source=None, later=False):
    """A client, of an address of its own where `source` names one. later: nobody takes it yet (with TLS: its handshake does not wait)."""
    family, name = parse(address)
    sock = Dialled(family, socket.SOCK_STREAM)
    try:
        if source:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(seconds * SLOW)
        try:
            sock.connect(name)
        except ConnectionResetError:  # as soon as it was accepted: the next read tells
            sock.was_reset = True
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock if sock.was_reset else secure.client(sock, later)


def bind(address="127.0.0.1:0", backlog=1024):
    family, name = parse(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(name)
    if family == socket.AF_UNIX and isinstance(name, str) and not name.startswith("\0"):
        os.chmod(name, 0o777)  # workers of a root-started Aegis run as somebody else
    sock.listen(backlog)
    return sock


def free_address():
    """An address that nobody listens on, on the loopback address of this script."""
    with socket.socket() as sock:
        sock.bind((OWN_ADDRESS, 0))
        return form(sock)


def ordinary_port(kind=socket.SOCK_STREAM):
    """A port that is free on every address, and that the kernel gives to nobody who does not ask for it by number."""
    for port in random.Random(os.getpid()).sample(range(20000, 32000), 200):
        with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET, kind) as sock, contextlib.suppress(OSError):
            sock.bind(("", port))
            return port
    raise unittest.SkipTest("no port is free on every address")


def refused(address):
    """Is a new connection refused by the kernel (nobody listens)?"""
    try:
        dial(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except TimeoutError:
        pass
    return False


# --- backends --------------------------------------------------------------------------------------------------------------


class Backend:
    """A server with a thread for each connection. What a handler returns comes out of result(); what it raises fails the test."""

    def __init__(self, test, handler, address="127.0.0.1:0", receive_buffer=0):
        self.handler, self.errors, self._results, self._changed = handler, [], [], threading.Condition()
        self.accepted = 0
        self.listener = bind(address)
        if receive_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.address = form(self.listener)
        self._connections = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        test.addCleanup(self._check, test)
        test.addCleanup(self.close)

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.settimeout(60 * SLOW)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            thread = threading.Thread(target=self._handle, args=(sock,), daemon=True)
            self._connections.append((thread, sock))
            thread.start()

    def _handle(self, sock):
        try:
            try:
                sock = secure.server(sock)
            except OSError:
                return  # whoever it was left before it had said who it is
            result = self.handler(sock)
            with self._changed:
                self._results.append(result)
                self._changed.notify_all()
        except BaseException:
            with self._changed:
                self.errors.append(traceback.format_exc())
                self._changed.notify_all()
        finally:
            sock.close()

    def result(self, seconds=60.0):
        """The next result, in the order in which handlers ended."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._results or self.errors, seconds * SLOW):
                raise AssertionError("the backend's handler did not end in time")
            if not self._results:
                raise AssertionError("the backend's handler failed:\n" + self.errors[0])
            return self._results.pop(0)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()
        for thread, sock in self._connections:
            if thread.is_alive():
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread, _ in self._connections:
            thread.join(5 * SLOW)

    def _check(self, test):
        if self.errors and not test.has_failed:
            raise AssertionError("a backend's handler failed:\n" + self.errors[0])


class PlainEcho:
    """A server that says its banner, echoes, and knows how many connections it has and had at most. One thread, made for many
    connections; a connection that asks for nothing costs nothing. `mute` answers nothing; `refuse` closes at once with a RST."""

    def __init__(self, test, banner=b"", address="127.0.0.1:0", mute=False):
        self.banner, self.mute = banner, mute
        self.accepted = self.open = self.peak = self.resets = self.received = 0
        self.listener = bind(address)
        self.listener.setblocking(False)
        self.address = form(self.listener)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._owed = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        test.addCleanup(self.close)

    def _run(self):
        while True:
            for key, events in self._selector.select():
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fileobj is self._woken:
                    return
                else:
                    try:
                        self._serve(key.fileobj, events)
                    except OSError as error:
                        self.resets += error.errno in (errno.ECONNRESET, errno.EPIPE)
                        self._drop(key.fileobj)

    def _accept(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                self.accepted += 1
                self.open += 1
                self.peak = max(self.peak, self.open)
                self._owed[sock] = bytearray()
                self._selector.register(sock, selectors.EVENT_READ)
                if self.banner:
                    with contextlib.suppress(OSError):
                        sock.send(self.banner)

    def _serve(self, sock, events):
        owed = self._owed[sock]
        if events & selectors.EVENT_WRITE:
            del owed[:sock.send(owed)]
        elif events & selectors.EVENT_READ:
            data = sock.recv(256 * KIB)
            self.received += len(data)
            if not data:
                self._drop(sock)
                return
            if self.mute:
                return
            try:
                sent = sock.send(data)
            except BlockingIOError:
                sent = 0
            owed += data[sent:]
        self._selector.modify(sock, selectors.EVENT_WRITE if owed else selectors.EVENT_READ)

    def _drop(self, sock):
        self._selector.unregister(sock)
        del self._owed[sock]
        sock.close()
        self.open -= 1

    def close(self):
        """Stop listening and reset every connection."""
        if not self._thread.is_alive():
            return
        self._wake.send(b"x")
        self._thread.join()
        self.listener.close()
        for sock in list(self._owed):
            reset(sock)
        self._owed.clear()
        self._wake.close()
        self._woken.close()
        self._selector.close()


class TlsEcho(Backend):
    """The same with a thread for each connection."""

    def __init__(self, test, banner=b"", address="127.0.0.1:0", mute=False):
        self.banner, self.mute = banner, mute
        self.open = self.peak = self.resets = self.received = 0
        self._counting = threading.Lock()
        super().__init__(test, self._echo, address)

    def _count(self, **more):
        with self._counting:
            for name, count in more.items():
                setattr(self, name, getattr(self, name) + count)
            self.peak = max(self.peak, self.open)

    def _echo(self, sock):
        self._count(open=1)
        try:
            if self.banner:
                sock.sendall(self.banner)
            while data := sock.recv(256 * KIB):
                self._count(received=len(data))
                if not self.mute:
                    sock.sendall(data)
        except OSError as error:
            self._count(resets=error.errno in (errno.ECONNRESET, errno.EPIPE))
        finally:
            self._count(open=-1)


Echo = TlsEcho if secure.SERVERS else PlainEcho


class Demo:
    """aegis-demo: servers in a process of their own, where threads of the test would be too slow."""

    OPTIONS = {"http": "-H", "echo": "-e", "banner": "-b", "reset": "-r", "sink": "-s", "generator": "-g"}

    def __init__(self, test, *kinds, name="demo"):
        if not AEGIS_DEMO.exists():
            raise AssertionError(f"{AEGIS_DEMO} is not built")
        command = [AEGIS_DEMO, "-n", name]
        for kind in kinds:
            command += [self.OPTIONS[kind], "127.0.0.1:0"]
        self.addresses = {}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        test.addCleanup(self.close)
        for line in self.process.stdout:
            words = line.split()
            if words == ["ready"]:
                break
            self.addresses[words[0]] = words[-1]
        else:
            raise AssertionError("aegis-demo ended before it was ready")

    def __getitem__(self, kind):
        return self.addresses[kind]

    def close(self):
        self.process.terminate()
        self.process.wait(20 * SLOW)
        self.process.stdout.close()


# --- load ------------------------------------------------------------------------------------------------------------------


class Load:
    """Clients that never stop until told to. Every failure is kept.

    new      threads that connect, ask once, and close, over and over
    kept     connections, shared out to as many threads, that ask over and over and must live through everything
    """

    def __init__(self, test, address, new=2, kept=8, kept_threads=2):
        self.address, self.done, self.failures = address, threading.Event(), []
        self.exchanges, self.connections = [0] * (new + kept_threads), 0
        self.kept = [dial(address) for _ in range(kept)]
        self.broken = set()
        self._threads = [threading.Thread(target=self._guard, args=(self._run_new, i), daemon=True) for i in range(new)]
        self._threads += [threading.Thread(target=self._guard, args=(self._run_kept, new + i, self.kept[i::kept_threads]), daemon=True)
                          for i in range(kept_threads if kept else 0)]
        test.addCleanup(self.stop)
        for thread in self._threads:
            thread.start()

    def _guard(self, function, *args):
        try:
            function(*args)
        except BaseException:
            self.failures.append(traceback.format_exc())

    def _run_new(self, index):
        number = 0
        while not self.done.is_set():
            number += 1
            try:
                with dial(self.address) as sock:
                    echo(sock, b"new %d.%d" % (index, number))
            except (OSError, AssertionError) as error:
                self.failures.append(f"new connection: {error!r}")
                continue
            self.exchanges[index] += 1

    def _run_kept(self, index, socks):
        number = 0
        while not self.done.is_set():
            for sock in socks:
                if sock in self.broken:
                    continue
                number += 1
                try:
                    echo(sock, b"kept %d.%d" % (index, number))
                except (OSError, AssertionError) as error:
                    self.broken.add(sock)
                    self.failures.append(f"kept connection: {error!r}")
                    continue
                self.exchanges[index] += 1

    def total(self):
        return sum(self.exchanges)

    def wait_more(self, count=20):
        """Until every thread has done `count` more exchanges: the load was really on in between."""
        before = list(self.exchanges)
        threads = len(self._threads)
        wait_until(lambda: all(now - then >= count for now, then in zip(self.exchanges[:threads], before)) or self.failures,
                   lambda: f"progress of the load: {before} -> {self.exchanges}", 30)

    def stop(self):
        self.done.set()
        join(self._threads, "the load to end")
        for sock in self.kept:
            sock.close()
