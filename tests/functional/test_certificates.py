"""Certificates: the choice by name, what is refused and said, and how they change without new workers."""
import concurrent.futures
import os
import pathlib
import shutil
import ssl
import threading
import unittest

import admin
import aegis
from aegis import BUILD, ROOT, Case, Echo, need, run, wait_until
from papers import Papers, connect, need_tls, openssl, serial_at

AEGISCTL = BUILD / "aegisctl"


class Certificates(Case):
    def setUp(self):
        super().setUp()
        need_tls()
        self.papers = Papers(self.directory / "papers")
        self.context = self.papers.context()

    def tls(self, *pairs, **tls):
        return {"tls": {"certificates": list(pairs), **tls}}

    def start(self, *pairs, **tls):
        proxy, address = self.proxy(Echo(self).address, listener=self.tls(*pairs, **tls))
        return proxy, address

    def serial(self, address, name="one.test", context=None):
        return serial_at(address, context or self.context, name)

    def serial_of(self, pair):
        return self.papers.serial(pair["cert"])

    def echo(self, sock, text=b"hello"):
        sock.sendall(text)
        self.assertEqual(sock.recv(len(text)), text)

    def ctl(self, proxy, *words):
        return run(AEGISCTL, "-r", proxy.directory, *words)

    def pids(self, proxy):
        return [row["pid"] for row in proxy.workers()]


