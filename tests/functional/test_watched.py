"""Certificates that change by themselves: whatever becomes of the folders and links on the way to them, what is there in the end is taken
over."""
import contextlib
import os
import pathlib
import shutil
import signal

import aegis
from aegis import ROOT, wait_until
from test_certificates import Certificates


class Watched(Certificates):
    """Folders that nobody but root may enter, where the test is root: the control process could not look for itself."""
    deadline = 90.0

    def folder(self, *names):
        path = self.directory.joinpath(*names)
        path.mkdir(parents=True)
        for name in names:
            path.chmod(0o700)
            path = path.parent
        return self.directory.joinpath(*names)

    def pair(self, folder):
        """A new one in the folder, as one.pem and one.key. Returns its serial."""
        return self.serial_of(self.papers.pair("one", "one.test", directory=folder))

    def begin(self, folder):
        self.now, self.address = self.start({"cert": str(folder / "one.pem"), "key": str(folder / "one.key")})
        if ROOT:
            self.assertNotEqual(os.stat(f"/proc/{self.now.control_pid()}").st_uid, 0)
        self.workers = self.pids(self.now)

    def taken_over(self, serial):
        wait_until(lambda: self.serial(self.address) == serial, "the certificate that is there now")
        self.assertEqual(self.pids(self.now), self.workers)

    def refused(self, times):
        """It is known that there is nothing: longer than changes are waited for."""
        wait_until(lambda: self.now.log().count("certificates changed and are not taken over") >= times, "it to be said")

    def watches(self):
        """How many folders and links are watched."""
        for link in pathlib.Path(f"/proc/{self.now.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(link) == "anon_inode:inotify":
                    return pathlib.Path(f"/proc/{self.now.pid}/fdinfo/{link.name}").read_text().count("inotify wd:")
        return 0


class Folders(Watched):
    def test_removed_and_made_again(self):
        live = self.folder("etc", "tls", "live")
        old = self.pair(live)
        self.begin(live)
        watches = self.watches()
        for turn, top in enumerate((live, live.parent, live.parent.parent), 1):
            shutil.rmtree(top)
            self.refused(turn)
            self.assertEqual(self.serial(self.address), old)
            self.folder("etc", "tls", "live")
            old = self.pair(live)
            self.taken_over(old)
            self.taken_over(old := self.pair(live))  # and what is written there then
            self.assertEqual(self.watches(), watches)
        self.assertEqual(self.now.stat()["reloads"]["ok"], 0)

    def test_moved(self):
        """Away, with all that is in it, and another one to its place, soon or later; from anywhere on the way."""
        live, stage = self.folder("etc", "tls", "live"), self.directory / "stage"
        self.pair(live)
        self.begin(live)
        for turn, depth in enumerate(range(3), 1):
            top = (live, live.parent, live.parent.parent)[depth]
            shutil.copytree(top, stage)
            serial = self.pair(stage / live.relative_to(top))
            top.rename(self.directory / f"away{turn}")
            self.refused(turn)
            stage.rename(top)
            self.taken_over(serial)
            # The same at once.
            shutil.copytree(top, stage)
            serial = self.pair(stage / live.relative_to(top))
            top.rename(self.directory / f"gone{turn}")
            stage.rename(top)
            self.taken_over(serial)
            self.taken_over(self.pair(live))

    def test_comes_back(self):
        """The same folder, unchanged: nothing is to be done, and what is written there later is heard of."""
        live = self.folder("live")
        serial = self.pair(live)
        self.begin(live)
        live.rename(self.directory / "away")
        self.refused(1)
        (self.directory / "away").rename(live)
        self.assertEqual(self.serial(self.address), serial)
        self.taken_over(self.pair(live))


class Links(Watched):
    def test_of_kubernetes(self):
        """one.pem -> ..data/one.pem, ..data -> ..FOLDER, which is another one each time; and a volume that is there again later."""
        certs = self.folder("certs")
        for turn in range(3):
            folder = self.folder("certs", f"..{turn}")
            serial = self.pair(folder)
            (certs / "..data_tmp").symlink_to(f"..{turn}")
            (certs / "..data_tmp").rename(certs / "..data")
            if turn == 0:
                for name in ("one.pem", "one.key"):
                    (certs / name).symlink_to(f"..data/{name}")
                self.begin(certs)
                watches = self.watches()
                continue
            shutil.rmtree(certs / f"..{turn - 1}")
            self.taken_over(serial)
            self.assertEqual(self.watches(), watches)
        (certs / "..data").unlink()
        self.refused(1)
        serial = self.pair(self.folder("certs", "..9"))
        (certs / "..data").symlink_to("..9")
        self.taken_over(serial)

    def test_of_certbot(self):
        """live/x/one.pem -> ../../archive/x/one1.pem; the next one, and an archive that is moved, and made again."""
        live, archive = self.folder("le", "live", "x"), self.folder("le", "archive", "x")

        def issue(number):
            pair = self.papers.pair(f"one{number}", "one.test", directory=archive)
            for kind in ("pem", "key"):
                (live / "new").symlink_to(f"../../archive/x/one{number}.{kind}")
                (live / "new").rename(live / f"one.{kind}")
            return self.serial_of(pair)
        issue(1)
        self.begin(live)
        self.taken_over(issue(2))
        archive.parent.rename(self.directory / "away")
        self.refused(1)
        self.folder("le", "archive", "x")
        self.taken_over(issue(3))
        shutil.rmtree(live)  # certbot delete, and a new order
        self.refused(2)
        self.folder("le", "live", "x")
        self.taken_over(issue(4))
        self.taken_over(self.serial_of(self.papers.pair("one4", "one.test", directory=archive)))

    def test_that_leads_nowhere(self):
        """A link on the way, whose target is there later, is removed, and is another one then."""
        first, second = self.folder("v1", "tls"), self.folder("v2", "tls")
        self.pair(first)
        current = self.directory / "current"
        current.symlink_to("v1")
        self.begin(current / "tls")
        first.parent.rename(self.directory / "away")
        self.refused(1)
        self.folder("v1", "tls")
        self.taken_over(self.pair(first))
        current.unlink()
        self.refused(2)
        serial = self.pair(second)
        current.symlink_to("v2")
        self.taken_over(serial)
        self.taken_over(self.pair(second))


class Processes(Watched):
    def test_control_process_dies(self):
        """What changes while there is none, or was heard of by the one that died, is taken over by the next."""
        live = self.folder("live")
        self.pair(live)
        self.begin(live)
        for _ in range(2):
            control = self.now.control_pid()
            os.kill(control, signal.SIGSTOP)
            serial = self.pair(live)
            os.kill(control, signal.SIGKILL)
            self.taken_over(serial)
            control = self.now.control_pid(control)
            self.taken_over(self.pair(live))

    def test_new_generation(self):
        """It watches for itself, what the old one did not."""
        live, other = self.folder("live"), self.folder("other")
        self.pair(live)
        self.begin(live)
        two = self.papers.pair("two", "two.test", directory=other)
        settings = self.now.settings
        listener = {**settings["listeners"][0], **self.tls({"cert": str(live / "one.pem"), "key": str(live / "one.key")}, two)}
        self.now.must_reload({**settings, "listeners": [listener]})
        two = self.papers.pair("two", "two.test", directory=other)
        wait_until(lambda: self.serial(self.address, "two.test") == self.serial_of(two), "the new certificate")
        self.now.must_reload({**settings, "tls": {"watch": False}})
        wait_until(lambda: self.watches() == 0, "nothing to be watched")  # the old generation watches until it is done


if __name__ == "__main__":
    aegis.main()
