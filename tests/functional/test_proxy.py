"""The PROXY protocol of connections: who the client is, read from other proxies and told to servers, in both versions."""
import contextlib
import json
import socket
import time
import unittest

import aegis
from aegis import *
from proxy_header import read_header, take_header, tlv, v1, v2
from test_udp import have_ipv6
from wire import form

CLIENT, ASKED = "192.0.2.1:1234", "198.51.100.7:443"
ACCEPT = {"accept_proxy": {"from": ["127.0.0.0/8"]}}


class ProxyCase(Case):
    resets = ()  # with which clients may end

    def setUp(self):
        super().setUp()
        self.seen = []

    def told_server(self, name="", banner=b"", **more):
        """It reads a header, then echoes; `seen` has the headers."""
        def serve(sock):
            if banner:
                sock.sendall(banner)
            header = take_header(sock)
            self.seen.append(header)
            with contextlib.suppress(*self.resets):
                while data := sock.recv(65536):
                    sock.sendall(name.encode() + data)
            return header
        return Backend(self, serve, **more)

    def echoes(self, address, header=b"", data=b"hello", source=None, first=b""):
        with self.open(address, source) as sock:
            sock.sendall(header + data)
            self.assertEqual(receive(sock, len(first) + len(data)), first + data)
            return form(sock)

    def open(self, address, source=None):
        if source is None:
            return dial(address)
        sock = socket.create_connection(address.rpartition(":")[::2], timeout=20, source_address=(source, 0))
        return sock

    def access(self, **more):
        return {"access_log": {"path": str(self.directory / "access.log"), "format": "json"}, **more}

    def records(self, count):
        path = self.directory / "access.log"
        def lines():
            return path.read_text().splitlines() if path.exists() else []
        wait_until(lambda: len(lines()) >= count, lambda: f"{count} records; there are {lines()}")
        return [json.loads(line) for line in lines()]

    def refused(self, proxy, address, data, reason, half_close=False, source=None):
        """No server hears of it."""
        before = proxy.listener()["closes"][reason]
        with self.open(address, source) as sock:
            with contextlib.suppress(OSError):  # it may be gone before all of it is sent
                sock.sendall(data)
                if half_close:
                    sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(sock.recv(1), b"")
        proxy.wait_closes(reason, before + 1)


