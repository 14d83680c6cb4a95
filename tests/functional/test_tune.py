"""contrib/tune (aegis-tune): what it says of a host, what it sets, and that all of it can be had back.

Everything happens below a tree of its own, so that no privilege is needed and nothing of this machine changes, which is checked at the end.
One test uses the kernel itself, inside a network namespace, which takes root."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import aegis
from aegis import BUILD, ROOT, SLOW, SOURCE, wait_until

TUNE = SOURCE / "contrib" / "tune"

# A machine with the kernel's defaults.
SYSCTLS = {
    "net.core.somaxconn": "4096", "net.ipv4.tcp_max_syn_backlog": "2048", "net.ipv4.tcp_migrate_req": "0", "net.ipv4.tcp_fastopen": "1",
    "net.netfilter.nf_conntrack_max": "262144", "net.netfilter.nf_conntrack_buckets": "65536",
    "net.ipv4.ip_local_port_range": "32768\t60999", "net.ipv4.tcp_timestamps": "1", "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_fin_timeout": "60", "net.ipv4.tcp_max_tw_buckets": "131072", "net.core.rmem_max": "212992", "net.core.wmem_max": "212992",
    "net.ipv4.tcp_rmem": "4096\t131072\t6291456", "net.ipv4.tcp_wmem": "4096\t16384\t4194304", "net.ipv4.tcp_notsent_lowat": "4294967295",
    "net.ipv4.tcp_slow_start_after_idle": "1", "net.ipv4.tcp_mem": "189207\t252276\t378414", "net.core.netdev_max_backlog": "1000",
    "net.unix.max_dgram_qlen": "10", "fs.file-max": "9223372036854775807", "fs.nr_open": "1048576", "fs.epoll.max_user_watches": "3600000",
    "fs.pipe-user-pages-soft": "16384", "vm.swappiness": "60", "kernel.numa_balancing": "1", "kernel.io_uring_disabled": "2",
    "kernel.random.boot_id": "11111111-2222-3333-4444-555555555555",
}
THP = "sys/kernel/mm/transparent_hugepage/enabled"
GOVERNOR = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
FILES = ("etc/sysctl.d/90-aegis.conf", "etc/security/limits.d/90-aegis.conf", "etc/systemd/system/aegis.service.d/90-limits.conf",
         "etc/tmpfiles.d/90-aegis.conf")

# Remembers what it is told in a file, and prints as ethtool does. A setting may be refused or
# ignored, and all of them may wait for the far end of a pipe.
ETHTOOL = """#!{python} -I
import json, pathlib, sys
store = pathlib.Path({store!r})
device = json.loads(store.read_text())
option, name, *rest = sys.argv[1:]
if name != "net0":
    sys.exit("netlink error: No such device")
if option.isupper():
    if rest[0] in device["refuse"]:
        sys.exit("netlink error: Operation not supported")
    if device["wait"]:
        pathlib.Path(device["wait"] + ".here").touch()
        open(device["wait"], "w").close()
    if rest[0] not in device["ignore"]:
        device[rest[0]] = rest[1]
    store.write_text(json.dumps(device))
elif option == "-k":
    print("Features for net0:\\nrx-checksumming: on")
    for long, short in (("tcp-segmentation", "tso"), ("generic-segmentation", "gso"), ("generic-receive", "gro")):
        print(long + "-offload: " + device[short])
    print("tx-udp-segmentation: off [fixed]")
elif option == "-g":
    for title, rx, tx in (("Pre-set maximums", device["max"], device["max"]), ("Current hardware settings", device["rx"], device["tx"])):
        print(f"{{title}}:\\nRX:\\t\\t{{rx}}\\nRX Mini:\\tn/a\\nRX Jumbo:\\tn/a\\nTX:\\t\\t{{tx}}")
elif option == "-c":
    print(f"Coalesce parameters for net0:\\nAdaptive RX: {{device['adaptive-rx']}}  TX: {{device['adaptive-tx']}}\\nrx-usecs:\\t3")
elif option == "-l":
    for title, queues in (("Pre-set maximums", device["max-queues"]), ("Current hardware settings", device["combined"])):
        print(f"{{title}}:\\nRX:\\t\\tn/a\\nTX:\\t\\tn/a\\nOther:\\t\\tn/a\\nCombined:\\t{{queues}}")
