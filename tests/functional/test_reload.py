"""Trust it with a reload: nothing is refused, broken, lost or leaked, whatever the new settings are worth and whoever dies."""
import contextlib
import copy
import os
import signal
import threading

import aegis
from aegis import Case, Demo, Echo, Load, Task, bind, dial, echo, form, free_address, receive_line, refused, wait_until

ROUNDS = 100 if aegis.LONG else 30
MANY = {"drain": {"timeout": "0s", "max_generations": 16}}  # connections of the first generation live to the end


def only_newest(proxy, *kept):
    """Wait until the old generations have gone, but for those that are kept."""
    return proxy.wait_stat(lambda stat: {worker["generation"] for worker in stat["workers"]} <= {stat["generation"], *kept},
                           "the old generations to be gone")


def everything(stat):
    """Every counter that must never go backwards, by name."""
    found = {"total": stat["connections"]["total"], "rejected": stat["connections"]["rejected"], "errors": stat["connections"]["errors"],
             "received": stat["bytes"]["received"], "sent": stat["bytes"]["sent"], "reloads": stat["reloads"]["ok"],
             "restarts": stat["worker_restarts"]}
    for kind, histogram in stat["latency"].items():
        found[f"latency {kind}"] = histogram["count"]
    for row in stat["listeners"]:
        for name in ("total", "received", "sent", "retries"):
            found[f"listener {row['name']} {name}"] = row[name]
        for reason, count in row["closes"].items():
            found[f"listener {row['name']} {reason}"] = count
    for group in stat["upstreams"]:
        for row in group["servers"]:
            for name in ("total", "failures", "sent", "received"):
                found[f"server {row['name']} {name}"] = row[name]
    return found


class Monotonic:
    """Reads all counters over and over; none may ever be lower than before."""

    def __init__(self, test, proxy):
        self.proxy, self.done, self.reads = proxy, threading.Event(), 0
        self.task = Task(self.run)
        test.addCleanup(self.done.set)

    def run(self):
        last = {}
        while not self.done.is_set():
            now = everything(self.proxy.stat())
            wrong = {name: (last[name], value) for name, value in now.items() if value < last.get(name, 0)}
            if wrong:
                raise AssertionError(f"counters went backwards: {wrong}")
            last.update(now)
            self.reads += 1

    def finish(self):
        self.done.set()
        self.task.result()
        if self.reads < 5:
            raise AssertionError(f"only {self.reads} reads")