class In(ProxyCase):
    def test_the_client_that_is_told_of_counts(self):
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT, **self.access())
        for header in (v1(CLIENT, ASKED), v2(CLIENT, ASKED), v1("[2001:db8::1]:99", "[2001:db8::2]:80"), v2("[2001:db8::1]:99", "[::1]:80"),
                       v2("/tmp/a", "/tmp/b")):
            self.echoes(address, header)
        clients = sorted(record["client"] for record in self.records(5))
        self.assertEqual(clients, [CLIENT, CLIENT, "[2001:db8::1]:99", "[2001:db8::1]:99", "unix"])
        self.assertEqual(proxy.listener()["received"], 25, "the header is nobody's traffic")

    def test_who_speaks_for_nobody_is_the_client(self):
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT, **self.access())
        names = [self.echoes(address, header) for header in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN a b\r\n", v2(), v2(tlvs=b"junk"))]
        self.assertEqual(sorted(record["client"] for record in self.records(4)), sorted(names))

    @unittest.skipUnless(have_ipv6(), "no IPv6 here")
    def test_on_a_socket_for_both_families(self):
        proxy, address = self.proxy(Echo(self).address, listener={"address": ":0", "accept_proxy": {"from": ["127.0.0.0/8", "::1"]}}, **self.access())
        port = address.rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]"):
            for header in (v2(CLIENT, ASKED), v1("[::ffff:192.0.2.1]:1234", "[::1]:80")):
                self.echoes(f"{host}:{port}", header)
        self.assertEqual([record["client"] for record in self.records(4)], [CLIENT] * 4)

    def test_byte_by_byte(self):
        """And nothing of what stands behind it is lost or too much, at whatever place it is cut."""
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT)
        for header in (v1(CLIENT, ASKED), v2(CLIENT, ASKED, tlv(4, b"x" * 200)), v2()):
            with dial(address) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in header + b"hello":
                    sock.sendall(bytes([byte]))
                self.assertEqual(receive(sock, 5), b"hello")
            for cut in range(1, len(header) + 3):
                with dial(address) as sock:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    sock.sendall((header + b"hello")[:cut])
                    sock.sendall((header + b"hello")[cut:])
                    self.assertEqual(receive(sock, 5), b"hello")

    def test_much_behind_it(self):
        pattern = Pattern(3)
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT)
        with dial(address) as sock:
            sock.sendall(v2(CLIENT, ASKED) + pattern.at(0, 100_000).tobytes())
            sender = Task(pattern.send, sock, 5 * MIB, 100_000)
            pattern.receive(sock, 5 * MIB + 100_000)
            sender.result()

    def test_the_client_ends_its_side_at_once(self):
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT)
        for _ in range(20):
            with dial(address) as sock:
                sock.sendall(v2(CLIENT, ASKED) + b"hello")
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(receive(sock, 5), b"hello")
                self.assertEqual(how_it_ends(sock), ("eof", b""))

    def test_the_server_speaks_first(self):
        proxy, address = self.proxy(Demo(self, "banner")["banner"], listener=ACCEPT)
        with dial(address) as sock:
            sock.sendall(v1(CLIENT, ASKED))
            self.assertTrue(receive_line(sock).strip())
            echo(sock, b"a line\n")

    def test_lists_and_rates(self):
        """They look at the client. The peer is judged by `from` alone."""
        listener = {**ACCEPT, "allow": ["192.0.2.0/24"], "deny": ["192.0.2.66"],
                    "rate_limit": {"connections_per_second": 1, "burst": 2, "per": "address"}}
        proxy, address = self.proxy(Echo(self).address, listener=listener)
        for _ in range(2):
            self.echoes(address, v2(CLIENT, ASKED))
        self.refused(proxy, address, v2("192.0.2.66:1", ASKED), "denied")
        self.refused(proxy, address, v1("203.0.113.1:1", ASKED), "denied")
        self.refused(proxy, address, v2(), "denied")  # the proxy itself, which allow does not name
        for number in range(10, 20):
            self.echoes(address, v2(f"192.0.2.{number}:1", ASKED))
        before = proxy.listener()["closes"]["rate_limited"]
        for _ in range(5):
            with dial(address) as sock:
                sock.sendall(v2("192.0.2.40:1", ASKED))
        wait_until(lambda: proxy.listener()["closes"]["rate_limited"] > before, "the rate of an address to be reached")

    def test_the_choice_of_a_server(self):
        servers = [{"name": str(number), "address": Backend(self, self.say(str(number))).address} for number in range(4)]
        proxy, address = self.proxy(servers, listener=ACCEPT, upstream={"balance": "consistent_hash"})
        def of(client):
            with dial(address) as sock:
                sock.sendall(v2(client, ASKED))
                return receive(sock, 1)
        chosen = {number: of(f"192.0.2.{number}:5") for number in range(1, 40)}
        self.assertEqual(len(set(chosen.values())), 4)
        for number in range(1, 40):
            self.assertEqual(of(f"192.0.2.{number}:6"), chosen[number])

    def say(self, text):
        def serve(sock):
            sock.sendall(text.encode())
            sock.recv(1)
        return serve

    def test_connections_and_why(self):
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT)
        with dial(address) as sock:
            sock.sendall(v2(CLIENT, ASKED))
            echo(sock)
            out = run(aegis.BUILD / "aegisctl", "-r", proxy.directory, "connections").stdout
            self.assertIn(CLIENT, out)
        proxy.wait_closes("finished", 1)
        out = run(aegis.BUILD / "aegisctl", "-r", proxy.directory, "why", "192.0.2.1").stdout
        self.assertIn("a proxy (PROXY protocol, version 2) speaks for " + CLIENT, out)
        self.assertIn("finished", out)


