"""The generated part of doc/benchmarks.md and its plots."""
import os
import re
import subprocess
import time

import report
import svg
from scale import CURVES, curve_of
from targets import CLOSE, HIGHER_IS_BETTER, MET, MISSED, best_peer, judged, median

END = "<!-- to here -->"


class Part:
    """What is measured and written together: its works, where it stands on the page, and how its files begin."""

    def __init__(self, title, begin, prefix, about, udp):
        self.title, self.begin, self.prefix, self.about, self.udp = title, begin, prefix, about, udp

    def works(self, works):
        return [work for work in works if work.group.startswith("udp") == self.udp]

RATIO_BARS = [("request-1", "request\n1 conn."), ("request-64", "request\n64 conn."), ("request-512", "request\n512 conn."),
              ("churn", "new\nconnection"), ("download-4", "download\n4 x 64 MB"), ("upload-4", "upload\n4 x 64 MB")]
LATENCY_BARS = [(f"request-{count}", metric, f"{metric}\n{count} conn.") for metric in ("p50", "p99") for count in (1, 64, 512)]
ORDER = ["aegis epoll", "aegis io_uring", "nginx", "haproxy", "floor epoll", "floor io_uring", "floor splice"]


def first_match(pattern, command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
    except OSError:
        return None
    found = re.search(pattern, done.stdout)
    return found.group(1) if found else None


def machine(build):
    """What may matter to a reader, and nothing that names the machine."""
    with open("/proc/cpuinfo") as info:
        cpus = info.read()
    model = re.search(r"model name\s*:\s*(.+)", cpus)
    versions = {
        "Aegis": first_match(r"(\d+\.\d+\.\d+)", [os.path.join(build, "aegis"), "-V"]),
        "nginx": first_match(r"nginx/([\d.]+)", ["nginx", "-v"]),
        "HAProxy": first_match(r"version ([\d.]+)", ["haproxy", "-v"]),
        "wrk": first_match(r"wrk (?:debian/)?([\d.]+)", ["wrk", "-v"]),
    }
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": re.sub(r"\((R|TM)\)", "", model.group(1)) if model else os.uname().machine,
        "cpus": os.cpu_count(),
        "virtual": " hypervisor" in cpus,
        "kernel": re.match(r"[\d.]+", os.uname().release).group(0).rstrip("."),
        "versions": {name: version for name, version in versions.items() if version},
    }


def ratio_groups(table, wanted):
    groups = []
    for work, metric, label in wanted:
        peer = best_peer(table, work, metric) if metric else None
        if peer:
            figures = {name: median(table, work, name, metric) for name in ORDER}
            groups.append((label, {name: value / peer for name, value in figures.items() if value is not None}))
    return groups


def plots(works, table):
    """{file name: SVG} of all that was measured."""
    drawn = {}
    wanted = [(work, "cpu_s_gb" if "load" in work else "cpu_us", label) for work, label in RATIO_BARS]
    for name, title, wanted in (("cpu", "CPU of the proxy per unit of work", wanted), ("latency", "Latency of a request", LATENCY_BARS)):
        groups = ratio_groups(table, wanted)
        if groups:
            drawn[name + ".svg"] = svg.bars(title, "the better of nginx and HAProxy = 1.00", groups, ORDER)
    for curve, (x_label, y_label) in CURVES.items():
        curves = {}
        for work in works:
            if curve_of(work) == curve:
                for kind in work.contestants:
                    value = median(table, work.name, kind.name, "cpu_us")
                    if value is not None:
                        curves.setdefault(kind.name, []).append((work.x, value))
        if any(len(points) > 1 for points in curves.values()):
            drawn[curve + ".svg"] = svg.lines(f"{y_label.split(',')[0]} against {x_label.split(',')[0].lower()}", x_label, y_label, curves)
    return drawn


def markdown(lines):
    full = max(len(line) for line in lines)
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line + [""] * (full - len(line))) + " |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * full] + rows[1:])


def curve_table(works, curve, table):
    """Contestants down, the points of the curve across."""
    mine = [work for work in works if curve_of(work) == curve]
    names = [kind.name for kind in mine[0].contestants if any(median(table, work.name, kind.name, "cpu_us") is not None for work in mine)]
    lines = [[CURVES[curve][1]] + [f"{work.x:,}" for work in mine]]
    for name in names:
        values = [median(table, work.name, name, "cpu_us") for work in mine]
        lines.append([name] + [f"{value:.2f}" if value is not None else "-" for value in values])
    return lines


def summary(table):
    verdicts = judged(table)
    counts = {kind: sum(verdict.verdict == kind for verdict in verdicts) for kind in (MET, CLOSE, MISSED)}
    return (f"Of {len(verdicts)} targets **{counts[MET]} are met**, {counts[CLOSE]} are within 5 % of the floor (the least program that does "
            f"the work), and **{counts[MISSED]} are missed**.")


