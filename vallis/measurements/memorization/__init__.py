"""What was learned by heart, and how each example was learned."""
