"""What fits no ordinary mould, small but true: each shows that the protocols hold it without a contortion."""
