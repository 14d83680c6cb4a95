"""Sessions of UDP outlive what happens to workers: over reloads and upgrades they stay with theirs, and who reads a datagram hands it over;
when a worker died they go on with the same server in another one."""
import os
import pathlib
import signal
import socket
import sys
import threading

import aegis
import test_upgrade
from aegis import *
from datagrams import *
from test_upgrade import Master, setUpModule  # noqa: F401

LONG = bool(os.environ.get("AEGIS_TEST_LONG"))
CLIENTS = 1000
COUNTS = ("foreign", "wrong", "duplicates", "stale", "unsent", "unopened")


def kernel_rows(address):
    """What the kernel says of the IPv4 sockets that are bound there."""
    host, _, port = address.rpartition(":")
    wanted = f"{socket.inet_aton(host)[::-1].hex()}:{int(port):04x}".upper()
    rows = [line.split() for line in pathlib.Path("/proc/net/udp").read_text().splitlines()]
    return [fields for fields in rows if fields[1] == wanted]


def kernel_drops(address):
    """What came to an IPv4 socket of ours faster than it was read: the server's loss, not Aegis's."""
    return sum(int(fields[-1]) for fields in kernel_rows(address))


class Moves(aegis.Case):
    deadline = 120.0

    def settings(self, servers, workers=2, listener=None, udp=None, **more):
        return datagram_app(servers, {"idle": "60s", **(udp or {})}, {"address": f"{OWN_ADDRESS}:0", **(listener or {})}, workers=workers,
                            drain={"timeout": "0s", "max_generations": 10}, **more)

    def server(self, name=""):
        return DatagramServer(self, name, address=f"{OWN_ADDRESS}:0")

    def clients(self, proxy, count):
        return [DatagramClient(self, proxy.address()) for _ in range(count)]

    def ask_all(self, clients, name=""):
        for client in clients:
            client.ask(answer=lambda data: name.encode() + data)

    def moves(self, proxy):
        return proxy.listener()["moves"]

    def finish(self, proxy):
        """End with sessions that go on: the second signal ends them."""
        proxy.send(signal.SIGTERM)
        proxy.notifications.wait("STOPPING=1")
        proxy.send(signal.SIGTERM)
        self.assertEqual(proxy.wait_exit(), 0)
        proxy.check_gone()
        proxy.check_log()

    def no_drops(self, proxy):
        self.assertEqual({name: n for name, n in proxy.listener()["drops"].items() if n}, {})


