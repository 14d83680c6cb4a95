"""TLS for the tests: certificates made for the run, and sockets that speak TLS and else are as plain ones, half-close included.

AEGIS_TEST_TLS=client has every client of every script speak TLS, and every TCP listener of Aegis that has no tls of its own; =server the
same for backends and upstreams; =both for both. AEGIS_TEST_TLS_VERSION=1.2 has them speak that. So the scripts for plain connections run
over TLS as they are (test_*_tls.py).

AEGIS_TEST_KERNEL_TLS has Aegis run on what stands in for a kernel with TLS (kernel_tls.c says which words there are), and use it from the
first byte on (test_*_ktls.py).
"""
import atexit
import os
import pathlib
import select
import shutil
import socket
import ssl
import struct
import tempfile
import threading
import unittest

from ground import NOBODY, ROOT
from papers import Papers

MODE = os.environ.get("AEGIS_TEST_TLS", "")
VERSION = os.environ.get("AEGIS_TEST_TLS_VERSION", "")
KERNEL = os.environ.get("AEGIS_TEST_KERNEL_TLS", "")
CLIENTS, SERVERS = MODE in ("client", "both"), MODE in ("server", "both")
NO_LINGER = struct.pack("ii", 1, 0)

_lock = threading.Lock()
_folder = None


def folder():
    global _folder
    with _lock:
        if _folder is None:
            _folder = pathlib.Path(tempfile.mkdtemp(prefix="aegis-tls-"))
            os.chmod(_folder, 0o755)
            atexit.register(shutil.rmtree, _folder, ignore_errors=True)
        return _folder


_made = {}


def made(what, make):
    """Made once in a run."""
    with _making:
        if what not in _made:
            _made[what] = make()
        return _made[what]


_making = threading.RLock()


def papers():
    return made("papers", lambda: Papers(folder() / "papers"))


def pair():
    """The settings of a certificate for localhost and 127.0.0.1, and its key."""
    def make():
        names = papers().pair("localhost", "localhost", "IP:127.0.0.1")
        if ROOT:  # for an Aegis that is started as nobody, too
            os.chown(names["key"], NOBODY, NOBODY)
        return names
    return made("pair", make)


def client_context(version=None, alpn=(), certificate=None, verify=True):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(papers().ca)
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    limit(context, version)
    if alpn:
        context.set_alpn_protocols(alpn)
    if certificate:
        context.load_cert_chain(certificate["cert"], certificate["key"])
    return context


def server_context(version=None, alpn=(), certificate=None, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = certificate or pair()
    context.load_cert_chain(certificate["cert"], certificate["key"])
    limit(context, version)
    if alpn:
        context.set_alpn_protocols(alpn)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def limit(context, version):
    version = version or VERSION
    if version:
        context.minimum_version = context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]


def has_room(sock):
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return poll.poll(0)


class TlsSocket:
    """A socket with TLS. shutdown(SHUT_WR) says close_notify and goes on reading; an end without one is an AssertionError where it is read,
    unless `cut_off_is_fine`: then a ConnectionAbortedError. Two threads may use it, one for each direction. `later`: it begins with its
    hello, and goes on when something is to be read; until then what is sent is kept."""

    cut_off_is_fine = False

    def __init__(self, sock, context, server_side=False, name="localhost", session=None, later=False):
        self.sock, self.ended, self.abrupt = sock, False, False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._lock, self._sending = threading.RLock(), threading.RLock()
        self._plain = bytearray()
        self.rest = b""  # records that are not sent
        self._early = [] if later else None  # what is to be sent when the handshake is over
        self.ssl = context.wrap_bio(self._in, self._out, server_side, None if server_side else name, session)
        try:
            self._try(self.ssl.do_handshake) if later else self._shake_hands()
        except BaseException:
            self.sock.close()
            raise

    def _shake_hands(self):
        while not self._try(self.ssl.do_handshake):
            self._receive()

    def _be_ready(self):
        """The handshake that was left for later."""
        if self._early is not None:
            self._shake_hands()
            early, self._early = self._early, None
            for data in early:
                self.sendall(data)

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _try(self, function, *args, wait=True):
        """What it returns, in a tuple, or () when it wants input; what it has to say is sent."""
        try:
            with self._lock:
                result = (function(*args),)
        except ssl.SSLWantReadError:
            result = ()
        finally:
            self._flush(wait)
        return result

    def _flush(self, wait):
        """Without waiting: when the other thread is sending, it sends that, too. What a socket that does not block has no room for is kept."""
        if not self._sending.acquire(blocking=wait):
            return
        try:
            while True:
                with self._lock:
                    self.rest += self._out.read()
                if not self.rest or not (wait or has_room(self.sock)):
                    return
                try:
                    self.rest = self.rest[self.sock.send(self.rest):]
                except BlockingIOError:
                    return
        finally:
            self._sending.release()

    def _receive(self):
        records = self.sock.recv(64 << 10)
        with self._lock:
            if records:
                self._in.write(records)
            else:
                self._in.write_eof()

    def send(self, data):
        part = memoryview(data)[:16 << 10]
        self._flush(True)
        if self.rest:
            raise BlockingIOError
        self.sendall(part)
        return len(part)

    def sendall(self, data):
        if self._early is not None:
            self._early.append(bytes(data))
            return
        view = memoryview(data).cast("B") if len(data) else b""
        for at in range(0, len(view), 64 << 10):
            with self._sending:
                self._try(self.ssl.write, view[at:at + (64 << 10)])

    def recv(self, size, flags=0):
        assert flags == 0
        self._be_ready()
        while True:
            with self._lock:
                if self._plain:
                    part = bytes(self._plain[:size])
                    del self._plain[:size]
                    return part
            try:
                done = self._try(self.ssl.read, size, wait=False)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                if self.cut_off_is_fine:
                    raise ConnectionAbortedError("no close_notify before the end") from None
                raise AssertionError("the stream ended without a close_notify") from None
            if done:
                return done[0]
            self._receive()

    def recv_into(self, buffer, size=0):
        part = self.recv(size or len(buffer))
        memoryview(buffer)[:len(part)] = part
        return len(part)

    def setsockopt(self, level, name, value):
        self.abrupt = self.abrupt or (name == socket.SO_LINGER and value == NO_LINGER)
        self.sock.setsockopt(level, name, value)

    def end(self):
        """Say close_notify. What came before stays to be read: the end of a stream may not be asked for while there is some of it."""
        if self.ended or self._early is not None:
            return
        self.ended = True
        with self._lock:
            try:
                while True:
                    part = self.ssl.read(64 << 10)
                    if not part:
                        break
                    self._plain += part
            except ssl.SSLError:
                pass
            try:
                self._try(self.ssl.unwrap)
            except (ssl.SSLError, OSError):
                pass

    def shutdown(self, how):
        if how == socket.SHUT_WR:
            self.end()
        else:
            self.sock.shutdown(how)

    def close(self):
        if not self.abrupt and self.sock.fileno() >= 0:
            self.end()
        self.sock.close()


