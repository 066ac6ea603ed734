#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A thousand deaths at named places, and proof that the client would have noticed: with a step left out it must fail.
#
# timeout: 300
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
make -s --no-print-directory FAILPOINTS=1 SAN="${SAN:-}" "$BUILD/failpoints/tests/kills" >/dev/null || exit 1
kills=$BUILD/failpoints/tests/kills
TMPDIR=$(mktemp -d) || exit 1
export TMPDIR
log=$TMPDIR/log
trap 'rm -rf "$TMPDIR"' EXIT
passed=0 failed=0

"$kills" "${KILLS:-1000}" "${SEED:-1}" >"$log" 2>&1
cat "$log"
read -r passed _ failed _ < <(tail -1 "$log")
[[ $(tail -1 "$log") =~ ^[0-9]+\ passed ]] || { passed=0 failed=1; }

# found STEP SENTENCE: without STEP the run fails, and by the sentence meant for it.
found() {
	"$kills" --skip "$1" >"$log" 2>&1
	if grep -q "^not ok  $2" "$log"; then
		passed=$((passed + 1)) && echo "ok      without $1: $(grep -m1 "^not ok  $2" "$log" | cut -c9-)"
	else
		failed=$((failed + 1)) && echo "not ok  without $1 the client notices nothing" && cat "$log"
	fi
}
found send_counter.publish "reply counters"
found replay.bit "datagrams repeated"
found replay.highest "datagrams repeated"
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
