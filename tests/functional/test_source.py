"""source of an upstream: connections to servers come from an address of this machine, or from the client's own.

The script runs itself again in a new network namespace, in which Aegis is; the client and the server are in one each, at the far ends of two
links. What the server sends to a client comes by Aegis, as it would where Aegis is the servers' router."""
import contextlib
import os
import re
import shutil
import socket
import subprocess

import aegis
from aegis import *
from datagrams import *
from test_namespace import enter, ip, sysctl
from test_udp_namespace import setns

TABLE = "100"
OTHER, OTHER6 = "10.78.2.9", "fd78:2::9"  # of this machine, besides that of the link
NET_RAW, NET_ADMIN = 1 << 13, 1 << 12


class Place:
    """A namespace at the other end of a link, whose packets to anywhere come this way. Sockets made inside of `with place:` are over there."""

    def __init__(self, test, link, number):
        self.link, self.net, self.net6 = link, f"10.78.{number}", f"fd78:{number}"
        self.near, self.far, self.near6, self.far6 = f"{self.net}.1", f"{self.net}.2", f"{self.net6}::1", f"{self.net6}::2"
        self.process = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec sleep 1000"],
                                        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        test.addCleanup(self._end)
        self.process.stdout.readline()
        self.there, self.here = (os.open(f"/proc/{pid}/ns/net", os.O_RDONLY) for pid in (self.process.pid, "self"))
        ip("link", "add", link, "type", "veth", "peer", "name", link, "netns", str(self.process.pid))
        test.addCleanup(ip, "link", "del", link)
        self._set_up(self.near, self.near6)
        with self:
            self._set_up(self.far, self.far6)
            ip("route", "add", "default", "via", self.near)
            ip("-6", "route", "add", "default", "via", self.near6)

    def _set_up(self, address, address6):
        sysctl(f"ipv6/conf/{self.link}/accept_dad", "0")  # or else neighbours are not asked for during the first second
        ip("addr", "add", f"{address}/24", "dev", self.link)
        ip("addr", "add", f"{address6}/64", "nodad", "dev", self.link)
        ip("link", "set", self.link, "up")

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


def serve(sock):
    """First from where the client seems to come, then all that he says."""
    sock.sendall(sock.getpeername()[0].encode() + b"\n")
    total = 0
    with contextlib.suppress(ConnectionResetError):  # a hot connection that was never used has the line unread when it is closed
        while data := sock.recv(65536):
            sock.sendall(data)
            total += len(data)
    return total


def seen_from(sock):
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            raise AssertionError(f"closed after {line}")
        line += byte
    return line.decode().strip()


def capabilities(pid):
    return int(re.search(r"^CapEff:\s+(\w+)", aegis.proc(pid, "status"), re.M)[1], 16)


class Source(Case):
    def setUp(self):
        super().setUp()
        self.clients, self.servers = Place(self, "clients0", 1), Place(self, "servers0", 2)
        ip("addr", "add", f"{OTHER}/24", "dev", self.servers.link)
        ip("addr", "add", f"{OTHER6}/64", "nodad", "dev", self.servers.link)

    def backend(self, ipv6=False, handler=serve):
        with self.servers:
            return Backend(self, handler, address=f"[{self.servers.far6}]:0" if ipv6 else f"{self.servers.far}:0")

    def call(self, address):
        with self.clients:
            return self.connect(address)

    def to_clients(self, source, server, ipv6=False, upstream=None, listener=None, **more):
        address = f"[{self.clients.near6}]:0" if ipv6 else f"{self.clients.near}:0"
        return self.proxy(server.address if hasattr(server, "address") else server, listener={"address": address, **(listener or {})},
                          upstream={"source": source, **(upstream or {})}, **more)

    def wait_up(self, proxy):
        proxy.wait_stat(lambda stat: stat["upstreams"][0]["servers"][0]["health"]["state"] == "up", "the server to be up")

    def rights(self, proxy):
        return {capabilities(worker["pid"]) for worker in proxy.workers()}