"""
NIC = {"tso": "off", "gso": "on", "gro": "off", "rx": "256", "tx": "256", "max": "2048", "adaptive-rx": "off", "adaptive-tx": "n/a",
       "combined": "1", "max-queues": "1", "refuse": [], "ignore": [], "wait": ""}


def execute(*command, code=0, **options):
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
                          timeout=60 * SLOW, check=False, **options)
    if done.returncode != code:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode} instead of {code}\n{done.stdout}{done.stderr}")
    return done


def settings():
    """The names of all settings."""
    return re.findall(r"^\.It Va (\S+)", execute(sys.executable, "-B", TUNE, "--manual").stdout, re.M)


def of_this_machine():
    """All that tune might have changed of the machine that the tests run on."""
    found = {}
    paths = [pathlib.Path("/proc/sys", *name.split(".", 2 if name.startswith("net.") else 1)) for name in settings() if name[0] in "nfvk"]
    paths += [pathlib.Path("/" + THP), *pathlib.Path("/sys/devices/system/cpu").glob("cpu*/cpufreq/scaling_governor")]
    paths += [pathlib.Path("/" + name) for name in FILES]
    for path in paths:
        with contextlib.suppress(OSError):
            found[str(path)] = path.read_bytes()
    return found


def setUpModule():
    before = of_this_machine()
    assert len(before) > 15, before

    def untouched():
        assert of_this_machine() == before, "this machine was changed"

    unittest.addModuleCleanup(untouched)


class Host(unittest.TestCase):
    """A machine in a directory."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="aegis-tune-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.root, self.programs = self.folder / "root", self.folder / "bin"
        self.programs.mkdir()
        for name in ("run", "etc", "sys", "proc"):
            (self.root / name).mkdir(parents=True)
        for name, value in SYSCTLS.items():
            self.put(self.sysctl(name), value)
        self.put(THP, "[always] madvise never")
        for cpu in range(4):
            self.put(GOVERNOR.format(cpu), "powersave")
            self.put(GOVERNOR.format(cpu).replace("_governor", "_available_governors"), "performance powersave")

    @staticmethod
    def sysctl(name):
        return "proc/sys/" + name.replace(".", "/")

    def put(self, path, value):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")

    def get(self, name):
        """A sysctl, or a file below the root; of a choice, the chosen one."""
        text = " ".join((self.root / (name if "/" in name else self.sysctl(name))).read_text().split())
        chosen = re.search(r"\[(\w+)\]", text)
        return chosen[1] if chosen else text

    def values(self):
        """All of /proc and /sys."""
        files = sorted(path for top in ("proc", "sys") for path in (self.root / top).rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): self.get(str(path.relative_to(self.root))) for path in files}

    def everything(self):
        return {str(path): path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file()}

    def command(self, *arguments):
        return [sys.executable, "-B", str(TUNE), "--root", str(self.root), *arguments]

    def environment(self):
        return {**os.environ, "PATH": str(self.programs)}

    def tune(self, *arguments, code=0):
        return execute(*self.command(*arguments), code=code, env=self.environment())

    def check(self, *arguments, code=3):
        """{setting: (state, the rest of its line)}"""
        lines = [line.split(None, 2) for line in self.tune("--check", *arguments, code=code).stdout.splitlines()]
        states = ("ok", "off", "better", "missing", "note")
        return {words[1]: (words[0], words[2]) for words in lines if len(words) > 2 and words[0] in states}

    def state_file(self):
        files = list((self.root / "run/aegis-tune").glob("*.json"))
        return files[0] if files else None

    def have_nic(self, **device):
        """A network device net0, with ethtool."""
        self.store = self.folder / "net0.json"
        self.store.write_text(json.dumps({**NIC, **device}))
        script = self.programs / "ethtool"
        script.write_text(ETHTOOL.format(python=sys.executable, store=str(self.store)))
        script.chmod(0o755)
        for queue in ("rx-0/rps_cpus", "tx-0/xps_cpus"):
            self.put(f"sys/class/net/net0/queues/{queue}", "0")

    def nic(self):
        return json.loads(self.store.read_text())


