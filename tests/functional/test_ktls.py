"""The kernel encrypts bulk (kTLS), with every version and cipher; key updates, ends, slow readers; and where it does not, nothing changes.

No real kernel is seen here: kernel_tls.c stands in for it, and makes real records of what Aegis sends with the keys that Aegis gives it.
"""
import errno
import itertools
import re
import socket
import ssl
import struct
import subprocess

import aegis
import secure
from aegis import KIB, MIB, Backend, Case, Pattern, Task, dial, how_it_ends, receive
from papers import need_tls
from secure import Recorder, TlsSocket, client_context, listener_tls, server_context, upstream_tls

need_tls()
UP, DOWN = Pattern(3), Pattern(7)
BULK = 4 * MIB
CIPHERS = {"1.2": ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"),
           "1.3": ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")}


def offer(version, cipher):
    """The settings that leave this one alone."""
    return {"min_version": version, "ciphers" if version == "1.2" else "ciphersuites": cipher}


def download(sock):
    """The other end sends, and this one says that it is satisfied."""
    count = DOWN.receive_all(sock)
    sock.close()
    return count


class Kernel(Case):
    deadline = 120.0

    def front(self, handler, kernel="yes", tls=None, own_tls=None, listener=None, upstream=None):
        """Aegis on such a kernel: (backend, Aegis, address)."""
        backend = Backend(self, handler)
        front = {"tls": listener_tls(tickets=False, **(own_tls or {})), **(listener or {})}
        proxy = self.aegis(aegis.app(backend.address, workers=1, tls=tls or {}, listener=front, upstream=upstream), environment=secure.kernel(kernel))
        return backend, proxy, proxy.address()

    def begin(self, address, context=None, **options):
        sock = TlsSocket(dial(address, **options), context or client_context())
        self.addCleanup(sock.close)
        return sock

    def taken_over(self, proxy):
        """Connections of clients and with servers that the kernel took over."""
        metrics = aegis.run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        return tuple(sum(int(count) for count in re.findall(rf"^{name}\{{.*\}} (\d+)$", metrics, re.M))
                     for name in ("aegis_tls_by_kernel_total", "aegis_server_tls_by_kernel_total"))

    def nothing_lost(self, proxy):
        self.assertNotIn("bytes lost", proxy.log())


class Bulk(Kernel):
    def test_every_cipher(self):
        """Down, then up, with TLS on both sides: each end is a close_notify."""
        for version, ciphers in CIPHERS.items():
            for cipher in ciphers:
                with self.subTest(cipher):
                    accept = server_context(version)

                    def serve(sock):
                        secured = TlsSocket(sock, accept, server_side=True)
                        DOWN.send(secured, BULK)
                        secured.shutdown(socket.SHUT_WR)
                        return UP.receive_all(secured)

                    backend, proxy, address = self.front(serve, own_tls=offer(version, cipher),
                                                         upstream={"tls": upstream_tls(**offer(version, cipher))})
                    sock = self.begin(address, client_context(version))
                    self.assertEqual(sock.ssl.cipher()[0], cipher)
                    self.assertEqual(DOWN.receive_all(sock), BULK)
                    UP.send(sock, BULK)
                    sock.shutdown(socket.SHUT_WR)
                    self.assertEqual(backend.result(), BULK)
                    proxy.wait_closes("finished")
                    self.assertEqual(self.taken_over(proxy), (1, 1))
                    self.nothing_lost(proxy)
                    proxy.stop()

    def test_both_ways_at_once(self):
        def serve(sock):
            sending = Task(DOWN.send, sock, BULK)
            count = UP.receive(sock, BULK)
            sending.result()
            return count

        backend, proxy, address = self.front(serve)
        sock = self.begin(address)
        sending = Task(UP.send, sock, BULK)
        DOWN.receive(sock, BULK)
        sending.result()
        backend.result()
        self.assertEqual(DOWN.receive_all(sock), 0)
        sock.close()
        proxy.wait_closes("finished")
        self.assertEqual(self.taken_over(proxy), (1, 0))

    def test_little_is_not_for_the_kernel(self):
        """Nor is much in small pieces with pauses between them; the kernel is asked only for bulk."""
        backend, proxy, address = self.front(lambda sock: DOWN.send(sock, 200 * KIB))
        sock = self.begin(address)
        self.assertEqual(download(sock), 200 * KIB)
        proxy.wait_closes("finished")
        self.assertEqual(self.taken_over(proxy), (0, 0))

    def test_after_many_short_ones(self):
        """The secrets of TLS 1.3 are asked for where there was bulk lately: the first of it stays with OpenSSL, and the next is the kernel's."""
        def serve(sock):
            count = struct.unpack("!I", receive(sock, 4))[0]
            DOWN.send(sock, count)

        backend, proxy, address = self.front(serve)
        for number, (count, expected) in enumerate([(KIB, 0)] * 16 + [(BULK, 0), (BULK, 1), (KIB, 1), (BULK, 2)]):
            sock = self.begin(address, client_context("1.3"))
            sock.sendall(struct.pack("!I", count))
            self.assertEqual(download(sock), count)
            proxy.wait_closes("finished", number + 1)
            self.assertEqual(self.taken_over(proxy), (expected, 0), number)

    def test_from_the_first_byte(self):
        """Also what the server says before anything else, with small records first."""
        for version in ("1.2", "1.3"):
            with self.subTest(version):
                backend, proxy, address = self.front(lambda sock: DOWN.send(sock, 256 * KIB), tls={"ktls_from": "0"})
                sock = Recorder(dial(address), client_context(version))
                self.assertEqual(DOWN.receive_all(sock), 256 * KIB)
                sizes = sock.record_sizes(0x17)
                self.assertLess(max(sizes[1:8]), 1460)
                self.assertGreater(max(sizes), 15 * KIB)
                sock.close()
                proxy.wait_closes("finished")
                self.assertEqual(self.taken_over(proxy), (1, 0))
                proxy.stop()

    def test_curl(self):
        """A peer that is not of our making, with either version."""
        aegis.need("curl")
        body = b"".join(DOWN.at(at, 64 * KIB) for at in range(0, BULK, 64 * KIB))

        def serve(sock):
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)

        for option in (("--tls-max", "1.2"), ("--tlsv1.3",)):
            with self.subTest(option):
                backend, proxy, address = self.front(serve)
                target = self.directory / "body"
                done = aegis.run("curl", "-sS", *option, "--cacert", secure.papers().ca, "--resolve", f"localhost:{address.rsplit(':')[-1]}:127.0.0.1",
                                 "-o", target, f"https://localhost:{address.rsplit(':')[-1]}/")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(target.read_bytes(), body)
                proxy.wait_closes("finished")
                self.assertEqual(self.taken_over(proxy), (1, 0))
                proxy.stop()


