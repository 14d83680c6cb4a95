"""The contestants and the servers behind them: each a process with one worker, all on one CPU, with comparable settings."""
import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time

from measure import Failed, children, wait_until

BACKLOG = 4096


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def many_addresses(port, count):
    """One server that listens on the wildcard address, seen as many: 127.1.0.0 and on (the floors count the same way)."""
    return [f"127.{1 + index // 65536}.{index // 256 % 256}.{index % 256}:{port}" for index in range(count)]


def listening(port):
    """Is somebody listening? Without connecting, which a server behind a proxy would see."""
    wanted = f":{port:04X} 00000000:0000 0A "
    with open("/proc/net/tcp") as table:
        return any(wanted in line for line in table)


class Host:
    """The directory, the CPU and the programs that all contestants of one run share."""

    def __init__(self, build, directory, cpu):
        self.build = os.path.abspath(build)
        self.directory = directory
        self.cpus = {cpu}
        self.all_cpus = os.sched_getaffinity(0) | {cpu}
        self.descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))
        self.libc = ctypes.CDLL(None)
        self.count = 0

    def on_cpu(self):
        """In a child before exec: its CPU, and an end with this program however that ends."""
        os.sched_setaffinity(0, self.cpus)
        self.libc.prctl(1, signal.SIGTERM)

    def program(self, name):
        path = os.path.join(self.build, name)
        if not os.access(path, os.X_OK):
            raise Failed(f"{name} is not built")
        return path

    def has(self, name):
        return os.access(os.path.join(self.build, name), os.X_OK)

    def file(self, name, text=None):
        path = os.path.join(self.directory, name)
        if text is not None:
            with open(path, "w") as out:
                out.write(text)
        return path

    def new_name(self, stem):
        self.count += 1
        return f"{stem}{self.count}"


class Process:
    """One program that listens on a port of its own. Ended by its id."""

    name = "process"
    workers = 1

    def __init__(self, host, workers=1):
        self.host = host
        self.workers = workers
        self.process = None
        self.port = None

    def command(self):
        raise NotImplementedError

    def spawn(self):
        """Start the program; returns the moment."""
        self.port = self.port or free_port()
        self.errors = self.host.file(self.host.new_name("stderr"))
        command = self.command()
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=self.host.on_cpu)
        return time.monotonic()

    def check_alive(self):
        if self.process.poll() is not None:
            with open(self.errors) as errors:
                said = errors.read().strip().splitlines() or [f"status {self.process.returncode}"]
            raise Failed(f"{self.name} ended at start: {said[-1][-200:]}")

    def is_up(self):
        self.check_alive()
        return listening(self.port)

    def start(self):
        self.spawn()
        try:
            wait_until(self.is_up, 20, f"{self.name} does not listen")
        except Failed:
            self.stop()
            raise
        return self

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                for child in children(self.process.pid):
                    os.kill(child, signal.SIGKILL)
                self.process.kill()
                self.process.wait()
        self.process = None

    def address(self):
        return f"127.0.0.1:{self.port}"

    def worker_pids(self):
        return [self.process.pid]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class NginxServer(Process):
    """The server behind the contestants: 64 bytes for /, files of this run's directory for the rest."""

    name = "backend"

    def command(self):
        root = "user root;" if os.geteuid() == 0 else ""
        body = "0123456789abcdef" * 4
        path = self.host.file(self.host.new_name("backend") + ".conf", f"""
worker_processes {self.workers}; daemon off; {root} pid {self.host.file("backend.pid")}; error_log {self.host.file("backend.log")} crit;
worker_rlimit_nofile {self.host.descriptors};
events {{ worker_connections {self.host.descriptors - 100}; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on; tcp_nodelay on; client_max_body_size 0;
    client_body_temp_path {self.host.directory}; proxy_temp_path {self.host.directory}; fastcgi_temp_path {self.host.directory};
    uwsgi_temp_path {self.host.directory}; scgi_temp_path {self.host.directory};
    server {{
        listen 0.0.0.0:{self.port} backlog={BACKLOG}; root {self.host.directory};
        location = / {{ return 200 "{body}"; }}
        location = /status {{ stub_status; }}
    }}
}}
""")
        return ["nginx", "-e", self.host.file("backend.log"), "-c", path]


class EchoServer(Process):
    name = "echo"

    def command(self):
        return [self.host.program("aegis-demo"), "-e", f"0.0.0.0:{self.port}"]


class IperfServer(Process):
    name = "iperf3"

    def command(self):
        return ["iperf3", "-4", "-s", "-p", str(self.port)]


class CountServer(Process):
    """Takes uploads."""

    name = "count"

    def command(self):
        return [self.host.program("aegis-demo"), "-H", f"0.0.0.0:{self.port}"]


class Contestant(Process):
    """A proxy in front of servers. `servers` is a list of addresses."""

    def __init__(self, host, servers, workers=1):
        super().__init__(host, workers)
        self.servers = servers

    def all_pids(self):
        return [self.process.pid, *children(self.process.pid)]


class Direct(Contestant):
    name = "direct"

    def start(self):
        self.port = int(self.servers[0].rsplit(":", 1)[1])
        return self

    def worker_pids(self):
        return []


