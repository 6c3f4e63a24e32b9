"""What etc/ has to deploy srsproxy with fits the package, and each other: Kubernetes, units of systemd, the image."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values
from twisted.internet.task import Clock
from twisted.web.resource import Resource

import srsproxy
from srsproxy.api.system import build_system_site
from srsproxy.api.versions import ProxyIdentity
from srsproxy.config import SETTINGS, Settings
from srsproxy.values import BindAddress, Listener
from tests.balancer.helpers import make_balancer

ROOT = Path(__file__).parent.parent
KUBERNETES = ROOT / "etc/kubernetes"
CLUSTER = ROOT / "etc/cluster"
INSTANCES = {path.stem: path for path in CLUSTER.glob("*.env") if path.stem != "cluster"}

OLDEST = "1.28"
"""The oldest Kubernetes that the manifests are checked for."""

PORTS = {
    "rtmp": ("rtmp_server", "TCP"),
    "http": ("http_server", "TCP"),
    "http-api": ("http_api", "TCP"),
    "system-api": ("system_api", "TCP"),
    "webrtc": ("webrtc_server", "UDP"),
    "srt": ("srt_server", "UDP"),
}
"""The listeners of a proxy by the names of their ports in the manifests: their settings and protocols."""

Manifest = dict[str, Any]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def manifests() -> list[Manifest]:
    """All but what is for kustomize alone."""
    files = sorted(KUBERNETES.glob("*.yaml"))
    found = [one for path in files for one in yaml.safe_load_all(text_of(path))]
    return [one for one in found if one["kind"] != "Kustomization"]


def called(one: Manifest) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def manifest(kind: str, name: str) -> Manifest:
    (found,) = [one for one in manifests() if called(one) == f"{kind}/{name}"]
    return found


def template(deployment: str) -> Manifest:
    """How the pods of a deployment are made."""
    made: Manifest = manifest("Deployment", deployment)["spec"]["template"]
    return made


def container(deployment: str) -> Manifest:
    (only,) = template(deployment)["spec"]["containers"]
    return dict(only)


def selected_by(selector: Mapping[str, str]) -> list[str]:
    """The deployments whose pods have all of these labels."""
    deployments = [one["metadata"]["name"] for one in manifests() if one["kind"] == "Deployment"]
    return [name for name in deployments if selector.items() <= template(name)["metadata"]["labels"].items()]


def configured() -> dict[str, str]:
    """The settings of the proxies in Kubernetes that are not secret."""
    data: dict[str, str] = manifest("ConfigMap", "srsproxy")["data"]
    return data


def secrets() -> dict[str, set[str]]:
    """The names and keys of the secrets that the steps make."""
    steps = text_of(KUBERNETES / "README.rst").replace("\\\n", " ")
    made = re.findall(r"kubectl create secret generic (\S+) (.+)", steps)
    return {name: set(re.findall(r"--from-literal=(\w+)=", rest)) for name, rest in made}


def references(part: Any) -> Iterator[tuple[str, str, str | None]]:
    """What containers take from elsewhere: the kind, the name, and the key if it is one."""
    if isinstance(part, dict):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in part:
                yield kind, part[field]["name"], None
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if field in part:
                yield kind, part[field]["name"], part[field]["key"]
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from references(inner)


def check_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that a proxy has by these variables, each of which is one."""
    settings = Settings.load({}, environ, None)
    assert set(environ) <= {row.environment_name for row in SETTINGS}
    return settings


def address(settings: Settings, name: str) -> BindAddress:
    """Where a listener is, by the name of its port."""
    value = getattr(settings, PORTS[name][0])
    where = value.where if isinstance(value, Listener) else value
    assert isinstance(where, BindAddress)
    return where


