"""Bulk through pipes: the same bytes in the same order, however slowly they are read and however the connection ends."""
import contextlib
import pwd
import re
import resource
import selectors
import socket
import struct
import subprocess
import sys
import threading

import aegis
from aegis import KIB, MIB, Backend, Case, Echo, Pattern, Task, app, descriptors, dial, echo, how_it_ends, reset, run, wait_until

UP, DOWN = Pattern(11), Pattern(12)
SIZE = struct.Struct("!Q")


class Epoll(Case):
    engine = "epoll"

    def start(self, settings, **options):
        proxy = self.aegis(settings, **options)
        if proxy.stat()["engine"] != self.engine:
            self.skipTest(f"no {self.engine} here")
        return proxy

    def bulk_proxy(self, servers, memory="64M", **settings):
        """One worker. 1M of buffers are four pipes."""
        proxy = self.start(app(servers, engine=self.engine, workers=1, buffer_memory=memory, **settings))
        return proxy, proxy.address()

    def counter(self, proxy, name):
        text = run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        found = re.findall(rf"^aegis_worker_{name}_total\S* (\d+)", text, re.M)
        self.assertTrue(found, text)
        return sum(int(value) for value in found)

    def spliced(self, proxy):
        return self.counter(proxy, "spliced_bytes")

    def receive_until_spliced(self, sock, proxy, pattern, most=sys.maxsize):
        """A stream is bulk after some full reads in a row, which a sender that gets little time does not bring at once. How much was received."""
        count = 0
        while count < most and not self.spliced(proxy):
            pattern.receive(sock, MIB, count)
            count += MIB
        return count

    def wait_stalled(self, proxy, least=MIB):
        """Until bytes went through and none goes through any more: whoever should read does not."""
        before, same = [-1], [0]

        def stalled():
            moved = sum(proxy.stat()["bytes"].values())
            same[0] = same[0] + 1 if moved == before[0] and moved >= least else 0
            before[0] = moved
            return same[0] >= 20
        wait_until(stalled, lambda: f"the stream to stand still; {before[0]} bytes moved", 30)

    def end(self, sock):
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(how_it_ends(sock), ("eof", b""))

    # - streams

    def test_both_ways_at_once(self):
        size = 128 * MIB

        def both(sock):
            sender = Task(DOWN.send, sock, size)
            UP.receive(sock, size)
            sender.result()

        proxy, address = self.bulk_proxy(Backend(self, both).address)
        sock = self.connect(address)
        sender = Task(UP.send, sock, size)
        DOWN.receive(sock, size)
        sender.result()
        self.end(sock)
        row = proxy.listener()
        self.assertEqual((row["received"], row["sent"]), (size, size))
        server = proxy.stat()["upstreams"][0]["servers"][0]
        self.assertEqual((server["sent"], server["received"]), (size, size))
        self.assertGreater(self.spliced(proxy), size)
        self.assertEqual(self.counter(proxy, "pipe_exhausted"), 0)

    def test_a_reader_that_pauses_does_not_hold_up_the_other_direction(self):
        self.pause()

    def test_a_reader_that_pauses_at_once_does_not_either(self):
        self.pause(listener={"tcp": {"send_buffer": "16k"}}, receive_buffer=8 * KIB, least=32 * KIB)

    def pause(self, listener=None, receive_buffer=None, least=MIB):
        """The client reads nothing of a bulk answer until the server has all of its own bulk, and small pieces go on meanwhile."""
        size, done = 24 * MIB, threading.Event()

        def serve(sock):
            sender = Task(DOWN.send, sock, size)
            count = 0
            for piece in (KIB, 8 * MIB, KIB):
                UP.receive(sock, piece, count)
                count += piece
            done.set()
            sender.result(120)
            return UP.receive_all(sock, count)

        backend = Backend(self, serve)
        proxy, address = self.bulk_proxy(backend.address, listener=listener)
        sock = self.connect(address, receive_buffer=receive_buffer)
        self.wait_stalled(proxy, least)
        count = 0
        for piece in (KIB, 8 * MIB, KIB):
            UP.send(sock, piece, count)
            count += piece
        self.assertTrue(done.wait(30 * aegis.SLOW), "the server did not get what the client sent")
        DOWN.receive(sock, size)
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(backend.result(), 0)
        proxy.wait_closes("finished")

    def test_stop_and_go_reader(self):
        """The reader stops until nothing moves, takes some, stops again."""
        size = 48 * MIB
        proxy, address = self.bulk_proxy(Backend(self, lambda sock: DOWN.send(sock, size)).address)
        sock = self.connect(address, receive_buffer=256 * KIB)
        read = 0
        for _ in range(6):
            self.wait_stalled(proxy, read + 256 * KIB)
            DOWN.receive(sock, 3 * MIB + 1, read)
            read += 3 * MIB + 1
        DOWN.receive(sock, size - read, read)
        self.end(sock)
        self.assertGreater(self.spliced(proxy), size // 4)

    def test_bulk_messages_bulk(self):
        """Spliced while it is bulk, copied while it is not, on one connection."""
        def serve(sock):
            while head := sock.recv(SIZE.size, socket.MSG_WAITALL):
                DOWN.send(sock, SIZE.unpack(head)[0])

        def ask(size):
            sock.sendall(SIZE.pack(size))
            DOWN.receive(sock, size)

        proxy, address = self.bulk_proxy(Backend(self, serve).address)
        sock = self.connect(address)
        for _ in range(3):
            before = self.spliced(proxy)
            ask(32 * MIB)
            self.assertGreater(self.spliced(proxy), before + 4 * MIB)
            for _ in range(20):
                ask(100)
            before = self.spliced(proxy)
            for size in (1, 100, 1000, 10000) * 25:
                ask(size)
            self.assertEqual(self.spliced(proxy), before)
        self.end(sock)

    def test_small_segments(self):
        """Segments of 536 bytes: each takes a whole slot of a pipe."""
        size = 8 * MIB
        go = threading.Event()

        def read_late(sock):
            go.wait(60 * aegis.SLOW)
            UP.receive(sock, size)

        proxy, address = self.bulk_proxy(Backend(self, read_late).address)
        family, name = aegis.parse(address)
        with socket.socket(family) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(60 * aegis.SLOW)
            sock.connect(name)
            sender = Task(UP.send, sock, size, 0, 536)
            self.wait_stalled(proxy, 256 * KIB)
            go.set()
            sender.result()
            self.end(sock)
        self.assertEqual(proxy.listener()["received"], size)

    # - ends

    def test_half_close_behind_a_full_pipe(self):
        """The client ends its stream while the server takes nothing: all of it arrives, then the end, and the answer comes back."""
        paused, go = threading.Event(), threading.Event()

        def read_late_and_answer(sock):
            count = self.receive_until_spliced(sock, proxy, UP, size // 2)
            paused.set()
            go.wait(60 * aegis.SLOW)
            count += UP.receive_all(sock, count)
            DOWN.send(sock, 10 * MIB)
            return count

        size = 64 * MIB
        backend = Backend(self, read_late_and_answer)
        proxy, address = self.bulk_proxy(backend.address)
        sock = self.connect(address)

        def send_and_end():
            UP.send(sock, size)
            sock.shutdown(socket.SHUT_WR)

        sender = Task(send_and_end)
        self.assertTrue(paused.wait(60 * aegis.SLOW), "the server got less than half")
        self.wait_stalled(proxy)
        self.assertGreater(self.spliced(proxy), 0)
        go.set()
        sender.result()
        self.assertEqual(DOWN.receive_all(sock), 10 * MIB)
        self.assertEqual(backend.result(), size)
        proxy.wait_closes("finished")

    def test_reset_by_the_server_behind_a_full_pipe(self):
        """What Aegis had received before the RST is delivered before it."""
        stalled = threading.Event()

        def send_and_reset(sock):
            sock.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                offset = 0
                while not stalled.is_set():
                    with contextlib.suppress(TimeoutError):
                        offset += sock.send(DOWN.at(offset, 256 * KIB))
            reset(sock)

        proxy, address = self.bulk_proxy(Backend(self, send_and_reset).address)
        sock = self.connect(address, receive_buffer=64 * KIB)
        received = self.receive_until_spliced(sock, proxy, DOWN)
        self.wait_stalled(proxy)
        stalled.set()
        try:
            while data := sock.recv(256 * KIB):
                DOWN.check(received, data)
                received += len(data)
        except ConnectionResetError:
            pass
        else:
            self.fail("the stream ended as if it were whole")
        proxy.wait_closes("server_reset")
        self.assertEqual(received, proxy.listener()["sent"])

    def test_reset_by_the_side_that_is_owed(self):
        """The client goes with bytes for it in a pipe: the server is told at once, and the pipe is not used again as it is."""
        how = []

        def send_until_it_fails(sock):
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                DOWN.send(sock, 1024 * MIB)
            how.append("reset")

        def whole(sock):
            DOWN.send(sock, 32 * MIB)

        handlers = iter([send_until_it_fails, whole])
        backend = Backend(self, lambda sock: next(handlers)(sock))
        proxy, address = self.bulk_proxy(backend.address, "1M")
        sock = self.connect(address, receive_buffer=64 * KIB)
        self.receive_until_spliced(sock, proxy, DOWN)
        self.wait_stalled(proxy)
        reset(sock)
        backend.result()
        self.assertEqual(how, ["reset"])
        proxy.wait_closes("client_reset")
        with dial(address) as sock:
            self.assertEqual(DOWN.receive_all(sock), 32 * MIB)

    # - many, and few pipes

    def test_200_at_a_time_with_four_pipes(self):
        """All of them become bulk, then stand still with bytes in Aegis, four with a pipe; then all are read to the end."""
        size, count = 4 * MIB, 200
        backend = Backend(self, lambda sock: DOWN.send(sock, size))
        proxy, address = self.bulk_proxy(backend.address, "1M", listener={"tcp": {"send_buffer": "64k"}})
        worker = proxy.workers()[0]["pid"]
        at_rest = descriptors(worker)
        received = {self.connect(address, receive_buffer=64 * KIB): 0 for _ in range(count)}
        for sock in received:
            sock.setblocking(False)
        self.read_each(received, 2 * MIB)
        self.wait_stalled(proxy)
        self.assertLessEqual(descriptors(worker), at_rest + 2 * count + 8)
        self.read_each(received, size + 1)
        self.assertEqual(set(received.values()), {size})
        for sock in received:
            sock.close()
        proxy.wait_closes("finished", count)
        self.assertGreater(self.spliced(proxy), 0)
        self.assertGreater(self.counter(proxy, "pipe_exhausted"), 0)
        wait_until(lambda: descriptors(worker) <= at_rest + 8, lambda: f"descriptors to be closed: {at_rest}, now {descriptors(worker)}")

    def read_each(self, received, least):
        """In no order, until each has so much or is at its end."""
        with selectors.DefaultSelector() as selector:
            for sock in received:
                selector.register(sock, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(20 * aegis.SLOW)
                self.assertTrue(ready, f"{sum(received.values())} bytes came, then nothing")
                for key, _ in ready:
                    data = key.fileobj.recv(256 * KIB)
                    DOWN.check(received[key.fileobj], data)
                    received[key.fileobj] += len(data)
                    if not data or received[key.fileobj] >= least:
                        selector.unregister(key.fileobj)

    def test_descriptors_stay_flat(self):
        """Transfers that end well, transfers that break: after each lot the worker has no more than its pipes."""
        proxy, address = self.bulk_proxy(Backend(self, self.send_some).address, "1M")
        worker = proxy.workers()[0]["pid"]
        at_rest = descriptors(worker)
        for lot in range(1, 4):
            for number in range(10):
                with dial(address, receive_buffer=128 * KIB) as sock:
                    if number % 2:
                        DOWN.receive(sock, 2 * MIB)
                        reset(sock)
                    else:
                        DOWN.receive_all(sock)
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0 and stat["connections"]["total"] == 10 * lot, "all to be over")
            self.assertLessEqual(descriptors(worker), at_rest + 8)
        self.assertGreater(self.spliced(proxy), 0)

    @staticmethod
    def send_some(sock):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            DOWN.send(sock, 8 * MIB)

    def test_few_descriptors(self):
        """Of 64 descriptors two pipes take four; connections have the rest."""
        def few():
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

        backend = Backend(self, lambda sock: DOWN.send(sock, 32 * MIB))
        proxy = self.start(app(backend.address, engine=self.engine, workers=1), preexec_fn=few)
        worker = proxy.workers()[0]["pid"]
        with dial(proxy.address()) as sock:
            self.assertEqual(DOWN.receive_all(sock), 32 * MIB)
        self.assertGreater(self.spliced(proxy), 0)
        self.assertLessEqual(descriptors(worker), 64)

    def test_pipe_memory_used_up_by_others(self):
        """Another process of the same user has all the pipes that the kernel lets the user have: bulk is copied. Later it is spliced."""
        limit = int(aegis.pathlib.Path("/proc/sys/fs/pipe-user-pages-soft").read_text())
        most = int(aegis.pathlib.Path("/proc/sys/fs/pipe-max-size").read_text()) // resource.getpagesize()
        if not 0 < limit <= 65536 or limit // most > 400:
            self.skipTest(f"fs.pipe-user-pages-soft is {limit}")
        users = {entry.pw_name for entry in pwd.getpwall()}
        user = next(name for name in ("games", "daemon", "nobody") if name in users)  # one that no other test runs workers as
        hog = subprocess.Popen([sys.executable, "-c", HOG, str(limit // most + 2), user], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(hog.stdout.close)

        def end_hog():
            hog.stdin.close()
            hog.wait(20 * aegis.SLOW)

        self.addCleanup(end_hog)
        if hog.stdout.readline() != b"full\n":
            self.skipTest("this user may have any number of pipes")
        size = 32 * MIB
        backend = Backend(self, lambda sock: DOWN.send(sock, size))
        settings = {"user": user} if aegis.ROOT else {}
        proxy, address = self.bulk_proxy(backend.address, **settings)

        def transfer():
            with dial(address) as sock:
                self.assertEqual(DOWN.receive_all(sock), size)

        transfer()
        self.assertEqual(self.spliced(proxy), 0)
        self.assertGreater(self.counter(proxy, "pipe_exhausted"), 0)
        end_hog()

        def is_spliced():
            transfer()
            return self.spliced(proxy) > 0
        wait_until(is_spliced, "pipes to be opened again", 30)

    # - together with the rest

    def test_reload_while_it_flows(self):
        size = 256 * MIB

        def both(sock):
            sender = Task(DOWN.send, sock, size)
            UP.receive(sock, size)
            sender.result()

        proxy, address = self.bulk_proxy(Backend(self, both).address)
        sock = self.connect(address)
        sender, receiver = Task(UP.send, sock, size), Task(DOWN.receive, sock, size)
        proxy.wait_stat(lambda stat: stat["bytes"]["sent"] > 4 * MIB, "the stream to be on")
        for _ in range(3):
            proxy.must_reload()
        sender.result()
        receiver.result()
        self.end(sock)
        proxy.wait_stat(lambda stat: len(stat["workers"]) == 1, "the old workers to be gone")
        row = proxy.listener()
        self.assertEqual((row["received"], row["sent"]), (size, size))

    def test_others_have_their_turn(self):
        """While bulk flows on the same worker, a small exchange passes by; both get what they are due."""
        size = 256 * MIB
        bulk = Backend(self, lambda sock: DOWN.send(sock, size))
        small = Echo(self)
        settings = app(bulk.address, engine=self.engine, workers=1)
        settings["listeners"].append({"name": "small", "address": "127.0.0.1:0", "upstream": "small"})
        settings["upstreams"].append({"name": "small", "servers": [{"address": small.address}]})
        proxy = self.start(settings)
        streams = [Task(DOWN.receive, self.connect(proxy.address()), size) for _ in range(2)]
        sock = self.connect(proxy.address("small"))
        exchanges = 0
        while any(stream.is_alive() for stream in streams):
            echo(sock, b"%08d" % exchanges)
            exchanges += 1
        for stream in streams:
            stream.result()
        self.assertGreater(exchanges, 20)


HOG = """
import fcntl, os, pwd, sys
if os.geteuid() == 0:
    user = pwd.getpwnam(sys.argv[2])
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
pipes, most = [], int(open("/proc/sys/fs/pipe-max-size").read())
for _ in range(int(sys.argv[1])):
    pipes.append(os.pipe())
    try:
        fcntl.fcntl(pipes[-1][0], 1031, most)  # F_SETPIPE_SZ
    except PermissionError:
        print("full", flush=True)
        break
else:
    print("no limit", flush=True)
sys.stdin.read()
"""



class IoUring(Epoll):
    """Relays that come over from the other engine when they turn out to be bulk."""
    engine = "io_uring"


if __name__ == "__main__":
    aegis.main()
