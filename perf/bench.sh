#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The performance table of `make bench`: ours and the peers' in one run, rows of design.md section 9.
#
#   BENCH=id,id   run the measurements these rows come from (prefixes will do: BENCH=risk.memif,rtt; sizes)
#   BENCH_COUNT=n requests of a throughput run (2000000)
#   BENCH_FULL=1  also s100000 (enrolling takes about a minute)
#
# Server and client are pinned to a core each. Rates: pre-sealed requests, closed loop, best of seven runs over three windows (the machine is
# shared: it only ever takes away).
# shellcheck disable=SC2317 # lib_enter returns in the inner shell only; shellcheck thinks never
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
# shellcheck source=firmware-config/lib.sh
. firmware-config/lib.sh
RIG_MEMORY_MB=512
# Outside: the private world has no way to the package registry.
[[ -n ${MR_INSIDE:-} ]] || BUILD=$BUILD perf/models.sh prepare || mr_warn "the bench models could not be made"
lib_enter $((RIG_MEMORY_MB + 288)) "$@"
# shellcheck source=firmware-config/stack.sh
. firmware-config/stack.sh
# shellcheck source=perf/rig.sh
. perf/rig.sh
RIG_ROOT=$MR_WORK
# shellcheck source=perf/flood.sh
. perf/flood.sh
RIG_SESSIONS=65536 # three runs of 10,000 stay enrolled side by side
[[ -z ${BENCH_FULL:-} ]] || RIG_SESSIONS=262144
RIG_HUGE=
((${MR_HUGE_MISSING:-0} > 0)) || RIG_HUGE=1
COUNT=${BENCH_COUNT:-2000000}
WINDOWS="64 256 1024 256 1024 256 1024"
mkdir -p "$BUILD/perf"
ROWS=$BUILD/perf/rows.jsonl # not in the private world: what was measured outlives whatever ends this run
: >"$ROWS"
failed=0 ended=''

want() { # any of the ids or prefixes given is a prefix of one of ours, or the other way round
	local asked mine
	[[ -n ${BENCH:-} ]] || return 0
	for asked in ${BENCH//,/ }; do
		for mine in "$@"; do
			[[ $mine == "$asked"* || $asked == "$mine"* ]] && return 0
		done
	done
	return 1
}
say() { printf '%s\n' "$*" >&2; }
problem() {
	say "bench: $*"
	failed=1
}

# row ID VALUE UNIT [PEER PEER_VALUE [RATIO]]: no value, no row.
row() {
	[[ -n ${2:-} && $2 != null ]] || { problem "$1 could not be measured"; return; }
	jq -nc --arg id "$1" --argjson value "$2" --arg unit "$3" --arg peer "${4:-}" --argjson pv "${5:-null}" \
		--argjson ratio "${6:-null}" '{id: $id, value: $value, unit: $unit,
		peer: (if $peer == "" then null else $peer end), peer_value: $pv, ratio: $ratio}' >>"$ROWS"
}
field() { jq -r "$2 // empty" "$1" 2>/dev/null; }
ratio() { awk -v a="${1:-}" -v b="${2:-}" 'BEGIN { if (a > 0 && b > 0) printf "%.4g", a / b; else print "null" }'; }

# best COMMAND MODEL ID: the highest rate over the windows, with its latencies and its window.
best() {
	local command=$1 model=$2 id=$3 window rate top=0 report=$RIG_ROOT/report.json
	shift 3
	for window in $WINDOWS; do
		"$command" "$model" "$report" --count "$COUNT" --preseal --window "$window" --warmup $((COUNT / 10)) "$@" ||
			{ problem "$id, window $window: $(tail -1 "$MR_WORK/log/bench.log")"; continue; }
		rate=$(field "$report" .req_s)
		awk -v a="$rate" -v b="$top" 'BEGIN { exit !(a > b) }' || continue
		top=$rate
		cp "$report" "$RIG_ROOT/best.json"
	done
	[[ $top != 0 ]] || return 1
	row "$id.rps" "$top" requests/s
	row "$id.p50_us" "$(field "$RIG_ROOT/best.json" .p50_us)" us
	row "$id.p99_us" "$(field "$RIG_ROOT/best.json" .p99_us)" us
	row "$id.p999_us" "$(field "$RIG_ROOT/best.json" .p999_us)" us
	say "  $id  $(field "$RIG_ROOT/best.json" '"\(.req_s | round) req/s at window \(.window), p50 \(.p50_us) us, p99 \(.p99_us) us"')"
}

