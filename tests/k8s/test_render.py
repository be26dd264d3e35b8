"""The chart through a real Helm: it lints, renders, and what it renders is what Kubernetes would accept."""

from __future__ import annotations

import json

import kubernetes_validate
import pytest
import yaml

from tests.k8s.charts import CHART, NAMESPACE, RELEASE, ROOT, VARIANTS, file_of, find, options, render, run_helm
from tests.k8s.lint import containers_of, pod_of, problems

VERSIONS = ("1.31.0", "1.33.0", "1.34.0", "1.35.0", "1.36.0")
"""The oldest that Chart.yaml admits, and those that are maintained."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_lint_finds_nothing(variant: str) -> None:
    ended = run_helm("lint", "--strict", str(CHART), *options(variant))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "[WARNING]" not in ended.stdout and "[ERROR]" not in ended.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_document_is_valid_to_the_letter(variant: str, version: str) -> None:
    documents = render(variant, version=version)
    for document in documents:
        kubernetes_validate.validate(document, version.rpartition(".")[0], strict=True)
    kinds = {document["kind"] for document in documents}
    assert {"Deployment", "Service", "ServiceAccount", "Role", "NetworkPolicy", "ConfigMap"} <= kinds


def test_the_check_above_notices_what_is_wrong() -> None:
    document = find(render("kind"), "Deployment", "code")
    document["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="resource"):
        kubernetes_validate.validate(document, "1.34", strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_rule_of_ours_is_kept(variant: str) -> None:
    assert problems(render(variant)) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_are_unique_and_everything_lies_in_the_release_s_namespace(variant: str) -> None:
    documents = render(variant)
    keys = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(keys)) == len(keys)
    assert {document["metadata"].get("namespace", NAMESPACE) for document in documents} == {NAMESPACE}
    assert all(name.startswith(RELEASE) for _, name in keys)


def test_a_long_release_name_still_gives_names_that_are_allowed() -> None:
    ended = run_helm("template", "a" * 53, str(CHART), *options("everything"))
    assert problems([document for document in yaml.safe_load_all(ended.stdout) if document]) == []


def test_an_image_with_a_digest_is_taken_by_it() -> None:
    digest = "sha256:" + "a" * 64
    pod = pod_of(find(render("kind", f"image.code.digest={digest}"), "Deployment", "daemon"))
    assert pod is not None
    assert [container["image"] for container in containers_of(pod)] == [f"internvid/code@{digest}"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            ["storage.mediaRoot=s3://bkt/m", "storage.lakeData=s3://bkt/l"],
            "postgres.host: the address of your PostgreSQL",
        ),
        (["postgres.host=db", "storage.lakeData=s3://bkt/l"], "storage.mediaRoot: an s3:// prefix"),
        (["postgres.host=db", "storage.mediaRoot=s3://bkt/m"], "storage.lakeData: an s3:// prefix"),
        ([*VARIANTS["defaults"][1], "secret.existing="], "secret.existing: name the Secret"),
        ([*VARIANTS["defaults"][1], "steps.assets.clips\\.clips=huge"], "there is no class"),
        ([*VARIANTS["defaults"][1], "ingress.enabled=true"], "ingress.host: the name"),
        ([*VARIANTS["defaults"][1], "steps.launchers={trainer}"], "steps.launchers"),
        ([*VARIANTS["defaults"][1], "webserver.replica=2"], "'replica' not allowed"),
        ([*VARIANTS["defaults"][1], "image.code.tag=latest"], "image/code/tag"),
        ([*VARIANTS["defaults"][1], "runs.maxConcurrent=0"], "runs/maxConcurrent"),
        ([*VARIANTS["defaults"][1], "storage.mediaRoot=/data"], "storage/mediaRoot"),
        ([*VARIANTS["defaults"][1], "steps.classes.model.image=cuda"], "steps/classes/model/image"),
        ([*VARIANTS["defaults"][1], "backup.schedule=daily"], "backup/schedule"),
    ],
)
def test_a_wrong_or_missing_value_is_told_by_name(values: list[str], told: str) -> None:
    sets = [part for value in values for part in ("--set", value)]
    ended = run_helm("template", RELEASE, str(CHART), *sets)
    assert ended.returncode != 0
    assert told in ended.stderr


def test_the_schema_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) == set(yaml.safe_load((CHART / "values.yaml").read_text())) | {"global"}


def test_no_value_of_the_secret_is_in_a_config_map() -> None:
    documents = render("kind")
    [secret] = [document for document in documents if document["kind"] == "Secret"]
    assert set(secret["stringData"]) == {
        "PGPASSWORD", "INTERNVID_S3__ACCESS_KEY_ID", "INTERNVID_S3__SECRET_ACCESS_KEY",
    }  # fmt: skip
    others = json.dumps([document for document in documents if document["kind"] != "Secret"])
    assert [name for name, value in secret["stringData"].items() if value in others] == []
    assert not [document for document in render("gpu") if document["kind"] == "Secret"], "production brings its own"


def test_the_readme_of_values_files_is_what_is_there() -> None:
    manual = (ROOT / "docs" / "kubernetes.md").read_text()
    for file in CHART.glob("values*.yaml"):
        assert file.name in manual, f"docs/kubernetes.md does not say what {file.name} is for"


@pytest.mark.parametrize("variant", VARIANTS)
def test_network_policies_choose_pods_of_ours(variant: str) -> None:
    documents = render(variant)
    own = [pod["metadata"]["labels"] for pod in map(pod_of, documents) if pod]
    launched = file_of(documents, "instance", "dagster.yaml")["run_launcher"]["config"]["labels"]
    training = {"app.kubernetes.io/name": "internvid", "app.kubernetes.io/component": "training"}
    for document in documents:
        if document["kind"] == "NetworkPolicy":
            peers = [peer for rule in document["spec"].get("ingress", []) for peer in rule["from"]]
            chosen = [document["spec"], *(peer for peer in peers if "podSelector" in peer)]
            for selector in (part["podSelector"].get("matchLabels", {}) for part in chosen):
                assert any(selector.items() <= labels.items() for labels in [*own, launched, training]), selector


def test_training_pods_carry_the_labels_that_the_policies_choose() -> None:
    manifest = (ROOT / "k8s" / "training" / "job.yaml").read_text()
    labels = yaml.safe_load(manifest)["spec"]["template"]["metadata"]["labels"]
    selector = find(render("kind"), "NetworkPolicy", "training")["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= labels.items()
