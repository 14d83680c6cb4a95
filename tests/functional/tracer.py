"""ptrace(2), for tests that must catch a process at one instruction of its life, and hold it there."""
import ctypes
import os
import platform
import signal
import unittest

from aegis import stat_fields, wait_until

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
CONT, DETACH, SYSCALL, GETEVENTMSG, SEIZE, GET_SYSCALL_INFO = 7, 17, 24, 0x4201, 0x4206, 0x420e
TRACESYSGOOD, TRACEFORK = 0x1, 0x2
EVENT_FORK, EVENT_STOP = 1, 128
WALL = 0x40000000
NUMBERS = {"x86_64": {"openat": 257, "memfd_create": 319}, "aarch64": {"openat": 56, "memfd_create": 279}}


class SyscallInfo(ctypes.Structure):
    _fields_ = [("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32), ("instruction", ctypes.c_uint64),
                ("stack", ctypes.c_uint64), ("number", ctypes.c_uint64), ("arguments", ctypes.c_uint64 * 6), ("rest", ctypes.c_uint64)]


def ptrace(request, pid, address=0, data=0):
    result = LIBC.ptrace(request, pid, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}: {os.strerror(ctypes.get_errno())}")
    return result


def seize(pid, options):
    try:
        ptrace(SEIZE, pid, 0, options)
    except PermissionError:
        raise unittest.SkipTest("processes cannot be traced here") from None


def _next(pid, request):
    """Until the next thing that happens to it, which is not a signal: the status of waitpid(2)."""
    deliver = 0
    while True:
        ptrace(request, pid, 0, deliver)
        _, status = os.waitpid(pid, WALL)
        if not os.WIFSTOPPED(status):
            raise AssertionError(f"process {pid} ended: {status:#x}")
        deliver = os.WSTOPSIG(status)
        if status >> 16 == EVENT_STOP:
            deliver = 0
            continue
        if status >> 16 or deliver == signal.SIGTRAP | 0x80:
            return status


def _number(name):
    if platform.machine() not in NUMBERS:
        raise unittest.SkipTest(f"the numbers of system calls are not known for {platform.machine()}")
    return NUMBERS[platform.machine()][name]


def _run_until(pid, number, is_it):
    """Until it is about to make this system call, with arguments that are the right ones."""
    info = SyscallInfo()
    while True:
        _next(pid, SYSCALL)
        ptrace(GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
        if info.op == 1 and info.number == number and is_it(info.arguments):
            return


def _text_at(pid, address, text):
    """Does this text stand there?"""
    wanted = os.fsencode(text) + b"\0"
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(address)
        return memory.read(len(wanted)) == wanted


def run_until_memfd(pid, name):
    """A process that is stopped (SIGSTOP) goes on until it has made a file without a name for this, and is stopped there."""
    number = _number("memfd_create")
    seize(pid, TRACESYSGOOD)
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, WALL)
    _run_until(pid, number, lambda arguments: _text_at(pid, arguments[0], name))
    ptrace(DETACH, pid, 0, signal.SIGSTOP)
    wait_until(lambda: stat_fields(pid)[0] == "T", "it to stop")  # a SIGCONT before that would be in vain


class Child:
    """The next child that a process forks, or the one that is so many later: held at its first instruction. When it is killed it does not
    go, as if it hung in the kernel, until it is let go of."""

    def __init__(self, parent, cause, later=0):
        _number("openat")
        seize(parent, TRACEFORK | TRACESYSGOOD)
        os.kill(parent, signal.SIGSTOP)  # so that there is something to wait for
        os.waitpid(parent, WALL)
        cause()
        for left in range(later, -1, -1):
            while _next(parent, CONT) >> 16 != EVENT_FORK:
                pass
            message = ctypes.c_ulong()
            ptrace(GETEVENTMSG, parent, 0, ctypes.addressof(message))
            self.pid = message.value
            os.waitpid(self.pid, WALL)
            if left:
                ptrace(DETACH, self.pid)
        ptrace(DETACH, parent)

    def run_until_open(self, path):
        """It goes on until it is about to open the file."""
        _run_until(self.pid, _number("openat"), lambda arguments: _text_at(self.pid, arguments[1], path))

    def let_go(self):
        """When it was killed."""
        _, status = os.waitpid(self.pid, WALL)
        if not os.WIFSIGNALED(status):
            raise AssertionError(f"process {self.pid}: {status:#x}")
