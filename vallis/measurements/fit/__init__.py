"""How well the examples are fitted, seen and unseen."""
