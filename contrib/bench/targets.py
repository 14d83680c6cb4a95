"""What Aegis promises, most of it as a ratio to the better of nginx and HAProxy in the same run, and how a run stands to it."""

PEERS = ("nginx", "haproxy")
HIGHER_IS_BETTER = ("rate", "gb_s")
EPOLL, URING = "aegis epoll", "aegis io_uring"
MET, CLOSE, MISSED = "met", "within 5 % of the floor", "missed"


def median(table, work, contestant, metric):
    figure = table.get(work, {}).get(contestant, {}).get(metric)
    return figure["median"] if figure else None


def best(metric, figures):
    figures = [figure for figure in figures if figure is not None]
    if not figures:
        return None
    return max(figures) if metric in HIGHER_IS_BETTER else min(figures)


def best_peer(table, work, metric):
    """The better median of the two peers, or None."""
    return best(metric, [median(table, work, peer, metric) for peer in PEERS])


class Verdict:
    """One line of the table of targets, all of it text."""

    def __init__(self, text, wanted, measured, floor, verdict):
        self.text, self.wanted, self.measured, self.floor, self.verdict = text, wanted, measured, floor, verdict


class Ratio:
    """At most so much of the better peer, or within 5 % of what the least program needs."""

    def __init__(self, text, work, contestant, metric, limit, floors=()):
        self.text, self.work, self.contestant, self.metric, self.limit, self.floors = text, work, contestant, metric, limit, floors

    def judge(self, table):
        own = median(table, self.work, self.contestant, self.metric)
        peer = best_peer(table, self.work, self.metric)
        if own is None or not peer:
            return None
        floor = best(self.metric, [median(table, self.work, name, self.metric) for name in self.floors])
        # Two digits, as the targets have them.
        verdict = MET if round(own / peer, 2) <= self.limit else CLOSE if floor is not None and own <= floor * 1.05 else MISSED
        return Verdict(self.text, f"<= {self.limit:.2f}", f"{own / peer:.2f}", f"{floor / peer:.2f}" if floor is not None else "-", verdict)


class Absolute:
    """At most so much, and where `below_peers` less than both peers as well."""

    def __init__(self, text, work, contestant, metric, limit, unit, below_peers=False):
        self.text, self.work, self.contestant, self.metric, self.limit, self.unit = text, work, contestant, metric, limit, unit
        self.below_peers = below_peers

    def judge(self, table):
        own = median(table, self.work, self.contestant, self.metric)
        if own is None:
            return None
        peer = best_peer(table, self.work, self.metric)
        good = own <= self.limit and not (self.below_peers and peer is not None and own >= peer)
        wanted = f"<= {self.limit:g} {self.unit}" + (f", below {peer:.1f}" if self.below_peers and peer is not None else "")
        return Verdict(self.text, wanted, f"{own:.1f} {self.unit}", "-", MET if good else MISSED)


class Gain:
    """At least so many times the rate of another contestant in the same work, or within 5 % of what the least program reaches."""

    def __init__(self, text, work, contestant, other, factor, floor):
        self.text, self.work, self.contestant, self.other, self.factor, self.floor = text, work, contestant, other, factor, floor

    def judge(self, table):
        own, other, floor = (median(table, self.work, name, "rate") for name in (self.contestant, self.other, self.floor))
        if own is None or not other:
            return None
        verdict = MET if own >= self.factor * other else CLOSE if floor is not None and own >= floor * 0.95 else MISSED
        reached = f"{floor / other:.2f} x" if floor is not None else "-"
        return Verdict(self.text, f">= {self.factor:.1f} x", f"{own / other:.2f} x", reached, verdict)


class Growth:
    """CPU from one point of a curve to another: at most 10 % beyond what the time per request without a proxy grows."""

    def __init__(self, text, first, last, contestant):
        self.text, self.first, self.last, self.contestant = text, first, last, contestant

    def judge(self, table):
        low, high = (median(table, work, self.contestant, "cpu_us") for work in (self.first, self.last))
        if not low or high is None:
            return None
        rates = [median(table, work, "direct", "rate") for work in (self.first, self.last)]
        direct = max(1.0, rates[0] / rates[1]) if all(rates) else 1.0
        limit = direct * 1.10
        return Verdict(self.text, f"<= {limit:.2f} x", f"{high / low:.2f} x", "-", MET if high <= limit * low else MISSED)


class Flat(Growth):
    """CPU from one point of a curve to another: at most 10 % beyond what the least program that does the work grows."""

    def __init__(self, text, first, last, contestant, floor):
        super().__init__(text, first, last, contestant)
        self.floor = floor

    def judge(self, table):
        low, high = (median(table, work, self.contestant, "cpu_us") for work in (self.first, self.last))
        if not low or high is None:
            return None
        costs = [median(table, work, self.floor, "cpu_us") for work in (self.first, self.last)]
        grown = max(1.0, costs[1] / costs[0]) if all(costs) else 1.0
        return Verdict(self.text, f"<= {grown * 1.10:.2f} x", f"{high / low:.2f} x", f"{grown:.2f} x", MET if high <= grown * 1.10 * low else MISSED)


