"""Active checks, and names that change: who gets a connection, and who does not."""
import contextlib
import itertools
import os
import re
import signal
import socket
import struct
import threading
import time

import aegis
from aegis import AEGIS, OWN_ADDRESS, Backend, Case, Echo, Load, bind, dial, echo, form, free_address, parse, receive_line, run, wait_until
from datagrams import DatagramClient, DatagramServer, datagram_app
from dns_server import DnsServer

FAST = {"interval": "100ms", "fast_interval": "50ms", "timeout": f"{round(3 * aegis.SLOW)}s", "rise": 2, "fall": 3}
WHO = b"who are you?\n"


def header(sock):
    """What a client or a check says, up to the end of a header."""
    data = b""
    while not data.endswith((b"\r\n\r\n", WHO)):
        piece = sock.recv(4096)
        if not piece:
            return data
        data += piece
    return data


def mysql_packet(number, body):
    return struct.pack("<I", len(body))[:3] + bytes([number]) + body


MYSQL_GREETING = mysql_packet(0, b"\x0a8.0.36\0" + struct.pack("<I", 7) + b"12345678\0" + struct.pack("<H", 0xF7FF) + b"\xff" +
                              struct.pack("<HH", 2, 0xDFFF) + bytes([21]) + bytes(10) + b"123456789012\0" + b"mysql_native_password\0")
MYSQL_FULL = mysql_packet(0, b"\xff" + struct.pack("<H", 1040) + b"Too many connections")
MYSQL_DENIED = mysql_packet(2, b"\xff" + struct.pack("<H", 1045) + b"#28000Access denied for user 'aegis'")
POSTGRES_ASKS = b"R" + struct.pack("!II", 12, 5) + b"salt"
POSTGRES_STARTS = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"


