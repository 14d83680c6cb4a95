"""What once went wrong: a test for each defect that was found in review, so that it stays away."""
import contextlib
import copy
import ctypes
import fcntl
import os
import resource
import selectors
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

import admin
import aegis
from aegis import KIB, Backend, Case, Demo, Echo, Load, bind, dial, echo, form, free_address, how_it_ends, ordinary_port, receive_line, refused, \
    wait_until

PR_CAPBSET_DROP, CAP_SETGID, CAP_SETUID = 24, 6, 7


def shell(script):
    """A wrapper that runs the program from a shell, where "$@" is the command line."""
    return "sh", "-c", script, "sh"


def with_listener(settings, name, address, upstream="app", **more):
    settings = copy.deepcopy(settings)
    settings["listeners"].append({"name": name, "address": address, "upstream": upstream, **more})
    return settings


def only_generation(proxy, number, seconds=15.0):
    return proxy.wait_stat(lambda stat: {worker["generation"] for worker in stat["workers"]} == {number}, f"only generation {number}",
                           seconds)


@contextlib.contextmanager
def stopped(*pids):
    """The processes stand still meanwhile, and hear nothing but SIGKILL."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda pid=pid: aegis.stat_fields(pid)[0] == "T", f"process {pid} to stand still")
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def may_filter():
    """Whether this user may attach a filter to a socket; the kernel lets everybody, a sandbox may not."""
    accept_all = struct.pack("HBBI", 6, 0, 0, 0xFFFFFFFF)
    program = ctypes.create_string_buffer(accept_all)
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxQ", 1, ctypes.addressof(program)))
        except OSError:
            return False
    return True



class Starts(Case):
    @unittest.skipUnless(aegis.ROOT, "needs root: only root's workers become another user")
    def test_user_cannot_be_become(self):
        """Without the capability to change the user every worker dies before it is ready: exit code 2, at once."""
        prctl = ctypes.CDLL(None, use_errno=True).prctl

        def drop():
            prctl(PR_CAPBSET_DROP, CAP_SETUID, 0, 0, 0)
            prctl(PR_CAPBSET_DROP, CAP_SETGID, 0, 0, 0)

        for _ in range(3):  # in which order the deaths are heard differs
            proxy = self.aegis(aegis.app(Echo(self).address, workers=8), ready=False, preexec_fn=drop)
            self.assertEqual(proxy.wait_exit(10), 2, proxy.log())
            proxy.check_gone()
            self.assertIn("died before it was ready", proxy.log())

    def test_closed_standard_streams(self):
        """Started with descriptors 0, 1 and 2 closed: what is logged goes nowhere, least of all to a client or a server."""
        server, noisy = Echo(self), free_address()
        settings = aegis.app(server.address, workers=1, log={"level": "debug"})
        settings["upstreams"].append({"name": "gone", "servers": [{"address": noisy}]})
        proxy = self.aegis(with_listener(settings, "noisy", "127.0.0.1:0", "gone"), wrapper=shell('exec "$@" 0<&- 1>&- 2>&-'))
        for pid in (proxy.pid, proxy.workers()[0]["pid"]):
            self.assertEqual([os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)], ["/dev/null"] * 3)
        held = [self.connect(proxy.address()) for _ in range(5)]
        for sock in held:
            echo(sock)
        for number in range(1, 4):
            with dial(proxy.address("noisy")) as sock:
                how_it_ends(sock)
            proxy.wait_closes("connect_refused", number, "noisy")  # the worker has told of it
            proxy.send(signal.SIGUSR1)  # the master tells of it
            proxy.must_reload()
            for sock in held:
                echo(sock, b"and nothing else")
        self.assertEqual(server.received, 5 * len(b"hello aegis") + 3 * 5 * len(b"and nothing else"))
        self.assertEqual((proxy.directory / "aegis.pid").read_text().strip(), str(proxy.pid))

    def test_ignored_signals(self):
        """Started with SIGCHLD and SIGHUP ignored, as by nohup: a dead worker is seen and replaced, HUP reloads, TERM ends it."""
        proxy = self.aegis(aegis.app(Echo(self).address), wrapper=shell("trap '' CHLD HUP; exec \"$@\""))
        ignored = int(next(line.split()[1] for line in aegis.proc(proxy.pid, "status").splitlines() if line.startswith("SigIgn")), 16)
        self.assertFalse(ignored & 1 << signal.SIGCHLD - 1, "SIGCHLD is still ignored")
        proxy.lost, proxy.restarts = True, 1
        victim = proxy.workers()[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        proxy.wait_stat(lambda stat: len(stat["workers"]) == 2 and victim not in {worker["pid"] for worker in stat["workers"]} and
                        all(worker["state"] == "running" for worker in stat["workers"]), "another worker")
        proxy.must_reload()
        with dial(proxy.address()) as sock:
            echo(sock)
        proxy.stop()

    def test_full_stdout(self):
        """Quick mode, and nobody reads the live lines: the pipe is full, and reloads and the stop take place all the same."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        fcntl.fcntl(writer, fcntl.F_SETFL, 0)
        address = free_address()
        proxy = self.aegis(None, address, Echo(self).address, wrapper=shell('program=$1; shift 3; exec "$program" "$@"'),
                           preexec_fn=lambda: os.dup2(writer, 1))
        os.close(writer)
        with dial(address) as held:
            for number in range(3):  # each ends with a live line
                proxy.must_reload()
                echo(held, b"after reload %d" % number)
        proxy.stop()


