"""The command, and python -m prunesim."""

from studies.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
