"""The sockets of UDP listeners: who has them, from when on they are sent datagrams, and what becomes of them over reloads, stops and revivals.
"""
import contextlib
import os
import pathlib
import re
import signal
import socket
import sys
import threading

import aegis
from aegis import OWN_ADDRESS, SLOW, Case, Task, app, form, libconfig, session_members, wait_until
from datagrams import DatagramClient, DatagramServer, datagram_app, nonce


OWN = socket.inet_aton(OWN_ADDRESS)[::-1].hex().upper()  # as the kernel's tables have it


def port_of(address):
    return int(address.rpartition(":")[2])


def held(pid):
    """The inodes of the sockets that a process has."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path))
                if link:
                    found.add(int(link[1]))
    return found


def bound(proxy, port):
    """What Aegis has bound to a UDP port: inodes by local address, as the kernel's tables have it. Others may have the port elsewhere.
    A table that is read while sockets of others come and go may miss one: hence more than once."""
    own, found = set().union(*map(held, session_members(proxy.pid))), {}
    for name in ("udp", "udp6") * 3:
        with contextlib.suppress(FileNotFoundError):
            for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, number = fields[1].rpartition(":")
                if int(number, 16) == port and int(fields[9]) in own:
                    found.setdefault(address, set()).add(int(fields[9]))
    return found


def inodes(proxy, port):
    return set().union(*bound(proxy, port).values())


def is_refused(address, seconds=0.2):
    """Does a datagram to that address come back as ICMP port unreachable, within so many seconds?"""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, int(port)))
        sock.settimeout(seconds)
        try:
            sock.send(b"?")
            sock.recv(100)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
        return False


def must_be_refused(address):
    """The first datagram, however long a busy kernel takes to say so."""
    if not is_refused(address, 20 * SLOW):
        raise AssertionError(f"somebody has {address}")


def udp(**listener):
    return {"protocol": "udp", **listener}


class Sockets(Case):
    def settings(self, workers=2, listeners=None, **listener):
        settings = app(f"{OWN_ADDRESS}:9", listener=udp(**{"address": f"{OWN_ADDRESS}:0", **listener}), workers=workers)
        settings["listeners"] += listeners or []
        return settings

    def start(self, **options):
        proxy = self.aegis(self.settings(**options))
        return proxy, port_of(proxy.address())

    def test_one_for_each_worker_and_none_is_given_up(self):
        proxy, port = self.start()
        two = inodes(proxy, port)
        self.assertEqual(len(two), 2)
        proxy.must_reload(self.settings(workers=3))
        three = inodes(proxy, port)
        self.assertEqual(len(three), 3)
        self.assertLess(two, three)
        proxy.must_reload(self.settings(workers=1))
        self.assertEqual(inodes(proxy, port), three, "a socket that may hold datagrams was closed")
        proxy.must_reload(self.settings(workers=4))
        self.assertEqual(len(inodes(proxy, port)), 4)
        proxy.stop()
        must_be_refused(f"{OWN_ADDRESS}:{port}")

    def test_each_worker_has_its_own(self):
        proxy, port = self.start(workers=3)
        shares = [held(row["pid"]) & inodes(proxy, port) for row in proxy.workers()]
        self.assertEqual([len(share) for share in shares], [1, 1, 1])
        self.assertEqual(set().union(*shares), inodes(proxy, port))

    def test_the_same_port_for_both_protocols(self):
        proxy, port = self.start()
        address = f"{OWN_ADDRESS}:{port}"
        proxy.must_reload(self.settings(address=address, listeners=[{"address": address, "upstream": "app"}]))
        self.assertEqual({row["name"]: row["address"] for row in proxy.stat()["listeners"]}, {"app": address, address: address})
        socket.create_connection((OWN_ADDRESS, port)).close()
        self.assertEqual(len(inodes(proxy, port)), 2)
        proxy.lost = True

    def test_a_name_of_its_own_by_default(self):
        settings = self.settings()
        del settings["listeners"][0]["name"]
        proxy = self.aegis(settings)
        self.assertEqual([row["name"] for row in proxy.stat()["listeners"]], [f"{OWN_ADDRESS}:0/udp"])

    def test_a_busy_port_is_told_with_who_has_it(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((OWN_ADDRESS, 0))
            address = form(other)
            proxy = self.aegis(self.settings(address=address), ready=False)
            self.assertEqual(proxy.wait_exit(), 2)
            self.assertIn(f"cannot listen on {address}: ", proxy.log())
            self.assertIn(f"(pid {os.getpid()})", proxy.log())

    def test_sharing_does_not_let_others_in(self):
        """SO_REUSEPORT is for our own, and SO_REUSEADDR would be for all."""
        proxy, port = self.start()
        for option in (socket.SO_REUSEADDR, 0):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                if option:
                    other.setsockopt(socket.SOL_SOCKET, option, 1)
                with self.assertRaises(OSError):
                    other.bind((OWN_ADDRESS, port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind((OWN_ADDRESS, 0))
            address = form(other)
            self.assertFalse(proxy.reload(self.settings(listeners=[{**udp(), "name": "new", "address": address, "upstream": "app"}])))
            self.assertEqual(inodes(proxy, port_of(address)), set())

    def test_a_reload_that_fails_takes_back_all(self):
        proxy, port = self.start()
        before = inodes(proxy, port)
        free = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        free.bind((OWN_ADDRESS, 0))
        new = form(free)
        free.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((OWN_ADDRESS, 0))
            busy = form(other)
            rows = [{**udp(), "name": name, "address": address, "upstream": "app"} for name, address in (("new", new), ("busy", busy))]
            self.assertFalse(proxy.reload(self.settings(workers=4, listeners=rows)))
        self.assertEqual(inodes(proxy, port), before)
        self.assertEqual(inodes(proxy, port_of(new)), set())
        must_be_refused(new)

    def test_a_listener_that_left_is_refused(self):
        proxy, port = self.start()
        settings = self.settings()
        settings["listeners"][0].update(name="other")
        proxy.must_reload(settings)
        wait_until(lambda: is_refused(f"{OWN_ADDRESS}:{port}"), "a refusal")
        self.assertEqual(inodes(proxy, port), set())

    def test_another_address_with_the_same_port(self):
        """It takes over at once, be it wider or narrower: a socket of the former one would get what is its."""
        proxy, port = self.start()
        for address, wanted in ((f"0.0.0.0:{port}", "00000000"), (f"{OWN_ADDRESS}:{port}", OWN), (f":{port}", "0" * 32)):
            proxy.must_reload(self.settings(address=address))
            wait_until(lambda: set(bound(proxy, port)) == {wanted}, lambda: f"nothing but {wanted}; there is: {bound(proxy, port)}")
            self.assertEqual(len(inodes(proxy, port)), 2)

    def test_two_addresses_on_one_port(self):
        proxy, port = self.start()
        both = [{**udp(), "name": "all", "address": f"0.0.0.0:{port}", "upstream": "app"}]
        proxy.must_reload(self.settings(address=f"{OWN_ADDRESS}:{port}", listeners=both))
        # port 0 and the port written out are two addresses, so the sockets are new
        wait_until(lambda: {name: len(found) for name, found in bound(proxy, port).items()} == {OWN: 2, "00000000": 2},
                   lambda: f"two sockets each; there are: {bound(proxy, port)}")
        kept = bound(proxy, port)
        proxy.must_reload(self.settings(address=f"{OWN_ADDRESS}:{port}", listeners=both))
        self.assertEqual(bound(proxy, port), kept)

    def test_a_reload_does_not_wait_for_a_worker_that_stands_still(self):
        proxy, port = self.start()
        pid = proxy.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            proxy.must_reload(self.settings(workers=3))
            self.assertEqual(len(inodes(proxy, port)), 3)
        finally:
            os.kill(pid, signal.SIGCONT)

    def test_a_killed_worker_leaves_its_socket(self):
        proxy, port = self.start()
        before = inodes(proxy, port)
        os.kill(proxy.workers()[1]["pid"], signal.SIGKILL)
        proxy.restarts = 1
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == 1 and len(proxy.workers()) == 2, "the worker is replaced")
        self.assertEqual(inodes(proxy, port), before)

    def test_drained_it_refuses_and_revives_on_the_same_port(self):
        proxy, port = self.start()
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "drained", "drained")
        wait_until(lambda: is_refused(f"{OWN_ADDRESS}:{port}"), "a refusal")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((OWN_ADDRESS, port))
            self.assertFalse(proxy.reload())
            self.assertEqual(proxy.stat()["state"], "drained")
        proxy.must_reload(self.settings(workers=3))
        self.assertEqual(len(inodes(proxy, port)), 3)
        self.assertEqual(proxy.address(), f"{OWN_ADDRESS}:{port}")

    def test_handed_over(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((OWN_ADDRESS, 0))
            port, before = sock.getsockname()[1], {os.fstat(sock.fileno()).st_ino}
            settings = self.settings(address=f"fd:{sock.fileno()}")
            proxy = self.aegis(settings, pass_fds=[sock.fileno()])
            self.assertEqual(proxy.address(), f"{OWN_ADDRESS}:{port}")
            proxy.must_reload(self.settings(address=f"fd:{sock.fileno()}", workers=3))
            proxy.send(signal.SIGWINCH)
            proxy.wait_stat(lambda stat: stat["state"] == "drained", "drained")
            self.assertEqual(inodes(proxy, port), before)
            self.assertFalse(is_refused(f"{OWN_ADDRESS}:{port}"), "it is not ours to close")
            proxy.must_reload(settings)
            proxy.stop()

    def test_what_is_handed_over_must_be_udp(self):
        for kind, listener, wanted in ((socket.SOCK_STREAM, udp(), "is not a UDP socket"), (socket.SOCK_DGRAM, {}, "is not a stream socket")):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.bind((OWN_ADDRESS, 0))
                settings = app(f"{OWN_ADDRESS}:9", listener={**listener, "address": f"fd:{sock.fileno()}"})
                proxy = self.aegis(settings, pass_fds=[sock.fileno()], ready=False)
                self.assertEqual(proxy.wait_exit(), 2)
                self.assertIn(wanted, proxy.log())

    def test_the_plan_knows_of_them(self):
        proxy, port = self.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((OWN_ADDRESS, 0))
            busy = form(other)
            before = inodes(proxy, port)
            proxy.write(self.settings(listeners=[{**udp(), "name": "busy", "address": busy, "upstream": "app"},
                                                 {**udp(), "name": "wide", "address": f"0.0.0.0:{port}", "upstream": "app"},
                                                 {"name": "tcp", "address": busy, "upstream": "app"}]))
            done = proxy.command("-p")
            self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
            self.assertIn(f"listeners.busy.address: cannot listen on {busy}: ", done.stdout + done.stderr)
            self.assertIn(f"(pid {os.getpid()})", done.stdout + done.stderr)
            self.assertNotIn("listeners.tcp.address", done.stdout + done.stderr)
            self.assertNotIn("listeners.wide.address: cannot", done.stdout + done.stderr)
            self.assertEqual(inodes(proxy, port), before)


class Sessions(Case):
    """What clients notice of it."""

    def settings(self, workers=2, udp=None, listener=None, **more):
        return datagram_app(self.server.address, {"idle": "30s", **(udp or {})}, {"address": f"{OWN_ADDRESS}:0", **(listener or {})},
                            workers=workers, drain={"timeout": "20s"}, **more)

    def setUp(self):
        super().setUp()
        self.server = DatagramServer(self, address=f"{OWN_ADDRESS}:0")

    def start(self, **options):
        proxy = self.aegis(self.settings(**options))
        return proxy, proxy.address()

    def client(self, address):
        return DatagramClient(self, address)

    def finish(self, proxy):
        """End with sessions that go on: the second signal ends them."""
        proxy.send(signal.SIGTERM)
        proxy.notifications.wait("STOPPING=1")
        proxy.send(signal.SIGTERM)
        self.assertEqual(proxy.wait_exit(), 0)
        proxy.check_gone()
        proxy.check_log()

    def test_what_comes_before_the_workers_are_ready_is_served(self):
        """A socket at a new address is bound early, and read as soon as somebody can."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind((OWN_ADDRESS, 0))
            address = form(free)
        client = self.client(address)
        proxy = self.aegis(self.settings(listener={"address": address}, udp={"idle": "1s"}), ready=False)
        sent = []

        def bound_at_last():
            with contextlib.suppress(ConnectionRefusedError):
                sent.append(nonce())
                client.send(sent[-1])
            return bool(bound(proxy, port_of(address)))
        wait_until(bound_at_last, "the socket to be bound")
        last = nonce()
        with contextlib.suppress(ConnectionRefusedError):  # of one before
            client.send(nonce())
        client.send(last)
        proxy.wait_ready()
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                if client.receive() == last:
                    break

    def test_workers_come_and_go_and_nothing_is_lost(self):
        """Each answer ends a session, so that the next datagram is anybody's: whichever worker it comes to, one answers."""
        proxy, address = self.start(udp={"responses": 1, "requests": 1})
        clients = [self.client(address) for _ in range(40)]
        stop = threading.Event()

        def ask(client):
            count = 0
            while not stop.is_set():
                client.ask()
                count += 1
            return count
        tasks = [Task(ask, client) for client in clients]
        for workers in (4, 1, 3, 3, 2, 6, 1) * 3:
            proxy.must_reload(self.settings(workers=workers, udp={"responses": 1, "requests": 1}))
        stop.set()
        asked = sum(task.result() for task in tasks)
        self.assertEqual(len(self.server.data), asked)
        row = proxy.listener()
        self.assertEqual(row["closes"]["answered"], asked, row["closes"])

    def test_what_waits_for_a_worker_that_is_gone_is_read_by_the_others(self):
        """Datagrams in the socket of a slot when there are fewer workers."""
        proxy, address = self.start(workers=3, udp={"responses": 1})
        pids = [row["pid"] for row in proxy.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        clients = [self.client(address) for _ in range(30)]
        sent = [nonce() for _ in clients]
        for client, data in zip(clients, sent):
            client.send(data)
        proxy.must_reload(self.settings(workers=1, udp={"responses": 1}))
        for client, data in zip(clients, sent):
            self.assertEqual(client.receive(), data)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def test_a_listener_that_left_goes_on_for_its_sessions(self):
        proxy, address = self.start()
        old = [self.client(address) for _ in range(8)]
        for client in old:
            client.ask()
        other = self.settings(listener={"name": "other"})
        proxy.must_reload(other)
        for client in old * 2:
            client.ask()
        new = self.client(address)
        new.send(b"too late")
        self.assertIsNone(new.gets(0.2))
        self.assertNotIn(b"too late", self.server.data)
        # over the next reload, too: the older generation is the one that has it
        proxy.must_reload(other)
        for client in old:
            client.ask()
        self.assertEqual(len(self.server.peers), len(old), "a session was lost on the way")
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "draining", "draining")
        for client in old:
            client.ask()
        self.finish(proxy)

    def test_a_listener_that_left_comes_back(self):
        proxy, address = self.start(listener={"address": self.fixed()})
        client = self.client(address)
        client.ask()
        proxy.must_reload(self.settings(listener={"name": "other"}))
        client.ask()
        proxy.must_reload(self.settings(listener={"address": address}))
        client.ask()
        self.client(address).ask()
        self.finish(proxy)

    def fixed(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind((OWN_ADDRESS, 0))
            return form(free)

    def test_another_address_takes_over_at_once(self):
        proxy, address = self.start(listener={"address": self.fixed()})
        client = self.client(address)
        client.ask()
        proxy.must_reload(self.settings(listener={"address": f"0.0.0.0:{port_of(address)}", "name": "wide"}))
        client.ask()
        self.assertEqual(len(self.server.peers), 2)
        self.assertEqual(proxy.listener("wide")["total"], 1)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 1, "the session of the former listener to end")
        self.finish(proxy)

    def test_sessions_of_a_killed_worker_are_gone(self):
        proxy, address = self.start(workers=1)
        clients = [self.client(address) for _ in range(5)]
        for client in clients:
            client.ask()
        self.assertEqual(proxy.stat()["udp"]["sessions"], 5)
        os.kill(proxy.workers()[0]["pid"], signal.SIGKILL)
        proxy.restarts = 1
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == 1 and stat["connections"]["active"] == 0, "a worker in its place")
        self.assertEqual(proxy.stat()["udp"]["sessions"], 0)
        for client in clients:  # what it sends begins a session with the new one
            client.ask()
        self.assertEqual(len(self.server.peers), 10)
        self.finish(proxy)

    def test_a_stop_lets_sessions_end(self):
        proxy, address = self.start(udp={"idle": f"{round(3 * SLOW)}s"})
        client, new = self.client(address), self.client(address)
        client.ask()
        done = threading.Event()
        self.addCleanup(done.set)

        def go_on():
            """However long anything else takes, its session is not idle."""
            while not done.wait(0.05):
                client.ask()
        task = Task(go_on)
        proxy.send(signal.SIGTERM)
        proxy.notifications.wait("STOPPING=1")
        stat = proxy.wait_stat(lambda stat: all(worker["state"] == "draining" for worker in stat["workers"]), "the workers to drain")
        self.assertTrue(stat["workers"], "the one with the session is there")
        new.send(b"too late")
        self.assertIsNone(new.gets(0.2), proxy.stat())
        done.set()
        task.result()
        client.ask()
        self.assertEqual(proxy.wait_exit(), 0)
        self.assertNotIn(b"too late", self.server.data)
        proxy.check_gone()
        must_be_refused(address)

    def test_what_waits_when_the_stop_comes_is_served(self):
        proxy, address = self.start(workers=1, udp={"responses": 1})
        pid = proxy.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        clients = [self.client(address) for _ in range(100)]
        sent = [nonce() for _ in clients]
        for client, data in zip(clients, sent):
            client.send(data)
        proxy.send(signal.SIGTERM)
        proxy.notifications.wait("STOPPING=1")
        os.kill(pid, signal.SIGCONT)
        for client, data in zip(clients, sent):
            self.assertEqual(client.receive(), data)
        self.assertEqual(proxy.wait_exit(), 0)

    def test_a_drain_is_revived_while_sessions_last(self):
        """The new generation reads, and who drains does no more."""
        proxy, address = self.start()
        clients = [self.client(address) for _ in range(8)]
        for client in clients:
            client.ask()
        proxy.send(signal.SIGWINCH)
        proxy.wait_stat(lambda stat: stat["state"] == "draining", "draining")
        for client in clients:
            client.ask()
        proxy.must_reload()
        self.assertEqual(proxy.address(), address)
        for client in clients + [self.client(address)]:
            client.ask()
        self.finish(proxy)

    def test_a_killed_master_leaves_its_ports(self):
        proxy, address = self.start(listener={"address": self.fixed()})
        client = self.client(address)
        client.ask()
        os.kill(proxy.pid, signal.SIGKILL)
        proxy.process.wait()
        wait_until(lambda: is_refused(address), "the workers to close their sockets")
        wait_until(lambda: not session_members(proxy.pid), "the workers to end")
        again = self.aegis(proxy.settings, directory=proxy.directory)
        with contextlib.suppress(ConnectionRefusedError):
            client.send(b"?")
        self.client(address).ask()
        self.finish(again)

    def test_handed_over_sockets_are_read_by_one_worker_each(self):
        """One client, one worker: a second one would know nothing of the session."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((OWN_ADDRESS, 0))
            address = form(sock)
            settings = self.settings(workers=3, listener={"address": f"fd:{sock.fileno()}"})
            proxy = self.aegis(settings, pass_fds=[sock.fileno()])
            clients = [self.client(address) for _ in range(6)]
            for client in clients * 10:
                client.ask()
            self.assertEqual(len(self.server.peers), len(clients))
            self.assertEqual(sorted(row["connections"] for row in proxy.workers()), [0, 0, 6])
            proxy.send(signal.SIGWINCH)
            proxy.wait_stat(lambda stat: stat["state"] == "draining", "draining")
            for client in clients:
                client.ask()
            self.finish(proxy)

    def test_sockets_of_systemd(self):
        """As many of them as were passed under the name, of one reuseport group here: each has its worker."""
        socks = []
        for _ in range(2):
            socks.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self.addCleanup(socks[-1].close)
            socks[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            socks[-1].bind((OWN_ADDRESS, port_of(form(socks[0])) if len(socks) > 1 else 0))
        address = form(socks[0])
        config = self.directory / "aegis.conf"
        config.write_text(libconfig(self.settings(listener={"address": "systemd:dns"}, udp={"idle": f"{round(3 * SLOW)}s"})))
        script = ('import os, sys\n'
                  'first, second = int(sys.argv[1]), int(sys.argv[2])\n'
                  'a, b = os.dup(first), os.dup(second)\n'
                  'os.dup2(a, 13); os.dup2(b, 14); os.dup2(13, 3); os.dup2(14, 4)\n'
                  'os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="dns:dns")\n'
                  'os.execv(sys.argv[3], sys.argv[3:])\n')
        fds = [sock.fileno() for sock in socks]
        proxy = self.aegis(None, config=config, wrapper=(sys.executable, "-c", script, *fds), pass_fds=fds)
        self.assertEqual(proxy.address(), address)
        clients = [self.client(address) for _ in range(20)]
        for client in clients * 3:
            client.ask()
        self.assertEqual(len(self.server.peers), len(clients))
        self.assertEqual(sum(row["connections"] > 0 for row in proxy.workers()), 2)


if __name__ == "__main__":
    aegis.main()