class Listeners(Case):
    def test_full_listener_starves_no_other(self):
        """While one listener with on_full = "wait" is full, another one of the same worker serves as ever."""
        settings = aegis.app(Echo(self).address, {"max_connections": 1, "on_full": "wait"}, workers=1)
        proxy = self.aegis(with_listener(settings, "other", "127.0.0.1:0"))
        held = self.connect(proxy.address())
        echo(held)
        waiting = self.connect(proxy.address(), later=True)
        waiting.sendall(b"hello")
        proxy.wait_stat(lambda stat: stat["workers"][0]["accept_pauses"] > 0, "the full listener to pause")
        other, took = proxy.address("other"), []
        for _ in range(10):
            started = time.monotonic()
            for _ in range(20):
                with dial(other) as sock:
                    echo(sock)
            took.append(time.monotonic() - started)
        self.assertLess(min(took), 0.5 * aegis.SLOW, took)  # a busy machine may hold up some of them
        self.assertEqual(proxy.listener()["active"], 1)
        held.close()
        self.assertEqual(aegis.receive(waiting, 5), b"hello")

    def test_inherited_descriptor(self):
        """fd:N lives through reloads that fail, give it up and take it back; nobody else's socket gets its number meanwhile."""
        passed, taken = bind(), bind()
        self.addCleanup(passed.close)
        self.addCleanup(taken.close)
        settings = aegis.app(Echo(self, banner=b"app\n").address)
        for name in ("passed", "fresh"):
            settings["upstreams"].append({"name": name, "servers": [{"address": Echo(self, banner=name.encode() + b"\n").address}]})
        inherited = with_listener(settings, "passed", f"fd:{passed.fileno()}", "passed")
        proxy = self.aegis(settings, pass_fds=(passed.fileno(),))
        addresses = {"app": proxy.address(), "passed": form(passed)}

        def serve(*names):
            for name in names:
                for _ in range(4):
                    with dial(addresses[name]) as sock:
                        self.assertEqual(receive_line(sock), name + "\n")

        self.assertFalse(proxy.reload(with_listener(inherited, "taken", form(taken))))
        proxy.must_reload(inherited)
        serve("app", "passed")
        proxy.must_reload(settings)
        only_generation(proxy, proxy.stat()["generation"])
        fresh = with_listener(settings, "fresh", "127.0.0.1:0", "fresh")
        proxy.must_reload(fresh)
        addresses["fresh"] = proxy.address("fresh")
        serve("app", "fresh")
        both = with_listener(fresh, "passed", f"fd:{passed.fileno()}", "passed")
        self.assertFalse(proxy.reload(with_listener(both, "taken", form(taken))))
        for _ in range(2):
            proxy.must_reload(both)
            serve("app", "fresh", "passed")
            proxy.must_reload(fresh)
            only_generation(proxy, proxy.stat()["generation"])
        proxy.must_reload(both)
        serve("app", "fresh", "passed")

    def test_other_spellings_of_an_address(self):
        """From one address to another one that holds the same port, and back: taken over, and no client notices."""
        if not may_filter():
            self.skipTest("sockets may not have filters here (SO_ATTACH_FILTER)")
        demo = Demo(self, "echo")
        for first, second in ((":{}", "*:{}"), ("127.0.0.1:{}", "0.0.0.0:{}"), ("127.0.0.1:{}", "*:{}")):
            with self.subTest(first=first, second=second):
                port = ordinary_port()
                proxy = self.aegis(aegis.app(demo["echo"], {"address": first.format(port)}, drain={"timeout": "0s"}))
                load = Load(self, f"127.0.0.1:{port}")
                load.wait_more()
                for number in range(6):
                    settings = copy.deepcopy(proxy.settings)
                    settings["listeners"][0]["address"] = (first if number % 2 else second).format(port)
                    proxy.must_reload(settings)
                    load.wait_more(10)
                self.assertEqual(load.failures, [])
                load.stop()
                proxy.stop()

    def test_rename_200(self):
        """All of 200 listeners get another name in one reload."""
        with contextlib.ExitStack() as stack:
            addresses = [form(stack.enter_context(bind(f"{aegis.OWN_ADDRESS}:0"))) for _ in range(200)]
        settings = aegis.app(Echo(self).address, workers=1)

        def named(letter):
            return {**settings, "listeners": [{"name": f"{letter}{number}", "address": address, "upstream": "app"}
                                              for number, address in enumerate(addresses)]}

        proxy = self.aegis(named("a"))
        for letter in "bca":
            proxy.must_reload(named(letter))
            self.assertEqual({row["name"]: row["address"] for row in proxy.stat()["listeners"]},
                             {f"{letter}{number}": address for number, address in enumerate(addresses)})
            for number in (0, 77, 199):
                with dial(addresses[number]) as sock:
                    echo(sock)
                self.assertGreaterEqual(proxy.listener(f"{letter}{number}")["total"], 1)

    def test_queued_on_a_removed_listener(self):
        """Clients that wait in the queue of a listener when it is removed are served or reset: none is left hanging."""
        settings = aegis.app(Echo(self).address, workers=1)
        proxy = self.aegis(with_listener(settings, "more", "127.0.0.1:0"))
        address = proxy.address("more")
        with stopped(proxy.workers()[0]["pid"]):
            queued = [self.connect(address, later=True) for _ in range(30)]
            for sock in queued:
                sock.sendall(b"hello")
            proxy.must_reload(settings)
        served = 0
        for sock in queued:
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(aegis.receive(sock, 5), b"hello")
                served += 1
            sock.close()
        self.assertGreater(served, 0)
        wait_until(lambda: refused(address), "the port of the removed listener to refuse")

    def test_removed_while_another_generation_drains(self):
        """A removed listener's port refuses, although an older generation, which never had it, is still draining."""
        settings = aegis.app(Echo(self).address, drain={"timeout": "0s"})
        proxy = self.aegis(settings)
        held = self.connect(proxy.address())
        echo(held)
        proxy.must_reload(with_listener(settings, "more", "127.0.0.1:0"))
        address = proxy.address("more")
        with dial(address) as sock:
            echo(sock)
        proxy.must_reload(settings)
        wait_until(lambda: refused(address), "the port of the removed listener to refuse", 5)
        echo(held)
        self.assertIn(1, {worker["generation"] for worker in proxy.stat()["workers"]})


