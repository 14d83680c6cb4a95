"""Health checks of real servers: redis, PostgreSQL, MariaDB, nginx, aegis-demo. What each check says of a server that is well, that is full,
that starts up or is down; and that the servers do not mind being checked.

As root the script runs itself again in a network and mount namespace: some of this needs an address, ports or names of one's own."""
import contextlib
import glob
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "functional"))

import aegis  # noqa: E402
from aegis import AEGIS, AEGIS_DEMO, BUILD, NOBODY, ROOT, dial, drop_to_nobody, need, run, wait_until  # noqa: E402
from test_peers import Peer, free_port  # noqa: E402

CHECK = BUILD / "tests/unit/control/check_server"
NAMESPACE = "AEGIS_TEST_NAMESPACE" in os.environ
OWN, OWN_NAME = "10.99.0.1", "prober.test"  # in the namespace; not on the loopback, as far as servers look


class Checked(Peer):
    def check(self, kind, address, **options):
        """All lines of a check."""
        words = [f"{name}={value}" for name, value in options.items()]
        done = run(CHECK, kind, address, *words, seconds=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.splitlines()

    def assertChecked(self, kind, address, how, **options):
        """Every check gives a line that begins with this."""
        lines = self.check(kind, address, **options)
        self.assertEqual(len(lines), options.get("count", 1))
        for line in lines:
            self.assertTrue(line.startswith(how), f"{line!r} instead of {how!r}")


class Redis(Checked):
    def redis(self, *options):
        server, = need("redis-server")
        port = free_port()
        self.process = self.serve(port, [server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.directory,
                                         *options])
        return f"127.0.0.1:{port}"

    def test_well_and_gone(self):
        address = self.redis()
        self.assertChecked("redis", address, "good answered PONG", count=100)
        self.process.terminate()
        self.process.wait()
        self.assertChecked("redis", address, "bad cannot connect: Connection refused")

    def test_password(self):
        self.assertChecked("redis", self.redis("--requirepass", "secret"), "good alive: NOAUTH")

    def test_full(self):
        address = self.redis("--maxclients", "3")
        held = []

        def takes_another():  # the one that looked whether it listens may still have a place
            sock = dial(address)
            sock.sendall(b"PING\r\n")
            if aegis.receive(sock, 7) == b"+PONG\r\n":
                held.append(sock)
            else:
                sock.close()
            return len(held) == 3

        wait_until(takes_another, "all places to be taken")
        self.assertChecked("redis", address, "bad an error: ERR max number of clients reached")
        held.pop().close()
        wait_until(lambda: self.check("redis", address) == ["good answered PONG"], "a place to be free again")
        for sock in held:
            sock.close()

    def test_replica_without_its_master(self):
        address = self.redis("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no")
        wait_until(lambda: self.check("redis", address)[0].startswith("bad an error: MASTERDOWN"), "the replica to say so")

    def test_stopped(self):
        """A process that is there and does nothing."""
        address = self.redis()
        self.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.process.send_signal, signal.SIGCONT)
        self.assertChecked("redis", address, "bad timed out waiting for the answer to PING", timeout_ms=100)


