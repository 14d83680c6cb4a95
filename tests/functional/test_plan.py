"""aegis -p: what it says is what a reload then does, what is in the way of it is found before, and looking disturbs nobody."""
import copy
import json
import os
import pathlib
import re
import resource
import socket
import stat
import struct

import admin
import aegis
from aegis import AEGIS, ROOT, Case, Echo, app, bind, drop_to_nobody, echo, free_address, libconfig, run, wait_until
from papers import Papers, need_tls


def changed(plan):
    """What changes, by path: (kind, effect)."""
    return {row["path"]: (row["kind"], row["effect"]) for row in plan["changes"]}


def texts(plan, weight="error"):
    return [f"{row['path']}: {row['text']}" for row in plan["problems"] if row["weight"] == weight]


class Planning(Case):
    def plan(self, proxy, *args, code=0, **popen):
        """aegis -p of what is in the file of the instance, as JSON; and the same for people, which must agree on the exit code."""
        done = run(AEGIS, "-p", "-j", "-r", proxy.directory, *args, **popen)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        read = run(AEGIS, "-p", "-r", proxy.directory, *args, **popen)
        self.assertEqual(read.returncode, code, read.stdout + read.stderr)
        self.text = read.stdout
        for part in aegis.BROKEN:
            self.assertNotIn(part, done.stderr + read.stdout + read.stderr)
        return json.loads(done.stdout)["plan"]

    def start_plan(self, settings, *args, code=4):
        """The plan of a start in a directory where nothing runs."""
        config, directory = self.directory / "start.conf", self.directory / "nothing-runs"
        config.write_text(libconfig(settings))
        done = run(AEGIS, "-p", "-j", "-c", config, "-r", directory, *args)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertFalse(directory.exists(), "a plan makes nothing")
        return json.loads(done.stdout)


def has_api():
    return re.search(r"^admin API +yes", run(AEGIS, "-V").stdout, re.M) is not None


# --- what it says is what happens ---------------------------------------------------------------------------------------------


def base(echo_a, echo_b):
    return {"workers": 2, "pin": False, "max_connections": 1000, "drain": {"timeout": "20s"},
            "listeners": [{"name": "app", "address": "127.0.0.1:0", "upstream": "app"}],
            "upstreams": [{"name": "app", "servers": [{"name": "a", "address": echo_a}, {"name": "b", "address": echo_b}]}]}


def set_weight(settings):
    settings["upstreams"][0]["servers"][0]["weight"] = 5


def disable(settings):
    settings["upstreams"][0]["servers"][1]["disabled"] = True


def limit_listener(settings):
    settings["listeners"][0]["max_connections"] = 500


def raise_workers(settings):
    settings["workers"] = 3


def shorten_drain(settings):
    settings["drain"]["timeout"] = "5s"


def add_listener(settings):
    settings["listeners"].append({"name": "more", "address": "127.0.0.1:0", "upstream": "app"})


def add_server(settings):
    settings["upstreams"][0]["servers"].append({"name": "c", "address": "127.0.0.1:9"})


def drop_server(settings):
    del settings["upstreams"][0]["servers"][1]


def turn_servers(settings):
    settings["upstreams"][0]["servers"].reverse()


def balance(settings):
    settings["upstreams"][0]["balance"] = "p2c"


def nothing(_settings):
    pass


def weight_and_workers(settings):
    set_weight(settings)
    raise_workers(settings)


IN_PLACE, NEW, RESTART = "in_place", "new_workers", "restart"
CASES = (
    (set_weight, "in_place", {"upstreams.app.servers.a.weight": ("changed", IN_PLACE)}),
    (disable, "in_place", {"upstreams.app.servers.b.disabled": ("changed", IN_PLACE)}),
    (limit_listener, "in_place", {"listeners.app.max_connections": ("changed", IN_PLACE)}),
    (nothing, "new_generation", {}),
    (raise_workers, "new_generation", {"workers": ("changed", NEW)}),
    (shorten_drain, "new_generation", {"drain.timeout": ("changed", NEW)}),
    (add_listener, "new_generation", {"listeners.more": ("added", NEW)}),
    (add_server, "new_generation", {"upstreams.app.servers.c": ("added", NEW)}),
    (drop_server, "new_generation", {"upstreams.app.servers.b": ("dropped", NEW)}),
    (turn_servers, "new_generation", {"upstreams.app.servers": ("reordered", NEW)}),
    (balance, "new_generation", {"upstreams.app.balance": ("changed", NEW)}),
    (weight_and_workers, "new_generation", {"workers": ("changed", NEW), "upstreams.app.servers.a.weight": ("changed", IN_PLACE)}),
)


