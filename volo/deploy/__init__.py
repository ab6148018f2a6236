"""Export of trained models, and use of what was exported.

``export`` writes a file with ``graph`` in one of the ``formats``, and ``parity``
compares it with PyTorch. ``runtimes`` runs the file; ``evaluation`` measures it on a
dataset.
"""
