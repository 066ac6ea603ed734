#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Run the fuzzers named as arguments for SECONDS_EACH seconds each; new inputs go to build/fuzz-corpus,
# crashes to build/fuzz-crashes, with the command that repeats each.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
seconds=${SECONDS_EACH:-60}
crashes=$BUILD/fuzz-crashes
bad=0
mkdir -p "$crashes"

for name in "$@"; do
	seeds=tests/fuzz/corpus/$name
	found=$BUILD/fuzz-corpus/$name
	log=$BUILD/fuzz-corpus/$name.log
	mkdir -p "$found"
	dirs=("$found")
	[[ -d $seeds ]] && dirs+=("$seeds")
	if "$BUILD/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$crashes/$name-" "${dirs[@]}" >"$log" 2>&1; then
		runs=$(sed -nE 's/^stat::number_of_executed_units: *([0-9]+)/\1/p' "$log")
		printf '  ok    %-28s %12s inputs, %s in the corpus\n' "$name" "${runs:-?}" \
			"$(find "${dirs[@]}" -type f | wc -l)"
	else
		bad=$((bad + 1))
		printf '  FAIL  %-28s see %s\n' "$name" "$log"
		grep -aE 'ERROR|runtime error|SUMMARY|Test unit written' "$log" | head -5 | sed 's/^/        /'
		for input in "$crashes/$name"-*; do
			[[ -f $input ]] && echo "        repeat with: $BUILD/fuzz/$name $input"
		done
	fi
done
echo "$(($# - bad)) passed, $bad failed, 0 skipped"
((bad == 0))
