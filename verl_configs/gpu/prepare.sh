#!/usr/bin/env bash
# What gpu/first_steps.sh and gpu/learn.sh need, made on any machine with this package; no GPU.   usage: gpu/prepare.sh FOLDER
# FOLDER/data: items of easy Drift to train on, and held-out ones twice, with Update and without. FOLDER/sft: demonstrations, with
# the decision not to store among them. The model comes from benchmarks/smollm2.py.
#   ATOMMEM_EPISODES    demonstrations (2000)
#   ATOMMEM_TRAIN       items to train on (2048)
#   ATOMMEM_VALIDATION  held-out items (128)
set -euo pipefail
out=${1:?usage: gpu/prepare.sh FOLDER}
mkdir -p "$out"
out=$(cd "$out" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
task=(num_docs=12 entities=2 attributes=1 changes_per_fact=2 distractors=0.5 sources=1 hearsay=0 corrections=0 turnover=0
  'question_kinds={"latest":1.0}' chunk_tokens=50 max_entries=2 scratchpad=false max_reads_per_question=1 store=numpy)
rm -rf "$out/data" "$out/data_without_update" "$out/sft" "$out/demonstrations"
# Of two entries for two houses, each new name takes an update; tidy makes it.
atommem eval Drift --docs 12 --agent tidy --episodes "${ATOMMEM_EPISODES:-2000}" --set "${task[@]:1}" -o "$out/demonstrations"
atommem export "$out/demonstrations/traces.jsonl" -o "$out/sft" --format verl --threshold 1
atommem data verl Drift -o "$out/data" --train "${ATOMMEM_TRAIN:-2048}" --validation "${ATOMMEM_VALIDATION:-128}" --set "${task[@]}"
atommem data verl Drift -o "$out/data_without_update" --train 1 --validation "${ATOMMEM_VALIDATION:-128}" \
  --set "${task[@]}" 'operations=["create","read","delete"]'
python "$here/held_out_twice.py" "$out/data" "$out/data_without_update"
rm -r "$out/data_without_update"
