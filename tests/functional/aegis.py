"""The functional tests' ground: a private directory for each test, Aegis as a process, backends, clients, and waiting.

A script is run by "make check", or by hand:  AEGIS_BUILDDIR=build AEGIS_SRCDIR=. python3 tests/functional/test_relay.py [Class[.test]]
AEGIS_TEST_SLOW=4 multiplies every deadline (sanitizer builds get 4 by themselves); AEGIS_TEST_LONG=1 runs the long versions;
AEGIS_TEST_ENGINE=io_uring (or epoll) has every Aegis that does not choose its engine itself run on that one; AEGIS_TEST_TLS: see secure.py.

Nothing here waits by sleeping for a time that ought to be enough: a condition is asked for until a deadline, or an event is awaited.
Every test ends with the same questions (Aegis.stop): is every gauge back at zero, does each connection have its one close reason, is the
exit code 0, is no process left, is the log free of broken invariants and sanitizer reports, and did no backend see what it should not.
"""
import contextlib
import copy
import faulthandler
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import secure
# The tests import all they need from here.
from ground import *
from wire import *

ENGINE = os.environ.get("AEGIS_TEST_ENGINE")

# --- settings --------------------------------------------------------------------------------------------------------------


def _value(value, depth):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        inner = "".join(f"{'  ' * (depth + 1)}{name} = {_value(item, depth + 1)};\n" for name, item in value.items())
        return "{\n" + inner + "  " * depth + "}"
    return "( " + ", ".join(_value(item, depth) for item in value) + " )"


def libconfig(settings):
    """aegis.conf from nested dicts and lists; a string is taken as it stands."""
    if isinstance(settings, str):
        return settings
    return "".join(f"{name} = {_value(value, 0)};\n" for name, value in settings.items())


def app(servers, listener=None, upstream=None, **top):
    """Settings of one listener "app" (the kernel chooses its port) in front of one upstream "app"."""
    servers = [servers] if isinstance(servers, (str, dict)) else servers
    rows = [dict(server) if isinstance(server, dict) else {"address": server} for server in servers]
    return {"workers": 2, "pin": False, **copy.deepcopy(top),
            "listeners": [{"name": "app", "address": "127.0.0.1:0", "upstream": "app", **(listener or {})}],
            "upstreams": [{"name": "app", **(upstream or {}), "servers": rows}]}


# --- processes -------------------------------------------------------------------------------------------------------------


def proc(pid, name):
    return pathlib.Path(f"/proc/{pid}/{name}").read_text()


def stat_fields(pid):
    """/proc/PID/stat from field 3 (the state) on."""
    return proc(pid, "stat").rpartition(")")[2].split()


def alive(pid):
    try:
        return stat_fields(pid)[0] not in "ZX"
    except OSError:
        return False


def cpu_seconds(pid):
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    return int(re.search(r"^VmRSS:\s+(\d+) kB", proc(pid, "status"), re.M)[1]) * KIB


def links(pid):
    """What the descriptors of a process are; of one that is gone there are none."""
    found = []
    for link in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return found


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def title(pid):
    try:
        return proc(pid, "cmdline").replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # gone since it was listed


def session_members(session):
    """All living processes of a session (of setsid)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = stat_fields(entry)
                if int(fields[3]) == session and fields[0] not in "ZX":
                    found.append(int(entry))
    return found


def drop_to_nobody():
    """Arguments for subprocess that run a child without privileges; none are needed where the test has none."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if ROOT else {}


class Notifications:
    """The service manager's end of $NOTIFY_SOCKET: keeps each assignment in order."""

    def __init__(self, path):
        self.path, self.seen, self._changed = str(path), [], threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            message = self._socket.recv(65536)
            if message == b"close":
                return
            with self._changed:
                self.seen += message.decode().split("\n")
                self._changed.notify_all()

    def mark(self):
        with self._changed:
            return len(self.seen)

    def wait(self, *wanted, since=0, seconds=20.0, gone=lambda: False):
        """Until the wanted assignments have come in this order after `since`; False when the sender is gone before."""
        def complete():
            rest = iter(self.seen[since:])
            return all(any(line == want for line in rest) for want in wanted)
        end = time.monotonic() + seconds * SLOW
        with self._changed:
            while not complete():
                if gone():
                    return complete()
                if time.monotonic() > end:
                    raise AssertionError(f"not within {seconds * SLOW:.0f} s: {', '.join(wanted)}; came: {self.seen[since:]}")
                self._changed.wait(0.05)
        return True

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self.path)
            sock.send(b"close")
        self._thread.join()
        self._socket.close()


