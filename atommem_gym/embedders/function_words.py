"""English function words, which do not tell what a text is about."""

from __future__ import annotations

import re

FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
a about after also an and any are as at be been before both but by can could did do does during for from had has have
he her him his how if in into is it its more most no not of on or out over she so some such than that the their them
then there these they this those through to too under until up was were what when where which while who whom whose why
will with would you your
""",
    )
)
"""Words that the hashing embedder and the scripted agents ignore; each ignores a few more."""
