"""UDP over a link of its own: an MTU of 1500, IPv6 addresses of the link, multicast and broadcast, ports that run out, a flood of clients.

The script runs itself again in a new network namespace, which takes root; another one is at the far end of a link."""
import contextlib
import ctypes
import os
import random
import signal
import socket
import struct
import subprocess
import time
import unittest

import admin
import aegis
from aegis import *
from datagrams import *
from test_namespace import enter, ip, sysctl
from test_udp import UdpCase

NEAR, FAR, CLONE_NEWNET = "10.77.0.1", "10.77.0.2", 0x40000000
NEAR6, FAR6 = "fd77::1", "fd77::2"
LINK = "aegis0"


def setns(fd):
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Far:
    """A namespace at the other end of a link. Sockets that are made inside of `with far:` are over there."""

    def __init__(self, test):
        self.process = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec sleep 1000"],
                                        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        test.addCleanup(self._end)
        self.process.stdout.readline()
        self.there, self.here = (os.open(f"/proc/{pid}/ns/net", os.O_RDONLY) for pid in (self.process.pid, "self"))
        ip("link", "add", LINK, "type", "veth", "peer", "name", LINK, "netns", str(self.process.pid))
        test.addCleanup(ip, "link", "del", LINK)
        self.set_up(NEAR, NEAR6)
        with self:
            self.set_up(FAR, FAR6)

    def set_up(self, address, address6):
        ip("addr", "add", f"{address}/24", "brd", "10.77.0.255", "dev", LINK)
        ip("addr", "add", f"{address6}/64", "nodad", "dev", LINK)
        ip("link", "set", LINK, "up", "mtu", "1500")

    def __enter__(self):
        setns(self.there)
        return self

    def __exit__(self, *exception):
        setns(self.here)

    def _end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        os.close(self.there)
        os.close(self.here)

    def client(self, test, address, **more):
        with self:
            return DatagramClient(test, address, **more)


def link_local():
    """The address of this end of the link, with its scope, when it can be used."""
    def found():
        out = run("ip", "-6", "-o", "addr", "show", "dev", LINK, "scope", "link").stdout
        return None if "tentative" in out or "inet6" not in out else out.split("inet6 ")[1].split("/")[0]
    return wait_until(found, "a link-local address")


class LinkCase(UdpCase):
    def setUp(self):
        super().setUp()
        self.far = Far(self)


class Batches(LinkCase):
    def exchange(self, client, sizes):
        """Send datagrams of these sizes, of which the client's kernel cuts some pieces, and expect them in order."""
        sent, at = [], 0
        while at < len(sizes):
            n = random.randint(1, 8)
            same = sizes[at]
            if 0 < same <= 1400 and random.random() < 0.6:  # in one piece, with a shorter last one
                last = random.randint(1, same)
                client.sock.sendmsg([data := nonce(same) * n + nonce(last)],
                                    [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("@H", same))])
                sent += [data[begin:begin + same] for begin in range(0, len(data), same)]
            else:
                sent.append(nonce(same))
                client.send(sent[-1])
            at += 1
        return sent

    def mixed(self, address, server, seed):
        random.seed(seed)
        proxy = self.aegis(datagram_app(server.address, listener={"address": address}, workers=1, udp={"buffer": "4M"}))
        clients = [self.far.client(self, proxy.address()) for _ in range(3)]
        sizes = (0, 0, 1, 2, 64, 64, 64, 500, 1200, 1200, 1472, 1473, 3000, 9000, 65000)
        for turn in range(15):
            sent = [self.exchange(client, random.choices(sizes, weights=[4] * 12 + [1] * 3, k=20)) for client in clients]
            for client, datagrams in zip(clients, sent):
                for number, data in enumerate(datagrams):
                    got = client.receive()
                    self.assertEqual((len(got), got[:12]), (len(data), data[:12]), f"turn {turn}, {number} of {len(datagrams)}")
        self.assertEqual(self.drops(proxy), 0)
        # Counted right after it was sent: the client may be faster than that.
        proxy.wait_stat(lambda stat: stat["bytes"]["received"] == stat["bytes"]["sent"], "all that was received to be sent")

    def test_any_mix_of_sizes(self):
        """Each flow in order, whatever goes in one piece, in fragments, or has no bytes."""
        server = DatagramServer(self)
        self.mixed(f"{NEAR}:0", server, 1)
        self.mixed(f"[{NEAR6}]:0", server, 2)

    def test_pieces_that_the_way_is_too_narrow_for(self):
        """A server on this machine sends datagrams of 4000 bytes in one piece: they go out in fragments, each whole, in order."""
        def answer(data, peer):
            server.sock.sendmsg([data * 10 + data[:100]], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("@H", len(data)))], 0, peer)
        server = DatagramServer(self, answer=answer)
        proxy = self.aegis(datagram_app(server.address, listener={"address": f"{NEAR}:0"}, workers=1, udp={"buffer": "4M"}))
        client = self.far.client(self, proxy.address())
        for _ in range(20):
            data = nonce(4000)
            client.send(data)
            self.assertEqual([client.receive() for _ in range(11)], [data] * 10 + [data[:100]])
        self.assertEqual(self.drops(proxy), 0)


