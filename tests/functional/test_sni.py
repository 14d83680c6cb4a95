"""Routes by the name that a client of TLS asks for: Aegis reads the hello, and takes no part in what is encrypted."""
import contextlib
import json
import os
import random
import socket
import ssl
import threading

import aegis
from aegis import Backend, Case, Echo, Task, dial, echo, form, how_it_ends, need, receive, run, wait_until
from hellos import (ALERT, DECODE_ERROR, ILLEGAL, PROTOCOL_VERSION, RECORD_OVERFLOW, UNEXPECTED, UNRECOGNIZED_NAME, Authority, ask,
                    extension, hello_of, in_records, plain_server_of, raw_hello, refusal, server_of)

CTL = aegis.BUILD / "aegisctl"
LOGGED_MOST = 115  # bytes of a name
WEB, SHOP, REST = "www.example.org", "a.shop.example.org", "else.example.net"


def keeps_all(sock):
    """Everything that a client sends, up to its end."""
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


class Sni(Case):
    def routed(self, upstreams, routes, default=None, hello=None, listener=None, **top):
        """upstreams: name -> addresses."""
        rows = [{"name": name, "servers": [{"address": one} for one in ([servers] if isinstance(servers, str) else servers)],
                 **(top.pop(f"upstream_{name}", {}))} for name, servers in upstreams.items()]
        front = {"name": "app", "address": "127.0.0.1:0", "sni": routes, **(listener or {})}
        if default:
            front["upstream"] = default
        if hello:
            front["client_hello"] = hello
        settings = {"workers": 2, "pin": False, **top, "listeners": [front], "upstreams": rows}
        proxy = self.aegis(settings)
        return proxy, proxy.address()

    def in_front_of_bytes(self, **hello):
        """A route for WEB alone to a server that keeps what it gets: (Aegis, its address, the server)."""
        backend = Backend(self, keeps_all)
        return *self.routed({"web": backend.address}, [{"name": WEB, "upstream": "web"}], hello=hello or None), backend


