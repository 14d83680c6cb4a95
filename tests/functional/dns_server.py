"""A small DNS server for tests, on one loopback port over UDP and TCP, that answers as it is told.

In a script of the functional tests:

    server = DnsServer()
    server.answer("db.test", "A", 1, "127.0.0.1", "127.0.0.2")      # a TTL of 1 s; without an address: there is none
    server.behave("db.test", "AAAA", "servfail")
    server.count("db.test", "A")

As a program (`dns_server.py [ADDRESS [PORT]]`) it prints the port, then does what stands in its input, a line for each call above
("answer db.test A 1 127.0.0.1"), answers each line with one, and ends with its input.

Who is not known does not exist (NXDOMAIN). A name may behave:
    answer     as it has been told (that is how it begins)
    rotate     the same, in another order each time
    silent     no answer
    servfail, refused, nxdomain, formerr, notimp
    truncate   nothing over UDP but the flag that says "ask over TCP"
    cut        the answer ends in the middle
    noise      bytes without sense after the question's number
    wrong_id   the right answer with another number
    wrong_name the right answer to another question
    loop       a name that points at itself
    lies       a header that promises more answers than there are
    odd_size   an A record of three bytes
    empty      a packet without a byte
"""
import contextlib
import ipaddress
import random
import socket
import struct
import sys
import threading

TYPES = {"A": 1, "CNAME": 5, "AAAA": 28}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
RCODES = {"formerr": 1, "servfail": 2, "nxdomain": 3, "notimp": 4, "refused": 5}
BROKEN = {"cut", "noise", "wrong_id", "wrong_name", "loop", "lies", "odd_size", "empty"}
BEHAVIOURS = {"answer", "rotate", "silent", "truncate"} | BROKEN | set(RCODES)
UDP_BYTES = 512
RESPONSE, TRUNCATED, RECURSION = 0x8000, 0x0200, 0x0180


def pack_name(name):
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def unpack_question(packet):
    """(name in small letters, type, the question's bytes)"""
    at, labels = 12, []
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("ascii", "replace").lower())
        at += 1 + packet[at]
    kind, _ = struct.unpack_from("!HH", packet, at + 1)
    return ".".join(labels), TYPE_NAMES.get(kind, str(kind)), packet[12 : at + 5]


class Entry:
    def __init__(self):
        self.ttl, self.values, self.behaviour, self.turn = 0, [], "answer", 0


