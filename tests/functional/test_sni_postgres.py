"""PostgreSQL behind routes by name: its request for TLS in front of the hello, on both sides, and the real server with its real client."""
import glob
import os

import aegis
from aegis import NOBODY, ROOT, Backend, drop_to_nobody, need, receive, run, wait_until
from hellos import UNRECOGNIZED_NAME, Authority, ask, hello_of, plain_server_of, refusal, server_of
from test_peers import Peer, free_port
from test_sni import Sni

SSL_REQUEST, GSS_REQUEST = bytes.fromhex("0000000804d2162f"), bytes.fromhex("0000000804d21630")
STARTUP, CANCEL = bytes.fromhex("00000008000300000000"), bytes.fromhex("0000001004d2162e0000000100000002")
DB = "db.example.org"


def asks(sock, request=SSL_REQUEST, answer=b"S"):
    sock.sendall(request)
    if receive(sock, 1) != answer:
        raise AssertionError("another answer")


class Requests(Sni):
    """The messages themselves, with servers of the tests."""

    def setUp(self):
        super().setUp()
        self.authority = Authority(self.directory)

    def server(self, answer=b"S"):
        """A server that wants the request first, and TLS then."""
        def before(sock):
            request = sock.recv(8)
            if not request:
                return False  # it was ready, and nobody needed it
            if request != SSL_REQUEST:
                raise AssertionError(f"not PostgreSQL's request: {request!r}")
            sock.sendall(answer)
            return answer == b"S"
        return server_of(self, self.authority, "db", DB, before=before)

    def front(self, *servers, **more):
        return self.routed({"db": [server.address for server in servers]}, [{"name": DB, "upstream": "db"}],
                           hello={"starttls": "postgres"}, **more)

    def test_both_sides(self):
        """The request is granted, passed on in Aegis's own words, and what follows is between client and server; also after GSS, which is
        declined, and on connections that were ready."""
        for pool in ({}, {"pool": {"warm": 2}}):
            db = self.server()
            proxy, front = self.front(db, upstream_db=pool)
            for before in (asks, lambda sock: (asks(sock, GSS_REQUEST, b"N"), asks(sock))):
                for _ in range(6):
                    self.assertEqual(ask(front, DB, self.authority, before=before), ["db", DB, "line"])
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "clients to be gone")
            self.assertEqual(proxy.listener()["closes"]["finished"], 12)
            proxy.stop()

    def test_ended_here(self):
        """The client's TLS ends at Aegis, and it is not asked of a server that is spoken to without."""
        plain = plain_server_of(self, "plain")
        cert, key = self.authority.pair("front", DB)
        proxy, front = self.front(plain, listener={"tls": {"certificates": [{"cert": str(cert), "key": str(key)}]}})
        self.assertEqual(ask(front, DB, self.authority, before=asks), ["plain", "line"])
        proxy.stop()
        db = self.server()
        proxy, front = self.front(db, listener={"tls": {"certificates": [{"cert": str(cert), "key": str(key)}]}},
                                  upstream_db={"tls": {"ca": str(self.authority.ca), "name": DB}})
        self.assertEqual(ask(front, DB, self.authority, before=asks), ["db", DB, "line"])
        proxy.stop()

    def test_directly(self):
        """A client that begins with TLS is passed on as it is (sslnegotiation=direct)."""
        db = server_of(self, self.authority, "db", DB)
        proxy, front = self.front(db)
        self.assertEqual(ask(front, DB, self.authority), ["db", DB, "line"])
        proxy.stop()

    def test_in_pieces(self):
        """Requests and hello byte by byte."""
        db = self.server()
        proxy, front = self.front(db)

        def slowly(sock):
            for byte in SSL_REQUEST:
                sock.sendall(bytes([byte]))
                wait_until(lambda: aegis.unsent(sock) == 0, "it to be taken")
            self.assertEqual(receive(sock, 1), b"S")
        self.assertEqual(ask(front, DB, self.authority, before=slowly), ["db", DB, "line"])
        proxy.stop()

    def test_refusals(self):
        """Whoever goes on without TLS, asks twice, or says more before the answer, is turned away without a server."""
        db = self.server()
        proxy, front = self.front(db)
        rows = ((b"", STARTUP, None, "not_tls"), (b"", CANCEL, None, "not_tls"), (b"", SSL_REQUEST + hello_of(DB), None, "not_tls"),
                (b"", GSS_REQUEST + SSL_REQUEST, None, "not_tls"), (b"S", SSL_REQUEST, None, "not_tls"), (b"S", STARTUP, None, "not_tls"),
                (b"N", GSS_REQUEST, None, "not_tls"), (b"N", STARTUP, None, "not_tls"),
                (b"S", hello_of("other.example.org"), UNRECOGNIZED_NAME, "no_route"))
        counts = {}
        for before, sent, alert, reason in rows:
            sock = self.connect(front)
            if before:
                asks(sock, SSL_REQUEST if before == b"S" else GSS_REQUEST, before)
            sock.sendall(sent)
            if sent == STARTUP and before != b"S":
                ended, error = aegis.how_it_ends(sock)
                self.assertEqual((ended, error[:1], error[5:13]), ("eof", b"E", b"SFATAL\0V"))
            else:
                self.assertEqual(refusal(sock), alert, sent[:20])
            counts[reason] = counts.get(reason, 0) + 1
            proxy.wait_closes(reason, counts[reason])
        self.assertEqual(db.accepted, 0)
        proxy.stop()

    def test_a_server_that_declines(self):
        """It is left for another one; where there is no other, the client is reset and the reason says why."""
        declines, grants = self.server(answer=b"N"), self.server()
        proxy, front = self.front(declines, grants)
        for _ in range(4):
            self.assertEqual(ask(front, DB, self.authority, before=asks), ["db", DB, "line"])
        self.assertGreater(declines.accepted, 0)
        proxy.stop()
        for answer in (b"N", b"E", b"SX"):
            server = self.server(answer=answer) if answer != b"SX" else Backend(self, lambda sock: receive(sock, 8) and None)
            proxy, front = self.front(server, upstream_db={"retries": 0})
            sock = self.connect(front)
            asks(sock)
            sock.sendall(hello_of(DB))
            self.assertEqual(aegis.how_it_ends(sock), ("reset", b""))
            proxy.wait_closes("connect_refused" if answer == b"SX" else "server_no_tls")
            if answer == b"N":
                proxy.wait_log("it declined TLS")
            proxy.stop()

    def test_a_server_that_says_nothing(self):
        """timeout.connect is for its answer, too."""
        silent = Backend(self, lambda sock: receive(sock, 8) + sock.recv(1))
        proxy, front = self.front(silent, upstream_db={"retries": 0, "timeout": {"connect": "300ms"}})
        sock = self.connect(front)
        asks(sock)
        sock.sendall(hello_of(DB))
        self.assertEqual(aegis.how_it_ends(sock), ("reset", b""))
        proxy.wait_closes("connect_timeout")
        proxy.stop()