def losses(works, table):
    """Where Aegis is behind the better of the two by more than 2 % and in every round, target or not."""
    found = []
    for work in works:
        for name, figures in table.get(work.name, {}).items():
            for metric in figures if name.startswith("aegis") else ():
                peer = best_peer(table, work.name, metric)
                figure = figures[metric]
                if metric in ("errors", "base_kb", "p999") or not peer or not figure["median"]:
                    continue
                ratio = figure["median"] / peer
                higher = metric in HIGHER_IS_BETTER
                if (1 / ratio if higher else ratio) > 1.02 and (figure["high"] < peer if higher else figure["low"] > peer):
                    found.append(f"| {work.title} | {name} | {report.METRICS[metric][0]} | {ratio:.2f} |")
    if not found:
        return "Nowhere is Aegis more than 2 % behind the better of the two in every round."
    head = "| work | who | figure | ratio |\n|---|---|---|---|\n"
    return "Where Aegis is more than 2 % behind the better of the two, and in every round:\n\n" + head + "\n".join(found)


ABOUT = """\
Made on {date} by `contrib/bench/run`: {cpus} CPUs ({cpu}{virtual}), Linux {kernel}, {versions}. {rounds} rounds of {seconds:g} s (fewer
where a work takes long), in which the contestants take turns; medians, and the range of all rounds. Server, proxy and load generator
share one CPU, except where it says all CPUs. The CPU of a proxy is what the scheduler accounts to its workers, per unit of work;
*ratio* is to the better of nginx and HAProxy. The floors are the smallest programs that do the work, without limits, timeouts or
handling of errors; *direct* is the load without a proxy. Requests on 64 and 512 connections come from `wrk`, the rest from
`aegis-bench`, unless another tool is named. All rounds are in [bench/rounds.csv](bench/rounds.csv), their medians in
[bench/medians.csv](bench/medians.csv)."""

ABOUT_UDP = """\
Made on {date} by `contrib/bench/run --only udp,udp-sessions`: {cpus} CPUs ({cpu}{virtual}), Linux {kernel}, {versions}. Up to {rounds} rounds of
{seconds:g} s, in which the contestants take turns; medians, and the range of all rounds. The server (`aegis-demo -u`), the proxy and the
load generator (`aegis-udpblast`) share one CPU, also where a proxy has several workers. The CPU of a proxy is what the scheduler accounts to its workers, for
each echo: a datagram there and one back. *ratio* is to nginx's stream module; HAProxy has no UDP. The floors are the smallest programs
that do the work: *udp* with `recvmmsg` and `sendmmsg`, *udp segments* with `UDP_GRO` and `UDP_SEGMENT` as well, *udp single* with none of
them; *direct* is the load without a proxy. All rounds are in [bench/udp-rounds.csv](bench/udp-rounds.csv), their medians in
[bench/udp-medians.csv](bench/udp-medians.csv)."""

PARTS = [Part("Side by side", "<!-- contrib/bench/run --update-doc writes from here -->", "", ABOUT, False),
         Part("UDP side by side", "<!-- contrib/bench/run --update-doc writes UDP from here -->", "udp-", ABOUT_UDP, True)]


def generated(part, works, run, table):
    about = dict(run["machine"], rounds=run["rounds"], seconds=run["seconds"])
    about["versions"] = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    about["virtual"] = ", virtual machine" if about["virtual"] else ""
    measured = [work for work in works if table.get(work.name)]
    pictures = plots(works, table)
    parts = [part.about.format(**about), summary(table), losses(works, table), "### Targets", markdown(report.target_lines(table))]
    parts += [f"![{what} against the better peer](bench/{name}.svg)" for name, what in (("cpu", "CPU"), ("latency", "latency"))
              if name + ".svg" in pictures]
    parts.append("### Works")
    parts += [markdown(report.work_lines(work, table[work.name], run["notes"][work.name])) for work in measured if curve_of(work) is None]
    parts.append("### Curves")
    for curve in CURVES:
        if curve + ".svg" in pictures:
            parts += [f"![{CURVES[curve][1]}](bench/{curve}.svg)", markdown(curve_table(measured, curve, table))]
    unmeasured = sorted({f"{name} at {work.title}: {why}" for work in works if work not in measured or curve_of(work) is not None
                         for name, why in run["notes"].get(work.name, {}).items()})
    return "\n\n".join(parts + (["Not measured: " + "; ".join(unmeasured) + "."] if unmeasured else [])) + "\n"


def write_plots(directory, works, table):
    os.makedirs(directory, exist_ok=True)
    for name, drawing in plots(works, table).items():
        with open(os.path.join(directory, name), "w") as out:
            out.write(drawing)


def put(text, part, section):
    """The page with this section between the part's two comment lines, or at the end where they are missing."""
    section = f"{part.begin}\n\n{section}\n{END}"
    if part.begin not in text:
        return text.rstrip("\n") + f"\n\n## {part.title}\n\n{section}\n"
    head, rest = text.split(part.begin, 1)
    return head + section + rest.split(END, 1)[1]


def update(source, works, run, table):
    """Write the parts of which everything was measured into doc/benchmarks.md; plots and CSV beside it. Returns their titles."""
    page = os.path.join(source, "doc", "benchmarks.md")
    beside = os.path.join(source, "doc", "bench")
    with open(page) as current:
        text = current.read()
    written = []
    for part in PARTS:
        mine = part.works(works)
        if not all(table.get(work.name) for work in mine):
            continue
        raw, own = ({work.name: rows[work.name] for work in mine} for rows in (run["raw"], table))
        text = put(text, part, generated(part, mine, run, own))
        write_plots(beside, mine, own)
        report.write_csv(beside, raw, own, part.prefix)
        written.append(part.title)
    with open(page, "w") as out:
        out.write(text)
    return written
