"""Upgrade of the program (USR2): the new one takes over and no client notices; one that does not work changes nothing."""
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import admin
import aegis
import tracer
from aegis import AEGIS, BUILD, ROOT, SLOW, Aegis, Case, Demo, Echo, Load, Task, alive, dial, echo, free_address, need, receive_line, wait_until
from papers import Papers, need_tls, serial_at

OTHER = BUILD / "tests/functional/aegis_other_layout"
OTHER_STAT = BUILD / "tests/functional/stat_other_layout"
LONG_DRAIN = {"drain": {"timeout": "0s", "max_generations": 8}}
PR_SET_CHILD_SUBREAPER = 36


def setUpModule():
    """New masters become children of this process when the old one has ended, so that their exit codes can be asked for."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Master(Aegis):
    """Aegis whose master may be another process by now: self.pid is the first one, self.current the one in charge."""

    def __init__(self, test, settings, *args, **options):
        self.current, self.codes = None, {}
        self.program = test.directory / "bin" / "aegis"
        self.program.parent.mkdir(exist_ok=True)
        self.install(AEGIS)
        super().__init__(test, settings, *args, program=self.program, **options)
        self.current = self.pid

    def install(self, program):
        """Put another program in the place of the one that runs, as a package does."""
        fresh = self.program.with_suffix(".new")
        if isinstance(program, str):
            fresh.write_text(program)
        else:
            shutil.copy(program, fresh)
        fresh.chmod(0o755)
        fresh.rename(self.program)

    def stat(self):
        """By the aegis-stat that belongs to the program."""
        end = time.monotonic() + 5 * SLOW
        while True:
            for program in (aegis.AEGIS_STAT, OTHER_STAT):
                done = aegis.run(program, "-r", self.directory, "-j")
                if done.returncode == 0:
                    return json.loads(done.stdout)
                if "another build" not in done.stderr or time.monotonic() > end:  # it may change between the two
                    raise AssertionError(f"{program}: {done.stderr}")

    def pid_file(self):
        return int((self.directory / "aegis.pid").read_text())

    def reap(self):
        """Exit codes of the masters that have ended, by pid."""
        if self.process.poll() is not None:
            self.codes[self.pid] = self.process.returncode
        if self.current not in (None, self.pid, *self.codes):
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.current, os.WNOHANG)
                if pid:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return self.codes

    def gone(self):
        return (self.current or self.pid) in self.reap() or not alive(self.current or self.pid)

    def send(self, number):
        os.kill(self.current, number)

    def wait_exit(self, seconds=20.0):
        wait_until(lambda: self.current in self.reap(), f"the end of master {self.current}", seconds)
        return self.codes[self.current]

    def wait_first(self, pid, seconds=20.0):
        """Until a master that was replaced has ended."""
        wait_until(lambda: pid in self.reap() or not alive(pid), f"the end of the old master {pid}", seconds)
        self.reap()  # it may have ended between the two questions

    def kill(self):
        super().kill()
        self.reap()

    def upgrade(self, program=None):
        """aegis -s upgrade, which must succeed. Returns the pid of the new master."""
        if program:
            self.install(program)
        before = self.pid_file()
        self.test.assertEqual(before, self.current)
        done = self.command("-s", "upgrade")
        self.test.assertEqual((done.returncode, done.stderr), (0, ""), self.log())
        self.current = self.pid_file()
        self.test.assertNotEqual(self.current, before)
        return self.current

    def catch_in_the_switch(self):
        """An upgrade to the same program, which is stopped when its workers accept, and ours have not been told to stop. Returns its pid."""
        note = self.directory / "new.pid"
        self.install(f"#!/bin/sh\necho $$ > {note}.new; mv {note}.new {note}; kill -STOP $$\nexec {AEGIS} \"$@\"\n")
        self.send(signal.SIGUSR2)
        wait_until(note.exists, "the new program")
        new = int(note.read_text())
        wait_until(lambda: aegis.stat_fields(new)[0] == "T", "it to stop")
        tracer.run_until_memfd(new, "aegis")  # with which it tells the old one what its workers read now
        return new

    def must_refuse(self, *says, seconds=30.0):
        """aegis -s upgrade, which must fail, say why, and change nothing."""
        before = self.stat()
        workers = [worker["pid"] for worker in self.workers()]
        done = aegis.run(AEGIS, "-r", self.directory, "-s", "upgrade", seconds=seconds)
        self.test.assertEqual(done.returncode, 3, done.stderr + self.log())
        for text in says:
            self.test.assertIn(text, done.stderr)
        after = self.stat()
        self.test.assertEqual(self.pid_file(), self.current)
        self.test.assertEqual((after["pid"], after["generation"], after["state"]), (before["pid"], before["generation"], "running"))
        self.test.assertEqual(after["upgrades"]["failed"], before["upgrades"]["failed"] + 1)
        self.test.assertEqual([worker["pid"] for worker in self.workers()], workers)
        wait_until(lambda: len(self.stat()["workers"]) == len(before["workers"]), "the seats of the new program to be free")
        return done.stderr

    def settled(self):
        """Old masters and their workers have gone."""
        return self.wait_stat(lambda stat: {worker["generation"] for worker in stat["workers"]} == {stat["generation"]}, "one generation")


def counts(stat):
    """What must go on where it was."""
    rows = {"total": stat["connections"]["total"], "received": stat["bytes"]["received"], "sent": stat["bytes"]["sent"]}
    for row in stat["listeners"]:
        rows[f"listener {row['name']}"] = row["total"]
    for group in stat["upstreams"]:
        for row in group["servers"]:
            rows[f"server {row['name']}"] = row["total"]
    return rows


class Upgrades(Case):
    deadline = 120.0
    program = AEGIS

    def master(self, settings, *args, **options):
        return Master(self, settings, *args, **options)

    def check_under_load(self, **settings):
        """New connections all the time, kept ones, more workers and fewer: no failure, counters go on, the old ones end at last."""
        demo = Demo(self, "echo")
        proxy = self.master(aegis.app(demo["echo"], **LONG_DRAIN, **settings))
        address = proxy.address()
        load = Load(self, address)
        quiet = [self.connect(address) for _ in range(6)]
        for sock in quiet:
            echo(sock)
        load.wait_more()
        for number, workers in enumerate((2, 4, 1), 1):
            before = counts(proxy.stat())
            proxy.write({**proxy.settings, "workers": workers})
            proxy.upgrade(self.program)
            load.wait_more()
            for sock in quiet:
                echo(sock, b"after upgrade %d" % number)
            stat = proxy.stat()
            self.assertEqual((stat["pid"], stat["generation"], stat["state"]), (proxy.current, number + 1, "running"))
            self.assertEqual(len(proxy.workers()), workers)
            self.assertTrue(alive(proxy.pid), "the old master stays with its connections")
            after = counts(stat)
            self.assertEqual([name for name in before if after[name] < before[name]], [], (before, after))
            self.assertGreater(after["total"], before["total"])
            proxy.wait_stat(lambda stat: stat["connections"]["active"] >= len(quiet) + 8, "all connections to be counted")
            self.assertEqual(stat["upgrades"]["ok"], number)
        self.assertEqual(load.failures, [])
        load.stop()
        for sock in quiet:
            sock.close()
        proxy.settled()
        proxy.wait_first(proxy.pid)
        self.assertEqual(proxy.codes[proxy.pid], 0)
        proxy.check_gauges()
        self.assertEqual(proxy.listener()["errors"], 0)
        return proxy

    def test_under_load(self):
        self.check_under_load(engine="epoll")

    def test_under_load_io_uring(self):
        self.check_under_load(engine="auto")

    def test_wrk(self):
        """wrk's kept connections and one new connection after the other: not one error."""
        wrk, = need("wrk")
        demo = Demo(self, "http")
        proxy = self.master(aegis.app(demo["http"], drain={"timeout": "0s"}))
        address, seconds = proxy.address(), f"{round(6 * SLOW)}s"
        commands = [[wrk, "-t", "1", "-c", "32", "-d", seconds, f"http://{address}/"],
                    [wrk, "-t", "1", "-c", "16", "-d", seconds, "-H", "Connection: close", f"http://{address}/"]]
        tasks = [Task(aegis.run, *command) for command in commands]
        proxy.wait_stat(lambda stat: stat["connections"]["total"] > 100, "load")
        for _ in range(3):
            proxy.upgrade(self.program)
            total = proxy.stat()["connections"]["total"]
            proxy.wait_stat(lambda stat: stat["connections"]["total"] > total + 50, "more load")
        for task in tasks:
            done = task.result()
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn("Socket errors", done.stdout)
            self.assertNotIn("Non-2xx", done.stdout)
        proxy.settled()

    def test_limits_hold(self):
        """max_connections counts the connections of old and new workers together, and no worker's death makes it forget any."""
        server = Echo(self)
        proxy = self.master(aegis.app(server.address, {"max_connections": 6}, workers=1, **LONG_DRAIN))
        proxy.lost = True
        address = proxy.address()
        old = [self.connect(address) for _ in range(4)]
        for sock in old:
            echo(sock)
        first, = proxy.workers()
        proxy.upgrade(self.program)
        new = [self.connect(address) for _ in range(2)]
        for sock in new:
            echo(sock)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 6, "six connections")
        with dial(address) as sock, contextlib.suppress(ConnectionResetError):
            self.assertEqual(sock.recv(1), b"")
        self.assertEqual(proxy.listener()["closes"]["listener_full"], 1)
        old.pop().close()
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 5, "five connections")
        if self.program == AEGIS:
            os.kill(first["pid"], signal.SIGKILL)
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 2, "the dead worker's places to be free")
            worker, = proxy.workers()
            os.kill(worker["pid"], signal.SIGKILL)
            proxy.restarts = 1
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all places to be free")
            self.assertEqual(proxy.listener()["active"], 0)
        for sock in old + new:
            sock.close()
        with dial(address) as sock:
            echo(sock)
        proxy.settled()

    def test_queued_connections(self):
        """What waits in the kernel's queues, of workers that stand still, is served after the upgrade; with fewer workers, too."""
        server, address = Echo(self), free_address()
        proxy = self.master(aegis.app(server.address, {"address": address}, workers=3))
        workers = [worker["pid"] for worker in proxy.workers()]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGCONT) for pid in workers if alive(pid)])
        waiting = [self.connect(address, later=True) for _ in range(40)]
        for sock in waiting:
            sock.sendall(b"queued")
        proxy.write({**proxy.settings, "workers": 1})
        proxy.upgrade(self.program)
        for sock in waiting:
            self.assertEqual(aegis.receive(sock, 6), b"queued")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        for sock in waiting:
            sock.close()
        proxy.settled()

    def test_unix_fd_and_systemd_listeners(self):
        """Sockets that are shared by all workers, and those that were handed to us, are handed on."""
        server = Echo(self)
        path = self.directory / "front.sock"
        passed, named = aegis.bind(), aegis.bind()
        settings = aegis.app(server.address)
        rows = {"unix": f"unix:{path}", "fd": "fd:7", "named": "systemd:web"}
        settings["listeners"] = [{"name": name, "address": address, "upstream": "app"} for name, address in rows.items()]
        starter = ("import os, sys\nos.dup2(int(sys.argv[1]), 7); os.dup2(int(sys.argv[2]), 3)\nos.set_inheritable(7, True); os.set_inheritable(3, True)\n"
                   "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='web')\nos.execv(sys.argv[3], sys.argv[3:])")
        proxy = self.master(settings, wrapper=(sys.executable, "-c", starter, passed.fileno(), named.fileno()), pass_fds=(passed.fileno(), named.fileno()))
        addresses = [f"unix:{path}"] + ["%s:%d" % sock.getsockname() for sock in (passed, named)]
        held = []
        for _ in range(2):
            proxy.upgrade(self.program)
            for address in addresses:
                held.append(self.connect(address))
            for sock in held:
                echo(sock)
        for sock in held:
            sock.close()
        proxy.settled()
        proxy.must_reload({**settings, "listeners": settings["listeners"][:2]})
        self.assertTrue(path.exists())
        proxy.stop()
        self.assertFalse(path.exists())

    def test_settings_change_meanwhile(self):
        """The new program reads the file: listeners come and go, the drain obeys the new settings."""
        server, first, second, third = Echo(self), free_address(), free_address(), free_address()
        settings = aegis.app(server.address, {"address": first})
        settings["listeners"].append({"name": "goes", "address": second, "upstream": "app"})
        proxy = self.master(settings)
        held = [self.connect(address) for address in (first, second)]
        for sock in held:
            echo(sock)
        settings = {**aegis.app(server.address, {"address": first}), "drain": {"timeout": "1s"}}
        settings["listeners"].append({"name": "comes", "address": third, "upstream": "app"})
        proxy.write(settings)
        proxy.upgrade(self.program)
        wait_until(lambda: aegis.refused(second), "the listener that left to refuse")
        for address in (first, third):
            with dial(address) as sock:
                echo(sock)
        for sock in held:
            self.assertEqual(aegis.how_it_ends(sock)[0], "eof")
        proxy.settled()
        self.assertEqual(proxy.listener()["closes"]["drain_timeout"], 1)

    def test_commands_go_on(self):
        """aegis -s reaches the new master at once; logs are reopened, a reload works, a stop ends old connections as well."""
        server = Echo(self)
        log = self.directory / "aegis.log"
        proxy = self.master(aegis.app(server.address, log={"target": str(log), "level": "info", "format": "text"}, **LONG_DRAIN))
        held = self.connect(proxy.address())
        echo(held)
        proxy.upgrade(self.program)
        log.rename(self.directory / "aegis.log.1")
        self.assertEqual(proxy.command("-s", "reopen").returncode, 0)
        wait_until(lambda: log.exists() and log.read_text().count("log file opened again") == 2, "both masters to open the log again")
        proxy.must_reload()
        echo(held, b"still here")
        first = proxy.pid
        proxy.write({**proxy.settings, "drain": {"timeout": "1s"}})
        proxy.must_reload()
        self.assertTrue(alive(first))
        proxy.send(signal.SIGTERM)
        self.assertEqual(proxy.wait_exit(), 0)
        proxy.wait_first(first)
        self.assertEqual(aegis.how_it_ends(held)[0], "eof")
        proxy.check_gone()
        self.assertFalse((proxy.directory / "aegis.pid").exists())
        self.assertFalse((proxy.directory / "stats").exists())

    def test_oldest_end(self):
        """drain.max_generations holds over old masters, too."""
        server = Echo(self)
        proxy = self.master(aegis.app(server.address, drain={"timeout": "0s", "max_generations": 1}))
        held = []
        for _ in range(3):
            held.append(self.connect(proxy.address()))
            echo(held[-1])
            proxy.upgrade(self.program)
        for sock in held[:2]:
            self.assertEqual(aegis.how_it_ends(sock)[0], "eof")
        echo(held[2], b"the youngest stays")
        held[2].close()
        proxy.settled()

    def test_kept_connections_are_handed_on(self):
        """Hot connections that workers share stay with the new program, and are counted once."""
        demo = Demo(self, "http")
        proxy = self.master(aegis.app(demo["http"], upstream={"pool": {"keep": 8, "framing": "http1", "share": True}}, workers=1))
        self.ask(proxy, 3)
        proxy.upgrade(self.program)
        self.ask(proxy, 3)
        proxy.settled()
        proxy.must_reload(aegis.app(demo["http"], workers=1))
        proxy.settled()
        proxy.wait_stat(lambda stat: stat["upstreams"][0]["servers"][0]["active"] == 0, "no place of a hot connection is left")

    def test_admin_api_goes_on(self):
        """Its sockets are handed on, over TCP and for metrics as well: each request is answered, by the one or the other."""
        admin.need()
        server, addresses = Echo(self), [free_address(), free_address()]
        proxy = self.master(aegis.app(server.address, admin={"address": addresses[0], "metrics_address": addresses[1]}, **LONG_DRAIN))
        held = self.connect(proxy.address())
        echo(held)
        places = [(str(proxy.directory), "/health"), ((lambda host, port: (host, int(port)))(*addresses[0].split(":")), "/status"),
                  ((lambda host, port: (host, int(port)))(*addresses[1].split(":")), "/metrics")]
        done, counts = threading.Event(), [0] * len(places)

        def ask(index, where, path):
            while not done.is_set():
                answer = admin.get(where, path)
                if answer.status != 200:
                    raise AssertionError(f"{path}: {answer}")
                counts[index] += 1
        tasks = [Task(ask, index, *place) for index, place in enumerate(places)]
        self.addCleanup(done.set)
        for _ in range(3):
            before = list(counts)
            wait_until(lambda: all(now > then + 2 for now, then in zip(counts, before)) or any(task.error for task in tasks), "answers")
            proxy.upgrade(self.program)
            self.assertEqual(admin.get(str(proxy.directory), "/status").json["pid"], proxy.current)
        done.set()
        for task in tasks:
            task.result()
        self.assertTrue((proxy.directory / "admin.sock").exists())
        held.close()
        proxy.settled()

    def test_access_log(self):
        """Each connection has its record, old ones and those that were there when one program followed the other."""
        server, path = Echo(self), self.directory / "access.log"
        proxy = self.master(aegis.app(server.address, access_log={"path": str(path)}, **LONG_DRAIN))
        load = Load(self, proxy.address())
        held = [self.connect(proxy.address()) for _ in range(5)]
        for sock in held:
            echo(sock)
        for _ in range(2):
            load.wait_more(5)
            proxy.upgrade(self.program)
        load.wait_more(5)
        load.stop()
        self.assertEqual(load.failures, [])
        for sock in held:
            sock.close()
        proxy.settled()
        proxy.wait_first(proxy.pid)
        total = proxy.listener()["total"]
        proxy.stop()
        records = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual(len(records), total)
        if self.program == AEGIS:
            self.assertEqual(len({record["id"] for record in records}), total)

    def ask(self, proxy, times):
        for _ in range(times):
            with dial(proxy.address()) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertIn("200", receive_line(sock))


