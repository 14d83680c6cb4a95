"""Hot pools: connections that are ready before a client comes, given to another client only when nothing is owed on them."""
import re
import resource
import socket
import threading
import time

import admin
import aegis
from aegis import SLOW, Backend, Case, how_it_ends, receive, receive_line, reset, wait_until


class Server(Backend):
    """A server with a thread for each connection, which it numbers; keeps the bytes of each one."""

    def __init__(self, test, serve, **options):
        self.serve, self.heard, self.socks, self._lock = serve, [], [], threading.Lock()
        super().__init__(test, self._serve, **options)

    def _serve(self, sock):
        with self._lock:
            number = len(self.heard)
            self.heard.append(bytearray())
            self.socks.append(sock)
        return self.serve(Connection(sock, number, self.heard[number]))

    def alive(self):
        """Connections whose handler runs."""
        return sum(thread.is_alive() for thread, _ in self._connections)


class Connection:
    """One connection of a server, read by lines and lengths."""

    def __init__(self, sock, number, heard):
        self.sock, self.number, self.heard, self._rest = sock, number, heard, b""

    def more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self.heard += data
        self._rest += data
        return bool(data)

    def until(self, mark):
        """Up to and with the mark; None at the end."""
        while mark not in self._rest:
            if not self.more():
                return None
        found, _, self._rest = self._rest.partition(mark)
        return found + mark

    def exactly(self, size):
        while len(self._rest) < size:
            if not self.more():
                return None
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def send(self, data):
        self.sock.sendall(data)


def answer(body, *fields, status="200 OK"):
    return "".join([f"HTTP/1.1 {status}\r\n", *(f"{field}\r\n" for field in fields), f"Content-Length: {len(body)}\r\n\r\n", body]).encode()


class Web:
    """Answers HTTP/1.1 by the path; each answer says which connection it came over."""

    def __call__(self, connection):
        while (head := connection.until(b"\r\n\r\n")) is not None:
            method, path, *_ = head.split(b"\r\n")[0].decode(errors="replace").split(" ") + [""]
            length = re.search(rb"\r\ncontent-length: *(\d+)", head.lower())
            if length and connection.exactly(int(length[1])) is None:
                return
            if self.respond(connection, method, path) == "close":
                return

    def respond(self, connection, method, path):
        me = f"#{connection.number}#{path}"
        if method == "HEAD":
            connection.send(f"HTTP/1.1 200 OK\r\nX-Me: {me}\r\nContent-Length: 1000\r\n\r\n".encode())
        elif path == "/204" or path == "/304":
            fields = "" if path == "/204" else "Content-Length: 1000\r\n"
            connection.send(f"HTTP/1.1 {path[1:]} Nothing\r\nX-Me: {me}\r\n{fields}\r\n".encode())
        elif path in ("/chunked", "/trailer"):
            end = "\r\n0\r\n" + ("X-Trailer: 1\r\n" if path == "/trailer" else "")
            for piece in ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", f"{len(me):x}\r\n", me, end, "\r\n"):
                connection.send(piece.encode())
        elif path == "/close":
            connection.send(answer(me, "Connection: close"))
            return "close"
        elif path == "/announced":
            connection.send(answer(me, "Connection: close"))
        elif path == "/until-close":
            connection.send(f"HTTP/1.1 200 OK\r\n\r\n{me}".encode())
            return "close"
        elif path == "/upgrade":
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        elif path == "/ntlm":
            connection.send(answer(me, "WWW-Authenticate: NTLM", status="401 Unauthorized"))
        elif path == "/more":
            connection.send(answer(me) + b"and something that nobody asked for")
        elif path == "/half":
            connection.send(answer("x" * 1000)[:-500])
        else:
            connection.send(answer(me))
        return "open"


def request(path="/", method="GET", body="", *fields):
    length = [f"Content-Length: {len(body)}"] if body else []
    return "".join([f"{method} {path} HTTP/1.1\r\nHost: test\r\n", *(f"{field}\r\n" for field in [*fields, *length]), "\r\n", body]).encode()


