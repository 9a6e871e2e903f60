"""The curvature of the loss where the network stands."""