class Recorder(TlsSocket):
    """Keeps what it received."""

    def _receive(self):
        records = self.sock.recv(64 << 10)
        self.seen = getattr(self, "seen", b"") + records
        with self._lock:
            if records:
                self._in.write(records)
            else:
                self._in.write_eof()

    def record_sizes(self, kind):
        at, sizes = 0, []
        while at + 5 <= len(self.seen):
            type_, _, size = struct.unpack_from("!BHH", self.seen, at)
            if type_ == kind:
                sizes.append(size)
            at += 5 + size
        return sizes


def client(sock, later=False):
    """A client's socket, just connected, as the mode wants it. Where Aegis ends it before its handshake is over, the next read tells, as it
    does without TLS. later: it is connected before Aegis takes it, which may be long after."""
    if not CLIENTS:
        return sock
    name = sock.getsockname()
    try:
        return TlsSocket(sock, made("client", client_context), later=later)
    except (ConnectionResetError, BrokenPipeError):
        return Refused(sock, name, ConnectionResetError)
    except ssl.SSLEOFError:
        return Refused(sock, name, None)


class Refused(socket.socket):
    """Who was turned away before its handshake was over, by a RST or by a FIN. It has the name that it had."""

    def __init__(self, sock, name, error):
        super().__init__(sock.family, socket.SOCK_STREAM)
        self.name, self.error = name, error

    def getsockname(self):
        return self.name

    def recv(self, *_):
        if self.error:
            raise self.error
        return b""

    def sendall(self, *_):
        raise self.error or BrokenPipeError


def server(sock):
    """A backend's, just accepted."""
    return TlsSocket(sock, made("server", server_context), server_side=True) if SERVERS else sock


def listener_tls(certificate=None, **more):
    return {"certificates": [certificate or pair()], **more}


def upstream_tls(**more):
    return {"ca": str(papers().ca), "name": "localhost", **more}


def kernel(words=None):
    """The environment in which Aegis has a kernel with TLS, of this kind."""
    words = KERNEL if words is None else words
    if not words:
        return {}
    library = pathlib.Path(os.environ["AEGIS_BUILDDIR"]) / "tests" / "functional" / "kernel_tls.so"
    if not library.exists():
        raise unittest.SkipTest(f"{library.name} is not built (\"make check\" builds it)")
    # A sanitizer wants to be the first library that is loaded, and can do without.
    return {"LD_PRELOAD": str(library), "AEGIS_KERNEL_TLS": words,
            "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0"}


def secured(settings):
    """The settings as the mode wants them."""
    if isinstance(settings, str) or not (MODE or KERNEL):
        return settings
    settings = dict(settings)
    if KERNEL:
        settings["tls"] = {"ktls_from": "0", **settings.get("tls", {})}
    if CLIENTS:
        # No tickets: a client that never reads would have them unread when it closes, which its kernel takes for an abort.
        settings["listeners"] = [row if row.get("protocol") == "udp" or "tls" in row else {**row, "tls": listener_tls(tickets=False)}
                                 for row in settings.get("listeners", [])]
    if SERVERS:
        settings["upstreams"] = [row if "tls" in row else {**row, "tls": upstream_tls()} for row in settings.get("upstreams", [])]
    return settings
