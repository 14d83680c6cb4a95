"""The admin API: every endpoint over the unix socket and over TCP, who may ask for what, and input that is not meant well."""
import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time

import admin
import aegis
from aegis import AEGIS, AEGIS_STAT, NOBODY, ROOT, SLOW, Case, Echo, Load, app, bind, dial, echo, free_address, how_it_ends, receive_line, run, \
    wait_until

TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TCP = "127.0.0.1:0"


class Admin(Case):
    """Aegis with the API at a TCP address, too, that the token opens."""

    def setUp(self):
        admin.need()
        super().setUp()
        self.token_file = self.directory / "token"
        self.token_file.write_text(TOKEN + "\n")

    def admin_settings(self, **more):
        return {"address": TCP, "metrics_address": TCP, "token_file": str(self.token_file), **more}

    def begin(self, servers=None, **settings):
        self.servers = servers or Echo(self).address
        settings.setdefault("admin", self.admin_settings())
        self.aegis_ = self.aegis(app(self.servers, **settings))
        self.directory_ = str(self.aegis_.directory)
        return self.aegis_

    def said(self, what):
        """The address that Aegis logged last for it."""
        host, port = re.findall(rf"{what} at (\S+):(\d+)$", self.aegis_.log(), re.M)[-1]
        return host, int(port)

    def tcp(self):
        return self.said("the admin API is")

    def metrics_address(self):
        return self.said("metrics are")

    def both(self):
        """(where, headers) of both ways in."""
        yield self.directory_, {}
        yield self.tcp(), BEARER

    def get(self, path, **options):
        return admin.get(self.directory_, path, **options)

    def post(self, path, body=None, **options):
        return admin.post(self.directory_, path, body, **options)

    def server(self, name):
        return self.get(f"/servers/{name}").json["server"]


class Looking(Admin):
    def test_health(self):
        good, dead = Echo(self).address, free_address()
        checked = {"health": {"type": "tcp", "interval": "200ms", "fast_interval": "50ms", "timeout": "2s"}}
        self.begin([good, {"name": "dead", "address": dead}], upstream=checked)
        for where, headers in self.both():
            answer = admin.get(where, "/health", headers=headers)
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["Content-Type"], "application/json")
            self.assertEqual(answer.json, {"status": "ok", "backends": {f"app/{good}": True, "app/dead": False}})
        self.post("/servers/dead/disable")
        self.post(f"/servers/{good}/disable")
        answer = self.get("/health")
        self.assertEqual((answer.status, answer.json["status"]), (503, "down"))

    def test_degraded_is_not_down(self):
        first, second = Echo(self).address, Echo(self).address
        settings = app(first)
        settings["listeners"].append({"name": "other", "address": TCP, "upstream": "other"})
        settings["upstreams"].append({"name": "other", "servers": [{"address": second}]})
        proxy = self.aegis(settings)
        admin.post(str(proxy.directory), f"/servers/other/{second}/drain")
        answer = admin.get(str(proxy.directory), "/health")
        self.assertEqual((answer.status, answer.json["status"]), (200, "degraded"))

    def test_routes_alone(self):
        """Where clients go by their names alone, it is the servers of the routes that count."""
        first, second = Echo(self).address, Echo(self).address
        settings = app(first)
        del settings["listeners"][0]["upstream"]
        settings["listeners"][0]["sni"] = [{"name": f"{name}.example.org", "upstream": name} for name in ("app", "other")]
        settings["upstreams"].append({"name": "other", "servers": [{"address": second}]})
        where = str(self.aegis(settings).directory)
        verdicts = [admin.get(where, "/health")]
        for server in (f"other/{second}", f"app/{first}"):
            admin.post(where, f"/servers/{server}/disable")
            verdicts.append(admin.get(where, "/health"))
        self.assertEqual([(answer.status, answer.json["status"]) for answer in verdicts], [(200, "ok"), (200, "degraded"), (503, "down")])

    def test_status(self):
        self.begin()
        for where, headers in self.both():
            status = admin.get(where, "/status", headers=headers).json
            self.assertEqual((status["state"], status["generation"], status["pid"]), ("running", 1, self.aegis_.pid))
            self.assertIn(status["engine"], ("epoll", "io_uring"))
            self.assertTrue(status["engine_why"])
            self.assertEqual(status["settings"]["file"], str(self.aegis_.config))
            for name in ("connect", "first_byte", "connection"):
                self.assertLessEqual({"count", "p50_ms", "p95_ms", "p99_ms"}, set(status["latency"][name]))
            stat = self.aegis_.stat()
            self.assertLessEqual(set(stat), set(status), "all that aegis-stat tells")
            self.assertEqual([row["name"] for row in status["listeners"]], ["app"])

    def test_servers(self):
        self.begin([{"name": "a", "address": self.servers_address()}, {"name": "b", "address": self.servers_address()}])
        for where, headers in self.both():
            groups = admin.get(where, "/servers", headers=headers).json["upstreams"]
            self.assertEqual([[row["name"] for row in group["servers"]] for group in groups], [["a", "b"]])
            for name in ("a", "app/a", "app%2Fa", "app%2fa"):
                answer = admin.get(where, f"/servers/{name}", headers=headers)
                self.assertEqual((answer.status, answer.json["upstream"], answer.json["server"]["name"]), (200, "app", "a"))
            self.assertEqual(admin.get(where, "/servers/c", headers=headers).status, 404)
            self.assertEqual(admin.get(where, "/servers/other/a", headers=headers).status, 404)

    def servers_address(self):
        return Echo(self).address

    def test_a_name_that_two_servers_have(self):
        address = Echo(self).address
        settings = app({"name": "a", "address": address})
        settings["upstreams"].append({"name": "other", "servers": [{"name": "a", "address": address}]})
        directory = str(self.aegis(settings).directory)
        answer = admin.post(directory, "/servers/a/disable")
        self.assertEqual(answer.status, 409)
        self.assertIn("app/a, other/a", answer.json["error"])
        self.assertTrue(admin.post(directory, "/servers/other/a/disable").json["server"]["state"], "disabled")
        self.assertEqual(admin.get(directory, "/health").json["backends"], {"app/a": True, "other/a": False})

    def test_metrics(self):
        self.begin()
        for where, headers in (*self.both(), (self.metrics_address(), {})):
            answer = admin.get(where, "/metrics", headers=headers)
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            self.assertIn(b"\naegis_connections_active 0\n", answer.bytes)
        for path in ("/", "/status", "/health", "/servers"):
            self.assertEqual(admin.get(self.metrics_address(), path).status, 404, path)
        self.assertEqual(admin.post(self.metrics_address(), "/reload", headers=BEARER).status, 404)

    def test_methods(self):
        self.begin()
        for where, headers in self.both():
            for method, path, allowed in (("POST", "/status", "GET, HEAD"), ("DELETE", "/reload", "POST"), ("GET", "/drain", "POST"),
                                          ("PUT", "/health", "GET, HEAD"), ("PATCH", "/servers", "GET, HEAD"), ("OPTIONS", "/reset", "POST"),
                                          ("GET", "/servers/a/disable", "POST"), ("BREW", "/metrics", "GET, HEAD")):
                answer = admin.ask(where, method, path, headers=headers)
                self.assertEqual((answer.status, answer.headers["Allow"]), (405, allowed), f"{method} {path}")
                self.assertIn("error", answer.json)
            for method in ("GET", "POST", "DELETE"):
                answer = admin.ask(where, method, "/nothing", headers=headers)
                self.assertEqual(answer.status, 404)
                self.assertIn("error", answer.json)
        head, full = admin.ask(self.directory_, "HEAD", "/servers"), self.get("/servers")
        self.assertEqual((head.status, head.bytes, head.headers["Content-Length"]), (200, b"", full.headers["Content-Length"]))

    def test_a_get_changes_nothing(self):
        self.begin()
        before = self.get("/servers").json
        for path in ("/reload", "/drain", "/undrain", "/reset", "/servers/x/disable", f"/servers/{self.servers}/disable"):
            self.assertEqual(self.get(path).status, 405, path)
        self.assertEqual(self.get("/servers").json, before)
        self.assertEqual(self.aegis_.stat()["generation"], 1)

    def test_one_connection_for_many_requests(self):
        self.begin()
        connection = http.client.HTTPConnection(*self.tcp(), timeout=20 * SLOW)
        connection.connect()
        sock = connection.sock
        for path in ("/health", "/status", "/nothing", "/metrics", "/servers"):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            self.assertIs(connection.sock, sock, path)
        connection.close()


