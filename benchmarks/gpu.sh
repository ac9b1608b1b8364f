#!/usr/bin/env bash
# Everything that needs a CUDA GPU, in pieces of less than 8 minutes each on a recent card. From the project's root:
#
#     bash benchmarks/gpu.sh [--list] [--out DIR] [--device cuda|cpu] [PIECE ...]
#
# Runs the named pieces, or all of them in order. Logs and results go to DIR (default: gpu-results); a finished piece leaves
# DIR/PIECE.done and is skipped next time. Reproductions that take longer stop after 450 s and go on from their checkpoints
# when the script is called again. Exit code: 0 all done, 1 something failed, 3 something is to be continued.
#
# `--device cpu` (or DEVICE=cpu) runs tiny versions, which only shows that the script works. Uses `uv run` where uv is, and
# otherwise the python on the PATH with this checkout on its path.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

PIECES=(
  device agreement inversion_agreement cohort resnet dp quickstart inversion_lenet inversion_resnet18 inversion_decoupled
  byzantine_fmnist resnet_cifar10 fedgkt_cifar10 privacy_cifar10
)
LIMIT=450
out=gpu-results
device=${DEVICE:-cuda}
chosen=()

usage() {
  echo "usage: bash benchmarks/gpu.sh [--list] [--out DIR] [--device cuda|cpu] [PIECE ...]" >&2
  exit 2
}

known() {
  local piece
  for piece in "${PIECES[@]}"; do [ "$piece" = "$1" ] && return 0; done
  return 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --list) printf '%s\n' "${PIECES[@]}"; exit 0 ;;
    --out) [ $# -gt 1 ] || usage; out=$2; shift ;;
    --device) [ $# -gt 1 ] || usage; device=$2; shift ;;
    -*) usage ;;
    *) known "$1" || { echo "unknown piece: $1; known: ${PIECES[*]}" >&2; exit 2; }; chosen+=("$1") ;;
  esac
  shift
done
case $device in cuda | cpu) ;; *) usage ;; esac
[ ${#chosen[@]} -gt 0 ] || chosen=("${PIECES[@]}")

if command -v uv >/dev/null; then
  python=(uv run python)
else
  python=(python3)
  export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
fi
mkdir -p "$out"

tiny() { [ "$device" = cpu ]; }

invert() { # piece, options ...
  local piece=$1
  shift
  tiny && set -- "$@" --trials 1 --iterations 20
  "${python[@]}" -m fedsec invert --device "$device" "$@" --out "$out/$piece"
}

reproduce() { # scenario, options ...: interrupted like a person would, so that it leaves what it finished
  local scenario=scenarios/$1.yaml
  shift
  if [ ! -e "$scenario" ]; then
    echo "there is no $scenario"
    return 1
  fi
  "${python[@]}" -m fedsec run "$scenario" --device "$device" --out "$out/runs" "$@"
}

run_piece() {
  case $1 in
    device)
      "${python[@]}" -c "import torch; print(torch.__version__, '$device' if '$device' == 'cpu' else torch.cuda.get_device_name())"
      ;;
    agreement)
      if tiny; then set -- -n0 tests/engine/test_cuda_graphs.py tests/engine/test_precision.py; else
        set -- tests/test_cuda.py tests/engine tests/federation tests/privacy tests/test_conformance.py tests/metrics
      fi
      "${python[@]}" -m pytest -q "$@"
      ;;
    inversion_agreement)
      if tiny; then set -- -n0 tests/matching/test_lbfgs.py; else set -- tests/matching tests/attacks; fi
      "${python[@]}" -m pytest -q "$@"
      ;;
    cohort)
      set -- --device "$device"
      tiny && set -- "$@" --clients 3 --rounds 1 --precision fp32 bf16
      "${python[@]}" benchmarks/gpu_cohort.py "$@"
      ;;
    resnet)
      set -- --device "$device"
      tiny && set -- "$@" --model resnet8 --clients 2 --images 20 --rounds 1
      "${python[@]}" benchmarks/gpu_resnet.py "$@"
      ;;
    dp)
      set -- --device "$device"
      tiny && set -- "$@" --models cnn --modes auto --turns 1 --warmup 1
      "${python[@]}" benchmarks/dp.py "$@"
      ;;
    quickstart) reproduce quickstart --workers 1 ;;
    inversion_lenet)
      invert "$1" --inversion inverting_gradients --labels --batch-size 1 --dataset photos --trials 40
      ;;
    inversion_resnet18)
      invert "$1" --inversion inverting_gradients --labels --batch-size 1 --model resnet18 --client-mode eval \
        --dataset photos --trials 4
      ;;
    inversion_decoupled) invert "$1" --trials 20 ;;
    byzantine_fmnist) reproduce "$1" --workers 2 ;;
    resnet_cifar10 | fedgkt_cifar10 | privacy_cifar10) reproduce "$1" --workers 1 ;;
  esac
}

# `timeout` starts programs, not functions: each piece runs in this script again.
if [ -n "${FEDSEC_GPU_PIECE:-}" ]; then
  run_piece "$FEDSEC_GPU_PIECE"
  exit $?
fi

failed=0
continued=0
for piece in "${chosen[@]}"; do
  if [ -e "$out/$piece.done" ]; then
    echo "== $piece: done before"
    continue
  fi
  echo "== $piece"
  began=$SECONDS
  FEDSEC_GPU_PIECE=$piece timeout --signal=INT --kill-after=20 "$LIMIT" \
    bash benchmarks/gpu.sh --out "$out" --device "$device" 2>&1 | tee -a "$out/$piece.log"
  code=${PIPESTATUS[0]}
  case $code in
    0) touch "$out/$piece.done"; echo "== $piece: done in $((SECONDS - began)) s" ;;
    124 | 130 | 137) continued=1; echo "== $piece: to be continued after $((SECONDS - began)) s; call the script again" ;;
    *) failed=1; echo "== $piece: FAILED with exit code $code" ;;
  esac
done
[ "$failed" = 0 ] || exit 1
[ "$continued" = 0 ] || exit 3