class Ab:
    """No failure, and a p99 below 1 ms, or not above what ab prints without a proxy."""

    def __init__(self, contestant):
        self.text, self.contestant = f"ab -k -c 200 on all CPUs: 0 failed, p99, {contestant.split()[1]}", contestant

    def judge(self, table):
        own, errors = (median(table, "ab", self.contestant, metric) for metric in ("p99", "errors"))
        if own is None:
            return None
        direct = median(table, "ab", "direct", "p99") or 0
        good = errors == 0 and (own < 1000 or own <= direct)
        wanted = f"0, {'<= %g' % (direct / 1000) if direct >= 1000 else '< 1'} ms"
        return Verdict(self.text, wanted, f"{errors:.0f}, {own / 1000:g} ms", "-", MET if good else MISSED)


def short(engine):
    return engine.split()[1]


def request_targets():
    for count, uring, epoll in ((64, 0.88, 0.95), (512, 0.62, 0.85)):
        for engine, limit in ((URING, uring), (EPOLL, epoll)):
            yield Ratio(f"CPU per request, {count} connections, {short(engine)}", f"request-{count}", engine, "cpu_us", limit,
                        [f"floor {short(engine)}"])
    for count in (1, 64, 512):
        for metric in ("p50", "p99"):
            for engine in (URING, EPOLL):
                text = f"{metric}, {count} connection{'s' if count > 1 else ''}, {short(engine)}"
                yield Ratio(text, f"request-{count}", engine, metric, 0.90, [f"floor {short(engine)}"])


def connection_targets():
    yield Ratio("CPU per new connection, io_uring", "churn", URING, "cpu_us", 0.86, ["floor io_uring"])
    yield Ratio("CPU per new connection, epoll", "churn", EPOLL, "cpu_us", 0.96, ["floor epoll"])
    for engine in (URING, EPOLL):
        yield Ratio(f"CPU per request with hot pools, {short(engine)}", "pool", f"{engine}, pool", "cpu_us", 0.50, ["floor pool"])
        yield Gain(f"requests/s with hot pools against without, {short(engine)}", "pool", f"{engine}, pool", engine, 2, "floor pool")


def bulk_targets():
    for work in ("download-4", "download-64", "upload-4", "upload-64"):
        for engine in (URING, EPOLL):
            yield Ratio(f"CPU per GB, {work.replace('-', 's, ')} at a time, {short(engine)}", work, engine, "cpu_s_gb", 0.62,
                        ["floor splice", "floor epoll", "floor io_uring"])


def other_targets():
    for engine in (URING, EPOLL):
        yield Absolute(f"user memory of an idle connection, {short(engine)}", "memory", engine, "idle_bytes", 512, "bytes")
        yield Absolute(f"cold start to the first byte, {short(engine)}", "start", engine, "start_ms", 15, "ms", below_peers=True)
        yield Growth(f"CPU per request, 1,000 to 9,000 connections, {short(engine)}", "connections-1000", "connections-9000", engine)
        yield Growth(f"CPU per request, 1,000 to 20,000 connections (3 workers), {short(engine)}", "connections-1000w3",
                     "connections-20000", engine)
        yield Growth(f"CPU per request, 1 to 10,000 servers, {short(engine)}", "servers-1", "servers-10000", engine)
        yield Ab(engine)


def datagram_targets():
    for engine in (URING, EPOLL):
        for text, work, limit, floor in (("64 B, one at a time", "udp-1", 0.83, "floor udp"), ("64 B, bursts of 16", "udp-16", 0.70, "floor udp"),
                                         ("1200 B in segments", "udp-segments", 0.30, "floor udp segments")):
            yield Ratio(f"CPU per UDP echo, {text}, {short(engine)}", work, engine, "cpu_us", limit, [floor])
        yield Flat(f"CPU per UDP echo, 1 to 10,000 sessions, {short(engine)}", "udp-sessions-1", "udp-sessions-10000", engine, "floor udp")
        yield Flat(f"CPU per UDP echo, 1,000 to 50,000 sessions (3 workers), {short(engine)}", "udp-sessions-1000w3", "udp-sessions-50000w3",
                   engine, "floor udp")
        yield Flat(f"CPU per UDP echo, 1 to 50,000 sessions (3 workers, 65,536 places in the kernel's table), {short(engine)}", "udp-sessions-1",
                   "udp-sessions-50000w3-table", engine, "floor udp")


TARGETS = [*request_targets(), *connection_targets(), *bulk_targets(), *other_targets(), *datagram_targets()]


def judged(table):
    """The verdicts of all targets that a run measured."""
    return [verdict for verdict in (target.judge(table) for target in TARGETS) if verdict]