class Server(Backend):
    """A server of one kind that is well or not, tells clients its name, and keeps checks and clients apart."""

    def __init__(self, test, name, kind="tcp", address="127.0.0.1:0"):
        self.name, self.kind, self.well, self.checks, self.clients = name, kind, True, 0, 0
        super().__init__(test, self.serve, address)

    def serve(self, sock):
        with contextlib.suppress(ConnectionError):
            if self.kind == "mysql":
                sock.sendall(MYSQL_GREETING if self.well else MYSQL_FULL)
            first = sock.recv(4096)
            if self.kind == "mysql" and first == WHO or first.endswith(WHO):
                self.clients += 1
                sock.sendall(self.name.encode() + b"\n")
            else:
                self.checks += 1
                self.answer(sock, first)
                while sock.recv(4096):
                    pass

    def answer(self, sock, first):
        if self.kind == "http":
            while not first.endswith(b"\r\n\r\n") and (more := sock.recv(4096)):
                first += more
            if not first.startswith(b"GET /ping HTTP/1.1\r\n") or b"\r\nHost: app.test\r\n" not in first:
                raise AssertionError(f"not the request that was set: {first}")
            sock.sendall(b"HTTP/1.1 204 Fine\r\n\r\n" if self.well else b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        elif self.kind == "expect":
            sock.sendall(b"pong" if first == b"ping" and self.well else b"nothing")
        elif self.kind == "redis":
            sock.sendall(b"+PONG\r\n" if self.well else b"-LOADING Redis is loading the dataset in memory\r\n")
        elif self.kind == "postgres":
            sock.sendall(POSTGRES_ASKS if self.well else b"E" + struct.pack("!I", 4 + len(POSTGRES_STARTS)) + POSTGRES_STARTS)
        elif self.kind == "mysql" and first:
            sock.sendall(MYSQL_DENIED)


KINDS = {
    "tcp": {"type": "tcp"},
    "expect": {"type": "tcp", "send": "ping", "expect": "pong"},
    "http": {"type": "http", "path": "/ping", "host": "app.test", "expect": "200-299"},
    "redis": {"type": "redis"},
    "postgres": {"type": "postgres", "user": "someone"},
    "mysql": {"type": "mysql"},
}
REASONS = {"expect": "", "http": "status 503", "redis": "LOADING", "postgres": "starting up", "mysql": "Too many connections"}


def ask(address):
    """Which server answers? "" when none does."""
    try:
        with dial(address) as sock:
            sock.sendall(WHO)
            line = receive_line(sock)
            return line.rpartition("MYSQL")[2].strip()
    except (ConnectionError, AssertionError):
        return ""


def ask_mysql(address):
    with dial(address) as sock:
        aegis.receive(sock, len(MYSQL_GREETING))
        sock.sendall(WHO)
        return receive_line(sock).strip()


def health(proxy, name):
    return proxy.server(name)["health"]


class Kinds(Case):
    def goes_down_and_comes_back(self, kind):
        if kind == "http" and not re.search("http checks +yes", run(AEGIS, "-V").stdout):
            self.skipTest("no libcurl here")
        who = ask_mysql if kind == "mysql" else ask
        first, second = Server(self, "first", kind), Server(self, "second", kind)
        rows = [{"name": server.name, "address": server.address} for server in (first, second)]
        proxy, address = self.proxy(rows, upstream={"health": {**FAST, **KINDS[kind]}}, workers=2)
        wait_until(lambda: first.checks > 1 and second.checks > 1, "checks")
        self.assertEqual({who(address) for _ in range(20)}, {"first", "second"})
        self.assertEqual(health(proxy, "first")["state"], "up")
        first.well = False
        if kind == "tcp":
            first.close()
        proxy.wait_log(f"upstream app: server first ({first.address}) is down: ")
        line = next(line for line in proxy.log().splitlines() if "server first" in line and "is down" in line)
        self.assertTrue(line.endswith("(3 of 3 checks failed)"), line)
        self.assertIn(REASONS.get(kind, "Connection refused"), line)
        self.assertEqual(health(proxy, "first")["state"], "down")
        before = first.clients
        self.assertEqual({who(address) for _ in range(20)}, {"second"})
        self.assertEqual(first.clients, before)
        if kind == "tcp":
            first = Server(self, "first", kind, first.address)
        first.well = True
        proxy.wait_log(f"upstream app: server first ({first.address}) is up again: ")
        wait_until(lambda: who(address) == "first", "clients of the server that is back")
        self.assertEqual(health(proxy, "first")["state"], "up")
        self.assertEqual(proxy.log().count("is down"), 1)

    def test_tcp(self):
        self.goes_down_and_comes_back("tcp")

    def test_send_and_expect(self):
        self.goes_down_and_comes_back("expect")

    def test_http(self):
        self.goes_down_and_comes_back("http")

    def test_redis(self):
        self.goes_down_and_comes_back("redis")

    def test_postgres(self):
        self.goes_down_and_comes_back("postgres")

    def test_mysql(self):
        self.goes_down_and_comes_back("mysql")

    def test_on_a_port_of_its_own(self):
        server, checked = Server(self, "a"), Server(self, "checked")
        port = parse(checked.address)[1][1]
        self.proxy(server.address, upstream={"health": {**FAST, "type": "tcp", "port": port}})
        wait_until(lambda: checked.accepted > 2, "checks")
        self.assertEqual(server.accepted, 0)

    def test_of_a_unix_socket(self):
        server = Server(self, "a", address=f"unix:{self.directory}/socket")
        os.chmod(self.directory / "socket", 0o777)
        proxy, address = self.proxy(server.address, upstream={"health": {**FAST, "type": "tcp"}})
        self.assertEqual(ask(address), "a")
        server.close()
        os.unlink(self.directory / "socket")
        proxy.wait_log(f"server {server.address} is down: cannot connect: No such file or directory (3 of 3 checks failed)")


def hanging(test, address="127.0.0.1:0"):
    """A server that answers no connect, its queue being full; returns its address."""
    listener = bind(address, backlog=0)
    test.addCleanup(listener.close)
    for _ in range(4):
        sock = socket.socket()
        test.addCleanup(sock.close)
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
    return form(listener)


class Clients(Case):
    def rows(self, *servers):
        return [{"name": server.name, "address": server.address} for server in servers]

    def test_dead_at_the_start(self):
        """No client is ever sent there, be there retries or not."""
        good, dead = Server(self, "good"), free_address()
        proxy, address = self.proxy([*self.rows(good), {"name": "dead", "address": dead}],
                                    upstream={"health": {**FAST, "type": "tcp"}, "retries": 0}, workers=4)
        self.assertEqual({ask(address) for _ in range(60)}, {"good"})
        self.assertEqual((proxy.server("dead")["total"], proxy.server("dead")["failures"]), (0, 0))
        proxy.wait_log(f"server dead ({dead}) is down: cannot connect: Connection refused (its first check)")

    def test_dead_at_a_reload(self):
        good, dead = Server(self, "good"), free_address()
        checks = {"health": {**FAST, "type": "tcp"}, "retries": 0}
        proxy, _ = self.proxy(self.rows(good), upstream=checks)
        proxy.must_reload(aegis.app([*self.rows(good), {"name": "dead", "address": dead}], upstream=checks))
        self.assertEqual({ask(proxy.address()) for _ in range(60)}, {"good"})
        self.assertEqual((proxy.server("dead")["total"], proxy.server("dead")["failures"]), (0, 0))

    def test_one_that_does_not_answer_holds_nothing_up(self):
        """A start and a reload wait for the first results a second, and go on."""
        good, silent = Server(self, "good"), hanging(self)
        settings = aegis.app([*self.rows(good), {"name": "silent", "address": silent}],
                             upstream={"health": {**FAST, "type": "tcp", "timeout": "60s"}, "retries": 1, "timeout": {"connect": "200ms"}})
        started = time.monotonic()
        proxy = self.aegis(settings)
        self.assertLess(time.monotonic() - started, 5 * aegis.SLOW)
        self.assertEqual(health(proxy, "silent")["state"], "unknown")
        self.assertEqual({ask(proxy.address()) for _ in range(4)}, {"good"})

    def test_it_is_down_by_its_first_check(self):
        good, silent = Server(self, "good"), hanging(self)
        proxy, _ = self.proxy([*self.rows(good), {"name": "silent", "address": silent}], upstream={"health": {**FAST, "type": "tcp", "timeout": "100ms"}})
        proxy.wait_log(f"server silent ({silent}) is down: timed out waiting for the connection (its first check)")
        self.assertEqual(health(proxy, "silent")["state"], "down")

    def test_killed_under_load(self):
        """With retries no client notices; after `fall` checks nobody goes there, and with `rise` they come back."""
        first, second = Echo(self), Echo(self)
        proxy, address = self.proxy([{"name": "first", "address": first.address}, {"name": "second", "address": second.address}],
                                    upstream={"health": {**FAST, "type": "tcp"}, "retries": 2}, workers=4)
        load = Load(self, address, new=4, kept=0, kept_threads=0)
        load.wait_more(50)
        first.close()
        proxy.wait_log("server first (" + first.address + ") is down: ")
        before = proxy.server("first")
        load.wait_more(50)
        after = proxy.server("first")
        self.assertEqual(after["total"], before["total"])
        self.assertLessEqual(after["failures"] - before["failures"], 4, "no more than what was under way")
        again = Echo(self, address=first.address)
        wait_until(lambda: again.accepted > 20, "clients of the server that is back")
        load.stop()

    def test_a_disabled_server_is_not_checked(self):
        off, on = Server(self, "off"), Server(self, "on")
        proxy, address = self.proxy([{"name": "off", "address": off.address, "disabled": True}, *self.rows(on)],
                                    upstream={"health": {**FAST, "type": "tcp"}})
        wait_until(lambda: on.checks > 4, "checks")
        self.assertEqual(off.accepted, 0)
        self.assertEqual(ask(address), "on")


def standing(proxy):
    """What is known of each server, without what goes on by itself."""
    found = {}
    for group in proxy.stat()["upstreams"]:
        for row in group["servers"]:
            found[row["name"]] = (row["health"]["state"], row["breaker"], row["ejected"], row["ejections"], row["total"], row["failures"],
                                  row["sent"], row["received"])
    return found


class Reloads(Case):
    def test_twenty_change_nothing(self):
        """Health, breaker and counters are the same before and after, and nobody is judged anew."""
        servers = [Server(self, name) for name in "ab"]
        rows = [{"name": server.name, "address": server.address} for server in servers]
        rows += [{"name": "dead", "address": free_address()}, {"name": "tripped", "address": free_address()}]
        settings = aegis.app(rows, upstream={"health": {**FAST, "type": "tcp", "interval": "1h", "fast_interval": "1h"},
                                             "circuit_breaker": {"error_threshold": 1, "timeout": "1h", "probes": 1}})
        proxy = self.aegis(settings)
        self.assertEqual({ask(proxy.address()) for _ in range(20)}, {"a", "b"})
        proxy.check_gauges()
        before = standing(proxy)
        checks = [health(proxy, name)["passed"] + health(proxy, name)["failed"] for name in ("a", "b", "dead", "tripped")]
        for _ in range(20):
            proxy.must_reload(settings)
        self.assertEqual(standing(proxy), before)
        self.assertEqual(before["dead"][0], "down")
        after = [health(proxy, name)["passed"] + health(proxy, name)["failed"] for name in ("a", "b", "dead", "tripped")]
        for count, then in zip(after, checks):
            self.assertLessEqual(count - then, 2, "a reload makes no check")
        self.assertEqual(proxy.log().count("is down"), 2)
        self.assertEqual(proxy.log().count("is up again"), 0)

    def test_another_address_is_another_server(self):
        """What was known of the old address holds for the new one no more, nor the other way round."""
        first, second = Server(self, "first"), Server(self, "second")
        checks = {"health": {**FAST, "type": "tcp", "rise": 255}}
        dead = free_address()
        other = {"name": "other", "address": second.address}
        proxy, address = self.proxy([{"name": "a", "address": dead}, other], upstream=checks)
        self.assertEqual(health(proxy, "a")["state"], "down")
        proxy.must_reload(aegis.app([{"name": "a", "address": first.address}, other], upstream=checks))
        proxy.wait_stat(lambda stat: health(proxy, "a")["state"] == "up", "up by its first check")
        wait_until(lambda: ask(proxy.address()) == "first", "clients")

    def test_another_address_is_checked_before_the_switch(self):
        """It is known to be dead when the first client could be sent to it."""
        first = Server(self, "first")
        checks = {"health": {"type": "tcp", "interval": "60s"}, "retries": 0, "start_test": "off"}
        proxy, _ = self.proxy([{"name": "a", "address": first.address}, {"name": "other", "address": first.address}], upstream=checks)
        proxy.wait_stat(lambda stat: health(proxy, "a")["state"] == "up", "up by its first check")
        dead = free_address()
        proxy.must_reload(aegis.app([{"name": "a", "address": dead}, {"name": "other", "address": first.address}], upstream=checks))
        proxy.wait_stat(lambda stat: health(proxy, "a")["state"] == "down", "down by its first check")
        log = proxy.log()
        self.assertEqual(log.count(f"server a ({dead}) is down"), 1)
        self.assertLess(log.index(f"server a ({dead}) is down"), log.index("generation 2"))
        self.assertEqual(health(proxy, "a")["failed"], 1, "its one check counts once")

    def test_one_that_was_away_is_judged_anew(self):
        first, second = Server(self, "first"), Server(self, "second")
        checks = {"health": {**FAST, "type": "tcp", "rise": 255}}
        address, other = free_address(), {"name": "other", "address": second.address}
        settings = aegis.app([{"name": "a", "address": address}, other], upstream=checks)
        proxy = self.aegis(settings)
        self.assertEqual(health(proxy, "a")["state"], "down")
        proxy.must_reload(aegis.app([other], upstream=checks))
        first = Server(self, "first", address=address)
        proxy.must_reload(settings)
        self.assertEqual(health(proxy, "a")["state"], "up")
        wait_until(lambda: ask(proxy.address()) == "first", "clients")

    def test_checks_come_and_go(self):
        dead, good = free_address(), Server(self, "good")
        rows = [{"name": "dead", "address": dead}, {"name": "good", "address": good.address}]
        checked, plain = (aegis.app(rows, upstream={"retries": 1, **more}) for more in ({"health": {**FAST, "type": "tcp"}}, {}))
        proxy = self.aegis(checked)
        self.assertEqual(health(proxy, "dead")["state"], "down")
        proxy.must_reload(plain)
        self.assertEqual(health(proxy, "dead")["state"], "unknown")
        self.assertEqual({ask(proxy.address()) for _ in range(20)}, {"good"})
        self.assertGreater(proxy.server("dead")["failures"], 0, "without checks it is tried")
        before = proxy.server("dead")["failures"]
        proxy.must_reload(checked)
        self.assertEqual({ask(proxy.address()) for _ in range(20)}, {"good"})
        self.assertEqual(proxy.server("dead")["failures"], before)


class Names(Case):
    """Two addresses with one port, and a name for one of them."""

    def setUp(self):
        super().setUp()
        if not re.search("c-ares +yes", run(AEGIS, "-V").stdout):
            self.skipTest("built without c-ares")
        self.dns = DnsServer()
        self.addCleanup(self.dns.close)
        network = OWN_ADDRESS.rpartition(".")[0]
        self.first = Server(self, "first", address=f"{network}.10:0")
        self.port = parse(self.first.address)[1][1]
        self.second = Server(self, "second", address=f"{network}.11:{self.port}")
        self.dns.answer("db.test", "A", 1, f"{network}.10")
        self.network = network

    def named(self, upstream=None, **top):
        resolver = {"servers": [f"127.0.0.1:{self.dns.port}"], "min_ttl": "1s", "max_ttl": "1s", "timeout": f"{round(500 * aegis.SLOW)}ms"}
        return aegis.app({"name": "db", "address": f"db.test:{self.port}"}, upstream=upstream, resolver=resolver, **top)

    def test_a_name_that_moves(self):
        proxy = self.aegis(self.named({"health": {**FAST, "type": "tcp"}}))
        address = proxy.address()
        held = self.connect(address)
        held.sendall(WHO)
        self.assertEqual(receive_line(held).strip(), "first")
        before = proxy.server("db")["total"]
        self.dns.answer("db.test", "A", 1, f"{self.network}.11")
        wait_until(lambda: ask(address) == "second", "new connections at the new address")
        self.assertEqual({ask(address) for _ in range(10)}, {"second"})
        checks = self.second.checks
        wait_until(lambda: self.second.checks > checks, "checks at the new address")
        self.assertGreater(proxy.server("db")["total"], before, "the counters stay with the name")
        self.assertNotIn("is down", proxy.log())
        for _ in range(3):  # and what was learnt stays
            proxy.must_reload()
            self.assertEqual(ask(address), "second")
        os.kill(proxy.control_pid(), signal.SIGKILL)
        proxy.wait_log("the control process is replaced")
        self.assertEqual(ask(address), "second")

    def test_the_dns_server_is_away(self):
        """For many times the TTL: nothing is marked down, and the last good answer holds, also over reloads."""
        proxy = self.aegis(self.named({"health": {**FAST, "type": "tcp"}}))
        address = proxy.address()
        self.dns.answer("db.test", "A", 1, f"{self.network}.11")
        wait_until(lambda: ask(address) == "second", "new connections at the new address")
        self.dns.behave("db.test", "*", "silent")
        proxy.wait_log('cannot resolve "db.test" now')
        self.dns.behave("db.test", "*", "servfail")
        count = self.dns.count("db.test", "A")
        wait_until(lambda: self.dns.count("db.test", "A") >= count + (8 if aegis.LONG else 3), "questions", 60)
        self.assertEqual({ask(address) for _ in range(10)}, {"second"})
        proxy.must_reload()
        self.assertEqual({ask(address) for _ in range(10)}, {"second"})
        self.assertNotIn("is down", proxy.log())
        self.assertEqual(health(proxy, "db")["state"], "up")
        self.dns.behave("db.test", "*", "answer")
        self.dns.answer("db.test", "A", 1, f"{self.network}.10")
        wait_until(lambda: ask(address) == "first", "the name to be resolved again", 60)

    def test_a_name_that_never_rests(self):
        """Each answer is another one: checks come to their end all the same."""
        self.first.close()
        self.second.close()
        hanging(self, f"{self.network}.10:{self.port}")
        hanging(self, f"{self.network}.11:{self.port}")
        proxy = self.aegis(self.named({"health": {**FAST, "type": "tcp", "timeout": "4s"}}), ready=False)
        addresses = itertools.cycle([f"{self.network}.10", f"{self.network}.11"])

        def told():
            count = self.dns.count("db.test", "A")
            if count != told.count:
                told.count = count
                self.dns.answer("db.test", "A", 1, next(addresses))
            return "server db (db.test:" in proxy.log() and "is down: timed out waiting for the connection (its first check)" in proxy.log()
        told.count = 0
        wait_until(told, "the end of the first check", 20)
        proxy.wait_ready()
        proxy.wait_log('control: the addresses of "db.test" are now')

    def test_another_name_of_the_same_server(self):
        """At a reload no client goes to where the old name stood."""
        proxy = self.aegis(self.named())
        self.assertEqual(ask(proxy.address()), "first")
        self.dns.answer("other.test", "A", 1, f"{self.network}.11")
        settings = self.named()
        settings["upstreams"][0]["servers"][0]["address"] = f"other.test:{self.port}"
        proxy.must_reload(settings)
        self.assertEqual({ask(proxy.address()) for _ in range(20)}, {"second"})
        settings["upstreams"][0]["servers"][0]["address"] = self.first.address
        proxy.must_reload(settings)
        self.assertEqual({ask(proxy.address()) for _ in range(20)}, {"first"})

    def test_a_name_that_does_not_exist(self):
        settings = self.named()
        settings["upstreams"][0]["servers"][0]["address"] = f"nobody.test:{self.port}"
        self.must_fail(settings, 1, says=("upstreams.app.servers.db.address", 'cannot resolve "nobody.test"'))


class ByDatagrams(Case):
    """health = { type = "udp" }, of servers that clients reach by UDP."""

    def start(self, health, *servers):
        rows = [{"name": server.name, "address": server.address} for server in servers]
        proxy = self.aegis(datagram_app(rows, {"responses": 1, "requests": 1}, upstream={"health": {**FAST, "type": "udp", **health}}))
        return proxy, proxy.address()

    def server(self, name, address="127.0.0.1:0"):
        """A check is told that it is well, a client the name."""
        return DatagramServer(self, name, address, lambda data, peer: [b"all is well" if data == b"ping" else name.encode()])

    def ask(self, address):
        client = DatagramClient(self, address)
        client.send(b"?")
        answer = client.receive().decode()
        client.close()
        return answer

    def goes_down_and_comes_back(self, health_settings, fail, repair, reason):
        first, second = self.server("first"), self.server("second")
        proxy, address = self.start(health_settings, first, second)
        proxy.wait_stat(lambda stat: {health(proxy, name)["state"] for name in ("first", "second")} == {"up"}, "both to be up")
        self.assertEqual({self.ask(address) for _ in range(20)}, {"first", "second"})
        fail(first)
        proxy.wait_log(f"upstream app: server first ({first.address}) is down: {reason} (3 of 3 checks failed)")
        self.assertEqual({self.ask(address) for _ in range(20)}, {"second"})
        repair(first)
        proxy.wait_log(f"upstream app: server first ({first.address}) is up again: ")
        wait_until(lambda: self.ask(address) == "first", "the server that is back")

    def test_a_server_that_is_gone(self):
        self.goes_down_and_comes_back({"send": "ping", "expect": "well"}, lambda server: server.close(),
                                      lambda server: self.server(server.name, server.address), "refused: nobody has the port")

    def test_a_server_that_is_silent(self):
        self.goes_down_and_comes_back({"send": "ping", "timeout": f"{round(400 * aegis.SLOW)}ms"}, lambda server: setattr(server, "mute", True),
                                      lambda server: setattr(server, "mute", False), "timed out waiting for an answer")

    def test_a_server_that_says_something_else(self):
        self.goes_down_and_comes_back({"send": "ping", "expect": "well"}, lambda server: setattr(server, "answer", lambda data, peer: [b"ill"]),
                                      lambda server: setattr(server, "answer", lambda data, peer: [b"well" if data == b"ping" else b"first"]),
                                      "another answer than the expected one")

    def test_servers_that_never_answer(self):
        """Only who is refused is down."""
        servers = [DatagramServer(self, name, mute=True) for name in ("first", "second")]
        proxy, address = self.start({"silent": True, "timeout": "100ms"}, *servers)
        proxy.wait_stat(lambda stat: {health(proxy, name)["state"] for name in ("first", "second")} == {"up"}, "both to be up")
        servers[0].close()
        proxy.wait_log(f"server first ({servers[0].address}) is down: refused: nobody has the port")
        for _ in range(10):
            DatagramClient(self, address).send(b"a line")
        wait_until(lambda: servers[1].data.count(b"a line") == 10, "the lines at the other one")

    def test_a_question_to_a_dns_server(self):
        """Bytes that are no text, as in conf/dns.conf."""
        dns = DnsServer()
        self.addCleanup(dns.close)
        dns.answer("db.test", "A", 60, "127.0.0.1")
        question = bytes.fromhex("abcd 0100 0001 0000 0000 0000") + b"\x02db\x04test\0" + bytes.fromhex("0001 0001")
        rows = {"name": "dns", "address": f"127.0.0.1:{dns.port}"}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.sendto(question, ("127.0.0.1", dns.port))
            good = sock.recv(512)[:4].hex(" ")
        proxy = self.aegis(datagram_app(rows, upstream={"health": {**FAST, "type": "udp", "send_hex": question.hex(), "expect_hex": good}}))
        proxy.wait_stat(lambda stat: health(proxy, "dns")["state"] == "up", "the expected answer")
        dns.behave("db.test", "A", "servfail")
        proxy.wait_log("is down: another answer than the expected one")
        # what is sent is nobody's business
        self.assertNotIn(question.hex(), (proxy.directory / "settings").read_text())
        done = proxy.command("-p")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn(question.hex(), done.stdout + done.stderr + proxy.log())


if __name__ == "__main__":
    aegis.main()