class WhatItSaysHappens(Planning):
    deadline = 120.0

    def reload_by_api(self, proxy, status=200):
        """POST /reload, or where this build has no API a HUP: None."""
        if not has_api():
            proxy.must_reload()
            return None
        answer = admin.post(proxy.directory, "/reload")
        self.assertEqual(answer.status, status, answer)
        return answer.json

    def test_every_error(self):
        """Refused by the API: all that is wrong is told, not the first of it."""
        if not has_api():
            self.skipTest("this build has no admin API")
        proxy, _ = self.proxy(Echo(self).address)
        proxy.config.write_text(libconfig(proxy.settings) + "nonsense = 1; more = 2;")
        answer = self.reload_by_api(proxy, 422)
        self.assertEqual(len(answer["errors"]), 2)
        self.assertNotIn("plan", answer)
        with bind() as one, bind() as two:
            for number, busy in enumerate((one, two)):
                proxy.settings["listeners"].append({"name": f"l{number}", "address": "127.0.0.1:%d" % busy.getsockname()[1], "upstream": "app"})
            proxy.write(proxy.settings)
            answer = self.reload_by_api(proxy, 422)
            self.assertEqual(len(answer["errors"]), 2)
            self.assertEqual(changed(answer["plan"]), {"listeners.l0": ("added", NEW), "listeners.l1": ("added", NEW)})
            self.assertEqual(answer["plan"]["errors"], 2)

    def test_every_kind_of_change(self):
        first, second = Echo(self), Echo(self)
        settings = base(first.address, second.address)
        proxy = self.aegis(settings)
        sock = self.connect(proxy.address())
        echo(sock)
        for change, outcome, wanted in CASES:
            with self.subTest(change=change.__name__):
                proxy.must_reload(settings)  # the settings to begin from
                new = copy.deepcopy(settings)
                change(new)
                proxy.write(new)
                before = proxy.stat()
                plan = self.plan(proxy)
                self.assertEqual(changed(plan), wanted)
                self.assertEqual(plan["outcome"], outcome)
                self.assertEqual(plan["running"]["connections"], 1)
                self.assertEqual(plan["running"]["generation"], before["generation"])
                answer = self.reload_by_api(proxy)
                if answer is not None:
                    self.assertEqual((answer["status"], answer["plan"]["outcome"]), ("reloaded", outcome))
                    self.assertEqual(answer["plan"]["changes"], plan["changes"], "carried out as planned")
                after = proxy.stat()
                if answer is not None:
                    self.assertEqual(answer["generation"], after["generation"])
                self.assertEqual(after["generation"] - before["generation"], 0 if outcome == "in_place" else 1)
                self.assertEqual(len(proxy.workers()), plan["running"]["workers"] if outcome == "in_place" else plan["workers"])
                again = self.plan(proxy)
                self.assertEqual(changed(again), {}, "what was taken over is in force")
                echo(sock)

    def test_log_tells_it(self):
        proxy, _ = self.proxy(Echo(self).address)
        proxy.settings["upstreams"][0]["servers"].append({"address": "127.0.0.1:9"})
        proxy.must_reload(proxy.settings)
        self.assertIn("plan: 1 added; 2 new workers take new clients", proxy.log())

    def test_restart_only(self):
        if not ROOT:
            self.skipTest("only root may become another user")
        proxy, _ = self.proxy(Echo(self).address, engine="auto")
        proxy.settings["user"] = "root"
        proxy.write(proxy.settings)
        self.assertEqual(changed(self.plan(proxy)), {"user": ("changed", RESTART)})
        self.assertIn("Only after a restart:", self.text)

    def test_drained(self):
        """A drained instance begins anew, whatever changed, and its listeners are its own still."""
        proxy, _ = self.proxy(Echo(self).address)
        self.assertEqual(proxy.command("-s", "drain").returncode, 0)
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "the end of the drain")
        set_weight(proxy.settings)
        proxy.write(proxy.settings)
        plan = self.plan(proxy)
        self.assertEqual((plan["outcome"], plan["running"]["state"]), ("new_generation", "drained"))
        self.assertEqual(len(plan["changes"]), 1)
        self.assertIn("1 address (1 in use by this instance)", self.text)


