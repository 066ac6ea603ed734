#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Whatever happens inside the private world, the host is left as it was found.
#
#   this test ──▶ guardian ──unshare──▶ inner shell: veths, client namespace, huge pages, a child
#      │ looks at the host before and after: success, failure, Ctrl-C, TERM, kill -9 of the inner shell
# shellcheck disable=SC2016,SC2317
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
[[ $(id -u) -eq 0 ]] || { echo "root is needed for namespaces"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

cat >"$work/world.sh" <<END
. $PWD/firmware-config/lib.sh
lib_enter 16 "\$@"
lib_net
sleep 300 &
setsid sleep 300 &
echo "\$MR_WORK" >$work/started
case \$1 in
wait) wait ;;
*) exit "\$1" ;;
esac
END

# The host's face; other instances may come and go, so only what is ours and the page count.
face() {
	cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
	ip -o link show | grep -cE ' (data0|mgmt0)'
	pgrep -fc "$work/world.sh"
	[[ ! -s $work/started ]] || ls -d "$(cat "$work/started")" 2>/dev/null
	findmnt -rno TARGET | sort
}

wait_file() {
	local i
	for ((i = 0; i < 100; i++)); do
		[[ ! -s $1 ]] || return 0
		sleep 0.05
	done
	return 1
}

# attempt SIGNAL WANTED-STATUS WHAT: 0 when the host looks as before and the exit status is the wanted one.
attempt() {
	local signal=$1 want=$2 before pid status i
	shift 2
	rm -f "$work/started"
	before=$(face)
	setsid env --default-signal=INT,TERM bash "$work/world.sh" "$@" >"$work/out" 2>&1 &
	pid=$!
	if [[ -n $signal ]]; then
		wait_file "$work/started"
		if [[ $signal == inner ]]; then
			kill -KILL "$(cat "$(cat "$work/started")/pid")"
		else
			kill "-$signal" -- "-$pid"
		fi
	fi
	wait "$pid"
	status=$?
	for ((i = 0; i < 40; i++)); do # pages of a process that was just killed come back a moment later
		[[ $(face) != "$before" ]] || break
		sleep 0.05
	done
	[[ $status -eq $want && $(face) == "$before" && -s $work/started ]] && return
	echo "exit status $status, expected $want; the host:"
	diff <(echo "$before") <(face)
	cat "$work/out"
	return 1
}

# Another instance on this machine may have changed the page count meanwhile: a second attempt tells.
twice() { "$@" || "$@"; }

try() {
	local sentence=$1
	shift
	if "$@"; then
		passed=$((passed + 1)) && echo "ok      $sentence"
	else
		failed=$((failed + 1)) && echo "not ok  $sentence"
	fi
}

try "success leaves nothing behind" twice attempt '' 0 0
try "a failure leaves nothing behind and keeps its exit status" twice attempt '' 3 3
try "Ctrl-C to the whole group leaves nothing behind" twice attempt INT 143 wait
try "a TERM to the whole group leaves nothing behind" twice attempt TERM 143 wait
try "kill -9 of everything inside leaves nothing behind" twice attempt inner 1 wait

# A page that somebody holds while one world leaves and the next comes and goes: the number is right when it is free.
held_page() {
	local before holder world status
	rm -f "$work/started" "$work/held"
	before=$(face)
	setsid bash "$work/world.sh" wait >"$work/out" 2>&1 &
	world=$!
	wait_file "$work/started"
	/usr/bin/python3 -c 'import mmap, sys, time
page = mmap.mmap(-1, 1 << 21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)  # MAP_HUGETLB
page[0] = 1
open(sys.argv[1], "w").write("held")
time.sleep(60)' "$work/held" &
	holder=$!
	wait_file "$work/held"
	kill -TERM -- "-$world"
	wait "$world"
	bash "$work/world.sh" 0 >>"$work/out" 2>&1
	status=$?
	kill "$holder"
	wait "$holder"
	[[ $status -eq 0 && -s $work/held && $(face) == "$before" ]] && return
	diff <(echo "$before") <(face)
	cat "$work/out"
	return 1
}

# Nobody is left to put anything back: its processes end with it, and the next run mends the rest.
killed_outside() {
	local before first i
	rm -f "$work/started"
	before=$(face)
	setsid bash "$work/world.sh" wait >"$work/out" 2>&1 &
	wait_file "$work/started"
	first=$(cat "$work/started")
	kill -KILL $!
	for ((i = 0; i < 80; i++)); do
		pgrep -f "$work/world.sh" >/dev/null || break
		sleep 0.05
	done
	! pgrep -f "$work/world.sh" >/dev/null || { echo "still running:"; pgrep -af "$work/world.sh"; return 1; }
	bash "$work/world.sh" 0 >"$work/out" 2>&1
	grep -q "an earlier run was killed" "$work/out" && [[ ! -e $first && $(face) == "$before" ]] && return
	diff <(echo "$before") <(face)
	cat "$work/out"
	return 1
}
try "kill -9 of the guardian: nothing runs on, and the next run gives back its pages and folder" twice killed_outside
try "a page that is still held when a world leaves does not raise the count for good" held_page

echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
