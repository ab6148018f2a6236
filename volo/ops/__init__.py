"""Outlook attention as a pure function, and its backends."""

from .backends import choose_backend, is_exporting
from .outlook_attention import outlook_attention

__all__ = ['choose_backend', 'is_exporting', 'outlook_attention']