class OtherLayout(Upgrades):
    """The same with a program whose shared memory looks different: each upgrade makes a new segment."""
    deadline = 120.0

    @property
    def program(self):
        """By turns, so that each upgrade is one to another layout."""
        self.turn = not getattr(self, "turn", False)
        return OTHER if self.turn else AEGIS

    def test_counters_add_up(self):
        """Counters by listener, server, reason and the histograms are what they were, while the old workers go on, and in the end."""
        server = Echo(self)
        proxy = self.master(aegis.app(server.address, **LONG_DRAIN))
        for _ in range(7):
            with dial(proxy.address()) as sock:
                echo(sock, b"x" * 1000)
        held = self.connect(proxy.address())
        echo(held, b"x" * 500)
        before = proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1 and stat["bytes"]["sent"] == 7500, "seven of eight to end")
        proxy.upgrade(OTHER)
        after = proxy.stat()
        self.assertEqual(counts(after), counts(before))
        self.assertEqual(after["listeners"][0]["closes"], before["listeners"][0]["closes"])
        self.assertEqual(after["latency"], before["latency"])
        self.assertEqual(after["connections"]["active"], 1)
        echo(held, b"x" * 2000)
        proxy.wait_stat(lambda stat: stat["bytes"]["sent"] == 9500, "what the old worker moves to be counted")
        held.close()
        stat = proxy.settled()
        self.assertEqual((stat["connections"]["active"], stat["connections"]["total"], stat["listeners"][0]["closes"]["finished"]),
                         (0, 8, before["listeners"][0]["closes"]["finished"] + 1))

    def test_old_connections_are_said_to_be_there(self):
        """They cannot be listed, ended or explained one by one; each answer says so at once, and as long as there are any."""
        proxy = self.master(aegis.app(Echo(self).address, workers=1, **LONG_DRAIN))
        held = self.connect(proxy.address())
        echo(held)
        old = proxy.current
        proxy.upgrade(OTHER)
        elders = [{"pid": old, "connections": 1}]
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "it to be counted")
        found = admin.get(proxy.directory, "/connections").json
        self.assertEqual((found["connections"], found["silent_workers"], found["elders"]), ([], [], elders))
        self.assertEqual(admin.get(proxy.directory, "/why?address=127.0.0.1").json["elders"], elders)
        answer = admin.ask(proxy.directory, "DELETE", "/connections/0.1")
        self.assertEqual(answer.status, 404)
        self.assertIn(f"master before (pid {old})", answer.json["error"])
        echo(held)
        held.close()
        proxy.settled()
        self.assertEqual(admin.get(proxy.directory, "/connections").json["elders"], [])
        self.assertNotIn("master before", admin.ask(proxy.directory, "DELETE", "/connections/0.1").json["error"])


