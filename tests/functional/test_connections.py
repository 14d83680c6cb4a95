"""The connections that are open, the end of one of them, and why a client fared as it did: /connections and /why, while all goes on, with
workers that stand still, and with workers that are killed."""
import contextlib
import os
import signal
import threading

import admin
import aegis
from aegis import Case, Echo, Load, dial, echo, form, free_address, how_it_ends, receive, wait_until

HELLO = b"hello\n"


class Live(Case):
    def listed(self, proxy, query="", status=200):
        answer = admin.get(proxy.directory, f"/connections{query}")
        self.assertEqual(answer.status, status, answer)
        return answer.json

    def kill(self, proxy, number):
        return admin.ask(proxy.directory, "DELETE", f"/connections/{number}")

    def test_what_is_listed(self):
        """Each connection once, with what is known of it, those of draining workers too."""
        server = Echo(self, HELLO)
        proxy, address = self.proxy({"name": "a", "address": server.address}, workers=2, drain={"timeout": "1h"})
        self.assertEqual(self.listed(proxy), {"connections": [], "truncated": False, "silent_workers": [], "elders": []})
        old = [self.connect(address) for _ in range(10)]
        for sock in old:
            receive(sock, len(HELLO))
            echo(sock, b"x" * 1000)
        proxy.must_reload({**proxy.settings, "workers": 1})
        new = [self.connect(address) for _ in range(5)]
        for sock in new:
            receive(sock, len(HELLO))
        found = self.listed(proxy)["connections"]
        self.assertEqual({row["client"] for row in found[:10]}, {form(sock) for sock in old})
        self.assertEqual({row["client"] for row in found[10:]}, {form(sock) for sock in new})
        self.assertEqual(len({row["id"] for row in found}), 15)
        ages = [row["age_ms"] for row in found]
        self.assertEqual(ages, sorted(ages, reverse=True))
        for row in found:
            self.assertEqual((row["listener"], row["upstream"], row["server"], row["step"]), ("app", "app", "a", "relay"))
            self.assertLessEqual(row["idle_ms"], row["age_ms"])
        self.assertEqual({(row["up_bytes"], row["down_bytes"]) for row in found[:10]}, {(1000, 1006)})
        self.assertEqual({(row["up_bytes"], row["down_bytes"]) for row in found[10:]}, {(0, 6)})

    def test_filters_and_limits(self):
        server = Echo(self, HELLO)
        settings = aegis.app([{"name": "a", "address": server.address}, {"name": "b", "address": server.address}], workers=2)
        settings["listeners"].append({"name": "other", "address": "127.0.0.1:0", "upstream": "app"})
        proxy = self.aegis(settings)
        socks = {name: [self.connect(proxy.address(name)) for _ in range(8)] for name in ("app", "other")}
        for sock in socks["app"] + socks["other"]:
            receive(sock, len(HELLO))
        client = form(socks["app"][3])
        for query, count in (("?listener=app", 8), ("?listener=none", 0), ("?limit=16", 16), (f"?client={client}", 1), ("?client=127.0.0.0/8", 16),
                             ("?client=127.0.0.1&listener=other", 8), ("?client=::1", 0)):
            found = self.listed(proxy, query)
            self.assertEqual((len(found["connections"]), found["truncated"]), (count, False), query)
        a, b = (len(self.listed(proxy, f"?server={name}")["connections"]) for name in ("a", "app/b"))
        self.assertEqual(a + b, 16)
        self.assertEqual(b, proxy.server("b")["active"])
        found = self.listed(proxy, "?limit=15")
        self.assertEqual((len(found["connections"]), found["truncated"]), (15, True))
        for query in ("?limit=0", "?limit=", "?limit=-1", "?limit=1e3", "?limit=100001", "?limit=99999999999999999999", "?client=", "?client=localhost",
                      "?client=1.2.3.4/8", "?client=" + "1" * 400, "?listener=" + "x" * 2000, "?listener=%00", "?listener=%zz"):
            self.assertIn("error", self.listed(proxy, query, 400))

    def test_many(self):
        """More than fit into an answer of a worker: all are there, and who may not have so many gets so many."""
        proxy, address = self.proxy(Echo(self).address, workers=2)
        socks = [self.connect(address) for _ in range(1500)]
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1500, "all to be there")
        found = self.listed(proxy, "?limit=100000")
        self.assertEqual({row["client"] for row in found["connections"]}, {form(sock) for sock in socks})
        self.assertEqual(len(found["connections"]), 1500)
        found = self.listed(proxy)
        self.assertEqual((len(found["connections"]), found["truncated"]), (1000, True))
        last = max((row["id"] for row in self.listed(proxy, f"?client={form(socks[-1])}")["connections"]), key=lambda name: int(name.split(".")[1]))
        self.assertEqual(self.kill(proxy, last).status, 200)
        self.assertEqual(how_it_ends(socks[-1]), ("eof", b""))

    def test_kill(self):
        """One is ended, in a generation that drains too; the others live. What is not there, or no id, is said to be so."""
        proxy, address = self.proxy(Echo(self, HELLO).address, workers=2, drain={"timeout": "1h"})
        old = [self.connect(address) for _ in range(4)]
        for sock in old:
            receive(sock, len(HELLO))
        proxy.must_reload({**proxy.settings, "workers": 1})
        rows = {row["client"]: row["id"] for row in self.listed(proxy)["connections"]}
        answer = self.kill(proxy, rows[form(old[2])])
        self.assertEqual((answer.status, answer.json["killed"]), (200, True))
        proxy.wait_log(f"end of connection {rows[form(old[2])]} asked for by uid ")
        self.assertEqual(how_it_ends(old[2]), ("eof", b""))
        for sock in old[:2] + old[3:]:
            echo(sock)
        self.assertEqual(self.kill(proxy, rows[form(old[2])]).status, 404)
        for number, status in (("0.4711", 404), ("4711.1", 404), ("4294967295.4294967295", 404), ("1", 400), ("1.", 400), ("x.y", 400), ("1.2.3", 400),
                               ("4294967296.1", 400), ("-1.1", 400), ("1.1%0a", 400)):
            self.assertEqual(self.kill(proxy, number).status, status, number)
        self.assertEqual(admin.post(proxy.directory, f"/connections/{rows[form(old[0])]}").status, 405)
        self.assertEqual(admin.ask(proxy.directory, "DELETE", "/connections").status, 405)
        proxy.wait_closes("killed")
        echo(old[0])

    def test_who_waits_in_line(self):
        """A client without a server has no server, and its step is to wait; it can be ended as well."""
        proxy, address = self.proxy({"address": Echo(self, HELLO).address, "max_connections": 1}, upstream={"queue": {"size": 5, "timeout": "60s"}})
        first = self.connect(address)
        receive(first, len(HELLO))
        second = self.connect(address)
        proxy.wait_stat(lambda stat: stat["upstreams"][0]["waiting"] == 1, "a client to wait")
        row, = self.listed(proxy, f"?client={form(second)}")["connections"]
        self.assertEqual((row["step"], row["server"], row["upstream"]), ("wait", None, None))
        self.assertEqual(self.kill(proxy, row["id"]).status, 200)
        self.assertEqual(how_it_ends(second)[1], b"")
        echo(first)

    def test_silent_worker(self):
        """A worker that stands still is named; the others answer. Who is killed meanwhile is not waited for."""
        proxy, address = self.proxy(Echo(self, HELLO).address, workers=2)
        socks = [self.connect(address) for _ in range(20)]
        for sock in socks:
            receive(sock, len(HELLO))
        still, other = (worker["pid"] for worker in proxy.workers())
        counts = {worker["pid"]: worker["connections"] for worker in proxy.workers()}
        rows = {row["client"]: row["id"] for row in self.listed(proxy)["connections"]}
        os.kill(still, signal.SIGSTOP)
        try:
            found = self.listed(proxy)
            self.assertEqual([worker["pid"] for worker in found["silent_workers"]], [still])
            self.assertEqual(len(found["connections"]), counts[other])
            answering = {row["id"] for row in found["connections"]}
            silent = next(number for number in rows.values() if number not in answering) if counts[still] else "0.1"
            self.assertEqual(self.kill(proxy, silent).status, 504 if counts[still] else 404)
        finally:
            os.kill(still, signal.SIGCONT)
        found = wait_until(lambda: not self.listed(proxy)["silent_workers"] and self.listed(proxy), "the worker to answer again")
        self.assertGreaterEqual(len(found["connections"]), 19)

    def test_under_load(self):
        """Listing and ending while connections come and go; each one asked for is ended, and no other."""
        proxy, address = self.proxy(Echo(self).address, workers=2)
        victims = [self.connect(address) for _ in range(20)]
        for sock in victims:
            echo(sock)
        load = Load(self, address)
        for sock in victims:
            rows = self.listed(proxy, f"?client={form(sock)}&limit=10")["connections"]
            self.assertEqual(len(rows), 1)
            self.listed(proxy)
            self.assertEqual(self.kill(proxy, rows[0]["id"]).status, 200)
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        load.wait_more()
        load.stop()
        self.assertEqual(load.failures, [])
        proxy.wait_closes("killed", 20)


