"""The files for containers are well formed, agree with each other, and their settings are valid."""
import os
import pathlib
import re
import sys

sys.path.insert(0, os.path.join(os.environ["AEGIS_SRCDIR"], "tests/functional"))

import unittest

import aegis
from aegis import Case, run

SOURCE = pathlib.Path(os.environ["AEGIS_SRCDIR"])
CONTRIB = SOURCE / "contrib"
COMPOSE = CONTRIB / "compose"


def documents(path):
    """All documents of a YAML file. Keys that stand twice are an error, which the library itself does not think."""
    try:
        import yaml
    except ImportError:
        raise unittest.SkipTest("not installed: python3-yaml") from None

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value if key.value != "<<"]
            if len(keys) != len(set(keys)):
                raise yaml.constructor.ConstructorError(None, None, f"a key twice: {keys}", node.start_mark)
            return super().construct_mapping(node, deep)

    return [document for document in yaml.load_all(path.read_text(), Strict) if document is not None]


class Yaml(Case):
    def test_all_can_be_read(self):
        found = sorted([*CONTRIB.rglob("*.yml"), *CONTRIB.rglob("*.yaml")])
        self.assertGreaterEqual(len(found), 8)
        for path in found:
            with self.subTest(file=path.relative_to(SOURCE)):
                self.assertGreater(len(documents(path)), 0)

    def test_a_mistake_would_be_noticed(self):
        bad = self.directory / "bad.yml"
        bad.write_text("a: 1\na: 2\n")
        with self.assertRaisesRegex(Exception, "a key twice"):
            documents(bad)