class Address(Source):
    def test_connections(self):
        """The servers see that address, of either family, and nobody needs a privilege for it."""
        for ipv6, source in ((False, OTHER), (True, OTHER6)):
            proxy, address = self.to_clients(source, self.backend(ipv6), ipv6)
            for _ in range(20):
                sock = self.call(address)
                self.assertEqual(seen_from(sock), source)
                echo(sock)
                sock.close()
            self.assertEqual(self.rights(proxy), {0})

    def test_hot_connections(self):
        """Those of a pool, too."""
        backend = self.backend()
        proxy, address = self.to_clients(OTHER, backend, upstream={"pool": {"warm": 2}})
        wait_until(lambda: backend.accepted >= 2, "hot connections")
        for _ in range(6):
            self.assertEqual(seen_from(self.call(address)), OTHER)

    def test_checks(self):
        """Health checks and the test at the start come from there."""
        for kind in ("tcp", "http"):
            seen = set()

            def note(sock):
                seen.add(sock.getpeername()[0])
                if kind == "http":
                    sock.recv(1000)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                how_it_ends(sock)

            backend = self.backend(handler=note)
            proxy, _ = self.to_clients(OTHER, backend, upstream={"start_test": "fail", "health": {"type": kind, "interval": "100ms"}})
            self.wait_up(proxy)
            wait_until(lambda: backend.accepted >= 4 and seen, "more checks")
            self.assertEqual(seen, {OTHER})
            proxy.stop()

    def test_datagrams(self):
        for ipv6, source in ((False, OTHER), (True, OTHER6)):
            with self.servers:
                server = DatagramServer(self, address=f"[{self.servers.far6}]:0" if ipv6 else f"{self.servers.far}:0")
            near = f"[{self.clients.near6}]:0" if ipv6 else f"{self.clients.near}:0"
            proxy = self.aegis(datagram_app(server.address, listener={"address": near}, workers=1,
                                            upstream={"source": source, "health": {"type": "udp", "send": "x", "interval": "100ms"}}))
            self.wait_up(proxy)
            with self.clients:
                DatagramClient(self, proxy.address()).ask()
            self.assertEqual({peer[0] for peer, _ in server.seen}, {source})

    def test_not_ours(self):
        """Refused at a start, and at a reload without touching what runs; one that goes away is told, and is no failure of the server."""
        server = self.backend()
        good = app(server.address, {"address": f"{self.clients.near}:0"}, {"source": OTHER, "retries": 0, "circuit_breaker": {"error_threshold": 1}})
        bad = app(server.address, {"address": f"{self.clients.near}:0"}, {"source": "10.78.2.33"})
        says = 'source = "10.78.2.33" is not an address of this machine'
        self.must_fail(bad, 2, says=[says])
        proxy = self.aegis(good)
        self.assertFalse(proxy.reload(bad))
        proxy.wait_log(says)
        self.assertEqual(seen_from(self.call(proxy.address())), OTHER)
        ip("addr", "del", f"{OTHER}/24", "dev", self.servers.link)
        for count in range(3):
            self.assertEqual(how_it_ends(self.call(proxy.address()))[1], b"")
            proxy.wait_closes("connect_failed", count + 1)
        proxy.wait_log("the address that source names is not one of this machine")
        ip("addr", "add", f"{OTHER}/24", "dev", self.servers.link)
        self.assertEqual(seen_from(self.call(proxy.address())), OTHER)


