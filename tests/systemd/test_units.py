"""The systemd units are valid, hardened, and name the files that are installed."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["AEGIS_BUILDDIR"])
ANALYZE = shutil.which("systemd-analyze")
WORST_EXPOSURE = 30  # in tenths, what `systemd-analyze security` calls OK
UNITS = ("aegis.service", "aegis.socket")


def analyze(*arguments):
    environment = {**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_LOG_LEVEL": "warning", "SYSTEMD_PAGER": ""}
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, encoding="utf-8", env=environment, timeout=60)


class Units(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        # As installed, but for the program, which need not be installed here.
        for unit in UNITS:
            text = (BUILD / "systemd" / unit).read_text(encoding="utf-8")
            (self.folder / unit).write_text(re.sub(r"(?m)^(Exec\w+=)\S+/aegis ", rf"\1{BUILD}/aegis ", text), encoding="utf-8")

    def verify(self):
        result = analyze("verify", "--man=no", "--recursive-errors=no", *(str(self.folder / unit) for unit in UNITS))
        return result.returncode, result.stdout + result.stderr

    def test_valid(self):
        self.assertEqual(self.verify(), (0, ""))

    def test_a_mistake_would_be_noticed(self):
        service = self.folder / "aegis.service"
        service.write_text(service.read_text(encoding="utf-8").replace("KillMode=mixed", "KillMode=mxied"), encoding="utf-8")
        self.assertIn("mxied", self.verify()[1])

    def test_hardened(self):
        service = str(self.folder / "aegis.service")
        result = analyze("security", "--offline=true", "--no-pager", f"--threshold={WORST_EXPOSURE}", service)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("Overall exposure level", result.stdout)

    def test_nothing_left_to_substitute(self):
        for file in (*UNITS, "sysusers/aegis.conf", "tmpfiles/aegis.conf"):
            self.assertNotRegex((BUILD / "systemd" / file).read_text(encoding="utf-8"), r"@\w+@", file)


if __name__ == "__main__":
    if not ANALYZE:
        print("systemd-analyze is not installed")
        sys.exit(77)
    unittest.main()
