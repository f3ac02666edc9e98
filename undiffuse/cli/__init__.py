"""The command line: `undiffuse train`, `sample` and `info`.

The only place where strings that a person typed become parts, where an InputError becomes one sentence and exit
code 2, where signals are handled and where progress is drawn. The library below it prints nothing.
"""