class Workers(Case):
    def keeps_dying(self):
        """Aegis with one client, and one worker that waits for its next try: (Aegis, address, client)."""
        proxy, address = self.proxy(Echo(self).address, drain={"timeout": "0s"})
        proxy.lost, proxy.restarts = True, None
        held = self.connect(address)
        echo(held)
        slot = next(worker["slot"] for worker in proxy.workers() if not worker["connections"])
        killed = set()

        def victim():
            found = [worker["pid"] for worker in proxy.workers() if worker["slot"] == slot and worker["state"] == "running"]
            return next((pid for pid in found if pid and pid not in killed), None)

        for _ in range(5):
            pid = wait_until(victim, "the next worker to kill")
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        proxy.wait_log("the next try in 800 ms")
        return proxy, address, held

    def refuses(self, address):
        wait_until(lambda: refused(address), "new clients to be refused")
        for _ in range(20):
            self.assertTrue(refused(address), "a socket of the dead worker still takes clients")

    def test_dead_worker_drain(self):
        """WINCH while a worker that keeps dying is away: its socket refuses too, and the drain comes to its end."""
        proxy, address, held = self.keeps_dying()
        proxy.send(signal.SIGWINCH)
        self.refuses(address)
        self.assertEqual(proxy.stat()["state"], "draining")
        echo(held, b"served while draining")
        held.close()
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "the end of the drain")
        self.refuses(address)
        proxy.must_reload()
        self.serves_anew(proxy, address)

    def test_revived_sockets(self):
        """After a drain and its revival each socket serves as before, also a client that says nothing at first."""
        proxy, address = self.proxy(Echo(self).address)
        for _ in range(3):
            proxy.send(signal.SIGWINCH)
            proxy.wait_stat(lambda stat: stat["state"] == "drained", "the end of the drain")
            proxy.must_reload()
            self.serves_anew(proxy, address)

    def serves_anew(self, proxy, address):
        before = proxy.stat()["connections"]["total"]
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(dial(address)) for _ in range(16)]
            proxy.wait_stat(lambda stat: stat["connections"]["total"] == before + 16, "all to be accepted")
            for sock in socks:
                echo(sock)
            self.assertEqual(proxy.stat()["connections"]["active"], 16)
        proxy.check_gauges()

    def test_dead_worker_stop(self):
        """The same for TERM."""
        proxy, address, held = self.keeps_dying()
        proxy.send(signal.SIGTERM)
        self.refuses(address)
        echo(held, b"served while stopping")
        held.close()
        self.assertEqual(proxy.wait_exit(), 0)
        proxy.check_gone()

    def test_hung_worker_after_a_reload(self):
        """Old workers that hang are killed some seconds after drain.timeout, and what they held back is over: a removed port too."""
        settings = aegis.app(Echo(self).address, drain={"timeout": "1s"})
        proxy = self.aegis(with_listener(settings, "more", "127.0.0.1:0"))
        proxy.lost = True
        address = proxy.address("more")
        held = [self.connect(proxy.address()) for _ in range(4)]
        for sock in held:
            echo(sock)
        with stopped(*[worker["pid"] for worker in proxy.workers()]):
            started = time.monotonic()
            proxy.must_reload(settings)
            with dial(proxy.address()) as sock:
                echo(sock)
            only_generation(proxy, 2, 12)
            self.assertGreater(time.monotonic() - started, 1.0, "drain.timeout")
        wait_until(lambda: refused(address), "the port of the removed listener to refuse", 5)
        for sock in held:
            self.assertEqual(how_it_ends(sock)[1], b"")

    def test_hung_worker_and_many_terms(self):
        """TERM over and over does not put off the end of a worker that hangs."""
        proxy, address = self.proxy(Echo(self).address, workers=1)
        sock = self.connect(address)
        echo(sock)
        with stopped(proxy.workers()[0]["pid"]):
            started = time.monotonic()
            while not proxy.gone() and time.monotonic() - started < 15 * aegis.SLOW:
                proxy.send(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    proxy.process.wait(0.3)
        self.assertEqual(proxy.wait_exit(1), 0)
        self.assertLess(time.monotonic() - started, 5 * aegis.SLOW)
        proxy.check_gone()

    def test_no_descriptor_for_the_new_log(self):
        """A control process without a descriptor for the new log file goes on, and does not take that for the master's end."""
        log = self.directory / "log-file"
        same_user = {"user": "root"} if aegis.ROOT else {}  # whose limits may be set from here
        proxy, address = self.proxy(Echo(self).address, workers=1, log={"target": str(log)}, **same_user)
        held = [self.connect(address) for _ in range(3)]
        for sock in held:
            echo(sock)
        pid = proxy.control_pid()
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
        first_free = next(number for number in range(len(used) + 1) if number not in used)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free, limits[1]))
        log.rename(self.directory / "log-file.1")
        proxy.send(signal.SIGUSR1)
        wait_until(lambda: "cannot take what the master sent" in log.read_text() + (self.directory / "log-file.1").read_text()
                   if log.exists() else False, "the control process to complain")
        for sock in held:
            echo(sock, b"as if nothing had happened")
            sock.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        with dial(address) as sock:
            echo(sock)
        self.assertEqual(proxy.control_pid(), pid)


