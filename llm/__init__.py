"""One small interface to a language model (``interface``), and who implements it: ``ollama``, ``embedded``."""
