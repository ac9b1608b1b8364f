"""`python -m fedsec` is the `fedsec` command."""

from fedsec.cli import main

if __name__ == "__main__":
    main()
