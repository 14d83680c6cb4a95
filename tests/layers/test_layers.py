"""The sources keep the layer rule, and the check notices each way to break it."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SRC = pathlib.Path(os.environ.get("AEGIS_SRCDIR", HERE.parent.parent)) / "src"

# A tree that keeps the rule; each case below adds one line to it.
GOOD = {
    "base/text.h": "#include <stdint.h>\n",
    "os/loop.h": '#include "base/text.h"\n',
    "os/loop.c": '#include <sys/epoll.h>\n#include "os/loop.h"\n',
    "config/config.h": '#include "base/text.h"\n',
    "config/load.c": '#include <libconfig.h>\n#include "config/config.h"\n',
    "config/dump.c": '#include "config/config.h"\n',
    "shm/layout.h": '#include "os/loop.h"\n',
    "relay/relay.h": '#include "shm/layout.h"\n',
    "upstream/group.h": '#include "config/config.h"\n',
    "master/master.h": '#include "relay/relay.h"\n',
    "view/snapshot.h": '#include "shm/layout.h"\n',
    "tools/stat.c": '#include "view/snapshot.h"\n#include "config/config.h"\n',
    "main.c": '#include "master/master.h"\n',
}

BAD = {
    "a lower layer includes a higher one": ("base/text.h", '#include "os/loop.h"', "base must not include os/loop.h"),
    "two folders of one layer": ("shm/layout.h", '#include "config/config.h"', "shm must not include config/config.h"),
    "and of another layer": ("upstream/group.h", '#include "relay/relay.h"', "upstream must not include relay/relay.h"),
    "what is shown knows of what works": ("view/snapshot.h", '#include "relay/relay.h"', "view must not include relay/relay.h"),
    "a tool includes what is not for tools": ("tools/stat.c", '#include "relay/relay.h"', "tools must not include relay/relay.h"),
    "a layer includes a tool": ("master/master.h", '  #  include "tools/stat.c"', "master must not include tools/stat.c"),
    "a library header in a second file": ("os/loop.h", "#include <numa.h>", "<numa.h> belongs in os/cpu.c only"),
    "a library header twice in its folder": ("config/dump.c", "#include <libconfig.h>", "<libconfig.h> is in config/dump.c already"),
    "an unknown library": ("os/loop.c", "#include <event2/event.h>", "<event2/event.h> is a library header without a place"),
    "a path that climbs": ("os/loop.c", '#include "../base/text.h"', "leaves its folder"),
    "a name without a folder": ("os/loop.c", '#include "loop.h"', "names no folder"),
    "a header that does not exist": ("os/loop.c", '#include "base/none.h"', "is not a file"),
    "a folder in no layer": ("misc/things.c", "#include <stdio.h>", "misc is in no layer"),
}


def check(tree):
    return subprocess.run([sys.executable, "-B", HERE / "check-layers", tree], capture_output=True, text=True)


def check_files(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return check(folder)


class Layers(unittest.TestCase):
    def test_sources(self):
        result = check(SRC)
        self.assertEqual(result.returncode, 0, "\n" + result.stdout + result.stderr)

    def test_good_tree(self):
        result = check_files(GOOD)
        self.assertEqual(result.returncode, 0, "\n" + result.stdout + result.stderr)

    def test_bad_trees(self):
        for name, (file, line, message) in BAD.items():
            with self.subTest(name):
                result = check_files({**GOOD, file: GOOD.get(file, "") + line + "\n"})
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn(message, result.stdout)
                self.assertIn(" 1 breaches", result.stdout)

    def test_empty_tree(self):
        self.assertEqual(check_files({}).returncode, 1)


if __name__ == "__main__":
    unittest.main()