class Postgres(Sni, Peer):
    """psql with sslmode=verify-full through Aegis, to two servers by their names."""

    def cluster(self, authority, who, name):
        """(port) of a server with TLS alone."""
        initdb, postgres = self.programs[:2]
        data, port = self.directory / who, free_port()
        data.mkdir(mode=0o700)
        cert, key = authority.pair(f"{who}-pair", name)
        for source, target in ((cert, "server.crt"), (key, "server.key")):
            (self.directory / f"{who}-{target}").write_bytes(source.read_bytes())
        if ROOT:
            os.chown(data, NOBODY, NOBODY)
        user = drop_to_nobody()
        self.ask(initdb, "-D", data, "-A", "trust", "-U", "aegis", "--no-locale", "-E", "UTF8", "--no-sync", cwd=data, **user)
        for target in ("server.crt", "server.key"):
            path = data / target
            path.write_bytes((self.directory / f"{who}-{target}").read_bytes())
            path.chmod(0o600)
            if ROOT:
                os.chown(path, NOBODY, NOBODY)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
        self.serve(port, [postgres, "-D", data, "-p", port, "-h", "127.0.0.1", "-k", "", "-c", "fsync=off", "-c", "ssl=on",
                          "-c", f"cluster_name={who}"], cwd=data, **user)
        return port

    def setUp(self):
        super().setUp()
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        os.environ["PATH"] += "".join(os.pathsep + path for path in found[-1:])
        self.programs = need("initdb", "postgres", "psql", "pgbench")
        self.authority = Authority(self.directory)

    def line(self, front, who, **more):
        """How a client is told where to connect, and whom to trust."""
        words = {"host": f"{who}.example.org", "hostaddr": "127.0.0.1", "port": front.rpartition(":")[2], "user": "aegis", "dbname": "postgres",
                 "sslmode": "verify-full", "sslrootcert": self.authority.ca, **more}
        return " ".join(f"{key}={value}" for key, value in words.items())

    def wait_accepting(self, line):
        wait_until(lambda: run(self.programs[2], line, "-c", "SELECT 1").returncode == 0, "PostgreSQL to accept queries", 30)

    def transactions(self, line):
        pgbench = self.programs[3]
        self.ask(pgbench, "-i", "-s", 1, "-q", line)
        text = self.ask(pgbench, "-n", "-C", "-S", "-c", 4, "-j", 2, "-t", 50, line)
        self.assertRegex(text, r"number of transactions actually processed: 200/200\n")

    def refused(self, line):
        done = run(self.programs[2], line, "-c", "SELECT 1")
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_verify_full(self):
        """Each name reaches its cluster, verified; pgbench runs; sslmode=disable is refused."""
        ports = {who: self.cluster(self.authority, who, f"{who}.example.org") for who in ("red", "blue")}
        proxy, front = self.routed({who: f"127.0.0.1:{port}" for who, port in ports.items()},
                                   [{"name": f"{who}.example.org", "upstream": who} for who in ports], hello={"starttls": "postgres"})
        for who in ports:
            self.wait_accepting(self.line(front, who))
            said = self.ask(self.programs[2], self.line(front, who), "-At", "-c",
                            "SELECT current_setting('cluster_name'), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            self.assertEqual(said.strip(), f"{who}|t")
        self.transactions(self.line(front, "red"))
        for bad in ({"sslmode": "disable"}, {"host": "green.example.org"}, {"sslmode": "verify-full", "sslrootcert": "/nonexistent"}):
            said = self.refused(self.line(front, "red", **bad))
            self.assertEqual("FATAL:  TLS is required here" in said, bad.get("sslmode") == "disable", said)
        self.assertEqual(proxy.listener()["closes"]["no_route"], 1)
        self.assertGreaterEqual(proxy.listener()["closes"]["not_tls"], 1)
        proxy.stop()

    def test_verify_full_to_aegis(self):
        """TLS ends at Aegis, whose certificate the client verifies; to the server Aegis speaks TLS of its own, and verifies it."""
        port = self.cluster(self.authority, "red", "db.internal")
        cert, key = self.authority.pair("front", "red.example.org")
        proxy, front = self.routed(
            {"red": f"127.0.0.1:{port}"}, [{"name": "*.example.org", "upstream": "red"}], hello={"starttls": "postgres"},
            listener={"tls": {"certificates": [{"cert": str(cert), "key": str(key)}]}},
            upstream_red={"tls": {"ca": str(self.authority.ca), "name": "db.internal"}})
        line = self.line(front, "red")
        self.wait_accepting(line)
        said = self.ask(self.programs[2], line, "-At", "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        self.assertEqual(said.strip(), "t")
        self.transactions(line)
        self.assertIn("TLS is required here", self.refused(self.line(front, "red", sslmode="disable")))
        self.assertIn("does not match host name", self.refused(self.line(front, "blue")))
        proxy.stop()


if __name__ == "__main__":
    aegis.main()
