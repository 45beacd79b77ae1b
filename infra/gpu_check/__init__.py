"""What has to be seen on a GPU, made ready for a machine that has one, a bare Python and no package index.

    python -m infra.gpu_check pack                 # here: packages for Python 3.12 on x86-64 Linux into build/gpu_check
    infra/gpu_check/run.sh FOLDER                  # there: unpacks, tests, measures; gpu.json and trace.json.gz in FOLDER
    infra/gpu_check/run.sh FOLDER --device cpu     # the same script on a CPU, with small sizes: a rehearsal, no measurement

Every section runs in a process of its own under a limit of time, the most important first, and each row is on disk as soon
as it is known, so that a run that is cut off has said all it found. Scenes and outputs lie in /dev/shm; networks have weights
from a fixed seed or are those that ship. Nothing here is imported by a run.
"""
