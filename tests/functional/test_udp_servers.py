"""Servers of UDP sessions: those that are not there, go away, say what they should not; the shield in front of them."""
import contextlib
import os
import signal
import socket
import struct
import threading
import time

import admin
import aegis
from aegis import *
from datagrams import *
from test_udp import UdpCase


class Servers(UdpCase):
    def two(self, upstream=None, **more):
        good = DatagramServer(self, "good")
        return good, free_udp_address(), {"upstream": upstream or {}, **more}

    def test_a_server_that_is_not_there(self):
        """ICMP says so at once here: the datagram at hand goes to the other one, and no client notices."""
        good, dead, more = self.two({"circuit_breaker": {"error_threshold": 3, "timeout": "60s"}})
        proxy = self.aegis(datagram_app([{"name": "dead", "address": dead}, {"name": "good", "address": good.address}], workers=1, **more))
        for _ in range(20):
            client = self.client(proxy)
            client.ask(answer=lambda data: b"good" + data)
            client.ask(answer=lambda data: b"good" + data)
        stat = proxy.server("dead")
        self.assertEqual(stat["failures"], 3, "then its breaker was open")
        self.assertEqual(proxy.listener()["retries"], 3)

    def test_a_server_that_goes_away(self):
        """Sessions that it had go to the other one with their next datagram."""
        servers = [DatagramServer(self, name) for name in ("a", "b")]
        proxy = self.aegis(datagram_app([server.address for server in servers], workers=1, udp={"idle": "60s"}))
        clients = [self.client(proxy) for _ in range(6)]
        for client in clients:
            data = nonce()
            client.send(data)
            self.assertIn(client.receive(), (b"a" + data, b"b" + data))
        self.assertEqual(len(servers[0].peers), 3)
        servers[0].close()
        lost = 0
        for client in clients:
            data = nonce()
            client.send(data)
            got = []

            def is_dealt_with():
                got[:] = [client.gets(0.05)]
                return got[0] or self.drops(proxy, "unreachable") > lost
            wait_until(is_dealt_with, "an answer, or that it is lost")
            if got[0] is None:  # it was what told that nobody is there any more
                client.send(data)
                got[0] = client.receive()
                lost += 1
            self.assertEqual(got[0], b"b" + data)
        self.assertEqual(self.drops(proxy, "unreachable"), lost)
        self.assertEqual(proxy.server(servers[0].address)["active"], 0)
        self.assertEqual(proxy.server(servers[1].address)["active"], 6)
        self.assertEqual(proxy.listener()["active"], 6)
        self.cut(proxy)

    def test_no_server_is_there(self):
        dead = [free_udp_address() for _ in range(2)]
        proxy = self.aegis(datagram_app(dead, workers=1))
        client = self.client(proxy)
        client.send(b"x")
        proxy.wait_closes("connect_refused", 1)
        self.assertIsNone(client.gets(0))
        self.wait_counted(proxy, 1, "aegis_udp_drops_total")

    def test_a_burst_to_a_server_that_is_not_there(self):
        """All of it goes to the other one, in order, however it came: one by one, or in one piece that is cut again."""
        good, dead, more = self.two({"balance": "round_robin"})
        proxy = self.aegis(datagram_app([{"name": "dead", "address": dead}, {"name": "good", "address": good.address}], workers=1, **more))
        pid = proxy.workers()[0]["pid"]
        for size in (0, 0, 700, 700):
            client, sent = self.client(proxy), [b"%02d" % number * (number % 3 + 1) for number in range(20)]
            os.kill(pid, signal.SIGSTOP)  # so that they come at once
            if size:
                sent = [bytes([number]) * size for number in range(20)] + [b"end"]
                client.sock.sendmsg([b"".join(sent)], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("@H", size))])
            else:
                for data in sent:
                    client.send(data)
            os.kill(pid, signal.SIGCONT)
            self.assertEqual([client.receive() for _ in sent], [b"good" + data for data in sent])
        self.assertGreaterEqual(proxy.server("dead")["failures"], 2)
        self.assertEqual(self.drops(proxy), 0)

    def test_an_answer_from_elsewhere(self):
        """Nobody but the server of a session can speak to its client: not another port of the server's machine, nor a stranger."""
        server, stranger = DatagramServer(self, mute=True), open_udp()
        self.addCleanup(stranger.close)
        proxy = self.aegis(datagram_app(server.address, workers=1))
        client = self.client(proxy)
        client.send(b"question")
        server.wait_seen(1)
        for data in (b"forged", b"forged again"):
            with contextlib.suppress(ConnectionRefusedError):
                stranger.sendto(data, server.peers[0])
        server.send(b"answer", server.peers[0])
        self.assertEqual(client.receive(), b"answer")
        self.assertEqual(self.datagrams(proxy, "from_server"), 1)
        proxy.wait_closes("idle_timeout", 1)

    def test_a_server_that_floods_a_client(self):
        """Who speaks to the server meanwhile is answered, and all that the flood was is told."""
        server, count = DatagramServer(self, mute=True), 30000
        proxy = self.aegis(datagram_app(server.address, workers=1, udp={"idle": "60s"}))
        victim, other = self.client(proxy), self.client(proxy)
        victim.send(b"question")
        server.wait_seen(1)
        server.mute, peer = False, server.peers[0]
        flood = threading.Thread(target=lambda: [server.sock.sendto(b"flood%06d" % number, peer) for number in range(count)])
        flood.start()
        while flood.is_alive():
            other.ask()
        flood.join()
        seen, last = [], -1

        def is_over():
            """Nothing more was read of it in a turn in which others had theirs."""
            seen.append(self.row_of(proxy, victim))
            other.ask()
            return len(seen) > 1 and seen[-1]["down_datagrams"] == seen[-2]["down_datagrams"]
        wait_until(is_over, "the worker to have read it")
        while (data := victim.gets(0.2)) is not None:
            self.assertGreater(int(data[5:]), last, "in order")
            last = int(data[5:])
        row = self.row_of(proxy, victim)
        admin.ask(proxy.directory, "DELETE", f"/connections/{row['id']}")
        read, lost = row["down_datagrams"], self.drops(proxy, "server_queue_full")
        self.assertEqual(read + lost, count)
        self.assertEqual(self.drops(proxy), lost + self.drops(proxy, "send_queue_full"))
        self.cut(proxy)

    def row_of(self, proxy, client):
        row, = [row for row in admin.get(proxy.directory, "/connections").json["connections"] if row["client"] == client.address]
        return row

    def disable(self, lame_duck):
        servers = [DatagramServer(self, name) for name in ("a", "b")]
        rows = [{"name": server.name, "address": server.address} for server in servers]
        settings = datagram_app(rows, udp={"idle": "60s"}, upstream={"lame_duck": lame_duck}, workers=1)
        proxy = self.aegis(settings)
        clients = [self.client(proxy) for _ in range(4)]
        for client in clients:
            client.send(b"1")
            self.assertIn(client.receive(), (b"a1", b"b1"))
        settings["upstreams"][0]["servers"][0]["disabled"] = True
        proxy.must_reload(settings)  # in place: the workers stay
        time_out = time.monotonic() + 20 * SLOW
        def answers():
            got = []
            for client in clients:
                client.send(b"2")
                got.append(client.receive())
            return got
        if not lame_duck:
            while answers() != [b"b2"] * 4:
                self.assertLess(time.monotonic(), time_out)
            proxy.wait_closes("server_disabled", 2)
        else:
            def all_new_go_to_b():  # both take turns until the worker knows
                new = [self.client(proxy) for _ in range(4)]
                for client in new:
                    client.send(b"3")
                return [client.receive() for client in new] == [b"b3"] * 4
            wait_until(all_new_go_to_b, "no new session at a server that is disabled")
            for _ in range(3):
                self.assertEqual(sorted(answers()), [b"a2", b"a2", b"b2", b"b2"])
        self.cut(proxy)

    def test_a_disabled_server(self):
        self.disable(False)

    def test_lame_duck(self):
        self.disable(True)

    def test_affinity(self):
        servers = [DatagramServer(self, name) for name in ("a", "b", "c")]
        proxy = self.aegis(datagram_app([server.address for server in servers], upstream={"affinity": {"ttl": "60s"}},
                                        udp={"responses": 1}, workers=1))
        first = None
        for _ in range(9):
            client = self.client(proxy)
            client.send(b"x")
            got = client.receive()
            first = first or got
            self.assertEqual(got, first)


