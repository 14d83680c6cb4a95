"""The control process: one, always, without privileges or sockets of clients, replaced when it dies, and never missed by clients meanwhile."""
import contextlib
import os
import re
import signal
import socket
import threading

import admin
import aegis
from aegis import AEGIS, AEGIS_STAT, NOBODY, ROOT, SLOW, Case, Echo, Load, bind, echo, free_address, need, proc, run, wait_until

FAST = {"type": "tcp", "interval": "200ms", "fast_interval": "50ms", "timeout": "2s"}
CHECKED = {"health": FAST}


def metric(proxy, name):
    done = run(AEGIS_STAT, "-r", proxy.directory, "-p")
    return int(re.search(rf"^{name} (\d+)$", done.stdout, re.M)[1])


def socket_inodes(pid):
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return {link[len("socket:["):-1] for link in links if link.startswith("socket:[")}


def admin_inodes(proxy):
    """Of the socket that is always there, in a build that serves it."""
    path = os.path.join(proxy.directory, "admin.sock")
    return {line.split()[6] for line in proc(proxy.pid, "net/unix").splitlines() if line.endswith(" " + path)}


def listening_inodes(pid):
    found = set()
    for name in ("net/tcp", "net/tcp6"):
        found.update(line.split()[9] for line in proc(pid, name).splitlines()[1:] if line.split()[3] == "0A")
    # __SO_ACCEPTCON
    found.update(line.split()[6] for line in proc(pid, "net/unix").splitlines()[1:] if int(line.split()[3], 16) & 0x10000)
    return found


class Checks:
    """A server that takes any number of connections, and counts them."""

    def __init__(self, test):
        self.listener, self.count, self.changed = bind(), 0, threading.Condition()
        self.address = aegis.form(self.listener)
        threading.Thread(target=self.run, daemon=True).start()
        test.addCleanup(self.close)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def run(self):
        while True:
            try:
                self.listener.accept()[0].close()
            except OSError:
                return
            with self.changed:
                self.count += 1
                self.changed.notify_all()

    def wait_more(self, count, seconds=20.0):
        with self.changed:
            wanted = self.count + count
            if not self.changed.wait_for(lambda: self.count >= wanted, seconds * SLOW):
                raise AssertionError(f"not {count} more checks")


class Processes(Case):
    def checked(self, **settings):
        """Aegis in front of a server that lives, with checks: (Aegis, address)."""
        self.echo = Echo(self)
        return self.proxy(self.echo.address, upstream=CHECKED, **settings)

    def test_there_is_always_one(self):
        server = Echo(self)
        plain, checked = aegis.app(server.address), aegis.app(server.address, upstream=CHECKED)
        named = aegis.app(f"localhost:{aegis.parse(server.address)[1][1]}")
        proxy = self.aegis(plain)
        pid = proxy.control_pid()
        for settings in (checked, plain, named, plain):
            proxy.must_reload(settings)
            pid = proxy.control_pid(pid)
        self.assertEqual(metric(proxy, "aegis_control_restarts_total"), 0)

    def test_it_has_no_sockets_of_clients(self):
        proxy, address = self.checked(workers=4)
        sock = self.connect(address)
        echo(sock)
        pid = proxy.control_pid()
        own = socket_inodes(pid)
        self.assertTrue(own, "the channel")
        listening = own & listening_inodes(pid)
        self.assertEqual(listening, admin_inodes(proxy), "the socket of the operator, and no other")
        for worker in proxy.workers():
            self.assertEqual(own & socket_inodes(worker["pid"]), set())
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        self.assertLess(sum("[eventfd]" not in link for link in links), 20, f"but for the bells: {links}")
        proxy.must_reload(aegis.app(self.echo.address, upstream=CHECKED, workers=2))
        pid = proxy.control_pid(pid)
        self.assertEqual(socket_inodes(pid) & listening_inodes(pid), listening)

    def test_it_has_no_privileges(self):
        proxy, _ = self.checked()
        pid = proxy.control_pid()
        status = dict(line.split(":\t", 1) for line in proc(pid, "status").splitlines() if ":\t" in line)
        for capabilities in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            self.assertEqual(int(status[capabilities], 16), 0, capabilities)
        self.assertEqual(status["NoNewPrivs"], "1")
        if ROOT:
            self.assertEqual(status["Uid"].split(), [str(NOBODY)] * 4)
            self.assertEqual(status["Gid"].split(), [str(NOBODY)] * 4)
            self.assertIn(status["Groups"].split(), ([], [str(NOBODY)]))

    def test_signals_are_not_for_it(self):
        proxy, _ = self.checked()
        pid = proxy.control_pid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGPIPE):
            os.kill(pid, number)
        proxy.must_reload(aegis.app(self.echo.address, upstream=CHECKED))  # the master hears of a death before it ends one
        proxy.control_pid(pid)
        self.assertEqual(metric(proxy, "aegis_control_restarts_total"), 0)

    def test_libraries_of_http_checks_are_loaded_there_only(self):
        if "http checks  yes" not in run(AEGIS, "-V").stdout:
            self.skipTest("no libcurl here")
        server = Checks(self)
        proxy = self.aegis(aegis.app(server.address, upstream={"health": {**FAST, "type": "http"}}))
        self.assertIn("libcurl", proc(proxy.control_pid(), "maps"))
        for pid in (proxy.pid, *(worker["pid"] for worker in proxy.workers())):
            self.assertNotIn("libcurl", proc(pid, "maps"))
        proxy.must_reload(aegis.app(server.address, upstream=CHECKED))
        self.assertNotIn("libcurl", proc(proxy.control_pid(), "maps"))