class UnderLoad(Case):
    deadline = 60.0 if not aegis.LONG else 300.0

    def test_many_reloads(self):
        """Reload after reload under kept connections and new ones: no failure, the old connections live, nothing grows."""
        demo = Demo(self, "echo")
        proxy, address = self.proxy(demo["echo"], **MANY)
        long_lived = [self.connect(address) for _ in range(10)]
        load = Load(self, address)
        counters = Monotonic(self, proxy)
        load.wait_more()
        sizes = []
        for number in range(ROUNDS):
            proxy.must_reload()
            for sock in long_lived:
                echo(sock, b"after reload %d" % number)
            load.wait_more(5)
            if number in (ROUNDS // 3, ROUNDS - 1):
                only_newest(proxy, 1)
                sizes.append((aegis.descriptors(proxy.pid), aegis.rss_bytes(proxy.pid)))
        self.assertEqual(load.failures, [])
        counters.finish()
        stat = proxy.stat()
        self.assertEqual((stat["generation"], stat["reloads"]["ok"], stat["reloads"]["failed"]), (ROUNDS + 1, ROUNDS, 0))
        self.assertTrue(stat["reloads"]["last_ok"])
        load.stop()
        (descriptors, rss), (descriptors_after, rss_after) = sizes
        self.assertEqual(descriptors, descriptors_after, "descriptors of the master")
        self.assertLess(rss_after - rss, (2 if not aegis.SANITIZED else 30) << 20, "memory of the master")
        for sock in long_lived:
            sock.close()
        proxy.check_gauges()
        self.assertEqual(proxy.listener()["errors"], 0)
        self.assertEqual(len(only_newest(proxy)["workers"]), 2)

    def test_worker_numbers(self):
        """More workers, fewer, one, many, while clients come and go: each reload keeps every connection, queued ones too."""
        demo = Demo(self, "echo")
        proxy, address = self.proxy(demo["echo"], **MANY)
        load = Load(self, address)
        for workers in (4, 1, 8, 2, 3, 1, 2):
            proxy.must_reload({**proxy.settings, "workers": workers})
            load.wait_more(10)
            self.assertEqual([worker["slot"] for worker in proxy.workers()], list(range(workers)))
        self.assertEqual(load.failures, [])
        load.stop()
        proxy.check_gauges()
        self.assertEqual(proxy.listener()["errors"], 0)

    def test_kill_workers(self):
        """SIGKILL on workers under load: only their own connections break, each is replaced, no counter goes backwards."""
        demo = Demo(self, "echo")
        proxy, address = self.proxy(demo["echo"], workers=3)
        proxy.lost, proxy.restarts = True, 6
        idle = [self.connect(address) for _ in range(60)]
        for sock in idle:
            echo(sock)
        counters = Monotonic(self, proxy)

        def kill(number):
            victim = proxy.workers()[number % 3]
            os.kill(victim["pid"], signal.SIGKILL)
            proxy.wait_stat(lambda stat: stat["worker_restarts"] == number + 1 and len(stat["workers"]) == 3 and
                            all(worker["state"] == "running" for worker in stat["workers"]), "the next worker to run")
            return victim

        victim = kill(0)
        self.assertEqual(sum(not self.lives(sock) for sock in idle), victim["connections"])
        load = Load(self, address, new=2, kept=0)
        for number in range(1, 6):
            load.wait_more(5)
            kill(number)
        load.wait_more(5)
        counters.finish()
        load.stop()
        # At most what each thread had open at each of the kills.
        self.assertLessEqual(len(load.failures), 2 * 5, load.failures)
        self.assertTrue(all("ConnectionRefused" not in text for text in load.failures), load.failures)

    def lives(self, sock):
        try:
            echo(sock)
            return True
        except (OSError, AssertionError):
            return False

    def test_kill_draining_workers(self):
        """SIGKILL on workers of an old generation: their connections are counted out, and nobody replaces them."""
        server = Echo(self)
        proxy, address = self.proxy(server.address, max_connections=10)
        proxy.lost = True
        held = [self.connect(address) for _ in range(10)]
        for sock in held:
            echo(sock)
        old = proxy.workers()
        proxy.must_reload()
        for worker in old:
            if worker["connections"]:
                os.kill(worker["pid"], signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0 and len(stat["workers"]) == 2, "the old generation to be counted out")
        fresh = [self.connect(address) for _ in range(10)]
        for sock in fresh:
            echo(sock)
        with dial(address) as sock:
            self.assertFalse(self.lives(sock), "one more than max_connections")

    def test_queued_connections_survive_the_worker(self):
        """Clients that wait in the queue of a worker that is killed, or replaced by a reload, are served by the next one."""
        proxy, address = self.proxy(Echo(self).address, workers=1, **MANY)
        proxy.lost = True
        pid = proxy.workers()[0]["pid"]
        with dial(address) as sock:
            echo(sock)
        proxy.wait_closes("finished")
        os.kill(pid, signal.SIGSTOP)
        queued = [self.connect(address, later=True) for _ in range(30)]
        for number, sock in enumerate(queued):
            sock.sendall(b"%03d" % number)
        os.kill(pid, signal.SIGKILL)
        for number, sock in enumerate(queued):
            self.assertEqual(aegis.receive(sock, 3), b"%03d" % number)
        proxy.restarts = 1
        # A stopped worker does not hold up a reload, and what it would have accepted is accepted by the new generation.
        pid = proxy.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            queued = [self.connect(address, later=True) for _ in range(30)]
            proxy.must_reload()
            for sock in queued:
                echo(sock)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.assertEqual(proxy.listener()["errors"], 0)

    def test_unix_listener(self):
        """A unix socket keeps its path and its clients over reloads."""
        demo = Demo(self, "echo")
        path = f"unix:{self.directory}/app.sock"
        proxy, address = self.proxy(demo["echo"], listener={"address": path}, **MANY)
        load = Load(self, address)
        for workers in (2, 3, 1, 2):
            proxy.must_reload({**proxy.settings, "workers": workers})
            load.wait_more(10)
        self.assertEqual(load.failures, [])
        load.stop()
        settings = copy.deepcopy(proxy.settings)
        settings["listeners"][0]["address"] = "127.0.0.1:0"
        proxy.must_reload(settings)
        wait_until(lambda: refused(path), "the old path to refuse")
        with dial(proxy.address()) as sock:
            echo(sock)


class BadReloads(Case):
    def setUp(self):
        super().setUp()
        self.server = Echo(self)
        self.proxy_, self.address_ = self.proxy(self.server.address, **MANY)
        self.good = self.proxy_.settings
        self.old = self.connect(self.address_)
        echo(self.old)

    def still_good(self, failed):
        echo(self.old, b"as if nothing had happened")
        with dial(self.address_) as sock:
            echo(sock)
        stat = self.proxy_.stat()
        self.assertEqual((stat["state"], stat["generation"], stat["reloads"]["failed"], stat["reloads"]["last_ok"]), ("running", 1, failed, False))
        self.assertTrue(stat["reloads"]["last_note"])
        self.assertEqual([row["name"] for row in stat["listeners"]], ["app"])
        self.assertEqual([row["name"] for row in stat["upstreams"][0]["servers"]], [self.server.address])

    def then_good(self):
        self.proxy_.must_reload({**self.good, "workers": 1})
        echo(self.old)
        with dial(self.address_) as sock:
            echo(sock)
        self.assertEqual(len(self.proxy_.workers()), 1)
        self.assertTrue(self.proxy_.stat()["reloads"]["last_ok"])

    def test_broken_files(self):
        """A file that cannot be parsed, has an unknown key, a wrong value, a name that does not resolve, or is not there."""
        text = aegis.libconfig(self.good)
        unresolvable = copy.deepcopy(self.good)
        unresolvable["upstreams"][0]["servers"][0]["address"] = "no-such-host.invalid:80"
        lines = text.count("\n")
        broken = [(text + "workers = ;\n", lines + 1), (text + "wrokers = 2;\n", lines + 1), (text + 'log = { level = "loud"; };\n', lines + 1),
                  (unresolvable, None), (None, None)]
        for number, (settings, line) in enumerate(broken, 1):
            with self.subTest(number=number):
                seen = len(self.proxy_.log())
                if settings is None:
                    self.proxy_.config.unlink()
                self.assertFalse(self.proxy_.reload(settings))
                self.still_good(number)
                log = self.proxy_.log()[seen:]
                self.assertIn(self.proxy_.config.name + (f":{line}" if line else ""), log)
        self.assertEqual(self.proxy_.command("-s", "reload").returncode, 3)
        self.then_good()

    def test_busy_port(self):
        """A new listener cannot be bound: all is taken back, the listeners that could be bound too."""
        taken, free = bind(), free_address()
        self.addCleanup(taken.close)
        settings = copy.deepcopy(self.good)
        settings["workers"] = 4
        settings["listeners"] += [{"name": "free", "address": free, "upstream": "app"}, {"name": "taken", "address": form(taken), "upstream": "app"}]
        descriptors = aegis.descriptors(self.proxy_.pid)
        for number in (1, 2, 3):
            self.assertFalse(self.proxy_.reload(settings))
            self.still_good(number)
            self.assertTrue(refused(free), "a listener of the refused settings accepts")
            self.assertIn(form(taken), self.proxy_.log())
        self.assertEqual(aegis.descriptors(self.proxy_.pid), descriptors)
        taken.close()
        self.proxy_.must_reload(settings)
        for name in ("app", "free", "taken"):
            with dial(self.proxy_.address(name)) as sock:
                echo(sock)
        echo(self.old)

    def test_start_test(self):
        settings = copy.deepcopy(self.good)
        settings["upstreams"][0].update(start_test="fail", servers=[{"address": free_address()}])
        self.assertFalse(self.proxy_.reload(settings))
        self.still_good(1)
        self.then_good()


class Changes(Case):
    def test_listeners(self):
        """Listeners come, move and go. Those that go refuse new clients, their connections live on, their counters stay in the sums."""
        server = Echo(self)
        proxy, address = self.proxy(server.address, **MANY)
        settings = copy.deepcopy(proxy.settings)
        first, second = free_address(), free_address()
        settings["listeners"].append({"name": "more", "address": first, "upstream": "app"})
        proxy.must_reload(settings)
        old = self.connect(first)
        echo(old)
        settings["listeners"][1]["address"] = second
        proxy.must_reload(settings)
        wait_until(lambda: refused(first), "the old port to refuse")
        new = self.connect(second)
        echo(new)
        echo(old)
        self.assertEqual(proxy.listener("more")["total"], 2)
        total = proxy.stat()["connections"]["total"]
        del settings["listeners"][1]
        proxy.must_reload(settings)
        wait_until(lambda: refused(second), "the port of the removed listener to refuse")
        echo(old)
        echo(new)
        stat = proxy.stat()
        self.assertEqual([row["name"] for row in stat["listeners"]], ["app"])
        self.assertGreaterEqual(stat["connections"]["total"], total)
        with dial(address) as sock:
            echo(sock)

    def test_servers(self):
        """A server that is gone from the settings gets nothing more; a new one is used at once."""
        servers = {name: Echo(self, banner=name.encode() + b"\n") for name in "abc"}
        rows = [{"name": name, "address": server.address} for name, server in servers.items()]
        proxy, address = self.proxy(rows[:2], workers=1)

        def ask():
            with dial(address) as sock:
                return receive_line(sock).strip()

        self.assertEqual({ask() for _ in range(6)}, {"a", "b"})
        settings = copy.deepcopy(proxy.settings)
        settings["upstreams"][0]["servers"] = rows[1:]
        servers["a"].close()
        accepted = servers["a"].accepted
        proxy.must_reload(settings)
        only_newest(proxy)
        self.assertEqual({ask() for _ in range(6)}, {"b", "c"})
        self.assertEqual(servers["a"].accepted, accepted)
        self.assertEqual([row["name"] for row in proxy.stat()["upstreams"][0]["servers"]], ["b", "c"])
        self.assertEqual(proxy.server("b")["total"], 6)
        self.assertEqual(proxy.server("c")["failures"] + proxy.server("b")["failures"], 0)

    def test_in_force_when_it_is_over(self):
        """As soon as a reload says that it is over, a new connection gets the new settings and not the old ones."""
        servers = [Echo(self, banner=name + b"\n") for name in (b"a", b"b")]
        proxy, address = self.proxy(servers[0].address)
        for number in range(1, 41):
            settings = copy.deepcopy(proxy.settings)
            settings["upstreams"][0]["servers"] = [{"address": servers[number % 2].address}]
            proxy.write(settings)
            mark = proxy.notifications.mark()
            proxy.send(signal.SIGHUP)
            proxy.notifications.wait("RELOADING=1", "READY=1", since=mark)
            with dial(address) as sock:
                self.assertEqual(receive_line(sock).strip(), "ab"[number % 2], f"after reload {number}")

    def test_limit_changes(self):
        """A lower or higher max_connections counts what is open already."""
        server = Echo(self)
        proxy, address = self.proxy(server.address, max_connections=5, **MANY)
        held = [self.connect(address) for _ in range(5)]
        for sock in held:
            echo(sock)

        def turned_away():
            with dial(address) as sock:
                try:
                    echo(sock)
                except (OSError, AssertionError):
                    return True
            return False

        self.assertTrue(turned_away())
        proxy.must_reload({**proxy.settings, "max_connections": 8})
        held += [self.connect(address) for _ in range(3)]
        for sock in held:
            echo(sock)
        self.assertTrue(turned_away())
        proxy.must_reload({**proxy.settings, "max_connections": 2})
        self.assertTrue(turned_away())
        for sock in held[1:]:
            sock.close()
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "all but one to be gone")
        self.assertFalse(turned_away())

    def test_two_at_once(self):
        """HUPs while a reload is under way: the last written file is the one that counts in the end."""
        server = Echo(self)
        proxy, address = self.proxy(server.address, workers=1)
        for number in range(10):
            settings = copy.deepcopy(proxy.settings)
            settings["listeners"][1:] = [{"name": f"first{number}", "address": "127.0.0.1:0", "upstream": "app"}]
            proxy.write(settings)
            proxy.send(signal.SIGHUP)
            if number % 2:
                proxy.wait_stat(lambda stat: stat["state"] == "reloading" or stat["listeners"][-1]["name"] == f"first{number}", "the reload to begin")
            settings["listeners"][1]["name"] = f"second{number}"
            proxy.write(settings)
            proxy.send(signal.SIGHUP)
            proxy.send(signal.SIGHUP)
            proxy.wait_stat(lambda stat: [row["name"] for row in stat["listeners"]] == ["app", f"second{number}"] and stat["state"] == "running",
                            "the last settings to be in force")
            with dial(proxy.address(f"second{number}")) as sock:
                echo(sock)
        wait_until(lambda: proxy.stat()["state"] == "running" and len(proxy.stat()["workers"]) == 1, "the last reload to be over")
        self.assertEqual(proxy.stat()["reloads"]["failed"], 0)

    def test_kill_while_reloading(self):
        """A worker killed just when a reload is asked for: the reload ends one way or the other, and Aegis goes on."""
        server = Echo(self)
        proxy, address = self.proxy(server.address)
        proxy.lost, proxy.restarts = True, None
        for number in range(10):
            workers = proxy.workers()
            if number % 2:
                os.kill(workers[0]["pid"], signal.SIGKILL)
            mark = proxy.notifications.mark()
            proxy.send(signal.SIGHUP)
            if number % 2 == 0:
                with contextlib.suppress(ProcessLookupError):  # the reload was faster
                    os.kill(workers[0]["pid"], signal.SIGKILL)
            proxy.notifications.wait("RELOADING=1", "READY=1", since=mark)
            with dial(address) as sock:
                echo(sock)
        proxy.wait_stat(lambda stat: len(stat["workers"]) == 2 and all(worker["state"] == "running" for worker in stat["workers"]), "two workers")


if __name__ == "__main__":
    aegis.main()
