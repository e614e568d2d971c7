"""Kubernetes's files: built by kubectl, held against the schemas of Kubernetes and KEDA, and against each other."""

import os
import re
import shutil
import unittest

import yaml

import cluster
from cluster import DEPLOY, gateway, run, until

OVERLAYS = ["trial", "production"]
VERSIONS = ["1.28", "1.32", "1.37"]
# What a role takes to end after SIGTERM, beyond its --drain-limit.
MARGIN = {"encoder": 10, "decoder": 10, "gateway": 5}
# In KEDA since 2.17; the models of its resources that can be had here are of 2.16.
NEWER = {"fallback.behavior"}


def setUpModule():
    global built, folder
    place = cluster.Place(Overlays)
    folder = place.folder / "deploy"
    for name in ["kubernetes", "redis"]:
        shutil.copytree(DEPLOY / name, folder / name, ignore=shutil.ignore_patterns("secrets"))
    built = {}
    for overlay in OVERLAYS:
        path = folder / "kubernetes" / "overlays" / overlay
        run(DEPLOY / "secrets", path / "secrets", env={**os.environ, "KIRIE": gateway.program()})
        text = run("kubectl", "kustomize", path)
        (folder / f"{overlay}.yaml").write_text(text)
        built[overlay] = list(yaml.safe_load_all(text))


def kinds(overlay, *names):
    return [item for item in built[overlay] if item["kind"] in names]


def pods(overlay):
    """Name and template of each workload."""
    return [(item["metadata"]["name"], item["spec"]["template"], item) for item in
            kinds(overlay, "Deployment", "StatefulSet")]


def containers(template):
    return template["spec"].get("initContainers", []) + template["spec"]["containers"]


def fits(selector, labels):
    for name, value in selector.get("matchLabels", {}).items():
        if labels.get(name) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In", rule
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def unknown(value, model, path=""):
    """The fields of a value that a pydantic model does not know."""
    fields = {(field.alias or name): field.annotation for name, field in model.model_fields.items()}
    for name, inner in value.items():
        if name not in fields:
            yield path + name
            continue
        for part in inner if isinstance(inner, list) else [inner]:
            if isinstance(part, dict):
                for found in re.findall(r"[\w.]+", str(fields[name])):
                    kind = getattr(__import__(model.__module__, fromlist=["x"]), found.split(".")[-1], None)
                    if hasattr(kind, "model_fields"):
                        yield from unknown(part, kind, f"{path}{name}.")


