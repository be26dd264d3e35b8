"""The `internvid` application that the commands join, and what they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
Home = Annotated[Path | None, typer.Option(help="Where everything lives (INTERNVID_HOME; default ./.internvid).")]
