#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Long load at 80 % of what the live-sealing pair can do, while limits and models change every second and keys step every 2^22 packets.
#
#   SOAK_SECONDS=n   (600)          SOAK_MODEL=name (fraud)        SOAK_KIND=memif|af_xdp (memif)
#
# Rows in build/perf/soak.json. Fails when a request is lost, a datagram is not accounted for, or memory grows.
# timeout: 300
# shellcheck disable=SC2034,SC2317 # lib_enter returns in the inner shell only; shellcheck thinks never
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
# shellcheck source=firmware-config/lib.sh
. firmware-config/lib.sh
RIG_MEMORY_MB=256
lib_enter $((RIG_MEMORY_MB + 288)) "$@"
# shellcheck source=firmware-config/stack.sh
. firmware-config/stack.sh
# shellcheck source=perf/rig.sh
. perf/rig.sh
RIG_ROOT=$MR_WORK
RIG_SESSIONS=1024
RIG_HUGE=
((${MR_HUGE_MISSING:-0} > 0)) || RIG_HUGE=1
seconds=${SOAK_SECONDS:-600} model=${SOAK_MODEL:-fraud} kind=${SOAK_KIND:-memif}
say() { printf '%s\n' "$*" >&2; }

EPOCH_DATAGRAMS=$((1 << 22))

# Once a second: another rate (never one that is felt), another artifact of the model under load. One line each that was done.
change_all() {
	local i at
	for ((i = 1; ; i++)); do
		at=$((began + i * 1000000 - ${EPOCHREALTIME/./}))
		((at <= 0)) || sleep "$((at / 1000000)).$(printf %06d $((at % 1000000)))"
		millrace plan set bench --rate $((400000000 + i % 2 * 100000000)) --burst $((40000000 + i % 3 * 1000000)) >>"$MR_WORK/log/plan.log" 2>&1 &&
			echo limits >>"$RIG_ROOT/changes"
		stack_model "$model" && echo model >>"$RIG_ROOT/changes"
	done
}

lib_net || mr_die "the measuring network could not be made"
rig_up "$kind" || { stack_last_words 15; mr_die "the $kind appliance did not start"; }
began=${EPOCHREALTIME/./}
change_all &
changer=$!
# The maximum of the pair under the same changes: loading a model takes its share of the client's core. Before and after:
# what a virtual machine is given is not the same for ten minutes.
maximum() {
	rig_bench "$model" "$RIG_ROOT/max.json" --seconds 10 --window 256 --epoch-datagrams "$EPOCH_DATAGRAMS" || return 1
	jq .req_s "$RIG_ROOT/max.json"
}
max=$(maximum) || mr_die "the maximum could not be measured: $(tail -1 "$MR_WORK/log/bench.log")"
rate=$(jq '.req_s * 0.8 | floor' "$RIG_ROOT/max.json")
say "soak: $model over $kind, $seconds s at $rate requests/s, 80 % of the live-sealing pair's ${max%.*}"
: >"$RIG_ROOT/changes"
/usr/bin/python3 perf/soak.py sample "$MILLRACE_RUN/control.sock" "$CONTROL_PID" "$RIG_ROOT/samples.jsonl" &
sampler=$!
rig_bench "$model" "$RIG_ROOT/report.json" --seconds "$seconds" --rate "$rate" --attempts 10 --timeout-ms 50 --epoch-datagrams "$EPOCH_DATAGRAMS" ||
	say "soak: $(tail -1 "$MR_WORK/log/bench.log")"
sleep 1.5 # one more sample: everything has arrived
kill "$sampler"
limits=$(grep -c limits "$RIG_ROOT/changes") models=$(grep -c model "$RIG_ROOT/changes")
after=$(maximum) || after=0
kill "$changer"
wait "$changer" "$sampler" 2>/dev/null
mkdir -p "$BUILD/perf"
jq -n --argjson max "$max" --argjson rate "$rate" --arg model "$model" --arg kind "$kind" --argjson epoch "$EPOCH_DATAGRAMS" \
	--argjson limits "$limits" --argjson models "$models" --argjson after "$after" \
	--arg machine "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(uname -r)" \
	--arg commit "$(git rev-parse --short HEAD 2>/dev/null || echo none)" \
	'{machine: $machine, commit: $commit, model: $model, port: $kind, max_req_s: $max, max_after_req_s: $after, rate: $rate, epoch_datagrams: $epoch,
	limit_changes: $limits, model_changes: $models}' >"$RIG_ROOT/run.json"
/usr/bin/python3 perf/soak.py judge "$RIG_ROOT/samples.jsonl" "$RIG_ROOT/report.json" "$RIG_ROOT/run.json" "$BUILD/perf/soak.json" >"$RIG_ROOT/verdict"
status=$?
cat "$RIG_ROOT/verdict"
rig_down
echo "$(grep -c '^ok' "$RIG_ROOT/verdict") passed, $(grep -c '^not ok' "$RIG_ROOT/verdict") failed, 0 skipped"
exit "$status"
