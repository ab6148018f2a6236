import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import inference_model, init_model
from PIL import Image

from volo.deploy.predict_model import build_torch_predictor
from volo.engine import load_config
from volo.errors import CheckpointError, ConfigError, DataError

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def weights(toy, tmp_path_factory):
    """Checkpoints of random weights, with class names and running statistics."""
    folder = tmp_path_factory.mktemp('weights')
    for task in ('classify', 'segment'):
        cfg = load_config(toy / f'{task}.py')
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        for name, value in model.state_dict().items():
            if name.endswith('running_mean'):
                value.normal_(std=0.1)
            elif name.endswith('conv_seg.weight'):
                value.normal_()
        number = 7 if task == 'classify' else 8
        meta = dict(dataset_meta=dict(classes=[f'thing {i}' for i in range(number)]))
        state = dict(state_dict=model.state_dict(), meta=meta)
        torch.save(state, folder / f'{task}.pth')
    return folder


@pytest.fixture
def image(tmp_path):
    """A file of 90x70 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    path = tmp_path / 'image.png'
    Image.fromarray(noise).resize((70, 90), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def build(toy, weights):
    def call(task, cfg_options=None, **options):
        cfg = load_config(toy / f'{task}.py', cfg_options)
        return build_torch_predictor(cfg, weights / f'{task}.pth', CPU, **options)

    return call


WHOLE = {'model.test_cfg': dict(mode='whole')}
SLIDE = {'model.test_cfg': dict(mode='slide', crop_size=(48, 48), stride=(32, 32))}


def test_a_segmentation_is_that_of_mmseg(toy, weights, build, image):
    predictor = build('segment')
    (found,) = predictor.predict([predictor.load(image)])
    model = init_model(toy / 'segment.py', str(weights / 'segment.pth'), device='cpu')
    expected = inference_model(model, str(image))
    mask = expected.pred_sem_seg.data[0].numpy()
    assert len(np.unique(mask)) > 2
    np.testing.assert_array_equal(found.mask, mask)
    best = expected.seg_logits.data.softmax(0).max(0).values.numpy()
    record = found.record(predictor.classes)['classes']
    assert [row['name'] for row in record] == [f'thing {i}' for i in range(8)]
    for row in record:
        assert row['share'] == pytest.approx((mask == row['index']).mean(), abs=1e-6)
        if row['share']:
            score = best[mask == row['index']].mean()
            assert row['score'] == pytest.approx(score, abs=1e-5)
        else:
            assert row['score'] is None


def test_an_image_in_memory_gives_what_its_file_gives(build, image):
    for task in ('segment', 'classify'):
        predictor = build(task)
        array = np.array(Image.open(image))
        samples = [predictor.load(image), predictor.prepare(array)]
        assert samples[0].batch_key == samples[1].batch_key
        np.testing.assert_array_equal(samples[0].image, array)
        one, two = predictor.predict(samples)
        np.testing.assert_array_equal(one.scores, two.scores)


@pytest.mark.parametrize('memory', [1e6, 1e5])
def test_bands_of_windows_are_exactly_slide_inference(build, image, memory):
    masks = []
    for most in (1e9, memory):
        predictor = build('segment', SLIDE, memory=most)
        sample = predictor.load(image)
        assert (sample.bytes <= most) == (most == 1e9)
        masks.append(predictor.predict([sample])[0])
    np.testing.assert_array_equal(masks[1].mask, masks[0].mask)
    np.testing.assert_allclose(masks[1].scores, masks[0].scores, atol=1e-6)


def test_resized_scores_of_bands_are_those_of_the_whole(build, image):
    resize = dict(type='Resize', scale=(35, 45), keep_ratio=True)
    pipeline = [dict(type='LoadImageFromFile'), resize, dict(type='PackSegInputs')]
    options = WHOLE | {'test_dataloader.dataset.pipeline': pipeline}
    whole, bands = (build('segment', options, memory=m) for m in (1e9, 1e6))
    sample = whole.load(image)
    assert sample.inputs[0][0].shape == (3, 45, 35) and 1e6 < sample.bytes < 1e9
    one, two = (p.predict([p.load(image)])[0] for p in (whole, bands))
    assert two.mask.shape == (90, 70)
    assert (one.mask == two.mask).mean() > 0.999


def test_a_large_image_without_slide_inference_runs_in_windows(build, image):
    predictor = build('segment', WHOLE, memory=1e6, window=48)
    (found,) = predictor.predict([predictor.load(image)])
    expected = build('segment', SLIDE)
    (slid,) = expected.predict([expected.load(image)])
    np.testing.assert_array_equal(found.mask, slid.mask)


def test_one_channel_is_compared_with_the_threshold(build, image, toy, weights):
    cfg_options = WHOLE | {
        'model.decode_head.num_classes': 2,
        'model.decode_head.out_channels': 1,
        'model.decode_head.threshold': 0.5,
    }
    cfg = load_config(toy / 'segment.py', cfg_options)
    state = torch.load(weights / 'segment.pth')['state_dict']
    for name in ('weight', 'bias'):
        key = f'decode_head.conv_seg.{name}'
        state[key] = state[key][1:2] - state[key][3:4]
    path = weights / 'binary.pth'
    torch.save(state, path)
    whole, bands = (
        build_torch_predictor(cfg, path, CPU, memory=m, window=2000) for m in (1e9, 1e6)
    )
    assert whole.classes == ('0', '1')
    one, two = (p.predict([p.load(image)])[0] for p in (whole, bands))
    assert 0 < one.mask.mean() < 1
    np.testing.assert_array_equal(one.mask, two.mask)
    assert np.nanmin(one.scores) >= 0.5


@pytest.mark.slow
def test_test_time_augmentation_is_that_of_mmseg(build, image):
    predictor = build('segment', tta=True)
    sample = predictor.load(image)
    (found,) = predictor.predict([sample])
    init_default_scope('mmseg')
    augmented = MODELS.build(dict(type='SegTTAModel', module=predictor.model))
    data = zip(*predictor.load(image).inputs, strict=True)
    inputs, samples = ([[x] for x in part] for part in data)
    (expected,) = augmented.test_step(dict(inputs=inputs, data_samples=samples))
    np.testing.assert_array_equal(found.mask, expected.pred_sem_seg.data[0].numpy())
    with pytest.raises(DataError, match='70x90 pixels take .* with --tta. Raise'):
        build('segment', tta=True, memory=1e6).load(image)


def test_a_classification_is_that_of_mmpretrain(toy, weights, build, image):
    predictor = build('classify')
    (found,) = predictor.predict([predictor.load(image)])
    inferencer = ImageClassificationInferencer(
        str(toy / 'classify.py'), str(weights / 'classify.pth'), device='cpu'
    )
    (expected,) = inferencer(str(image))
    np.testing.assert_allclose(found.scores, expected['pred_scores'], atol=1e-6)
    best = found.record(predictor.classes, 2)['classes']
    assert len(best) == 2 and best[0]['score'] > best[1]['score']
    assert best[0]['name'] == f'thing {expected["pred_label"]}'


def test_mixed_precision_runs(build, image):
    for task in ('segment', 'classify'):
        predictor = build(task, amp=True)
        (found,) = predictor.predict([predictor.load(image)])
        assert np.nanmax(found.scores) <= 1


def test_a_batch_has_as_many_samples_as_memory_allows(build, image):
    sample = build('segment').load(image)
    assert sample.batch_limit(8, sample.bytes * 3.5) == 3
    assert sample.batch_limit(2, sample.bytes * 3.5) == 2
    assert sample.batch_limit(8, 1) == 1


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.png', b'no image', 'not an image'),
        ('a.png', b'', 'not an image'),
        ('a.png', None, 'no such file'),
    ],
)
def test_files_that_are_no_images_say_why(build, tmp_path, name, content, message):
    predictor = build('classify')
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f'^{message}$'):
        predictor.load(path)


def test_what_does_not_fit_is_refused(toy, weights, build, tmp_path):
    cfg = load_config(toy / 'segment.py')
    with pytest.raises(CheckpointError, match='none.pth does not exist'):
        build_torch_predictor(cfg, tmp_path / 'none.pth', CPU)
    with pytest.raises(CheckpointError, match='classify.pth does not belong to the mo'):
        build_torch_predictor(cfg, weights / 'classify.pth', CPU)
    with pytest.raises(ConfigError, match='--tta: .*classify.py has no tta_model'):
        build('classify', tta=True)
