"""Human votes: reading them, giving one's own (``session``), training and scoring many people (``run``)."""
