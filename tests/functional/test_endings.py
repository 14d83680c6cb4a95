"""For each way in which a connection can end: make it happen, and find it wherever Aegis tells of it. A table of cases (ENDINGS) and a list
of places (PLACES); another place to look is a line there.

Where root may, the script runs itself again in a network namespace of its own, for the ways that take one; else those are skipped."""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import unittest

import admin
import aegis
from datagrams import DatagramClient, DatagramServer, datagram_app
from aegis import KIB, ROOT, Backend, Case, Echo, bind, dial, drop_to_nobody, echo, form, free_address, how_it_ends, need, receive, reset, run, \
    wait_until
from hellos import extension, hello_of, raw_hello
from proxy_header import v2

HELLO = b"hello\n"
NAMED, POSTGRES = "www.example.org", bytes.fromhex("0000000804d2162f")
SOON = f"{round(500 * aegis.SLOW)}ms"
FAR = "127.9.9.9"
IN_NAMESPACE = bool(os.environ.get("AEGIS_TEST_NAMESPACE"))

ENDINGS = []
# The same client goes on at once, with another session or another listener: test_udp.py.
ELSEWHERE = ["server_disabled", "listener_closed"]
# With TLS: test_tls.py.
ELSEWHERE += ["not_tls", "tls_mismatch", "client_certificate", "client_alert", "handshake_left", "handshake_timeout", "client_tls_error",
              "server_tls_error", "client_cut_off", "server_cut_off", "server_handshake", "server_handshake_timeout", "server_certificate"]


class Ending:
    """A way to end: the reason, who closed, the steps that `why` has in this order, how often it comes about. make(test) makes it happen and
    returns (Aegis, the client's address)."""

    def __init__(self, name, reason, by, steps, make, count):
        self.name, self.reason, self.by, self.steps, self.make, self.count = name, reason, by, steps, make, count


def ending(reason, by, *steps, name=None, count=1):
    def add(make):
        ENDINGS.append(Ending(name or reason, reason, by, steps, make, count))
        return make
    return add


def takes_namespace():
    if not IN_NAMESPACE:
        raise unittest.SkipTest("takes a network namespace")


def ip(*args):
    done = run("ip", *args)
    if done.returncode != 0:
        raise AssertionError(f"ip {' '.join(args)}: {done.stderr}")


def vanish(test, address):
    """From now on nothing comes from that address or gets there, and nobody is told."""
    ip("route", "add", "blackhole", address, "table", "local")
    test.addCleanup(ip, "route", "del", "blackhole", address, "table", "local")


def sysctl(name, value):
    with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
        file.write(value)


def greeted(test, address):
    """A client that has a server."""
    sock = test.connect(address)
    test.assertEqual(receive(sock, len(HELLO)), HELLO)
    return sock


def turned_away(test, proxy, address):
    """A client that gets nothing: its address, as Aegis has seen it."""
    sock = test.connect(address)
    client = form(sock)
    test.assertEqual(how_it_ends(sock)[1], b"")
    return proxy, client


# --- the ends of those that had a server ------------------------------------------------------------------------------------


@ending("finished", "client", "accepted", "server chosen", "connected", "first byte", "closed")
def client_finishes(test):
    proxy, address = test.proxy(Echo(test, HELLO).address)
    sock = greeted(test, address)
    client = form(sock)
    sock.close()
    return proxy, client


@ending("finished", "server", "accepted", "server chosen", "connected", "first byte", "closed", name="finished_by_server")
def server_finishes(test):
    def serve(sock):
        sock.sendall(HELLO)

    proxy, address = test.proxy(Backend(test, serve).address)
    sock = greeted(test, address)
    test.assertEqual(how_it_ends(sock), ("eof", b""))
    client = form(sock)
    sock.close()
    return proxy, client


@ending("client_reset", "client", "accepted", "connected", "first byte", "closed")
def client_resets(test):
    proxy, address = test.proxy(Echo(test, HELLO).address)
    sock = greeted(test, address)
    client = form(sock)
    reset(sock)
    return proxy, client