def read_answer(sock, head_only=False):
    """(head, body) of one answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive(sock, 1)
    if b"chunked" in head:
        body = b""
        while (size := int(receive_line(sock), 16)) > 0:
            body += receive(sock, size)
            receive(sock, 2)
        while receive_line(sock) != "\r\n":
            pass
        return head.decode(), body.decode()
    length = re.search(rb"Content-Length: (\d+)", head)
    bodiless = head_only or b" 204 " in head or b" 304 " in head
    return head.decode(), "" if bodiless or not length else receive(sock, int(length[1])).decode()


class Pools(Case):
    def front(self, server, workers=1, upstream=None, **pool):
        addresses = server if isinstance(server, list) else server.address
        return self.proxy(addresses, workers=workers, upstream={"pool": pool, **(upstream or {})})

    def web(self, **settings):
        self.server = Server(self, Web())
        return self.front(self.server, **{"keep": 4, "framing": "http1", **settings})

    def ask(self, address, data, head_only=False):
        """A client of its own: one request, the answer, and a clean end."""
        with aegis.dial(address) as sock:
            sock.sendall(data)
            result = read_answer(sock, head_only)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
            return result

    def pool(self, proxy, name=None):
        return proxy.server(name or self.server.address)["pool"]

    def wait_hot(self, proxy, count, name=None):
        wait_until(lambda: proxy.server(name or self.server.address)["hot"] == count,
                   lambda: f"{count} hot connections; {proxy.server(name or self.server.address)}")

    def not_reused(self, proxy, address, clean=None):
        """After whatever happened, the next client has a fresh connection, and gets what is its own."""
        before = self.server.accepted
        head, body = self.ask(address, clean or request("/next"))
        self.assertEqual(body, f"#{self.server.accepted - 1}#/next")
        self.assertEqual(self.server.accepted, before + 1)


class Keep(Pools):
    def test_one_connection_for_many_clients(self):
        proxy, address = self.web()
        for i in range(50):
            self.assertEqual(self.ask(address, request(f"/{i}"))[1], f"#0#/{i}")
        self.assertEqual(self.server.accepted, 1)
        pool = self.pool(proxy)
        self.assertEqual((pool["hits"], pool["misses"], pool["kept"], pool["stale"], pool["stale_retries"]), (49, 1, 50, 0, 0), pool)
        row = proxy.server(self.server.address)
        self.assertEqual((row["total"], row["active"], row["hot"]), (1, 0, 1))
        proxy.wait_closes("finished", 50)

    def test_kinds_of_answers(self):
        """All that HTTP has to say that an answer has no body, or how long it is."""
        proxy, address = self.web()
        for _ in range(3):
            self.assertIn("X-Me: #0#/head", self.ask(address, request("/head", "HEAD"), head_only=True)[0])
            self.assertIn("X-Me: #0#/204", self.ask(address, request("/204"))[0])
            self.assertIn("X-Me: #0#/304", self.ask(address, request("/304"))[0])
            self.assertEqual(self.ask(address, request("/chunked"))[1], "#0#/chunked")
            self.assertEqual(self.ask(address, request("/post", "POST", "x" * 70000))[1], "#0#/post")
        self.assertEqual(self.server.accepted, 1)

    def test_pipelining(self):
        proxy, address = self.web()
        for _ in range(5):
            with aegis.dial(address) as sock:
                sock.sendall(request("/a") + request("/b", "HEAD") + request("/chunked") + request("/204") + request("/c"))
                self.assertEqual(read_answer(sock)[1], "#0#/a")
                self.assertIn("X-Me: #0#/b", read_answer(sock, head_only=True)[0])
                self.assertEqual(read_answer(sock)[1], "#0#/chunked")
                self.assertIn("/204", read_answer(sock)[0])
                self.assertEqual(read_answer(sock)[1], "#0#/c")
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(how_it_ends(sock), ("eof", b""))
        self.assertEqual(self.server.accepted, 1)

    def test_client_ends_before_the_answer(self):
        """A client that has asked and ended its side gets its answer; the connection is kept after it."""
        proxy, address = self.web()
        for i in range(5):
            with aegis.dial(address) as sock:
                sock.sendall(request(f"/{i}"))
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(read_answer(sock)[1], f"#0#/{i}")
                self.assertEqual(how_it_ends(sock), ("eof", b""))
        self.assertEqual(self.server.accepted, 1)

    def test_client_resets_when_all_is_answered(self):
        proxy, address = self.web()
        for i in range(1, 4):
            with aegis.dial(address) as sock:
                sock.sendall(request("/"))
                read_answer(sock)
                reset(sock)
            proxy.wait_closes("client_reset", i)
        self.assertEqual(self.server.accepted, 1)

    def test_client_that_says_nothing(self):
        proxy, address = self.web()
        self.ask(address, request("/"))
        for i in range(3):
            with aegis.dial(address) as sock:
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(how_it_ends(sock), ("eof", b""))
        self.assertEqual(self.ask(address, request("/"))[1], "#0#/")
        self.assertEqual(self.server.accepted, 1)

    def test_at_most_so_many(self):
        """Ten clients at a time, three connections remain."""
        proxy, address = self.web(keep=3)
        socks = [self.connect(address) for _ in range(10)]
        for sock in socks:
            sock.sendall(request("/"))
        for sock in socks:
            read_answer(sock)
        self.assertEqual(self.server.accepted, 10)
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        self.wait_hot(proxy, 3)
        wait_until(lambda: self.server.alive() == 3, "the server to see the others closed")
        for _ in range(10):
            self.ask(address, request("/"))
        self.assertEqual(self.server.accepted, 10)

    def test_max_idle(self):
        proxy, address = self.web(max_idle=f"{round(1500 * SLOW)}ms")
        self.ask(address, request("/"))
        self.wait_hot(proxy, 1)
        wait_until(lambda: self.server.alive() == 0, "the idle connection to be closed")
        self.wait_hot(proxy, 0)
        self.assertEqual(self.ask(address, request("/"))[1], "#1#/")
        self.assertEqual(self.pool(proxy)["stale"], 0)

    def test_a_reset_does_not_look_like_an_end(self):
        """With keep, half-closing and resets pass as without."""
        self.server = Server(self, lambda connection: reset(connection.sock) if connection.until(b"\r\n\r\n") else None)
        proxy, address = self.front(self.server, keep=2, framing="http1")
        with aegis.dial(address) as sock:
            sock.sendall(request("/"))
            self.assertEqual(how_it_ends(sock), ("reset", b""))
        proxy.wait_closes("server_reset")


class NotKept(Pools):
    """What must not be given to another client."""

    def check(self, data, read=1, then=None):
        proxy, address = self.web()
        with aegis.dial(address) as sock:
            sock.sendall(data)
            for _ in range(read):
                read_answer(sock)
            if then:
                then(sock)
            else:
                sock.shutdown(socket.SHUT_WR)
                how_it_ends(sock)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "the client to be gone")
        self.wait_hot(proxy, 0)
        self.not_reused(proxy, address)
        return proxy

    def test_close(self):
        self.check(request("/close"))

    def test_close_announced_only(self):
        self.check(request("/announced"))

    def test_until_close(self):
        self.check(request("/until-close"), read=0)

    def test_client_says_close(self):
        self.check(request("/", "GET", "", "Connection: close"))

    def test_http_1_0(self):
        self.check(b"GET / HTTP/1.0\r\n\r\n")

    def test_upgrade(self):
        proxy = self.check(request("/upgrade", "GET", "", "Connection: upgrade", "Upgrade: echo"))
        self.assertEqual(self.pool(proxy)["pinned"], 1)

    def test_ntlm(self):
        self.check(request("/ntlm"))

    def test_trailer(self):
        self.check(request("/trailer"))

    def test_unasked_bytes(self):
        self.check(request("/more"))

    def test_half_a_request(self):
        self.check(request("/") + b"GET /half-a-requ")

    def test_half_a_body(self):
        self.check(request("/") + b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")

    def test_not_http(self):
        self.check(request("/") + b"\x16\x03\x01\r\n\r\n")

    def test_both_lengths(self):
        self.check(request("/") + b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", read=1)

    def test_client_leaves_in_the_middle_of_an_answer(self):
        def leave(sock):
            receive(sock, 30)
            reset(sock)
        self.check(request("/half"), read=0, then=leave)

    def test_client_resets_before_the_answer(self):
        self.server = Server(self, lambda connection: connection.until(b"never"))
        proxy, address = self.front(self.server, keep=4, framing="http1")
        with aegis.dial(address) as sock:
            sock.sendall(request("/"))
            wait_until(lambda: self.server.heard and self.server.heard[0].endswith(b"\r\n\r\n"), "the request at the server")
            reset(sock)
        proxy.wait_closes("client_reset")
        self.wait_hot(proxy, 0)
        wait_until(lambda: self.server.alive() == 0, "the reset at the server")

    def test_without_a_pool(self):
        self.server = Server(self, Web())
        proxy, address = self.proxy(self.server.address, workers=1)
        for i in range(5):
            self.assertEqual(self.ask(address, request("/"))[1], f"#{i}#/")
        self.assertEqual(self.pool(proxy), {"hits": 0, "misses": 0, "kept": 0, "pinned": 0, "stale": 0, "stale_retries": 0})


class Warm(Pools):
    def test_ready_before_the_client(self):
        self.server = Server(self, Web())
        proxy, address = self.front(self.server, warm=3)
        wait_until(lambda: self.server.accepted == 3, "three connections without a client")
        self.wait_hot(proxy, 3)
        body = self.ask(address, request("/"))[1]
        self.assertIn(body, ("#0#/", "#1#/", "#2#/"))
        wait_until(lambda: self.server.accepted == 4, "a new one for the one that was taken")
        self.wait_hot(proxy, 3)
        wait_until(lambda: self.server.alive() == 3, "the used one to be closed")
        pool = self.pool(proxy)
        self.assertEqual((pool["hits"], pool["misses"], pool["kept"]), (1, 0, 0))
        self.assertEqual(proxy.server(self.server.address)["total"], 4)

    def test_each_worker_has_its_own(self):
        self.server = Server(self, Web())
        proxy, address = self.front(self.server, workers=3, warm=2)
        wait_until(lambda: self.server.accepted == 6, "two for each of three workers")
        self.wait_hot(proxy, 6)

    def test_server_speaks_first(self):
        """A greeting waits for the client, however long it lies there; nobody gets somebody else's."""
        def serve(connection):
            connection.send(b"hello %d\n" % connection.number)
            while (line := connection.until(b"\n")) is not None:
                connection.send(b"%d " % connection.number + line)
        self.server = Server(self, serve)
        proxy, address = self.front(self.server, warm=2)
        wait_until(lambda: self.server.accepted == 2, "two connections")
        seen = set()
        for _ in range(20):
            with aegis.dial(address) as sock:
                number = receive_line(sock).split()[1]
                self.assertNotIn(number, seen)
                seen.add(number)
                sock.sendall(b"what\n")
                self.assertEqual(receive_line(sock), f"{number} what\n")
        self.assertGreaterEqual(self.pool(proxy)["hits"], 1)

    def test_replaced_when_the_server_closes(self):
        self.server = Server(self, Web())
        proxy, address = self.front(self.server, warm=2)
        wait_until(lambda: self.server.accepted == 2, "two connections")
        self.wait_hot(proxy, 2)
        self.server.socks[0].shutdown(socket.SHUT_RDWR)
        wait_until(lambda: self.server.accepted == 3, "one in its place")
        self.wait_hot(proxy, 2)
        self.assertEqual(self.pool(proxy)["stale"], 1)
        self.assertIn(self.ask(address, request("/"))[1], ("#1#/", "#2#/"))

    def test_replaced_when_old(self):
        self.server = Server(self, Web())
        proxy, address = self.front(self.server, warm=2, max_idle="300ms")
        wait_until(lambda: self.server.accepted >= 6, "the old ones to be replaced, twice")
        self.wait_hot(proxy, 2)
        self.assertEqual(self.pool(proxy)["stale"], 0)

    def test_garbage_on_a_warm_one(self):
        """With a framing in which clients speak first, a server that speaks first is not trusted."""
        def serve(connection):
            if connection.number == 0:
                connection.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            Web()(connection)
        self.server = Server(self, serve)
        proxy, address = self.front(self.server, warm=1, framing="http1")
        wait_until(lambda: self.server.accepted == 2, "another one")
        self.wait_hot(proxy, 1)
        self.assertEqual(self.pool(proxy)["stale"], 1)
        self.assertEqual(self.ask(address, request("/"))[1], "#1#/")

    def test_server_away_and_back(self):
        """A dead server is asked less and less, and is warm again soon after it is back."""
        where = aegis.free_address()
        proxy, address = self.proxy(where, workers=1, upstream={"pool": {"warm": 4}})
        proxy.wait_log("cannot keep connections warm")
        time.sleep(1.5)
        failures = proxy.server(where)["failures"]
        self.assertLess(failures, 15)
        self.server = Server(self, Web(), address=where)
        self.wait_hot(proxy, 4)
        aegis.wait_until(lambda: self.server.accepted == 4, "the server to have accepted four")

    def test_server_that_closes_at_once(self):
        """It is not dialled in a circle, and the client sees what it would see without a pool."""
        self.server = Server(self, lambda connection: None)
        proxy, address = self.front(self.server, warm=2)
        time.sleep(1.5)
        self.assertLess(self.server.accepted, 40)
        with aegis.dial(address) as sock:
            self.assertEqual(how_it_ends(sock)[1], b"")

    def test_disabled_servers_are_left_alone(self):
        self.server, other = Server(self, Web()), Server(self, Web())
        proxy, address = self.proxy([self.server.address, {"address": other.address, "disabled": True}], workers=1,
                                    upstream={"pool": {"warm": 2}})
        self.wait_hot(proxy, 2)
        self.assertEqual(other.accepted, 0)


