#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What the host does not have: where the configuration allows it a fallback serves and is named in the log and in
# status; where it does not, the program says what is missing and how to get it.
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"
lib_net
# Control makes this run directory itself.
export MILLRACE_RUN=$MR_WORK/own/run
umount /sys/fs/bpf

# configure KIND HUGE_PAGES BPF MEMORY_MB
configure() {
	stack_config
	local device=data0
	[[ $1 == af_xdp ]] || device=$MR_WORK/memif.sock
	sed -i -e "s|run_dir:.*|run_dir: $MILLRACE_RUN|" -e "s|kind: .*|kind: $1|" -e "s|device: .*|device: $device|" \
		-e "s|huge_pages: .*|huge_pages: $2|" -e "s|^limits:|limits:\n  bpf: $3|" -e "s|memory_mb: .*|memory_mb: $4|" \
		"$MR_WORK/millrace.yaml"
}

# ended TEXT COMMAND...: control ends by itself with status 1, and its log says TEXT.
ended() {
	local text=$1
	shift
	"$@" timeout 10 millrace-control --config "$MR_WORK/millrace.yaml" >"$MR_WORK/log/control.log" 2>&1
	local status=$?
	[[ $status == 1 ]] && grep -qE "$text" "$MR_WORK/log/control.log" && return
	echo "exit status $status, expected 1 and '$text'"
	cat "$MR_WORK/log/control.log"
	return 1
}
said() { grep -qE "$1" "$MR_WORK/log/control.log" || { cat "$MR_WORK/log/control.log"; return 1; }; }
shows() { millrace --json status | jq -e "$1" >/dev/null || { millrace --json status; return 1; }; }
last_exit() { millrace --json status | jq -r .dataplane.last_exit; }

must "a licence" stack_licence "$MR_WORK/license.json"
configure af_xdp preferred required 128
is "required BPF without bpffs: control says how to mount it" ended 'not a bpffs: .*mount -t bpf' env
configure af_xdp preferred preferred 128
is "an af_xdp port needs BPF whatever is preferred, and that is said" ended 'limits need BPF: .*mount -t bpf' env

# Nobody with CAP_BPF, but a bpffs.
mount -t bpf bpf /sys/fs/bpf
is "without CAP_BPF control says so" ended 'BPF|CAP_BPF|not permitted' \
	setpriv --bounding-set=-bpf,-sys_admin,-net_admin,-sys_resource
umount /sys/fs/bpf

configure memif off preferred 128
stack_start_control
must "memif on normal pages with limits in shared memory is served" stack_wait_ready 30
millrace license install "$MR_WORK/license.json" >"$MR_WORK/log/install.log" 2>&1
is "the log names the missing BPF" said 'BPF is not available .*shared memory, without XDP'
is "status names it" shows '.limits.kind == "memfd" and any(.fallbacks[]; test("no BPF"))'
is "status names the normal pages" shows '.huge_pages == false and any(.fallbacks[]; test("normal pages"))'
is "so does doctor, as warnings and not as faults" eval \
	'millrace --json doctor | jq -e "[.[] | select(.verdict == \"warning\") | .check] | contains([\"huge pages\", \"limits map\"])"'
must "a model is loaded and live" stack_model digits
is "its weights lie on normal pages, and the model says so" eval \
	'millrace --json show models | jq -e ".models[0].current.huge_pages == false"'
key=$(stack_subscriber first --rate 1000000 --burst 100000)
MILLRACE_API_KEY=$key mr_client millrace-bench --port "memif:$MR_WORK/memif.sock" --address "$MR_CLIENT_DATA" \
	--url "$MR_SERVER_MGMT:8443" --pin "$(stack_pin)" --model digits --core "$MR_CLIENT_CORE" --quiet \
	--rows-file "$ZOO/digits/heldout_x.npy" --order rr --expect "$ZOO/digits/expected.npy" --count 4000 \
	--json "$MR_WORK/report.json" 2>>"$MR_WORK/log/bench.log"
is "requests are answered, limits and all" report '.answered == 4000 and .wrong_rows == 0'
# Two units more: the client proves its data address first (abi/wire.h, path challenge).
is "and counted in the fallback's limits" eval 'millrace --json show limits | jq -e ".subscribers[0].units_admitted == 4002"'

# Somebody without a role reaches the socket, and is told what he needs.
stranger() {
	setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c \
		'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(999).decode())' \
		"$MILLRACE_RUN/control.sock"
}
is "a stranger is told which groups there are" eval 'stranger | grep millrace-viewer >/dev/null'
is "and can reach nothing else there" eval \
	'! setpriv --reuid 65534 --regid 65534 --clear-groups cat "$MILLRACE_RUN/dataplane.log" 2>/dev/null'

# A second control on the same directories leaves the first alone.
is "a second control in the same run directory is refused" ended 'another millrace-control runs in' env
sed "s|run_dir:.*|run_dir: $MR_WORK/other|" "$MR_WORK/millrace.yaml" >"$MR_WORK/second.yaml"
is "and one with the same state directory" refused 'another millrace-control .*state' \
	env MILLRACE_RUN="$MR_WORK/other" timeout 10 millrace-control --config "$MR_WORK/second.yaml"
is "the first serves on" stack_is_ready

kill -TERM "$CONTROL_PID"
wait "$CONTROL_PID"
is "a TERM ends control and its dataplane" eval '! pgrep -x millrace-datapl >/dev/null'

configure memif required preferred 1048576
stack_start_control
is "huge pages that are required and not there: the dataplane's last words say how to get them" \
	wait_for 15 "its last words" eval 'last_exit | grep -iE "huge pages.*(nr_hugepages|millrace-host)" >/dev/null'
last_exit
t_end