class Steering(Admin):
    def names(self, count):
        found = {}
        for _ in range(count):
            with dial(self.aegis_.address()) as sock:
                name = receive_line(sock).strip()
            found[name] = found.get(name, 0) + 1
        return found

    def two(self, **settings):
        echoes = [Echo(self, banner=name + b"\n") for name in (b"a", b"b")]
        return self.begin([{"name": name, "address": server.address} for name, server in zip("ab", echoes)], **settings)

    def test_disable_drain_enable(self):
        self.two()
        old = self.connect(self.aegis_.address())
        receive_line(old)
        for where, headers in self.both():
            for verb, state in (("disable", "disabled"), ("drain", "draining")):
                answer = admin.post(where, f"/servers/a/{verb}", headers=headers)
                self.assertEqual((answer.status, answer.json["server"]["state"]), (200, state))
                wait_until(lambda: self.names(4) == {"b": 4}, "all go to the other one")
                self.assertEqual(self.get("/health").json["backends"], {"app/a": False, "app/b": True})
                self.assertTrue(admin.post(where, "/servers/app%2Fa/enable", headers=headers).json["server"]["usable"])
                wait_until(lambda: "a" in self.names(4), "it is back")
        echo(old)
        self.aegis_.wait_log("server app/a: disabled, by ")

    def test_disabled_in_the_settings_and_enabled_by_the_operator(self):
        echoes = [Echo(self, banner=name + b"\n") for name in (b"a", b"b")]
        self.begin([{"name": "a", "address": echoes[0].address, "disabled": True}, {"name": "b", "address": echoes[1].address}])
        self.assertEqual(self.names(4), {"b": 4})
        server = self.post("/servers/a/enable").json["server"]
        self.assertEqual((server["usable"], server["override"]), (True, "enabled"))
        wait_until(lambda: "a" in self.names(4), "it is used")
        self.assertEqual(self.post("/reset").json, {"servers": 2})
        wait_until(lambda: self.names(4) == {"b": 4}, "as in the settings")

    def test_weight(self):
        self.two()
        server = self.post("/servers/a/weight", {"weight": 0}).json["server"]
        self.assertEqual((server["weight"], server["weight_now"], server["usable"]), (100, 0, False))
        wait_until(lambda: self.names(4) == {"b": 4}, "all go to the other one")
        self.assertEqual(self.post("/servers/a/weight", {"weight": 300}).json["server"]["weight_now"], 300)
        wait_until(lambda: self.names(16).get("a", 0) >= 10, "three of four go there")
        self.assertEqual(self.post("/servers/a/weight", {"weight": None}).json["server"]["weight_now"], 100)
        for body in ({}, {"weight": -1}, {"weight": 65536}, {"weight": 1.5}, {"weight": "7"}, {"weight": True}, {"weight": [7]}, {"w": 7},
                     {"weight": 7, "more": 1}):
            answer = self.post("/servers/a/weight", body)
            self.assertEqual(answer.status, 400, body)
            self.assertIn("error", answer.json)
        self.assertEqual(self.server("a")["weight_now"], 100)

    def test_what_is_set_survives(self):
        """A reload, the death of the control process and of every worker; not a reset."""
        self.two()
        self.post("/servers/a/disable")
        self.post("/servers/b/weight", {"weight": 7})
        self.assertEqual(self.post("/reload").status, 200)
        self.assertEqual((self.server("a")["state"], self.server("b")["weight_now"]), ("disabled", 7))
        os.kill(self.aegis_.control_pid(), signal.SIGKILL)
        self.aegis_.wait_log("the control process is replaced")
        self.assertEqual((self.server("a")["state"], self.server("b")["weight_now"]), ("disabled", 7))
        self.aegis_.restarts = None
        for worker in self.aegis_.workers():
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: self.aegis_.stat()["worker_restarts"] == 2, "new workers")
        self.assertEqual(self.names(4), {"b": 4})
        self.post("/reset")
        self.assertEqual((self.server("a")["usable"], self.server("b")["weight_now"]), (True, 100))

    def test_reset_forgets_what_was_learnt(self):
        dead = free_address()
        self.begin([{"name": "dead", "address": dead}, {"name": "good", "address": Echo(self).address}],
                   upstream={"circuit_breaker": {"error_threshold": 1, "timeout": "1h"}})
        def tripped():
            with dial(self.aegis_.address()) as sock:
                echo(sock)
            return self.server("dead")["breaker"]["state"] == "open"
        wait_until(tripped, "an open breaker")
        failures = self.server("dead")["failures"]
        self.post("/reset")
        server = self.server("dead")
        self.assertEqual((server["breaker"]["state"], server["usable"]), ("closed", True))
        self.assertGreaterEqual(server["failures"], failures, "counters stay")

    def test_reload(self):
        self.two()
        for generation, (where, headers) in enumerate(self.both(), 2):
            answer = admin.post(where, "/reload", headers=headers)
            self.assertEqual((answer.status, answer.json["state"], answer.json["generation"]), (200, "running", generation))
            self.assertEqual(self.get("/status").json["generation"], generation, "it is answered when it is done")

    def test_reload_in_place(self):
        self.two()
        rows = [dict(row) for row in self.servers]
        rows[0]["weight"] = 50
        self.aegis_.write(app(rows, admin=self.admin_settings()))
        answer = self.post("/reload")
        self.assertEqual((answer.status, answer.json["generation"]), (200, 1))
        self.assertIn("upstreams.app.servers.a.weight 100 -> 50", answer.json["note"])

    def test_bad_settings(self):
        self.begin()
        good = self.aegis_.config.read_text()
        for where, headers in self.both():
            self.aegis_.config.write_text(good.replace("workers = 2", "workers = 2000000") + "log = { level = \"loud\"; };\n")
            answer = admin.post(where, "/reload", headers=headers)
            self.assertEqual(answer.status, 422)
            text = "\n".join(answer.json["errors"])
            for part in ("workers", "log.level", "loud"):
                self.assertIn(part, text)
            self.assertIn("workers", answer.json["error"])
            self.assertEqual(answer.json["generation"], 1)
            self.aegis_.config.write_text(good)
        with dial(self.aegis_.address()) as sock:
            echo(sock)
        self.assertEqual(self.post("/reload").status, 200)

    def test_what_cannot_be_bound(self):
        """All of it is told, and nothing of it was done."""
        self.begin()
        taken = [bind(), bind()]
        settings = app(self.servers, admin=self.admin_settings())
        for i, sock in enumerate(taken):
            settings["listeners"].append({"name": f"taken{i}", "address": aegis.form(sock), "upstream": "app"})
        self.aegis_.write(settings)
        answer = self.post("/reload")
        self.assertEqual(answer.status, 422)
        text = "\n".join(answer.json["errors"])
        for i, sock in enumerate(taken):
            self.assertIn(f"taken{i}: cannot listen on {aegis.form(sock)}", text)
        self.assertEqual(self.aegis_.stat()["generation"], 1)
        for sock in taken:
            sock.close()

    def test_reloads_at_once_are_all_answered(self):
        self.begin()
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.post("/reload"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60 * SLOW)
        self.assertEqual([answer.status for answer in answers], [200] * 8)
        self.assertGreaterEqual(self.aegis_.stat()["generation"], 2)

    def test_drain_and_undrain(self):
        self.begin()
        for where, headers in self.both():
            old = self.connect(self.aegis_.address())
            echo(old)
            answer = admin.post(where, "/drain", {"timeout": 600}, headers=headers)
            self.assertEqual((answer.status, answer.json["state"]), (200, "draining"))
            self.assertGreaterEqual(answer.json["connections"], 1)
            self.assertEqual((self.get("/health").status, self.get("/health").json["status"]), (503, "draining"))
            self.assertEqual(admin.post(where, "/drain", headers=headers).json["state"], "draining", "it is already")
            echo(old)
            answer = admin.post(where, "/undrain", headers=headers)
            self.assertEqual((answer.status, answer.json["state"]), (200, "running"))
            echo(old)
            with dial(self.aegis_.address()) as sock:
                echo(sock)
            self.assertEqual(admin.post(where, "/undrain", headers=headers).json["state"], "running", "nothing to do")
            old.close()

    def test_drain_has_its_own_timeout(self):
        self.begin(drain={"timeout": "1h"})
        old = self.connect(self.aegis_.address())
        echo(old)
        self.assertEqual(self.post("/drain", {"timeout": 0.2}).status, 200)
        how_it_ends(old)
        self.aegis_.wait_stat(lambda stat: stat["state"] == "drained", "drained")
        self.assertEqual(self.get("/status").json["state"], "drained")
        for body in ({"timeout": -1}, {"timeout": "30"}, {"timeout": 1e30}, {"time": 30}, [30], 30, "30"):
            self.assertEqual(self.post("/drain", body).status, 400, body)
        self.assertEqual(self.post("/undrain").json["state"], "running")