class Besides(ProxyCase):
    """With what else a session may have."""

    def test_pools(self):
        """Clients that are told of share connections of a server that is told nothing."""
        def serve(sock):
            while True:
                line = b""
                while not line.endswith(b"\n"):
                    piece = sock.recv(1)
                    if not piece:
                        return
                    line += piece
                sock.sendall(line)
        server = Backend(self, serve)
        proxy, address = self.proxy(server.address, workers=1, listener={**ACCEPT, "bandwidth": {"down": "10M/s"}},
                                    upstream={"pool": {"keep": 4, "framing": "line"}})
        for number in range(10):
            self.echoes(address, v2(f"192.0.2.{number}:1", ASKED), b"hello\n")
            proxy.wait_closes("finished", number + 1)
        self.assertEqual(server.accepted, 1)

    def test_warm_connections(self):
        """Beside another upstream, whose servers are told: what was told is kept then, and nobody gets it here."""
        def serve(sock):
            if data := sock.recv(65536):
                sock.sendall(data)
        settings = app(Backend(self, serve).address, workers=1, listener={**ACCEPT, "bandwidth": {"down": "10M/s"}, "min_rate": "1/s"},
                       upstream={"pool": {"warm": 1}})
        settings["upstreams"].append({"name": "other", "send_proxy": "v2", "servers": [{"address": self.told_server().address}]})
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "other", **ACCEPT})
        proxy = self.aegis(settings)
        for number in range(10):
            self.echoes(proxy.address(), v2(f"192.0.2.{number}:1", ASKED, tlv(0xe0, b"x" * 100)))
        self.echoes(proxy.address("other"), v2(CLIENT, ASKED))
        self.assertEqual(self.seen[0].source, CLIENT)

    def test_bandwidth_and_a_server_that_is_told(self):
        proxy, address = self.proxy(self.told_server().address, listener={**ACCEPT, "bandwidth": {"up": "50M/s"}, "min_rate": "1/s"},
                                    upstream={"send_proxy": "v2"})
        for number in range(5):
            self.echoes(address, v2(f"192.0.2.{number}:1", ASKED, tlv(0xe0, b"x" * 100)), b"x" * 100_000)
        self.assertEqual([header.source for header in self.seen], [f"192.0.2.{number}:1" for number in range(5)])

    def test_a_queue(self):
        """Who waits for a place is still known when it gets one."""
        server = self.told_server()
        proxy, address = self.proxy([{"name": "s", "address": server.address, "max_connections": 1}], listener=ACCEPT,
                                    upstream={"send_proxy": "v2", "queue": {"size": 10, "timeout": "20s"}})
        socks = [self.open(address) for _ in range(4)]
        for number, sock in enumerate(socks):
            sock.sendall(v2(f"192.0.2.{number}:1", ASKED, tlv(5, b"%d" % number)) + b"x")
            wait_until(lambda: len(self.seen) == 1 and proxy.listener()["queued"] == number, lambda: f"{number} in line")
        for number, sock in enumerate(socks):
            with sock:
                self.assertEqual(receive(sock, 1), b"x")
                self.assertEqual((self.seen[number].source, self.seen[number].tlv(5)), (f"192.0.2.{number}:1", b"%d" % number))

    def test_it_is_awaited_over_a_reload_and_ended_by_a_drain(self):
        """With its place in max_connections."""
        settings = app(Echo(self).address, listener={"accept_proxy": {"from": ["127.0.0.1"], "timeout": "60s"}}, drain={"timeout": f"{round(3 * SLOW)}s"})
        proxy = self.aegis(settings)
        with dial(proxy.address()) as sock, dial(proxy.address()) as silent:
            wait_until(lambda: proxy.listener()["active"] == 2, "two that wait")
            settings["upstreams"][0]["retries"] = 1
            proxy.must_reload(settings)
            sock.sendall(v2(CLIENT, ASKED) + b"hello")
            self.assertEqual(receive(sock, 5), b"hello")
            sock.close()
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(silent.recv(1), b"")
        proxy.wait_closes("drain_timeout", 1)


