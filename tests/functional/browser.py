"""A headless Chromium, driven by the DevTools protocol over its pipe; nothing but Python's own library is needed.

with Browser.start() as browser:
    page = browser.page()
    page.open("http://127.0.0.1:9090/")
    page.wait("document.title === 'Aegis'")
"""
import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "headless_shell", "google-chrome")
SECONDS = 20


def program():
    """The browser's path, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """Owns the process and its profile; both are gone after close()."""

    def __init__(self, path, slow=1):
        self.slow, self._next, self._unread, self._sessions = slow, 0, b"", {}
        self._profile = tempfile.TemporaryDirectory(prefix="aegis-browser-", ignore_cleanup_errors=True)
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()

        def place():
            """The browser reads commands from descriptor 3 and writes to 4."""
            first, second = fcntl.fcntl(commands, fcntl.F_DUPFD, 10), fcntl.fcntl(answers, fcntl.F_DUPFD, 10)
            os.dup2(first, 3)
            os.dup2(second, 4)

        # Its sandbox refuses to run as root, and containers lack what it takes; what it opens here is ours.
        options = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "--no-sandbox", "--disable-gpu",
                   "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking",
                   "--hide-scrollbars", "--disable-component-update", "--no-proxy-server", "--mute-audio"]
        self._log = open(os.path.join(self._profile.name, "log"), "wb")
        self._process = subprocess.Popen([path, *options, "about:blank"], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                                         preexec_fn=place, pass_fds=(3, 4), start_new_session=True)
        os.close(commands)
        os.close(answers)

    @classmethod
    def start(cls, slow=1):
        return cls(program(), slow)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        os.killpg(self._process.pid, signal.SIGKILL)  # and its children
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._log.close()
        self._profile.cleanup()

    def page(self, width=1280, height=800, scheme="light"):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._sessions[session] = page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.size(width, height)
        page.scheme(scheme)
        return page

    def call(self, method, session=None, **parameters):
        """Send a command and return its result; events that come first go to their page."""
        self._next += 1
        message = {"id": self._next, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS * self.slow
        while True:
            answer = self._receive(end, method)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self, end, method):
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self._read, 1 << 16) if ready else b""
            if not piece:
                log = pathlib.Path(self._log.name).read_text(errors="replace")[-2000:]
                raise AssertionError(f"the browser {'ended' if ready else 'did not answer'} at {method}; its log: {log}")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\0")
        message = json.loads(line)
        if "method" in message and message.get("sessionId") in self._sessions:
            self._sessions[message["sessionId"]].on_event(message["method"], message["params"])
        return message


class Page:
    """A tab. complaints: what the console said in anger and what was thrown; requests: every address that was asked for."""

    def __init__(self, browser, session):
        self.browser, self._session = browser, session
        self.complaints, self.requests, self.responses = [], [], {}

    def call(self, method, **parameters):
        return self.browser.call(method, self._session, **parameters)

    def on_event(self, method, event):
        if method == "Runtime.exceptionThrown":
            self.complaints.append(event["exceptionDetails"].get("exception", {}).get("description") or event["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(part.get("value", part.get("description"))) for part in event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append((event["request"]["method"], event["request"]["url"]))
        elif method == "Network.responseReceived":
            self.responses[event["response"]["url"]] = event["response"]

    def size(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def scheme(self, scheme, reduced_motion=False):
        motion = "reduce" if reduced_motion else "no-preference"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme},
                                                          {"name": "prefers-reduced-motion", "value": motion}])

    def open(self, url):
        error = self.call("Page.navigate", url=url).get("errorText")
        if error:
            raise AssertionError(f"{url}: {error}")
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression):
        """The value of a JavaScript expression, as plain data; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return answer["result"].get("value")

    def text(self, selector):
        """What a visitor reads there."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def wait(self, expression, seconds=15):
        end = time.monotonic() + seconds * self.browser.slow
        while True:
            value = self.evaluate(expression)
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds * self.browser.slow:.0f} s: {expression}")
            time.sleep(0.05)

    def wait_text(self, selector, pattern, seconds=15):
        """Until what a visitor reads there matches; the pattern is JavaScript's, and its dot takes line ends too."""
        self.wait(f"new RegExp({json.dumps(pattern)}, 's').test(document.querySelector({json.dumps(selector)}).innerText)", seconds)

    def pump(self):
        """Take what the browser has told meanwhile: complaints and requests."""
        self.evaluate("0")

    def choose(self, selector, value):
        """An option of a field, as by a visitor."""
        self.evaluate(f"""(() => {{
            const field = document.querySelector({json.dumps(selector)});
            field.value = {json.dumps(value)};
            field.dispatchEvent(new Event("change"));
        }})()""")

    def click(self, selector):
        """As a visitor would: with the pointer, where the element is."""
        place = self.evaluate(f"""(() => {{
            const node = document.querySelector({json.dumps(selector)});
            node.scrollIntoView({{ block: "center", behavior: "instant" }});
            const box = node.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, code=0):
        """A key by its name and its old number, such as "Tab", 9."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def hover(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def shot(self):
        """A PNG of what is to be seen."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