class Aegis:
    """A master with its workers.

    lost      connections may end without a close reason (their worker was killed)
    restarts  how many worker restarts the test brings about; None = do not ask
    """

    _count = 0

    def __init__(self, test, settings, *args, directory=None, config=None, environment=None, nobody=False, wrapper=(), ready=True, program=AEGIS, **popen):
        Aegis._count += 1
        self.test, self.lost, self.restarts = test, False, 0
        self.directory = pathlib.Path(directory) if directory else test.directory / f"run{Aegis._count}"
        self.directory.mkdir(exist_ok=True)
        self.config = pathlib.Path(config) if config else test.directory / f"aegis{Aegis._count}.conf"
        self.log_path = test.directory / f"log{Aegis._count}"
        if settings is not None:
            self.write(settings)
        if nobody and ROOT:
            os.chown(self.directory, NOBODY, NOBODY)
        self.notifications = Notifications(test.directory / f"notify{Aegis._count}")
        test.addCleanup(self.notifications.close)
        variables = {**os.environ, "NOTIFY_SOCKET": self.notifications.path, **secure.kernel(), **(environment or {})}
        engine = [] if ENGINE is None or "engine" in libconfig(settings or "") else ["-e", f'engine = "{ENGINE}";']
        command = [*wrapper, program, "-c", self.config, "-r", self.directory, *engine, *args]
        if nobody:
            popen.update(drop_to_nobody())
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables,
                                            start_new_session=True, **popen)
        self.pid = self.process.pid
        test.addCleanup(self._finish)
        if ready:
            self.wait_ready()

    # - settings and log

    def write(self, settings):
        self.settings = settings
        settings = secure.secured(settings)
        new = self.config.with_suffix(".new")  # as editors do: nobody ever sees half a file
        new.write_text(libconfig(settings))
        new.rename(self.config)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, text, seconds=15.0):
        wait_until(lambda: text in self.log(), f"{text!r} in the log", seconds)

    # - life

    def gone(self):
        return self.process.poll() is not None

    def wait_ready(self, seconds=20.0):
        if not self.notifications.wait("READY=1", seconds=seconds, gone=self.gone):
            raise AssertionError(f"Aegis ended with code {self.process.returncode} before it was ready")

    def send(self, number):
        self.process.send_signal(number)

    def reload(self, settings=None, seconds=30.0):
        """HUP, and wait for the end of the reload, good or bad. Returns whether it took effect."""
        if settings is not None:
            self.write(settings)
        before = self.stat()["reloads"]
        mark = self.notifications.mark()
        self.send(signal.SIGHUP)
        self.notifications.wait("RELOADING=1", "READY=1", since=mark, seconds=seconds, gone=self.gone)
        after = self.stat()["reloads"]
        done = (after["ok"] - before["ok"], after["failed"] - before["failed"])
        if done not in ((1, 0), (0, 1)):
            raise AssertionError(f"one reload counted as {done[0]} good and {done[1]} failed: {after}")
        return done[0] == 1

    def must_reload(self, settings=None):
        if not self.reload(settings):
            raise AssertionError(f"the reload failed: {self.stat()['reloads']}")

    def control_pids(self):
        """Of all control processes, be they at work, in their trial or on their way out."""
        found = []
        for pid in session_members(self.pid):
            try:
                if title(pid).startswith("aegis: control"):
                    found.append(pid)
            except OSError:
                pass  # gone since
        return sorted(found)

    def control_pid(self, *others):
        """The control process that is at work, when it is none of the others; waits for there being exactly one."""
        def look():
            pids = self.control_pids()
            return len(pids) == 1 and pids[0] not in others and title(pids[0]) == "aegis: control" and pids[0]
        return wait_until(look, lambda: f"one control process at work: {[(pid, title(pid)) for pid in self.control_pids()]}")

    def wait_exit(self, seconds=20.0):
        try:
            return self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"Aegis did not exit within {seconds * SLOW:.0f} s") from None

    def check_gauges(self):
        """No connection is counted any more, and each one that was counted ended for one reason."""
        def busy():
            stat = self.stat()
            gauges = {"connections.active": stat["connections"]["active"]}
            gauges.update((f"listener {row['name']}", row["active"]) for row in stat["listeners"])
            gauges.update((f"server {row['name']}", row["active"]) for group in stat["upstreams"] for row in group["servers"])
            gauges.update((f"worker {row['pid']}", row["connections"]) for row in stat["workers"])
            return {name: value for name, value in gauges.items() if value != 0}
        wait_until(lambda: not busy(), lambda: f"every gauge at zero; still: {busy()}")
        stat = self.stat()
        for row in stat["listeners"]:
            closes = sum(row["closes"].values())
            self.test.assertEqual(row["closes"]["internal"], 0, f"listener {row['name']}: {row['closes']}")
            if self.lost:
                self.test.assertLessEqual(closes, row["total"], f"listener {row['name']}: {row['closes']}")
            else:
                self.test.assertEqual(closes, row["total"], f"listener {row['name']}: closes do not add up: {row['closes']}")
                died = row.get("drops", {}).get("worker_died", 0)
                self.test.assertEqual(died, 0, f"listener {row['name']}: datagrams of workers that ended do not add up: {row}")
        if self.restarts is not None:
            self.test.assertEqual(stat["worker_restarts"], self.restarts, "worker_restarts")

    def check_log(self):
        log = self.log()
        for text in BROKEN:
            self.test.assertNotIn(text, log)

    def check_gone(self):
        wait_until(lambda: not session_members(self.pid), lambda: f"processes left behind: {[title(p) for p in session_members(self.pid)]}", 5)

    def stop(self, number=signal.SIGTERM, gauges=True, seconds=20.0):
        """The good end: gauges at zero, exit code 0, no process left, a clean log."""
        if gauges:
            self.check_gauges()
        self.send(number)
        code = self.wait_exit(seconds)
        self.test.assertEqual(code, 0, "exit code of Aegis")
        self.check_gone()
        self.check_log()

    def kill(self):
        for pid in {self.pid, *session_members(self.pid)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def _finish(self):
        try:
            if not self.gone() and self.test.succeeds():
                self.stop()
        finally:
            self.kill()
        self.check_log()

    # - what it says of itself

    def stat(self):
        done = subprocess.run([AEGIS_STAT, "-r", self.directory, "-j"], capture_output=True, text=True, timeout=20 * SLOW)
        if done.returncode != 0:
            raise AssertionError(f"aegis-stat -j: exit code {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def wait_stat(self, condition, what, seconds=15.0):
        """aegis-stat -j until the condition holds; returns it."""
        last = []

        def ask():
            last[:] = [self.stat()]
            return condition(last[0])
        wait_until(ask, lambda: f"{what}; last: {json.dumps(last[0])[:3000]}", seconds)
        return last[0]

    def listener(self, name="app"):
        return next(row for row in self.stat()["listeners"] if row["name"] == name)

    def server(self, name, upstream="app"):
        group = next(row for row in self.stat()["upstreams"] if row["name"] == upstream)
        return next(row for row in group["servers"] if name in (row["name"], row["address"]))

    def address(self, name="app"):
        return self.listener(name)["address"]

    def workers(self, generation=None):
        """Seats in use, by slot; of the running generation when none is named."""
        stat = self.stat()
        wanted = stat["generation"] if generation is None else generation
        return sorted((row for row in stat["workers"] if row["generation"] == wanted), key=lambda row: row["slot"])

    def wait_closes(self, reason, count=1, name="app", seconds=15.0):
        def reached(stat):
            return next(row for row in stat["listeners"] if row["name"] == name)["closes"][reason] >= count
        self.wait_stat(reached, f"{count} closes of listener {name} for {reason}", seconds)
        self.test.assertEqual(self.listener(name)["closes"][reason], count, f"closes for {reason}: {self.listener(name)['closes']}")

    def command(self, *args, **popen):
        """Another call of the program with the same file and directory, e.g. command("-s", "reload")."""
        return run(AEGIS, "-c", self.config, "-r", self.directory, *args, **popen)


def run(*command, seconds=30.0, environment=None, **popen):
    """Run to the end; stdout and stderr as text."""
    variables = {**os.environ, **(environment or {})}
    variables.pop("NOTIFY_SOCKET", None)
    try:
        return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              env=variables, timeout=seconds * SLOW, **popen)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{' '.join(map(str, command))}: not done within {seconds * SLOW:.0f} s; stderr: {late.stderr}") from None


# --- the test case ---------------------------------------------------------------------------------------------------------


class TestTimeout(BaseException):
    """The deadline of a whole test. Not an Exception, so that no test takes it for an answer."""


class Case(unittest.TestCase):
    deadline = 60.0
    longMessage = True

    def setUp(self):
        self.has_failed = False
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="aegis-test-"))
        os.chmod(self.directory, 0o755)
        self.addCleanup(self._remove_directory)
        self._set_alarm(self.deadline * SLOW)
        self.addCleanup(self._set_alarm, 30 * SLOW)

    def _set_alarm(self, seconds):
        def late(_number, _frame):
            faulthandler.dump_traceback(all_threads=True)
            raise TestTimeout(f"the test was not over within {seconds:.0f} s")
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def succeeds(self):
        return not self.has_failed and self._outcome.success

    def _remove_directory(self):
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.has_failed:
            for path in sorted(self.directory.glob("log*")):
                lines = path.read_text(errors="replace").splitlines()
                middle = ["[...]"] if len(lines) > 400 else []
                print(f"--- {self.id()}: {path.name}, {len(lines)} lines", *lines[:200], *middle, *lines[200:][-200:], "---", sep="\n", file=sys.stderr)
        shutil.rmtree(self.directory, ignore_errors=True)

    # - short ways

    def aegis(self, settings, *args, **options):
        return Aegis(self, settings, *args, **options)

    def proxy(self, servers, **settings):
        """Aegis in front of the servers: (Aegis, address to connect to)."""
        aegis = Aegis(self, app(servers, **settings))
        return aegis, aegis.address()

    def connect(self, address, **options):
        sock = dial(address, **options)
        self.addCleanup(sock.close)
        return sock

    def must_fail(self, settings, code, *args, says=(), **popen):
        """A start that must fail with this exit code and say each of the given texts; returns what it said."""
        config = self.directory / "bad.conf"
        config.write_text(libconfig(settings))
        directory = self.directory / "bad"
        directory.mkdir(exist_ok=True)
        if "user" in popen:
            os.chown(directory, popen["user"], popen["group"])
        done = run(AEGIS, "-c", config, "-r", directory, *args, **popen)
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, code, text)
        for part in says:
            self.assertIn(part, text)
        for part in BROKEN:
            self.assertNotIn(part, text)
        return text