class Postgres(Checked):
    def postgres(self, authentication, *settings):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        os.environ["PATH"] += "".join(os.pathsep + path for path in found[-1:])
        initdb, postgres = need("initdb", "postgres")
        data, port = self.directory / "data", free_port()
        data.mkdir(mode=0o700)
        if ROOT:
            os.chown(data, NOBODY, NOBODY)
        password = self.directory / "password"
        password.write_text("secret\n")
        self.ask(initdb, "-D", data, "-A", authentication, "-U", "aegis", f"--pwfile={password}", "--no-locale", "-E", "UTF8", "--no-sync", cwd=data,
                 **drop_to_nobody())
        if "--recovery" in settings:
            (data / "standby.signal").touch()
        values = [word for setting in settings if setting != "--recovery" for word in ("-c", setting)]
        self.serve(port, [postgres, "-D", data, "-p", port, "-h", "127.0.0.1", "-k", "", "-c", "fsync=off", *values], cwd=data, **drop_to_nobody())
        return f"127.0.0.1:{port}"

    def log(self):
        return (self.directory / "log-postgres").read_text(errors="replace")

    def accepts(self, address, how):
        """Until it has started: before, it says so."""
        def answer():
            line, = self.check("postgres", address)
            self.assertTrue(line.startswith((how, "bad refuses connections: the database system is starting up")), line)
            return line.startswith(how)
        wait_until(answer, "PostgreSQL to start")

    def test_password(self):
        """What is asked for a password leaves no line in the log, a hundred times."""
        address = self.postgres("scram-sha-256")
        self.accepts(address, "good asks for a password")
        before = self.log()
        self.assertChecked("postgres", address, "good asks for a password", count=100)
        self.assertChecked("postgres", address, "good asks for a password", user="nobody_of_this_name")
        self.assertEqual(self.log(), before)

    def test_trust(self):
        address = self.postgres("trust")
        self.accepts(address, "good let us in")
        before = self.log()
        self.assertChecked("postgres", address, "good let us in", count=100)
        self.assertEqual(self.log(), before)

    def test_recovery(self):
        """SSLRequest would be answered by it as by any other."""
        address = self.postgres("trust", "--recovery", "hot_standby=off", "restore_command=false")
        wait_until(lambda: "entering standby mode" in self.log(), "the server to be in recovery")
        line, = self.check("postgres", address)
        self.assertRegex(line, "^bad refuses connections: the database system is (starting up|not accepting connections)")
        with dial(address) as sock:
            sock.sendall(struct.pack(">II", 8, 80877103))
            self.assertIn(aegis.receive(sock, 1), (b"N", b"S"))

    def test_full(self):
        address = self.postgres("trust", "max_connections=3", "superuser_reserved_connections=0", "max_wal_senders=0")
        self.accepts(address, "good let us in")
        words = b"".join(word + b"\0" for word in (b"user", b"aegis", b"database", b"postgres", b""))
        held = []

        def takes_another():  # those that came before may still have their places
            sock = dial(address)
            sock.sendall(struct.pack(">II", len(words) + 8, 3 << 16) + words)
            answer = b""
            while b"Z\0\0\0\5I" not in answer:
                part = sock.recv(4096)
                if not part:
                    sock.close()
                    return False
                answer += part
            held.append(sock)
            return len(held) == 3

        wait_until(takes_another, "all places to be taken")
        self.assertChecked("postgres", address, "bad refuses connections: sorry, too many clients already")
        for sock in held:
            sock.close()


