"""`python -m zconfig` is the command."""

from zconfig.cli import main

if __name__ == "__main__":
    main()