# Kubernetes


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("one", manifests(), ids=called)
def test_manifest_is_what_kubernetes_takes(one: Manifest, version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_kustomize_takes_all_manifests_and_the_image_of_this_version() -> None:
    kustomization = yaml.safe_load(text_of(KUBERNETES / "kustomization.yaml"))
    files = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert set(kustomization["resources"]) == files - {"kustomization.yaml"}
    assert kustomization["images"] == [{"name": container("srsproxy")["image"], "newTag": srsproxy.__version__}]
    assert kustomization["namespace"] == manifest("Namespace", "srsproxy")["metadata"]["name"]
    assert len({called(one) for one in manifests()}) == len(manifests())


def test_configuration_of_the_proxies_is_one_for_redis() -> None:
    settings = check_settings(configured())
    assert settings.load_balancer_type == "redis"
    (port,) = manifest("Service", settings.redis_host)["spec"]["ports"]
    assert port["port"] == settings.redis_port
    assert settings.rtc_candidate, "inside a pod, what auto finds is no address for clients"


def test_secrets_are_made_by_the_steps_and_are_in_no_file() -> None:
    by_name = {row.environment_name: row for row in SETTINGS}
    (keys,) = secrets().values()
    assert keys == {"PROXY_CLUSTER_SECRET", "PROXY_REDIS_PASSWORD", "PROXY_REGISTER_TOKEN"}
    assert all(by_name[key].secret for key in keys)
    assert not any(by_name[key].secret for key in configured())
    assert not any(one["kind"] == "Secret" for one in manifests())


def test_what_containers_take_from_elsewhere_is_there() -> None:
    known = {("ConfigMap", one["metadata"]["name"]): set(one["data"]) for one in manifests() if "data" in one}
    known |= {("Secret", name): keys for name, keys in secrets().items()}
    found = list(references(manifests()))
    assert {kind for kind, _name, _key in found} == {"ConfigMap", "Secret"}
    for kind, name, key in found:
        assert key is None or key in known[kind, name]
        assert (kind, name) in known


def test_proxies_know_all_of_redis_password() -> None:
    assert ("Secret", "srsproxy", None) in references(container("srsproxy"))
    assert ("Secret", "srsproxy", "PROXY_REDIS_PASSWORD") in references(container("srsproxy-redis"))
    arguments = container("srsproxy-redis")["args"]
    assert arguments[arguments.index("--requirepass") + 1] == "$(REDIS_PASSWORD)"
    assert [one["name"] for one in container("srsproxy-redis")["env"]] == ["REDIS_PASSWORD"]


def test_ports_of_a_pod_are_its_listeners() -> None:
    settings = Settings.load({}, configured(), None)
    ports = {one["name"]: (one["containerPort"], one.get("protocol", "TCP")) for one in container("srsproxy")["ports"]}
    assert ports == {name: (address(settings, name).port, protocol) for name, (_, protocol) in PORTS.items()}
    assert not any(address(settings, name).host for name in PORTS)


def test_services_lead_to_ports_of_pods() -> None:
    for service in (one for one in manifests() if one["kind"] == "Service"):
        (deployment,) = selected_by(service["spec"]["selector"])
        ports = {one["name"]: one.get("protocol", "TCP") for one in container(deployment)["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port.get("protocol", "TCP"), called(service)


def test_each_protocol_has_one_service_and_only_those_of_clients_are_outside() -> None:
    services = [one for one in manifests() if one["kind"] == "Service" and one["metadata"]["name"] != "srsproxy-redis"]
    outside = [one for one in services if one["spec"].get("type") == "LoadBalancer"]
    names = [port["targetPort"] for one in services for port in one["spec"]["ports"]]
    assert sorted(names) == sorted(PORTS)
    assert {port["targetPort"] for one in outside for port in one["spec"]["ports"]} == PORTS.keys() - {"system-api"}
    assert all(one["spec"]["externalTrafficPolicy"] == "Local" for one in outside)
    assert not any("type" in one["spec"] for one in manifests() if one["kind"] == "Service" and one not in outside)


def test_only_srt_needs_affinity() -> None:
    services = [one for one in manifests() if one["kind"] == "Service"]
    sticky = [one["metadata"]["name"] for one in services if one["spec"].get("sessionAffinity", "None") != "None"]
    assert sticky == ["srsproxy-srt"]


def test_clients_find_webrtc_media_at_the_port_that_they_are_told() -> None:
    settings = Settings.load({}, configured(), None)
    (port,) = manifest("Service", "srsproxy-webrtc")["spec"]["ports"]
    told = [one.port or address(settings, "webrtc").port for one in settings.rtc_candidate]
    assert told == [port["port"]]


def test_selectors_match_the_labels_of_pods() -> None:
    for name in ("srsproxy", "srsproxy-redis"):
        deployment = manifest("Deployment", name)
        assert selected_by(deployment["spec"]["selector"]["matchLabels"]) == [name]
        assert selected_by(manifest("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"]) == [name]
    assert selected_by(manifest("PodDisruptionBudget", "srsproxy")["spec"]["selector"]["matchLabels"]) == ["srsproxy"]
    (spread,) = template("srsproxy")["spec"]["topologySpreadConstraints"]
    assert selected_by(spread["labelSelector"]["matchLabels"]) == ["srsproxy"]


def test_some_proxy_stays_whatever_is_done_to_the_nodes() -> None:
    allowed = manifest("PodDisruptionBudget", "srsproxy")["spec"]["maxUnavailable"]
    deployment = manifest("Deployment", "srsproxy")["spec"]
    assert 0 < allowed < deployment["replicas"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize(("probe", "page"), [("readinessProbe", "Ready"), ("livenessProbe", "Versions")])
def test_probes_ask_the_system_api_for_what_it_has(probe: str, page: str) -> None:
    clock = Clock()
    identity = ProxyIdentity("srsproxy-1", "abc", "4711", srsproxy.__version__)
    node: Resource = build_system_site(clock, make_balancer(clock), "", identity, lambda: None).resource
    asked = container("srsproxy")[probe]["httpGet"]
    for segment in asked["path"].removeprefix("/").split("/"):
        node = node.children[segment.encode()]
    assert type(node).__name__ == page
    assert asked["port"] == "system-api"


def test_kubernetes_waits_longer_than_the_proxy_takes_to_end() -> None:
    settings = Settings.load({}, configured(), None)
    name, seconds = container("srsproxy")["lifecycle"]["preStop"]["exec"]["command"]
    assert name == "sleep"
    probe = container("srsproxy")["readinessProbe"]
    assert int(seconds) > probe["periodSeconds"] * probe["failureThreshold"]
    grace = template("srsproxy")["spec"]["terminationGracePeriodSeconds"]
    assert grace > int(seconds) + settings.force_quit_timeout


@pytest.mark.parametrize("deployment", ["srsproxy", "srsproxy-redis"])
def test_containers_may_do_nothing_that_they_need_not(deployment: str) -> None:
    pod = template(deployment)["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(deployment)["resources"]["limits"]["memory"]
    assert container(deployment)["resources"]["requests"].keys() == {"cpu", "memory"}
    # All ports are above those that only root may use.
    assert all(port["containerPort"] >= 1024 for port in container(deployment)["ports"])


def test_anybody_reaches_what_is_for_clients_and_only_origins_the_system_api() -> None:
    policy = manifest("NetworkPolicy", "srsproxy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    (clients,) = [rule for rule in policy["ingress"] if "from" not in rule]
    (origins,) = [rule for rule in policy["ingress"] if "from" in rule]
    allowed = {(port["port"], port.get("protocol", "TCP")) for port in clients["ports"]}
    assert allowed == {(name, protocol) for name, (_, protocol) in PORTS.items() if name != "system-api"}
    assert origins["ports"] == [{"port": "system-api"}]
    # One peer, for which both must be true; two would be either.
    (peer,) = origins["from"]
    assert peer.keys() == {"namespaceSelector", "podSelector"}
    ((label, value),) = peer["podSelector"]["matchLabels"].items()
    assert f"``{label}: {value}``" in text_of(KUBERNETES / "README.rst")


def test_only_proxies_reach_redis() -> None:
    policy = manifest("NetworkPolicy", "srsproxy-redis")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": "redis"}]
    (peer,) = rule["from"]
    assert peer.keys() == {"podSelector"}
    assert selected_by(peer["podSelector"]["matchLabels"]) == ["srsproxy"]


def test_there_are_never_two_redis_and_streams_are_not_forgotten() -> None:
    deployment = manifest("Deployment", "srsproxy-redis")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    arguments = container("srsproxy-redis")["args"]
    assert arguments[arguments.index("--maxmemory-policy") + 1] == "noeviction"


# Image


def instructions() -> list[tuple[str, str]]:
    """The lines of the Dockerfile: instruction and arguments."""
    text = re.sub(r"^#.*\n", "", text_of(ROOT / "etc/Dockerfile"), flags=re.MULTILINE).replace("\\\n", "")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines()) if name]


def test_image_is_built_of_what_the_repository_has() -> None:
    (*copied, _) = next(rest for name, rest in instructions() if name == "COPY" and "setup.py" in rest).split()
    copied += [
        rest.split()[0]
        for name, rest in instructions()
        if name == "COPY" and rest in ("srsproxy srsproxy", "twisted twisted")
    ]
    assert {"setup.py", "srsproxy", "twisted"} <= set(copied)
    assert all((ROOT / path).exists() for path in copied)
    let_in = [line[1:] for line in text_of(ROOT / "etc/Dockerfile.dockerignore").splitlines() if line.startswith("!")]
    assert sorted(let_in) == sorted(copied)


def test_image_runs_the_proxy_as_the_user_that_kubernetes_runs_it_as() -> None:
    last = dict(instructions())
    pod = template("srsproxy")["spec"]["securityContext"]
    assert last["USER"] == f"{pod['runAsUser']}:{pod['runAsGroup']}"
    assert last["CMD"] == '["/opt/srsproxy/bin/twistd", "--nodaemon", "--pidfile=", "srsproxy"]'
    exposed = {(int(port), protocol.upper()) for port, protocol in re.findall(r"(\d+)/(\w+)", last["EXPOSE"])}
    settings = Settings()
    assert exposed == {(address(settings, name).port, protocol) for name, (_, protocol) in PORTS.items()}


def test_images_are_named_without_a_registry() -> None:
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    images = [container(name)["image"] for name in ("srsproxy", "srsproxy-redis")]
    assert not any("/" in image for image in [*bases, *images])


@pytest.mark.parametrize("place", ["etc/Dockerfile", "etc/kubernetes/README.rst"])
def test_the_image_that_is_built_is_the_one_that_is_run(place: str) -> None:
    assert f"--tag {container('srsproxy')['image']}:{srsproxy.__version__} ." in text_of(ROOT / place)


# Units of systemd


class Unit(NamedTuple):
    """A unit file: the values of each name, by section."""

    values: dict[tuple[str, str], list[str]]

    @classmethod
    def read(cls, path: Path) -> Unit:
        values: dict[tuple[str, str], list[str]] = {}
        section = ""
        for line in text_of(path).splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                name, _, value = line.partition("=")
                values.setdefault((section, name), []).append(value)
        return cls(values)


def instance(name: str) -> dict[str, str]:
    """The environment of an instance of the template, as systemd reads it."""
    (unit,) = CLUSTER.glob("*@.service")
    environ: dict[str, str] = {}
    for path in Unit.read(unit).values["Service", "EnvironmentFile"]:
        source = CLUSTER / Path(path.replace("%i", name)).name
        environ |= {key: value or "" for key, value in dotenv_values(source).items()}
    return environ


def test_the_template_differs_from_the_unit_of_a_single_proxy_only_where_it_must() -> None:
    single = Unit.read(ROOT / "etc/srsproxy.service").values
    many = Unit.read(CLUSTER / "srsproxy@.service").values
    assert single.keys() == many.keys()
    assert {name for name in single if single[name] != many[name]} == {
        ("Unit", "Description"),
        ("Unit", "Wants"),
        ("Unit", "After"),
        ("Service", "EnvironmentFile"),
        ("Service", "StateDirectory"),
        ("Service", "WorkingDirectory"),
    }
    folder = many["Service", "StateDirectory"][0]
    assert "%i" in folder
    assert many["Service", "WorkingDirectory"] == [f"%S/{folder}"]


@pytest.mark.parametrize("name", sorted(INSTANCES))
def test_an_instance_has_settings_that_a_proxy_takes(name: str) -> None:
    settings = check_settings(instance(name))
    assert settings.load_balancer_type == "redis"
    assert f"curl --fail --retry 10 --retry-all-errors http://{settings.system_api}/api/v1/ready" in text_of(
        CLUSTER / "README.rst"
    )


def test_no_two_instances_listen_at_the_same_port() -> None:
    taken = [
        (protocol, address(Settings.load({}, instance(name), None), port).port)
        for name in INSTANCES
        for port, (_, protocol) in PORTS.items()
    ]
    assert len(INSTANCES) >= 2
    assert len(taken) == len(set(taken))


def test_the_steps_install_and_start_all_that_is_there() -> None:
    steps = text_of(CLUSTER / "README.rst")
    started = re.findall(r"systemctl enable --now (.+)", steps)
    assert [sorted(shlex.split(line)) for line in started] == [
        ["redis-server", *(f"srsproxy@{name}" for name in sorted(INSTANCES))]
    ]
    assert "etc/cluster/*.env" in steps
    assert "etc/cluster/srsproxy@.service" in steps


# Documentation


def test_the_user_of_redis_in_the_documentation_may_run_all_that_the_proxies_run() -> None:
    sources = "\n".join(text_of(path) for path in (ROOT / "srsproxy/balancer/redis").glob("*.py"))
    used = set(re.findall(r"redis\.p?call\('([A-Z]+)'", sources))
    used |= set(re.findall(r"""(?:command|\.call)\("([A-Z]+)\"""", sources))
    used |= {"PING", "SELECT"}  # of the login; AUTH is always allowed
    used -= {"SENTINEL"}  # asked of Sentinels
    assert {"EVALSHA", "ZCOUNT", "MGET", "ROLE"} <= used
    described = text_of(ROOT / "docs/cluster.rst").partition("ACL SETUSER")[2].partition("\n\n")[0]
    assert {command.upper() for command in re.findall(r"\+(\w+)", described)} == used
