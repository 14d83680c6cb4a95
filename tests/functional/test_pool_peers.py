"""Hot pools in front of real servers: nginx with its keep-alive, redis with all that leaves state behind."""
import re
import socket

import aegis
from aegis import how_it_ends, need, receive, receive_line, wait_until
from test_peers import Peer, free_port


class Pooled(Peer):
    def front(self, port, workers=1, **pool):
        self.name = f"127.0.0.1:{port}"
        return self.proxy(self.name, workers=workers, upstream={"pool": pool})

    def pool(self, proxy):
        return proxy.server(self.name)["pool"]

    def wait_hot(self, proxy, count):
        wait_until(lambda: proxy.server(self.name)["hot"] == count, lambda: f"{count} hot connections; {proxy.server(self.name)}")


class Nginx(Pooled):
    def nginx(self, timeout="60s", requests=1000000):
        nginx, = need("nginx")
        port, root = free_port(), self.directory / "www"
        root.mkdir()
        (root / "page").write_bytes(b"x" * 6000)
        (root / "empty").write_bytes(b"")
        (root / "large").write_bytes(b"y" * 3_000_000)
        config = self.directory / "nginx.conf"
        config.write_text(f"""
            daemon off; master_process off; pid {self.directory}/nginx.pid; error_log stderr warn;
            events {{ worker_connections 512; }}
            http {{
                access_log off; keepalive_requests {requests}; keepalive_timeout {timeout}; default_type text/plain; gzip on;
                client_body_temp_path {self.directory}/body; proxy_temp_path {self.directory}/proxy; fastcgi_temp_path {self.directory}/fastcgi;
                uwsgi_temp_path {self.directory}/uwsgi; scgi_temp_path {self.directory}/scgi;
                server {{ listen 127.0.0.1:{port} backlog=1024; root {root};
                          location = /who {{ return 200 "$connection $connection_requests\\n"; }}
                          location = /none {{ return 204; }}
                          location = /gone {{ return 301 /page; }} }}
            }}""")
        self.serve(port, [nginx, "-p", self.directory, "-e", "stderr", "-c", config])
        return port

    def curl(self, address, path, *options):
        curl, = need("curl")
        return self.ask(curl, "-sS", "-m", 30, *options, f"http://{address}{path}")

    def test_one_connection(self):
        """curl after curl, each a client of its own; nginx says over which connection they came."""
        proxy, address = self.front(self.nginx(), keep=2, framing="http1")
        seen = [self.curl(address, "/who").split() for _ in range(20)]
        self.assertEqual(len({connection for connection, _ in seen}), 1)
        self.assertEqual([int(count) for _, count in seen], list(range(1, 21)))

    def test_what_nginx_answers(self):
        proxy, address = self.front(self.nginx(), keep=2, framing="http1")
        first = self.curl(address, "/who").split()[0]
        self.assertEqual(len(self.curl(address, "/page")), 6000)
        self.assertEqual(len(self.curl(address, "/page", "--compressed")), 6000)
        self.assertEqual(self.curl(address, "/empty"), "")
        self.assertIn("200 OK", self.curl(address, "/large", "-I"))
        self.assertEqual(len(self.curl(address, "/large")), 3_000_000)
        self.assertEqual(len(self.curl(address, "/large", "-r", "10-19")), 10)
        self.assertIn("204", self.curl(address, "/none", "-i"))
        self.assertIn("301", self.curl(address, "/gone", "-i"))
        tag = re.search(r'ETag: (".*")', self.curl(address, "/page", "-I"))[1]
        self.assertIn("304", self.curl(address, "/page", "-i", "-H", f"If-None-Match: {tag}"))
        self.assertIn("404", self.curl(address, "/missing", "-i"))
        self.assertIn("405", self.curl(address, "/page", "-i", "-d", "x" * 2000))
        self.assertEqual(self.curl(address, "/who").split()[0], first)
        self.assertEqual(self.pool(proxy)["misses"], 1)

    def test_nginx_closes_idle_ones(self):
        """keepalive_timeout 3s: kept ones go, warm ones that were never used stay as long as nginx lets them, clients see nothing of it."""
        proxy, address = self.front(self.nginx(timeout="3s"), keep=4, framing="http1")
        self.curl(address, "/page")
        self.wait_hot(proxy, 1)
        self.wait_hot(proxy, 0)
        self.assertEqual(self.pool(proxy)["stale"], 1)
        self.assertEqual(len(self.curl(address, "/page")), 6000)

    def test_keepalive_requests(self):
        """nginx announces the end of a connection after three requests."""
        proxy, address = self.front(self.nginx(requests=3), keep=2, framing="http1")
        seen = [tuple(self.curl(address, "/who").split()) for _ in range(9)]
        self.assertEqual([count for _, count in seen], ["1", "2", "3"] * 3)

    def test_ab(self):
        """A new client for each request, 50 at a time, two workers: nginx sees a fraction of the connections and no client an error."""
        ab, = need("ab")
        port = self.nginx()
        proxy, address = self.front(port, workers=2, keep=100, framing="http1")
        count = 5000
        text = self.ask(ab, "-q", "-n", count, "-c", 50, f"http://{address}/page")
        self.assertRegex(text, rf"Complete requests:\s+{count}\n")
        self.assertRegex(text, r"Failed requests:\s+0\n")
        # ab speaks HTTP/1.0 without keep-alive, which pins.
        self.assertGreaterEqual(self.pool(proxy)["pinned"], count - 10)

    def test_wrk(self):
        """The same with keep-alive clients and a wrk that reconnects."""
        wrk, = need("wrk")
        proxy, address = self.front(self.nginx(), workers=2, keep=100, warm=5, framing="http1")
        text = self.ask(wrk, "-t", 2, "-c", 32, "-d", "2s", f"http://{address}/page", seconds=60)
        self.assertNotIn("Socket errors", text)
        self.assertNotIn("Non-2xx", text)


