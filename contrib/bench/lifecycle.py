"""The works about a proxy's life: memory of idle connections, cold start, reload."""
import os
import signal
import socket
import threading
import time

import measure
import peers
from measure import Failed, wait_until
from work import RELAYS, Churn, Work

GET = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


def ask(connection):
    connection.sendall(GET)
    if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
        raise Failed("no answer through the proxy")


def dial(port):
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.settimeout(10)
    return connection


def open_idle(port, count):
    """Connections that exchanged one message and then stay silent."""
    opened = []
    for _ in range(count):
        connection = dial(port)
        opened.append(connection)
        ask(connection)
    return opened


def close_all(connections):
    for connection in connections:
        connection.close()


class IdleMemory(Work):
    group = "memory"
    contestants = RELAYS
    fresh = True
    headline = "idle_bytes"

    def __init__(self, connections=4000):
        super().__init__("memory", f"memory of an idle connection in user space, {connections} connections")
        self.connections = connections

    def rounds(self, asked):
        return min(asked, 3) if asked > 2 else 1

    def run(self, host, contestant, seconds):
        opened = []
        with contestant:
            try:
                opened = open_idle(contestant.port, 100)
                before = measure.private_bytes(contestant.worker_pids())
                opened += open_idle(contestant.port, self.connections)
                after = measure.private_bytes(contestant.worker_pids())
            finally:
                close_all(opened)
        return {"idle_bytes": (after - before) / self.connections, "base_kb": before / 1024}


class ColdStart(Work):
    """From the start of the program to the first byte that came through it."""

    group = "start"
    contestants = RELAYS
    fresh = True
    headline = "start_ms"

    def __init__(self):
        super().__init__("start", "cold start to the first proxied byte")

    def rounds(self, asked):
        return 20 if asked >= 3 else 6

    def run(self, host, contestant, seconds):
        try:
            began = contestant.spawn()
            while True:
                if time.monotonic() - began > 10:
                    raise Failed("no byte within 10 s")
                try:
                    with dial(contestant.port) as connection:
                        ask(connection)
                    return {"start_ms": (time.monotonic() - began) * 1000}
                except ConnectionError:
                    time.sleep(0.0002)
        finally:
            contestant.stop()


class AegisReload(peers.Aegis):
    reload_signal = signal.SIGHUP


class AegisUringReload(peers.AegisUring):
    reload_signal = signal.SIGHUP


class NginxReload(peers.Nginx):
    reload_signal = signal.SIGHUP


class HaproxyReload(peers.Haproxy):
    flags = ["-W"]
    reload_signal = signal.SIGUSR2

    def worker_pids(self):
        return peers.children(self.process.pid)

    def start(self):
        super().start()
        wait_until(self.worker_pids, 10, "haproxy has no worker")
        return self


RELOADERS = [AegisReload, AegisUringReload, NginxReload, HaproxyReload]


def reaped_ns(pid):
    """CPU time of the children that ended (in ticks of 10 ms: nobody accounts them finer)."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) * (10**9 // os.sysconf("SC_CLK_TCK"))


def total_cpu_ns(contestant):
    return measure.cpu_ns(contestant.all_pids()) + reaped_ns(contestant.process.pid)


def settle(contestant, old):
    """Ask on new connections until three answers in a row came from a process that is not in `old`."""
    calm = 0
    deadline = time.monotonic() + 20
    while calm < 3:
        if time.monotonic() > deadline:
            raise Failed("the old workers still answer 20 s after the reload")
        alive = [pid for pid in old if os.path.exists(f"/proc/{pid}")]
        before = measure.cpu_ns(alive)
        try:
            with dial(contestant.port) as connection:
                ask(connection)
        except ConnectionError:
            continue
        fresh = set(contestant.all_pids()) - set(old) - {contestant.process.pid}
        calm = calm + 1 if fresh and measure.cpu_ns(alive) == before else 0


class Reload(Work):
    """A reload under idle connections: CPU of master and workers, and the time until only new workers answer."""

    group = "reload"
    contestants = RELOADERS
    fresh = True
    headline = "reload_cpu_ms"

    def __init__(self, connections=1000):
        super().__init__("reload", f"reload under {connections} idle connections")
        self.connections = connections

    def rounds(self, asked):
        return asked

    def run(self, host, contestant, seconds):
        opened = []
        with contestant:
            try:
                opened = open_idle(contestant.port, self.connections)
                old = contestant.worker_pids()
                before = total_cpu_ns(contestant)
                began = time.monotonic()
                os.kill(contestant.process.pid, contestant.reload_signal)
                settle(contestant, old)
                took = time.monotonic() - began
                time.sleep(0.3)
                spent = total_cpu_ns(contestant) - before
                for connection in opened:
                    ask(connection)
            finally:
                close_all(opened)
        return {"reload_ms": took * 1000, "reload_cpu_ms": spent / 1e6}


class ReloadUnderLoad(Churn):
    """New connections all the time, and 20 reloads meanwhile: how many failed?"""

    group = "reload"
    contestants = RELOADERS
    fresh = True

    def __init__(self):
        Work.__init__(self, "reload-errors", "errors of a load of new connections during 20 reloads")

    def rounds(self, asked):
        return 2 if asked > 2 else 1

    def run(self, host, contestant, seconds):
        stop = threading.Event()

        def reload_often():
            for _ in range(20):
                if stop.wait(0.25):
                    return
                os.kill(contestant.process.pid, contestant.reload_signal)

        with contestant:
            thread = threading.Thread(target=reload_often)
            thread.start()
            try:
                load = measure.churn(host, contestant.address(), 20, 6)
            finally:
                stop.set()
                thread.join()
            load.latency = {}
            return load.row()


def lifecycle_works():
    return [IdleMemory(), ColdStart(), Reload(), ReloadUnderLoad()]