# rtt COMMAND ID [options]: one request at a time, client spinning.
rtt() {
	local command=$1 id=$2 report=$RIG_ROOT/rtt.json
	shift 2
	"$command" fraud "$report" --count 100000 --warmup 10000 --window 1 "$@" ||
		{ problem "$id: $(tail -1 "$MR_WORK/log/bench.log")"; return; }
	row "$id.p50_us" "$(field "$report" .p50_us)" us
	row "$id.p99_us" "$(field "$report" .p99_us)" us
	say "  $id  $(field "$report" '"p50 \(.p50_us) us, p99 \(.p99_us) us"')"
}

# Cycles of each stage per request between two snapshots.
cycles() {
	local id=$1 before=$2 after=$3 stage cycles
	while read -r stage cycles; do
		row "$id.cycles.$stage" "$cycles" "cycles/request"
	done < <(jq -nr --argjson a "$before" --argjson b "$after" '($b.completed - $a.completed) as $n |
		select($n > 0) | $b | del(.completed) | to_entries[] | "\(.key) \((.value - $a[.key]) / $n * 10 | round / 10)"')
}

# Percent of a CPU that the dataplane uses while nobody asks.
idle_cpu() {
	local pid before after
	pid=$(stack_dataplane_pid)
	before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat") && sleep 3 && after=$(awk '{ print $14 + $15 }' "/proc/$pid/stat") &&
		awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f", 100 * t / hz / 3 }'
}

# A worker that may sleep: one request a millisecond, so that it sleeps before each of them.
measure_adaptive() {
	local kind=$RIG_KIND report=$RIG_ROOT/adaptive.json idle
	idle=$(idle_cpu)
	rig_bench fraud "$report" --count 5000 --warmup 500 --rate 1000 ||
		{ problem "rtt.$kind.adaptive: $(tail -1 "$MR_WORK/log/bench.log")"; return; }
	row "rtt.$kind.adaptive.p50_us" "$(field "$report" .p50_us)" us
	row "rtt.$kind.adaptive.p99_us" "$(field "$report" .p99_us)" us
	row "idle.$kind.cpu_pct" "$idle" "% of a CPU" "poll: busy" "${busy_idle[$kind]:-null}"
	row "idle.$kind.wake_p50_us" "$(millrace --json status | jq .poll.wake_p50_us)" us
	say "  rtt.$kind.adaptive  $(field "$report" '"p50 \(.p50_us) us, p99 \(.p99_us) us"'), $idle % of a CPU when idle"
}

declare -A busy_idle
measure_transport() { # memif or af_xdp
	local kind=$1 model before
	for model in risk fraud; do
		want "$model.$kind" || continue
		before=$(rig_cycles)
		best rig_bench "$model" "$model.$kind.s1" && cycles "$model.$kind.s1" "$before" "$(rig_cycles)"
	done
	want "rtt.$kind" && rtt rig_bench "rtt.$kind"
	want "idle.$kind" "rtt.$kind.adaptive" && busy_idle[$kind]=$(idle_cpu)
}

measure_sessions() { # N ORDER ID
	local before
	want "$3" || return
	before=$(rig_cycles)
	# One window: enrolling so many sessions takes longer than the run.
	WINDOWS=256 best rig_bench fraud "$3" --sessions "$1" --order "$2" && cycles "$3" "$before" "$(rig_cycles)"
}

# Ten versions of the model go live under full load. A request counts as lost when its only datagram was.
measure_swap() {
	local calm=$RIG_ROOT/calm.json report=$RIG_ROOT/swap.json pid i
	rig_bench risk "$calm" --seconds 4 --window 64 --attempts 1 --timeout-ms 1000
	rig_bench risk "$report" --seconds 6 --window 64 --attempts 1 --timeout-ms 1000 &
	pid=$!
	sleep 1
	for ((i = 0; i < 10; i++)); do
		stack_model risk || problem "swap $i: $(tail -1 "$MR_WORK/log/model-risk.log")"
		sleep 0.2
	done
	wait "$pid"
	row swap.lost "$(field "$report" '.unanswered + .answered - .status.result | tostring')" requests
	row swap.p99_ratio "$(ratio "$(field "$report" .p99_us)" "$(field "$calm" .p99_us)")" ratio
}

# The dataplane is killed under load; the longest silence a client saw.
measure_restart() {
	local report=$RIG_ROOT/restart.json pid
	rig_bench risk "$report" --seconds 5 --rate 2000 --timeout-ms 50 --attempts 10 &
	pid=$!
	sleep 2
	kill -KILL "$(stack_dataplane_pid)"
	wait "$pid" || problem "restart: $(tail -1 "$MR_WORK/log/bench.log")"
	row restart.ms "$(field "$report" .max_gap_ms)" ms
	row restart.unanswered "$(field "$report" '.unanswered | tostring')" requests
}

measure_peers() {
	local mode model
	for mode in sleep spin; do
		for model in risk fraud; do
			want "$model" "$model.kernel_udp_$mode" || continue
			rig_peer_up "$model" "$mode" || { problem "the $mode peer did not start"; continue; }
			best rig_peer_bench "$model" "$model.kernel_udp_$mode.s1"
			rig_peer_down
		done
		want rtt || continue
		rig_peer_up fraud "$mode" && rtt rig_peer_bench "rtt.kernel_udp_$mode"
		rig_peer_down
	done
}

measure_micro() { # every micro benchmark prints rows by itself
	local program ids=$2
	program=$BUILD/perf/$1
	# shellcheck disable=SC2086
	want $ids || return
	if [[ ! -x $program ]]; then
		problem "$1 is not built"
		return
	fi
	say "  $1"
	"$program" 2>>"$RIG_ROOT/log/micro.log" | grep '^{' >>"$ROWS" || problem "$1: $(tail -1 "$RIG_ROOT/log/micro.log")"
}

# measure_machine WHEN: what the host gives while no worker polls. Its state can change from minute to minute, so it is
# asked between the parts.
measure_machine() {
	[[ -x $BUILD/perf/bench_machine ]] || return
	"$BUILD/perf/bench_machine" "machine.$1" >>"$ROWS" || problem "bench_machine failed"
	say "  machine: $(tail -1 "$ROWS" | jq -r '"\(.value | round) \(.unit)"')"
}

# Rows of two kinds get the better kernel peer of this run beside them (transports differ: the peer's name says so).
with_peers() {
	jq -sc --arg machine "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(uname -r)" \
		--arg commit "$(git rev-parse --short HEAD 2>/dev/null || echo none)" '
	def find($id): [.[] | select(.id == $id)][0].value;
	. as $all | map(
		(.id | capture("^(?<m>risk|fraud)[.](memif|af_xdp)[.]s[0-9]+[.]rps$")? // null) as $rate |
		(.id | capture("^rtt[.](memif|af_xdp)[.](?<f>p50_us|p99_us)$")? // null) as $rtt |
		if $rate then
			([("sleep", "spin") | . as $mode | {peer: ("kernel_udp_" + $mode + " over veth"),
				v: ($all | find($rate.m + ".kernel_udp_" + $mode + ".s1.rps"))} | select(.v)] | max_by(.v)) as $p |
			if $p then .peer = $p.peer | .peer_value = $p.v | .ratio = (.value / $p.v * 100 | round / 100) else . end
		elif $rtt then
			($all | find("rtt.kernel_udp_sleep." + $rtt.f)) as $v |
			if $v then .peer = "kernel_udp_sleep over veth" | .peer_value = $v |
				.ratio = (.value / $v * 1000 | round / 1000) else . end
		else . end | {peer: null, peer_value: null, ratio: null} + . + {machine: $machine, commit: $commit})' "$ROWS"
}

# Rows so far into build/perf/bench.json, and printed.
table() {
	flood_plots
	with_peers >"$BUILD/perf/bench.json"
	jq -r '.[] | [.id, (.value | if type == "number" then (. * 1000 | round / 1000) else . end | tostring), .unit,
		(if .ratio then "\(.ratio) x \(.peer) (\(.peer_value))" else .peer // "" end)] | @tsv' "$BUILD/perf/bench.json" |
		awk -F'\t' '{ printf "%-34s %14s %-16s %s\n", $1, $2, $3, $4 }'
}

# Called by lib.sh on the way out, with its variable `status`: a run that something ended says so.
mr_on_leave() {
	[[ -z $ended ]] || return
	say "bench: ended early, status $1; the rows so far:"
	table
	((status != 0)) || status=1
}

appliance() { # KIND FUNCTION...: bring it up, measure, take it down
	local kind=$1
	shift
	say "$kind: starting"
	if rig_up "$kind"; then
		"$@"
	else
		problem "the $kind appliance did not start"
		stack_last_words 12
	fi
	rig_down
}

# One row of 64 bytes to 8 KiB a request, or in its result: 1 to 8 datagrams. Ids in.memif.in<bytes>.rps, out.memif.out<bytes>.rps,
# and bytes a second.
measure_sizes() { # in or out
	local way=$1 bytes count model rate
	for bytes in 64 128 256 512 1024 2048 4096 8192; do
		model=$way$bytes
		want sizes "$way.memif.$model" || continue
		"$BUILD/bin/millrace-model" compile "$BUILD/perf/models/$model.onnx" -o "$MR_WORK/$model.mrm" --name "$model" \
			>"$MR_WORK/log/compile-$model.log" 2>&1 && MODELS=$MR_WORK stack_model "$model" ||
			{ problem "model $model: $(tail -1 "$MR_WORK/log/compile-$model.log")"; continue; }
		count=$((1000000000 / ((bytes + 1143) / 1144 * (bytes < 1144 ? bytes + 128 : 1280)))) # 1 GB of datagrams
		COUNT=$((count < COUNT ? count : COUNT)) WINDOWS="64 256" best rig_bench "$model" "$way.memif.$model" || continue
		rate=$(field "$RIG_ROOT/best.json" .req_s)
		row "$way.memif.$model.gb_s" "$(awk -v r="$rate" -v b="$bytes" 'BEGIN { printf "%.3f", r * b / 1e9 }')" GB/s
		millrace model unload "$model" >>"$MR_WORK/log/compile-$model.log" 2>&1 || true # the table has room for few
	done
}

# A model dear enough to be remembered: the generator's rows computed, and then from the response cache.
measure_cache() {
	local model=digits-cnn computed hits
	want cache.memif || return
	stack_model "$model" || { problem "model $model: $(tail -1 "$MR_WORK/log/model-$model.log")"; return; }
	WINDOWS=256 best rig_bench "$model" cache.memif.computed || return
	computed=$(field "$RIG_ROOT/best.json" .req_s)
	millrace --json model cache "$model" --memory_kb 8192 >>"$MR_WORK/log/cache.log" 2>&1 || problem "no cache: $(tail -1 "$MR_WORK/log/cache.log")"
	WINDOWS=256 best rig_bench "$model" cache.memif.hit || return
	sleep 0.5
	hits=$(millrace --json show models | jq --arg m "$model" '.models[] | select(.name == $m) | .cache.hit_ratio * 100')
	row cache.memif.hit_pct "$hits" "% of rows"
	row cache.memif.speedup "$(ratio "$(field "$RIG_ROOT/best.json" .req_s)" "$computed")" ratio
	millrace --json model cache "$model" --memory_kb 0 >>"$MR_WORK/log/cache.log" 2>&1
}

on_memif() {
	measure_cache
	measure_sizes in
	measure_sizes out
	measure_transport memif
	measure_sessions 10000 random fraud.memif.s10000
	measure_sessions 10000 rr fraud.memif.s10000.rr
	measure_sessions 10000 zipf fraud.memif.s10000.zipf
	[[ -z ${BENCH_FULL:-} ]] || measure_sessions 100000 random fraud.memif.s100000
	want swap && measure_swap
	want noisy && measure_noisy
	want curve && measure_curve
	want flood.memif && measure_floods 500000 250000 500000 1000000 2000000
}
on_af_xdp() {
	measure_transport af_xdp
	# AF_XDP at both ends: what a client of the same kind gets.
	want rtt.af_xdp.both && RIG_CLIENT_XDP=1 rtt rig_bench rtt.af_xdp.both
	want restart && measure_restart
	want flood.junk flood.unknown flood.forged flood.replay flood.overlimit &&
		measure_floods 20000 25000 50000 100000 200000
}

lib_net || mr_die "the measuring network could not be made"
mr_veth peer0 "$RIG_PEER_ADDRESS" peer1 "$RIG_PEER_CLIENT"
measure_machine begin
want cache.memif sizes in.memif out.memif risk.memif fraud.memif rtt.memif swap noisy curve flood.memif && appliance memif on_memif
want idle.memif rtt.memif.adaptive && RIG_POLL=adaptive appliance memif measure_adaptive
measure_machine middle
want risk.af_xdp fraud.af_xdp rtt.af_xdp restart flood.junk flood.unknown flood.forged flood.replay \
	flood.overlimit && appliance af_xdp on_af_xdp
want idle.af_xdp rtt.af_xdp.adaptive && RIG_POLL=adaptive appliance af_xdp measure_adaptive
want risk fraud rtt && say "kernel peers" && measure_peers
measure_micro bench_limiter limiter.ns limiter.random16k limiter.contended2 limiter.refused limiter.virtual limiter.realtime2
measure_micro bench_shield limiter.xdp xdp admission
measure_micro bench_aead aead
measure_micro bench_store store
measure_micro bench_cache cache.hit cache.miss
measure_micro bench_gemm gemm
measure_micro bench_load load.ratio
want model && say "models" && { BUILD=$BUILD perf/models.sh measure >>"$ROWS" || problem "models.sh failed"; }
measure_machine end

table
ended=1
exit "$failed"
