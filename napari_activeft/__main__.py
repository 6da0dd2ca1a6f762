"""The program's entry: ``napari-activeft`` and ``python -m napari_activeft``."""

import os
import sys
import warnings


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly, also while it is still loading."""
    # torch's threads wait for each other by spinning unless this is set before it is loaded; beside
    # another busy process a step then takes many times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # In a container without shared memory joblib says so whenever it is loaded: nothing to act on.
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    try:
        from napari_activeft import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(1)


if __name__ == "__main__":
    main()
