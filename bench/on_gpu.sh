#!/usr/bin/env bash
# Everything that needs a GPU, step by step: tests and memory checks of the rasteriser, times of its kernels, its
# benches, and those of a training step and of inference. Needs only torch, torchvision, triton, numpy, pillow, pytest,
# pytest-benchmark, hypothesis and matplotlib; with pytest-xdist the tests, which compile some 250 variants of the
# kernels, take a fraction of the time.
#
#     bench/on_gpu.sh                      all steps
#     bench/on_gpu.sh tests kernels        some of: tests sanitizer kernels host rasterize train_step train_step_saving
#                                          inference
#     RESULTS=/tmp/found bench/on_gpu.sh   writes there instead of into bench/results
#     COMMIT=0123abc bench/on_gpu.sh       names the commit, in a copy without git history
#     PYTHON=python3 bench/on_gpu.sh       another Python than `python`
#
# Results are written as they are found, and all that is printed goes to a .log file beside them as well.
set -uo pipefail
cd "$(dirname "$0")/.."
every=(tests sanitizer kernels host rasterize train_step train_step_saving inference)
(($#)) || set -- "${every[@]}"
for step in "$@"; do
    [[ " ${every[*]} " == *" $step "* ]] || { echo "got $step, wanted some of: ${every[*]}" >&2; exit 2; }
done
python=${PYTHON:-python}
results=${RESULTS:-bench/results}
mkdir -p "$results"
name=$("$python" -c "import torch; print(torch.cuda.get_device_name().lower().replace(' ', '-'))" 2>&1) || {
    echo "$python has no torch that finds a GPU: ${name##*$'\n'}" >&2
    exit 1
}
# Lines appear when they are printed, also in a file.
export PYTHONUNBUFFERED=1
status=0

tests() {
    local workers=()
    "$python" -c "import xdist" 2> /dev/null && workers=(-n 8)
    "$python" -m pytest -q -m gpu "${workers[@]}" tests/kernels
}

sanitizer() {
    command -v compute-sanitizer > /dev/null || { echo "compute-sanitizer is not installed, and is left out"; return; }
    # Every tensor gets its own allocation: within memory that PyTorch caches, the tool sees no access beyond a tensor.
    local tool found=0
    for tool in memcheck racecheck; do
        # Libraries ask the driver for features that it may lack, which is no error.
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 1 \
            "$python" -m pytest -q -m gpu tests/kernels/fused/test_fused.py \
            -k "(latent_and_all_gradients and 64-48) or large_scenes" || found=1
    done
    return $found
}

kernels() {
    local found=0
    "$python" -m bench.kernels --sweep || found=1
    "$python" -m bench.kernels --scene b1/1024x1024/n100000 --sweep || found=1
    return $found
}

host() {
    "$python" -m bench.host
}

rasterize() {
    "$python" -m bench --seconds 0.3 --json "$results/$name.json" --plots "$results/$name.png"
}

train_step() {
    "$python" -m bench.train_step --seconds 3 --json "$results/train_step_$name.json"
}

train_step_saving() {
    "$python" -m bench.train_step --seconds 3 --save-memory --no-shares --json "$results/train_step_saving_$name.json"
}

inference() {
    "$python" -m bench.inference --json "$results/inference_$name.json"
}

[[ -n ${COMMIT:-} ]] || git rev-parse -q HEAD > /dev/null 2>&1 ||
    echo "no git history here: the results do not name the commit unless COMMIT does" >&2
for step in "$@"; do
    echo "== $step"
    "$step" || { status=1; echo "== $step: failed"; }
done > >(tee -a "$results/$name.log") 2>&1
wait
exit $status