class Reloads(Case):
    def slow(self):
        """Aegis whose reloads take a while, as one server does not answer the start test: the Aegis, once it runs."""
        silent = bind(backlog=0)
        self.addCleanup(silent.close)
        for _ in range(3):  # its queue is full: further clients hear nothing
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.connect_ex(silent.getsockname())
        upstream = {"start_test": "warn", "timeout": {"connect": f"{round(1500 * aegis.SLOW)}ms"}}
        proxy, _ = self.proxy([Echo(self).address, form(silent)], upstream=upstream)
        return proxy

    def begin(self, proxy):
        proxy.send(signal.SIGHUP)
        proxy.wait_stat(lambda stat: stat["state"] == "reloading", "a reload to be under way")

    def test_answer_is_for_what_was_asked(self):
        """aegis -s reload while another reload is under way answers for its own file, not for the other one's."""
        proxy = self.slow()
        good = proxy.settings
        for bad in ("wrong = 1;", with_listener(good, "taken", form(self.taken()))):
            self.begin(proxy)
            proxy.write(bad)
            done = proxy.command("-s", "reload")
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertTrue(done.stderr.strip())
            proxy.write(good)
        # The other way round: the one under way is refused at its end, the one that is asked for is good.
        proxy.write(with_listener(good, "taken", form(self.taken())))
        self.begin(proxy)
        proxy.write(good)
        done = proxy.command("-s", "reload")
        self.assertEqual(done.returncode, 0, done.stderr)
        reloads = proxy.stat()["reloads"]
        self.assertEqual((reloads["ok"], reloads["failed"], reloads["last_ok"]), (3, 3, True))

    def taken(self):
        sock = bind()
        self.addCleanup(sock.close)
        return sock

    def test_drain_after_two_reloads(self):
        """HUP HUP WINCH: what was asked for last is what comes, and the second reload is not made up for afterwards."""
        proxy = self.slow()
        address = proxy.address()
        self.begin(proxy)
        proxy.send(signal.SIGHUP)
        proxy.wait_log("another one follows it")
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "the end of the drain")
        self.assertTrue(refused(address))
        self.assertEqual(proxy.log().count("reloading "), 1, "the second reload was begun")
        proxy.must_reload()
        with dial(proxy.address()) as sock:
            echo(sock)

    def test_reload_overtaken_by_a_drain(self):
        """The settings were not refused: something else came in between."""
        admin.need()
        proxy = self.slow()
        answers = []
        asker = threading.Thread(target=lambda: answers.append(admin.post(proxy.directory, "/reload")))
        asker.start()
        proxy.wait_stat(lambda stat: stat["state"] == "reloading", "a reload to be under way")
        self.assertEqual(admin.post(proxy.directory, "/drain").status, 200)
        asker.join()
        self.assertEqual(answers[0].status, 409, answers[0])
        self.assertIn("a drain was asked for", answers[0].json["error"])

    def test_more_generations_than_there_is_room_for(self):
        """drain.max_generations raised by a reload takes effect at the next start: told, and reloads go on to work meanwhile."""
        proxy, address = self.proxy(Echo(self).address, workers=16, drain={"timeout": "0s", "max_generations": 1})
        settings = copy.deepcopy(proxy.settings)
        settings["drain"]["max_generations"] = 16
        held = []
        for number in range(6):
            batch = [self.connect(address) for _ in range(80)]
            for sock in batch:
                echo(sock)
            held.append(batch)
            proxy.must_reload(settings)
            if number == 0:
                self.assertIn("drain.max_generations = 16: this instance has room for 1", proxy.log())
        for sock in held[-1]:
            echo(sock, b"the last old generation lives on")
        for sock in held[0]:
            self.assertEqual(how_it_ends(sock)[1], b"")


