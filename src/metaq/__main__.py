"""`python -m metaq` is the command `metaq`."""

from metaq.cli.main import main

if __name__ == "__main__":
    main()
