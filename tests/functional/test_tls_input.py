"""Bad input where TLS begins, and at its edges: the right alert, one reason, one line in the log, and nothing more. Whatever one client does,
another one on the same worker goes on, no server hears of it, and nothing of it stays."""
import os
import signal
import socket
import struct
import subprocess
import time

import aegis
import secure
from aegis import KIB, MIB, Backend, Echo, Task, dial, form, how_it_ends, receive, wait_until
from hellos import DECODE_ERROR, ILLEGAL, PROTOCOL_VERSION, RECORD_OVERFLOW, UNEXPECTED, extension, hello_of, in_records, raw_hello, refusal
from papers import openssl
from secure import client_context, server_context
from test_tls import Tls

NO_ALPN, MISSING_EXTENSION, HANDSHAKE_FAILURE = 120, 109, 40
CHANGE_CIPHER, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23


def record(kind, body=b"", version=0x0303):
    return struct.pack(">BHH", kind, version, len(body)) + body


def message(kind, body, length=None):
    return bytes([kind]) + struct.pack(">I", len(body) if length is None else length)[1:] + body


def vector(size, body):
    return len(body).to_bytes(size, "big") + body


VERSIONS = extension(43, vector(1, b"\x03\x04"))
GROUPS = extension(10, vector(2, b"\x00\x1d\x00\x17"))
SIGNATURES = extension(13, vector(2, b"\x04\x03\x08\x04"))
KEY = bytes(range(1, 33))
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")  # the "random" of a HelloRetryRequest


def modern(*more, name=b"localhost", key=KEY):
    """A hello of TLS 1.3 that can be answered, and more extensions."""
    share = extension(51, vector(2, b"\x00\x1d" + vector(2, key)))
    return raw_hello(name, VERSIONS + GROUPS + SIGNATURES + share + b"".join(more))


def keyless(name=b"localhost"):
    """The same without a key: it is asked for one, and sends another hello."""
    return raw_hello(name, VERSIONS + GROUPS + SIGNATURES + extension(51, vector(2, b"")))


def older(*more, name=b"localhost"):
    """The same of TLS 1.2."""
    return raw_hello(name, GROUPS + SIGNATURES + b"".join(more), ciphers=b"\xc0\x2b")


def alpn(body):
    return extension(16, body)


def longer(hello, by):
    """Behind its extensions there is more that is no part of them."""
    body = hello[9:] + bytes(by)
    return b"".join(record(HANDSHAKE, part) for part in pieces(message(1, body), 16384))