class Drains(Case):
    def test_timeout_in_the_middle(self):
        """At drain.timeout a transfer is cut with a reset, so that nobody takes a part for the whole; an idle client sees a clean end."""
        full = threading.Event()

        def serve(sock):
            if sock.recv(1) == b"i":
                sock.sendall(b"i")
                how_it_ends(sock)
                return
            sock.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                while True:
                    sock.send(b"z" * 64 * KIB)
            full.set()
            sock.settimeout(60 * aegis.SLOW)
            how_it_ends(sock)

        for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number.name):
                full.clear()
                proxy, address = self.proxy(Backend(self, serve).address, drain={"timeout": "600ms"})
                idle = self.connect(address)
                echo(idle, b"i")
                busy = self.connect(address, receive_buffer=16 * KIB)
                busy.sendall(b"b")
                self.assertTrue(full.wait(20 * aegis.SLOW))
                proxy.send(number)
                self.assertEqual(how_it_ends(idle), ("eof", b""))
                if number == signal.SIGTERM:
                    self.assertEqual(proxy.wait_exit(), 0)
                else:
                    proxy.wait_closes("drain_timeout", 2)
                self.assertEqual(how_it_ends(busy)[0], "reset")

    def test_half_closed(self):
        """Connections that were closed from one side, and stay so, are ended by drain.timeout like all others."""
        over = threading.Event()

        def serve(sock):
            kind = sock.recv(1)
            if kind == b"s":
                sock.shutdown(socket.SHUT_WR)
            else:
                sock.sendall(kind)
                self.assertEqual(sock.recv(1), b"")  # the client's end of file
            over.wait(60 * aegis.SLOW)

        server = Backend(self, serve)
        self.addCleanup(over.set)
        proxy, address = self.proxy(server.address, drain={"timeout": "600ms"})
        by_client, by_server = ([self.connect(address) for _ in range(6)] for _ in range(2))
        for sock in by_client:
            echo(sock, b"c")
            sock.shutdown(socket.SHUT_WR)
        for sock in by_server:
            sock.sendall(b"s")
            self.assertEqual(sock.recv(1), b"")
        self.assertEqual(proxy.stat()["connections"]["active"], 12)
        proxy.must_reload()
        for sock in by_client:
            self.assertEqual(how_it_ends(sock), ("eof", b""))
        proxy.wait_closes("drain_timeout", 12)
        proxy.check_gauges()
        only_generation(proxy, 2)
        self.assertEqual(proxy.listener()["errors"], 0)

    def test_pace_of_all_workers(self):
        """drain.pace is for all workers together, not for each."""
        proxy, address = self.proxy(Echo(self).address, workers=4, drain={"timeout": "0s", "pace": 20})
        held = [self.connect(address) for _ in range(60)]
        for sock in held:
            echo(sock)
        ends = []
        with selectors.DefaultSelector() as selector:
            for sock in held:
                selector.register(sock, selectors.EVENT_READ)
            proxy.send(signal.SIGWINCH)
            while len(ends) < 40:
                ready = selector.select(20 * aegis.SLOW)
                self.assertTrue(ready, f"no more closes after {len(ends)}")
                for key, _ in ready:
                    self.assertEqual(key.fileobj.recv(1), b"")
                    selector.unregister(key.fileobj)
                    ends.append(time.monotonic())
        self.assertGreater(ends[-1] - ends[0], 1.0, "40 closes at 20/s: with a pace for each worker it is half a second")


if __name__ == "__main__":
    aegis.main()
