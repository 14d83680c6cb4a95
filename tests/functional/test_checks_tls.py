"""Checks that speak TLS: they judge what clients get, and say why a server is down; with servers of the tests, Redis and PostgreSQL."""
import contextlib
import glob
import os
import shutil
import signal
import ssl

import aegis
import secure
from aegis import BUILD, NOBODY, ROOT, Backend, Case, Echo, drop_to_nobody, echo, need, receive, run, wait_until
from papers import Papers, need_tls, openssl
from secure import TlsSocket, server_context, upstream_tls
from test_health import FAST, KINDS, MYSQL_DENIED, MYSQL_GREETING, POSTGRES_ASKS, POSTGRES_STARTS
from test_peers import Peer, free_port
from test_tls import expired

need_tls()
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
OFTEN = {**FAST, "rise": 1, "fall": 1}


class Secured(Backend):
    """A server with TLS: what goes wrong in a handshake is the client's affair, and is kept. `context` may be changed."""

    def __init__(self, test, handler, context=None, before=None):
        self.context, self.talk, self.before, self.failures, self.handshakes = context or server_context(), handler, before, [], []
        super().__init__(test, self.serve)

    def serve(self, sock):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            if self.before and not self.before(sock):
                return
            try:
                sock = TlsSocket(sock, self.context, server_side=True)
            except (ssl.SSLError, OSError) as failure:
                self.failures.append(str(failure))
                return
            sock.cut_off_is_fine = True
            self.handshakes.append(sock)
            self.talk(sock)


def to_the_end(sock):
    """Whether the client said that nothing more comes."""
    with contextlib.suppress(ConnectionError):
        while sock.recv(4096):
            pass


class Checks(Case):
    def health(self, proxy, name="app", upstream="app"):
        group = next(row for row in proxy.stat()["upstreams"] if row["name"] == upstream)
        return group["servers"][0]["health"]

    def wait(self, proxy, state, why=None):
        """Until the server is up or down, and for this reason."""
        proxy.wait_stat(lambda stat: (found := stat["upstreams"][0]["servers"][0]["health"])["state"] == state and
                        (why is None or found["why"] == why), f"a server that is {state}: {why}")
        return self.health(proxy)

    def checked(self, server, check=None, tls=None, upstream=None, top=None):
        """Aegis with checks of it; clients are plain."""
        address = server if isinstance(server, str) else server.address
        settings = {"tls": upstream_tls(**(tls or {})), "health": {**OFTEN, **(check or {})}, **(upstream or {})}
        return self.proxy(address, upstream=settings, **(top or {}))[0]


