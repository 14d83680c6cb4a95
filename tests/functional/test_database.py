"""conf/database.conf as it is shipped, in front of a PostgreSQL, a MySQL and a Redis that are played.

The script runs itself again in a new network namespace, where the ports of that file are free."""
import contextlib
import re

import aegis
from aegis import *
from test_health import MYSQL_FULL, MYSQL_GREETING, Server, WHO
from test_namespace import enter

FRONTS = {"postgres": ("127.0.0.1:6432", "127.0.0.1:5432"), "mysql": ("127.0.0.1:3307", "127.0.0.1:3306"), "redis": ("127.0.0.1:6380", "127.0.0.1:6379")}


class Database(Server):
    """One that goes on with its clients."""

    def serve(self, sock):
        with contextlib.suppress(ConnectionError):
            if self.kind == "mysql":
                sock.sendall(MYSQL_GREETING if self.well else MYSQL_FULL)
            first = sock.recv(4096)
            if first == WHO:
                self.clients += 1
                sock.sendall(self.name.encode() + b"\n")
                while data := sock.recv(4096):
                    sock.sendall(data)
            else:
                self.checks += 1
                self.answer(sock, first)
                while sock.recv(4096):
                    pass


class Profile(Case):
    deadline = 120.0

    def login(self, kind):
        sock = self.connect(FRONTS[kind][0])
        if kind == "mysql":  # the server speaks first: nobody waits for the client
            self.assertEqual(receive(sock, len(MYSQL_GREETING)), MYSQL_GREETING)
        sock.sendall(WHO)
        self.assertEqual(receive(sock, len(kind) + 1), kind.encode() + b"\n")
        return sock

    def test_as_it_is(self):
        """It says what it promises, all three are served, and connections of a server that goes down are closed, those of others not."""
        servers = {kind: Database(self, kind, kind, there) for kind, (_, there) in FRONTS.items()}
        proxy = self.aegis(None, config=aegis.SOURCE / "conf/database.conf")
        socks = {kind: self.login(kind) for kind in FRONTS}
        for sock in socks.values():
            echo(sock)
        for kind in FRONTS:
            proxy.wait_stat(lambda stat: proxy.server("primary", kind)["health"]["state"] == "up", f"{kind} to be up")
        servers["redis"].well = False
        self.assertEqual(how_it_ends(socks.pop("redis"))[1], b"")
        proxy.wait_closes("server_down", name="redis")
        for sock in socks.values():
            echo(sock)
            sock.close()
        servers["redis"].well = True
        proxy.wait_stat(lambda stat: proxy.server("primary", "redis")["health"]["state"] == "up", "redis to be up again")
        sock = self.login("redis")
        echo(sock)
        sock.close()

    def test_what_it_says(self):
        """No idle or read timeout, probes on both sides, connections of a server that is down closed, and nothing that reads on the way."""
        done = run(aegis.AEGIS, "-T", "-c", aegis.SOURCE / "conf/database.conf")
        self.assertEqual(done.returncode, 0, done.stderr)
        for line, count in (('idle = "0s";', 3), ('read = "0s";', 3), ('lifetime = "0s";', 3), ('keepalive = "1m";', 6), ('on_down = "close";', 3)):
            self.assertEqual(len(re.findall(r"^\s*" + re.escape(line), done.stdout, re.M)), count, line + "\n" + done.stdout)
        text = (aegis.SOURCE / "conf/database.conf").read_text()
        self.assertNotRegex(text, r"(?m)^\s*(sni|accept_proxy|tls|pool)\b")


if __name__ == "__main__":
    enter()
    aegis.main()
