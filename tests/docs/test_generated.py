"""The pages that are generated from the tables in the code say what the code says. `make update-docs` writes them anew."""
import difflib
import os
import pathlib
import re
import subprocess
import unittest

BUILD = pathlib.Path(os.environ["AEGIS_BUILDDIR"])
SOURCE = pathlib.Path(os.environ["AEGIS_SRCDIR"])


class Generated(unittest.TestCase):
    def same(self, page, program, option):
        result = subprocess.run([BUILD / program, option], capture_output=True, text=True, encoding="utf-8", timeout=30)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        written = (SOURCE / page).read_text(encoding="utf-8")
        if written != result.stdout:
            diff = difflib.unified_diff(written.splitlines(), result.stdout.splitlines(), page, f"{program} {option}", lineterm="")
            self.fail(f"{page} is stale: run `make update-docs` and commit it\n" + "\n".join(diff))

    def test_settings_manual(self):
        self.same("doc/aegis.conf.5", "aegis", "--manual")

    def test_metrics_page(self):
        self.same("doc/metrics.md", "aegis-stat", "--metrics")

    def test_verbs_of_aegisctl(self):
        """The list of verbs in its manual."""
        page = (SOURCE / "doc/aegisctl.1").read_text(encoding="utf-8")
        written = re.search(r'^\.\\" begin: aegisctl --manual\n(.*?)^\.\\" end$', page, re.M | re.S)[1]
        told = subprocess.run([BUILD / "aegisctl", "--manual"], capture_output=True, text=True, encoding="utf-8", timeout=30).stdout
        self.assertEqual(written, told, "doc/aegisctl.1 is stale: run `make update-docs` and commit it")


if __name__ == "__main__":
    unittest.main()
