"""The command line and the file: every error is one clear line with its place, and the exit code is the documented one."""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import unittest

import aegis
from aegis import AEGIS, AEGIS_STAT, ROOT, Case, Echo, bind, dial, drop_to_nobody, echo, form, free_address, how_it_ends, run, wait_until
from papers import Papers, has_tls

MISTAKES = """\
workers = 2;
wrokers = 3;
drain = { timeout = "soon"; };
log = { level = "loud"; };
listeners = (
  { name = "app"; address = "127.0.0.1"; upstream = "app"; backlog = "many"; },
  { name = "app"; address = "127.0.0.1:0"; upstream = "nowhere"; }
);
upstreams = (
  { name = "app"; balance = "fastest";
    servers = ( { adress = "127.0.0.1:1"; }, { address = "127.0.0.1:2"; weight = -1; } ); }
);
"""


class File(Case):
    def check(self, settings, *args):
        path = self.directory / "checked.conf"
        path.write_text(aegis.libconfig(settings))
        done = run(AEGIS, "-c", path, *args)
        for text in aegis.BROKEN:
            self.assertNotIn(text, done.stderr)
        return done, path

    def good(self):
        return aegis.app("127.0.0.1:1")

    def test_good(self):
        done, _ = self.check(self.good(), "-t")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_all_errors_are_listed(self):
        """One line for each mistake: file:line: path: what is wrong."""
        done, path = self.check(MISTAKES, "-t")
        self.assertEqual(done.returncode, 1)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if f"{path}:" in line]
        found = {}
        for line in lines:
            match = re.search(re.escape(str(path)) + r":(\d+): (\S+): (.+)", line)
            self.assertIsNotNone(match, line)
            found.setdefault(int(match[1]), []).append((match[2], match[3]))
        self.assertEqual(set(found) & {2, 3, 4, 6, 7, 10, 11}, {2, 3, 4, 6, 7, 10, 11}, done.stderr)
        self.assertNotIn(1, found)
        self.assertIn("workers", found[2][0][1])  # the suggestion
        self.assertEqual(found[3][0][0], "drain.timeout")
        self.assertGreaterEqual(len(found[6]), 2, "the port and the backlog")
        self.assertIn("address", " ".join(text for _, text in found[11]))
        self.assertTrue(all(re.search(r"\[?\d+\]?|app", where) for where, _ in found[11]), found[11])

    def test_start_with_errors(self):
        """The same lines, and exit code 1, when it was meant to run."""
        text = self.must_fail(MISTAKES, 1)
        self.assertGreaterEqual(text.count("bad.conf:"), 8, text)

    def test_not_libconfig(self):
        for content in ("workers = ;", "listeners = ( {", "\0\1\2", "x" * 100_000):
            done, path = self.check("workers = 2;\n" + content, "-t")
            self.assertEqual(done.returncode, 1, content[:20])
            self.assertRegex(done.stderr, re.escape(str(path)) + r":\d+: ")

    def test_no_listener(self):
        done, _ = self.check("workers = 2;", "-t")
        self.assertEqual(done.returncode, 1)
        self.assertIn("listeners", done.stderr)

    def test_file_that_cannot_be_read(self):
        """Not there, a directory, not allowed: the name and the reason."""
        secret = self.directory / "secret.conf"
        secret.write_text(aegis.libconfig(self.good()))
        secret.chmod(0)
        for path, why in ((self.directory / "none.conf", "No such file"), (self.directory, "(?i)directory"), (secret, "Permission denied")):
            done = run(AEGIS, "-t", "-c", path, **(drop_to_nobody() if path == secret else {}))
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(str(path), done.stderr)
            self.assertRegex(done.stderr, why)

    def test_include(self):
        """An included file works, and its mistakes are told with its own name and line."""
        part = self.directory / "part.conf"
        settings = self.good()
        upstreams = {"upstreams": settings.pop("upstreams")}
        part.write_text(aegis.libconfig(upstreams))
        main = aegis.libconfig(settings) + f'@include "{part}"\n'
        done, _ = self.check(main, "-t")
        self.assertEqual(done.returncode, 0, done.stderr)
        part.write_text("\n\nupstraems = ();\n" + aegis.libconfig(upstreams))
        done, _ = self.check(main, "-t")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{part}:3: ", done.stderr)

    def test_effective_settings(self):
        """-T prints a file that is valid, tells where each setting came from, and printed again is the same."""
        done, path = self.check({**self.good(), "drain": {"timeout": "90s"}}, "-T", "-e", "max_connections = 77;")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"max_connections = 77;.*-e")
        self.assertRegex(done.stdout, r"timeout = \"(90s|1m30s|1\.5m)\";.*" + re.escape(str(path)) + r":\d+")
        self.assertRegex(done.stdout, r"backlog = \d+;.*default")
        again, path = self.check(done.stdout, "-T")
        self.assertEqual(again.returncode, 0, again.stderr)

        def bare(text):
            return [re.sub(r"\s*(#|//).*", "", line) for line in text.splitlines() if not re.match(r"\s*(#|//)", line)]

        self.assertEqual(bare(again.stdout), bare(done.stdout))

    def with_certificates(self, path):
        """The file, with certificates of this test in the place of those that it names; None where there can be none."""
        text = path.read_text()
        if "/etc/aegis/tls/" not in text:
            return path
        if not has_tls() or not shutil.which("openssl"):
            return None
        papers = Papers(self.directory / "papers")
        for name in set(re.findall(r"/etc/aegis/tls/(\S+)\.key", text)):
            papers.pair(name, name)
        for name in set(re.findall(r"/etc/aegis/tls/(\S+-ca)\.pem", text)):
            shutil.copy(papers.ca, papers.directory / f"{name}.pem")
        own = self.directory / path.name
        own.write_text(text.replace("/etc/aegis/tls", str(papers.directory)))
        return own

    def test_shipped_files(self):
        """Every file in conf/ passes its own check (names that no test machine can resolve are looked up at start only)."""
        shipped = sorted((aegis.SOURCE / "conf").glob("*.conf"))
        self.assertTrue(shipped)
        for path in shipped:
            path = self.with_certificates(path)
            if path is not None:
                done = run(AEGIS, "-t", "-c", path)
                self.assertEqual(done.returncode, 0, done.stderr)