class Trust(Checks):
    """What is wrong with a certificate takes its server down, as it takes clients' connections."""

    def down(self, server, why, says, tls=None):
        proxy = self.checked(server, tls=tls)
        found = self.wait(proxy, "down", why)
        self.assertEqual(found["result"], "TLS handshake failed")
        proxy.wait_log("is down: TLS: ")
        self.assertIn(says, proxy.log())
        self.assertIn(f"TLS handshake failed ({why})", run(BUILD / "aegis-stat", "-r", proxy.directory).stdout)
        self.assertIn(f"TLS handshake failed ({why})", run(BUILD / "aegisctl", "-r", proxy.directory, "servers").stdout)
        return proxy

    def test_good(self):
        server = Secured(self, to_the_end)
        proxy = self.checked(server)
        self.assertEqual(self.wait(proxy, "up")["result"], "ok")
        wait_until(lambda: len(server.handshakes) > 3, "checks to go on")
        self.assertFalse(any(sock.ssl.session_reused for sock in server.handshakes), "a session that is resumed shows no certificate")
        self.assertEqual(server.failures, [])

    def test_expired(self):
        """And good again with another certificate: nothing of a session is kept that would hide it."""
        server = Secured(self, to_the_end, server_context(certificate=expired(secure.papers(), "localhost-once")))
        proxy = self.down(server, "certificate expired", "certificate has expired", {"name": "localhost-once"})
        server.context = server_context(certificate=secure.papers().pair("once", "localhost-once"))
        self.wait(proxy, "up")

    def test_another_name(self):
        self.down(Secured(self, to_the_end), "certificate for another name", "hostname mismatch", {"name": "elsewhere.test"})

    def test_nobody_vouches(self):
        stranger = Papers(self.directory / "stranger")
        server = Secured(self, to_the_end, server_context(certificate=stranger.pair("localhost")))
        self.down(server, "certificate by nobody who is trusted", "unable to get local issuer certificate")

    def test_a_name_for_each_server(self):
        """Without a name it is the host of the address, as with sessions: here an IP address."""
        self.wait(self.checked(Secured(self, to_the_end), tls={"name": ""}), "up")

    def test_unverified(self):
        stranger = Papers(self.directory / "stranger")
        server = Secured(self, to_the_end, server_context(certificate=stranger.pair("whoever")))
        proxy, _ = self.proxy(server.address, upstream={"tls": {"verify": False}, "health": OFTEN})
        self.wait(proxy, "up")

    def test_no_tls(self):
        def serve(sock):
            with contextlib.suppress(ConnectionError):
                sock.recv(1)
                sock.sendall(b"220 smtp.test here\r\n")
                to_the_end(sock)
        self.down(Backend(self, serve).address, "no TLS spoken", "wrong version number")

    def test_nothing_in_common(self):
        context = server_context("1.2")
        proxy = self.checked(Secured(self, to_the_end, context), tls={"min_version": "1.3"})
        self.wait(proxy, "down", "alert: protocol version")

    def test_silence_has_an_end(self):
        def serve(sock):
            with contextlib.suppress(ConnectionError):
                to_the_end(sock)
        proxy = self.checked(Backend(self, serve).address, {"timeout": "200ms"})
        self.assertEqual(self.wait(proxy, "down")["result"], "no answer in time")
        proxy.wait_log("timed out waiting for the TLS handshake")

    def test_ended(self):
        proxy = self.checked(Backend(self, lambda sock: sock.recv(1)).address)
        self.wait(proxy, "down", "connection ended")

    def test_own_certificate(self):
        """One that the server refuses is refused after the handshake, with TLS 1.3: it is waited for."""
        papers = secure.papers()
        stranger, own = Papers(self.directory / "stranger"), papers.pair("aegis")
        for version in ("1.2", "1.3"):
            for tickets in (2, 0):
                with self.subTest(version, tickets=tickets):
                    context = server_context(version, client_ca=str(papers.ca))
                    if version == "1.3":
                        context.num_tickets = tickets
                    server = Secured(self, to_the_end, context)
                    good = self.checked(server, tls=own)
                    self.wait(good, "up")
                    good.stop()
                    none = self.checked(server)
                    self.wait(none, "down", "alert: certificate required" if version == "1.3" else "alert: handshake failure")
                    none.stop()
                    bad = self.checked(server, tls=stranger.pair("intruder"))
                    self.wait(bad, "down", "alert: unknown ca")
                    bad.stop()

    def test_certificates_change(self):
        """The control process gets what was read anew, and one that takes its place has it, too."""
        ca, other = self.directory / "ca.pem", Papers(self.directory / "other")
        shutil.copy(other.ca, ca)
        proxy = self.checked(Secured(self, to_the_end), tls={"ca": str(ca)}, top={"tls": {"watch": False}})
        self.wait(proxy, "down", "certificate by nobody who is trusted")
        shutil.copy(secure.papers().ca, ca)
        done = run(BUILD / "aegisctl", "-r", proxy.directory, "certs", "reload")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.wait(proxy, "up")
        for pid in proxy.control_pids():
            os.kill(pid, signal.SIGKILL)
        passed = self.health(proxy)["passed"]
        proxy.wait_log("the control process is replaced")
        proxy.wait_stat(lambda _: self.health(proxy)["passed"] > passed + 2, "checks of the next one")
        self.assertEqual(self.health(proxy)["state"], "up")


