"""Disks that do not answer: reading certificates and settings hangs, cannot even be killed, and Aegis goes on, or ends when it is told to. And
readers that are killed."""
import json
import os
import re
import signal
import subprocess

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

    def hang(self, cause=None, later=1):
        """Settings are tried by a child of their own, before the one that reads certificates."""
        child = Child(self.now.pid, cause or (lambda: self.now.send(signal.SIGHUP)), later)
        child.run_until_open(self.one["key"])
        return child

    def begin_stopped(self, settings, *args):
        self.now = Aegis(self, settings, *args, wrapper=WAITS, ready=False)
        self.wait_stopped(self.now.pid)

    def wait_stopped(self, pid):
        wait_until(lambda: aegis.stat_fields(pid)[0] == "T", "it to stop")

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
        """Nobody asked: a file changed. The control process and the workers go on. What changed is taken over when the disk answers."""
        self.begin()
        new = []
        child = self.hang(lambda: new.append(self.papers.pair("one", "one.test")), later=0)
        self.now.wait_log("did not answer within 30 s", 60.0)
        self.assertNotEqual(self.serial(self.address), self.serial_of(new[0]))
        self.assertEqual(self.now.log().count("not taken over"), 1)
        self.gone(child)
        wait_until(lambda: self.serial(self.address) == self.serial_of(new[0]), "what had changed")
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
        self.begin_stopped(aegis.app(Echo(self).address, listener=self.tls(self.one)))
        child = self.hang(lambda: os.kill(self.now.pid, signal.SIGCONT))
        self.now.wait_log("still waiting for certificates: " + self.one["key"])
        self.assertEqual(self.now.wait_exit(60), 1)
        log = self.now.log()
        self.assertIn("did not answer within 30 s", log)
        self.assertIn(f"process {child.pid} hangs in the kernel", log)
        child.let_go()
        self.now.check_gone()

    def test_stop_while_it_starts(self):
        self.begin_stopped(aegis.app(Echo(self).address, listener=self.tls(self.one)))
        child = self.hang(lambda: os.kill(self.now.pid, signal.SIGCONT))
        self.now.send(signal.SIGTERM)
        self.assertEqual(self.now.wait_exit(), 0)
        child.let_go()
        self.now.check_gone()


