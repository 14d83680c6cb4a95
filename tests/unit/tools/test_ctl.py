"""aegisctl as a user meets it, in front of a made-up instance: what each verb asks, its tables, exit codes, and what the shells complete."""
import fcntl
import json
import os
import pathlib
import pty
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
import termios
import threading
import time
import unittest

BUILD = pathlib.Path(os.environ["AEGIS_BUILDDIR"])
CTL = BUILD / "aegisctl"
TIMEOUT = 60

SERVERS = {"upstreams": [{"name": "app", "waiting": 3, "queue_max": 10, "servers": [
    {"name": "a", "address": "127.0.0.1:3000", "state": "up", "override": "none", "weight": 100, "weight_now": 100, "active": 2, "max": 0,
     "hot": 1, "total": 7, "failures": 0, "health": {"result": "ok", "checked_seconds_ago": 1.5}},
    {"name": "127.0.0.1:3001", "address": "127.0.0.1:3001", "state": "disabled", "override": "disabled", "weight": 100, "weight_now": 50,
     "backup": True, "active": 0, "max": 40, "hot": 0, "total": 1, "failures": 2, "health": {"result": "", "checked_seconds_ago": None}}]}]}
CONNECTIONS = {"connections": [
    {"id": "0.17", "client": "192.0.2.7:41822", "listener": "web", "upstream": "app", "server": "a", "step": "relay", "age_ms": 61000,
     "idle_ms": 20, "up_bytes": 1234567, "down_bytes": 10},
    {"id": "1.4", "client": "[2001:db8::7]:5000", "listener": "web", "upstream": "app", "server": "", "step": "wait", "age_ms": 3, "idle_ms": 3,
     "up_bytes": 0, "down_bytes": 0},
    {"id": "1.5", "client": "192.0.2.7:41823", "listener": "web", "upstream": "app", "server": "a", "step": "\u001b[31mrelay", "age_ms": 3,
     "idle_ms": 3, "up_bytes": 0, "down_bytes": 0}], "truncated": True, "silent_workers": [{"slot": 2, "generation": 1, "pid": 4712}],
    "elders": [{"pid": 4700, "connections": 3}]}
STATUS = {"version": "0.1.0", "pid": 4711, "state": "running", "generation": 3, "uptime_seconds": 90.5, "engine": "epoll",
          "config_file": "/etc/aegis/aegis.conf", "connections": {"active": 5, "max": 100, "total": 12, "rejected": 1, "errors": 2},
          "bytes": {"received": 1000, "sent": 2000000}, "latency": {"connect": {"count": 9, "p50_ms": 0.25, "p95_ms": 1.5, "p99_ms": 12}},
          "reloads": {"ok": 2, "failed": 1, "last_unix": 1700000000, "last_ok": False, "last_note": "aegis.conf:3: no"}, "worker_restarts": 1,
          "listeners": [{"name": "web", "address": "0.0.0.0:8080", "upstream": "app", "active": 5, "max": 50, "total": 12, "rejected": 1, "errors": 2,
                         "received": 1000, "sent": 2000000}]}
WHY = {"address": "192.0.2.7", "connections": [
    {"id": "0.17", "client": "192.0.2.7:41822", "listener": "web", "began": 1700000000, "ended": None, "reason": "",
     "steps": [{"at_ms": 0, "step": "accept", "text": "accepted"}, {"at_ms": 0.25, "step": "choose", "text": "app/a"}]},
    {"id": "0.12", "client": "192.0.2.7:41700", "listener": "web", "began": 1699999990, "ended": 1699999991, "reason": "connect_refused", "steps": []}]}
ANSWERS = {"/status": STATUS, "/servers": SERVERS, "/connections": CONNECTIONS, "/why": WHY,
           "/health": {"status": "ok", "backends": {"app/a": True, "app/b": False}}}