class Failures(Case):
    """Whatever the new program does wrong: the old one goes on, says why, and no client notices."""
    deadline = 120.0

    def setUp(self):
        super().setUp()
        self.demo = Demo(self, "echo")

    def start(self, **settings):
        proxy = Master(self, aegis.app(self.demo["echo"], **settings))
        self.load = Load(self, proxy.address())
        self.load.wait_more(5)
        return proxy

    def check(self, proxy):
        """Traffic was not affected, and a good program can still take over."""
        self.load.wait_more(5)
        proxy.install(AEGIS)
        proxy.upgrade()
        self.load.wait_more(5)
        self.assertEqual(self.load.failures, [])
        self.load.stop()
        proxy.settled()

    def test_not_there(self):
        proxy = self.start()
        proxy.program.unlink()
        proxy.must_refuse("cannot execute", str(proxy.program), "No such file")
        self.check(proxy)

    def test_not_executable(self):
        proxy = self.start()
        proxy.install("neither a program nor a script\n")
        proxy.program.chmod(0o644)
        proxy.must_refuse("cannot execute", "Permission denied")
        proxy.program.chmod(0o755)
        proxy.must_refuse("cannot execute", "Exec format error")
        self.check(proxy)

    def test_exits_at_once(self):
        proxy = self.start()
        proxy.install("#!/bin/sh\nexit 7\n")
        proxy.must_refuse("exited with status 7")
        proxy.install("#!/bin/sh\nkill -SEGV $$\n")
        proxy.must_refuse("signal 11")
        proxy.install("#!/bin/sh\nsleep 2 & exit 3\n")
        proxy.must_refuse("exited with status 3")
        self.check(proxy)

    def test_is_something_else(self):
        """A program that knows nothing of upgrades, such as an older Aegis, cannot start a second time."""
        proxy = self.start()
        proxy.install(f"#!/bin/sh\nunset AEGIS_UPGRADE\nexec {AEGIS} \"$@\"\n")
        proxy.must_refuse("status 2")
        self.check(proxy)

    def test_hangs(self):
        proxy = self.start()
        proxy.install("#!/bin/sh\nexec sleep 600\n")
        started = time.monotonic()
        proxy.must_refuse("not ready within 30 s", seconds=50.0)
        self.assertGreater(time.monotonic() - started, 25)
        self.check(proxy)

    def test_damaged_handover(self):
        proxy = self.start()
        proxy.install(f"#!/bin/sh\nexec 5</dev/null\nAEGIS_UPGRADE=5:$$ exec {AEGIS} \"$@\"\n")
        proxy.must_refuse("status 2")
        self.check(proxy)

    def test_invalid_settings(self):
        """The file has changed meanwhile: the first error is told, and all are in the log."""
        proxy = self.start()
        good = proxy.settings
        proxy.write({**good, "workers": 0, "nonsense": 1})
        text = proxy.must_refuse("nonsense")
        self.assertIn(proxy.config.name, text)
        busy = aegis.bind()
        self.addCleanup(busy.close)
        proxy.write({**good, "listeners": [*good["listeners"], {"name": "taken", "address": "%s:%d" % busy.getsockname(), "upstream": "app"}]})
        proxy.must_refuse("someone else listens there")
        proxy.write(good)
        self.check(proxy)

    def leave_one(self, proxy):
        """Settings without one of the listeners: between the two steps of the switch handshakes with it have time to end. Returns the new
        master, stopped between the two."""
        proxy.write({**proxy.settings, "listeners": proxy.settings["listeners"][:1]})
        new = proxy.catch_in_the_switch()
        proxy.wait_stat(lambda stat: any(worker["generation"] == 2 and worker["state"] == "running" for worker in stat["workers"]),
                        "the new workers to accept")
        self.assertEqual(proxy.pid_file(), proxy.pid)
        return new

    def two_listeners(self):
        settings = aegis.app(self.demo["echo"])
        rows = [{"name": name, "address": address, "upstream": "app"} for name, address in
                (("app", free_address()), ("leaves", free_address()), ("unix", f"unix:{self.directory}/leaves.sock"))]
        proxy = Master(self, {**settings, "listeners": rows})
        self.load = Load(self, rows[0]["address"])
        self.load.wait_more(5)
        return proxy, [row["address"] for row in rows]

    def test_new_master_dies_in_the_switch(self):
        """When its workers accept and ours still do: the old master takes all back, and goes on with its own workers."""
        proxy, (_, leaves, _) = self.two_listeners()
        proxy.lost = True
        settings = proxy.settings
        held = self.connect(leaves)
        echo(held)
        kept = len(self.load.kept)
        os.kill(self.leave_one(proxy), signal.SIGKILL)
        proxy.wait_log("upgrade given up, nothing changed: the new program was killed by signal 9")
        self.assertEqual(proxy.pid_file(), proxy.pid)
        stat = proxy.wait_stat(lambda stat: {worker["generation"] for worker in stat["workers"]} == {1} and len(stat["workers"]) == 2, "its workers to be gone")
        self.assertEqual((stat["pid"], stat["generation"], stat["upgrades"]["failed"]), (proxy.pid, 1, 1))
        self.assertGreaterEqual(stat["connections"]["active"], kept)
        echo(held, b"nothing happened")
        with dial(leaves) as sock:
            echo(sock)
        held.close()
        proxy.write({**settings, "listeners": settings["listeners"][:2]})
        self.check(proxy)

    def test_old_master_dies_in_the_switch(self):
        """The new one goes on, on sockets that nobody shut down."""
        proxy, _ = self.two_listeners()
        proxy.lost = True
        new = self.leave_one(proxy)
        os.kill(proxy.pid, signal.SIGKILL)
        os.kill(new, signal.SIGCONT)
        wait_until(lambda: proxy.pid_file() == new, "the new master in the pid file")
        proxy.current = new
        self.load.wait_more(5)
        self.assertEqual(self.load.failures, [])
        self.load.stop()
        proxy.settled()
        proxy.install(AEGIS)
        proxy.upgrade()
        proxy.settled()

    def test_command_returns_when_the_old_one_accepts_no_more(self):
        """As with a reload: who connects when it has returned has a new worker."""
        proxy = Master(self, aegis.app(self.demo["echo"], workers=1, **LONG_DRAIN))
        for _ in range(3):
            old, = [row["pid"] for row in proxy.workers()]
            os.kill(old, signal.SIGSTOP)
            command = Task(proxy.command, "-s", "upgrade")
            wait_until(lambda: proxy.pid_file() != proxy.current, "the new master")
            os.kill(old, signal.SIGCONT)
            self.assertEqual(command.result().returncode, 0)
            proxy.current = proxy.pid_file()
            self.assertFalse(self.listens(old))
            with dial(proxy.address()) as sock:
                echo(sock)
            proxy.settled()

    @staticmethod
    def listens(pid):
        """Has the process a socket of a listener?"""
        rows = [line.split() for line in aegis.proc("self", "net/tcp").splitlines()[1:]]
        return bool({f"socket:[{row[9]}]" for row in rows if row[3] == "0A"} & set(aegis.links(pid)))

    def test_two_commands_at_once(self):
        """Both hear what comes of the one upgrade."""
        proxy = self.start()
        proxy.install("#!/bin/sh\nsleep 1\nexit 5\n")
        for code, program in ((3, None), (0, f"#!/bin/sh\nsleep 1\nexec {AEGIS} \"$@\"\n")):
            if program:
                proxy.install(program)
            first = Task(proxy.command, "-s", "upgrade")
            wait_until(lambda: proxy.log().count("upgrading: starting") == (2 if program else 1), "the start")
            second = Task(proxy.command, "-s", "upgrade")
            self.assertEqual([first.result().returncode, second.result().returncode], [code, code], proxy.log())
        proxy.current = proxy.pid_file()
        self.check(proxy)

    def test_stop_during_an_upgrade(self):
        proxy = self.start()
        proxy.install("#!/bin/sh\nexec sleep 600\n")
        proxy.send(signal.SIGUSR2)
        proxy.wait_log("upgrading: starting")
        self.load.stop()
        proxy.stop()
        self.assertIn("upgrade given up, nothing changed: stopped before", proxy.log())

    def test_when_drained(self):
        """There is nothing to hand over: it says so."""
        proxy = self.start()
        self.load.stop()
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "the drain")
        done = proxy.command("-s", "upgrade")
        self.assertEqual(done.returncode, 3)
        self.assertIn("reload first", done.stderr)
        proxy.must_reload()
        proxy.upgrade()

    def test_during_a_reload(self):
        """An upgrade follows a reload that is under way; a reload follows an upgrade; a second USR2 changes nothing."""
        proxy = self.start()
        for _ in range(3):
            before = proxy.stat()
            os.kill(proxy.current, signal.SIGHUP)
            os.kill(proxy.current, signal.SIGUSR2)
            os.kill(proxy.current, signal.SIGUSR2)
            os.kill(proxy.current, signal.SIGHUP)
            old = proxy.current
            wait_until(lambda: proxy.pid_file() != old, "the new master")
            proxy.current = proxy.pid_file()
            proxy.wait_stat(lambda stat: stat["upgrades"]["ok"] == before["upgrades"]["ok"] + 1 and stat["reloads"]["ok"] >= before["reloads"]["ok"] + 1
                            and stat["state"] == "running", "both to be done")
        self.check(proxy)

    def test_during_a_reload_that_reads_certificates(self):
        """The reload is not over while they are read: what follows one follows this one, too."""
        need_tls()
        papers = Papers(self.directory / "papers")
        one = papers.pair("one", "one.test", kind="rsa")
        pairs = [one]
        for number in range(300):  # to read them takes a while
            copy = shutil.copy(one["cert"], papers.directory / f"copy{number}.pem")
            pairs.append({"cert": str(copy), "key": one["key"]})
        settings = aegis.app(Echo(self).address, listener={"tls": {"certificates": pairs}}, tls={"watch": False})
        proxy = Master(self, settings)
        os.kill(proxy.current, signal.SIGHUP)
        wait_until(lambda: "reloading" in proxy.log(), "the reload to begin")
        os.kill(proxy.current, signal.SIGUSR2)
        old = proxy.current
        wait_until(lambda: proxy.pid_file() != old, "the new master")
        proxy.current = proxy.pid_file()
        self.assertIn("the upgrade follows it", proxy.log())
        proxy.wait_stat(lambda stat: stat["upgrades"]["ok"] == 1 and stat["reloads"]["ok"] == 1 and stat["state"] == "running", "both to be done")
        proxy.wait_first(old)
        self.assertEqual(serial_at(proxy.address(), papers.context(), "one.test"), papers.serial(one["cert"]))


