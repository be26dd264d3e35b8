"""Writes the pinned schemas of custom resources beside this file: `pip install kubeflow-trainer-api==2.3.0`, then run it.

That package's models come from the OpenAPI of Kubeflow Trainer and JobSet. Descriptions are left out; unknown fields are
refused, which the models themselves silently drop.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

MODELS = {
    "jobset": "JobsetV1alpha2JobSet",
    "trainjob": "TrainerV1alpha1TrainJob",
    "clustertrainingruntime": "TrainerV1alpha1ClusterTrainingRuntime",
}
_DROPPED = ("description", "title", "default")


def strict(node: Any) -> Any:
    """The schema without texts, which refuses unknown fields."""
    if isinstance(node, list):
        return [strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    if "actual_instance" in node.get("properties", {}):  # the models' wrapper of `number or string`
        return strict(node["properties"]["actual_instance"])
    kept = {key: value for key, value in node.items() if key not in _DROPPED or not isinstance(value, str | None)}
    if "properties" in node:
        kept["properties"] = {name: strict(value) for name, value in node["properties"].items()}
        kept["additionalProperties"] = False
    return {key: value if key == "properties" else strict(value) for key, value in kept.items()}


def main() -> None:
    """One file a resource."""
    models = import_module("kubeflow_trainer_api.models")
    for name, model in MODELS.items():
        schema = strict(getattr(models, model).model_json_schema(by_alias=True))
        text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
        (Path(__file__).parent / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