class Aegis(Contestant):
    name = "aegis epoll"
    engine = "epoll"
    upstream_extra = ""

    def listener_settings(self):
        return f'protocol = "tcp"; backlog = {BACKLOG};'

    def settings(self):
        servers = ", ".join(f'{{ address = "{server}"; }}' for server in self.servers)
        return f"""
workers = {self.workers}; pin = false; engine = "{self.engine}"; max_connections = 1000000; log = {{ level = "error"; }};
listeners = ( {{ name = "app"; address = "127.0.0.1:{self.port}"; upstream = "app"; {self.listener_settings()} }} );
upstreams = ( {{ name = "app"; servers = ( {servers} ); {self.upstream_extra} }} );
"""

    def command(self):
        self.stem = self.host.new_name("aegis")
        self.run = self.host.file(self.stem + ".run")
        self.file = self.host.file(self.stem + ".conf", self.settings())
        aegis = self.host.program("aegis")
        check = subprocess.run([aegis, "-t", "-c", self.file, "-r", self.run], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               timeout=30)
        if check.returncode != 0:
            raise Failed("not in this build: " + check.stdout.strip().splitlines()[0].split(": ", 1)[-1][:120])
        return [aegis, "-c", self.file, "-r", self.run]

    def state(self):
        done = subprocess.run([self.host.program("aegis-stat"), "-r", self.run, "-j"], stdout=subprocess.PIPE, timeout=10, check=True)
        return json.loads(done.stdout)

    def start(self):
        super().start()
        try:
            wait_until(lambda: len(self.worker_pids()) == self.workers, 10, "aegis: its workers do not run")
            running = self.state()["engine"]
            if running != self.engine:
                raise Failed(f"the engine fell back to {running}")
        except Failed:
            self.stop()
            raise
        return self

    def worker_pids(self):
        return [worker["pid"] for worker in self.state()["workers"] if worker["state"] == "running"]


class AegisUring(Aegis):
    name = "aegis io_uring"
    engine = "io_uring"


class AegisPool(Aegis):
    name = "aegis epoll, pool"
    upstream_extra = 'pool = { warm = 8; keep = 64; framing = "http1"; };'


class AegisUringPool(AegisPool):
    name = "aegis io_uring, pool"
    engine = "io_uring"


class Nginx(Contestant):
    name = "nginx"
    events = ""

    def connections(self):
        return self.host.descriptors - 100

    def server_settings(self):
        return f"""listen 127.0.0.1:{self.port} reuseport backlog={BACKLOG} so_keepalive=60s::; proxy_pass app; proxy_timeout 1h;
        proxy_connect_timeout 5s; proxy_socket_keepalive on; tcp_nodelay on;"""

    def command(self):
        stem = self.host.new_name("nginx")
        module = "/usr/lib/nginx/modules/ngx_stream_module.so"
        load = f"load_module {module};" if os.path.exists(module) else ""
        servers = " ".join(f"server {server};" for server in self.servers)
        path = self.host.file(stem + ".conf", f"""
{load} {"user root;" if os.geteuid() == 0 else ""} worker_processes {self.workers}; daemon off; pid {self.host.file(stem + ".pid")};
error_log {self.host.file(stem + ".log")} crit; worker_rlimit_nofile {self.host.descriptors};
events {{ worker_connections {self.connections()}; {self.events} }}
stream {{
    upstream app {{ {servers} }}
    server {{
        {self.server_settings()}
    }}
}}
""")
        return ["nginx", "-e", self.host.file(stem + ".log"), "-c", path]

    def start(self):
        super().start()
        wait_until(self.worker_pids, 10, "nginx has no worker")
        return self

    def worker_pids(self):
        return children(self.process.pid)


class NginxCrowd(Nginx):
    """Where thousands of active connections come at once: taking one a turn it would not get to accept them all in time."""

    events = "multi_accept on;"


class Haproxy(Contestant):
    name = "haproxy"
    flags = ["-db"]

    def command(self):
        servers = "\n".join(f"    server s{index} {server}" for index, server in enumerate(self.servers))
        path = self.host.file(self.host.new_name("haproxy") + ".cfg", f"""
global
    nbthread {self.workers}
    maxconn {(self.host.descriptors - 800) // 2}
    maxpipes 256
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    option splice-auto
    option clitcpka
    option srvtcpka
    clitcpka-idle 60s
    srvtcpka-idle 60s
frontend front
    bind 127.0.0.1:{self.port} backlog {BACKLOG}
    maxconn {(self.host.descriptors - 800) // 2}
    default_backend app
backend app
    balance roundrobin
{servers}
""")
        return ["haproxy", *self.flags, "-f", path]


class Floor(Contestant):
    source = ""
    arguments = []

    def command(self):
        count = [str(len(self.servers))] if len(self.servers) > 1 else []
        return [self.host.file(self.source), *self.arguments, str(self.port), self.servers[0].rsplit(":", 1)[1], *count]


class FloorEpoll(Floor):
    name = "floor epoll"
    source = "floor_epoll"


class FloorSplice(Floor):
    name = "floor splice"
    source = "floor_epoll"
    arguments = ["-s"]


class FloorPool(Floor):
    name = "floor pool"
    source = "floor_epoll"
    arguments = ["-k"]


class FloorUring(Floor):
    name = "floor io_uring"
    source = "floor_uring"


def build_floors(host, say):
    """Compile the floor relays into the run's directory; what cannot be built is left out and said."""
    here = os.path.dirname(os.path.abspath(__file__))
    compiler = os.environ.get("CC", "cc")
    built = []
    for source, libraries in (("floor_epoll", []), ("floor_udp", []), ("floor_uring", ["-luring"])):
        done = subprocess.run([compiler, "-O2", "-o", host.file(source), os.path.join(here, source + ".c"), *libraries],
                              stderr=subprocess.PIPE, text=True) if shutil.which(compiler) else None
        if done is not None and done.returncode == 0:
            built.append(source)
        else:
            say(f"{source}.c was not built: {done.stderr.strip().splitlines()[0] if done else 'no C compiler'}")
    return built


ALL = [Aegis, AegisUring, AegisPool, AegisUringPool, Nginx, Haproxy, FloorEpoll, FloorSplice, FloorPool, FloorUring, Direct]