@ending("server_reset", "server", "accepted", "connected", "closed")
def server_resets(test):
    def serve(sock):
        receive(sock, 1)
        reset(sock)

    proxy, address = test.proxy(Backend(test, serve).address)
    sock = test.connect(address)
    sock.sendall(b"x")
    test.assertEqual(how_it_ends(sock), ("reset", b""))
    return proxy, form(sock)


def times_out(test, listener=None, upstream=None, says=b"", mute=False):
    proxy, address = test.proxy(Echo(test, mute=mute).address, listener=listener, upstream=upstream)
    sock = test.connect(address)
    if says:
        sock.sendall(says)
    client = form(sock)
    how_it_ends(sock)
    return proxy, client


@ending("idle_timeout", "aegis", "connected", "first byte", "closed")
def is_idle(test):
    return times_out(test, listener={"timeout": {"idle": SOON}}, says=b"x")


@ending("lifetime", "aegis", "connected", "first byte", "closed")
def is_old(test):
    return times_out(test, listener={"timeout": {"lifetime": SOON}}, says=b"x")


@ending("first_byte_timeout", "aegis", "connected", "closed")
def says_nothing(test):
    return times_out(test, listener={"timeout": {"first_byte": SOON}})


@ending("read_timeout", "aegis", "connected", "closed")
def is_not_answered(test):
    return times_out(test, upstream={"timeout": {"read": SOON}}, says=b"x", mute=True)


@ending("client_lost", "client", "connected", "first byte", "closed")
def client_vanishes(test):
    takes_namespace()
    vanished = threading.Event()

    def serve(sock):
        sock.sendall(receive(sock, 5))
        vanished.wait(60 * aegis.SLOW)
        sock.sendall(b"are you there?")
        return how_it_ends(sock)

    backend = Backend(test, serve)
    proxy, address = test.proxy(backend.address, listener={"tcp": {"user_timeout": "1s"}})
    sock = test.connect(address, source=FAR)
    echo(sock, b"hello")
    vanish(test, FAR)
    vanished.set()
    test.assertEqual(backend.result(), ("reset", b""))
    return proxy, form(sock)


@ending("server_lost", "server", "connected", "first byte", "closed")
def server_vanishes(test):
    takes_namespace()
    server = Echo(test, address=f"{FAR}:0")
    proxy, address = test.proxy(server.address, upstream={"tcp": {"user_timeout": "1s"}})
    sock = test.connect(address, seconds=60)
    echo(sock)
    vanish(test, FAR)
    sock.sendall(b"are you there?")
    test.assertEqual(how_it_ends(sock), ("reset", b""))
    return proxy, form(sock)


@ending("too_slow", "aegis", "connected", "closed")
def is_too_slow(test):
    def serve(sock):
        with contextlib.suppress(OSError):
            while sock.recv(64 * KIB):
                pass

    proxy, address = test.proxy(Backend(test, serve).address, listener={"min_rate": "2000/s"})
    sock, over = test.connect(address, seconds=60), threading.Event()
    test.addCleanup(over.set)
    client = form(sock)
    with contextlib.suppress(OSError):
        while not over.wait(0.5):
            sock.sendall(b"x")
    return proxy, client


@ending("server_down", "aegis", "connected", "first byte", "closed")
def server_goes_down(test):
    server, health = Echo(test, HELLO), Echo(test)
    proxy, address = test.proxy(server.address, upstream={
        "on_down": "close", "health": {"type": "tcp", "port": int(health.address.rpartition(":")[2]), "interval": "100ms", "fast_interval": "50ms",
                                       "rise": 1, "fall": 1}})
    sock = greeted(test, address)
    health.close()
    test.assertEqual(how_it_ends(sock), ("reset", b""))
    return proxy, form(sock)


# --- challenges of ACME ------------------------------------------------------------------------------------------------------


