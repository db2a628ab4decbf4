"""`python -m vaelib` is the command `vaelib`."""

from vaelib.cli import main

if __name__ == "__main__":
    main()
