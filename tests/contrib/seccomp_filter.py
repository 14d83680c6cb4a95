"""A seccomp profile in the format of Docker, put into force without Docker: compiled to BPF and given to the kernel by prctl(2).

On x86_64 and aarch64; understands what contrib/seccomp/aegis.json uses (names, one comparison of an argument) and refuses the rest.
"""
import ctypes
import errno
import platform
import re
import struct
import subprocess

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LOAD, AND, JUMP_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def numbers():
    """{name: number} of this machine's system calls, as the C compiler knows them."""
    macros = subprocess.run(["cc", "-dM", "-E", "-include", "sys/syscall.h", "-x", "c", "/dev/null"], capture_output=True, text=True, check=True,
                            timeout=60).stdout
    return {name: int(number) for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", macros, re.M)}


def _statement(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _action(entry, profile):
    if entry["action"] == "SCMP_ACT_ALLOW":
        return ALLOW
    if entry["action"] == "SCMP_ACT_ERRNO":
        return ERRNO | entry.get("errnoRet", profile.get("defaultErrnoRet", errno.EPERM))
    raise ValueError(entry["action"])


def _rule(number, entry, profile):
    """Statements for one system call: with its number in the accumulator before and after, or returned."""
    result = _statement(RETURN, _action(entry, profile))
    arguments = entry.get("args", [])
    if not arguments:
        return _statement(JUMP_EQUAL, number, 0, 1) + result
    argument, = arguments
    body = _statement(LOAD, ARGUMENTS_AT + 8 * argument["index"])
    if argument["op"] == "SCMP_CMP_MASKED_EQ":
        body += _statement(AND, argument["value"]) + _statement(JUMP_EQUAL, argument["valueTwo"], 0, 1)
    elif argument["op"] == "SCMP_CMP_EQ":
        body += _statement(JUMP_EQUAL, argument["value"], 0, 1)
    else:
        raise ValueError(argument["op"])
    body += result + _statement(LOAD, NUMBER_AT)
    return _statement(JUMP_EQUAL, number, 0, len(body) // 8) + body


def compile_profile(profile):
    """The program, or None on a machine that this file does not know."""
    if platform.machine() not in ARCHITECTURES:
        return None
    known = numbers()
    program = _statement(LOAD, ARCHITECTURE_AT) + _statement(JUMP_EQUAL, ARCHITECTURES[platform.machine()], 1, 0) + _statement(RETURN, KILL)
    program += _statement(LOAD, NUMBER_AT)
    for entry in profile["syscalls"]:
        for name in entry["names"]:
            if name in known:
                program += _rule(known[name], entry, profile)
    return program + _statement(RETURN, _action({"action": profile["defaultAction"]}, profile))


class Filter:
    """To be called between fork and exec (preexec_fn): all is prepared before."""

    def __init__(self, program):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._code = ctypes.create_string_buffer(program, len(program))
        self._program = ctypes.create_string_buffer(struct.pack("HL", len(program) // 8, ctypes.addressof(self._code)))

    def __call__(self):
        if self._libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or \
                self._libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, self._program, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")
