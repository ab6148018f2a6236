"""Arch, sizes, batch size and class weights follow from images and machine."""

import numpy as np
import pytest
import torch

from volo.errors import CheckpointError, ConfigError
from volo.models import VOLO
from volo.own_data.image_survey import ImageSurvey
from volo.own_data.plan import Machine, choose_arch, choose_class_weight, make_plan

CPU, GPU = Machine(), Machine(gpu_gib=24)


def plan(task, side, machine=CPU, arch='tiny', images=500, weights=''):
    survey = ImageSurvey(side, 2 * side, True, 3, {}, (), (), 'RGB')
    return make_plan(task, survey, np.ones(3), images, machine, arch, weights)


def test_crops_fit_the_images_and_the_machine():
    assert plan('segmentation', 1000).size == 256
    assert plan('segmentation', 1000).scale == (2048, 512)
    assert plan('segmentation', 1000, GPU, 'd1').size == 512
    assert plan('segmentation', 200).size == 192
    assert plan('segmentation', 20).scale == (256, 64)
    assert [plan('classification', s).size for s in (20, 100, 900)] == [64, 96, 128]
    assert plan('classification', 900, GPU, 'd1').size == 224


def test_the_batch_fits_the_memory():
    assert plan('segmentation', 900, GPU, 'd1').batch_size == 8
    assert plan('segmentation', 900, GPU, 'd5').batch_size == 2
    assert plan('segmentation', 900, Machine(8), 'd1').batch_size == 4
    assert plan('classification', 900, GPU, 'd1').batch_size == 64
    assert plan('classification', 900, images=6).batch_size == 3


def test_the_length_follows_the_number_of_images():
    lengths = [plan('classification', 100, images=n).length for n in (20, 800, 10**6)]
    assert lengths == [200, 40, 10]
    assert plan('classification', 100, images=20, weights='x').length == 30


def test_rare_classes_get_weights():
    assert choose_class_weight([50, 50]) is None
    assert choose_class_weight([89, 11]) is None
    assert choose_class_weight([100, 0]) is None
    weights = choose_class_weight([900, 100, 9, 0])
    assert weights == [0.5, 1.0, 3.33, 1.0]
    assert choose_class_weight([10**6, 10**3, 1])[2] == 5.0


def test_the_arch_is_that_of_the_weights(tmp_path):
    torch.save(VOLO(arch='tiny').state_dict(), tmp_path / 'tiny.pth')
    torch.save(dict(weight=torch.zeros(2)), tmp_path / 'other.pth')
    assert choose_arch(None, str(tmp_path / 'tiny.pth'), GPU) == 'tiny'
    assert [choose_arch(None, '', machine) for machine in (CPU, GPU)] == ['tiny', 'd1']
    with pytest.raises(ConfigError, match='--arch d2: .*tiny.pth belongs to tiny'):
        choose_arch('d2', str(tmp_path / 'tiny.pth'), CPU)
    with pytest.raises(ConfigError, match='--arch d9: choose one of d1, '):
        choose_arch('d9', '', CPU)
    with pytest.raises(CheckpointError):
        choose_arch(None, str(tmp_path / 'other.pth'), CPU)
