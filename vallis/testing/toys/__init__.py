"""Small problems and models, proper parts all of them, of which something is known exactly."""