class Why(Case):
    def why(self, proxy, client, status=200, query=""):
        answer = admin.get(proxy.directory, f"/why?address={client}{query}")
        self.assertEqual(answer.status, status, answer)
        return answer.json

    def newest(self, proxy, client):
        found = self.why(proxy, client)["connections"]
        self.assertTrue(found, f"nothing is known of {client}")
        return found[0]

    def texts(self, connection):
        return "\n".join(f"{step['step']}: {step['text']}" for step in connection["steps"])

    def test_what_it_says(self):
        """The rule, the servers that were passed over, the attempts, in words."""
        dead, server = free_address(), Echo(self, HELLO)
        rows = [{"name": "dead", "address": dead, "weight": 200}, {"name": "good", "address": server.address, "weight": 1}]
        proxy, address = self.proxy(rows, workers=1, upstream={"retries": 1, "circuit_breaker": {"error_threshold": 1, "timeout": "60s"}})
        sock = self.connect(address)
        receive(sock, len(HELLO))
        text = self.texts(self.newest(proxy, form(sock)))
        for part in ("accepted by listener app", "server dead of upstream app by round_robin: 2 of 2 servers usable, weight 200",
                     f"cannot connect to server dead ({dead}): Connection refused; attempt 1 of 2, another server is tried",
                     "server good of upstream app by round_robin: 1 of 2 servers usable, weight 1, 1 connections with this one; 1 failed for this client before",
                     "at the attempt number 2", "the first byte of server good"):
            self.assertIn(part, text)
        client = form(sock)
        self.assertIsNone(self.newest(proxy, client)["ended"])
        sock.close()
        proxy.wait_closes("finished")
        self.assertEqual(self.newest(proxy, client)["reason"], "finished")

    def served(self, address):
        sock = self.connect(address)
        receive(sock, len(HELLO))
        return sock

    def test_how_a_server_was_chosen(self):
        """Each way to choose says so: affinity, beyond the soft limit, a connection that was ready, and the line."""
        server = Echo(self, HELLO)
        servers = [{"name": name, "address": server.address, "soft_limit": 1} for name in ("a", "b")]
        proxy, address = self.proxy(servers, workers=1, upstream={"affinity": {"ttl": "1h"}, "balance": "least_connections"})
        first, second, third = (self.texts(self.newest(proxy, form(self.served(address)))) for _ in range(3))
        self.assertIn("of upstream app by least_connections: 2 of 2 servers usable, weight 100, 1 connections with this one", first)
        self.assertNotIn("affinity", first)
        self.assertIn("which this client had before (affinity): ", second)
        self.assertIn("2 connections with this one", second)
        self.assertIn("affinity", third)

        proxy, address = self.proxy(servers[:1], workers=1)
        self.assertNotIn("soft_limit", self.texts(self.newest(proxy, form(self.served(address)))))
        self.assertIn("server a of upstream app, beyond its soft_limit as all are: ", self.texts(self.newest(proxy, form(self.served(address)))))

        proxy, address = self.proxy(Echo(self).address, workers=1, upstream={"pool": {"keep": 4, "framing": "line"}})
        for count in (1, 2):
            with dial(address) as sock:
                echo(sock, b"hello\n")
                client = form(sock)
            proxy.wait_closes("finished", count)
        self.assertIn("a connection to it was ready (kept)", self.texts(self.newest(proxy, client)))

        proxy, address = self.proxy({"name": "a", "address": server.address, "max_connections": 1}, workers=1,
                                    upstream={"queue": {"size": 5, "timeout": "60s"}})
        held = self.served(address)
        waiting = []
        for count in (1, 2):
            waiting.append(self.connect(address))
            proxy.wait_stat(lambda stat: stat["upstreams"][0]["waiting"] == count, "a client to wait")
        held.close()
        receive(waiting[0], len(HELLO))
        first, second = (self.texts(self.newest(proxy, form(sock))) for sock in waiting)
        self.assertIn("no place at a server of upstream app: 1 of 1 servers usable; passed over: 1 full\nin line: waits in line for a server, 1 wait in all\n"
                      "server chosen: server a of upstream app by round_robin", first)
        self.assertIn("others wait for a server of upstream app already, who came first is served first\nin line: waits in line for a server, 2 wait", second)
        self.assertNotIn("\nserver chosen: ", second)

    def test_arguments(self):
        proxy, address = self.proxy(Echo(self).address)
        for client in ("", "localhost", "1.2.3.4:0x5", "1.2.3.4/8", "%00", "x" * 400):
            self.assertIn("error", self.why(proxy, client, 400))
        self.assertEqual(admin.get(proxy.directory, "/why").status, 400)
        self.assertEqual(self.why(proxy, "192.0.2.1"), {"address": "192.0.2.1", "connections": [], "elders": []})
        for _ in range(30):
            with dial(address) as sock:
                echo(sock)
        self.assertEqual(len(self.why(proxy, "127.0.0.1")["connections"]), 20)
        self.assertEqual(len(self.why(proxy, "127.0.0.1", query="&limit=1000")["connections"]), 30)
        self.assertEqual(len(self.why(proxy, "127.0.0.0/8", query="&limit=3")["connections"]), 3)
        self.assertEqual([len(self.why(proxy, client)["connections"]) for client in ("all", "0.0.0.0/0", "::/0")], [20, 20, 0])
        self.why(proxy, "127.0.0.1", 400, "&limit=0")

    def test_newest_first_and_the_oldest_give_way(self):
        proxy, address = self.proxy(Echo(self).address, workers=1, flight_recorder="4k")
        clients = []
        for _ in range(40):
            with dial(address) as sock:
                echo(sock)
                clients.append(form(sock))
        proxy.wait_closes("finished", 40)
        rows = self.why(proxy, "127.0.0.1", query="&limit=1000")["connections"]
        found = [row["client"] for row in rows]
        self.assertGreater(len(found), 10)
        self.assertEqual(set(found), set(clients[-len(found):]))
        begins = [row["began"] for row in rows]
        self.assertEqual(begins, sorted(begins, reverse=True))

    def test_an_open_one_is_never_forgotten(self):
        """The recorder went on over the beginning of a connection that lasts: it is open all the same, and not unknown."""
        proxy, address = self.proxy(Echo(self).address, workers=1, flight_recorder="4k")
        held = self.connect(address)
        echo(held)
        for _ in range(100):
            with dial(address) as sock:
                echo(sock)
        proxy.wait_closes("finished", 100)
        row, = self.why(proxy, form(held))["connections"]
        self.assertEqual((row["client"], row["listener"], row["ended"], row["reason"]), (form(held), "app", None, None))
        step, = row["steps"]
        self.assertEqual(step["text"], f"open since {row['began']}; its beginning is no longer remembered")
        held.close()
        proxy.wait_closes("finished", 101)
        row, = self.why(proxy, row["client"])["connections"]
        self.assertEqual([step["step"] for step in row["steps"]], ["closed"])

    def test_off(self):
        proxy, address = self.proxy(Echo(self).address, flight_recorder="0")
        with dial(address) as sock:
            echo(sock)
        self.assertIn("off", self.why(proxy, "127.0.0.1", 409)["error"])

    def test_unix_clients(self):
        listener = {"address": f"unix:{self.directory}/app.sock"}
        proxy = self.aegis(aegis.app(Echo(self).address, listener))
        with dial(listener["address"]) as sock:
            echo(sock)
        proxy.wait_closes("finished")
        self.assertEqual(self.newest(proxy, "unix")["client"], "unix")

    def test_stays_over_a_reload(self):
        """With another size as well, the steps of a former generation are there until they are overwritten, or not, but never wrong."""
        proxy, address = self.proxy(Echo(self).address, workers=1)
        with dial(address) as sock:
            echo(sock)
            client = form(sock)
        proxy.wait_closes("finished")
        proxy.must_reload({**proxy.settings, "workers": 2})
        self.assertEqual(self.newest(proxy, client)["reason"], "finished")
        clients = [client]
        for size in ("4k", "1M", "64k"):
            proxy.must_reload({**proxy.settings, "flight_recorder": size})
            for row in self.why(proxy, "127.0.0.1")["connections"]:
                self.assertIn(row["client"], clients)
                self.assertEqual(row["reason"], "finished")
            with dial(address) as sock:
                echo(sock)
                clients.append(form(sock))
            proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "its end")
            self.assertEqual(self.newest(proxy, clients[-1])["reason"], "finished")


