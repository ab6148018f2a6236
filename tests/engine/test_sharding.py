from volo.engine import VOLOFSDPStrategy
from volo.engine.sharding import wrap_blocks
from volo.models import VOLO
from volo.models.layers import Block


def test_blocks_are_wrapped_and_everything_is_looked_into():
    model = VOLO(arch='tiny')
    wrapped = [m for m in model.modules() if wrap_blocks(m, False, 0)]
    assert len(wrapped) == sum(model.arch.depths)
    assert all(isinstance(module, Block) for module in wrapped)
    assert all(wrap_blocks(m, True, 0) for m in model.modules())


def test_on_a_cpu_nothing_names_a_gpu_and_checkpoints_are_whole(monkeypatch):
    monkeypatch.setattr('volo.engine.sharding.get_device', lambda: 'cpu')
    strategy = VOLOFSDPStrategy()
    assert strategy.model_wrapper['device_id'] == 'cpu'
    assert strategy.state_dict_type.name == 'FULL_STATE_DICT'
    assert not strategy.state_dict_config.offload_to_cpu


def test_on_a_gpu_checkpoints_are_gathered_on_the_cpu(monkeypatch):
    monkeypatch.setattr('volo.engine.sharding.get_device', lambda: 'cuda')
    given = dict(type='MMFullyShardedDataParallel', sharding_strategy='SHARD_GRAD_OP')
    strategy = VOLOFSDPStrategy(model_wrapper=given)
    assert strategy.model_wrapper == given
    assert strategy.optim_state_dict_config.offload_to_cpu