class Stale(Pools):
    """A connection that dies just when a client gets it."""

    def closer(self, how):
        """A server that ends its first connection, in its own way, before or while the second request comes."""
        def serve(connection):
            if connection.number > 0:
                return Web()(connection)
            connection.until(b"\r\n\r\n")
            connection.send(answer("first"))
            return how(connection)
        self.server = Server(self, serve)
        return self.front(self.server, keep=4, framing="http1")

    def test_closed_while_idle(self):
        go = threading.Event()
        proxy, address = self.closer(lambda connection: go.wait(20 * SLOW))
        self.assertEqual(self.ask(address, request("/"))[1], "first")
        self.wait_hot(proxy, 1)
        go.set()
        wait_until(lambda: self.pool(proxy)["stale"] == 1, "the end to be seen")
        self.wait_hot(proxy, 0)
        self.assertEqual(self.ask(address, request("/post", "POST", "x"))[1], "#1#/post")
        self.assertEqual(self.pool(proxy)["stale_retries"], 0)

    def test_spoiled_while_idle(self):
        go = threading.Event()

        def spoil(connection):
            go.wait(20 * SLOW)
            connection.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            connection.until(b"never")
        proxy, address = self.closer(spoil)
        self.ask(address, request("/"))
        self.wait_hot(proxy, 1)
        go.set()
        wait_until(lambda: self.pool(proxy)["stale"] == 1, "the bytes to be seen")
        self.assertEqual(self.ask(address, request("/"))[1], "#1#/")

    def stopped_worker(self, proxy, address, data, meanwhile):
        """The server does something while the worker stands still; when it goes on, the client's request and that are there at once."""
        worker = proxy.workers()[0]["pid"]
        with aegis.dial(address) as sock:
            wait_until(lambda: proxy.server(self.server.address)["active"] == 1, "the client to have its server")
            aegis.os.kill(worker, aegis.signal.SIGSTOP)
            wait_until(lambda: aegis.stat_fields(worker)[0] == "T", "the worker to stand still")
            sock.sendall(data)
            meanwhile()
            aegis.os.kill(worker, aegis.signal.SIGCONT)
            result = read_answer(sock)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        return result

    def test_retried_when_closed_under_a_client(self):
        """It was fine when the client came, and closed when its request came, which may not be sent twice: but it was not sent at all."""
        go = threading.Event()
        proxy, address = self.closer(lambda connection: go.wait(20 * SLOW))
        self.ask(address, request("/"))
        self.wait_hot(proxy, 1)

        def meanwhile():
            go.set()
            wait_until(lambda: self.server.alive() == 0, "the server to close")
        self.assertEqual(self.stopped_worker(proxy, address, request("/post", "POST", "body"), meanwhile)[1], "#1#/post")
        self.assertEqual(self.pool(proxy)["stale_retries"], 1)
        self.assertNotIn(b"/post", bytes(self.server.heard[0]))
        proxy.wait_closes("finished", 2)
        steps = [step["step"] for step in admin.get(proxy.directory, "/why?address=127.0.0.1").json["connections"][0]["steps"]]
        self.assertEqual(steps, ["accepted", "server chosen", "connected", "stale connection", "connected", "first byte", "closed"])

    def spoiled_under_a_client(self, data):
        """What the server says before the request comes is nobody's; returns what the client got."""
        go, done = threading.Event(), threading.Event()

        def spoil(connection):
            go.wait(20 * SLOW)
            connection.send(answer("not for you"))
            done.set()
            connection.until(b"never")
        proxy, address = self.closer(spoil)
        self.ask(address, request("/"))
        self.wait_hot(proxy, 1)

        def meanwhile():
            go.set()
            done.wait(20 * SLOW)
        try:
            return self.stopped_worker(proxy, address, data, meanwhile)[1], self.pool(proxy)["stale_retries"]
        except ConnectionResetError:
            return "reset", self.pool(proxy)["stale_retries"]

    def test_garbage_under_a_client(self):
        self.assertEqual(self.spoiled_under_a_client(request("/get")), ("#1#/get", 1))

    def test_garbage_under_a_request_that_may_not_be_repeated(self):
        """With io_uring the request is on its way when the garbage is seen: then it must not be sent again."""
        self.assertIn(self.spoiled_under_a_client(request("/post", "POST", "body")), (("#1#/post", 1), ("reset", 0)))

    def test_idempotent_requests_are_retried(self):
        """The server takes the request and closes: a GET may be sent again."""
        proxy, address = self.closer(lambda connection: connection.until(b"\r\n\r\n") and None)
        self.ask(address, request("/"))
        self.assertEqual(self.ask(address, request("/get"))[1], "#1#/get")
        self.assertEqual(self.pool(proxy)["stale_retries"], 1)
        self.assertIn(b"GET /get", bytes(self.server.heard[0]))

    def test_what_was_taken_is_not_sent_twice(self):
        """The server takes a POST and ends, with a FIN, with a RST: the client learns of it, and no other server connection sees it."""
        for end in ("eof", "reset"):
            with self.subTest(end=end):
                def how(connection, end=end):
                    connection.until(b"\r\n\r\nbody")
                    if end == "reset":
                        reset(connection.sock)
                proxy, address = self.closer(how)
                self.ask(address, request("/"))
                with aegis.dial(address) as sock:
                    sock.sendall(request("/post", "POST", "body"))
                    self.assertEqual(how_it_ends(sock), (end, b""))
                self.assertEqual(self.pool(proxy)["stale_retries"], 0)
                self.assertEqual(self.server.accepted, 1)

    def test_not_after_the_first_byte(self):
        def how(connection):
            connection.until(b"\r\n\r\n")
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        proxy, address = self.closer(how)
        self.ask(address, request("/"))
        with aegis.dial(address) as sock:
            sock.sendall(request("/get"))
            self.assertEqual(how_it_ends(sock), ("eof", b"HTTP/1.1 200 OK\r\nContent-Le"))
        self.assertEqual(self.pool(proxy)["stale_retries"], 0)

    def test_restarted_server(self):
        """64 kept connections, and the server goes away and comes back: no client sees an error."""
        proxy, address = self.web(keep=64)
        where = self.server.address
        socks = [self.connect(address) for _ in range(64)]
        for sock in socks:
            sock.sendall(request("/"))
        for sock in socks:
            read_answer(sock)
        for sock in socks: # all of them have a connection of their own by now
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        self.wait_hot(proxy, 64)
        self.server.close()
        self.server = Server(self, Web(), address=where)
        for i in range(64):
            self.assertEqual(self.ask(address, request(f"/{i}", "POST", "x"))[1], f"#0#/{i}")
        self.assertEqual(self.server.accepted, 1)


