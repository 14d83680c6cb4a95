"""aegis-demo as its manual page describes it: the backend that the functional tests lean on must itself be right."""
import contextlib
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

DEMO = pathlib.Path(os.environ["AEGIS_BUILDDIR"], "aegis-demo")
PATTERN = bytes((j * 7 + j // 251) & 255 for j in range(65521))
TIMEOUT = 30


def pattern(size):
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


class Client:
    """A blocking connection with a deadline."""

    def __init__(self, address):
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(TIMEOUT)
            self.socket.connect(address[len("unix:"):])
        else:
            host, port = address.rsplit(":", 1)
            self.socket = socket.create_connection((host.strip("[]"), int(port)), TIMEOUT)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def end(self):
        self.socket.shutdown(socket.SHUT_WR)

    def response(self, head_only=False):
        status = int(self.file.readline().split()[1])
        headers = {}
        for line in iter(self.file.readline, b"\r\n"):
            name, value = line.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        body = b"" if head_only else self.file.read(int(headers["content-length"]))
        return status, headers, body

    def get(self, path):
        self.send(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        return self.response()


@contextlib.contextmanager
def started(*arguments):
    """A demo of its own; gives the addresses in the order of the options."""
    process = subprocess.Popen([DEMO, *arguments], stdout=subprocess.PIPE, text=True)
    addresses = []
    for line in process.stdout:
        if line == "ready\n":
            break
        addresses.append(line.split()[1])
    try:
        yield addresses
    finally:
        process.terminate()
        assert process.wait(TIMEOUT) == 0
        process.stdout.close()


class Demo(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = self.folder.name + "/echo.sock"
        any_port = "127.0.0.1:0"
        self.process = subprocess.Popen(
            [DEMO, "-n", "one", "-H", any_port, "-e", any_port, "-e", "unix:" + self.path, "-u", any_port, "-b", any_port,
             "-r", any_port, "-s", any_port, "-g", any_port], stdout=subprocess.PIPE, text=True)
        self.addresses = {}
        for line in self.process.stdout:
            if line == "ready\n":
                break
            service, address = line.split()
            self.addresses.setdefault(service, []).append(address)

    def tearDown(self):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(TIMEOUT)
        self.process.stdout.close()
        self.folder.cleanup()
        self.assertEqual(code, 0)

    def connect(self, service, n=0):
        return Client(self.addresses[service][n])

    def test_prints_what_it_bound(self):
        self.assertEqual(set(self.addresses), {"http", "echo", "udp", "banner", "reset", "sink", "generator"})
        self.assertEqual(self.addresses["echo"][1], "unix:" + self.path)
        self.assertNotIn(":0", [address[-2:] for address in self.addresses["http"]])

    def test_hello_tells_name_and_peer(self):
        with self.connect("http") as client:
            status, headers, body = client.get("/")
            port = client.socket.getsockname()[1]
            self.assertEqual(status, 200)
            self.assertEqual(headers["x-served-by"], "one")
            self.assertEqual(body.decode(), f"Hello from one. You came from 127.0.0.1:{port}.\n")

    def test_bytes(self):
        with self.connect("http") as client:
            for text, size in (("0", 0), ("1", 1), ("64k", 65536), ("3M", 3 << 20)):
                status, _, body = client.get("/bytes?n=" + text)
                self.assertEqual(status, 200)
                self.assertTrue(body == pattern(size), text)
            for text in ("", "?n=", "?n=-1", "?n=1x", "?m=1"):
                self.assertEqual(client.get("/bytes" + text)[0], 400, text)

    def test_head_has_no_body(self):
        with self.connect("http") as client:
            client.send(b"HEAD /bytes?n=1G HTTP/1.1\r\nHost: x\r\n\r\n")
            status, headers, _ = client.response(head_only=True)
            self.assertEqual((status, headers["content-length"]), (200, str(1 << 30)))
            self.assertEqual(client.get("/")[0], 200)

    def test_pipelining_in_order(self):
        count = 300
        with self.connect("http") as client:
            request = "".join(f"GET /bytes?n={i} HTTP/1.1\r\nHost: x\r\n\r\n" for i in range(count))
            threading.Thread(target=client.send, args=(request.encode(),)).start()
            for i in range(count):
                status, _, body = client.response()
                self.assertEqual((status, body), (200, pattern(i)))

    def test_request_in_single_bytes(self):
        with self.connect("http") as client:
            for byte in b"\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n":
                client.send(bytes([byte]))
            self.assertEqual(client.response()[::2], (200, b"ok\n"))

    def test_answers_after_half_close(self):
        with self.connect("http") as client:
            client.send(b"GET /bytes?n=2M HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
            client.end()
            self.assertTrue(client.response()[2] == pattern(2 << 20))
            self.assertEqual(client.response()[0], 200)
            self.assertEqual(client.file.read(), b"")

    def test_http10_closes_unless_asked(self):
        with self.connect("http") as client:
            client.send(b"GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            self.assertEqual(client.response()[1]["connection"], "keep-alive")
            client.send(b"GET /health HTTP/1.0\r\n\r\n")
            self.assertEqual(client.response()[1]["connection"], "close")
            self.assertEqual(client.file.read(), b"")

    def test_count(self):
        body = pattern(300000)
        with self.connect("http") as client:
            head = f"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            client.send(head.encode() + b"\r\n" + body + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(client.response()[2], b"300000\n")
            self.assertEqual(client.response()[2], b"ok\n")
            client.send(head.encode() + b"Expect: 100-continue\r\n\r\n")
            self.assertEqual(client.file.readline() + client.file.readline(), b"HTTP/1.1 100 Continue\r\n\r\n")
            client.send(body)
            self.assertEqual(client.response()[2], b"300000\n")

    def test_refusals(self):
        head = b" HTTP/1.1\r\nHost: x\r\n"
        for request, expected in (
                (b"GET /nothing" + head + b"\r\n", 404), (b"POST /" + head + b"\r\n", 405), (b"GET" + head + b"\r\n", 400),
                (b"GET / HTTP/2.0\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET /" + head + b"Host: y\r\n\r\n", 400),
                (b"GET /" + head + b"no colon\r\n\r\n", 400), (b"GET /" + head + b"a b: c\r\n\r\n", 400),
                (b"POST /count" + head + b"Content-Length: -1\r\n\r\n", 400),
                (b"POST /count" + head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
                (b"POST /count" + head + b"Transfer-Encoding: chunked\r\n\r\n", 501), (b"GET /\0" + head + b"\r\n", 400),
                (b"GET / x" + head + b"\r\n", 400), (b"GET /" + head + b"X: " + b"y" * 9000, 431), (b"\x16\x03\x01" + b"\0" * 40, 400)):
            with self.connect("http") as client:
                client.send(request)
                status, headers, body = client.response()
                self.assertEqual(status, expected, request[:60])
                self.assertTrue(body.endswith(b"\n"))
                if expected not in (404, 405):
                    self.assertEqual(headers["connection"], "close")
                    self.assertEqual(client.file.read(), b"")

    def test_health_follows_the_signal(self):
        with self.connect("http") as client:
            for expected in (503, 200):
                before = client.get("/health")[0]
                self.assertNotEqual(before, expected)
                self.process.send_signal(signal.SIGUSR1)
                while client.get("/health")[0] == before:
                    pass
                self.assertEqual(client.get("/health")[0], expected)

    def test_echo(self):
        data = pattern(5 << 20)
        for n in (0, 1):
            with self.connect("echo", n) as client:
                sender = threading.Thread(target=lambda: (client.send(data), client.end()))
                sender.start()
                self.assertTrue(client.file.read() == data)
                sender.join()

    def test_echo_waits_for_a_slow_reader(self):
        data = pattern(8 << 20)
        with self.connect("echo") as client:
            # Nothing is read until the way out is full: the demo must hold what it took and stop reading.
            client.socket.setblocking(False)
            sent = 0
            while sent < len(data):
                try:
                    sent += client.socket.send(data[sent:sent + 65536])
                except BlockingIOError:
                    break
            client.socket.settimeout(TIMEOUT)
            sender = threading.Thread(target=lambda: (client.send(data[sent:]), client.end()))
            sender.start()
            self.assertTrue(client.file.read() == data)
            sender.join()

    def test_banner_comes_first(self):
        with self.connect("banner") as client:
            self.assertEqual(client.file.readline(), b"220 one ready\r\n")
            client.send(b"hello\n")
            self.assertEqual(client.file.readline(), b"hello\n")

    def test_reset(self):
        with self.connect("reset") as client:
            client.send(b"x")
            self.assertRaises(ConnectionResetError, client.socket.recv, 1)
        with self.connect("reset") as client:
            client.end()
            self.assertEqual(client.socket.recv(1), b"")

    def test_sink(self):
        for data in (b"", b"a", pattern(200000)):
            with self.connect("sink") as client:
                client.send(data)
                client.end()
                self.assertEqual(client.file.read().decode(), f"{len(data)} {fnv1a(data):016x}\n")

    def test_generator(self):
        for line, size in ((b"0\n", 0), (b"5\r\n", 5), (b"10000000\n", 10000000), (b"7", 7)):
            with self.connect("generator") as client:
                client.send(line)
                client.end()
                self.assertTrue(client.file.read() == pattern(size), line)
        with self.connect("generator") as client:
            client.send(b"1000000\nand more that nobody asked for")
            self.assertTrue(client.file.read() == pattern(1000000))
        for line in (b"x\n", b"-1\n", b"1" * 19 + b"\n", b"\n"):
            with self.connect("generator") as client:
                client.send(line)
                self.assertEqual(client.file.read(), b"", line)

    def test_udp(self):
        host, port = self.addresses["udp"][0].rsplit(":", 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.connect((host, int(port)))
            for data in (b"", b"a", pattern(9000), pattern(65507)):
                client.send(data)
                self.assertEqual(client.recv(65536), data)

    def ask(self, address, *datagrams):
        """Send them, and give all answers up to the one to a last datagram."""
        family = socket.AF_INET6 if address.startswith("[") else socket.AF_INET
        host, port = address.rsplit(":", 1)
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.connect((host.strip("[]"), int(port)))
            answers = []
            for data in (*datagrams, b"last"):
                client.send(data)
            while not answers or not answers[-1].endswith(b"last"):
                answers.append(client.recv(65536))
            return answers[:-1]

    def test_udp_options(self):
        """What stands behind the address: the name in front, more answers than one, none, later."""
        with started("-n", "two", "-u", "127.0.0.1:0,named", "-u", "127.0.0.1:0,answers=3", "-u", "127.0.0.1:0,answers=2,delay=60ms,named",
                     "-u", "127.0.0.1:0,answers=0", "-u", "*:0") as (named, thrice, slow, mute, everywhere):
            self.assertEqual(self.ask(named, b"", b"a"), [b"two ", b"two a"])
            self.assertEqual(self.ask(thrice, b"a", b"b"), [b"a"] * 3 + [b"b"] * 3)
            start = time.monotonic()
            self.assertEqual(self.ask(slow, b"a", b"b"), [b"two a"] * 2 + [b"two b"] * 2)
            self.assertGreaterEqual(time.monotonic() - start, 0.06)
            port = everywhere.rsplit(":", 1)[1]
            for host in ("127.0.0.1", "127.3.2.1", "[::1]"):
                self.assertEqual(self.ask(f"{host}:{port}", b"x"), [b"x"])
            host, port = mute.rsplit(":", 1)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.connect((host, int(port)))
                client.send(b"x")
                client.settimeout(0.2)
                self.assertRaises(TimeoutError, client.recv, 100)

    def test_many_connections(self):
        clients = [self.connect("echo") for _ in range(200)]
        for i, client in enumerate(clients):
            client.send(struct.pack("!I", i))
        for i, client in enumerate(clients):
            self.assertEqual(client.file.read(4), struct.pack("!I", i))
            client.__exit__()

    def test_stops_with_clients_connected(self):
        with self.connect("echo"), self.connect("http"):
            self.process.send_signal(signal.SIGINT)
            self.assertEqual(self.process.wait(TIMEOUT), 0)
        self.assertFalse(os.path.exists(self.path))


class Arguments(unittest.TestCase):
    def run_demo(self, *arguments):
        return subprocess.run([DEMO, *arguments], capture_output=True, text=True, timeout=TIMEOUT)

    def refused(self, code, *arguments):
        result = self.run_demo(*arguments)
        self.assertEqual(result.returncode, code, arguments)
        self.assertRegex(result.stderr, re.compile(r"\Aaegis-demo: .*\n\Z"))

    def test_bad_arguments(self):
        for arguments in ((), ("-H",), ("-z",), ("-H", "127.0.0.1"), ("-H", "localhost:1"), ("-n", "", "-H", "127.0.0.1:0"),
                          ("-n", "a\r\nb", "-H", "127.0.0.1:0"), ("127.0.0.1:0",), ("-u", "unix:/tmp/x"),
                          ("-u", "127.0.0.1:0,fast"), ("-u", "127.0.0.1:0,answers="), ("-u", "127.0.0.1:0,answers=9999"),
                          ("-u", "127.0.0.1:0,named,delay=5")):
            self.refused(1, *arguments)

    def test_busy_port(self):
        with socket.create_server(("127.0.0.1", 0)) as busy:
            self.refused(2, "-e", "127.0.0.1:%d" % busy.getsockname()[1])

    def test_socket_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = folder + "/s"
            pathlib.Path(path).write_text("precious")
            self.refused(2, "-e", "unix:" + path)
            self.assertEqual(pathlib.Path(path).read_text(), "precious")
            os.unlink(path)
            dead = socket.socket(socket.AF_UNIX)
            dead.bind(path)
            dead.close()
            with subprocess.Popen([DEMO, "-e", "unix:" + path], stdout=subprocess.PIPE, text=True) as process:
                self.assertEqual(process.stdout.readline(), f"echo unix:{path}\n")
                self.refused(2, "-e", "unix:" + path)
                process.terminate()

    def test_help_and_version(self):
        self.assertIn("usage: aegis-demo", self.run_demo("-h").stdout)
        self.assertRegex(self.run_demo("-V").stdout, r"\Aaegis-demo \d+\.\d+\.\d+\n\Z")


if __name__ == "__main__":
    unittest.main()