class Shield(UdpCase):
    """What the shield knows of servers holds for sessions as it does for connections."""

    def asked(self, proxy, count, source=None, seconds=0.3):
        """Names of who answers so many new clients; None for each that nobody answers."""
        names = []
        for _ in range(count):
            client = self.client(proxy, source=source)
            client.send(b"?")
            got = client.gets(seconds)
            names.append(got and got[:-1].decode())
            client.close()
        return names

    def test_ejection(self):
        good, dead = DatagramServer(self, "good"), free_udp_address()
        upstream = {"outlier": {"failures": 2, "ejection": f"{round(4 * SLOW)}s"}}
        proxy = self.aegis(datagram_app([{"name": "late", "address": dead}, {"name": "good", "address": good.address}], upstream=upstream,
                                        workers=1))
        self.assertEqual(self.asked(proxy, 12, seconds=20), ["good"] * 12)
        self.assertEqual(proxy.server("late")["failures"], 2)
        self.assertEqual(proxy.server("late")["state"], "ejected")
        DatagramServer(self, "late", address=dead)
        wait_until(lambda: "late" in self.asked(proxy, 2), "the other one to come back")

    def test_a_server_that_was_well(self):
        """Sessions that it has answered find it gone: that counts as well, so that new clients are not sent there."""
        for upstream, state in (({"outlier": {"failures": 3, "ejection": "60s"}}, "ejected"),
                                ({"circuit_breaker": {"error_threshold": 3, "timeout": "60s"}}, "breaker")):
            with self.subTest(state=state):
                servers = [DatagramServer(self, name) for name in ("a", "b")]
                rows = [{"name": server.name, "address": server.address} for server in servers]
                proxy = self.aegis(datagram_app(rows, upstream=upstream, udp={"idle": "60s"}, workers=1))
                clients = [self.client(proxy) for _ in range(6)]
                for client in clients:
                    client.send(b"?")
                    self.assertIn(client.receive(), (b"a?", b"b?"))
                servers[0].close()
                for client in clients:
                    client.send(b"?")
                wait_until(lambda: state in proxy.server("a")["state"], lambda: f"it to be {state}; it is {proxy.server('a')['state']}")
                self.assertEqual(proxy.server("a")["failures"], 3)
                self.assertEqual(self.asked(proxy, 6, seconds=20), ["b"] * 6)
                self.assertEqual(proxy.server("a")["failures"], 3)
                self.cut(proxy)

    def test_a_breaker_that_closes_again(self):
        good, dead = DatagramServer(self, "good"), free_udp_address()
        upstream = {"circuit_breaker": {"error_threshold": 2, "timeout": f"{round(4 * SLOW)}s", "probes": 1}}
        proxy = self.aegis(datagram_app([{"name": "late", "address": dead}, {"name": "good", "address": good.address}], upstream=upstream,
                                        workers=1))
        self.assertEqual(self.asked(proxy, 8, seconds=20), ["good"] * 8)
        self.assertIn("breaker", proxy.server("late")["state"])
        DatagramServer(self, "late", address=dead)
        wait_until(lambda: "late" in self.asked(proxy, 2), "a probe to go well")
        wait_until(lambda: proxy.server("late")["state"] == "up" or "breaker" not in proxy.server("late")["state"], "the breaker to close")

    def test_when_all_are_down(self):
        """Checks find the only server down: clients are dropped and counted, or sent there all the same."""
        for when, answer in (("refuse", None), ("any", "s")):
            with self.subTest(when=when):
                server = DatagramServer(self, "s", answer=lambda data, peer: [b"s" + data] if data == b"?" else None)
                health = {"type": "udp", "send": "are you well", "interval": "100ms", "timeout": "100ms", "fall": 1}
                proxy = self.aegis(datagram_app(server.address, upstream={"health": health, "when_all_down": when}))
                wait_until(lambda: proxy.server(server.address)["state"] == "down", "it to be down")
                self.assertEqual(self.asked(proxy, 3, seconds=20 if answer else 0.3), [answer] * 3)
                self.assertEqual(self.drops(proxy, "refused"), 0 if answer else 3)
                self.assertEqual(proxy.listener()["closes"]["no_server"], 0 if answer else 3)

    def test_down_and_up_by_checks(self):
        """on_down = "close" ends sessions at once; a server that is up again gets new ones, few at first (slow_start)."""
        servers = [DatagramServer(self, name) for name in ("a", "b")]
        health = {"type": "udp", "send": "ping", "interval": "100ms", "timeout": f"{round(800 * SLOW)}ms", "fall": 1, "rise": 1}
        upstream = {"health": health, "on_down": "close", "slow_start": "20s"}
        rows = [{"name": server.name, "address": server.address} for server in servers]
        proxy = self.aegis(datagram_app(rows, upstream=upstream, udp={"idle": "60s"}, workers=1))
        wait_until(lambda: all(proxy.server(name)["state"] == "up" for name in ("a", "b")), "both to be up")
        self.assertEqual(sorted(self.asked(proxy, 6, seconds=20)), ["a"] * 3 + ["b"] * 3)
        servers[0].mute = True
        proxy.wait_closes("server_down", 3)
        self.assertEqual(self.asked(proxy, 4, seconds=20), ["b"] * 4)
        servers[0].mute = False
        wait_until(lambda: proxy.server("a")["state"] != "down", "it to be up again")
        names = self.asked(proxy, 24, seconds=20)
        self.assertLess(names.count("a"), 8, names)
        self.assertEqual(names.count("a") + names.count("b"), 24)
        self.cut(proxy)

    def test_a_pace_for_new_sessions(self):
        """connect_rate: nobody waits, what is too much is dropped and counted."""
        server = DatagramServer(self, "s")
        proxy = self.aegis(datagram_app(server.address, upstream={"connect_rate": "1/s", "connect_burst": 2}, workers=1))
        clients = [self.client(proxy) for _ in range(6)]
        for client in clients:
            client.send(b"?")
        proxy.wait_stat(lambda stat: sum(stat["udp"]["drops"].values()) + stat["udp"]["datagrams"]["to_server"] == 6, "all to be counted")
        self.assertGreater(self.drops(proxy, "refused"), 2)
        self.assertEqual(proxy.listener()["closes"]["connect_rate"], self.drops(proxy, "refused"))

    def test_one_machine_one_server(self):
        """consistent_hash by address: whatever port it sends from. Another one has another server, sooner or later."""
        servers = [DatagramServer(self, name) for name in ("a", "b", "c")]
        proxy = self.aegis(datagram_app([server.address for server in servers], upstream={"balance": "consistent_hash", "hash_key": "address"},
                                        listener={"address": "0.0.0.0:0"}))
        address, homes = "127.0.0.1:" + proxy.address().rpartition(":")[2], set()
        proxy.address = lambda: address
        for number in range(1, 101):
            names = set(self.asked(proxy, 3, source=f"127.0.0.{number}:0", seconds=20))
            self.assertEqual(len(names), 1)
            homes |= names
            if number >= 12 and len(homes) == 3:
                break
        self.assertEqual(homes, {"a", "b", "c"})


if __name__ == "__main__":
    aegis.main()