class Connections(Planning):
    def test_live_ones(self):
        """Each change says how many connections it touches."""
        first, second = Echo(self), Echo(self)
        settings = base(first.address, second.address)
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "app"})
        settings["upstreams"][0]["balance"] = "round_robin"
        settings["workers"] = 1
        proxy = self.aegis(settings)
        for _ in range(6):
            echo(self.connect(proxy.address("app")))
        for _ in range(4):
            echo(self.connect(proxy.address("other")))
        del settings["listeners"][1]
        del settings["upstreams"][0]["servers"][1]
        settings["upstreams"][0]["retries"] = 1
        settings["drain"]["timeout"] = "7s"
        proxy.write(settings)
        plan = self.plan(proxy)
        touched = {row["path"]: row["connections"] for row in plan["changes"]}
        self.assertEqual(touched, {"drain.timeout": 10, "listeners.other": 4, "upstreams.app.retries": 10, "upstreams.app.servers.b": 5})
        self.assertEqual((plan["connections_drained"], plan["drain_timeout_s"]), (10, 7.0))
        self.assertIn("10 connections stay with the old ones for up to 7s", self.text)
        self.assertIn("[4 connections]", self.text)


    def test_generations_that_end(self):
        """Generations that drain already, beyond drain.max_generations, end at the reload: the plan says whose connections."""
        proxy, address = self.proxy(Echo(self).address, drain={"timeout": "0s", "max_generations": 2})
        socks = []
        for count in (2, 3, 1):
            socks += [self.connect(address) for _ in range(count)]
            for sock in socks:
                echo(sock)
            if count != 1:
                proxy.must_reload()
        plan = self.plan(proxy)
        self.assertEqual((plan["generations_ended"], plan["connections_ended"], plan["connections_drained"]), (1, 2, 4))
        self.assertIn("2 connections of generations that drain already end at once (drain.max_generations); 4 connections stay", self.text)
        proxy.must_reload()
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 4, "the end of the oldest")
        for sock in socks[2:]:
            echo(sock)


# --- which settings -----------------------------------------------------------------------------------------------------------


