"""The pictures of the pages about systems, drawn from exact denoisers: nothing here is trained or
downloaded.
"""
