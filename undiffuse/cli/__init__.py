"""The command line: one file for each command.

Here, and only here, words become options, an InputError becomes one sentence and exit code 2,
signals are handled, and progress is drawn. The library below it prints nothing.
"""
