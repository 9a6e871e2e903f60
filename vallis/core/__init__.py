"""The vocabulary of the house: types, protocols, catalog, specs, random streams, errors, losses."""