class MariaDB(Checked):
    def mariadb(self, *options):
        install, mariadbd = need("mariadb-install-db", "mariadbd")
        self.client, = need("mariadb")
        data, port = self.directory / "data", free_port()
        data.mkdir(mode=0o700)
        if ROOT:
            os.chown(data, NOBODY, NOBODY)
        self.ask(install, "--no-defaults", f"--datadir={data}", "--skip-test-db", "--auth-root-authentication-method=normal", cwd=data, **drop_to_nobody())
        self.serve(port, [mariadbd, "--no-defaults", f"--datadir={data}", f"--socket={data}/s", f"--port={port}", "--bind-address=0.0.0.0",
                          "--performance-schema=on", *options], cwd=data, **drop_to_nobody())
        self.port = port
        return f"127.0.0.1:{port}"

    def query(self, text):
        return self.ask(self.client, "--no-defaults", "-S", self.directory / "data/s", "-u", "root", "-N", "-e", text).split()

    def log(self):
        return (self.directory / "log-mariadbd").read_text(errors="replace")

    def test_logins(self):
        address = self.mariadb()
        self.assertChecked("mysql", address, "good alive, but refused the login, error 1045: Access denied", count=20)
        self.query("CREATE USER aegis@'%'; FLUSH STATUS;")
        before = self.log()
        self.assertChecked("mysql", address, "good let us in", count=50)
        self.assertEqual(self.log(), before)
        self.assertEqual(self.query("SHOW GLOBAL STATUS LIKE 'Aborted%'")[1::2], ["0", "0", "0"])
        # another method than the one that is offered first
        self.query("CREATE USER other@'%' IDENTIFIED VIA mysql_old_password; CREATE USER locked@'%' ACCOUNT LOCK;")
        self.assertChecked("mysql", address, "good ", user="other")
        self.assertChecked("mysql", address, "good alive, but refused the login, error 4151", user="locked")

    def test_full(self):
        address = self.mariadb("--max-connections=10")
        held = []

        def is_full():  # the one that looked whether it listens may have a place until now
            while len(held) < 20:
                sock = dial(address)
                if aegis.receive(sock, 5)[4] == 0xff:
                    sock.close()
                    break
                held.append(sock)
            return self.check("mysql", address)[0].startswith("bad refuses connections, error 1040")

        wait_until(is_full, "all places to be taken")
        self.assertChecked("mysql", address, "bad refuses connections, error 1040: Too many connections")
        for sock in held:
            sock.close()

    def test_host_is_not_blocked(self):
        """A server that resolves names counts clients that leave after its greeting, and blocks their host. Checks do not get it that far."""
        if not NAMESPACE:
            self.skipTest("needs an address of its own, which takes root")
        self.mariadb("--max-connect-errors=10")
        self.query("CREATE USER anybody@'%'")
        address = f"{OWN}:{self.port}"
        self.assertChecked("mysql", address, "good alive", count=100)
        row = self.query("SELECT host, sum_connect_errors, count_handshake_errors FROM performance_schema.host_cache")
        self.assertEqual(row, [OWN_NAME, "0", "0"])
        for _ in range(11):  # and this is what would be
            with dial(address) as sock:
                self.assertTrue(sock.recv(1))
        wait_until(lambda: self.check("mysql", address)[0].startswith("bad refuses connections, error 1129"), "the host to be blocked")


