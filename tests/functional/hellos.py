"""TLS as tests need it: certificates of an own authority, servers that say who they are, hellos in any form, and raw sockets in front."""
import contextlib
import ssl
import struct
import threading

import aegis
from aegis import SLOW, Backend, dial, need, receive, run

HANDSHAKE, ALERT = 0x16, 0x15
UNRECOGNIZED_NAME, DECODE_ERROR, UNEXPECTED, RECORD_OVERFLOW, ILLEGAL, PROTOCOL_VERSION = 112, 50, 10, 22, 47, 70


class Authority:
    """Keys and certificates below a directory: ca.pem, and for each server a pair with the names that it has."""

    def __init__(self, directory):
        self.directory = directory
        openssl, = need("openssl")
        self._openssl = openssl
        self.ca = directory / "ca.pem"
        self._do("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", directory / "ca.key",
                 "-out", self.ca, "-days", "2", "-subj", "/CN=test authority")

    def _do(self, *words):
        done = run(self._openssl, *words)
        if done.returncode != 0:
            raise AssertionError(done.stderr)

    def pair(self, who, *names):
        """(certificate, key)"""
        request, cert, key = (self.directory / f"{who}.{end}" for end in ("csr", "pem", "key"))
        extensions = self.directory / f"{who}.ext"
        extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\n")
        self._do("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
                 "-subj", f"/CN={who}")
        self._do("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.directory / "ca.key", "-CAcreateserial", "-days", "2",
                 "-extfile", extensions, "-out", cert)
        return cert, key


def server_of(test, authority, who, *names, alpn=(), before=None):
    """A server that answers each line with its name, the name that it was asked for and the line."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.pair(who, *names))
    if alpn:
        context.set_alpn_protocols(alpn)
    asked = threading.local()

    def note(_socket, name, _context):
        asked.name = name
    context.sni_callback = note

    def serve(sock):
        asked.name = None
        if before and not before(sock):
            return "left before TLS"
        try:
            with context.wrap_socket(sock, server_side=True) as secure:
                file = secure.makefile("rwb")
                for line in file:
                    file.write(f"{who} {asked.name} ".encode() + line)
                    file.flush()
            return "served"
        except (ConnectionError, ssl.SSLError, OSError) as error:
            return repr(error)
    return Backend(test, serve)


def plain_server_of(test, who):
    """The same without TLS."""
    def serve(sock):
        with contextlib.suppress(ConnectionResetError):  # clients of ask() go without a close_notify
            file = sock.makefile("rwb")
            for line in file:
                file.write(f"{who} ".encode() + line)
                file.flush()
    return Backend(test, serve)


def ask(address, name, authority, alpn=(), before=None, check=True):
    """What the server behind the address says, as a list of words; the certificate must be for the name."""
    context = ssl.create_default_context(cafile=authority.ca)
    context.check_hostname = check and name is not None
    if alpn:
        context.set_alpn_protocols(alpn)
    with dial(address) as sock:
        if before:
            before(sock)
        with context.wrap_socket(sock, server_hostname=name) as secure:
            secure.sendall(b"line\n")
            return secure.makefile("rb").readline().decode().split()


# --- hellos, byte by byte ----------------------------------------------------------------------------------------------------


def hello_of(name, alpn=()):
    """A hello of the ssl module, in its record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        half.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def in_records(hello, most):
    """The same message in records of up to so many bytes."""
    message = hello[5:]
    parts = [message[at:at + most] for at in range(0, len(message), most)]
    return b"".join(struct.pack(">BHH", HANDSHAKE, 0x0301, len(part)) + part for part in parts)


def extension(kind, body):
    return struct.pack(">HH", kind, len(body)) + body


def raw_hello(name, extra=b"", ciphers=b"\x13\x01"):
    """A hello with a name of any bytes."""
    names = extension(0, struct.pack(">HBH", len(name) + 3, 0, len(name)) + name) if name is not None else b""
    extensions = names + extra
    body = (b"\x03\x03" + bytes(32) + b"\x00" + struct.pack(">H", len(ciphers)) + ciphers + b"\x01\x00"
            + struct.pack(">H", len(extensions)) + extensions)
    message = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"".join(struct.pack(">BHH", HANDSHAKE, 0x0301, len(message[at:at + 16384])) + message[at:at + 16384]
                    for at in range(0, len(message), 16384))


def refusal(sock):
    """The alert with which a client is turned away (None: without), after which the stream ends in order."""
    sock.settimeout(20 * SLOW)
    data = b""
    while part := sock.recv(4096):
        data += part
    if not data:
        return None
    if len(data) != 7 or data[0] != ALERT or data[5] != 2:
        raise AssertionError(f"not one fatal alert: {data!r}")
    return data[6]
