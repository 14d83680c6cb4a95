"""The live view, aegis-stat -w, in terminals of several kinds: what is seen on the screen, keys, sizes, signals, and an instance that goes
and comes back. What it shows of which numbers is tested without a terminal in test_live.c."""
import os
import re
import signal
import subprocess
import termios
import unittest

import test_stat
from terminal import Terminal

UTF8, ASCII = "C.UTF-8", "C"
HAS_NCURSES = re.search("^#define HAVE_NCURSES", (test_stat.BUILD / "build-config.h").read_text(), re.M) is not None


class Case(test_stat.Case):
    def open(self, rows=24, columns=80, term="xterm-256color", locale=UTF8, period="0.1", **environment):
        terminal = Terminal([str(test_stat.STAT), "-r", self.folder, "-w", period], rows=rows, columns=columns, seconds=test_stat.TIMEOUT,
                            **{"TERM": term, "LC_ALL": locale, "NO_COLOR": None, "TZ": "UTC", **environment})
        terminal.until(r"^q quits")
        return terminal

    def quit(self, terminal):
        terminal.type("q")
        self.assertEqual(terminal.end(), 0)
        self.assertIn(25, terminal.screen.modes, "the cursor is not back")
        return terminal


class Kinds(Case):
    """Every kind of terminal, in several sizes; one that the database does not have gets plain sequences."""
    KINDS = ("xterm-256color", "xterm", "vt100", "linux", "screen", "no-such-terminal")

    def test_sizes(self):
        for term in self.KINDS:
            for rows, columns in ((24, 80), (10, 40), (60, 200), (4, 20), (2, 2), (1, 1)):
                with self.subTest(term=term, rows=rows, columns=columns):
                    terminal = Terminal([str(test_stat.STAT), "-r", self.folder, "-w", "0.05"], rows=rows, columns=columns, TERM=term,
                                        LC_ALL=UTF8, NO_COLOR=None)
                    terminal.until(lambda screen: terminal.is_taken() and screen.line(0).startswith(" Aegis 1.2.3"[:columns - 1]))
                    terminal.type("2")
                    terminal.type("?")
                    if rows >= 10:
                        terminal.until("^KEYS")
                    self.quit(terminal)

    def test_what_is_seen(self):
        for term in self.KINDS:
            for locale in (UTF8, ASCII):
                with self.subTest(term=term, locale=locale):
                    terminal = self.open(term=term, locale=locale)
                    terminal.until(r"^app       a              up              5/10 ")
                    terminal.until(r"^app       127\.0\.0\.1:8080   30/40 ")
                    terminal.until(r"^     0      201    3  running   any      11 ")
                    terminal.until(r"^active              34 +" + ("▇" if locale == UTF8 else r"\*"))
                    self.assertEqual(terminal.screen.text().isascii(), locale == ASCII)
                    self.instance.move("clients")
                    terminal.until(r"connects/s +[1-9]")
                    terminal.until(r"first byte +1\.4 ms +1\.4 ms +1\.4 ms")
                    self.quit(terminal)

    def test_colours(self):
        terminal = self.open()
        self.assertIn("bold", terminal.screen.flags())
        if HAS_NCURSES:
            self.assertGreater(len(terminal.screen.colours()), 3)
        self.quit(terminal)
        for options in ({"NO_COLOR": "1"}, {"term": "vt100"}, {"term": "no-such-terminal"}):
            terminal = self.open(**options)
            self.assertEqual(terminal.screen.colours(), set())
            self.assertIn("reverse", terminal.screen.flags())
            self.quit(terminal)
        self.quit(self.open(NO_COLOR=""))

    def test_the_whole_screen_is_used(self):
        for term in self.KINDS:
            terminal = self.open(rows=30, columns=100, term=term)
            terminal.until(lambda screen: screen.line(29).endswith("every 100 ms") and len(screen.line(29)) == 100)
            self.quit(terminal)

    def test_refuses_what_cannot_do_it(self):
        for environment, why in (({"TERM": "dumb"}, "TERM is dumb"), ({"TERM": None}, "TERM is not set"), ({"TERM": ""}, "TERM is not set")):
            terminal = Terminal([str(test_stat.STAT), "-r", self.folder, "-w"], columns=200, **environment)
            self.assertEqual(terminal.end(), 1)
            self.assertEqual(terminal.screen.line(0), f"aegis-stat: -w needs a terminal, and {why}; use -l for a line each second, "
                             "-j for JSON, or no option for tables")


