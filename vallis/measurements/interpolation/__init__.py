"""What passes through all training examples, found in closed form: beside it a trained network can be read."""
