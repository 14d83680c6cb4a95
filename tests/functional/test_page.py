"""The web page at the admin address, in a headless Chromium: what a visitor sees of a living, a sick and a stopped Aegis."""
import copy
import json
import os
import re
import signal
import unittest
import urllib.error
import urllib.request

import aegis
import browser
from aegis import OWN_ADDRESS, SLOW, Case, Echo, Load, app, ordinary_port, wait_until
from papers import Papers, need_tls
from stand_in import StandIn
from test_tls import expired

ADMIN = f"{OWN_ADDRESS}:9090"
URL = f"http://{ADMIN}/"
HOSTILE = '<img src=x onerror="window.hacked = 1">'
# Read by the browser as a visitor would: rows of text of a table.
ROWS = "[...document.querySelectorAll('{} tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"
TEXTS = ("--text", "--muted", "--accent", "--good", "--warn", "--bad", "--idle")
LINES = ("--line-1", "--line-2", "--line-3", "--p50", "--p95", "--p99")


def setUpModule():
    if browser.program() is None:
        raise unittest.SkipTest(f"no browser: none of {', '.join(browser.PROGRAMS)} is installed")


def luminance(colour):
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


class PageCase(Case):
    deadline = 90.0

    def setUp(self):
        super().setUp()
        self.browser = browser.Browser.start(SLOW)
        self.addCleanup(self.browser.close)

    def admin(self, servers, **settings):
        return self.aegis(app(servers, admin={"address": ADMIN}, **settings))

    def visit(self, url=URL, **options):
        page = self.browser.page(**options)
        page.open(url)
        return page

    def rows(self, page, section):
        return page.evaluate(ROWS.format(section))

    def wait_rows(self, page, section, condition, what):
        last = []

        def ask():
            last[:] = self.rows(page, section)
            return condition(last)
        wait_until(ask, lambda: f"{what}; last: {last}")
        return last

    def wait_request(self, page, end):
        def came():
            page.pump()
            return any(asked.endswith(end) for _, asked in page.requests)
        wait_until(came, lambda: f"a request that ends with {end}; came: {page.requests[-20:]}")

    def check_quiet(self, page, url=URL):
        """Nothing in the console, nothing asked for elsewhere, nothing but GET."""
        self.assertEqual(page.complaints, [])
        for method, asked in page.requests:
            self.assertEqual(method, "GET", asked)
            self.assertTrue(asked.startswith(url) or asked.startswith("data:"), asked)