def lines(connection):
    """Answers each line with the number of the connection and the line."""
    while (line := connection.until(b"\n")) is not None:
        connection.send(b"%d " % connection.number + line)


class Line(Pools):
    def ask_line(self, address, text):
        with aegis.dial(address) as sock:
            sock.sendall(text.encode())
            answers = [receive_line(sock) for _ in range(text.count("\n"))]
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
            return answers

    def test_kept(self):
        self.server = Server(self, lines)
        proxy, address = self.front(self.server, keep=1, framing="line")
        for i in range(20):
            self.assertEqual(self.ask_line(address, f"a{i}\nb{i}\n"), [f"0 a{i}\n", f"0 b{i}\n"])
        self.assertEqual(self.server.accepted, 1)

    def test_half_a_line(self):
        self.server = Server(self, lines)
        proxy, address = self.front(self.server, keep=1, framing="line")
        self.ask_line(address, "whole\nhalf")
        self.assertEqual(self.ask_line(address, "next\n"), ["1 next\n"])

    def test_a_line_that_is_not_answered(self):
        """A client that ends its side is not left hanging for ever: the server learns of it after a while."""
        self.server = Server(self, lambda connection: connection.until(b"never"))
        proxy, address = self.front(self.server, keep=1, framing="line")
        with aegis.dial(address) as sock:
            sock.sendall(b"hello\n")
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        proxy.wait_closes("finished")
        self.wait_hot(proxy, 0)

    def test_over_a_unix_socket(self):
        self.server = Server(self, lines, address=f"unix:{self.directory}/lines")
        proxy, address = self.front(self.server, keep=1, framing="line")
        for i in range(5):
            self.assertEqual(self.ask_line(address, f"{i}\n"), [f"0 {i}\n"])


