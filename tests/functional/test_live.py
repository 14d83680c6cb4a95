"""The live view beside a real Aegis: its numbers are those of the load, and it tells what happens to the instance."""
import os
import signal
import sys

from aegis import AEGIS_STAT, SLOW, SOURCE, Case, Echo, app, dial, how_it_ends, main, receive

sys.path.insert(0, str(SOURCE / "tests/unit/tools"))
from terminal import Terminal  # noqa: E402 (it lies there)


class LiveView(Case):
    def watch(self, proxy):
        view = Terminal([str(AEGIS_STAT), "-r", str(proxy.directory), "-w", "0.1"], rows=50, columns=160, seconds=20 * SLOW, TERM="xterm-256color",
                        LC_ALL="C.UTF-8", NO_COLOR=None)
        self.addCleanup(self.end, view)
        view.until("^q quits")
        return view

    @staticmethod
    def end(view):
        if view.status is None:
            os.kill(view.pid, signal.SIGKILL)
            view.end()

    def quit(self, view):
        view.type("q")
        self.assertEqual(view.end(), 0)

    def test_numbers(self):
        proxy, address = self.proxy(Echo(self).address, listener={"max_connections": 2})
        view = self.watch(proxy)
        view.until(r"^active +0\b")
        clients = [self.connect(address) for _ in range(2)]
        for client in clients:
            client.sendall(b"x" * 1000)
            self.assertEqual(receive(client, 1000), b"x" * 1000)
        view.until(r"^active +2\b")
        view.until("^app +127.* 2/2 ")
        # Of a moment that is over only the chart keeps something: its largest value.
        view.until(r"^connects/s.*\n +max [1-9]")
        view.until(r"^throughput.*\n +max [1-9]")
        how_it_ends(self.connect(address))
        view.until("app: listener_full began, 1: max_connections of the listener reached")
        for client in clients:
            client.close()
        view.until(r"^active +0\b")
        self.quit(view)

    def test_reloads_and_workers(self):
        settings = app(Echo(self).address, workers=1)
        proxy = self.aegis(settings)
        view = self.watch(proxy)
        settings["listeners"][0]["backlog"] = 100
        proxy.must_reload(settings)
        view.until("reloaded, generation 2")
        self.assertFalse(proxy.reload("listeners = 7;"))
        view.until("a reload failed, the settings before stay")
        os.kill(proxy.workers()[0]["pid"], signal.SIGKILL)
        proxy.restarts = 1
        view.until(r"worker 0 died \(pid \d+, 0 connections\) and was replaced by pid \d+|1 worker was replaced")
        self.quit(view)

    def test_server_that_goes_and_comes(self):
        echo = Echo(self)
        proxy, _ = self.proxy(echo.address, upstream={"health": {"type": "tcp", "interval": "100ms", "fall": 1, "rise": 1}})
        view = self.watch(proxy)
        view.until(rf"^app +{echo.address} +up ")
        echo.close()
        view.until(rf"^app +{echo.address} +down ")
        view.until(f"app/{echo.address}: down: connection refused, before up")
        self.quit(view)

    def test_instance_that_stops_and_starts(self):
        settings = app(Echo(self).address)
        proxy = self.aegis(settings)
        view = self.watch(proxy)
        proxy.stop()
        view.until(f"^ no Aegis is running in {proxy.directory}")
        again = self.aegis(settings, directory=proxy.directory)
        view.until(f"Aegis was restarted: Aegis .*, pid {again.pid}, before {proxy.pid}")
        view.until("^ Aegis .* running")
        self.quit(view)

    def test_master_that_was_killed(self):
        """The next one goes on with the segment, and the view with the counters."""
        settings = app(Echo(self).address)
        proxy = self.aegis(settings)
        with dial(proxy.address()) as client:
            client.sendall(b"x")
            self.assertEqual(client.recv(1), b"x")
        view = self.watch(proxy)
        proxy.kill()
        view.until(f"^ no Aegis is running in {proxy.directory}")
        again = self.aegis(settings, directory=proxy.directory)
        again.restarts = None
        view.until(f"Aegis was restarted: Aegis .*, pid {again.pid}, before {proxy.pid}")
        view.type("3")
        view.until("^app +127")
        self.quit(view)


if __name__ == "__main__":
    main()
