"""The works: what is asked of every contestant, one round at a time. Here: requests, connections and bulk."""
import re

import measure
import peers
from measure import Failed

AEGIS = [peers.Aegis, peers.AegisUring]
PROXIES = AEGIS + [peers.Nginx, peers.Haproxy]
RELAYS = PROXIES + [peers.FloorEpoll, peers.FloorUring]
POOLS = AEGIS + [peers.AegisPool, peers.AegisUringPool, peers.Nginx, peers.Haproxy, peers.FloorPool, peers.Direct]


class Work:
    """One row of the table. `run` takes a contestant and returns the figures of one round."""

    group = ""
    backend = peers.NginxServer
    contestants = RELAYS + [peers.Direct]
    workers = 1
    backend_workers = 1
    fresh = False     # `run` starts the contestant itself, every time
    all_cpus = False  # not only the CPU of the contest
    in_quick = True   # part of a --quick run
    headline = None   # the metric that the ratio is taken from, when it is not CPU
    x = None          # where in its curve, for the works that make one

    def __init__(self, name, title):
        self.name = name
        self.title = title

    def rounds(self, asked):
        return asked

    def servers(self, backend):
        return [backend.address()]

    def prepare(self, host):
        """Files that the work needs."""

    def run(self, host, contestant, seconds):
        raise NotImplementedError


def plural(count, word):
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


class Requests(Work):
    group = "request"

    def __init__(self, connections):
        super().__init__(f"request-{connections}", f"request, {plural(connections, 'keep-alive connection')}, 64 B")
        self.connections = connections

    def run(self, host, contestant, seconds):
        if self.connections == 1 and host.has("aegis-bench"):  # wrk counts whole microseconds: too coarse for so few of them
            load = lambda: measure.bench(host, contestant.address(), seconds, connections=1, mode="http", path="/")
        else:
            load = lambda: measure.wrk(host, contestant.address(), self.connections, seconds)
        return measure.with_cpu(contestant, load).row()


class Churn(Work):
    """A connection for every exchange of 64 bytes, closed by the client.

    Who closes first keeps the port for a minute. Many addresses on both sides of the proxy keep the search for a free port, which is
    slow when few are left, out of the figures.
    """

    group = "churn"
    addresses = 64

    def __init__(self):
        super().__init__("churn", "new connection, one exchange of 64 B")

    def servers(self, backend):
        return peers.many_addresses(backend.port, self.addresses)

    def run(self, host, contestant, seconds):
        return measure.with_cpu(contestant, lambda: measure.churn(host, contestant.address(), 20, seconds)).row()


class Pool(Churn):
    """HTTP with a client connection for every request, where the server side may be kept."""

    group = "pool"
    contestants = POOLS
    addresses = 8

    def __init__(self):
        Work.__init__(self, "pool", "HTTP request on a new client connection, hot pools")


BULK_BYTES = 64 << 20


class Bulk(Work):
    """64 MB transfers, some at a time."""

    group = "bulk"
    contestants = PROXIES + [peers.FloorEpoll, peers.FloorSplice, peers.FloorUring, peers.Direct]

    def __init__(self, direction, connections):
        super().__init__(f"{direction}-{connections}", f"{direction} of 64 MB, {connections} at a time")
        self.direction = direction
        self.connections = connections
        self.in_quick = connections == 4
        if direction == "upload":
            self.backend = peers.CountServer

    def rounds(self, asked):
        return min(asked, 3) if asked > 2 else 1

    def prepare(self, host):
        with open(host.file("bulk"), "wb") as out:
            for _ in range(BULK_BYTES >> 20):
                out.write(b"x" * (1 << 20))

    def run(self, host, contestant, seconds):
        if self.direction == "upload":
            load = lambda: measure.bench(host, contestant.address(), seconds, connections=self.connections, mode="upload",
                                         payload=BULK_BYTES, path="/count")
        elif host.has("aegis-bench"):
            load = lambda: measure.bench(host, contestant.address(), seconds, connections=self.connections, mode="download", path="/bulk")
        else:
            load = lambda: measure.wrk(host, contestant.address(), self.connections, seconds, "/bulk")
        return measure.with_cpu(contestant, load).row("GB")