class CommandLine(Case):
    def test_version_and_help(self):
        for option in ("-V", "-h"):
            done = run(AEGIS, option)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("aegis", done.stdout)
        self.assertRegex(run(AEGIS, "-V").stdout, r"\d+\.\d+")
        usage = run(AEGIS, "-h").stdout
        for option in ("-c", "-r", "-e", "-t", "-T", "-V", "-s"):
            self.assertIn(option, usage)

    def test_bad_arguments(self):
        """Never a silent default: exit code 1, one clear line, nothing started."""
        for args in (["-x"], ["-c"], ["-s"], ["-s", "jump"], ["127.0.0.1:0"], ["nonsense", "127.0.0.1:1"], ["127.0.0.1:0", "nonsense"],
                     ["127.0.0.1:0", "127.0.0.1:99999"], ["-e", "workers = ", "127.0.0.1:0", "127.0.0.1:1"],
                     ["-e", "wrokers = 2;", "127.0.0.1:0", "127.0.0.1:1"]):
            done = run(AEGIS, "-r", self.directory, *args)
            self.assertEqual(done.returncode, 1, f"{args}: {done.stderr}")
            self.assertTrue(done.stderr.strip(), args)

    def test_quick_mode(self):
        """aegis LISTEN UPSTREAM...: no file, a live line each second, stops on INT."""
        servers = [Echo(self, banner=b"a"), Echo(self, banner=b"b")]
        address = free_address()
        directory = self.directory / "quick"
        process = subprocess.Popen([AEGIS, "-r", directory, address, *[server.address for server in servers]], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        output = bytearray()
        reader = threading.Thread(target=lambda: [output.extend(line) for line in iter(lambda: process.stdout.read1(4096), b"")], daemon=True)
        reader.start()
        wait_until(lambda: process.poll() is not None or not refused_now(address), "quick mode to listen")
        for _ in range(10):
            with dial(address) as sock:
                self.assertIn(aegis.receive(sock, 1), b"ab")
                echo(sock)
        self.assertTrue(all(server.accepted for server in servers))
        held = dial(address)
        wait_until(lambda: re.search(rb"\b1 active\b", output), lambda: f"a live line with the connection: {bytes(output)}")
        held.close()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20 * aegis.SLOW), 0)
        reader.join(5)
        process.stdout.close()
        for text in aegis.BROKEN:
            self.assertNotIn(text.encode(), output)

    def test_overrides(self):
        """-e settings win over the file, also after a reload; a wrong one is an error that names it."""
        server = Echo(self)
        proxy = self.aegis(aegis.app(server.address, workers=1), "-e", "workers = 3;", "-e", 'drain = { timeout = "7s"; };')
        self.assertEqual(len(proxy.workers()), 3)
        proxy.must_reload()
        self.assertEqual(len(proxy.workers()), 3)


