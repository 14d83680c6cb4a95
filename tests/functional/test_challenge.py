"""acme.challenges: a listener answers an ACME authority itself, from files, and nobody else notices."""
import contextlib
import json
import os
import random
import socket
import threading

import aegis
from aegis import KIB, MIB, ROOT, Backend, Case, Echo, Task, echo, how_it_ends, receive, run, wait_until

PATH = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA"
CONTENT = b"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


def request(token=TOKEN, method="GET", version="1.1", more=""):
    return f"{method} {PATH}{token} HTTP/{version}\r\nHost: one.test\r\nUser-Agent: authority\r\n{more}\r\n".encode()


def keeps_all(sock):
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


class Challenge(Case):
    def setUp(self):
        super().setUp()
        self.folder = self.directory / "challenges"
        self.write()

    def write(self, token=TOKEN, content=CONTENT):
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        (self.folder / token).write_bytes(content)
        (self.folder / token).chmod(0o644)

    def in_front_of(self, address, listener=None, timeout="20s", **top):
        proxy = self.aegis(aegis.app(address, {"acme": {"challenges": str(self.folder), "timeout": timeout}, **(listener or {})}, **top))
        return proxy, proxy.address()

    def in_front_of_bytes(self, **options):
        backend = Backend(self, keeps_all)
        return *self.in_front_of(backend.address, **options), backend

    def ask(self, front, sent=None, piece=1 << 20, more=b""):
        """Send a request; the head of the answer and what stands behind it, which must end in order."""
        sock = self.connect(front)
        sent = request() if sent is None else sent
        for at in range(0, len(sent), piece):
            sock.sendall(sent[at:at + piece])
            if piece < 100:
                wait_until(lambda: aegis.unsent(sock) == 0, "it to be taken")
        if more:
            sock.sendall(more)
        ended, data = how_it_ends(sock)
        self.assertEqual(ended, "eof", data)
        sock.close()
        head, _, body = data.partition(b"\r\n\r\n")
        return head.decode(), body

    def must_answer(self, front, *args, content=CONTENT, **options):
        head, body = self.ask(front, *args, **options)
        lines = head.split("\r\n")
        self.assertEqual((lines[0], body), ("HTTP/1.1 200 OK", content))
        self.assertIn("Content-Type: application/octet-stream", lines)
        self.assertIn("Connection: close", lines)
        self.assertIn(f"Content-Length: {len(CONTENT)}", lines)


