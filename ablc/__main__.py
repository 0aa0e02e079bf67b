"""`python -m ablc`, and the `ablc` command."""

from __future__ import annotations

import gc


def main() -> None:
    gc.disable()  # most commands are short and build trees; those that train turn it on again
    from ablc.cli import start

    start()


if __name__ == "__main__":
    main()