class Narrow(UdpCase):
    def test_a_burst_to_a_server_that_is_not_there(self):
        """The kernel does not cut pieces of datagrams that are larger than the MTU, so that they are sent one by one, and the second one hears
        of the first that nobody is there: none is lost all the same."""
        ip("link", "set", "lo", "mtu", "1500")
        self.addCleanup(ip, "link", "set", "lo", "mtu", "65536")
        good, dead = DatagramServer(self, "good"), free_udp_address()
        proxy = self.aegis(datagram_app([{"name": "dead", "address": dead}, {"name": "good", "address": good.address}], workers=1))
        for _ in range(2):
            client, sent = self.client(proxy), [bytes([number]) * 2000 for number in range(10)]
            os.kill(proxy.workers()[0]["pid"], signal.SIGSTOP)
            for data in sent:
                client.send(data)
            os.kill(proxy.workers()[0]["pid"], signal.SIGCONT)
            self.assertEqual([client.receive() for _ in sent], [b"good" + data for data in sent])
        self.assertEqual(proxy.server("dead")["failures"], 1)
        self.assertEqual(self.drops(proxy), 0)


class Firewall(UdpCase):
    def test_one_that_lets_nothing_out_to_a_server(self):
        """It speaks of the datagram at hand, which goes to the other server: none is lost, and none is counted as lost."""
        nft, = need("nft")
        servers = [DatagramServer(self, name) for name in ("a", "b")]
        rows = [{"name": server.name, "address": server.address} for server in servers]
        proxy = self.aegis(datagram_app(rows, udp={"idle": "60s"}, workers=1))
        clients = [self.client(proxy) for _ in range(4)]
        for client in clients:
            client.send(b"1")
            self.assertIn(client.receive(), (b"a1", b"b1"))
        port = servers[0].address.rpartition(":")[2]
        for words in (["add", "table", "ip", "aegis"], ["add", "chain", "ip", "aegis", "out", "{ type filter hook output priority 0; }"],
                      ["add", "rule", "ip", "aegis", "out", "udp", "dport", port, "drop"]):
            done = run(nft, *words)
            if done.returncode != 0:
                self.skipTest(f"no nftables here: {done.stderr.strip()}")
        self.addCleanup(run, nft, "delete", "table", "ip", "aegis")
        for client in clients:
            client.send(b"2")
            self.assertEqual(client.receive(), b"b2")
        self.assertEqual(proxy.server("a")["failures"], 2)
        self.assertEqual((self.drops(proxy), proxy.listener()["moves"]["returned"]), (0, 0))
        self.cut(proxy)


class Path(LinkCase):
    def beyond(self):
        """A third namespace, behind the far one, to which datagrams of at most 1300 bytes get."""
        process = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec sleep 1000"],
                                   stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        process.stdout.readline()
        with self.far:
            sysctl("ipv4/ip_forward", "1")
            ip("link", "add", "beyond0", "mtu", "1300", "type", "veth", "peer", "name", "beyond0", "mtu", "1300", "netns", str(process.pid))
            ip("addr", "add", "10.78.0.1/24", "dev", "beyond0")
            ip("link", "set", "beyond0", "up")
            there = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
            self.addCleanup(os.close, there)
            setns(there)
            ip("addr", "add", "10.78.0.2/24", "dev", "beyond0")
            ip("link", "set", "beyond0", "up")
            ip("route", "add", "default", "via", "10.78.0.1")
            server = DatagramServer(self, address="10.78.0.2:0")
        ip("route", "add", "10.78.0.0/24", "via", FAR)
        return server

    def test_a_narrow_place_on_the_way(self):
        """A router says that a datagram was too large for what is behind it: that one is told as dropped, and the next ones get there."""
        server = self.beyond()
        proxy = self.aegis(datagram_app(server.address, workers=1, udp={"idle": "60s"}))
        clients = [self.client(proxy) for _ in range(2)]
        clients[0].ask()
        sent = [nonce(1400)]
        clients[0].send(sent[0])
        wait_until(lambda: self.drops(proxy, "too_large") == 1, "it to be told")
        for client in clients:
            for size in (1400, 1472, 5000, 24):
                client.ask(nonce(size))
        self.assertEqual(proxy.server(server.address)["failures"], 0)
        self.assertEqual(self.drops(proxy), 1)
        self.cut(proxy)


