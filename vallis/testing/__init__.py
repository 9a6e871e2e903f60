"""What tests are made of: toy parts with known answers, dense oracles, checks that every part must pass."""