class Choice(Certificates):
    def test_by_name(self):
        one = self.papers.pair("one", "one.test", "www.one.test")
        wild = self.papers.pair("wild", "*.wild.test")
        rsa = self.papers.pair("rsa", "one.test", kind="rsa")
        proxy, address = self.start(one, wild, rsa)
        self.assertEqual(self.serial(address, "one.test"), self.serial_of(one))
        self.assertEqual(self.serial(address, "www.one.test"), self.serial_of(one))
        self.assertEqual(self.serial(address, "a.wild.test"), self.serial_of(wild))
        trusting = ssl.create_default_context(cafile=str(self.papers.ca))
        trusting.check_hostname = False
        self.assertEqual(self.serial(address, "nobody.test", trusting), self.serial_of(one))
        self.assertEqual(self.serial(address, None, trusting), self.serial_of(one))
        only_rsa = self.papers.context(ssl.TLSVersion.TLSv1_2)
        only_rsa.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        self.assertEqual(self.serial(address, "one.test", only_rsa), self.serial_of(rsa))
        with connect(address, self.context, "one.test") as sock:
            self.echo(sock)

    def test_a_thousand(self):
        """All of them are read at the start, and each is found."""
        folder = self.directory / "many"
        folder.mkdir()
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", folder / "key")

        def make(number):
            openssl("req", "-x509", "-key", folder / "key", "-out", folder / f"{number}.pem", "-days", "60", "-subj", f"/CN=n{number}.test",
                    "-addext", f"subjectAltName=DNS:n{number}.test")
            return {"cert": str(folder / f"{number}.pem"), "key": str(folder / "key")}
        count = 1000 if aegis.LONG else 300
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            pairs = list(pool.map(make, range(count)))
        (folder / "key").chmod(0o600)
        proxy, address = self.start(*pairs)
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        for number in (0, 1, count // 2, count - 1):
            with connect(address, blind, f"n{number}.test") as sock:
                self.assertIn(f"n{number}.test".encode(), sock.getpeercert(binary_form=True))
        rows = proxy.stat()["certificates"]
        self.assertEqual([row["name"] for row in rows], [f"n{number}.test" for number in range(count)])
        # Who looks for the next to end sees at a glance that there is none.
        self.assertIn(f"{count} more, which do not expire within 30 days", self.ctl(proxy, "status").stdout)


class Wrong(Certificates):
    def settings(self, *pairs, **tls):
        return aegis.app("127.0.0.1:1", listener=self.tls(*pairs, **tls))

    def test_a_start_is_refused_with_all_reasons(self):
        one, two = self.papers.pair("one", "one.test"), self.papers.pair("two", "two.test")
        mixed = {"cert": one["cert"], "key": two["key"]}
        missing = {"cert": two["cert"], "key": str(self.directory / "nowhere.key")}
        says = ("listeners[0].tls.certificates[0].key: ", "it is not the key of the certificate",
                "listeners[0].tls.certificates[1].key: ", "there is no such file")
        self.must_fail(self.settings(mixed, missing), 1, says=says)
        self.must_fail(self.settings(mixed, missing), 1, "-t", says=(*says, "aegis: 2 errors"))
        self.must_fail(self.settings(one, ciphers="NONSENSE"), 1, "-t", says=("listeners[0].tls: ciphers: ",))
        self.must_fail(self.settings(), 1, "-t", says=("listeners[0].tls.certificates: there is none",))
        self.must_fail(self.settings(one, client_verify="required"), 1, "-t", says=("needs client_ca",))
        self.must_fail(self.settings(one, one), 1, "-t", says=("is the same file as in certificates[0]",))

    def test_keys_for_everybody_are_refused(self):
        one = self.papers.pair("one", "one.test")
        os.chmod(one["key"], 0o644)
        self.must_fail(self.settings(one), 1, says=("everybody on this machine may use this private key (mode 0644)",))
        os.chmod(one["key"], 0o640)
        self.start(one)

    def test_dates_are_told(self):
        soon = self.papers.pair("soon", "soon.test", days=2)
        proxy, address = self.start(soon)
        proxy.wait_log("the certificate expires on 20")
        self.assertEqual(self.serial(address, "soon.test"), self.serial_of(soon))
        plan = proxy.command("-p").stdout
        self.assertRegex(plan, r"note: listeners\.app\.tls: certificate soon\.test: until 20\d\d-\d\d-\d\d, another [12] day")
        row, = proxy.stat()["certificates"]
        self.assertEqual((row["listener"], row["name"]), ("app", "soon.test"))
        metrics = run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        self.assertIn(f'\naegis_certificate_expiry_seconds{{listener="app",name="soon.test"}} {row["not_after_unix"]}\n', metrics)
        self.assertIn("soon.test", self.ctl(proxy, "status").stdout)


def written(path):
    """What is in a file, without its holes."""
    pieces, at, end = [], 0, path.stat().st_size
    with open(path, "rb") as file:
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break  # nothing but a hole is left
            hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            pieces.append(os.pread(file.fileno(), hole - at, at))
            at = hole
    return b"".join(pieces)


class Rights(Certificates):
    @unittest.skipUnless(ROOT, "needs root")
    def test_who_may_read_the_keys(self):
        """Workers run as another user, who may not even enter the folder; the vault is in the master's hands alone, and nobody else's."""
        secret = self.directory / "secret"
        secret.mkdir()
        one = self.papers.pair("one", "one.test", directory=secret)
        secret.chmod(0o700)
        proxy, address = self.start(one)
        self.assertEqual(self.serial(address), self.serial_of(one))
        for row in proxy.workers():
            self.assertNotEqual(os.stat(f"/proc/{row['pid']}").st_uid, 0)

        def vaults(pid):
            links = [os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
            return [link for link in links if "aegis certificates" in link]
        self.assertEqual(len(vaults(proxy.pid)), 1)
        control = proxy.control_pid()
        self.assertEqual(vaults(control), [])
        for pid in self.pids(proxy):
            self.assertEqual(vaults(pid), [])  # it is mapped, and that is enough
        maps = {pid: pathlib.Path(f"/proc/{pid}/maps").read_text() for pid in (proxy.pid, control, *self.pids(proxy))}
        self.assertEqual([pid for pid in maps if "aegis certificates" in maps[pid]], self.pids(proxy))
        # Neither the segment nor what stands beside it has anything of a key.
        lines = [line for line in pathlib.Path(one["key"]).read_text().splitlines() if "-----" not in line]
        for path in proxy.directory.iterdir():
            if path.is_file():
                data = written(path)
                self.assertFalse([line for line in lines if line.encode() in data], path)
        # And what is new is read with the same rights.
        new = self.papers.pair("one", "one.test", directory=secret)
        wait_until(lambda: self.serial(address) == self.serial_of(new), "the new certificate")


class Change(Certificates):
    def test_by_reload(self):
        """The same workers, and the connections that are there."""
        one = self.papers.pair("one", "one.test")
        proxy, address = self.start(one)
        proxy.must_reload({**proxy.settings, "tls": {"watch": False}})
        pids = self.pids(proxy)
        first = self.serial_of(one)
        with connect(address, self.context, "one.test") as sock:
            self.papers.pair("one", "one.test")
            self.assertEqual(self.serial(address), first)
            proxy.must_reload()
            self.assertNotEqual(self.serial_of(one), first)
            self.assertEqual(self.serial(address), self.serial_of(one))
            self.echo(sock)
        self.assertEqual(self.pids(proxy), pids)
        proxy.wait_log("certificates changed, no setting")
        # One that nothing changed for is for new workers, as ever.
        proxy.must_reload()
        self.assertNotEqual(self.pids(proxy), pids)
        # A setting and a certificate together.
        self.papers.pair("one", "one.test")
        proxy.must_reload({**proxy.settings, "max_connections": 5000})
        self.assertEqual(self.serial(address), self.serial_of(one))

    def test_by_order(self):
        admin.need()
        one = self.papers.pair("one", "one.test")
        proxy, address = self.proxy(Echo(self).address, listener=self.tls(one), tls={"watch": False})
        pids = self.pids(proxy)
        done = self.ctl(proxy, "certs", "reload")
        self.assertEqual((done.returncode, done.stdout), (0, "1 certificate, unchanged\n"))
        self.papers.pair("one", "one.test")
        done = self.ctl(proxy, "certs", "reload")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 certificate, taken over", done.stdout)
        self.assertEqual(self.serial(address), self.serial_of(one))
        good = self.serial_of(one)
        # A bad pair: all of the old ones stay.
        other = self.papers.pair("other", "other.test")
        shutil.copy(other["cert"], one["cert"])
        done = self.ctl(proxy, "certs", "reload")
        self.assertEqual(done.returncode, 3)
        self.assertIn("the old ones stay", done.stderr)
        self.assertIn("it is not the key of the certificate", done.stderr)
        self.assertEqual(self.serial(address), good)
        answer = admin.post(proxy.directory, "/certs/reload")
        self.assertEqual(answer.status, 422)
        self.assertEqual(len(answer.json["errors"]), 1)
        self.assertFalse(proxy.reload())
        self.assertEqual(self.serial(address), good)
        shutil.copy(other["key"], one["key"])
        self.assertEqual(self.ctl(proxy, "certs", "reload").returncode, 0)
        self.assertEqual(self.serial(address, "other.test"), self.serial_of(other))
        self.assertEqual(self.pids(proxy), pids)
        metrics = run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        self.assertIn('\naegis_certificate_reloads_total{result="ok"} 2\n', metrics)
        self.assertIn('\naegis_certificate_reloads_total{result="failed"} 3\n', metrics)

    def test_by_a_folder_that_is_a_link(self):
        """It is made to lead to another folder, and what is there is written over then."""
        for version in ("v1", "v2"):
            (self.directory / version).mkdir()
            self.papers.pair("one", "one.test", directory=self.directory / version)
        current, fresh = self.directory / "current", self.directory / "fresh"
        current.symlink_to("v1")
        proxy, address = self.start({"cert": str(current / "one.pem"), "key": str(current / "one.key")})
        self.assertEqual(self.serial(address), self.papers.serial(self.directory / "v1" / "one.pem"))
        fresh.symlink_to("v2")
        fresh.rename(current)
        wait_until(lambda: self.serial(address) == self.papers.serial(self.directory / "v2" / "one.pem"), "what the link leads to now")
        new = self.papers.pair("one", "one.test", directory=self.directory / "v2")
        wait_until(lambda: self.serial(address) == self.serial_of(new), "what was written there")

    def test_a_drain_while_they_are_read(self):
        """Who asked for them again meanwhile is answered; there is nobody left to read them for."""
        admin.need()
        one = self.papers.pair("one", "one.test", kind="rsa")
        pairs = [one]
        for number in range(300):  # to read them takes a while
            copy = shutil.copy(one["cert"], self.papers.directory / f"copy{number}.pem")
            pairs.append({"cert": str(copy), "key": one["key"]})
        proxy, address = self.proxy(Echo(self).address, listener=self.tls(*pairs), tls={"watch": False})
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(admin.post, proxy.directory, "/certs/reload") for _ in range(4)]
            wait_until(lambda: proxy.log().count("reload of certificates asked for") == 4, "all orders")
            self.assertEqual(self.ctl(proxy, "drain").returncode, 0)
            self.assertEqual([answer.result().status for answer in asked], [200] * 4)
        self.assertIsNone(proxy.process.poll())
        proxy.must_reload()
        self.assertEqual(self.serial(address), self.serial_of(one))

    def test_by_itself(self):
        """A file that is written over, one that is replaced, and a symbolic link that is set anew."""
        live, archive = self.directory / "live", self.directory / "archive"
        live.mkdir()
        archive.mkdir()
        for number in (1, 2):
            self.papers.pair(f"one{number}", "one.test", directory=archive)
        for kind in ("pem", "key"):
            (live / f"one.{kind}").symlink_to(archive / f"one1.{kind}")
        two = self.papers.pair("two", "two.test")
        pair = {"cert": str(live / "one.pem"), "key": str(live / "one.key")}
        proxy, address = self.start(pair, two)
        pids = self.pids(proxy)
        self.assertEqual(self.serial(address), self.papers.serial(archive / "one1.pem"))
        for kind in ("pem", "key"):
            (live / "new").symlink_to(archive / f"one2.{kind}")
            (live / "new").rename(live / f"one.{kind}")
        wait_until(lambda: self.serial(address) == self.papers.serial(archive / "one2.pem"), "the certificate that the link leads to")
        self.papers.pair("two", "two.test")  # in its place
        wait_until(lambda: self.serial(address, "two.test") == self.serial_of(two), "the certificate that was written over")
        # What is not good is told once, and does no harm.
        good = self.serial_of(two)
        pathlib.Path(two["cert"]).write_text("half of a")
        proxy.wait_log("certificates changed and are not taken over")
        self.assertEqual(self.serial(address, "two.test"), good)
        self.papers.pair("two", "two.test")
        wait_until(lambda: self.serial(address, "two.test") == self.serial_of(two), "the next good one")
        self.assertEqual(self.pids(proxy), pids)
        self.assertEqual(proxy.stat()["reloads"]["ok"], 0)

    def test_without_a_failed_handshake(self):
        """Clients come all the time while certificates change time and again."""
        one = self.papers.pair("one", "one.test")
        proxy, address = self.proxy(Echo(self).address, listener=self.tls(one), tls={"watch": False})
        serials, failed, stop, lock = set(), [], threading.Event(), threading.Lock()

        def come():
            context = self.papers.context()
            while not stop.is_set():
                try:
                    with connect(address, context, "one.test") as sock:
                        self.echo(sock)
                        serial = sock.getpeercert()["serialNumber"].lstrip("0")
                except Exception as error:  # whatever it is: it is told
                    failed.append(repr(error))
                    return
                with lock:
                    serials.add(serial)
        clients = [threading.Thread(target=come) for _ in range(4)]
        for client in clients:
            client.start()
        wanted = {self.serial_of(one)}
        try:
            for turn in range(12):
                self.papers.pair("one", "one.test")
                wanted.add(self.serial_of(one))
                if turn % 3 == 2:
                    proxy.must_reload()
                else:
                    self.assertEqual(self.ctl(proxy, "certs", "reload").returncode, 0)
                wait_until(lambda: failed or self.serial_of(one) in serials, "a client with the new certificate")
        finally:
            stop.set()
            aegis.join(clients)
        self.assertEqual(failed, [])
        self.assertEqual(serials, wanted)


class Resumption(Certificates):
    def come(self, address, context, session=None):
        """One connection: whether it was resumed, its session, and which worker it had."""
        with connect(address, context, "one.test", session) as sock:
            self.echo(sock)
            reused, session = sock.session_reused, sock.session
            sock.unwrap()
        return reused, session

    def check(self, version):
        one = self.papers.pair("one", "one.test")
        proxy, address = self.proxy(Echo(self).address, listener=self.tls(one), workers=3)
        context = self.papers.context(version)
        reused, session = self.come(address, context)
        self.assertFalse(reused)
        for _ in range(12):  # the kernel spreads them over the workers
            reused, session = self.come(address, context, session)
            self.assertTrue(reused)
        self.assertGreater(sum(row["accepts"] > 0 for row in proxy.workers()), 1)
        proxy.must_reload()  # new workers
        reused, session = self.come(address, context, session)
        self.assertTrue(reused)
        self.papers.pair("one", "one.test")
        proxy.must_reload()  # another certificate
        reused, session = self.come(address, context, session)
        self.assertTrue(reused)
        proxy.must_reload({**proxy.settings, "listeners": [{**proxy.settings["listeners"][0], **self.tls(one, tickets=False)}]})
        reused, session = self.come(proxy.address(), context, session)
        self.assertFalse(reused)

    def test_tls_1_3(self):
        self.check(ssl.TLSVersion.TLSv1_3)

    def test_tls_1_2(self):
        self.check(ssl.TLSVersion.TLSv1_2)


class Scan(Certificates):
    def test_nothing_weak(self):
        """What sslscan finds of the defaults."""
        need("sslscan")
        one = self.papers.pair("one", "one.test", kind="rsa")
        _, address = self.start(one)
        text = run("sslscan", "--no-colour", "--sni-name=one.test", address, seconds=120).stdout
        for version in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
            self.assertRegex(text, rf"(?m)^{version}\s+disabled")
        for version in ("TLSv1.2", "TLSv1.3"):
            self.assertRegex(text, rf"(?m)^{version}\s+enabled")
        self.assertNotIn("Compression enabled", text)
        self.assertIn("Session renegotiation not supported", text)
        self.assertNotIn("vulnerable to heartbleed", text.replace("not vulnerable to heartbleed", ""))
        ciphers = [line.split() for line in text.splitlines() if line.startswith(("Preferred", "Accepted"))]
        self.assertEqual({line[4] for line in ciphers},
                         {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
                          "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"})


if __name__ == "__main__":
    aegis.main()
