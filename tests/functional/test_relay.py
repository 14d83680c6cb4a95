"""Bytes are sacred: what goes in comes out, in order and complete, both ways, however and in whatever order the two sides end."""
import contextlib
import random
import socket
import struct
import threading

import aegis
import secure
from aegis import KIB, MIB, Backend, Case, Echo, Pattern, Task, dial, echo, how_it_ends, receive, reset, unsent, wait_until

UP, DOWN = Pattern(1), Pattern(2)
SIZES = struct.Struct("!QQ")


def transfer(sock):
    """A backend: reads how much comes and how much is wanted, then does both, one after the other."""
    while True:
        head = sock.recv(1)
        if not head:
            return
        up, down = SIZES.unpack(head + receive(sock, SIZES.size - 1))
        UP.receive(sock, up)
        DOWN.send(sock, down)


def ask(sock, up, down):
    sock.sendall(SIZES.pack(up, down))
    UP.send(sock, up)
    DOWN.receive(sock, down)


class Bytes(Case):
    def test_sizes(self):
        """Requests and answers from 1 byte to 10 MB, each pair on a connection of its own, then all of them on one."""
        proxy, address = self.proxy(Backend(self, transfer).address)
        sizes = [1, 2, 1459, 1460, 4095, 4096, 4097, 16384, 65535, 65536, 65537, 262143, 262144, 262145, MIB + 1, 10 * MIB]
        pairs = [(size, 1) for size in sizes] + [(1, size) for size in sizes] + [(size, size) for size in sizes[:-1]]
        for up, down in pairs:
            with self.subTest(up=up, down=down), dial(address) as sock:
                ask(sock, up, down)
        with dial(address) as sock:
            for up, down in pairs:
                ask(sock, up, down)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        proxy.wait_closes("finished", len(pairs) + 1)
        row = proxy.listener()
        self.assertEqual(row["received"], 2 * sum(up + SIZES.size for up, _ in pairs))
        self.assertEqual(row["sent"], 2 * sum(down for _, down in pairs))

    def test_100_mb_both_ways_at_once(self):
        size = 100 * MIB

        def both(sock):
            sender = Task(DOWN.send, sock, size)
            UP.receive(sock, size)
            sender.result()

        backend = Backend(self, both)
        proxy, address = self.proxy(backend.address)
        sock = self.connect(address)
        sender = Task(UP.send, sock, size)
        DOWN.receive(sock, size)
        sender.result()
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(how_it_ends(sock), ("eof", b""))
        backend.result()
        row = proxy.listener()
        self.assertEqual((row["received"], row["sent"]), (size, size))

    def test_one_byte_at_a_time(self):
        """Each byte alone, both ways: in lock step first, then as fast as it goes."""
        def single_bytes(sock):
            for byte in iter(lambda: sock.recv(1), b""):
                sock.sendall(byte)

        proxy, address = self.proxy(Backend(self, single_bytes).address)
        sock = self.connect(address)
        for i in range(500):
            echo(sock, bytes([i & 255]))

        def send():
            for i in range(5000):
                sock.sendall(UP.at(i, 1))

        sender = Task(send)
        UP.receive(sock, 5000, piece=1)
        sender.result()
        sock.close()
        proxy.wait_closes("finished")
        self.assertEqual(proxy.listener()["received"], 5500)
        self.assertEqual(proxy.listener()["sent"], 5500)

    def test_pipelined_exchanges(self):
        """Thousands of requests on one connection, sent without waiting for the answers."""
        proxy, address = self.proxy(Backend(self, transfer).address)
        chance = random.Random(3)
        asked = [(chance.choice((0, 1, 7, 500, 5000)), chance.choice((1, 30, 1500, 9000))) for _ in range(4000)]
        sock = self.connect(address)

        def send():
            for up, down in asked:
                sock.sendall(SIZES.pack(up, down) + UP.at(0, up))

        sender = Task(send)
        for _, down in asked:
            DOWN.receive(sock, down)
        sender.result()
        sock.close()
        proxy.wait_closes("finished")
        self.assertEqual(proxy.listener()["sent"], sum(down for _, down in asked))

    def test_counters_move_while_the_connection_lives(self):
        proxy, address = self.proxy(Echo(self).address)
        sock = self.connect(address)
        for round_ in (1, 2):
            sender = Task(UP.send, sock, 5 * MIB)
            UP.receive(sock, 5 * MIB)
            sender.result()
            want = round_ * 5 * MIB
            stat = proxy.wait_stat(lambda stat: stat["bytes"]["sent"] == want, f"{want} bytes sent while the connection is open")
            server = stat["upstreams"][0]["servers"][0]
            self.assertEqual(stat["bytes"]["received"], want)
            self.assertEqual((server["sent"], server["received"], server["active"], server["total"]), (want, want, 1, 1))
            self.assertEqual((stat["connections"]["active"], stat["listeners"][0]["active"]), (1, 1))
            self.assertEqual(sum(worker["connections"] for worker in stat["workers"]), 1)
        latency = proxy.stat()["latency"]
        self.assertEqual((latency["connect"]["count"], latency["first_byte"]["count"], latency["connection"]["count"]), (1, 1, 0))
        sock.close()
        proxy.wait_closes("finished")
        proxy.wait_stat(lambda stat: stat["latency"]["connection"]["count"] == 1, "its duration to be recorded")


