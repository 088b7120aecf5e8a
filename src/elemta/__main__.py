"""`python -m elemta` is `elemta`."""

from elemta.cli import main

if __name__ == "__main__":
    main()
