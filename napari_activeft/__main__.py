"""The program's entry: ``napari-activeft`` and ``python -m napari_activeft``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it quietly, also while it is still loading."""
    try:
        from napari_activeft import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(1)


if __name__ == "__main__":
    main()