class Reloads(Moves):
    def test_sessions_stay_with_their_workers(self):
        """Whatever the number of workers, old and new: the server sees the same peers, and the client gets its answers."""
        server = self.server()
        proxy = self.aegis(self.settings(server.address))
        clients = self.clients(proxy, 40)
        self.ask_all(clients)
        for workers in (2, 4, 1, 3, 3, 6):
            proxy.must_reload(self.settings(server.address, workers=workers))
            self.ask_all(clients)
            clients += self.clients(proxy, 10)  # these are of the new generation
            self.ask_all(clients)
        self.assertEqual(len(server.peers), len(clients))
        self.assertEqual(proxy.listener()["total"], len(clients))
        moves = self.moves(proxy)
        self.assertEqual(moves["handed_over"], moves["taken_over"])
        self.assertGreaterEqual(moves["handed_over"], 6 * 40 * 2)
        self.no_drops(proxy)
        self.finish(proxy)

    def test_a_renamed_listener_keeps_its_sessions(self):
        """What they are known by is the address that the client sends to."""
        server = self.server()
        address = free_udp_address()
        proxy = self.aegis(self.settings(server.address, listener={"address": address}))
        clients = self.clients(proxy, 10)
        self.ask_all(clients)
        proxy.must_reload(self.settings(server.address, listener={"address": address, "name": "other"}))
        self.ask_all(clients)
        self.assertEqual(len(server.peers), 10)
        self.finish(proxy)

    def test_all_addresses(self):
        """Of a listener that takes datagrams for several addresses each of a client's sessions is found, and answers from the right one."""
        server = self.server()
        proxy = self.aegis(self.settings(server.address, listener={"address": "0.0.0.0:0"}))
        port = proxy.address().rpartition(":")[2]
        socks = [open_udp(f"{OWN_ADDRESS}:0") for _ in range(8)]
        for sock in socks:
            self.addCleanup(sock.close)
            sock.settimeout(20 * SLOW)
        for _ in range(3):
            for sock in socks:
                for host in ("127.0.0.1", OWN_ADDRESS):
                    data = nonce()
                    sock.sendto(data, (host, int(port)))
                    self.assertEqual(sock.recvfrom(100), (data, (host, int(port))))
            proxy.must_reload()
        self.assertEqual(len(server.peers), 16)
        self.finish(proxy)

    def test_ipv6(self):
        server = self.server()
        proxy = self.aegis(self.settings(server.address, listener={"address": "[::1]:0"}))
        clients = self.clients(proxy, 10)
        for _ in range(3):
            self.ask_all(clients)
            proxy.must_reload()
        self.ask_all(clients)
        self.assertEqual(len(server.peers), 10)
        self.finish(proxy)

    def test_large_and_many(self):
        """The largest datagrams, and many at once in one piece, are handed over as they are and in order."""
        server = self.server()
        proxy = self.aegis(self.settings(server.address, workers=1, udp={"buffer": "4M", "receive_buffer": "4M"}))
        client, = self.clients(proxy, 1)
        client.ask()
        proxy.must_reload()
        for size in (65507, 0, 1, 40000):
            client.ask(nonce(size))
        for _ in range(10):
            sent = [nonce(1200) for _ in range(40)]
            client.sock.sendmsg([b"".join(sent)], [(socket.SOL_UDP, UDP_SEGMENT, (1200).to_bytes(2, "little"))])
            self.assertEqual([client.receive() for _ in sent], sent)
        self.assertEqual(len(server.peers), 1)
        self.no_drops(proxy)
        self.finish(proxy)

    def test_server_that_left(self):
        """A session goes on with a server that the settings no longer name; new ones do not go there."""
        first, second = self.server("1"), self.server("2")
        proxy = self.aegis(self.settings(first.address))
        clients = self.clients(proxy, 10)
        self.ask_all(clients, "1")
        proxy.must_reload(self.settings(second.address))
        self.ask_all(clients, "1")
        self.ask_all(self.clients(proxy, 10), "2")
        self.finish(proxy)

    def test_short_sessions_in_a_row(self):
        """Clients that do not wait for answers, with sessions of one answer each: what comes for one that has just ended is not lost."""
        server = self.server()
        once = {"requests": 1, "responses": 1}
        proxy = self.aegis(self.settings(server.address, udp=once))
        clients = self.clients(proxy, 20)
        stop = threading.Event()

        def ask(client):
            count = 0
            while not stop.is_set():
                sent = {nonce() for _ in range(8)}
                for data in sent:
                    client.send(data)
                self.assertEqual({client.receive() for _ in sent}, sent)
                count += len(sent)
            return count
        tasks = [Task(ask, client) for client in clients]
        for workers in (2, 3, 1, 2) * 2:
            proxy.must_reload(self.settings(server.address, workers=workers, udp=once))
        stop.set()
        self.assertEqual(sum(task.result() for task in tasks), len(server.data))
        self.no_drops(proxy)
        proxy.stop()

    def test_old_workers_end_with_their_last_session(self):
        server = self.server()
        proxy = self.aegis(self.settings(server.address, udp={"idle": "1s"}))
        clients = self.clients(proxy, 20)
        for _ in range(4):
            self.ask_all(clients)
            proxy.must_reload()
        proxy.settled = lambda stat: {row["generation"] for row in stat["workers"]} == {stat["generation"]}
        proxy.wait_stat(proxy.settled, "one generation")
        proxy.stop()


