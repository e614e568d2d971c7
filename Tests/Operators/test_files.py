"""The files of deploy/ against the tools that own their formats, and against the program that they start."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import yaml

import cluster
from cluster import DEPLOY, ROOT, gateway, run, until

ROLES = ["encoder", "decoder", "gateway"]
# What a role takes to end after SIGTERM, beyond its --drain-limit: what is held is handed back, streams are cut.
MARGIN = {"encoder": 10, "decoder": 10, "gateway": 5}


def words(command):
    """A command of a container, `--flag=value` as `--flag`."""
    return [word.split("=")[0] for word in command if word.startswith("--")]


def seconds(text):
    return sum(float(n) * {"m": 60, "s": 1}[unit] for n, unit in re.findall(r"([\d.]+)(m|s)", text))


def drain_limit(command):
    text = " ".join(command)
    return float(re.search(r"--drain-limit[ =](\d+)", text).group(1))


class Pages(unittest.TestCase):
    def test_each_file_is_explained(self):
        page = (DEPLOY / "README.md").read_text() + (DEPLOY / "RUNBOOK.md").read_text()
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy", cwd=ROOT).split()
        for path in listed:
            parts = pathlib.Path(path).parts[1:]
            # A file by its name, or a folder of them.
            self.assertTrue(any(part in page for part in ["/".join(parts), *parts[:1]]), f"{path} is not explained")
            if parts[0] in ["compose", "systemd", "kubernetes", "redis", "prometheus", "grafana", "nginx"]:
                # By its path, or by its path in the table of its folder.
                folder, name = parts[0], "/".join(parts[1:])
                self.assertTrue(f"{folder}/{name}" in page or f"file of `{folder}/`" in page and f"`{name}`" in page,
                                f"{path} is not explained")

    def test_each_alert_has_its_entry_in_the_runbook(self):
        alerts = re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus" / "alerts.yml").read_text())
        runbook = (DEPLOY / "RUNBOOK.md").read_text()
        entries = re.findall(r"^### (Kirie\w+)$", runbook, re.MULTILINE)
        self.assertEqual(entries, alerts)
        for entry in re.split(r"^### ", runbook, flags=re.MULTILINE)[1:len(alerts) + 1]:
            for word in ["**Means.**", "**Look.**", "**Do.**"]:
                self.assertIn(word, entry)

    def test_yaml_is_plain(self):
        files = [*DEPLOY.glob("compose/*.y*ml"), *DEPLOY.glob("kubernetes/**/*.yaml"), *DEPLOY.glob("redis/*.yaml"),
                 *DEPLOY.glob("grafana/**/*.yml")]
        self.assertGreater(len(files), 10)
        rules = "{extends: default, rules: {document-start: disable, line-length: {max: 120}, " \
            "braces: {max-spaces-inside: 1}, truthy: {check-keys: false}, comments: {min-spaces-from-content: 1}}}"
        run("yamllint", "--strict", "-d", rules, *files)


class Image(unittest.TestCase):
    """The Dockerfile, as far as it can be held to the truth where no Docker engine is."""

    @classmethod
    def setUpClass(cls):
        cls.text = (DEPLOY / "Dockerfile").read_text()
        cls.stages = re.split(r"^FROM ", cls.text, flags=re.MULTILINE)[1:]

    @staticmethod
    def packages(stage):
        text = re.search(r"--no-install-recommends(.*?)&&", stage, re.DOTALL).group(1)
        return text.replace("\\", " ").split()

    def test_the_linter_has_no_complaint(self):
        run("hadolint", DEPLOY / "Dockerfile")

    def test_it_builds_with_what_deploy_build_installs(self):
        listed = re.search(r"^deploy/packages (.*)$", (DEPLOY / "build").read_text(), re.MULTILINE).group(1).split()
        self.assertEqual(sorted(self.packages(self.stages[0])), sorted(listed))

    def test_the_last_stage_runs_every_role_without_root_and_writes_nothing(self):
        if os.geteuid() != 0:
            self.skipTest("a root file system is made by root")
        place = cluster.Place(self)
        root = place.folder / "root"
        run("mmdebstrap", "--variant=minbase", "--include=" + ",".join(self.packages(self.stages[1])), "bookworm", root)
        shutil.copytree(ROOT / "weights", root / "opt/kirie/weights", ignore=shutil.ignore_patterns("train", "words"))
        (root / "opt/kirie/models").mkdir()
        shutil.copy(gateway.program(), root / "opt/kirie/kirie")
        for line in run("ldd", gateway.program()).splitlines():
            found = re.search(r"=> (\S*swift/linux/\S+)", line)
            if found:
                shutil.copy(found.group(1), root / "opt/kirie")
        shutil.copy(gateway.PHOTO, root / "opt/photo.jpg")
        _, address = place.redis("--unixsocketperm", "777")
        place.folder.chmod(0o755)
        # As `docker run --read-only --tmpfs /tmp`, in a network of its own; Redis's socket lies in /mnt.
        variables = re.search(r"^ENV (.*?)\nUSER", self.text, re.DOTALL | re.MULTILINE).group(1)
        settings = re.sub(r"#.*", "", variables).replace("\\", " ").split()
        check = json.loads(re.search(r"HEALTHCHECK .*?CMD (\[.*?\])\n", self.text, re.DOTALL).group(1))
        script = f"""
            set -e
            mount --bind {root} {root} && mount -o remount,ro,bind {root}
            mount -t tmpfs tmpfs {root}/tmp && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev
            mount --bind {place.folder} {root}/mnt
            ip link set lo up
            enter="chroot --userspec=10001:10001 {root} env -i {' '.join(settings)}"
            inside() {{ $enter "$@"; }}
            ! inside touch /opt/kirie/x 2>/dev/null
            test "$(inside id -u)" = 10001
            ! inside ldd /opt/kirie/kirie | grep 'not found'
            inside kirie segment /opt/photo.jpg --point 920,560 --json >{place.folder}/inside.json
            check() {{ inside {' '.join("'" + word + "'" for word in check)}; }}
            for role in encoder decoder gateway; do
                ! check 2>/dev/null
                options="--metrics-port 9100"; [ $role != gateway ] || options="--listen 127.0.0.1:8080"
                $enter kirie $role --redis unix:///mnt/redis.sock $options &
                until check 2>/dev/null; do kill -0 $!; sleep 0.1; done
                kill -TERM $!; wait $!
            done
            """
        place.start("unshare", "--mount", "--net", "bash", "-c", script, name="image")
        self.assertEqual(place.processes[-1].wait(cluster.PATIENCE), 0, place.log("image"))
        outside = json.loads(run(gateway.program(), "segment", gateway.PHOTO, "--point", "920,560", "--json"))
        inside = json.loads((place.folder / "inside.json").read_text())
        self.assertEqual(inside["masks"], outside["masks"])


class Compose(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = cluster.Place(cls)
        cls.deploy = cls.place.folder / "deploy"
        shutil.copytree(DEPLOY, cls.deploy, ignore=shutil.ignore_patterns("secrets", "*.jpg"))
        shutil.copy(DEPLOY / "secrets", cls.deploy)
        cls.secrets = cls.deploy / "compose" / "secrets"
        run(DEPLOY / "secrets", cls.secrets, env={**os.environ, "KIRIE": gateway.program()})
        cls.file = cls.deploy / "compose" / "compose.yaml"
        cls.config = json.loads(run("docker-compose", "-f", cls.file, "config", "--format", "json"))
        cls.services = cls.config["services"]

    def test_the_schema_and_the_tool_take_it(self):
        run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose" / "compose.yaml")
        self.assertEqual(
            set(self.services), {"redis", "prepare", "encoder", "decoder", "gateway", "prometheus", "grafana"})

    def test_prometheus_and_grafana_find_their_files(self):
        folder = self.place.folder / "etc"
        folder.mkdir()
        text = (DEPLOY / "compose" / "prometheus.yml").read_text()
        (folder / "prometheus.yml").write_text(text.replace("/run/secrets", str(self.secrets)))
        shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
        run("promtool", "check", "config", folder / "prometheus.yml")
        # The jobs that the alerts and the dashboard speak of.
        jobs = {job["job_name"] for job in yaml.safe_load(text)["scrape_configs"]}
        self.assertEqual(jobs, {"kirie-gateway", "kirie-encoder", "kirie-decoder"})
        for name in jobs:
            self.assertIn(name.removeprefix("kirie-"), self.services)
        mounts = {v["target"]: v["source"] for v in self.services["grafana"]["volumes"] if v["type"] == "bind"}
        provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards.yml").read_text())["providers"][0]
        board = f"{provider['options']['path']}/kirie.json"
        self.assertEqual(json.loads(pathlib.Path(mounts[board]).read_text())["title"], "Kirie")
        self.assertEqual(self.services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"], board)
        for source in mounts.values():
            self.assertTrue(os.path.isfile(source), source)

    def test_flags_exist_and_a_drain_has_its_time(self):
        for name in ["prepare", *ROLES]:
            command = self.services[name]["command"]
            self.assertLessEqual(set(words(command)), cluster.flags(*(["gateway", "serve"] if name == "gateway"
                                                                     else command[:1])), name)
            if name in ROLES:
                self.assertGreaterEqual(
                    seconds(self.services[name]["stop_grace_period"]), drain_limit(command) + MARGIN[name], name)

    def test_nothing_has_more_rights_than_it_needs(self):
        for name, service in self.services.items():
            self.assertTrue(service["read_only"], name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertIn("no-new-privileges:true", service["security_opt"], name)
            self.assertNotIn(":latest", service["image"].replace("kirie:latest", ""), name)
            for port in service.get("ports", []):
                self.assertEqual(port["host_ip"], "127.0.0.1", name)
            if "ports" not in service:
                self.assertEqual(list(service["networks"]), ["cluster"], name)
        self.assertTrue(self.config["networks"]["cluster"]["internal"])

    def test_its_commands_make_a_cluster(self):
        """Redis with its settings and users, and each role's own command under its user."""
        place = cluster.Place(self)
        port = gateway.free_port()
        command = self.services["redis"]["command"]
        paths = {"/etc/kirie/redis.conf": DEPLOY / "redis" / "kirie.conf",
                 "/run/secrets/users.acl": self.secrets / "users.acl", "/data": place.folder}
        place.start(*[paths.get(word, word) for word in command], "--port", port, "--bind", "127.0.0.1")
        ping = self.services["redis"]["healthcheck"]["test"][1].replace("redis-cli", f"redis-cli -p {port}")
        until(lambda: subprocess.run(["sh", "-c", ping]).returncode == 0, "Redis is healthy")
        self.assertIn("NOPERM", run("redis-cli", "-p", port, "get", "kirie:cluster"))
        ports = {}

        def command_of(name):
            service = self.services[name]
            environment = {
                key: value.replace("redis:6379", f"127.0.0.1:{port}") for key, value in service["environment"].items()}
            arguments = []
            for word in service["command"]:
                if word == "9100" or word.endswith(":8080"):
                    ports[name] = gateway.free_port()
                    word = word.replace("9100", str(ports[name])).replace("0.0.0.0:8080", f"127.0.0.1:{ports[name]}")
                arguments.append(word.replace("/run/secrets", str(self.secrets)))
            return arguments, environment

        arguments, environment = command_of("prepare")
        run(gateway.program(), *arguments, env={**os.environ, **environment})
        run(gateway.program(), *arguments, env={**os.environ, **environment})
        made = run(gateway.program(), "gateway", "key", "people", ok=(0,))
        with open(self.secrets / "keys.jsonl", "a") as keys:
            keys.write(made)
        started = []
        for name in ROLES:
            arguments, environment = command_of(name)
            started.append(place.kirie(*arguments, environment=environment))
            check = self.services[name]["healthcheck"]["test"][1:]
            check = [re.sub(r":(9100|8080)", f":{ports[name]}", word) for word in check]
            until(lambda: subprocess.run(check, capture_output=True).returncode == 0, f"{name}: {place.log(name)}")
        # The key of the made line is known to nobody; Prometheus's is.
        key = (self.secrets / "prometheus.key").read_text()
        url = f"http://127.0.0.1:{ports['gateway']}"
        head = {"Authorization": f"Bearer {key}", "Host": "gateway:8080"}
        status, text = cluster.ask(url + "/metrics", headers=head)
        self.assertEqual(status, 200)
        self.assertIn("kirie_redis_up 1", text)
        _, environment = command_of("prepare")
        password = dict(line.split("=") for line in (self.secrets / "submitter.env").read_text().split())
        answer = json.loads(run(
            gateway.program(), "submit", gateway.PHOTO, "--point", "920,560", "--wait", "--redis",
            f"redis://submitter@127.0.0.1:{port}", env={**os.environ, **password}))
        alone = json.loads(run(gateway.program(), "segment", gateway.PHOTO, "--point", "920,560", "--json"))
        self.assertEqual([mask["segmentation"] for mask in answer["masks"]],
                         [mask["segmentation"] for mask in alone["masks"]])
        for process in started:
            self.assertEqual(place.stop(process), 0)