class Client(Source):
    """What comes by the servers' link for others is for Aegis."""

    def route(self):
        for family in ("-4", "-6"):
            ip(family, "rule", "add", "iif", self.servers.link, "lookup", TABLE)
            self.addCleanup(ip, family, "rule", "del", "iif", self.servers.link, "lookup", TABLE)

    def setUp(self):
        super().setUp()
        for name in ("all", "default", self.servers.link, self.clients.link):
            sysctl(f"ipv4/conf/{name}/rp_filter", "1")  # the strictest
        self.route()
        for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
            ip(family, "route", "add", "local", everything, "dev", "lo", "table", TABLE)
            self.addCleanup(ip, family, "route", "del", "local", everything, "dev", "lo", "table", TABLE)

    def test_connections(self):
        """The server sees the client, of either family; bytes, half-close and all; workers keep one capability, the control process none."""
        for ipv6, far in ((False, self.clients.far), (True, self.clients.far6)):
            backend = self.backend(ipv6)
            proxy, address = self.to_clients("client", backend, ipv6)
            self.assertEqual(self.rights(proxy), {NET_RAW})
            self.assertEqual(capabilities(proxy.control_pid()), 0)
            socks = [self.call(address) for _ in range(100)]
            for sock in socks:
                self.assertEqual(seen_from(sock), far)
                echo(sock)
            for sock in socks:
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(how_it_ends(sock), ("eof", b""))
                self.assertGreater(backend.result(), 0)

    def test_large(self):
        """20 MB in each direction at the same time, and its end."""
        proxy, address = self.to_clients("client", self.backend(), workers=1)
        sock, data = self.call(address), os.urandom(1 << 20)
        self.assertEqual(seen_from(sock), self.clients.far)
        thread = Task(lambda: [sock.sendall(data) for _ in range(20)] and sock.shutdown(socket.SHUT_WR))
        for _ in range(20):
            self.assertEqual(receive(sock, len(data)), data)
        thread.result()
        self.assertEqual(how_it_ends(sock), ("eof", b""))

    def test_both_families_at_one_listener(self):
        """Who comes by IPv4 to an address of both families is an IPv4 client; by IPv6 it cannot be, at such a server: refused, and told."""
        proxy, address = self.to_clients("client", self.backend(), listener={"address": "*:0"},
                                         upstream={"retries": 0, "circuit_breaker": {"error_threshold": 1}})
        port = address.rpartition(":")[2]
        self.assertEqual(seen_from(self.call(f"{self.clients.near}:{port}")), self.clients.far)
        self.assertEqual(how_it_ends(self.call(f"[{self.clients.near6}]:{port}"))[1], b"")
        proxy.wait_closes("connect_failed")
        proxy.wait_log("no address of the same family")
        self.assertEqual(seen_from(self.call(f"{self.clients.near}:{port}")), self.clients.far)

    def test_proxied(self):
        """The client that another proxy tells of."""
        _, address = self.to_clients("client", self.backend(), listener={"accept_proxy": {"from": [f"{self.clients.far}/32"]}})
        sock = self.call(address)
        sock.sendall(b"PROXY TCP4 10.78.1.77 10.78.1.1 4711 80\r\n")
        self.assertEqual(seen_from(sock), "10.78.1.77")
        echo(sock)

    def test_reload(self):
        """Connections stay, and new ones come from the client or no longer, as the settings say."""
        backend = self.backend()
        settings = app(backend.address, {"address": f"{self.clients.near}:0"}, {"source": "client"})
        proxy = self.aegis(settings)
        old = self.call(proxy.address())
        self.assertEqual(seen_from(old), self.clients.far)
        del settings["upstreams"][0]["source"]
        proxy.must_reload(settings)
        self.assertEqual(seen_from(self.call(proxy.address())), self.servers.near)
        echo(old)
        self.assertEqual({capabilities(worker["pid"]) for worker in proxy.workers() if worker["state"] == "running"} - {NET_RAW}, {0})
        settings["upstreams"][0]["source"] = "client"
        proxy.must_reload(settings)
        self.assertEqual(seen_from(self.call(proxy.address())), self.clients.far)
        echo(old)

    def test_limits(self):
        """Places at the server are counted, and given back."""
        backend = self.backend()
        proxy, address = self.to_clients("client", {"address": backend.address, "max_connections": 2}, workers=1)
        for _ in range(3):
            first, second = self.call(address), self.call(address)
            self.assertEqual({seen_from(first), seen_from(second)}, {self.clients.far})
            self.assertEqual(how_it_ends(self.call(address))[1], b"")
            first.close()
            second.close()
            wait_until(lambda: proxy.server(backend.address)["active"] == 0, "the places to be free")
        proxy.wait_closes("servers_full", 3)

    def test_checks_come_from_here(self):
        seen = set()

        def note(sock):
            seen.add(sock.getpeername()[0])
            how_it_ends(sock)

        backend = self.backend(handler=note)
        proxy, _ = self.to_clients("client", backend, upstream={"start_test": "fail", "health": {"type": "tcp", "interval": "100ms"}})
        self.wait_up(proxy)
        wait_until(lambda: seen, "the server to have seen one")
        self.assertEqual(seen, {self.servers.near})

    def test_datagrams(self):
        """From the client's address, of either family, and answers find their client."""
        for ipv6, far in ((False, self.clients.far), (True, self.clients.far6)):
            with self.servers:
                server = DatagramServer(self, address=f"[{self.servers.far6}]:0" if ipv6 else f"{self.servers.far}:0")
            near = f"[{self.clients.near6}]:0" if ipv6 else f"{self.clients.near}:0"
            proxy = self.aegis(datagram_app(server.address, listener={"address": near}, upstream={"source": "client"}))
            with self.clients:
                clients = [DatagramClient(self, proxy.address()) for _ in range(20)]
            for _ in range(5):
                for client in clients:
                    client.ask()
            self.assertEqual({peer[0] for peer, _ in server.seen}, {far})
            self.assertEqual(len({peer for peer, _ in server.seen}), 20)

    def test_without_the_privilege(self):
        """Refused with what to do, at a start and at a reload; either of the two capabilities will do."""
        if not shutil.which("setpriv"):
            self.skipTest("not installed: setpriv (util-linux)")
        server = self.backend()
        settings = app(server.address, {"address": f"{self.clients.near}:0"}, {"source": "client"})
        says = 'source = "client" takes the capability CAP_NET_RAW'
        self.must_fail(settings, 2, says=[says], **aegis.drop_to_nobody())
        without = ("setpriv", "--bounding-set", "-net_raw,-net_admin")
        proxy = self.aegis(app(server.address, {"address": f"{self.clients.near}:0"}), wrapper=without)
        self.assertFalse(proxy.reload(settings))
        proxy.wait_log(says)
        with self.call(proxy.address()) as sock:
            self.assertEqual(seen_from(sock), self.servers.near)
        proxy.stop()
        proxy = self.aegis(settings, wrapper=("setpriv", "--bounding-set", "-net_raw"))
        self.assertEqual(self.rights(proxy), {NET_ADMIN})
        with self.call(proxy.address()) as sock:
            self.assertEqual(seen_from(sock), self.clients.far)
        proxy.stop()
        ambient = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--inh-caps", "+net_raw",
                   "--ambient-caps", "+net_raw")
        directory = self.directory / "ambient"
        directory.mkdir()
        os.chown(directory, NOBODY, NOBODY)
        proxy = self.aegis(settings, wrapper=ambient, directory=directory)
        self.assertEqual(self.rights(proxy), {NET_RAW})
        self.assertEqual(seen_from(self.call(proxy.address())), self.clients.far)


class Marked(Client):
    """The other way: what belongs to a transparent socket is marked, so that Aegis may route other packets of the servers."""

    def route(self):
        if not shutil.which("nft"):
            self.skipTest("not installed: nft (nftables)")
        rules = """table inet aegis {
            chain prerouting {
                type filter hook prerouting priority mangle;
                meta l4proto { tcp, udp } socket transparent 1 meta mark set 1
            }
        }"""
        done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.skipTest(f"the kernel has no `socket transparent` for nft (CONFIG_NFT_SOCKET): {done.stderr.strip()}")
        self.addCleanup(run, "nft", "delete", "table", "inet", "aegis")
        for family in ("-4", "-6"):
            ip(family, "rule", "add", "fwmark", "1", "lookup", TABLE)
            self.addCleanup(ip, family, "rule", "del", "fwmark", "1", "lookup", TABLE)


if __name__ == "__main__":
    enter()
    aegis.main()
