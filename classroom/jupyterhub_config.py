"""What every student's server gets, on any hub of this course. JupyterHub loads this file and gives it `c`."""
# ruff: noqa: F821

DATA = "/srv/nn-labs-data"  # the folder of mnist.npz, which everybody may read

c.Spawner.environment.update(
    {
        "LABKIT_DATA": DATA,
        # Both keep TensorFlow small.
        "MALLOC_ARENA_MAX": "2",
        "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
        # With many kernels on few cores, more threads would get in each other's way.
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
    }
)
c.Spawner.default_url = "/lab"
# Ends a kernel that did nothing for ten minutes and whose notebook is closed; an open notebook keeps its kernel.
c.Spawner.args.extend(["--MappingKernelManager.cull_idle_timeout=600", "--MappingKernelManager.cull_interval=60"])
