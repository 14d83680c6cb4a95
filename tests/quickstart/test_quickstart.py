"""contrib/quickstart starts, answers, notices trouble, and leaves nothing behind. Run by contrib/check, with AEGIS_BUILD built.

Not part of `make check`: the quickstart uses fixed ports and runs make itself.
"""
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import unittest
import urllib.request

QUICKSTART = pathlib.Path(__file__).resolve().parent.parent.parent / "contrib" / "quickstart"
PORTS = (8080, 8081, 8082, 8083)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
READY = "Ctrl-C stops everything."
BOUND_S = 300  # for the build too; a run that hangs fails the test


def is_busy(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def child_of(parent, words):
    """The child of a process that was started with these words."""
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                if words in status.with_name("cmdline").read_text():
                    return int(status.parent.name)
        except OSError:
            pass  # gone in the meantime
    raise AssertionError(f"process {parent} has no child {words!r}")


class Quickstart(unittest.TestCase):
    def setUp(self):
        for port in PORTS:
            self.assertFalse(is_busy(port), f"port {port} is in use on this machine; the quickstart needs it")

    def start(self):
        process = subprocess.Popen(
            [QUICKSTART], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", env=ENVIRONMENT, cwd=tempfile.gettempdir(), start_new_session=True)
        self.addCleanup(process.stdout.close)
        watchdog = threading.Timer(BOUND_S, lambda: os.killpg(process.pid, signal.SIGKILL))
        watchdog.start()
        self.addCleanup(watchdog.cancel)
        self.addCleanup(self.kill_session, process)
        return process

    @staticmethod
    def kill_session(process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def start_until_ready(self):
        process = self.start()
        output = []
        for line in process.stdout:
            output.append(line)
            if READY in line:
                return process, "".join(output)
        self.fail("it ended before it was ready:\n" + "".join(output))

    def assert_nothing_left(self, process):
        for port in PORTS:
            self.assertFalse(is_busy(port), f"port {port} still answers")
        with self.assertRaises(ProcessLookupError, msg="a process of the quickstart lives on"):
            os.killpg(process.pid, 0)

    def answers_and_stops(self, stop):
        process, output = self.start_until_ready()
        self.assertIn("http://127.0.0.1:8080", output)
        names = set()
        for _ in range(4):
            with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=10) as response:
                names.add(response.read().split(b".")[0])
        self.assertEqual(names, {b"Hello from one", b"Hello from two"})
        with urllib.request.urlopen("http://127.0.0.1:8083/", timeout=10) as response:
            self.assertIn(b"<html", response.read())
        why = re.search(r"^ *(\S*aegisctl -r \S+ why 127.0.0.1)$", output, re.MULTILINE).group(1).split()
        told = subprocess.run(why, cwd=tempfile.gettempdir(), check=True, capture_output=True, text=True).stdout
        self.assertIn("connected to server one (127.0.0.1:8081)", told)
        stop(process)
        rest = process.stdout.read()
        self.assertEqual(process.wait(), 0, rest)
        self.assert_nothing_left(process)

    def test_terminate(self):
        self.answers_and_stops(lambda process: process.send_signal(signal.SIGTERM))

    def test_interrupt(self):
        """As the terminal does it: to every process of the group."""
        self.answers_and_stops(lambda process: os.killpg(process.pid, signal.SIGINT))

    def test_busy_port(self):
        for port in PORTS:
            with self.subTest(port=port), socket.create_server(("127.0.0.1", port)):
                process = self.start()
                output = process.stdout.read()
                self.assertEqual(process.wait(), 1, output)
                self.assertIn(f"something listens on 127.0.0.1:{port} already", output)

    def test_a_process_that_dies(self):
        process, _ = self.start_until_ready()
        os.kill(child_of(process.pid, "aegis-demo\0-n\0one\0"), signal.SIGKILL)
        output = process.stdout.read()
        self.assertEqual(process.wait(), 1, output)
        self.assertIn("aegis-demo-one ended (exit code 137); the rest was stopped", output)
        self.assert_nothing_left(process)


if __name__ == "__main__":
    unittest.main()
