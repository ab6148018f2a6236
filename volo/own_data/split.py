"""Divide samples into training and validation."""

import random
import re
from collections.abc import Collection, Sequence

from volo.errors import ConfigError

from .found import Found


def assign_splits(
    found: Found, fraction: float, seed: int, pattern: str | None = None
) -> str:
    """Set the split of every sample.

    A dataset with images for training and for validation keeps its splits. If it has
    images for training and for testing only, the latter are for validation.

    Args:
        found: The dataset.
        fraction: Share of the images for validation, between 0 and 1.
        seed: Another seed chooses other images.
        pattern: Regular expression for the name of an image. Images with the same
            match (its first group, if there is one) stay together.

    Returns:
        What was done, for the report.

    Raises:
        ConfigError: ``fraction`` or ``pattern`` is unusable, or one group holds all.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f'--val-fraction {fraction}: must be between 0 and 1')
    given = {sample.split for sample in found.samples}
    if 'train' in given and 'val' not in given and 'test' in given:
        for sample in found.samples:
            sample.split = 'val' if sample.split == 'test' else sample.split
        given = {sample.split for sample in found.samples}
    if {'train', 'val'} <= given:
        found.samples = [sample for sample in found.samples if sample.split]
        return 'the splits of the dataset'
    rest = [sample for sample in found.samples if sample.split != 'test']
    groups = [_group(sample.image, pattern) for sample in rest]
    if len(set(groups)) < 2:
        raise ConfigError(
            f'{len(rest)} images in {len(set(groups))} group(s) cannot be divided into '
            'training and validation. Add images, or change --group'
        )
    shown = [sample.shown(len(found.classes)) for sample in rest]
    chosen = choose_validation(shown, groups, fraction, seed)
    for sample, validates in zip(rest, chosen, strict=True):
        sample.split = 'val' if validates else 'train'
    together = f', {len(set(groups))} groups kept together' if pattern else ''
    return f'divided with seed {seed}, stratified by class{together}'


def choose_validation(
    shown: Sequence[Collection[int]],
    groups: Sequence[str],
    fraction: float,
    seed: int,
) -> list[bool]:
    """Choose images for validation so that every class has its share.

    Classes are served from the rarest on, so that a frequent class cannot use up the
    images of a rare one. A class with two groups or more is in both splits if the
    classes before it left groups to choose from.

    Args:
        shown: The classes of each image.
        groups: The group of each image.
        fraction: Share of groups for validation.
        seed: Of the order in which groups are chosen.

    Returns:
        Whether each image is for validation.
    """
    members: dict[str, set[int]] = {group: set() for group in sorted(groups)}
    for classes, group in zip(shown, groups, strict=True):
        members[group].update(classes)
    order = list(members)
    random.Random(seed).shuffle(order)
    showing: dict[int, list[str]] = {}
    for group in order:
        for label in members[group]:
            showing.setdefault(label, []).append(group)
    by_rarity = sorted(showing, key=lambda label: (len(showing[label]), label))
    chosen: dict[str, bool] = {}
    for those in [*(showing[label] for label in by_rarity), order]:
        wanted = round(fraction * len(those))
        wanted = min(max(wanted, 1), len(those) - 1)
        have = sum(chosen.get(group, False) for group in those)
        for group in those:
            if group not in chosen:
                chosen[group] = have < wanted
                have += chosen[group]
    if len(set(chosen.values())) == 1:
        chosen[order[0]] = not chosen[order[0]]
    return [chosen[group] for group in groups]


def _group(image: str, pattern: str | None) -> str:
    if pattern is None:
        return image
    try:
        match = re.search(pattern, image)
    except re.error as error:
        raise ConfigError(f'--group {pattern}: {error}') from error
    if match is None:
        return image
    return match[1] if match.groups() else match[0]
