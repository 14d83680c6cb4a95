"""The logs: every connection has its one record whatever happens to the file, its reader, the control process or a worker; and nobody waits for
a log. What each way to end looks like in it is in test_endings.py."""
import contextlib
import copy
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import unittest

import aegis
from aegis import AEGIS_STAT, ROOT, Backend, Case, Echo, Load, dial, echo, form, free_address, how_it_ends, need, reset, run, title, wait_until

MEMBERS = ["time", "id", "phase", "client", "listener", "upstream", "server", "bytes_up", "bytes_down", "waited_ms", "connect_ms",
           "first_byte_ms", "duration_ms", "reason", "closed_by"]
TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \d+\.\d+ (close|open|interval) (\S+) (\S+) (\S+)/(\S+) up=(\d+) down=(\d+) waited=\d+ "
                  r"connect=(?:\d+\.\d{3}|-) first_byte=(?:\d+\.\d{3}|-) duration=\d+\.\d{3} (\w+|-) (\w+|-)\n")
RING = "16k"  # the least: some 150 records


def parsed(text):
    """The records of a text; each line must be one."""
    records = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    for record in records:
        if list(record) != MEMBERS:
            raise AssertionError(f"members: {list(record)}")
    return records


def stopped(proxy, pid):
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: aegis.stat_fields(pid)[0] == "T", "the process to stand still")


class Logs(Case):
    def setUp(self):
        super().setUp()
        self.path = self.directory / "access.log"

    def logged(self, servers, access=None, **settings):
        return self.proxy(servers, access_log={"path": str(self.path), **(access or {})}, **settings)

    def records(self, *paths):
        return [record for path in paths or [self.path] if path.exists() for record in parsed(path.read_text())]

    def wait_records(self, count, *paths):
        wait_until(lambda: len(self.records(*paths)) >= count, lambda: f"{count} records, there are {len(self.records(*paths))}")
        records = self.records(*paths)
        self.assertEqual(len(records), count)
        return records

    def dropped(self, proxy, key="access_log_dropped"):
        return sum(worker[key] for worker in proxy.stat()["workers"])

    def draining(self, proxy):
        proxy.wait_stat(lambda stat: all(worker["state"] == "draining" for worker in stat["workers"]), "all workers to drain")

    def clients(self, address, count):
        for _ in range(count):
            with dial(address) as sock:
                echo(sock)

    def whole(self, proxy, records, lost=0):
        """Every connection that was counted has one record, but for those that were lost."""
        ids = [record["id"] for record in records]
        self.assertEqual(len(set(ids)), len(ids), "a record is doubled")
        total = proxy.listener()["total"]
        self.assertEqual(len(ids) + lost, total)


