"""Stopping, draining, reopening the log: each signal and each "aegis -s" verb does what it says, and loses nothing that it need not."""
import contextlib
import os
import pathlib
import re
import signal
import threading
import time

import aegis
from aegis import MIB, Backend, Case, Echo, Pattern, Task, dial, echo, free_address, how_it_ends, receive, refused, wait_until

DOWN = Pattern(2)


class Stop(Case):
    def half_way(self):
        """A transfer of 10 MB that stands in the middle until told to go on: (Aegis, address, client, go on, finish)."""
        go = threading.Event()

        def serve(sock):
            if not sock.recv(1):  # it only asked whether it is refused
                return
            with contextlib.suppress(ConnectionError):  # cut, where that is the test
                DOWN.send(sock, 5 * MIB)
                go.wait(60 * aegis.SLOW)
                DOWN.send(sock, 5 * MIB, offset=5 * MIB)

        proxy, address = self.proxy(Backend(self, serve).address)
        self.addCleanup(go.set)
        sock = self.connect(address)
        sock.sendall(b"x")
        DOWN.receive(sock, MIB)

        def finish():
            go.set()
            self.assertEqual(DOWN.receive_all(sock, offset=MIB), 9 * MIB)
            sock.close()
        return proxy, address, finish

    def test_graceful(self):
        """TERM, INT, QUIT: new clients are refused at once, the transfer under way is completed, exit code 0."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            with self.subTest(signal=number.name):
                proxy, address, finish = self.half_way()
                proxy.send(number)
                wait_until(lambda: refused(address), "new clients to be refused")
                proxy.notifications.wait("STOPPING=1")
                self.assertEqual(proxy.stat()["state"], "stopping")
                self.assertFalse(proxy.gone())
                finish()
                self.assertEqual(proxy.wait_exit(), 0)
                proxy.check_gone()
                proxy.check_log()

    def test_second_signal_ends_at_once(self):
        """Well before drain.timeout (30 s): the one transfer that is under way is cut."""
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGQUIT)):
            proxy, address, _ = self.half_way()
            started = time.monotonic()
            proxy.send(first)
            wait_until(lambda: refused(address), "new clients to be refused")
            proxy.send(second)
            self.assertEqual(proxy.wait_exit(), 0)
            self.assertLess(time.monotonic() - started, 10 * aegis.SLOW)
            proxy.check_gone()

    def test_idle_proxy_stops_at_once(self):
        """Nothing to wait for, so nothing is waited for: under a second, with several workers and after a reload too. The machine may have
        something else to do now and then."""
        self.assertTrue(any(self.idle_stops() < 1.0 * aegis.SLOW for _ in range(3)), "each time it took longer")

    def idle_stops(self):
        took = []
        for reload in (False, True):
            proxy, address = self.proxy(Echo(self).address, workers=4)
            with dial(address) as sock:
                echo(sock)
            if reload:
                proxy.must_reload()
            proxy.check_gauges()
            started = time.monotonic()
            proxy.send(signal.SIGTERM)
            self.assertEqual(proxy.wait_exit(), 0)
            took.append(time.monotonic() - started)
        return max(took)

    def test_drain_timeout(self):
        """What is still open after drain.timeout is cut, not before."""
        timeout = 1.5 * aegis.SLOW
        proxy, address = self.proxy(Echo(self).address, drain={"timeout": f"{round(timeout * 1000)}ms"})
        sock = self.connect(address)
        echo(sock)
        started = time.monotonic()
        proxy.send(signal.SIGTERM)
        wait_until(lambda: refused(address), "new clients to be refused")
        echo(sock, b"served while draining")
        how_it_ends(sock)
        self.assertGreaterEqual(time.monotonic() - started, timeout)
        self.assertEqual(proxy.wait_exit(), 0)

    def test_queued_clients_are_served_before_the_stop(self):
        """Whoever was in a worker's queue when the stop came is accepted and served, not reset."""
        proxy, address = self.proxy(Echo(self).address, workers=1)
        with dial(address) as sock:
            echo(sock)
        pid = proxy.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        queued = [self.connect(address, later=True) for _ in range(30)]
        for sock in queued:
            sock.sendall(b"hello")
        proxy.send(signal.SIGTERM)
        proxy.notifications.wait("STOPPING=1")
        os.kill(pid, signal.SIGCONT)
        for sock in queued:
            self.assertEqual(receive(sock, 5), b"hello")
            sock.close()
        self.assertEqual(proxy.wait_exit(), 0)


