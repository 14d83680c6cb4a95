"""The seccomp profile for containers: Aegis does all of its work under it, on both engines, and what the profile is there to forbid is forbidden."""
import json
import os
import pathlib
import re
import signal
import sys
import unittest

sys.path.insert(0, os.path.join(os.environ["AEGIS_SRCDIR"], "tests/functional"))

import aegis
import seccomp_filter
from aegis import Case, Demo, app, dial, echo, need, run, wait_until

PROFILE = pathlib.Path(os.environ["AEGIS_SRCDIR"], "contrib/seccomp/aegis.json")
FORBIDDEN = ("mount", "umount2", "unshare", "setns", "ptrace", "bpf", "kexec_load", "init_module", "reboot", "pivot_root", "chroot", "mknod",
             "add_key", "keyctl", "process_vm_writev", "userfaultfd", "perf_event_open", "settimeofday")


class Profile(Case):
    def setUp(self):
        super().setUp()
        self.profile = json.loads(PROFILE.read_text())
        self.allowed = {name for entry in self.profile["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW" for name in entry["names"]}

    def exercise(self, engine, **options):
        """Serve, check servers, look a name up, write statistics and a log, reload, lose a worker, answer aegisctl, stop."""
        demo = Demo(self, "http", "echo")
        check = {"type": "http", "path": "/health"} if self.has("http checks") else {"type": "tcp"}
        settings = app([{"name": "echo", "address": f"localhost:{demo['echo'].rpartition(':')[2]}"}], engine=engine,
                       upstream={"health": {**check, "interval": "100ms", "port": int(demo["http"].rpartition(":")[2])}})
        proxy = self.aegis(settings, **options)
        self.assertEqual(proxy.stat()["engine"], engine)
        proxy.wait_stat(lambda stat: stat["upstreams"][0]["servers"][0]["state"] == "up", "the server to be checked")
        for change in ({"max_connections": 500}, {"workers": 3}):
            with dial(proxy.address()) as sock:
                echo(sock, b"x" * 1_000_000)
            proxy.must_reload({**settings, **change})
        os.kill(proxy.workers()[0]["pid"], signal.SIGKILL)
        proxy.restarts, proxy.lost = 1, True
        proxy.wait_stat(lambda stat: stat["worker_restarts"] == 1 and len(stat["workers"]) >= 2, "a new worker")
        with dial(proxy.address()) as sock:
            echo(sock)
        proxy.stop()
        self.assertNotIn("not permitted", proxy.log())

    def engines(self):
        return [name for name in ("epoll", "io_uring") if self.has(name)]

    @staticmethod
    def has(feature):
        return re.search(rf"(?m)^{feature} +yes", run(aegis.AEGIS, "-V").stdout) is not None

    def test_forbids_what_it_is_there_to_forbid(self):
        self.assertEqual([name for name in FORBIDDEN if name in self.allowed], [])
        self.assertEqual(self.profile["defaultAction"], "SCMP_ACT_ERRNO")
        for name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
            self.assertIn(name, self.allowed)

    def test_each_name_stands_once(self):
        names = [name for entry in self.profile["syscalls"] if "args" not in entry for name in entry["names"]]
        self.assertEqual(sorted(names), sorted(set(names)))

    def test_every_call_that_strace_sees(self):
        if aegis.SANITIZED:
            raise unittest.SkipTest("a sanitizer makes calls of its own")
        strace, = need("strace")
        if run(strace, "-D", "-f", "-o", self.directory / "try", "true").returncode != 0:
            raise unittest.SkipTest("strace may not trace here")
        for engine in self.engines():
            with self.subTest(engine=engine):
                trace = self.directory / f"trace-{engine}"
                self.exercise(engine, wrapper=[strace, "-D", "-f", "-q", "-o", trace])
                wait_until(lambda: re.search(r"\+\+\+ exited", trace.read_text().splitlines()[-1]), "strace to be done")
                seen = set(re.findall(r"^\d+\s+(\w+)\(", trace.read_text(), re.M))
                self.assertGreater(len(seen), 60)
                self.assertEqual(sorted(seen - self.allowed - {"socket", "clone", "clone3"}), [])

    def test_in_force(self):
        """As a container runtime would have it: the filter is on before Aegis is executed, and nothing can take it off."""
        if aegis.SANITIZED:
            raise unittest.SkipTest("a sanitizer makes calls of its own")
        program = seccomp_filter.compile_profile(self.profile)
        if program is None:
            raise unittest.SkipTest("the test knows no system call numbers of this machine")
        for engine in self.engines():
            with self.subTest(engine=engine):
                self.exercise(engine, preexec_fn=seccomp_filter.Filter(program))

    def test_the_filter_bites(self):
        """A namespace and a raw socket are refused, which shows that the filter is one."""
        program = seccomp_filter.compile_profile(self.profile)
        if program is None:
            raise unittest.SkipTest("the test knows no system call numbers of this machine")
        script = ("import ctypes, socket\nlibc = ctypes.CDLL(None, use_errno=True)\n"
                  "assert libc.unshare(0x10000000) == -1 and ctypes.get_errno() == 1\n"
                  "socket.socket(socket.AF_INET).close()\n"
                  "try:\n    socket.socket(17, socket.SOCK_RAW)\nexcept PermissionError:\n    print('refused')\n")
        done = run(sys.executable, "-c", script, preexec_fn=seccomp_filter.Filter(program))
        self.assertEqual((done.stdout, done.returncode), ("refused\n", 0), done.stderr)


if __name__ == "__main__":
    aegis.main()
