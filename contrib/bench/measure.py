"""Reading processes and running load generators."""
import json
import os
import re
import subprocess
import time

DIRECTORY = os.path.dirname(os.path.abspath(__file__))


class Failed(Exception):
    """A contestant could not do a work; the reason goes into the report."""


def cpu_ns(pids):
    """Time on CPU of all threads of some processes: the scheduler's own account, finer than the 10 ms ticks of /proc/PID/stat."""
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                with open(f"/proc/{pid}/task/{task}/schedstat") as account:
                    total += int(account.read().split()[0])
            except FileNotFoundError:
                pass
    return total


def private_bytes(pids):
    """Private_Clean + Private_Dirty: what would come back if these processes ended."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    total += int(line.split()[1]) * 1024
    return total


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as listed:
            found += [int(child) for child in listed.read().split()]
    return found


def run_pinned(host, command, timeout):
    """Run a load generator on the CPU of the contest and return what it printed."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, preexec_fn=host.on_cpu, text=True)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{os.path.basename(command[0])}: no end after {timeout:.0f} s") from late
    if done.returncode != 0 and not done.stdout.strip():
        raise Failed(f"{os.path.basename(command[0])}: {done.stderr.strip()[-200:] or done.returncode}")
    return done.stdout


def last_json(text):
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    raise Failed("the load generator printed no result")


class Load:
    """What one run of a load generator saw, and what it cost the proxy."""

    def __init__(self, requests, errors, seconds, bytes_moved=0, latency=None):
        self.requests = requests
        self.errors = errors
        self.seconds = seconds
        self.bytes = bytes_moved
        self.latency = latency or {}
        self.cpu_ns = None

    def row(self, unit="request"):
        row = {"rate": self.requests / self.seconds if self.seconds else 0, "errors": self.errors}
        if unit == "request" and self.cpu_ns is not None and self.requests:
            row["cpu_us"] = self.cpu_ns / 1000 / self.requests
        if unit == "request":
            row.update({key: value for key, value in self.latency.items() if value is not None})
        if unit == "GB":
            row["gb_s"] = self.bytes / 1e9 / self.seconds if self.seconds else 0
            del row["rate"]
            if self.cpu_ns is not None and self.bytes:
                row["cpu_s_gb"] = self.cpu_ns / self.bytes
        return row


def wrk(host, address, connections, seconds, path="/"):
    text = run_pinned(host, ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s",
                             os.path.join(DIRECTORY, "wrk.lua"), f"http://{address}{path}"], seconds + 30)
    seen = last_json(text)
    return Load(seen["requests"], seen["errors"] + seen["connect_errors"], seen["seconds"], seen["bytes_in"],
                {"p50": seen["p50"], "p99": seen["p99"], "p999": seen["p999"]})


def bench(host, address, seconds=None, messages=None, connections=1, payload=64, mode="echo", churn=False, path=None, extra=()):
    """aegis-bench; either for a time or a number of messages per connection."""
    command = [host.program("aegis-bench"), "-j", "-m", mode, "-c", str(connections), "-p", str(payload)]
    command += ["-n", str(messages)] if messages else ["-d", str(seconds)]
    command += ["--churn"] if churn else []
    command += ["--path", path] if path else []
    seen = last_json(run_pinned(host, command + list(extra) + [address], (seconds or 60) + 60))
    latency = seen.get("latency_us") or {}
    return Load(seen["requests"], seen["errors"] + seen["connect_errors"], seen["seconds"], max(seen["bytes_in"], seen["bytes_out"]),
                {"p50": latency.get("p50"), "p99": latency.get("p99"), "p999": latency.get("p999")})


def ab(host, address, count, connections, flags=()):
    text = run_pinned(host, ["ab", "-q", "-r", *flags, "-n", str(count), "-c", str(connections), f"http://{address}/"], 120)
    number = lambda pattern: float(re.search(pattern, text).group(1))
    requests, failed = int(number(r"Complete requests:\s+(\d+)")), int(number(r"Failed requests:\s+(\d+)"))
    return Load(requests, failed, number(r"taken for tests:\s+([\d.]+)"),
                latency={"p50": number(r"\n\s*50%\s+(\d+)") * 1000, "p99": number(r"\n\s*99%\s+(\d+)") * 1000})


def churn(host, address, connections, seconds):
    """A connection for each request, closed by the client. Without aegis-bench by ab, which lets the server close."""
    if host.has("aegis-bench"):
        return bench(host, address, seconds, connections=connections, churn=True, mode="http", path="/",
                     extra=["--source-range", "127.2.0.0/24"])
    load = ab(host, address, int(15000 * seconds), connections)
    load.latency = {}
    return load


def iperf(host, port, seconds):
    command = ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", str(max(1, round(seconds))), "-P", "4", "-J"]
    text = run_pinned(host, command, seconds + 30)
    seen = json.loads(text)
    if "error" in seen:
        raise Failed("iperf3: " + seen["error"])
    received = seen["end"]["sum_received"]
    return Load(0, 0, received["seconds"], received["bytes"])


def h2load(host, address, connections, seconds):
    command = ["h2load", "--h1", "-t1", f"-c{connections}", "-D", str(max(1, round(seconds))), f"http://{address}/"]
    text = run_pinned(host, command, seconds + 30)
    seen = re.search(r"finished in ([\d.]+)s.*?requests: .*?(\d+) succeeded, (\d+) failed", text, re.S)
    if not seen:
        raise Failed("h2load printed no result")
    return Load(int(seen.group(2)), int(seen.group(3)), float(seen.group(1)))


def with_cpu(contestant, run):
    """Run a load and take the contestant's CPU time over it."""
    pids = contestant.worker_pids()
    before = cpu_ns(pids) if pids else None
    load = run()
    if pids:
        load.cpu_ns = cpu_ns(pids) - before
    return load


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(what)
        time.sleep(0.005)
