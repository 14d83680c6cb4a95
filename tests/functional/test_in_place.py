"""Reloads that need no new workers: what changed is in shared memory, and those that run take it over."""
import collections
import contextlib
import os
import signal
import threading

import aegis
from aegis import Case, Echo, Task, app, dial, echo, free_address, how_it_ends, receive_line, wait_until


class InPlace(Case):
    def begin(self, names="ab", listener=None, upstream=None, workers=2, **servers):
        """An echo server for each letter, which says its name first; an old connection; and who serves."""
        self.echoes = {name: Echo(self, banner=name.encode() + b"\n") for name in names}
        self.listener, self.upstream, self.n_workers = listener, upstream, workers
        self.rows = {name: {"name": name, "address": server.address, **servers.get(name, {})} for name, server in self.echoes.items()}
        self.aegis_ = self.aegis(self.settings())
        self.address = self.aegis_.address()
        self.old = self.connect(self.address)
        self.old_name = receive_line(self.old).strip()
        self.before = self.who()
        return self.aegis_

    def settings(self):
        return app(list(self.rows.values()), listener=self.listener, upstream=self.upstream, workers=self.n_workers)

    def who(self):
        stat = self.aegis_.stat()
        return stat["generation"], sorted(row["pid"] for row in stat["workers"])

    def change(self, count, **servers):
        """Reload with other settings of servers; nobody is replaced and nothing is lost."""
        for name, options in servers.items():
            self.rows[name].update(options)
        self.aegis_.must_reload(self.settings())
        self.assertEqual(self.who(), self.before)
        note = self.aegis_.stat()["reloads"]["last_note"]
        self.assertTrue(note.startswith(f"{count} setting{'s' * (count != 1)} changed in place ("), note)
        self.assertTrue(note.endswith(")"), note)
        echo(self.old)
        return note

    def ask(self):
        with dial(self.address) as sock:
            name = receive_line(sock).strip()
            echo(sock)
        return name

    def ask_many(self, count):
        return collections.Counter(self.ask() for _ in range(count))

    def ask_at_once(self, count):
        """The same with connections that stay until all are there: who counts them sees the same at any speed."""
        with contextlib.ExitStack() as all_of_them:
            return collections.Counter(receive_line(all_of_them.enter_context(dial(self.address))).strip() for _ in range(count))

    def refused(self):
        with dial(self.address) as sock:
            return how_it_ends(sock)[1] == b""


