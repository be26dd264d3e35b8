"""Settings: every one is documented, and wrong ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from internvid_assets.settings import Settings


def names(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        found += names(kind, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]  # type: ignore[arg-type]
    return found


def test_every_setting_is_in_the_manual() -> None:
    manual = (Path(__file__).parents[1] / "docs" / "operating.md").read_text()
    assert [name for name in names(Settings) if f"`{name}`" not in manual] == []


def test_a_file_in_the_home_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "internvid.toml").write_text('batch_size = 7\n[viclip]\nrecipe = "paper_b16"\n')
    assert (Settings(home=tmp_path).batch_size, Settings(home=tmp_path).viclip.recipe) == (7, "paper_b16")
    monkeypatch.setenv("INTERNVID_BATCH_SIZE", "9")
    assert Settings(home=tmp_path).batch_size == 9


def test_unknown_and_impossible_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "internvid.toml").write_text("[gate]\nmin_secondz = 3\n")
    with pytest.raises(ValidationError, match="min_secondz"):
        Settings(home=tmp_path)
    with pytest.raises(ValidationError, match="batch_size"):
        Settings(home=tmp_path / "none", batch_size=0)