class Routes(Sni):
    def setUp(self):
        super().setUp()
        self.authority = Authority(self.directory)
        self.web = server_of(self, self.authority, "web", WEB)
        self.shop = server_of(self, self.authority, "shop", "*.shop.example.org", "*.b.shop.example.org")
        self.rest = server_of(self, self.authority, "rest", REST)

    def servers(self):
        return {"web": self.web.address, "shop": self.shop.address, "rest": self.rest.address}

    ROUTES = [{"name": "WWW.example.org.", "upstream": "web"}, {"name": "*.shop.example.org", "upstream": "shop"}]

    def test_exact_wildcard_and_default(self):
        """Each name reaches its server, verified end to end; who has no route, and who asks for no name, gets the default."""
        proxy, front = self.routed(self.servers(), self.ROUTES, default="rest")
        self.assertEqual(ask(front, WEB, self.authority), ["web", WEB, "line"])
        self.assertEqual(ask(front, WEB.upper(), self.authority)[0], "web")
        self.assertEqual(ask(front, SHOP, self.authority), ["shop", SHOP, "line"])
        self.assertEqual(ask(front, "a.b.shop.example.org", self.authority, check=False)[0], "rest", "a star is one label, as in certificates")
        self.assertEqual(ask(front, REST, self.authority), ["rest", REST, "line"])
        self.assertEqual(ask(front, None, self.authority, check=False), ["rest", "None", "line"])
        proxy.stop()

    def test_without_a_default(self):
        """No route: the alert for it, one line in the log, and no server hears of it."""
        proxy, front = self.routed(self.servers(), self.ROUTES)
        for name in (REST, "shop.example.org", None):
            sock = self.connect(front)
            sock.sendall(hello_of(name))
            self.assertEqual(refusal(sock), UNRECOGNIZED_NAME)
        proxy.wait_closes("no_route", 3)
        self.assertEqual((self.web.accepted, self.shop.accepted, self.rest.accepted), (0, 0, 0))
        proxy.wait_log(" refused: no route for ")
        self.assertEqual(ask(front, WEB, self.authority)[0], "web")
        proxy.stop()

    def test_protocols(self):
        """Routes with alpn come first, in the order of the client."""
        routes = [*self.ROUTES, {"name": WEB, "alpn": "h2", "upstream": "shop"}, {"alpn": "acme-tls/1", "upstream": "rest"}]
        proxy, front = self.routed(self.servers(), routes)
        for protocols, wanted in ((("http/1.1",), "web"), (("h2", "http/1.1"), "shop"), (("acme-tls/1",), "rest"),
                                  (("x", "h2", "acme-tls/1"), "shop"), ((), "web")):
            self.assertEqual(ask(front, WEB, self.authority, alpn=protocols, check=False)[0], wanted, protocols)
        proxy.stop()

    def test_openssl_and_curl(self):
        """s_client and curl --resolve, as they are."""
        openssl, curl = need("openssl", "curl")
        proxy, front = self.routed(self.servers(), self.ROUTES, default="rest")
        port = front.rpartition(":")[2]
        for name in (WEB, SHOP):
            done = run(openssl, "s_client", "-connect", front, "-servername", name, "-CAfile", self.authority.ca, "-verify_return_error",
                       "-verify_hostname", name, "-brief")
            self.assertIn("Verification: OK", done.stdout + done.stderr)
        # the server speaks no HTTP; that the certificate is for the name is what is asked
        done = run(curl, "-sv", "--cacert", self.authority.ca, "--resolve", f"{WEB}:{port}:127.0.0.1", "-m", "5", "--http0.9",
                   f"https://{WEB}:{port}/")
        self.assertIn("SSL certificate verify ok", done.stderr)
        proxy.stop()

    def test_what_is_told(self):
        """The name is in the access log, in /connections, in /why and in aegisctl; the upstream is the route's."""
        access = self.directory / "access.log"
        proxy, front = self.routed(self.servers(), self.ROUTES, access_log={"path": str(access), "format": "json"})
        context = ssl.create_default_context(cafile=self.authority.ca)
        with context.wrap_socket(dial(front), server_hostname=WEB) as secure:
            secure.sendall(b"x\n")
            self.assertEqual(secure.recv(100).split()[0], b"web")
            rows = json.loads(run(CTL, "-r", proxy.directory, "-j", "connections").stdout)
            self.assertEqual([row.get("sni") for row in rows["connections"]], [WEB])
            self.assertRegex(run(CTL, "-r", proxy.directory, "connections").stdout, rf"(?s)DOWN +SNI.* {WEB}\n")
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "it to end")
        wait_until(lambda: access.exists() and access.read_text().count("\n") >= 1, "a record")
        record = json.loads(access.read_text().splitlines()[0])
        self.assertEqual((record["sni"], record["upstream"], record["server"]), (WEB, "web", self.web.address))
        why = run(CTL, "-r", proxy.directory, "why", "127.0.0.1").stdout
        self.assertIn(f"asks for {WEB}: upstream web, by a route of listener app", why)
        proxy.stop()

    def test_where_tls_ends_here(self):
        """Routes of a listener that ends TLS itself: the hello is read first, and then answered."""
        web, shop = plain_server_of(self, "web"), plain_server_of(self, "shop")
        cert, key = self.authority.pair("front", WEB, "*.shop.example.org")
        proxy, front = self.routed({"web": web.address, "shop": shop.address}, self.ROUTES,
                                   listener={"tls": {"certificates": [{"cert": str(cert), "key": str(key)}]}})
        for _ in range(3):
            self.assertEqual(ask(front, WEB, self.authority), ["web", "line"])
            self.assertEqual(ask(front, SHOP, self.authority), ["shop", "line"])
        sock = self.connect(front)
        sock.sendall(hello_of(REST))
        self.assertEqual(refusal(sock), UNRECOGNIZED_NAME)
        proxy.stop()

    def test_reload_under_load(self):
        """Routes change while clients come and go: each gets the one or the other server, none an error; those that are there stay."""
        proxy, front = self.routed(self.servers(), self.ROUTES)
        stop, seen = threading.Event(), []

        def clients():
            while not stop.is_set():
                seen.append(ask(front, WEB, self.authority, check=False)[0])
        tasks = [Task(clients) for _ in range(4)]
        context = ssl.create_default_context(cafile=self.authority.ca)
        stays = context.wrap_socket(dial(front), server_hostname=WEB)
        self.addCleanup(stays.close)
        settings = proxy.settings
        for i in range(4):
            settings["listeners"][0]["sni"][0]["upstream"] = "shop" if i % 2 == 0 else "web"
            proxy.must_reload(settings)
            wanted = settings["listeners"][0]["sni"][0]["upstream"]
            self.assertEqual(ask(front, WEB, self.authority, check=False)[0], wanted)
        stop.set()
        for task in tasks:
            task.result()
        self.assertEqual(set(seen), {"web", "shop"})
        stays.sendall(b"still\n")
        self.assertEqual(stays.recv(100).split()[0], b"web")
        stays.close()
        proxy.stop()

    def test_hash_key(self):
        """consistent_hash by name: the same name is always served by the same server, and not all names by one."""
        authority = self.authority
        servers = [server_of(self, authority, f"s{i}", "*.shop.example.org") for i in range(4)]
        proxy, front = self.routed({"many": [one.address for one in servers]}, [{"name": "*.shop.example.org", "upstream": "many"}],
                                   upstream_many={"balance": "consistent_hash", "hash_key": "sni"})
        chosen = {}
        for i in range(24):
            name = f"n{i % 12}.shop.example.org"
            who = ask(front, name, authority)[0]
            self.assertEqual(chosen.setdefault(name, who), who)
        self.assertGreater(len(set(chosen.values())), 1)
        proxy.stop()


