"""The works that make curves: cost against the number of connections, of servers, and against the payload."""
import http.client
import re
import subprocess
import time

import measure
import peers
from measure import Failed
from work import AEGIS, PROXIES, RELAYS, Churn, Requests, Work, plural


class Window:
    """CPU per request between two moments of a running load, so that opening thousands of connections is not counted.

    The server is asked how many requests it answered, on a connection that was there before the load.
    """

    def __init__(self, contestant):
        self.pids = contestant.worker_pids()
        host, port = contestant.servers[0].rsplit(":", 1)
        self.server = http.client.HTTPConnection(host, int(port), timeout=30)
        self.server_state()

    def server_state(self):
        """How many connections the server has, and how many requests it has answered."""
        self.server.request("GET", "/status")
        text = self.server.getresponse().read().decode()
        return int(re.search(r"Active connections: (\d+)", text).group(1)), int(re.search(r"\n\s*\d+\s+\d+\s+(\d+)", text).group(1))

    def wait_for(self, connections, load):
        """Until the server has them all, or nearly all: a busy proxy takes the last ones late."""
        deadline = time.monotonic() + 20
        while True:
            active = self.server_state()[0] - 1
            if active >= connections:
                return
            if load.poll() is not None:
                raise Failed("the load ended: " + load.stderr.read().decode().strip()[-100:])
            if time.monotonic() > deadline:
                if active >= 0.95 * connections:
                    return
                raise Failed(f"only {active} of {connections} connections after 20 s")
            time.sleep(0.05)

    def look(self):
        before = measure.cpu_ns(self.pids)
        start = time.monotonic()
        served = self.server_state()[1]
        end = time.monotonic()
        return (before + measure.cpu_ns(self.pids)) / 2, served, (start + end) / 2

    def wait_steady(self):
        """Until two looks in a row see nearly the same rate: the load has begun on all connections."""
        deadline = time.monotonic() + 10
        last, rate = self.look(), 0
        while time.monotonic() < deadline:
            time.sleep(0.25)
            look = self.look()
            before, rate = rate, (look[1] - last[1]) / (look[2] - last[2])
            if before > 1000 and abs(rate - before) < 0.1 * before:
                return
            last = look

    def wait_idle(self):
        """Until the connections of a load that ended are gone everywhere, or the next contestant would pay for them."""
        deadline = time.monotonic() + 10
        while self.server_state()[0] > 1 and time.monotonic() < deadline:
            time.sleep(0.05)

    def measure(self, seconds):
        cpu, served, at = self.look()
        time.sleep(seconds)
        cpu_after, served_after, at_after = self.look()
        count = served_after - served
        if count < 100:
            raise Failed("hardly any request was answered")
        row = {"rate": count / (at_after - at)}
        if self.pids:
            row["cpu_us"] = (cpu_after - cpu) / 1000 / count
        return row


class Connections(Work):
    """Requests on many keep-alive connections, all of them active."""

    group = "connections"

    def __init__(self, connections, workers=1):
        super().__init__(f"connections-{connections}", f"request, {plural(connections, 'active connection')}")
        self.connections = connections
        self.processes = 1 + connections // 10000
        if workers > 1:  # a worker has descriptors for half as many connections as a process may have
            self.name += f"w{workers}" if connections <= 9000 else ""
            self.title += f", {workers} workers"
            self.workers = self.backend_workers = workers
            self.contestants = [*AEGIS, peers.NginxCrowd, peers.Direct]
        else:
            self.x = connections
            self.contestants = [peers.NginxCrowd if kind is peers.Nginx else kind for kind in self.contestants]
        self.in_quick = workers == 1 and connections in (1000, 9000)

    def rounds(self, asked):
        return min(asked, 2) if asked > 2 else 1

    def load_command(self, host, contestant, seconds):
        if host.has("aegis-bench"):
            return [host.program("aegis-bench"), "-j", "-m", "http", "-c", str(self.connections), "-d", str(seconds), "--processes",
                    str(self.processes), "--source-range", "127.2.0.0/24", contestant.address()]
        return ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "20s", f"http://{contestant.address()}/"]

    def servers(self, backend):
        # With more connections than half of the ports to one address the kernel's search for a free one takes long.
        return peers.many_addresses(backend.port, 4)

    def run(self, host, contestant, seconds):
        window = Window(contestant)
        load = subprocess.Popen(self.load_command(host, contestant, 60), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                preexec_fn=host.on_cpu)
        try:
            window.wait_for(self.connections, load)
            window.wait_steady()
            return window.measure(seconds)
        finally:
            load.terminate()
            load.wait()
            load.stderr.close()
            window.wait_idle()
            window.server.close()


class Servers(Requests):
    group = "servers"
    contestants = PROXIES

    def __init__(self, count):
        super().__init__(512)
        self.name = f"servers-{count}"
        self.title = f"request, 512 connections, {plural(count, 'server')}"
        self.x = count
        self.in_quick = count in (1, 10000)

    def rounds(self, asked):
        return min(asked, 3) if asked > 2 else 1

    def run(self, host, contestant, seconds):
        return super().run(host, contestant, min(seconds, 1))

    def servers(self, backend):
        return peers.many_addresses(backend.port, self.x)


class ChurnServers(Churn):
    group = "servers"
    contestants = PROXIES
    in_quick = False

    def __init__(self, count):
        Work.__init__(self, f"churn-servers-{count}", f"new connection, {plural(count, 'server')}")
        self.x = self.addresses = count

    rounds = Servers.rounds

    def run(self, host, contestant, seconds):
        return super().run(host, contestant, min(seconds, 1))


def size_name(count):
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count >> 10} kB" if count >= 1 << 10 else f"{count} B"


class Payload(Work):
    """An echo of messages of one size, 16 connections."""

    group = "payload"
    backend = peers.EchoServer
    contestants = RELAYS + [peers.Direct]

    def __init__(self, size):
        super().__init__(f"payload-{size}", f"echo of {size_name(size)}, 16 connections")
        self.x = size
        self.in_quick = size in (64, 16 << 10, 1 << 20)

    def rounds(self, asked):
        return min(asked, 3) if asked > 2 else 1

    def run(self, host, contestant, seconds):
        return measure.with_cpu(contestant, lambda: measure.bench(host, contestant.address(), min(seconds, 1), connections=16,
                                                                  payload=self.x, mode="echo")).row()


CURVES = {
    "connections": ("Active connections", "CPU per request, us"),
    "servers": ("Servers in the upstream", "CPU per request, us"),
    "churn-servers": ("Servers in the upstream", "CPU per new connection, us"),
    "payload": ("Payload, bytes", "CPU per message, us"),
    "udp-sessions": ("UDP sessions", "CPU per echo, us"),
}


def curve_of(work):
    return work.name.rsplit("-", 1)[0] if work.x is not None else None


def scale_works():
    works = [Connections(count) for count in (1, 10, 100, 1000, 5000, 9000)]
    works += [Connections(1000, 3), Connections(20000, 3)]
    works += [Servers(count) for count in (1, 10, 100, 1000, 10000)]
    works += [ChurnServers(count) for count in (10, 100, 1000, 10000)]
    return works + [Payload(size) for size in (64, 1 << 10, 16 << 10, 128 << 10, 1 << 20)]
