"""The pages that are generated from the tables in the code say what the code says. `make update-docs` writes them anew."""
import difflib
import os
import pathlib
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


if __name__ == "__main__":
    unittest.main()
