import os
import subprocess
import sys


def test_table_without_a_gpu():
    code = "from bench import host; host.SECONDS = 0.01; host.main()"
    # The interpreter has no launches to time.
    environment = os.environ | dict(TRITON_INTERPRET="0", CUDA_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rows = {line[:28].rstrip(): list(map(float, line[28:].split())) for line in done.stdout.splitlines()[1:]}
    assert len(rows) == 6 and all(0 < low <= median <= high for low, median, high in rows.values())
    assert rows["forward and backward"][0] < rows["the same as a large scene"][1]
    assert rows["launches of backward"][0] < rows["forward and backward"][0]
