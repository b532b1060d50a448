"""`python -m ampify` is `ampify`."""

from ampify.cli import main

if __name__ == "__main__":
    main(prog_name="ampify")