def pieces(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


# What is sent, and what the log says of it.
NOT_TLS = {
    "http": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", ": HTTP without TLS"),
    "connect": (b"CONNECT localhost:443 HTTP/1.1\r\n\r\n", ": HTTP without TLS"),
    "smtp": (b"EHLO there\r\n", ": no TLS (wrong version number)"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", ": no TLS"),
    "proxy-header": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + hello_of("localhost"), ": no TLS"),
    "zeros": (bytes(1000), ": no TLS"),
    "ones": (b"\xff" * 20000, ": no TLS"),
    "postgres": (bytes.fromhex("0000000804d2162f"), ": no TLS"),
}
# What is sent, the alert, and what the log says of it.
BROKEN = {
    "a-record-too-large": (record(HANDSHAKE, bytes(18000)), RECORD_OVERFLOW, "packet length too long"),
    "a-message-too-large": (record(HANDSHAKE, message(1, bytes(100), 0xffffff)), ILLEGAL, "excessive message size"),
    "100-kB-of-extensions": (longer(modern(), 100_000), DECODE_ERROR, "length mismatch"),
    "too-short": (record(HANDSHAKE, message(1, b"\x03\x03" + bytes(10))), DECODE_ERROR, "length mismatch"),
    "another-message": (record(HANDSHAKE, message(2, bytes(40))), UNEXPECTED, "unexpected message"),
    "the-end-first": (record(HANDSHAKE, message(20, bytes(12))), UNEXPECTED, "unexpected message"),
    "data-first": (record(DATA, bytes(32)), UNEXPECTED, "unexpected message"),
    "an-unknown-record": (older() + record(99, bytes(8)), UNEXPECTED, ""),
    "empty-records": (record(HANDSHAKE) * 2000, UNEXPECTED, ""),
    "empty-records-in-the-middle": (older() + record(HANDSHAKE) * 2000, UNEXPECTED, ""),
    "warnings": (older() + record(ALERT, b"\x01\x5a") * 100, UNEXPECTED, "too many warn alerts"),
    "pieces-of-alerts": (older() + record(ALERT, b"\x01") * 100, UNEXPECTED, "invalid alert"),
    "an-alert-first": (record(ALERT, b"\x01\x5a") * 100, UNEXPECTED, "unexpected message"),
    "an-extension-twice": (modern(GROUPS), ILLEGAL, "bad extension"),
    "a-name-twice": (modern(extension(0, vector(2, b"\x00" + vector(2, b"localhost")))), ILLEGAL, "bad extension"),
    "an-extension-too-long": (raw_hello(b"localhost", b"\x00\x10\xff\xff\x00"), DECODE_ERROR, "bad extension"),
    "no-name-in-the-list": (modern(extension(0, b"\x00\x00"), name=None), DECODE_ERROR, ""),
    "two-names": (modern(extension(0, vector(2, 2 * (b"\x00" + vector(2, b"localhost")))), name=None), DECODE_ERROR, ""),
    "a-NUL-in-the-name": (modern(name=b"localhost\0.example.org"), ILLEGAL, ""),
    "a-newline-in-the-name": (modern(name=b"localhost\n2026-01-01 error master: forged"), ILLEGAL, ""),
    "a-space-in-the-name": (modern(name=b"local host"), ILLEGAL, ""),
    "an-empty-name": (modern(name=b""), ILLEGAL, ""),
    "a-long-name": (modern(name=b"a" * 256), ILLEGAL, ""),
    "alpn-without-an-end": (modern(alpn(b"\x00\x05\x02h2")), DECODE_ERROR, "bad extension"),
    "alpn-of-nothing": (modern(alpn(b"\x00\x00")), DECODE_ERROR, "bad extension"),
    "an-empty-protocol": (modern(alpn(vector(2, b"\x00\x02h2"))), DECODE_ERROR, "bad extension"),
    "a-protocol-too-long": (modern(alpn(vector(2, b"\x09h2"))), DECODE_ERROR, "bad extension"),
    "no-key": (modern(key=b""), DECODE_ERROR, "length mismatch"),
    "an-odd-key": (modern(key=KEY[1:]), ILLEGAL, "bad ecpoint"),
    "a-ticket-that-is-not-last": (modern(extension(41, vector(2, vector(2, b"x" * 32) + bytes(4)) + vector(2, vector(1, bytes(32)))), GROUPS), ILLEGAL,
                                  "bad extension"),
}
MISMATCH = {
    "an-old-version": (raw_hello(b"localhost", ciphers=b"\x00\x2f").replace(b"\x03\x03", b"\x03\x01", 1), PROTOCOL_VERSION, "unsupported protocol"),
    "no-versions": (raw_hello(b"localhost", extension(43, b"\x00")), PROTOCOL_VERSION, "unsupported protocol"),
    "another-protocol": (modern(alpn(vector(2, b"\x04smtp"))), NO_ALPN, "no application protocol"),
    "no-cipher": (raw_hello(b"localhost", ciphers=b"\x00\x2f"), HANDSHAKE_FAILURE, "no shared cipher"),
}


class Input(Tls):
    """Aegis with a listener for each case, one worker, and a client that goes on all the time."""

    def begin_with(self, names, **tls):
        self.backend = Echo(self)
        settings = aegis.app(self.backend.address, workers=1)
        settings["listeners"] = [{"name": name, "address": "127.0.0.1:0", "upstream": "app", "tls": self.listener(**tls)["tls"]}
                                 for name in ("other", *names)]
        proxy = self.aegis(settings)
        self.addresses = {row["name"]: row["address"] for row in proxy.stat()["listeners"]}
        self.other = self.begin(self.addresses["other"], client_context())
        aegis.echo(self.other)
        return proxy

    def lines(self, proxy, name):
        return [line for line in proxy.log().splitlines() if f"listener {name}: " in line and "listening" not in line]

    def check_told(self, proxy, name, reason, says, client):
        """One connection, one reason, one line."""
        proxy.wait_closes(reason, 1, name)
        row = proxy.listener(name)
        self.assertEqual((row["total"], row["active"], sum(row["closes"].values())), (1, 0, 1), row)
        line, = wait_until(lambda: self.lines(proxy, name), f"a line about {name}")
        self.assertIn(f"client {client}: no TLS handshake: ", line)
        self.assertIn(says, line)
        self.assertIn("(0 more not logged)", line)

    def check_others(self, proxy, count):
        """No server heard of it, and everybody else is served."""
        aegis.echo(self.other, b"as if nothing had happened")
        self.begin(self.addresses["other"], client_context()).close()
        proxy.wait_closes("finished", 1, "other")
        self.assertEqual(self.backend.accepted, 2)
        lines = [line for line in proxy.log().splitlines() if " master: " not in line]
        self.assertEqual(len(lines), count, lines)


class Hellos(Input):
    def test_no_tls(self):
        """The end, for there is no alert that it would understand."""
        proxy = self.begin_with(NOT_TLS)
        for name, (sent, says) in NOT_TLS.items():
            with self.subTest(name):
                sock = self.connect(self.addresses[name])
                sock.sendall(sent)
                self.assertEqual(how_it_ends(sock), ("eof", b""))
                self.check_told(proxy, name, "not_tls", says, form(sock))
        self.check_others(proxy, len(NOT_TLS))

    def check_alerts(self, cases, reason, **tls):
        proxy = self.begin_with(cases, **tls)
        for name, (sent, alert, says) in cases.items():
            with self.subTest(name):
                sock = self.connect(self.addresses[name])
                sock.sendall(sent)
                self.assertEqual(last_alert(sock), alert)
                self.check_told(proxy, name, reason, says, form(sock))
                self.assertIn("(alert sent: ", self.lines(proxy, name)[0])
        self.check_others(proxy, len(cases))

    def test_broken(self):
        self.check_alerts(BROKEN, "client_tls_error")

    def test_nothing_in_common(self):
        self.check_alerts(MISMATCH, "tls_mismatch", alpn="h2,http/1.1")

    def test_the_hello_after_a_retry(self):
        """It is the first one, but for the key that it was asked for: a route was chosen by the name in that."""
        cases = {"another": (b"localhost", b"example.org"), "none": (b"localhost", None), "late": (None, b"localhost")}
        proxy = self.begin_with([*cases, "same", "nobody"])

        def ask_twice(listener, first, second):
            sock = self.connect(self.addresses[listener])
            sock.sendall(keyless(first))
            kind, _, size = struct.unpack(">BHH", receive(sock, 5))
            self.assertEqual((kind, receive(sock, size)[6:38]), (HANDSHAKE, RETRY))
            self.assertEqual(receive(sock, 6), record(CHANGE_CIPHER, b"\x01"))
            sock.sendall(modern(name=second))
            return sock

        for name, (first, second) in cases.items():
            with self.subTest(name):
                sock = ask_twice(name, first, second)
                self.assertEqual(last_alert(sock), ILLEGAL)
                self.check_told(proxy, name, "client_tls_error", "", form(sock))
        for name, asked in (("same", b"localhost"), ("nobody", None)):
            with self.subTest(name):
                sock = ask_twice(name, asked, asked)
                start = receive(sock, 6)
                self.assertEqual((start[0], start[5]), (HANDSHAKE, 2), start)
                sock.close()
                proxy.wait_closes("handshake_left", 1, name)
        self.check_others(proxy, len(cases))

    def test_byte_by_byte(self):
        """What is broken is told as soon as it is known, however it comes."""
        cases = {name: BROKEN[name] for name in ("a-newline-in-the-name", "too-short", "alpn-without-an-end", "another-message")}
        proxy = self.begin_with(cases)
        for name, (sent, alert, says) in cases.items():
            with self.subTest(name):
                sock = self.connect(self.addresses[name])
                for byte in sent:
                    sock.sendall(bytes([byte]))
                self.assertEqual(refusal(sock), alert)
                self.check_told(proxy, name, "client_tls_error", says, form(sock))

    def test_cut_short(self):
        """A hello that ends anywhere: its client left, as checks of a port do, which is worth no line."""
        hello = hello_of("localhost")
        proxy = self.begin_with(["cut"])
        ends = [0, 1, 4, 5, 6, 9, 43, len(hello) // 2, len(hello) - 1]
        for number, end in enumerate(ends, 1):
            sock = self.connect(self.addresses["cut"])
            sock.sendall(hello[:end])
            sock.shutdown(socket.SHUT_WR)
            how_it_ends(sock)
            proxy.wait_closes("handshake_left", number, "cut")
        self.check_others(proxy, 0)

    def test_a_client_that_says_it_gives_up(self):
        proxy = self.begin_with(["alert"])
        sock = self.connect(self.addresses["alert"])
        sock.sendall(modern())
        self.assertEqual(receive(sock, 1)[0], HANDSHAKE)
        sock.sendall(record(ALERT, b"\x02\x2e"))
        self.assertEqual(how_it_ends(sock)[0], "eof")
        self.check_told(proxy, "alert", "client_alert", "certificate unknown", form(sock))
        self.check_others(proxy, 1)

    def test_answered(self):
        """Odd, but right: the server's hello is the answer."""
        cases = {
            "plain": modern(),
            "older": older(),
            "60-kB-of-padding": modern(extension(21, bytes(60000))),
            "small-records": in_records(modern(), 7),
            "compressed-certificates": modern(extension(27, vector(1, b"\x00\x01\x00\x02\x00\x03"))),
            "compressed-certificates-older": older(extension(27, vector(1, b"\x00\x02"))),
            "unknown-extensions": modern(*(extension(0x0a0a + 0x1010 * number, b"grease") for number in range(15))),
            "a-garbage-ticket": modern(extension(45, b"\x01\x01"), extension(41, vector(2, vector(2, b"x" * 200) + bytes(4)) + vector(2, vector(1, bytes(32))))),
            "a-garbage-ticket-older": older(extension(35, os.urandom(200))),
            "early-data": modern(extension(42, b""), extension(45, b"\x01\x01"),
                                 extension(41, vector(2, vector(2, b"x" * 200) + bytes(4)) + vector(2, vector(1, bytes(32)))))
                          + record(DATA, bytes(1000)),
        }
        proxy = self.begin_with(cases, tickets=True)
        for name, sent in cases.items():
            with self.subTest(name):
                sock = self.connect(self.addresses[name])
                sock.sendall(sent)
                start = receive(sock, 6)
                self.assertEqual((start[0], start[5]), (HANDSHAKE, 2), start)
                sock.close()
                proxy.wait_closes("handshake_left", 1, name)
        self.check_others(proxy, 0)

    def test_nothing_stays(self):
        """Each of them over and over: the worker does not grow."""
        proxy = self.begin_with(["app"], timeout="60s")
        sent = [*(case[0] for case in (*NOT_TLS.values(), *BROKEN.values())), modern(), older(), hello_of("localhost")[:100]]
        pid = proxy.workers()[0]["pid"]

        def turn():
            for data in sent:
                with dial(self.addresses["app"]) as sock:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    drain(sock)
        began = time.monotonic()
        turn()
        turn()
        before = aegis.rss_bytes(pid)
        for _ in range(20):
            turn()
        self.assertEqual(proxy.listener("app")["total"], 22 * len(sent))
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "all to be over")
        if not aegis.SANITIZED:  # which keeps what was freed, and tells by itself what was not
            self.assertLess(aegis.rss_bytes(pid) - before, 2 * MIB)
        self.assertLess(len(self.lines(proxy, "app")), max(60, time.monotonic() - began + 2), "no more than a line a second")
        aegis.echo(self.other)


def drain(sock):
    try:
        while sock.recv(64 * KIB):
            pass
    except ConnectionResetError:
        pass


def last_alert(sock):
    """The fatal alert with which the stream ends, in order, maybe after the beginning of an answer."""
    how, data = how_it_ends(sock)
    if how != "eof":
        raise AssertionError("reset before the alert was read")
    at, kinds = 0, []
    while at < len(data):
        kind, _, size = struct.unpack_from(">BHH", data, at)
        kinds.append((kind, data[at + 5:at + 5 + size]))
        at += 5 + size
    kind, body = kinds[-1]
    if kind != ALERT or len(body) != 2 or body[0] != 2:
        raise AssertionError(f"not one fatal alert at the end: {kinds}")
    return body[1]


class Slow(Input):
    deadline = 120.0

    def test_a_thousand_silent_clients(self):
        """They are ended by the deadline and cost little until then; whoever comes meanwhile is served."""
        count = 1000
        proxy = self.begin_with(["app"], timeout="3s")
        pid = proxy.workers()[0]["pid"]
        before = aegis.rss_bytes(pid)
        began = time.monotonic()
        socks = [self.connect(self.addresses["app"]) for _ in range(count)]
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == count + 1 or time.monotonic() - began > 2.5, "all of them")
        grown = aegis.rss_bytes(pid) - before
        self.begin(self.addresses["other"], client_context()).close()
        ends = [how_it_ends(sock)[1] for sock in socks]
        self.assertGreaterEqual(time.monotonic() - began, 3)
        self.assertEqual(set(ends), {b""})
        proxy.wait_closes("handshake_timeout", count, "app")
        if not aegis.SANITIZED:
            self.assertLess(grown, count * 24 * KIB)
        aegis.echo(self.other)
        self.assertEqual(self.backend.accepted, 2)
        self.assertLessEqual(len(self.lines(proxy, "app")), max(5, time.monotonic() - began), "no more than a line a second")

    def large(self):
        """A certificate that fills more than a small socket buffer."""
        names = [f"{'a' * 50}{number}.example.org" for number in range(1200)]
        return secure.made("large", lambda: secure.papers().pair("large", "localhost", *names))

    def start_large(self, **tls):
        backend = Echo(self)
        return self.proxy(backend.address, workers=1, listener={"tls": listener(self.large(), **tls), "tcp": {"send_buffer": "4k"}})

    def test_a_client_that_never_reads(self):
        """What is said to it in the handshake does not fit into its socket: it is ended by the deadline."""
        proxy, address = self.start_large(timeout=f"{round(1000 * aegis.SLOW)}ms")
        sock = self.connect(address, receive_buffer=2 * KIB)
        sock.sendall(hello_of("localhost"))
        proxy.wait_closes("handshake_timeout")
        how, data = how_it_ends(sock)
        self.assertEqual(how, "reset")
        self.assertLess(len(data), 60 * KIB, "all of it fitted")

    def test_a_client_that_reads_slowly(self):
        """The same one, when it takes it bit by bit, is served."""
        for version in ("1.2", "1.3"):
            with self.subTest(version):
                proxy, address = self.start_large()
                sock = Sipping(dial(address, receive_buffer=2 * KIB), client_context(version))
                aegis.echo(sock, b"at last")
                sock.close()
                proxy.wait_closes("finished")
                proxy.stop()


