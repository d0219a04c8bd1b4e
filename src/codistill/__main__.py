"""`python -m codistill`: the command line."""

from codistill.cli import main

if __name__ == "__main__":
    main()
