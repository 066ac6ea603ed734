#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Run every suite given as argument, one line each, and the fuzzers' corpora as plain tests.
#
#   BUILD=build tests/run.sh build/tests/test_x tests/netns/test_y.sh ...
#
# A suite ends in 0 (passed), 77 (skipped, the reason is its last line) or anything else (failed). Counts come
# from cmocka's lines or from a closing `N passed, N failed, N skipped`; a suite without either counts as one.
# TEST_TIMEOUT: seconds a suite may take (180); a script may ask for more with a line `# timeout: N`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
SAN=${SAN:-}
logs=$BUILD/test-logs
mkdir -p "$logs"
export BUILD SAN

export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=0:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export LSAN_OPTIONS=${LSAN_OPTIONS:-suppressions=$PWD/tests/lsan.supp:print_suppressions=0}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1}

passed=0 failed=0 skipped=0 running=0

# Ctrl-C ends the suite that runs, which cleans up after itself, and nothing else.
trap 'if ((running)); then kill -TERM "$running" 2>/dev/null; wait "$running"; fi; exit 130' INT TERM

if [[ -t 1 ]]; then
	green=$'\e[32m' red=$'\e[31m' yellow=$'\e[33m' plain=$'\e[0m'
else
	green='' red='' yellow='' plain=''
fi

# line NAME MARK COUNTS SECONDS [REASON]
line() {
	local colour=$green
	[[ $2 == FAIL ]] && colour=$red
	[[ $2 == skip ]] && colour=$yellow
	printf '  %s%-4s%s  %-34s %-24s %6ss%s\n' "$colour" "$2" "$plain" "$1" "$3" "$4" "${5:+  $5}"
}

# count_log LOG STATUS: sets p f s, and why for a skip.
count_log() {
	local log=$1 status=$2 closing
	p=0 f=0 s=0 why=''
	closing=$(grep -aE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -1)
	if [[ $status == 77 ]]; then
		s=1 why=$(tail -1 "$log")
	elif [[ -n $closing ]]; then
		read -r p f s < <(tr -dc '0-9 \n' <<<"$closing" | tr -s ' ')
	elif grep -qaE '^\[==========\]' "$log"; then
		p=$(sed -nE 's/^\[  PASSED  \] ([0-9]+) test.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
		f=$(sed -nE 's/^\[  FAILED  \] ([0-9]+) test.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
		s=$(sed -nE 's/^\[  SKIPPED \] ([0-9]+) test.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	elif [[ $status == 0 ]]; then
		p=1
	fi
	# A crash, a leak report or a timeout after good counts is a failure all the same.
	if [[ $status != 0 && $status != 77 && $f == 0 ]]; then
		f=1
	fi
}

# suite NAME SECONDS COMMAND...
suite() {
	local name=$1 limit=$2 log=$logs/$1.log began=$EPOCHREALTIME status seconds counts
	shift 2
	timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 </dev/null &
	running=$!
	wait "$running"
	status=$?
	running=0
	seconds=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
	((status == 124 || status == 137)) && echo "no end after $limit s: timed out" >>"$log"
	count_log "$log" "$status"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	counts="$p passed"
	((f)) && counts+=", $f failed"
	((s)) && counts+=", $s skipped"
	if ((f)); then
		line "$name" FAIL "$counts" "$seconds"
		grep -aE '^(\[  ERROR|not ok|FAIL)|ERROR: (Address|Leak)Sanitizer|runtime error' "$log" | head -10 | sed 's/^/        /'
		echo "        --- last lines of $log (exit status $status)"
		tail -n 15 "$log" | sed 's/^/        /'
	elif ((s && !p)); then
		line "$name" skip "$counts" "$seconds" "$why"
	else
		line "$name" ok "$counts" "$seconds" "$(grep -aE '^(\[  SKIPPED \] [a-z_]|skip)' "$log" | head -1)"
	fi
}

limit_of() {
	local asked=''
	[[ $1 == *.sh || $1 == *.py ]] && asked=$(sed -nE 's/^# timeout: ([0-9]+).*/\1/p' "$1" | head -1)
	echo "${asked:-${TEST_TIMEOUT:-180}}"
}

echo "suites${SAN:+ (SAN=$SAN)}:"
for test in "$@"; do
	name=$(basename "$test")
	case $test in
	*.sh) suite "$name" "$(limit_of "$test")" bash "$test" ;;
	*.py) suite "$name" "$(limit_of "$test")" /usr/bin/python3 "$test" ;;
	*) suite "$name" "$(limit_of "$test")" "$test" ;;
	esac
done

if [[ -z $SAN ]]; then
	for fuzzer in "$BUILD"/fuzz/*; do
		[[ -x $fuzzer && ! -d $fuzzer ]] || continue
		corpus=tests/fuzz/corpus/$(basename "$fuzzer")
		if [[ -d $corpus ]]; then
			suite "$(basename "$fuzzer")" 60 "$fuzzer" -runs=0 "$corpus"
		else
			skipped=$((skipped + 1))
			line "$(basename "$fuzzer")" skip "1 skipped" 0.0 "no corpus in $corpus"
		fi
	done
fi

echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
