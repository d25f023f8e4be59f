"""What everything else stands on: records, the rankers' interface, errors, the one store, how a hub is reached."""