def challenges(test, sent, content=b"", timeout="20s", meanwhile=None):
    """A client of a listener that answers for one token, "token"; returns (Aegis, the client's address). meanwhile: what becomes of the file
    when it has been asked for, before the rest is sent."""
    folder = test.directory / "challenges"
    folder.mkdir(mode=0o755)
    file = folder / "token"
    file.write_bytes(b"token.thumbprint")
    file.chmod(0o644)
    proxy, address = test.proxy(Echo(test).address, listener={"acme": {"challenges": str(folder), "timeout": timeout}})
    sock = test.connect(address)
    client = form(sock)
    sock.sendall(b"GET /.well-known/acme-challenge/token HTTP/1.1\r\n")
    if meanwhile:
        proxy.wait_stat(lambda stat: stat["bytes"]["received"] > 0, "it to be asked for")
        meanwhile(file)
    sock.sendall(sent)
    test.assertTrue(how_it_ends(sock)[1].endswith(content))
    sock.close()
    return proxy, client


@ending("challenge_answered", "aegis", "accepted", "closed")
def an_authority(test):
    return challenges(test, b"Host: one.test\r\n\r\n", b"\r\n\r\ntoken.thumbprint")


@ending("challenge_timeout", "aegis", "accepted", "closed")
def half_an_authority(test):
    return challenges(test, b"Host: one.test\r\n", timeout=SOON)


@ending("bad_challenge", "aegis", "accepted", "closed")
def a_talkative_authority(test):
    return challenges(test, b"Cookie: " + b"x" * 9000 + b"\r\n\r\n")


@ending("no_challenge", "aegis", "accepted", "closed")
def somebody_where_only_authorities_are_answered(test):
    settings = aegis.app(Echo(test).address, listener={"acme": {"challenges": str(test.directory), "only": True}})
    del settings["listeners"][0]["upstream"]
    proxy = test.aegis(settings)
    sock = test.connect(proxy.address())
    client = form(sock)
    sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
    ended, data = how_it_ends(sock)
    test.assertEqual((ended, data[:12]), ("eof", b"HTTP/1.1 404"))
    sock.close()
    return proxy, client


@ending("challenge_lost", "aegis", "accepted", "closed")
def an_authority_whose_answer_is_written_anew(test):
    return challenges(test, b"Host: one.test\r\n\r\n", meanwhile=lambda file: file.write_bytes(b""))


@ending("challenge_lost", "aegis", "accepted", "closed", name="challenge_grown")
def an_authority_whose_answer_grows(test):
    return challenges(test, b"Host: one.test\r\n\r\n", meanwhile=lambda file: file.write_bytes(b"x" * 5000))


# --- routes by name ----------------------------------------------------------------------------------------------------------


def asks(test, sent, server=None, **hello):
    """A client of a listener with one route, for NAMED; returns (Aegis, the client's address)."""
    listener = {"upstream": "app", "sni": [{"name": NAMED, "upstream": "app"}], "client_hello": {"timeout": "20s", **hello}}
    settings = aegis.app(server or Echo(test).address, listener=listener, upstream={"retries": 0})
    del settings["listeners"][0]["upstream"]
    proxy = test.aegis(settings)
    sock = test.connect(proxy.address())
    client = form(sock)
    for part in sent:
        sock.sendall(part)
        if part == POSTGRES:
            receive(sock, 1)
    if not sent:
        sock.shutdown(socket.SHUT_WR)
    how_it_ends(sock)
    return proxy, client


@ending("hello_timeout", "aegis", "accepted", "closed")
def half_a_hello(test):
    return asks(test, [hello_of(NAMED)[:50]], timeout=SOON)


@ending("hello_too_large", "aegis", "accepted", "closed")
def a_long_hello(test):
    return asks(test, [raw_hello(NAMED.encode(), extension(21, bytes(1000)))], max="1k")


