"""Keys of session tickets over an upgrade: clients of either program resume their sessions at both, whatever becomes of it."""
import pathlib
import ssl
import sys

import aegis
from aegis import AEGIS, Case, Echo, free_address, wait_until
from papers import Papers, connect, need_tls
from test_upgrade import LONG_DRAIN, OTHER, Master, setUpModule  # noqa: F401

# Stands before the new program, with what is handed over to it: the text, and the line of the keys in it.
FILTER = """#!{python}
import os, sys
fd = int(os.environ["AEGIS_UPGRADE"].partition(":")[0])
lines = os.pread(fd, 1 << 20, 0).decode().splitlines(keepends=True)
keys, = [line for line in lines if line.startswith("item tickets ")]
{change}
os.ftruncate(fd, 0)
os.pwrite(fd, "".join(lines).encode(), 0)
os.execv("{program}", sys.argv)
"""
WITHOUT = "os.close(int(keys.split()[2])); lines.remove(keys)"
UNKNOWN = """
copy = os.memfd_create("copy", os.MFD_ALLOW_SEALING)
data = bytearray(os.pread(int(keys.split()[2]), 4096, 0))
data[0] ^= 1
os.pwrite(copy, data, 0)
import fcntl
fcntl.fcntl(copy, 1033, 7)  # F_ADD_SEALS: as they are in the real one
os.dup2(copy, int(keys.split()[2]))"""


class Client:
    """Comes back with the ticket that it got last."""

    def __init__(self, papers, version=None):
        self.context, self.session = papers.context(version), None

    def come(self, address):
        """One connection: whether its session was resumed."""
        with connect(address, self.context, "one.test", self.session) as sock:
            sock.sendall(b"hello")
            if sock.recv(5) != b"hello":
                raise AssertionError("no echo")
            self.session, reused = sock.session, sock.session_reused
            sock.unwrap()
        return reused


class Tickets(Case):
    deadline = 120.0

    def setUp(self):
        super().setUp()
        need_tls()
        self.papers = Papers(self.directory / "papers")
        self.tls = {"tls": {"certificates": [self.papers.pair("one", "one.test")]}}

    def master(self, **settings):
        proxy = Master(self, aegis.app(Echo(self).address, {"address": free_address(), **self.tls}, **settings))
        return proxy, proxy.address()

    def client(self, address, version=None):
        """One that has a ticket."""
        client = Client(self.papers, version)
        self.assertFalse(client.come(address))
        self.assertTrue(client.come(address))
        return client

    def keys(self, pid):
        """The descriptors of a process that have them."""
        return sum("aegis tickets" in link for link in aegis.links(pid))


class Upgraded(Tickets):
    def check(self, version):
        proxy, address = self.master(workers=2)
        clients = [self.client(address, version) for _ in range(3)]
        for program in (AEGIS, OTHER, AEGIS):  # OTHER has another segment, but the same keys
            proxy.upgrade(program)
            for client in clients:
                self.assertTrue(client.come(address))
            proxy.settled()
            clients.append(self.client(address, version))
        proxy.must_reload()
        for client in clients:
            self.assertTrue(client.come(address))

    def test_tls_1_3(self):
        self.check(ssl.TLSVersion.TLSv1_3)

    def test_tls_1_2(self):
        self.check(ssl.TLSVersion.TLSv1_2)

    def test_who_has_them(self):
        """The masters alone have the descriptor, and only they and workers the memory; nothing of it is in the environment or the log."""
        proxy, address = self.master(workers=2, **LONG_DRAIN)
        held = connect(address, self.papers.context(), "one.test")
        self.addCleanup(held.close)
        held.sendall(b"x")
        held.recv(1)
        old = proxy.current
        proxy.upgrade(AEGIS)
        for pid in (old, proxy.current):
            self.assertEqual(self.keys(pid), 1)
        stat = proxy.wait_stat(lambda stat: len(stat["workers"]) == 3, "the old worker without a connection to end")
        workers = [row["pid"] for row in stat["workers"]]
        for pid in (proxy.control_pid(), *workers):
            self.assertEqual(self.keys(pid), 0)
            self.assertEqual("aegis tickets" in pathlib.Path(f"/proc/{pid}/maps").read_text(), pid in workers)
        self.assertNotIn("AEGIS", pathlib.Path(f"/proc/{proxy.current}/environ").read_text())
        self.assertNotIn("tickets", proxy.log())
        held.close()
        proxy.settled()

    def test_one_of_them_makes_new_keys(self):
        """While both have them: the new one, and a ticket of the old one's last key goes on."""
        proxy, address = self.master(workers=1, tls={"ticket_rotation": "10s"}, log={"level": "debug"}, **LONG_DRAIN)
        held = connect(address, self.papers.context(), "one.test")
        self.addCleanup(held.close)
        held.sendall(b"x")
        held.recv(1)
        client = self.client(address)
        for turn in range(2):
            before = proxy.log().count("a new key for session tickets")
            proxy.upgrade(AEGIS)  # the old ones drain as long as there is a connection

            def replaced():
                self.assertTrue(client.come(address))
                return proxy.log().count("a new key for session tickets") > before
            wait_until(replaced, "a new key", 25.0)
            self.assertTrue(client.come(address))
            self.assertEqual(proxy.log().count("a new key for session tickets"), before + 1, turn)
        held.close()
        proxy.settled()