class Source(Planning):
    def test_overrides_are_in_force(self):
        """What was given with -e at the start is applied again by a reload, and so by a plan, unless it is given others."""
        config = app(Echo(self).address, engine="auto")
        proxy = self.aegis(config, "-e", "max_connections = 55;")
        self.assertEqual(changed(self.plan(proxy)), {})
        self.assertIn("max_connections = 55;", (proxy.directory / "settings").read_text())
        plan = self.plan(proxy, "-e", "max_connections = 66;")
        self.assertEqual([(row["before"], row["after"]) for row in plan["changes"]], [("55", "66")])
        other = self.directory / "other.conf"
        other.write_text(libconfig({**config, "workers": 1}))
        self.assertEqual(changed(self.plan(proxy, "-c", other)), {"workers": ("changed", NEW)})
        self.assertIn("reads another file", self.text)

    def test_quick_mode(self):
        address, directory = free_address(), self.directory / "quick"
        with aegis.subprocess.Popen([AEGIS, "-r", directory, address, Echo(self).address], stdin=aegis.subprocess.DEVNULL,
                                    stdout=aegis.subprocess.DEVNULL, stderr=aegis.subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: (directory / "settings").exists(), "the start")
                done = run(AEGIS, "-p", "-j", "-r", directory)
                self.assertEqual(done.returncode, 0, done.stderr)
                plan = json.loads(done.stdout)["plan"]
                self.assertEqual((changed(plan), plan["outcome"]), ({}, "new_generation"))
                done = run(AEGIS, "-p", "-j", "-r", directory, address, "127.0.0.1:9")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("upstreams.quick.servers.127.0.0.1:9", changed(json.loads(done.stdout)["plan"]))
            finally:
                process.terminate()
        self.assertFalse((directory / "settings").exists())

    def test_settings_file(self):
        """Who may read the statistics may read it, nobody else; it goes at the end."""
        proxy, _ = self.proxy(Echo(self).address)
        path = proxy.directory / "settings"
        mode, other = path.stat(), (proxy.directory / "stats").stat()
        self.assertEqual(stat.S_IMODE(mode.st_mode), 0o640)
        self.assertEqual((mode.st_uid, mode.st_gid), (other.st_uid, other.st_gid))
        self.assertFalse((proxy.directory / "settings.new").exists())
        proxy.stop()
        self.assertFalse(path.exists())

    def test_settings_by_api(self):
        """GET /settings tells what is in force, also what a reload changed in place."""
        if not has_api():
            self.skipTest("this build has no admin API")
        proxy = self.aegis(app(Echo(self).address, upstream={"health": {"send": "secret"}, "name": "app"}, engine="auto"), "-e", "max_connections = 55;")
        for weight in (100, 7):
            proxy.settings["upstreams"][0]["servers"][0]["weight"] = weight
            proxy.must_reload(proxy.settings)
            answer = admin.get(proxy.directory, "/settings")
            self.assertEqual(answer.status, 200)
            settings = answer.json["settings"]
            self.assertEqual((settings["max_connections"], settings["workers"]), (55, 2))
            self.assertEqual(settings["upstreams"][0]["servers"][0]["weight"], weight)
            self.assertEqual(settings["upstreams"][0]["health"]["send"], "(hidden)")
            self.assertEqual((answer.json["file"], answer.json["overrides"]), (str(proxy.config), ["max_connections = 55;"]))
        for text in (answer.bytes.decode(), proxy.log(), (proxy.directory / "settings").read_text()):
            self.assertNotIn("secret", text)
        self.plan(proxy)
        self.assertIn("health.send: is kept secret, and not compared", self.text)

    def test_invalid(self):
        proxy, _ = self.proxy(Echo(self).address)
        proxy.config.write_text("workers = 0; nonsense = 1;")
        done = run(AEGIS, "-p", "-r", proxy.directory)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nonsense: unknown key", done.stderr)
        done = run(AEGIS, "-p", "-j", "-r", proxy.directory)
        self.assertEqual(done.returncode, 1)
        answer = json.loads(done.stdout)
        self.assertEqual(answer["status"], "invalid")
        self.assertGreaterEqual(len(answer["errors"]), 2)

    def test_nothing_runs(self):
        answer = self.start_plan(app("127.0.0.1:9"))
        self.assertEqual((answer["status"], answer["plan"]["outcome"]), ("not_running", "start"))
        self.assertIsNone(answer["plan"]["running"])
        self.assertGreater(answer["plan"]["needs"]["bytes_total"], 1 << 20)

    def test_left_behind(self):
        """What a killed master left is not what is in force."""
        proxy, _ = self.proxy(Echo(self).address)
        proxy.kill()
        self.assertTrue((proxy.directory / "settings").exists())
        done = run(AEGIS, "-p", "-c", proxy.config, "-r", proxy.directory)
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
        self.assertIn("No Aegis is running in", done.stdout)

    def test_not_for_everybody(self):
        if not ROOT:
            self.skipTest("needs root")
        proxy, _ = self.proxy(Echo(self).address)
        proxy.config.chmod(0o644)
        done = run(AEGIS, "-p", "-c", proxy.config, "-r", proxy.directory, user=65533, group=65533, extra_groups=[])
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
        self.assertIn("settings cannot be read: Permission denied", done.stdout)

    def test_j_is_for_p(self):
        done = run(AEGIS, "-t", "-j")
        self.assertEqual(done.returncode, 1)
        self.assertIn("-j is for -p", done.stderr)


# --- what is in the way -------------------------------------------------------------------------------------------------------


