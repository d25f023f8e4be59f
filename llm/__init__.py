"""One small interface to a language model, and who implements it.

``interface``: Request, Completion, Choice, Decision, LanguageModel. ``ollama.OllamaModel`` and ``openai.OpenAIModel``
ask a server, ``embedded.EmbeddedModel`` computes in this process. What servers share: ``calls`` (side by side, with a
time limit), ``retry`` (asking again), ``replies`` (what is made of a reply).
"""
