"""Studies: papers to rerun, each with its claims and the rules that decide them."""
