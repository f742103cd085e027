"""One of several processes of a lab: `python -m mlx_suite_apps.lab.worker FOLDER` trains what no other one trains."""

import sys
from pathlib import Path

import mlx_suite  # noqa: F401  (a fast BLAS, before MLX is imported)
from mlx_suite.runtime.errors import UserError

from .lab import work


def main() -> int:
    """Exit code 2 for an error that the user can fix, 130 after Ctrl-C."""
    try:
        work(Path(sys.argv[1]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