class Crash(Case):
    deadline = 240.0

    def test_worker_killed_under_load(self):
        """A worker is killed at any moment: what it told is there, and ends with what was known; the next one goes on in the same ring."""
        rounds = 40 if aegis.LONG else 8
        proxy, address = self.proxy(Echo(self, HELLO).address, workers=2, flight_recorder="1M")
        proxy.lost, proxy.restarts = True, rounds
        done, told = threading.Event(), 0
        self.addCleanup(done.set)

        def call():
            while not done.wait(0.001):
                with contextlib.suppress(OSError, AssertionError), dial(address) as sock:
                    receive(sock, len(HELLO))
                    echo(sock)

        callers = [aegis.Task(call) for _ in range(3)]
        for number in range(rounds):
            held = [self.connect(address) for _ in range(6)]
            for sock in held:
                receive(sock, len(HELLO))
            victim = proxy.workers()[number % 2]
            os.kill(victim["pid"], signal.SIGKILL)
            proxy.wait_stat(lambda stat: stat["worker_restarts"] == number + 1 and len(stat["workers"]) == 2, "the worker to be replaced")
            for sock in held:
                told += self.check_told(proxy, sock, victim["pid"])
                sock.close()
        done.set()
        for caller in callers:
            caller.result()
        answer = admin.get(proxy.directory, "/why?address=127.0.0.1&limit=1000")
        reasons = {row["reason"] for row in answer.json["connections"]}
        self.assertLessEqual(reasons, {None, "finished", "client_reset", "worker_died"})
        self.assertIn("finished", reasons)
        self.assertGreater(told, 0)

    def check_told(self, proxy, sock, victim):
        """Whether it was with the worker that was killed; either way that is what is told of it."""
        # The newest: another client may have had its port before.
        connection = admin.get(proxy.directory, f"/why?address={form(sock)}").json["connections"][0]
        try:
            echo(sock)
            died = False
        except (OSError, AssertionError):
            died = True
        steps = connection["steps"]
        self.assertEqual([step["step"] for step in steps], ["accepted", "server chosen", "connected", "first byte", *["worker died"] * died])
        self.assertEqual(connection["reason"], "worker_died" if died else None)
        self.assertEqual(connection["ended"] is not None, died)
        if died:
            self.assertIn(f"(pid {victim})", steps[-1]["text"])
        return died


if __name__ == "__main__":
    aegis.main()
