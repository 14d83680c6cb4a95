"""Nothing is allocated after warm-up: a worker's calls to the allocator are counted by a preloaded library (malloc_count.c)."""
import re
import socket
import struct
import time
import unittest

import aegis
from aegis import AEGIS, BUILD, KIB, LONG, MIB, Case, Demo, Echo, Pattern, Task, dial, echo, free_address, how_it_ends, parse, reset, run, wait_until

LIBRARY = BUILD / "tests" / "functional" / "malloc_count.so"
COUNT = 100_000 if LONG else 10_000
THREADS = 4
CROWD = 64


def kilobytes(text, name):
    return int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M)[1])


class Memory(Case):
    deadline = 240.0 if LONG else 90.0

    def setUp(self):
        super().setUp()
        if aegis.SANITIZED:
            raise unittest.SkipTest("a sanitizer has an allocator of its own")
        if not LIBRARY.exists():
            raise unittest.SkipTest(f"{LIBRARY.name} is not built (\"make check\" builds it)")
        self.counts = self.directory / "counts"
        self.counts.mkdir(mode=0o777)
        self.environment = {"AEGIS_MALLOC_COUNT": str(self.counts), "LD_PRELOAD": str(LIBRARY)}
        # Some C libraries do not let their allocator be replaced.
        if run(AEGIS, "-V", environment=self.environment).returncode != 0 or not any(self.counts.iterdir()):
            raise unittest.SkipTest("the C library does not let calls to its allocator be counted")

    def start(self, servers, **settings):
        """Aegis with one worker: sets pid and address. Its flight recorder is full after the warm-up."""
        self.proxy = self.aegis(aegis.app(servers, workers=1, flight_recorder="4k", **settings), environment=self.environment)
        self.address = self.proxy.address()
        self.pid = self.proxy.workers()[0]["pid"]

    def calls(self):
        allocations, mappings, breaks = struct.unpack("QQQ", (self.counts / str(self.pid)).read_bytes())
        return {"allocations": allocations, "mappings": mappings, "breaks": breaks}

    def kernel_view(self):
        # VmRSS is kept for each CPU apart and off by some pages; smaps_rollup counts them.
        return kilobytes(aegis.proc(self.pid, "status"), "VmData"), kilobytes(aegis.proc(self.pid, "smaps_rollup"), "Rss")

    def idle(self):
        """All is over, and what the worker does once a second was done: memory stands still for longer than that."""
        self.proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all connections closed")
        seen = [None, 0.0]

        def still():
            now = self.kernel_view()
            if now != seen[0]:
                seen[:] = now, time.monotonic()
            return time.monotonic() - seen[1] > 2.5
        wait_until(still, "the worker's memory to stand still", 20)

    def crowd(self):
        """More connections at a time than any of the loads has."""
        socks = [dial(self.address) for _ in range(CROWD)]
        self.proxy.wait_stat(lambda stat: stat["connections"]["active"] == CROWD, "all of them")
        for sock in socks:
            sock.close()

    def check(self, load, count):
        """Warm up, then run the load with the counts at rest."""
        self.crowd()
        load(count // 10)
        self.idle()
        calls, (data, rss) = self.calls(), self.kernel_view()
        self.assertGreater(calls["allocations"], 0, "nothing was counted at all")
        total = self.proxy.stat()["connections"]["total"]
        load(count)
        self.idle()
        after, (after_data, after_rss) = self.calls(), self.kernel_view()
        self.assertEqual(after, calls, "the worker asked for memory after warm-up")
        self.assertEqual(after_data, data, "VmData in kB")
        # With io_uring at least 32 receive buffers of 4 kB may keep their memory; how many of them were used last is chance.
        spare = 16 + 32 * 4 if self.proxy.stat()["engine"] == "io_uring" else 16
        self.assertLessEqual(after_rss, rss + spare, "resident memory in kB")
        return self.proxy.stat()["connections"]["total"] - total

    def in_threads(self, function, count):
        tasks = [Task(function, count // THREADS) for _ in range(THREADS)]
        for task in tasks:
            task.result(self.deadline)


class Steady(Memory):
    def test_short_connections(self):
        """A connection for each request; the server closes, so that no client port is used up."""
        self.start(Demo(self, "http")["http"])
        name = parse(self.address)[1]

        def ask(count):
            for _ in range(count):
                with socket.create_connection(name) as sock:
                    sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                    answer = b""
                    while part := sock.recv(4 * KIB):
                        answer += part
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise AssertionError(f"answer: {answer[:200]!r}")

        self.assertEqual(self.check(lambda count: self.in_threads(ask, count), COUNT), COUNT)

    def test_kept_connections(self):
        """Requests over connections that stay."""
        self.start(Demo(self, "echo")["echo"])

        def ask(count):
            with dial(self.address) as sock:
                for number in range(count):
                    echo(sock, b"%08d" % number)

        self.assertEqual(self.check(lambda count: self.in_threads(ask, count), COUNT), THREADS)

    def test_slow_readers(self):
        """What waits for slow readers is held in memory that was there before."""
        self.start(Echo(self).address)
        pattern = Pattern(1)

        def transfer(count):
            for _ in range(count):
                socks = [dial(self.address, receive_buffer=8 * KIB) for _ in range(10)]
                for sock in socks:
                    sender = Task(pattern.send, sock, 1 * MIB)
                    pattern.receive(sock, 1 * MIB)
                    sender.result()
                    sock.close()

        self.assertEqual(self.check(transfer, 10), 100)

    def test_failures(self):
        """Servers that refuse, and connections that are reset by either side."""
        refusing = free_address()
        resetting = Demo(self, "reset")["reset"]
        self.start([refusing, resetting], upstream={"retries": 1})

        def fail(count):
            for number in range(count):
                sock = dial(self.address)
                if number % 2:
                    reset(sock)
                    continue
                sock.sendall(b"x")
                self.assertEqual(how_it_ends(sock)[0], "reset")
                sock.close()

        self.assertEqual(self.check(fail, COUNT // 10), COUNT // 10)


def library_kilobytes(pid, name):
    """Resident memory of a process that is pages of a library's file and not copies of its own."""
    resident, counts = 0, False
    for line in aegis.proc(pid, "smaps").splitlines():
        words = line.split()
        if re.match(r"[0-9a-f]+-[0-9a-f]+$", words[0]):
            counts = name in line
        elif counts and words[0] in ("Rss:", "Anonymous:"):
            resident += int(words[1]) * (1 if words[0] == "Rss:" else -1)
    return resident


class BeforeTheFirst(Case):
    """What is there before any connection."""

    def setUp(self):
        super().setUp()
        if aegis.SANITIZED:
            raise unittest.SkipTest("a sanitizer has memory of its own")

    def settles(self, kilobytes_now, most, what):
        """It is told that Aegis runs a moment before the last of the start is over."""
        seen = []

        def below():
            seen.append(kilobytes_now())
            return seen[-1] < most
        wait_until(below, lambda: f"{what} to have less than {most} kB, and not {seen[-1]}", 10)

    def test_worker(self):
        """The fewer workers there are the less they share. Where there is no UDP nothing of what that wants is touched."""
        def private(pid):
            rollup = aegis.proc(pid, "smaps_rollup")
            return kilobytes(rollup, "Private_Dirty") + kilobytes(rollup, "Private_Clean")
        proxy = self.aegis(aegis.app(Echo(self).address, workers=2))
        for worker in proxy.workers():
            self.settles(lambda pid=worker["pid"]: private(pid), 290, "a worker")

    def test_master(self):
        """What the dynamic linker read is not mapped any more: of libcrypto, where there is one, that is a megabyte."""
        proxy = self.aegis(aegis.app(Echo(self).address, workers=1))
        self.settles(lambda: library_kilobytes(proxy.pid, "/libcrypto.so"), 300, "libcrypto")
        proxy.must_reload({**proxy.settings, "max_connections": 100})
        self.settles(lambda: library_kilobytes(proxy.pid, "/libcrypto.so"), 300, "libcrypto")


if __name__ == "__main__":
    aegis.main()
