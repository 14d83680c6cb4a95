"""Disks that do not answer: reading certificates hangs, cannot even be killed, and Aegis goes on."""
import os
import signal

import aegis
from aegis import AEGIS, Aegis, Echo, Task, wait_until
from test_certificates import Certificates
from tracer import Child

WAITS = "sh", "-c", 'kill -STOP $$; exec "$@"', "sh"


class Hung(Certificates):
    """The process that reads is held as it is about to open the key, and does not go when it is killed."""
    deadline = 120.0

    def setUp(self):
        super().setUp()
        self.one = self.papers.pair("one", "one.test")

    def begin(self):
        self.now, self.address = self.start(self.one)

    def hang(self, cause=None):
        child = Child(self.now.pid, cause or (lambda: self.now.send(signal.SIGHUP)))
        child.run_until_open(self.one["key"])
        return child

    def goes_on(self):
        self.assertEqual(self.serial(self.address), self.serial_of(self.one))
        self.assertIn(self.now.stat()["state"], ("running", "reloading"))

    def ask(self):
        return Task(lambda: aegis.run(AEGIS, "-r", self.now.directory, "-s", "reload", seconds=60))

    def gone(self, child):
        child.let_go()
        wait_until(lambda: not os.path.exists(f"/proc/{child.pid}"), "the child to be reaped")


class Reload(Hung):
    def test_given_up(self):
        """It says which file it waits for, then gives up; the next one works, while the first still hangs."""
        self.begin()
        asked = []
        child = self.hang(lambda: asked.append(self.ask()))
        self.now.wait_log(f"still waiting for certificates: {self.one['key']} (listeners[0].tls.certificates[0].key) does not answer")
        self.goes_on()
        done = asked[0].result()
        self.assertEqual(done.returncode, 3)
        self.assertIn(f"{self.one['key']} (listeners[0].tls.certificates[0].key) did not answer within 30 s", self.now.log())
        self.goes_on()
        new = self.papers.pair("one", "one.test")
        self.now.must_reload()
        self.assertEqual(self.serial(self.address), self.serial_of(new))
        self.gone(child)

    def test_of_other_settings(self):
        """A transition: as it was given up nothing has changed."""
        self.begin()
        pids = self.pids(self.now)
        self.now.write({**self.now.settings, "max_connections": 5000})
        asked = []
        child = self.hang(lambda: asked.append(self.ask()))
        done = asked[0].result()
        self.assertEqual(done.returncode, 3)
        self.assertIn("did not answer within 30 s", done.stderr)
        self.assertIn(self.one["key"], done.stderr)
        self.goes_on()
        self.assertEqual(self.pids(self.now), pids)
        self.gone(child)
        self.now.must_reload()
        self.assertNotEqual(self.pids(self.now), pids)

    def test_by_itself(self):
        """Nobody asked: a file changed. The control process and the workers go on."""
        self.begin()
        new = []
        child = self.hang(lambda: new.append(self.papers.pair("one", "one.test")))
        self.now.wait_log("did not answer within 30 s", 60.0)
        self.assertNotEqual(self.serial(self.address), self.serial_of(new[0]))
        self.assertEqual(self.now.log().count("not taken over"), 1)
        self.gone(child)
        new = self.papers.pair("one", "one.test")
        wait_until(lambda: self.serial(self.address) == self.serial_of(new), "the next one")


class Ends(Hung):
    def test_stop(self):
        self.begin()
        child = self.hang()
        self.now.send(signal.SIGTERM)
        self.assertEqual(self.now.wait_exit(), 0)
        self.now.wait_log(f"process {child.pid} hangs in the kernel")
        child.let_go()
        self.now.check_gone()

    def test_start(self):
        """It ends by itself, and says why."""
        settings = aegis.app(Echo(self).address, listener=self.tls(self.one))
        self.now = Aegis(self, settings, wrapper=WAITS, ready=False)
        wait_until(lambda: aegis.stat_fields(self.now.pid)[0] == "T", "it to stop")
        child = self.hang(lambda: os.kill(self.now.pid, signal.SIGCONT))
        self.now.wait_log("still waiting for certificates: " + self.one["key"])
        self.assertEqual(self.now.wait_exit(60), 1)
        log = self.now.log()
        self.assertIn("did not answer within 30 s", log)
        self.assertIn(f"process {child.pid} hangs in the kernel", log)
        child.let_go()
        self.now.check_gone()

    def test_stop_while_it_starts(self):
        settings = aegis.app(Echo(self).address, listener=self.tls(self.one))
        self.now = Aegis(self, settings, wrapper=WAITS, ready=False)
        wait_until(lambda: aegis.stat_fields(self.now.pid)[0] == "T", "it to stop")
        child = self.hang(lambda: os.kill(self.now.pid, signal.SIGCONT))
        self.now.send(signal.SIGTERM)
        self.assertEqual(self.now.wait_exit(), 0)
        child.let_go()
        self.now.check_gone()


class NoFiles(Certificates):
    def test_fifo(self):
        """Nobody waits for who would write into it."""
        one = self.papers.pair("one", "one.test")
        os.unlink(one["key"])
        os.mkfifo(one["key"], 0o600)
        self.must_fail(aegis.app("127.0.0.1:1", listener=self.tls(one)), 1, says=(f'{one["key"]}', "it is no regular file"))


if __name__ == "__main__":
    aegis.main()
