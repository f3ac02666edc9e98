"""What every part is held to, ours and those of third parties: `ud.check(part)`.

Each module holds the laws of one group as a table, sentence -> function of a part, which raises
`BrokenLaw` where the law is broken. The truths are closed forms and symmetries; the tests of
undiffuse run the same functions over its registries.
"""
