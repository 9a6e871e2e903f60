"""The loss around the network, beyond its curvature."""