@ending("bad_hello", "aegis", "accepted", "closed")
def a_bad_hello(test):
    return asks(test, [raw_hello(b"no name")])


@ending("no_route", "aegis", "accepted", "routed", "closed")
def another_name(test):
    return asks(test, [hello_of("other.example.org")])


@ending("client_left", "client", "accepted", "closed")
def leaves_before_the_hello(test):
    return asks(test, [])


@ending("server_no_tls", "aegis", "accepted", "routed", "server chosen", "connect failed", "closed")
def server_declines(test):
    def serve(sock):
        receive(sock, 8)
        sock.sendall(b"N")
    return asks(test, [POSTGRES, hello_of(NAMED)], Backend(test, serve).address, starttls="postgres")


# --- no server ---------------------------------------------------------------------------------------------------------------


@ending("no_server", "aegis", "accepted", "no server chosen", "closed")
def no_server(test):
    proxy, address = test.proxy(free_address(), upstream={"retries": 0, "circuit_breaker": {"error_threshold": 1, "timeout": "60s"}})
    turned_away(test, proxy, address)
    proxy.wait_closes("connect_refused")
    return turned_away(test, proxy, address)


@ending("connect_refused", "aegis", "accepted", "server chosen", "connect failed", "server chosen", "connect failed", "closed")
def server_refuses(test):
    proxy, address = test.proxy([free_address(), free_address()], upstream={"retries": 1})
    return turned_away(test, proxy, address)


def black_hole(test):
    """An address that neither accepts nor refuses: a listening socket whose backlog is full, so that the kernel drops each SYN."""
    listener = bind(backlog=0)
    test.addCleanup(listener.close)
    while True:
        sock = socket.socket()
        test.addCleanup(sock.close)
        sock.settimeout(1.0)
        try:
            sock.connect(listener.getsockname())
        except TimeoutError:
            return form(listener)


@ending("connect_timeout", "aegis", "server chosen", "connect failed", "closed")
def server_does_not_answer(test):
    proxy, address = test.proxy(black_hole(test), upstream={"timeout": {"connect": SOON}, "retries": 0})
    return turned_away(test, proxy, address)


@ending("connect_failed", "aegis", "server chosen", "connect failed", "closed")
def no_route(test):
    takes_namespace()
    proxy, address = test.proxy("192.0.2.1:80", upstream={"retries": 0})
    return turned_away(test, proxy, address)


@ending("no_ports", "aegis", "server chosen", "connect failed", "closed")
def no_ports(test):
    takes_namespace()
    ports = 4
    proxy, address = test.proxy(Echo(test, address="127.0.0.1:1001").address, listener={"address": "127.0.0.1:1000"}, upstream={"retries": 0})
    sysctl("ipv4/ip_local_port_range", f"40000 {40000 + ports - 1}")
    test.addCleanup(sysctl, "ipv4/ip_local_port_range", "32768 60999")

    def call(port):
        sock = socket.socket()
        test.addCleanup(sock.close)
        sock.settimeout(20 * aegis.SLOW)
        sock.bind((FAR, port))
        with contextlib.suppress(ConnectionResetError):  # who is turned away may hear of that before connect() returns
            sock.connect(aegis.parse(address)[1])
        return sock

    held = [call(2000 + number) for number in range(ports)]
    for sock in held:
        echo(sock)
    last = call(3000)
    client = form(last)
    test.assertEqual(how_it_ends(last)[1], b"")
    return proxy, client


@ending("no_descriptors", "aegis", "server chosen", "connect failed", "closed")
def no_descriptors(test):
    prlimit, = need("prlimit")
    server = Echo(test, HELLO)
    proxy = test.aegis(aegis.app(server.address, workers=1, upstream={"retries": 0}), nobody=ROOT)
    address, pid = proxy.address(), proxy.workers()[0]["pid"]
    with dial(address) as sock:
        test.assertEqual(receive(sock, len(HELLO)), HELLO)
    proxy.wait_closes("finished")
    soft, hard = re.search(r"Max open files +(\d+) +(\d+)", aegis.proc(pid, "limits")).groups()

    def limit(to):
        done = run(prlimit, "--pid", pid, f"--nofile={to}:{hard}", **drop_to_nobody())
        test.assertEqual(done.returncode, 0, done.stderr)

    used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    try:
        limit(next(fd for fd in range(1000) if fd not in used) + 1)  # enough for a client, not for its server as well
        return turned_away(test, proxy, address)
    finally:
        limit(soft)


