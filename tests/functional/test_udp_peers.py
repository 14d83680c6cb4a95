"""Real peers over UDP through Aegis, unchanged and without a loss: dnsperf and a DNS server, iperf3 -u, logger, and a flow like that of QUIC."""
import json
import random
import re
import socket
import struct

import aegis
from aegis import LONG, ROOT, SLOW, SOURCE, Task, dial, need, receive, run, wait_until
from datagrams import UDP_GRO, UDP_SEGMENT, DatagramClient, DatagramServer, datagram_app
from test_peers import Peer, free_port, port_of

V4, V6 = "127.0.0.1", "[::1]"


class UdpPeer(Peer):
    def in_front(self, server, udp=None, host=V4, **settings):
        """(Aegis, port) with a listener for datagrams in front of the server."""
        proxy = self.aegis(datagram_app(server, udp, {"address": f"{host}:0"}, **settings))
        return proxy, port_of(proxy.address())

    def wait_sessions(self, proxy, count, reason=None):
        """Until so many sessions have begun and ended, all of them for this reason."""
        stat = proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0 and stat["listeners"][0]["total"] >= count,
                               f"{count} sessions to end")
        row = stat["listeners"][0]
        self.assertEqual(row["total"], count)
        if reason:
            self.assertEqual(row["closes"][reason], count, row["closes"])
        return stat


class Dns(UdpPeer):
    """dnsmasq answers from what it was told; dnsperf asks from many sockets and matches every answer with its question."""

    def dnsmasq(self, port=None):
        dnsmasq, = need("dnsmasq")
        port = port or free_port()
        hosts = self.directory / "hosts"
        if not hosts.exists():  # another one may be reading it
            hosts.write_text("".join(f"10.{i // 65536}.{i // 256 % 256}.{i % 256} name{i}.test\n" for i in range(1000)))
            hosts.chmod(0o644)
        user = ["--user=root"] if ROOT else []
        self.serve(port, [dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}",
                          "--local=/test/", f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--log-facility=-",
                          f"--pid-file={self.directory}/dnsmasq.pid", *user])
        return port

    def queries(self, count):
        path = self.directory / "queries"
        path.write_text("".join(f"{name} A\n" for name in (f"name{i % 1100}.test" for i in range(count))))
        return path

    def dnsperf(self, port, seconds=3, clients=20, more=()):
        dnsperf, = need("dnsperf")
        text = self.ask(dnsperf, "-s", "127.0.0.1", "-p", port, "-d", self.queries(5500), "-c", clients, "-T", 2, "-l", seconds, "-q", 100,
                        "-t", 5 * SLOW, "-W", *more, seconds=seconds + 60)
        numbers = {name: int(re.search(rf"Queries {name}:\s+(\d+)", text)[1]) for name in ("sent", "completed", "lost")}
        self.assertEqual(numbers["lost"], 0, text)
        self.assertEqual(numbers["completed"], numbers["sent"], text)
        # Every eleventh of the names does not exist.
        codes = dict(re.findall(r"(\w+) (\d+) \(", re.search(r"Response codes:(.*)", text)[1]))
        self.assertEqual(set(codes), {"NOERROR", "NXDOMAIN"}, text)
        self.assertGreater(int(codes["NOERROR"]), 9 * int(codes["NXDOMAIN"]), text)
        self.assertNotIn("Warning", text)
        return numbers["sent"]

    def test_dnsperf(self):
        """20 sockets that keep their sessions."""
        port = self.dnsmasq()
        proxy, front = self.in_front(f"127.0.0.1:{port}")
        sent = self.dnsperf(front, 10 if LONG else 3)
        self.assertGreater(sent, 1000)
        stat = self.wait_sessions(proxy, 20, "idle_timeout")
        self.assertGreater(stat["bytes"]["received"], 12 * sent)
        self.assertGreater(stat["bytes"]["sent"], stat["bytes"]["received"])

    def test_a_profile_for_dns(self):
        """A session ends with its answer, so that the next question of a socket is a new one."""
        port = self.dnsmasq()
        proxy, front = self.in_front(f"127.0.0.1:{port}", {"responses": 1, "requests": 1})
        sent = self.dnsperf(front, 2, more=["-n", "1"])
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all sessions to end with their answer")
        row = proxy.listener()
        self.assertEqual(row["total"], sum(row["closes"].values()))
        self.assertGreaterEqual(row["total"], sent)

    def test_as_the_readme_has_it(self):
        """The example of README.md, but for its ports: both servers are up and asked, by TCP as well."""
        text = re.search(r"```\n# dns\.conf\n(.*?)```", (SOURCE / "README.md").read_text(), re.S)[1]
        for port in ("5300", "5301", "5302"):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
        front, *ports = dict.fromkeys(re.findall(r"127\.0\.0\.1:(\d+)", text))
        self.assertEqual(len(ports), 2)
        for port in ports:
            self.dnsmasq(int(port))
        proxy = self.aegis(text)
        proxy.wait_stat(lambda stat: all(server["state"] == "up" for server in stat["upstreams"][0]["servers"]), "both to be up")
        self.dnsperf(front, 1)
        question = b"\0\7\1\0\0\1\0\0\0\0\0\0\5name1\4test\0\0\1\0\1"
        with dial(f"127.0.0.1:{front}") as sock:  # dnsmasq takes a hundred of them from a connection
            sock.sendall(struct.pack("!H", len(question)) + question)
            self.assertEqual(receive(sock, 4)[2:], question[:2])
        for server in proxy.stat()["upstreams"][0]["servers"]:
            self.assertGreater(server["total"], 100)

    def test_dnsperf_while_reloading(self):
        """Questions under way and sessions of before live through one reload after the other."""
        port = self.dnsmasq()
        proxy, front = self.in_front(f"127.0.0.1:{port}", drain={"timeout": "0s", "max_generations": 16})
        done = 0
        while done <= 3:
            load = Task(self.dnsperf, front, 30 if LONG else 5)
            while load.is_alive() and done < (100 if LONG else 8):
                proxy.must_reload()
                done += 1
            load.result(200)