class Deaths(Case):
    def test_killed_again_and_again(self):
        """Clients notice nothing, the workers are the same, and what was known stays known."""
        good, dead = Echo(self), free_address()
        proxy, address = self.proxy([{"name": "good", "address": good.address}, {"name": "bad", "address": dead}],
                                    upstream={**CHECKED, "retries": 1}, workers=2)
        workers = [worker["pid"] for worker in proxy.workers()]
        down = f"server bad ({dead}) is down"
        proxy.wait_log(down)
        self.assertEqual(proxy.log().count(down), 1, "by its first check")
        load = Load(self, address)
        pid = None
        for _ in range(4):
            pid = proxy.control_pid(pid)
            load.wait_more()
            os.kill(pid, signal.SIGKILL)
        proxy.control_pid(pid)
        load.wait_more()
        load.stop()
        self.assertEqual([worker["pid"] for worker in proxy.workers()], workers)
        self.assertEqual(metric(proxy, "aegis_control_restarts_total"), 4)
        self.assertEqual(proxy.log().count(down), 1, "it was down all the time")
        Echo(self, address=dead)
        proxy.wait_log(f"server bad ({dead}) is up again")

    def test_one_that_keeps_dying_is_replaced_ever_later(self):
        """But after half a second at the most, for nobody writes the access log meanwhile."""
        proxy, address = self.proxy(Echo(self).address, upstream=CHECKED)
        pid = None
        while proxy.log().count("the control process keeps dying: the next try in 500 ms") < 2:
            pid = proxy.control_pid(pid)
            os.kill(pid, signal.SIGKILL)
        echo(self.connect(address))
        proxy.control_pid(pid)

    def test_one_that_stands_still_is_replaced(self):
        proxy, _ = self.proxy(Echo(self).address, upstream=CHECKED)
        pid = proxy.control_pid()
        os.kill(pid, signal.SIGSTOP)
        proxy.control_pid(pid)
        proxy.wait_log(f"the control process (pid {pid}) has not been heard of")
        self.assertEqual(metric(proxy, "aegis_control_restarts_total"), 1)

    def test_it_does_not_outlive_the_master(self):
        proxy, _ = self.proxy(Echo(self).address, upstream=CHECKED)
        pid = proxy.control_pid()
        os.kill(proxy.pid, signal.SIGKILL)
        wait_until(lambda: not aegis.alive(pid), "the control process to be gone")

    def test_drained_it_checks_nothing_and_answers(self):
        admin.need()
        server = Checks(self)
        proxy, _ = self.proxy(server.address, upstream=CHECKED)
        pid = proxy.control_pid()
        server.wait_more(2)
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "drained")
        self.assertEqual(admin.get(proxy.directory, "/status").json["state"], "drained")  # it has rested since it heard of that
        count = server.count
        os.kill(pid, signal.SIGKILL)
        pid = proxy.control_pid(pid)
        self.assertEqual(admin.get(proxy.directory, "/status").json["state"], "drained")
        self.assertLessEqual(server.count - count, 1, "one may have been on its way")
        proxy.must_reload()
        proxy.control_pid(pid)
        server.wait_more(2)

    def test_drained_it_is_replaced_whatever_the_file_says(self):
        """A new one gets the settings that were last in force; a file that is being edited must not shut the operator out."""
        admin.need()
        proxy, _ = self.proxy(Echo(self).address)
        pid = proxy.control_pid()
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "drained")
        good = proxy.config.read_text()
        proxy.config.write_text("nonsense = ")
        os.kill(pid, signal.SIGKILL)
        pid = proxy.control_pid(pid)
        self.assertEqual(admin.get(proxy.directory, "/status").json["state"], "drained")
        self.assertNotIn("nonsense", proxy.log())
        (proxy.directory / "settings").unlink()
        os.kill(pid, signal.SIGKILL)
        proxy.wait_log("cannot start the control process: Invalid argument")
        self.assertIn("nonsense", proxy.log())
        proxy.config.write_text(good)
        proxy.control_pid(pid)
        answer = admin.post(proxy.directory, "/undrain")
        self.assertEqual(answer.status, 200, answer)

    def test_it_is_there_until_the_last_connection_has_ended(self):
        admin.need()
        proxy, address = self.proxy(Echo(self).address, upstream=CHECKED, drain={"timeout": "60s"})
        sock = self.connect(address)
        echo(sock)
        pid = proxy.control_pid()
        proxy.send(signal.SIGTERM)
        proxy.wait_stat(lambda stat: stat["state"] == "stopping", "stopping")
        status = admin.get(proxy.directory, "/status").json
        self.assertEqual((status["state"], status["connections"]["active"]), ("stopping", 1))
        self.assertEqual(admin.get(proxy.directory, "/health").status, 503)
        self.assertEqual(admin.post(proxy.directory, "/reload").status, 409)
        os.kill(pid, signal.SIGKILL)
        proxy.control_pid(pid)
        echo(sock)
        sock.close()
        self.assertEqual(proxy.wait_exit(), 0)
        self.assertFalse(os.path.exists(os.path.join(proxy.directory, "admin.sock")))

    def limit_descriptors(self, pid, limit):
        """Set the limit of a process, as its own user may; returns what it was."""
        prlimit, = need("prlimit")
        before = int(re.search(r"^Max open files +(\d+)", proc(pid, "limits"), re.M)[1])
        done = run(prlimit, "--pid", pid, f"--nofile={limit}:", **aegis.drop_to_nobody())
        self.assertEqual(done.returncode, 0, done.stderr)
        return before

    def test_a_full_table_of_descriptors_says_nothing_of_servers(self):
        server = Checks(self)
        proxy, _ = self.proxy(server.address, upstream=CHECKED)
        pid = proxy.control_pid()
        server.wait_more(2)
        before = self.limit_descriptors(pid, 3)
        proxy.wait_log("cannot be checked: cannot connect: Too many open files; it stays what it was")
        self.limit_descriptors(pid, before)
        server.wait_more(3)
        self.assertNotIn("is down", proxy.log())
        self.assertEqual(proxy.control_pid(), pid)


