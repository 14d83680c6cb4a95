"""Certificates for tests, made by openssl as they are needed: a CA of one's own, and pairs of certificate and key that it signed."""
import pathlib
import shutil
import socket
import ssl
import subprocess
import unittest

from ground import AEGIS, SLOW


def has_tls():
    return "\nTLS          yes" in subprocess.run([AEGIS, "-V"], capture_output=True, text=True, check=True, timeout=30 * SLOW).stdout


def need_tls():
    """Skip the test where Aegis was built without TLS, or there is no openssl."""
    if not has_tls():
        raise unittest.SkipTest("Aegis was built without TLS")
    if not shutil.which("openssl"):
        raise unittest.SkipTest("not installed: openssl")


def openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, timeout=60 * SLOW)
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


class Papers:
    """In a folder: ca.pem and ca.key, and of each name NAME.pem and NAME.key."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.ca = self.directory / "ca.pem"
        self._make("ca", "Test CA", ("basicConstraints=critical,CA:TRUE",), self.directory, "ec")

    def _make(self, name, subject, extensions, directory, kind, *more):
        key = ("rsa:2048",) if kind == "rsa" else ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        lines = [word for line in extensions for word in ("-addext", line)]
        openssl("req", "-x509", "-newkey", *key, "-nodes", "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem",
                "-subj", f"/CN={subject}", *lines, *(more or ("-days", "60")))
        (directory / f"{name}.key").chmod(0o600)

    def pair(self, name, *alternatives, directory=None, kind="ec", days=60, subject=None):
        """A new pair in NAME.pem and NAME.key; for DNS names, or others where a ":" is in them. Returns what Aegis's settings say of it."""
        directory = pathlib.Path(directory or self.directory)
        names = ",".join(entry if ":" in entry else f"DNS:{entry}" for entry in alternatives or (name,))
        self._make(name, subject or name, (f"subjectAltName={names}", "basicConstraints=critical,CA:FALSE"), directory, kind,
                   "-CA", self.ca, "-CAkey", self.directory / "ca.key", "-days", str(days))
        return {"cert": str(directory / f"{name}.pem"), "key": str(directory / f"{name}.key")}

    def serial(self, path):
        return openssl("x509", "-in", path, "-noout", "-serial").strip().partition("=")[2].lstrip("0")

    def context(self, version=None, **chain):
        """Of a client that trusts the CA."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if version:
            context.minimum_version = context.maximum_version = version
        if chain:
            context.load_cert_chain(chain["cert"], chain["key"])
        return context


def connect(address, context, name, session=None):
    """A connection with TLS to HOST:PORT, after its handshake."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=20 * SLOW)
    try:
        return context.wrap_socket(sock, server_hostname=name, session=session)
    except BaseException:
        sock.close()
        raise


def serial_at(address, context, name):
    """Of the certificate that a client of this name gets."""
    with connect(address, context, name) as sock:
        return sock.getpeercert()["serialNumber"].lstrip("0")