class Rights(Admin):
    def test_tokens(self):
        self.begin()
        where, started = self.tcp(), time.monotonic()
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}x"},
                        {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN},
                        {"Authorization": f"Bearer {'x' * 4000}"}):
            for method, path in (("POST", "/reload"), ("POST", "/nothing"), ("DELETE", "/connections/0.1")):
                answer = admin.ask(where, method, path, headers=headers)
                self.assertEqual((answer.status, answer.headers["WWW-Authenticate"]), (401, "Bearer"), headers)
                self.assertIn("error", answer.json)
            self.assertEqual(admin.get(where, "/health", headers=headers).status, 401 if headers else 200, "who shows one must show the right one")
        self.aegis_.wait_log("was refused")
        self.assertEqual(self.aegis_.log().count("was refused (0 more were before): changes need the token"), 1, "the first one is told at once")
        self.assertLessEqual(self.aegis_.log().count("was refused ("), max(8, time.monotonic() - started + 1), "and the others once in a while")
        self.assertEqual(admin.post(where, "/reload", headers={"authorization": f"bearer   {TOKEN}"}).status, 200)
        self.assertEqual(self.aegis_.stat()["generation"], 2)

    def test_without_a_token_file_nothing_is_changed_over_tcp(self):
        self.begin(admin={"address": TCP})
        self.assertEqual(admin.get(self.tcp(), "/status").status, 200)
        self.assertEqual(admin.post(self.tcp(), "/reload").status, 403)
        self.assertEqual(admin.post(self.tcp(), "/reload", headers=BEARER).status, 401)
        self.assertEqual(self.aegis_.stat()["generation"], 1)

    def test_other_machines_need_the_token_for_all(self):
        self.begin(admin=self.admin_settings(address="0.0.0.0:0", metrics_address="0.0.0.0:0"))
        for where in (("127.0.0.1", self.tcp()[1]), ("127.0.0.1", self.metrics_address()[1])):
            self.assertEqual(admin.get(where, "/metrics").status, 401)
            self.assertEqual(admin.get(where, "/nothing").status, 401)
            self.assertEqual(admin.get(where, "/metrics", headers=BEARER).status, 200)

    def test_names_of_the_world_do_not_stand_for_this_machine(self):
        self.begin()
        host, port = self.tcp()
        for name, status in ((f"{host}:{port}", 200), ("localhost", 200), ("[::1]:80", 200), (f"evil.example:{port}", 403), ("127.0.0.1.example", 403)):
            self.assertEqual(admin.get((host, port), "/status", headers={"Host": name}).status, status, name)
            self.assertEqual(admin.get((host, port), "/status", headers={"Host": name, **BEARER}).status, 200, name)

    def test_settings_that_are_refused(self):
        server = Echo(self).address
        short, empty = self.directory / "short", self.directory / "none"
        short.write_text("secret\n")
        cases = (({"address": "0.0.0.0:0"}, "admin.address: is open to other machines"),
                 ({"metrics_address": "*:0"}, "admin.metrics_address: is open to other machines"),
                 ({"metrics_address": "[::]:0"}, "is open to other machines"),
                 ({"address": "192.0.2.1:9090"}, "is open to other machines"),
                 ({"address": "localhost:9090"}, "needs an IP address and a port"),
                 ({"address": "unix:/tmp/x"}, "needs an IP address and a port"),
                 ({"token_file": "token"}, "does not start with"),
                 ({"address": "127.0.0.1:9090", "metrics_address": "127.0.0.1:9090"}, "is the address of the admin API"))
        for settings, text in cases:
            with self.subTest(settings):
                self.must_fail(app(server, admin=settings), 1, "-t", says=[text])
                self.must_fail(app(server, admin=settings), 1, says=[text])
        for path, text in ((short, "shorter than 16"), (empty, "No such file")):
            with self.subTest(path):
                self.must_fail(app(server, admin={"token_file": str(path)}), 1, "-t", says=[text, "admin.token_file"])
                self.must_fail(app(server, admin={"token_file": str(path)}), 2, says=[text, "admin.token_file"])
        place = free_address()
        self.must_fail(app(server, listener={"address": place}, admin={"address": place}), 1, "-t", says=["is where listeners[0]"])

    def test_a_busy_address_is_no_start(self):
        taken = bind()
        self.must_fail(app(Echo(self).address, admin={"address": aegis.form(taken)}), 2, says=[f"admin.address: cannot listen on {aegis.form(taken)}"])
        taken.close()

    def test_the_socket(self):
        self.begin()
        path = os.path.join(self.directory_, "admin.sock")
        status = os.stat(path)
        self.assertEqual(status.st_mode & 0o777, 0o660)
        self.assertEqual(status.st_gid, os.stat(os.path.join(self.directory_, "stats")).st_gid)
        self.aegis_.stop()
        self.assertFalse(os.path.exists(path))

    def test_strangers(self):
        """The mode of the socket keeps them out, and where somebody changed that, who they are."""
        if not ROOT:
            self.skipTest("only root can become somebody else")
        self.begin()
        path = os.path.join(self.directory_, "admin.sock")
        os.chmod(self.directory, 0o755)
        def ask_as(uid, gid, groups=()):
            code = ("import http.client, socket, sys\n"
                    "connection = http.client.HTTPConnection('localhost')\n"
                    "connection.sock = socket.socket(socket.AF_UNIX)\n"
                    "try:\n    connection.sock.connect(sys.argv[1])\n"
                    "except PermissionError:\n    print('refused')\n    sys.exit()\n"
                    "connection.request('POST', '/undrain')\nprint(connection.getresponse().status)\n")
            done = subprocess.run(["python3", "-c", code, path], user=uid, group=gid, extra_groups=groups, capture_output=True, text=True,
                                  timeout=30 * SLOW, cwd="/")
            return done.stdout.strip() or done.stderr
        gid = os.stat(path).st_gid
        self.assertEqual(ask_as(NOBODY, NOBODY), "200", "who Aegis runs as")
        self.assertEqual(ask_as(4242, 4242), "refused")
        self.assertEqual(ask_as(4242, gid), "200")
        self.assertEqual(ask_as(4242, 4242, [gid]), "200")
        os.chmod(path, 0o666)
        self.assertEqual(ask_as(4242, 4242), "403")
        self.assertEqual(ask_as(0, 0), "200")

    def test_the_token_is_in_no_worker(self):
        if not ROOT:
            self.skipTest("only root can read the memory of others")
        if aegis.SANITIZED:
            self.skipTest("the sanitizers' memory is too large to be searched")
        secret = "s3cret" * 8
        self.token_file.write_text(secret + "\n")
        os.chmod(self.token_file, 0o600)
        self.begin()
        self.assertEqual(admin.post(self.tcp(), "/reload", headers={"Authorization": f"Bearer {secret}"}).status, 200)
        def holds(pid):
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
                for line in maps:
                    match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw.p", line)
                    if not match:
                        continue
                    memory.seek(int(match[1], 16))
                    with contextlib.suppress(OSError):
                        if secret.encode() in memory.read(int(match[2], 16) - int(match[1], 16)):
                            return True
            return False
        self.assertTrue(holds(self.aegis_.control_pid()), "or the search finds nothing")
        for pid in (self.aegis_.pid, *(worker["pid"] for worker in self.aegis_.workers())):
            self.assertFalse(holds(pid))

    def test_a_new_token_at_a_reload(self):
        self.begin()
        self.token_file.write_text("another-token-of-enough-letters\n")
        self.assertEqual(admin.post(self.tcp(), "/undrain", headers=BEARER).status, 200)
        self.assertEqual(self.post("/reload").status, 200)
        self.assertEqual(admin.post(self.tcp(), "/undrain", headers=BEARER).status, 401)
        self.assertEqual(admin.post(self.tcp(), "/undrain", headers={"Authorization": "Bearer another-token-of-enough-letters"}).status, 200)
        self.token_file.unlink()
        answer = self.post("/reload")
        self.assertEqual(answer.status, 422)
        self.assertIn("admin.token_file", answer.json["error"])