class Refused(ProxyCase):
    def test_what_is_no_header(self):
        server = Echo(self)
        proxy, address = self.proxy(server.address, listener={"accept_proxy": {"from": ["127.0.0.1"], "timeout": "20s"}})
        for data in (b"GET / HTTP/1.0\r\n\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", b"PROXY " + b"x", v2(CLIENT, ASKED)[:-1] + b"",
                     v2(CLIENT, ASKED, b"\2\0\5abc"), v2(CLIENT, ASKED, tlv(3, b"\0\0\0\0")), v2(CLIENT, ASKED, command=0x22),
                     b"PROXY UNKNOWN " + b"x" * 200, v2(tlvs=b"x" * 4097)):
            self.refused(proxy, address, data, "proxy_header", half_close=True)
        self.assertEqual(proxy.server(server.address)["total"], 0)
        proxy.wait_log("no header of the PROXY protocol")

    def test_a_flood_is_one_line(self):
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT, workers=1)
        started = time.monotonic()
        for _ in range(50):
            self.refused(proxy, address, b"x", "proxy_header")
        proxy.wait_log("refused: no header of the PROXY protocol")
        lines = [line for line in proxy.log().splitlines() if "refused: no header of the PROXY protocol" in line]
        self.assertLess(len(lines), max(15, time.monotonic() - started + 2), "a line a second")
        self.assertGreater(len(lines), 0)

    def test_it_does_not_come(self):
        proxy, address = self.proxy(Echo(self).address, listener={"accept_proxy": {"from": ["127.0.0.1"], "timeout": "200ms"}})
        self.refused(proxy, address, b"", "proxy_timeout")
        self.refused(proxy, address, v2(CLIENT, ASKED)[:20], "proxy_timeout")

    def test_slowly_does_not_help(self):
        """The time is for all of it."""
        proxy, address = self.proxy(Echo(self).address, listener={"accept_proxy": {"from": ["127.0.0.1"], "timeout": "500ms"}})
        with dial(address) as sock, self.assertRaises(OSError):
            for byte in v2(CLIENT, ASKED, tlv(4, b"x" * 4000)):
                sock.sendall(bytes([byte]))
                time.sleep(0.01)
        proxy.wait_closes("proxy_timeout", 1)

    def test_it_leaves_without_a_byte(self):
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT)
        dial(address).close()
        proxy.wait_closes("proxy_left", 1)

    def test_who_is_not_believed(self):
        server = Echo(self)
        proxy, address = self.proxy(server.address, listener={"accept_proxy": {"from": ["127.0.0.8"]}})
        self.refused(proxy, address, v2(CLIENT, ASKED), "proxy_untrusted")
        self.refused(proxy, address, b"", "proxy_untrusted")
        self.assertEqual(proxy.server(server.address)["total"], 0)
        self.echoes(address, v2(CLIENT, ASKED), source="127.0.0.8")


class Optional(ProxyCase):
    def begin(self, server=None, **more):
        listener = {"accept_proxy": {"from": ["127.0.0.8"], "required": False, "timeout": f"{round(1000 * SLOW)}ms"}}
        return self.proxy(server or Echo(self).address, listener=listener, **self.access(**more))

    def test_others_are_clients(self):
        """What they send is theirs, even if it looks like a header."""
        proxy, address = self.begin()
        name = self.echoes(address, v2(CLIENT, ASKED), data=b"", first=v2(CLIENT, ASKED))
        self.assertEqual(self.records(1)[0]["client"], name)

    def test_a_proxy_may_leave_it_out(self):
        proxy, address = self.begin()
        self.echoes(address, v2(CLIENT, ASKED), source="127.0.0.8")
        name = self.echoes(address, source="127.0.0.8")
        self.assertEqual(sorted(record["client"] for record in self.records(2)), sorted([CLIENT, name]))
        self.refused(proxy, address, b"PROXY TCP4 x", "proxy_header", source="127.0.0.8")  # what begins as one must be one

    def test_and_wait_for_the_server(self):
        proxy, address = self.begin(Demo(self, "banner")["banner"])
        with self.open(address, "127.0.0.8") as sock:
            self.assertTrue(receive_line(sock).strip())


