"""aegis-bench as its manual page describes it: what it counts is right, and what a server does wrong is found."""
import collections
import csv
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import tempfile
import threading
import unittest

BUILD = pathlib.Path(os.environ["AEGIS_BUILDDIR"])
BENCH = BUILD / "aegis-bench"
TIMEOUT = 60


class Server:
    """Serves each connection by a thread; `serve` gets the socket, a file to read from and the number of the connection."""

    def __init__(self, serve, family=socket.AF_INET):
        self.serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0), family=family, backlog=1000)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.peers = []
        self.ends = collections.Counter()
        self.threads = []
        self.acceptor = threading.Thread(target=self.accept)
        self.acceptor.start()

    def accept(self):
        while True:
            try:
                connection, peer = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.peers.append(peer[0])
                number = len(self.peers) - 1
            thread = threading.Thread(target=self.run, args=(connection, number))
            self.threads.append(thread)
            thread.start()

    def run(self, connection, number):
        connection.settimeout(TIMEOUT)
        with connection, connection.makefile("rb") as file:
            try:
                self.serve(connection, file, number)
                end = "served"
            except (ConnectionResetError, BrokenPipeError):
                end = "reset"
        with self.lock:
            self.ends[end] += 1

    def __enter__(self):
        return self

    def stop_listening(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass # was done already

    def __exit__(self, *_):
        self.stop_listening()
        self.listener.close()
        self.acceptor.join(TIMEOUT)
        for thread in self.threads:
            thread.join(TIMEOUT)


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def echo(connection, file, _):
    while data := file.read1(65536):
        connection.sendall(data)


def read_request(file):
    """The method and the body, or nothing at the end."""
    first = file.readline()
    if not first:
        return None, b""
    length = 0
    for line in iter(file.readline, b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return first.split()[0], file.read(length)


def answering(*answers, close=False):
    """Answers each request of a connection with the next of some responses."""
    def serve(connection, file, _):
        for answer in answers:
            if read_request(file)[0] is None:
                return
            connection.sendall(answer)
        if not close:
            assert not file.read()
    return serve


class Bench(unittest.TestCase):
    def run_bench(self, *arguments, code=0, stdin=subprocess.DEVNULL):
        result = subprocess.run([BENCH, *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT, stdin=stdin)
        self.assertEqual(result.returncode, code, (arguments, result.stdout, result.stderr))
        return result

    def bench(self, *arguments, code=0):
        """The report and standard error."""
        result = self.run_bench("-j", *arguments, code=code)
        self.assertEqual(result.stdout.count("\n"), 1)
        report = json.loads(result.stdout)
        self.assertEqual(list(report), ["mode", "requests", "errors", "connect_errors", "seconds", "rate", "bytes_in", "bytes_out", "connections",
                                        "latency_us", "connect_us", "client_cpu_seconds"])
        self.assertEqual(list(report["latency_us"]), ["mean", "p50", "p90", "p99", "p999", "max"])
        self.assertEqual(list(report["connect_us"]), ["p50", "p99", "max"])
        self.assertEqual(result.stderr == "" or report["mode"] == "hold", code == 0)
        return report, result.stderr

    def counts(self, report):
        return report["requests"], report["errors"], report["connect_errors"]

    def rows(self, path):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        if rows:
            self.assertEqual(list(rows[0]), ["connection", "sequence", "start_us", "latency_us", "bytes", "ok"])
        return rows

    def csv_file(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name + "/rows.csv"


class AgainstDemo(Bench):
    """The other half of the tool box, as contrib/bench uses it."""

    @classmethod
    def setUpClass(cls):
        any_port = "127.0.0.1:0"
        cls.folder = tempfile.TemporaryDirectory()
        cls.unix = "unix:" + cls.folder.name + "/echo"
        cls.demo = subprocess.Popen([BUILD / "aegis-demo", "-e", any_port, "-H", any_port, "-r", any_port, "-e", cls.unix],
                                    stdout=subprocess.PIPE, text=True)
        cls.addresses = {}
        for line in cls.demo.stdout:
            if line == "ready\n":
                break
            service, address = line.split()
            cls.addresses.setdefault(service, address)

    @classmethod
    def tearDownClass(cls):
        cls.demo.terminate()
        cls.demo.wait(TIMEOUT)
        cls.demo.stdout.close()
        cls.folder.cleanup()

    def test_echo_of_many_sizes(self):
        for size, bytes_each in (("1", 1), ("15", 15), ("16", 16), ("128", 128), ("4097", 4097), ("70k", 70 << 10), ("3M", 3 << 20)):
            report, _ = self.bench("-c", 4, "-n", 10, "-p", size, self.addresses["echo"])
            self.assertEqual(self.counts(report), (40, 0, 0))
            self.assertEqual((report["bytes_in"], report["bytes_out"]), (40 * bytes_each, 40 * bytes_each))
            self.assertEqual((report["mode"], report["connections"]), ("echo", 4))

    def test_unix_socket(self):
        report, _ = self.bench("-c", 4, "-n", 10, self.unix)
        self.assertEqual(self.counts(report), (40, 0, 0))

    def test_processes_share_the_connections(self):
        path = self.csv_file()
        report, _ = self.bench("-c", 7, "-n", 500, "--processes", 3, "--csv", path, self.addresses["echo"])
        self.assertEqual(self.counts(report), (3500, 0, 0))
        rows = self.rows(path)
        self.assertEqual(len(rows), 3500)
        self.assertEqual({(int(row["connection"]), int(row["sequence"])) for row in rows}, {(c, s) for c in range(7) for s in range(500)})
        self.assertEqual({(row["bytes"], row["ok"]) for row in rows}, {("128", "1")})

    def test_report_agrees_with_the_rows(self):
        path = self.csv_file()
        report, _ = self.bench("-c", 8, "-n", 500, "--csv", path, self.addresses["echo"])
        latencies = sorted(float(row["latency_us"]) for row in self.rows(path))
        self.assertAlmostEqual(report["latency_us"]["max"], latencies[-1], delta=0.01)
        self.assertAlmostEqual(report["latency_us"]["mean"], sum(latencies) / len(latencies), delta=0.01)
        for name, rank in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
            right = latencies[round(rank * len(latencies)) - 1]
            self.assertAlmostEqual(report["latency_us"][name], right, delta=right * 0.01, msg=name)

    def test_for_a_time(self):
        report, _ = self.bench("-c", 4, "-d", "0.3", "--warmup", "0.1", self.addresses["echo"])
        self.assertGreater(report["requests"], 0)
        self.assertGreaterEqual(report["seconds"], 0.3)
        self.assertAlmostEqual(report["rate"], report["requests"] / report["seconds"], delta=report["rate"] / 100)

    def test_warmup_is_not_counted(self):
        path = self.csv_file()
        report, _ = self.bench("-c", 2, "-n", 5, "--warmup", "0.2", "--csv", path, self.addresses["echo"])
        self.assertEqual(self.counts(report), (10, 0, 0))
        self.assertEqual(sorted(int(row["sequence"]) for row in self.rows(path)), sorted(2 * list(range(5))))
        self.assertGreaterEqual(min(float(row["start_us"]) for row in self.rows(path)), 200000)

    def test_rate(self):
        path = self.csv_file()
        report, _ = self.bench("--rate", 1000, "-c", 10, "-n", 30, "--csv", path, self.addresses["echo"])
        self.assertEqual(self.counts(report), (300, 0, 0))
        starts = sorted(float(row["start_us"]) for row in self.rows(path))
        for i, start in enumerate(starts):
            self.assertAlmostEqual(start, i * 1000, delta=0.01)
        report, _ = self.bench("--rate", 500, "-c", 3, "-d", "0.4", "--churn", self.addresses["echo"])
        self.assertEqual(self.counts(report), (200, 0, 0))

    def test_http(self):
        for more in ((), ("--churn",)):
            report, _ = self.bench("-m", "http", "-c", 5, "-n", 20, "--path", "/bytes?n=1000", *more, self.addresses["http"])
            self.assertEqual(self.counts(report), (100, 0, 0))
            self.assertEqual((report["bytes_in"], report["bytes_out"]), (100000, 0))

    def test_http_status(self):
        report, errors = self.bench("-m", "http", "-c", 2, "-n", 10, "--path", "/nothing", self.addresses["http"], code=3)
        self.assertEqual(self.counts(report), (0, 20, 0))
        self.assertIn("404", errors)

    def test_download_and_upload(self):
        report, _ = self.bench("-m", "download", "-c", 3, "-n", 2, "--path", "/bytes?n=5M", self.addresses["http"])
        self.assertEqual((self.counts(report), report["bytes_in"]), ((6, 0, 0), 6 * (5 << 20)))
        report, _ = self.bench("-m", "upload", "-c", 3, "-n", 2, "-p", "5M", "--path", "/count", self.addresses["http"])
        self.assertEqual((self.counts(report), report["bytes_out"]), ((6, 0, 0), 6 * (5 << 20)))
        self.assertEqual(report["bytes_in"], 6 * len("5242880\n"))

    def test_reset(self):
        path = self.csv_file()
        report, errors = self.bench("-c", 3, "-n", 20, "--csv", path, self.addresses["reset"], code=3)
        self.assertEqual(report["requests"], 0)
        self.assertEqual(sum(self.counts(report)), 60)
        self.assertEqual([row["ok"] for row in self.rows(path)], ["0"] * 60)
        self.assertIn("reset", errors)

    def test_hold(self):
        report, errors = self.bench("-m", "hold", "-c", 600, "--processes", 2, "-d", "0.1", self.addresses["echo"])
        self.assertEqual(self.counts(report), (600, 0, 0))
        self.assertIn("holding 600 connections\n", errors)

    def test_hold_until_eof(self):
        command = [BENCH, "-j", "-m", "hold", "-c", "20", "--until-eof", self.addresses["echo"]]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            self.assertIn("holding 20 connections", process.stderr.readline())
            self.assertIsNone(process.poll())
            out, _ = process.communicate("", timeout=TIMEOUT)
        self.assertEqual(self.counts(json.loads(out)), (20, 0, 0))

    def test_table(self):
        result = self.run_bench("-c", 2, "-n", 5, self.addresses["echo"])
        self.assertRegex(result.stdout, r"(?m)^messages +10 in [\d.]+ s, \d+ a second; 0 failed, 0 could not connect$")
        self.assertEqual(result.stderr, "")


class BadServers(Bench):
    def test_wrong_byte(self):
        def serve(connection, file, number):
            for count in range(10):
                data = bytearray(file.read(100))
                if (number, count) == (0, 4):
                    data[77] ^= 0x20
                connection.sendall(data)
                if not data:
                    return
        with Server(serve) as server:
            report, errors = self.bench("-c", 1, "-n", 10, "-p", 100, server.address, code=3)
        self.assertEqual(self.counts(report), (9, 1, 0))
        self.assertIn("connection 0, message 4: wrong bytes: at byte 77", errors)

    def test_bytes_of_another_connection(self):
        messages, both = {}, threading.Barrier(2)

        def serve(connection, file, number):
            messages[number] = file.read(32)
            both.wait(TIMEOUT)
            connection.sendall(messages[1 - number])
            file.read()
        with Server(serve) as server:
            report, errors = self.bench("-c", 2, "-n", 1, "-p", 32, "--check-cross", server.address, code=3)
        self.assertEqual(self.counts(report), (0, 2, 0))
        self.assertRegex(errors, r"connection ([01]), message 0: wrong bytes: at byte \d+; it begins as connection (?!\1)[01], message 0\n")

    def test_more_bytes_than_asked(self):
        with Server(lambda connection, file, _: connection.sendall(file.read(64) + b"x")) as server:
            report, errors = self.bench("-c", 1, "-n", 1, "-p", 64, server.address, code=3)
        self.assertEqual(self.counts(report), (0, 1, 0))
        self.assertIn("nobody asked for", errors)

    def test_closes_in_the_middle(self):
        def serve(connection, file, _):
            for _ in range(3):
                connection.sendall(file.read(64))
            connection.sendall(file.read(64)[:10])
        with Server(serve) as server:
            report, errors = self.bench("-c", 1, "-n", 12, "-p", 64, server.address, code=3)
        self.assertEqual(self.counts(report), (9, 3, 0))
        self.assertEqual(len(server.peers), 3)
        self.assertIn("connection 0, message 3: closed by the server", errors)

    def test_reset_in_the_middle(self):
        def serve(connection, file, number):
            connection.sendall(file.read(64))
            file.read(64)
            if number == 0:
                reset(connection)
        with Server(serve) as server:
            report, errors = self.bench("-c", 1, "-n", 3, "-p", 64, server.address, code=3)
        self.assertEqual(self.counts(report), (2, 1, 0))
        self.assertIn("message 1: reset", errors)

    def test_closes_while_held(self):
        closed = threading.Event()

        def serve(connection, file, number):
            connection.sendall(file.read(64))
            if number == 3:
                closed.set()
                return
            echo(connection, file, number)
        with Server(serve) as server:
            command = [BENCH, "-j", "-m", "hold", "-c", "9", "-p", "64", "--until-eof", server.address]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                process.stderr.readline()
                self.assertTrue(closed.wait(TIMEOUT))
                server.threads[3].join(TIMEOUT)
                out, errors = process.communicate("", timeout=TIMEOUT)
            self.assertEqual(process.returncode, 3)
        self.assertEqual(self.counts(json.loads(out)), (8, 1, 0))
        self.assertIn("closed by the server", errors)
        self.assertEqual(len(server.peers), 9)

    def test_never_answers(self):
        path = self.csv_file()
        with Server(lambda connection, file, _: file.read()) as server:
            report, errors = self.bench("-c", 2, "-n", 5, "--timeout", "0.3", "--csv", path, server.address, code=3)
            self.assertEqual(self.counts(report), (0, 10, 0))
            self.assertEqual(len(self.rows(path)), 10)
            self.assertIn("10 x missing", errors)
            report, _ = self.bench("-c", 2, "-d", "0.2", "--timeout", "0.3", server.address, code=3)
            self.assertEqual(self.counts(report), (0, 2, 0))

    def test_one_that_is_stuck_does_not_hide_the_others(self):
        def serve(connection, file, number):
            if number == 0:
                file.read()
            echo(connection, file, number)
        with Server(serve) as server:
            report, errors = self.bench("-c", 4, "-n", 50, "--timeout", "0.5", server.address, code=3)
        self.assertEqual(self.counts(report), (150, 50, 0))
        self.assertIn("50 x missing", errors)

    def test_a_stall_counts_from_when_messages_were_due(self):
        stall, rate = 0.5, 200

        def serve(connection, file, _):
            for count in range(150):
                data = file.read(32)
                if count == 20:
                    threading.Event().wait(stall) # what is measured: this server is slow once
                connection.sendall(data)
        path = self.csv_file()
        with Server(serve) as server:
            report, _ = self.bench("-c", 1, "-n", 150, "-p", 32, "--rate", rate, "--csv", path, server.address)
        self.assertEqual(self.counts(report), (150, 0, 0))
        late = [row for row in self.rows(path) if float(row["latency_us"]) >= stall / 2 * 1e6]
        # All that were due in the first half of the stall waited for at least the other half.
        self.assertGreaterEqual(len(late), stall / 2 * rate - 1)
        self.assertGreaterEqual(report["latency_us"]["max"], stall * 1e6)

    def test_churn_ends_connections_in_order(self):
        def serve(connection, file, _):
            connection.sendall(file.read(64))
            assert file.read() == b""
        with Server(serve) as server:
            report, _ = self.bench("-c", 3, "-n", 20, "-p", 64, "--churn", server.address)
        self.assertEqual(self.counts(report), (60, 0, 0))
        self.assertEqual((len(server.peers), server.ends), (60, {"served": 60}))

    def test_sources_are_taken_in_turn(self):
        with Server(echo) as server:
            self.bench("-c", 5, "-n", 4, "--source-range", "127.9.8.0/24", server.address)
        self.assertEqual(sorted(server.peers), ["127.9.8.%d" % i for i in range(1, 6)])
        with Server(echo) as server:
            self.bench("-c", 2, "-n", 3, "--churn", "--source-range", "127.9.8.0/30", server.address)
        self.assertEqual(collections.Counter(server.peers), {"127.9.8.1": 3, "127.9.8.2": 3})

    def test_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            address = "127.0.0.1:%d" % unused.getsockname()[1]
        for more in ((), ("--churn",), ("-m", "hold", "-d", 0), ("--processes", 2), ("--churn", "--processes", 2, "-d", 30)):
            result = self.run_bench("-j", "-c", 4, *more, address, code=2)
            self.assertEqual(result.stdout, "")
            self.assertIn("cannot connect to " + address, result.stderr)
            self.assertIn("refused", result.stderr)

    def test_refuses_later(self):
        path = self.csv_file()

        def serve(connection, file, _):
            data = file.read(64)
            server.stop_listening()
            connection.sendall(data)
        with Server(serve) as server:
            report, _ = self.bench("-c", 1, "-n", 5, "-p", 64, "--churn", "--csv", path, server.address, code=3)
        self.assertEqual(self.counts(report), (1, 0, 4))
        self.assertEqual([row["ok"] for row in self.rows(path)], ["1", "0", "0", "0", "0"])


class Http(Bench):
    HEAD = b"HTTP/1.1 200 OK\r\n"

    def run_http(self, serve, *arguments, code=0):
        with Server(serve) as server:
            report, errors = self.bench("-m", "http", "-c", 1, *arguments, server.address, code=code)
        return report, errors, server

    def test_responses_of_all_kinds_on_one_connection(self):
        chunked = self.HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n"
        report, _, server = self.run_http(answering(
            self.HEAD + b"Content-Length: 5\r\n\r\nhello", chunked, b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 102 Wait\r\n\r\n" + chunked), "-n", 4)
        self.assertEqual((self.counts(report), report["bytes_in"], len(server.peers)), ((4, 0, 0), 5 + 19 + 19, 1))

    def test_large_chunks(self):
        body = b"x" * 100000
        chunked = self.HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 5 * (b"%x\r\n%s\r\n" % (len(body), body)) + b"0\r\n\r\n"
        report, _, server = self.run_http(answering(chunked, chunked), "-n", 2)
        self.assertEqual((self.counts(report), report["bytes_in"], len(server.peers)), ((2, 0, 0), 1000000, 1))

    def test_connections_that_the_server_ends(self):
        for answer in (b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", b"\r\nhello"):
            report, _, server = self.run_http(answering(self.HEAD + answer, close=True), "-n", 3)
            self.assertEqual((self.counts(report), report["bytes_in"], len(server.peers)), ((3, 0, 0), 15, 3))

    def test_ends_too_early(self):
        report, errors, _ = self.run_http(answering(self.HEAD + b"Content-Length: 6\r\n\r\nhello", close=True), "-n", 3, code=3)
        self.assertEqual(self.counts(report), (0, 3, 0))
        self.assertIn("3 x closed by the server", errors)

    def test_not_http(self):
        report, errors, _ = self.run_http(answering(b"220 mail ready\r\n\r\n", close=True), "-n", 2, code=3)
        self.assertEqual(self.counts(report), (0, 2, 0))
        self.assertIn("not an HTTP response", errors)

    def test_two_responses_to_one_request(self):
        answer = self.HEAD + b"Content-Length: 5\r\n\r\nhello"
        report, errors, _ = self.run_http(answering(answer + answer, close=True), "-n", 1, code=3)
        self.assertEqual(self.counts(report), (0, 1, 0))
        self.assertIn("nobody asked for", errors)

    def test_other_statuses_keep_the_connection(self):
        report, errors, server = self.run_http(answering(
            b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", self.HEAD + b"Content-Length: 2\r\n\r\nok"), "-n", 2, code=3)
        self.assertEqual((self.counts(report), len(server.peers)), ((1, 1, 0), 1))
        self.assertIn("503", errors)

    def test_request_and_upload(self):
        seen = []

        def serve(connection, file, _):
            first, second = file.readline(), file.readline()
            seen.append((first, second))
            length = 0
            for line in iter(file.readline, b"\r\n"):
                if line.startswith(b"Content-Length: "):
                    length = int(line.split()[1])
            seen.append(file.read(length))
            connection.sendall(self.HEAD + b"Content-Length: 0\r\n\r\n")
            file.read()
        with Server(serve) as server:
            self.bench("-m", "upload", "-c", 1, "-n", 1, "-p", 150000, "--path", "/x", server.address)
        self.assertEqual(seen[0], (b"POST /x HTTP/1.1\r\n", b"Host: %s\r\n" % server.address.encode()))
        self.assertTrue(seen[1] == (bytes((j * 7 + j // 251) & 255 for j in range(65521)) * 3)[:150000])

    def test_upload_that_is_refused_while_it_is_sent(self):
        def serve(connection, file, _):
            file.readline()
            connection.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            file.read()
        with Server(serve) as server:
            report, errors = self.bench("-m", "upload", "-c", 1, "-n", 2, "-p", "64M", server.address, code=3)
        self.assertEqual(self.counts(report), (0, 2, 0))
        self.assertIn("413", errors)


class Arguments(Bench):
    def test_wrong_arguments(self):
        for arguments in (("-m", "x"), ("-c",), ("-c", 0), ("-c", "1x"), ("-n", -1), ("-d", "x"), ("-d", 0), ("-p", "1x"), ("-p", 0),
                          ("--rate", "-1"), ("--no-such",), ("-x",), ("a", "b"), ("127.0.0.1",), ("127.0.0.1:0",), ("*:80",),
                          ("127.0.0.1:1", "--port", 1), ("-m", "hold"), ("-m", "hold", "-d", 1, "--churn"), ("-m", "hold", "-d", 1, "-n", 5),
                          ("--until-eof",), ("-m", "download", "--churn"), ("--path", "/x"), ("-m", "http", "--path", "x"),
                          ("-m", "http", "--path", "/a b"), ("--check-cross", "-p", 15), ("-m", "http", "--check-cross"),
                          ("--source-range", "127.0.0.1"), ("--source-range", "127.0.0.0/40"), ("--source-range", "127.0.0.0/8", "[::1]:1"),
                          ("--host", "a:b:c:d:e:f:g:h:i")):
            result = self.run_bench(*arguments, code=1)
            self.assertRegex(result.stderr, re.compile(r"\Aaegis-bench: .*\n\Z"), arguments)
            self.assertEqual(result.stdout, "")

    def test_cannot_start(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = "127.0.0.1:%d" % server.getsockname()[1]
            result = self.run_bench("--csv", "/nowhere/at/all", address, code=2)
            self.assertIn("/nowhere/at/all", result.stderr)
            result = self.run_bench("-c", 10000000, address, code=2)
            self.assertIn("need --processes", result.stderr)

    def test_host_and_port(self):
        with Server(echo) as server:
            port = server.address.split(":")[1]
            for arguments in (("--host", "127.0.0.1", "--port", port), ("--port", port), ("localhost:" + port,)):
                report, _ = self.bench("-c", 1, "-n", 2, *arguments)
                self.assertEqual(self.counts(report), (2, 0, 0))

    def test_help_and_version(self):
        for option in ("-h", "--help"):
            self.assertIn("usage: aegis-bench", self.run_bench(option).stdout)
        for option in ("-V", "--version"):
            self.assertRegex(self.run_bench(option).stdout, r"\Aaegis-bench \d+\.\d+\.\d+\n\Z")


if __name__ == "__main__":
    unittest.main()
