"""Whether stored weights are still what the table says."""

from __future__ import annotations

from internvid_assets.lake import Lake
from internvid_assets.store import ObjectStore
from internvid_assets.store.objects import file_sha256


def torn_checkpoints(lake: Lake, store: ObjectStore) -> list[str]:
    """Ids of checkpoints whose weights are missing or have another hash."""
    rows = lake.rows("select checkpoint_id, checkpoint_key, weights_sha256 from viclip.viclip_checkpoint order by 1")
    return [
        row["checkpoint_id"]
        for row in rows
        if not store.exists(f"{row['checkpoint_key']}/model.safetensors")
        or file_sha256(store.local_path(f"{row['checkpoint_key']}/model.safetensors")) != row["weights_sha256"]
    ]
