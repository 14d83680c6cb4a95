"""The works on UDP: echoes of datagrams beside nginx's stream module (HAProxy has none), and cost against the number of sessions."""
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import time

import measure
import peers
from measure import Failed
from work import Work, plural


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def bound(port):
    wanted = f":{port:04X} 00000000:0000 07 "
    with open("/proc/net/udp") as table:
        return any(wanted in line for line in table)


CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1


def unshare_network():
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise Failed("no network namespace of its own: " + os.strerror(ctypes.get_errno()))


def own_network(places):
    """A network namespace with more ports than the usual 28,232: each session of a proxy needs one towards the server.

    Where `places` is given the kernel looks UDP sockets up in a table of so many, as it does everywhere with the boot option uhash_entries.
    """
    unshare_network()
    if places:
        with open("/proc/sys/net/ipv4/udp_child_hash_entries", "w") as wanted:
            wanted.write(str(places))
        unshare_network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as ports:
        ports.write("2000 65535")


class Datagrams:
    """A program on a UDP port. Sessions are long-lived as seen from a round: a minute."""

    idle_seconds = 60

    def spawn(self):
        self.port = free_port()  # another one each time: what still ends may hold the last one
        return super().spawn()

    def is_up(self):
        self.check_alive()
        return bound(self.port)


class EchoServer(Datagrams, peers.Process):
    name = "echo"

    def command(self):
        return [self.host.program("aegis-demo"), "-u", f"127.0.0.1:{self.port}"]


class Aegis(Datagrams, peers.Aegis):
    def stop(self):
        """At once: sessions without an end of their own would be waited for."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            time.sleep(0.1)
        super().stop()

    def listener_settings(self):
        return f'protocol = "udp"; udp = {{ idle = "{self.idle_seconds}s"; }};'


class AegisUring(Aegis):
    name = "aegis io_uring"
    engine = "io_uring"


class Nginx(Datagrams, peers.Nginx):
    """Its default buffers of the listening socket would lose most of a burst."""

    def connections(self):
        return 2 * self.host.descriptors  # two for each session, of which one needs a descriptor

    def server_settings(self):
        return f"listen 127.0.0.1:{self.port} udp reuseport rcvbuf=4m; proxy_pass app; proxy_timeout {self.idle_seconds}s;"


class Floor(Datagrams, peers.Floor):
    name = "floor udp"
    source = "floor_udp"

    def command(self):
        return [self.host.file(self.source), *self.arguments, "-w", str(self.workers), str(self.port), self.servers[0].rsplit(":", 1)[1]]

    def worker_pids(self):
        return self.all_pids()


class FloorSegments(Floor):
    name = "floor udp segments"
    arguments = ["-g"]


class FloorSingle(Floor):
    name = "floor udp single"
    arguments = ["-1"]


class Direct(Datagrams, peers.Direct):
    pass


CONTESTANTS = [Aegis, AegisUring, Nginx, Floor, FloorSegments, FloorSingle, Direct]


def blast_command(host, contestant, options):
    return [host.program("aegis-udpblast"), "-j", *map(str, options), contestant.address()]


def blast(host, contestant, seconds, options):
    text = measure.run_pinned(host, blast_command(host, contestant, ["-d", seconds, *options]), seconds + 60)
    seen = measure.last_json(text)
    wrong = sum(seen[name] for name in ("foreign", "wrong", "duplicates", "stale", "unsent", "unopened"))
    if wrong:
        raise Failed(f"{wrong} answers were foreign, wrong or repeated, or datagrams not sent")
    latency = {name: seen["latency_us"][name] for name in ("p50", "p99", "p999")}
    return measure.Load(seen["answered"], seen["lost"], seen["seconds"], latency=latency)


class Echo(Work):
    """Bursts over 64 flows: each flow sends the next one when the last one is answered."""

    group = "udp"
    backend = EchoServer
    contestants = CONTESTANTS

    def __init__(self, name, title, options):
        super().__init__(name, title)
        self.options = options

    def run(self, host, contestant, seconds):
        return measure.with_cpu(contestant, lambda: blast(host, contestant, seconds, self.options)).row()


class Sessions(Work):
    """Echoes on many sessions, 64 of them under way at a time and all in turn. Only what comes after all of them were begun is counted."""

    group = "udp-sessions"
    backend = EchoServer
    contestants = [Aegis, AegisUring, Nginx, Floor, Direct]
    fresh = True  # the sessions of the round before would still be there

    def __init__(self, sessions, workers=1, places=0):
        super().__init__(f"udp-sessions-{sessions}", f"UDP echo of 64 B, {plural(sessions, 'session')}")
        self.sessions = sessions
        self.workers = workers
        self.places = places
        if workers > 1:  # a worker has descriptors for some 19,000
            self.name += f"w{workers}"
            self.title += f", {workers} workers"
        else:
            self.x = sessions
        if places:
            self.name += "-table"
            self.title += f", the kernel's table of UDP sockets with {places:,} places"
        self.in_quick = sessions in (64, 10000)

    def prepare(self, host):
        if self.sessions > 20000:
            own_network(self.places)  # and the works after it are there too

    def run(self, host, contestant, seconds):
        processes = 1 + self.sessions // 15000
        options = ["-c", self.sessions, "--at-once", 64, "--processes", processes, "--source-range", "127.2.0.0/16", "--source-port", 1999,
                   "-i", 0.1, "-d", 120]
        with contestant:
            load = subprocess.Popen(blast_command(host, contestant, options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    preexec_fn=host.on_cpu)
            try:
                return self.watch(load, contestant, seconds)
            finally:
                load.terminate()
                load.communicate()

    def look(self, load, pids, so_far):
        """The next line of the load and the CPU time at that moment."""
        line = load.stdout.readline()
        if not line:
            raise Failed("the load ended: " + load.stderr.read().strip()[-100:])
        cpu = measure.cpu_ns(pids) if pids else 0
        period = json.loads(line)
        return period["at"], so_far[1] + period["answered"], so_far[2] + period["lost"], cpu

    def watch(self, load, contestant, seconds):
        pids = contestant.worker_pids()
        seen, deadline = (0, 0, 0, 0), time.monotonic() + 60
        while seen[1] < 1.2 * self.sessions or seen[0] < 0.3:
            seen = self.look(load, pids, seen)
            if time.monotonic() > deadline:
                raise Failed(f"only {seen[1]} answers within 60 s")
        first = seen
        while seen[0] < first[0] + seconds:
            seen = self.look(load, pids, seen)
        answered, took = seen[1] - first[1], seen[0] - first[0]
        row = {"rate": answered / took, "errors": seen[2] - first[2]}
        if pids and answered:
            row["cpu_us"] = (seen[3] - first[3]) / 1000 / answered
        return row


def datagram_works():
    works = [Echo("udp-1", "UDP echo of 64 B, 64 flows, one at a time", ["-c", 64]),
             Echo("udp-16", "UDP echo of 64 B, 64 flows, bursts of 16", ["-c", 64, "-b", 16]),
             Echo("udp-segments", "UDP echo of 1200 B, 64 flows, bursts of 16 in one piece", ["-c", 64, "-b", 16, "-p", 1200, "-s", "-g"])]
    works += [Sessions(count) for count in (1, 64, 1000, 10000)]
    return works + [Sessions(1000, 3), Sessions(50000, 3), Sessions(50000, 3, 65536)]