class Systemd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.units = sorted(DEPLOY.glob("systemd/kirie*.service"))
        assert len(cls.units) == 4, cls.units

    def test_units_are_sound(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="kirie-units-"))
        self.addCleanup(shutil.rmtree, folder)
        for unit in [*self.units, DEPLOY / "systemd" / "kirie.target"]:
            # systemd-analyze looks whether the program is there; on an operator's machine it stands where the units say.
            (folder / unit.name).write_text(unit.read_text().replace("/opt/kirie/kirie", gateway.program()))
        done = subprocess.run(["systemd-analyze", "verify", *folder.iterdir()], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_exposure_is_under_three(self):
        for unit in self.units:
            text = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit, ok=(0, 1))
            level = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", text).group(1))
            self.assertLess(level, 3, unit.name)

    def test_a_drain_has_its_time_and_flags_exist(self):
        for unit in self.units:
            text = cluster.without_comments(unit)
            command = re.search(r"^ExecStart=/opt/kirie/kirie (.*)$", text, re.MULTILINE).group(1).split()
            self.assertLessEqual(set(words(command)), cluster.flags(*command[:1], *(["serve"] if command[0] == "gateway"
                                                                                  else [])), unit.name)
            if command[0] in ROLES:
                stop = float(re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE).group(1))
                self.assertGreaterEqual(stop, drain_limit(command) + MARGIN[command[0]], unit.name)

    def test_each_role_says_when_it_is_ready_alive_and_ending_under_its_unit_s_filter(self):
        place = cluster.Place(self)
        _, address = place.redis()
        (place.folder / "keys.jsonl").write_text(run(gateway.program(), "gateway", "key", "people"))
        values = {}
        for line in (DEPLOY / "systemd" / "kirie.env").read_text().splitlines():
            if line and not line.startswith("#"):
                name, values[name] = line.split("=")[0], line.partition("=")[2]
        for unit in self.units:
            text = cluster.without_comments(unit)
            command = re.search(r"^ExecStart=/opt/kirie/kirie (.*)$", text, re.MULTILINE).group(1)
            command = re.sub(r"redis://\w+@\$\{KIRIE_REDIS_ADDRESS\}", address, command)
            command = re.sub(r"\$\{?(\w+)\}?", lambda name: values[name.group(1)], command)
            command = command.replace("%d", str(place.folder)).replace("910%i", "0").replace("9100", "0")
            command = command.replace("127.0.0.1:8080", f"127.0.0.1:{gateway.free_port()}").split()
            receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.addCleanup(receiver.close)
            receiver.settimeout(cluster.PATIENCE)
            receiver.bind(str(place.folder / f"{unit.stem}.notify"))
            process = place.start(
                "/usr/bin/python3", pathlib.Path(__file__).with_name("confined.py"), unit, gateway.program(), *command,
                name=unit.stem, env={**os.environ, "NOTIFY_SOCKET": receiver.getsockname(), "WATCHDOG_USEC": "200000"})
            if "Type=notify" not in text:
                self.assertEqual(process.wait(cluster.PATIENCE), 0, place.log(unit.stem))
                continue
            heard = ""
            while "READY=1" not in heard or "WATCHDOG=1" not in heard.split("READY=1")[1]:
                heard += receiver.recv(4096).decode() + "\n"
            self.assertIn("WatchdogSec=", text)
            process.terminate()
            while "STOPPING=1" not in heard:
                heard += receiver.recv(4096).decode() + "\n"
            self.assertEqual(process.wait(cluster.PATIENCE), 0, place.log(unit.stem))


if __name__ == "__main__":
    unittest.main()
