"""Questions about trained networks: one file a measurement, one folder a family."""
