"""Who a client is, told to UDP servers with the PROXY protocol: before the first datagram that a server gets of a session, or before each."""
import socket
import unittest

import aegis
from aegis import *
from datagrams import *
from proxy_header import SIGNATURE, read_header
from test_udp import V6, UdpCase, have_ipv6


class ProxyServer(DatagramServer):
    """Echoes what stands behind the header; of a peer that it knows none is needed. `headers` has (peer, Header) of all that came, in order;
    what comes without one from a peer that did not send one before fails the test."""

    def __init__(self, test, name="", **more):
        self.headers = []
        super().__init__(test, name, answer=self._reply, **more)

    def _reply(self, data, peer):
        if data.startswith(SIGNATURE):
            header, data = read_header(data)
            self.headers.append((peer, header))
        elif peer not in [known for known, _ in self.headers]:
            raise AssertionError(f"no header from {peer}: {data[:40]!r}")
        return [self.name.encode() + data]


class ProxyCase(UdpCase):
    def begin(self, servers, value="v2", address="127.0.0.1:0", upstream=None, **more):
        settings = datagram_app(servers, upstream={"send_proxy": value, **(upstream or {})}, udp={"idle": "60s"}, workers=1, **more)
        settings["listeners"][0]["address"] = address
        return self.aegis(settings)

    def assert_told(self, header, source, destination):
        self.assertEqual((header.version, header.command, header.transport, header.source, header.destination, header.tlvs),
                         (2, "PROXY", "datagrams", source, destination, []))


class First(ProxyCase):
    def test_one_for_each_session(self):
        server = ProxyServer(self)
        proxy = self.begin(server.address)
        clients = [self.client(proxy) for _ in range(5)]
        for _ in range(3):
            for client in clients:
                client.ask()
        self.assertEqual([header.source for _, header in server.headers], [client.address for client in clients])
        for _, header in server.headers:
            self.assert_told(header, header.source, proxy.address())
        self.assertEqual(proxy.listener()["received"], 15 * 24, "the header is nobody's traffic")
        self.cut(proxy)

    def test_a_burst_of_a_new_client(self):
        """The first of many, and of those that a kernel sent in one piece."""
        server = ProxyServer(self)
        proxy = self.begin(server.address)
        client = self.client(proxy)
        sent = [nonce(100) for _ in range(40)]
        for data in sent:
            client.send(data)
        self.assertEqual([client.receive() for _ in sent], sent)
        other = self.client(proxy)
        other.sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        other.send(b"".join(sent))
        self.assertEqual([other.receive() for _ in sent], sent)
        self.assertEqual([header.source for _, header in server.headers], [client.address, other.address])
        self.cut(proxy)

    def test_an_empty_datagram(self):
        server = ProxyServer(self)
        proxy = self.begin(server.address)
        client = self.client(proxy)
        client.ask(b"")
        client.ask(b"")
        self.assertEqual(len(server.headers), 1)
        self.cut(proxy)

    @unittest.skipUnless(have_ipv6(), "no IPv6 here")
    def test_ipv6(self):
        server = ProxyServer(self)
        proxy = self.begin(server.address, address=V6)
        client = self.client(proxy)
        client.ask()
        self.assert_told(server.headers[0][1], client.address, proxy.address())
        self.cut(proxy)

    def wildcard(self, address, hosts):
        server = ProxyServer(self)
        proxy = self.begin(server.address, address=address)
        port = proxy.address().rpartition(":")[2]
        clients = [DatagramClient(self, f"{host}:{port}") for host in hosts]
        for client in clients:
            client.ask()
        for (_, header), client, host in zip(server.headers, clients, hosts):
            self.assert_told(header, client.address, f"{host}:{port}")
        self.assertEqual(len(server.headers), len(hosts))
        self.cut(proxy)

    def test_the_address_that_was_asked(self):
        self.wildcard("0.0.0.0:0", ["127.0.0.1", "127.0.0.2", "127.1.2.3"])

    @unittest.skipUnless(have_ipv6(), "no IPv6 here")
    def test_the_address_that_was_asked_of_both_families(self):
        """A client of IPv4 is told of as one, also where the socket is IPv6."""
        self.wildcard("*:0", ["[::1]", "127.0.0.1", "127.0.0.9"])
        self.wildcard("[::]:0", ["[::1]"])

    def test_another_server_gets_one_too(self):
        servers = [ProxyServer(self, name) for name in ("a", "b")]
        proxy = self.begin([server.address for server in servers])
        clients = [self.client(proxy) for _ in range(6)]
        for client in clients:
            data = nonce()
            client.send(data)
            self.assertIn(client.receive(), (b"a" + data, b"b" + data))
        moved = [header.source for _, header in servers[0].headers]
        self.assertEqual(len(moved), 3)
        servers[0].close()
        for client in clients:
            data = nonce()
            client.send(data)
            got = client.gets(0.5)
            if got is None:  # it was what told that nobody is there any more
                client.send(data)
                got = client.receive()
            self.assertEqual(got, b"b" + data)
        self.assertEqual(sorted(header.source for _, header in servers[1].headers), sorted(client.address for client in clients))
        for _, header in servers[1].headers:
            self.assert_told(header, header.source, proxy.address())
        self.cut(proxy)

    def test_a_server_that_is_not_there(self):
        """The datagram at hand goes to the next one, with a header."""
        good = ProxyServer(self, "good")
        rows = [{"name": "dead", "address": free_udp_address()}, {"name": "good", "address": good.address}]
        proxy = self.begin(rows)
        clients = [self.client(proxy) for _ in range(4)]
        for client in clients:
            for _ in range(2):
                client.ask(answer=lambda data: b"good" + data)
        self.assertEqual([header.source for _, header in good.headers], [client.address for client in clients])
        self.assertGreater(proxy.server("dead")["failures"], 0)
        self.cut(proxy)

    def test_too_large_with_it(self):
        """Dropped and counted; the next one has it."""
        server = ProxyServer(self)
        proxy = self.begin(server.address)
        client = self.client(proxy)
        client.send(nonce(65507))
        self.wait_counted(proxy, 1, "aegis_udp_drops_total", 'reason="too_large"')
        client.ask()
        self.assertEqual(len(server.headers), 1)
        client.ask(nonce(65507))
        self.cut(proxy)


