#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What `make run` does after the build: the whole machine on real input, in a world of its own (lib.sh).
#
#   KEEP=1     leave it up afterwards, until Enter or a signal
#   REQUESTS=n at least so many requests (100000)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=firmware-config/lib.sh
. firmware-config/lib.sh

MEMORY_MB=256
[[ -n ${MR_INSIDE:-} ]] || printf '\nmillrace: one appliance, one client, real images over AF_XDP\n\n'
lib_enter $((MEMORY_MB + 32)) "$@"
# shellcheck source=firmware-config/stack.sh
. firmware-config/stack.sh

STEPS=7 at=0 began=0
bold='' dim='' plain=''
if [[ -t 1 ]]; then
	bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

# step "title": begin a step;  ok "detail": end it with its time.
step() {
	at=$((at + 1)) began=$EPOCHREALTIME
	printf '  %s%d/%d%s  %-14s' "$bold" "$at" "$STEPS" "$plain" "$1"
}
ok() {
	awk -v b="$began" -v e="$EPOCHREALTIME" -v t="$1" -v d="$dim" -v p="$plain" \
		'BEGIN { printf "%-74s %s%6.2f s%s\n", t, d, e - b, p }'
}
fail() {
	printf '\n\nerror: %s\n' "$1" >&2
	exit 1
}

# Called by lib.sh on every way out.
mr_on_leave() {
	case $1 in
	0) return ;;
	130 | 143) printf '\n\nmillrace: interrupted; the host is being put back\n' >&2 ;;
	*)
		stack_last_words 12
		cat >&2 <<-END

		What to do: build/bin/millrace-host check   says what this host lacks and the command for it
		            V=1 make run                    shows the build's commands
		END
		;;
	esac
}

# Rows of a .npy file: the first number of its shape.
npy_rows() { head -c 200 "$1" | grep -aoE "'shape': \([0-9]+" | grep -oE '[0-9]+'; }

step "host"
lib_net || fail "the demo network could not be made"
ok "$((MEMORY_MB / 2 - ${MR_HUGE_MISSING:-0})) huge pages, veth to a client namespace, private bpffs"

step "licence"
stack_licence "$MR_WORK/license.json" || fail "no licence: $(tail -1 "$MR_WORK/log/license.log")"
ok "evaluation licence signed: 30 days, 16 subscribers, 8 models"

step "start"
stack_config
stack_start_control
stack_wait_ready 30 || fail "the dataplane did not become ready"
ok "control and dataplane up, XDP $(millrace --json status | jq -r '.ports[0].xdp_mode // .ports[0].xdp // "attached"'), worker polls CPU $MR_WORKER_CORE"

step "activate"
millrace license install "$MR_WORK/license.json" >"$MR_WORK/log/install.log" 2>&1 ||
	fail "licence refused: $(tail -1 "$MR_WORK/log/install.log")"
stack_model digits || fail "model refused: $(tail -1 "$MR_WORK/log/model-digits.log")"
ok "digits: $(stat -c %s "$MODELS/digits.mrm") bytes, hashes verified while reading, made current"

step "subscribe"
millrace plan set demo --rate 2000000 --burst 20000 >"$MR_WORK/log/plan.log" 2>&1 ||
	fail "plan refused: $(tail -1 "$MR_WORK/log/plan.log")"
key=$(stack_subscriber demo --plan demo) || fail "the subscriber could not be added"
ok "subscriber demo, API key ${key:0:6}...; the client enrols with it over TLS 1.3"

step "compare"
x=$ZOO/digits/heldout_x.npy
millrace-model run "$MODELS/digits.mrm" "$x" -o "$MR_WORK/answers.npy" >"$MR_WORK/log/model-run.log" 2>&1 ||
	fail "millrace-model run: $(tail -1 "$MR_WORK/log/model-run.log")"
rows=$(npy_rows "$x")
stack_bench "$key" digits --rows-file "$x" --order rr --expect "$MR_WORK/answers.npy" --rtol 1e-5 --atol 1e-6 \
	--count "$rows" --window 8 >"$MR_WORK/log/compare.log" 2>&1 ||
	fail "answers over the network differ from millrace-model run: $(tail -1 "$MR_WORK/log/compare.log")"
ok "$rows held-out images: answers over the network equal millrace-model run"

step "load"
requests=${REQUESTS:-100000}
requests=$(((requests + rows - 1) / rows * rows))
printf '%d requests, each image %d times\n' "$requests" $((requests / rows))
stack_bench "$key" digits --rows-file "$x" --order rr --expect "$ZOO/digits/expected.npy" --rtol 1e-3 \
	--labels "$ZOO/digits/heldout_y.npy" --count "$requests" --window 16 --json "$MR_WORK/report.json" --summary \
	>"$MR_WORK/log/load.log" || fail "the load run failed: $(tail -1 "$MR_WORK/log/load.log")"

printf '\n'
jq -r '
	def n: tostring | [while(length > 0; .[:-3]) | .[-3:]] | reverse | join(",");
	def row(a; b): "  " + a + (" " * (34 - (a | length))) + (" " * (14 - (b | length))) + b;
	row("requests sent"; .sent | n), row("answered"; .answered | n),
	row("  with a result"; .status.result | n), row("wrong answers"; .wrong_rows | n),
	row("accuracy over \(.distinct_rows) distinct images"; .accuracy * 10000 | round / 10000 | tostring),
	row("first-try losses"; .first_try_losses | n), row("retries"; .retries | n),
	row("latency p50"; "\(.p50_us * 10 | round / 10) us"), row("latency p99"; "\(.p99_us * 10 | round / 10) us"),
	row("latency p99.9"; "\(.p999_us * 10 | round / 10) us"), row("requests a second"; .req_s | round | n)
' "$MR_WORK/report.json" || fail "no report"
printf '\n'
summary=$(grep -a '^millrace: answered' "$MR_WORK/log/load.log" | tail -1)

if [[ -n ${KEEP:-} ]]; then
	cat >"$MR_WORK/enter" <<-END
	#!/bin/bash
	# Run a command inside the demo's namespaces (default: a shell).
	export MILLRACE_RUN=$MILLRACE_RUN MILLRACE_STATE=$MILLRACE_STATE MILLRACE_API_KEY=$key PATH=$PATH
	exec nsenter --target "\$(<$MR_WORK/pid)" --mount --net --pid -- "\${@:-bash}"
	END
	cat >"$MR_WORK/client" <<-END
	#!/bin/bash
	# Run a command on the client's machine.
	exec $MR_WORK/enter nsenter --net=/run/netns/client -- "\${@:-bash}"
	END
	chmod 700 "$MR_WORK/enter" "$MR_WORK/client" # a key is in them
	cat <<-END
	  It stays up. In another terminal:
	    control socket   $MILLRACE_RUN/control.sock
	    operator         $MR_WORK/enter millrace status            (also: top, show workers, ...)
	    dashboard        $MR_WORK/enter curl -sk https://$MR_SERVER_MGMT:8443/metrics
	    client           $MR_WORK/client $BIN/millrace-bench --port udp:$MR_CLIENT_DATA \\
	                       --url $MR_SERVER_MGMT:8443 --pin $(stack_pin) \\
	                       --model digits --seconds 10
	    logs             $MR_WORK/log/  $MILLRACE_RUN/dataplane.log

	$summary

	  Enter or a signal ends it.
	END
	trap 'exit 0' TERM INT
	read -r _ || { sleep infinity & wait $!; }
	exit 0
fi
printf '%s\n' "$summary"
