"""UDP through Aegis: each client gets its own answers, from the address that it asked; sessions end as the settings say; every datagram that
is not passed on is counted; and nothing of it harms TCP."""
import contextlib
import json
import os
import signal
import socket
import struct
import time
import unittest

import aegis
from aegis import *
from datagrams import *

V6 = "[::1]:0"


def have_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        return True
    return False


class UdpCase(aegis.Case):
    def counted(self, proxy, name, *labels):
        """A number of aegis-stat -p."""
        out = run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        found = [line for line in out.splitlines() if line.startswith(name + "{") and all(label in line for label in labels)]
        return sum(int(float(line.rpartition(" ")[2])) for line in found)

    def datagrams(self, proxy, direction):
        return self.counted(proxy, "aegis_udp_datagrams_total", f'direction="{direction}"')

    def drops(self, proxy, reason=""):
        return self.counted(proxy, "aegis_udp_drops_total", f'reason="{reason}' if reason else "")

    def wait_counted(self, proxy, count, name, *labels):
        wait_until(lambda: self.counted(proxy, name, *labels) == count,
                   lambda: f"{name}{labels} to be {count}; it is {self.counted(proxy, name, *labels)}")

    def cut(self, proxy):
        """Stop with sessions that would last."""
        proxy.send(signal.SIGTERM)
        proxy.wait_log("stopping")
        proxy.stop(gauges=False)

    def client(self, proxy, **more):
        return DatagramClient(self, proxy.address(), **more)


class Answers(UdpCase):
    def test_a_thousand_clients_of_one_server(self):
        """Each gets its own answers and nothing else, several at a time."""
        server = DatagramServer(self, "s")
        proxy = self.aegis(datagram_app(server.address, udp={"idle": f"{round(5 * SLOW)}s"}))
        clients = [self.client(proxy) for _ in range(1000)]
        asked = {}
        for _ in range(3):
            for client in clients:
                for _ in range(2):
                    data = nonce()
                    client.send(data)
                    asked.setdefault(client, []).append(b"s" + data)
            for client in clients:
                for want in asked.pop(client):
                    self.assertEqual(client.receive(), want)
        for client in clients[::50]:
            self.assertIsNone(client.gets(0))
        self.assertEqual(len(server.peers), 1000, "a session and a socket for each client")
        row = proxy.listener()
        self.assertEqual((row["total"], row["active"]), (1000, 1000))
        self.assertEqual(self.datagrams(proxy, "from_client"), 6000)
        self.assertEqual(self.datagrams(proxy, "to_server"), 6000)
        self.assertEqual(self.datagrams(proxy, "from_server"), 6000)
        self.wait_counted(proxy, 6000, "aegis_udp_datagrams_total", 'direction="to_client"')
        self.assertEqual(self.drops(proxy), 0)
        proxy.wait_closes("idle_timeout", 1000)

    def test_a_burst_of_a_new_client(self):
        """Nothing of it is lost while a socket is made, and it stays in order."""
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, workers=1))
        for _ in range(20):
            client = self.client(proxy)
            sent = [nonce(64) for _ in range(60)]
            for data in sent:
                client.send(data)
            self.assertEqual([client.receive() for _ in sent], sent)
        self.assertEqual(self.drops(proxy), 0)

    def test_what_a_kernel_sent_in_one_piece(self):
        """UDP_SEGMENT from the client, datagrams of one size and a shorter last one; and of several clients at once."""
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, workers=1))
        clients = [self.client(proxy) for _ in range(3)]
        for client in clients:
            with contextlib.suppress(OSError):
                client.sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        pieces = [nonce(1200 * 20 + 77) for _ in clients]
        for client, piece in zip(clients, pieces):
            client.send(piece)
        for client, piece in zip(clients, pieces):
            want = [piece[at:at + 1200] for at in range(0, len(piece), 1200)]
            self.assertEqual([client.receive() for _ in want], want)
        self.assertEqual(sorted(map(len, server.data)), sorted([1200] * 60 + [77] * 3))

    def test_all_sizes(self):
        """Empty ones, those that are sent in fragments, and the largest there can be."""
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, udp={"buffer": "1M"}))
        client = self.client(proxy)
        for size in (0, 1, 64, 1472, 1473, 4096, 9000, 40000, 65507, 3, 65507, 0):
            client.ask(nonce(size))
        self.assertEqual(self.drops(proxy), 0)

    def test_load_without_a_mix_up(self):
        answers, = demo(self)
        proxy = self.aegis(datagram_app(answers))
        for options in (("-c", 200, "-n", 200), ("-c", 20, "-n", 2000, "-b", 16), ("-c", 10, "-n", 4000, "-b", 16, "-s", "-g", "-p", 1200)):
            report = blast(self, proxy.address(), *options)
            self.assertEqual(report["lost"], 0, report)

    def test_with_both_protocols_on_one_port(self):
        """As DNS has them; TCP by whichever engine, UDP by epoll inside of it."""
        server, backend = DatagramServer(self, "s"), Echo(self)
        for engine in ("epoll", "auto"):
            settings = datagram_app(server.address, listener={"address": f"{OWN_ADDRESS}:0"}, engine=engine)
            settings["upstreams"].append({"name": "tcp", "servers": [{"address": backend.address}]})
            proxy = self.aegis(settings)
            settings["listeners"].append({"name": "tcp", "address": proxy.address(), "upstream": "tcp"})
            proxy.must_reload(settings)
            clients = [self.client(proxy) for _ in range(20)]
            with contextlib.closing(self.connect(proxy.address("tcp"))) as sock:
                for _ in range(5):
                    for client in clients:
                        client.ask(answer=lambda data: b"s" + data)
                    echo(sock)
            proxy.stop()