class Each(ProxyCase):
    def test_each_has_one(self):
        server = ProxyServer(self)
        proxy = self.begin(server.address, "v2-each")
        client = self.client(proxy)
        for _ in range(5):
            client.ask()
        client.sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        sent = [nonce(100) for _ in range(20)]
        client.send(b"".join(sent))
        self.assertEqual([client.receive() for _ in sent], sent)
        self.assertEqual(len(server.headers), 25)
        for _, header in server.headers:
            self.assert_told(header, client.address, proxy.address())
        self.cut(proxy)


    def test_with_a_check_sum(self):
        server = ProxyServer(self)
        proxy = self.begin(server.address, upstream={"send_proxy_check_sum": True})
        self.client(proxy).ask()
        self.assertEqual([kind for kind, _ in server.headers[0][1].tlvs], [3])
        self.cut(proxy)


class Checks(ProxyCase):
    def test_checks_speak_for_nobody(self):
        server = ProxyServer(self)
        proxy = self.begin(server.address, upstream={"health": {"type": "udp", "interval": "50ms", "timeout": "2s", "send": "ping"}})
        server.wait_seen(3)
        self.assertEqual({header.command for _, header in server.headers}, {"LOCAL"})
        self.assertEqual(self.counted(proxy, "aegis_server_up"), 1)
        self.cut(proxy)


class Refused(UdpCase):
    def test_version_1_has_no_word_for_datagrams(self):
        self.must_fail(datagram_app("127.0.0.1:1", upstream={"send_proxy": "v1"}), 1, "-t", says=["which has no word for datagrams"])


if __name__ == "__main__":
    aegis.main()
