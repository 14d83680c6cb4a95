"""The PROXY protocol as another program reads it: written from the specification, for servers of tests."""
import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FAMILIES = {0x10: 4, 0x20: 16}
TRANSPORTS = {0x1: "stream", 0x2: "datagrams"}


class Header:
    """command is "LOCAL" or "PROXY"; source and destination "address:port", "[address]:port" or a path, or None where nobody is told of.
    tlvs are (type, bytes)."""

    def __init__(self, version, command, transport, source, destination, tlvs=()):
        self.version, self.command, self.transport = version, command, transport
        self.source, self.destination, self.tlvs = source, destination, list(tlvs)

    def __repr__(self):
        return f"<v{self.version} {self.command} {self.transport} {self.source} -> {self.destination} {self.tlvs}>"

    def tlv(self, number):
        return next((value for kind, value in self.tlvs if kind == number), None)


def _form(address, port):
    address = ipaddress.ip_address(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _read_v1(data):
    line, end, rest = data.partition(b"\r\n")
    if not end or len(line) > 105:
        raise ValueError(f"no line of version 1: {data[:120]!r}")
    words = line.decode("ascii").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return Header(1, "LOCAL", None, None, None), rest
    if len(words) != 6 or words[0] != "PROXY" or words[1] not in ("TCP4", "TCP6"):
        raise ValueError(f"wrong words: {line!r}")
    for word in words[2:4]:
        if ipaddress.ip_address(word).version != int(words[1][3]):
            raise ValueError(f"wrong family: {line!r}")
    return Header(1, "PROXY", "stream", _form(words[2], int(words[4])), _form(words[3], int(words[5]))), rest


def _read_tlvs(data):
    tlvs = []
    while data:
        kind, length = struct.unpack("!BH", data[:3])
        if len(data) < 3 + length:
            raise ValueError(f"a TLV of {length} bytes in {len(data)}")
        tlvs.append((kind, data[3:3 + length]))
        data = data[3 + length:]
    return tlvs


def _read_v2(data):
    command, family, length = struct.unpack("!BBH", data[12:16])
    body, rest = data[16:16 + length], data[16 + length:]
    if command not in (0x20, 0x21) or len(body) < length:
        raise ValueError(f"wrong header: {data[:64]!r}")
    if command == 0x20:
        return Header(2, "LOCAL", None, None, None, _read_tlvs(body) if family == 0 else ()), rest
    transport = TRANSPORTS[family & 0xf]
    if family & 0xf0 == 0x30:
        ends = [body[at:at + 108].rstrip(b"\0").decode() for at in (0, 108)]
        return Header(2, "PROXY", transport, *ends, _read_tlvs(body[216:])), rest
    size = FAMILIES[family & 0xf0]
    ports = struct.unpack("!HH", body[2 * size:2 * size + 4])
    ends = [_form(body[at * size:(at + 1) * size], ports[at]) for at in (0, 1)]
    return Header(2, "PROXY", transport, *ends, _read_tlvs(body[2 * size + 4:])), rest


def read_header(data):
    """(Header, what is behind it), or ValueError."""
    return _read_v2(data) if data.startswith(SIGNATURE) else _read_v1(data)


def take_header(sock):
    """The header that a connection begins with, and not a byte of what stands behind it."""
    data = b""
    while len(data) < 16:
        piece = sock.recv(1)
        if not piece:
            raise EOFError(f"ended within its header: {data!r}")
        data += piece
        if data.endswith(b"\r\n") and not SIGNATURE.startswith(data):
            break
    if data.startswith(SIGNATURE):
        left = struct.unpack("!H", data[14:16])[0]
        while left:
            piece = sock.recv(left)
            if not piece:
                raise EOFError(f"ended within its header: {data!r}")
            data, left = data + piece, left - len(piece)
    while not data.startswith(SIGNATURE) and not data.endswith(b"\r\n"):
        piece = sock.recv(1)
        if not piece or len(data) > 107:
            raise EOFError(f"no line: {data!r}")
        data += piece
    header, rest = read_header(data)
    if rest:
        raise ValueError(f"behind it: {rest!r}")
    return header


def v1(source, destination):
    """A line, for addresses as "192.0.2.1:80" or "[2001:db8::1]:80"."""
    (host, _, port), (other, _, to) = source.rpartition(":"), destination.rpartition(":")
    return f"PROXY TCP{6 if '[' in host else 4} {host.strip('[]')} {other.strip('[]')} {port} {to}\r\n".encode()


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def v2(source=None, destination=None, tlvs=b"", command=0x21):
    """Without addresses: LOCAL, or of whatever command. A path of a unix socket begins with /."""
    if source is None:
        return SIGNATURE + struct.pack("!BBH", 0x20 if command == 0x21 else command, 0, len(tlvs)) + tlvs
    if source.startswith("/"):
        ends, family = source.encode().ljust(108, b"\0") + destination.encode().ljust(108, b"\0"), 0x31
    else:
        (host, _, port), (other, _, to) = source.rpartition(":"), destination.rpartition(":")
        ends = b"".join(ipaddress.ip_address(part.strip("[]")).packed for part in (host, other)) + struct.pack("!HH", int(port), int(to))
        family = 0x21 if "[" in host else 0x11
    return SIGNATURE + struct.pack("!BBH", command, family, len(ends) + len(tlvs)) + ends + tlvs