def refused_now(address):
    try:
        dial(address).close()
        return False
    except ConnectionRefusedError:
        return True


class Start(Case):
    def test_busy_port(self):
        with bind() as taken:
            address = form(taken)
            text = self.must_fail(aegis.app("127.0.0.1:1", {"address": address}), 2, says=[address])
            self.assertRegex(text, "(?i)in use|listens there")

    def test_every_busy_port_is_told(self):
        with bind() as one, bind() as two:
            settings = aegis.app("127.0.0.1:1", {"address": form(one)})
            settings["listeners"].append({"name": "other", "address": form(two), "upstream": "app"})
            self.must_fail(settings, 2, says=[form(one), form(two)])

    def test_address_of_another_machine(self):
        self.must_fail(aegis.app("127.0.0.1:1", {"address": "192.0.2.1:8080"}), 2, says=["192.0.2.1:8080"])

    def test_privileged_port(self):
        """Port 80 without the privilege: exit code 2 and a hint at what would help."""
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            if int(file.read()) <= 80:
                raise unittest.SkipTest("this machine lets everybody bind port 80")
        text = self.must_fail(aegis.app("127.0.0.1:1", {"address": "127.0.0.1:80"}), 2, says=["127.0.0.1:80"], **drop_to_nobody())
        self.assertRegex(text, "(?i)permission|privilege")
        self.assertRegex(text, "(?i)CAP_NET_BIND_SERVICE|root|1024|unprivileged_port")

    def test_second_instance(self):
        """One instance in a directory: the second is refused and tells the first one's pid, which goes on."""
        proxy, address = self.proxy(Echo(self).address)
        done = run(AEGIS, "-c", proxy.config, "-r", proxy.directory)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(str(proxy.pid), done.stderr)
        with dial(address) as sock:
            echo(sock)
        self.assertEqual(proxy.stat()["pid"], proxy.pid)

    def test_second_instance_after_the_pid_file_was_removed(self):
        """A tidy operator removes the pid file: the one that runs keeps its shared memory to itself all the same."""
        proxy, address = self.proxy(Echo(self).address)
        os.unlink(os.path.join(proxy.directory, "aegis.pid"))
        done = run(AEGIS, "-c", proxy.config, "-r", proxy.directory)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("aegis.pid was removed", done.stderr)
        with dial(address) as sock:
            echo(sock)
        proxy.stop(gauges=False)  # aegis-stat finds an instance by its pid file

    def test_full_runtime_directory(self):
        """No room for the shared memory: one clear line and exit 2, and never a SIGBUS once traffic comes."""
        if not ROOT:
            raise unittest.SkipTest("only root mounts a small file system")
        directory = os.path.join(self.directory, "small")
        os.mkdir(directory)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], capture_output=True)
        if mounted.returncode != 0:
            raise unittest.SkipTest("no tmpfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", directory], check=True)
        done = run(AEGIS, "-r", os.path.join(directory, "run"), "127.0.0.1:0", "127.0.0.1:1")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("full", done.stderr)

    def test_unknown_user_and_group(self):
        if not ROOT:
            raise unittest.SkipTest("only root changes the user")
        for setting in ("user", "group"):
            text = self.must_fail(aegis.app("127.0.0.1:1", **{setting: "no-such-name"}), 1, says=["no-such-name"])
            self.assertIn(setting, text)

    def test_runs_as_somebody_else(self):
        """Started as root, workers have no root left: user, group, no capability, no_new_privs."""
        if not ROOT:
            raise unittest.SkipTest("only root changes the user")
        proxy, address = self.proxy(Echo(self).address, user="nobody")
        for worker in proxy.workers():
            status = aegis.proc(worker["pid"], "status")
            self.assertRegex(status, rf"Uid:\t{aegis.NOBODY}\t{aegis.NOBODY}\t{aegis.NOBODY}\t{aegis.NOBODY}\n")
            self.assertRegex(status, r"CapEff:\t0+\n")
            self.assertRegex(status, r"CapPrm:\t0+\n")
            self.assertRegex(status, r"NoNewPrivs:\t1\n")
            self.assertNotRegex(status, r"Groups:\t.*\b0\b")
        with dial(address) as sock:
            echo(sock)

    def test_as_an_ordinary_user(self):
        """Without root: everything works, the workers run as whoever started it."""
        proxy = self.aegis(aegis.app(Echo(self).address), nobody=True)
        uid = aegis.NOBODY if ROOT else os.geteuid()
        for worker in proxy.workers():
            self.assertRegex(aegis.proc(worker["pid"], "status"), rf"Uid:\t{uid}\t{uid}\t")
        with dial(proxy.address()) as sock:
            echo(sock)
        proxy.must_reload()

    def test_one_worker_for_each_usable_cpu(self):
        """workers = "auto" under an affinity mask of one CPU: one worker, pinned to it."""
        cpu = max(os.sched_getaffinity(0))
        proxy = self.aegis(aegis.app(Echo(self).address, workers="auto", pin=True), preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
        worker, = proxy.workers()
        self.assertEqual((worker["cpu"], os.sched_getaffinity(worker["pid"])), (cpu, {cpu}))
        with dial(proxy.address()) as sock:
            echo(sock)

    def test_pinned_one_by_one(self):
        """pin = true: each worker on one CPU, spread over those that there are."""
        cpus = sorted(os.sched_getaffinity(0))
        proxy = self.aegis(aegis.app(Echo(self).address, workers=len(cpus), pin=True))
        self.assertEqual(sorted(worker["cpu"] for worker in proxy.workers()), cpus)
        for worker in proxy.workers():
            self.assertEqual(os.sched_getaffinity(worker["pid"]), {worker["cpu"]})

    def test_directory_that_cannot_be_made(self):
        settings = self.directory / "file.conf"
        settings.write_text(aegis.libconfig(aegis.app("127.0.0.1:1")))
        done = run(AEGIS, "-c", settings, "-r", settings)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(str(settings), done.stderr)

    def test_log_that_cannot_be_opened(self):
        target = str(self.directory / "none" / "log")
        self.must_fail(aegis.app("127.0.0.1:1", log={"target": target}), 2, says=[target])

    def test_full_disk_under_the_log(self):
        """The log's disk is full (/dev/full): nothing blocks, nothing breaks, what could not be written is counted."""
        proxy, address = self.proxy(free_address(), log={"target": "/dev/full", "level": "debug"}, workers=1)

        def dropped():
            for _ in range(50):
                with dial(address) as sock:
                    self.assertEqual(how_it_ends(sock)[1], b"")
            return sum(worker["log_dropped"] for worker in proxy.stat()["workers"])

        wait_until(dropped, "lines to be dropped when the memory for them is full", 30)
        proxy.must_reload()

    def test_log_reader_that_stops(self):
        """stderr is a pipe that nobody reads: neither master nor workers wait for it, and drops are counted."""
        directory, config = self.directory / "run", self.directory / "piped.conf"
        directory.mkdir()
        address = free_address()
        config.write_text(aegis.libconfig(aegis.app(free_address(), {"address": address}, workers=1, log={"level": "debug"})))
        reading, writing = os.pipe()
        process = subprocess.Popen([AEGIS, "-c", config, "-r", directory], stderr=writing, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        os.close(writing)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(os.close, reading)
        wait_until(lambda: process.poll() is not None or not refused_now(address), "Aegis to listen")

        def dropped():
            for _ in range(50):
                with dial(address) as sock:
                    self.assertEqual(how_it_ends(sock)[1], b"")
            stat = json.loads(run(AEGIS_STAT, "-r", directory, "-j").stdout)
            return sum(worker["log_dropped"] for worker in stat["workers"])

        wait_until(dropped, "the pipe to be full and lines to be dropped", 30)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(20 * aegis.SLOW), 0)


class Stat(Case):
    def test_not_running(self):
        empty = self.directory / "empty"
        empty.mkdir()
        for option in (["-j"], ["-p"], []):
            done = run(AEGIS_STAT, "-r", empty, *option)
            self.assertEqual(done.returncode, 4, done.stderr)
            self.assertTrue(done.stderr.strip())

    def test_segment_of_another_version(self):
        """One changed byte in the layout hash, a cut file, garbage: a clear line and exit code 3, never numbers."""
        proxy, _ = self.proxy(Echo(self).address)
        content = (proxy.directory / "stats").read_bytes()
        other = self.directory / "other"
        other.mkdir()
        changed = bytearray(content)
        changed[8] ^= 0xff  # after the magic
        for name, data in (("hash", changed), ("magic", b"NOTAEGIS" + content[8:]), ("short", content[:4096]), ("tiny", content[:10])):
            with self.subTest(name=name):
                (other / "stats").write_bytes(data)
                for option in (["-j"], ["-p"], []):
                    done = run(AEGIS_STAT, "-r", other, *option)
                    self.assertEqual(done.returncode, 3, done.stderr)
                    self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
                    self.assertEqual(done.stdout, "")

    def test_all_views_agree(self):
        """Tables, one line, JSON and Prometheus text tell the same of the same connections."""
        server = Echo(self)
        proxy, address = self.proxy({"name": "first", "address": server.address})
        held = [self.connect(address) for _ in range(3)]
        for sock in held:
            echo(sock, b"x" * 1000)
        proxy.wait_stat(lambda stat: stat["bytes"] == {"received": 3000, "sent": 3000}, "3000 bytes each way")
        done = run(AEGIS_STAT, "-r", proxy.directory, "-p")
        self.assertEqual(done.returncode, 0, done.stderr)
        values, helped, typed = {}, set(), set()
        for line in done.stdout.splitlines():
            if line.startswith("# HELP "):
                helped.add(line.split()[2])
            elif line.startswith("# TYPE "):
                typed.add(line.split()[2])
            elif line:
                name, _, value = line.rpartition(" ")
                self.assertNotIn(name, values, "twice")
                values[name] = float(value)
                family = re.sub(r"\{.*", "", name)
                self.assertTrue({family, re.sub(r"_(bucket|sum|count)$", "", family)} & helped & typed, line)
        self.assertEqual(sum(value for name, value in values.items() if name.startswith("aegis_connections_active")), 3)
        self.assertEqual(sum(value for name, value in values.items() if name.startswith("aegis_bytes_received_total")), 3000)
        self.assertEqual(sum(value for name, value in values.items() if name.startswith("aegis_server_connections_total")), 3)
        table = run(AEGIS_STAT, "-r", proxy.directory)
        self.assertEqual(table.returncode, 0, table.stderr)
        for word in ("app", "first", address, server.address):
            self.assertIn(word, table.stdout)
        with subprocess.Popen([AEGIS_STAT, "-r", proxy.directory, "-l", "1"], stdout=subprocess.PIPE, text=True) as lines:
            line = lines.stdout.readline()
            lines.terminate()
        self.assertRegex(line, r"\b3 active \|.*err \|.*rej \|.*bps \|.*total")

    def test_killed_master(self):
        """aegis-stat tells that nothing runs any more, although the segment is still there."""
        proxy, _ = self.proxy(Echo(self).address)
        proxy.kill()
        done = run(AEGIS_STAT, "-r", proxy.directory, "-j")
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)


if __name__ == "__main__":
    aegis.main()