class Addresses(UdpCase):
    def wildcard(self, address):
        server = DatagramServer(self)
        settings = datagram_app(server.address)
        settings["listeners"][0]["address"] = address
        proxy = self.aegis(settings)
        return server, proxy.address().rpartition(":")[2]

    def test_replies_leave_from_the_address_that_was_asked(self):
        """A connected client takes nothing from another one. The same client at two addresses has two sessions."""
        server, port = self.wildcard("0.0.0.0:0")
        for address in ("127.0.0.1", "127.0.0.2", "127.1.2.3"):
            client = DatagramClient(self, f"{address}:{port}")
            for _ in range(3):
                client.ask()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(10)
            for address in ("127.0.0.5", "127.0.0.6"):
                data = nonce()
                sock.sendto(data, (address, int(port)))
                self.assertEqual(sock.recvfrom(100), (data, (address, int(port))))
        self.assertEqual(len(server.peers), 5)

    def pretend(self, source, destination):
        """Send five bytes that seem to come from one (address, port) to another one, of this machine."""
        try:
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        except PermissionError:
            self.skipTest("needs raw sockets")
        udp = struct.pack("!HHHH", source[1], destination[1], 8 + 5, 0) + b"again"
        addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
        with raw:
            raw.sendto(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses + udp, (destination[0], 0))

    def test_who_pretends_to_be_us(self):
        """A datagram that seems to come from where it goes to would go round for ever, with a server that answers whatever comes."""
        # A socket for all addresses is behind each one of them.
        for listener, source in (("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.3")):
            server = DatagramServer(self)
            proxy = self.aegis(datagram_app(server.address, listener={"address": listener}))
            port = int(proxy.address().rpartition(":")[2])
            self.pretend((source, port), ("127.0.0.1", port))
            wait_until(lambda: self.drops(proxy, "refused") == 1, "the datagram to be refused")
            DatagramClient(self, f"127.0.0.1:{port}").ask()
            self.assertEqual(len(server.seen), 1)
            self.cut(proxy)

    def test_who_pretends_to_be_another_listener(self):
        """It would go to and fro between the two for ever."""
        for first, second in (("127.0.0.1:0", "127.0.0.1:0"), ("0.0.0.0:0", "127.0.0.1:0"), ("127.0.0.1:0", "0.0.0.0:0")):
            server = DatagramServer(self)
            settings = datagram_app(server.address, listener={"address": first})
            settings["listeners"].append({**settings["listeners"][0], "name": "other", "address": second})
            proxy = self.aegis(settings)
            to, seems = (int(proxy.address(name).rpartition(":")[2]) for name in ("app", "other"))
            self.pretend(("127.0.0.1", seems), ("127.0.0.1", to))
            wait_until(lambda: self.drops(proxy, "refused") == 1, "the datagram to be refused")
            DatagramClient(self, f"127.0.0.1:{to}").ask()
            DatagramClient(self, f"127.0.0.1:{seems}").ask()
            self.assertEqual(len(server.seen), 2)
            self.cut(proxy)

    @unittest.skipUnless(have_ipv6(), "no IPv6 here")
    def test_ipv6(self):
        server = DatagramServer(self, address=V6)
        settings = datagram_app(server.address)
        settings["listeners"][0]["address"] = V6
        proxy = self.aegis(settings)
        client = self.client(proxy)
        for size in (1, 1200, 65487):
            client.ask(nonce(size))

    @unittest.skipUnless(have_ipv6(), "no IPv6 here")
    def test_replies_of_a_socket_for_both_families(self):
        for address in ("*:0", "[::]:0"):
            server, port = self.wildcard(address)
            hosts = ["[::1]"] + (["127.0.0.1", "127.0.0.9"] if address[0] == "*" else [])
            for host in hosts:
                client = DatagramClient(self, f"{host}:{port}")
                for _ in range(3):
                    client.ask()
            self.assertEqual(len(server.peers), len(hosts))