# --- turned away -------------------------------------------------------------------------------------------------------------


@ending("full", "aegis", "accepted", "full", "closed")
def all_full(test):
    proxy, address = test.proxy(Echo(test, HELLO).address, max_connections=1)
    greeted(test, address)
    return turned_away(test, proxy, address)


@ending("listener_full", "aegis", "accepted", "full", "closed")
def listener_full(test):
    proxy, address = test.proxy(Echo(test, HELLO).address, listener={"max_connections": 1})
    greeted(test, address)
    return turned_away(test, proxy, address)


@ending("denied", "aegis", "accepted", "denied", "closed")
def denied(test):
    proxy, address = test.proxy(Echo(test).address, listener={"deny": ["10.0.0.0/8", "127.0.0.0/8"]})
    return turned_away(test, proxy, address)


@ending("rate_limited", "aegis", "accepted", "rate limited", "closed")
def too_often(test):
    proxy, address = test.proxy(Echo(test, HELLO).address, listener={"rate_limit": {"connections_per_second": 1, "burst": 0, "per": "address"}})
    greeted(test, address)
    return turned_away(test, proxy, address)


def by_a_proxy(test, data, **more):
    """What a proxy sends that Aegis believes; the client that counts."""
    accept = {"from": ["127.0.0.1"], **more}
    proxy, address = test.proxy(Echo(test).address, listener={"accept_proxy": accept, "deny": ["192.0.2.0/24"]})
    sock = test.connect(address)
    sock.sendall(data)
    if not data:
        sock.shutdown(socket.SHUT_WR)
    client = form(sock)
    how_it_ends(sock)
    return proxy, client


@ending("denied", "aegis", "accepted", "introduced", "denied", "closed", name="denied_behind_a_proxy")
def denied_behind_a_proxy(test):
    proxy, _ = by_a_proxy(test, v2("192.0.2.1:1234", "198.51.100.7:443"))
    return proxy, "192.0.2.1:1234"


@ending("proxy_header", "aegis", "accepted", "closed")
def no_header(test):
    return by_a_proxy(test, HELLO)


@ending("proxy_timeout", "aegis", "accepted", "closed")
def half_a_header(test):
    return by_a_proxy(test, b"PROXY ", timeout=SOON)


@ending("proxy_left", "client", "accepted", "closed")
def a_proxy_that_left(test):
    return by_a_proxy(test, b"")


@ending("proxy_untrusted", "aegis", "accepted", "closed")
def not_believed(test):
    proxy, address = test.proxy(Echo(test).address, listener={"accept_proxy": {"from": ["192.0.2.1"]}})
    return turned_away(test, proxy, address)


@ending("servers_full", "aegis", "accepted", "no server chosen", "closed")
def servers_full(test):
    proxy, address = test.proxy({"address": Echo(test, HELLO).address, "max_connections": 1})
    greeted(test, address)
    return turned_away(test, proxy, address)


def in_line(test, timeout="60s"):
    """A server with one place, which is taken, and a line with one place, which is free."""
    proxy, address = test.proxy({"address": Echo(test, HELLO).address, "max_connections": 1}, upstream={"queue": {"size": 1, "timeout": timeout}})
    greeted(test, address)
    return proxy, address


def wait_waiting(proxy):
    proxy.wait_stat(lambda stat: stat["upstreams"][0]["waiting"] == 1, "a client to wait")