class Settings(Case):
    def test_valid(self):
        token = self.directory / "token"
        token.write_text("0123456789abcdef\n")
        for name in ("compose", "kubernetes"):
            with self.subTest(name):
                done = run(aegis.AEGIS, "-t", "-c", CONTRIB / name / "aegis.conf", "-r", self.directory, "-e", f'admin = {{ token_file = "{token}"; }};')
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Compose(Case):
    def setUp(self):
        super().setUp()
        self.compose, = documents(COMPOSE / "compose.yaml")
        self.services = self.compose["services"]

    def test_files_exist(self):
        for name, service in self.services.items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue((COMPOSE / source).exists(), f"{name}: {volume}")
                else:
                    self.assertIn(source, self.compose["volumes"], f"{name}: {volume}")
            for option in service.get("security_opt", []):
                if option.startswith("seccomp:"):
                    self.assertTrue((COMPOSE / option.partition(":")[2]).is_file(), f"{name}: {option}")
        self.assertTrue((COMPOSE / self.services["aegis"]["build"] / "Dockerfile").is_file())

    def test_names_are_services(self):
        for name, service in self.services.items():
            for other in service.get("depends_on", []):
                self.assertIn(other, self.services, name)
            if service.get("network_mode", "").startswith("service:"):
                self.assertIn(service["network_mode"].partition(":")[2], self.services, name)

    def test_servers_are_where_aegis_looks(self):
        settings = (COMPOSE / "aegis.conf").read_text()
        servers = re.findall(r'name = "(\w+)"; address = "(\w+):(\d+)"; \}', settings)
        self.assertEqual([name for name, _, _ in servers], ["one", "two"])
        for _, host, port in servers:
            entry = self.services[host]["entrypoint"]
            self.assertEqual(entry[0], "aegis-demo")
            self.assertIn(f"0.0.0.0:{port}", entry)
            self.assertIn(host, entry)

    def test_ports(self):
        """What is published is what something listens on."""
        published = {port.rpartition(":")[2] for service in self.services.values() for port in service.get("ports", [])}
        listening = set(re.findall(r'name = "web"; address = "0\.0\.0\.0:(\d+)"', (COMPOSE / "aegis.conf").read_text()))
        listening |= {word.rpartition(":")[2] for word in self.services["prometheus"]["command"] if "listen-address" in word}
        self.assertEqual(published, listening | {"3000"})

    def test_prometheus_asks_aegis(self):
        metrics = re.search(r'metrics_address = "([^"]+)"', (COMPOSE / "aegis.conf").read_text())[1]
        prometheus, = documents(CONTRIB / "prometheus/prometheus.yml")
        self.assertEqual([config["targets"] for job in prometheus["scrape_configs"] for config in job["static_configs"]], [[metrics]])
        self.assertEqual(self.services["prometheus"]["network_mode"], "service:aegis")

    def test_grafana_finds_prometheus_and_the_dashboard(self):
        source, = documents(COMPOSE / "grafana/provisioning/datasources/prometheus.yaml")
        port = next(word for word in self.services["prometheus"]["command"] if "listen-address" in word).rpartition(":")[2]
        self.assertEqual(source["datasources"][0]["url"], f"http://aegis:{port}")
        provider, = documents(COMPOSE / "grafana/provisioning/dashboards/aegis.yaml")
        folder = provider["providers"][0]["options"]["path"]
        mounted = [volume.split(":")[1] for volume in self.services["grafana"]["volumes"]]
        self.assertIn(f"{folder}/aegis.json", mounted)
        self.assertEqual(self.services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"], f"{folder}/aegis.json")


class Kubernetes(Case):
    def setUp(self):
        super().setUp()
        self.objects = {item["kind"]: item for item in documents(CONTRIB / "kubernetes/aegis.yaml")}
        self.pod = self.objects["Deployment"]["spec"]["template"]
        self.container, = self.pod["spec"]["containers"]

    def test_kustomization(self):
        kustomization, = documents(CONTRIB / "kubernetes/kustomization.yaml")
        generator, = kustomization["configMapGenerator"]
        for file in [*kustomization["resources"], *generator["files"]]:
            self.assertTrue((CONTRIB / "kubernetes" / file).is_file(), file)
        maps = [volume["configMap"]["name"] for volume in self.pod["spec"]["volumes"] if "configMap" in volume]
        self.assertEqual(maps, [generator["name"]])

    def test_selectors(self):
        labels = self.pod["metadata"]["labels"]
        self.assertEqual(self.objects["Deployment"]["spec"]["selector"]["matchLabels"], labels)
        self.assertEqual(self.objects["Service"]["spec"]["selector"], labels)
        self.assertEqual(self.objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"], labels)

    def test_ports(self):
        named = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        settings = (CONTRIB / "kubernetes/aegis.conf").read_text()
        listening = int(re.search(r'name = "app"; address = "0\.0\.0\.0:(\d+)"', settings)[1])
        self.assertEqual(named["clients"], listening)
        self.assertEqual(named["metrics"], int(re.search(r'metrics_address = "0\.0\.0\.0:(\d+)"', settings)[1]))
        for port in self.objects["Service"]["spec"]["ports"]:
            self.assertIn(port["targetPort"], named)

    def test_volumes(self):
        mounted = {mount["name"] for mount in self.container["volumeMounts"]}
        self.assertEqual(mounted, {volume["name"] for volume in self.pod["spec"]["volumes"]})
        folders = {mount["mountPath"] for mount in self.container["volumeMounts"]}
        token = re.search(r'token_file = "([^"]+)"', (CONTRIB / "kubernetes/aegis.conf").read_text())[1]
        self.assertIn(os.path.dirname(token), folders)

    def test_pod_monitor(self):
        monitor, = documents(CONTRIB / "kubernetes/podmonitor.yaml")
        self.assertEqual(monitor["spec"]["selector"]["matchLabels"], self.pod["metadata"]["labels"])
        endpoint, = monitor["spec"]["podMetricsEndpoints"]
        self.assertIn(endpoint["port"], [port["name"] for port in self.container["ports"]])
        secret, = [volume["secret"]["secretName"] for volume in self.pod["spec"]["volumes"] if "secret" in volume]
        self.assertEqual(endpoint["authorization"]["credentials"], {"name": secret, "key": "token"})

    def test_time_to_drain(self):
        """The pod is not killed before aegis is done: the sleep before TERM, and drain.timeout."""
        sleep = int(self.container["lifecycle"]["preStop"]["exec"]["command"][1])
        drain = int(re.search(r'drain = \{ timeout = "(\d+)s"', (CONTRIB / "kubernetes/aegis.conf").read_text())[1])
        self.assertGreater(self.pod["spec"]["terminationGracePeriodSeconds"], sleep + drain)

    def test_probes_are_verbs(self):
        verbs = run(aegis.BUILD / "aegisctl", "-h").stdout
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            program, verb = self.container[probe]["exec"]["command"]
            self.assertEqual(program, "aegisctl")
            self.assertRegex(verbs, rf"(?m)^ +{verb}\b")


class Image(Case):
    """What can be said of the Dockerfile without docker."""

    def setUp(self):
        super().setUp()
        text = re.sub(r"(?m)^#.*\n", "", (SOURCE / "Dockerfile").read_text())
        self.steps = [line.split(None, 1) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]

    def test_instructions(self):
        known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
        self.assertEqual({word for word, _ in self.steps} - known, set())
        self.assertEqual(self.steps[0][0], "FROM")
        self.assertEqual(sum(word == "FROM" for word, _ in self.steps), 2)
        for word, rest in self.steps:
            if word == "COPY" and not rest.startswith("--from"):
                self.assertTrue((SOURCE / rest.split()[0]).exists(), rest)

    def test_users_agree(self):
        """The image, the compose file and the pod mean the same user."""
        user = re.search(r"useradd .*--uid (\d+)", (SOURCE / "Dockerfile").read_text())[1]
        self.assertIn(f"runAsUser: {user}", (CONTRIB / "kubernetes/aegis.yaml").read_text())
        self.assertIn(f"uid={user},gid={user}", (COMPOSE / "compose.yaml").read_text())


class Package(Case):
    def test_version(self):
        configured = re.search(r"AC_INIT\(\[aegis\], \[([^\]]+)\]", (SOURCE / "configure.ac").read_text())[1]
        packaged = re.match(r"aegis \(([^)-]+)-\d+\)", (SOURCE / "debian/changelog").read_text())[1]
        self.assertEqual(packaged, configured)

    def test_it_is_built_with_all_that_setup_installs(self):
        """Each library that contrib/setup installs for the build is one that the package is built with."""
        needed = re.search(r'packages_debian\(\) \{\s+needed="([^"]+)"', (CONTRIB / "setup").read_text())[1].split()
        control = (SOURCE / "debian/control").read_text().partition("\nPackage:")[0]
        libraries = [package for package in needed if package.endswith("-dev") and package != "libc6-dev"]
        self.assertGreater(len(libraries), 4)
        self.assertEqual([package for package in libraries if package not in control], [])


if __name__ == "__main__":
    aegis.main()
