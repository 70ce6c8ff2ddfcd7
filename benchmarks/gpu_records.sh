#!/usr/bin/env bash
# Measures this machine's GPU in one call of less than 9 minutes: the linears of LLaMA-2-7B and LLaMA-3-8B by every kernel at
# 1 to 8192 tokens, square sizes, and one decoder block dense and 2:4. Writes into measurement/records/, ready to commit.
#
#   benchmarks/gpu_records.sh [FOLDER]        FOLDER: where to write, measurement/records unless given
#   PRUNESIM=...  the command (default: .venv/bin/prunesim, or `python -m studies.cli` of the python on the path)
#   SECONDS_LIMIT=520  stops after so long; what was measured stands, and a repeated call goes on in the working folder
#
# The record names the kernels that do not run on this card, with the reason. int4 takes bf16 inputs only, so a second, shorter
# pass is in bf16.
set -uo pipefail
cd "$(dirname "$0")/.."
FOLDER=$(realpath -m "${1:-measurement/records}")
WORK=${WORK:-out/gpu-records}
LIMIT=${SECONDS_LIMIT:-520}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "${PRUNESIM:-}" ]; then read -r -a COMMAND <<<"$PRUNESIM"
elif [ -x .venv/bin/python ]; then COMMAND=(.venv/bin/python -m studies.cli)
else COMMAND=(python3 -m studies.cli); fi
TOKENS=1,16,64,256,1024,2048,8192
SQUARES=()
for SIZE in 256 512 1024 2048 4096 8192; do SQUARES+=("$SIZE,$SIZE,$SIZE"); done
STATUS=0

measure() { # a pass that fails or runs out of time does not stop the ones behind it
    local LEFT=$((LIMIT - SECONDS))
    if [ "$LEFT" -lt 20 ]; then echo "time is up, left out: $*" >&2; STATUS=1; return; fi
    echo "== measure $* ($LEFT s left)" >&2
    timeout --signal=INT --kill-after=10 "$LEFT" "${COMMAND[@]}" measure "$@" --out "$WORK" --format csv >/dev/null || {
        local CODE=$?
        echo "measure $* ended with $CODE" >&2
        [ "$STATUS" -eq 2 ] || STATUS=$CODE
    }
}

mkdir -p "$WORK"
measure --model llama-2-7b --dtype fp16 --tokens "$TOKENS"
[ "$STATUS" -eq 2 ] && exit 2 # no GPU, or a mistake: the line above says which
measure --model llama-3-8b --dtype fp16 --tokens "$TOKENS"
measure --shapes "${SQUARES[@]}" --dtype fp16
measure --model llama-2-7b --dtype fp16 --end-to-end block --seq 2048
measure --model llama-2-7b --dtype bf16 --tokens 1,16,64,2048 --kernels dense,int4,cusparselt24
measure --model llama-3-8b --dtype bf16 --tokens 1,16,64,2048 --kernels dense,int4,cusparselt24

if [ -f "$WORK/record.csv" ]; then
    NAME=$(head -n 1 "$WORK/record.csv" | python3 -c '
import json, re, sys
print(re.sub(r"[^a-z0-9]+", "-", json.loads(sys.stdin.readline()[2:])["environment"]["gpu"].lower()).strip("-"))')
    mkdir -p "$FOLDER"
    cp "$WORK/record.csv" "$FOLDER/$NAME.csv"
    for FILE in "$WORK"/end-to-end-*.json; do
        [ -f "$FILE" ] && cp "$FILE" "$FOLDER/$NAME-$(basename "$FILE")"
    done
    ls -l "$FOLDER" >&2
fi
echo "took $SECONDS s" >&2
exit "$STATUS"
