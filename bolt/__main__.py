"""`python -m bolt` is the command line."""

from bolt.cli import main

if __name__ == "__main__":
    main()
