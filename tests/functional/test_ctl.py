"""aegisctl against a real instance: what each verb does, and fifty of them in a row under load without a client noticing more than was asked for."""
import json
import os
import re
import subprocess
import time
import unittest

import aegis
from aegis import ROOT, Case, Echo, Load, app, dial, drop_to_nobody, echo, how_it_ends, run, wait_until

CTL = aegis.BUILD / "aegisctl"
HAS_API = re.search(r"(?m)^admin API +yes", run(aegis.AEGIS, "-V").stdout) is not None


def ctl(proxy, *words, **options):
    """(exit code, what it printed, what it complained about)"""
    done = run(CTL, "-r", proxy.directory, *words, **options)
    return done.returncode, done.stdout, done.stderr


@unittest.skipUnless(HAS_API, "built without the admin interface, or libmicrohttpd is not there")
class CtlCase(Case):
    deadline = 120.0

    def must(self, proxy, *words):
        code, text, complaint = ctl(proxy, *words)
        self.assertEqual((code, complaint), (0, ""), f"aegisctl {' '.join(words)}: {text}")
        return text

    def must_refuse(self, proxy, *words, says=""):
        code, text, complaint = ctl(proxy, *words)
        self.assertEqual((code, text), (3, ""), complaint)
        self.assertTrue(complaint.startswith("aegisctl: "), complaint)
        self.assertIn(says, complaint)
        return complaint

    def ask(self, proxy, *words):
        """The answer as JSON."""
        return json.loads(self.must(proxy, "-j", *words))

    def two_servers(self, **settings):
        self.backends = {name: Echo(self) for name in ("a", "b")}
        self.settings = app([{"name": name, "address": backend.address} for name, backend in self.backends.items()],
                            drain={"timeout": "1h", "max_generations": 16}, **settings)
        return self.aegis(self.settings)

    def exchange(self, proxy, count=1):
        for _ in range(count):
            with dial(proxy.address()) as sock:
                echo(sock)

    def shares(self, proxy, count=20):
        """How many of so many new connections each server gets."""
        before = {name: proxy.server(name)["total"] for name in self.backends}
        self.exchange(proxy, count)
        return {name: proxy.server(name)["total"] - total for name, total in before.items()}


