"""Run another script of this folder with all its times in seconds of the processor.

On a machine that others use as well, so many seconds of the clock buy more training at one moment
than at another; of the processor they buy the same, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/processor.py benchmarks/sizes.py --out FOLDER
"""

import runpy
import sys
import time

if __name__ == "__main__":
    time.perf_counter = time.process_time
    sys.argv = sys.argv[1:]
    sys.path.insert(0, sys.argv[0].rpartition("/")[0] or ".")
    runpy.run_path(sys.argv[0], run_name="__main__")