class Servers(InPlace):
    def test_weight(self):
        for balance in ("round_robin", "least_connections", "p2c", "random", "consistent_hash"):
            with self.subTest(balance=balance):
                more = {"hash_key": "address_port"} if balance == "consistent_hash" else {}
                proxy = self.begin(upstream={"balance": balance, **more})
                seen = self.ask_at_once(60)
                self.assertGreater(min(seen["a"], seen["b"]), 10, seen)
                note = self.change(1, a={"weight": 0})
                self.assertEqual(note, "1 setting changed in place (upstreams.app.servers.a.weight 100 -> 0)")
                self.assertEqual(self.ask_many(30), {"b": 30})
                self.change(2, a={"weight": 900}, b={"weight": 0})
                self.assertEqual((proxy.server("a")["weight"], proxy.server("b")["weight"]), (900, 0))
                wait_until(lambda: self.ask() == "a", "the table to be made anew")
                self.assertEqual(self.ask_many(30), {"a": 30})
                self.old.close()
                proxy.stop()

    def test_spread(self):
        """Exactly, with round_robin and one worker."""
        self.begin(workers=1)
        self.change(1, a={"weight": 300})
        self.assertEqual(self.ask_many(40), {"a": 30, "b": 10})

    def test_disabled(self):
        proxy = self.begin()
        self.change(1, **{self.old_name: {"disabled": True}})
        other = "b" if self.old_name == "a" else "a"
        self.assertEqual(self.ask_many(30), {other: 30})
        self.assertTrue(proxy.server(self.old_name)["disabled"])
        self.change(1, **{self.old_name: {"disabled": False}})
        self.assertEqual(set(self.ask_many(30)), {"a", "b"})

    def test_backup(self):
        self.begin()
        self.change(1, b={"backup": True})
        self.assertEqual(self.ask_many(20), {"a": 20})
        self.change(1, a={"disabled": True})
        self.assertEqual(self.ask_many(20), {"b": 20})
        self.change(2, a={"disabled": False}, b={"backup": False})
        self.assertEqual(set(self.ask_many(20)), {"a", "b"})

    def test_soft_limit(self):
        """From its second connection on, a gets what b cannot take."""
        self.begin(a={"weight": 60000}, b={"weight": 1}, workers=1)
        self.assertEqual(self.old_name, "a")
        self.assertEqual(self.ask(), "a")
        self.change(1, a={"soft_limit": 1})
        self.assertEqual(self.ask_many(10), {"b": 10})

    def test_server_max_connections(self):
        """Raised and lowered, exact over all workers; while there are more than allowed, none is let in."""
        self.begin(names="a", workers=4, a={"max_connections": 5})
        held = self.fill(4)
        self.change(1, a={"max_connections": 12})
        held += self.fill(7)
        self.change(1, a={"max_connections": 3})
        self.assertTrue(all(self.refused() for _ in range(8)))
        for sock in held[:9]:
            sock.close()
        self.aegis_.wait_stat(lambda stat: stat["connections"]["active"] == 3, "nine to end")
        self.assertTrue(all(self.refused() for _ in range(8)))
        held[9].close()
        self.aegis_.wait_stat(lambda stat: stat["connections"]["active"] == 2, "one more to end")
        self.assertEqual(self.ask(), "a")

    def test_queue(self):
        """The line gets longer, and those who wait get the places that there are all of a sudden."""
        self.upstream = {"queue": {"size": 1, "timeout": "60s"}}
        proxy = self.begin(names="a", workers=3, upstream=self.upstream, a={"max_connections": 1})
        waiting = [self.connect(self.address)]
        self.wait_waiting(1)
        self.assertTrue(all(self.refused() for _ in range(4)))
        self.upstream["queue"]["size"] = 3
        self.change(1)
        waiting += [self.connect(self.address) for _ in range(2)]
        self.wait_waiting(3)
        self.assertTrue(all(self.refused() for _ in range(4)))
        self.change(1, a={"max_connections": 4})
        for sock in waiting:
            self.assertEqual(receive_line(sock), "a\n")
        self.wait_waiting(0)
        self.assertEqual(proxy.server("a")["active"], 4)

    def wait_waiting(self, count):
        self.aegis_.wait_stat(lambda stat: stat["upstreams"][0]["waiting"] == count, f"{count} in line")

    def fill(self, count):
        """There is room for so many more, which stay, and not for another one."""
        held = []
        for _ in range(count):
            held.append(self.connect(self.address))
            self.assertEqual(receive_line(held[-1]).strip(), "a")
        self.assertTrue(all(self.refused() for _ in range(4)))
        return held

    def test_pool(self):
        """Connections that wait for clients leave a server that is disabled, and come back with it."""
        self.begin(upstream={"pool": {"warm": 2}})
        other = "b" if self.old_name == "a" else "a"
        wait_until(lambda: self.echoes[other].open == 4 and self.echoes[self.old_name].open == 5, "warm connections")
        self.change(1, **{other: {"disabled": True}})
        wait_until(lambda: self.echoes[other].open == 0, "them to be closed")
        self.change(1, **{other: {"disabled": False}})
        wait_until(lambda: self.echoes[other].open == 4, "them to be made again")


class Listeners(InPlace):
    def test_max_connections(self):
        for on_full in ("reject", "wait"):
            with self.subTest(on_full=on_full):
                proxy = self.begin(names="a", workers=3, listener={"max_connections": 1, "on_full": on_full})
                one = self.connect(self.address, later=on_full == "wait")
                if on_full == "reject":
                    self.assertEqual(how_it_ends(one)[1], b"")
                self.listener["max_connections"] = 3
                self.change(1)
                if on_full == "reject":
                    one = self.connect(self.address)
                self.assertEqual(receive_line(one), "a\n")
                self.listener["max_connections"] = 1
                self.change(1)
                if on_full == "reject":
                    self.assertTrue(all(self.refused() for _ in range(6)))
                self.assertEqual(proxy.stat()["connections"]["active"], 2)
                one.close()
                self.old.close()
                proxy.stop()