class Iperf(UdpPeer):
    """iperf3 counts what is lost and what is out of order. Its orders go over TCP, to the same port."""

    def iperf(self, host=V4):
        iperf3, = need("iperf3")
        port = free_port()
        self.serve(port, [iperf3, "-s", "-p", port, "-B", host.strip("[]")], host)
        return iperf3, port

    def in_front_of_both(self, host, port):
        front = free_port()
        settings = datagram_app(f"{host}:{port}", {"buffer": "2M"}, {"address": f"{host}:{front}"})
        settings["listeners"].append({"name": "orders", "address": f"{host}:{front}", "upstream": "app"})
        return self.aegis(settings), front

    def measure(self, iperf3, host, front, options):
        def ask():
            # Its own buffers (-w) would overflow where it does not get the CPU for some milliseconds.
            done = run(iperf3, "-J", "-u", "-w", "2M", "-c", host.strip("[]"), "-p", front, *options, seconds=100)
            report = json.loads(done.stdout)
            # Its server is not done with the one before: it says so, or closes at once, which resets what it has not read.
            error = report.get("error", "")
            return None if "busy" in error or ("reset" in error and not report["start"]["connected"]) else report
        report = wait_until(ask, "the iperf3 server to be free", 30)
        self.assertNotIn("error", report)
        total = report["end"]["sum"]
        self.assertGreater(total["packets"], 100, total)
        self.assertEqual(total["lost_packets"], 0, total)
        self.assertEqual(sum(stream["udp"]["out_of_order"] for stream in report["end"]["streams"]), 0, report["end"])
        return total["packets"]

    def test_up_down_and_four_at_a_time(self):
        iperf3, port = self.iperf()
        proxy, front = self.in_front_of_both(V4, port)
        rate = ["-b", "200M" if LONG else "40M", "-t", "10" if LONG else "1"]
        for options in (["-l", "1200"], ["-l", "1200", "-R"], ["-l", "64", "-b", "2M"], ["-l", "1200", "-P", "4", "-b", "10M"], ["-l", "20000"]):
            self.measure(iperf3, V4, front, rate + options)
        proxy.wait_stat(lambda stat: stat["connections"]["active"] == 0, "all streams to be gone")
        # What a client still sends when its server has closed the port, and is told so, begins sessions that end at once.
        row = proxy.listener()
        self.assertGreaterEqual(row["total"], 8)
        self.assertLessEqual(row["closes"]["idle_timeout"], 8)
        self.assertEqual(row["closes"]["idle_timeout"] + row["closes"]["connect_refused"] + row["closes"]["no_server"], row["total"])

    def test_ipv6(self):
        iperf3, port = self.iperf(V6)
        _, front = self.in_front_of_both(V6, port)
        self.measure(iperf3, V6, front, ["-b", "20M", "-t", "1", "-l", "1200"])