class Records(Logs):
    def test_json(self):
        proxy, address = self.logged({"name": "a", "address": Echo(self).address})
        with dial(address) as sock:
            client = form(sock)
            echo(sock, b"x" * 1000)
        record, = self.wait_records(1)
        self.assertEqual({name: record[name] for name in ("phase", "client", "listener", "upstream", "server", "bytes_up", "bytes_down",
                                                          "waited_ms", "reason", "closed_by")},
                         {"phase": "close", "client": client, "listener": "app", "upstream": "app", "server": "a", "bytes_up": 1000,
                          "bytes_down": 1000, "waited_ms": 0, "reason": "finished", "closed_by": "client"})
        self.assertLessEqual(record["connect_ms"], record["first_byte_ms"])
        self.assertLessEqual(record["first_byte_ms"], record["duration_ms"])
        self.assertRegex(record["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertRegex(record["id"], r"^\d+\.\d+$")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)
        proxy.stop()

    def test_text(self):
        _, address = self.logged({"name": "a", "address": Echo(self).address}, {"format": "text"})
        with dial(address) as sock:
            client = form(sock)
            echo(sock, b"x" * 1000)
        line = wait_until(lambda: self.path.read_text(), "a line")
        self.assertRegex(line, TEXT)
        self.assertEqual(TEXT.fullmatch(line).groups(), ("close", client, "app", "app", "a", "1000", "1000", "finished", "client"))

    def test_off_when_it_is_not_written(self):
        proxy, address = self.proxy(Echo(self).address)
        self.clients(address, 5)
        self.assertIn('path = "";', proxy.command("-T").stdout)
        self.assertEqual(self.dropped(proxy), 0)

    def test_servers_end_first_too(self):
        server = Backend(self, lambda sock: sock.sendall(b"bye"))
        _, address = self.logged(server.address)
        with dial(address) as sock:
            self.assertEqual(how_it_ends(sock), ("eof", b"bye"))
        record, = self.wait_records(1)
        self.assertEqual((record["closed_by"], record["bytes_down"]), ("server", 3))

    def test_no_byte_of_a_client_is_in_it(self):
        proxy, address = self.logged(Echo(self).address, log={"level": "debug"})
        evil = b'\n{"time":"forged"}\r\n\x1b[2J\x00 FORGED %s%n'
        with dial(address) as sock:
            echo(sock, evil)
        with dial(address) as sock:
            sock.sendall(evil)
            reset(sock)
        self.wait_records(2)
        self.assertNotIn("orged", self.path.read_text() + proxy.log())
        self.assertNotIn("FORGED", self.path.read_text() + proxy.log())

    def test_refused_ones_have_one(self):
        _, address = self.logged(Echo(self).address, listener={"max_connections": 1})
        with dial(address) as kept:
            echo(kept)
            with dial(address) as sock:
                how_it_ends(sock)
            record, = self.wait_records(1)
        self.assertEqual((record["reason"], record["closed_by"], record["server"], record["connect_ms"], record["first_byte_ms"]),
                         ("listener_full", "aegis", None, None, None))
        self.wait_records(2)

    def test_who_waited_says_so(self):
        _, address = self.logged({"address": Echo(self).address, "max_connections": 1}, upstream={"queue": {"size": 5}})
        first = self.connect(address)
        echo(first)
        with dial(address) as sock:
            aegis.wait_until(lambda: not first.close(), "the first to end")
            echo(sock)
        records = self.wait_records(2)
        self.assertEqual([record["reason"] for record in records], ["finished", "finished"])
        self.assertTrue(all(record["waited_ms"] <= record["connect_ms"] + 1 for record in records), records)

    def test_connections_that_last(self):
        """open after the first interval, interval after each other, close at the end; what they say only grows."""
        proxy, address = self.logged(Echo(self).address, {"interval": "1s"}, workers=1)
        with dial(address) as sock:
            echo(sock, b"abc")
            self.clients(address, 3)
            wait_until(lambda: len([r for r in self.records() if r["phase"] == "interval"]) >= 1, "two intervals")
            echo(sock, b"defg")
        wait_until(lambda: len([r for r in self.records() if r["phase"] == "close"]) == 4, "four ends")
        mine = [record for record in self.records() if record["duration_ms"] > 900]
        phases = [record["phase"] for record in mine]
        self.assertEqual(phases, ["open"] + ["interval"] * (len(phases) - 2) + ["close"])
        self.assertEqual(len({record["id"] for record in mine}), 1)
        self.assertEqual([(r["reason"], r["closed_by"]) for r in mine], [(None, None)] * (len(mine) - 1) + [("finished", "client")])
        self.assertEqual((mine[0]["bytes_up"], mine[-1]["bytes_up"]), (3, 7))
        for number, record in enumerate(mine[:-1], 1):
            self.assertTrue(number * 1000 <= record["duration_ms"], record)
        self.assertEqual(proxy.listener()["total"], 4)


class Files(Logs):
    def test_rotation_under_load(self):
        proxy, address = self.logged(Echo(self).address)
        load, old = Load(self, address, new=4, kept=2), []
        for number in range(8):
            load.wait_more(10)
            wait_until(lambda: self.path.stat().st_size > 0, "a record")
            old.append(self.directory / f"access.log.{number}")
            self.path.rename(old[-1])
            proxy.send(signal.SIGUSR1)
            wait_until(self.path.exists, "the new file")
        load.wait_more(10)
        load.stop()
        self.assertFalse(load.failures)
        proxy.check_gauges()
        total = proxy.listener()["total"]
        records = self.wait_records(total, *old, self.path)
        self.whole(proxy, records)
        self.assertEqual(proxy.log().count("access log opened again"), 8)
        # nobody keeps the files that were rotated away
        for pid in aegis.session_members(proxy.pid):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    self.assertNotIn("access.log.", os.readlink(f"/proc/{pid}/fd/{fd}"), title(pid))

    def test_logrotate(self):
        logrotate, = need("logrotate")
        proxy, address = self.logged(Echo(self).address, log={"target": str(self.directory / "aegis.log")})
        text = (aegis.SOURCE / "contrib" / "logrotate" / "aegis").read_text()
        text = text.replace("/var/log/aegis", str(self.directory)).replace("aegis -s reopen", f"{aegis.AEGIS} -r {proxy.directory} -s reopen")
        self.assertIn(str(self.directory), text)
        self.assertIn(str(aegis.AEGIS), text)
        rules = self.directory / "rules"
        rules.write_text(text)
        os.chmod(rules, 0o600)
        self.clients(address, 3)
        self.wait_records(3)
        for number in range(2):
            done = run(logrotate, "-f", "-s", self.directory / "state", rules)
            self.assertEqual(done.returncode, 0, done.stderr)
            wait_until(self.path.exists, "the new file")
            self.clients(address, 3)
            wait_until(lambda: len(self.records()) == 3, "the records in the new file")
        found = sorted(path.name for path in self.directory.glob("access.log*"))
        self.assertEqual(len(found), 3, found)
        proxy.stop()

    def test_a_file_that_cannot_be_opened(self):
        path = str(self.directory / "none" / "access.log")
        self.must_fail(aegis.app("127.0.0.1:1", access_log={"path": path}), 2, says=[path, "access_log.path"])
        proxy, address = self.proxy(Echo(self).address)
        self.assertFalse(proxy.reload({**proxy.settings, "access_log": {"path": path}}))
        self.clients(address, 2)

    def test_wrong_settings(self):
        for group, says in (({"path": "relative.log"}, "access_log.path"), ({"format": "json"}, "access_log.path"),
                            ({"path": "/x", "format": "xml"}, "access_log.format"), ({"path": "/x", "buffer": "1k"}, "access_log.buffer"),
                            ({"path": "/x", "interval": "1ms"}, "access_log.interval")):
            self.must_fail(aegis.app("127.0.0.1:1", access_log=group), 1, says=[says])

    def test_reloads_under_load(self):
        """Another file, another format, off and on again: no record is lost or doubled where it is on."""
        proxy, address = self.logged(Echo(self).address)
        other, load = self.directory / "other.log", Load(self, address, new=4, kept=0)
        for number in range(6):
            load.wait_more(5)
            path = [other, self.path][number % 2]
            proxy.must_reload({**proxy.settings, "access_log": {"path": str(path)}, "drain": {"pace": number}})
        load.wait_more(5)
        load.stop()
        self.assertFalse(load.failures)
        proxy.check_gauges()
        records = self.wait_records(proxy.listener()["total"], self.path, other)
        self.whole(proxy, records)
        before = len(records)
        proxy.must_reload({name: value for name, value in proxy.settings.items() if name != "access_log"})
        self.clients(address, 5)
        proxy.must_reload({**proxy.settings, "access_log": {"path": str(self.path), "format": "text"}})
        size = self.path.stat().st_size
        self.clients(address, 5)
        wait_until(lambda: len(self.path.read_text()[size:].splitlines()) >= 5, "records as text")
        lines = self.path.read_text()[size:].splitlines(keepends=True)
        self.assertEqual(len(lines), 5)
        for line in lines:
            self.assertRegex(line, TEXT)
        self.assertEqual(proxy.listener()["total"], before + 10)

    def test_control_processes_take_turns(self):
        """Every second reload is in place; each of them brings another control process."""
        servers = [{"name": name, "address": Echo(self).address} for name in "ab"]
        proxy, address = self.logged(servers, upstream={"health": {"type": "tcp"}})
        load, pids = Load(self, address, new=4, kept=0), set()
        for disabled in (True, False) * 3:
            load.wait_more(5)
            settings = copy.deepcopy(proxy.settings)
            settings["upstreams"][0]["servers"][1]["disabled"] = disabled
            proxy.must_reload(settings)
            pids.add(proxy.control_pid())
        load.wait_more(5)
        load.stop()
        self.assertFalse(load.failures)
        self.assertEqual((len(pids), proxy.stat()["generation"]), (6, 4))
        proxy.check_gauges()
        self.whole(proxy, self.wait_records(proxy.listener()["total"]))

    def test_what_is_there_at_the_stop_is_written(self):
        for _ in range(3):
            proxy, address = self.logged(Echo(self).address)
            before = len(self.records())
            kept = [self.connect(address) for _ in range(5)]
            for sock in kept:
                echo(sock)
            self.clients(address, 50)
            proxy.send(signal.SIGTERM)
            self.draining(proxy)
            for sock in kept:
                sock.close()
            self.assertEqual(proxy.wait_exit(), 0)
            records = self.records()[before:]
            self.assertEqual(len(records), 55)
            self.assertEqual(len({record["id"] for record in records}), 55)

    def test_a_quick_stop_has_records_of_all(self):
        proxy, address = self.logged(Echo(self).address, drain={"timeout": "1m"})
        socks = [self.connect(address) for _ in range(20)]
        for sock in socks:
            echo(sock)
        proxy.send(signal.SIGTERM)
        self.draining(proxy)
        proxy.send(signal.SIGTERM)
        self.assertEqual(proxy.wait_exit(), 0)
        records = self.records()
        self.assertEqual([(record["reason"], record["closed_by"]) for record in records], [("drain_timeout", "operator")] * 20)


class Refusals(Logs):
    """Whoever does not take records costs records, and nothing else."""

    def lost_is_told(self, proxy):
        proxy.check_gauges()
        lost = self.dropped(proxy)
        wait_until(lambda: sum(int(count) for count in re.findall(r"access log: (\d+) records were lost", proxy.log())) == lost,
                   lambda: f"{lost} records told as lost in {proxy.log()[-2000:]}")

    def fill(self, proxy, address, count=400):
        """Until records are dropped; then some more."""
        def dropped():
            self.clients(address, 50)
            return self.dropped(proxy)
        wait_until(dropped, "records to be dropped", 30)
        self.clients(address, count)

    def test_a_full_disk(self):
        """/dev/full: nothing is ever written. Clients do not notice; the drops are counted, and told in the log."""
        self.path = pathlib.Path("/dev/full")
        proxy, address = self.logged(Echo(self).address, {"buffer": RING}, workers=1)
        self.fill(proxy, address)
        proxy.wait_log("the access log cannot be written: No space left on device")
        self.assertEqual(proxy.log().count("the access log cannot be written"), 1)
        proxy.check_gauges()
        total, dropped = proxy.listener()["total"], self.dropped(proxy)
        self.assertTrue(0 < total - dropped < 300, (total, dropped))
        metrics = run(AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        self.assertIn(f'aegis_log_dropped_total{{log="access",worker="0"}} {dropped}\n', metrics)
        self.assertIn('aegis_log_dropped_total{log="error",worker="0"} 0\n', metrics)
        proxy.stop()

    @unittest.skipUnless(ROOT, "takes root to mount a file system")
    def test_a_disk_that_becomes_full_and_has_room_again(self):
        disk = self.directory / "disk"
        disk.mkdir()
        if run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk).returncode != 0:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(run, "umount", "-l", disk)
        self.path = disk / "access.log"
        proxy, address = self.logged(Echo(self).address, {"buffer": RING}, workers=1)
        self.fill(proxy, address)
        proxy.wait_log("the access log cannot be written: No space left on device")
        kept = self.directory / "kept.log"
        kept.write_bytes(self.path.read_bytes())
        os.truncate(self.path, 0)
        self.lost_is_told(proxy)  # all that had waited is written
        self.clients(address, 20)
        proxy.check_gauges()

        def joined():
            """What was half written when the disk was full goes on where it was cut."""
            return parsed(kept.read_text() + self.path.read_text())
        total = proxy.listener()["total"]
        wait_until(lambda: joined()[-1]["id"].endswith(f".{total}"), "the last record")
        lost = self.dropped(proxy)
        self.assertGreater(lost, 0)
        self.whole(proxy, joined(), lost)
        proxy.stop()

    def reader(self, proxy_settings):
        os.mkfifo(self.path)
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, fd)
        proxy, address = self.logged(Echo(self).address, **proxy_settings)
        got = bytearray()

        def read():
            with contextlib.suppress(BlockingIOError):
                while part := os.read(fd, 65536):
                    got.extend(part)
            return bytes(got)
        return proxy, address, read

    def test_a_reader_that_stops_and_goes_on(self):
        proxy, address, read = self.reader({"access": {"buffer": RING}, "workers": 1})
        self.clients(address, 5)
        wait_until(lambda: read().count(b"\n") == 5, "the first records")
        self.fill(proxy, address)
        proxy.check_gauges()
        total = proxy.listener()["total"]
        wait_until(lambda: read().count(b"\n") + self.dropped(proxy) == total, "the rest")
        self.whole(proxy, parsed(read().decode()), self.dropped(proxy))
        self.lost_is_told(proxy)
        self.clients(address, 5)
        wait_until(lambda: read().count(b"\n") + self.dropped(proxy) == total + 5, "what comes then")
        proxy.stop()

    def test_nobody_reads_the_fifo(self):
        os.mkfifo(self.path)
        self.must_fail(aegis.app("127.0.0.1:1", access_log={"path": str(self.path)}), 2, says=[str(self.path)])

    def test_the_access_log_does_not_hold_up_the_log(self):
        self.path = pathlib.Path("/dev/full")
        proxy, address = self.logged(free_address(), {"buffer": RING}, workers=1, log={"level": "debug"})
        for number in range(1, 301):
            with dial(address) as sock:
                how_it_ends(sock)
            if number % 50 == 0:
                wait_until(lambda: proxy.log().count("connect_refused in step connect") == number, "a line for each end")
        self.assertEqual(self.dropped(proxy, "log_dropped"), 0)


class Processes(Logs):
    def test_a_stopped_control_process(self):
        proxy, address = self.logged(Echo(self).address, {"buffer": RING}, workers=1)
        self.clients(address, 3)
        self.wait_records(3)
        pid = proxy.control_pid()
        stopped(proxy, pid)
        self.clients(address, 300)  # all of them are served
        self.assertGreater(self.dropped(proxy), 50)
        os.kill(pid, signal.SIGCONT)
        proxy.check_gauges()
        lost = self.dropped(proxy)
        records = self.wait_records(303 - lost)
        self.whole(proxy, records, lost)
        proxy.wait_log(f"access log: {lost} records were lost")
        proxy.stop()

    def test_a_control_process_that_stands_still_is_replaced(self):
        proxy, address = self.logged(Echo(self).address)
        pid = proxy.control_pid()
        stopped(proxy, pid)
        self.clients(address, 20)
        wait_until(lambda: not aegis.alive(pid), "it to be killed", 20)
        self.wait_records(20)

    def test_a_killed_control_process(self):
        """None is lost; what it had written and not said so may be there twice."""
        proxy, address = self.logged(Echo(self).address, {"buffer": "1M"})
        load = Load(self, address, new=4, kept=0)
        for _ in range(3):
            load.wait_more(20)
            pid = proxy.control_pid()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not aegis.alive(pid), "it to be dead")
        load.wait_more(20)
        load.stop()
        self.assertFalse(load.failures)
        proxy.check_gauges()
        total = proxy.listener()["total"]
        wait_until(lambda: len({record["id"] for record in self.records()}) == total, "a record of each connection")
        self.assertLess(len(self.records()), total + 500)

    def test_a_killed_worker(self):
        """What it had to say before is there; of the connections that broke with it there is no record, but a count."""
        proxy, address = self.logged(Echo(self).address, workers=1)
        proxy.lost, proxy.restarts = True, 1
        pid = proxy.control_pid()
        worker = proxy.workers()[0]["pid"]
        broken = [self.connect(address) for _ in range(3)]
        for sock in broken:
            echo(sock)
        stopped(proxy, pid)  # so that all of it is still in memory
        self.clients(address, 40)
        proxy.wait_closes("finished", 40)
        os.kill(worker, signal.SIGKILL)
        for sock in broken:
            how_it_ends(sock)
        os.kill(pid, signal.SIGCONT)
        proxy.wait_closes("worker_died", 3)
        self.assertEqual({record["reason"] for record in self.wait_records(40)}, {"finished"})
        wait_until(lambda: proxy.workers() and proxy.workers()[0]["pid"] not in (0, worker), "the next worker")
        self.clients(address, 5)
        records = self.wait_records(45)
        self.assertEqual(len({record["id"] for record in records}), 45)

    def test_a_killed_master(self):
        """Its workers drain, and what they have to say then is still written; the next master's control process goes on."""
        proxy, address = self.logged(Echo(self).address, workers=1, drain={"timeout": "30s"})
        socks = [self.connect(address) for _ in range(4)]
        for sock in socks:
            echo(sock)
        pid, workers = proxy.control_pid(), [row["pid"] for row in proxy.workers()]
        proxy.process.kill()
        proxy.process.wait()
        wait_until(lambda: all(" draining " in title(pid) for pid in workers), "the workers to drain")
        self.assertTrue(aegis.alive(pid))
        for sock in socks:
            sock.close()
        self.wait_records(4)
        wait_until(lambda: not aegis.alive(pid), "the control process to end after the last worker")
        wait_until(lambda: not aegis.session_members(proxy.pid), "all processes to end")
        proxy.check_log()

    def test_workers_say_their_lines(self):
        """The lines of workers, through memory: in the log's own format, with their pid, also right before they end."""
        path = self.directory / "aegis.log"
        proxy = self.aegis(aegis.app(free_address(), workers=2, log={"target": str(path), "format": "json", "level": "debug"}))
        pids = {row["pid"]: f"worker {row['slot']}" for row in proxy.workers()}
        address = proxy.address()
        for _ in range(20):
            with dial(address) as sock:
                how_it_ends(sock)
        proxy.stop()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        ends = [line for line in lines if "connect_refused" in line["message"]]
        self.assertEqual(len(ends), 20)
        self.assertEqual({(line["pid"], line["process"]) for line in ends} - set(pids.items()), set())
        self.assertEqual(lines[-1]["message"], "stopped")


if __name__ == "__main__":
    aegis.main()