class Out(ProxyCase):
    def sends(self, value="v2", address="127.0.0.1:0", servers=None, listener=None, **upstream):
        return self.proxy(servers or self.told_server().address, listener={"address": address, **(listener or {})},
                          upstream={"send_proxy": value, **upstream})

    def assert_told(self, header, version, source, destination, tlvs=()):
        self.assertEqual((header.version, header.command, header.transport, header.source, header.destination, header.tlvs),
                         (version, "PROXY", "stream", source, destination, list(tlvs)))

    def test_both_versions(self):
        for version in (1, 2):
            proxy, address = self.sends(f"v{version}")
            for number in range(10):
                name = self.echoes(address, data=b"x" * (1 + number * 5000))
                self.assert_told(self.seen[-1], version, name, address)
            self.assertEqual(proxy.listener()["received"], sum(1 + number * 5000 for number in range(10)))
            proxy.stop()

    @unittest.skipUnless(have_ipv6(), "no IPv6 here")
    def test_ipv6(self):
        proxy, address = self.sends("v2", "[::1]:0")
        name = self.echoes(address)
        self.assert_told(self.seen[0], 2, name, address)

    @unittest.skipUnless(have_ipv6(), "no IPv6 here")
    def test_the_address_that_was_asked(self):
        proxy, address = self.sends("v2", ":0")
        port = address.rpartition(":")[2]
        for host in ("127.0.0.1", "127.0.0.77", "[::1]"):
            name = self.echoes(f"{host}:{port}")
            self.assert_told(self.seen[-1], 2, name, f"{host}:{port}")

    def test_before_the_server_speaks_and_before_the_client_does(self):
        proxy, address = self.sends(servers=self.told_server(banner=b"hello\r\n").address)
        with dial(address) as sock:
            self.assertEqual(receive_line(sock).strip(), "hello")
            wait_until(lambda: self.seen, "the header, though nobody else has spoken")
            echo(sock)

    def test_in_one_segment_with_what_the_client_has_sent(self):
        def serve(sock):
            data = sock.recv(65536)
            sock.sendall(b"ok")
            sock.recv(1)
            return data
        server = Backend(self, serve)
        proxy, address = self.sends(servers=server.address, listener=ACCEPT)
        for _ in range(20):
            with dial(address) as sock:
                sock.sendall(v2(CLIENT, ASKED) + b"hello")
                self.assertEqual(receive(sock, 2), b"ok")
            header, rest = read_header(server.result())
            self.assertEqual((header.source, rest), (CLIENT, b"hello"))

    def test_at_once(self):
        """Neither the header nor what follows waits for an acknowledgement (Nagle) or for more (MSG_MORE)."""
        proxy, address = self.sends()
        slowest = 0.0
        for _ in range(20):
            with dial(address) as sock:
                began = time.monotonic()
                echo(sock, b"x")
                slowest = max(slowest, time.monotonic() - began)
        self.assertLess(slowest, 2.0 * SLOW)

    def test_unix_sockets(self):
        server = self.told_server(address=f"unix:{self.directory}/server.sock")
        path = f"unix:{self.directory}/listener.sock"
        proxy, address = self.sends(address=path, servers=server.address)
        self.echoes(address)
        self.assert_told(self.seen[0], 2, "", path[5:])
        proxy.stop()
        proxy, address = self.sends("v1", address=path, servers=server.address)
        self.echoes(address)
        self.assertEqual((self.seen[1].version, self.seen[1].command), (1, "LOCAL"))

    def test_the_next_server_is_told_too(self):
        good = self.told_server("g")
        proxy, address = self.sends(servers=[{"name": "dead", "address": aegis.free_address()}, {"name": "good", "address": good.address}])
        for _ in range(4):
            with dial(address) as sock:
                sock.sendall(b"x")
                self.assertEqual(receive(sock, 2), b"gx")
        self.assertEqual(len(self.seen), 4)

    def test_what_is_told_besides(self):
        proxy, address = self.sends(send_proxy_check_sum=True, send_proxy_unique_id=True, send_proxy_traceparent=0xe7)
        self.echoes(address)
        self.echoes(address)
        ids, traces = [header.tlv(5) for header in self.seen], [header.tlv(0xe7) for header in self.seen]
        self.assertEqual(len(set(ids) | set(traces)), 4)
        self.assertRegex(ids[0].decode(), r"^\d+\.\d+$")
        self.assertRegex(traces[0].decode(), r"^00-[0-9a-f]{32}-[0-9a-f]{16}-00$")
        self.assertEqual(len(self.seen[0].tlv(3)), 4)

    def test_checks(self):
        """They say that they speak for nobody."""
        for version in (1, 2):
            self.seen.clear()
            proxy, address = self.sends(f"v{version}", health={"type": "tcp", "interval": "50ms", "send": "ping", "expect": "ping"})
            wait_until(lambda: len(self.seen) >= 3, "checks with a header")
            self.assertEqual({(header.version, header.command) for header in self.seen}, {(version, "LOCAL")})
            self.echoes(address)
            proxy.stop()

    def test_what_does_not_go_with_it(self):
        for upstream, says in (({"pool": {"warm": 1}}, "has connections without one"),
                               ({"pool": {"keep": 1, "framing": "line"}}, "has connections without one"),
                               ({"send_proxy": "v2-each"}, "which is for datagrams"),
                               ({"send_proxy": "v1", "send_proxy_check_sum": True}, "send_proxy_check_sum")):
            self.must_fail(app("127.0.0.1:1", upstream={"send_proxy": "v2", **upstream}), 1, "-t", says=[says])
        self.must_fail(app("127.0.0.1:1", listener={"accept_proxy": {}}), 1, "-t", says=["nobody may tell who the client is"])
        self.must_fail(app("127.0.0.1:1", listener={**ACCEPT, "protocol": "udp"}), 1, "-t", says=["accept_proxy"])