@ending("queue_full", "aegis", "accepted", "no server chosen", "closed")
def line_full(test):
    proxy, address = in_line(test)
    test.connect(address)
    wait_waiting(proxy)
    return turned_away(test, proxy, address)


@ending("queue_timeout", "aegis", "accepted", "no server chosen", "in line", "closed")
def waits_too_long(test):
    proxy, address = in_line(test, timeout=SOON)
    return turned_away(test, proxy, address)


@ending("client_gave_up", "client", "accepted", "no server chosen", "in line", "closed")
def client_gives_up(test):
    proxy, address = in_line(test)
    sock = test.connect(address)
    wait_waiting(proxy)
    client = form(sock)
    sock.close()
    return proxy, client


# --- datagrams --------------------------------------------------------------------------------------------------------------


def asked(test, udp=None, **settings):
    """A session of UDP that was answered: (Aegis, client)."""
    proxy = test.aegis(datagram_app(DatagramServer(test).address, {"idle": "60s", **(udp or {})}, workers=1, **settings))
    client = DatagramClient(test, proxy.address())
    client.ask()
    return proxy, client


@ending("answered", "aegis", "accepted", "server chosen", "connected", "first byte", "closed")
def all_answers(test):
    proxy, client = asked(test, {"responses": 1})
    return proxy, client.address


@ending("requests_reached", "aegis", "accepted", "server chosen", "connected", "closed")
def all_requests(test):
    server = DatagramServer(test, mute=True)
    proxy = test.aegis(datagram_app(server.address, {"idle": "60s", "requests": 2}, workers=1))
    client = DatagramClient(test, proxy.address())
    client.send(b"1")
    client.send(b"2")
    return proxy, client.address


@ending("connect_rate", "aegis", "accepted", "no server chosen", "closed")
def too_fast(test):
    proxy, client = asked(test, {"responses": 1}, upstream={"connect_rate": "1/s", "connect_burst": 0})
    client = DatagramClient(test, proxy.address())
    client.send(b"too soon")
    return proxy, client.address


# --- by the operator, and by accident ------------------------------------------------------------------------------------------


def drained(test, **drain):
    proxy, address = test.proxy(Echo(test, HELLO).address, drain=drain)
    sock = greeted(test, address)
    client = form(sock)
    proxy.settings["workers"] = 1
    proxy.must_reload(proxy.settings)
    test.assertEqual(how_it_ends(sock), ("eof", b""))
    return proxy, client


@ending("drain_timeout", "operator", "connected", "first byte", "closed")
def drain_times_out(test):
    return drained(test, timeout=SOON)


@ending("drain_paced", "operator", "connected", "first byte", "closed")
def drain_is_paced(test):
    return drained(test, timeout="60s", pace=100)


@ending("killed", "operator", "connected", "first byte", "closed")
def is_killed(test):
    proxy, address = test.proxy(Echo(test, HELLO).address)
    sock = greeted(test, address)
    client = form(sock)
    live = admin.get(proxy.directory, f"/connections?client={client}").json["connections"]
    test.assertEqual([row["client"] for row in live], [client])
    answer = admin.ask(proxy.directory, "DELETE", f"/connections/{live[0]['id']}")
    test.assertEqual((answer.status, answer.json), (200, {"id": live[0]["id"], "killed": True}))
    test.assertEqual(how_it_ends(sock), ("eof", b""))
    return proxy, client


@ending("worker_died", None, "accepted", "connected", "first byte", "worker died")
def worker_dies(test):
    proxy, address = test.proxy(Echo(test, HELLO).address, workers=1)
    proxy.lost, proxy.restarts = True, 1
    sock = greeted(test, address)
    client = form(sock)
    os.kill(proxy.workers()[0]["pid"], signal.SIGKILL)
    with contextlib.suppress(AssertionError):  # with TLS it is cut off
        how_it_ends(sock)
    return proxy, client


# --- where it is found ---------------------------------------------------------------------------------------------------------


