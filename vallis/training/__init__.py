"""Ways to find a solution: each is ``init``, ``step``, ``solution``, and a state that can be put to rest."""
