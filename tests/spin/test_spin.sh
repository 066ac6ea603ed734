#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Model-check the lock-free parts with spin: every model holds, and every broken variant of it is found out.
#
#   model.pml ─ spin -a ─▶ pan.c ─ gcc ─▶ pan: all interleavings, or a counter-example
#
# timeout: 180
set -uo pipefail
cd "$(dirname "$0")" || exit 1
models=$PWD passed=0 failed=0
command -v spin >/dev/null || { echo "spin is not installed"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# search DIRECTORY MODEL DEFINE...: exhaustive; what pan said in DIRECTORY/pan.log.
search() {
	local at=$1 model=$2
	shift 2
	mkdir "$at" && cd "$at" || return 1
	spin "${@/#/-D}" -a "$models/$model.pml" >spin.log 2>&1 || { cat spin.log; return 1; }
	gcc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=1500 -o pan pan.c || return 1
	timeout 120 ./pan -m1000000 >pan.log 2>&1 || { tail -3 pan.log; return 1; }
}

# holds DIRECTORY MODEL DEFINE...: complete and without error; no limit of depth or memory was met.
holds() {
	search "$@" && grep -q 'errors: 0$' pan.log &&
		! grep -qE 'max search depth too small|out of memory|Search not completed' pan.log
	[[ $? == 0 ]] && echo "ok      ${*:2} holds in $(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' pan.log) states" ||
		echo "not ok  ${*:2} holds: $(grep -m1 -E '^pan:1|error' pan.log)"
}

# breaks DIRECTORY MODEL DEFINE...: by an assertion of the model, not by some accident.
breaks() {
	search "$@" && grep -q 'errors: 1$' pan.log && grep -q 'assertion violated' pan.log
	[[ $? == 0 ]] && echo "ok      ${*:2} is found out: $(sed -nE 's/^pan:1: assertion violated *(.*) \(at depth.*/\1/p' pan.log)" ||
		echo "not ok  ${*:2} is found out"
}

cases=(
	"holds limiter" "holds limiter STEADY" "holds limiter TAMPER"
	"breaks limiter BROKEN_CAS" "breaks limiter BROKEN_MOVE" "breaks limiter BROKEN_GENERATION"
	"breaks limiter BROKEN_OPEN" "breaks limiter BROKEN_SAME"
	"holds slots" "breaks slots BROKEN_RELAXED" "breaks slots BROKEN_MARK" "breaks slots BROKEN_WAIT"
	"breaks slots BROKEN_SLOT"
	"holds table" "holds table LONG_LIVES" "breaks table BROKEN_LOCK" "breaks table BROKEN_PUBLISH"
	"breaks table BROKEN_HIGHEST" "breaks table BROKEN_BIT"
	"holds ratchet" "holds ratchet NO_CRASH" "breaks ratchet BROKEN_BLIND" "breaks ratchet NO_CRASH BROKEN_AGE"
	"breaks ratchet BROKEN_PROMOTION" "breaks ratchet BROKEN_STEP" "breaks ratchet BROKEN_WIPE"
	"holds ring" "breaks ring BROKEN_ORDER" "breaks ring BROKEN_FULL" "breaks ring BROKEN_TAIL"
)
for i in "${!cases[@]}"; do
	read -ra words <<<"${cases[i]}"
	while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n; done
	"${words[0]}" "$work/$i" "${words[@]:1}" >"$work/$i.result" 2>&1 &
done
wait
for i in "${!cases[@]}"; do
	cat "$work/$i.result"
	if grep -q '^ok ' "$work/$i.result"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
