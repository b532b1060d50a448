"""`python -m ampify` is `ampify`."""

from ampify.door import main

if __name__ == "__main__":
    main()