class InTheWay(Planning):
    def refused(self, proxy, says):
        """The plan says so, and the reload is refused."""
        plan = self.plan(proxy, code=2)
        self.assertTrue(any(says in text for text in texts(plan)), plan["problems"])
        self.assertIn("The reload would fail", self.text)
        self.assertFalse(proxy.reload())
        return plan

    def test_busy_port(self):
        proxy, _ = self.proxy(Echo(self).address)
        with bind() as busy:
            port = busy.getsockname()[1]
            proxy.settings["listeners"].append({"name": "busy", "address": f"127.0.0.1:{port}", "upstream": "app"})
            proxy.write(proxy.settings)
            name = pathlib.Path("/proc/self/comm").read_text().strip()
            self.refused(proxy, f"listeners.busy.address: cannot listen on 127.0.0.1:{port}: {name} (pid {os.getpid()}) listens there")
        self.assertEqual(texts(self.plan(proxy)), [], "it is free now")
        proxy.must_reload()

    def test_admin_address(self):
        proxy, _ = self.proxy(Echo(self).address)
        with bind() as busy:
            proxy.settings["admin"] = {"metrics_address": "127.0.0.1:%d" % busy.getsockname()[1]}
            proxy.write(proxy.settings)
            self.refused(proxy, "admin.metrics_address: cannot listen on")
        proxy.must_reload()
        self.assertEqual(texts(self.plan(proxy)), [], "it is ours now")

    def test_busy_beside_our_own(self):
        """Somebody else on a port that is ours on another address."""
        proxy, address = self.proxy(Echo(self).address)
        port = aegis.parse(address)[1][1]
        with bind(f"127.0.0.2:{port}"):
            proxy.settings["listeners"].append({"name": "two", "address": f"127.0.0.2:{port}", "upstream": "app"})
            proxy.write(proxy.settings)
            self.refused(proxy, "listens there")
        proxy.settings["listeners"][1]["address"] = f"127.0.0.3:{port}"
        proxy.write(proxy.settings)
        self.assertEqual(texts(self.plan(proxy)), [])
        proxy.must_reload()
        self.assertEqual(texts(self.plan(proxy)), [])

    def test_no_such_address(self):
        proxy, _ = self.proxy(Echo(self).address)
        proxy.settings["listeners"].append({"name": "far", "address": "192.0.2.77:0", "upstream": "app"})
        proxy.write(proxy.settings)
        self.refused(proxy, "this machine has no such address")

    def test_unix_sockets(self):
        proxy, _ = self.proxy(Echo(self).address)
        path = self.directory / "other.sock"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            proxy.settings["listeners"].append({"name": "unix", "address": f"unix:{path}", "upstream": "app"})
            proxy.write(proxy.settings)
            self.refused(proxy, f"cannot listen on unix:{path}")
            other.setblocking(False)
            other_clients = 0
            try:
                while True:
                    other.accept()[0].close()
                    other_clients += 1
            except BlockingIOError:
                pass
            self.assertLessEqual(other_clients, 1, "the reload looks whether it is left behind, the plan does not connect")
        proxy.must_reload()  # now it is stale
        for wrong in (self.directory / "nowhere" / "x.sock", proxy.config):
            proxy.settings["listeners"][1]["address"] = f"unix:{wrong}"
            proxy.write(proxy.settings)
            self.refused(proxy, "listeners.unix.address")

    def test_log(self):
        proxy, _ = self.proxy(Echo(self).address)
        link = self.directory / "link"
        link.symlink_to(self.directory / "elsewhere")
        for target in (self.directory / "nowhere" / "log", self.directory):
            proxy.settings["log"] = {"target": str(target)}
            proxy.write(proxy.settings)
            self.refused(proxy, f"log.target: cannot write to {target}")
            self.assertIn(f"cannot open the log {target}: ", proxy.stat()["reloads"]["last_note"])
        del proxy.settings["log"]
        for path, why in (("/proc/aegis.log", "No such file or directory"), (link, "Too many levels of symbolic links")):
            with self.subTest(path):
                proxy.settings["access_log"] = {"path": str(path)}
                proxy.write(proxy.settings)
                self.refused(proxy, f"access_log.path: cannot write to {path}: {why}")
                self.assertEqual(proxy.stat()["reloads"]["last_note"], f"cannot open the access log {path}: {why}")
        del proxy.settings["access_log"]
        good = self.directory / "new.log"
        proxy.settings["log"] = {"target": str(good)}
        proxy.write(proxy.settings)
        self.assertEqual(texts(self.plan(proxy)), [])
        self.assertFalse(good.exists(), "a plan makes no file")

    def test_name(self):
        proxy, _ = self.proxy(Echo(self).address)
        proxy.settings["upstreams"][0]["servers"].append({"address": "no-such-name.invalid:1"})
        proxy.write(proxy.settings)
        self.refused(proxy, 'cannot resolve "no-such-name.invalid"')

    def test_start_test(self):
        proxy, _ = self.proxy(Echo(self).address)
        proxy.settings["upstreams"].append({"name": "gone", "start_test": "fail", "servers": [{"address": "127.0.0.1:1"}]})
        proxy.write(proxy.settings)
        self.refused(proxy, "no server can be reached")

    def test_workers(self):
        proxy, _ = self.proxy(Echo(self).address)
        proxy.settings["workers"] = 200
        proxy.write(proxy.settings)
        self.refused(proxy, "restart Aegis to run more")

    def test_descriptors_and_memory(self):
        settings = app("127.0.0.1:9", max_connections=9_000_000, buffer_memory="900G")
        plan = self.start_plan(settings)["plan"]
        warnings = texts(plan, "warning")
        self.assertTrue(any("descriptor limit" in text for text in warnings) or plan["needs"]["connections_possible"] == 9_000_000, warnings)
        self.assertTrue(any("this can take" in text for text in warnings), warnings)
        self.assertGreater(plan["needs"]["bytes_total"], 900 << 30)
        many = [{"name": f"l{number}", "address": f"127.0.0.1:{20000 + number}", "upstream": "app"} for number in range(256)]
        settings = {**app("127.0.0.1:9"), "workers": 256, "max_connections": 10, "listeners": many}
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        few = (min(4096, limit[1]),) * 2

        def lower():
            resource.setrlimit(resource.RLIMIT_NOFILE, few)
        config = self.write(settings)
        done = run(AEGIS, "-p", "-j", "-c", config, "-r", self.directory / "nothing-runs", preexec_fn=lower,
                   **(drop_to_nobody() if ROOT else {}))
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertTrue(any("descriptors, and the limit is 4096" in text for text in texts(json.loads(done.stdout)["plan"])), done.stdout)

    def test_memory_of_tls(self):
        """What OpenSSL has of each session counts, for both sides."""
        need_tls()
        pair = Papers(self.directory / "papers").pair("localhost")
        plain = app("127.0.0.1:9")
        one = app("127.0.0.1:9", listener={"tls": {"certificates": [pair]}})
        both = app("127.0.0.1:9", listener={"tls": {"certificates": [pair]}}, upstream={"tls": {"verify": False}})
        plain, one, both = (self.start_plan(settings)["plan"]["needs"]["bytes_per_connection"] for settings in (plain, one, both))
        self.assertLess(plain, 1000)
        self.assertGreater(one, plain + 13000)
        self.assertGreater(both, one + 13000)

    def test_start_where_it_cannot_write(self):
        config = self.write(app("127.0.0.1:9"))
        answer = run(AEGIS, "-p", "-c", config, "-r", config / "below" / "a-file")
        self.assertEqual(answer.returncode, 2, answer.stdout)
        self.assertIn("runtime_dir", answer.stdout)

    def write(self, settings):
        path = self.directory / "one.conf"
        path.write_text(libconfig(settings))
        return path