class Redis(Pooled):
    def redis(self, *options):
        server, _ = need("redis-server", "redis-cli")
        port = free_port()
        self.serve(port, [server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.directory, *options])
        return port

    def client(self, address, *commands, answers=None):
        """A client: each command and its answer, then a clean end. Returns the answers as they came."""
        with aegis.dial(address) as sock:
            got = [self.call(sock, *command.split()) for command in commands]
            sock.shutdown(socket.SHUT_WR)
            how_it_ends(sock)
            return got

    def call(self, sock, *words):
        sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words))
        return self.reply(sock)

    def reply(self, sock):
        line = receive_line(sock)[:-2]
        if line[0] == "$":
            return None if line == "$-1" else receive(sock, int(line[1:]) + 2)[:-2].decode()
        if line[0] in "*~>":
            return [self.reply(sock) for _ in range(max(int(line[1:]), 0))]
        if line[0] == "%":
            return {self.reply(sock): self.reply(sock) for _ in range(int(line[1:]))}
        return line

    def clients(self, port):
        """The ids of redis' clients but for the one that asks."""
        with aegis.dial(f"127.0.0.1:{port}") as sock:
            own = self.call(sock, "CLIENT", "ID")[1:]
            return {found for found in re.findall(r"^id=(\d+)", self.call(sock, "CLIENT", "LIST"), re.M) if found != own}

    def test_kept(self):
        port = self.redis()
        proxy, address = self.front(port, keep=2, framing="redis")
        for i in range(20):
            self.assertEqual(self.client(address, f"SET key{i} value{i}", f"GET key{i}", "PING"), ["+OK", f"value{i}", "+PONG"])
        self.assertEqual(self.client(address, "GET nothing", "MGET key1 nothing key2"), [None, ["value1", None, "value2"]])
        pool = self.pool(proxy)
        self.assertEqual((pool["misses"], pool["pinned"], pool["kept"]), (1, 0, 21), pool)
        self.assertEqual(len(self.clients(port)), 1)

    def test_state_stays_with_its_client(self):
        """Whatever leaves something in the connection ends with it: the next client is on a fresh one, and sees nothing of it."""
        port = self.redis("--requirepass", "")
        proxy, address = self.front(port, keep=2, framing="redis")
        for commands in (["SELECT 3", "SET here 1"], ["MULTI"], ["MULTI", "SET a 1"], ["MULTI", "SET a 1", "EXEC"], ["WATCH a"], ["SUBSCRIBE channel"],
                         ["PSUBSCRIBE c*"], ["AUTH default nothing"], ["HELLO 3"], ["CLIENT REPLY ON"], ["CLIENT SETNAME me"], ["CLIENT TRACKING ON"],
                         ["BLPOP list 0.01"], ["NOSUCHCOMMAND"], ["RESET"], ["QUIT"]):
            with self.subTest(commands=commands):
                self.client(address, "PING")
                self.wait_hot(proxy, 1)
                before = self.clients(port)
                self.client(address, *commands)
                self.wait_hot(proxy, 0)
                wait_until(lambda: not self.clients(port) & before, "the connection to be closed")
                self.assertEqual(self.client(address, "GET here"), [None])

    def test_leaves_before_the_answer(self):
        """A client that goes away while its command blocks."""
        port = self.redis()
        proxy, address = self.front(port, keep=2, framing="redis")
        self.client(address, "PING")
        before = self.clients(port)
        with aegis.dial(address) as sock:
            sock.sendall(b"*3\r\n$5\r\nBLPOP\r\n$4\r\nlist\r\n$1\r\n0\r\n")
            wait_until(lambda: proxy.server(self.name)["sent"] == 14 + 32, "the command at redis")
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "the client to be gone")
        wait_until(lambda: not self.clients(port) & before, "its connection to be closed")
        self.assertEqual(self.client(address, "RPUSH list 1", "LLEN list"), [":1", ":1"])

    def test_redis_closes_idle_ones(self):
        port = self.redis("--timeout", "1")
        proxy, address = self.front(port, keep=2, framing="redis")
        self.client(address, "PING")
        self.wait_hot(proxy, 1)
        self.wait_hot(proxy, 0)
        self.assertEqual(self.client(address, "PING"), ["+PONG"])

    def test_benchmark(self):
        """redis-benchmark with a new connection for each request."""
        benchmark, = need("redis-benchmark")
        port = self.redis()
        proxy, address = self.front(port, workers=2, keep=50, framing="redis")
        text = self.ask(benchmark, "-h", "127.0.0.1", "-p", address.rpartition(":")[2], "-k", "0", "-c", 20, "-n", 5000, "-t", "set,get,incr", "-q")
        self.assertNotIn("rror", text)
        pool = self.pool(proxy)
        self.assertGreater(pool["hits"], 10000, pool)
        self.assertLess(proxy.server(self.name)["total"], 500)

    def test_shared(self):
        """Four workers and one connection of redis' at a time."""
        port = self.redis()
        proxy, address = self.front(port, workers=4, keep=2, framing="redis", share=True)
        for i in range(100):
            self.assertEqual(self.client(address, f"SET k{i} {i}", f"GET k{i}"), ["+OK", str(i)])
        self.assertLessEqual(proxy.server(self.name)["total"], 2 if aegis.ENGINE == "epoll" else 50)
        wait_until(lambda: len(self.clients(port)) <= 2, "no more than two to remain")


if __name__ == "__main__":
    aegis.main()
