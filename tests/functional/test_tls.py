"""TLS on the way: each way in which it can fail, with the alert, the reason and the one line in the log; what is cut off never looks
complete; what goes on inside of a connection; and several servers. That bytes are sacred, the scripts test_*_tls.py show."""
import json
import os
import socket
import ssl
import subprocess
import threading
import time

import admin
import aegis
import secure
from aegis import KIB, Backend, Case, Echo, Pattern, Task, dial, how_it_ends, receive, reset
from papers import Papers, need_tls, openssl
from secure import Recorder, TlsSocket, client_context, listener_tls, server_context, upstream_tls

need_tls()
DOWN = Pattern(7)
GARBAGE = b"\x17\x03\x03\x00\x20" + bytes(range(32))  # a record that nobody encrypted
CLOSED_BADLY = (ConnectionResetError, BrokenPipeError)


def is_version(number):
    return {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}[number]


def expired(papers, name):
    """A pair whose certificate was good until an hour ago."""
    folder = papers.directory
    request, database, config = folder / f"{name}.csr", folder / f"{name}.db", folder / f"{name}.cnf"
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    database.write_text("")
    config.write_text(f"[ca]\ndefault_ca = own\n[own]\ndatabase = {database}\nnew_certs_dir = {folder}\nrand_serial = yes\ndefault_md = sha256\n"
                      "policy = any\n[any]\ncommonName = supplied\n")
    begin, end = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() - ago)) for ago in (48 * 3600, 3600))
    openssl("ca", "-batch", "-notext", "-config", config, "-cert", papers.ca, "-keyfile", folder / "ca.key", "-in", request, "-out", cert,
            "-startdate", begin, "-enddate", end)
    return {"cert": str(cert), "key": str(key)}


class Tls(Case):
    def listener(self, **more):
        """Without tickets: who closes before it has read one loses what its kernel had not sent."""
        return {"tls": listener_tls(**{"tickets": False, **more})}

    def begin(self, address, context=None, **more):
        sock = TlsSocket(dial(address), context or client_context(), **more)
        self.addCleanup(sock.close)
        return sock

    def begin_badly(self, address, context, alert):
        """A handshake that fails, for the client at the latest when it reads, with this alert."""
        with self.assertRaises(ssl.SSLError) as caught:
            with TlsSocket(dial(address), context) as sock:
                sock.recv(1)
        self.assertIn(alert, str(caught.exception).upper().replace(" ", "_"))

    def one_line(self, proxy, *says):
        proxy.wait_log("no TLS handshake")
        lines = [line for line in proxy.log().splitlines() if "no TLS handshake" in line]
        self.assertEqual(len(lines), 1, lines)
        for text in says:
            self.assertIn(text, lines[0])


