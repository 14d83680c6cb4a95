"""aegis-udpblast as its manual page describes it: what it counts is right, and what a server does wrong is found."""
import csv
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import unittest

BUILD = pathlib.Path(os.environ["AEGIS_BUILDDIR"])
BLAST = BUILD / "aegis-udpblast"
TIMEOUT = 60
KEYS = ["flows", "sent", "answered", "lost", "late", "duplicates", "reordered", "foreign", "wrong", "stale", "refused", "unsent", "unopened",
        "loss_percent", "sockets", "seconds", "rate", "bytes_in", "bytes_out", "latency_us", "client_cpu_seconds"]


class Server:
    """Gives each datagram with its number and its sender to `answer`, which sends what it likes by send(bytes, to)."""

    def __init__(self, answer, family=socket.AF_INET):
        self.answer = answer
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        host, self.port = self.socket.getsockname()[:2]
        self.address = f"{host}:{self.port}" if family == socket.AF_INET else f"[{host}]:{self.port}"
        self.peers = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            data, peer = self.socket.recvfrom(65536)
            if not data:
                return
            self.peers.append(peer)
            self.answer(self, len(self.peers) - 1, data, peer)

    def send(self, data, peer):
        self.socket.sendto(data, peer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with socket.socket(self.socket.family, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.socket.getsockname())
        self.thread.join(TIMEOUT)
        self.socket.close()


def echo(server, _number, data, peer):
    server.send(data, peer)


def silent(*_):
    pass


class Blast(unittest.TestCase):
    def run_blast(self, *arguments, code=0):
        result = subprocess.run([BLAST, *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
        self.assertEqual(result.returncode, code, (arguments, result.stdout, result.stderr))
        return result

    def blast(self, *arguments, code=0, **counts):
        """The report; counts that are not named must be 0."""
        result = self.run_blast("-j", *arguments, code=code)
        self.assertEqual(result.stdout.count("\n"), 1)
        report = json.loads(result.stdout)
        self.assertEqual(list(report), KEYS)
        self.assertEqual(list(report["latency_us"]), ["mean", "p50", "p90", "p99", "p999", "max"])
        for name in KEYS[3:13]:
            self.assertEqual(report[name], counts.get(name, 0), (name, result.stderr))
        if "-1" not in arguments:
            self.assertEqual(report["sent"], report["answered"] + report["lost"])
        return report

    def csv_file(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name + "/rows.csv"

    def rows(self, path):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(list(rows[0]), ["flow", "sequence", "start_us", "latency_us", "bytes", "ok"])
        return rows


class AgainstDemo(Blast):
    """The other half of the tool box, as contrib/bench uses it."""

    @classmethod
    def setUpClass(cls):
        cls.demo = subprocess.Popen([BUILD / "aegis-demo", "-u", "127.0.0.1:0", "-u", "127.0.0.1:0,answers=3", "-u", "127.0.0.1:0,answers=0",
                                     "-u", "127.0.0.1:0,delay=50ms", "-u", "*:0", "-u", "[::1]:0"], stdout=subprocess.PIPE, text=True)
        addresses = []
        for line in cls.demo.stdout:
            if line == "ready\n":
                break
            addresses.append(line.split()[1])
        cls.echo, cls.thrice, cls.mute, cls.slow, cls.any, cls.v6 = addresses

    @classmethod
    def tearDownClass(cls):
        cls.demo.terminate()
        cls.demo.wait(TIMEOUT)
        cls.demo.stdout.close()

    def test_sizes_bursts_and_segments(self):
        for payload, burst, *more in ((16, 1), (64, 1), (64, 16), (1200, 16, "-s"), (1200, 16, "-s", "-g"), (1200, 100, "-s", "-g"),
                                      (1472, 3, "-g"), (4097, 2), (65507, 1), (40000, 3, "-s")):
            with self.subTest(payload=payload, burst=burst, more=more):
                report = self.blast("-c", 3, "-n", 200, "-p", payload, "-b", burst, *more, self.echo)
                self.assertEqual((report["sent"], report["answered"]), (600, 600))
                self.assertEqual((report["bytes_in"], report["bytes_out"]), (600 * payload, 600 * payload))
                self.assertEqual((report["flows"], report["sockets"]), (3, 3))

    def test_windows_turns_and_renewal(self):
        for flows, more, sockets in ((20, ["-w", 32], 20), (20, ["-w", 32, "-b", 8], 20), (100, ["--at-once", 7, "-w", 4, "-b", 2], 100),
                                     (20, ["--renew", 1], 2000), (20, ["--renew", 7, "-b", 3], 300), (300, ["--at-once", 1], 300)):
            with self.subTest(flows=flows, more=more):
                report = self.blast("-c", flows, "-n", 100, *more, self.echo)
                self.assertEqual((report["sent"], report["sockets"]), (100 * flows, sockets))

    def test_a_rate_is_kept(self):
        for more in ([], ["-b", 5], ["--processes", 3], ["-b", 5, "-s", "-p", 1200]):
            with self.subTest(more=more):
                report = self.blast("-c", 10, "-r", 2000, "-d", 0.5, "--lost-after", 20, *more, self.echo)
                self.assertIn(report["sent"], range(900, 1001))

    def test_it_sleeps_until_the_next_one_is_due(self):
        report = self.blast("-c", 3, "-r", 10, "-d", 2, "--lost-after", 20, self.echo)
        self.assertLess(report["client_cpu_seconds"], 0.05)

    def test_processes_share_the_flows(self):
        path = self.csv_file()
        report = self.blast("-c", 7, "-n", 500, "--processes", 3, "--csv", path, self.echo)
        self.assertEqual(report["sent"], 3500)
        rows = self.rows(path)
        self.assertEqual(len(rows), 3500)
        self.assertEqual({(int(row["flow"]), int(row["sequence"])) for row in rows}, {(f, s) for f in range(7) for s in range(500)})
        self.assertEqual({(row["bytes"], row["ok"]) for row in rows}, {("64", "1")})

    def test_wildcard_and_ipv6(self):
        port = self.any.rpartition(":")[2]
        for target in (f"127.0.0.1:{port}", f"127.9.8.7:{port}", f"[::1]:{port}", self.v6):
            for more in ([], ["-s", "-g", "-b", 8, "-p", 1200]):
                self.assertEqual(self.blast("-c", 3, "-n", 40, *more, target)["answered"], 120)

    def test_more_than_one_answer(self):
        self.blast("-c", 2, "-n", 50, "--renew", 1000, self.thrice, code=3, duplicates=200)

    def test_no_answer(self):
        self.blast("-c", 2, "-n", 3, "--lost-after", 0.1, self.mute, code=3, lost=6)
        self.blast("-c", 2, "-n", 3, "--lost-after", 0.1, "--loss", 100, self.mute, lost=6)
        report = self.blast("-1", "-c", 2, "-n", 3000, self.mute)
        self.assertEqual((report["sent"], report["answered"]), (6000, 0))
        self.assertGreater(report["rate"], 0)

    def test_late_answers_are_no_loss(self):
        result = self.run_blast("-j", "-c", 2, "-r", 400, "-d", 0.5, "--lost-after", 0.03, self.slow)
        report = json.loads(result.stdout)
        self.assertEqual(report["sent"], report["answered"] + report["lost"])
        self.assertEqual((report["late"], report["lost"]), (report["answered"], 0))
        self.assertGreaterEqual(report["latency_us"]["p50"], 45000)

    def test_source_range(self):
        with Server(echo) as server:
            self.blast("-c", 30, "-n", 1, "--source-range", "127.5.0.0/29", server.address)
            self.assertEqual({peer[0] for peer in server.peers}, {f"127.5.0.{i}" for i in range(1, 7)})

    def test_source_port(self):
        with Server(echo) as server:
            self.blast("-c", 8, "-n", 2, "--source-range", "127.5.1.0/29", "--source-port", 30123, server.address)
            self.assertEqual(set(server.peers), {(f"127.5.1.{i}", 30123) for i in range(1, 7)} | {(f"127.5.1.{i}", 30124) for i in (1, 2)})

    def test_warmup_is_not_counted(self):
        result = self.run_blast("-j", "-c", 1, "-r", 1000, "-d", 0.2, "--warmup", 0.3, "--lost-after", 20, self.echo)
        self.assertIn(json.loads(result.stdout)["sent"], range(150, 202))
        self.assertEqual(result.stderr, "aegis-udpblast: warm\n")

    def test_a_run_in_which_nothing_counts_is_no_success(self):
        result = self.run_blast("-j", "-c", 1, "-n", 10, "--warmup", 60, self.echo, code=3)
        self.assertEqual(json.loads(result.stdout)["sent"], 0)
        self.assertIn("nothing was sent that counts", result.stderr)

    def test_periods(self):
        result = self.run_blast("-j", "-c", 1, "-r", 1000, "-d", 0.5, "-i", 0.1, "--lost-after", 20, self.echo)
        *periods, report = map(json.loads, result.stdout.splitlines())
        self.assertGreater(len(periods), 2)
        self.assertLessEqual(sum(period["sent"] for period in periods), report["sent"])
        self.assertEqual(list(periods[0]), ["at", "sent", "answered", "lost"])
        self.assertRegex(self.run_blast("-c", 1, "-r", 1000, "-d", 0.5, "-i", 0.1, self.echo).stdout, r"sent/s +\d+ answered/s +0 lost\n")

    def test_report_for_people(self):
        text = self.run_blast("-c", 2, "-n", 10, self.echo).stdout
        self.assertIn(": 2 flows of datagrams of 64 bytes, 2 sockets\n", text)
        self.assertRegex(text, r"datagrams  20 sent, 20 answered in ")
        self.assertRegex(text, r"lost       0, 0\.0000 %\n")


class AgainstWrongServers(Blast):
    def test_foreign_answers(self):
        """Each answer goes to the one who sent before."""
        def swap(server, number, data, peer):
            server.held = getattr(server, "held", peer)
            server.send(data, server.held)
            server.held = peer
        with Server(swap) as server:
            result = self.run_blast("-j", "-c", 2, "-n", 1, "--lost-after", 0.2, server.address, code=3)
        report = json.loads(result.stdout)
        self.assertEqual((report["foreign"], report["answered"], report["lost"]), (1, 1, 1))
        self.assertIn("1 x answers to a datagram of another flow", result.stderr)

    def test_answers_of_an_earlier_socket(self):
        """What belongs to the socket before is foreign to the next one."""
        def old(server, number, data, peer):
            if number == 0:
                server.first = data
            server.send(server.first, peer)
        with Server(old) as server:
            self.blast("-c", 1, "-n", 2, "--renew", 1, "--lost-after", 0.2, server.address, code=3, foreign=1, lost=1)

    def test_wrong_bytes(self):
        changes = [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data[:-1], lambda data: data + b"x", lambda data: b"",
                   lambda data: b"\0" * 64, lambda data: data[:8] + b"\xff" + data[9:]]
        for change in changes:
            with Server(lambda server, _, data, peer: server.send(change(data), peer)) as server:
                self.blast("-c", 1, "-n", 1, "--lost-after", 0.2, server.address, code=3, wrong=1, lost=1)

    def test_a_server_that_never_stops(self):
        """The run ends all the same."""
        stop, threads = threading.Event(), []

        def endless(server, number, data, peer):
            def say_it_again():
                while not stop.wait(0.001):
                    server.send(data, peer)
            threads.append(threading.Thread(target=say_it_again))
            threads[-1].start()
        with Server(endless) as server:
            try:
                result = self.run_blast("-j", "-c", 1, "-n", 1, server.address, code=3)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
        self.assertGreater(json.loads(result.stdout)["duplicates"], 0)

    def test_reordering(self):
        def backwards(server, number, data, peer):
            server.held = [*getattr(server, "held", []), data]
            if len(server.held) == 4:
                for one in reversed(server.held):
                    server.send(one, peer)
                server.held = []
        with Server(backwards) as server:
            self.blast("-c", 1, "-n", 8, "-b", 4, server.address, reordered=6)
            self.blast("-c", 1, "-n", 8, "-b", 4, "--in-order", server.address, code=3, reordered=6)

    def test_loss_within_and_beyond_what_is_allowed(self):
        def every_tenth(server, number, data, peer):
            if number % 10:
                server.send(data, peer)
        for allowed, code in ((10, 0), (9.99, 3)):
            with Server(every_tenth) as server:
                path = self.csv_file()
                report = self.blast("-c", 1, "-n", 100, "-b", 10, "--lost-after", 0.1, "--loss", allowed, "--csv", path, server.address,
                                    code=code, lost=10)
                self.assertEqual(report["loss_percent"], 10)
                self.assertEqual([row["sequence"] for row in self.rows(path) if row["ok"] == "0"], [str(n) for n in range(0, 100, 10)])

    def test_nobody_there(self):
        with Server(silent) as server:
            address = server.address
        result = self.run_blast("-j", "-c", 2, "-n", 2, "--lost-after", 0.1, address, code=3)
        report = json.loads(result.stdout)
        self.assertEqual((report["sent"], report["lost"], report["refused"]), (4, 4, 4))
        self.assertIn("Connection refused", result.stderr)

    def test_answers_where_none_are_wanted(self):
        with Server(echo) as server:
            result = self.run_blast("-j", "-1", "-c", 1, "-n", 5, server.address, code=3)
        self.assertGreater(json.loads(result.stdout)["wrong"], 0)

    def test_too_large_for_the_way(self):
        with Server(silent, socket.AF_INET6) as server:
            self.blast("-c", 1, "-n", 1, "-p", 65507, "--lost-after", 0.1, server.address, code=3, lost=1)


class Arguments(Blast):
    def test_wrong_arguments(self):
        target = "127.0.0.1:9"
        for arguments in ((), ("-c",), ("-c", 0, target), ("-c", "1x", target), ("-n", -1, target), ("-d", "x", target), ("-d", 0, target),
                          ("-p", 15, target), ("-p", 65508, target), ("-b", 0, target), ("-b", 2000, target), ("-b", 4, "-w", 3, target),
                          ("-r", "-1", target), ("-r", 0, target), ("-r", 5, "-w", 4, target), ("-r", 5, "--at-once", 4, target), ("--lost-after", 0, target),
                          ("--loss", 101, target), ("--no-such", target), ("-x", target), (target, "b"), ("127.0.0.1",), ("127.0.0.1:0",),
                          ("*:80",), ("unix:/x",), ("--source-range", "127.0.0.1", target), ("--source-port", 5, target), ("--source-range", "127.0.0.0/8", "[::1]:1"),
                          ("a" * 300 + ":1",)):
            result = self.run_blast(*arguments, code=1)
            self.assertRegex(result.stderr, re.compile(r"\Aaegis-udpblast: .*\n\Z"), arguments)
            self.assertEqual(result.stdout, "")

    def test_a_number_out_of_range_is_told_with_the_range(self):
        self.assertIn('"70000" is not a whole number from 1 to 65536;', self.run_blast("-w", 70000, "127.0.0.1:9", code=1).stderr)
        self.assertIn('"101" is not a number from 0 to 100;', self.run_blast("--loss", 101, "127.0.0.1:9", code=1).stderr)

    def test_cannot_start(self):
        self.assertIn("/nowhere/at/all", self.run_blast("--csv", "/nowhere/at/all", "127.0.0.1:9", code=2).stderr)
        self.assertIn("need --processes", self.run_blast("-c", 10000000, "127.0.0.1:9", code=2).stderr)

    def test_help_and_version(self):
        for option in ("-h", "--help"):
            self.assertIn("usage: aegis-udpblast", self.run_blast(option).stdout)
        for option in ("-V", "--version"):
            self.assertRegex(self.run_blast(option).stdout, r"\Aaegis-udpblast \d+\.\d+\.\d+\n\Z")


if __name__ == "__main__":
    unittest.main()
