"""Outlook attention as a pure function, and its backends."""

from .backends import choose_backend
from .outlook_attention import outlook_attention

__all__ = ['choose_backend', 'outlook_attention']