class Ends(Kernel):
    def test_slow_reader(self):
        """It reads nothing for long, so that the kernel keeps a record that TCP has no room for: all of it comes, and the end."""
        for version in ("1.2", "1.3"):
            for kind in ("yes", "yes,tail"):
                with self.subTest(kind, version=version):
                    backend, proxy, address = self.front(lambda sock: DOWN.send(sock, 8 * MIB), kernel=kind,
                                                         listener={"tcp": {"send_buffer": "32k"}})
                    sock = self.begin(address, client_context(version), receive_buffer=8 * KIB)
                    DOWN.receive(sock, 512 * KIB)
                    aegis.wait_until(lambda: self.taken_over(proxy) == (1, 0), "the kernel has it")
                    self.assertEqual(DOWN.receive_all(sock, 512 * KIB), 8 * MIB - 512 * KIB)
                    backend.result()
                    sock.close()
                    proxy.wait_closes("finished")
                    self.nothing_lost(proxy)
                    proxy.stop()

    def test_the_end_waits_for_the_kernel(self):
        """The server ends at once after the bulk: neither the FIN nor the close overtakes what the kernel keeps."""
        for version in ("1.2", "1.3"):
            with self.subTest(version):
                backend, proxy, address = self.front(lambda sock: DOWN.send(sock, BULK), kernel="yes,tail")
                for _ in range(5):
                    sock = self.begin(address, client_context(version))
                    sock.shutdown(socket.SHUT_WR)
                    self.assertEqual(download(sock), BULK)
                proxy.wait_closes("finished", 5)
                self.assertEqual(self.taken_over(proxy), (5, 0))
                self.nothing_lost(proxy)
                proxy.stop()

    def test_half_closes(self):
        """The client goes on after the end of what the server sends, and the other way round."""
        def serve(sock):
            DOWN.send(sock, BULK)
            sock.shutdown(socket.SHUT_WR)
            return UP.receive_all(sock)

        backend, proxy, address = self.front(serve, kernel="yes,tail")
        sock = self.begin(address)
        self.assertEqual(DOWN.receive_all(sock), BULK)
        UP.send(sock, BULK)
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(backend.result(), BULK)
        proxy.wait_closes("finished")
        self.nothing_lost(proxy)

    def test_cut_off_by_the_server(self):
        """What the server sent before its reset is delivered, and there is no close_notify."""
        def serve(sock):
            DOWN.send(sock, BULK)
            aegis.wait_until(lambda: aegis.unsent(sock) == 0, "all is with Aegis")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

        backend, proxy, address = self.front(serve, kernel="yes,tail")
        sock = self.begin(address)
        sock.cut_off_is_fine = True
        DOWN.receive(sock, BULK)
        self.assertEqual(how_it_ends(sock), ("reset", b""))
        proxy.wait_closes("server_reset")
        self.nothing_lost(proxy)

    def test_garbage_from_the_client(self):
        """The alert for it is a record of the kernel's."""
        backend, proxy, address = self.front(lambda sock: DOWN.send(sock, BULK) or how_it_ends(sock))
        sock = self.begin(address)
        DOWN.receive(sock, BULK)
        sock.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(range(32)))
        with self.assertRaises(ssl.SSLError) as caught:
            sock.recv(1)
        self.assertRegex(str(caught.exception), "BAD_RECORD_MAC|DECRYPT")
        self.assertEqual(backend.result(), ("reset", b""))
        proxy.wait_closes("client_tls_error")
        self.assertEqual(self.taken_over(proxy), (1, 0))

    def test_idle_timeout(self):
        """It ends in good order: the client hears close_notify."""
        backend, proxy, address = self.front(lambda sock: DOWN.send(sock, BULK) or how_it_ends(sock), listener={"timeout": {"idle": "2s"}})
        sock = self.begin(address)
        DOWN.receive(sock, BULK)
        self.assertEqual(DOWN.receive_all(sock, BULK), 0)
        proxy.wait_closes("idle_timeout")


