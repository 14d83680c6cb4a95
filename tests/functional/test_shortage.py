"""While readers who stand still have all buffers: whoever comes, goes or waits for a buffer is served all the same, and afterwards all is as before."""
import contextlib
import os
import pathlib
import signal
import socket
import threading
import time

import aegis
import secure
import test_upgrade
from aegis import KIB, MIB, SLOW, Backend, Case, Echo, Pattern, Task, echo, how_it_ends, receive, wait_until
from hellos import Authority, ask, hello_of, server_of
from papers import need_tls

setUpModule = test_upgrade.setUpModule

UP, DOWN = Pattern(1), Pattern(2)
EACH = 60_000  # bytes from each who stands still: some 15 buffers of the ring
AT_ONCE = 40
MOST = 512  # messages there and back, for which the smallest ring has buffers
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
DB = "db.example.org"


def plain(name, server, **more):
    """A listener and its upstream, of the same name."""
    return ({"name": name, "address": "127.0.0.1:0", "upstream": name, **more.pop("listener", {})},
            {"name": name, "servers": [{"address": server.address}], **more})


class Shortage(Case):
    deadline = 120.0

    def setUp(self):
        super().setUp()
        self.held, self.stalled, self.go = [], [], threading.Event()
        self.sink = Backend(self, self.hold, receive_buffer=4 * KIB)
        self.echo = Echo(self)
        self.addCleanup(self.go.set)

    def hold(self, sock):
        """A server that reads nothing until it may."""
        self.held.append(sock)
        self.go.wait(self.deadline * SLOW)
        return UP.receive_all(sock)

    def give_up(self, sock):
        """One that never does."""
        self.held.append(sock)
        self.go.wait(self.deadline * SLOW)

    def settings(self, *more, **top):
        """One worker with few buffers; more: pairs of listener and upstream."""
        pairs = [plain("app", self.echo), plain("stalled", self.sink, tcp={"receive_buffer": "4k", "send_buffer": "4k"}), *more]
        return {"workers": 1, "pin": False, "buffer_memory": "1M", "listeners": [listener for listener, _ in pairs if listener],
                "upstreams": [upstream for _, upstream in pairs], **top}

    def start(self, *more, **top):
        self.begin(self.aegis(self.settings(*more, **top)))
        return self.proxy_

    def begin(self, proxy):
        self.proxy_ = proxy
        self.probes = [self.connect(proxy.address()) for _ in range(8)]
        self.ask_probes()

    def ask_probes(self):
        for sock in self.probes:
            echo(sock, b"12345678")

    def exhausted(self):
        return sum(worker["buffer_exhausted"] for worker in self.proxy_.stat()["workers"])

    @contextlib.contextmanager
    def standing_still(self, pid):
        """What comes while the worker stands still comes in one turn."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def stall(self):
        count = len(self.held) + AT_ONCE
        socks = [self.connect(self.proxy_.address("stalled")) for _ in range(AT_ONCE)]
        wait_until(lambda: len(self.held) == count, "the servers of those who will stand still")
        with self.standing_still(self.proxy_.workers()[0]["pid"]):
            for sock in socks:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * KIB)
                sock.sendall(UP.at(0, EACH))
        self.stalled += socks
        self.ask_probes()

    def use_up(self):
        """Until neither the ring nor the pool has any more: each of the two is noticed once."""
        noticed = 0
        for _ in range(15):
            before = self.exhausted()
            self.stall()
            noticed += self.exhausted() > before
            if noticed == 2:
                break
        self.assertEqual(noticed, 2, "there are always more buffers")
        for sock in self.probes[:2]:  # one that is with the ring has what the kernel had been given of it before
            for _ in range(MOST):
                echo(sock, b"12345678")
        self.probes += [self.connect(self.proxy_.address()) for _ in range(4)]
        self.ask_probes()

    def release(self):
        """Those who stood still go on: all get all."""
        self.go.set()
        for sock in self.stalled:
            sock.shutdown(socket.SHUT_WR)
        for sock in self.stalled:
            self.assertEqual(how_it_ends(sock), ("eof", b""))
            sock.close()
            self.assertEqual(self.sink.result(), EACH)
        self.stalled.clear()
        self.ask_probes()

    def wait_at_rest(self, pid):
        """Until the worker needs next to no CPU for half a second."""
        def spent():
            return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
        seen = [spent(), time.monotonic()]

        def rests():
            cpu, now = spent(), time.monotonic()
            if now - seen[1] < 0.5:
                return False
            share = (cpu - seen[0]) / (now - seen[1])
            seen[:] = cpu, now
            return share < 0.1
        wait_until(rests, "the worker to rest")


class Relays(Shortage):
    def test_they_go_on(self):
        """No CPU while nothing moves. Afterwards memory is given back, nobody finds buffers used up any more, and it all works once more."""
        proxy = self.start()
        worker = proxy.workers()[0]["pid"]
        before = aegis.rss_bytes(worker)
        self.use_up()
        self.wait_at_rest(worker)
        count = len(self.stalled)
        self.release()
        proxy.wait_closes("finished", count, name="stalled")
        if not aegis.SANITIZED:
            wait_until(lambda: aegis.rss_bytes(worker) - before < 3 * MIB, lambda: f"its memory back: {before} -> {aegis.rss_bytes(worker)}")
        self.wait_at_rest(worker)
        exhausted = self.exhausted()
        for number in range(200):
            self.ask_probes()
            if number % 20 == 0:
                self.probes += [self.connect(proxy.address())]
        self.assertEqual(self.exhausted(), exhausted)
        self.wait_at_rest(worker)

    def test_resets(self):
        """Both ends of those who stand still are reset: what they had is there for the others."""
        proxy = self.start()
        self.sink.handler = self.give_up
        self.use_up()
        for sock in self.stalled[::2]:
            aegis.reset(sock)
        self.ask_probes()
        self.go.set()  # with all that they did not read
        wait_until(lambda: proxy.listener("stalled")["active"] == 0, "all of them to be gone")
        exhausted = self.exhausted()
        for _ in range(100):
            self.ask_probes()
        self.assertEqual(self.exhausted(), exhausted)
        self.wait_at_rest(proxy.workers()[0]["pid"])

    def test_bulk(self):
        """A megabyte each way at once, on connections old and new, and through a narrow listener."""
        def serve(sock):
            sender = Task(DOWN.send, sock, MIB)
            UP.receive(sock, MIB)
            sender.result()
            sock.sendall(b".")
        server = Backend(self, serve)
        shaped = {"listener": {"bandwidth": {"up": "2000000/s", "down": "2000000/s"}}}
        proxy = self.start(plain("bulk", server), plain("narrow", server, **shaped))
        before = [self.connect(proxy.address(name), receive_buffer=16 * KIB) for name in ("bulk", "narrow")]
        self.use_up()
        after = [self.connect(proxy.address(name), receive_buffer=16 * KIB) for name in ("bulk", "narrow")]
        tasks = [Task(UP.send, sock, MIB) for sock in before + after]
        for sock in before + after:
            DOWN.receive(sock, MIB)
            self.assertEqual(receive(sock, 1), b".")
        for task in tasks:
            task.result()
        self.ask_probes()
        self.release()


class Secured(Shortage):
    def test_sides_with_tls(self):
        """Clients, servers and both: small messages, bulk, and readers who stand still themselves, on connections old and new."""
        need_tls()

        def serve(sock):
            kind = receive(sock, 1)
            if kind == b"g":
                DOWN.send(sock, MIB)
            while part := sock.recv(64 * KIB):
                sock.sendall(part)

        def serve_secured(sock):
            with contextlib.closing(secure.TlsSocket(sock, secure.server_context(), server_side=True)) as peer:
                serve(peer)
        bare, secured = Backend(self, serve), Backend(self, serve_secured)
        listener, tls = {"tls": secure.listener_tls(tickets=False)}, {"tls": secure.upstream_tls()}
        proxy = self.start(plain("client", bare, listener=listener), plain("server", secured, **tls), plain("both", secured, listener=listener, **tls))

        def dial(name):
            sock = self.connect(proxy.address(name), receive_buffer=16 * KIB)
            return secure.TlsSocket(sock, secure.client_context()) if name != "server" else sock

        def dial_all():
            return [dial(name) for name in ("client", "server", "both") for _ in range(3)]
        before = dial_all()
        for sock in before[::3]:
            sock.sendall(b"g")  # nobody reads that for now
        for sock in before[1::3] + before[2::3]:
            sock.sendall(b"e")
        self.use_up()
        after = dial_all()
        for sock in after[::3]:
            sock.sendall(b"g")
        for sock in after[1::3] + after[2::3]:
            sock.sendall(b"e")
        for sock in before[1::3] + before[2::3] + after[1::3] + after[2::3]:
            echo(sock, b"x" * 5000)
        tasks = [Task(UP.send, sock, MIB) for sock in before[2::3] + after[2::3]]
        for sock in before[2::3] + after[2::3]:
            UP.receive(sock, MIB)
        for task in tasks:
            task.result()
        for sock in before[::3] + after[::3]:
            DOWN.receive(sock, MIB)
            echo(sock, b"y" * 5000)
        self.ask_probes()
        self.release()
        for sock in before + after:
            sock.close()


class Pools(Shortage):
    def banner(self, sock):
        """A server that speaks first; kept in self.open."""
        self.open.append(sock)
        sock.sendall(b"hello\n")
        with contextlib.suppress(OSError):
            while part := sock.recv(4 * KIB):
                sock.sendall(part)

    def close_all(self):
        socks, self.open = self.open, []
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def hot(self, name="warm"):
        return self.proxy_.server("a", name)["hot"]

    def test_warm_ones_that_the_server_closes(self):
        """It closes all while the ring gives out no buffers, twice: they are seen to be gone, new ones are ready, and clients never meet a dead one."""
        self.open = []
        server = Backend(self, self.banner)
        listener, upstream = plain("warm", server, pool={"warm": 8})
        upstream["servers"][0]["name"] = "a"
        proxy = self.start((listener, upstream))
        wait_until(lambda: self.hot() == 8 and len(self.open) == 8, "warm connections")
        self.use_up()
        for _ in range(2):
            wait_until(lambda: self.hot() == 8, "all of them")
            self.close_all()
            wait_until(lambda: self.hot() == 8 and len(self.open) >= 8, "new ones")
            for _ in range(12):
                sock = self.connect(proxy.address("warm"))
                self.assertEqual(receive(sock, 6), b"hello\n")
                echo(sock)
                sock.close()
            self.ask_probes()
        self.release()

    def test_kept_ones_that_the_server_closes(self):
        """Of those given back, too; and what a client asked on one that was just closed is asked again."""
        self.open = []

        def serve(sock):
            self.open.append(sock)
            with contextlib.suppress(OSError):
                while line := sock.recv(100):
                    sock.sendall(line)
        listener, upstream = plain("kept", Backend(self, serve), pool={"keep": 8, "framing": "line"})
        upstream["servers"][0]["name"] = "a"
        proxy = self.start((listener, upstream))
        for shortage in (False, True, True):
            if shortage and not self.stalled:
                self.use_up()
            socks = [self.connect(proxy.address("kept")) for _ in range(6)]
            for sock in socks:
                echo(sock, b"question\n")
            for sock in socks:
                sock.close()
            wait_until(lambda: self.hot("kept") >= 6, "them to be kept")
            self.close_all()
            sock = self.connect(proxy.address("kept"))
            echo(sock, b"another\n")
            sock.close()
        self.release()

    def test_greetings_in_pieces(self):
        """They do not take the buffers from everybody, however many pieces they come in."""
        pieces, count = (b"220-this", b" is\n", b"220 a server", b" that takes its time\n"), 300
        self.open = []

        def serve(sock):
            self.open.append(sock)
            with contextlib.suppress(OSError):
                while part := sock.recv(4 * KIB):
                    sock.sendall(part)
        listener, upstream = plain("warm", Backend(self, serve), pool={"warm": count})
        upstream["servers"][0]["name"] = "a"
        proxy = self.start((listener, upstream))
        wait_until(lambda: self.hot() == count and len(self.open) == count, "warm connections")
        greeted = list(self.open)
        for piece in pieces:
            for sock in greeted:
                sock.sendall(piece)
            self.ask_probes()
        self.ask_probes()
        self.assertEqual(self.exhausted(), 0)
        sock = self.connect(proxy.address("warm"))
        self.assertEqual(receive(sock, len(b"".join(pieces))), b"".join(pieces))
        echo(sock)


class Postgres(Shortage):
    """A client that asks for TLS in PostgreSQL's way: so does Aegis ask the server, on a connection that was ready."""

    def front(self, handler=None, **more):
        self.authority = Authority(self.directory)

        def before(sock):
            request = sock.recv(8)
            if request and request != SSL_REQUEST:
                raise AssertionError(f"not PostgreSQL's request: {request!r}")
            if request:
                sock.sendall(b"S")
            return bool(request)
        self.db = Backend(self, handler) if handler else server_of(self, self.authority, "db", DB, before=before)
        _, upstream = plain("db", self.db, pool={"warm": 4}, **more)
        upstream["servers"][0]["name"] = "a"
        front = {"name": "front", "address": "127.0.0.1:0", "sni": [{"name": DB, "upstream": "db"}], "client_hello": {"starttls": "postgres"}}
        proxy = self.start((front, upstream))
        wait_until(lambda: proxy.server("a", "db")["hot"] == 4, "warm connections")
        return proxy

    @staticmethod
    def asks(sock):
        sock.sendall(SSL_REQUEST)
        if receive(sock, 1) != b"S":
            raise AssertionError("another answer")

    def test_over_a_warm_connection(self):
        """Those that were ready before, and those that were made since."""
        need_tls()
        proxy = self.front()
        self.assertEqual(ask(proxy.address("front"), DB, self.authority, before=self.asks), ["db", DB, "line"])
        self.use_up()
        hits = proxy.server("a", "db")["pool"]["hits"]
        for _ in range(12):
            self.assertEqual(ask(proxy.address("front"), DB, self.authority, before=self.asks), ["db", DB, "line"])
        self.assertGreaterEqual(proxy.server("a", "db")["pool"]["hits"], hits + 4)
        self.ask_probes()
        self.release()

    def test_a_server_that_speaks_first(self):
        """It is none of PostgreSQL's: the client is turned away, and the worker lives."""
        need_tls()

        def speak(sock):
            with contextlib.suppress(OSError):
                sock.sendall(b"X")
                while sock.recv(100):
                    sock.sendall(b"S")
        proxy = self.front(speak, retries=0)
        worker = proxy.workers()[0]["pid"]
        self.use_up()
        for number in range(1, 7):
            sock = self.connect(proxy.address("front"))
            self.asks(sock)
            sock.sendall(hello_of(DB))
            self.assertEqual(how_it_ends(sock), ("reset", b""))
            proxy.wait_closes("server_no_tls", number, name="front")
        self.assertEqual(proxy.workers()[0]["pid"], worker)
        self.ask_probes()
        self.release()