class Overlays(unittest.TestCase):
    def test_the_schemas_take_them(self):
        for overlay in OVERLAYS:
            plain = folder / f"{overlay}-plain.yaml"
            plain.write_text(yaml.safe_dump_all(
                item for item in built[overlay] if not item["apiVersion"].startswith("keda.sh")))
            for version in VERSIONS:
                run("kubernetes-validate", "--strict", "-k", version, plain)

    def test_keda_s_models_take_them(self):
        import cloudcoil.models.keda.v1alpha1 as keda

        items = kinds("production", "ScaledObject")
        self.assertEqual(len(items), 2)
        for item in items:
            keda.ScaledObject.model_validate(item)
            self.assertLessEqual(set(unknown(item["spec"], keda.ScaledObjectSpec)), NEWER)

    def test_what_is_named_is_there(self):
        for overlay in OVERLAYS:
            names = {(item["kind"], item["metadata"]["name"]) for item in built[overlay]}
            claims = {claim["metadata"]["name"] for _, _, item in pods(overlay)
                      for claim in item["spec"].get("volumeClaimTemplates", [])}
            for name, template, item in pods(overlay):
                labels = template["metadata"]["labels"]
                self.assertTrue(fits(item["spec"]["selector"], labels), name)
                volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
                for volume in volumes.values():
                    for kind, key, field in [("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")]:
                        if key in volume:
                            self.assertIn((kind, volume[key][field]), names, name)
                for container in containers(template):
                    for mount in container.get("volumeMounts", []):
                        self.assertIn(mount["name"], set(volumes) | claims, name)
                    for source in container.get("envFrom", []):
                        (key, value), = source.items()
                        kind = {"secretRef": "Secret", "configMapRef": "ConfigMap"}[key]
                        self.assertIn((kind, value["name"]), names, name)
            templates = [template["metadata"]["labels"] for _, template, _ in pods(overlay)]
            for item in kinds(overlay, "PodDisruptionBudget"):
                self.assertEqual(sum(fits(item["spec"]["selector"], labels) for labels in templates), 1,
                                 item["metadata"]["name"])
            ports = {port["name"] for _, template, _ in pods(overlay) for container in containers(template)
                     for port in container.get("ports", [])}
            for item in kinds(overlay, "Service"):
                self.assertEqual(sum(fits({"matchLabels": item["spec"]["selector"]}, labels) for labels in templates), 1)
                for port in item["spec"]["ports"]:
                    self.assertIn(port["targetPort"], ports)
            for item in kinds(overlay, "NetworkPolicy"):
                self.assertTrue(any(fits(item["spec"]["podSelector"], labels) for labels in templates))
                for rule in item["spec"].get("ingress", []) + item["spec"].get("egress", []):
                    for port in rule.get("ports", []):
                        self.assertTrue(port["port"] in ports or port["port"] in [53, 6379], port)
            settings, = [item["data"] for item in kinds(overlay, "ConfigMap") if "KIRIE_MODEL" in item["data"]]
            host, port = settings["KIRIE_REDIS_ADDRESS"].split(":")
            service, = [item for item in kinds(overlay, "Service") if item["metadata"]["name"] == host]
            self.assertEqual(service["spec"]["ports"][0]["port"], int(port))

    def test_commands_are_understood_and_their_variables_set(self):
        for overlay in OVERLAYS:
            settings, = [item["data"] for item in kinds(overlay, "ConfigMap") if "KIRIE_MODEL" in item["data"]]
            for name, template, _ in pods(overlay):
                for container in containers(template):
                    if "kirie" not in container["image"]:
                        continue
                    command = container["args"]
                    known = cluster.flags(*(["gateway", "serve"] if command[0] == "gateway" else command[:1]))
                    used = {word.split("=")[0] for word in command if word.startswith("--")}
                    self.assertLessEqual(used, known, name)
                    variables = set(re.findall(r"\$\((\w+)\)", " ".join(command)))
                    given = set(settings) | {entry["name"] for entry in container.get("env", [])}
                    self.assertLessEqual(variables, given, name)

    def test_a_drain_has_its_time(self):
        for overlay in OVERLAYS:
            for name, template, _ in pods(overlay):
                for container in template["spec"]["containers"]:
                    if "kirie" not in container["image"]:
                        continue
                    role = container["args"][0]
                    limit = float(re.search(r"--drain-limit=(\d+)", " ".join(container["args"])).group(1))
                    hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
                    self.assertGreaterEqual(
                        template["spec"]["terminationGracePeriodSeconds"], float(hook[1]) + limit + MARGIN[role], name)

    def test_probes_tell_loading_from_dead(self):
        for overlay in OVERLAYS:
            for name, template, _ in pods(overlay):
                for container in template["spec"]["containers"]:
                    paths = {kind: container[kind].get("httpGet", {}).get("path")
                             for kind in ["startupProbe", "livenessProbe", "readinessProbe"]}
                    if "kirie" in container["image"]:
                        self.assertEqual(list(paths.values()), ["/healthz", "/healthz", "/readyz"], name)
                    else:
                        self.assertIn("LOADING", container["livenessProbe"]["exec"]["command"][2])
                        self.assertNotIn("LOADING", container["readinessProbe"]["exec"]["command"][2])

    def test_nothing_has_more_rights_than_it_needs(self):
        for overlay in OVERLAYS:
            for name, template, _ in pods(overlay):
                spec = template["spec"]
                self.assertFalse(spec["automountServiceAccountToken"], name)
                self.assertTrue(spec["securityContext"]["runAsNonRoot"], name)
                self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"}, name)
                for container in containers(template):
                    context = container["securityContext"]
                    self.assertTrue(context["readOnlyRootFilesystem"], name)
                    self.assertFalse(context["allowPrivilegeEscalation"], name)
                    self.assertEqual(context["capabilities"], {"drop": ["ALL"]}, name)
                    self.assertIn("memory", container["resources"]["limits"], name)
                    self.assertIn("cpu", container["resources"]["requests"], name)

    def test_the_image_s_user_is_the_pods(self):
        user = re.search(r"^USER (\d+):(\d+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE).groups()
        for name, template, _ in pods("trial"):
            if name != "kirie-redis":
                context = template["spec"]["securityContext"]
                self.assertEqual((str(context["runAsUser"]), str(context["runAsGroup"])), user)


class Scaling(unittest.TestCase):
    """KEDA's numbers against a real cluster, by way of a real Prometheus: from none, and to none."""

    def test_one_job_wakes_each_role_and_none_holds_it(self):
        place = cluster.Place(self)
        server, address = place.redis("--maxmemory-policy", "volatile-lru")
        run(gateway.program(), "queues", "--json", "--partitions", "16", "--redis", address)
        metrics = {role: gateway.free_port() for role in ["encoder", "decoder"]}
        listen = f"127.0.0.1:{gateway.free_port()}"
        triggers = {}
        for item in kinds("production", "ScaledObject"):
            spec = item["spec"]
            self.assertEqual(spec["minReplicaCount"], 0)
            trigger, = spec["triggers"]
            triggers[item["metadata"]["name"].removeprefix("kirie-")] = trigger["metadata"]
            target, = [each for name, _, each in pods("production") if name == spec["scaleTargetRef"]["name"]]
            self.assertNotIn("replicas", target["spec"])
        workers = {}

        def start(role):
            workers[role] = place.kirie(role, "--threads", "1", "--metrics-port", metrics[role], redis=address)
            until(lambda: cluster.ask(f"http://127.0.0.1:{metrics[role]}/readyz")[0] == 200, f"{role} is ready")

        # The cluster's usual model is known from those who served it.
        for role in ["encoder", "decoder"]:
            start(role)
            self.assertEqual(place.stop(workers[role]), 0)
        place.kirie("gateway", "serve", "--listen", listen, "--scale-from-zero", redis=address)
        until(lambda: cluster.ask(f"http://{listen}/readyz")[0] == 200, "the gateway is ready")
        prometheus = cluster.Prometheus(place, listen)

        def wanted(role):
            """How many KEDA would have: None where it falls back."""
            value = prometheus.value(triggers[role]["query"])
            if value is None:
                return None
            active = value > float(triggers[role]["activationThreshold"])
            return max(1, -(-value // float(triggers[role]["threshold"]))) if active else 0

        def settles(encoders, decoders, what):
            until(lambda: (wanted("encoder"), wanted("decoder")) == (encoders, decoders),
                  lambda: f"{what}: {wanted('encoder')}, {wanted('decoder')}")

        settles(0, 0, "nobody is there, nothing to do")
        line = {"image": {"base64": gateway.base64_of(gateway.picture(7))}, "prompts": [{"points": [[96, 120]]}]}
        status, job = cluster.ask(f"http://{listen}/v1/segment", line, {"Prefer": "wait=0"})
        self.assertIn(status, [201, 202], job)
        settles(1, 0, "the first picture wakes an encoder")
        start("encoder")
        settles(0, 1, "its embedding wakes a decoder")
        place.stop(workers["encoder"])
        start("decoder")
        settles(0, 0, "all is done")
        status, job = cluster.ask(f"http://{listen}/v1/jobs/{job['id']}")
        self.assertEqual((status, job["state"]), (200, "done"))
        # Of five more pictures three encoders are wanted: two each.
        for seed in range(8, 13):
            line["image"] = {"base64": gateway.base64_of(gateway.picture(seed))}
            self.assertIn(cluster.ask(f"http://{listen}/v1/segment", line, {"Prefer": "wait=0"})[0], [201, 202])
        settles(3, 0, "five pictures")
        # Redis is away: unknown is not none.
        place.stop(server)
        settles(None, None, "Redis is away")


if __name__ == "__main__":
    unittest.main()