class Ends(Case):
    def test_half_close_client_first(self):
        """The client ends its stream; only then the server answers, with 10 MB."""
        def answer_at_the_end(sock):
            count = UP.receive_all(sock)
            DOWN.send(sock, 10 * MIB)
            return count

        backend = Backend(self, answer_at_the_end)
        proxy, address = self.proxy(backend.address)
        for size in (0, 1, MIB):
            sock = self.connect(address)
            UP.send(sock, size)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(DOWN.receive_all(sock), 10 * MIB)
            self.assertEqual(backend.result(), size)
            sock.close()
        proxy.wait_closes("finished", 3)

    def test_half_close_server_first(self):
        """The server ends its stream; only then the client sends 10 MB."""
        def end_and_listen(sock):
            DOWN.send(sock, MIB)
            sock.shutdown(socket.SHUT_WR)
            return UP.receive_all(sock)

        backend = Backend(self, end_and_listen)
        proxy, address = self.proxy(backend.address)
        for size in (0, 1, 10 * MIB):
            sock = self.connect(address)
            self.assertEqual(DOWN.receive_all(sock), MIB)
            UP.send(sock, size)
            sock.close()
            self.assertEqual(backend.result(), size)
        proxy.wait_closes("finished", 3)

    def test_half_close_while_the_other_way_flows(self):
        """The client ends its stream while the server is in the middle of 20 MB, and the other way round."""
        def whole(sock):
            sender = Task(DOWN.send, sock, 20 * MIB)
            count = UP.receive_all(sock)
            sender.result()
            return count

        def short(sock):
            DOWN.send(sock, 1000)
            sock.shutdown(socket.SHUT_WR)
            return UP.receive_all(sock)

        whole_backend, short_backend = Backend(self, whole), Backend(self, short)
        settings = aegis.app(whole_backend.address)
        settings["listeners"].append({"name": "short", "address": "127.0.0.1:0", "upstream": "short"})
        settings["upstreams"].append({"name": "short", "servers": [{"address": short_backend.address}]})
        proxy = self.aegis(settings)
        sock = self.connect(proxy.address())
        UP.send(sock, 1000)
        DOWN.receive(sock, MIB)
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(DOWN.receive_all(sock, offset=MIB), 19 * MIB)
        self.assertEqual(whole_backend.result(), 1000)
        sock.close()
        sock = self.connect(proxy.address("short"))
        sender = Task(UP.send, sock, 20 * MIB)
        self.assertEqual(DOWN.receive_all(sock), 1000)
        sender.result()
        sock.close()
        self.assertEqual(short_backend.result(), 20 * MIB)

    def test_both_ends_at_once(self):
        """Both sides send and end at the same moment, 200 times; each still gets all of the other's bytes."""
        barrier = threading.Barrier(2, timeout=30 * aegis.SLOW)

        def end(sock):
            receive(sock, 1)
            barrier.wait()
            DOWN.send(sock, 3000)
            sock.shutdown(socket.SHUT_WR)
            return UP.receive_all(sock)

        backend = Backend(self, end)
        proxy, address = self.proxy(backend.address)
        for _ in range(200):
            with dial(address) as sock:
                sock.sendall(b"x")
                barrier.wait()
                UP.send(sock, 3000)
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(DOWN.receive_all(sock), 3000)
            self.assertEqual(backend.result(), 3000)
        proxy.wait_closes("finished", 200)

    def test_nothing_lost_at_close(self):
        """1000 answers of 1 MB (with TLS 200), each followed by a close at once; then 200 uploads the same way."""
        answers = 200 if secure.MODE else 1000
        def upload_or_answer(sock):
            if receive(sock, 1) == b"d":
                DOWN.send(sock, MIB, piece=MIB // 2)
                return None
            return UP.receive_all(sock)

        backend = Backend(self, upload_or_answer)
        proxy, address = self.proxy(backend.address)

        def download(count):
            for _ in range(count):
                with dial(address) as sock:
                    sock.sendall(b"d")
                    got = DOWN.receive_all(sock)
                if got != MIB:
                    raise AssertionError(f"{got} bytes of {MIB}")

        for task in [Task(download, answers // 4) for _ in range(4)]:
            task.result(120)
        for _ in range(answers):
            self.assertIsNone(backend.result())
        for _ in range(200):
            with dial(address) as sock:
                sock.sendall(b"u")
                UP.send(sock, MIB, piece=MIB // 2)
            self.assertEqual(backend.result(), MIB)
        proxy.wait_closes("finished", answers + 200)
        self.assertEqual(proxy.listener()["sent"], answers * MIB)
        self.assertEqual(proxy.listener()["received"], 200 * (MIB + 1) + answers)


class Resets(Case):
    def test_client_reset_reaches_the_server(self):
        def serve(sock):
            receive(sock, 5)
            sock.sendall(b"world")
            return how_it_ends(sock)

        backend = Backend(self, serve)
        proxy, address = self.proxy(backend.address)
        for count in (1, 2, 3):
            sock = self.connect(address)
            sock.sendall(b"hello")
            self.assertEqual(receive(sock, 5), b"world")
            reset(sock)
            self.assertEqual(backend.result(), ("reset", b""))
            proxy.wait_closes("client_reset", count)
        self.assertEqual(proxy.listener()["errors"], 3)

    def test_server_reset_reaches_the_client(self):
        def serve(sock):
            receive(sock, 5)
            reset(sock)

        proxy, address = self.proxy(Backend(self, serve).address)
        for count in (1, 2, 3):
            sock = self.connect(address)
            sock.sendall(b"hello")
            self.assertEqual(how_it_ends(sock), ("reset", b""))
            sock.close()
            proxy.wait_closes("server_reset", count)

    def test_reset_after_a_half_close(self):
        """A RST counts as one also after the other side has ended its stream, both ways round."""
        def serve(sock):
            kind = receive(sock, 1)
            if kind == b"s":  # the client ends, the server resets
                self.assertEqual(how_it_ends(sock), ("eof", b""))
                reset(sock)
                return None
            sock.shutdown(socket.SHUT_WR)
            return how_it_ends(sock)

        backend = Backend(self, serve)
        proxy, address = self.proxy(backend.address)
        sock = self.connect(address)
        sock.sendall(b"s")
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(how_it_ends(sock), ("reset", b""))
        backend.result()
        proxy.wait_closes("server_reset")
        sock = self.connect(address)
        sock.sendall(b"c")
        self.assertEqual(receive_end(sock), b"")
        reset(sock)
        self.assertEqual(backend.result(), ("reset", b""))
        proxy.wait_closes("client_reset")

    def test_what_was_owed_arrives_before_the_reset(self):
        """The server's bytes have reached Aegis, then it resets: the client, slow or stopped, gets them all and then the RST."""
        for size, slow in ((1, False), (MIB, False), (5 * MIB, True)):
            with self.subTest(size=size, slow=slow):
                self.one_owed_to_the_client(size, slow)

    def one_owed_to_the_client(self, size, slow):
        resets = threading.Event()

        def serve(sock):
            receive(sock, 1)
            DOWN.send(sock, size)
            wait_until(lambda: unsent(sock) == 0, "Aegis to take all bytes", 30)
            reset(sock)
            resets.set()

        backend = Backend(self, serve)
        proxy, address = self.proxy(backend.address)
        sock = self.connect(address, receive_buffer=16 * KIB if slow else 0)
        sock.sendall(b"x")
        if not slow:
            self.assertTrue(resets.wait(30 * aegis.SLOW))
        DOWN.receive(sock, size, piece=2 * KIB if slow else 64 * KIB)
        self.assertEqual(how_it_ends(sock), ("reset", b""))
        backend.result()
        proxy.wait_closes("server_reset")
        proxy.stop()

    def test_what_was_owed_to_the_server_arrives_before_the_reset(self):
        """The same from the client: a server that reads slowly gets all that Aegis had, then the RST."""
        size = 2 * MIB

        def serve(sock):
            UP.receive(sock, size, piece=4 * KIB)
            return how_it_ends(sock)

        backend = Backend(self, serve, receive_buffer=16 * KIB)
        proxy, address = self.proxy(backend.address)
        sock = self.connect(address)
        UP.send(sock, size)
        wait_until(lambda: unsent(sock) == 0, "Aegis to take all bytes", 30)
        reset(sock)
        self.assertEqual(backend.result(), ("reset", b""))
        proxy.wait_closes("client_reset")

    def test_reset_noticed_while_sending(self):
        """The server fills every buffer towards a client that does not read, and resets. A byte of the client runs into the reset
        first: all that the server's kernel saw acknowledged still arrives before it."""
        done = threading.Event()

        def fill(sock):
            receive(sock, 1)
            sock.setblocking(False)
            seen, count = [], 0
            while not done.is_set():
                with contextlib.suppress(BlockingIOError):
                    count += sock.send(DOWN.at(count, 16 * KIB))
                    continue
                seen.append((count, unsent(sock)))
                if len(seen) >= 100 and seen[-1] == seen[-100]:
                    break  # it stands still
                done.wait(0.01)
            acknowledged = count - unsent(sock)
            reset(sock)
            return acknowledged

        self.addCleanup(done.set)
        backend = Backend(self, fill)
        proxy, address = self.proxy(backend.address)
        sock = self.connect(address, receive_buffer=8 * KIB)
        sock.sendall(b"x")
        acknowledged = backend.result()
        self.assertGreater(acknowledged, 128 * KIB)
        sock.sendall(b"y")
        proxy.wait_stat(lambda stat: stat["bytes"]["received"] == 2, "Aegis to pass the byte on")
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(64 * KIB):
                DOWN.check(got, part)
                got += len(part)
            self.fail("the stream ended without a reset")
        part_of_a_record = 16 * KIB if secure.SERVERS else 0
        self.assertGreaterEqual(got, acknowledged - part_of_a_record)
        proxy.wait_closes("server_reset")

    def test_reset_with_more_owed_than_fits(self):
        """The server fills every buffer and resets; the client never read and leaves: nothing is kept for it."""
        def fill(sock):
            receive(sock, 1)  # now Aegis knows that it is connected, and will not try again
            sock.setblocking(False)
            count = 0
            with contextlib.suppress(BlockingIOError):
                while count < 50 * MIB:
                    count += sock.send(DOWN.at(count, 64 * KIB))
            reset(sock)
            return count

        backend = Backend(self, fill)
        proxy, address = self.proxy(backend.address)
        for _ in range(10):
            sock = self.connect(address, receive_buffer=4 * KIB)
            sock.sendall(b"x")
            self.assertGreater(backend.result(), 64 * KIB)
            sock.close()
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "the places to be freed")


def receive_end(sock):
    how, data = how_it_ends(sock)
    if how != "eof":
        raise AssertionError(f"the stream ended with a {how}")
    return data


class Storms(Case):
    def test_connect_and_close_at_once(self):
        """1000 clients that leave before anything was said, half of them with a RST: each is counted, nothing is left over."""
        server = Echo(self)
        proxy, address = self.proxy(server.address)
        idle = self.connect(address)
        echo(idle, b"still here")
        for number in range(1000):
            sock = dial(address)
            if number % 2:
                reset(sock)
            else:
                sock.close()
        # A client whose RST comes before accept() is still accepted on Linux, so every one is counted.
        stat = proxy.wait_stat(lambda stat: stat["connections"]["total"] == 1001 and stat["connections"]["active"] == 1, "1000 come and gone")
        closes = stat["listeners"][0]["closes"]
        self.assertEqual(closes["finished"] + closes["client_reset"], 1000, closes)
        echo(idle, b"idle through it all")
        wait_until(lambda: server.open == 1, "the server to be rid of the others")

    def test_everything_ends_at_once(self):
        """Rounds of 60 connections with bytes under way, ended by both sides at the same moment in every way there is."""
        chance = random.Random(4)
        barrier = threading.Barrier(2, timeout=30 * aegis.SLOW)
        held, lock = [], threading.Lock()

        def serve(sock):
            sock.sendall(DOWN.at(0, 2000))
            mine = sock.dup()
            mine.settimeout(20)
            with lock:
                held.append(mine)

        def end(sock):
            way = chance.randrange(4)
            try:
                if way & 1:
                    sock.send(UP.at(0, 30_000))
                if way & 2:
                    reset(sock)
                else:
                    sock.close()
            except OSError:
                sock.close()

        proxy, address = self.proxy(Backend(self, serve).address)
        for _ in range(20):
            clients = [dial(address) for _ in range(60)]
            wait_until(lambda: len(held) == 60, "60 connections at the server")
            servers = held[:]
            held.clear()
            for sock in clients + servers:
                sock.setblocking(False)

            def end_servers(socks=servers):
                barrier.wait()
                for sock in socks:
                    end(sock)

            other = Task(end_servers)
            barrier.wait()
            for sock in clients:
                end(sock)
            other.result()
        proxy.check_gauges()
        self.assertEqual(proxy.listener()["total"], 1200)
        with dial(address) as sock:
            DOWN.receive(sock, 2000)
        wait_until(lambda: held, "the server")
        held.pop().close()

    def test_every_worker_takes_part(self):
        """Four workers share 400 connections: none is idle, and the counts of the four are the count of all."""
        proxy, address = self.proxy(Echo(self).address, workers=4)
        for _ in range(400):
            with dial(address) as sock:
                echo(sock)
        proxy.wait_closes("finished", 400)
        accepts = [worker["accepts"] for worker in proxy.workers()]
        self.assertEqual(sum(accepts), 400)
        self.assertGreater(min(accepts), 20, accepts)

    def test_idle_connections_survive(self):
        """200 connections that say nothing while 2000 others (with TLS fewer) come and go are all there afterwards."""
        others = 300 if secure.MODE else 2000
        proxy, address = self.proxy(Echo(self).address)
        idle = [self.connect(address) for _ in range(200)]
        for _ in range(others):
            with dial(address) as sock:
                echo(sock)
        proxy.wait_closes("finished", others)
        for number, sock in enumerate(idle):
            echo(sock, b"idle %d" % number)


if __name__ == "__main__":
    aegis.main()
