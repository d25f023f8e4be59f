"""Language models behind one small interface.

``interface`` has the records (Request, Completion, Choice, Decision, LeftOut) and the protocol ``LanguageModel``.
``embedded.EmbeddedModel`` computes in this process; ``ollama.OllamaModel`` and ``openai.OpenAIModel`` ask a server.
The servers share ``asking`` (side by side, again after a failure), ``answers`` (read and validated) and ``connection``
(address, proxy, certificates).
"""