class Generations(Shortage):
    LONG = {"drain": {"timeout": "0s", "max_generations": 8}}

    def test_reload(self):
        """The new worker has buffers of its own; the old one goes on without, until those who stand still go on."""
        proxy = self.start(**self.LONG)
        self.use_up()
        for _ in range(2):
            proxy.must_reload()
            self.ask_probes()
            self.probes.append(self.connect(proxy.address()))
            self.stall()
        self.release()
        for sock in self.probes:
            sock.close()
        proxy.wait_stat(lambda stat: len(stat["workers"]) == 1, "the old workers to end")

    def test_drain_timeout(self):
        """Those who stand still are cut off, and the worker ends; so it does when Aegis is stopped."""
        proxy = self.start(drain={"timeout": "1s"})
        self.sink.handler = self.give_up
        for _ in range(2):
            self.use_up()
            self.probes, old = [], self.probes
            proxy.must_reload()
            proxy.wait_stat(lambda stat: len(stat["workers"]) == 1, "the old worker to end")
            for sock in [*old, *self.stalled]:
                sock.close()
            self.stalled.clear()
            self.begin(proxy)
        self.go.set()

    def test_upgrade(self):
        """The same with a new program."""
        proxy = test_upgrade.Master(self, self.settings(**self.LONG))
        self.begin(proxy)
        self.use_up()
        proxy.upgrade()
        self.ask_probes()
        self.probes.append(self.connect(proxy.address()))
        self.stall()
        self.release()
        for sock in self.probes:
            sock.close()
        proxy.settled()


if __name__ == "__main__":
    aegis.main()
