"""The dashboard and the alerts say what Aegis has: every metric and label exists, and Prometheus' own tool finds nothing wrong."""
import json
import os
import pathlib
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.environ["AEGIS_SRCDIR"], "tests/functional"))

import aegis
import registry
from aegis import Case, Echo, app, dial, echo, need, run
from papers import Papers, has_tls

CONTRIB = pathlib.Path(os.environ["AEGIS_SRCDIR"], "contrib")
RULES = CONTRIB / "prometheus/aegis-alerts.yml"
RULE_TESTS = CONTRIB / "prometheus/aegis-alerts.test.yml"
DASHBOARD = CONTRIB / "grafana/aegis.json"


def panels():
    """(title, expression, legend) of all that the dashboard asks."""
    page = json.loads(DASHBOARD.read_text())
    for panel in page["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]
    for note in page["annotations"]["list"]:
        yield note["name"], note["expr"], ""


def alerts():
    """(name, expression, all its texts), read without a YAML library: an expression is on its line, or folded below it."""
    for block in re.split(r"(?m)^      - alert: ", RULES.read_text())[1:]:
        name, expr = re.match(r"(\w+)\n        expr: (?:>-\n)?((?:.|\n)*?)\n        (?:for|labels):", block).groups()
        yield name, " ".join(expr.split()), block


def variables(expression):
    """As Grafana fills them in."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$listener", ".*").replace("$upstream", ".*")


class Names(Case):
    def setUp(self):
        super().setUp()
        self.metrics = registry.read()
        self.assertGreater(len(self.metrics), 50)

    def test_dashboard(self):
        count = 0
        for title, expression, legend in panels():
            with self.subTest(panel=title, expression=expression):
                self.assertEqual(registry.wrong(expression, self.metrics), [])
                known = set().union(*(self.metrics[name] for name in registry.names(expression)))
                self.assertEqual([label for label in re.findall(r"{{(\w+)}}", legend) if label not in known], [])
                count += 1
        self.assertGreater(count, 40)

    def test_dashboard_is_what_its_script_writes(self):
        done = run(sys.executable, "-B", CONTRIB / "grafana/dashboard")
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout, DASHBOARD.read_text(), "run contrib/grafana/dashboard > contrib/grafana/aegis.json")

    def test_dashboard_is_well_formed(self):
        page = json.loads(DASHBOARD.read_text())
        numbers = [panel["id"] for panel in page["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))
        taken = set()
        for panel in page["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(taken & cells, f"{panel['title']} lies on another panel")
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            taken |= cells
        for variable in page["templating"]["list"]:
            for name in registry.names(variable.get("definition", "")):
                self.assertIn(name, self.metrics)

    def test_alerts(self):
        seen = set()
        for name, expression, block in alerts():
            with self.subTest(alert=name):
                self.assertNotIn(name, seen)
                seen.add(name)
                self.assertEqual(registry.wrong(expression, self.metrics), [])
                known = set().union(*({**self.metrics, **registry.OTHERS}[metric] for metric in registry.names(expression)))
                self.assertEqual([label for label in re.findall(r"\$labels\.(\w+)", block) if label not in known], [])
                self.assertRegex(block, r"severity: (critical|warning) ")
        self.assertGreater(len(seen), 15)
        self.assertEqual(RULES.read_text().count("- alert:"), len(seen))

    def test_each_alert_has_a_test(self):
        tested = set(re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text()))
        self.assertEqual(tested, {name for name, _, _ in alerts()})

    def test_a_mistake_would_be_noticed(self):
        self.assertEqual(registry.wrong("rate(aegis_conections_total[1m])", self.metrics), ["there is no metric aegis_conections_total"])
        self.assertEqual(registry.wrong('aegis_connections_total{listner="a"}', self.metrics), ["aegis_connections_total has no label listner"])
        self.assertEqual(registry.wrong("sum by (servr) (aegis_server_up)", self.metrics), ["nothing here has a label servr"])
        self.assertEqual(registry.wrong("aegis_connect_seconds", self.metrics), ["there is no metric aegis_connect_seconds"])


class Promtool(Case):
    deadline = 180.0

    def promtool(self, *arguments, **options):
        tool, = need("promtool")
        done = run(tool, *arguments, seconds=120.0, **options)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_settings(self):
        self.assertIn("SUCCESS", self.promtool("check", "config", CONTRIB / "prometheus/prometheus.yml"))

    def test_rules(self):
        self.assertIn(f"{len(list(alerts()))} rules found", self.promtool("check", "rules", RULES))

    def test_rules_fire(self):
        self.assertIn("SUCCESS", self.promtool("test", "rules", RULE_TESTS.name, cwd=RULE_TESTS.parent))

    def test_a_rule_that_does_not_fire_would_be_noticed(self):
        tool, = need("promtool")
        text = RULES.read_text()
        self.assertIn("/ (aegis_queue_max > 0) > 0.8", text)
        (self.directory / RULES.name).write_text(text.replace("/ (aegis_queue_max > 0) > 0.8", "/ (aegis_queue_max > 0) > 8"))
        (self.directory / RULE_TESTS.name).write_text(RULE_TESTS.read_text())
        done = run(tool, "test", "rules", RULE_TESTS.name, seconds=120.0, cwd=self.directory)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("AegisLineFilling", done.stdout + done.stderr)

    def test_dashboard_expressions(self):
        """Each as a recording rule, so that Prometheus' own parser reads them."""
        rules = [{"record": f"dashboard:{number}", "expr": variables(expr)} for number, (_, expr, _) in enumerate(panels())]
        file = self.directory / "dashboard.yml"
        file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
        self.assertIn(f"{len(rules)} rules found", self.promtool("check", "rules", file))


class Running(Case):
    def test_every_metric_that_is_asked_for_is_there(self):
        """An instance with checks, a line and a reload behind it gives each metric of the dashboard and the alerts."""
        backend = Echo(self)
        settings = app({"address": backend.address, "max_connections": 100}, upstream={"health": {"type": "tcp", "interval": "200ms"}, "queue": {"size": 10}})
        settings["listeners"].append({"name": "datagrams", "address": "127.0.0.1:0", "protocol": "udp", "upstream": "app"})
        without = set(registry.OTHERS)
        if has_tls() and shutil.which("openssl"):
            pair = Papers(self.directory / "papers").pair("one", "one.test")
            settings["listeners"].append({"name": "tls", "address": "127.0.0.1:0", "upstream": "app", "tls": {"certificates": [pair]}})
        else:
            without.add("aegis_certificate_expiry_seconds")
        proxy = self.aegis(settings)
        with dial(proxy.address()) as sock:
            echo(sock)
        proxy.must_reload(settings)
        proxy.wait_stat(lambda stat: stat["upstreams"][0]["servers"][0]["state"] == "up", "the server to be checked")
        text = run(aegis.AEGIS_STAT, "-r", proxy.directory, "-p").stdout
        given = set(re.findall(r"^(aegis_\w+)", text, re.M))
        asked = set().union(*(registry.names(expr) for _, expr, _ in [*panels(), *alerts()])) - without
        self.assertEqual(sorted(asked - given), [])


if __name__ == "__main__":
    aegis.main()