class Keys(Case):
    def test_panes_and_help(self):
        terminal = self.open()
        for key, wanted in (("2", "^UPSTREAM +SERVER +STATE"), ("3", "^LISTENER +ADDRESS"), ("4", "^WORKER +PID"), ("5", "^UPSTREAM +WAITING"),
                            ("6", "^ENDED BECAUSE +NOW/S +COUNT  MEANING"), ("7", "^TIME +WHAT HAPPENED")):
            terminal.type(key)
            terminal.until(lambda screen, wanted=wanted: re.match(wanted, screen.line(7)))
        terminal.type("?")
        terminal.until("^KEYS")
        terminal.type("?")
        terminal.until(lambda screen: "KEYS" not in screen.text())
        terminal.type("\t")
        terminal.until("^WORKER +PID")
        terminal.type("\033[Z")
        terminal.until(lambda screen: "WORKER " not in screen.text())
        self.quit(terminal)

    def test_scrolling(self):
        for term in ("xterm-256color", "vt100", "no-such-terminal"):
            terminal = self.open(rows=11, term=term)
            up, down = ("\033[A", "\033[B") if term == "no-such-terminal" else ("\033OA", "\033OB")
            for key, wanted in (("6", "1-4 of 5$"), (down, "2-5 of 5$"), (up, "1-4 of 5$"), (" ", "2-5 of 5$"), ("b", "1-4 of 5$"),
                                ("G", "2-5 of 5$"), ("g", "1-4 of 5$"), ("jjjj", "2-5 of 5$")):
                terminal.type(key)
                terminal.until(wanted)
            self.quit(terminal)

    def test_filter(self):
        terminal = self.open()
        terminal.type("2/10.0.0.9")
        terminal.until(r"^filter: 10\.0\.0\.9_")
        terminal.until(lambda screen: "disabled" not in screen.text())
        terminal.type("\x7f\x7f")
        terminal.until(r"^filter: 10\.0\.0_")
        terminal.type("\r")
        terminal.until("Esc drops it")
        # In this mode q quits again; before it was a letter.
        terminal.type("\033")
        terminal.until("disabled")
        self.quit(terminal)

    def test_order(self):
        terminal = self.open()
        terminal.type("2>>>")
        terminal.until(lambda screen: "disabled" in screen.line(8))
        terminal.type("r")
        terminal.until(lambda screen: "disabled" in screen.line(10))
        self.quit(terminal)

    def test_pause_and_period(self):
        terminal = self.open()
        terminal.type("p")
        terminal.until("paused")
        self.instance.move("clients")
        terminal.type("+")
        terminal.until("every 200 ms")
        self.assertRegex(terminal.screen.text(), "first byte +- +- +-")
        terminal.type("p")
        terminal.until(r"first byte +1\.4 ms")
        terminal.type("-")
        terminal.until("every 100 ms")
        self.quit(terminal)

    def test_unknown_keys_do_nothing(self):
        for term in ("xterm-256color", "no-such-terminal"):
            terminal = self.open(term=term)
            terminal.type("xyz\x01\x02\033[99~\033[1;5C\033OP\xc3\xa4\xff".encode("latin-1"))
            terminal.type("2")
            terminal.until(lambda screen: screen.line(7).startswith("UPSTREAM") and "LISTENER" not in screen.text())
            self.quit(terminal)


