"""`python -m zconfig` is the command."""

from zconfig._cli import main

if __name__ == "__main__":
    main()
