"""What needs a network of one's own to be tried: ports run out, peers vanish without a word, no IPv6, no route.

The script runs itself again in a new network namespace, which takes root."""
import contextlib
import os
import shutil
import socket
import sys
import threading
import unittest

import aegis
from aegis import ROOT, Backend, Case, Echo, dial, echo, how_it_ends, receive, run, wait_until

PORTS = 16
FIRST_PORT = 40000
FAR = "127.9.9.9"  # where clients of this script sit, so that they do not use up the ports of Aegis itself


def ip(*args):
    done = run("ip", *args)
    if done.returncode != 0:
        raise AssertionError(f"ip {' '.join(args)}: {done.stderr}")


def sysctl(name, value):
    try:
        with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise unittest.SkipTest(f"/proc/sys/net/{name} cannot be written: {error}") from None


class Namespace(Case):
    def call(self, address, port=0):
        """A connection from FAR."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.settimeout(20 * aegis.SLOW)
        sock.bind((FAR, port))
        with contextlib.suppress(ConnectionResetError):  # reset as soon as it was accepted
            sock.connect(aegis.parse(address)[1])
        return sock


class Ports(Namespace):
    def test_local_ports_run_out(self):
        """As many connections to the server as there are local ports; the next client is closed for that reason, calmly, and it recovers."""
        server = Echo(self, address="127.0.0.1:1001")
        proxy, address = self.proxy(server.address, listener={"address": "127.0.0.1:1000"}, upstream={"retries": 1}, workers=2)
        sysctl("ipv4/ip_local_port_range", f"{FIRST_PORT} {FIRST_PORT + PORTS - 1}")
        self.addCleanup(sysctl, "ipv4/ip_local_port_range", "32768 60999")
        held = [self.call(address, 2000 + number) for number in range(PORTS)]
        for sock in held:
            echo(sock)
        turned_away, cpu = 20, {worker["pid"]: aegis.cpu_seconds(worker["pid"]) for worker in proxy.workers()}
        lines = proxy.log().count("\n")
        for number in range(turned_away):
            self.assertEqual(how_it_ends(self.call(address, 3000 + number))[1], b"")
        proxy.wait_closes("no_ports", turned_away)
        for pid, before in cpu.items():
            self.assertLess(aegis.cpu_seconds(pid) - before, 1.0 * aegis.SLOW)
        self.assertLess(proxy.log().count("\n") - lines, 10, "the log is flooded:\n" + proxy.log())
        for sock in held:
            echo(sock)
        held.pop().close()
        numbers = iter(range(4000, 5000))

        def served():  # as soon as the kernel gives the port again
            with self.call(address, next(numbers)) as sock:
                try:
                    echo(sock)
                except (OSError, AssertionError):
                    return False
                return True

        wait_until(served, "a new client to be served", 90)


class Routes(Namespace):
    def vanish(self, address):
        """From now on nothing comes from that address or gets there, and nobody is told."""
        ip("route", "add", "blackhole", address, "table", "local")
        self.addCleanup(ip, "route", "del", "blackhole", address, "table", "local")

    def test_client_vanishes(self):
        """tcp.user_timeout: a client that does not acknowledge any more is given up, and its server sees a reset."""
        vanished = threading.Event()

        def serve(sock):
            sock.sendall(receive(sock, 5))
            vanished.wait(60 * aegis.SLOW)
            sock.sendall(b"are you there?")
            return how_it_ends(sock)

        backend = Backend(self, serve)
        proxy, address = self.proxy(backend.address, listener={"tcp": {"user_timeout": "1s"}})
        far, near = self.call(address), self.connect(address)
        for sock in (far, near):
            echo(sock, b"hello")
        self.vanish(FAR)
        vanished.set()
        self.assertEqual(receive(near, 14), b"are you there?")
        self.assertEqual(backend.result(), ("reset", b""))
        proxy.wait_closes("client_lost")
        near.close()
        self.assertEqual(backend.result(), ("eof", b""))

    def test_server_vanishes(self):
        """The same on the other side: the client of a server that is gone sees a reset."""
        server = Echo(self, address=f"{FAR}:0")
        proxy, address = self.proxy(server.address, upstream={"tcp": {"user_timeout": "1s"}})
        sock = self.connect(address, seconds=60)
        echo(sock)
        self.vanish(FAR)
        sock.sendall(b"are you there?")
        self.assertEqual(how_it_ends(sock), ("reset", b""))
        proxy.wait_closes("server_lost")

    def test_no_route_to_a_server(self):
        """There is no route: another server is tried; where there is none, the client is closed for that reason."""
        server = Echo(self)
        proxy, address = self.proxy(["192.0.2.1:80", server.address], workers=1)
        for _ in range(6):
            with dial(address) as sock:
                echo(sock)
        self.assertGreaterEqual(proxy.server("192.0.2.1:80")["failures"], 2)
        proxy.check_gauges()
        proxy.stop()
        proxy, address = self.proxy("192.0.2.1:80", workers=1)
        with dial(address) as sock:
            self.assertEqual(how_it_ends(sock)[1], b"")
        proxy.wait_closes("connect_failed")


class Families(Namespace):
    def test_without_ipv6(self):
        """Where IPv6 is switched off, ":port" listens on IPv4 and says so; "[::1]:port" alone is a clear error."""
        sysctl("ipv6/conf/all/disable_ipv6", "1")
        self.addCleanup(sysctl, "ipv6/conf/all/disable_ipv6", "0")
        server = Echo(self)
        proxy, address = self.proxy(server.address, listener={"address": ":1002"})
        port = address.rpartition(":")[2]
        self.assertEqual(port, "1002")
        with dial(f"127.0.0.1:{port}") as sock:
            echo(sock)
        proxy.stop()
        self.must_fail(aegis.app(server.address, {"address": "[::1]:1003"}), 2, says=["[::1]:1003"])


def enter():
    """Run this script again in a namespace, or skip."""
    if os.environ.get("AEGIS_TEST_NAMESPACE"):
        ip("link", "set", "lo", "up")
        return
    why = None
    if not ROOT:
        why = "only root makes a network namespace"
    elif not shutil.which("unshare") or not shutil.which("ip"):
        why = "not installed: unshare (util-linux) or ip (iproute2)"
    elif run("unshare", "-n", "ip", "link", "set", "lo", "up").returncode != 0:
        why = "network namespaces are not allowed here"
    if why:
        print("skipped:", why)
        sys.exit(77)
    os.environ["AEGIS_TEST_NAMESPACE"] = "1"
    os.execvp("unshare", ["unshare", "-n", sys.executable, "-B", *sys.argv])


if __name__ == "__main__":
    enter()
    aegis.main()