class Settings(Checks):
    def test_without(self):
        """tls = false: servers that are checked on a port where they speak without."""
        plain, secured = Echo(self), Secured(self, to_the_end)
        port = int(plain.address.rpartition(":")[2])
        proxy = self.checked(secured, {"tls": False, "port": port})
        self.wait(proxy, "up")
        self.assertEqual(secured.handshakes, [])
        proxy.must_reload(aegis.app(secured.address, upstream={"tls": upstream_tls(), "health": {**OFTEN, "port": port}}))
        self.wait(proxy, "down")

    def test_only_checks(self):
        """tls = true where sessions speak without: what passes through to servers that speak TLS; by the group tls, though it is off."""
        server = Secured(self, to_the_end)
        settings = {"health": {**OFTEN, "tls": True}, "tls": {**upstream_tls(), "enabled": False}}
        proxy, address = self.proxy(server.address, upstream=settings)
        self.wait(proxy, "up")
        with TlsSocket(aegis.dial(address), secure.client_context()) as sock:
            self.assertEqual(sock.ssl.version()[:3], "TLS")
        shown = run(aegis.AEGIS, "-T", "-c", proxy.config)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn(secure.upstream_tls()["ca"], shown.stdout)
        proxy.must_reload(aegis.app(server.address, upstream={"health": {**OFTEN, "tls": True}}))
        self.wait(proxy, "down", "certificate by nobody who is trusted")

    def test_on_and_off(self):
        """By reloads, for sessions and checks, for checks alone, and for neither; a control process that is killed has a heir that knows.
        Nothing is left of what was."""
        server, descriptors = Secured(self, to_the_end), {}

        def settings(sessions, checks):
            return aegis.app(server.address, upstream={"tls": {**upstream_tls(), "enabled": sessions}, "health": {**OFTEN, "tls": checks}})
        proxy = self.aegis(settings(False, False))
        for turn in range(6):
            sessions, checks = ((True, True), (False, True), (False, False))[turn % 3]
            proxy.must_reload(settings(sessions, checks))
            pid = proxy.control_pid()
            if turn % 2:
                os.kill(pid, signal.SIGKILL)
                pid = proxy.control_pid(pid)
            seen = server.handshakes if checks else server.failures  # who asks without TLS breaks off
            before = len(seen)
            wait_until(lambda: len(seen) > before + 2, "checks of this kind")
            self.wait(proxy, "up")
            first = descriptors.setdefault((sessions, checks), aegis.descriptors(proxy.pid))
            wait_until(lambda: aegis.descriptors(proxy.pid) <= first, "descriptors of the settings before to be closed")
        proxy.stop()

    def test_wrong(self):
        settings = {"upstream": {"tls": upstream_tls(), "health": {"type": "https", "tls": True}}}
        self.must_fail(aegis.app("127.0.0.1:1", **settings), 1, "-t", says=("health.tls", "type"))
        missing = {"upstream": {"tls": {"enabled": False, "ca": "/nowhere.pem"}, "health": {"tls": True}}}
        self.must_fail(aegis.app("127.0.0.1:1", **missing), 1, "-t", says=("upstreams[0].tls.ca", "there is no such file"))


