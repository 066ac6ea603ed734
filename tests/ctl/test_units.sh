#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The systemd units are valid and stay hardened: systemd-analyze verify and its exposure score, both offline.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
MAX_EXPOSURE=35 # tenths: 3.5 of 10; the units stand at 2.9 and 3.2

command -v systemd-analyze >/dev/null || { echo "systemd-analyze is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

result() {
	if (($1 == 0)); then
		passed=$((passed + 1)) && echo "ok      $2"
	else
		failed=$((failed + 1)) && echo "not ok  $2"
	fi
}

# verify looks for the programs: give it an installed tree, with files that can be executed.
mkdir -p "$work/bin"
for program in millrace-dataplane millrace-control; do
	printf '#!/bin/sh\n' >"$work/bin/$program" && chmod 755 "$work/bin/$program"
done
for unit in firmware-config/systemd/*.service; do
	sed "s|@PREFIX@|$work|g" "$unit" >"$work/${unit##*/}"
done

for unit in "$work"/*.service; do
	name=${unit##*/}
	said=$(SYSTEMD_UNIT_PATH=$work: systemd-analyze verify --man=no --recursive-errors=no "$unit" 2>&1 | grep -F "$name")
	[[ -z $said ]] || echo "$said"
	[[ -z $said ]]
	result $? "$name is valid for systemd-analyze verify"
	said=$(systemd-analyze security --offline=yes --no-pager --threshold="$MAX_EXPOSURE" "$unit" 2>&1)
	status=$?
	tail -1 <<<"$said"
	result "$status" "the exposure of $name is at most $MAX_EXPOSURE tenths"
	grep -q '@PREFIX@' "firmware-config/systemd/$name"
	result $? "$name follows PREFIX"
done
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
