"""Training over two nodes for real: pods of the stand-in run the trainer, meet by the Service's name and train together."""

from __future__ import annotations

from collections.abc import Callable

from internvid_assets.settings import Settings
from tests.kubesim import KubeSim
from tests.viclip.kubernetes.conftest import losses, materialize, only_row


def test_two_nodes_train_one_model(sim: KubeSim, home: Callable[..., Settings]) -> None:
    settings = home()
    result = materialize(settings)
    for pod in sim.all("pods"):
        print("\n".join(sim.log_of(pod["metadata"]["name"])))
    assert result.success
    print(losses(settings), only_row(settings))