class Addresses(Admin):
    @staticmethod
    def is_given_up(where, path):
        """By the control process before, too, which a reload replaces: who comes to it as it goes is reset."""
        try:
            admin.get(where, path)
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass
        return False

    def test_changed_at_a_reload(self):
        self.begin(admin={})
        self.assertNotIn("the admin API is at", self.aegis_.log())
        self.aegis_.must_reload(app(self.servers, admin={"address": TCP}))
        first = self.tcp()
        self.assertEqual(admin.get(first, "/status").status, 200)
        self.aegis_.must_reload(app(self.servers, admin={"address": TCP, "metrics_address": TCP}))
        self.assertEqual(self.tcp(), first, "what is the same goes on")
        self.assertEqual(admin.get(first, "/status").status, 200)
        self.assertEqual(admin.get(self.metrics_address(), "/metrics").status, 200)
        metrics = self.metrics_address()
        self.aegis_.must_reload(app(self.servers, admin={"metrics_address": TCP}))
        wait_until(lambda: self.is_given_up(first, "/status"), "the address to be given up")
        self.aegis_.must_reload(app(self.servers))
        wait_until(lambda: self.is_given_up(metrics, "/metrics"), "the other one to be given up")
        self.assertEqual(self.get("/status").json["generation"], 5)

    def test_a_busy_one_is_refused(self):
        self.begin(admin={"address": TCP})
        taken, first = bind(), self.tcp()
        self.aegis_.write(app(self.servers, admin={"address": TCP, "metrics_address": aegis.form(taken)}))
        answer = self.post("/reload")
        self.assertEqual(answer.status, 422)
        self.assertIn(f"admin.metrics_address: cannot listen on {aegis.form(taken)}: someone else listens there", answer.json["error"])
        self.assertEqual(admin.get(first, "/status").json["generation"], 1)
        self.aegis_.write(app(self.servers, admin={"address": f"0.0.0.0:{first[1]}", "token_file": str(self.token_file)}))
        answer = self.post("/reload")
        self.assertEqual(answer.status, 422)
        self.assertEqual(admin.get(first, "/status").json["generation"], 1)
        taken.close()

    def test_nobody_is_turned_away_while_one_follows_the_other(self):
        """Reload after reload, and the control process killed in between: who connects is answered, or was cut off by the kill."""
        self.begin(admin={"address": TCP})
        stop, failures, answers = threading.Event(), [], []
        def loop(where):
            while not stop.is_set():
                try:
                    answers.append(admin.get(where, "/health").status)
                except OSError as error:
                    failures.append(error)
                except http.client.HTTPException as error:
                    failures.append(error)
        threads = [threading.Thread(target=loop, args=(where,)) for where in (self.directory_, self.tcp())]
        for thread in threads:
            thread.start()
        for _ in range(10):
            self.aegis_.must_reload()
        self.assertEqual(failures, [])
        for _ in range(2):
            os.kill(self.aegis_.control_pid(), signal.SIGKILL)
            count = len(answers)
            wait_until(lambda: len(answers) > count + 10, "answers")
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(set(answers), {200})
        self.assertLessEqual(len(failures), 4, "each kill may cut off two")
        for error in failures:
            self.assertNotIsInstance(error, ConnectionRefusedError)

    def test_a_long_runtime_directory(self):
        directory = self.directory / ("long" * 30)
        proxy = self.aegis(app(Echo(self).address), directory=directory)
        self.assertEqual(admin.get(str(directory), "/health").status, 200)
        proxy.stop()

    def test_leavings_of_a_master_that_was_killed(self):
        self.begin()
        self.aegis_.kill()  # one after the other: the master may have replaced a worker in between
        self.assertTrue(os.path.exists(os.path.join(self.directory_, "admin.sock")))
        again = self.aegis(app(self.servers), directory=self.directory_)
        again.restarts = None
        self.assertEqual(admin.get(self.directory_, "/status").json["pid"], again.pid)

    def test_something_else_stands_there(self):
        directory = self.directory / "bad"
        directory.mkdir()
        (directory / "admin.sock").write_text("mine")
        self.must_fail(app(Echo(self).address), 2, says=["admin.sock: something else stands there"])
        self.assertEqual((directory / "admin.sock").read_text(), "mine")


