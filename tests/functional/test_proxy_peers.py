"""The PROXY protocol with HAProxy and nginx, each as the one who tells Aegis and the one who is told."""
import contextlib
import glob
import json
import os
import socket
import unittest

import aegis
from aegis import *
from test_peers import Peer, free_port
from test_proxy import ACCEPT, ProxyCase
from test_udp import have_ipv6
from wire import form

MODULE = next(iter(glob.glob("/usr/lib*/nginx/modules/ngx_stream_module.so")), None)


class PeerCase(Peer, ProxyCase):
    """Whether a peer listens is found out by a connection, which goes on through Aegis where it is in front, and HAProxy ends with a reset."""
    resets = (ConnectionResetError,)

    def haproxy(self, frontend="", backend="", server=""):
        """In tcp mode: listens, goes on to `server`."""
        haproxy, = need("haproxy")
        port = free_port()
        config = self.directory / f"haproxy-{port}.cfg"
        config.write_text(f"""
            global
                maxconn 100
            defaults
                mode tcp
                timeout connect 5s
                timeout client 30s
                timeout server 30s
            frontend f
                bind 127.0.0.1:{port} {frontend}
                default_backend b
            backend b
                {backend}
                server s {server}\n""")
        self.serve(port, [haproxy, "-db", "-f", config])
        return f"127.0.0.1:{port}"

    def nginx(self, stream="", http=""):
        nginx, = need("nginx")
        port = free_port()
        if stream and not MODULE:
            raise unittest.SkipTest("nginx has no module for streams")
        config = self.directory / f"nginx-{port}.conf"
        folders = " ".join(f"{name}_temp_path {self.directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(f"""
            {f"load_module {MODULE};" if stream else ""}
            daemon off; master_process off; pid {self.directory}/nginx-{port}.pid; error_log stderr warn;
            events {{ worker_connections 100; }}
            {"stream {" + stream.replace("PORT", str(port)) + "}" if stream else ""}
            {"http { access_log off; " + folders + http.replace("PORT", str(port)) + "}" if http else ""}
            """)
        self.serve(port, [nginx, "-p", self.directory, "-e", "stderr", "-c", config])
        return f"127.0.0.1:{port}"

    def told(self, proxy, name, version=None):
        """Aegis takes this one for a client."""
        wait_until(lambda: any(record["client"] == name for record in self.records(1)), lambda: f"{name} in the log: {self.records(1)}")
        if version:
            out = run(aegis.BUILD / "aegisctl", "-r", proxy.directory, "why", "127.0.0.1").stdout
            self.assertIn(f"a proxy (PROXY protocol, version {version}) speaks for {name}", out)

    def header_of(self, name):
        return next(header for header in self.seen if header.source == name)


class Senders(PeerCase):
    def by_haproxy(self, word, version, **listener):
        proxy, address = self.proxy(Echo(self).address, listener={**ACCEPT, **listener}, **self.access())
        front = self.haproxy(server=f"{address} {word}")
        name = self.echoes(front)
        self.told(proxy, name, version)
        return proxy, front

    def test_haproxy_v1(self):
        self.by_haproxy("send-proxy", 1)

    def test_haproxy_v2(self):
        self.by_haproxy("send-proxy-v2", 2)

    def test_haproxy_v2_with_all_that_it_has(self):
        self.by_haproxy("send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl,cert-cn", 2)

    def test_haproxy_checks(self):
        """Its checks say LOCAL, and are clients of their own."""
        server = Echo(self)
        proxy, address = self.proxy(server.address, listener=ACCEPT)
        front = self.haproxy(server=f"{address} send-proxy-v2 check inter 100")
        wait_until(lambda: proxy.listener()["total"] >= 3, "checks by HAProxy")
        self.echoes(front)
        closes = proxy.listener()["closes"]
        self.assertEqual((closes["proxy_header"], closes["proxy_timeout"]), (0, 0))

    def test_nginx_stream(self):
        proxy, address = self.proxy(Echo(self).address, listener=ACCEPT, **self.access())
        front = self.nginx(stream=f"server {{ listen 127.0.0.1:PORT; proxy_pass {address}; proxy_protocol on; }}")
        self.told(proxy, self.echoes(front), 1)

    def test_haproxy_over_a_unix_socket(self):
        path = f"{self.directory}/in.sock"
        proxy, address = self.proxy(Echo(self).address, listener={"address": f"unix:{path}", "accept_proxy": {}}, **self.access())
        front = self.haproxy(server=f"unix@{path} send-proxy-v2")
        self.told(proxy, self.echoes(front))


class Receivers(PeerCase):
    def test_haproxy(self):
        """It tells what it has understood in a header of version 1 of its own."""
        for version in ("v1", "v2"):
            self.seen.clear()
            behind = self.haproxy(frontend="accept-proxy", server=f"{self.told_server().address} send-proxy")
            proxy, address = self.proxy(behind, upstream={"send_proxy": version}, listener={"address": ":0"})
            for host in ("127.0.0.1", *(["[::1]"] if have_ipv6() else [])):
                there = f"{host}:{address.rpartition(':')[2]}"
                name = self.echoes(there)
                self.assertEqual(self.header_of(name).destination, there)
            proxy.stop()

    def test_haproxy_reads_the_tlvs(self):
        """It verifies the check sum, and lets in nobody without a unique id."""
        rule = "tcp-request content reject unless { fc_pp_unique_id -m reg ^[0-9]+[.][0-9]+$ }"
        behind = self.haproxy(frontend=f"accept-proxy\n                {rule}", server=f"{self.told_server().address} send-proxy-v2")
        proxy, address = self.proxy(behind, upstream={"send_proxy": "v2", "send_proxy_check_sum": True, "send_proxy_unique_id": True})
        name = self.echoes(address)
        self.assertTrue(self.header_of(name))

    def test_haproxy_under_checks(self):
        behind = self.haproxy(frontend="accept-proxy", server=Echo(self).address)
        for version in ("v1", "v2"):
            proxy, address = self.proxy(behind, upstream={"send_proxy": version, "health": {"type": "tcp", "interval": "50ms"}})
            self.echoes(address)
            proxy.stop()

    def test_nginx_http(self):
        """nginx puts into its answer who it takes the client for, and who asked whom. Checks by http introduce themselves as well."""
        behind = self.nginx(http="""server { listen 127.0.0.1:PORT proxy_protocol; set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;
            location / { return 200 "$remote_addr:$remote_port $proxy_protocol_addr:$proxy_protocol_port to $proxy_protocol_server_addr:$proxy_protocol_server_port\\n"; } }""")
        for version in ("v1", "v2"):
            health = {"type": "http", "path": "/", "interval": "50ms"}
            proxy, address = self.proxy(behind, upstream={"send_proxy": version, "health": health})
            with dial(address) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                name = form(sock)
                text = b""
                while data := sock.recv(65536):
                    text += data
            self.assertIn(f"{name} {name} to {address}".encode(), text)
            out = run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
            self.assertRegex(out, r'aegis_server_up\{[^}]*\} 1')
            proxy.stop()

    def test_nginx_stream(self):
        behind = self.nginx(stream='server { listen 127.0.0.1:PORT proxy_protocol; return "$proxy_protocol_addr:$proxy_protocol_port"; }')
        for version in ("v1", "v2"):
            proxy, address = self.proxy(behind, upstream={"send_proxy": version})
            with dial(address) as sock:
                name = form(sock)
                sock.sendall(b"x")
                self.assertEqual(receive(sock, len(name)), name.encode())
            proxy.stop()


class Between(PeerCase):
    def test_haproxy_aegis_haproxy(self):
        behind = self.haproxy(frontend="accept-proxy", server=f"{self.told_server().address} send-proxy-v2")
        proxy, address = self.proxy(behind, listener=ACCEPT, upstream={"send_proxy": "v2"})
        front = self.haproxy(server=f"{address} send-proxy-v2")
        name = self.echoes(front)
        self.assertEqual(self.header_of(name).destination, front)


class Vectors(ProxyCase):
    """Headers with the verdict of the specification, as they come from sockets, in the pieces that they name."""

    def test_all(self):
        path = os.path.join(os.environ.get("AEGIS_TEST_VECTORS", ""), "proxy_protocol/vectors.json")
        if not os.path.exists(path):
            raise unittest.SkipTest("AEGIS_TEST_VECTORS names no folder with proxy_protocol/vectors.json")
        vectors = json.load(open(path))["vectors"]
        accept = {"accept_proxy": {"from": ["127.0.0.1"], "timeout": "20s"}}
        proxy, address = self.proxy(Echo(self).address, listener=accept, **self.access())
        taken = []
        for vector in vectors:
            data, piece = bytes.fromhex(vector["hex"]), int(vector.get("chunks") or 0)
            with dial(address) as sock, contextlib.suppress(ConnectionResetError, BrokenPipeError):
                name = form(sock)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(data), piece or len(data)):
                    sock.sendall(data[at:at + (piece or len(data))])
                if vector["spec"] != "reject":
                    sock.sendall(b"hello")
                with contextlib.suppress(OSError):  # it may have been reset by now
                    sock.shutdown(socket.SHUT_WR)
                got = b""
                while part := sock.recv(65536):
                    got += part
                if got:
                    self.assertEqual(got, b"hello", vector["id"])
                    taken.append((vector, name))
        accepted = {vector["id"] for vector in vectors if vector["spec"] == "accept"}
        self.assertLessEqual(accepted, {vector["id"] for vector, _ in taken})
        self.assertFalse([vector["id"] for vector, _ in taken if vector["spec"] == "reject"])
        clients = {record["client"] for record in self.records(len(vectors))}
        for vector, name in taken:
            source = name if vector["src"] in ("peer", None) else vector["src"]
            if source.count(":") > 1 and not source.startswith("::ffff:"):
                host, _, port = source.rpartition(":")
                source = f"[{host}]:{port}"
            if vector["spec"] == "accept":
                self.assertIn(source.replace("::ffff:", ""), clients, vector["id"])


if __name__ == "__main__":
    aegis.main()
