"""Real peers through Aegis, unchanged and without an error: nginx with ab, wrk and curl, redis, PostgreSQL, iperf3."""
import contextlib
import glob
import hashlib
import json
import os
import random
import re
import socket
import subprocess

import aegis
from aegis import LONG, MIB, NOBODY, ROOT, SLOW, Case, Pattern, Task, dial, drop_to_nobody, need, run, wait_until

PAGE = 6 * 1024


def port_of(address):
    return address.rpartition(":")[2]


def free_port():
    """A port on 127.0.0.1 itself, which is what these programs are told. Below those that the kernel gives to clients: some of the programs
    cannot listen where a former connection still lingers."""
    while True:
        port = random.randrange(12000, 30000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("", port))
            return port


class Peer(Case):
    deadline = 120.0 if not LONG else 900.0

    def serve(self, port, command, host="127.0.0.1", **popen):
        """Start a server and wait until it listens."""
        log = self.directory / f"log-{os.path.basename(command[0])}"
        with open(log, "wb") as output:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **popen)

        def end():
            process.terminate()
            process.wait(20 * SLOW)

        self.addCleanup(end)

        def listens():
            self.assertIsNone(process.poll(), f"{command[0]} ended: {log.read_text(errors='replace')}")
            try:
                dial(f"{host}:{port}").close()
                return True
            except OSError:
                return False

        wait_until(listens, f"{command[0]} to listen", 30)
        return process

    def ask(self, *command, seconds=100.0, **popen):
        """Run a client to its good end."""
        done = run(*command, seconds=seconds if not LONG else 10 * seconds, **popen)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def in_front_of(self, port, **settings):
        proxy, address = self.proxy(f"127.0.0.1:{port}", **settings)
        return proxy, port_of(address)


class Nginx(Peer):
    def nginx(self):
        nginx, = need("nginx")
        port, root = free_port(), self.directory / "www"
        root.mkdir()
        (root / "page").write_bytes(Pattern(5).at(0, PAGE))
        config = self.directory / "nginx.conf"
        config.write_text(f"""
            daemon off; master_process off; pid {self.directory}/nginx.pid; error_log stderr warn; worker_rlimit_nofile 8192;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; keepalive_requests 1000000; default_type application/octet-stream;
                client_body_temp_path {self.directory}/body; proxy_temp_path {self.directory}/proxy; fastcgi_temp_path {self.directory}/fastcgi;
                uwsgi_temp_path {self.directory}/uwsgi; scgi_temp_path {self.directory}/scgi;
                server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }}
            }}""")
        self.serve(port, [nginx, "-p", self.directory, "-e", "stderr", "-c", config])
        return port, root

    def test_ab(self):
        """ab, keep-alive, 200 at a time; then a new connection for each request."""
        ab, = need("ab")
        port, _ = self.nginx()
        proxy, front = self.in_front_of(port)
        for options, count in ((["-k"], 500_000 if LONG else 50_000), ([], 50_000 if LONG else 5_000)):
            text = self.ask(ab, "-q", *options, "-n", count, "-c", 200, f"http://127.0.0.1:{front}/page")
            self.assertRegex(text, rf"Complete requests:\s+{count}\n")
            self.assertRegex(text, r"Failed requests:\s+0\n")
            self.assertNotIn("Non-2xx", text)
        stat = proxy.stat()
        self.assertGreater(stat["bytes"]["sent"], (count + 50_000) * PAGE)
        self.assertEqual(stat["connections"]["rejected"], 0)

    def wrk(self, seconds, front):
        wrk, = need("wrk")
        text = self.ask(wrk, "-t", 2, "-c", 64, "-d", f"{seconds}s", "--timeout", "20s", f"http://127.0.0.1:{front}/page", seconds=seconds + 60)
        self.assertNotIn("Socket errors", text)
        self.assertNotIn("Non-2xx", text)
        self.assertGreater(int(re.search(r"(\d+) requests in", text)[1]), 100, text)

    def test_wrk(self):
        port, _ = self.nginx()
        _, front = self.in_front_of(port)
        self.wrk(10 if LONG else 3, front)

    def test_wrk_while_reloading(self):
        """wrk's connections live through one reload after the other."""
        need("wrk")
        port, _ = self.nginx()
        proxy, front = self.in_front_of(port, drain={"timeout": "0s", "max_generations": 16})
        done = 0
        while done <= 5:
            load = Task(self.wrk, 60 if LONG else 4, front)
            while load.is_alive() and (done < 100 or not LONG):
                proxy.must_reload()
                done += 1
            load.result(200)

    def test_curl(self):
        """One large file down, and the same file up and down again in parts: equal checksums."""
        curl, = need("curl")
        port, root = self.nginx()
        size, pattern, want = (1024 if LONG else 100) * MIB, Pattern(6), hashlib.sha256()
        with open(root / "large", "wb") as file:
            for offset in range(0, size, 256 * 1024):
                part = pattern.at(offset, 256 * 1024)
                file.write(part)
                want.update(part)
        proxy, front = self.in_front_of(port)
        url = f"http://127.0.0.1:{front}/large"
        for options in ([], ["--limit-rate", f"{size // 4}"], ["--range", f"0-{size - 1}"]):
            target = self.directory / "got"
            self.ask(curl, "-sSf", *options, "-o", target, url)
            with open(target, "rb") as file:
                self.assertEqual(hashlib.file_digest(file, "sha256").hexdigest(), want.hexdigest())
        proxy.wait_closes("finished", 3)
        self.assertGreater(proxy.listener()["sent"], 3 * size)


