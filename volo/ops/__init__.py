"""Outlook attention as a pure function."""

from .outlook_attention import outlook_attention

__all__ = ['outlook_attention']
