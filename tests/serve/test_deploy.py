"""What is deployed, checked without Docker and Kubernetes: schemas, names that must agree, metrics that must be there.

compose_spec.json is the Compose Specification's own, as the package docker-compose 1.29.2 carries it (Apache-2.0).
"""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from fastapi.testclient import TestClient

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana" / "isthmus.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text())

OF_PROMETHEUS = {"up"}
NAMED = {"type": "object", "required": ["name"], "additionalProperties": False}
# The part of ray.io/v1 RayService that is used here, after the KubeRay API reference (ray-operator/apis/ray/v1).
RAY_SERVICE: dict[str, Any] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayService"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["serveConfigV2", "rayClusterConfig"],
            "additionalProperties": False,
            "properties": {
                "serveConfigV2": {"type": "string"},
                "rayClusterConfig": {
                    "type": "object",
                    "required": ["headGroupSpec"],
                    "additionalProperties": False,
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "headGroupSpec": {
                            "type": "object",
                            "required": ["template"],
                            "additionalProperties": False,
                            "properties": {
                                "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
                                "template": {"$ref": "#/$defs/template"},
                            },
                        },
                    },
                },
            },
        },
    },
    "$defs": {
        "template": {
            "type": "object",
            "required": ["spec"],
            "additionalProperties": False,
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["containers"],
                    "additionalProperties": False,
                    "properties": {
                        "securityContext": {"type": "object"},
                        "initContainers": {"type": "array", "items": {"$ref": "#/$defs/container"}},
                        "containers": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/container"}},
                        "volumes": {
                            "type": "array",
                            "items": NAMED
                            | {
                                "maxProperties": 2,
                                "properties": {
                                    "name": {"type": "string"},
                                    "emptyDir": {"type": "object"},
                                    "secret": {"type": "object", "required": ["secretName"]},
                                    "persistentVolumeClaim": {"type": "object", "required": ["claimName"]},
                                },
                            },
                        },
                    },
                }
            },
        },
        "container": NAMED
        | {
            "required": ["name", "image"],
            "properties": {
                "name": {"type": "string"},
                "image": {"type": "string"},
                "command": {"type": "array", "items": {"type": "string"}},
                "env": {
                    "type": "array",
                    "items": NAMED | {"properties": {"name": {"type": "string"}, "value": {"type": "string"}}},
                },
                "ports": {
                    "type": "array",
                    "items": NAMED | {"properties": {"name": {}, "containerPort": {"type": "integer"}}},
                },
                "resources": {"type": "object"},
                "volumeMounts": {
                    "type": "array",
                    "items": NAMED
                    | {"properties": {"name": {}, "mountPath": {"pattern": "^/"}, "readOnly": {"type": "boolean"}}},
                },
            },
        },
    },
}


def queries() -> list[tuple[str, str]]:
    panels = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return panels + [(rule["alert"], rule["expr"]) for rule in ALERTS]


def metrics_in(query: str) -> set[str]:
    """The metric names of a PromQL query: what is a word and neither function, keyword, label nor text."""
    bare = re.sub(r'"[^"]*"', "", query)
    bare = re.sub(r"\b(by|without)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    return set(re.findall(r"\b([a-z_]+)\b(?!\s*\()", bare)) - {"and", "or", "unless"}


def test_compose_fits_the_specification():
    schema = json.loads((Path(__file__).parent / "compose_spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(COMPOSE)
    assert set(COMPOSE["services"]) == {"neo4j", "isthmus", "prometheus", "grafana"}
    assert "profiles" not in COMPOSE["services"]["neo4j"], "make neo4j starts it alone"


def test_compose_opens_nothing_beyond_this_machine_and_mounts_what_is_there():
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./deploy"):
                assert (ROOT / source).exists(), source
            elif not source.startswith("."):
                assert source in COMPOSE["volumes"]


def test_every_query_names_a_metric_and_labels_that_the_server_has(client: TestClient):
    client.post("/v1/recommendations", json={"user_id": "user:a"})
    client.post("/v1/events", json={"events": [{}]})
    page = client.get("/metrics").text
    names = {re.split(r"[{ ]", line)[0] for line in page.splitlines() if not line.startswith("#")}
    for where, query in queries():
        named = metrics_in(query)
        assert named, where
        assert named <= names | OF_PROMETHEUS, (where, named - names)
        grouped = re.findall(r"by\s*\(([^)]*)\)", query)
        labels = set(re.findall(r"[{,]\s*([a-z_]+)\s*(?:=|!)", query))
        labels |= {label.strip() for group in grouped for label in group.split(",")}
        for label in labels - {"job"}:
            assert re.search(rf"(?:{'|'.join(named)}){{[^}}]*\b{label}=", page), (where, label)


def test_every_alarm_is_in_the_runbook():
    for rule in ALERTS:
        assert f"### {rule['alert']}\n" in RUNBOOK, rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_prometheus_reads_the_alarms_and_has_a_key():
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert all((DEPLOY / "prometheus" / file).is_file() for file in configuration["rule_files"])
    (job,) = configuration["scrape_configs"]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["prometheus"]["volumes"]]
    assert job["authorization"]["credentials_file"] in mounted
    assert job["static_configs"][0]["targets"] == ["isthmus:8000"]


def test_the_dashboard_asks_the_data_source_that_is_provisioned():
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    (provider,) = yaml.safe_load((folder / "dashboards" / "isthmus.yml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/isthmus.json" in mounted


def test_kustomize_lists_every_resource_there_is():
    folder = DEPLOY / "kuberay"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in folder.glob("*.yaml")} == {"kustomization.yaml", *listed}


def test_the_ray_service_fits_its_schema_and_ray_serves_own():
    with warnings.catch_warnings(action="ignore"):
        from ray.serve.schema import ServeDeploySchema

    service = yaml.safe_load((DEPLOY / "kuberay" / "rayservice.yaml").read_text())
    jsonschema.validate(service, RAY_SERVICE)
    pod = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    claim = yaml.safe_load((DEPLOY / "kuberay" / "storage.yaml").read_text())
    assert {"persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}, "name": "var"} in pod["volumes"]
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    (application,) = config.applications
    module, _, function = application.import_path.partition(":")
    assert f"def {function}(args" in (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert [deployment.name for deployment in application.deployments] == ["Replica"]


def test_the_image_has_every_package_of_the_server():
    packages = set(re.findall(r"^COPY (\w+) \w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert packages == {"graph", "models", "ingest", "train", "serve", "isthmus_client"}