class Check(Host):
    def test_states(self):
        """Off, ok, better than wanted, missing; exit code 3; nothing is changed."""
        self.put(self.sysctl("net.core.rmem_max"), "999999999")
        self.put(self.sysctl("vm.swappiness"), "1")
        self.put(self.sysctl("net.ipv4.tcp_fastopen"), "1027")
        self.put(self.sysctl("fs.pipe-user-pages-soft"), "0")
        (self.root / self.sysctl("net.ipv4.tcp_migrate_req")).unlink()
        before = self.everything()
        seen = self.check()
        self.assertEqual(self.everything(), before)
        self.assertEqual(list((self.root / "run").iterdir()), [])
        states = {name: state for name, (state, _) in seen.items()}
        for state, names in {
                "off": ("net.core.somaxconn", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_wmem", "net.ipv4.tcp_notsent_lowat",
                        "transparent_hugepage/enabled", "cpu/cpu*/cpufreq/scaling_governor"),
                "ok": ("fs.nr_open", "net.ipv4.tcp_timestamps"),
                "better": ("net.core.rmem_max", "vm.swappiness", "net.ipv4.tcp_fastopen", "fs.pipe-user-pages-soft", "fs.file-max"),
                "missing": ("net.ipv4.tcp_migrate_req", "limit.unit"),
                "note": ("kernel.io_uring_disabled", "net.ipv4.tcp_mem")}.items():
            for name in names:
                self.assertEqual(states[name], state, name)
        self.assertRegex(seen["net.core.somaxconn"][1], r"^4096 +65535 +bounds the accept queue")
        self.assertRegex(seen["net.core.rmem_max"][1], r"^999999999 +16777216 ")
        self.assertNotIn("kernel.numa_balancing", states)  # not of this profile

    def test_nothing_off(self):
        self.tune("--apply")
        self.assertNotIn("off", {state for state, _ in self.check(code=0).values()})

    def test_profiles(self):
        wanted = {"latency": ("4096", "16777216", "5000"), "throughput": ("4096", "67108864", "16384"),
                  "many-connections": ("65535", "16777216", "16384")}
        for profile, values in wanted.items():
            with self.subTest(profile=profile):
                self.tune("--apply", "--profile", profile)
                found = tuple(self.get(name) for name in ("net.core.somaxconn", "net.core.rmem_max", "net.core.netdev_max_backlog"))
                self.assertEqual(found, values)
                self.check("--profile", profile, code=0)
        self.assertEqual(self.values(), self.values_of("many-connections"))

    def values_of(self, profile):
        self.tune("--revert")
        self.tune("--apply", "--profile", profile)
        return self.values()

    def test_not_understood(self):
        for value in ("", "many", "1 2", "\xff"):
            self.put(self.sysctl("net.core.somaxconn"), value)
            state, line = self.check()["net.core.somaxconn"]
            self.assertEqual(state, "missing")
            self.assertIn("not understood", line)

    def test_governors(self):
        """CPUs that agree take one line; a driver that has no such governor is passed over."""
        self.put(GOVERNOR.format(3), "performance")
        lines = [line for line in self.tune(code=3).stdout.splitlines() if "scaling_governor" in line]
        self.assertEqual([line.split()[:3] for line in lines], [["off", "cpu/cpu*/cpufreq/scaling_governor", "(3)"],
                                                                ["ok", "cpu/cpu3/cpufreq/scaling_governor", "performance"]])
        for cpu in range(4):
            self.put(GOVERNOR.format(cpu).replace("_governor", "_available_governors"), "powersave")
        self.assertIn("offers only: powersave", self.check()["cpu/cpu*/cpufreq/scaling_governor"][1])

    def test_unit(self):
        """The limit of the service, from its unit and what overrides it, never above fs.nr_open."""
        def unit(path, text):
            self.put(f"{path}/systemd/system/aegis.service{text[0]}", "[Service]\n" + text[1])
            return self.check()["limit.unit"]

        self.assertEqual(unit("usr/lib", ("", "LimitNOFILE=65536"))[0], "off")
        self.assertEqual(unit("usr/lib", (".d/10-more.conf", "LimitNOFILE=1024:1048576"))[0], "ok")
        self.assertEqual(unit("etc", (".d/20-less.conf", "LimitNOFILE=100"))[0], "off")
        self.assertEqual(unit("etc", (".d/30-all.conf", "LimitNOFILE=infinity"))[0], "ok")
        self.put(self.sysctl("fs.nr_open"), "200000")
        self.assertRegex(self.check()["limit.unit"][1], "^200000 +200000 ")

    def test_reader_who_leaves(self):
        """Output that nobody reads does not stop an apply half way."""
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(self.command("--apply"), stdout=writing, stderr=subprocess.PIPE, env=self.environment(), timeout=60 * SLOW,
                              check=False)
        os.close(writing)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.check(code=0)