class Iperf(Work):
    """Bulk by a tool that is neither ours nor made for HTTP."""

    group = "bulk"
    backend = peers.IperfServer
    contestants = Bulk.contestants
    in_quick = False

    def __init__(self):
        super().__init__("iperf3", "iperf3, 4 streams")

    def rounds(self, asked):
        return 1

    def run(self, host, contestant, seconds):
        return measure.with_cpu(contestant, lambda: measure.iperf(host, contestant.port, seconds)).row("GB")


class CrossCheck(Work):
    """Another load generator on the same work: are the figures those of the proxy or of wrk?"""

    group = "check"
    contestants = PROXIES
    in_quick = False

    def __init__(self):
        super().__init__("h2load", "cross-check: h2load over HTTP/1.1, 64 keep-alive connections")

    def rounds(self, asked):
        return min(asked, 2)

    def run(self, host, contestant, seconds):
        return measure.with_cpu(contestant, lambda: measure.h2load(host, contestant.address(), 64, seconds)).row()


class AbAllCpus(Work):
    """The command that people try first, through to nginx, on all CPUs."""

    group = "ab"
    contestants = PROXIES + [peers.Direct]
    all_cpus = True
    workers = backend_workers = 2
    in_quick = False
    headline = "p99"

    def __init__(self):
        super().__init__("ab", "ab -k -n 500000 -c 200, proxy and server with 2 workers on all CPUs")

    def rounds(self, asked):
        return 1

    def run(self, host, contestant, seconds):
        return measure.with_cpu(contestant, lambda: measure.ab(host, contestant.address(), 500000, 200, ["-k"])).row()


def basic_works():
    works = [Requests(connections) for connections in (1, 64, 512)]
    works += [Churn(), Pool()]
    works += [Bulk(direction, connections) for direction in ("download", "upload") for connections in (4, 64)]
    return works + [Iperf(), CrossCheck(), AbAllCpus()]


def one_round(work, host, contestant, seconds):
    """The figures of a round, or the reason why there are none. A contestant that ended by itself is told as such."""
    try:
        return work.run(host, contestant, seconds), None
    except (Failed, OSError, KeyError, re.error) as why:
        if contestant.process is not None and contestant.process.poll() is not None:
            return None, f"ended in a run (status {contestant.process.returncode})"
        return None, str(why) or type(why).__name__


def run_work(host, work, rounds, seconds, wanted, tell):
    """All rounds of one work: rows of figures by contestant, and why a contestant has none. `tell` is called before every round of each."""
    rows, notes, running = {}, {}, []
    own, host.cpus = host.cpus, host.all_cpus if work.all_cpus else host.cpus
    try:
        work.prepare(host)
        with work.backend(host, work.backend_workers) as backend:
            for kind in filter(wanted, work.contestants):
                contestant = kind(host, work.servers(backend), work.workers)
                try:
                    running.append(contestant if work.fresh else contestant.start())
                except Failed as why:
                    notes[kind.name] = str(why)
            for turn in range(work.rounds(rounds)):
                shift = turn % max(1, len(running))
                for contestant in running[shift:] + running[:shift]:
                    if contestant.name in notes:
                        continue
                    tell(work, turn, contestant.name)
                    row, why = one_round(work, host, contestant, seconds)
                    if why:
                        notes[contestant.name] = why
                    else:
                        rows.setdefault(contestant.name, []).append(row)
    except Failed as why:
        notes.update({kind.name: str(why) for kind in filter(wanted, work.contestants)})
    finally:
        for contestant in running:
            contestant.stop()
        host.cpus = own
    return rows, notes
