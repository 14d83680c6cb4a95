"""What is told of datagrams: every one that came is counted as passed on or dropped, and every session has its record, its place in the list of
connections and its story."""
import json
import os
import signal

import admin
import aegis
from aegis import AEGIS_STAT, BUILD, SLOW, Case, run, wait_until
from datagrams import DatagramClient, DatagramServer, blast, datagram_app, demo, free_udp_address, nonce

LONG_IDLE = {"idle": "1h"}


class Told(Case):
    def in_front(self, servers, udp=None, **more):
        proxy = self.aegis(datagram_app(servers, udp, **more))
        return proxy, proxy.address()

    def end_all(self, proxy):
        """End every session, as sessions that may idle for long would keep the gauges up."""
        for row in admin.get(proxy.directory, "/connections").json["connections"]:
            admin.ask(proxy.directory, "DELETE", f"/connections/{row['id']}")

    def tables(self, proxy):
        return run(AEGIS_STAT, "-r", proxy.directory).stdout

    def drops(self, proxy):
        return {reason: count for reason, count in proxy.stat()["udp"]["drops"].items() if count}


class Counted(Told):
    def test_each_datagram_and_each_session(self):
        """Three clients, one of whom is answered twice each time."""
        server = DatagramServer(self, answer=lambda data, peer: [data] * (2 if data.startswith(b"twice") else 1))
        proxy, address = self.in_front(server.address, LONG_IDLE)
        clients = [DatagramClient(self, address) for _ in range(3)]
        for number in range(5):
            for client in clients[:2]:
                client.ask(nonce(100))
            clients[2].ask(b"twice %d" % number)
            self.assertEqual(clients[2].receive(), b"twice %d" % number)
        stat = proxy.wait_stat(lambda stat: stat["udp"]["datagrams"]["to_client"] == 20, "all answers to be counted")
        counted = {"from_client": 15, "to_server": 15, "from_server": 20, "to_client": 20}
        self.assertEqual((stat["udp"]["sessions"], stat["udp"]["datagrams"]), (3, counted))
        row = stat["listeners"][0]
        self.assertEqual((row["protocol"], row["datagrams"], row["active"], row["total"]), ("udp", counted, 3, 3))
        self.assertEqual((row["received"], row["sent"]), (10 * 100 + 5 * 7, 10 * 100 + 10 * 7))
        self.assertEqual(sum(worker["udp_sessions"] for worker in stat["workers"]), 3)
        self.assertEqual(self.drops(proxy), {})
        text = run(AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        self.assertIn("\naegis_udp_sessions_active 3\n", text)
        self.assertIn('\naegis_udp_datagrams_total{direction="from_server",listener="app"} 20\n', text)
        self.assertRegex(self.tables(proxy), r"\ndatagrams +3 sessions, 15 from clients, 20 to clients, 0 dropped\n")
        self.end_all(proxy)
        self.assertEqual(proxy.stat()["udp"]["sessions"], 0)

    def test_tcp_has_none_of_it(self):
        proxy, _ = self.proxy(free_udp_address())
        self.assertNotIn("datagrams", proxy.listener())
        self.assertNotIn("DATAGRAMS", self.tables(proxy))
        self.assertNotIn("datagrams", run(BUILD / "aegisctl", "-r", proxy.directory, "status").stdout)
        self.assertNotIn("aegis_udp_datagrams_total{", run(AEGIS_STAT, "-r", proxy.directory, "-p").stdout)

    def test_what_the_door_refuses(self):
        """A client that is not let in: each of its datagrams is a drop, and it was turned away as a client."""
        server = DatagramServer(self)
        proxy, address = self.in_front(server.address, listener={"deny": ["127.0.0.1/32"], "allow": ["127.0.0.0/8"]})
        good, bad = DatagramClient(self, address, source="127.0.0.7:0"), DatagramClient(self, address)
        good.ask()
        for _ in range(4):
            bad.send(nonce())
        proxy.wait_stat(lambda stat: stat["udp"]["drops"]["refused"] == 4, "4 drops")
        self.assertIsNone(bad.gets(0.1))
        self.assertIn(proxy.listener()["closes"]["denied"], range(1, 5))  # one for all that came at once
        self.assertEqual(self.drops(proxy), {"refused": 4})
        status = run(BUILD / "aegisctl", "-r", proxy.directory, "status").stdout
        self.assertRegex(status, r"\ndatagrams    1 sessions, 5 from clients, 1 to clients, 4 dropped: 4 refused\n")
        self.assertRegex(self.tables(proxy), r"\nDROPPED BECAUSE +COUNT +MEANING\nrefused +4 +Datagrams whose session was refused")

    def test_what_the_kernel_dropped_before_it_was_read(self):
        """A worker that stands still while clients send: what found no room in its socket is counted, and all else arrives."""
        server = DatagramServer(self, mute=True)
        proxy, address = self.in_front(server.address, {"receive_buffer": "8k"}, workers=1)
        client = DatagramClient(self, address)
        client.send(nonce())
        server.wait_seen(1)
        pid = proxy.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        for _ in range(500):
            client.send(nonce(100))
        os.kill(pid, signal.SIGCONT)

        def all_told(stat):
            return stat["udp"]["datagrams"]["from_client"] + stat["udp"]["drops"]["client_queue_full"] == 501

        udp = proxy.wait_stat(all_told, "501 datagrams, read or dropped")["udp"]
        self.assertGreater(udp["drops"]["client_queue_full"], 100)
        server.wait_seen(udp["datagrams"]["to_server"])
        self.assertEqual(udp["datagrams"]["to_server"], udp["datagrams"]["from_client"])
        self.assertEqual(len(server.seen), udp["datagrams"]["to_server"])

    def test_what_a_load_loses_is_told(self):
        """More than the small queues hold: what the load misses is what the drops of both ways say."""
        echo, = demo(self)
        proxy, address = self.in_front(echo, {"receive_buffer": "8k", "buffer": "8k", **LONG_IDLE}, workers=1)
        report = blast(self, address, "-c", 50, "-r", 40000, "-d", 0.5, "-b", 20, "--lost-after", 5)
        self.assertEqual(report["late"], 0)

        def explained(stat):
            counted = stat["udp"]
            return sum(counted["drops"].values()) == report["lost"] and counted["datagrams"]["to_client"] == report["answered"]

        self.end_all(proxy)  # what was dropped in the queue of a session is known at its end
        proxy.wait_stat(explained, lambda: f"{report['lost']} drops")


class Recorded(Told):
    def records(self):
        path = self.directory / "access.log"
        return path.read_text().splitlines() if path.exists() else []

    def wait_records(self, count):
        wait_until(lambda: len(self.records()) >= count, lambda: f"{count} records; there are {self.records()}")
        return self.records()

    def test_access_log(self):
        server = DatagramServer(self)
        idle_ms = round(1000 * SLOW)
        proxy, address = self.in_front(server.address, {"idle": f"{idle_ms}ms"}, access_log={"path": str(self.directory / "access.log")})
        client = DatagramClient(self, address)
        for _ in range(3):
            client.ask(nonce(50))
        record = json.loads(self.wait_records(1)[0])
        self.assertEqual(list(record)[7:12], ["bytes_up", "bytes_down", "datagrams_up", "datagrams_down", "waited_ms"])
        self.assertEqual([record[name] for name in ("bytes_up", "bytes_down", "datagrams_up", "datagrams_down")], [150, 150, 3, 3])
        self.assertEqual((record["client"], record["listener"], record["phase"]), (client.address, "app", "close"))
        self.assertEqual((record["reason"], record["closed_by"]), ("idle_timeout", "aegis"))
        self.assertGreaterEqual(record["duration_ms"], idle_ms)
        client.ask()
        second = json.loads(self.wait_records(2)[1])
        self.assertEqual((second["client"], second["datagrams_up"]), (client.address, 1))
        self.assertNotEqual(second["id"], record["id"])

    def test_a_flood_does_not_fill_the_access_log(self):
        """Of those that are not let in a hundred a second have a record; the others are told."""
        server = DatagramServer(self)
        path = self.directory / "access.log"
        proxy, address = self.in_front(server.address, {"idle": "200ms"}, access_log={"path": str(path)}, workers=1,
                                       listener={"address": "0.0.0.0:0", "deny": ["127.0.0.9/32"]})
        address = "127.0.0.1:" + address.rpartition(":")[2]
        denied, count = DatagramClient(self, address, source="127.0.0.9:0"), 5000
        for number in range(count):
            denied.send(nonce())
            if number % 50 == 0:
                DatagramClient(self, address, source="127.0.0.1:0").ask()  # these have theirs, all of them
        proxy.wait_closes("idle_timeout", count // 50)
        stat = proxy.wait_stat(lambda stat: stat["udp"]["drops"]["refused"] == count, "all to be refused")
        dropped, refused = stat["workers"][0]["access_log_dropped"], proxy.listener()["closes"]["denied"]
        records = [json.loads(line)["reason"] for line in self.wait_records(count // 50 + refused - dropped)]
        self.assertEqual(records.count("idle_timeout"), count // 50)
        self.assertEqual(records.count("denied") + dropped, refused)
        self.assertGreaterEqual(records.count("denied"), 100)
        self.assertGreater(dropped, 0)

    def test_access_log_as_text(self):
        server = DatagramServer(self)
        path = self.directory / "access.log"
        _, address = self.in_front(server.address, {"responses": 1}, access_log={"path": str(path), "format": "text"})
        DatagramClient(self, address).ask(b"x" * 30)
        self.assertRegex(self.wait_records(1)[0], r" up=30 down=30 datagrams_up=1 datagrams_down=1 waited=0 connect=\d+\.\d{3} .* answered \w+$")

    def test_connections_and_the_end_of_one(self):
        server = DatagramServer(self)
        proxy, address = self.in_front({"name": "a", "address": server.address}, LONG_IDLE)
        clients = [DatagramClient(self, address) for _ in range(3)]
        for number, client in enumerate(clients):
            for _ in range(number + 1):
                client.ask(nonce(40))
        found = {row["client"]: row for row in admin.get(proxy.directory, "/connections").json["connections"]}
        self.assertEqual(set(found), {client.address for client in clients})
        row = found[clients[2].address]
        self.assertEqual([row[name] for name in ("protocol", "server", "step", "up_bytes", "down_bytes", "up_datagrams", "down_datagrams")],
                         ["udp", "a", "relay", 120, 120, 3, 3])
        text = run(BUILD / "aegisctl", "-r", proxy.directory, "connections").stdout
        self.assertRegex(text, rf"(?m)^{row['id']} .* 3/3$")
        self.assertEqual(admin.ask(proxy.directory, "DELETE", f"/connections/{row['id']}").status, 200)
        proxy.wait_closes("killed", 1)
        self.assertEqual(proxy.stat()["udp"]["sessions"], 2)
        clients[2].ask()  # it may come again: this is another session
        self.assertEqual(proxy.listener()["total"], 4)
        self.end_all(proxy)

    def test_why(self):
        """The flight recorder has the story of a session, and of one that was turned away."""
        server = DatagramServer(self)
        proxy, address = self.in_front({"name": "a", "address": server.address}, {"responses": 1}, listener={"deny": ["127.0.0.9/32"]})
        client, denied = DatagramClient(self, address), DatagramClient(self, address, source="127.0.0.9:0")
        client.ask()
        denied.send(nonce())
        proxy.wait_closes("answered", 1)
        proxy.wait_closes("denied", 1)
        told, = admin.get(proxy.directory, f"/why?address={client.address}").json["connections"]
        self.assertEqual(told["reason"], "answered")
        self.assertIn("server a of upstream app", json.dumps(told["steps"]))
        refused, = admin.get(proxy.directory, "/why?address=127.0.0.9").json["connections"]
        self.assertEqual(refused["reason"], "denied")


if __name__ == "__main__":
    aegis.main()