class Verbs(CtlCase):
    def test_status(self):
        proxy = self.two_servers()
        self.exchange(proxy, 3)
        proxy.wait_closes("finished", 3)
        text = self.must(proxy, "status")
        self.assertRegex(text, rf"^Aegis \S+, running, generation 1, up .*, pid {proxy.pid}, engine {proxy.stat()['engine']}\n")
        self.assertRegex(text, r"(?m)^connections  0 active of at most 100000, 3 in total, 0 rejected, 0 errors$")
        self.assertRegex(text, r"(?m)^app +127\.0\.0\.1:\d+ +app +0 +3 ")
        answer = self.ask(proxy, "status")
        self.assertEqual((answer["pid"], answer["connections"]["total"]), (proxy.pid, 3))

    def test_health(self):
        proxy = self.two_servers()
        self.assertEqual(self.must(proxy, "health"), "ok\n  app/a  usable\n  app/b  usable\n")
        self.must(proxy, "server", "a", "disable")
        self.assertEqual(self.must(proxy, "health"), "ok\n  app/a  not usable\n  app/b  usable\n")
        self.must(proxy, "server", "b", "disable")
        code, text, complaint = ctl(proxy, "health")
        self.assertEqual((code, text, complaint), (3, "down\n  app/a  not usable\n  app/b  not usable\n", ""))

    def test_servers_by_hand(self):
        proxy = self.two_servers(workers=1)  # one, so that shares are exact
        for order in ("disable", "drain"):
            with self.subTest(order):
                self.assertRegex(self.must(proxy, "server", "app/a", order), r"(?m)^app +a +(disabled|draining) +(disabled|drain) ")
                self.assertEqual(self.shares(proxy), {"a": 0, "b": 20})
                self.assertRegex(self.must(proxy, "server", "app/a", "enable"), r"(?m)^app +a +- +- ")
                self.assertEqual(self.shares(proxy), {"a": 10, "b": 10})
        self.must(proxy, "server", "a", "weight", "300")
        self.assertEqual(self.shares(proxy, 40), {"a": 30, "b": 10})
        self.assertRegex(self.must(proxy, "servers"), r"(?m)^app +a +- +- +\S+ +300/100 ")
        self.assertRegex(self.must(proxy, "server", "a", "weight", "settings"), r"(?m)^app +a +- +- +\S+ +100 ")
        self.assertEqual(self.shares(proxy), {"a": 10, "b": 10})
        self.must(proxy, "server", "a", "weight", "300")
        self.must(proxy, "reset")
        self.assertEqual(self.shares(proxy), {"a": 10, "b": 10})

    def test_servers_that_are_not_there(self):
        settings = app(Echo(self).address)
        settings["upstreams"][0]["servers"][0]["name"] = "one"
        settings["upstreams"].append({"name": "other", "servers": [{"name": "one", "address": "127.0.0.1:1"}]})
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "other"})
        proxy = self.aegis(settings)
        self.must_refuse(proxy, "server", "none", "disable", says='there is no server "none"')
        self.assertRegex(self.must_refuse(proxy, "server", "one", "disable"), "app/one, other/one")
        self.must(proxy, "server", "other/one", "disable")
        self.must_refuse(proxy, "server", "other/one", "weight", "999999999")

    def test_drain_and_undrain(self):
        proxy = self.two_servers()
        address = proxy.address()
        with dial(address) as held:
            echo(held)
            self.assertEqual(self.must(proxy, "drain", "1h"), "draining, 1 connection open\n")
            wait_until(lambda: aegis.refused(address), "new clients to be refused")
            echo(held)
            self.assertEqual(ctl(proxy, "health")[0], 3)
            self.assertRegex(self.must(proxy, "undrain"), r"^running, generation 2\b")
            echo(held)
            self.exchange(proxy)
        with dial(proxy.address()) as held:
            echo(held)
            self.must(proxy, "drain", "1")
            how_it_ends(held)
        proxy.wait_closes("drain_timeout", 1)

    def test_reload(self):
        proxy = self.two_servers()
        text = self.must(proxy, "reload")
        self.assertRegex(text, r"^running, generation 2\b")
        proxy.write({**self.settings, "workers": 3})
        text = self.must(proxy, "reload")
        self.assertRegex(text, r"^running, generation 3\b")
        self.assertRegex(text, r"(?m)^  ~ workers +2 -> 3$")
        self.assertEqual(len(proxy.workers()), 3)
        proxy.write("listeners = ( { name = 5; } );\nupstream = ();\n")
        complaint = self.must_refuse(proxy, "reload", says=".conf:1: listeners[0]")
        self.assertRegex(complaint, r"(?m)\.conf:2: upstream: unknown key")
        self.assertEqual(proxy.stat()["generation"], 3)
        self.exchange(proxy)

    def test_connections_and_kill(self):
        proxy = self.two_servers()
        socks = [self.connect(proxy.address()) for _ in range(3)]
        for sock in socks:
            echo(sock, b"x" * 1000)
        rows = {row["client"]: row for row in self.ask(proxy, "connections")["connections"]}
        self.assertEqual(set(rows), {aegis.form(sock) for sock in socks})
        text = self.must(proxy, "connections")
        for sock in socks:
            row = rows[aegis.form(sock)]
            self.assertRegex(text, rf"(?m)^{re.escape(row['id'])} +{re.escape(aegis.form(sock))} +app +app +[ab] +relay .* 1\.0 kB +1\.0 kB$")
        victim = rows[aegis.form(socks[1])]["id"]
        self.assertEqual(self.must(proxy, "kill", victim), f"connection {victim} is ended\n")
        self.assertEqual(how_it_ends(socks[1]), ("eof", b""))
        proxy.wait_closes("killed", 1)
        for sock in (socks[0], socks[2]):
            echo(sock)
        self.must_refuse(proxy, "kill", victim, says=f"there is no connection {victim}")
        self.must_refuse(proxy, "kill", "nonsense", says="nonsense")
        only = self.ask(proxy, "connections", f"client={aegis.form(socks[0])}")["connections"]
        self.assertEqual([row["id"] for row in only], [rows[aegis.form(socks[0])]["id"]])

    def test_why(self):
        proxy = self.two_servers()
        with dial(proxy.address()) as sock:
            echo(sock)
            client = aegis.form(sock)
        proxy.wait_closes("finished", 1)
        text = self.must(proxy, "why", client)
        self.assertRegex(text, rf"^\d+\.\d+  {re.escape(client)} to app, began \S+, ended \S+: finished\n")
        self.assertGreater(len(text.splitlines()), 3)
        self.assertEqual(self.must(proxy, "why", "192.0.2.1"), "No connection of 192.0.2.1 is remembered.\n")
        self.must_refuse(proxy, "why", "not an address")


class Completion(CtlCase):
    def test_names_of_what_runs(self):
        """What the shells offer is what the instance has; tests/unit/tools/test_ctl.py has the shells."""
        proxy = self.two_servers()
        sock = self.connect(proxy.address())
        echo(sock)

        def offered(*words):
            return [line.partition("\t")[0] for line in run(CTL, "--complete", "-r", proxy.directory, *words).stdout.splitlines()]

        row, = self.ask(proxy, "connections")["connections"]
        self.assertEqual(offered("server", ""), ["app/a", "app/b"])
        self.assertEqual(offered("kill", ""), [row["id"]])
        self.assertEqual(offered("why", ""), ["127.0.0.1"])


