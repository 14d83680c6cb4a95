"""What a worker asks of the kernel: few epoll_ctl for each connection, and no memory at all once it is warm."""
import collections
import re
import signal
import subprocess
import unittest

import aegis
from aegis import KIB, Case, Echo, dial, echo, need, wait_until


class Calls(Case):
    def trace(self, pid, calls):
        """strace on the process; returns a function that ends it and counts the calls. Skips where tracing is not allowed."""
        strace, = need("strace")
        output = self.directory / "trace"
        process = subprocess.Popen([strace, "-p", str(pid), "-o", output, "-e", f"trace={','.join(calls)}"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)

        def attached():
            if process.poll() is not None:
                raise unittest.SkipTest(f"strace cannot attach: {process.stderr.read().strip()}")
            return re.search(r"TracerPid:\t[1-9]", aegis.proc(pid, "status"))

        def stop():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(20 * aegis.SLOW)

        self.addCleanup(stop)
        wait_until(attached, "strace to be attached")

        def count():
            stop()
            return collections.Counter(re.match(r"\w+", line)[0] for line in output.read_text().splitlines() if re.match(r"\w+\(", line))
        return count

    def test_short_connections(self):
        """1000 connections of one exchange: two epoll_ctl each (with io_uring none), not one mmap, munmap or brk."""
        if aegis.SANITIZED:
            raise unittest.SkipTest("a sanitizer makes calls of its own")
        proxy, address = self.proxy(Echo(self).address, workers=1)
        pid = proxy.workers()[0]["pid"]

        def exchange(count):
            for number in range(count):
                with dial(address) as sock:
                    echo(sock, b"%06d" % number)

        exchange(200)
        proxy.wait_closes("finished", 200)
        count = self.trace(pid, ["epoll_ctl", "mmap", "munmap", "brk", "mremap", "accept4"])
        exchange(1000)
        proxy.wait_closes("finished", 1200)
        calls = count()
        self.assertGreaterEqual(calls["accept4"], 1000)
        self.assertEqual(round(calls["epoll_ctl"] / 1000), 0 if proxy.stat()["engine"] == "io_uring" else 2, calls)
        for call in ("mmap", "munmap", "brk", "mremap"):
            self.assertEqual(calls[call], 0, calls)

    def test_long_exchanges(self):
        """Many connections at once with small and large answers, readers slow and fast: no memory is asked for, no file opened."""
        if aegis.SANITIZED:
            raise unittest.SkipTest("a sanitizer makes calls of its own")
        pattern = aegis.Pattern(1)
        proxy, address = self.proxy(Echo(self).address, workers=1)
        pid = proxy.workers()[0]["pid"]

        def exchange():
            socks = [dial(address, receive_buffer=8 * KIB) for _ in range(50)]
            for sock in socks:
                sender = aegis.Task(pattern.send, sock, 500_000)
                pattern.receive(sock, 500_000)
                sender.result()
            for sock in socks:
                sock.close()

        exchange()
        proxy.wait_closes("finished", 50)
        count = self.trace(pid, ["mmap", "munmap", "brk", "mremap", "openat", "fsync", "clone"])
        exchange()
        proxy.wait_closes("finished", 100)
        self.assertEqual(count(), {})


if __name__ == "__main__":
    aegis.main()