class Life(Pools):
    """Pools and everything else that happens to a worker."""

    def test_reload(self):
        """The new generation has its own warm ones; the old one gives up what it had, whether clients are left there or not."""
        proxy, address = self.web(warm=2)
        self.wait_hot(proxy, 2)
        held = self.connect(address)
        held.sendall(request("/"))
        read_answer(held)
        self.wait_hot(proxy, 2)
        proxy.must_reload()
        self.wait_hot(proxy, 2)
        wait_until(lambda: self.server.alive() == 3, lambda: f"two warm ones and one in use; {self.server.alive()}")
        held.sendall(request("/again"))
        self.assertTrue(read_answer(held)[1].endswith("#/again"))
        held.close()
        wait_until(lambda: self.server.alive() == 2, "a draining worker to keep nothing")

    def test_stop(self):
        proxy, address = self.web(warm=2)
        self.ask(address, request("/"))
        self.wait_hot(proxy, 3)
        proxy.stop()
        wait_until(lambda: self.server.alive() == 0, "all connections to be closed")

    def test_pool_switched_off_and_on(self):
        proxy, address = self.web(warm=2)
        self.wait_hot(proxy, 2)
        settings = proxy.settings
        off = aegis.copy.deepcopy(settings)
        del off["upstreams"][0]["pool"]
        proxy.must_reload(off)
        self.wait_hot(proxy, 0)
        wait_until(lambda: self.server.alive() == 0, "no connection without a client")
        proxy.must_reload(settings)
        self.wait_hot(proxy, 2)

    def test_killed_worker(self):
        """Its hot connections are no longer counted; the next one has its own."""
        proxy, address = self.web(warm=3)
        proxy.lost, proxy.restarts = True, 1
        self.ask(address, request("/"))
        self.wait_hot(proxy, 4)
        aegis.os.kill(proxy.workers()[0]["pid"], aegis.signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == 1, "another worker")
        self.wait_hot(proxy, 3)
        self.assertEqual(proxy.server(self.server.address)["active"], 0)
        wait_until(lambda: self.server.alive() == 3, "the others to be gone")

    def test_clients_come_first(self):
        """Hot connections use what descriptors clients leave, and make way for them."""
        self.server = Server(self, Web())
        proxy, address = self.limited(200, warm=60)
        wait_until(lambda: proxy.server(self.server.address)["hot"] >= 40, "hot connections")
        worker = proxy.workers()[0]["pid"]
        socks = [self.connect(address) for _ in range(70)]
        for i, sock in enumerate(socks):
            sock.sendall(request(f"/{i}"))
            self.assertTrue(read_answer(sock)[1].endswith(f"#/{i}"))
        self.assertLess(aegis.descriptors(worker), 200)
        self.assertEqual(proxy.workers()[0]["accept_pauses"], 0)
        self.assertEqual(proxy.server(self.server.address)["active"], 70)

    def limited(self, descriptors, **pool):
        settings = aegis.app(self.server.address, workers=1, upstream={"pool": pool}, max_connections=1000)
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        proxy = self.aegis(settings, preexec_fn=limit)
        return proxy, proxy.address()

    def test_no_descriptor_is_lost(self):
        """Through hits, misses, retries, stale and pinned ones, the worker has as many descriptors as before."""
        proxy, address = self.web(keep=2, warm=1)
        worker = proxy.workers()[0]["pid"]
        self.ask(address, request("/"))
        self.wait_hot(proxy, 2)
        before = aegis.descriptors(worker)
        for i in range(40):
            self.ask(address, request("/"))
            for path in ("/close", "/more", "/ntlm"):
                with aegis.dial(address) as sock:
                    sock.sendall(request(path))
                    read_answer(sock)
            with aegis.dial(address) as sock:
                sock.sendall(b"GET /half")
                reset(sock)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all clients to be gone")
        wait_until(lambda: aegis.descriptors(worker) <= before + 2, lambda: f"{aegis.descriptors(worker)} descriptors after {before}")

    def test_least_connections_does_not_count_them(self):
        """A server with idle connections is not a busy one."""
        first, second = Server(self, Web()), Server(self, Web())
        proxy, address = self.proxy([first.address, second.address], workers=1,
                                    upstream={"balance": "least_connections", "pool": {"keep": 50, "framing": "http1"}})
        socks = [self.connect(address) for _ in range(20)]
        for sock in socks:
            sock.sendall(request("/"))
            read_answer(sock)
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
            how_it_ends(sock)
        self.assertEqual([proxy.server(server.address)["hot"] for server in (first, second)], [10, 10])
        for _ in range(20):
            self.ask(address, request("/"))
        self.assertEqual((first.accepted, second.accepted), (10, 10))


