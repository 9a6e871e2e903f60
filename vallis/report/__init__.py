"""Reports: the page for people, its twin for machines, and figures for papers."""