class DnsServer:
    def __init__(self, address="127.0.0.1", port=0):
        self.lock = threading.Lock()
        self.entries = {}  # (name, type) -> Entry
        self.counts = {}
        self.bind(address, port)
        self.running = True
        for target in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def bind(self, address, port, attempts=20):
        """One port for both; a free one where none is given."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.tcp = socket.create_server((address, port), family=family)
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self.udp.bind((address, self.port))
        except OSError:  # free for TCP only
            self.tcp.close()
            self.udp.close()
            if port or attempts == 0:
                raise
            self.bind(address, port, attempts - 1)

    def close(self):
        self.running = False
        for sock in (self.tcp, self.udp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    # --- what it is told

    def answer(self, name, kind, ttl, *values):
        if kind not in TYPES:
            raise ValueError(f"no such type: {kind}")
        for value in values:
            if kind != "CNAME" and ipaddress.ip_address(value).version != (4 if kind == "A" else 6):
                raise ValueError(f"no {kind}: {value}")
        with self.lock:
            entry = self.entries.setdefault((name.lower(), kind), Entry())
            entry.ttl, entry.values, entry.behaviour = int(ttl), list(values), "answer"

    def behave(self, name, kind, behaviour):
        """kind may be "*" for both families."""
        if behaviour not in BEHAVIOURS:
            raise ValueError(f"no such behaviour: {behaviour}")
        with self.lock:
            for one in ("A", "AAAA") if kind == "*" else (kind,):
                self.entries.setdefault((name.lower(), one), Entry()).behaviour = behaviour

    def forget(self, name):
        with self.lock:
            for kind in TYPES:
                self.entries.pop((name.lower(), kind), None)

    def count(self, name, kind=None):
        """How often it was asked for."""
        with self.lock:
            return sum(n for (asked, asked_kind), n in self.counts.items() if asked == name.lower() and kind in (None, asked_kind))

    # --- answering

    def records(self, name, kind):
        """([(owner, type, ttl, value)], entry or None), along CNAMEs."""
        records = []
        for _ in range(16):
            alias = self.entries.get((name, "CNAME"))
            if alias is None or not alias.values:
                break
            records.append((name, "CNAME", alias.ttl, alias.values[0]))
            name = alias.values[0].lower()
        entry = self.entries.get((name, kind))
        if entry is not None:
            values = entry.values
            if entry.behaviour == "rotate" and values:
                entry.turn = (entry.turn + 1) % len(values)
                values = values[entry.turn :] + values[: entry.turn]
            records += [(name, kind, entry.ttl, value) for value in values]
        known = records or entry is not None or any((name, other) in self.entries for other in TYPES)
        return records, entry, known

    @staticmethod
    def pack_record(owner, kind, ttl, value, odd):
        content = pack_name(value) if kind == "CNAME" else ipaddress.ip_address(value).packed
        if odd:
            content = content[:3]
        return pack_name(owner) + struct.pack("!HHiH", TYPES[kind], 1, ttl if ttl < 1 << 31 else ttl - (1 << 32), len(content)) + content

    def respond(self, packet, over_tcp):
        """The packet to send, or None for none."""
        name, kind, question = unpack_question(packet)
        with self.lock:
            self.counts[(name, kind)] = self.counts.get((name, kind), 0) + 1
            own = self.entries.get((name, kind))
            behaviour = own.behaviour if own else "answer"
            records, _, known = self.records(name, kind)
        if behaviour == "silent":
            return None
        if behaviour == "empty":
            return b""
        number = packet[:2] if behaviour != "wrong_id" else bytes([packet[0] ^ 0x55, packet[1] ^ 0xAA])
        if behaviour == "noise":
            return number + random.randbytes(random.randrange(4, 200))
        rcode = RCODES.get(behaviour, 0 if known else RCODES["nxdomain"])
        if rcode or behaviour in RCODES:
            records = []
        if behaviour == "wrong_name":
            question = pack_name("another.test") + question[-4:]
        body = b"".join(self.pack_record(*record, behaviour == "odd_size") for record in records)
        count = len(records)
        if behaviour == "loop":
            body, count = b"\xc0" + bytes([12 + len(question)]) + struct.pack("!HHiH", TYPES.get(kind, 1), 1, 1, 4) + bytes(4), 1
        if behaviour == "lies":
            count += 1000
        flags = RESPONSE | RECURSION | rcode
        if not over_tcp and (behaviour == "truncate" or 12 + len(question) + len(body) > UDP_BYTES):
            flags, body, count = flags | TRUNCATED, b"", 0
        answer = number + struct.pack("!HHHHH", flags, 1, count, 0, 0) + question + body
        return answer[: len(answer) - 7] if behaviour == "cut" else answer

    def serve_udp(self):
        while self.running:
            try:
                packet, peer = self.udp.recvfrom(4096)
                answer = self.respond(packet, over_tcp=False)
                if answer is not None:
                    self.udp.sendto(answer, peer)
            except (IndexError, struct.error):
                continue  # not a question
            except OSError:
                if not self.running:
                    return

    def serve_tcp(self):
        while self.running:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_connection, args=(sock,), daemon=True).start()

    def serve_connection(self, sock):
        with sock, contextlib.suppress(OSError, IndexError, struct.error), sock.makefile("rb") as stream:
            while len(head := stream.read(2)) == 2:
                answer = self.respond(stream.read(struct.unpack("!H", head)[0]), over_tcp=True)
                if answer is not None:
                    sock.sendall(struct.pack("!H", len(answer)) + answer)


def main():
    server = DnsServer(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(server.port, flush=True)
    calls = {"answer": server.answer, "behave": server.behave, "forget": server.forget, "count": server.count}
    for line in sys.stdin:
        words = line.split()
        result = calls[words[0]](*words[1:])
        print("ok" if result is None else result, flush=True)


if __name__ == "__main__":
    main()
