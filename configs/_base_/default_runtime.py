# Common to all recipes.
custom_imports = dict(imports=['volo'], allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Seconds that a process waits for another. stuck_ranks, below, acts earlier.
    dist_cfg=dict(backend='nccl', timeout=2700),
)
default_hooks = dict(
    random_streams=dict(type='RandomStreamsHook'),
    non_finite=dict(type='SkipNonFiniteHook', max_in_a_row=10),
    checkpoint=dict(type='SafeCheckpointHook', max_keep_ckpts=3),
    interruption=dict(type='InterruptionHook'),
    stuck_ranks=dict(type='StuckRankHook', timeout=1800),
)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, diff_rank_seed=True)