class Drain(Case):
    def test_drain_and_revive(self):
        """WINCH: new clients are refused, the old ones live; HUP: accepts again, also on a port that the kernel chose."""
        server = Echo(self)
        fixed, path = free_address(), f"unix:{self.directory}/app.sock"
        settings = aegis.app(server.address)
        settings["listeners"] += [{"name": "fixed", "address": fixed, "upstream": "app"}, {"name": "unix", "address": path, "upstream": "app"}]
        proxy = self.aegis(settings)
        chosen = proxy.address()
        addresses = [chosen, fixed, path]
        for _ in range(3):
            held = [self.connect(address) for address in addresses]
            for sock in held:
                echo(sock)
            proxy.send(signal.SIGWINCH)
            for address in addresses:
                wait_until(lambda address=address: refused(address), f"{address} to refuse")
            self.assertEqual(proxy.stat()["state"], "draining")
            for sock in held:
                echo(sock, b"served while draining")
                sock.close()
            stat = proxy.wait_stat(lambda stat: stat["state"] == "drained", "the end of the drain")
            self.assertEqual(stat["workers"], [])
            self.assertFalse(proxy.gone())
            proxy.must_reload()
            self.assertEqual([proxy.address(name) for name in ("app", "fixed", "unix")], addresses)
            for address in addresses:
                for _ in range(4):
                    with dial(address) as sock:
                        echo(sock)
        self.assertEqual(proxy.stat()["state"], "running")
        self.assertGreaterEqual(proxy.stat()["connections"]["total"], 3 * (3 + 12))

    def test_idle_drain_is_over_at_once(self):
        """Without a connection there is nothing to wait for; and a drained Aegis stops at once."""
        proxy, address = self.proxy(Echo(self).address)
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "the end of the drain")
        self.assertTrue(refused(address))
        proxy.stop()

    def test_bad_file_while_drained(self):
        """A reload that fails leaves a drained Aegis drained; the next good one revives it."""
        proxy, address = self.proxy(Echo(self).address)
        good = proxy.settings
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "the end of the drain")
        self.assertFalse(proxy.reload("listeners = ;"))
        self.assertTrue(refused(address))
        self.assertEqual(proxy.stat()["state"], "drained")
        proxy.must_reload(good)
        with dial(proxy.address()) as sock:
            echo(sock)

    def test_timeout(self):
        """drain.timeout ends a drain by WINCH too, and that is the reason that is counted."""
        proxy, address = self.proxy(Echo(self).address, drain={"timeout": "600ms"})
        socks = [self.connect(address) for _ in range(3)]
        for sock in socks:
            echo(sock)
        started = time.monotonic()
        proxy.send(signal.SIGWINCH)
        for sock in socks:
            self.assertEqual(how_it_ends(sock)[1], b"")
        self.assertGreaterEqual(time.monotonic() - started, 0.6)
        proxy.wait_closes("drain_timeout", 3)
        self.assertEqual(proxy.listener()["errors"], 0)

    def test_pace(self):
        """Idle connections are closed at the pace, not all at once; one that is in use stays, although it is the oldest."""
        proxy, address = self.proxy(Echo(self).address, drain={"timeout": "0s", "pace": 20}, workers=1)
        busy, done = self.connect(address), threading.Event()
        idle = [self.connect(address) for _ in range(40)]
        for sock in [busy, *idle]:
            echo(sock)
        exchanges = [0]

        def use():
            while not done.is_set():
                echo(busy)
                exchanges[0] += 1

        user = Task(use)
        wait_until(lambda: exchanges[0] > 10, "the busy connection to be busy")
        proxy.send(signal.SIGWINCH)
        ends = []
        for sock in idle:
            self.assertEqual(how_it_ends(sock), ("eof", b""))
            ends.append(time.monotonic())
        self.assertGreaterEqual(ends[-1] - ends[0], 0.7, "40 at 20/s")
        seen = exchanges[0]
        wait_until(lambda: exchanges[0] > seen + 10, "the busy connection to live on")
        done.set()
        user.result()
        busy.close()
        proxy.wait_closes("drain_paced", 40)
        proxy.wait_closes("finished", 1)

    def test_max_generations(self):
        """Two old generations may drain; a third reload ends the oldest, whatever it still has."""
        proxy, address = self.proxy(Echo(self).address, drain={"timeout": "0s", "max_generations": 2})
        held = []
        for _ in range(3):
            held.append(self.connect(address))
            echo(held[-1])
            proxy.must_reload()
            if len(held) < 3:
                for sock in held:
                    echo(sock)
        how_it_ends(held[0])
        stat = proxy.wait_stat(lambda stat: {worker["generation"] for worker in stat["workers"] if worker["connections"] or worker["generation"] == 4}
                               == {2, 3, 4}, "the first generation to be gone")
        self.assertEqual(stat["connections"]["active"], 2)
        for sock in held[1:]:
            echo(sock)

    def test_titles(self):
        """ps tells role, slot, generation and what each process is doing."""
        proxy, address = self.proxy(Echo(self).address, workers=2)
        self.assertRegex(aegis.title(proxy.pid), r"^aegis: master\b")
        for worker in proxy.workers():
            self.assertRegex(aegis.title(worker["pid"]), rf"^aegis: worker {worker['slot']} gen 1 running \d+$")
        held = [self.connect(address) for _ in range(8)]
        for sock in held:
            echo(sock)
        before = {worker["pid"]: worker for worker in proxy.workers() if worker["connections"]}
        proxy.must_reload()
        for pid, worker in before.items():
            want = f"aegis: worker {worker['slot']} gen 1 draining {worker['connections']}"
            wait_until(lambda pid=pid, want=want: aegis.title(pid) == want, want)
        for worker in proxy.workers():
            self.assertRegex(aegis.title(worker["pid"]), rf"^aegis: worker {worker['slot']} gen 2 ")