class Ends(UdpCase):
    def test_responses(self):
        """As DNS has it: with the answer the session is over, and the next question begins another one."""
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, udp={"responses": 1, "idle": "60s"}))
        client = self.client(proxy)
        for _ in range(5):
            client.ask()
        proxy.wait_closes("answered", 5)
        self.assertEqual(len(server.peers), 5)
        # Two questions at once are one session, which waits for both answers.
        server.mute = True
        client.send(b"a")
        client.send(b"b")
        server.wait_seen(7)
        self.assertEqual(proxy.listener()["active"], 1)
        peer = server.seen[-1][0]
        server.send(b"A", peer)
        self.assertEqual(client.receive(), b"A")
        self.assertEqual(proxy.listener()["active"], 1)
        server.send(b"B", peer)
        self.assertEqual(client.receive(), b"B")
        proxy.wait_closes("answered", 6)

    def test_requests(self):
        """As syslog has it: so many datagrams and it is over, answers are not awaited."""
        server = DatagramServer(self, mute=True)
        proxy = self.aegis(datagram_app(server.address, udp={"requests": 3, "idle": "60s"}, workers=1))
        client = self.client(proxy)
        sent = [nonce() for _ in range(9)]
        for data in sent:
            client.send(data)
        server.wait_seen(9)
        self.assertEqual(server.data, sent)
        self.assertEqual(len(server.peers), 3)
        proxy.wait_closes("requests_reached", 3)

    def test_requests_of_one_piece(self):
        """What the kernel hands over at once is divided among sessions."""
        server = DatagramServer(self, mute=True)
        proxy = self.aegis(datagram_app(server.address, udp={"requests": 4, "idle": "60s"}, workers=1))
        client = self.client(proxy)
        client.sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
        sent = nonce(100 * 10 + 50)
        client.send(sent)
        server.wait_seen(11)
        self.assertEqual(b"".join(server.data), sent)
        counts = [sum(peer == other for other, _ in server.seen) for peer in server.peers]
        self.assertEqual(counts, [4, 4, 3])
        proxy.wait_closes("requests_reached", 2)
        self.cut(proxy)

    def test_requests_with_responses(self):
        """It takes no more, and lasts until all answers are there."""
        server = DatagramServer(self, mute=True)
        proxy = self.aegis(datagram_app(server.address, udp={"requests": 2, "responses": 1, "idle": "60s"}, workers=1))
        client = self.client(proxy)
        for data in (b"1", b"2", b"3"):
            client.send(data)
        server.wait_seen(3)
        first, second = server.peers
        for peer, data in ((second, b"C"), (first, b"A"), (first, b"B")):
            server.send(data, peer)
        self.assertEqual(sorted(client.receive() for _ in range(3)), [b"A", b"B", b"C"])
        proxy.wait_closes("answered", 2)

    def test_idle(self):
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, udp={"idle": "300ms"}))
        self.client(proxy).ask()
        proxy.wait_closes("idle_timeout", 1)

    def test_what_came_in_time_is_no_silence(self):
        """A worker that had no time for it until the session's time was over: the answer is passed on, and the session goes on."""
        server = DatagramServer(self, mute=True)
        proxy = self.aegis(datagram_app(server.address, udp={"idle": "2s"}, workers=1))
        client, pid = self.client(proxy), proxy.workers()[0]["pid"]
        client.send(b"question")
        server.wait_seen(1)
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        server.send(b"answer", server.peers[0])
        wait_until(lambda: time.monotonic() - begun > 2.1, "the time of the session to be over")
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(client.receive(), b"answer")
        proxy.wait_closes("idle_timeout", 1)
        self.assertEqual(proxy.listener()["total"], 1)

    def test_lifetime(self):
        """However much is said. What is under way at that moment is lost."""
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, listener={"timeout": {"lifetime": "1200ms"}}))
        client, begun = self.client(proxy), time.monotonic()
        while proxy.listener()["closes"]["lifetime"] == 0:
            client.send(nonce())
            client.gets(0.1)
            self.assertLess(time.monotonic() - begun, 20 * SLOW)
        self.assertGreaterEqual(time.monotonic() - begun, 1.1)

    def test_drain(self):
        """At the end of Aegis sessions go on, and no new ones begin."""
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, udp={"idle": "60s"}, drain={"timeout": "30s"}, workers=1))
        old, new = self.client(proxy), self.client(proxy)
        old.ask()
        proxy.send(signal.SIGTERM)
        proxy.wait_log("stopping")
        wait_until(lambda: proxy.workers()[0]["state"] == "draining", "the worker to drain")
        new.send(b"late")
        for _ in range(3):
            old.ask()
        self.assertIsNone(new.gets(0.2))
        self.assertEqual(self.drops(proxy, "stopping"), 1)
        self.cut(proxy)


    def test_another_listener_has_the_port(self):
        """Sessions of the one that had it end, and their clients are the other one's."""
        server = DatagramServer(self)
        settings = datagram_app(server.address, udp={"idle": "60s"}, workers=1)
        proxy = self.aegis(settings)
        client = self.client(proxy)
        client.ask()
        settings["listeners"][0].update(name="other", address="0.0.0.0:" + proxy.address().rpartition(":")[2])
        proxy.must_reload(settings)
        client.ask()
        self.wait_counted(proxy, 1, "aegis_closes_total", 'listener="app"', 'reason="listener_closed"')
        self.assertEqual(proxy.listener("other")["active"], 1)
        self.cut(proxy)


