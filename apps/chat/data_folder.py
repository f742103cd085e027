"""The folder for files that a user's chats leave on this machine."""

import os
import sys
from pathlib import Path


def data_folder() -> Path:
    """The program's folder in XDG_DATA_HOME, or else in the system's usual place; it need not exist."""
    chosen = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(chosen):  # the specification ignores relative ones
        folder = Path(chosen)
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path.home() / ".local" / "share"
    return folder / "mlx-suite"