class Clients(Tls):
    """What clients do wrong."""

    def front(self, **more):
        """Only a server that nobody reaches: who comes that far is let in by mistake."""
        backend = Backend(self, lambda sock: None)
        proxy, address = self.proxy(backend.address, listener=self.listener(**more), workers=1)
        self.addCleanup(lambda: self.assertEqual(backend.accepted, 0))
        return proxy, address

    def test_no_tls(self):
        for bytes_ in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(100), b"\xff" * 20000, b"EHLO there\r\n"):
            with self.subTest(bytes_[:8]):
                proxy, address = self.front()
                sock = self.connect(address)
                sock.sendall(bytes_)
                how_it_ends(sock)
                proxy.wait_closes("not_tls")
                self.one_line(proxy, f"client {aegis.form(sock)}: no TLS handshake: ")
                proxy.stop()

    def test_broken_hello(self):
        """TLS, but not by its rules: told so by an alert, and then a FIN."""
        proxy, address = self.front()
        sock = self.connect(address)
        sock.sendall(b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\x00\x00" + b"\x16\x03\x01\x40\x00" + bytes(16384))
        how, bytes_ = how_it_ends(sock)
        self.assertEqual((how, bytes_[0], bytes_[5]), ("eof", 0x15, 2), "a fatal alert")
        proxy.wait_closes("client_tls_error")
        self.one_line(proxy, "alert sent: decode error")

    def test_nothing_in_common(self):
        context = client_context("1.2")
        context.set_ciphers("AES128-SHA")
        proxy, address = self.front()
        self.begin_badly(address, context, "HANDSHAKE_FAILURE")
        proxy.wait_closes("tls_mismatch")
        self.one_line(proxy, "no shared cipher", "alert sent: handshake failure")

    def test_version(self):
        proxy, address = self.front(min_version="1.3")
        self.begin_badly(address, client_context("1.2"), "PROTOCOL_VERSION")
        proxy.wait_closes("tls_mismatch")

    def test_alpn(self):
        proxy, address = self.front(alpn="h2,http/1.1")
        self.begin_badly(address, client_context(alpn=["smtp"]), "NO_APPLICATION_PROTOCOL")
        proxy.wait_closes("tls_mismatch")

    def test_certificates_of_clients(self):
        papers = secure.papers()
        good, late = papers.pair("client"), expired(papers, "late")
        stranger = Papers(self.directory / "strangers").pair("stranger")
        for version in ("1.2", "1.3"):
            missing = "HANDSHAKE_FAILURE" if version == "1.2" else "CERTIFICATE_REQUIRED"
            for certificate, alert, why in ((None, missing, "peer did not return a certificate"), (late, "CERTIFICATE_EXPIRED", "expired"),
                                            (stranger, "UNKNOWN_CA", "issuer")):
                with self.subTest(alert, version=version):
                    proxy, address = self.front(client_ca=str(papers.ca))
                    self.begin_badly(address, client_context(version, certificate=certificate), alert)
                    proxy.wait_closes("client_certificate")
                    self.one_line(proxy, why, "alert sent: ")
                    proxy.stop()
            proxy, address = self.proxy(Echo(self).address, listener=self.listener(client_ca=str(papers.ca)))
            with self.begin(address, client_context(version, certificate=good)) as sock:
                aegis.echo(sock)
            proxy.stop()

    def test_clients_that_refuse(self):
        """Aegis's own certificate is not good enough: the client's alert is the reason."""
        stranger = Papers(self.directory / "strangers")
        context = ssl.create_default_context(cafile=str(stranger.ca))
        proxy, address = self.front()
        with self.assertRaises(ssl.SSLCertVerificationError):
            TlsSocket(dial(address), context)
        proxy.wait_closes("client_alert")
        self.one_line(proxy, "unknown ca")

    def test_who_leaves(self):
        """In the middle of the handshake, or before it: no line, for that is what checks of the port do."""
        proxy, address = self.front()
        self.connect(address).close()
        sock = self.connect(address)
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        sock.close()
        reset(self.connect(address))
        proxy.wait_closes("handshake_left", 3)
        self.assertNotIn("no TLS handshake", proxy.log())

    def test_too_slow(self):
        """Silent, or a byte at a time: the time is for the whole handshake."""
        proxy, address = self.front(timeout="300ms")
        silent, slow = self.connect(address), self.connect(address)
        done = threading.Event()

        def trickle():
            with TrickledHello(slow, done):
                done.wait(20)

        task = Task(trickle)
        for sock in (silent, slow):
            how_it_ends(sock)
        done.set()
        task.result()
        proxy.wait_closes("handshake_timeout", 2)

    def test_a_byte_at_a_time(self):
        """A handshake and all that follows, in segments of one byte each."""
        proxy, address = self.proxy(Echo(self).address, listener=self.listener())
        sock = OneByOne(self.connect(address), client_context())
        aegis.echo(sock, b"in small pieces")
        sock.close()
        proxy.wait_closes("finished")


class TrickledHello:
    """Sends a hello a byte every few ms, until told to stop."""

    def __init__(self, sock, done):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            client_context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
        except ssl.SSLWantReadError:
            pass
        self.hello, self.sock, self.done = outgoing.read(), sock, done

    def __enter__(self):
        for byte in self.hello:
            if self.done.wait(0.02):
                return
            try:
                self.sock.send(bytes([byte]))
            except OSError:
                return

    def __exit__(self, *_):
        pass


class OneByOne(TlsSocket):
    def _flush(self, wait):
        with self._lock:
            records = self._out.read()
        for byte in records:
            self.sock.sendall(bytes([byte]))


class Secure(Backend):
    """An echo with TLS."""

    def __init__(self, test):
        context = server_context()

        def serve(sock):
            with TlsSocket(sock, context, server_side=True) as secured:
                while data := secured.recv(4096):
                    secured.sendall(data)
        super().__init__(test, serve)


class Streams(Tls):
    """What happens after the handshake."""

    def through(self, handler, upstream=None, **settings):
        backend = Backend(self, handler)
        return (backend, *self.proxy(backend.address, listener=self.listener(), upstream=upstream, **settings))

    def test_cut_off_by_the_client(self):
        """A FIN without a close_notify is no end: what came is delivered, then the server sees a reset."""
        def serve(sock):
            return how_it_ends(sock)

        for version in ("1.2", "1.3"):
            with self.subTest(version):
                backend, proxy, address = self.through(serve)
                sock = self.begin(address, client_context(version))
                sock.sendall(b"not all of it")
                sock.sock.shutdown(socket.SHUT_WR)
                self.assertEqual(backend.result(), ("reset", b"not all of it"))
                proxy.wait_closes("client_cut_off")
                proxy.stop()

    def test_cut_off_in_the_middle_of_a_record(self):
        backend, proxy, address = self.through(how_it_ends)
        sock = self.begin(address)
        sock.sendall(b"whole")
        sock.ssl.write(b"in part")
        sock.sock.sendall(sock._out.read()[:-3])
        sock.sock.shutdown(socket.SHUT_WR)
        self.assertEqual(backend.result(), ("reset", b"whole"))
        proxy.wait_closes("client_cut_off")

    def test_no_records(self):
        """Something that was not encrypted, or was changed on its way: the alert for it, and a reset for the server."""
        backend, proxy, address = self.through(how_it_ends)
        sock = self.begin(address)
        sock.sendall(b"good")
        sock.sock.sendall(GARBAGE)
        with self.assertRaises(ssl.SSLError) as caught:
            sock.recv(1)
        self.assertRegex(str(caught.exception), "BAD_RECORD_MAC|DECRYPT")
        self.assertEqual(backend.result(), ("reset", b"good"))
        proxy.wait_closes("client_tls_error")

    def test_key_updates(self):
        """The client changes its keys and asks Aegis to do so, in the middle of traffic (openssl s_client: K and k)."""
        aegis.need("openssl")
        def serve(sock):
            for line in iter(lambda: aegis.receive_line(sock), "end\n"):
                sock.sendall(line.upper().encode())

        backend, proxy, address = self.through(serve)
        peer = subprocess.Popen(["openssl", "s_client", "-connect", address, "-CAfile", str(secure.papers().ca), "-tls1_3", "-servername", "localhost"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(peer.stdout.close)
        self.addCleanup(peer.wait)
        self.addCleanup(peer.kill)
        said = []

        def until(text):
            for line in peer.stdout:
                said.append(line)
                if text in line:
                    return
            self.fail(f"{text} did not come: {''.join(said)}")

        until("Verify return code")
        for number, command in enumerate("KkKKk"):
            peer.stdin.write(f"{command}\n")
            peer.stdin.flush()
            until("KEYUPDATE")
            peer.stdin.write(f"line {number}\n")
            peer.stdin.flush()
            until(f"LINE {number}")
        peer.stdin.write("end\n")
        peer.stdin.flush()
        backend.result()
        proxy.wait_closes("finished")

    def test_data_with_the_handshake(self):
        """What comes in one segment with the end of the handshake is not forgotten while the socket is silent, nor is an end."""
        def serve(sock):
            data = aegis.receive(sock, 5)
            sock.sendall(data[::-1])
            return how_it_ends(sock)

        for version in ("1.2", "1.3"):
            with self.subTest(version):
                backend, proxy, address = self.through(serve)
                sock = Together(self.connect(address), client_context(version))
                sock.sendall(b"early")
                sock.end()
                sock.let_go()
                self.assertEqual(receive(sock, 5), b"ylrae")
                self.assertEqual(backend.result(), ("eof", b""))
                sock.sock.close()
                proxy.wait_closes("finished")
                proxy.stop()

    def test_large_record_arrives_in_small_segments(self):
        backend, proxy, address = self.through(lambda sock: DOWN.receive_all(sock))
        sock = self.begin(address)
        sock.ssl.write(DOWN.at(0, 16 * KIB))
        records = sock._out.read()
        sock.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(records), 100):
            sock.sock.sendall(records[at:at + 100])
        sock.close()
        self.assertEqual(backend.result(), 16 * KIB)
        proxy.wait_closes("finished")

    def test_a_record_that_takes_its_time(self):
        """While pieces of it come nobody is idle."""
        backend = Backend(self, lambda sock: DOWN.receive_all(sock))
        proxy, address = self.proxy(backend.address, listener={**self.listener(), "timeout": {"idle": "2s"}})
        sock = self.begin(address)
        sock.ssl.write(DOWN.at(0, 16 * KIB))
        records, pace = sock._out.read(), threading.Event()
        for at in range(0, len(records), 1400):
            sock.sock.sendall(records[at:at + 1400])
            pace.wait(0.3)
        sock.close()
        self.assertEqual(backend.result(), 16 * KIB)
        proxy.wait_closes("finished")

    def test_first_records_are_small(self):
        """So that each is of use as it comes; later ones are large."""
        backend, proxy, address = self.through(lambda sock: DOWN.send(sock, 256 * KIB))
        sock = Recorder(self.connect(address), client_context())
        self.assertEqual(DOWN.receive_all(sock), 256 * KIB)
        sizes = sock.record_sizes(0x17)
        self.assertLess(max(sizes[:8]), 1460)
        self.assertGreater(max(sizes), 15 * KIB)
        sock.close()
        proxy.wait_closes("finished")

    def test_live_connections(self):
        """Both sides of each; a handshake that is not over is none, and of a plain side nothing is said."""
        admin.need()
        backend = Secure(self)
        proxy, address = self.proxy(backend.address, listener=self.listener(), upstream={"tls": upstream_tls()}, workers=1)
        half = dial(address)  # says nothing
        self.addCleanup(half.close)
        first = self.begin(address, client_context("1.3"))
        aegis.echo(first)
        second = self.begin(address, client_context("1.2"))
        aegis.echo(second)
        rows = {row["client"]: row for row in admin.get(proxy.directory, "/connections").json["connections"]}
        self.assertEqual(len(rows), 3)
        rows = [rows[f"127.0.0.1:{sock.getsockname()[1]}"] for sock in (half, first, second)]
        self.assertEqual([sorted({"client_tls", "server_tls", "sni"} & set(row)) for row in rows], [[], ["client_tls", "server_tls", "sni"], ["client_tls", "server_tls", "sni"]])
        self.assertEqual([row["client_tls"]["version"] for row in rows[1:]], ["TLSv1.3", "TLSv1.2"])
        self.assertEqual([row["client_tls"]["cipher"] for row in rows[1:]], [sock.ssl.cipher()[0] for sock in (first, second)])
        self.assertEqual([row["server_tls"]["resumed"] for row in rows[1:]], [False, True])
        shown = aegis.run(aegis.BUILD / "aegisctl", "-r", proxy.directory, "connections").stdout
        self.assertIn("CLIENT TLS", shown)
        self.assertRegex(shown, r"TLSv1\.2 ECDHE-\S+ +TLSv1\.3 TLS_\S+ resumed")

    def test_what_is_told(self):
        """In the access log and the metrics."""
        papers, log = secure.papers(), self.directory / "access" / "log"
        log.parent.mkdir()
        os.chmod(log.parent, 0o777)
        proxy, address = self.proxy(Echo(self).address, listener=self.listener(client_ca=str(papers.ca), alpn="echo,chat"),
                                    access_log={"path": str(log), "format": "json"})
        sock = self.begin(address, client_context("1.3", alpn=["chat"], certificate=papers.pair("somebody")))
        aegis.echo(sock)
        row = proxy.listener()
        self.assertEqual(row["total"], 1)
        sock.close()
        proxy.wait_closes("finished")
        aegis.wait_until(lambda: log.exists() and log.read_text().endswith("\n"), "the record")
        record = json.loads(log.read_text())
        self.assertEqual([record[key] for key in ("sni", "tls_version", "alpn", "tls_resumed", "tls_client")],
                         ["localhost", "TLSv1.3", "chat", False, "somebody"])
        self.assertTrue(record["tls_cipher"].startswith("TLS_"), record)
        metrics = aegis.run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        self.assertRegex(metrics, r'aegis_tls_handshakes_total\{[^}]*resumed="no"[^}]*\} 1\n')


class Together(TlsSocket):
    """What it sends with the end of its handshake, and until let_go(), goes in one segment."""

    flights, kept = 0, b""

    def _flush(self, wait):
        with self._lock:
            records = self._out.read()
        self.flights += bool(records)
        if self.flights == 1:
            self.sock.sendall(records)
        elif self.flights > 1:
            self.kept += records
        if self.kept and self.waits_for_the_server():
            self.let_go()

    def waits_for_the_server(self):
        """TLS 1.2: its handshake ends with a message of the server."""
        return self.flights == 2 and self.ssl.version() != "TLSv1.3" and not self._in.pending

    def let_go(self):
        kept, self.kept = self.kept, b""
        self.sock.sendall(kept)


class Servers(Tls):
    """TLS to the server."""

    def to(self, handler, upstream=None, accept=server_context, **settings):
        """Clients are plain, the backend is as accept() says: (backend, Aegis, address)."""
        context = accept()

        def serve(sock):
            return handler(TlsSocket(sock, context, server_side=True) if context else sock)

        backend = Backend(self, serve)
        return (backend, *self.proxy(backend.address, upstream={"tls": upstream_tls(), "retries": 0, **(upstream or {})}, **settings))

    def test_both_versions(self):
        for version in ("1.2", "1.3"):
            with self.subTest(version):
                backend, proxy, address = self.to(lambda sock: sock.sendall(receive(sock, 4)) or sock.ssl.version(),
                                                  accept=lambda: server_context(version))
                with dial(address) as sock:
                    aegis.echo(sock, b"ping")
                self.assertEqual(backend.result(), is_version(version))
                proxy.stop()

    def test_cut_off_by_the_server(self):
        def serve(sock):
            sock.sendall(b"not all of it")
            sock.sock.shutdown(socket.SHUT_WR)
            how_it_ends(sock)

        _, proxy, address = self.to(serve)
        with dial(address) as sock:
            self.assertEqual(how_it_ends(sock), ("reset", b"not all of it"))
        proxy.wait_closes("server_cut_off")

    def test_no_records(self):
        def serve(sock):
            sock.sendall(b"good")
            sock.sock.sendall(GARBAGE)
            try:
                sock.recv(1)
            except (ssl.SSLError, *CLOSED_BADLY):
                return

        _, proxy, address = self.to(serve)
        with dial(address) as sock:
            self.assertEqual(how_it_ends(sock), ("reset", b"good"))
        proxy.wait_closes("server_tls_error")

    def turned_away(self, proxy, address, reason, says):
        with dial(address) as sock:
            self.assertEqual(how_it_ends(sock), ("reset", b""))
        proxy.wait_closes(reason)
        self.assertEqual(proxy.stat()["upstreams"][0]["servers"][0]["failures"], 1)
        proxy.wait_log("cannot connect")
        lines = [line for line in proxy.log().splitlines() if "cannot connect" in line]
        self.assertEqual(len(lines), 1)
        self.assertIn(says, lines[0])

    def test_no_tls(self):
        def serve(sock):
            sock.recv(4096)
            sock.sendall(b"220 what do you want?\r\n")
            how_it_ends(sock)

        _, proxy, address = self.to(serve, accept=lambda: None)
        self.turned_away(proxy, address, "server_handshake", "wrong version number")

    def test_silent(self):
        _, proxy, address = self.to(lambda sock: how_it_ends(sock), {"timeout": {"connect": "300ms"}}, accept=lambda: None)
        self.turned_away(proxy, address, "server_handshake_timeout", "timeout.connect")

    def failing(self, sock_handler, context):
        def serve(sock):
            try:
                TlsSocket(sock, context, server_side=True)
            except (ssl.SSLError, *CLOSED_BADLY) as error:
                return str(error)
            return "it was accepted"
        return Backend(self, serve)

    def test_certificates_that_do_not_hold(self):
        papers = secure.papers()
        for certificate, says in ((Papers(self.directory / "strangers").pair("localhost", "localhost", "IP:127.0.0.1"), "issuer"),
                                  (papers.pair("elsewhere"), "hostname mismatch")):
            with self.subTest(says):
                backend = self.failing(None, server_context(certificate=certificate))
                proxy, address = self.proxy(backend.address, upstream={"tls": upstream_tls(), "retries": 0})
                self.turned_away(proxy, address, "server_certificate", says)
                self.assertIn("ALERT", backend.result())
                proxy.stop()

    def test_another_server_is_tried(self):
        """Nothing of the client was sent: it goes to the next one, which is better."""
        bad = self.failing(None, server_context(certificate=secure.papers().pair("elsewhere")))
        context = server_context()
        good = Backend(self, lambda sock: TlsSocket(sock, context, server_side=True).sendall(b"welcome"))
        proxy, address = self.proxy([bad.address, good.address], upstream={"tls": upstream_tls(), "retries": 1}, workers=1)
        for _ in range(2):
            with dial(address) as sock:
                self.assertEqual(receive(sock, 7), b"welcome")
        self.assertEqual(proxy.listener()["retries"], 1)

    def test_client_certificate_and_names(self):
        papers = secure.papers()
        own = papers.pair("aegis")
        asked = []
        context = server_context(client_ca=str(papers.ca))
        context.sni_callback = lambda _sock, name, _context: asked.append(name)

        def serve(sock):
            with TlsSocket(sock, context, server_side=True) as secured:
                secured.sendall(secured.ssl.getpeercert()["subject"][0][0][1].encode())

        proxy, address = self.proxy(Backend(self, serve).address, upstream={"tls": upstream_tls(**own)})
        with dial(address) as sock:
            self.assertEqual(how_it_ends(sock), ("eof", b"aegis"))
        self.assertEqual(asked, ["localhost"])

    def test_sessions_are_resumed(self):
        for version in ("1.2", "1.3"):
            with self.subTest(version):
                resumed = []

                def serve(sock):
                    resumed.append(sock.ssl.session_reused)
                    sock.sendall(receive(sock, 4))
                    how_it_ends(sock)
                    sock.close()

                _, proxy, address = self.to(serve, accept=lambda: server_context(version), workers=1)
                for _ in range(3):
                    with dial(address) as sock:
                        aegis.echo(sock, b"ping")
                        sock.shutdown(socket.SHUT_WR)
                        how_it_ends(sock)
                self.assertEqual(resumed, [False, True, True])
                proxy.stop()

    def test_alpn_is_passed_on(self):
        """What the client and Aegis agreed on is what the server is offered."""
        context = server_context(alpn=["chat", "echo"])

        def serve(sock):
            with TlsSocket(sock, context, server_side=True) as secured:
                secured.sendall(str(secured.ssl.selected_alpn_protocol()).encode())

        proxy, address = self.proxy(Backend(self, serve).address, listener=self.listener(alpn="echo,chat"), upstream={"tls": upstream_tls()})
        for offered, chosen in ((["chat"], b"chat"), (["chat", "echo"], b"echo"), ([], b"None")):
            with self.subTest(offered), self.begin(address, client_context(alpn=offered)) as sock:
                self.assertEqual(how_it_ends(sock), ("eof", chosen))


if __name__ == "__main__":
    aegis.main()