class Settings(UdpCase):
    """What a reload changes."""

    def test_new_sessions_end_by_the_new_settings(self):
        server = DatagramServer(self)
        settings = datagram_app(server.address, udp={"idle": "60s"}, workers=1)
        proxy = self.aegis(settings)
        old = self.client(proxy)
        old.ask()
        settings["listeners"][0]["udp"] = {"idle": "300ms", "responses": 2}
        proxy.must_reload(settings)
        new = self.client(proxy)
        new.ask()
        proxy.wait_closes("idle_timeout", 1)
        for _ in range(4):
            old.ask()
        self.assertEqual(len(server.peers), 2, "the old session goes on")
        settings["listeners"][0]["udp"] = {"idle": "60s", "responses": 1}
        proxy.must_reload(settings)
        new.ask()
        new.ask()
        proxy.wait_closes("answered", 2)
        old.ask()
        self.assertEqual(len(server.peers), 4)
        self.cut(proxy)

    def test_a_larger_buffer(self):
        """udp.receive_buffer is that of the sockets that there are: what comes while the worker is busy is not lost any more."""
        server = DatagramServer(self, mute=True)
        settings = datagram_app(server.address, udp={"idle": "60s", "receive_buffer": "8k"}, workers=1)
        proxy = self.aegis(settings)
        client = self.client(proxy)
        client.send(b"first")
        server.wait_seen(1)

        def burst():
            """How many of 300 were lost."""
            before, seen = self.drops(proxy), self.datagrams(proxy, "from_client")
            pid = max(proxy.workers(), key=lambda row: row["generation"])["pid"]
            os.kill(pid, signal.SIGSTOP)
            for _ in range(300):
                client.send(nonce(100))
            os.kill(pid, signal.SIGCONT)
            wait_until(lambda: self.datagrams(proxy, "from_client") - seen + self.drops(proxy) - before == 300, "all to be counted")
            return self.drops(proxy) - before

        self.assertGreater(burst(), 100)
        settings["listeners"][0]["udp"]["receive_buffer"] = "4M"
        proxy.must_reload(settings)
        self.assertEqual(burst(), 0)
        self.cut(proxy)