class Chain(ProxyCase):
    def chain(self, version, server_version="v2", inner=None, outer_address="127.0.0.1:0", **upstream):
        """client -> Aegis -> Aegis -> server; returns where the client goes."""
        listener = {"accept_proxy": {"from": ["127.0.0.1"]}, **(inner or {})}
        if str(listener.get("address", "")).startswith("unix:"):
            listener["accept_proxy"] = {}
        self.behind, address = self.proxy(self.told_server().address, listener=listener,
                                          upstream={"send_proxy": server_version, **upstream}, **self.access())
        more = {"send_proxy_unique_id": True} if version == "v2" else {}
        self.front, front = self.proxy(address, listener={"address": outer_address}, upstream={"send_proxy": version, **more})
        return front

    def test_keeps_the_address_of_the_client(self):
        for version, server_version in (("v1", "v2"), ("v2", "v1"), ("v2", "v2")):
            self.seen.clear()
            front = self.chain(version, server_version)
            name = self.echoes(front)
            header = self.seen[0]
            self.assertEqual((header.version, header.source, header.destination), (int(server_version[1]), name, front))
            self.assertEqual(self.records(1)[0]["client"], name)
            (self.directory / "access.log").unlink()
            self.front.stop()
            self.behind.stop()

    def test_passes_on_what_is_told_besides(self):
        front = self.chain("v2", send_proxy_check_sum=True, send_proxy_unique_id=True)
        self.echoes(front)
        ids = [value for kind, value in self.seen[0].tlvs if kind == 5]
        self.assertEqual(len(ids), 1, "one that was told stays")
        self.assertIsNotNone(self.seen[0].tlv(3))

    def test_over_a_unix_socket(self):
        front = self.chain("v2", inner={"address": f"unix:{self.directory}/middle.sock"})
        name = self.echoes(front)
        self.assertEqual((self.seen[0].source, self.seen[0].destination), (name, front))

    def test_all_tlvs_but_those_of_the_header_itself(self):
        listener, server = {"accept_proxy": {"from": ["127.0.0.1"]}}, self.told_server()
        proxy, address = self.proxy(server.address, listener=listener, upstream={"send_proxy": "v2"})
        kept = [(1, b"h2"), (2, b"foo.example"), (0x20, b"\1\0\0\0\0" + tlv(0x21, b"TLSv1.3")), (0x30, b"blue"), (0xe0, b"00-trace")]
        told = b"".join(tlv(*row) for row in kept[:3]) + tlv(4, b"padding") + b"".join(tlv(*row) for row in kept[3:]) + bytes(6)
        self.echoes(address, v2(CLIENT, ASKED, told))
        self.assertEqual((self.seen[0].source, self.seen[0].destination, self.seen[0].tlvs), (CLIENT, ASKED, kept))

    def test_tlvs_beyond_the_room_are_left_out(self):
        listener, server = {"accept_proxy": {"from": ["127.0.0.1"]}}, self.told_server()
        proxy, address = self.proxy(server.address, listener=listener, upstream={"send_proxy": "v2", "send_proxy_check_sum": True})
        self.echoes(address, v2(CLIENT, ASKED, tlv(0xe1, b"a") + tlv(0xe0, b"x" * 3000) + tlv(0xe2, b"b")))
        self.assertEqual([kind for kind, _ in self.seen[0].tlvs], [0xe1, 0xe2, 3])
        self.echoes(address, v2(CLIENT, ASKED, b"".join(tlv(0xe0, b"") for _ in range(400))))
        self.assertGreater(len(self.seen[1].tlvs), 50)


if __name__ == "__main__":
    aegis.main()