class Share(Pools):
    """Four workers lend each other what is idle."""

    def shared(self, keep, **pool):
        self.server = Server(self, Web())
        return self.front(self.server, workers=4, keep=keep, framing="http1", share=True, **pool)

    def spread(self, proxy):
        return [row["accepts"] for row in proxy.workers()]

    def test_few_connections_for_all_workers(self):
        proxy, address = self.shared(2)
        for i in range(200):
            self.assertTrue(self.ask(address, request(f"/{i}"))[1].endswith(f"#/{i}"))
        self.assertTrue(all(count > 10 for count in self.spread(proxy)), self.spread(proxy))
        # By completion one comes to rest a moment after its client has gone: the next client may be there before.
        self.assertLessEqual(self.server.accepted, 2 if aegis.ENGINE == "epoll" else 60)
        wait_until(lambda: self.server.alive() <= 2, "no more than two to remain")
        self.assertGreater(self.pool(proxy)["hits"], 100)

    def test_never_more_than_keep(self):
        """Forty clients at a time; afterwards the workers together have ten."""
        proxy, address = self.shared(10)
        for _ in range(3):
            socks = [self.connect(address) for _ in range(40)]
            for sock in socks:
                sock.sendall(request("/"))
            for sock in socks:
                read_answer(sock)
            for sock in socks:
                sock.shutdown(socket.SHUT_WR)
                how_it_ends(sock)
            wait_until(lambda: self.server.alive() <= 10, lambda: f"ten at most; {self.server.alive()}")
            self.assertGreaterEqual(self.server.alive(), 6, proxy.server(self.server.address))
            wait_until(lambda: proxy.server(self.server.address)["hot"] == self.server.alive(), "all of them to be counted")
        self.assertEqual(proxy.server(self.server.address)["active"], 0)

    def test_old_ones_are_closed(self):
        proxy, address = self.shared(2, max_idle="300ms")
        self.ask(address, request("/"))
        wait_until(lambda: self.server.alive() == 0, "the idle one to be closed")
        self.wait_hot(proxy, 0)

    def test_dead_ones_are_found(self):
        proxy, address = self.shared(2)
        self.ask(address, request("/"))
        self.wait_hot(proxy, 1)
        self.server.socks[0].shutdown(socket.SHUT_RDWR)
        self.wait_hot(proxy, 0)
        self.assertEqual(self.pool(proxy)["stale"], 1)
        self.assertEqual(self.ask(address, request("/"))[1], "#1#/")

    def test_taken_dead(self):
        """One that the server closed a moment ago is passed over."""
        proxy, address = self.shared(4)
        socks = [self.connect(address) for _ in range(4)]
        for sock in socks:
            sock.sendall(request("/"))
            read_answer(sock)
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
            how_it_ends(sock)
        self.wait_hot(proxy, 4)
        for sock in self.server.socks[:3]:
            sock.shutdown(socket.SHUT_RDWR)
        self.assertEqual(self.ask(address, request("/", "POST", "x"))[1], "#3#/")

    def holders(self, proxy):
        """The workers that have a connection to the server."""
        port = f":{int(self.server.address.rpartition(':')[2]):04X}"
        rows = [line.split() for line in aegis.proc("self", "net/tcp").splitlines()[1:]]
        sockets = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(port) and row[3] == "01"}
        self.assertTrue(sockets, "nobody is connected to the server")
        return [worker["pid"] for worker in proxy.workers() if sockets & set(aegis.links(worker["pid"]))]

    def test_outlives_workers_and_reloads(self):
        """What lies in the box is there for the next generation, and for the one after a worker was killed."""
        proxy, address = self.shared(2)
        proxy.lost, proxy.restarts = True, 4
        self.ask(address, request("/"))
        self.wait_hot(proxy, 1)
        wait_until(lambda: not self.holders(proxy), "it to be in the box")
        for worker in proxy.workers():
            aegis.os.kill(worker["pid"], aegis.signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == 4 and all(row["state"] == "running" for row in stat["workers"]),
                        "four new workers")
        self.assertEqual(self.ask(address, request("/a"))[1], "#0#/a")
        self.wait_hot(proxy, 1)
        proxy.must_reload()
        proxy.must_reload()
        self.assertEqual(self.ask(address, request("/b"))[1], "#0#/b")
        self.assertEqual(self.server.accepted, 1)

    def test_ends_with_the_server(self):
        """Without a generation that uses it, the box is gone with all that is in it."""
        proxy, address = self.shared(2)
        other = Server(self, Web())
        self.ask(address, request("/"))
        self.wait_hot(proxy, 1)
        settings = aegis.copy.deepcopy(proxy.settings)
        settings["upstreams"][0]["servers"] = [{"address": other.address}]
        proxy.must_reload(settings)
        wait_until(lambda: self.server.alive() == 0, "the connection to be closed")
        self.assertEqual(self.ask(address, request("/"))[1], "#0#/")
        self.assertEqual(other.accepted, 1)

    def test_another_address_is_another_server(self):
        """The name stays, the address changes: what was connected to the old one is not used."""
        self.server, other = Server(self, Web()), Server(self, Web())
        proxy, address = self.front([{"name": "a", "address": self.server.address}], workers=2, keep=2, framing="http1", share=True)
        self.ask(address, request("/"))
        self.wait_hot(proxy, 1, "a")
        settings = aegis.copy.deepcopy(proxy.settings)
        settings["upstreams"][0]["servers"] = [{"name": "a", "address": other.address}]
        proxy.must_reload(settings)
        for i in range(10):
            self.assertTrue(self.ask(address, request(f"/{i}"))[1].endswith(f"#/{i}"))
        self.assertEqual(self.server.accepted, 1)
        self.assertEqual(other.accepted + proxy.server("a")["pool"]["hits"], 10)

    def test_no_descriptor_is_lost(self):
        proxy, address = self.shared(2)
        pids = [row["pid"] for row in proxy.workers()] + [proxy.pid]
        self.ask(address, request("/"))
        before = sum(map(aegis.descriptors, pids))
        for _ in range(100):
            self.ask(address, request("/"))
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all clients to be gone")
        wait_until(lambda: sum(map(aegis.descriptors, pids)) <= before + 2, lambda: f"{before} descriptors; {list(map(aegis.descriptors, pids))}")


class Settings(Pools):
    def refused(self, pool, *says):
        self.must_fail(aegis.app("127.0.0.1:1", upstream={"pool": pool}), 1, says=says)

    def test_keep_needs_framing(self):
        self.refused({"keep": 1}, "upstreams[0].pool.keep", "framing")

    def test_share_needs_keep(self):
        self.refused({"share": True, "framing": "http1"}, "upstreams[0].pool.share")

    def test_too_many_shared(self):
        servers = [f"127.0.0.1:{port}" for port in range(1, 258)]
        self.must_fail(aegis.app(servers, upstream={"pool": {"share": True, "keep": 1, "framing": "line"}}), 1, says=("256",))

    def test_unknown_framing(self):
        self.refused({"keep": 1, "framing": "http2"}, "framing", "http1", "redis", "line")


if __name__ == "__main__":
    aegis.main()