class KeyUpdates(Kernel):
    """openssl s_client: K asks Aegis for new keys, k only has its own."""

    def client(self, address):
        aegis.need("openssl")
        peer = subprocess.Popen(["openssl", "s_client", "-connect", address, "-CAfile", str(secure.papers().ca), "-tls1_3", "-servername", "localhost"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(peer.stdout.close)
        self.addCleanup(peer.wait)
        self.addCleanup(peer.kill)
        return peer

    def until(self, peer, text):
        said = []
        for line in peer.stdout:
            said.append(line)
            if text in line:
                return
        self.fail(f"{text} did not come: {b''.join(said)[-2000:]}")

    def test_in_the_middle_of_bulk(self):
        """New keys again and again, before and after the kernel has them."""
        def serve(sock):
            for line in iter(lambda: aegis.receive_line(sock), "end\n"):
                sock.sendall(b"." * 70 * KIB + b"\n" + line.upper().encode())

        for kind in ("yes", "yes,tail"):
            with self.subTest(kind):
                backend, proxy, address = self.front(serve, kernel=kind, tls={"ktls_from": "200k"})
                peer = self.client(address)
                self.until(peer, b"Verify return code")
                for number, command in enumerate("KkKKkKkKKK"):
                    peer.stdin.write(f"{command}\n".encode())
                    peer.stdin.flush()
                    self.until(peer, b"KEYUPDATE")
                    peer.stdin.write(f"line {number}\n".encode())
                    peer.stdin.flush()
                    self.until(peer, f"LINE {number}".encode())
                peer.stdin.write(b"end\n")
                peer.stdin.flush()
                self.until(peer, b"closed")
                backend.result()
                proxy.wait_closes("finished")
                self.assertEqual(self.taken_over(proxy), (1, 0))
                self.nothing_lost(proxy)
                proxy.stop()

    def test_it_does_not_take_them(self):
        """It did when it was tried: the peer has been told of new keys, so that the connection ends, and at once."""
        def serve(sock):
            try:
                while True:
                    line = aegis.receive_line(sock)
                    sock.sendall(b"." * 70 * KIB + b"\n" + line.upper().encode())
            except ConnectionResetError:
                return "reset"

        backend, proxy, address = self.front(serve, kernel=f"yes,new_keys={errno.ENOMEM}", tls={"ktls_from": "64k"})
        peer = self.client(address)
        self.until(peer, b"Verify return code")
        for words, answer in itertools.cycle(((b"line\n", b"LINE"), (b"K\n", b"KEYUPDATE"))):
            try:
                peer.stdin.write(words)
                peer.stdin.flush()
            except BrokenPipeError:
                break
            if not any(answer in line for line in peer.stdout):
                break  # it has ended
        self.assertEqual(backend.result(20), "reset")
        proxy.wait_closes("client_tls_error")
        self.assertEqual(self.taken_over(proxy), (1, 0))

    def test_a_kernel_without_them(self):
        """It would end a connection of TLS 1.3 when a peer asks for new keys: such a one it does not get, but those of TLS 1.2."""
        for version, expected in (("1.2", (1, 0)), ("1.3", (0, 0))):
            with self.subTest(version):
                backend, proxy, address = self.front(lambda sock: DOWN.send(sock, BULK), kernel="yes,old")
                self.assertEqual(download(self.begin(address, client_context(version))), BULK)
                proxy.wait_closes("finished")
                self.assertEqual(self.taken_over(proxy), expected)
                proxy.stop()


class Without(Kernel):
    """Where the kernel does not take it nothing changes, and nobody is told."""

    def one_download(self, expected, context=None, **options):
        backend, proxy, address = self.front(lambda sock: DOWN.send(sock, BULK), **options)
        self.assertEqual(download(self.begin(address, context)), BULK)
        proxy.wait_closes("finished")
        self.assertEqual(self.taken_over(proxy), expected)
        self.assertNotRegex(proxy.log(), "(?i)ktls|warning|error")
        proxy.stop()

    def test_it_refuses(self):
        for call in ("ulp", "keys"):
            for error in (errno.EBUSY, errno.ENOPROTOOPT, errno.ENOENT, errno.EINVAL, errno.ENOTCONN, errno.ENOMEM):
                with self.subTest(call, error=errno.errorcode[error]):
                    self.one_download((0, 0), kernel=f"yes,{call}={error}")

    def test_versions(self):
        self.one_download((1, 0), client_context("1.2"), kernel="yes,only12")
        self.one_download((0, 0), client_context("1.3"), kernel="yes,only12")

    def test_cipher_that_no_kernel_is_given(self):
        """AES-CCM: OpenSSL goes on with it."""
        context = client_context("1.2")
        context.set_ciphers("ECDHE-ECDSA-AES128-CCM")
        self.one_download((0, 0), context, own_tls={"ciphers": "ECDHE-ECDSA-AES128-CCM"})

    def test_it_is_switched_off(self):
        self.one_download((0, 0), tls={"ktls": False})

    def test_what_the_program_says(self):
        for kind, says in (("yes", "yes: TLS 1.2 and 1.3"), ("yes,old", "yes: TLS 1.2 alone"), ("yes,only12", "yes: TLS 1.2 alone"),
                           ("off", "no: |yes: ")):
            with self.subTest(kind):
                self.assertRegex(aegis.run(aegis.AEGIS, "-V", environment=secure.kernel(kind)).stdout, rf"(?m)^kTLS +({says})")


if __name__ == "__main__":
    aegis.main()
