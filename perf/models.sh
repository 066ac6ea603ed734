#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Rows model.<name>.b<batch>.rows_s: our engine and ONNX Runtime on the same models, inputs and core, in turns.
#
#   perf/models.sh prepare   bench models into build/perf/models; ONNX Runtime (npm) into $MILLRACE_ORT
#   perf/models.sh measure   one JSON row a line on standard output (bench.sh adds machine and commit)
#
# ONNX Runtime is reached through its Node binding. What a call costs there is measured with an Identity model and
# taken off (peer_us - identity_us); a row without a peer says why. Each side is the better of two turns. Inputs are
# the zoo's held-out rows where millrace-model bench takes --input, else both sides' same made-up sequence.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
export MILLRACE_ORT=${MILLRACE_ORT:-$HOME/.cache/millrace/ort}
ORT_PACKAGE=onnxruntime-node@1.30.0
MODELS=$BUILD/perf/models
BATCHES=1,8,32,128
TURN_SECONDS=0.3
CORE=$(($(nproc) > 1 ? 1 : 0))
ZOO="fraud risk churn ranker digits digits-cnn twotower forest"
REDUCED="mlp256 mnist mlp1024"
MADE="mlp256 mnist mlp1024 lenet mobilenet resnet encoder lstm dlrm"

say() { printf '%s\n' "$*" >&2; }

