"""The PROXY protocol with TLS: a header in front of a handshake, on either side, and what it tells of a connection that was secured here."""
import contextlib
import socket
import ssl

import aegis
from aegis import *
from hellos import Authority, hello_of
from proxy_header import take_header, tlv, v1, v2
from test_proxy import ACCEPT, ASKED, CLIENT, ProxyCase

NAME = "www.example.org"


class TlsCase(ProxyCase):
    def setUp(self):
        super().setUp()
        self.authority = Authority(self.directory)

    def certificate(self):
        cert, key = self.authority.pair("front", NAME)
        return {"certificates": [{"cert": str(cert), "key": str(key)}], "alpn": "h2,http/1.1"}

    def secured(self, address, header=b"", alpn=("h2",), pair=None):
        """A socket that speaks TLS behind a header, which goes out with the hello in one piece."""
        context = ssl.create_default_context(cafile=self.authority.ca)
        context.set_alpn_protocols(list(alpn))
        if pair:
            context.load_cert_chain(*pair)
        sock = dial(address)
        self.addCleanup(sock.close)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
        first = header
        while True:
            try:
                secure.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(first + outgoing.read())
                first = b""
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        return sock, secure, incoming, outgoing

    def ask(self, address, data=b"hello", **more):
        sock, secure, incoming, outgoing = self.secured(address, **more)
        secure.write(data)
        sock.sendall(outgoing.read())
        got = b""
        while len(got) < len(data):
            try:
                got += secure.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(65536))
        self.assertEqual(got, data)
        with contextlib.suppress(ssl.SSLWantReadError):
            secure.unwrap()
        sock.sendall(outgoing.read())
        sock.close()


class Terminated(TlsCase):
    def test_behind_a_header(self):
        """Whoever it tells of is in the log, and the handshake finds its bytes."""
        proxy, address = self.proxy(Echo(self).address, listener={**ACCEPT, "tls": self.certificate()}, **self.access())
        for header in (v1(CLIENT, ASKED), v2(CLIENT, ASKED), v2(CLIENT, ASKED, tlv(4, b"x" * 1000))):
            self.ask(address, header=header)
        self.assertEqual({record["client"] for record in self.records(3)}, {CLIENT})
        self.refused(proxy, address, hello_of(NAME), "proxy_header")

    def test_what_is_told_of_it(self):
        proxy, address = self.proxy(self.told_server().address, listener={"tls": self.certificate()}, upstream={"send_proxy": "v2"})
        self.ask(address)
        header = self.seen[0]
        self.assertEqual((header.tlv(1), header.tlv(2)), (b"h2", NAME.encode()))
        about = header.tlv(0x20)
        self.assertEqual(about[0], 1, "over TLS, without a certificate")
        self.assertNotEqual(about[1:5], bytes(4), "nobody was verified")
        self.assertIn(tlv(0x21, b"TLSv1.3"), about)

    def test_who_the_client_is_by_its_certificate(self):
        listener = {"tls": {**self.certificate(), "client_ca": str(self.authority.ca), "client_verify": "required"}}
        proxy, address = self.proxy(self.told_server().address, listener=listener, upstream={"send_proxy": "v2"})
        self.ask(address, pair=self.authority.pair("somebody", "somebody.example.org"))
        about = self.seen[0].tlv(0x20)
        self.assertEqual(about[0] & 1, 1)
        self.assertTrue(about[0] & 6)
        self.assertEqual(about[1:5], bytes(4))
        self.assertIn(tlv(0x22, b"somebody"), about)

    def test_it_counts_more_than_what_another_proxy_says(self):
        listener = {"accept_proxy": {"from": ["127.0.0.1"]}, "tls": self.certificate()}
        proxy, address = self.proxy(self.told_server().address, listener=listener, upstream={"send_proxy": "v2"})
        told = tlv(2, b"old.example") + tlv(0x20, b"\7\0\0\0\0" + tlv(0x22, b"liar")) + tlv(5, b"one")
        self.ask(address, header=v2(CLIENT, ASKED, told))
        header = self.seen[0]
        self.assertEqual((header.source, header.destination, header.tlv(5)), (CLIENT, ASKED, b"one"))
        self.assertEqual([value for kind, value in header.tlvs if kind == 2], [NAME.encode()])
        self.assertNotIn(b"liar", header.tlv(0x20))


class Read(TlsCase):
    """Nothing is decrypted: routes by name."""
    ROUTES = [{"name": NAME, "upstream": "app"}]

    def test_behind_a_header(self):
        def serve(sock):
            header = take_header(sock)
            self.seen.append(header)
            sock.sendall(receive(sock, len(hello)))
        hello = hello_of(NAME)
        server = Backend(self, serve)
        proxy, address = self.proxy(server.address, listener={**ACCEPT, "sni": self.ROUTES}, upstream={"send_proxy": "v2"}, **self.access())
        with dial(address) as sock:
            sock.sendall(v2(CLIENT, ASKED) + hello)
            self.assertEqual(receive(sock, len(hello)), hello)
        header = self.seen[0]
        self.assertEqual((header.source, header.destination, header.tlv(2)), (CLIENT, ASKED, NAME.encode()))
        self.assertEqual(self.records(1)[0]["client"], CLIENT)


    def test_whose_end_comes_with_the_hello(self):
        """At whatever place the two are cut."""
        def serve(sock):
            sock.sendall(receive(sock, len(hello)))
        hello = hello_of(NAME)
        proxy, address = self.proxy(Backend(self, serve).address, listener={**ACCEPT, "sni": self.ROUTES})
        header = v2(CLIENT, ASKED)
        for cut in (1, 12, 16, len(header) - 1, len(header), len(header) + 1, len(header) + 60):
            with dial(address) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall((header + hello)[:cut])
                wait_until(lambda: proxy.listener()["active"] == 1, "it to be accepted")
                run(aegis.BUILD / "aegisctl", "-r", proxy.directory, "connections")  # it has had its turn
                sock.sendall((header + hello)[cut:])
                self.assertEqual(receive(sock, len(hello)), hello)


class ToServers(TlsCase):
    def test_the_handshake_comes_behind_it(self):
        cert, key = self.authority.pair("server", NAME)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        def serve(sock):
            self.seen.append(take_header(sock))
            with context.wrap_socket(sock, server_side=True) as secure:
                while data := secure.recv(65536):
                    secure.sendall(data)
        server = Backend(self, serve)
        for version in (1, 2):
            proxy, address = self.proxy(server.address, upstream={"send_proxy": f"v{version}", "tls": {"ca": str(self.authority.ca), "name": NAME}})
            name = self.echoes(address, data=b"x" * 50_000)
            self.assertEqual((self.seen[-1].version, self.seen[-1].source), (version, name))
            proxy.stop()


if __name__ == "__main__":
    aegis.main()