class MastersDie(Case):
    deadline = 90.0

    def test_old_one(self):
        """SIGKILL on the old master while it drains: its connections live on, its workers' places are given back by the new one."""
        server = Echo(self)
        proxy = Master(self, aegis.app(server.address, workers=1, **LONG_DRAIN))
        proxy.lost = True
        address = proxy.address()
        held = [self.connect(address) for _ in range(4)]
        for sock in held:
            echo(sock)
        worker, = proxy.workers()
        proxy.upgrade()
        os.kill(proxy.pid, signal.SIGKILL)
        for sock in held:
            echo(sock, b"without its master")
        for _ in range(10):
            with dial(address) as sock:
                echo(sock)
        held.pop().close()
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 3, "three connections")
        os.kill(worker["pid"], signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0 and len(stat["workers"]) == 1, "the places to be free")

    def test_old_one_before_the_new_one_is_ready(self):
        """The new master goes on alone: no client is lost."""
        server, address = Echo(self), free_address()
        proxy = Master(self, aegis.app(server.address, {"address": address}, workers=1))
        worker, = proxy.workers()
        proxy.install(f"#!/bin/sh\nkill -KILL $PPID\nexec {AEGIS} \"$@\"\n")
        held = self.connect(address)
        echo(held)
        proxy.send(signal.SIGUSR2)
        wait_until(lambda: proxy.pid in proxy.reap(), "the old master's end")
        wait_until(lambda: proxy.pid_file() != proxy.pid, "the new master in the pid file")
        proxy.current = proxy.pid_file()
        with dial(address) as sock:
            echo(sock)
        echo(held, b"the old worker drains")
        held.close()
        proxy.wait_stat(lambda stat: len(stat["workers"]) == 1 and stat["state"] == "running" and stat["pid"] == proxy.current, "the old worker to be gone")
        self.assertNotEqual(proxy.workers()[0]["pid"], worker["pid"])

    def test_new_one(self):
        """SIGKILL on the new master while the old one drains: as with a master that was killed, a third one can be started at once."""
        server, address = Echo(self), free_address()
        proxy = Master(self, aegis.app(server.address, {"address": address}, **LONG_DRAIN))
        proxy.lost = True
        old = self.connect(address)
        echo(old)
        proxy.upgrade()
        new = self.connect(address)
        echo(new)
        total = proxy.stat()["connections"]["total"]
        os.kill(proxy.current, signal.SIGKILL)
        wait_until(lambda: aegis.refused(address), "new clients to be refused")
        third = Aegis(self, None, directory=proxy.directory, config=proxy.config)
        third.lost = True
        with dial(address) as sock:
            echo(sock)
        for sock in (old, new):
            echo(sock, b"drains")
        self.assertTrue(alive(proxy.pid))
        self.assertGreater(third.stat()["connections"]["total"], total)
        for sock in (old, new):
            sock.close()
        wait_until(lambda: proxy.pid in proxy.reap(), "the old master to end")
        third.wait_stat(lambda stat: len(stat["workers"]) == 2 and stat["connections"]["active"] == 0, "all places to be free")
        third.stop()


