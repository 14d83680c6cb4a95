"""Every manual page is clean mdoc: mandoc has nothing to warn of."""
import os
import pathlib
import shutil
import subprocess
import sys

PAGES = sorted(path for path in pathlib.Path(os.environ["AEGIS_SRCDIR"], "doc").iterdir() if path.suffix in (".1", ".5", ".8"))
# "unknown cross reference" asks the machine's own manuals, which need not be there.
PASS_OVER = ("referenced manual not found",)


def main():
    mandoc = shutil.which("mandoc")
    if not mandoc:
        print("mandoc is not installed")
        return 77
    if not PAGES:
        print("no manual pages found")
        return 1
    failed = 0
    for page in PAGES:
        lint = subprocess.run([mandoc, "-Tlint", "-Wwarning", page], capture_output=True, text=True, encoding="utf-8", timeout=30)
        found = [line for line in lint.stdout.splitlines() + lint.stderr.splitlines() if not any(text in line for text in PASS_OVER)]
        text = subprocess.run([mandoc, "-Tascii", page], capture_output=True, timeout=30).stdout
        if found or not text.strip():
            failed += 1
            print(f"{page.name}: not clean" if found else f"{page.name}: renders to nothing")
            print("\n".join(found))
        else:
            print(f"{page.name}: clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
