"""Real programs that speak TLS: h2load, curl, redis-cli and redis-benchmark, to Aegis and through it, in front of nginx and redis."""
import re

import aegis
import secure
from aegis import need, wait_until
from papers import need_tls
from test_peers import Peer, free_port


class Tls(Peer):
    def setUp(self):
        super().setUp()
        need_tls()
        self.papers = secure.papers()
        self.ca = str(self.papers.ca)

    def before(self, port, listener=None, upstream=None):
        """Aegis in front of a server: its port, and which way TLS goes is said by listener and upstream."""
        proxy, front = self.in_front_of(port, listener=listener or {}, upstream=upstream or {})
        return proxy, front

    def ended(self, alpn=""):
        """Settings of a listener at which TLS ends."""
        return {"tls": {"certificates": [self.papers.pair("front", "localhost")], **({"alpn": alpn} if alpn else {})}}

    def all_is_over(self, proxy):
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all clients to be gone")
        self.assertEqual(proxy.stat()["connections"]["rejected"], 0)
        proxy.stop()


class Http2(Tls):
    def nginx(self):
        nginx, = need("nginx")
        port, plain, pair = free_port(), free_port(), self.papers.pair("web", "localhost")
        config = self.directory / "nginx.conf"
        config.write_text(f"""
            daemon off; master_process off; pid {self.directory}/nginx.pid; error_log stderr warn;
            events {{ worker_connections 512; }}
            http {{
                access_log off; keepalive_requests 1000000; default_type text/plain; http2_max_concurrent_streams 128;
                client_body_temp_path {self.directory}/body; proxy_temp_path {self.directory}/proxy; fastcgi_temp_path {self.directory}/fastcgi;
                uwsgi_temp_path {self.directory}/uwsgi; scgi_temp_path {self.directory}/scgi;
                server {{ listen 127.0.0.1:{port} ssl http2; listen 127.0.0.1:{plain};
                          ssl_certificate {pair["cert"]}; ssl_certificate_key {pair["key"]};
                          location / {{ return 200 "$server_protocol $scheme\\n"; }} }}
            }}""")
        self.serve(plain, [nginx, "-p", self.directory, "-e", "stderr", "-c", config])
        return port, plain

    def load(self, front):
        """h2load: by HTTP/2, that is by ALPN, and nothing fails."""
        h2load, = need("h2load")
        text = self.ask(h2load, "-n", 2000, "-c", 20, "-m", 10, f"https://localhost:{front}/")
        self.assertIn("Application protocol: h2\n", text)
        self.assertRegex(text, r"requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout")

    def curl(self, front, *options):
        curl, = need("curl")
        return self.ask(curl, "-sS", "-m", 30, "--cacert", self.ca, *options, f"https://localhost:{front}/")

    def test_passed_through(self):
        """By a route, after a look at the hello: what is agreed on, and with whom, is the server's business."""
        port, _ = self.nginx()
        proxy, front = self.before(port, {"sni": [{"name": "localhost", "upstream": "app"}]})
        self.load(front)
        self.assertEqual(self.curl(front), "HTTP/2.0 https\n")
        self.assertEqual(self.curl(front, "--http1.1"), "HTTP/1.1 https\n")
        self.all_is_over(proxy)

    def test_ended_and_begun_again(self):
        """What the client agreed on with Aegis goes on to the server."""
        port, _ = self.nginx()
        proxy, front = self.before(port, self.ended("h2,http/1.1"), {"tls": {"ca": self.ca, "name": "localhost"}})
        self.load(front)
        self.assertEqual(self.curl(front), "HTTP/2.0 https\n")
        self.assertEqual(self.curl(front, "--http1.1"), "HTTP/1.1 https\n")
        self.all_is_over(proxy)

    def test_ended(self):
        _, plain = self.nginx()
        proxy, front = self.before(plain, self.ended("http/1.1"))
        self.assertEqual(self.curl(front), "HTTP/1.1 http\n")
        for version in ("1.2", "1.3"):
            self.assertEqual(self.curl(front, f"--tlsv{version}", "--tls-max", version), "HTTP/1.1 http\n")
        self.all_is_over(proxy)


class Redis(Tls):
    def redis(self, tls):
        server, = need("redis-server")
        port, pair = free_port(), self.papers.pair("redis", "localhost")
        where = ["--port", 0, "--tls-port", port, "--tls-cert-file", pair["cert"], "--tls-key-file", pair["key"], "--tls-ca-cert-file", self.ca,
                 "--tls-auth-clients", "no"] if tls else ["--port", port]
        self.serve(port, [server, *where, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.directory])
        return port

    def works(self, proxy, front):
        cli, benchmark = need("redis-cli", "redis-benchmark")
        who = ["-h", "127.0.0.1", "-p", front, "--tls", "--sni", "localhost", "--cacert", self.ca]
        wait_until(lambda: aegis.run(cli, *who, "ping").stdout == "PONG\n", "Redis to answer", 30)
        text = self.ask(benchmark, *who, "-P", 16, "-c", 20, "-n", 20_000, "-t", "set,get,incr", "-q")
        self.assertEqual(len(re.findall(r"requests per second", text)), 3, text)
        self.assertNotIn("rror", text)
        self.all_is_over(proxy)

    def test_ended(self):
        self.works(*self.before(self.redis(False), self.ended()))

    def test_ended_and_begun_again(self):
        self.works(*self.before(self.redis(True), self.ended(), {"tls": {"ca": self.ca, "name": "localhost"}}))

    def test_passed_through(self):
        self.works(*self.before(self.redis(True), {"sni": [{"name": "localhost", "upstream": "app"}]}))


if __name__ == "__main__":
    aegis.main()
