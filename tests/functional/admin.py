"""A client of the admin API, as simple as can be: one request on a connection of its own."""
import http.client
import json
import os
import socket
import subprocess
import unittest

from ground import AEGIS, SLOW


class Connection(http.client.HTTPConnection):
    """Over the unix socket of a runtime directory, whose path may be longer than a socket address."""

    def __init__(self, directory, timeout):
        super().__init__("localhost", timeout=timeout)
        self.directory = directory

    def connect(self):
        folder = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/admin.sock")
        finally:
            os.close(folder)


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.bytes = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.bytes)

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.bytes[:2000]!r}"


def ask(where, method, path, body=None, headers=None, timeout=20.0):
    """where: a runtime directory, or (host, port). A body that is no bytes is sent as JSON."""
    seconds = timeout * SLOW
    connection = Connection(where, seconds) if not isinstance(where, tuple) else http.client.HTTPConnection(*where, timeout=seconds)
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, path, body, headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def get(where, path, **options):
    return ask(where, "GET", path, **options)


def post(where, path, body=None, **options):
    return ask(where, "POST", path, body, **options)


def need():
    """Skip the test where Aegis was built without the API, or libmicrohttpd is missing."""
    version = subprocess.run([AEGIS, "-V"], capture_output=True, text=True, timeout=20 * SLOW).stdout
    line = next(line for line in version.splitlines() if line.startswith("admin API"))
    if not line.removeprefix("admin API").strip().startswith("yes"):
        raise unittest.SkipTest(line)
