"""Certificates by ACME: a packaged client (lego) against a local authority (pebble). The settings and commands are those of doc/tls.md."""
import json
import os
import socket
import ssl
import subprocess

import aegis
from aegis import Case, Echo, OWN_ADDRESS, need, run, wait_until
from dns_server import DnsServer
from papers import Papers, connect, need_tls

NAME = "one.test"


def free_port(address):
    with socket.socket() as sock:
        sock.bind((address, 0))
        return sock.getsockname()[1]


class Acme(Case):
    def setUp(self):
        super().setUp()
        need_tls()
        self.pebble, self.lego = need("pebble", "lego")
        self.papers = Papers(self.directory / "papers")
        self.http, self.https, self.proof = (free_port(OWN_ADDRESS) for _ in range(3))
        self.webroot = self.directory / "webroot"
        self.webroot.mkdir()
        self.webroot.chmod(0o755)
        self.dns = DnsServer()
        self.addCleanup(self.dns.close)
        self.dns.answer(NAME, "A", 60, OWN_ADDRESS)
        self.dns.answer(NAME, "AAAA", 60)
        self.start_authority()

    def start_authority(self):
        pair = self.papers.pair("authority", "localhost", "IP:127.0.0.1")
        self.port, manage = free_port("127.0.0.1"), free_port("127.0.0.1")
        config = self.directory / "pebble.json"
        config.write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{manage}", "certificate": pair["cert"],
            "privateKey": pair["key"], "httpPort": self.http, "tlsPort": self.https, "ocspResponderURL": "",
            "externalAccountBindingRequired": False}}))
        with open(self.directory / "pebble.log", "wb") as log:
            process = subprocess.Popen([self.pebble, "-config", config, "-dnsserver", f"127.0.0.1:{self.dns.port}"], stdout=log, stderr=log,
                                       env={**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def listens():
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", self.port)) == 0
        wait_until(listens, "pebble to listen")

    def start(self):
        """With a certificate that is good for nothing, in the place where the ACME client will put its own."""
        self.folder = self.directory / "lego"
        live = self.folder / "certificates"
        live.mkdir(parents=True)
        first = self.papers.pair("first", "nobody.test")
        self.pair = {"cert": str(live / f"{NAME}.crt"), "key": str(live / f"{NAME}.key")}
        for kind in self.pair:
            os.rename(first[kind], self.pair[kind])
        settings = aegis.app(Echo(self).address)
        settings["listeners"] = [
            {"name": "http", "address": f"{OWN_ADDRESS}:{self.http}", "upstream": "app",
             "acme": {"challenges": f"{self.webroot}/.well-known/acme-challenge"}},
            {"name": "https", "address": f"{OWN_ADDRESS}:{self.https}", "upstream": "app", "tls": {"certificates": [self.pair]},
             "sni": [{"alpn": "acme-tls/1", "upstream": "acme"}]}]
        settings["upstreams"].append({"name": "acme", "retries": 0, "servers": [{"address": f"{OWN_ADDRESS}:{self.proof}"}]})
        return self.aegis(settings)

    def order(self, *how):
        """One certificate, by lego."""
        done = run(self.lego, "--server", f"https://127.0.0.1:{self.port}/dir", "--accept-tos", "--email", "someone@example.org", "--domains", NAME,
                   "--path", self.folder, *how, "run", seconds=60, environment={"LEGO_CA_CERTIFICATES": str(self.papers.ca)})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + (self.directory / "pebble.log").read_text()[-3000:])

    def check(self, *how):
        proxy = self.start()
        pids = [row["pid"] for row in proxy.workers()]
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE

        def shown():
            with connect(f"{OWN_ADDRESS}:{self.https}", blind, NAME) as sock:
                return ssl.DER_cert_to_PEM_cert(sock.getpeercert(binary_form=True)).strip()
        before = shown()
        self.order(*how)
        wait_until(lambda: shown() != before, "the certificate of the authority, taken over by itself")
        with open(self.pair["cert"]) as file:
            self.assertTrue(file.read().strip().startswith(shown()))
        with connect(f"{OWN_ADDRESS}:{self.https}", blind, NAME) as sock:
            sock.sendall(b"hello")
            self.assertEqual(sock.recv(5), b"hello")
        self.assertEqual([row["pid"] for row in proxy.workers()], pids)
        row, = proxy.stat()["certificates"]
        self.assertEqual((row["listener"], row["name"]), ("https", NAME))
        return proxy

    def test_http_01(self):
        """Answered by Aegis itself, from the files of the client: no server hears of it."""
        proxy = self.check("--http", "--http.webroot", self.webroot)
        proxy.check_gauges()
        row = proxy.listener("http")  # it asks from several places
        self.assertGreater(row["closes"]["challenge_answered"], 0)
        self.assertEqual(row["closes"]["challenge_answered"], row["total"])

    def test_tls_alpn_01(self):
        """On the port where TLS ends otherwise: who asks for acme-tls/1 meets the ACME client itself."""
        self.check("--tls", "--tls.port", f"{OWN_ADDRESS}:{self.proof}")


if __name__ == "__main__":
    aegis.main()