class Syslog(UdpPeer):
    def test_logger(self):
        """Every line of many loggers, each once and whole; a session ends with its one datagram and no answer."""
        logger, = need("logger")
        server = DatagramServer(self, answer=lambda data, peer: None)
        proxy, front = self.in_front(server.address, {"requests": 1})
        lines = [f"line {i} {'x' * (i * 40)}" for i in range(25)]
        for number, line in enumerate(lines):
            self.ask(logger, "--udp", "--server", "127.0.0.1", "--port", front, "--rfc5424" if number % 2 else "--rfc3164", "--size", 2000,
                     "--priority", "local0.info", "--tag", f"aegis{number}", line)
        server.wait_seen(len(lines))
        self.assertEqual(len(server.data), len(lines))
        for number, line in enumerate(lines):
            self.assertEqual(len([data for data in server.data if line.encode() in data and f"aegis{number}".encode() in data]), 1, line)
        self.wait_sessions(proxy, len(lines))

    def test_a_file_at_once(self):
        """What one logger sends in a burst comes in order."""
        logger, = need("logger")
        server = DatagramServer(self, answer=lambda data, peer: None)
        proxy, front = self.in_front(server.address)
        path = self.directory / "lines"
        path.write_text("".join(f"number {i}\n" for i in range(500)))
        self.ask(logger, "--udp", "--server", "127.0.0.1", "--port", front, "--file", path)
        server.wait_seen(500)
        self.assertEqual([int(data.split()[-1]) for data in server.data], list(range(500)))
        self.wait_sessions(proxy, 1, "idle_timeout")


class QuicServer(DatagramServer):
    """Like one of QUIC: the first datagram of a client is padded to 1200 bytes and names it and how much it wants. Then comes so much, 16
    datagrams in one piece at a time (UDP_SEGMENT), as long as no more than a window is not acknowledged."""

    WINDOW = 256

    def __init__(self, test, **options):
        self.clients = {}
        super().__init__(test, answer=self.take, **options)
        self.sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)

    def take(self, data, peer):
        if len(data) == 1200:
            name, wanted = struct.unpack_from("!QI", data)
            self.clients[peer] = [name, wanted, 0]
            acknowledged = 0
        else:
            name, acknowledged = struct.unpack("!QI", data)
            assert self.clients[peer][0] == name, "a datagram of another client"
        client = self.clients[peer]
        while client[2] < min(client[1], acknowledged + self.WINDOW):
            numbers = range(client[2], min(client[2] + 16, client[1]))
            self.sock.sendto(b"".join(struct.pack("!QI", client[0], number).ljust(1200, b"q") for number in numbers), peer)
            client[2] = numbers.stop


class Quic(UdpPeer):
    def download(self, front, host, wanted):
        name = random.getrandbits(63)
        client = DatagramClient(self, f"{host}:{front}")
        client.sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        client.send(struct.pack("!QI", name, wanted).ljust(1200, b"h"))
        got = 0
        while got < wanted:
            data, control, _, _ = client.sock.recvmsg(65536, 64)
            size = struct.unpack("i", control[0][2][:4])[0] if control else 1200
            self.assertEqual((size, len(data) % 1200), (1200, 0))
            for at in range(0, len(data), 1200):
                self.assertEqual(data[at:at + 1200], struct.pack("!QI", name, got).ljust(1200, b"q"))
                got += 1
            client.send(struct.pack("!QI", name, got))
        client.close()

    def downloads(self, host, clients, wanted):
        server = QuicServer(self, address=f"{host}:0")
        proxy, front = self.in_front(server.address, {"buffer": "2M"}, host)
        for task in [Task(self.download, front, host, wanted) for _ in range(clients)]:
            task.result(100)
        self.assertEqual(len(server.peers), clients)
        stat = self.wait_sessions(proxy, clients, "idle_timeout")
        self.assertEqual(stat["bytes"]["sent"], clients * wanted * 1200)

    def test_downloads(self):
        """Twelve at a time, each datagram in its place."""
        self.downloads(V4, 12, 20_000 if LONG else 2000)

    def test_ipv6(self):
        self.downloads(V6, 3, 1000)


if __name__ == "__main__":
    aegis.main()
