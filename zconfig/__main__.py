"""Run the command: `python -m zconfig`."""

from zconfig._cli import main

if __name__ == "__main__":
    main()