class Reloads(Case):
    def test_exactly_one_after_each(self):
        """With a connection that holds the first generation: it checks nothing any more."""
        server = Checks(self)
        stream = Echo(self)
        rows = [{"name": "checked", "address": server.address, "weight": 0}, {"name": "stream", "address": stream.address}]
        settings = aegis.app(rows, upstream=CHECKED, drain={"timeout": "0s", "max_generations": 16})
        proxy = self.aegis(settings)
        held = []
        pid = proxy.control_pid()
        for _ in range(8):
            held.append(self.connect(proxy.address()))
            echo(held[-1])
            proxy.must_reload(settings)
            pid = proxy.control_pid(pid)
        self.assertEqual(len({worker["generation"] for worker in proxy.stat()["workers"]}), 9)
        server.wait_more(1)
        first, started = server.count, aegis.time.monotonic()
        server.wait_more(12)
        # One prober makes a check each 180 ms at most; nine would make nine. Some may have been waiting to be counted.
        most = (aegis.time.monotonic() - started) / 0.18 + 6
        self.assertLessEqual(server.count - first, most)
        for sock in held:
            echo(sock)
        self.assertEqual(metric(proxy, "aegis_control_restarts_total"), 0)

    def test_one_that_fails_leaves_it_alone(self):
        proxy, address = self.proxy(Echo(self).address, upstream=CHECKED)
        pid = proxy.control_pid()
        taken = bind()
        self.addCleanup(taken.close)
        self.assertFalse(proxy.reload(aegis.app(Echo(self).address, upstream=CHECKED, listener={"address": aegis.form(taken)})))
        self.assertEqual(proxy.control_pids(), [pid])
        echo(self.connect(address))

    def hanging(self):
        """A server that answers no connect: its queue is full."""
        listener = bind(backlog=0)
        self.addCleanup(listener.close)
        for _ in range(4):
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        return aegis.form(listener)

    def in_trial(self, settings):
        """Aegis with a reload under way that waits for the first check of a server that does not answer: (Aegis, the two pids)."""
        server = Echo(self)
        proxy = self.aegis(aegis.app({"name": "a", "address": server.address}, upstream=CHECKED))
        pid = proxy.control_pid()
        proxy.write(aegis.app([{"name": "a", "address": server.address}, {"name": "b", "address": self.hanging()}], upstream=CHECKED, **settings))
        self.mark = proxy.notifications.mark()
        proxy.send(signal.SIGHUP)
        other = wait_until(lambda: [other for other in proxy.control_pids() if other != pid], "one in its trial")[0]
        return proxy, pid, other

    def test_the_trial_of_one_that_is_killed(self):
        proxy, pid, other = self.in_trial({})
        os.kill(other, signal.SIGKILL)
        proxy.notifications.wait("READY=1", since=self.mark)
        self.assertEqual(proxy.stat()["reloads"]["ok"], 1)
        proxy.control_pid(pid, other)

    def test_a_trial_that_is_killed_stands_still(self):
        """Nobody waits for it longer than two seconds."""
        proxy, pid, other = self.in_trial({})
        os.kill(other, signal.SIGSTOP)
        proxy.notifications.wait("READY=1", since=self.mark)
        self.assertEqual(proxy.stat()["reloads"]["ok"], 1)
        proxy.control_pid(pid, other)

    def test_a_stop_in_the_trial(self):
        proxy, _, _ = self.in_trial({})
        proxy.stop(gauges=False)

    def test_the_running_one_is_killed_in_the_trial_of_the_next(self):
        proxy, pid, other = self.in_trial({})
        os.kill(pid, signal.SIGKILL)
        proxy.notifications.wait("READY=1", since=self.mark)
        self.assertEqual(proxy.control_pid(pid), other)

    def test_its_log_is_opened_again(self):
        server, path = Checks(self), self.directory / "log.aegis"
        if ROOT:
            path.touch()
            os.chown(path, NOBODY, NOBODY)
        proxy = self.aegis(aegis.app({"name": "a", "address": server.address}, upstream=CHECKED, log={"target": str(path)}))
        proxy.control_pid()
        path.rename(self.directory / "log.old")
        proxy.send(signal.SIGUSR1)
        wait_until(lambda: path.exists() and "log file opened again" in path.read_text(), "the new file")
        server.close()
        wait_until(lambda: "server a" in path.read_text(), "what the control process has to say")


