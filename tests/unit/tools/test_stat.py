"""aegis-stat as a user meets it: options, exit codes, each output over a known segment."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["AEGIS_BUILDDIR"])
STAT = BUILD / "aegis-stat"
FIXTURE = BUILD / "tests/unit/tools/stat_fixture"
TIMEOUT = 30
LINE = re.compile(r"^ *\d+ active \| +\d+ err \| +\d+ rej \| +\d+\.\d\d Gbps \| +\d+\.\d\d GB total$")


def run(*arguments, environment=None):
    return subprocess.run([STAT, *arguments], capture_output=True, text=True, timeout=TIMEOUT, env=environment)


class Instance:
    """A folder with the files of a running instance."""

    def __init__(self, folder, *arguments):
        self.process = subprocess.Popen([FIXTURE, folder, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the fixture did not start")

    def move(self, order=""):
        """1 GB both ways, or what the order says: see stat_fixture.c."""
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "moved\n"

    def end(self):
        if self.process.returncode is None:
            self.process.communicate(timeout=TIMEOUT)


class Case(unittest.TestCase):
    arguments = ()

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.instance = Instance(self.folder, *self.arguments)
        self.addCleanup(self.instance.end)

    def stat(self, *arguments):
        result = run("-r", self.folder, *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def refused(self, code, *arguments, environment=None):
        result = run(*arguments, environment=environment)
        self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
        self.assertRegex(result.stderr, r"\Aaegis-stat: [^\n]+\n\Z")
        return result.stderr


class Outputs(Case):
    def test_tables(self):
        self.assertTrue(self.stat().startswith("Aegis 1.2.3, running, generation 3, up "))

    def test_json(self):
        document = json.loads(self.stat("-j"))
        self.assertEqual(document["pid"], self.instance.process.pid)
        self.assertEqual(document["connections"], {"active": 34, "max": 100000, "total": 621, "rejected": 21, "errors": 15})
        self.assertEqual([upstream["name"] for upstream in document["upstreams"]], ["app", "db"])
        self.assertEqual(sum(document["listeners"][0]["closes"].values()), 510)

    def test_prometheus_text_is_well_formed(self):
        sample = re.compile(r'^(aegis_[a-z_]+)(\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\})? (\d+(?:\.\d+)?)$')
        types, seen = {}, set()
        for line in self.stat("-p").splitlines():
            if line.startswith("# HELP "):
                family = line.split()[2]
                self.assertNotIn(family, types)
            elif line.startswith("# TYPE "):
                self.assertEqual(line.split()[2], family)
                types[family] = line.split()[3]
            else:
                match = sample.match(line)
                self.assertIsNotNone(match, line)
                name = match[1]
                if types[family] == "histogram":
                    name = re.sub(r"_(bucket|sum|count)$", "", name)
                self.assertEqual(name, family, line)
                self.assertNotIn(match[1] + str(match[2]), seen)
                seen.add(match[1] + str(match[2]))
                if types[family] == "counter":
                    self.assertTrue(family.endswith("_total"), family)

    def test_lines(self):
        process = subprocess.Popen([STAT, "-r", self.folder, "-l", "0.1", "-c", "4"], stdout=subprocess.PIPE, text=True)
        rates = []
        for line in process.stdout:
            self.assertRegex(line.rstrip("\n"), LINE)
            rates.append(float(line.split("|")[3].split()[0]))
            if len(rates) == 1:
                self.instance.move()
        process.stdout.close()
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.assertEqual(len(rates), 4)
        self.assertEqual(rates[0], 0)
        self.assertGreater(max(rates), 0)

    def test_lines_end_with_the_instance(self):
        process = subprocess.Popen([STAT, "-r", self.folder, "-l0.05"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertRegex(process.stdout.readline().rstrip("\n"), LINE)
        self.instance.end()
        _, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 4)
        self.assertIn("no Aegis is running in " + self.folder, errors)

    def test_full_disk_is_told(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([STAT, "-r", self.folder, "-j"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT)
        self.assertEqual(result.returncode, 3)
        self.assertIn("No space left", result.stderr)


class Hostile(Case):
    arguments = ("hostile",)

    def test_outputs_stay_well_formed(self):
        for option in ("-j", "-p", None):
            text = self.stat(option) if option else self.stat()
            self.assertNotIn("\033", text)
        json.loads(self.stat("-j"))
        Outputs.test_prometheus_text_is_well_formed(self)


class Trouble(Case):
    def test_no_instance(self):
        empty = tempfile.mkdtemp()
        self.addCleanup(os.rmdir, empty)
        for option in ("-j", "-p", "-l", None):
            error = self.refused(4, "-r", empty, *([option] if option else []))
            self.assertIn("no Aegis is running in " + empty, error)
        self.refused(4, "-r", empty + "/not-there")

    def test_default_folder(self):
        if os.geteuid() == 0:
            self.skipTest("root has a fixed folder")
        environment = dict(os.environ, XDG_RUNTIME_DIR=self.folder)
        self.assertIn(self.folder + "/aegis", self.refused(4, environment=environment))

    def test_what_a_dead_master_left(self):
        self.instance.process.kill()
        self.instance.process.wait(TIMEOUT)
        self.instance.process.stdin.close()
        self.instance.process.stdout.close()
        self.assertIn("no Aegis is running", self.refused(4, "-r", self.folder))

    def test_unreadable(self):
        path = self.folder + "/stats"
        data = bytearray(pathlib.Path(path).read_bytes())
        data[8] ^= 1
        for content in (b"", b"x", b"x" * 100000, data[:1000], data, data[:-1]):
            pathlib.Path(path).write_bytes(content)
            self.assertRegex(self.refused(3, "-r", self.folder), path + " (is|was written by) ")
        os.unlink(path)
        os.mkfifo(path)
        self.refused(3, "-r", self.folder)
        os.unlink(path)
        os.symlink("/etc/passwd", path)
        self.refused(3, "-r", self.folder)

    def test_denied(self):
        if os.geteuid() == 0:
            self.skipTest("root may read everything")
        os.chmod(self.folder + "/stats", 0)
        self.assertIn("Permission denied", self.refused(3, "-r", self.folder))

    def test_wrong_arguments(self):
        for arguments in (("-z",), ("-r",), ("-r", ""), ("-r", "x" * 5000), ("-l", "0"), ("-l", "1e3"), ("-lx",), ("-l1.2.3",), ("-w99999999",),
                          ("-j", "-p"), ("-c", "1"), ("-l", "-c", "0"), ("-l", "-c", "x"), ("-l", "-c", "9999999999"), ("somewhere",),
                          ("--metric-s",)):
            self.assertIn("see aegis-stat -h", self.refused(1, *arguments))

    def test_no_terminal(self):
        self.assertIn("needs a terminal", self.refused(1, "-r", self.folder, "-w"))

    def test_help_and_version(self):
        for option in ("-h", "--help"):
            self.assertIn("usage: aegis-stat", run(option).stdout)
        self.assertRegex(run("-V").stdout, r"\Aaegis-stat \d+\.\d+\.\d+\n\Z")


if __name__ == "__main__":
    unittest.main()