class Settings(Hung):
    """aegis.conf itself is on such a disk, or what the command line is asked to check."""

    def setUp(self):
        super().setUp()
        self.config = self.directory / "aegis.conf"
        self.config.write_text(aegis.libconfig(aegis.app("127.0.0.1:1", listener=self.tls(self.one))))

    def command(self, *args):
        """As it is about to begin."""
        process = subprocess.Popen([str(word) for word in (*WAITS, AEGIS, "-c", self.config, *args)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                                   env={**os.environ, "XDG_RUNTIME_DIR": str(self.directory)})
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait_stopped(process.pid)
        return process

    def hold(self, process, path):
        child = Child(process.pid, lambda: process.send_signal(signal.SIGCONT))
        child.run_until_open(path)
        return child

    def test_given_up(self):
        """Each says what it waits for, and ends by itself, whatever becomes of the reader, with nothing of it left in its output."""
        commands = [(self.command(*args), path) for args, path in (
            (("-t",), self.config), (("-T",), self.one["key"]), (("-p", "-j", "-r", self.directory / "nobody"), self.one["key"]))]
        children = [self.hold(*command) for command in commands]
        (settings, _), (key, _), (plan, _) = ((process.communicate(timeout=60 * aegis.SLOW)) for process, _ in commands)
        self.assertEqual([process.returncode for process, _ in commands], [1, 1, 1], settings + key + plan)
        self.assertIn(f"still waiting for {self.config}: it does not answer", settings)
        self.assertIn(f"\n{self.config}: did not answer within 30 s: its disk, or the server that it comes from, hangs", settings)
        self.assertIn("aegis: 1 error", settings)
        self.assertRegex(key, rf"\n{self.config}:\d+: listeners\[0\].tls.certificates\[0\].key: {self.one['key']}: did not answer within 30 s")
        said = json.loads(next(line for line in plan.splitlines() if line.startswith("{")))
        self.assertEqual((said["status"], len(said["errors"])), ("invalid", 1))
        self.assertIn("certificates[0].key", said["errors"][0])
        for child in children:
            child.let_go()

    def test_control_c(self):
        """At once, by the signal."""
        for args, path in ((("-t",), self.config), (("-t",), self.one["key"]), (("-r", self.directory / "run"), self.config)):
            with self.subTest(args=args):
                process = self.command(*args)
                child = self.hold(process, path)
                process.send_signal(signal.SIGINT)
                self.assertEqual(process.wait(20 * aegis.SLOW), -signal.SIGINT)
                child.let_go()

    def test_killed(self):
        """What the reader finds is never taken for good where there is no reader any more."""
        process = self.command("-t")
        child = self.hold(process, self.one["key"])
        os.kill(child.pid, signal.SIGKILL)
        child.let_go()
        text, _ = process.communicate(timeout=20 * aegis.SLOW)
        self.assertEqual(process.returncode, 1, text)
        self.assertIn("was killed by signal 9", text)

    def test_start(self):
        settings = aegis.app(Echo(self).address)
        self.begin_stopped(settings)
        child = self.hold(self.now.process, self.now.config)
        self.assertEqual(self.now.wait_exit(60), 1)
        log = self.now.log()
        self.assertIn(f"{self.now.config}: did not answer within 30 s", log)
        self.assertIn(f"process {child.pid} hangs in the kernel", log)
        child.let_go()
        self.now.check_gone()

    def test_signals_to_the_instance(self):
        """Which directory it runs in stands in the file: the usual one is taken then."""
        process = self.command("-s", "stop")
        child = self.hold(process, self.config)
        text, _ = process.communicate(timeout=60 * aegis.SLOW)
        self.assertEqual(process.returncode, 4, text)
        self.assertIn(f"{self.config}: did not answer within 5 s", text)
        child.let_go()

    def test_reload(self):
        """The master goes on after a moment, with the settings that it has."""
        self.begin()
        pids = self.pids(self.now)
        child = Child(self.now.pid, lambda: self.now.send(signal.SIGHUP))
        child.run_until_open(self.now.config)
        self.now.wait_log(f"{self.now.config}: did not answer within 3 s")
        self.now.wait_log("reload refused, nothing changed")
        self.goes_on()
        self.assertEqual(self.now.stat()["reloads"]["failed"], 1)
        self.gone(child)
        self.now.must_reload()
        self.assertNotEqual(self.pids(self.now), pids)


class Killed(Hung):
    """The process that reads is killed by somebody else: kill -9, the kernel when memory is short."""

    def kill(self, child):
        """With the master standing still, so that it finds all of it done."""
        os.kill(child.pid, signal.SIGKILL)
        child.let_go()

    def kill_once(self, child):
        self.now.send(signal.SIGSTOP)
        self.wait_stopped(self.now.pid)
        self.kill(child)
        self.now.send(signal.SIGCONT)

    def kill_twice(self, child):
        again = Child(self.now.pid, lambda: self.kill(child))
        again.run_until_open(self.one["key"])
        self.kill_once(again)

    def counted(self):
        text = aegis.run(aegis.AEGIS_STAT, "-r", self.now.directory, "-p").stdout
        return tuple(int(re.search(rf'^aegis_certificate_reloads_total{{result="{result}"}} (\d+)$', text, re.M)[1]) for result in ("ok", "failed"))

    def test_once(self):
        """What had changed is read again, and nobody is told of a failure."""
        self.begin()
        new = []
        self.kill_once(self.hang(lambda: new.append(self.papers.pair("one", "one.test")), later=0))
        wait_until(lambda: self.serial(self.address) == self.serial_of(new[0]), "the new certificate")
        self.assertIn("the process that reads certificates was killed by signal 9 (Killed) before it was done", self.now.log())
        self.assertEqual(self.counted(), (1, 0))

    def test_again(self):
        """It is told, and tried later, without anything that changes."""
        self.begin()
        new = []
        self.kill_twice(self.hang(lambda: new.append(self.papers.pair("one", "one.test")), later=0))
        self.now.wait_log("the next try follows in 1 s")
        wait_until(lambda: self.serial(self.address) == self.serial_of(new[0]), "the new certificate")
        self.assertEqual(self.counted(), (1, 1))
        self.goes_on()

    def test_reload_for_certificates(self):
        """Who asks hears of the second time, and of no first."""
        self.begin()
        (self.directory / "new").mkdir()
        new = self.papers.pair("one", "one.test", directory=self.directory / "new")
        self.now.write({**self.now.settings, "tls": {"watch": False}})
        self.now.must_reload()
        for kind in ("cert", "key"):
            os.replace(new[kind], self.one[kind])
        asked = []
        self.kill_once(self.hang(lambda: asked.append(self.ask())))
        self.assertEqual(asked[0].result().returncode, 0)
        self.assertEqual(self.serial(self.address), self.serial_of(self.one))
        self.kill_twice(self.hang(lambda: asked.append(self.ask())))
        done = asked[1].result()
        self.assertEqual(done.returncode, 3)
        self.assertIn("certificates cannot be used", done.stderr)
        self.goes_on()

    def test_reload_of_other_settings(self):
        self.begin()
        self.now.write({**self.now.settings, "max_connections": 5000})
        asked = []
        self.kill_once(self.hang(lambda: asked.append(self.ask())))
        self.assertEqual(asked[0].result().returncode, 0)
        self.now.write({**self.now.settings, "max_connections": 6000})
        self.kill_twice(self.hang(lambda: asked.append(self.ask())))
        self.assertEqual(asked[1].result().returncode, 3)
        self.assertEqual(self.now.log().count("was killed by signal 9 (Killed) before it was done"), 3)
        self.goes_on()
        self.now.must_reload()

    def test_start(self):
        """With twice it ends, and who started it sees to the rest."""
        settings = aegis.app(Echo(self).address, listener=self.tls(self.one))
        for kill, status in ((self.kill_once, None), (self.kill_twice, 1)):
            self.begin_stopped(settings)
            kill(self.hang(lambda: os.kill(self.now.pid, signal.SIGCONT)))
            if status is None:
                self.now.wait_ready()
                self.now.stop()
            else:
                self.assertEqual(self.now.wait_exit(), status)
                self.assertIn("was killed by signal 9", self.now.log())


class NoFiles(Certificates):
    def test_fifo(self):
        """Nobody waits for who would write into it."""
        one = self.papers.pair("one", "one.test")
        os.unlink(one["key"])
        os.mkfifo(one["key"], 0o600)
        self.must_fail(aegis.app("127.0.0.1:1", listener=self.tls(one)), 1, says=(f'{one["key"]}', "it is no regular file"))


if __name__ == "__main__":
    aegis.main()
