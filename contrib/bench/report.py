"""What came out: medians, tables on the terminal, CSV files."""
import csv
import os
import statistics

from targets import best_peer, judged

METRICS = {
    "rate": ("per second", "{:.0f}"),
    "cpu_us": ("CPU us", "{:.2f}"),
    "p50": ("p50 us", "{:.0f}"),
    "p99": ("p99 us", "{:.0f}"),
    "p999": ("p99.9 us", "{:.0f}"),
    "gb_s": ("GB/s", "{:.2f}"),
    "cpu_s_gb": ("CPU s/GB", "{:.3f}"),
    "idle_bytes": ("bytes each", "{:.0f}"),
    "base_kb": ("kB without", "{:.0f}"),
    "start_ms": ("ms", "{:.1f}"),
    "reload_ms": ("ms", "{:.1f}"),
    "reload_cpu_ms": ("CPU ms", "{:.1f}"),
    "errors": ("errors", "{:.0f}"),
}


def medians(raw):
    """{work: {contestant: {metric: {median, low, high}}}} of {work: {contestant: [row]}}."""
    table = {}
    for work, contestants in raw.items():
        table[work] = {}
        for name, rows in contestants.items():
            figures = {}
            for metric in {key for row in rows for key in row}:
                values = [row[metric] for row in rows if row.get(metric) is not None]
                if values:
                    figures[metric] = {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": len(values)}
            table[work][name] = figures
    return table


def headline(work, columns):
    """The metric that the ratio of a work is taken from."""
    return next((metric for metric in (work.headline, "cpu_us", "cpu_s_gb") if metric in columns), None)


def show(metric, value):
    fine = metric in ("p50", "p99", "p999") and value < 100
    return f"{value:.1f}" if fine else METRICS[metric][1].format(value)


def work_lines(work, table, notes):
    """The table of one work: a list of rows, the first one the head."""
    columns = [metric for metric in METRICS if any(metric in figures for figures in table.values())]
    main = headline(work, columns)
    head = [work.title] + [METRICS[metric][0] for metric in columns] + ([f"{METRICS[main][0]} min..max", "ratio"] if main else [])
    lines = [head]
    peer = best_peer({work.name: table}, work.name, main) if main else None
    for kind in work.contestants:
        figures = table.get(kind.name)
        if figures:
            line = [kind.name] + [show(metric, figures[metric]["median"]) if metric in figures else "-" for metric in columns]
            if main:
                own = figures.get(main)
                line.append(f"{show(main, own['low'])}..{show(main, own['high'])}" if own else "-")
                line.append(f"{own['median'] / peer:.2f}" if own and peer else "-")
            lines.append(line)
        if kind.name in notes:
            lines.append([kind.name, "(" + notes[kind.name] + ")"])
    return lines


def print_lines(lines, out):
    full = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(len(line[column]) for line in full) for column in range(len(lines[0]))]
    for line in lines:
        if len(line) == len(widths):
            line = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("  ".join(line).rstrip(), file=out)
    print(file=out, flush=True)


def target_lines(table):
    lines = [["target (the better of nginx and HAProxy = 1.00)", "wanted", "measured", "floor", "verdict"]]
    return lines + [[verdict.text, verdict.wanted, verdict.measured, verdict.floor, verdict.verdict] for verdict in judged(table)]


def write_csv(directory, raw, table, prefix=""):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, prefix + "rounds.csv"), "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["work", "contestant", "round", "metric", "value"])
        for work, contestants in raw.items():
            for name, rows in contestants.items():
                for turn, row in enumerate(rows):
                    for metric, value in row.items():
                        writer.writerow([work, name, turn + 1, metric, f"{value:.6g}"])
    with open(os.path.join(directory, prefix + "medians.csv"), "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["work", "contestant", "metric", "median", "min", "max", "rounds", "ratio"])
        for work, contestants in table.items():
            for name, figures in contestants.items():
                for metric, figure in figures.items():
                    peer = best_peer(table, work, metric)
                    writer.writerow([work, name, metric] + [f"{figure[key]:.6g}" for key in ("median", "low", "high")] +
                                    [figure["rounds"], f"{figure['median'] / peer:.4f}" if peer else ""])