class Service(Case):
    deadline = 120.0

    def test_notifications(self):
        """systemd hears of the new main process before that says it is ready; the watchdog goes on."""
        proxy = Master(self, aegis.app(Echo(self).address), environment={"WATCHDOG_USEC": "400000"})
        for _ in range(2):
            mark = proxy.notifications.mark()
            proxy.upgrade()
            proxy.notifications.wait("RELOADING=1", f"MAINPID={proxy.current}", "READY=1", "WATCHDOG=1", since=mark)
        proxy.settled()
        mark = proxy.notifications.mark()
        proxy.install("#!/bin/sh\nexit 1\n")
        proxy.must_refuse("status 1")
        proxy.notifications.wait("RELOADING=1", "READY=1", since=mark)
        self.assertFalse([line for line in proxy.notifications.seen[mark:] if line.startswith("MAINPID")])

    def test_environment(self):
        """The new program has the arguments and the environment of the old one, and nothing of the upgrade."""
        proxy = Master(self, aegis.app(Echo(self).address), "-e", "max_connections = 4711;", environment={"OF_THE_USER": "kept"})
        proxy.upgrade()
        words = aegis.proc(proxy.current, "environ").split("\0")
        self.assertFalse([word for word in words if word.startswith("AEGIS_UPGRADE")])
        self.assertEqual(proxy.stat()["connections"]["max"], 4711)
        proxy.settled()

    @unittest.skipUnless(ROOT, "needs root")
    def test_privileges(self):
        """As root with another user for the workers: the new master is root, its workers are not; a port below 1024 is no matter."""
        server = Echo(self)
        address = f"{aegis.OWN_ADDRESS}:81"
        proxy = Master(self, aegis.app(server.address, {"address": address}, user="nobody"))
        held = self.connect(address)
        echo(held)
        proxy.upgrade()
        self.assertEqual(os.stat(f"/proc/{proxy.current}").st_uid, 0)
        for worker in proxy.workers():
            self.assertIn(f"Uid:\t{aegis.NOBODY}\t{aegis.NOBODY}", aegis.proc(worker["pid"], "status"))
        echo(held, b"drains")
        with dial(address) as sock:
            echo(sock)
        held.close()
        proxy.settled()

    def test_quick_mode(self):
        """aegis LISTEN UPSTREAM: the words of the command line are passed on."""
        server, address = Echo(self), free_address()
        program = self.directory / "aegis"
        shutil.copy(AEGIS, program)
        with open(self.directory / "log0", "wb") as log:
            process = subprocess.Popen(["./aegis", "-r", str(self.directory / "quick"), address, server.address], cwd=self.directory, stdout=log, stderr=log,
                                       start_new_session=True)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in aegis.session_members(process.pid)])
        pid_path = self.directory / "quick" / "aegis.pid"
        wait_until(lambda: pid_path.exists() and aegis.run(aegis.AEGIS_STAT, "-r", pid_path.parent, "-j").returncode == 0
                   and not aegis.refused(address), "a start")
        done = aegis.run(AEGIS, "-r", self.directory / "quick", "-s", "upgrade")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with dial(address) as sock:
            echo(sock)
        self.assertEqual(process.wait(20 * SLOW), 0)
        self.assertEqual(aegis.run(AEGIS, "-r", self.directory / "quick", "-s", "stop").returncode, 0)
        wait_until(lambda: not pid_path.exists(), "the end")

    def test_under_systemd(self):
        """A transient unit of type notify: the main process changes, the unit stays active, stopping it ends all."""
        systemd_run, systemctl = need("systemd-run", "systemctl")
        if not pathlib.Path("/run/systemd/system").is_dir() or not ROOT:
            raise unittest.SkipTest("systemd does not run here")
        server, address = Echo(self), free_address()
        config, runtime = self.directory / "unit.conf", self.directory / "unit"
        config.write_text(aegis.libconfig(aegis.app(server.address, {"address": address})))
        unit = f"aegis-test-{os.getpid()}"
        self.addCleanup(lambda: aegis.run(systemctl, "stop", unit))
        done = aegis.run(systemd_run, f"--unit={unit}", "--service-type=notify", "-p", "NotifyAccess=main", AEGIS, "-c", config, "-r", runtime)
        self.assertEqual(done.returncode, 0, done.stderr)

        def shown(name):
            return aegis.run(systemctl, "show", "-P", name, unit).stdout.strip()
        before = shown("MainPID")
        self.assertEqual(aegis.run(AEGIS, "-r", runtime, "-s", "upgrade").returncode, 0)
        after = (runtime / "aegis.pid").read_text().strip()
        self.assertNotEqual(before, after)
        wait_until(lambda: shown("MainPID") == after and shown("ActiveState") == "active", "the new main process")
        with dial(address) as sock:
            echo(sock)


if __name__ == "__main__":
    aegis.main()