def check_sum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Icmp(LinkCase):
    """What routers and the server's machine say of a session's datagram. The kernel passes on what is certain; what may pass by itself (no way
    there for the moment) ends nothing."""

    CERTAIN = {3: "connect_refused", 2: "connect_refused", **dict.fromkeys((6, 7, 8, 9, 10, 13, 14, 15), "connect_failed")}
    CERTAIN6 = {4: "connect_refused", **dict.fromkeys((1, 5, 6, *range(7, 16)), "connect_failed")}

    def say(self, kind, code, peer, server):
        """From the far end, about a datagram that Aegis sent from `peer` to the server."""
        udp = struct.pack("!HHHH", peer[1], server[1], 8, 0)
        ipv6 = ":" in peer[0]
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        source, destination = (socket.inet_pton(family, host) for host in (peer[0], server[0]))
        if ipv6:
            about = struct.pack("!IHBB", 6 << 28, len(udp), socket.IPPROTO_UDP, 64) + source + destination + udp
        else:
            about = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0) + source + destination + udp
        message = struct.pack("!BBHI", kind, code, 0, 0) + about
        if not ipv6:
            message = message[:2] + struct.pack("!H", check_sum(message)) + message[4:]
        with self.far, socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if ipv6 else socket.IPPROTO_ICMP) as raw:
            raw.sendto(message, (peer[0], 0))

    def each(self, host, unreachable, certain, others):
        with self.far:
            server = DatagramServer(self, address=f"{host}:0")
        settings = datagram_app({"name": "far", "address": server.address}, upstream={"retries": 0}, udp={"idle": "60s"}, workers=1)
        proxy = self.aegis(settings)
        client = self.client(proxy)
        name = server.sock.getsockname()
        client.ask()
        for kind, code in [(unreachable, code) for code in range(16)] + others:
            reason = certain.get(code) if kind == unreachable else certain.get((kind, code))
            before, failures = proxy.listener(), proxy.server("far")["failures"]
            with self.subTest(kind=kind, code=code, reason=reason):
                self.say(kind, code, server.peers[-1], name)
                if reason:
                    proxy.wait_closes(reason, before["closes"][reason] + 1)
                client.ask()
                after = proxy.listener()
                self.assertEqual(after["total"] - before["total"], bool(reason), "one that begins anew")
                self.assertEqual(proxy.server("far")["failures"] - failures, bool(reason))
                self.assertEqual(after["drops"]["unreachable"] - before["drops"]["unreachable"], bool(reason))
                self.assertEqual(sum(after["closes"].values()) - sum(before["closes"].values()), bool(reason))
        self.assertNotIn("TLS", proxy.log())
        self.cut(proxy)

    def test_what_was_said_before(self):
        """The kernel tells of the error first: an answer that came before it is passed on all the same, whatever the worker reads first."""
        with self.far:
            server = DatagramServer(self, address=f"{FAR}:0", mute=True)
        proxy = self.aegis(datagram_app(server.address, upstream={"retries": 0}, udp={"idle": "60s"}, workers=1))
        pid, name = proxy.workers()[0]["pid"], server.sock.getsockname()
        for number, more in enumerate(([], [b"next"]), 1):
            client = self.client(proxy)
            before = len(server.seen)
            client.send(b"question")
            server.wait_seen(before + 1)
            os.kill(pid, signal.SIGSTOP)
            for answer in (b"1", b"2"):
                server.send(answer, server.peers[-1])
            self.say(3, 3, server.peers[-1], name)
            for data in more:
                client.send(data)
            os.kill(pid, signal.SIGCONT)
            self.assertEqual([client.receive(), client.receive()], [b"1", b"2"])
            proxy.wait_closes("connect_refused", number)
        self.cut(proxy)

    def test_of_ipv4(self):
        certain = {**self.CERTAIN, (12, 0): "connect_failed"}
        self.each(FAR, 3, certain, [(4, 0), (5, 1), (11, 0), (11, 1), (12, 0)])

    def test_of_ipv6(self):
        certain = {**self.CERTAIN6, (4, 0): "connect_failed", (4, 1): "connect_failed"}
        self.each(f"[{FAR6}]", 1, certain, [(3, 0), (3, 1), (4, 0), (4, 1)])