class Reopen(Case):
    def test_log(self):
        """USR1 after the file was moved: master and workers write the new one, and nobody the old."""
        log = self.directory / "log-file"
        proxy, address = self.proxy(free_address(), workers=1, log={"target": str(log), "level": "info"})
        wait_until(lambda: log.exists() and log.stat().st_size, "the first lines")
        old = log.rename(self.directory / "log-file.1")
        proxy.send(signal.SIGUSR1)
        wait_until(log.exists, "the new file")

        def worker_line():
            with dial(address) as sock:
                how_it_ends(sock)
            return "cannot connect" in log.read_text()

        wait_until(worker_line, "a line of a worker in the new file")
        size = old.stat().st_size
        self.assertFalse(proxy.reload("wrong = 1;"))
        self.assertIn("wrong", log.read_text())
        with dial(address) as sock:
            how_it_ends(sock)
        self.assertEqual(old.stat().st_size, size, "a line in the old file: " + old.read_text()[-500:])
        log.rename(self.directory / "log-file.2")
        self.assertEqual(proxy.command("-s", "reopen").returncode, 0)
        wait_until(log.exists, "the next new file")


class Commands(Case):
    def test_each_verb(self):
        """reload, reopen, drain, quit and stop, with their exit codes; 4 where nothing runs, 1 for what is no verb."""
        proxy, address = self.proxy(Echo(self).address)
        self.assertEqual(proxy.command("-s", "reload").returncode, 0)
        self.assertEqual(proxy.stat()["reloads"]["ok"], 1)
        good = proxy.settings
        proxy.write("wrong = 1;")
        done = proxy.command("-s", "reload")
        self.assertEqual((done.returncode, proxy.stat()["reloads"]["failed"]), (3, 1))
        self.assertTrue(done.stderr.strip())
        proxy.write(good)
        self.assertEqual(proxy.command("-s", "reload").returncode, 0)
        done = proxy.command("-s", "relod")
        self.assertEqual(done.returncode, 1)
        self.assertIn("reload", done.stderr)
        self.assertEqual(proxy.command("-s", "drain").returncode, 0)
        wait_until(lambda: refused(address), "new clients to be refused")
        self.assertEqual(proxy.command("-s", "reload").returncode, 0)
        with dial(address) as sock:
            echo(sock)
        proxy.check_gauges()
        self.assertEqual(proxy.command("-s", "stop").returncode, 0)
        self.assertEqual(proxy.wait_exit(), 0)
        for verb in ("reload", "stop", "drain", "quit", "reopen"):
            done = proxy.command("-s", verb)
            self.assertEqual(done.returncode, 4, done.stderr)
            self.assertTrue(done.stderr.strip())
        again = self.aegis(good)
        self.assertEqual(again.command("-s", "quit").returncode, 0)
        self.assertEqual(again.wait_exit(), 0)