def listener(certificate, **more):
    return secure.listener_tls(certificate, tickets=False, **more)


class Sipping(secure.TlsSocket):
    def _receive(self):
        records = self.sock.recv(700)
        with self._lock:
            self._in.write(records) if records else self._in.write_eof()


class Foreign(Tls):
    """Sessions and certificates of others."""

    def test_tickets_of_another_server(self):
        """They are of no use, and no harm: a full handshake."""
        for version in ("1.2", "1.3"):
            with self.subTest(version):
                context, given = client_context(version), server_context(version)

                def serve(sock):
                    with secure.TlsSocket(sock, given, server_side=True) as there:
                        there.sendall(receive(there, 5))
                        how_it_ends(there)
                with secure.TlsSocket(dial(Backend(self, serve).address), context) as there:
                    aegis.echo(there, b"hello")
                    session = there.ssl.session
                    there.end()
                self.assertTrue(session.has_ticket)
                proxy, address = self.proxy(Echo(self).address, listener=self.listener(tickets=True))
                with secure.TlsSocket(dial(address), context, session=session) as sock:
                    aegis.echo(sock)
                    self.assertFalse(sock.ssl.session_reused)
                    sock.end()
                    how_it_ends(sock)
                proxy.wait_closes("finished")
                self.assertNotIn("no TLS handshake", proxy.log())
                proxy.stop()

    def s_client(self, address, *words):
        peer = subprocess.Popen(["openssl", "s_client", "-connect", address, "-CAfile", str(secure.papers().ca), "-servername", "localhost", *map(str, words)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(peer.stdout.close)
        self.addCleanup(peer.wait)
        self.addCleanup(peer.kill)
        peer.seen = ""
        return peer

    def until(self, peer, text):
        for line in peer.stdout:
            peer.seen += line
            if text in line:
                return
        self.fail(f"{text!r} did not come: {peer.seen}")

    def say(self, peer, text):
        """To its terminal, which has commands of one letter; or through it."""
        peer.stdin.write(text)
        peer.stdin.flush()

    def test_early_data(self):
        """A client that has a session for it (of another server) sends data with its hello: they are not taken, and the handshake goes on."""
        pair, session, early = secure.pair(), self.directory / "session", self.directory / "early"
        early.write_text("early\n")
        server = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", pair["cert"], "-key", pair["key"], "-tls1_3", "-early_data"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(server.stdin.close)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        line = next(line for line in server.stdout if line.startswith("ACCEPT"))
        there = self.s_client("127.0.0.1:" + line.split(":")[-1].strip(), "-tls1_3", "-sess_out", session)
        wait_until(lambda: session.exists() and b"END SSL SESSION" in session.read_bytes(), "the session")
        self.assertIn("Max Early Data: 16384", openssl("sess_id", "-in", session, "-noout", "-text"))
        self.say(there, "Q\n")
        there.wait(20 * aegis.SLOW)
        heard = []

        def serve(sock):
            heard.append(aegis.receive_line(sock))
            sock.sendall(heard[0].upper().encode())
            how_it_ends(sock)
        backend = Backend(self, serve)
        proxy, address = self.proxy(backend.address, listener=self.listener(tickets=True))
        peer = self.s_client(address, "-tls1_3", "-sess_in", session, "-early_data", early)
        self.until(peer, "Early data was rejected")
        self.say(peer, "later\n")
        self.until(peer, "LATER")
        peer.stdin.close()
        backend.result()
        self.assertEqual(heard, ["later\n"])
        proxy.wait_closes("finished")
        self.assertNotIn("no TLS handshake", proxy.log())

    def test_renegotiation(self):
        """Refused: what the server has to say to it, it says as before."""
        heard = []

        def serve(sock):
            heard.append(aegis.receive_line(sock))
            sock.sendall(heard[0].upper().encode())
            return how_it_ends(sock)
        backend = Backend(self, serve)
        proxy, address = self.proxy(backend.address, listener=self.listener())
        peer = self.s_client(address, "-tls1_2")
        self.until(peer, "Verify return code")
        self.say(peer, "before\n")
        self.until(peer, "BEFORE")
        self.say(peer, "R\n")
        self.until(peer, "RENEGOTIATING")
        self.until(peer, "no renegotiation")
        peer.wait(20 * aegis.SLOW)
        backend.result()
        self.assertEqual(heard, ["before\n"])
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "its end")
        metrics = aegis.run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        self.assertRegex(metrics, r'aegis_tls_handshakes_total\{[^}]*resumed="no"[^}]*\} 1\n')

    def test_a_flood_of_key_updates(self):
        """More at once than anybody could mean: it is ended, and nobody else."""
        proxy, address = self.proxy(Echo(self).address, workers=1, listener=self.listener())
        other = self.begin(address)
        aegis.echo(other)
        peer = self.s_client(address, "-tls1_3")
        self.until(peer, "Verify return code")
        pid = proxy.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(200):
                self.say(peer, "k\n")
                self.until(peer, "KEYUPDATE")
        finally:
            os.kill(pid, signal.SIGCONT)
        proxy.wait_closes("client_tls_error")
        aegis.echo(other)

    def test_names_in_a_certificate_of_a_client(self):
        """A line end in it makes no line, neither in the log nor in the access log."""
        papers, log = secure.papers(), self.directory / "access" / "log"
        log.parent.mkdir()
        os.chmod(log.parent, 0o777)
        odd = papers.pair("odd", "DNS:odd.example.org", subject="one\ntwo error forged")
        proxy, address = self.proxy(Echo(self).address, listener=self.listener(client_ca=str(papers.ca)), access_log={"path": str(log), "format": "text"})
        with self.begin(address, client_context(certificate=odd)) as sock:
            aegis.echo(sock)
        proxy.wait_closes("finished")
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"), "the record")
        self.assertEqual(log.read_text().count("\n"), 1, log.read_text())
        self.assertIn("forged", log.read_text())
        self.assertFalse([line for line in proxy.log().splitlines() if line.startswith("two")])


if __name__ == "__main__":
    aegis.main()
