#!/usr/bin/env bash
# Everything that needs a GPU: tests and memory checks of the rasteriser, its benches, and those of a training step and of
# inference. Needs torch, torchvision, triton, numpy, pytest, pytest-benchmark, hypothesis and matplotlib, nothing else.
#
#     bench/on_gpu.sh [folder of the results, bench/results by default]
set -uo pipefail
cd "$(dirname "$0")/.."
results=${1:-bench/results}
mkdir -p "$results"
name=$(python -c "import torch; print(torch.cuda.get_device_name().lower().replace(' ', '-'))") || exit 1
status=0

python -m pytest -q -m gpu tests/kernels || status=1
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 1 \
            python -m pytest -q -m gpu tests/kernels/fused/test_fused.py -k "latent_and_all_gradients and 64-48" || status=1
    done
fi
python -m bench --json "$results/$name.json" --plots "$results/$name.png" || status=1
python -m bench.train_step --json "$results/train_step_$name.json" || status=1
python -m bench.train_step --save-memory --json "$results/train_step_saving_$name.json" || status=1
python -m bench.inference --json "$results/inference_$name.json" || status=1
exit $status
