#!/usr/bin/env bash
# run.sh [FOLDER] [OPTION…]: test and measure on this machine's GPU; gpu.json and trace.json.gz into FOLDER, else into $OUT.
# `python -m infra.gpu_check measure --help` says the options. PYTHON names the interpreter, python3 unless it is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
begun=$(date +%s)
folder=${OUT:-}
if [[ $# -gt 0 && $1 != -* ]]; then folder=$1; shift; fi
[[ -n $folder ]] || { echo "name a folder for what is found, or set OUT" >&2; exit 2; }
python=${PYTHON:-python3}
if ! "$python" -c 'import rasterio' 2>/dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m tarfile --filter data -e build/gpu_check/site.tar.xz "$site"
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONUNBUFFERED=1
"$python" -m infra.gpu_check measure "$folder" --begun "$begun" "$@"
