"""What a pod's process sees: its environment, its volumes, its host name and a root that it cannot write."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.kubesim.objects import Object, Objects

_BASE_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


class NotReady(Exception):
    """Why a container cannot be made yet, by the kubelet's reason."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def why_no_namespaces() -> str | None:
    """Why processes cannot get host names and mounts of their own here; None: they can."""
    if os.getuid() != 0:
        return "the kubelet needs root to give each pod its own host name and mounts"
    command = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "none", "/mnt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"unshare does not work here: {done.stderr.strip()}"


class Container:
    """Makes containers; the image is this machine's root with `image_environment`."""

    def __init__(self, objects: Objects, folder: Path, image_environment: dict[str, str], isolated: bool):
        self._objects, self._folder, self._image, self.isolated = objects, folder, image_environment, isolated
        self.forked: tuple[str, str] | None = None
        """Script and socket of a `zygote`, in whose forks `dagster` runs."""
        for name in ("claims", "pods"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").touch()

    def prepare(self, pod: Object) -> tuple[list[str], dict[str, str]]:
        """The command that runs the container, and its environment. Raises: NotReady."""
        spec, metadata = pod["spec"], pod["metadata"]
        [container] = spec["containers"]
        environment = {**self._image, "HOSTNAME": host_name(pod), **self._environment(pod, container)}
        command = [*container.get("command", []), *container.get("args", [])]
        if not self.isolated:
            forked = self.forked is not None and command[0] == "dagster"
            return ([sys.executable, "-S", *self.forked, *command] if forked and self.forked else command), environment
        folder = self._folder / "pods" / metadata["uid"]
        folder.mkdir(exist_ok=True)
        mounts = [(self._volume(pod, name), path) for name, path in _mounts(container)]
        self.write_hosts(pod, {})
        security = spec.get("securityContext") or {}
        user = security.get("runAsUser", 0)
        lines = ["set -e", "mount -t tmpfs -o mode=755 tmpfs /mnt", *_open_python()]
        for source, target in mounts:
            _share(source, security.get("fsGroup"))
            lines += [
                f"mkdir -p {shlex.quote(target)}",
                f"mount --bind {shlex.quote(str(source))} {shlex.quote(target)}",
            ]
        lines += [
            f"mount --bind {folder / 'hosts'} /etc/hosts",
            f"mount --bind {self._folder / 'resolv.conf'} /etc/resolv.conf",
            f"hostname {shlex.quote(host_name(pod))}",
        ]
        if (container.get("securityContext") or {}).get("readOnlyRootFilesystem"):
            lines.append("mount -o remount,ro,bind /")
        drop = f"setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --" if user else ""
        lines.append(f"exec {drop} {shlex.join(command)}")
        (folder / "run.sh").write_text("\n".join(lines) + "\n")
        unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*unshare, "bash", str(folder / "run.sh")], environment

    def write_hosts(self, pod: Object, names: dict[str, str]) -> None:
        """The pod's hosts file: its own name, and the names that the cluster's Services give. Rewritten in place."""
        path = self._folder / "pods" / pod["metadata"]["uid"] / "hosts"
        own = f"{pod['status'].get('podIP', '127.0.0.1')} {host_name(pod)}\n"
        text = _BASE_HOSTS + own + "".join(f"{ip} {name}\n" for name, ip in sorted(names.items()))
        if path.parent.exists() and (not path.exists() or path.read_text() != text):
            path.touch()
            with path.open("r+") as file:
                file.write(text)
                file.truncate()

    def claim_folder(self, name: str) -> Path:
        """What a volume claim holds."""
        return self._folder / "claims" / name

    def _environment(self, pod: Object, container: Object) -> dict[str, str]:
        values: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            for kind, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
                if kind in source:
                    values.update(self._data(pod, plural, source[kind]["name"]))
        for variable in container.get("env") or []:
            source = variable.get("valueFrom")
            values[variable["name"]] = self._resolved(pod, source) if source else variable.get("value", "")
        return values

    def _resolved(self, pod: Object, source: Object) -> str:
        if "fieldRef" in source:
            return str(_field(pod, source["fieldRef"]["fieldPath"]))
        for kind, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            if kind in source:
                data = self._data(pod, plural, source[kind]["name"])
                if source[kind]["key"] not in data:
                    raise NotReady("CreateContainerConfigError", f"couldn't find key {source[kind]['key']} in {plural}")
                return data[source[kind]["key"]]
        raise NotReady("CreateContainerConfigError", f"the stand-in does not know {sorted(source)}")

    def _data(self, pod: Object, plural: str, name: str) -> dict[str, str]:
        """Of a Secret or ConfigMap."""
        found = self._objects.find(plural, pod["metadata"]["namespace"], name)
        if found is None:
            raise NotReady("CreateContainerConfigError", f'{plural.removesuffix("s")} "{name}" not found')
        data = found.get("data", {})
        return {k: base64.b64decode(v).decode() for k, v in data.items()} if plural == "secrets" else data

    def _volume(self, pod: Object, name: str) -> Path:
        """The folder behind a volume."""
        [volume] = [one for one in pod["spec"]["volumes"] if one["name"] == name]
        if "persistentVolumeClaim" in volume:
            folder = self.claim_folder(volume["persistentVolumeClaim"]["claimName"])
            if not folder.exists():
                raise NotReady("ContainerCreating", f'persistentvolumeclaim "{folder.name}" not found')
            return folder
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        folder = self._folder / "pods" / pod["metadata"]["uid"] / f"volume-{name}"
        folder.mkdir(exist_ok=True)
        for kind, plural, key in (("secret", "secrets", "secretName"), ("configMap", "configmaps", "name")):
            if kind in volume:
                for file, text in self._data(pod, plural, volume[kind][key]).items():
                    (folder / file).write_text(text)
        return folder

    def forget(self, uid: str) -> None:
        """Drop a pod's folders."""
        shutil.rmtree(self._folder / "pods" / uid, ignore_errors=True)