class Trouble(CtlCase):
    def test_nobody_runs(self):
        proxy = self.two_servers()
        proxy.stop()
        code, text, complaint = ctl(proxy, "status")
        self.assertEqual((code, text), (4, ""))
        self.assertIn("no Aegis is running", complaint)

    @unittest.skipUnless(ROOT, "only root can become somebody who may not")
    def test_not_allowed(self):
        if subprocess.run([CTL, "-V"], capture_output=True, check=False, **drop_to_nobody()).returncode != 0:
            self.skipTest("nobody cannot execute the program here")
        proxy = self.aegis(app(Echo(self).address, user="daemon", group="daemon"))
        code, text, complaint = ctl(proxy, "status", **drop_to_nobody())
        self.assertEqual((code, text), (3, ""))
        self.assertIn("you may not ask", complaint)


class Windowed(Load):
    """Load whose new connections may be refused while the instance drains, and only then."""

    def __init__(self, *arguments, **options):
        self.windows = []
        super().__init__(*arguments, **options)

    def _run_new(self, index):
        number = 0
        while not self.done.is_set():
            number += 1
            began = time.monotonic()
            try:
                with dial(self.address) as sock:
                    echo(sock, b"new %d.%d" % (index, number))
            except (OSError, AssertionError) as error:
                self._failed(began, error)
                continue
            self.exchanges[index] += 1

    def _failed(self, began, error):
        window = self.windows[-1] if self.windows else None
        turned_away = isinstance(error, (ConnectionRefusedError, ConnectionResetError))
        if not turned_away or window is None or (window[1] is not None and began > window[1]):
            self.failures.append(f"new connection: {error!r}, begun at {began}; drained: {self.windows}")

    def wait_kept(self, count=5):
        """The connections that are kept go on, whatever becomes of new ones."""
        before = sum(self.exchanges[-2:])
        wait_until(lambda: sum(self.exchanges[-2:]) >= before + count or self.failures, "the connections that are kept to go on", 30)


class Fifty(CtlCase):
    """The steps of an operator who tries everything, three times over; after each the load must have gone on."""

    def setUp(self):
        super().setUp()
        self.proxy = self.two_servers()
        self.load = Windowed(self, self.proxy.address(), new=2, kept=8)
        self.steps = 0

    def step(self, *words):
        self.steps += 1
        text = self.must(self.proxy, *words)
        self.load.wait_more(3)
        self.assertEqual(self.load.failures, [], f"after step {self.steps}: {' '.join(words)}")
        return text

    def refused_step(self, *words, says):
        self.steps += 1
        self.must_refuse(self.proxy, *words, says=says)
        self.load.wait_more(3)
        self.assertEqual(self.load.failures, [], f"after step {self.steps}: {' '.join(words)}")

    def drained(self):
        """Two steps: nobody new is let in between them, and whoever is there stays."""
        self.steps += 2
        window = [time.monotonic(), None]
        self.load.windows.append(window)
        self.must(self.proxy, "drain", "1h")
        wait_until(lambda: aegis.refused(self.load.address), "new clients to be refused")
        self.load.wait_kept()
        self.must(self.proxy, "undrain")
        window[1] = time.monotonic()
        self.load.wait_more(3)
        self.assertEqual(self.load.failures, [])

    def one_that_is_killed(self, count):
        """Three steps: find it in the list, end it, ask why it ended."""
        sock = self.connect(self.load.address)
        echo(sock)
        client = aegis.form(sock)
        row, = json.loads(self.step("-j", "connections", f"client={client}"))["connections"]
        self.step("kill", row["id"])
        self.assertEqual(how_it_ends(sock), ("eof", b""))
        self.assertIn(": killed\n", self.step("why", client))
        self.proxy.wait_closes("killed", count)

    def only_one_gets_new_ones(self, idle, busy):
        before = self.proxy.server(idle)["total"], self.proxy.server(busy)["total"]
        self.load.wait_more(5)
        after = self.proxy.server(idle)["total"], self.proxy.server(busy)["total"]
        self.assertEqual(after[0], before[0])
        self.assertGreater(after[1], before[1])

    def round(self, number):
        self.step("status")
        self.step("health")
        for idle, busy in (("a", "b"), ("b", "a")):
            self.step("server", f"app/{idle}", "disable")
            self.only_one_gets_new_ones(idle, busy)
            self.step("servers")
            self.step("server", idle, "enable")
        self.step("server", "a", "drain")
        self.only_one_gets_new_ones("a", "b")
        self.step("server", "a", "weight", "250")
        self.step("server", "a", "enable")
        self.proxy.write({**self.settings, "workers": 2 + number % 2})
        self.step("reload")
        self.proxy.write("nonsense")
        self.refused_step("reload", says="nonsense")
        self.one_that_is_killed(number)
        self.proxy.write(self.settings)
        self.drained()
        self.step("reload")
        self.step("reset")

    def test_fifty_steps(self):
        for number in (1, 2, 3):
            self.round(number)
        self.assertGreaterEqual(self.steps, 50)
        self.load.stop()
        self.assertEqual(self.load.failures, [])
        self.assertEqual(self.load.broken, set())
        self.assertEqual(self.proxy.listener()["closes"]["killed"], 3)


if __name__ == "__main__":
    aegis.main()
