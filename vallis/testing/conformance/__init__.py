"""What every part of a kind must do, checked without naming a part.

A check is a function of one part that raises `Broken`, in one sentence, or `NotTested` where it has nothing to say. The
modules are named after the kinds; each holds a table ``CHECKS``. A part that is expensive by default, or has settings
without a default, offers a classmethod ``tiny() -> part`` with the cheapest settings that still do everything.
"""
