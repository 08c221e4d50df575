"""`python -m verify.cli`, the same as `mansu-verify`."""

from verify.cli import main

if __name__ == "__main__":
    main()
