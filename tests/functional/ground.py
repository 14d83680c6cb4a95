"""Where a test stands: the build under test, how slow it may be, and waiting for a condition or a thread."""
import os
import pathlib
import re
import threading
import time

BUILD = pathlib.Path(os.environ.get("AEGIS_BUILDDIR", "build")).resolve()
SOURCE = pathlib.Path(os.environ.get("AEGIS_SRCDIR", ".")).resolve()
AEGIS = BUILD / "aegis"
AEGIS_STAT = BUILD / "aegis-stat"
AEGIS_DEMO = BUILD / "aegis-demo"
LONG = bool(os.environ.get("AEGIS_TEST_LONG"))
ROOT = os.geteuid() == 0
NOBODY = 65534
KIB, MIB = 1 << 10, 1 << 20


def _sanitized():
    try:
        return re.search(r"^#define AEGIS_SANITIZED 1", (BUILD / "build-config.h").read_text(), re.M) is not None
    except OSError:
        return False


SANITIZED = _sanitized()
SLOW = float(os.environ.get("AEGIS_TEST_SLOW") or (4 if SANITIZED else 1))

# Ports that a test must know beforehand are taken from an address of its own, so that scripts that run side by side do not meet.
OWN_ADDRESS = f"127.{20 + os.getpid() // 250 % 200}.{os.getpid() % 250}.1"

BROKEN = ("invariant broken", "ERROR: AddressSanitizer", "runtime error:", "LeakSanitizer", "Sanitizer:DEADLYSIGNAL")


def wait_until(condition, what, seconds=15.0):
    """Ask until the answer is true, and return it; AssertionError at the deadline. `what` may be a function that tells more."""
    end = time.monotonic() + seconds * SLOW
    pause = 0.002
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds * SLOW:.0f} s: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def join(threads, what="threads to end", seconds=60.0):
    end = time.monotonic() + seconds * SLOW
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            raise AssertionError(f"not within {seconds * SLOW:.0f} s: {what}")


class Task(threading.Thread):
    """A function in a thread, whose result or exception result() hands over."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.function, self.args, self.value, self.error = function, args, None, None
        self.start()

    def run(self):
        try:
            self.value = self.function(*self.args)
        except BaseException as error:  # handed over by result()
            self.error = error

    def result(self, seconds=60.0):
        join([self], getattr(self.function, "__qualname__", "task"), seconds)
        if self.error:
            raise self.error
        return self.value