class Whole(InPlace):
    def test_needs_workers(self):
        """What cannot change in place, alone or beside what can, and settings that did not change: a new generation, as ever."""
        self.begin()
        self.rows["a"]["weight"] = 50
        extra = Echo(self, banner=b"c\n")
        self.rows["c"] = {"name": "c", "address": extra.address}
        for number in (2, 3):
            self.aegis_.must_reload(self.settings())
            stat = self.aegis_.stat()
            self.assertEqual((stat["generation"], stat["reloads"]["last_note"]), (number, ""))
            self.assertEqual(set(self.ask_many(30)), {"a", "b", "c"})
            echo(self.old)
        self.before = self.before_of_running()
        self.rows["b"]["weight"] = 7
        self.aegis_.must_reload(self.settings())
        self.assertEqual(self.before_of_running(), self.before)
        self.assertEqual(self.aegis_.server("a")["weight"], 50)
        self.assertEqual(self.aegis_.server("b")["weight"], 7)
        # and one that takes none of it back
        self.rows["b"]["address"] = Echo(self, banner=b"b\n").address
        self.aegis_.must_reload(self.settings())
        self.assertEqual(self.aegis_.stat()["generation"], 4)
        self.assertEqual(self.aegis_.server("b")["weight"], 7)

    def before_of_running(self):
        return self.aegis_.stat()["generation"], [row["pid"] for row in self.aegis_.workers()]

    def test_refused(self):
        """Settings with an error change nothing, in place neither."""
        self.begin()
        self.rows["a"].update(weight=0, disabled=True)
        self.rows["b"]["weight"] = 70000
        self.assertFalse(self.aegis_.reload(self.settings()))
        self.assertEqual(self.who(), self.before)
        self.assertEqual((self.aegis_.server("a")["weight"], self.aegis_.server("a")["disabled"]), (100, False))
        self.assertEqual(set(self.ask_many(20)), {"a", "b"})

    def test_respawned_worker(self):
        """One that is forked after the change has it, and follows the next one."""
        proxy = self.begin(names="abc", workers=2)
        self.change(1, a={"disabled": True})
        self.old.close()
        proxy.lost, proxy.restarts = True, 2
        for count in (1, 2):
            os.kill(proxy.workers()[0]["pid"], signal.SIGKILL)
            proxy.wait_stat(lambda stat: stat["worker_restarts"] == count and all(row["state"] == "running" for row in stat["workers"]),
                            "a new worker")
            self.assertEqual(set(self.ask_many(40)), {"b", "c"})
        self.before = self.who()
        self.old = self.connect(self.address)
        receive_line(self.old)
        self.change(2, a={"disabled": False}, b={"weight": 0})
        self.assertEqual(set(self.ask_many(40)), {"a", "c"})

    def test_host_name(self):
        """Of a server that has a name the addresses stay known."""
        port = Echo(self, banner=b"n\n").address.rsplit(":", 1)[1]
        self.rows = {"n": {"name": "n", "address": f"localhost:{port}"}}
        self.listener, self.upstream, self.n_workers = None, None, 2
        self.aegis_ = proxy = self.aegis(self.settings())
        self.address = proxy.address()
        self.old = self.connect(self.address)
        receive_line(self.old)
        self.before = self.who()
        self.change(1, n={"weight": 7})
        self.assertEqual(self.ask(), "n")
        proxy.lost, proxy.restarts = True, 1
        self.old.close()
        os.kill(proxy.workers()[0]["pid"], signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == 1 and all(row["state"] == "running" for row in stat["workers"]), "a worker")
        self.assertEqual(self.ask_many(20), {"n": 20})

    def test_twenty_under_load(self):
        """Twenty changes while clients come and go: none is lost, and nobody is replaced."""
        proxy = self.begin(names="abc", workers=3)
        over, counts, failures = threading.Event(), collections.Counter(), []

        def client():
            while not over.is_set():
                try:
                    counts[self.ask()] += 1
                except (OSError, AssertionError) as error:
                    failures.append(error)
        clients = [Task(client) for _ in range(4)]
        for turn in range(20):
            served = sum(counts.values())
            off = "abc"[turn % 3]
            changes = {name: {"weight": 10 + turn, "disabled": name == off} for name in "abc"}
            self.change(4 if turn == 0 else 5, **changes)
            wait_until(lambda: sum(counts.values()) > served + 20, "clients to be served")
        over.set()
        for task in clients:
            task.result()
        self.assertEqual(failures, [])
        self.assertEqual(proxy.stat()["reloads"]["ok"], 20)
        self.assertEqual(proxy.stat()["worker_restarts"], 0)


class Checked(InPlace):
    """Servers with active checks: one that is disabled is not checked any more; one that is enabled is checked before it gets a client."""
    HEALTH = {"health": {"type": "tcp", "interval": "100ms", "fall": 1, "rise": 1}}

    def test_disable(self):
        proxy = self.begin(upstream=self.HEALTH)
        other = "b" if self.old_name == "a" else "a"
        self.change(1, **{other: {"disabled": True}})
        self.assertEqual(self.ask_many(20), {self.old_name: 20})
        self.assertEqual(proxy.stat()["control_restarts"], 0)
        self.echoes[self.old_name].close()
        wait_until(self.refused, "the other one to be found dead by the checks that go on")

    def test_enable(self):
        """By new workers, since only the trial of new settings says whether it is dead."""
        dead = free_address()
        self.begin(names="a", upstream=self.HEALTH)
        self.rows["d"] = {"name": "d", "address": dead, "disabled": True}
        self.aegis_.must_reload(self.settings())
        self.assertEqual(self.aegis_.stat()["generation"], 2)
        self.rows["d"]["disabled"] = False
        self.aegis_.must_reload(self.settings())
        self.assertEqual(self.aegis_.stat()["generation"], 3)
        self.assertEqual(self.ask_many(20), {"a": 20})
        self.assertEqual(self.aegis_.server("d")["failures"], 0)


if __name__ == "__main__":
    aegis.main()