class Limits(UdpCase):
    def refused(self, proxy, client, reason):
        before, dropped = proxy.listener()["closes"][reason], self.drops(proxy, "refused")
        client.send(b"refused")
        proxy.wait_closes(reason, before + 1)
        self.wait_counted(proxy, dropped + 1, "aegis_udp_drops_total", 'reason="refused"')
        self.assertIsNone(client.gets(0))

    def test_max_connections_counts_sessions(self):
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, listener={"max_connections": 3}, udp={"idle": "60s"}))
        clients = [self.client(proxy) for _ in range(4)]
        for client in clients[:3]:
            client.ask()
        self.refused(proxy, clients[3], "listener_full")
        for client in clients[:3]:
            client.ask()
        self.cut(proxy)

    def test_of_a_server(self):
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app({"address": server.address, "max_connections": 2}, udp={"idle": "60s"}))
        clients = [self.client(proxy) for _ in range(3)]
        for client in clients[:2]:
            client.ask()
        self.refused(proxy, clients[2], "servers_full")
        self.cut(proxy)

    def test_access_and_rates(self):
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, listener={"address": "0.0.0.0:0", "deny": ["127.0.0.66/32"]}))
        address = "127.0.0.1:" + proxy.address().rpartition(":")[2]
        DatagramClient(self, address, source="127.0.0.1:0").ask()
        self.refused(proxy, DatagramClient(self, address, source="127.0.0.66:0"), "denied")
        rate = {"connections_per_second": 1, "burst": 2, "per": "address"}
        proxy = self.aegis(datagram_app(server.address, listener={"rate_limit": rate}))
        client = self.client(proxy)
        for _ in range(20):
            client.ask()  # a session is let in once
        fresh = [self.client(proxy) for _ in range(10)]
        for client in fresh:
            client.send(b"x")
        wait_until(lambda: proxy.listener()["closes"]["rate_limited"] > 0, "one to be refused")

    def test_a_part_of_all_places_is_for_tcp(self):
        """Clients that say who they are by nothing but an address may not take what those of TCP need."""
        server = DatagramServer(self)
        settings = datagram_app(server.address, udp={"idle": "60s"}, max_connections=8)
        settings["listeners"].append({"name": "tcp", "address": "127.0.0.1:0", "upstream": "app"})
        proxy = self.aegis(settings)
        clients = [self.client(proxy) for _ in range(7)]
        for client in clients[:6]:
            client.ask()
        self.refused(proxy, clients[6], "full")
        self.cut(proxy)

    def test_a_flood_of_new_clients(self):
        """A session for each datagram: memory and descriptors are bounded, all that is dropped is counted, and TCP goes on."""
        server = DatagramServer(self, mute=True)
        backend = Echo(self)
        settings = datagram_app(server.address, udp={"idle": "60s"}, max_connections=2000, workers=1)
        settings["upstreams"].append({"name": "tcp", "servers": [{"address": backend.address}]})
        settings["listeners"].append({"name": "tcp", "address": "127.0.0.1:0", "upstream": "tcp"})
        proxy = self.aegis(settings)
        worker = proxy.workers()[0]["pid"]
        with contextlib.closing(self.connect(proxy.address("tcp"))) as sock:
            echo(sock)
            flood = Blast(self, proxy.address(), "-1", "-c", 15000, "-n", 1, "--at-once", 64, "--source-range", "127.0.0.0/8",
                          "--source-port", ordinary_port(socket.SOCK_DGRAM))
            while flood.running():
                echo(sock)
            sent = flood.result()["sent"]
            wait_until(lambda: self.datagrams(proxy, "from_client") + self.drops(proxy, "client_queue") == sent, "all to be counted")
        self.assertEqual(self.datagrams(proxy, "from_client"), self.datagrams(proxy, "to_server") + self.drops(proxy) -
                         self.drops(proxy, "client_queue"))
        self.assertEqual(self.datagrams(proxy, "to_server"), 1499, "three quarters of max_connections, of which TCP has one")
        self.assertLess(descriptors(worker), 1700)
        self.cut(proxy)


class Outputs(UdpCase):
    def test_of_a_session(self):
        """The access log, the flight recorder and the list of connections know it as one of TCP."""
        server = DatagramServer(self, "s")
        log = self.directory / "access.log"
        proxy = self.aegis(datagram_app(server.address, udp={"responses": 2}, access_log={"path": str(log)}))
        client = self.client(proxy)
        client.send(b"12345")
        self.assertEqual(client.receive(), b"s12345")
        server.send(b"67", server.peers[0])
        self.assertEqual(client.receive(), b"67")
        proxy.wait_closes("answered", 1)
        wait_until(lambda: log.exists() and log.read_text().count("\n") == 1, "a record")
        record = json.loads(log.read_text())
        self.assertEqual((record["reason"], record["bytes_up"], record["bytes_down"]), ("answered", 5, 8), record)
        self.assertEqual(record["client"], client.address)


if __name__ == "__main__":
    aegis.main()