class Changes(Case):
    def test_events(self):
        terminal = self.open(columns=160)
        terminal.type("7")
        for order, wanted in (("down", "app/a: down: connection refused, before up"), ("up", r"app/a: .*before down"),
                              ("reject", "app: listener_full began, 5"), ("reload", "reloaded, generation 4: 2 servers added"),
                              ("reload-failed", 'a reload failed, the settings before stay: line 7: what is "lisstener"'),
                              ("replace", "worker 0 died .pid 201, 11 connections. and was replaced by pid 1201")):
            self.instance.move(order)
            terminal.until(r"^\d\d:\d\d:\d\d  " + wanted)
        self.quit(terminal)

    def test_size(self):
        for term in ("xterm-256color", "vt100", "no-such-terminal"):
            terminal = self.open(term=term)
            for rows, columns in ((60, 200), (10, 40), (1, 1), (24, 80)):
                terminal.resize(rows, columns)
                wanted = (" Aegis 1.2.3 running", "q quits") if rows > 1 else ("", "")
                terminal.until(lambda screen: screen.line(0).startswith(wanted[0]) and screen.line(rows - 1).startswith(wanted[1]) and
                               (columns < 80 or "every 100 ms" == screen.line(rows - 1)[-12:] and len(screen.line(rows - 1)) == columns))
            self.quit(terminal)

    def test_keys_while_the_size_changes(self):
        """None is lost: each pane that is asked for comes."""
        for term in ("xterm-256color", "no-such-terminal"):
            terminal = self.open(term=term)
            for turn in range(20):
                terminal.type("37"[turn % 2])
                terminal.resize(24 + turn % 3, 80 + turn)
                terminal.until(("^LISTENER", "^TIME")[turn % 2])
                terminal.until(lambda screen: ("TIME ", "LISTENER ")[turn % 2] not in screen.text())
            self.quit(terminal)

    def test_instance_that_went_and_came_back(self):
        terminal = self.open()
        terminal.until("app: clients wait in line: 3")
        self.instance.end()
        terminal.until("^ no Aegis is running in " + self.folder)
        terminal.until("Looking again and again; q quits")
        self.instance = test_stat.Instance(self.folder)
        self.addCleanup(self.instance.end)
        terminal.until(f"Aegis was restarted: Aegis 1.2.3, pid {self.instance.process.pid}, before ")
        terminal.until("^active              34")
        self.quit(terminal)

    def test_segment_of_another_layout(self):
        terminal = self.open()
        self.instance.move("layout")
        terminal.until("^ .*stats was written by Aegis 1.2.3")
        self.instance.end()
        self.instance = test_stat.Instance(self.folder)
        self.addCleanup(self.instance.end)
        terminal.until("^active              34")
        self.quit(terminal)

    def test_period_count(self):
        terminal = Terminal([str(test_stat.STAT), "-r", self.folder, "-w", "0.05", "-c", "2"], TERM="xterm")
        self.assertEqual(terminal.end(), 0)
        self.assertIn("Aegis 1.2.3 running".encode(), terminal.all)


class Hostile(Case):
    arguments = ("hostile",)

    def test_names_cannot_break_out(self):
        for term in ("xterm-256color", "no-such-terminal"):
            for locale in (UTF8, ASCII):
                # The emulator refuses what no terminal should get.
                terminal = self.open(rows=60, columns=200, term=term, locale=locale)
                for pane in "1234567":
                    terminal.type(pane)
                    terminal.until(rf"^.* {pane} ")
                self.quit(terminal)


class Ends(Case):
    def test_every_way_out_restores(self):
        for term in ("xterm-256color", "no-such-terminal"):
            for key in ("q", "Q", "\x03", "\x04"):
                terminal = self.open(term=term)
                self.assertTrue(terminal.is_taken())
                self.assertIn(1049, terminal.screen.modes)
                terminal.type(key)
                self.assertEqual(terminal.end(), 0)
                self.assertNotIn(1049, terminal.screen.modes)
                self.assertIn(25, terminal.screen.modes)
                self.assertEqual(terminal.screen.text().strip(), "")

    def test_signals(self):
        for term in ("xterm-256color", "no-such-terminal"):
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                terminal = self.open(term=term)
                os.kill(terminal.pid, number)
                self.assertEqual(terminal.end(), -number)
                self.assertNotIn(1049, terminal.screen.modes)

    def test_settings_are_given_back(self):
        for term in ("xterm", "no-such-terminal"):
            master, slave = os.openpty()
            before = termios.tcgetattr(slave)
            process = subprocess.Popen([test_stat.STAT, "-r", self.folder, "-w", "0.05", "-c", "2"], stdin=slave, stdout=slave,
                                       env=dict(os.environ, TERM=term))
            self.assertEqual(process.wait(test_stat.TIMEOUT), 0)
            self.assertEqual(termios.tcgetattr(slave), before)
            os.close(master)
            os.close(slave)

    def test_terminal_that_goes(self):
        for term in ("xterm", "no-such-terminal"):
            terminal = self.open(term=term)
            os.close(terminal.fd)
            _, status = os.waitpid(terminal.pid, 0)
            self.assertIn(os.waitstatus_to_exitcode(status), (0, 3, -signal.SIGHUP))

    def test_stops_and_goes_on(self):
        for term in ("xterm-256color", "no-such-terminal"):
            terminal = self.open(term=term)
            os.kill(terminal.pid, signal.SIGTSTP)
            self.assertTrue(os.WIFSTOPPED(os.waitpid(terminal.pid, os.WUNTRACED)[1]))
            terminal.until(lambda screen: 1049 not in screen.modes)
            self.assertFalse(terminal.is_taken())
            os.kill(terminal.pid, signal.SIGCONT)
            terminal.until(lambda screen: 1049 in screen.modes and screen.line(23).startswith("q quits"))
            self.assertTrue(terminal.is_taken())
            terminal.type("2")
            terminal.until(lambda screen: "LISTENER" not in screen.text())
            self.quit(terminal)


if __name__ == "__main__":
    unittest.main()