class WithoutLibcurl(Case):
    """http and https checks, where the library cannot be loaded."""

    def setUp(self):
        super().setUp()
        libraries = self.directory / "lib"
        libraries.mkdir()
        for name in ("libcurl.so.4", "libcurl-gnutls.so.4"):
            (libraries / name).write_text("no library\n")
        self.environment = {"LD_LIBRARY_PATH": str(libraries)}
        self.settings = aegis.app(free_address(), upstream={"health": {"type": "http"}})

    def test_check_and_start_refuse(self):
        config = self.directory / "http.conf"
        config.write_text(aegis.libconfig(self.settings))
        done = run(AEGIS, "-t", "-c", config, environment=self.environment)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"http.conf:\d+: upstreams.app.health: .*libcurl.*; install it .*, or write type = \"tcp\"")
        (self.directory / "run").mkdir()
        done = run(AEGIS, "-c", config, "-r", self.directory / "run", environment=self.environment)
        self.assertEqual(done.returncode, 1)
        self.assertIn("libcurl", done.stderr)
        self.assertIn("http checks  no: ", run(AEGIS, "-V", environment=self.environment).stdout)

    def test_a_reload_is_refused(self):
        server = Echo(self)
        proxy = self.aegis(aegis.app(server.address, upstream=CHECKED), environment=self.environment)
        pid = proxy.control_pid()
        self.assertFalse(proxy.reload(self.settings))
        self.assertIn("a health check or the resolver cannot work as set", proxy.stat()["reloads"]["last_note"])
        self.assertEqual(proxy.control_pids(), [pid])
        echo(self.connect(proxy.address()))


if __name__ == "__main__":
    aegis.main()
