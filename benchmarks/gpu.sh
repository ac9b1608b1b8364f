#!/usr/bin/env bash
# Everything that needs a CUDA GPU, in one go: a few minutes on a recent card. From the project's root:
#
#     bash benchmarks/gpu.sh [OUT]      # logs and results go to OUT (default: gpu-results)
#
# Uses `uv run` where uv is, and otherwise the python on the PATH with this checkout on its path.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
mkdir -p "$out"
if command -v uv >/dev/null; then python="uv run python"; else python=python3; export PYTHONPATH=$PWD; fi
status=0

step() { # name, command ...
  local name=$1
  shift
  echo "== $name"
  "$@" 2>&1 | tee "$out/$name.log" || { status=1; echo "FAILED: $name"; }
}

step device $python -c "import torch; print(torch.__version__, torch.cuda.get_device_name())"
step agreement $python -m pytest -q tests/federation tests/test_conformance.py tests/metrics
step quickstart $python -m fedsec run scenarios/quickstart.yaml --device cuda --out "$out/runs" --workers 1
step gpu_cohort $python benchmarks/gpu_cohort.py
step inversion_agreement $python -m pytest -q tests/matching tests/attacks
step inversion_lenet $python -m fedsec invert --device cuda --attack inverting_gradients --labels known --batch-size 1 \
  --dataset photos --trials 40 --out "$out/inversion_lenet"
step inversion_resnet18 $python -m fedsec invert --device cuda --attack inverting_gradients --labels known --batch-size 1 \
  --model resnet18 --client-mode eval --dataset photos --trials 4 --out "$out/inversion_resnet18"
step inversion_decoupled $python -m fedsec invert --device cuda --trials 20 --out "$out/inversion_decoupled"
[ -e /usr/share/datasets/fashion-mnist ] || [ -n "${FEDSEC_DATA:-}" ] &&
  step byzantine_fmnist $python -m fedsec run scenarios/byzantine_fmnist.yaml --device cuda --out "$out/runs" --workers 2
exit $status
