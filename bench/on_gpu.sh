#!/usr/bin/env bash
# Everything that needs a GPU, step by step: tests and memory checks of the rasteriser, times of its kernels, its
# benches, and those of a training step and of inference. Needs only torch, torchvision, triton, numpy, pillow, pytest,
# pytest-benchmark, hypothesis and matplotlib; the tests take less time if pytest-xdist is installed.
#
#     bench/on_gpu.sh                      all steps
#     bench/on_gpu.sh tests kernels        some of: tests sanitizer kernels host rasterize train_step train_step_saving
#                                          inference
#     RESULTS=/tmp/found bench/on_gpu.sh   writes there instead of into bench/results
#     COMMIT=0123abc bench/on_gpu.sh       names the commit, in a copy without git history
set -uo pipefail
cd "$(dirname "$0")/.."
results=${RESULTS:-bench/results}
mkdir -p "$results"
name=$(python -c "import torch; print(torch.cuda.get_device_name().lower().replace(' ', '-'))") || exit 1
status=0

tests() {
    local workers=()
    python -c "import xdist" 2> /dev/null && workers=(-n 8)
    python -m pytest -q -m gpu "${workers[@]}" tests/kernels
}

sanitizer() {
    # Every tensor gets its own allocation: within memory that PyTorch caches, the tool sees no access beyond a tensor.
    local tool
    for tool in memcheck racecheck; do
        # Libraries ask the driver for features that it may lack, which is no error.
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 1 \
            python -m pytest -q -m gpu tests/kernels/fused/test_fused.py \
            -k "(latent_and_all_gradients and 64-48) or large_scenes" || return 1
    done
}

kernels() {
    python -m bench.kernels --sweep && python -m bench.kernels --scene b1/1024x1024/n100000 --sweep
}

host() {
    python -m bench.host
}

rasterize() {
    python -m bench --seconds 0.3 --json "$results/$name.json" --plots "$results/$name.png"
}

train_step() {
    python -m bench.train_step --seconds 3 --json "$results/train_step_$name.json"
}

train_step_saving() {
    python -m bench.train_step --seconds 3 --save-memory --json "$results/train_step_saving_$name.json"
}

inference() {
    python -m bench.inference --json "$results/inference_$name.json"
}

every=(tests sanitizer kernels host rasterize train_step train_step_saving inference)
(($#)) || set -- "${every[@]}"
for step in "$@"; do
    [[ " ${every[*]} " == *" $step "* ]] || { echo "got $step, wanted some of: ${every[*]}" >&2; exit 2; }
    echo "== $step"
    "$step" || status=1
done
exit $status
