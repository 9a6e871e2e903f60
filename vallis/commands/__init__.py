"""The commands of the command line, one file each: what it is for, its arguments, and what it does."""
