"""Every kind of listener and of server address, and the protocols' manners that go with them."""
import os
import socket
import sys
import unittest

import aegis
from aegis import MIB, Backend, Case, Demo, Echo, Pattern, Task, dial, echo, how_it_ends, receive, receive_line

UP, DOWN = Pattern(1), Pattern(2)


class Kinds(Case):
    def relays(self, address, count=3):
        for number in range(count):
            with dial(address) as sock:
                echo(sock, UP.at(number, 100_000).tobytes())

    def test_server_speaks_first(self):
        """As with SSH or MySQL: the banner comes before the client has sent a byte."""
        proxy, address = self.proxy(Demo(self, "banner")["banner"])
        for _ in range(50):
            with dial(address) as sock:
                self.assertTrue(receive_line(sock).strip())
                echo(sock, b"a line\n")
        proxy.wait_closes("finished", 50)

    def test_ipv6(self):
        try:
            server = Echo(self, address="[::1]:0")
        except OSError as error:
            raise unittest.SkipTest(f"no IPv6 loopback: {error}") from None
        proxy, address = self.proxy(server.address, listener={"address": "[::1]:0"})
        self.assertTrue(address.startswith("[::1]:"), address)
        self.relays(address)
        proxy.stop()
        both, address = self.proxy(server.address, listener={"address": ":0"})
        port = address.rpartition(":")[2]
        self.relays(f"[::1]:{port}")
        self.relays(f"127.0.0.1:{port}")

    def test_unix_listener_and_server(self):
        server = Echo(self, address=f"unix:{self.directory}/server.sock")
        path = f"unix:{self.directory}/listener.sock"
        proxy, address = self.proxy(server.address, listener={"address": path})
        self.assertEqual(address, path)
        self.relays(address)
        sock = self.connect(address)
        sender = Task(UP.send, sock, 20 * MIB)
        UP.receive(sock, 20 * MIB)
        sender.result()
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(how_it_ends(sock), ("eof", b""))
        self.assertEqual(proxy.stat()["bytes"], {"received": 20 * MIB + 300_000, "sent": 20 * MIB + 300_000})
        proxy.stop()
        self.assertFalse(os.path.exists(path[5:]), "the socket file stays behind")

    def test_unix_half_close_both_orders(self):
        def serve(sock):
            if receive(sock, 1) == b"c":
                count = UP.receive_all(sock)
                DOWN.send(sock, 10 * MIB)
                return count
            DOWN.send(sock, MIB)
            sock.shutdown(socket.SHUT_WR)
            return UP.receive_all(sock)

        backend = Backend(self, serve, address=f"unix:{self.directory}/server.sock")
        _, address = self.proxy(backend.address, listener={"address": f"unix:{self.directory}/listener.sock"})
        sock = self.connect(address)
        sock.sendall(b"c")
        UP.send(sock, MIB)
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(DOWN.receive_all(sock), 10 * MIB)
        self.assertEqual(backend.result(), MIB)
        sock = self.connect(address)
        sock.sendall(b"s")
        self.assertEqual(DOWN.receive_all(sock), MIB)
        UP.send(sock, 10 * MIB)
        sock.close()
        self.assertEqual(backend.result(), 10 * MIB)

    def test_unix_abstract(self):
        name = f"unix:@aegis-test-{os.getpid()}"
        proxy, address = self.proxy(Echo(self, address=name + "-server").address, listener={"address": name})
        self.assertEqual(address, name)
        self.relays(address)
        proxy.wait_closes("finished", 3)

    def test_server_by_host_name(self):
        server = Echo(self)
        proxy, address = self.proxy("localhost:" + server.address.rpartition(":")[2])
        self.relays(address)
        self.assertEqual(server.accepted, 3)
        proxy.wait_closes("finished", 3)

    def test_inherited_listener(self):
        """fd:N, a socket that whoever starts Aegis has opened."""
        server = Echo(self)
        with aegis.bind() as listening:
            address = aegis.form(listening)
            proxy = self.aegis(aegis.app(server.address, {"address": f"fd:{listening.fileno()}"}), pass_fds=[listening.fileno()])
            self.relays(address)
            proxy.must_reload()
            self.relays(address)
            proxy.wait_closes("finished", 6)
            proxy.stop()

    def test_systemd_activation(self):
        """A socket as systemd passes it: descriptor 3, $LISTEN_PID, $LISTEN_FDS, $LISTEN_FDNAMES."""
        server = Echo(self)
        exec_as_systemd = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
                           "os.execv(sys.argv[2], sys.argv[2:])")
        with aegis.bind() as listening:
            number = listening.fileno()
            settings = aegis.app(server.address, {"address": "systemd:web"})
            proxy = self.aegis(settings, wrapper=[sys.executable, "-c", exec_as_systemd, number], pass_fds=[number],
                               environment={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"})
            address = aegis.form(listening)
            self.relays(address)
            proxy.must_reload()
            self.relays(address)
            proxy.wait_closes("finished", 6)
            self.assertEqual(proxy.address(), address)
            proxy.stop()


if __name__ == "__main__":
    aegis.main()