class Apply(Host):
    def test_apply_apply_revert(self):
        before = self.values()
        said = self.tune("--apply").stdout
        self.assertIn("set net.core.somaxconn = 65535 (was 4096)\n", said)
        after, state = self.values(), self.state_file().read_bytes()
        self.assertEqual(self.get("net.ipv4.ip_local_port_range"), "10000 65535")
        self.assertEqual([self.get(GOVERNOR.format(cpu)) for cpu in range(4)], ["performance"] * 4)
        self.assertEqual(self.get(THP), "madvise")
        self.assertEqual(self.get("kernel.io_uring_disabled"), "2", "a choice for security is not ours")
        said = self.tune("--apply").stdout
        self.assertNotIn("set net", said)
        self.assertIn("0 set, 0 failed", said)
        self.assertEqual((self.values(), self.state_file().read_bytes()), (after, state))
        self.tune("--revert")
        self.assertEqual(self.values(), before)
        self.assertIsNone(self.state_file())
        self.tune("--revert")
        self.assertEqual(self.values(), before)

    def test_better_is_left(self):
        """Neither taken back nor, in a list, lowered while another part of it is raised."""
        self.put(self.sysctl("net.core.wmem_max"), "999999999")
        self.put(self.sysctl("net.ipv4.tcp_rmem"), "4096\t87380\t99999999")
        self.put(self.sysctl("net.ipv4.ip_local_port_range"), "1024\t50000")
        self.tune("--apply")
        self.assertEqual(self.get("net.core.wmem_max"), "999999999")
        self.assertEqual(self.get("net.ipv4.tcp_rmem"), "4096 131072 99999999")
        self.assertEqual(self.get("net.ipv4.ip_local_port_range"), "1024 65535")

    def test_another_profile(self):
        """It sets what it would have set alone, down as well, and the first originals stay."""
        before = self.values()
        self.tune("--apply", "--profile", "latency")
        alone = self.values()
        self.tune("--revert")
        for profile in ("many-connections", "throughput", "latency"):
            self.tune("--apply", "--profile", profile)
        self.assertEqual(self.values(), alone)
        self.tune("--revert")
        self.assertEqual(self.values(), before)

    def test_changed_since(self):
        """What someone else has set in between is theirs."""
        self.tune("--apply")
        self.put(self.sysctl("net.core.somaxconn"), "20000")
        self.put(self.sysctl("vm.swappiness"), "60")
        self.assertIn("left net.core.somaxconn = 20000", self.tune("--revert").stdout)
        self.assertEqual(self.get("net.core.somaxconn"), "20000")
        self.assertEqual(self.get("net.ipv4.tcp_fin_timeout"), "60")

    def test_missing_keys(self):
        for name in ("net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets", "kernel.io_uring_disabled"):
            (self.root / self.sysctl(name)).unlink()
        shutil.rmtree(self.root / "sys")
        before = self.values()
        said = self.tune("--apply").stdout
        for name in ("net.netfilter.nf_conntrack_max", "kernel.io_uring_disabled", "transparent_hugepage", "cpu/cpu*/cpufreq/scaling"):
            self.assertRegex(said, rf"skipped {re.escape(name)}\S*: not on this machine")
        self.assertEqual(self.values().keys(), before.keys(), "made up a key")
        self.tune("--revert")
        self.assertEqual(self.values(), before)

    def test_gone_since(self):
        """A module that is unloaded takes its settings with it."""
        self.tune("--apply")
        (self.root / self.sysctl("net.netfilter.nf_conntrack_max")).unlink()
        self.assertIn("left net.netfilter.nf_conntrack_max: not on this machine", self.tune("--revert").stdout)
        self.assertIsNone(self.state_file())

    def test_read_only(self):
        """One that cannot be set is named with the reason, and the rest goes on."""
        path = self.root / self.sysctl("vm.swappiness")
        path.unlink()
        path.symlink_to("/proc/sys/kernel/ngroups_max")  # 65536, and not even root may write it
        before = self.values()
        done = self.tune("--apply", code=4)
        self.assertRegex(done.stderr, r"^aegis-tune: FAILED: vm.swappiness = 10: \w+.*\n$")
        self.assertIn("1 failed", done.stdout)
        self.assertEqual({name for name, (state, _) in self.check().items() if state == "off"}, {"vm.swappiness"})
        self.assertNotIn("vm.swappiness", self.state_file().read_text())
        self.tune("--revert")
        self.assertEqual(self.values(), before)

    def test_cannot_be_put_back(self):
        """It is kept for another try."""
        self.tune("--apply")
        path = self.root / self.sysctl("net.core.somaxconn")
        self.put(self.sysctl("net.core.somaxconn"), "65536")
        state = json.loads(self.state_file().read_text())
        state["settings"]["net.core.somaxconn"]["set"] = "65536"
        self.state_file().write_text(json.dumps(state))
        path.unlink()
        path.symlink_to("/proc/sys/kernel/ngroups_max")
        self.assertIn("FAILED: net.core.somaxconn = 4096: ", self.tune("--revert", code=4).stderr)
        self.assertEqual(list(json.loads(self.state_file().read_text())["settings"]), ["net.core.somaxconn"])
        path.unlink()
        self.put(self.sysctl("net.core.somaxconn"), "65536")
        self.tune("--revert")
        self.assertEqual(self.get("net.core.somaxconn"), "4096")

    def test_nowhere_to_keep(self):
        """Where the originals cannot be kept nothing is set."""
        before = self.values()
        (self.root / "run").rmdir()
        self.put("run", "not a directory")
        self.assertIn("cannot keep what is there now", self.tune("--apply", code=4).stderr)
        self.assertEqual(self.values(), before)

    def test_killed(self):
        """SIGKILL in the middle: another one at the same time is refused, and afterwards all can be put back."""
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        self.have_nic(wait=str(pipe))
        before = self.values()
        process = subprocess.Popen(self.command("--apply", "--nic", "net0"), stdout=subprocess.DEVNULL, env=self.environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_until(self.folder.joinpath("pipe.here").exists, "it to come to the device")
        for option in ("--apply", "--revert"):
            self.assertIn("another aegis-tune is at work", self.tune(option, code=4).stderr)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertNotEqual(self.values(), before)
        pipe.read_bytes()  # ethtool goes on: the first setting of the device is made by nobody

        def made():
            with contextlib.suppress(ValueError):  # being written
                return self.nic()["tso"] == "on"

        wait_until(made, "ethtool to end")
        self.store.write_text(json.dumps({**self.nic(), "wait": ""}))
        self.state_file().with_suffix(".json.new").write_text('{"boot": "11')  # and one that was killed while it wrote
        self.tune("--revert")
        self.assertEqual((self.values(), self.nic()), (before, NIC))
        self.assertIsNone(self.state_file())

    def test_damaged_state(self):
        """It is not guessed at, and nothing is changed; --check can go without."""
        self.tune("--apply")
        good, after = self.state_file().read_text(), self.values()
        for text in ("", good[:len(good) // 2], "[]", '{"boot": 1, "settings": []}',
                     '{"boot": "x", "settings": {"../../etc/x": {"before": "1", "set": "2"}}}',
                     '{"boot": "x", "settings": {"vm.swappiness": {"before": 1, "set": "2"}}}',
                     '{"boot": "x", "settings": {"vm.swappiness": 1}}'):
            with self.subTest(text=text):
                self.state_file().write_text(text)
                for option in ("--apply", "--revert"):
                    self.assertIn("is damaged", self.tune(option, code=4).stderr)
                self.assertIn("is damaged", self.tune("--check").stderr)
                self.assertEqual((self.values(), self.state_file().read_text()), (after, text))

    def test_after_a_boot(self):
        """A boot has put all back: what was kept is out of date."""
        self.tune("--apply")
        for name, value in SYSCTLS.items():
            self.put(self.sysctl(name), value)
        self.put(self.sysctl("kernel.random.boot_id"), "99999999-2222-3333-4444-555555555555")
        self.put(self.sysctl("net.core.somaxconn"), "5000")
        before = self.values()
        self.tune("--revert")
        self.assertEqual(self.values(), before)
        self.tune("--apply")
        self.tune("--revert")
        self.assertEqual(self.get("net.core.somaxconn"), "5000")


class Persist(Host):
    def files(self):
        return {name: (self.root / name).read_text() for name in FILES if (self.root / name).exists()}

    def test_persist_and_revert(self):
        self.put("usr/lib/systemd/system/aegis.service", "[Service]\nLimitNOFILE=4096")
        self.put(self.sysctl("net.core.rmem_max"), "999999999")
        (self.root / self.sysctl("net.ipv4.tcp_migrate_req")).unlink()
        before, values = self.everything(), self.values()
        self.tune("--persist")
        files = self.files()
        self.assertEqual(self.values(), values, "sets nothing now")
        sysctls = files[FILES[0]].splitlines()
        self.assertIn("net.core.somaxconn = 65535", sysctls)
        self.assertIn("net.ipv4.tcp_rmem = 4096 131072 16777216", sysctls)
        self.assertIn("-net.netfilter.nf_conntrack_max = 1000000", sysctls)
        self.assertIn("# net.core.rmem_max: 999999999 is here already, which does as well as 16777216", sysctls)
        self.assertIn("# net.ipv4.tcp_migrate_req: not on this machine", sysctls)
        self.assertNotIn("io_uring", files[FILES[0]])
        self.assertIn("\n[Service]\nLimitNOFILE=1048576\n", files[FILES[2]])
        self.assertIn(f"\nw /{THP} - - - - madvise\nw /{GOVERNOR.format('*')} - - - - performance\n", files[FILES[3]])
        for text in files.values():
            self.assertIn("To undo: aegis-tune --revert", text)
        self.tune("--persist")
        self.assertEqual(self.files(), files)
        self.tune("--apply")
        self.tune("--persist")
        self.assertEqual(self.files(), files, "what --apply has set is not taken for the operator's")
        self.tune("--revert")
        self.assertEqual(self.files(), {})
        self.assertEqual(self.values(), values)
        self.assertEqual({name: text for name, text in self.everything().items() if "/etc/" in name or "/usr/" in name},
                         {name: text for name, text in before.items() if "/etc/" in name or "/usr/" in name})

    def test_limits_of_logins(self):
        """Only the hard one, where it is lower."""
        limited = ["/bin/sh", "-c", "ulimit -n 1000 && exec \"$@\"", "sh", *self.command("--persist")]
        execute(*limited, env=self.environment())
        self.assertIn("\n* hard nofile 1048576\nroot hard nofile 1048576\n", self.files()[FILES[1]])
        self.put(self.sysctl("fs.nr_open"), "600000")
        self.tune("--persist")
        self.assertIn("\n* hard nofile 600000\n", self.files()[FILES[1]])

    def test_what_was_booted_with(self):
        """After a boot all is well by the file itself, which must not be taken for a reason to leave it empty."""
        self.tune("--persist", "--profile", "throughput")
        text = self.files()[FILES[0]]
        self.tune("--apply", "--profile", "throughput")
        self.put(self.sysctl("kernel.random.boot_id"), "99999999-2222-3333-4444-555555555555")
        self.tune("--persist", "--profile", "throughput")
        self.assertEqual(self.files()[FILES[0]], text)
        self.tune("--persist", "--profile", "latency")
        self.assertIn("\nnet.core.rmem_max = 16777216\n", self.files()[FILES[0]])

    def test_files_of_others(self):
        """Neither overwritten nor removed; those that are read later are named."""
        self.put(FILES[0], "# mine\nvm.swappiness = 42")
        self.put("etc/sysctl.d/99-mine.conf", "net.ipv4.tcp_fin_timeout=99\nnet.core.somaxconn = 65535\n# vm.swappiness = 2\nother.key = 1")
        before = self.everything()
        self.assertIn("90-aegis.conf is there, and aegis-tune has not written it", self.tune("--persist", code=4).stderr)
        self.assertIn("has not written it", self.tune("--revert").stdout)
        self.assertEqual({name: text for name, text in self.everything().items() if "/run/" not in name}, before)
        (self.root / FILES[0]).unlink()
        self.put("etc/sysctl.conf", "net/ipv4/tcp_tw_reuse = 0")
        said = self.tune("--persist").stdout
        self.assertIn("99-mine.conf is read later and sets net.ipv4.tcp_fin_timeout = 99\n", said)
        self.assertIn("sysctl.conf is read later and sets net.ipv4.tcp_tw_reuse = 0\n", said)
        self.assertEqual(said.count("is read later"), 2)

    def test_cannot_be_written(self):
        """One that cannot be written is named, the others are."""
        self.put("etc/sysctl.d", "not a directory")
        done = self.tune("--persist", code=4)
        self.assertRegex(done.stderr, r"^aegis-tune: FAILED: cannot write \S+/90-aegis.conf: .+\n$")
        self.assertIn(FILES[3], self.files())


class DryRun(Host):
    def test_changes_nothing(self):
        self.have_nic()
        before = self.everything()
        for arguments in (["--apply"], ["--revert"], ["--persist"], ["--check"], ["--apply", "--nic", "net0"], ["--apply", "--nic", "net1"],
                          []):
            with self.subTest(arguments=arguments):
                self.tune("--dry-run", *arguments, code=3 if "--check" in arguments else 0)
                self.assertEqual(self.everything(), before)
                self.assertEqual(self.nic(), NIC)
        self.tune("--apply", "--nic", "net0")
        self.tune("--persist")
        before, device = self.everything(), self.nic()
        self.tune("--dry-run", "--revert")
        self.assertEqual((self.everything(), self.nic()), (before, device))

    def test_commands_do_the_same(self):
        """What is printed, given to a shell, does what --apply and --revert do."""
        self.have_nic()
        before, device = self.values(), self.nic()

        def run(*arguments):
            execute("/bin/sh", "-e", "-c", self.tune("--dry-run", *arguments).stdout, env=self.environment())
            return self.values(), self.nic()

        by_hand = run("--nic", "net0")
        self.assertNotEqual(by_hand, (before, device))
        self.check("--nic", "net0", code=0)
        self.setUp()
        self.have_nic()
        self.tune("--apply", "--nic", "net0")
        self.assertEqual((self.values(), self.nic()), by_hand)
        self.assertEqual(run("--revert"), (before, device))

    def test_files(self):
        self.programs.joinpath("cat").symlink_to(shutil.which("cat"))
        text = self.tune("--dry-run", "--persist").stdout
        for name in (FILES[0], FILES[3]):
            (self.root / name).parent.mkdir(parents=True)
        if FILES[1] in text:
            (self.root / FILES[1]).parent.mkdir(parents=True)
        execute("/bin/sh", "-e", "-c", text, env=self.environment())
        by_hand = {name: (self.root / name).read_bytes() for name in (FILES[0], FILES[3])}
        self.tune("--persist")
        self.assertEqual({name: (self.root / name).read_bytes() for name in by_hand}, by_hand)


class Device(Host):
    def test_check_apply_revert(self):
        self.have_nic()
        before = self.values()
        seen = {name: state for name, (state, _) in self.check("--nic", "net0").items() if name.startswith("net0:")}
        self.assertEqual(seen, {"net0:tso": "off", "net0:gso": "ok", "net0:gro": "off", "net0:ring-rx": "off", "net0:ring-tx": "off",
                                "net0:adaptive-rx": "off", "net0:adaptive-tx": "missing", "net0:queues": "ok", "net0:rps": "note",
                                "net0:xps": "note", "net0:irq": "missing"})
        self.tune("--apply", "--nic", "net0")
        wanted = {"tso": "on", "gro": "on", "rx": "2048", "tx": "2048", "adaptive-rx": "on"}  # rings up to the device's own bound
        self.assertEqual(self.nic(), {**NIC, **wanted})
        state = self.state_file().read_bytes()
        self.tune("--apply", "--nic", "net0")
        self.assertEqual(self.state_file().read_bytes(), state)
        self.tune("--apply", "--nic", "net0", "--profile", "latency")
        self.assertEqual(self.nic()["rx"], "1024")
        self.tune("--revert")
        self.assertEqual(self.nic(), NIC)
        self.assertEqual(self.values(), before)

    def test_fixed(self):
        self.have_nic(tso="off [fixed]", gro="on [fixed]")
        seen = self.check("--nic", "net0")
        self.assertEqual(seen["net0:tso"][0], "missing")
        self.assertIn("the device cannot change it", seen["net0:tso"][1])
        self.assertEqual(seen["net0:gro"][0], "ok")

    def test_refused(self):
        """What the driver says is passed on, and the rest is set."""
        self.have_nic(refuse=["gro"])
        done = self.tune("--apply", "--nic", "net0", code=4)
        self.assertEqual(done.stderr, "aegis-tune: FAILED: net0:gro = on: netlink error: Operation not supported\n")
        self.assertEqual((self.nic()["tso"], self.nic()["gro"], self.nic()["rx"]), ("on", "off", "2048"))

    def test_ignored(self):
        """A driver that says yes and does nothing is not believed."""
        self.have_nic(ignore=["rx"])
        done = self.tune("--apply", "--nic", "net0", code=4)
        self.assertEqual(done.stderr, "aegis-tune: FAILED: net0:ring-rx = 2048: it became 256\n")
        self.assertEqual((self.nic()["tso"], self.nic()["tx"]), ("on", "2048"))
        self.tune("--revert")
        self.assertEqual(self.nic(), {**NIC, "ignore": ["rx"]})

    def test_ignored_on_the_way_back(self):
        """The same where another profile wants less than an earlier one has set."""
        self.have_nic()
        self.tune("--apply", "--nic", "net0", "--profile", "throughput")
        self.store.write_text(json.dumps({**self.nic(), "ignore": ["rx"]}))
        done = self.tune("--apply", "--nic", "net0", "--profile", "latency", code=4)
        self.assertEqual(done.stderr, "aegis-tune: FAILED: net0:ring-rx = 1024: it became 2048\n")
        self.assertIn("FAILED: net0:ring-rx = 256: it became 2048", self.tune("--revert", code=4).stderr)
        self.store.write_text(json.dumps({**self.nic(), "ignore": []}))
        self.tune("--revert")
        self.assertEqual(self.nic(), NIC)

    def test_queues(self):
        """One for each CPU where the device has so many."""
        self.have_nic(**{"max-queues": "4096"})
        self.tune("--apply", "--nic", "net0")
        self.assertEqual(self.nic()["combined"], str(os.cpu_count()))

    def test_hints(self):
        self.have_nic()
        for number in (40, 41):
            self.put(f"sys/class/net/net0/device/msi_irqs/{number}", "msix")
            self.put(f"proc/irq/{number}/smp_affinity_list", str(number - 40))
        self.put("sys/class/net/net0/queues/rx-0/rps_cpus", "00000000,00000003")
        seen = self.check("--nic", "net0")
        self.assertRegex(seen["net0:rps"][1], r"^1 queues for \d+ CPUs, 1 with a mask ")
        self.assertRegex(seen["net0:xps"][1], r"^1 queues for \d+ CPUs, 0 with a mask ")
        self.assertRegex(seen["net0:irq"][1], r"^2 on CPUs 0 1 ")

    def test_no_ethtool(self):
        self.have_nic()
        (self.programs / "ethtool").unlink()
        self.assertIn("note: ethtool is not installed", self.tune("--nic", "net0", code=3).stdout)
        done = self.tune("--apply", "--nic", "net0", code=4)
        self.assertEqual(done.stderr, "aegis-tune: FAILED: ethtool is not installed\n")
        self.assertEqual(self.get("net.core.somaxconn"), "65535", "the rest is set")

    def test_no_such_device(self):
        self.have_nic()
        self.assertIn("note: there is no network device net1 here", self.tune("--nic", "net1", code=3).stdout)
        self.assertIn("FAILED: there is no network device net1 here", self.tune("--apply", "--nic", "net1", code=4).stderr)
        commands = self.tune("--nic", "net1", "--dry-run").stdout
        self.assertIn("# there is no network device net1 here", commands)
        for command in ("-K net1 tso on", "-K net1 gso on", "-K net1 gro on", "-G net1 rx 4096", "-G net1 tx 4096",
                        "-C net1 adaptive-rx on", "-C net1 adaptive-tx on"):
            self.assertIn(f"\nethtool {command}\n", commands)

    def test_taken_out(self):
        self.have_nic()
        self.tune("--apply", "--nic", "net0")
        shutil.rmtree(self.root / "sys/class/net/net0")
        self.assertIn("left net0:tso: there is no network device net0 here", self.tune("--revert").stdout)
        self.assertIsNone(self.state_file())

    def test_default_routes(self):
        self.assertIn("no network device carries a default route", self.tune(code=3).stdout)
        self.put("proc/net/route", "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
                                   "net0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                                   "net2\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0")
        zeros = "0" * 32
        self.put("proc/net/ipv6_route", f"{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 00000003 net1\n"
                                        f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo")
        self.assertIn("note: --nic net0 or --nic net1 looks at", self.tune(code=3).stdout)


class Usage(Host):
    def test_wrong(self):
        before = self.everything()
        for arguments in (["--aply"], ["--app"], ["apply"], ["--apply", "--revert"], ["--profile"], ["--profile", "fast"],
                          ["--nic"], ["--nic", "../x"], ["--nic", ""], ["--nic", "-K"],
                          ["--nic", "a-name-that-is-too-long"], ["--root", "/nonexistent"]):
            with self.subTest(arguments=arguments):
                done = self.tune(*arguments, code=1)
                self.assertRegex(done.stderr, r"^aegis-tune: .+\nusage: aegis-tune ")
                self.assertEqual(done.stdout, "")
                self.assertEqual(self.everything(), before)

    def test_help(self):
        for option in ("-h", "--help"):
            self.assertIn("--revert", self.tune(option).stdout)

    def test_manual(self):
        """The manual's list is what the table says."""
        page = (SOURCE / "doc" / "aegis-tune.8").read_text(encoding="utf-8")
        written = re.search(r'^\.\\" begin: aegis-tune --manual\n(.*?)^\.\\" end$', page, re.M | re.S)[1]
        self.assertEqual(written, self.tune("--manual").stdout, "doc/aegis-tune.8 is stale: run `make update-docs` and commit it")

    def test_as_it_is_installed(self):
        self.assertEqual((BUILD / "aegis-tune").read_bytes(), TUNE.read_bytes())
        self.assertTrue(os.access(BUILD / "aegis-tune", os.X_OK))


@unittest.skipUnless(ROOT, "only root makes a network namespace")
class Kernel(Host):
    """The sysctls of a network namespace are the kernel's own; all else is the fake machine's."""

    def setUp(self):
        super().setUp()
        if not shutil.which("unshare") or not shutil.which("nsenter"):
            self.skipTest("not installed: unshare and nsenter (util-linux)")
        holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo here; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(holder.communicate)  # ends with its input
        if holder.stdout.readline() != "here\n":
            self.skipTest("network namespaces are not allowed here")
        self.enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        shutil.rmtree(self.root / "proc/sys/net")
        (self.root / "proc/sys/net").symlink_to("/proc/sys/net")

    def tune(self, *arguments, code=0):
        return execute(*self.enter, *self.command(*arguments), code=code)

    def of_namespace(self):
        listing = execute(*self.enter, "sh", "-c", "cd /proc/sys/net && grep -s . core/* unix/* ipv4/tcp_* ipv4/ip_local*; true").stdout
        return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in listing.splitlines())}

    def test_apply_apply_revert(self):
        before, host = self.of_namespace(), of_this_machine()
        done = subprocess.run([*self.enter, *self.command("--apply")], capture_output=True, text=True, timeout=60 * SLOW, check=False)
        # Some that are seen inside a namespace belong to the machine and can only be read there: those are said to fail, no others.
        denied = set(re.findall(r"FAILED: (\S+) = ", done.stderr))
        self.assertEqual(done.returncode, 4 if denied else 0, done.stdout + done.stderr)
        fixed = execute(*self.enter, "find", "/proc/sys/net", "-type", "f", "!", "-perm", "/222").stdout
        self.assertLessEqual(denied, {path[len("/proc/sys/"):].replace("/", ".") for path in fixed.split()}, done.stderr)
        after = self.of_namespace()
        for name, value in {"core/somaxconn": "65535", "ipv4/tcp_max_syn_backlog": "65535", "ipv4/ip_local_port_range": "10000 65535",
                            "ipv4/tcp_tw_reuse": "1", "ipv4/tcp_fin_timeout": "15", "ipv4/tcp_slow_start_after_idle": "0",
                            "ipv4/tcp_fastopen": "3", "ipv4/tcp_notsent_lowat": "131072"}.items():
            self.assertEqual(after[name], value, name)
        if "ipv4/tcp_migrate_req" in before:
            self.assertEqual(after["ipv4/tcp_migrate_req"], "1")
        self.assertGreaterEqual(int(after["ipv4/tcp_wmem"].split()[2]), 16777216)
        self.assertEqual(of_this_machine(), host, "the machine itself was changed")
        state = json.loads(self.state_file().read_text())
        self.tune("--apply", code=done.returncode)
        self.assertEqual(json.loads(self.state_file().read_text()), state)
        self.assertEqual(self.of_namespace(), after)
        seen = self.check(code=3 if denied else 0)
        self.assertEqual({name for name, (verdict, _) in seen.items() if verdict == "off"}, denied)
        self.tune("--revert")
        self.assertEqual(self.of_namespace(), before)
        self.assertIsNone(self.state_file())
        self.assertEqual(of_this_machine(), host)


if __name__ == "__main__":
    aegis.main()