class Bytes(Sni):
    def test_every_byte_arrives(self):
        """In pieces of any length, in records of any length, with bytes behind the hello: the server gets just what was sent."""
        proxy, front, backend = self.in_front_of_bytes()
        hello, behind = hello_of(WEB), b"\x14\x03\x03\x00\x01\x01" + bytes(range(256)) * 40
        for sent in (hello, in_records(hello, 1), in_records(hello, 50), hello + behind, in_records(hello, 7) + behind):
            for piece in (1, 7, 500, 1 << 20):
                sock = self.connect(front)
                if piece == 1 and len(sent) > 4000:
                    continue
                for at in range(0, len(sent), piece):
                    sock.sendall(sent[at:at + piece])
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(backend.result(), sent)
        sock = self.connect(front)
        for at in range(0, len(hello), 100):  # each piece is seen before the next one comes
            sock.sendall(hello[at:at + 100])
            wait_until(lambda: aegis.unsent(sock) == 0, "it to be taken")
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(backend.result(), hello)
        proxy.stop()

    def test_by_a_unix_socket(self):
        """From clients on the machine, in pieces; refusals as well."""
        backend, hello = Backend(self, keeps_all), hello_of(WEB)
        proxy, front = self.routed({"web": backend.address}, [{"name": WEB, "upstream": "web"}],
                                   listener={"address": f"unix:{self.directory}/front"})
        for piece in (1 << 20, 100, 10):
            sock = self.connect(front)
            for at in range(0, len(hello), piece):
                sock.sendall(hello[at:at + piece])
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(backend.result(), hello)
        sock = self.connect(front)
        sock.sendall(hello_of(REST))
        self.assertEqual(refusal(sock), UNRECOGNIZED_NAME)
        proxy.stop()

    def test_bulk_behind_the_hello(self):
        """Megabytes in both directions behind the hello: spliced or copied, none is lost."""
        pattern = aegis.Pattern(3)
        hello, size = hello_of(WEB), 24 * aegis.MIB

        def serve(sock):
            receive(sock, len(hello))
            pattern.receive(sock, size)
            pattern.send(sock, size)
            sock.shutdown(socket.SHUT_WR)
            return sock.recv(1)
        backend = Backend(self, serve)
        proxy, front = self.routed({"web": backend.address}, [{"name": WEB, "upstream": "web"}])
        sock = self.connect(front)
        sock.sendall(hello)
        pattern.send(sock, size)
        pattern.receive(sock, size)
        sock.close()
        self.assertEqual(backend.result(), b"")
        proxy.stop()

    def test_refusals(self):
        """What is wrong has its alert and its reason, the stream ends in order, and no server hears of it."""
        proxy, front, backend = self.in_front_of_bytes(max="4k")
        good = raw_hello(WEB.encode())
        rows = (
            ("not_tls", None, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("not_tls", None, b"SSH-2.0-OpenSSH_9.6\r\n"),
            ("not_tls", PROTOCOL_VERSION, bytes.fromhex("802e0103010015000000010100800200800300800000040000050000")),
            ("bad_hello", ILLEGAL, raw_hello(b"www.example.org\0.evil")),
            ("bad_hello", ILLEGAL, raw_hello(b"www\r\nX: y")),
            ("bad_hello", ILLEGAL, raw_hello(b'a"} 1')),
            ("bad_hello", DECODE_ERROR, raw_hello(b"")),
            ("bad_hello", ILLEGAL, raw_hello(WEB.encode(), extension(0, b"\0\4\0\0\1a"))),
            ("bad_hello", RECORD_OVERFLOW, b"\x16\x03\x01\x40\x01" + good[5:]),
            ("bad_hello", UNEXPECTED, b"\x16\x03\x01\x00\x00" + good),
            ("bad_hello", UNEXPECTED, b"\x17\x03\x03\x00\x05hello"),
            ("bad_hello", None, b"\x15\x03\x01\x00\x02\x02\x28"),
            ("bad_hello", UNEXPECTED, b"\x16\x03\x01\x00\x04\x02\x00\x00\x40"),
            ("bad_hello", PROTOCOL_VERSION, good[:9] + b"\x03\x00" + good[11:]),
            ("hello_too_large", ILLEGAL, raw_hello(WEB.encode(), extension(21, bytes(5000)))),
            ("hello_too_large", ILLEGAL, b"\x16\x03\x01\x00\xff\x01\xff\xff\xff" + bytes(251)),
            ("no_route", UNRECOGNIZED_NAME, raw_hello(b"other.example.org")),
            ("no_route", UNRECOGNIZED_NAME, raw_hello(b"192.0.2.1")),
        )
        counts = {}
        for reason, alert, sent in rows:
            sock = self.connect(front)
            sock.sendall(sent)
            self.assertEqual(refusal(sock), alert, sent[:80])
            counts[reason] = counts.get(reason, 0) + 1
            proxy.wait_closes(reason, counts[reason])
        proxy.wait_log("refused: another protocol, perhaps HTTP without TLS (0 more not logged)")
        self.assertEqual(backend.accepted, 0)
        self.assertLess(proxy.log().count(" refused: "), len(rows))  # rate limited
        proxy.stop()
        self.assertNotIn("X: y", proxy.log())

    def test_deadline(self):
        """Half a hello, one that comes byte by byte, or nothing: closed at the deadline, without a server."""
        proxy, front, backend = self.in_front_of_bytes(timeout="400ms")
        for sent in (b"", hello_of(WEB)[:60], b"\x16"):
            sock = self.connect(front)
            sock.sendall(sent)
            self.assertIsNone(refusal(sock))
        drip, hello = self.connect(front), hello_of(WEB)
        with contextlib.suppress(OSError):
            for byte in hello[:-1]:
                drip.sendall(bytes([byte]))
        self.assertIsNone(refusal(drip))
        proxy.wait_closes("hello_timeout", 4)
        self.assertEqual(backend.accepted, 0)
        proxy.stop()

    def test_clients_that_leave(self):
        """At once, in the middle, or with a reset."""
        proxy, front, backend = self.in_front_of_bytes()
        for sent in (b"", hello_of(WEB)[:100]):
            sock = self.connect(front)
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            self.assertIsNone(refusal(sock))
        proxy.wait_closes("client_left", 2)
        sock = self.connect(front)
        sock.sendall(hello_of(WEB)[:100])
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "it to be there")
        aegis.reset(sock)
        proxy.wait_closes("client_reset")
        self.assertEqual(backend.accepted, 0)
        proxy.stop()

    def test_only_where_it_is_asked_for(self):
        """Beside a listener with routes one without: the server speaks first there, and nobody waits for a hello."""
        speaks = Echo(self, banner=b"220 hello\r\n")
        backend = Backend(self, keeps_all)
        settings = {"workers": 2, "pin": False,
                    "listeners": [{"name": "app", "address": "127.0.0.1:0", "sni": [{"name": WEB, "upstream": "web"}]},
                                  {"name": "plain", "address": "127.0.0.1:0", "upstream": "mail"}],
                    "upstreams": [{"name": "web", "servers": [{"address": backend.address}]},
                                  {"name": "mail", "servers": [{"address": speaks.address}]}]}
        proxy = self.aegis(settings)
        sock = self.connect(proxy.address("plain"))
        self.assertEqual(receive(sock, 11), b"220 hello\r\n")
        echo(sock)
        sock.close()
        proxy.stop()

    def test_behind_a_proxy_header(self):
        """The hello behind a header of the PROXY protocol, in one piece and byte by byte; the server is told of the client and of the name."""
        backend, hello = Backend(self, keeps_all), hello_of(WEB)
        proxy, front = self.routed({"web": backend.address}, [{"name": WEB, "upstream": "web"}],
                                   listener={"accept_proxy": {"from": ["127.0.0.0/8"]}}, upstream_web={"send_proxy": "v2"})
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 443\r\n"
        for piece in (1 << 20, 1):
            sock = self.connect(front)
            for at in range(0, len(header + hello), piece):
                sock.sendall((header + hello)[at:at + piece])
            sock.shutdown(socket.SHUT_WR)
            told = backend.result()
            self.assertTrue(told.endswith(hello))
            self.assertIn(socket.inet_aton("192.0.2.1"), told)
            self.assertIn(b"\x02" + len(WEB).to_bytes(2, "big") + WEB.encode(), told[:-len(hello)])
        for cut in (0, 100):  # the end is seen with the header already, by this step or the one before
            sock = self.connect(front)
            sock.sendall(header[:20])
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "it to be there")
            sock.sendall(header[20:] + hello[:cut])
            sock.shutdown(socket.SHUT_WR)
            self.assertIsNone(refusal(sock))
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "it to be over")
        proxy.wait_closes("client_left", 2)
        proxy.stop()

    def test_a_storm(self):
        """Clients that are good, broken in a random place, cut off, reset or silent, many at a time: each has its one end, and the good ones
        are served."""
        seed = random.randrange(1 << 30)
        pattern = random.Random(seed)
        proxy, front, backend = self.in_front_of_bytes(timeout=f"{round(800 * aegis.SLOW)}ms", max="4k")
        good = [in_records(hello_of(WEB), pattern.choice((1, 20, 16384))) for _ in range(4)]
        served = []

        def client(random):
            hello = bytearray(random.choice(good))
            kind = random.choice(("good", "good", "broken", "cut", "reset", "garbage", "silent"))
            if kind == "broken":
                hello[random.randrange(len(hello))] ^= 1 << random.randrange(8)
            elif kind == "garbage":
                hello = bytearray(random.randbytes(random.randrange(1, 3000)))
            elif kind in ("cut", "reset"):
                del hello[random.randrange(len(hello)):]
            with contextlib.suppress(ConnectionError), dial(front) as sock:
                at = 0
                while at < len(hello) and kind != "silent":
                    at += sock.send(hello[at:at + random.choice((1, 40, 4000))])
                if kind == "reset":
                    aegis.reset(sock)
                    return
                if kind != "silent":
                    with contextlib.suppress(OSError):  # it may be over already
                        sock.shutdown(socket.SHUT_WR)
                ended = aegis.how_it_ends(sock)
                if kind == "good":
                    self.assertEqual(ended, ("eof", b""), f"seed {seed}")
                    served.append(1)

        def clients(own):
            for _ in range(60 if not aegis.LONG else 2000):
                client(own)
        for task in [Task(clients, random.Random(seed + i)) for i in range(8)]:
            task.result(120)
        results = [backend.result() for _ in range(len(served))]
        self.assertEqual(len(results), len(served))
        proxy.stop()  # which asks whether every connection has one reason, and whether the workers are well

    def test_slow_clients_cost_little(self):
        """A thousand half hellos: no server, no buffer, and less than 2 kB of memory each."""
        proxy, front, backend = self.in_front_of_bytes(timeout="60s")
        worker = proxy.workers()[0]["pid"], proxy.workers()[1]["pid"]
        before = sum(aegis.rss_bytes(pid) for pid in worker)
        half, socks = hello_of(WEB)[:200], []
        for _ in range(1000):
            socks.append(self.connect(front))
            socks[-1].sendall(half)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1000, "all to be there")
        if not aegis.SANITIZED:
            self.assertLess(sum(aegis.rss_bytes(pid) for pid in worker) - before, 1000 * 2048 + 1024 * aegis.KIB)
        self.assertEqual(backend.accepted, 0)
        for sock in socks:
            sock.close()
        proxy.stop()

    def test_a_hello_in_a_small_buffer(self):
        """Where the kernel cannot wait for all that is missing, its worker does not look at what is there again and again."""
        backend = Backend(self, keeps_all)
        proxy, front = self.routed({"web": backend.address}, [{"name": WEB, "upstream": "web"}], workers=1,
                                   hello={"timeout": "3s", "max": "4k"}, listener={"tcp": {"receive_buffer": "4k"}})
        hello, worker = raw_hello(WEB.encode(), extension(21, bytes(2800))), proxy.workers()[0]["pid"]
        with self.connect(front) as sock:
            sock.sendall(hello)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(backend.result(), hello)
        sock, before = self.connect(front), aegis.cpu_seconds(worker)
        sock.sendall(hello[:-10])
        proxy.wait_closes("hello_timeout")
        self.assertLess(aegis.cpu_seconds(worker) - before, 0.2)
        proxy.stop()

    def test_warm_connections(self):
        """The hello goes out on a connection that was ready."""
        backend = Backend(self, keeps_all)
        proxy, front = self.routed({"web": backend.address}, [{"name": WEB, "upstream": "web"}], workers=1,
                                   upstream_web={"pool": {"warm": 2}})
        wait_until(lambda: backend.accepted >= 2, "warm connections")
        hello = hello_of(WEB)
        for _ in range(4):
            sock = self.connect(front)
            sock.sendall(hello)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(backend.result(), hello)
            sock.close()
        self.assertGreater(proxy.server(backend.address, "web")["pool"]["hits"] if "pool" in proxy.server(backend.address, "web") else 1, 0)
        proxy.stop()