class Words(Checks):
    """What is said inside is the same as without TLS."""

    def test_each_kind(self):
        for kind in ("redis", "mysql", "postgres", "expect", "http"):
            with self.subTest(kind):
                well = [True]

                def talk(sock, kind=kind, well=well):
                    if kind == "mysql":
                        sock.sendall(MYSQL_GREETING)
                    first = sock.recv(4096)
                    if kind == "http":
                        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
                        sock.sendall(b"HTTP/1.1 204 Fine\r\n\r\n" if well[0] else b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
                        self.assertIn(b"GET /ping HTTP/1.1\r\nHost: app.test\r\n", first)
                    elif kind == "postgres":
                        sock.sendall(POSTGRES_ASKS if well[0] else b"E" + (4 + len(POSTGRES_STARTS)).to_bytes(4, "big") + POSTGRES_STARTS)
                    elif kind == "mysql":
                        sock.sendall(MYSQL_DENIED)
                    elif kind == "redis":
                        sock.sendall(b"+PONG\r\n" if well[0] else b"-LOADING Redis is loading\r\n")
                    else:
                        sock.sendall(b"pong" if well[0] and first == b"ping" else b"nothing")
                    to_the_end(sock)

                server = Secured(self, talk)
                proxy = self.checked(server, KINDS[kind])
                self.wait(proxy, "up")
                if kind != "mysql":
                    well[0] = False
                    found = self.wait(proxy, "down", "503" if kind == "http" else None)
                    self.assertNotEqual(found["result"], "TLS handshake failed")
                self.assertEqual(server.failures, [])
                proxy.stop()

    def test_they_end_in_good_order(self):
        """A check says close_notify: a server does not take it for somebody who was cut off."""
        ends = []

        def talk(sock):
            sock.cut_off_is_fine = False
            receive(sock, 14)
            sock.sendall(b"+PONG\r\n")
            ends.append(sock.recv(1))
        proxy = self.checked(Secured(self, talk), {"type": "redis"})
        self.wait(proxy, "up")
        wait_until(lambda: len(ends) > 3, "checks to go on")
        self.assertEqual(set(ends), {b""})

    def test_an_answer_that_comes_with_the_handshake(self):
        """A server that speaks first and has its greeting in the same segment as its tickets."""
        def talk(sock):
            sock.sendall(b"220 ready\r\n")
            to_the_end(sock)
        for version in ("1.2", "1.3"):
            with self.subTest(version):
                proxy = self.checked(Secured(self, talk, server_context(version)), {"type": "tcp", "send": "", "expect": "220 "})
                self.wait(proxy, "up")
                proxy.stop()

    def test_http(self):
        """Host is whom TLS asks for, and http/1.1 is what is offered, whatever else the settings have sessions offer."""
        seen = []

        def talk(sock):
            seen.append((sock.ssl.selected_alpn_protocol(), sock.recv(4096)))
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100000))
            to_the_end(sock)
        server = Secured(self, talk, server_context(alpn=["h2", "http/1.1"]))
        proxy = self.checked(server, {"type": "http", "path": "/status?full=1"}, {"alpn": "h2,http/1.1"})
        self.assertEqual(self.wait(proxy, "up")["result"], "ok")
        port = server.address.rpartition(":")[2]
        self.assertEqual(seen[0][0], "http/1.1")
        self.assertIn(f"GET /status?full=1 HTTP/1.1\r\nHost: localhost:{port}\r\n".encode(), seen[0][1])

    def test_http_nonsense(self):
        def talk(sock):
            sock.recv(4096)
            sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        proxy = self.checked(Secured(self, talk), {"type": "http"})
        self.assertEqual(self.wait(proxy, "down")["result"], "answer not as expected")
        proxy.wait_log("not an answer of HTTP")

    def test_behind_a_header(self):
        """The header of the PROXY protocol stands in front of TLS."""
        def before(sock):
            head = receive(sock, 16)
            self.assertEqual(head[:13], b"\r\n\r\n\0\r\nQUIT\n\x20")
            receive(sock, int.from_bytes(head[14:16], "big"))
            return True
        server = Secured(self, to_the_end, before=before)
        proxy = self.checked(server, upstream={"send_proxy": "v2"})
        self.wait(proxy, "up")