class Addresses(LinkCase):
    def wildcard(self, address):
        server = DatagramServer(self)
        proxy = self.aegis(datagram_app(server.address, listener={"address": address}, workers=2))
        return proxy, int(proxy.address().rpartition(":")[2])

    def ask_from(self, sock, name):
        """Ask, and return the address of the answer."""
        sock.settimeout(5 * SLOW)
        data = nonce()
        sock.sendto(data, name)
        got, peer = sock.recvfrom(1000)
        self.assertEqual(got, data)
        return peer

    def open(self, family):
        with self.far:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        return sock

    def test_to_all(self):
        """What was sent to all is answered from the address of the link."""
        for address in ("0.0.0.0:0", "*:0"):
            proxy, port = self.wildcard(address)
            with self.subTest(address=address):
                self.assertEqual(self.ask_from(self.open(socket.AF_INET), ("10.77.0.255", port)), (NEAR, port))
            self.assertEqual(self.drops(proxy), 0)
            self.assertEqual(self.datagrams(proxy, "to_server"), 1, "once, whatever the number of workers")

    def test_to_all_of_ipv6(self):
        for address in ("[::]:0", "*:0"):
            proxy, port = self.wildcard(address)
            near = link_local()
            with self.far:
                scope, far = socket.if_nametoindex(LINK), link_local()
            sock = self.open(socket.AF_INET6)
            sock.bind((far, 0, 0, scope))
            with self.subTest(address=address):
                self.assertEqual(self.ask_from(sock, ("ff02::1", port, 0, scope)), (near, port, 0, scope))
                self.assertEqual(self.datagrams(proxy, "to_server"), 1, "once, whatever the number of workers")

    def test_link_local(self):
        for address in ("[::]:0", "*:0"):
            proxy, port = self.wildcard(address)
            near = link_local()
            with self.far:
                scope, far = socket.if_nametoindex(LINK), link_local()
            for source in (far, FAR6):
                with self.subTest(address=address, source=source):
                    sock = self.open(socket.AF_INET6)
                    sock.bind((source, 0, 0, scope))
                    self.assertEqual(self.ask_from(sock, (near, port, 0, scope)), (near, port, 0, scope))
                    self.assertEqual(self.ask_from(sock, (NEAR6, port, 0, 0)), (NEAR6, port, 0, 0))
            self.assertEqual(self.drops(proxy), 0)


