"""`internvid`: the main job and the questions about it, from a shell.

Exit codes: 0 done, 1 something failed while running, 2 the command was used wrongly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from internvid_assets.cli import build, questions, rulings  # noqa: F401  (they join the application)
from internvid_assets.cli.app import app
from internvid_assets.errors import RunFailed, UsageError


def main(argv: list[str] | None = None) -> None:
    """Entry point: errors that a user can mend are one line on standard error."""
    sys.exit(_guarded(lambda: app(args=argv, standalone_mode=False)))


def _guarded(command: Callable[[], Any]) -> int:
    from typer.exceptions import TyperException

    from internvid_assets.lake import LakeError

    try:
        code = command()
        return code if isinstance(code, int) else 0
    except TyperException as error:
        message, code = error.format_message(), 2
    except UsageError as error:
        message, code = str(error), 2
    except (RunFailed, LakeError) as error:
        message, code = str(error), 1
    except OSError as error:
        message, code = f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1
    except KeyboardInterrupt:
        message, code = "interrupted; run the same command again to go on", 130
    print(f"internvid: {message}", file=sys.stderr)
    return code
