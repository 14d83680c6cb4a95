"""A program in a terminal of its own, and the screen that it would see on one: enough of a VT100 and of xterm for what ncurses and plain
ANSI sequences say. What it does not know is an error, so that nothing is passed over in silence.
"""
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
import unicodedata

BLANK = (" ", (None, None, frozenset()))
CSI = re.compile(r"\x1b\[([?>]?)([0-9;]*)([@-~])")
OSC = re.compile(r"\x1b\][0-9;]*\x07")
FLAGS = {1: "bold", 2: "faint", 4: "underline", 5: "blink", 7: "reverse"}
ENDS = {22: ("bold", "faint"), 24: ("underline",), 25: ("blink",), 27: ("reverse",)}


class Screen:
    """What stands on a terminal: cells of (character, (letters, ground, flags))."""

    def __init__(self, rows, columns):
        self.modes, self.charset, self.title_pushed = {7, 25}, 0, 0
        self.rest = b""
        self.style = BLANK[1]
        self.saved = (0, 0)
        self.alternate = None
        self.resize(rows, columns)

    def resize(self, rows, columns):
        old = getattr(self, "cells", [])
        self.rows, self.columns = rows, columns
        self.cells = [[old[row][column] if row < len(old) and column < len(old[row]) else BLANK for column in range(columns)]
                      for row in range(rows)]
        self.row = min(getattr(self, "row", 0), rows - 1)
        self.column = min(getattr(self, "column", 0), columns - 1)
        self.top, self.bottom = 0, rows - 1
        self.wraps = False  # the last column was written: the next character goes to the next line

    # --- what is on it

    def line(self, row):
        return "".join(cell[0] for cell in self.cells[row]).rstrip()

    def text(self):
        return "\n".join(self.line(row) for row in range(self.rows))

    def flags(self):
        """All that is said of any character beyond what it is."""
        return {flag for row in self.cells for _, (_, _, flags) in row for flag in flags}

    def colours(self):
        return {colour for row in self.cells for _, style in row for colour in style[:2] if colour is not None}

    # --- what changes it

    def feed(self, piece):
        text, self.rest = self._decode(self.rest + piece)
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                used = self._escape(text, at)
                if used == 0:
                    self.rest = text[at:].encode() + self.rest
                    return
                at += used
            else:
                self._character(text[at])
                at += 1

    @staticmethod
    def _decode(piece):
        """What is whole of it, and the rest."""
        for cut in range(min(4, len(piece) + 1)):
            try:
                return piece[:len(piece) - cut].decode(), piece[len(piece) - cut:]
            except UnicodeDecodeError as error:
                if error.start < len(piece) - 3:
                    raise
        raise ValueError(f"no UTF-8: {piece!r}")

    def _escape(self, text, at):
        """Takes a sequence; how long it is, 0 where its end has not come yet."""
        match = CSI.match(text, at)
        if match:
            self._control(match[1], [int(number) if number else None for number in match[2].split(";")], match[3])
            return match.end() - at
        match = OSC.match(text, at)
        if match:
            return match.end() - at  # colours of the palette, the title
        if len(text) < at + 2 or re.fullmatch(r"\x1b\[[?>]?[0-9;]*|\x1b[()]|\x1b\][^\x07]*", text[at:]):
            return 0
        kind = text[at + 1]
        if kind in "()":
            if text[at + 2] not in "B0":
                raise ValueError(f"character set {text[at + 2]!r}")
            return 3
        if kind == "7":
            self.saved = (self.row, self.column)
        elif kind == "8":
            self.row, self.column = self.saved
        elif kind == "M":
            self._up()
        elif kind == "D":
            self._down()
        elif kind not in "=>H":
            raise ValueError(f"sequence {text[at:at + 8]!r}")
        return 2

    def _character(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character == "\t":
            self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
        elif character in "\x00\x07\x0f":
            return
        elif character == "\x0e":
            raise ValueError("line drawing was not expected")
        elif character < " " or unicodedata.category(character)[0] == "C" or unicodedata.combining(character) \
                or unicodedata.east_asian_width(character) in "WF":
            raise ValueError(f"character {character!r}")
        else:
            self._put(character)
            return
        self.wraps = False

    def _put(self, character):
        if self.wraps and 7 in self.modes:
            self.column = 0
            self._down()
        self.cells[self.row][self.column] = (character, self.style)
        self.last = character
        self.wraps = self.column == self.columns - 1
        self.column = min(self.column + 1, self.columns - 1)

    def _down(self):
        if self.row == self.bottom:
            self._scroll(self.top, 1)
        else:
            self.row = min(self.row + 1, self.rows - 1)

    def _up(self):
        if self.row == self.top:
            self._scroll(self.top, -1)
        else:
            self.row = max(self.row - 1, 0)

    def _blank(self):
        return (" ", (None, self.style[1], frozenset()))

    def _scroll(self, first, lines):
        """Lines from first to the bottom of the region go up so many, or down."""
        for _ in range(min(abs(lines), self.bottom - first + 1)):
            blank = [self._blank() for _ in range(self.columns)]
            if lines > 0:
                del self.cells[first]
                self.cells.insert(self.bottom, blank)
            else:
                del self.cells[self.bottom]
                self.cells.insert(first, blank)

    def _erase(self, row, first, end):
        for column in range(first, end):
            self.cells[row][column] = self._blank()

    def _control(self, private, numbers, letter):
        number = numbers[0]
        one = max(1, number or 1)
        if private:
            if letter in "hl" and private == "?":
                self._mode(numbers, letter == "h")
            elif letter == "c":
                return  # the shape of the cursor of a Linux console
            else:
                raise ValueError(f"CSI {private}{numbers}{letter}")
            return
        if letter == "m":
            self._style(numbers)
            return
        if letter == "b":
            for _ in range(one):
                self._put(self.last)
            return
        self.wraps = False
        if letter in "Hf":
            self.row = min(one, self.rows) - 1
            self.column = min(max(1, numbers[1] or 1) if len(numbers) > 1 else 1, self.columns) - 1
        elif letter == "G":
            self.column = min(one, self.columns) - 1
        elif letter == "d":
            self.row = min(one, self.rows) - 1
        elif letter == "A":
            self.row = max(0, self.row - one)
        elif letter == "B":
            self.row = min(self.rows - 1, self.row + one)
        elif letter == "C":
            self.column = min(self.columns - 1, self.column + one)
        elif letter == "D":
            self.column = max(0, self.column - one)
        elif letter == "J":
            self._erase_screen(number or 0)
        elif letter == "K":
            first, end = {0: (self.column, self.columns), 1: (0, self.column + 1), 2: (0, self.columns)}[number or 0]
            self._erase(self.row, first, end)
        elif letter == "X":
            self._erase(self.row, self.column, min(self.columns, self.column + one))
        elif letter == "P":
            row = self.cells[self.row]
            del row[self.column:self.column + one]
            row += [self._blank() for _ in range(self.columns - len(row))]
        elif letter == "@":
            row = self.cells[self.row]
            row[self.column:self.column] = [self._blank() for _ in range(one)]
            del row[self.columns:]
        elif letter == "L":
            self._scroll(self.row, -one)
        elif letter == "M":
            self._scroll(self.row, one)
        elif letter == "S":
            self._scroll(self.top, one)
        elif letter == "T":
            self._scroll(self.top, -one)
        elif letter == "Z":
            self.column = max(0, (self.column - 1) // 8 * 8)
        elif letter == "r":
            self.top = (number or 1) - 1
            self.bottom = min((numbers[1] if len(numbers) > 1 and numbers[1] else self.rows), self.rows) - 1
            self.row = self.column = 0
        elif letter in "hl" and numbers in ([4], [20], [34]) or letter == "t":
            return  # insert mode and line feeds, as they are anyhow; the cursor of screen(1); titles
        else:
            raise ValueError(f"CSI {numbers}{letter}")

    def _erase_screen(self, which):
        rows = {0: range(self.row + 1, self.rows), 1: range(self.row), 2: range(self.rows)}[which]
        for row in rows:
            self._erase(row, 0, self.columns)
        if which == 0:
            self._erase(self.row, self.column, self.columns)
        elif which == 1:
            self._erase(self.row, 0, self.column + 1)

    def _mode(self, numbers, is_set):
        for number in numbers:
            if number not in (1, 3, 4, 5, 6, 7, 8, 12, 25, 1049):
                raise ValueError(f"mode {number}")
            if is_set:
                self.modes.add(number)
            else:
                self.modes.discard(number)
        if 1049 in numbers:
            if is_set:
                self.alternate = (self.cells, self.row, self.column)
                self.cells = [[BLANK for _ in range(self.columns)] for _ in range(self.rows)]
            elif self.alternate:
                self.cells, self.row, self.column = self.alternate
                self.alternate = None
                self.resize(self.rows, self.columns)

    def _style(self, numbers):
        letters, ground, flags = self.style
        rest = [number or 0 for number in numbers]
        while rest:
            number = rest.pop(0)
            if number == 0:
                letters, ground, flags = BLANK[1]
            elif number in (10, 11):
                continue  # the font of a Linux console
            elif number in FLAGS:
                flags |= {FLAGS[number]}
            elif number in ENDS:
                flags -= set(ENDS[number])
            elif number in (38, 48):
                if rest[0] != 5:
                    raise ValueError(f"colour {rest}")
                colour = rest[1]
                del rest[:2]
                letters, ground = (colour, ground) if number == 38 else (letters, colour)
            elif number == 39:
                letters = None
            elif number == 49:
                ground = None
            elif 30 <= number <= 37 or 90 <= number <= 97:
                letters = number - 30 if number < 90 else number - 82
            elif 40 <= number <= 47 or 100 <= number <= 107:
                ground = number - 40 if number < 100 else number - 92
            else:
                raise ValueError(f"SGR {numbers}")
        self.style = (letters, ground, frozenset(flags))


class Terminal:
    """A program whose terminal this is."""

    def __init__(self, arguments, rows=24, columns=80, seconds=30, **environment):
        self.screen, self.seconds = Screen(rows, columns), seconds
        self.all, self.status = b"", None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            for name, value in environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            # The size is there before the program looks.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execv(arguments[0], [str(argument) for argument in arguments])

    def resize(self, rows, columns):
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        """One more piece of output; False at the end."""
        if seconds <= 0 or not select.select([self.fd], [], [], seconds)[0]:
            raise TimeoutError("\n" + self.screen.text())
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            return False
        self.all += piece
        self.screen.feed(piece)
        return bool(piece)

    def until(self, wanted):
        """Until the screen is as wanted: a regular expression that is somewhere in its text, or a function of the screen."""
        deadline = time.monotonic() + self.seconds
        while not (wanted(self.screen) if callable(wanted) else re.search(wanted, self.screen.text(), re.M)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{wanted}\n{self.screen.text()}")
            # Not all that is asked for comes with output.
            if select.select([self.fd], [], [], 0.05)[0] and not self.read(1):
                raise EOFError(f"{wanted}\n{self.screen.text()}")

    def is_taken(self):
        """Whether the program gets each key, and the terminal shows none by itself."""
        return not termios.tcgetattr(self.fd)[3] & (termios.ECHO | termios.ICANON)

    def type(self, keys):
        os.write(self.fd, keys.encode() if isinstance(keys, str) else keys)

    def end(self):
        """Everything up to the end, which must come by itself. Returns the exit code, or the negative signal."""
        deadline = time.monotonic() + self.seconds
        while self.read(deadline - time.monotonic()):
            pass
        _, self.status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(self.status)