class Ports(UdpCase):
    PORTS = 16

    def test_local_ports_run_out(self):
        """Each session has a port. Who finds none is dropped and counted, calmly, and those who have one go on."""
        server = DatagramServer(self, address="127.0.0.1:1001")
        proxy = self.aegis(datagram_app(server.address, listener={"address": "127.0.0.1:1000"}, workers=2, udp={"idle": "2s"}))
        sysctl("ipv4/ip_local_port_range", f"40000 {40000 + self.PORTS - 1}")
        self.addCleanup(sysctl, "ipv4/ip_local_port_range", "32768 60999")
        clients = [self.client(proxy, source=f"127.0.0.1:{2000 + number}") for number in range(self.PORTS + 8)]
        for client in clients[:self.PORTS]:
            client.ask()
        cpu = {worker["pid"]: cpu_seconds(worker["pid"]) for worker in proxy.workers()}
        lines = proxy.log().count("\n")
        for _ in range(20):
            for client in clients[self.PORTS:]:
                client.send(b"no place")
        proxy.wait_stat(lambda stat: stat["udp"]["drops"]["refused"] == 160, "160 datagrams to be dropped")
        self.assertLessEqual(proxy.listener()["closes"]["no_ports"], 160)
        self.assertGreater(proxy.listener()["closes"]["no_ports"], 0)
        self.assertEqual(proxy.server(server.address)["failures"], 0, "the server has no part in it")
        for pid, before in cpu.items():
            self.assertLess(cpu_seconds(pid) - before, 1.0 * SLOW)
        self.assertLess(proxy.log().count("\n") - lines, 10, "the log is flooded:\n" + proxy.log())
        for client in clients[:self.PORTS]:
            client.ask()
        proxy.wait_closes("idle_timeout", self.PORTS)
        clients[-1].ask()

    def test_a_flood_while_there_are_none(self):
        """The kernel looks at thousands of ports before it says that none is left: it is not asked to for each new client."""
        server, count = DatagramServer(self, address="127.0.0.1:1001"), 15000
        proxy = self.aegis(datagram_app(server.address, listener={"address": "127.0.0.1:1000"}, workers=1))
        sysctl("ipv4/ip_local_port_range", f"40000 {40000 + count - 1}")
        self.addCleanup(sysctl, "ipv4/ip_local_port_range", "32768 60999")
        clients = [self.client(proxy, source=f"127.0.0.1:{2000 + number}") for number in range(1000)]
        others = contextlib.ExitStack()
        self.addCleanup(others.close)
        with contextlib.suppress(BlockingIOError):
            while True:
                other = others.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                other.connect(("127.0.0.1", 9))
        worker, = proxy.workers()
        before = cpu_seconds(worker["pid"])
        for client in clients:
            client.send(b"no place")
        proxy.wait_stat(lambda stat: sum(stat["udp"]["drops"].values()) == 1000, "1000 datagrams to be dropped")
        self.assertLess(cpu_seconds(worker["pid"]) - before, 0.3 * SLOW)
        others.close()
        wait_until(lambda: clients[0].send(b"now") or clients[0].gets(0.1), "a port to be found")


class Flood(UdpCase):
    def test_a_hundred_thousand_clients(self):
        """Each sends one datagram. Memory and CPU are bounded, each datagram is passed on or counted as dropped, and TCP goes on."""
        server, backend = DatagramServer(self, mute=True), Echo(self)
        settings = datagram_app(server.address, udp={"idle": "60s"}, max_connections=4000, workers=2)
        settings["upstreams"].append({"name": "tcp", "servers": [{"address": backend.address}]})
        settings["listeners"].append({"name": "tcp", "address": "127.0.0.1:0", "upstream": "tcp"})
        proxy = self.aegis(settings)
        before = {worker["pid"]: rss_bytes(worker["pid"]) for worker in proxy.workers()}
        count = 100_000 if LONG else 30_000
        with contextlib.closing(self.connect(proxy.address("tcp"))) as sock:
            echo(sock)
            flood = Blast(self, proxy.address(), "-1", "-c", count, "-n", 1, "--processes", 8, "--at-once", 64, "--source-range", "127.0.0.0/8",
                          "--source-port", 20000)
            turns = 0
            while flood.running():
                echo(sock)
                turns += 1
            sent = flood.result()["sent"]
            self.assertEqual(sent, count)

            def told(stat):
                drops = stat["udp"]["drops"]
                return stat["udp"]["datagrams"]["to_server"] + sum(drops.values()) == sent
            proxy.wait_stat(told, "all to be counted")
        self.assertGreater(turns, 10)
        stat = proxy.stat()["udp"]
        self.assertEqual(stat["sessions"], 2999, "three quarters of max_connections, of which TCP has one")
        server.wait_seen(stat["datagrams"]["to_server"])
        self.assertEqual(len(server.peers), 2999)
        for pid, rss in before.items():
            self.assertLess(rss_bytes(pid) - rss, 8 * aegis.MIB * SLOW)
        self.cut(proxy)