def without_cpu(pid):
    """Seconds, where the kernel counts them."""
    try:
        return int(aegis.proc(pid, "schedstat").split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


class Hostile(Admin):
    deadline = 120.0

    def setUp(self):
        super().setUp()
        self.begin()
        self.load = Load(self, self.aegis_.address())
        self.pid = self.aegis_.control_pid()

    def tearDown(self):
        """The data plane noticed nothing, and the control process is the same."""
        if self.succeeds():
            self.load.wait_more()
            self.load.stop()
            self.assertEqual(self.get("/health").status, 200)
            self.assertEqual(self.aegis_.control_pid(), self.pid)
        super().tearDown()

    def raw(self, where=None):
        if where is None:
            sock = socket.create_connection(self.tcp(), timeout=30 * SLOW)
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(30 * SLOW)
            sock.connect(os.path.join(where, "admin.sock"))
        self.addCleanup(sock.close)
        return sock

    def status_of(self, sock):
        """None: it was closed without one."""
        line = b""
        while not line.endswith(b"\n"):
            byte = sock.recv(1)
            if not byte:
                return None
            line += byte
        return int(line.split()[1])

    def test_bodies(self):
        deep = b'{"timeout":' + b"[" * 100000 + b"]" * 100000 + b"}"
        cases = ((b"[" * 100000, 413), (deep, 413), (b"[" * 60000, 400), (b'{"a":' * 10000 + b"1" + b"}" * 10000, 400),
                 (b'{"timeout":' + b"9" * 10000 + b"}", 400), (b'{"timeout":1e999999}', 400), (b'{"timeout":-1e999999}', 400),
                 (b'{"timeout":NaN}', 400), (b'{"timeout":Infinity}', 400), (b'{"timeout":0x10}', 400), (b'{"timeout":1,"timeout":2}', 400),
                 (b"{", 400), (b"}", 400), (b"null", 400), (b'"', 400), (b"\0", 400), (b'{"timeout\0":1}', 400), (b'{"\\u0000":1}', 400),
                 (b"\xff\xfe{}", 400), (b'{"\xff":1}', 400), (b'{"timeout":1}{"timeout":1}', 400), (b"x" * 65537, 413), (b" " * 65536 + b"{", 413),
                 (b"{}" + b" " * 900000, 413), (b"[1,2", 400), (b'{"' + b"k" * 60000 + b'":1}', 400), (b'{"timeout":' + b'"' + b"\\" * 60001, 400))
        for where, headers in self.both():
            for body, status in cases:
                answer = admin.post(where, "/drain", body, headers=headers)
                self.assertEqual(answer.status, status, body[:40])
                self.assertIn("error", answer.json)
                self.assertLess(len(answer.bytes), 2000)
        self.assertEqual(self.aegis_.stat()["state"], "running")

    def test_bodies_that_are_announced(self):
        for headers, sent in (("Content-Length: 99999999999999999999", b""), ("Content-Length: 10000000", b"x" * 1000),
                              ("Content-Length: 70000\r\nExpect: 100-continue", b"")):
            sock = self.raw(self.directory_)
            sock.sendall(f"POST /drain HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode() + sent)
            self.assertIn(self.status_of(sock), (413, 400), headers)
        for length in (b"-1", b"abc", b"1 2", b"0x10"):
            sock = self.raw(self.directory_)
            sock.sendall(b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")
            self.assertIn(self.status_of(sock), (400, None), length)
        sock = self.raw(self.directory_)
        sock.sendall(b"POST /drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(40):
                sock.sendall(b"10000\r\n" + b"[" * 65536 + b"\r\n")
        with contextlib.suppress(OSError):
            self.assertIn(self.status_of(sock), (413, None))

    def test_types(self):
        for where, headers in self.both():
            for kind, status in (("application/json", 400), ("application/json; charset=utf-8", 400), ("APPLICATION/JSON", 400), ("text/plain", 415),
                                 ("multipart/form-data; boundary=x", 415), ("application/xml", 415), ("application/jsonx", 415), ("x" * 2000, 415)):
                answer = admin.post(where, "/drain", b'{"x":1}', headers={**headers, "Content-Type": kind})
                self.assertEqual(answer.status, status, kind)

    def test_targets(self):
        for where, headers in self.both():
            for path, status in (("/%00", 400), ("/servers/%", 400), ("/servers/%4", 400), ("/servers/%zz/disable", 400), ("/servers/%ff", 400),
                                 ("/servers/%0a", 400), ("/" + "a" * 5000, 400), ("//", 404), ("/../etc/passwd", 404), ("/servers//disable", 404),
                                 ("/servers/" + "x" * 900, 404), ("/status/", 404), ("/STATUS", 404), ("/status%20", 404), ("/status?" + "a=b&" * 200, 200)):
                answer = admin.get(where, path, headers=headers)
                self.assertEqual(answer.status, status, path[:60])
        self.assertEqual(self.post("/servers//disable").status, 405)
        self.assertEqual(self.post("/servers/%2F/disable").status, 404)

    def test_garbage(self):
        socks = []
        for data in (b"\0" * 100 + b"\r\n\r\n", b"\xff" * 1000 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET /status\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"\1" * 600,
                     b"GET /status HTTP/9.9\r\n\r\n", b"GET /status HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n", b"G" * 200000,
                     b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET /status HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100000 + b"\r\n\r\n",
                     b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
                     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            sock = self.raw(self.directory_)
            with contextlib.suppress(OSError):
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            socks.append((sock, data))
        self.assertEqual(self.get("/health").status, 200)
        for sock, data in socks:
            with contextlib.suppress(ConnectionResetError):
                self.assertIn(self.status_of(sock), (None, 400, 404, 405, 413, 414, 431, 501, 505), data[:40])
        self.assertEqual(self.aegis_.stat()["state"], "running")

    def test_a_thousand_silent_ones(self):
        """On one way in they keep nobody out there, nor at the others."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 4000:
            self.skipTest("too few descriptors")
        silent = []
        for where in (None, self.directory_):
            for _ in range(1000):
                sock = self.raw(where)
                silent.append(sock)
        for where, headers in self.both():
            started = time.monotonic()
            self.assertEqual(admin.get(where, "/health", headers=headers).status, 200)
            self.assertLess(time.monotonic() - started, 8 * SLOW, "before any of them was late")
            self.assertEqual(admin.post(where, "/undrain", headers=headers).status, 200)
        self.assertEqual(admin.get(self.metrics_address(), "/metrics").status, 200)
        self.assertLess(aegis.descriptors(self.pid), 400)
        for sock in silent:
            sock.close()

    def test_more_at_once_than_places(self):
        """Whoever was let in gets an answer; the others wait until there is a place."""
        failures = []
        def ask(count):
            for _ in range(count):
                try:
                    status = self.get("/connections").status
                    if status != 200:
                        failures.append(status)
                except (OSError, http.client.HTTPException) as error:
                    failures.append(repr(error))
        for clients in (66, 200):
            threads = [threading.Thread(target=ask, args=(3,)) for _ in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(failures, [], clients)

    def check_soon(self, where, path, seconds, pid):
        """Not counted is for how long the control process, or this one, was ready to go on and had no CPU."""
        def idle():
            return without_cpu(pid) + without_cpu("thread-self")
        started, without = time.monotonic(), idle()
        self.assertEqual(admin.get(where, path, timeout=45).status, 200)
        self.assertLess(time.monotonic() - started - (idle() - without), seconds * SLOW)

    def test_bodies_that_do_not_come(self):
        """Strangers are refused before their body comes; others make room for who sends something."""
        for where, path in ((self.metrics_address(), "/metrics"), (self.directory_, "/health")):
            socks = []
            for _ in range(64):
                sock = socket.create_connection(where) if isinstance(where, tuple) else self.raw(where)
                self.addCleanup(sock.close)
                sock.sendall(b"POST /undrain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
                socks.append(sock)
            self.check_soon(where, path, 5, self.pid)
            if isinstance(where, tuple):
                for sock in socks:
                    self.assertIn(self.status_of(sock), (401, 403))

    def test_many_that_do_not_read(self):
        """Large answers that nobody takes fill neither the memory nor the places."""
        upstreams = [{"name": f"u{i}", "servers": [{"name": f"s{j}", "address": f"127.0.0.1:{1000 + j}"} for j in range(34)]} for i in range(100)]
        settings = app(self.servers)
        settings["upstreams"] += upstreams
        proxy = self.aegis(settings)
        pid = proxy.control_pid()
        size = len(admin.get(str(proxy.directory), "/metrics").bytes)
        self.assertGreater(64 * size, 300 << 20, "too small to tell anything")
        for _ in range(64):
            sock = self.raw(str(proxy.directory))
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.check_soon(str(proxy.directory), "/health", 12, pid)
        if not aegis.SANITIZED:
            self.assertLess(aegis.rss_bytes(pid), 200 << 20)
        wait_until(lambda: admin.get(str(proxy.directory), "/metrics").status == 200, "those that do not read made room")

    def test_slow_ones_are_cut_off(self):
        """A byte now and then keeps no connection alive: the request has ten seconds."""
        slow, silent, body, blank = self.raw(), self.raw(self.directory_), self.raw(self.directory_), self.raw(self.directory_)
        blank.sendall(b"\r\n" * 5000)
        body.sendall(b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        started = time.monotonic()
        def drip(sock, text):
            with contextlib.suppress(OSError):
                for byte in text:
                    sock.sendall(bytes([byte]))
                    if gone.wait(0.25):
                        return
        gone = threading.Event()
        threads = [threading.Thread(target=drip, args=(slow, b"GET /status HTTP/1.1\r\nX: " + b"y" * 4000)),
                   threading.Thread(target=drip, args=(body, b" " * 99))]
        for thread in threads:
            thread.start()
        for sock in (slow, silent, body, blank):
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(sock.recv(1), b"")
        self.assertGreater(time.monotonic() - started, 5)
        gone.set()
        for thread in threads:
            thread.join()
        self.assertEqual(self.aegis_.stat()["state"], "running")

    def test_one_that_does_not_read(self):
        sock = self.raw(self.directory_)
        with contextlib.suppress(OSError, socket.timeout):
            sock.settimeout(1)
            for _ in range(5000):
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.get("/health").status, 200)
        self.assertLess(aegis.rss_bytes(self.pid), 100 << 20 if not aegis.SANITIZED else 1 << 30)

    def test_without_descriptors(self):
        """Those that are silent make room."""
        aegis.need("prlimit")
        proxy = self.aegis(app(self.servers), wrapper=("prlimit", "--nofile=64:64"))
        where = str(proxy.directory)
        self.assertEqual(admin.get(where, "/health").status, 200)
        held = [self.raw(where) for _ in range(60)]
        proxy.wait_log("cannot accept clients of the admin API: Too many open files")
        self.assertEqual(admin.get(where, "/health").status, 200)
        self.assertEqual(admin.post(where, "/reload").status, 200)
        for sock in held:
            sock.close()
        self.assertEqual(admin.get(where, "/health").status, 200)


class Without(Case):
    def test_a_build_without_it(self):
        """Nobody is left to wait at a socket that nobody serves."""
        if "built without libmicrohttpd" not in run(AEGIS, "-V").stdout:
            self.skipTest("this build has it")
        server = Echo(self).address
        proxy = self.aegis(app(server))
        self.assertFalse(os.path.exists(os.path.join(proxy.directory, "admin.sock")))
        self.must_fail(app(server, admin={"address": TCP}), 1, "-t", says=["built without libmicrohttpd"])
        self.must_fail(app(server, admin={"address": TCP}), 2, says=["built without libmicrohttpd"])


class Numbers(Admin):
    def samples(self, where=None):
        text = admin.get(where or self.metrics_address(), "/metrics").bytes.decode()
        return text, dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    def check_form(self, text):
        """HELP and TYPE once for each, before its samples, which stand together."""
        helped, typed, seen, now = set(), set(), set(), None
        for line in text.splitlines():
            words = line.split(" ", 3)
            if words[:2] == ["#", "HELP"]:
                self.assertNotIn(words[2], helped)
                self.assertTrue(words[3])
                helped.add(words[2])
                continue
            if words[:2] == ["#", "TYPE"]:
                self.assertNotIn(words[2], typed)
                typed.add(words[2])
                now, kind = words[2], words[3]
                self.assertEqual(kind == "counter", now.endswith("_total"), line)
                continue
            name = re.match(r"[a-z_]+", line)[0]
            if kind == "histogram":
                name = re.sub(r"_(bucket|sum|count)$", "", name)
            self.assertEqual(name, now, line)
            self.assertIn(name, helped)
            self.assertNotIn(line.rsplit(" ", 1)[0], seen)
            seen.add(line.rsplit(" ", 1)[0])

    def test_names(self):
        """Those that dashboards rely on."""
        self.begin(upstream={"queue": {"size": 1}, "connect_rate": "1000/s", "pool": {"keep": 1, "framing": "line"}})
        text, _ = self.samples()
        self.check_form(text)
        for name in ("connections_active", "connections_total", "connections_rejected_total", "bytes_received_total", "bytes_sent_total", "errors_total",
                     "server_connections_active", "server_connections_total", "server_failures_total", "server_up", "server_breaker_state",
                     "server_breaker_trips_total", "connect_seconds", "first_byte_seconds", "connection_seconds", "pool_hits_total",
                     "pool_misses_total", "queue_waiting", "reloads_total", "worker_restarts_total", "worker_loop_lag_seconds", "build_info"):
            self.assertIn(f"# HELP aegis_{name} ", text)

    def test_sums_agree_with_what_was_sent(self):
        self.begin(workers=2)
        sent, connections = 0, 40
        promtool = shutil.which("promtool")
        for i in range(connections):
            data = b"x" * (1000 + 37 * i)
            with dial(self.aegis_.address()) as sock:
                sock.sendall(data)
                received = 0
                while received < len(data):
                    received += len(sock.recv(65536))
            sent += len(data)
            text, _ = self.samples()
            self.check_form(text)
        self.aegis_.check_gauges()
        text, samples = self.samples()
        self.assertEqual(samples['aegis_connections_total{listener="app"}'], str(connections))
        self.assertEqual(samples['aegis_bytes_received_total{listener="app"}'], str(sent))
        self.assertEqual(samples['aegis_bytes_sent_total{listener="app"}'], str(sent))
        self.assertEqual(samples['aegis_connection_seconds_count{listener="app"}'], str(connections))
        for name, value in samples.items():
            if "_active" in name or "_waiting" in name:
                self.assertEqual(value, "0", name)
        self.assertEqual(self.samples(self.directory_)[1].keys(), samples.keys())
        if promtool:
            done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60 * SLOW)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


if __name__ == "__main__":
    aegis.main()