want() { # NAME: asked for, alone or by a longer or shorter id
	local asked
	[[ -n ${BENCH:-} ]] || return 0
	for asked in ${BENCH//,/ }; do
		[[ "model.$1." == "$asked"* || $asked == "model.$1."* ]] && return 0
	done
	return 1
}

want_any() {
	local name
	for name in $ZOO $MADE; do
		want "$name" && return 0
	done
	return 1
}

prepare() {
	want_any || [[ ,${BENCH:-}, == *,sizes,* || ,${BENCH:-} == *,in.* || ,${BENCH:-} == *,out.* ]] || return 0
	[[ -f $MODELS/identity.onnx && $MODELS/identity.onnx -nt perf/peers/models.py ]] ||
		/usr/bin/python3 -W ignore perf/peers/models.py "$MODELS" >/dev/null || return 1
	[[ -z $(peer_missing) ]] && return
	command -v npm >/dev/null || return 0
	mkdir -p "$MILLRACE_ORT"
	timeout 300 npm install --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "$MILLRACE_ORT" \
		"$ORT_PACKAGE" >"$MILLRACE_ORT/install.log" 2>&1 || say "bench: npm install $ORT_PACKAGE failed, see $MILLRACE_ORT/install.log"
}

# Why there is no peer: nothing when there is one.
peer_missing() {
	command -v node >/dev/null || { echo "node is not installed"; return; }
	[[ -d $MILLRACE_ORT/node_modules/onnxruntime-node ]] || echo "$ORT_PACKAGE could not be installed by npm"
}

# ours MODEL [options]: {"batch", "us", "rows_s", "gflops", "pct_bound", "peak_gflops"} a line, from the table of
# millrace-model bench.
ours() {
	local model=$1
	shift
	taskset -c "$CORE" "$BUILD/bin/millrace-model" bench "$model" --batch "$BATCHES" --seconds "$TURN_SECONDS" "$@" |
		awk '$1 == "model" { peak = $(NF - 1); next }
			$1 == "batch" { table = 1; next }
			table && $1 ~ /^[0-9]+$/ && NF >= 5 {
				printf "{\"batch\": %d, \"us\": %s, \"rows_s\": %s, ", $1, $2, $3
				printf "\"gflops\": %s, \"pct_bound\": %s, \"peak_gflops\": %s}\n", $4, $5, peak
			}'
}

theirs() { # MODEL [options]
	local model=$1
	shift
	taskset -c "$CORE" node perf/peers/onnxruntime.js "$model" "$MODELS/identity.onnx" --batch "$BATCHES" \
		--seconds "$TURN_SECONDS" "$@"
}

measure_model() { # NAME MODEL.onnx
	local name=$1 model=$2 work why input=()
	work=$(mktemp -d)
	why=$("$BUILD/bin/millrace-model" compile "$model" -o "$work/model.mrm" 2>&1) || {
		say "  model.$name: not measured, ${why//$'\n'/ }"
		rm -rf "$work"
		return
	}
	[[ ! -f ${model%/*}/heldout_x.npy ]] || ! "$BUILD/bin/millrace-model" help | grep -q -- '--input' ||
		input=(--input "${model%/*}/heldout_x.npy")
	why=$(peer_missing)
	: >"$work/theirs"
	for _ in 1 2; do
		ours "$work/model.mrm" "${input[@]}" >>"$work/ours"
		[[ -n $why ]] || theirs "$model" "${input[@]}" >>"$work/theirs" 2>"$work/error" || why=$(tail -1 "$work/error")
	done
	jq -nc --arg name "$name" --arg why "$why" --slurpfile ours "$work/ours" --slurpfile theirs "$work/theirs" '
	def best: group_by(.batch) | map(max_by(.rows_s // 0));
	($theirs | best) as $peers | $ours | best | .[] | . as $o | ([$peers[] | select(.batch == $o.batch)][0]) as $p |
	def share(x): x * 10 | round / 10;
	{id: "model.\($name).b\($o.batch).rows_s", value: $o.rows_s, unit: "rows/s", gflops: $o.gflops,
		pct_bound: $o.pct_bound, peak_gflops: $o.peak_gflops} +
	if $p == null then {peer: "onnxruntime: \($why)", peer_value: null, ratio: null}
	elif $p.rows_s == null then {peer: "onnxruntime \($p.version): not above its binding", peer_value: null, ratio: null,
		peer_us: $p.us, identity_us: $p.identity_us}
	else {peer: "onnxruntime \($p.version)", peer_value: ($p.rows_s | round), ratio: ($o.rows_s / $p.rows_s * 100 | round / 100),
		us: $o.us, peer_us: ($p.us * 1000 | round / 1000), identity_us: ($p.identity_us * 1000 | round / 1000),
		peer_gflops: share($o.gflops * $p.rows_s / $o.rows_s),
		peer_pct_bound: share($o.pct_bound * $p.rows_s / $o.rows_s)} end'
	rm -rf "$work"
}

# Rows model.<name>.b<batch>.<precision>.rows_s: reduced weights against our own float32, in turns.
measure_reduced() { # NAME MODEL.onnx
	local name=$1 model=$2 work precision
	work=$(mktemp -d)
	for precision in f32 bf16 int8; do
		"$BUILD/bin/millrace-model" compile "$model" -o "$work/$precision.mrm" --precision "$precision" >/dev/null || return
	done
	for _ in 1 2 3; do
		for precision in f32 bf16 int8; do
			ours "$work/$precision.mrm" >>"$work/$precision"
		done
	done
	for precision in bf16 int8; do
		jq -nc --arg name "$name" --arg precision "$precision" --slurpfile ours "$work/$precision" \
			--slurpfile theirs "$work/f32" '
		def best: group_by(.batch) | map(max_by(.rows_s));
		($theirs | best) as $peers | $ours | best | .[] | . as $o | ([$peers[] | select(.batch == $o.batch)][0]) as $p |
		{id: "model.\($name).b\($o.batch).\($precision).rows_s", value: $o.rows_s, unit: "rows/s",
			peer: "float32, same engine", peer_value: $p.rows_s,
			ratio: ($o.rows_s / $p.rows_s * 100 | round / 100), us: $o.us, peer_us: $p.us}'
	done
	rm -rf "$work"
}

measure() {
	local name
	for name in $ZOO; do
		want "$name" && measure_model "$name" "models/zoo/$name/model.onnx"
	done
	for name in $MADE; do
		want "$name" && measure_model "$name" "$MODELS/$name.onnx"
	done
	for name in $REDUCED; do
		want "$name" && measure_reduced "$name" "$MODELS/$name.onnx"
	done
	return 0
}

case ${1:-} in
prepare | measure) "$1" ;;
*) say "usage: perf/models.sh prepare|measure"; exit 2 ;;
esac
