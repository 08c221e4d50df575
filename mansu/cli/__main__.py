"""`python -m mansu.cli`."""

from mansu.cli import main

if __name__ == "__main__":
    main()
