#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# millrace-host over trees of fixture files: findings, plan, apply, apply again, revert; then once, reading only, on
# the real host. The trees stand for /proc and /sys (MILLRACE_SYSROOT); commands are written down there, not run.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
host=$PWD/firmware-config/millrace-host
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

put() { mkdir -p "$(dirname "$tree/$1")" && printf '%s\n' "$2" >"$tree/$1"; }

# A well-tuned host with one 2-queue ice NIC and workers on CPUs 2 and 3.
good_tree() {
	tree=$work/$1
	rm -rf "$tree"
	put proc/self/status $'Name:\tx\nCapEff:\t000001ffffffffff'
	put proc/self/mounts $'sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0'
	put proc/net/route $'Iface\tDestination\nens1\t00000000\t0100000A'
	put proc/sys/net/core/bpf_jit_enable 1
	put proc/sys/kernel/io_uring_disabled 0
	put sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages 200
	put sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages 150
	put sys/kernel/mm/transparent_hugepage/enabled 'always [madvise] never'
	put sys/devices/system/cpu/online 0-7
	put sys/devices/system/cpu/isolated 2-3
	for cpu in 2 3; do
		put sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor performance
		put sys/devices/system/cpu/cpu$cpu/cpuidle/state1/latency 2
	done
	for q in 0 1; do
		mkdir -p "$tree/sys/class/net/data0/queues/rx-$q"
	done
	put sys/class/net/data0/mtu 1500
	put sys/class/net/data0/napi_defer_hard_irqs 2
	put sys/class/net/data0/gro_flush_timeout 200000
	put ethtool/data0.i $'driver: ice\nversion: 6.1'
	put ethtool/data0.k $'large-receive-offload: off [fixed]\ngeneric-receive-offload: off\nrx-vlan-offload: off'
	cat >"$work/config.json" <<-END
	{"state_dir": "$work/state", "dataplane": {"memory_mb": 256, "huge_pages": "required"}, "limits": {"bpf": "required"},
	 "ports": [{"kind": "af_xdp", "device": "data0", "queues": 2, "cores": [2, 3]}, {"kind": "memif", "device": "/x", "cores": [2]}]}
	END
}

run() { MILLRACE_SYSROOT=$tree "$host" "$@" --config "$work/config.json" </dev/null 2>&1; }

# is "sentence" COMMAND...
is() {
	local sentence=$1
	shift
	if "$@"; then
		passed=$((passed + 1)) && echo "ok      $sentence"
	else
		failed=$((failed + 1)) && echo "not ok  $sentence"
	fi
}

# found ID STATUS [TEXT]: check --json has this finding, its value, reason or fix containing TEXT.
found() {
	(run check --json || true) | jq -e --arg id "$1" --arg s "$2" --arg t "${3:-}" \
		'any(.[]; .id == $id and .status == $s and ([.value, .wanted, .reason, .fix] | any(contains($t))))' >/dev/null
}
passes() { run check >/dev/null; }
fails() { ! run check >/dev/null; }
snapshot() { (cd "$tree" && find . -type f ! -name commands -exec sha256sum {} + | sort -k2); }

good_tree good
is "a tuned host passes without a warning" test "$(run check --json | jq '[.[] | select(.status != "ok")] | length')" = 0
is "check exits 0 on it" passes
is "plan has nothing to do on it" test "$(run plan --json | jq length)" = 0

