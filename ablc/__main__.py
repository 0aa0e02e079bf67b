"""`python -m ablc`, and the `ablc` command."""

from __future__ import annotations


def main() -> None:
    from ablc.cli import run

    run()


if __name__ == "__main__":
    main()
