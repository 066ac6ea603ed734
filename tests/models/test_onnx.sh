#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# ONNX's own backend tests (libonnx-testdata), by every kernel backend: no wrong answer, no crash.
set -eu
BUILD=${BUILD:-build}
DATA=/usr/include/onnx/backend/test/data
FLOOR=774 # measured: folders that passed when this test was last changed
passed=0
failed=0

for backend in auto native openblas scalar; do
	out=$(mktemp)
	status=0
	"$BUILD/bin/millrace-model" test --backend "$backend" "$DATA" >"$out" || status=$?
	last=$(tail -n 1 "$out")
	ok=$(echo "$last" | sed -n 's/^\([0-9]*\) passed, 0 failed, [0-9]* unsupported$/\1/p')
	if [ "$status" -eq 0 ] && [ "${ok:-0}" -ge "$FLOOR" ]; then
		echo "ok: $backend: $last"
		passed=$((passed + 1))
	else
		grep '^FAIL' "$out" || true
		echo "FAILED: $backend: exit $status, '$last', at least $FLOOR must pass"
		failed=$((failed + 1))
	fi
	rm -f "$out"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
