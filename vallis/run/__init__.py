"""Plans what is to be trained and measured, does what is missing, and keeps it."""
