"""Human votes: reading them, training and scoring many people (``run``)."""