def need(*programs):
    """Skip the test where a program is missing."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = [shutil.which(program, path=path) for program in programs]
    missing = [program for program, where in zip(programs, found) if not where]
    if missing:
        raise unittest.SkipTest(f"not installed: {', '.join(missing)}")
    return found


class _Result(unittest.TextTestResult):
    """Tells a test at once that it failed, so that its cleanups know; prints how long each one took."""

    def startTest(self, test):
        self._started = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        self.stream.writeln(f"    {test.id()}: {time.monotonic() - self._started:.1f} s")

    def addFailure(self, test, err):
        test.has_failed = True
        super().addFailure(test, err)

    def addError(self, test, err):
        test.has_failed = True
        super().addError(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            test.has_failed = True
        super().addSubTest(test, subtest, err)


def main():
    """Run the script's tests: exit code 0, 1, or 77 when all were skipped (automake's convention)."""
    faulthandler.enable()
    for program in (AEGIS, AEGIS_STAT):
        if not program.exists():
            print(f"{program} is not built; set AEGIS_BUILDDIR", file=sys.stderr)
            sys.exit(1)
    runner = unittest.TextTestRunner(resultclass=_Result, verbosity=2, stream=sys.stderr)
    result = unittest.main(module="__main__", argv=sys.argv, testRunner=runner, exit=False).result
    if not result.wasSuccessful() or result.testsRun == 0:
        sys.exit(1)
    reasons = sorted({reason for _, reason in result.skipped})
    if result.testsRun == len(result.skipped):
        print("skipped:", "; ".join(reasons), flush=True)
        sys.exit(77)
    if reasons:
        print("partly skipped:", "; ".join(reasons))
    sys.exit(0)