class Redis(Peer):
    def test_redis_benchmark(self):
        """Pipelined commands from 50 clients, and values of each size that come back as they went in."""
        server, benchmark, cli = need("redis-server", "redis-benchmark", "redis-cli")
        port = free_port()
        self.serve(port, [server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.directory])
        proxy, front = self.in_front_of(port)
        count = 1_000_000 if LONG else 100_000
        text = self.ask(benchmark, "-h", "127.0.0.1", "-p", front, "-P", 16, "-c", 50, "-n", count, "-t", "set,get,incr,lpush", "-r", 10_000, "-q")
        self.assertEqual(len(re.findall(r"requests per second", text)), 4, text)
        self.assertNotIn("rror", text)
        self.ask(benchmark, "-h", "127.0.0.1", "-p", front, "-c", 20, "-n", 2000, "-d", 200_000, "-t", "set,get", "-q")
        with dial(f"127.0.0.1:{front}") as sock:
            for size in (0, 1, 100, 65_536, 5 * MIB):
                value = (Pattern(7).at(0, min(size, 900_000)).tobytes() * 6)[:size]
                sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" % (size, value))
                self.assertEqual(aegis.receive(sock, 5), b"+OK\r\n")
                want = b"$%d\r\n%s\r\n" % (size, value)
                self.assertEqual(hashlib.sha256(aegis.receive(sock, len(want))).digest(), hashlib.sha256(want).digest())
        self.assertEqual(self.ask(cli, "-h", "127.0.0.1", "-p", front, "ping").strip(), "PONG")
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all clients to be gone")
        self.assertEqual(proxy.stat()["connections"]["rejected"], 0)


class Postgres(Peer):
    def test_pgbench(self):
        """pgbench fills its tables and runs transactions from 8 clients, prepared and plain."""
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        os.environ["PATH"] += "".join(os.pathsep + path for path in found[-1:])
        initdb, postgres, pgbench, psql = need("initdb", "postgres", "pgbench", "psql")
        data, port = self.directory / "data", free_port()
        data.mkdir(mode=0o700)
        if ROOT:
            os.chown(data, NOBODY, NOBODY)
        user = drop_to_nobody()
        self.ask(initdb, "-D", data, "-A", "trust", "-U", "aegis", "--no-locale", "-E", "UTF8", "--no-sync", cwd=data, **user)
        self.serve(port, [postgres, "-D", data, "-p", port, "-h", "127.0.0.1", "-k", "", "-c", "fsync=off"], cwd=data, **user)
        proxy, front = self.in_front_of(port)
        who = ["-h", "127.0.0.1", "-p", front, "-U", "aegis"]

        def accepts():
            return run(psql, *who, "-d", "postgres", "-c", "SELECT 1").returncode == 0

        wait_until(accepts, "PostgreSQL to accept queries", 30)
        self.ask(pgbench, *who, "-i", "-s", 2, "-q", "postgres")
        each = 2000 if LONG else 150
        for options in (["-M", "simple"], ["-M", "prepared"], ["-S", "-C"]):
            text = self.ask(pgbench, *who, "-n", *options, "-c", 8, "-j", 2, "-t", each, "postgres")
            self.assertRegex(text, rf"number of transactions actually processed: {8 * each}/{8 * each}\n")
            self.assertRegex(text, r"number of failed transactions: 0 ")
        query = "SELECT sum(abalance) = (SELECT sum(delta) FROM pgbench_history) FROM pgbench_accounts"
        self.assertEqual(self.ask(psql, *who, "-d", "postgres", "-At", "-c", query).strip(), "t")
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all clients to be gone")
        self.assertGreater(proxy.listener()["closes"]["finished"], 8 * each)


class Iperf(Peer):
    def test_iperf3(self):
        """A stream up, one down, four at a time."""
        iperf3, = need("iperf3")
        port = free_port()
        self.serve(port, [iperf3, "-s", "-p", port])
        proxy, front = self.in_front_of(port)
        size = 5000 if LONG else 500
        for options in ([], ["-R"], ["-P", "4"]):
            def ask():
                done = run(iperf3, "-J", "-c", "127.0.0.1", "-p", front, "-n", f"{size}M", *options, seconds=100)
                report = json.loads(done.stdout)
                # The server is one client's at a time, and takes a moment to be rid of the last one.
                return None if "busy" in report.get("error", "") else report
            report = wait_until(ask, "the iperf3 server to be free", 30)
            self.assertNotIn("error", report)
            sums = report["end"]
            self.assertGreaterEqual(sums["sum_sent"]["bytes"], size * MIB)
            # iperf3 ends when all is sent and does not wait for what is still on its way, here through twice as many buffers.
            self.assertGreaterEqual(sums["sum_received"]["bytes"], size * MIB - 150 * MIB)
        stat = proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all streams to be gone")
        self.assertGreater(stat["bytes"]["received"], 2 * (size - 150) * MIB)
        self.assertGreater(stat["bytes"]["sent"], (size - 150) * MIB)


if __name__ == "__main__":
    aegis.main()
