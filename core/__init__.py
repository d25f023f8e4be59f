"""The ground floor: records, the rankers' interface, errors, files and the one store, rows, how a hub is reached."""
