"""`python -m undiffuse`: the command line, for where the `undiffuse` script is not on the path."""

from undiffuse.cli.main import run

if __name__ == "__main__":
    run()