class GivenUp(Tickets):
    def test_before_it_was_ready(self):
        proxy, address = self.master()
        client = self.client(address)
        for program in ("#!/bin/sh\nexit 7\n", f"#!/bin/sh\nexec {AEGIS} -e 'nonsense = 1;' \"$@\"\n"):
            proxy.install(program)
            proxy.must_refuse()
            self.assertTrue(client.come(address))
        proxy.upgrade(AEGIS)
        self.assertTrue(client.come(address))
        proxy.settled()

    def test_in_the_switch(self):
        """Workers of both programs accept: a ticket of the one is good for the other. Then the new program is gone, and its tickets are good
        still."""
        settings = aegis.app(Echo(self).address, {"address": free_address(), **self.tls}, workers=1)
        settings["listeners"].append({"name": "leaves", "address": free_address(), "upstream": "app"})
        proxy = Master(self, settings)
        proxy.lost = True
        address = settings["listeners"][0]["address"]
        clients = [self.client(address) for _ in range(4)]
        before = {row["generation"]: row["accepts"] for row in proxy.stat()["workers"]}
        proxy.write({**settings, "listeners": settings["listeners"][:1]})  # which gives handshakes with the other one time to end
        proxy.catch_in_the_switch()  # there it stays, until the old one gives it up
        self.assertEqual(proxy.pid_file(), proxy.pid)

        def both():
            for client in clients:
                self.assertTrue(client.come(address))
            accepts = {row["generation"]: row["accepts"] for row in proxy.stat()["workers"]}
            return accepts.get(2, 0) > 8 and accepts[1] > before[1] + 8
        wait_until(both, "workers of both programs to have clients")
        proxy.wait_log("upgrade given up, nothing changed: the new program did not take over within 5 s", 30.0)
        for client in clients:
            self.assertTrue(client.come(address))
        self.assertEqual(proxy.pid_file(), proxy.pid)
        proxy.write(settings)
        proxy.upgrade(AEGIS)
        for client in clients:
            self.assertTrue(client.come(address))
        proxy.settled()


class Unknown(Tickets):
    """Programs that hand over no keys, or others: new ones are made, and clients begin anew once."""

    def check(self, change):
        proxy, address = self.master()
        client = self.client(address)
        proxy.upgrade(FILTER.format(python=sys.executable, change=change, program=AEGIS))
        proxy.wait_log("clients with TLS begin anew, once")
        self.assertFalse(client.come(address))
        self.assertTrue(client.come(address))
        self.assertEqual(self.keys(proxy.current), 1)
        proxy.settled()
        proxy.upgrade(AEGIS)  # from here on they go over
        self.assertTrue(client.come(address))
        proxy.settled()

    def test_not_handed_over(self):
        self.check(WITHOUT)

    def test_another_layout_of_them(self):
        self.check(UNKNOWN)


if __name__ == "__main__":
    aegis.main()