# --- nobody is disturbed ------------------------------------------------------------------------------------------------------


class Undisturbed(Planning):
    deadline = 120.0

    def test_clients_do_not_notice(self):
        """New clients while plans are made, over and over, of settings with a new address beside the live one: all are served, and nothing is
        counted that was not asked for."""
        proxy, address = self.proxy(Echo(self).address, workers=2)
        host, port = aegis.parse(address)[1]
        old = self.connect(address)
        echo(old)
        proxy.settings["listeners"].append({"name": "all", "address": f"127.0.0.9:{port}", "upstream": "app"})
        proxy.write(proxy.settings)
        load = aegis.Load(self, address)
        load.wait_more()
        before = proxy.stat()
        for _ in range(20):
            self.plan(proxy)
        load.stop()
        self.assertEqual(load.failures, [])
        echo(old)
        after = proxy.stat()
        self.assertEqual((after["generation"], after["reloads"]), (before["generation"], before["reloads"]))
        self.assertEqual([row["pid"] for row in after["workers"]], [row["pid"] for row in before["workers"]])
        self.assertEqual(len(listening(host, port)), 2, "no socket joined the group, none left it")


def listening(host, port):
    wanted = "%08X:%04X" % (struct.unpack("=I", socket.inet_aton(host))[0], port)
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[1] == wanted and line.split()[3] == "0A"]


if __name__ == "__main__":
    aegis.main()