good_tree bare
put proc/self/mounts 'sysfs /sys sysfs rw 0 0'
put sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages 20
put sys/kernel/mm/transparent_hugepage/enabled '[always] madvise never'
put proc/sys/kernel/io_uring_disabled 2
put proc/sys/kernel/sched_autogroup_enabled 1
put sys/devices/system/cpu/isolated ''
put sys/devices/system/cpu/cpu3/cpufreq/scaling_governor powersave
put sys/devices/system/cpu/cpu3/cpuidle/state3/latency 133
put sys/devices/system/cpu/cpu3/cpuidle/state3/disable 0
put sys/devices/system/cpu/cpu3/cpuidle/state3/name C6
put sys/class/net/data0/mtu 9000
put sys/class/net/data0/napi_defer_hard_irqs 0
mkdir -p "$tree/sys/class/net/data0/queues/rx-2" "$tree/sys/class/net/data0/queues/rx-3"
put ethtool/data0.k $'large-receive-offload: on\ngeneric-receive-offload: on\nrx-vlan-offload: on [fixed]'
before=$(snapshot)
is "a bare host fails" fails
is "missing bpffs is named with its mount command" found bpffs fail "mount -t bpf bpf /sys/fs/bpf"
is "missing huge pages are counted: 200 there, 20 free, 128 needed" found huge-pages fail "echo 308 >"
is "io_uring switched off is a warning" found io-uring warn "pread"
is "THP always is a warning" found thp warn madvise
is "scheduling groups by session are a warning" found autogroup warn "sched_autogroup_enabled=0"
is "a worker's CPU that is not isolated is a warning" found cpu2-isolated warn "isolcpus=2"
is "a governor is a warning, by hand" found cpu3-governor warn cpupower
is "deep idle states are named" found cpu3-idle warn C6
is "a wrong number of queues fails" found data0-queues fail "ethtool -L data0 combined 2"
is "LRO on fails" found data0-lro fail "ethtool -K data0 lro off"
is "an offload the driver fixes is only a warning" found data0-rxvlan warn "does not let"
is "jumbo frames fail" found data0-mtu fail 3498
is "busy-poll knobs are compared" found data0-napi_defer_hard_irqs warn "echo 2 >"
is "check and plan change nothing" test "$(run plan >/dev/null; snapshot)" = "$before"
is "apply without --yes and without a terminal changes nothing" test "$(run apply >/dev/null; snapshot)" = "$before"

run apply --yes >"$work/apply.log"
is "apply writes the settings" test "$(cat "$tree/sys/class/net/data0/napi_defer_hard_irqs" \
	"$tree/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages" "$tree/proc/sys/kernel/io_uring_disabled" \
	"$tree/proc/sys/kernel/sched_autogroup_enabled" | tr '\n' ' ')" = '2 308 0 0 '
is "apply runs the commands" test "$(grep -c . "$tree/commands")" = 5
is "apply remembers each of its ten changes" test "$(grep -c . "$work/state/host-undo")" = 10
put sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages 128 # as the kernel would show it now
put proc/self/mounts 'bpf /sys/fs/bpf bpf rw 0 0'
put ethtool/data0.k $'large-receive-offload: off\ngeneric-receive-offload: off'
put sys/class/net/data0/mtu 1500
rmdir "$tree/sys/class/net/data0/queues/rx-2" "$tree/sys/class/net/data0/queues/rx-3"
put sys/kernel/mm/transparent_hugepage/enabled 'always [madvise] never'
undo=$(cat "$work/state/host-undo")
run apply --yes >/dev/null
is "apply twice is apply once" test "$(cat "$work/state/host-undo")" = "$undo"
run revert >"$work/revert.log"
is "revert restores the files" test "$(cat "$tree/sys/class/net/data0/napi_defer_hard_irqs" \
	"$tree/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages" "$tree/proc/sys/kernel/io_uring_disabled" \
	"$tree/sys/kernel/mm/transparent_hugepage/enabled" | tr '\n' ' ')" = '0 200 2 always '
is "revert undoes commands, last one first" test "$(tail -1 "$tree/commands")" = "umount /sys/fs/bpf"
is "revert puts the old queue count back" grep -qx 'ethtool -L data0 combined 4' "$tree/commands"
is "revert forgets what it undid" test ! -e "$work/state/host-undo"
is "revert with nothing to revert says so" test "$(run revert)" = "nothing to revert"

good_tree refused
put proc/net/route $'Iface\tDestination\ndata0\t00000000\t0100000A'
is "the interface of the default route is refused" found data0-route fail "cut off"
good_tree refused
rm -r "$tree/sys/class/net/data0"
is "a missing interface fails" found data0 fail "no such interface"
good_tree refused
put proc/self/status $'CapEff:\t0000000000000000'
is "a process that may not use bpf(2) fails" found bpf fail CAP_BPF
good_tree refused
put sys/devices/system/cpu/online 0-2
is "a worker on a CPU that is not there fails" found cpu3 fail "not online"
put ethtool/data0.i 'driver: e1000'
is "an unknown driver gets the generic profile and a word about XDP" found data0-xdp warn "native XDP"

tree=''
MILLRACE_SYSROOT='' "$host" check --json --config "$work/config.json" >"$work/real.json" 2>&1
is "the real host can be looked at" jq -e 'length > 5 and all(.[]; .status | IN("ok", "warn", "fail"))' "$work/real.json" -r >/dev/null
"$host" frobnicate >/dev/null 2>&1
is "an unknown word is a usage error" test $? = 2

echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