class Postgres(Peer, Checks):
    """The request for TLS goes before it where that is how clients come."""

    def front(self, server, **check):
        listener = {"tls": {"certificates": [secure.pair()]}, "sni": [{"name": "localhost", "upstream": "app"}], "client_hello": {"starttls": "postgres"}}
        proxy, _ = self.proxy(server, listener=listener,
                              upstream={"tls": upstream_tls(), "health": {**OFTEN, "type": "postgres", **check}})
        return proxy

    def test_the_request(self):
        answer = [b"S"]

        def before(sock):
            if receive(sock, 8) != SSL_REQUEST:
                raise AssertionError("not PostgreSQL's request")
            sock.sendall(answer[0])
            return answer[0] == b"S"

        def talk(sock):
            sock.recv(4096)
            sock.sendall(POSTGRES_ASKS)
            to_the_end(sock)
        proxy = self.front(Secured(self, talk, before=before).address)
        self.wait(proxy, "up")
        for answer[0], why in ((b"N", "PostgreSQL declines TLS"), (b"Sx", "rules broken"), (b"", "connection ended")):
            self.wait(proxy, "down", why)

    def test_the_real_one(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        os.environ["PATH"] += "".join(os.pathsep + path for path in found[-1:])
        initdb, postgres = need("initdb", "postgres")
        data, port, user = self.directory / "data", free_port(), drop_to_nobody()
        data.mkdir(mode=0o700)
        if ROOT:
            os.chown(data, NOBODY, NOBODY)
        self.ask(initdb, "-D", data, "-A", "trust", "-U", "aegis", "--no-locale", "-E", "UTF8", "--no-sync", cwd=data, **user)
        for source, target in (("cert", "server.crt"), ("key", "server.key")):
            shutil.copy(secure.pair()[source], data / target)
            (data / target).chmod(0o600)
            if ROOT:
                os.chown(data / target, NOBODY, NOBODY)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
        process = self.serve(port, [postgres, "-D", data, "-p", port, "-h", "127.0.0.1", "-k", "", "-c", "fsync=off", "-c", "ssl=on"], cwd=data, **user)
        proxy = self.front(f"127.0.0.1:{port}")
        self.wait(proxy, "up")
        proxy.wait_stat(lambda _: self.health(proxy)["passed"] > 5, "checks to go on")
        self.assertNotRegex((self.directory / "log-postgres").read_text(), "SSL|FATAL|ERROR")
        for check, word in (({"tls": False}, "up"), ({"type": "tcp"}, "up")):
            other = self.front(f"127.0.0.1:{port}", **check)
            self.wait(other, word)
            other.stop()
        process.send_signal(signal.SIGINT)
        self.wait(proxy, "down")


class Redis(Peer, Checks):
    def test_the_real_one(self):
        """Redis with TLS alone; it logs nothing of checks, and its expired certificate takes it down."""
        server, = need("redis-server")
        port, pair = free_port(), secure.papers().pair("redis", "localhost-redis")
        options = ["--port", 0, "--tls-port", port, "--tls-cert-file", pair["cert"], "--tls-key-file", pair["key"], "--tls-ca-cert-file", secure.papers().ca,
                   "--tls-auth-clients", "no", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.directory]
        if "tls" not in run(server, "--tls-port", "1", "--port", "0", "--tls-cert-file", "/nowhere", "--dir", self.directory, seconds=20).stdout.lower():
            self.skipTest("this redis-server was built without TLS")
        process = self.serve(port, [server, *options])
        log = self.directory / "log-redis-server"
        wait_until(lambda: "Error accepting" in log.read_text(), "Redis to complain of who looked whether it listens")
        proxy = self.checked(f"127.0.0.1:{port}", {"type": "redis"}, {"name": "localhost-redis"})
        self.wait(proxy, "up")
        proxy.wait_stat(lambda _: self.health(proxy)["passed"] > 5, "checks to go on")
        self.assertEqual(log.read_text().count("Error accepting"), 1)
        process.terminate()
        self.wait(proxy, "down")
        process.wait(20)
        once = expired(secure.papers(), "localhost-redis")
        options[options.index(pair["cert"])], options[options.index(pair["key"])] = once["cert"], once["key"]
        self.serve(port, [server, *options])
        self.wait(proxy, "down", "certificate expired")


if __name__ == "__main__":
    aegis.main()