class Vectors(Sni):
    """Hellos with a verdict each, as they come from sockets."""

    def send(self, address, data, piece):
        """In pieces; it may be refused before all of them are sent."""
        sock = self.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), piece):
                sock.sendall(data[at:at + piece])
        return sock

    def test_all(self):
        path = os.path.join(os.environ.get("AEGIS_TEST_VECTORS", ""), "tls/clienthello_vectors.json")
        if not os.path.exists(path):
            self.skipTest("AEGIS_TEST_VECTORS names no folder with tls/clienthello_vectors.json")
        vectors, log, backend = json.load(open(path)), self.directory / "access.log", Backend(self, keeps_all)
        proxy, front = self.routed({"app": backend.address}, [{"name": WEB, "upstream": "app"}], "app", {"timeout": "20s"},
                                   access_log={"path": str(log), "format": "json"})
        _, impatient = self.routed({"app": backend.address}, [{"name": WEB, "upstream": "app"}], "app", {"timeout": "300ms"})
        asked, taken = {}, 0
        for vector in vectors:
            data, verdict = bytes.fromhex(vector["hex"]), vector["verdict"]
            for piece in (len(data), 5):
                with self.subTest(vector["id"], piece=piece):
                    sock = self.send(impatient if verdict == "timeout" else front, data, piece)
                    if verdict != "timeout":
                        with contextlib.suppress(OSError):  # it may have been reset by now
                            sock.shutdown(socket.SHUT_WR)
                    _, said = how_it_ends(sock)
                    self.assertIn(said[:1], (b"", bytes([ALERT])))
                    if verdict == "route" or backend.accepted > taken:
                        self.assertIn(verdict, ("route", "either"))
                        self.assertEqual(backend.result(), data)
                        asked[form(sock)] = vector["sni"].lower().rstrip(".")
                        taken += 1
        self.assertEqual(backend.accepted, taken)

        def records():
            return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        wait_until(lambda: set(asked) <= {row["client"] for row in records()}, "all in the access log")
        told = {row["client"]: row.get("sni", "") for row in records() if row["client"] in asked}
        self.assertEqual(told, {client: name[:LOGGED_MOST] for client, name in asked.items()})
        proxy.stop()


if __name__ == "__main__":
    aegis.main()
