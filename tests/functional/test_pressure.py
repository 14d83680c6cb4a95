"""Readers that are slow or stand still: the sender is held back, memory stays bounded, and the others go on."""
import contextlib
import os
import signal
import socket
import threading
import time

import aegis
import secure
from aegis import KIB, MIB, Backend, Case, Echo, Pattern, Task, dial, echo, how_it_ends, receive, wait_until

UP, DOWN = Pattern(1), Pattern(2)


class Pressure(Case):
    deadline = 90.0
    # What the kernel may hold between the two ends: four socket buffers that grow to a few megabytes each.
    KERNEL = 40 * MIB
    # A sanitizer keeps up to 256 MB of what was given back, as OpenSSL's records are: what they take is seen without it.
    WORKER = (8 if not aegis.SANITIZED else 384 if secure.MODE else 64) * MIB

    def stalled(self, progress):
        """Wait until a number that may only grow stands still for half a second, then return it."""
        seen = [progress(), time.monotonic()]

        def still():
            now = progress()
            if now != seen[0]:
                seen[:] = now, time.monotonic()
            return time.monotonic() - seen[1] > 0.5 * aegis.SLOW
        wait_until(still, "the sender to be held back", 30)
        return seen[0]

    def worker_rss(self, proxy):
        return sum(aegis.rss_bytes(worker["pid"]) for worker in proxy.workers())

    def warm_up(self, address):
        for _ in range(4):
            with dial(address) as sock:
                echo(sock)

    def test_slow_client(self):
        self.pressure(to_client=True)

    def test_slow_server(self):
        self.pressure(to_client=False)

    def pressure(self, to_client):
        """100 MB towards a reader that stops: the sender is held back, the worker does not grow, and in the end all is there."""
        size = 100 * MIB
        go, sent, got = threading.Event(), [0], [0]

        def send(sock):
            for offset in range(0, size, 64 * KIB):
                part = DOWN.at(offset, min(64 * KIB, size - offset))
                sock.sendall(part)
                sent[0] += len(part)
            sock.shutdown(socket.SHUT_WR)

        def read(sock):
            go.wait(60 * aegis.SLOW)
            for offset in range(0, size, MIB):
                part = min(MIB, size - offset)
                DOWN.receive(sock, part, offset, piece=32 * KIB)
                got[0] += part
            self.assertEqual(how_it_ends(sock), ("eof", b""))

        def serve(sock):
            if receive(sock, 1) == b"h":  # the warm-up's hello
                sock.sendall(b"h" + receive(sock, 10))
                return
            (send if to_client else read)(sock)

        backend = Backend(self, serve)
        proxy, address = self.proxy(backend.address, workers=1)
        self.warm_up(address)
        before = self.worker_rss(proxy)
        sock = self.connect(address, seconds=60)
        sock.sendall(b"x")
        client = Task(read if to_client else send, sock)
        stalled = self.stalled(lambda: sent[0])
        self.assertLess(stalled, self.KERNEL, "the sender was not held back")
        self.assertLess(self.worker_rss(proxy) - before, self.WORKER, "memory of the worker while the reader stands still")
        go.set()
        peak = 0
        while got[0] < size:
            seen = got[0]
            wait_until(lambda: got[0] > seen or got[0] == size or client.error, "the reader to go on")
            if client.error:
                break
            peak = max(peak, self.worker_rss(proxy))
        client.result()
        self.assertLess(peak - before, self.WORKER, "memory of the worker while it flows")
        sock.close()
        proxy.wait_closes("finished", 5)

    def test_small_buffers(self):
        """Socket buffers of a few kilobytes: every write comes up short, and not a byte is lost or doubled, both ways at once."""
        size = 10 * MIB

        def both(sock):
            sender = Task(DOWN.send, sock, size)
            UP.receive(sock, size, piece=3000)
            sender.result()

        backend = Backend(self, both, receive_buffer=4 * KIB)
        small = {"receive_buffer": "4k", "send_buffer": "4k"}
        proxy, address = self.proxy(backend.address, listener={"tcp": small}, upstream={"tcp": small})
        sock = self.connect(address, receive_buffer=4 * KIB)
        sender = Task(UP.send, sock, size)
        DOWN.receive(sock, size, piece=5000)
        sender.result()
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(how_it_ends(sock), ("eof", b""))
        backend.result()
        self.assertEqual(proxy.stat()["bytes"], {"received": size, "sent": size})

    def test_many_slow_readers(self):
        """50 readers that stop in the middle of 4 MB: the worker holds a bounded piece for each; all get all."""
        def serve(sock):
            receive(sock, 1)
            DOWN.send(sock, 4 * MIB)

        proxy, address = self.proxy(Backend(self, serve).address, workers=1)
        with dial(address) as sock:
            sock.sendall(b"x")
            self.assertEqual(DOWN.receive_all(sock), 4 * MIB)
        before = self.worker_rss(proxy)
        socks = [self.connect(address, seconds=60, receive_buffer=8 * KIB) for _ in range(50)]
        for sock in socks:
            sock.sendall(b"x")
        self.stalled(lambda: proxy.stat()["bytes"]["sent"])
        # The ring's buffers, through which it came in a few turns, are given back once a second.
        wait_until(lambda: self.worker_rss(proxy) - before < self.WORKER, lambda: f"bounded memory: {before} -> {self.worker_rss(proxy)}", 5)
        for sock in socks:
            self.assertEqual(DOWN.receive_all(sock), 4 * MIB)
            sock.close()
        proxy.wait_closes("finished", 51)

    def test_stalled_readers_do_not_starve_the_others(self):
        """600 servers' ends that read nothing, and clients that go on sending a byte at a time: each byte takes a whole buffer of the ring."""
        count = 600 if not aegis.SANITIZED else 200
        held = []

        def serve(sock):
            if receive(sock, 1) == b"s":
                held.append(sock)
                stop.wait(60 * aegis.SLOW)
                return
            while part := sock.recv(4 * KIB):
                sock.sendall(part)

        stop = threading.Event()
        self.addCleanup(stop.set)
        proxy, address = self.proxy(Backend(self, serve, receive_buffer=4 * KIB).address, workers=1, upstream={"tcp": {"send_buffer": "4k"}})
        others = self.connect(address)
        others.sendall(b"e")
        socks = [self.connect(address) for _ in range(count)]
        for sock in socks:
            sock.sendall(b"s")
        wait_until(lambda: len(held) == count, "all servers")
        for sock in socks:
            sock.setblocking(False)
        for piece in [b"x" * 1000] * 30 + [b"y"] * 40:
            for sock in socks:
                try:
                    sock.send(piece)
                except BlockingIOError:
                    pass
            others.sendall(b"ping")
            self.assertEqual(receive(others, 4), b"ping")
        with dial(address) as sock:
            sock.sendall(b"e12345678")
            self.assertEqual(receive(sock, 8), b"12345678")
        self.assertEqual(proxy.stat()["workers"][0]["buffer_exhausted"], 0)
        stop.set()
        for sock in socks:
            sock.close()

    def test_stalled_readers_with_all_buffers_used_up(self):
        """More stalled relays than there are buffers for: 40 others at once are answered, so are new ones, and so is the other direction of the stalled ones."""
        count = 500 if not aegis.SANITIZED else 150
        held, stop = [], threading.Event()
        self.addCleanup(stop.set)

        def serve(sock):
            if receive(sock, 1) == b"s":
                held.append(sock)
                stop.wait(90 * aegis.SLOW)
                return
            while part := sock.recv(4 * KIB):
                sock.sendall(part)

        small = {"receive_buffer": "4k", "send_buffer": "4k"}
        proxy, address = self.proxy(Backend(self, serve, receive_buffer=4 * KIB).address, workers=1, buffer_memory="1M", upstream={"tcp": small})
        others = [self.connect(address) for _ in range(40)]
        for sock in others:
            sock.sendall(b"e")
        socks = [self.connect(address) for _ in range(count)]
        for sock in socks:
            # Left to the kernel it all comes to more than it has for TCP (tcp_mem), and whatever runs beside loses segments.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * KIB)
            sock.sendall(b"s")
        wait_until(lambda: len(held) == count, "all servers")
        worker = proxy.workers()[0]["pid"]
        for start in range(0, count, 50):  # what comes while the worker stands still comes in one turn
            os.kill(worker, signal.SIGSTOP)
            for sock in socks[start:start + 50]:
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while sock.send(b"x" * 60000):
                        pass
            os.kill(worker, signal.SIGCONT)
            self.ask_all(others)
            with dial(address) as sock:
                sock.sendall(b"e12345678")
                self.assertEqual(receive(sock, 8), b"12345678")
        for sock in held:
            sock.sendall(b"answer")
        for sock in socks:
            sock.settimeout(20 * aegis.SLOW)
            self.assertEqual(receive(sock, 6), b"answer")
        self.assertGreater(proxy.stat()["workers"][0]["buffer_exhausted"], 0)
        self.ask_all(others)
        stop.set()
        for sock in socks:
            sock.close()

    def ask_all(self, socks):
        for _ in range(3):
            for sock in socks:
                sock.sendall(b"?" * 100)
            for sock in socks:
                self.assertEqual(receive(sock, 100), b"?" * 100)

    def test_small_beside_bulk(self):
        """One worker, an endless stream each way, and 20 small connections: each of these finishes its 100 exchanges."""
        done = threading.Event()
        moved = [0, 0]

        def serve(sock):
            kind = receive(sock, 1)
            if kind == b"d":
                while not done.is_set():
                    sock.sendall(DOWN.at(moved[0], 256 * KIB))
                    moved[0] += 256 * KIB
            else:
                moved[1] = UP.receive_all(sock)

        bulk, small = Backend(self, serve), Echo(self)
        settings = aegis.app(bulk.address, workers=1)
        settings["listeners"].append({"name": "small", "address": "127.0.0.1:0", "upstream": "small"})
        settings["upstreams"].append({"name": "small", "servers": [{"address": small.address}]})
        proxy = self.aegis(settings)
        down, up = self.connect(proxy.address()), self.connect(proxy.address())
        down.sendall(b"d")
        up.sendall(b"u")

        def send():
            offset = 0
            while not done.is_set():
                up.sendall(UP.at(offset, 256 * KIB))
                offset += 256 * KIB
            up.shutdown(socket.SHUT_WR)
            return offset

        reader, sender = Task(DOWN.receive_all, down), Task(send)
        proxy.wait_stat(lambda stat: min(stat["bytes"].values()) > 5 * MIB, "both streams to flow")
        socks = [self.connect(proxy.address("small")) for _ in range(20)]
        before = proxy.listener()
        for number in range(100):
            for sock in socks:
                sock.sendall(b"%7d." % number)
            for sock in socks:
                self.assertEqual(receive(sock, 8), b"%7d." % number)
        after = proxy.listener()
        self.assertGreater(after["sent"], before["sent"], "the stream to the client stood still")
        self.assertGreater(after["received"], before["received"], "the stream to the server stood still")
        done.set()
        self.assertEqual(sender.result(), wait_until(lambda: moved[1], "the server to get all"))
        self.assertEqual(reader.result(), moved[0])


if __name__ == "__main__":
    aegis.main()