class Examples(LinkCase):
    """conf/dns.conf and conf/syslog.conf as they are, with the addresses that they name, at the far end."""

    def start(self, name):
        more = [word for text in ("workers = 2;", "pin = false;", 'log = { target = "stderr"; };') for word in ("-e", text)]
        return self.aegis(None, *more, config=SOURCE / "conf" / name)

    def servers(self, port, *addresses, **options):
        with self.far:
            for address in ("10.0.0.50", "192.0.2.1", *addresses):
                ip("addr", "add", f"{address}/32", "dev", LINK)
            found = {address: DatagramServer(self, address=f"{address}:{port}", **options) for address in addresses}
        ip("route", "add", "10.0.0.0/8", "via", FAR)
        return found

    def usable(self, proxy, name):
        found, = [server for upstream in proxy.stat()["upstreams"] for server in upstream["servers"] if server["name"] == name]
        return found["state"] == "up"

    def end_all(self, proxy):
        for row in admin.get(proxy.directory, "/connections").json["connections"]:
            admin.ask(proxy.directory, "DELETE", f"/connections/{row['id']}")

    def test_dns(self):
        servers = self.servers(53, "10.0.0.2", "10.0.0.3", "10.1.0.2")
        for host, server in servers.items():
            server.answer = lambda data, peer, host=host: [data[:2] + b"\x81\x80" + data[4:] + host.encode()]
        proxy = self.start("dns.conf")
        wait_until(lambda: all(self.usable(proxy, name) for name in ("dns1", "dns2", "elsewhere")), "the resolvers to be up")

        def ask(count, source="10.0.0.50"):
            heard = {}
            for number in range(count):
                client = self.far.client(self, f"{NEAR}:53", source=f"{source}:0")
                question = struct.pack("!H", number) + b"\1\0" + b"question"
                client.send(question)
                got = client.receive()
                self.assertEqual(got[:12], question[:2] + b"\x81\x80" + b"question")
                heard[got[12:].decode()] = heard.get(got[12:].decode(), 0) + 1
                client.close()
            return heard

        self.assertEqual(set(ask(40)), {"10.0.0.2", "10.0.0.3"})
        proxy.wait_closes("answered", 40, "dns")
        self.assertEqual(proxy.stat()["udp"]["sessions"], 0)
        # A client that asks again because an answer was lost gets one; who answers twice answers the first one's question.
        client = self.far.client(self, f"{NEAR}:53", source="10.0.0.50:0")
        for server in servers.values():
            server.mute = True
        client.send(b"\0\7\1\0again")
        wait_until(lambda: any(data.endswith(b"again") for server in servers.values() for data in server.data), "the question")
        for server in servers.values():
            server.mute = False
        client.send(b"\0\7\1\0again")
        self.assertTrue(client.receive().startswith(b"\0\7\x81\x80again"))
        # One that is gone is left out, another one that is gone as well has the third one help.
        servers["10.0.0.2"].close()
        wait_until(lambda: not self.usable(proxy, "dns1"), "dns1 to be down", 30)
        self.assertEqual(set(ask(10)), {"10.0.0.3"})
        servers["10.0.0.3"].close()
        wait_until(lambda: not self.usable(proxy, "dns2"), "dns2 to be down", 30)
        self.assertEqual(set(ask(10)), {"10.1.0.2"})
        denied = self.far.client(self, f"{NEAR}:53", source="192.0.2.1:0")
        denied.send(b"\0\7\1\0who")
        proxy.wait_closes("denied", 1, "dns")
        self.end_all(proxy)

    def test_syslog(self):
        collectors = self.servers(514, "10.0.0.21", "10.0.0.22", "10.0.0.23", mute=True)
        proxy = self.start("syslog.conf")

        def log(client, line):
            """Who has got it."""
            client.send(line)
            return wait_until(lambda: [host for host, server in collectors.items() if line in server.data], "the line to come")

        clients = [self.far.client(self, f"{NEAR}:514", source="10.0.0.50:0") for _ in range(4)]
        homes = {tuple(log(client, b"<13>line %d" % number)) for number, client in enumerate(clients)}
        self.assertEqual(len(homes), 1, "one machine, one collector")
        (home,), = homes
        for number in range(50):
            clients[0].send(b"<13>burst %d" % number)
        wait_until(lambda: b"<13>burst 49" in collectors[home].data, "the last line")
        self.assertEqual([data for data in collectors[home].data if b"burst" in data], [b"<13>burst %d" % number for number in range(50)])
        collectors[home].close()
        proxy.wait_closes("server_down", 4, "syslog", 30)
        moved = {tuple(log(client, b"<13>after %d" % number)) for number, client in enumerate(clients)}
        self.assertEqual(len(moved), 1)
        self.assertNotEqual(moved, homes)
        self.end_all(proxy)
        self.assertEqual(self.drops(proxy), 0)


if __name__ == "__main__":
    enter()
    aegis.main()