def host_name(pod: Object) -> str:
    return pod["spec"].get("hostname") or pod["metadata"]["name"]


def service_names(objects: Objects) -> dict[str, dict[str, str]]:
    """Namespace to the names that headless Services give to pods, and their addresses."""
    names: dict[str, dict[str, str]] = {}
    for pod in objects.each("pods"):
        spec, metadata, ip = pod["spec"], pod["metadata"], pod["status"].get("podIP")
        if not ip or not spec.get("subdomain") or pod["status"]["phase"] in ("Succeeded", "Failed"):
            continue
        service = objects.find("services", metadata["namespace"], spec["subdomain"])
        if service is None or service["spec"].get("clusterIP") != "None" or not _selects(service, pod):
            continue
        base = f"{host_name(pod)}.{spec['subdomain']}"
        for suffix in ("", f".{metadata['namespace']}", f".{metadata['namespace']}.svc.cluster.local"):
            names.setdefault(metadata["namespace"], {})[base + suffix] = ip
    return names


def _selects(service: Object, pod: Object) -> bool:
    wanted, labels = service["spec"].get("selector") or {}, pod["metadata"].get("labels") or {}
    is_ready = any(status.get("ready") for status in pod["status"].get("containerStatuses", []))
    is_published = is_ready or service["spec"].get("publishNotReadyAddresses")
    return bool(wanted) and bool(is_published) and all(labels.get(k) == v for k, v in wanted.items())


def _field(pod: Object, path: str) -> Any:
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
        return (pod["metadata"].get(found.group(1)) or {}).get(found.group(2), "")
    value: Any = pod
    for name in path.split("."):
        value = (value or {}).get(name)
    return value or ""


def _open_python() -> list[str]:
    """Commands that let another user reach a Python that lies in somebody's closed home."""
    python = Path(sys.base_prefix).resolve()
    closed = [folder for folder in python.parents if not folder.stat().st_mode & 0o001]
    if not closed:
        return []
    return [
        f"mkdir /mnt/python && mount --bind {python} /mnt/python",
        f"mount -t tmpfs -o mode=755 tmpfs {closed[-1]} && mkdir -p {python}",
        f"mount --bind /mnt/python {python}",
    ]


def _share(folder: Path, group: int | None) -> None:
    """As `fsGroup` has it: the group owns the volume and all in it, and may write."""
    if group is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, -1, group)
            path.chmod(path.stat().st_mode | (0o2070 if path.is_dir() else 0o060))


def _mounts(container: Object) -> list[tuple[str, str]]:
    return [(mount["name"], mount["mountPath"]) for mount in container.get("volumeMounts") or []]
