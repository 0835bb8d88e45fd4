#!/usr/bin/env bash
# Tests and measures bolt on a machine with a GPU and without a network.
# Usage, in the root of the repository: benchmarks/on_gpu.sh WHEELS test|kernels|models|sanitize|check [I/N]
# WHEELS is the folder of `python -m benchmarks carry WHEELS`. Results are written to $OUT (default: gpu-results).
# ONLY=text measures the rows whose name has it, BUDGET=time is that of bolt's search.
# JOBS is the number of compilers at a time (default: by cores and free memory).
# A command ends within LIMIT seconds (default 570); slices I/N split the work.
set -euo pipefail

wheels=$(cd "$1" && pwd) what=$2 slice=${3:-1/1}
out=${OUT:-gpu-results} limit=${LIMIT:-570} site=${SITE:-/tmp/bolt-site}
mkdir -p "$out"

if [ ! -e "$site/ready" ]; then
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$site" "$wheels"/*.whl
  ln -sfn "$PWD/benchmarks" "$site/benchmarks"
  touch "$site/ready"
fi
# Not the checkout's bolt/, which lacks graph/ and templates/: the installed one.
jobs=${JOBS:-0}
export BOLT_TEST_JOBS=$jobs PYTHONPATH=$site PYTHONSAFEPATH=1 BOLT_CARRIED=$wheels PYTHONUNBUFFERED=1
export PATH=$site/bin:/usr/local/cuda/bin:$PATH
bounded() { timeout --kill-after=10 "$((limit - SECONDS))" "$@"; }

case $what in
check)
  nvidia-smi || true
  free -g
  python3 -m bolt doctor || true
  ;;
test)
  # The table of kernels, to which the tests add where they ran.
  cp benchmarks/results/cuda-kernels.json "$out/support.json"
  # First all is compiled on all cores, then the tests only run kernels.
  BOLT_TEST_DEVICE=compile timeout "$((limit * 6 / 10))" python3 -m pytest -q -m "gpu and not slow" --slice "$slice" tests/gpu tests/kernels \
    2>&1 | tail -n 20 || true # what does not compile fails below, with its config
  bounded python3 -m pytest -q -m "gpu and not slow" --slice "$slice" --grid "$out/support.json" tests/gpu tests/kernels \
    2>&1 | tee "$out/test.log" | tail -n 60
  ;;
kernels | models)
  budget=4m
  [ "$what" = models ] && budget=40s
  bounded python3 -m benchmarks gpu "$what" --jobs "$jobs" --slice "$slice" --only "${ONLY:-}" --out "$out/gpu.json" \
    --budget "${BUDGET:-$budget}" --limit "$((limit - SECONDS - 60))s"
  ;;
sanitize)
  program=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer) || {
    echo "compute-sanitizer is missing: install the CUDA toolkit's package of that name" >&2
    exit 4
  }
  subset="cutlass_gemm or softmax or cutlass_conv or reduce or copy"
  BOLT_TEST_DEVICE=compile bounded python3 -m pytest -q -m gpu tests/gpu/test_grid.py -k "$subset" | tail -n 3 || true
  status=0
  for tool in memcheck racecheck; do
    bounded "$program" --tool "$tool" --target-processes all --error-exitcode 9 \
      python3 -m pytest -q -m gpu tests/gpu/test_grid.py -k "$subset" 2>&1 | tee "$out/$tool.log" | tail -n 15 || status=1
  done
  exit $status
  ;;
*)
  echo "unknown command $what; choose test, kernels, models, sanitize or check" >&2
  exit 2
  ;;
esac