class MasterKilled(Case):
    def test_workers_do_not_stay(self):
        """SIGKILL on the master: workers refuse, drain and go; a new master starts in the same directory, on the same port, at once."""
        server, address = Echo(self), free_address()
        first = self.aegis(aegis.app(server.address, {"address": address}, drain={"timeout": "60s"}))
        held = [self.connect(address) for _ in range(4)]
        for sock in held:
            echo(sock)
        workers = [worker["pid"] for worker in first.workers()]
        total = first.stat()["connections"]["total"]
        os.kill(first.pid, signal.SIGKILL)
        first.wait_exit()
        wait_until(lambda: refused(address), "new clients to be refused")
        for sock in held:
            echo(sock, b"served while the master is gone")
        second = self.aegis(None, directory=first.directory, config=first.config)
        second.lost = True
        fresh = self.connect(address)
        echo(fresh)
        for sock in held:
            echo(sock, b"and after a new one came")
            sock.close()
        wait_until(lambda: not any(aegis.alive(pid) for pid in workers), "the old workers to be gone")
        stat = second.wait_stat(lambda stat: stat["connections"]["active"] == 1, "the old workers' places to be free")
        self.assertEqual(stat["pid"], second.pid)
        self.assertGreaterEqual(stat["connections"]["total"], total)
        first.check_log()

    def test_counters_from_before_a_restart_of_the_machine(self):
        """What a master left that ran before the machine was started anew is not taken over: its times lie in the future, if anywhere."""
        server = Echo(self)
        first, address = self.proxy(server.address)
        first.lost = True
        with dial(address) as sock:
            echo(sock)
        os.kill(first.pid, signal.SIGKILL)
        first.wait_exit()
        wait_until(lambda: not aegis.session_members(first.pid), "the workers to be gone")
        boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        with open(first.directory / "stats", "r+b") as stats:
            header = stats.read(4096)
            self.assertEqual(header.count(boot_id), 1)
            stats.seek(header.index(boot_id))
            stats.write(b"0" * len(boot_id))
        second = self.aegis(None, directory=first.directory, config=first.config)
        second.wait_log("is from before the machine was started: all counters begin at zero")
        self.assertEqual(second.stat()["connections"]["total"], 0)
        with dial(second.address()) as sock:
            echo(sock)
        second.wait_stat(lambda stat: stat["connections"]["total"] == 1, "the new count")

    def test_drain_timeout_ends_orphans(self):
        """A client that never leaves does not keep a worker without a master for ever."""
        proxy, address = self.proxy(Echo(self).address, drain={"timeout": "1s"})
        sock = self.connect(address)
        echo(sock)
        os.kill(proxy.pid, signal.SIGKILL)
        proxy.wait_exit()
        how_it_ends(sock)
        wait_until(lambda: not aegis.session_members(proxy.pid), "the workers to be gone")


class Manager(Case):
    def test_notifications(self):
        """What systemd hears: READY, STATUS with numbers, RELOADING with a time, READY again, WATCHDOG, STOPPING."""
        proxy = self.aegis(aegis.app(Echo(self).address), environment={"WATCHDOG_USEC": "1000000"})
        address = proxy.address()
        with dial(address) as sock:
            echo(sock)
        said = proxy.notifications
        wait_until(lambda: [line for line in said.seen if re.search(r"^STATUS=.*\d", line)], "a STATUS with numbers")
        wait_until(lambda: said.seen.count("WATCHDOG=1") >= 2, "the watchdog to be fed")
        mark = said.mark()
        proxy.must_reload()
        reload = said.seen[mark:]
        at = reload.index("RELOADING=1")
        stamps = [line for line in reload[:reload.index("READY=1")] if line.startswith("MONOTONIC_USEC=")]
        self.assertEqual(len(stamps), 1, reload)
        self.assertLess(abs(int(stamps[0].partition("=")[2]) - time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000), 60e6 * aegis.SLOW)
        self.assertGreaterEqual(at, 0)
        proxy.stop()
        said.wait("STOPPING=1")


if __name__ == "__main__":
    aegis.main()