class Answers(Challenge):
    def test_who_asks(self):
        """GET and HEAD, both versions, in one piece and byte by byte, with requests behind it; no server hears of any of them."""
        access = self.directory / "access.log"
        proxy, front, backend = self.in_front_of_bytes(access_log={"path": str(access), "format": "json"})
        before = [aegis.descriptors(row["pid"]) for row in proxy.workers()]
        self.must_answer(front)
        self.must_answer(front, request(version="1.0"))
        self.must_answer(front, request(method="HEAD"), content=b"")
        self.must_answer(front, request(more=f"Accept: {'x' * 6000}\r\n"))
        self.must_answer(front, f"GET {PATH}{TOKEN} HTTP/1.1\r\n\r\n".encode())
        self.must_answer(front, f"GET {PATH}{TOKEN} HTTP/1.1\r\nHost: one.test\n\n".encode())
        self.must_answer(front, piece=1)
        self.must_answer(front, more=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        proxy.wait_closes("challenge_answered", 8)
        self.assertEqual(backend.accepted, 0)
        wait_until(lambda: access.exists() and access.read_text().count("\n") >= 8, "records")
        records = [json.loads(line) for line in access.read_text().splitlines()]  # each worker's in order, one worker's before another's
        self.assertEqual({record["reason"] for record in records}, {"challenge_answered"})
        self.assertIn(len(request(method="HEAD")), [record["bytes_up"] for record in records])
        self.assertEqual(len([record for record in records if record["bytes_down"] > len(CONTENT) + 100]), 7, records)
        self.assertEqual([aegis.descriptors(row["pid"]) for row in proxy.workers()], before)
        proxy.wait_log("answered the ACME challenge of 127.0.0.1")
        why = run(aegis.BUILD / "aegisctl", "-r", proxy.directory, "why", "127.0.0.1").stdout
        self.assertIn("an ACME authority got the answer to its challenge", why)
        proxy.stop()

    def test_clients_that_do_not_close(self):
        """Who leaves its end open after the answer is given acme.timeout for it; one that sends on and on not even that."""
        proxy, front, _ = self.in_front_of_bytes(timeout=f"{round(800 * aegis.SLOW)}ms")
        stays = self.connect(front)
        stays.sendall(request())
        self.assertEqual(how_it_ends(stays)[0], "eof")
        proxy.wait_closes("challenge_answered", 1)
        floods = self.connect(front)
        with self.assertRaises(OSError):
            floods.sendall(request() + bytes(64 * MIB))
        proxy.wait_closes("challenge_answered", 2)
        proxy.stop()

    def test_in_pieces_of_a_small_buffer(self):
        """The longest answer through the smallest send buffer, to a client that takes its time."""
        content = bytes(range(32, 96)) * 64
        self.write("long", content)
        backend = Backend(self, keeps_all)
        proxy, front = self.in_front_of(backend.address, {"tcp": {"send_buffer": "4k"}})
        sock = self.connect(front, receive_buffer=1)
        sock.sendall(request("long"))
        data = b""
        while part := sock.recv(100):
            data += part
        self.assertEqual(data.partition(b"\r\n\r\n")[2], content)
        sock.close()
        proxy.wait_closes("challenge_answered")
        proxy.stop()

    def test_the_door_comes_first(self):
        """allow and deny, and the header of a proxy: who is refused is told nothing."""
        backend = Backend(self, keeps_all)
        proxy, front = self.in_front_of(backend.address, {"accept_proxy": {"from": ["127.0.0.0/8"]}, "deny": ["192.0.2.0/24"]})
        good, bad = (f"PROXY TCP4 {one} 192.0.2.2 1111 80\r\n".encode() for one in ("198.51.100.1", "192.0.2.1"))
        self.must_answer(front, good + request())
        self.must_answer(front, good + request(), piece=1)
        proxy.wait_log("answered the ACME challenge of 198.51.100.1")
        sock = self.connect(front)
        sock.sendall(bad + request())
        self.assertEqual(how_it_ends(sock)[1], b"")
        proxy.wait_closes("denied")
        sock = self.connect(front)
        sock.sendall(good + b"GET / HTTP/1.0\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(backend.result(), b"GET / HTTP/1.0\r\n\r\n")
        proxy.stop()

    def test_by_a_unix_socket(self):
        proxy, front, backend = self.in_front_of_bytes(listener={"address": f"unix:{self.directory}/front"})
        self.must_answer(front)
        self.must_answer(front, more=b"x" * 10000)
        sock = self.connect(front)
        sock.sendall(request("other"))
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(backend.result(), request("other"))
        proxy.stop()

    def test_what_is_slow_or_wrong(self):
        """A head that does not end in time, ends too late, or never."""
        proxy, front, backend = self.in_front_of_bytes(timeout=f"{round(800 * aegis.SLOW)}ms")
        slow = self.connect(front)
        slow.sendall(request()[:-1])
        self.assertEqual(how_it_ends(slow), ("reset", b""))
        proxy.wait_closes("challenge_timeout")
        longer = self.connect(front)
        longer.sendall(request(more=f"Cookie: {'x' * 9000}\r\n"))
        self.assertEqual(how_it_ends(longer)[1], b"")
        proxy.wait_closes("bad_challenge", 1)
        cut = self.connect(front)
        cut.sendall(request()[:-3])
        cut.shutdown(socket.SHUT_WR)
        self.assertEqual(how_it_ends(cut)[1], b"")
        proxy.wait_closes("bad_challenge", 2)
        left = self.connect(front)
        left.sendall(request()[:-3])
        aegis.reset(left)
        proxy.wait_closes("client_reset")
        self.assertEqual(backend.accepted, 0)
        proxy.stop()


class Others(Challenge):
    def test_every_byte_goes_on(self):
        """What is no such request, or for a token that is not there, gets to the server as it is, in pieces of any length."""
        proxy, front, backend = self.in_front_of_bytes()
        others = [request("other"), request(".."), request("%2e%2e"), request("x" * 129), request(TOKEN + "?a"), request(""),
                  request(f"../challenges/{TOKEN}"), request(method="POST", more="Content-Length: 3\r\n") + b"abc",
                  f"GET http://one.test{PATH}{TOKEN} HTTP/1.1\r\n\r\n".encode(), f"GET {PATH}{TOKEN} HTTP/1.1\n\n".encode(),
                  b"\r\n" + request(), b"GET / HTTP/1.1\r\n\r\n" + request(), b"\x16\x03\x01\x02", b"\0", b"G", b"", request()[:40]]
        for sent in others:
            for piece in (1 << 20, 7, 1):
                sock = self.connect(front)
                for at in range(0, len(sent), piece):
                    sock.sendall(sent[at:at + piece])
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(backend.result(), sent)
                sock.close()
        proxy.stop()

    def test_bulk_behind_it(self):
        """A request for another path, and megabytes behind it in both directions."""
        pattern, size, first = aegis.Pattern(5), 24 * MIB, request("other")

        def serve(sock):
            receive(sock, len(first))
            pattern.receive(sock, size)
            pattern.send(sock, size)
            sock.shutdown(socket.SHUT_WR)
            return sock.recv(1)
        backend = Backend(self, serve)
        proxy, front = self.in_front_of(backend.address)
        sock = self.connect(front)
        sock.sendall(first)
        pattern.send(sock, size)
        pattern.receive(sock, size)
        sock.close()
        self.assertEqual(backend.result(), b"")
        proxy.stop()

    def test_nobody_waits(self):
        """The first byte that is different decides, long before acme.timeout; requests that follow on the connection are the server's."""
        proxy, front = self.in_front_of(Echo(self).address, timeout="1h")
        for first in (b"x", b"GEX", request("other")[:60] + b"/", b"POST"):
            sock = self.connect(front)
            echo(sock, first)
            echo(sock, request())
            sock.close()
        sock = self.connect(front)
        for byte in request("other")[:-4]:
            sock.sendall(bytes([byte]))
        self.assertEqual(receive(sock, len(request("other")) - 4), request("other")[:-4])
        sock.close()
        proxy.stop()

    def test_who_is_silent(self):
        """Nothing, or the beginning of a request, for acme.timeout: on to the server, which may be the one to speak."""
        proxy, front = self.in_front_of(Echo(self, banner=b"220 hello\r\n").address, timeout="200ms")
        for first in (b"", b"GET /.we", request()[:50]):
            sock = self.connect(front)
            sock.sendall(first)
            self.assertEqual(receive(sock, 11 + len(first)), b"220 hello\r\n" + first)
            echo(sock, request())
            sock.close()
        proxy.stop()

    def test_only_where_it_is_asked_for(self):
        settings = aegis.app(Echo(self, banner=b"220 hello\r\n").address, {"acme": {"challenges": str(self.folder), "timeout": "1h"}})
        settings["listeners"].append({"name": "plain", "address": "127.0.0.1:0", "upstream": "app"})
        proxy = self.aegis(settings)
        sock = self.connect(proxy.address("plain"))
        self.assertEqual(receive(sock, 11), b"220 hello\r\n")
        echo(sock, request())
        sock.close()
        proxy.stop()

    def test_clients_that_leave(self):
        """With a reset while it is not known yet what they want."""
        proxy, front, backend = self.in_front_of_bytes()
        sock = self.connect(front)
        sock.sendall(request()[:40])
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "it to be there")
        aegis.reset(sock)
        proxy.wait_closes("client_reset")
        self.assertEqual(backend.accepted, 0)
        proxy.stop()


    def test_a_storm(self):
        """Authorities and others, whole, broken in a random place, cut off, reset or silent, many at a time: each has its one end, authorities
        their answer, and the others what the server says."""
        seed = random.randrange(1 << 30)
        proxy, front = self.in_front_of(Echo(self).address, timeout=f"{round(2 * aegis.SLOW)}s")

        def client(chance):
            kind = chance.choice(("answered", "answered", "other", "other", "broken", "cut", "reset", "silent"))
            sent = bytearray(request("other") if kind == "other" else request(method=chance.choice(("GET", "GET", "HEAD"))))
            if kind == "broken":
                sent[chance.randrange(len(sent))] ^= 1 << chance.randrange(8)
            elif kind in ("cut", "reset", "silent"):
                del sent[chance.randrange(len(sent)):]
            with contextlib.suppress(ConnectionError), aegis.dial(front) as sock:
                at = 0
                while at < len(sent):
                    at += sock.send(sent[at:at + chance.choice((1, 40, 4000))])
                if kind == "reset":
                    aegis.reset(sock)
                    return
                if kind != "silent" and chance.random() < 0.5 or kind == "other":
                    sock.shutdown(socket.SHUT_WR)
                if kind == "silent":
                    sock.settimeout(0.1)
                    with contextlib.suppress(TimeoutError):
                        sock.recv(1)
                elif kind == "answered":
                    ended, data = how_it_ends(sock)
                    self.assertEqual((ended, data[:15]), ("eof", b"HTTP/1.1 200 OK"), f"seed {seed}")
                    self.assertEqual(data.endswith(CONTENT), sent[:4] == b"GET ", f"seed {seed}")
                elif kind == "other":
                    self.assertEqual(how_it_ends(sock), ("eof", bytes(sent)), f"seed {seed}")

        def clients(own):
            for _ in range(60 if not aegis.LONG else 2000):
                client(own)
        for task in [Task(clients, random.Random(seed + i)) for i in range(8)]:
            task.result(120)
        proxy.stop()  # which asks whether every connection has one reason, and whether the workers are well


class Alone(Challenge):
    """acme.only: there is no upstream."""

    def alone(self, timeout="20s", **top):
        settings = aegis.app("127.0.0.1:1", {"acme": {"challenges": str(self.folder), "timeout": timeout, "only": True}}, **top)
        del settings["listeners"][0]["upstream"]
        proxy = self.aegis(settings)
        return proxy, proxy.address()

    def test_authorities_and_others(self):
        """Who asks for what is there is answered as ever; everybody else gets the same 404, in one piece or byte by byte, with more behind it."""
        proxy, front = self.alone()
        before = [aegis.descriptors(row["pid"]) for row in proxy.workers()]
        self.must_answer(front)
        self.must_answer(front, piece=1)
        others = (request("other"), request("%2e%2e"), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n" + bytes(30000),
                  b"\x16\x03\x01\x02", b"x")
        for sent in others:
            for piece in (1 << 20, 1) if len(sent) < 1000 else (1 << 20,):
                with self.subTest(sent=sent[:40], piece=piece):
                    sock = self.connect(front)
                    for at in range(0, len(sent), piece):
                        sock.sendall(sent[at:at + piece])
                    self.assertEqual(how_it_ends(sock), ("eof", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
                    sock.close()
        proxy.wait_closes("challenge_answered", 2)
        proxy.wait_closes("no_challenge", 11)
        self.assertEqual([aegis.descriptors(row["pid"]) for row in proxy.workers()], before)
        self.assertIn("(app), for challenges of ACME alone", proxy.log())
        self.assertEqual(proxy.stat()["listeners"][0]["upstream"], "")
        proxy.stop()

    def test_half_a_request(self):
        """It is none when nothing more comes, by an end or for acme.timeout; nor is silence."""
        proxy, front = self.alone(timeout="200ms")
        ends = self.connect(front)
        ends.sendall(request()[:40])
        ends.shutdown(socket.SHUT_WR)
        self.assertEqual(how_it_ends(ends)[1][:12], b"HTTP/1.1 404")
        for sent in (b"", request()[:40]):
            waits = self.connect(front)
            waits.sendall(sent)
            self.assertEqual(how_it_ends(waits)[1], b"")
        leaves = self.connect(front)
        leaves.shutdown(socket.SHUT_WR)
        self.assertEqual(how_it_ends(leaves)[1], b"")
        proxy.wait_closes("no_challenge", 4)
        proxy.stop()

    def test_who_stays(self):
        """Who leaves its end open, or sends on and on, is not waited for."""
        proxy, front = self.alone(timeout="300ms")
        stays = self.connect(front)
        stays.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(how_it_ends(stays)[0], "eof")
        proxy.wait_closes("no_challenge", 1)
        floods = self.connect(front)
        with self.assertRaises(OSError):
            floods.sendall(bytes(64 * MIB))
        proxy.wait_closes("no_challenge", 2)
        proxy.stop()

    def test_reload(self):
        """An upstream comes, and goes."""
        proxy, front = self.alone()
        settings = proxy.settings
        with_upstream = aegis.app(Echo(self).address, {"acme": {"challenges": str(self.folder)}})
        with_upstream["listeners"][0]["address"] = settings["listeners"][0]["address"] = front
        proxy.must_reload(with_upstream)
        sock = self.connect(front)
        echo(sock, b"GET / HTTP/1.1\r\n\r\n")
        sock.close()
        proxy.must_reload(settings)
        sock = self.connect(front)
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(how_it_ends(sock)[1][:12], b"HTTP/1.1 404")
        sock.close()
        self.must_answer(front)
        proxy.stop()


class Files(Challenge):
    def on_to_the_server(self, front, backend, token):
        sock = self.connect(front)
        sock.sendall(request(token))
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(backend.result(), request(token))
        sock.close()

    def test_what_is_no_answer(self):
        """Links, pipes, folders, sockets, files that are empty or too long or that workers may not read: never followed, never waited for."""
        secret = self.directory / "secret"
        secret.write_text("a secret")
        secret.chmod(0o644)
        (self.folder / "link").symlink_to(secret)
        (self.folder / "dangling").symlink_to(self.directory / "nothing")
        os.mkfifo(self.folder / "pipe", 0o644)
        (self.folder / "folder").mkdir()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(self.folder / "socket"))
        self.write("empty", b"")
        self.write("longest", b"x" * 4096)
        self.write("longer", b"x" * 4097)
        rows = [("link", "link: is a symbolic link"), ("dangling", "dangling: is a symbolic link"), ("pipe", "pipe: is no regular file"),
                ("folder", "folder: is no regular file"), ("socket", "socket: No such device or address"), ("empty", "empty: is empty"),
                ("longer", "longer: is longer than 4 kB")]
        if ROOT:
            self.write("private")
            (self.folder / "private").chmod(0o600)
            rows.append(("private", "private: Permission denied"))
        for token, says in rows:  # one line a second, so each has an instance of its own
            with self.subTest(token):
                proxy, front, backend = self.in_front_of_bytes()
                self.on_to_the_server(front, backend, token)
                proxy.wait_log(f"acme.challenges: {says}")
                proxy.stop()
        proxy, front, _ = self.in_front_of_bytes()
        self.assertEqual(self.ask(front, request("longest"))[1], b"x" * 4096)
        proxy.stop()

    def test_the_folder_comes_later(self):
        """Made after the start, taken away, and made anew: what is there when it is asked for counts."""
        away = self.directory / "away"
        self.folder.rename(away)
        proxy, front, backend = self.in_front_of_bytes()
        self.on_to_the_server(front, backend, TOKEN)
        proxy.wait_log(f"acme.challenges: {self.folder}: No such file or directory")
        away.rename(self.folder)
        self.must_answer(front)
        self.folder.rename(away)
        self.on_to_the_server(front, backend, TOKEN)
        self.write("new")
        self.must_answer(front, request("new"))
        self.on_to_the_server(front, backend, TOKEN)
        proxy.stop()

    def test_reload(self):
        """Authorities ask while settings change: every one is answered. What the new settings say holds when the reload is over."""
        backend = Backend(self, keeps_all)
        proxy, front = self.in_front_of(backend.address)
        stop = threading.Event()

        def asks():
            while not stop.is_set():
                self.must_answer(front)
        tasks = [Task(asks) for _ in range(3)]
        settings = proxy.settings
        for i in range(4):
            settings["listeners"][0]["backlog"] = 1000 + i
            proxy.must_reload(settings)
        stop.set()
        for task in tasks:
            task.result()
        begun = self.connect(front)
        begun.sendall(request()[:-5])
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "it to be there")
        del settings["listeners"][0]["acme"]
        proxy.must_reload(settings)
        self.on_to_the_server(front, backend, TOKEN)
        begun.sendall(request()[-5:])
        self.assertTrue(how_it_ends(begun)[1].endswith(CONTENT))
        begun.close()
        proxy.stop()

    def test_told_beforehand(self):
        """aegis -t and -p warn of a folder that workers cannot look into, and take the settings all the same."""
        settings, config = aegis.app("127.0.0.1:1", {"acme": {"challenges": str(self.folder)}}), self.directory / "aegis.conf"
        (self.directory / "file").write_text("")
        rows = [(self.folder, None), (self.directory / "none", "No such file or directory"), (self.directory / "file", "Not a directory")]
        if ROOT:
            closed = self.directory / "closed"
            closed.mkdir(mode=0o700)
            rows.append((closed, "Permission denied"))
        for folder, says in rows:
            settings["listeners"][0]["acme"]["challenges"] = str(folder)
            config.write_text(aegis.libconfig(settings))
            for mode in ("-t", "-p"):
                done = run(aegis.AEGIS, mode, "-c", config, "-r", self.directory / "run")
                said = done.stdout + done.stderr
                self.assertEqual(done.returncode, 0 if mode == "-t" else 4, said)
                if says:
                    self.assertRegex(said, rf"listener app: acme.challenges: workers.* cannot look into {folder}: {says}")
                else:
                    self.assertNotIn("acme.challenges", said)


if __name__ == "__main__":
    aegis.main()