class Instance:
    """admin.sock of an instance: answers what the test says and remembers what it was asked."""

    def __init__(self, test, answer=None):
        folder = tempfile.TemporaryDirectory()
        test.addCleanup(folder.cleanup)
        self.directory, self.asked, self.answer = pathlib.Path(folder.name), [], answer or self.usual
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.directory / "admin.sock"))
        self.listener.listen()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        test.addCleanup(self._close)

    def _close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    @staticmethod
    def usual(_method, path):
        return 200, json.dumps(ANSWERS.get(path.partition("?")[0], {"done": path}))

    def _run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as stream:
                head = stream.readline().decode().split()
                headers = {}
                while (line := stream.readline().strip()):
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get("content-length", 0))).decode()
                self.asked.append((head[0], head[1], body))
                answer = self.answer(head[0], head[1])
                if isinstance(answer, tuple):
                    answer = f"HTTP/1.1 {answer[0]} x\r\nContent-Length: {len(answer[1].encode())}\r\n\r\n{answer[1]}"
                sock.sendall(answer.encode())

    def ctl(self, *arguments):
        return run("-r", self.directory, *arguments)


def run(*arguments, **options):
    return subprocess.run([CTL, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, **options)


class Verbs(unittest.TestCase):
    def ask(self, *arguments, code=0):
        instance = Instance(self)
        done = instance.ctl(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout, instance.asked

    def test_status(self):
        text, asked = self.ask("status")
        self.assertEqual(asked, [("GET", "/status", "")])
        for part in ("Aegis 0.1.0, running, generation 3, up 1.5 min, pid 4711, engine epoll", "settings: /etc/aegis/aegis.conf; reloads: 2 ok, 1 failed",
                     "last reload 2023-11-14T22:13:20Z: failed, the settings before stay; aegis.conf:3: no", "5 active of at most 100, 12 in total",
                     "connect to server         9  250 us  1.5 ms"):
            self.assertIn(part, text)
        self.assertRegex(text, r"(?m)^web +0\.0\.0\.0:8080 +app +5/50 +12 +1 +2 +1\.0 kB +2\.0 MB$")
        self.assertRegex(text, r"(?m)^whole connection +0 +- +- +-$")

    def test_health(self):
        text, asked = self.ask("health")
        self.assertEqual(asked, [("GET", "/health", "")])
        self.assertEqual(text, "ok\n  app/a  usable\n  app/b  not usable\n")

    def test_health_that_is_not_good(self):
        instance = Instance(self, lambda *_: (503, '{"status":"failing","backends":{"app/a":false}}'))
        done = instance.ctl("health")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (3, "failing\n  app/a  not usable\n", ""))

    def test_servers(self):
        text, asked = self.ask("servers")
        self.assertEqual(asked, [("GET", "/servers", "")])
        self.assertRegex(text, r"(?m)^app +a +up +- +127\.0\.0\.1:3000 +100 +2 +1 +7 +0 +ok +1\.5 s$")
        self.assertRegex(text, r"(?m)^app +127\.0\.0\.1:3001 +disabled +disabled +127\.0\.0\.1:3001 +backup 50/100 +0/40 +0 +1 +2 +- +-$")
        self.assertIn("in line for app: 3 of at most 10", text)

    def test_connections(self):
        text, asked = self.ask("connections")
        self.assertEqual(asked, [("GET", "/connections", "")])
        self.assertRegex(text, r"(?m)^0\.17 +192\.0\.2\.7:41822 +web +app +a +relay +1\.0 min +20\.0 ms +1\.2 MB +10 B$")
        self.assertRegex(text, r"(?m)^1\.4 +\[2001:db8::7\]:5000 +web +app +- +wait ")
        self.assertNotIn("\x1b", text)
        self.assertIn("There are more than these", text)
        self.assertIn("Worker 2 (pid 4712) does not answer", text)
        self.assertIn("3 connections of the master before (pid 4700) are not listed", text)
        self.assertEqual(self.ask("connections", "client=192.0.2.7", "limit=5")[1], [("GET", "/connections?client=192.0.2.7&limit=5", "")])

    def test_connections_of_datagrams(self):
        rows = [{**CONNECTIONS["connections"][0], "protocol": "udp", "up_datagrams": 12, "down_datagrams": 3}, CONNECTIONS["connections"][1]]
        instance = Instance(self, lambda *_: (200, json.dumps({"connections": rows})))
        text = instance.ctl("connections").stdout
        self.assertRegex(text, r"(?m)^ID .* DOWN  DATAGRAMS$")
        self.assertRegex(text, r"(?m)^0\.17 .* 10 B +12/3$")
        self.assertRegex(text, r"(?m)^1\.4 .* -$")

    def test_reload(self):
        plan = {"outcome": "new_generation", "changes": [
            {"kind": "changed", "path": "workers", "effect": "new_workers", "before": "2", "after": "4"},
            {"kind": "dropped", "path": "listeners.old", "effect": "new_workers", "before": "127.0.0.1:81", "connections": 3},
            {"kind": "added", "path": "upstreams.app.servers.c", "effect": "new_workers", "after": "127.0.0.1:3002"},
            {"kind": "reordered", "path": "listeners", "effect": "in_place"}], "changes_left_out": 7,
            "problems": [{"weight": "warning", "path": "listeners.app", "text": "listeners.app: it is a warning"}]}
        answer = json.dumps({"status": "reloaded", "note": "4 workers", "state": "running", "generation": 5, "plan": plan})
        instance = Instance(self, lambda *_: (200, answer))
        self.assertEqual(instance.ctl("reload").stdout.splitlines(), [
            "running, generation 5; 4 workers", "  ~ workers  2 -> 4", "  - listeners.old  127.0.0.1:81   [3 connections]",
            "  + upstreams.app.servers.c  127.0.0.1:3002", "  ~ listeners", "  ... and 7 more", "  warning: listeners.app: it is a warning"])

    def test_drain(self):
        instance = Instance(self, lambda *_: (200, '{"state":"draining","connections":1}'))
        self.assertEqual(instance.ctl("drain", "30").stdout, "draining, 1 connection open\n")

    def test_server(self):
        answer = json.dumps({"upstream": "app", "server": SERVERS["upstreams"][0]["servers"][1]})
        instance = Instance(self, lambda *_: (200, answer))
        self.assertRegex(instance.ctl("server", "app/127.0.0.1:3001", "disable").stdout, r"(?m)^app +127\.0\.0\.1:3001 +disabled +disabled ")

    def test_kill(self):
        self.assertEqual(self.ask("kill", "0.17")[0], "connection 0.17 is ended\n")

    def test_why(self):
        text, asked = self.ask("why", "192.0.2.7")
        self.assertEqual(asked, [("GET", "/why?address=192.0.2.7", "")])
        self.assertIn("0.17  192.0.2.7:41822 to web, began 2023-11-14T22:13:20Z, is open\n", text)
        self.assertRegex(text, r"(?m)^ +250 us  choose  app/a$")
        self.assertIn("ended 2023-11-14T22:13:11Z: connect_refused\n", text)

    def test_why_of_a_stranger(self):
        instance = Instance(self, lambda *_: (200, '{"address":"192.0.2.9","connections":[]}'))
        self.assertEqual(instance.ctl("why", "192.0.2.9").stdout, "No connection of 192.0.2.9 is remembered.\n")
        self.assertIn('::/0 all of IPv6, "all" those of both', instance.ctl("why", "::/0").stdout)

    def test_orders(self):
        for words, wanted in {
                ("reload",): ("POST", "/reload", ""), ("drain",): ("POST", "/drain", ""), ("drain", "30"): ("POST", "/drain", '{"timeout":30}'),
                ("undrain",): ("POST", "/undrain", ""), ("reset",): ("POST", "/reset", ""), ("kill", "0.17"): ("DELETE", "/connections/0.17", ""),
                ("server", "app/a", "disable"): ("POST", "/servers/app%2Fa/disable", ""),
                ("server", "a", "weight", "5"): ("POST", "/servers/a/weight", '{"weight":5}'),
                ("server", "a", "weight", "settings"): ("POST", "/servers/a/weight", '{"weight":null}')}.items():
            with self.subTest(words=words):
                self.assertEqual(self.ask(*words)[1], [wanted])

    def test_json_as_it_came(self):
        odd = '{ "x" :1, "x": 2 }'
        instance = Instance(self, lambda *_: (200, odd))
        done = instance.ctl("-j", "status")
        self.assertEqual((done.returncode, done.stdout), (0, odd + "\n"))

    def test_a_bad_reload_lists_every_error(self):
        body = json.dumps({"error": "the settings are not valid", "errors": ["aegis.conf:3: x", "aegis.conf:9: y\x1b[0m"]})
        instance = Instance(self, lambda *_: (422, body))
        done = instance.ctl("reload")
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("the settings are not valid\n", done.stderr)
        self.assertIn("\n  aegis.conf:3: x\n  aegis.conf:9: y", done.stderr)
        self.assertNotIn("\x1b", done.stderr)
        done = instance.ctl("-j", "reload")
        self.assertEqual((done.returncode, done.stdout), (3, body + "\n"))


class Trouble(unittest.TestCase):
    def test_wrong_arguments(self):
        for arguments, part in {(): "what is to be done", ("stauts",): 'did you mean "status"', ("-x", "status"): "no option -x",
                                ("-r",): "missing", ("server", "a", "explode"): "explode", ("server", "a", "weight", "soon"): '"settings" for that',
                                ("server", "a", "weight"): "weight settings", ("server", "a", "drain", "settings"): "settings", ("status", "now"): "aegisctl status",
                                ("drain", "soon"): "soon", ("--completion", "tcsh"): "tcsh", ("-r", "", "status"): "directory"}.items():
            with self.subTest(arguments=arguments):
                done = run(*arguments)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn(part, done.stderr)

    def test_nobody_there(self):
        with tempfile.TemporaryDirectory() as folder:
            for place in (folder, os.path.join(folder, "absent")):
                done = run("-r", place, "status")
                self.assertEqual((done.returncode, done.stdout), (4, ""))
                self.assertIn("no Aegis is running", done.stderr)
            with socket.socket(socket.AF_UNIX) as dead:  # left behind by one that was killed
                dead.bind(os.path.join(folder, "admin.sock"))
            done = run("-r", folder, "status")
            self.assertEqual(done.returncode, 4)

    def test_a_path_that_is_too_long_for_a_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            deep = pathlib.Path(folder, "d" * 120)
            deep.mkdir()
            done = run("-r", deep, "status")
            self.assertEqual((done.returncode, done.stdout), (4, ""))
            instance = Instance(self)
            os.rename(instance.directory / "admin.sock", deep / "admin.sock")
            done = run("-r", deep, "status")
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    @unittest.skipIf(os.geteuid() != 0, "only root can become somebody who may not")
    def test_not_allowed(self):
        instance = Instance(self)
        os.chmod(instance.directory, 0o755)
        os.chmod(instance.directory / "admin.sock", 0o600)
        if subprocess.run([CTL, "-V"], user=65534, group=65534, capture_output=True, timeout=TIMEOUT).returncode != 0:
            self.skipTest("nobody cannot execute the program here")
        done = run("-r", instance.directory, "status", user=65534, group=65534, extra_groups=[])
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("you may not ask", done.stderr)

    def test_answers_that_are_none(self):
        for answer, part in {"": "broke off", "SSH-2.0-x\r\n": "broke off", "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{}": "broke off",
                             "HTTP/1.0 200 OK\r\n\r\n<html>": "not JSON", "HTTP/1.0 404 Not Found\r\n\r\n<html>": "404"}.items():
            with self.subTest(answer=answer):
                done = Instance(self, lambda *_, text=answer: text).ctl("status")
                self.assertEqual((done.returncode, done.stdout), (3, ""))
                self.assertIn(part, done.stderr)

    def test_json_is_json(self):
        """With -j too: what is none may be anything, also what a terminal obeys."""
        for status, body in ((200, "\x1b[31mred"), (200, '"\x1b[31mred"'), (200, "{}\0\x1b[31m"), (200, ""), (503, "\x1b[31mbusy")):
            with self.subTest(body=body):
                done = Instance(self, lambda *_, answer=(status, body): answer).ctl("-j", "status")
                self.assertEqual((done.returncode, done.stdout), (3, ""))
                self.assertIn("it is not JSON" if status == 200 else "503", done.stderr)
                self.assertNotIn("\x1b", done.stderr)

    def test_answers_that_a_terminal_would_obey(self):
        """Each text of each answer, its keys too: nothing of it reaches the terminal as it is."""
        evil = "\x1b]0;title\x07\x1b[31m\r\n\x9b"

        def spoil(value, key=""):
            if isinstance(value, dict):
                return {evil if key == "backends" else name: spoil(member, name) for name, member in value.items()}
            return [spoil(member) for member in value] if isinstance(value, list) else evil if isinstance(value, str) else value

        reload = {"status": "reloaded", "note": "n", "state": "running", "generation": 5, "plan": {
            "changes": [{"kind": "changed", "path": "workers", "before": "2", "after": "4"}], "problems": [{"weight": "warning", "text": "t"}]}}
        server = {"upstream": "app", "server": SERVERS["upstreams"][0]["servers"][1]}
        for answer, *words in ((STATUS, "status"), (ANSWERS["/health"], "health"), (reload, "reload"), (reload, "drain"), (reload, "undrain"),
                               (SERVERS, "servers"), (server, "server", "a", "enable"), (CONNECTIONS, "connections"), ({}, "kill", evil),
                               (WHY, "why", "192.0.2.7"), ({}, "why", evil), ({}, "reset"), ({"error": "no", "errors": ["x", "y"]}, "status")):
            for status in (200, 422):
                with self.subTest(words=words, status=status):
                    done = Instance(self, lambda *_, answer=(status, json.dumps(spoil(answer))): answer).ctl(*words)
                    told = done.stdout + done.stderr
                    self.assertEqual([c for c in told if c != "\n" and not c.isprintable()], [], told)
                    self.assertTrue(told)

    def test_answers_of_another_version(self):
        """What is not there is not shown; nothing else comes of it."""
        for body in ("{}", "[]", "null", '{"connections":3,"upstreams":{"a":1},"listeners":[1,"x",null]}', '{"upstreams":[{"servers":[{}]}]}',
                     '{"connections":[{"steps":[{}]}]}', '{"reloads":{"last_unix":1e300},"uptime_seconds":-1e300,"generation":1e300}',
                     '{"connections":[{"began":-1,"ended":1e40,"age_ms":1e300,"steps":[{"at_ms":-5}]}]}'):
            instance = Instance(self, lambda *_, text=body: (200, text))
            for words in (("status",), ("health",), ("servers",), ("connections",), ("why", "x"), ("reload",), ("reset",)):
                with self.subTest(body=body, words=words):
                    done = instance.ctl(*words)
                    self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_output_that_cannot_be_written(self):
        instance = Instance(self)
        with open("/dev/full", "w") as full:
            done = subprocess.run([CTL, "-r", instance.directory, "status"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 3)
        self.assertIn("cannot write", done.stderr)


class Completion(unittest.TestCase):
    """What may stand at the end of a line, through the program itself and through each shell that is installed."""

    LINES = {
        "": ["status", "health", "reload", "certs", "drain", "undrain", "servers", "server", "connections", "kill", "why", "reset"],
        "se": ["servers", "server"], "server ": ["app/a", "app/127.0.0.1:3001"], "server app/1": ["app/127.0.0.1:3001"],
        "server app/127.0.0.1:": ["app/127.0.0.1:3001"], "server app/a ": ["enable", "disable", "drain", "weight"],
        "server app/a d": ["disable", "drain"], "server app/a weight ": ["settings"], "server app/a drain ": [], "server app/a weight 5 ": [], "kill ": ["0.17", "1.4", "1.5"], "kill 1": ["1.4", "1.5"],
        "kill 1.4 ": [], "connections l": ["listener=", "limit="], "why ": ["192.0.2.7", "2001:db8::7"], "why 2001:": ["2001:db8::7"], "status ": [], "nonsense ": []}

    def setUp(self):
        self.instance = Instance(self)
        # A program of that name that asks this instance: who completes types no -r.
        folder = self.instance.directory / "bin"
        folder.mkdir()
        (folder / "aegisctl").write_text(f'#!/bin/sh\n[ "$1" = --complete ] || exec {shlex.quote(str(CTL))} "$@"\nshift\n'
                                         f'exec {shlex.quote(str(CTL))} --complete -r {shlex.quote(str(self.instance.directory))} "$@"\n')
        (folder / "aegisctl").chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(self.instance.directory)}

    def shell(self, name, script):
        path = shutil.which(name)
        if not path:
            self.skipTest(f"not installed: {name}")
        arguments = {"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}[name]
        done = subprocess.run([path, *arguments, script], capture_output=True, text=True, timeout=TIMEOUT, env=self.environment,
                              cwd=self.instance.directory)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def test_program(self):
        for line, wanted in self.LINES.items():
            with self.subTest(line=line):
                done = run("--complete", "-r", self.instance.directory, *line.split(" "))
                self.assertEqual([row.partition("\t")[0] for row in done.stdout.splitlines()], wanted)

    def test_program_without_an_instance(self):
        done = run("--complete", "-r", "/nowhere", "server", "")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_bash(self):
        script = run("--completion", "bash").stdout
        for line, wanted in self.LINES.items():
            with self.subTest(line=line):
                full = f"aegisctl {line}"
                out = self.shell("bash", f'{script}\nCOMP_LINE={shlex.quote(full)} COMP_POINT={len(full)}\n_aegisctl\nprintf "%s\\n" "${{COMPREPLY[@]}}"')
                # bash has cut the word at its last colon and wants what comes behind.
                last = line.rpartition(" ")[2]
                cut = last[:last.rfind(":") + 1]
                self.assertEqual(out.split(), [word.removeprefix(cut) for word in wanted])

    def test_zsh(self):
        script = run("--completion", "zsh").stdout
        frame = "compdef() { : }\n_describe() { print -rl -- \"${(@P)2}\" }\n"
        for line, wanted in self.LINES.items():
            with self.subTest(line=line):
                words = " ".join(shlex.quote(word) for word in ["aegisctl", *line.split(" ")])
                out = self.shell("zsh", f"{frame}{script}\nwords=({words}) CURRENT=${{#words}} PREFIX=${{words[-1]}}\n_aegisctl")
                # "word:meaning", and the colons of the word itself behind backslashes.
                told = [row.replace("\\:", "\0").partition(":")[0].replace("\0", ":") for row in out.splitlines() if row]
                self.assertEqual(told, wanted)

    def test_fish(self):
        script = run("--completion", "fish").stdout
        (self.instance.directory / "aegisctl.fish").write_text(script)
        for line, wanted in self.LINES.items():
            with self.subTest(line=line):
                out = self.shell("fish", f"source aegisctl.fish\ncomplete -C {shlex.quote('aegisctl ' + line)}")
                self.assertEqual(sorted(row.partition("\t")[0] for row in out.splitlines()), sorted(wanted))

    # What an interactive shell would do something with, each behind a digit of its own by which it is completed.
    HOSTILE = ["0$(touch pwned)", "1`touch pwned`;x", "2a b", "3it's", '4q"q$HOME', "5back\\slash", "6x&y|z>pwned", "7*", "8{a,b}~#c", "9a:b@c=d:e"]

    def type(self, name, start, lines):
        """The words that aegisctl is called with when these lines are typed into an interactive shell, each with a tab and a return."""
        path = shutil.which(name)
        if not path:
            self.skipTest(f"not installed: {name}")
        folder, record = self.instance.directory, self.instance.directory / "record"
        (folder / "script").write_text(run("--completion", name).stdout)
        (folder / "bin/aegisctl").write_text(f"""#!/bin/sh
[ "$1" != --complete ] || {{ shift; exec {shlex.quote(str(CTL))} --complete -r {shlex.quote(str(folder))} "$@"; }}
printf '%s\\0' "$@" >>record
echo >>record
""")
        calls, seen = [], b""
        master, slave = pty.openpty()
        process = subprocess.Popen([path, *start], stdin=slave, stdout=slave, stderr=slave, cwd=folder, start_new_session=True,
                                   env={**self.environment, "TERM": "xterm", "HISTFILE": "/dev/null"},
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        try:
            for line in ["", *lines]:
                os.write(master, (f"aegisctl {line}\t\r" if line else "aegisctl ready\r").encode())
                end = time.monotonic() + TIMEOUT
                while len(calls) <= len(lines) and (not record.exists() or record.read_bytes().count(b"\0\n") <= len(calls)):
                    self.assertLess(time.monotonic(), end, seen)
                    if select.select([master], [], [], 0.02)[0]:
                        seen += os.read(master, 65536)
                calls = record.read_bytes().split(b"\0\n")[:-1]
        finally:
            process.kill()
            process.wait()
            os.close(master)
        self.assertEqual(sorted(file.name for file in folder.glob("*pwned*")), [])
        return [call.decode().split("\0") for call in calls[1:]]

    def hostile(self, shell, *start):
        rows = [{"name": name, "state": "up\x1b[31m"} for name in [*self.HOSTILE, "c\x1b[31m"]]
        self.instance.answer = lambda *_: (200, json.dumps({"upstreams": [{"name": "app", "servers": rows}]}))
        typed = [f"{before}server {quote}app/{name[0]}" for quote in ("", '"', "'") for before in ("", f'-r "{self.instance.directory}" ')
                 for name in self.HOSTILE]
        wanted = [(["-r", str(self.instance.directory)] if line.startswith("-r") else []) + ["server", f"app/{name}"]
                  for line, name in zip(typed, self.HOSTILE * 6)]
        for line, words, call in zip(typed, wanted, self.type(shell, start, typed)):
            with self.subTest(line=line):
                self.assertEqual(call, words)

    def test_hostile_names_in_bash(self):
        (self.instance.directory / "start").write_text("bind 'set enable-bracketed-paste off'\nset -o emacs\n. ./script\n")
        self.hostile("bash", "--noprofile", "--rcfile", "start", "-i")

    def test_hostile_names_in_zsh(self):
        (self.instance.directory / ".zshrc").write_text("autoload -U compinit\ncompinit -u -D\nbindkey -e\n. ./script\n")
        self.hostile("zsh", "-d", "-i")

    def test_hostile_names_in_fish(self):
        self.hostile("fish", "--no-config", "--private", "-i", "-C", "source script")

    def test_names_that_a_terminal_would_obey(self):
        self.instance.answer = lambda *_: (200, json.dumps({"upstreams": [{"name": "app", "servers": [
            {"name": "a\x1b[31m", "state": "up"}, {"name": "b", "state": "\x1b]0;title\x07"}, {"name": "c\nd", "state": "up"}]}]}))
        done = run("--complete", "-r", self.instance.directory, "server", "")
        self.assertEqual(done.stdout, "app/b\t\\u001b]0;title\\u0007\n")

    def test_installed_scripts_are_those(self):
        for name, file in {"bash": "bash/aegisctl", "zsh": "zsh/_aegisctl", "fish": "fish/aegisctl.fish"}.items():
            self.assertEqual((BUILD / "completions" / file).read_text(), run("--completion", name).stdout)


if __name__ == "__main__":
    unittest.main()
