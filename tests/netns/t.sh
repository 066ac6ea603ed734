# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# What the end-to-end suites share: a private world, an appliance in it, and sentences that hold or do not.
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=firmware-config/lib.sh
. firmware-config/lib.sh
# shellcheck disable=SC2034
MR_INSTANCE=test MR_HANG_MS=1000
passed=0 failed=0

# t_enter "$@": as lib_enter, or skip with the reason.
t_enter() {
	local missing=''
	[[ $(id -u) -eq 0 ]] || missing="root is needed for namespaces and AF_XDP"
	[[ -d /sys/fs/bpf ]] || missing="this kernel has no BPF file system"
	for program in millrace-control millrace-dataplane millrace-bench millrace; do
		[[ -x ${BUILD:-build}/bin/$program ]] || missing="$program is not built"
	done
	[[ -z $missing ]] || { echo "$missing"; exit 77; }
	lib_enter 288 "$@"
	# shellcheck source=firmware-config/stack.sh
	. firmware-config/stack.sh
}

# Called by lib.sh on the way out: the programs' last words when something failed.
mr_on_leave() {
	[[ $1 == 0 ]] || stack_last_words 15
}

# is "sentence" COMMAND...: holds when the command succeeds.
is() {
	local sentence=$1
	shift
	if "$@"; then
		passed=$((passed + 1)) && echo "ok      $sentence"
	else
		failed=$((failed + 1)) && echo "not ok  $sentence"
	fi
}

# must "sentence" COMMAND...: as is, but without it the rest makes no sense.
must() {
	local before=$failed
	is "$@"
	((failed == before)) || t_end
}

t_end() {
	echo "$passed passed, $failed failed, 0 skipped"
	((failed == 0))
	exit
}

# report FILTER: of the last load's report, as a truth.
report() {
	[[ -s $MR_WORK/report.json ]] || { tail -1 "$MR_WORK/log/bench.log"; return 1; }
	jq -e "$1" "$MR_WORK/report.json" >/dev/null || { jq -c . "$MR_WORK/report.json"; return 1; }
}

# refused TEXT COMMAND...: the command fails and says TEXT.
refused() {
	local text=$1 said
	shift
	said=$("$@" 2>&1) && { echo "was not refused: $said"; return 1; }
	grep -qiE "$text" <<<"$said" || { echo "expected '$text', was told: $said"; return 1; }
}

# load KEY [options]: MODEL over UDP with its held-out rows, every answer compared; report in report.json.
MODEL=digits
load() {
	local key=$1
	shift
	rm -f "$MR_WORK/report.json"
	stack_bench "$key" "$MODEL" --rows-file "$ZOO/$MODEL/heldout_x.npy" --order rr --expect "$ZOO/$MODEL/expected.npy" \
		--json "$MR_WORK/report.json" --quiet "$@" 2>>"$MR_WORK/log/bench.log"
}