class Crashes(Moves):
    def test_sessions_stay_with_their_servers(self):
        servers = [self.server(name) for name in "abc"]
        proxy = self.aegis(self.settings([server.address for server in servers]))
        proxy.lost, proxy.restarts = True, None
        clients = self.clients(proxy, 60)
        had = []
        for client in clients:
            client.send(nonce())
            had.append(client.receive()[:1])
        self.assertEqual(set(had), {b"a", b"b", b"c"})
        for round_ in range(3):
            for worker in proxy.workers():
                os.kill(worker["pid"], signal.SIGKILL)
            proxy.wait_stat(lambda stat: stat["worker_restarts"] == 2 * (round_ + 1) and stat["connections"]["active"] == 0, "new workers")
            for client, name in zip(clients, had):
                client.ask(answer=lambda data: name + data)
        self.assertEqual(self.moves(proxy)["recovered"], 3 * 60)
        self.finish(proxy)

    def test_one_that_drained(self):
        """The worker that is killed is of an old generation: the new one goes on."""
        servers = [self.server(name) for name in "ab"]
        proxy = self.aegis(self.settings([server.address for server in servers]))
        proxy.lost, proxy.restarts = True, None
        clients = self.clients(proxy, 40)
        had = []
        for client in clients:
            client.send(nonce())
            had.append(client.receive()[:1])
        old = proxy.workers()
        proxy.must_reload(self.settings([server.address for server in servers], workers=3))
        for client, name in zip(clients, had):
            client.ask(answer=lambda data: name + data)
        for worker in old:
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: not any(alive(worker["pid"]) for worker in old), "the old workers to end")
        for client, name in zip(clients, had):
            client.ask(answer=lambda data: name + data)
        self.assertEqual(self.moves(proxy)["recovered"], 40)
        self.finish(proxy)

    def inbox_of_a_dead_worker(self, workers, kill):
        servers = [self.server(name) for name in "ab"]
        settings = self.settings([server.address for server in servers], workers=workers)
        proxy = self.aegis(settings)
        proxy.lost, proxy.restarts = True, None
        clients = self.clients(proxy, 20)
        had = []
        for client in clients:
            client.send(nonce())
            had.append(client.receive()[:1])
        old = proxy.workers()
        proxy.must_reload(settings)
        for worker in old:
            os.kill(worker["pid"], signal.SIGSTOP)
        sent = [nonce() for _ in clients]
        for client, data in zip(clients, sent):
            client.send(data)
        proxy.wait_stat(lambda stat: stat["listeners"][0]["moves"]["handed_over"] == 20, "all in the inboxes")
        kill(proxy, old)
        for client, data, name in zip(clients, sent, had):
            self.assertEqual(client.receive(), name + data)
        self.assertEqual(self.moves(proxy)["recovered"], 20)
        self.finish(proxy)

    def test_what_is_in_its_inbox(self):
        """It is taken in by one that runs."""
        def kill(_proxy, old):
            for worker in old:
                os.kill(worker["pid"], signal.SIGKILL)
        self.inbox_of_a_dead_worker(2, kill)

    def test_what_is_in_its_inbox_when_nobody_runs(self):
        """It waits for the next one."""
        def kill(proxy, old):
            new, = proxy.workers()
            os.kill(new["pid"], signal.SIGSTOP)
            for worker in old:
                os.kill(worker["pid"], signal.SIGKILL)
            os.kill(new["pid"], signal.SIGKILL)
        self.inbox_of_a_dead_worker(1, kill)

    def test_what_is_in_its_inbox_when_its_heir_is_old(self):
        """The heir finds that a younger worker goes on with the client, to whom it has no way: what was in the inbox is served all the same."""
        server = self.server()
        settings = self.settings(server.address, workers=1)
        proxy = self.aegis(settings)
        proxy.lost, proxy.restarts = True, None
        client, = self.clients(proxy, 1)
        client.ask()
        old, = proxy.workers()
        proxy.must_reload(settings)
        os.kill(old["pid"], signal.SIGSTOP)
        early, late = nonce(), nonce()
        client.send(early)
        proxy.wait_stat(lambda stat: stat["listeners"][0]["moves"]["handed_over"] == 1, "it to be in the inbox")
        heir = next(row["pid"] for row in proxy.workers() if row["pid"] != old["pid"])
        os.kill(heir, signal.SIGSTOP)
        os.kill(old["pid"], signal.SIGKILL)
        wait_until(lambda: not alive(old["pid"]), "the old worker to end")
        proxy.must_reload(settings)
        client.ask(late)
        os.kill(heir, signal.SIGCONT)
        self.assertEqual(client.receive(), early)
        row = proxy.listener()
        self.assertEqual((row["total"], row["moves"]["recovered"], row["moves"]["unlisted"]), (3, 1, 1))
        client.ask()  # of the younger one
        self.assertEqual(len(server.peers), 3)
        self.finish(proxy)

    def test_answers_under_way(self):
        """What the server answers to a worker that is dead reaches nobody, and is counted when the worker ends."""
        server = self.server()
        proxy = self.aegis(self.settings(server.address, workers=1))
        proxy.lost, proxy.restarts = True, None
        clients = self.clients(proxy, 5)
        self.ask_all(clients)
        worker, = proxy.workers()
        server.mute = True
        for client in clients[:3]:
            client.send(nonce())
            client.send(nonce())
        proxy.wait_stat(lambda stat: stat["listeners"][0]["datagrams"]["to_server"] == 11, "all to be passed on")
        self.assertEqual(self.moves(proxy)["unanswered"], 0)
        os.kill(worker["pid"], signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["listeners"][0]["moves"]["unanswered"] == 6, "the answers to be missed")
        server.mute = False
        self.ask_all(clients)
        self.finish(proxy)

    def test_not_with_one_that_is_gone(self):
        """The server left with a reload, and then the worker that still had the session."""
        first, second = self.server("1"), self.server("2")
        proxy = self.aegis(self.settings(first.address, workers=1))
        proxy.lost, proxy.restarts = True, None
        client, = self.clients(proxy, 1)
        client.ask(answer=lambda data: b"1" + data)
        old, = proxy.workers()
        proxy.must_reload(self.settings(second.address, workers=1))
        os.kill(old["pid"], signal.SIGKILL)
        wait_until(lambda: not alive(old["pid"]), "the old worker to end")
        client.ask(answer=lambda data: b"2" + data)
        self.assertEqual(self.moves(proxy)["recovered"], 0)
        self.finish(proxy)

    def test_a_new_worker_finds_the_sessions_of_old_generations(self):
        """One that replaces a dead one knows the inboxes of those before it."""
        server = self.server()
        proxy = self.aegis(self.settings(server.address))
        proxy.lost, proxy.restarts = True, None
        clients = self.clients(proxy, 20)
        self.ask_all(clients)
        proxy.must_reload()
        for worker in proxy.workers():
            os.kill(worker["pid"], signal.SIGKILL)
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == 2, "new workers")
        self.ask_all(clients)
        self.assertEqual(len(server.peers), 20)
        self.finish(proxy)