class Http(Checked):
    def setUp(self):
        super().setUp()
        if "built without libcurl" in run(AEGIS, "-V").stdout:
            self.skipTest("built without libcurl")

    def certificate(self, name):
        openssl, = need("openssl")
        key, cert = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        self.ask(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                 "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert)
        return key, cert

    def nginx(self, servers):
        nginx, = need("nginx")
        port, config = free_port(), self.directory / "nginx.conf"
        config.write_text(f"""
            daemon off; master_process off; pid {self.directory}/nginx.pid; error_log stderr info;
            events {{ worker_connections 512; }}
            http {{
                access_log {self.directory}/access;
                client_body_temp_path {self.directory}/body; proxy_temp_path {self.directory}/proxy; fastcgi_temp_path {self.directory}/fastcgi;
                uwsgi_temp_path {self.directory}/uwsgi; scgi_temp_path {self.directory}/scgi;
                {servers.replace("PORT", str(port)).replace("DIRECTORY", str(self.directory))}
            }}""")
        self.serve(port, [nginx, "-p", self.directory, "-e", "stderr", "-c", config])
        return f"127.0.0.1:{port}"

    def log(self):
        return (self.directory / "log-nginx").read_text(errors="replace")

    def test_nginx(self):
        address = self.nginx("""
            server { listen 127.0.0.1:PORT default_server; listen unix:DIRECTORY/s;
                     location = /health { return 200 ok; } location = /there { return 301 /health; } }
            server { listen 127.0.0.1:PORT; server_name other.test; return 503; }""")
        self.assertChecked("http", address, "good status 200", path="/health", count=50)
        self.assertChecked("http", f"unix:{self.directory}/s", "good status 200", path="/health")
        self.assertChecked("http", address, "bad status 404", path="/nothing")
        self.assertChecked("http", address, "bad status 301", path="/there")
        self.assertChecked("http", address, "good status 301", path="/there", status="2xx,3xx")
        self.assertChecked("http", address, "bad status 503", path="/health", host="other.test")
        self.assertChecked("tcp", address, "good connected", count=20)
        self.assertChecked("tcp", address, "good the expected text came", send="GET / HTTP/1.0\r\n\r\n", expect="nginx/")
        self.assertNotIn("reset by peer", self.log())
        self.assertEqual(len(re.findall('"GET /health HTTP/1.1" 200 ', (self.directory / "access").read_text())), 51)

    def test_tls(self):
        key, cert = self.certificate("good.test")
        _, other = self.certificate("other.test")
        address = self.nginx(f"""
            server {{ listen 127.0.0.1:PORT ssl; ssl_certificate {cert}; ssl_certificate_key {key}; location = /health {{ return 200 $ssl_server_name; }} }}""")
        self.assertChecked("https", address, "good status 200", path="/health", count=20)
        self.assertChecked("https", address, "good status 200", path="/health", verify=1, ca=cert, host="good.test", count=20)
        self.assertChecked("https", address, "bad SSL", path="/health", verify=1, ca=cert, host="bad.test")
        self.assertChecked("https", address, "bad SSL", path="/health", verify=1, ca=cert)
        self.assertChecked("https", address, "bad SSL", path="/health", verify=1, ca=other, host="good.test")
        self.assertChecked("https", address, "bad SSL", path="/health", verify=1, host="good.test")
        self.assertChecked("http", address, "bad status 400", path="/health")
        self.assertNotIn("reset by peer", self.log())

    def test_demo(self):
        port = free_port()
        demo = self.serve(port, [AEGIS_DEMO, "-H", f"127.0.0.1:{port}"])
        self.assertChecked("http", f"127.0.0.1:{port}", "good status 200", path="/health", count=20)
        demo.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.check("http", f"127.0.0.1:{port}", path="/health") == ["bad status 503"], "/health to fail")
        demo.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.check("http", f"127.0.0.1:{port}", path="/health") == ["good status 200"], "/health to succeed")


class Tcp(Checked):
    def test_nobody_is_not_taken_for_a_server(self):
        """Where nobody listens at a port of those that the kernel gives to clients, TCP connects a socket with itself, if it is given that one."""
        if not NAMESPACE:
            self.skipTest("needs ports of its own, which takes root")
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as file:
            file.write("40000 40007")
        self.addCleanup(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text, "32768 60999", encoding="ascii")

        def meets_itself():
            with socket.socket() as sock, contextlib.suppress(ConnectionRefusedError):
                sock.connect(("127.0.0.1", 40002))
                return sock.getsockname() == sock.getpeername()

        wait_until(meets_itself, "a socket to meet itself")
        self.assertChecked("tcp", "127.0.0.1:40002", "bad cannot connect", count=200)


def enter():
    """Run this script again in namespaces of its own, where that may be."""
    if NAMESPACE:
        for command in (("ip", "link", "set", "lo", "up"), ("ip", "address", "add", f"{OWN}/32", "dev", "lo")):
            subprocess.run(command, check=True)
        hosts = pathlib.Path(os.environ["AEGIS_TEST_NAMESPACE"])
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
        hosts.unlink()
        return
    if not ROOT or not shutil.which("unshare") or not shutil.which("ip"):
        return
    if run("unshare", "-n", "-m", "sh", "-c", "ip link set lo up && mount --bind /etc/hosts /etc/hosts").returncode != 0:
        return
    hosts = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"aegis-test-hosts-{os.getpid()}"
    hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{OWN} {OWN_NAME}\n")
    os.environ["AEGIS_TEST_NAMESPACE"] = str(hosts)
    os.execvp("unshare", ["unshare", "-n", "-m", sys.executable, "-B", *sys.argv])


if __name__ == "__main__":
    enter()
    aegis.main()