class Served(Case):
    """What comes over the wire, without a browser."""

    def get(self, **headers):
        return urllib.request.urlopen(urllib.request.Request(URL, headers=headers), timeout=10 * SLOW)

    def test_headers_and_tag(self):
        running = self.aegis(app(Echo(self).address, admin={"address": ADMIN}))
        with self.get() as answer:
            body, headers = answer.read(), answer.headers
        self.assertEqual(headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual(headers.get_all("Cache-Control"), ["no-cache"])
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(headers["Referrer-Policy"], "no-referrer")
        self.assertIsNone(headers["Set-Cookie"])
        policy = headers["Content-Security-Policy"]
        self.assertIn("default-src 'none';", policy)
        self.assertNotIn("unsafe", policy)
        with self.assertRaises(urllib.error.HTTPError) as same:
            self.get(**{"If-None-Match": headers["ETag"]})
        self.assertEqual((same.exception.code, same.exception.read(), same.exception.headers["ETag"]), (304, b"", headers["ETag"]))
        with self.get(**{"If-None-Match": '"another"'}) as answer:
            self.assertEqual(answer.read(), body)
        self.assertEqual(body, (aegis.BUILD / "src/control/page.html").read_bytes())
        self.assertIsNone(re.search(rb"""(src|href)=["']?(https?:)?//""", body), "something of another place")
        self.assertNotIn(b"innerHTML", body)
        for reason in running.listener()["closes"]:
            self.assertIn(f'\t{reason}: ["', body.decode(), "what it means")


class Living(PageCase):
    def test_figures_move_under_load(self):
        servers = [Echo(self), Echo(self)]
        running = self.admin([{"name": f"echo-{i}", "address": server.address} for i, server in enumerate(servers)])
        load = Load(self, running.address())
        page = self.visit()
        page.wait("document.querySelector('#state').innerText === 'running'")
        self.assertIn(running.stat()["version"], page.text("#facts"))

        def total(rows):
            return next((int(row[8].replace(",", "")) for row in rows if row[0] == "app"), 0)
        first = total(self.wait_rows(page, "#listeners", lambda rows: total(rows) > 0, "a total of the listener"))
        self.wait_rows(page, "#listeners", lambda rows: total(rows) > first, "a total that grows")
        self.wait_rows(page, "#servers", lambda rows: {row[0] for row in rows if row[0].startswith("echo-")} ==
                       {f"echo-{i} {server.address}" for i, server in enumerate(servers)} and
                       all(float(row[5].replace(",", "") or 0) > 0 for row in rows if row[0].startswith("echo-")), "a rate at each server")
        self.assertEqual(len(self.rows(page, "#workers")), 2)
        drawn = "parseFloat(chart.querySelector('dd').innerText) > 0 && chart.querySelector('.series').getAttribute('d').includes('L')"
        for chart in ("Active connections", "New connections", "Throughput"):
            page.wait(f"[...document.querySelectorAll('.chart')].some((chart) => chart.querySelector('h3').innerText === '{chart}'"
                      f" && {drawn})")
        page.wait_text("#traffic", r"Latency.*p50\s+[\d.]+ (ms|µs)")
        load.stop()
        self.wait_rows(page, "#ends", lambda rows: any(row[0] == "finished" for row in rows), "a reason")
        self.wait_rows(page, "#listeners", lambda rows: total(rows) == running.listener()["total"], "the total of aegis-stat")
        self.check_quiet(page)

    def test_a_server_goes_down(self):
        sound, sick = Echo(self), Echo(self)
        running = self.admin([{"name": "sound", "address": sound.address}, {"name": "sick", "address": sick.address}],
                             upstream={"health": {"type": "tcp", "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 2}})
        page = self.visit()
        state = "[...document.querySelectorAll('#servers tbody tr')].find((row) => row.innerText.includes('sick'))?.cells[1].innerText"
        page.wait(f"{state} === 'up'")
        page.wait_text("#attention", "Nothing stands out")
        address = sick.address
        sick.close()
        page.wait(f"{state} === 'down'")
        page.wait_text("#attention", r"app: 1 of 2 servers gets no new connections.*sick: down.*connection refused")
        page.wait("document.title.includes('1 of 2 servers')")
        page.wait_text("#event-list", "app/sick is down: connection refused")
        page.click("#servers .choices button:nth-child(3)")
        self.wait_rows(page, "#servers", lambda rows: [row[0].split()[0] for row in rows] == ["app", "sick"], "only who is not usable")
        Echo(self, address=address)
        page.wait_text("#event-list", "app/sick is up")
        page.wait_text("#servers", "None matches.")
        self.check_quiet(page)
        running.stop()

    def test_a_reload_is_no_trouble(self):
        echo = Echo(self)
        running = self.admin(echo.address)
        page = self.visit()
        page.wait("document.querySelector('#state').innerText === 'running'")
        for generation in (2, 3):
            settings = copy.deepcopy(running.settings)
            settings["listeners"].append({"name": f"more-{generation}", "address": "127.0.0.1:0", "upstream": "app"})
            running.must_reload(settings)
            page.wait_text("#event-list", f"Reload done, generation {generation}")
        page.wait("document.querySelectorAll('#listeners tbody tr').length === 3")
        self.assertNotIn("not answer", page.text("#event-list"))
        worker = running.workers()[0]["pid"]
        os.kill(worker, signal.SIGKILL)
        running.restarts, running.lost = 1, True
        page.wait_text("#event-list", "1 worker died and was replaced")

    def test_stopped_and_started_again(self):
        echo = Echo(self)
        running = self.admin(echo.address)
        page = self.visit()
        page.wait("document.querySelector('#state').innerText === 'running'")
        self.check_quiet(page)
        running.stop()
        page.wait("!document.querySelector('#banner').hidden")
        self.assertRegex(page.text("#banner"), r"^Aegis does not answer since \d\d:\d\d:\d\d: the connection failed\. What you see is of ")
        self.assertEqual(page.text("#state"), "not answering")
        self.assertIn("Not answering", page.evaluate("document.title"))
        self.admin(echo.address)
        page.wait("document.querySelector('#banner').hidden && document.querySelector('#state').innerText === 'running'")
        page.wait_text("#event-list", "started anew.*answers again, after")
        self.assertTrue(all("net::ERR_" in complaint for complaint in page.complaints), page.complaints)

    def test_token(self):
        secret = "correct-horse-battery-staple-0123456789"
        path = self.directory / "token"
        path.write_text(secret + "\n")
        path.chmod(0o600)
        port = ordinary_port()
        self.aegis(app(Echo(self).address, admin={"address": f"0.0.0.0:{port}", "token_file": str(path)}))
        page = self.visit(f"http://127.0.0.1:{port}/")
        page.wait("document.querySelector('#token').open")
        page.type("wrong")
        page.press("Enter", 13)
        page.wait("document.querySelector('#token').open && /not the right one/.test(document.querySelector('#token-error').innerText)")
        page.evaluate("document.querySelector('#token-value').focus()")
        page.type(secret)
        page.press("Enter", 13)
        page.wait("document.querySelector('#state').innerText === 'running' && !document.querySelector('#token').open")
        self.assertEqual(page.evaluate("document.cookie"), "")
        self.assertNotIn(secret, page.evaluate("JSON.stringify({ ...localStorage, ...sessionStorage }) + location.href"))
        self.assertNotIn(secret, page.evaluate("document.documentElement.outerHTML + document.querySelector('#token-value').value"))
        self.assertFalse([asked for _, asked in page.requests if secret in asked])

    def test_many_servers(self):
        echo = Echo(self)
        port = echo.address.rpartition(":")[2]
        servers = [{"name": f"server-{i:04}", "address": f"127.0.0.1:{port}"} for i in range(1500)]
        self.admin(servers)
        page = self.visit()
        page.wait("document.querySelectorAll('#servers tbody tr').length === 101")
        page.evaluate("document.querySelector('#servers input').focus()")
        page.type("server-149")
        page.wait("document.querySelectorAll('#servers tbody tr').length === 11")
        page.evaluate("document.querySelector('#servers input').select()")
        page.type("s")
        page.click("#servers .more")
        page.wait("document.querySelectorAll('#servers tbody tr').length === 1501")
        self.check_quiet(page)


class Looks(PageCase):
    def setUp(self):
        super().setUp()
        self.running = self.admin(Echo(self).address)

    def colours(self, page, names):
        return page.evaluate(f"""(() => {{
            const style = getComputedStyle(document.documentElement);
            return {json.dumps(names)}.map((name) => style.getPropertyValue(name).trim());
        }})()""")

    def check_contrast(self, page):
        """WCAG AA: 4.5 for text, 3 for lines that carry meaning."""
        paper, behind = self.colours(page, ["--panel", "--page"])
        for name, colour in zip(TEXTS, self.colours(page, TEXTS)):
            self.assertGreaterEqual(contrast(colour, paper), 4.5, f"{name} {colour} on {paper}")
        for name, colour in zip(LINES, self.colours(page, LINES)):
            self.assertGreaterEqual(contrast(colour, paper), 3, f"{name} {colour} on {paper}")
        self.assertLess(contrast(paper, behind), 1.3)
        return luminance(paper)

    def test_light_and_dark(self):
        page = self.visit(scheme="light")
        self.assertGreater(self.check_contrast(page), 0.8)
        page.scheme("dark")
        page.wait("document.documentElement.dataset.theme === 'dark'")
        self.assertLess(self.check_contrast(page), 0.05)
        page.choose("#theme", "light")
        self.assertGreater(self.check_contrast(page), 0.8)
        page.open(URL)  # the choice is remembered
        self.assertGreater(self.check_contrast(page), 0.8)
        self.check_quiet(page)

    def test_any_width(self):
        for width in (360, 700, 1000, 1440, 2560):
            page = self.visit(width=width)
            page.wait("document.querySelector('#state').innerText === 'running'")
            self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), width)
            self.assertGreater(page.evaluate("document.querySelector('.plot').clientWidth"), 200)

    def test_keyboard_and_meaning(self):
        page = self.visit()
        page.wait("document.querySelectorAll('#listeners tbody tr').length === 1")
        page.wait("document.querySelector('.series').getAttribute('d').includes('L')")
        # Each thing that takes the focus has a name; each column has a head.
        nameless = page.evaluate("""[...document.querySelectorAll("button, select, input, [tabindex], a[href]")].filter((node) =>
            !node.hidden && !["aria-label", "aria-labelledby"].some((name) => node.hasAttribute(name)) && !node.closest("label") && !node.textContent)
            .map((node) => node.outerHTML)""")
        self.assertEqual(nameless, [])
        headless = page.evaluate("""[...document.querySelectorAll("table")].filter((table) => !table.caption
            || [...table.tHead.rows[0].cells].some((cell) => cell.scope !== "col")).length""")
        self.assertEqual(headless, 0)
        # The first key leads past the top.
        page.press("Tab", 9)
        self.assertEqual(page.evaluate("document.activeElement.className"), "skip")
        # The cursor of the charts, by keys; on all of them.
        page.evaluate("document.querySelector('.plot').focus()")
        page.press("ArrowLeft", 37)
        page.wait("document.querySelectorAll('.plot .cursor').length === document.querySelectorAll('.chart:not([hidden])').length")
        self.assertRegex(page.evaluate("document.querySelector('.plot').getAttribute('aria-valuetext')"), r"^\d\d:\d\d:\d\d: ")
        page.press("Escape", 27)
        page.wait("document.querySelectorAll('.plot .cursor').length === 0")
        # Sorting says so.
        page.evaluate("document.querySelector('#workers thead th:nth-child(3) button').focus()")
        page.press("Enter", 13)
        page.wait("document.querySelector('#workers thead th:nth-child(3)').getAttribute('aria-sort') === 'descending'")
        self.assertEqual(page.evaluate("document.activeElement.innerText"), "Pid")
        self.check_quiet(page)

    def test_pause(self):
        page = self.visit()
        page.wait("document.querySelector('#state').innerText === 'running'")
        page.click("#pause")
        page.wait("document.querySelector('#pulse').innerText.startsWith('paused at ')")
        before = len(page.requests)
        page.evaluate("new Promise((done) => setTimeout(done, 2500))")
        self.assertLessEqual(len(page.requests), before + 1)
        page.click("#pause")

        def asks():
            page.pump()
            return len(page.requests) > before + 2
        wait_until(asks, "questions again")


class Hostile(PageCase):
    """Whatever an instance, or who took its place, says: it is shown as text, and the page goes on."""

    def setUp(self):
        super().setUp()
        running = self.aegis(app(Echo(self).address))
        self.status = running.stat()

    def hostile(self):
        status = copy.deepcopy(self.status)
        status["version"] = status["engine"] = status["config_file"] = status["state"] = HOSTILE
        status["reloads"].update(failed=1, last_ok=False, last_unix=1, last_note=HOSTILE)
        for row in status["listeners"]:
            row["name"] = row["address"] = row["upstream"] = HOSTILE
            row["closes"][HOSTILE] = 3
        for row in status["workers"]:
            row["state"] = HOSTILE
        status["certificates"] = [{"listener": HOSTILE, "name": HOSTILE, "not_before_unix": 0, "not_after_unix": until} for until in (1, "x")]
        for group in status["upstreams"]:
            group["name"] = HOSTILE
            for row in group["servers"]:
                row.update(name=HOSTILE, address=HOSTILE, addresses=[HOSTILE], state=HOSTILE, override=HOSTILE, usable=False)
                row["health"].update(result=HOSTILE, state="down", checked=True, checked_seconds_ago=1.0)
                row["breaker"]["state"] = HOSTILE
        return status

    def test_names_are_text(self):
        connection = {key: HOSTILE for key in ("id", "client", "listener", "upstream", "server", "step")}
        connection.update(age_ms=1, idle_ms=1, up_bytes=1, down_bytes=1)
        case = {key: HOSTILE for key in ("id", "client", "listener", "began", "ended", "reason")}
        stand_in = StandIn(self, {
            "/status": (200, self.hostile()),
            "/connections": (200, {"connections": [connection], "truncated": True}),
            "/why": (200, {"address": HOSTILE, "connections": [{**case, "steps": [{"at_ms": 1, "step": HOSTILE, "text": HOSTILE}]}]})})
        page = self.visit(stand_in.url)
        page.wait("document.querySelectorAll('#servers tbody tr').length > 1")
        page.click("#servers .end")
        page.click("#connections button")
        page.wait("document.querySelectorAll('#connections tbody tr').length === 1")
        page.click("#connections .link")
        page.wait("document.querySelectorAll('#why .case').length === 1")
        for section in ("#state", "#facts", "#attention", "#event-list", "#servers", "#listeners", "#workers", "#ends", "#connections",
                        "#why"):
            self.assertIn(HOSTILE, page.evaluate(f"document.querySelector('{section}').textContent"), section)
        self.assertEqual(page.evaluate("document.querySelectorAll('img').length"), 0)
        self.assertIsNone(page.evaluate("window.hacked ?? null"))
        self.assertTrue(any(asked.startswith("/why?address=%3Cimg") for asked in stand_in.requests), stand_in.requests)
        self.check_quiet(page, stand_in.url)

    def test_the_policy_holds(self):
        page = self.visit(StandIn(self, {"/status": (200, self.status)}).url)
        taken = "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'taken'; } catch (error) { return error.name; } })()"
        self.assertEqual(page.evaluate(taken), "TypeError")
        page.evaluate("""(() => {
            const script = document.createElement("script");
            try { script.text = "window.hacked = 1"; } catch {}
            document.body.append(script);
        })()""")
        page.evaluate("fetch('http://127.0.0.2:1/').catch(() => {})")
        self.assertIsNone(page.evaluate("window.hacked ?? null"))

        def refused():
            page.pump()
            return any("Content Security Policy" in complaint and "127.0.0.2" in complaint for complaint in page.complaints)
        wait_until(refused, lambda: f"a refusal: {page.complaints}")

    def test_answers_that_are_none(self):
        stand_in = StandIn(self, {"/status": (503, {"error": "no memory"})})
        page = self.visit(stand_in.url)
        page.wait_text("#banner", r"no memory")
        stand_in.answers["/status"] = (200, "not an object")
        page.wait_text("#banner", r"makes no sense")
        stand_in.answers["/status"] = (200, self.status)
        page.wait("document.querySelector('#banner').hidden && document.querySelector('#state').innerText === 'running'")


class Certificates(PageCase):
    def test_what_expires(self):
        """The soonest first, coloured, and told among what stands out; without certificates there is no such part."""
        need_tls()
        papers = Papers(self.directory / "papers")
        pairs = [papers.pair("later.test", days=400), papers.pair("soon.test", days=10), expired(papers, "gone.test")]
        self.admin(Echo(self).address, listener={"tls": {"certificates": pairs}})
        page = self.visit()
        rows = self.wait_rows(page, "#certificates", lambda rows: len(rows) == 3, "certificates")
        self.assertEqual([row[0] for row in rows], ["gone.test", "soon.test", "later.test"])
        self.assertEqual([row[3] for row in rows][0], "expired")
        self.assertRegex(rows[1][3], r"^(9|10|9\.9) d$")
        self.assertRegex(rows[2][3], r"^(399|400) d$")
        level = "[...document.querySelectorAll('#certificates tbody td:last-child')].map((cell) => cell.className)"
        self.assertEqual([next((word for word in ("bad", "warn") if word in names.split()), "") for names in page.evaluate(level)], ["bad", "warn", ""])
        said = page.text("#attention")
        self.assertRegex(said, r"1 certificate has expired\.\s+gone\.test \(app\) expired (1(\.\d)? h|60 min) ago")
        self.assertRegex(said, r"1 certificate needs attention\.\s+soon\.test \(app\) expires in \S+ d")
        self.check_quiet(page)

    def test_none(self):
        self.admin(Echo(self).address)
        page = self.visit()
        page.wait("document.querySelector('#state').innerText === 'running'")
        self.assertTrue(page.evaluate("document.querySelector('#certificates').hidden && document.querySelector('#to-certificates').hidden"))


class OnDemand(PageCase):
    def test_connections_and_why(self):
        running = self.admin(Echo(self).address)
        sock = self.connect(running.address())
        aegis.echo(sock)
        client = f"127.0.0.1:{sock.getsockname()[1]}"
        page = self.visit()
        page.wait("document.querySelector('#state').innerText === 'running'")
        self.assertFalse([asked for _, asked in page.requests if "connections" in asked or "why" in asked])
        page.click("#connections button")
        rows = self.wait_rows(page, "#connections", lambda rows: len(rows) == 1, "the connection")
        self.assertEqual(rows[0][0], client)
        self.assertEqual(rows[0][2], "relay")
        page.evaluate("document.querySelector('#connections input').focus()")
        page.type("127.0.0.1")
        page.click("#connections button")
        self.wait_request(page, "/connections?client=127.0.0.1")
        page.click("#connections .link")
        page.wait("document.querySelectorAll('#why .case').length === 1")
        self.assertIn("still open", page.text("#why"))
        self.assertIn("accepted", page.text("#why .steps"))
        sock.close()
        running.wait_closes("finished")
        page.click("#why form button")
        page.wait_text("#why .case", r"finished")
        self.check_quiet(page)


if __name__ == "__main__":
    aegis.main()