class Load(Moves):
    """Under load nothing is lost that is not counted, and each client gets its own answers only. By hand, at a rate of one's own:
    AEGIS_TEST_LONG=1 AEGIS_TEST_RATE=50000 AEGIS_TEST_SECONDS=30 test_udp_moves.py Load"""

    deadline = 300.0
    LOSS = 0.01  # percent
    RATE = int(os.environ.get("AEGIS_TEST_RATE", 4000))
    SECONDS = float(os.environ.get("AEGIS_TEST_SECONDS", 8 * SLOW))
    QUEUE = {"receive_buffer": "8M", "buffer": "1M"}
    BATCH = 64  # what a worker has read, and not yet counted, when it is killed

    def run_load(self, kills=()):
        """A thousand clients, and 20 reloads with ever other numbers of workers meanwhile; a worker that has sessions is killed after the
        reloads `kills`. Returns the report of the clients and the counters."""
        address, = demo(self)
        proxy = self.aegis(self.settings(address, workers=2, udp=self.QUEUE))
        proxy.lost, proxy.restarts = bool(kills), None
        load = Blast(self, proxy.address(), "-c", CLIENTS, "-r", self.RATE, "-d", self.SECONDS, "--lost-after", round(3 * SLOW))
        proxy.wait_stat(lambda stat: stat["udp"]["sessions"] == CLIENTS, "all clients")
        for reloads in range(1, 21):
            due = reloads * self.RATE * self.SECONDS / 22
            proxy.wait_stat(lambda stat: stat["listeners"][0]["datagrams"]["from_client"] >= due, f"{due} datagrams", self.SECONDS)
            proxy.must_reload(self.settings(address, workers=(2, 3, 1, 4)[reloads % 4], udp=self.QUEUE))
            if reloads in kills:
                busy = max(proxy.stat()["workers"], key=lambda row: row["udp_sessions"])
                os.kill(busy["pid"], signal.SIGKILL)
                wait_until(lambda: not alive(busy["pid"]), "the end of a worker")
        report = load.result(self.SECONDS + 60)
        for name in COUNTS:
            self.assertEqual(report[name], 0, f"{name}: {report}")
        row = proxy.listener()
        self.server_drops = kernel_drops(address)
        print(f"    {reloads} reloads, {len(kills)} kills: {report}\n    {row['datagrams']} {row['moves']}\n"
              f"    {dict((name, n) for name, n in row['drops'].items() if n)}", file=sys.stderr)
        self.finish(proxy)
        return report, row

    def check_counted(self, report, row, slack):
        """Each datagram that was not answered is in one of the counters; a killed worker may have read, or sent, a batch that it had not counted."""
        datagrams, drops, moves = row["datagrams"], dict(row["drops"]), row["moves"]
        client_queue, server_queue = drops.pop("client_queue_full"), drops.pop("server_queue_full")
        self.assertAlmostEqual(report["sent"] - datagrams["from_client"], client_queue, delta=slack, msg="from clients")
        handing = moves["handed_over"] - moves["taken_over"]
        passed_on = datagrams["to_server"] + datagrams["to_client"]
        self.assertAlmostEqual(datagrams["from_client"] + datagrams["from_server"] - passed_on, sum(drops.values()) + handing, delta=slack,
                               msg="in Aegis")
        unanswered = datagrams["to_server"] - datagrams["from_server"] - server_queue - self.server_drops
        if slack:
            self.assertLessEqual(unanswered, moves["unanswered"] + slack, "from the server")
        else:
            self.assertEqual((unanswered, moves["unanswered"]), (0, 0), "from the server")
            self.assertEqual(handing, 0)
            self.assertEqual(datagrams["to_client"], report["answered"] + report["late"])
        self.assertGreater(moves["handed_over"], report["sent"] / 4)

    def test_reloads(self):
        report, row = self.run_load()
        self.check_counted(report, row, 0)
        self.assertLessEqual(report["lost"], sum(row["drops"].values()) + self.server_drops)
        self.assertEqual(row["total"], CLIENTS, "a session began anew")
        if LONG:
            self.assertLess(report["loss_percent"], self.LOSS)

    def test_reloads_and_a_killed_worker(self):
        report, row = self.run_load(kills=(7,))
        self.check_counted(report, row, self.BATCH)
        self.assertGreater(row["moves"]["recovered"], CLIENTS // 5)
        self.assertEqual(row["total"], CLIENTS + row["moves"]["recovered"] + row["moves"]["unlisted"])
        if LONG:
            self.assertLess(report["loss_percent"], self.LOSS)


class Full(Moves):
    def test_a_worker_that_stands_still(self):
        """What it does not take in is dropped by those that read, and counted; they go on."""
        server = self.server()
        proxy = self.aegis(self.settings(server.address, workers=1))
        client, other = self.clients(proxy, 2)
        client.ask()
        old, = proxy.workers()
        proxy.must_reload()
        os.kill(old["pid"], signal.SIGSTOP)
        sent = 0
        while proxy.listener()["drops"]["hand_over_full"] == 0:
            for _ in range(200):
                client.send(nonce(40000))
                other.ask()
                sent += 1
        os.kill(old["pid"], signal.SIGCONT)
        proxy.wait_stat(lambda stat: stat["listeners"][0]["moves"]["taken_over"] == stat["listeners"][0]["moves"]["handed_over"], "all taken in")
        row = proxy.listener()
        self.assertEqual(row["moves"]["handed_over"] + row["drops"]["hand_over_full"], sent)
        self.finish(proxy)


class Upgrades(Moves):
    def test_sessions_stay_with_the_workers_of_the_old_master(self):
        server = self.server()
        proxy = Master(self, self.settings(server.address))
        clients = self.clients(proxy, 20)
        self.ask_all(clients)
        first = proxy.current
        for workers in (2, 3):
            proxy.write(self.settings(server.address, workers=workers))
            proxy.upgrade()
            self.ask_all(clients)
            clients += self.clients(proxy, 20)
            self.ask_all(clients)
            proxy.must_reload()
            self.ask_all(clients)
        self.assertEqual(len(server.peers), len(clients))
        self.no_drops(proxy)
        self.assertNotIn(first, proxy.reap())
        self.finish(proxy)

    def new_address(self, change):
        """The listener gets another address on its port, by a change of settings, while the workers of an old master have sessions by the old
        one: theirs end, and whoever comes, they included, is served by the new one."""
        server = self.server()
        narrow = free_udp_address()
        wide = "0.0.0.0:" + narrow.rpartition(":")[2]
        proxy = Master(self, self.settings(server.address, listener={"address": narrow}))
        clients = [DatagramClient(self, narrow) for _ in range(4)]
        self.ask_all(clients)
        change(proxy, self.settings(server.address, listener={"address": wide}))
        wait_until(lambda: not kernel_rows(narrow), "the sockets of the old address to be closed")
        self.ask_all([DatagramClient(self, narrow) for _ in range(8)] + clients)
        self.finish(proxy)

    def test_another_address_on_the_port(self):
        def upgrade(proxy, settings):
            proxy.write(settings)
            proxy.upgrade()
        self.new_address(upgrade)

    def test_another_address_on_the_port_after_an_upgrade(self):
        def upgrade_and_reload(proxy, settings):
            proxy.upgrade()
            proxy.must_reload(settings)
        self.new_address(upgrade_and_reload)

    def test_the_new_master_is_killed(self):
        """While the old one drains: as with any master that was killed, a third one can be started at once, on the same ports."""
        server, address = self.server(), free_udp_address()
        proxy = Master(self, self.settings(server.address, listener={"address": address}))
        proxy.lost = True
        clients = [DatagramClient(self, address) for _ in range(8)]
        self.ask_all(clients)
        proxy.upgrade()
        self.ask_all(clients + [DatagramClient(self, address)])
        os.kill(proxy.current, signal.SIGKILL)
        wait_until(lambda: not kernel_rows(address), "the sockets of both masters' workers to be closed")
        wait_until(lambda: proxy.pid in proxy.reap(), "the old master to end")
        third = Aegis(self, None, directory=proxy.directory, config=proxy.config)
        third.lost = True
        self.ask_all([DatagramClient(self, address) for _ in range(8)])
        self.finish(third)

    def test_another_layout(self):
        """The table of sessions is no part of the segment."""
        server = self.server()
        proxy = Master(self, self.settings(server.address))
        clients = self.clients(proxy, 20)
        self.ask_all(clients)
        proxy.upgrade(test_upgrade.OTHER)
        self.ask_all(clients)
        self.assertEqual(len(server.peers), len(clients))
        self.finish(proxy)

    def test_one_that_is_given_up(self):
        """The old workers read on."""
        server = self.server()
        proxy = Master(self, self.settings(server.address))
        clients = self.clients(proxy, 20)
        self.ask_all(clients)
        proxy.install("#!/bin/sh\nexit 7\n")
        proxy.must_refuse("status 7")
        self.ask_all(clients + self.clients(proxy, 20))
        self.assertEqual(len(server.peers), 40)
        self.no_drops(proxy)
        self.finish(proxy)


if __name__ == "__main__":
    aegis.main()