def in_the_counter(test, proxy, row, client):
    proxy.wait_closes(row.reason, row.count)


def is_in_order(wanted, found):
    rest = iter(found)
    return all(word in rest for word in wanted)


def in_why(test, proxy, row, client):
    def told():
        answer = admin.get(proxy.directory, f"/why?address={client}")
        test.assertEqual(answer.status, 200, answer)
        found = answer.json["connections"]
        return found if found and found[0]["ended"] else None

    found = wait_until(told, f"the end of {client} in /why")
    test.assertEqual(len(found), 1, found)
    connection = found[0]
    test.assertEqual((connection["client"], connection["listener"], connection["reason"]), (client, "app", row.reason), connection)
    steps = connection["steps"]
    names = [step["step"] for step in steps]
    test.assertTrue(is_in_order(row.steps, names), f"{row.steps} in this order in {names}")
    test.assertEqual(names[-1], row.steps[-1])
    test.assertEqual(names[0], "accepted")
    times = [step["at_ms"] for step in steps]
    test.assertEqual(times, sorted(times))
    test.assertTrue(all(step["text"] for step in steps), steps)
    if row.by:
        test.assertIn(f"{row.reason}: ", steps[-1]["text"])
        test.assertIn(f"closed by {row.by} ", steps[-1]["text"])


def in_the_access_log(test, proxy, row, client):
    """Once, with the same words; whose worker was killed has no record."""
    def records():
        lines = test.access_log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    wanted = row.count if row.by else 0
    wait_until(lambda: sum(record["reason"] == row.reason for record in records()) >= wanted, f"{row.reason} in the access log")
    found = [record for record in records() if record["client"] == client]
    test.assertEqual([(record["phase"], record["reason"], record["closed_by"]) for record in found],
                     [("close", row.reason, row.by)] if row.by else [])
    test.assertEqual(sum(record["reason"] == row.reason for record in records()), wanted)


PLACES = [in_the_counter, in_why, in_the_access_log]


class Endings(Case):
    """One test for each row of ENDINGS."""

    def setUp(self):
        super().setUp()
        self.access_log = self.directory / "access" / "log"
        self.access_log.parent.mkdir()
        os.chmod(self.access_log.parent, 0o777)  # for an Aegis that was not started as root

    def with_access_log(self, settings):
        return {"access_log": {"path": str(self.access_log)}, **settings}

    def aegis(self, settings, *args, **options):
        return super().aegis(self.with_access_log(settings), *args, **options)

    def proxy(self, servers, **settings):
        return super().proxy(servers, **self.with_access_log(settings))


def _test_of(row):
    def test(self):
        proxy, client = row.make(self)
        for place in PLACES:
            with self.subTest(place=place.__name__):
                place(self, proxy, row, client)
    test.__doc__ = f"{row.reason}, closed by {row.by}."
    return test


for _row in ENDINGS:
    setattr(Endings, f"test_{_row.name}", _test_of(_row))


class All(Case):
    def test_no_reason_is_left_out(self):
        """A new reason needs a row. Those without one cannot be brought about from outside."""
        done = run(aegis.AEGIS_STAT, "--metrics")
        reasons = set(re.findall(r"^\| `(\w+)` \| (?:ordinary|rejected|error|operator) ", done.stdout, re.M))
        self.assertGreater(len(reasons), 25, done.stdout[-3000:])
        self.assertEqual(reasons - {row.reason for row in ENDINGS}, {"no_memory", "internal", *ELSEWHERE})


def enter():
    """Run this script again in a network namespace, where that is possible."""
    if IN_NAMESPACE:
        ip("link", "set", "lo", "up")
        return
    if not ROOT or not shutil.which("unshare") or not shutil.which("ip"):
        return
    if run("unshare", "-n", "ip", "link", "set", "lo", "up").returncode == 0:
        os.environ["AEGIS_TEST_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-n", sys.executable, "-B", *sys.argv])


if __name__ == "__main__":
    enter()
    aegis.main()
