#!/bin/bash
# What the image does, without building one: the packages of code.lock alone, the code installed as the Dockerfile does, user
# 10001, no privileges, a read-only root. Runs the whole path, videos to report, on a folder of a few short videos.
#   sudo k8s/images/rehearse.sh VIDEOS [BUILD_FOLDER]        (root, for the mounts; leaves the packages in BUILD_FOLDER)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
videos=$(realpath "$1")
build=$(realpath -m "${2:-$root/build/rehearsal}")
python=$(python3.11 -c 'import sys; print(sys.base_prefix)')

if [ ! -x "$build/venv/bin/internvid" ]; then
    mkdir -p "$build/source"
    cp -r "$root"/{pyproject.toml,README.md,internvid_assets,training,dbt_like_sql,k8s} "$build/source"
    python3.11 -m venv "$build/venv"
    "$build/venv/bin/pip" install -q "$(grep '^torch==' "$root/k8s/images/code.lock" | cut -d+ -f1)"
    "$build/venv/bin/pip" install -q --no-deps -r <(grep -v '^torch==' "$root/k8s/images/code.lock")
    "$build/venv/bin/pip" install -q --no-deps --editable "$build/source"
fi

export ROOT_VIDEOS=$videos ROOT_BUILD=$build ROOT_PYTHON=$python
exec unshare --mount bash -c '
    set -e
    # Folders of root are opened just as far as the interpreter and the packages need.
    mkdir -p /mnt/a /mnt/b /mnt/c
    mount --bind "$ROOT_PYTHON" /mnt/a && mount --bind "$ROOT_BUILD" /mnt/b && mount --bind "$ROOT_VIDEOS" /mnt/c
    mount -t tmpfs -o mode=755 tmpfs /root && mount -t tmpfs -o mode=1777 tmpfs /tmp
    mkdir -p "$ROOT_PYTHON" "$ROOT_BUILD" && mount --bind /mnt/a "$ROOT_PYTHON" && mount --bind /mnt/b "$ROOT_BUILD"
    mkdir /tmp/home && chown 10001:10001 /tmp/home
    mount -o remount,bind,ro /
    cd "$ROOT_BUILD/source"
    export HOME=/tmp/home TMPDIR=/tmp/home INTERNVID_HOME=/tmp/home/lake PATH="$ROOT_BUILD/venv/bin:/usr/bin:/bin"
    export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
    export INTERNVID_VICLIP__RECIPE=debug_tiny INTERNVID_VICLIP__NUM_PROCESSES=1
    exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs internvid run /mnt/c
'
