"""What every student's server gets, on any hub of this course. JupyterHub loads this file and gives it `c`."""
# ruff: noqa: F821

COURSE = "/srv/nn-labs"  # the copy of the course from which labkit was installed
DATA = "/srv/nn-labs-data"  # the folder of mnist.npz, which everybody may read

c.Spawner.environment.update(
    {
        "LABKIT_DATA": DATA,
        "PYTHONSTARTUP": f"{COURSE}/labkit/startup.py",
        # With many kernels on few cores, more threads would get in each other's way.
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
    }
)
c.Spawner.default_url = "/lab"
# Ends a kernel that did nothing for ten minutes and whose notebook is closed; an open notebook keeps its kernel.
c.Spawner.args.extend(["--MappingKernelManager.cull_idle_timeout=600", "--MappingKernelManager.cull_interval=60"])
