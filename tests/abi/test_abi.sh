#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Every header of dataplane/abi compiles alone, warning-free, under gcc and clang; those that BPF shares
# also under clang -target bpf; and every compiler lays the structs out alike.
set -u
cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
passed=0
failed=0
warn=(-Wall -Wextra -Werror -Wshadow -Wundef -std=gnu17 -Idataplane)
include=/usr/include/$(gcc -print-multiarch)

result() { # status sentence [file to show]
	if [ "$1" -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok $2"
	else
		failed=$((failed + 1))
		echo "FAIL $2"
		[ -n "${3:-}" ] && cat "$3"
	fi
}

for header in dataplane/abi/*.h; do
	name=$(basename "$header")
	printf '#include "abi/%s"\n#include "abi/%s"\n' "$name" "$name" >"$dir/alone.c"
	gcc "${warn[@]}" -O2 -c "$dir/alone.c" -o /dev/null 2>"$dir/log"
	result $? "$name compiles alone, twice included, under gcc" "$dir/log"
	clang "${warn[@]}" -O2 -c "$dir/alone.c" -o /dev/null 2>"$dir/log"
	result $? "$name compiles alone under clang" "$dir/log"
	printf '%s' "$(sed -n 1p "$header")" | grep -q GPL-2.0-only || continue
	clang -target bpf -mcpu=v3 -ffreestanding "${warn[@]}" -O2 -I"$include" -c "$dir/alone.c" \
		-o /dev/null 2>"$dir/log"
	result $? "$name compiles alone for BPF" "$dir/log"
done

# Offsets as the compilers see them: each value becomes a 64-bit word of a section, read back by objcopy.
gcc -E -P -DTABLE -Idataplane tests/abi/layout.c >"$dir/names" || exit 1
for cc in gcc clang bpf; do
	case $cc in
	gcc) gcc "${warn[@]}" -c tests/abi/layout.c -o "$dir/$cc.o" 2>"$dir/log" ;;
	clang) clang "${warn[@]}" -c tests/abi/layout.c -o "$dir/$cc.o" 2>"$dir/log" ;;
	bpf) clang -target bpf -mcpu=v3 -ffreestanding "${warn[@]}" -I"$include" \
		-c tests/abi/layout.c -o "$dir/$cc.o" 2>"$dir/log" ;;
	esac
	result $? "the layout table compiles under $cc" "$dir/log"
	llvm-objcopy --dump-section mr_layout="$dir/$cc.bin" "$dir/$cc.o" 2>/dev/null
	od -An -v -w8 -td8 "$dir/$cc.bin" | tr -d ' ' >"$dir/$cc.txt"
done
lines=$(wc -l <"$dir/gcc.txt")
[ "$lines" -ge 40 ]
result $? "the layout table has $lines values"
for cc in clang bpf; do
	cmp -s "$dir/gcc.txt" "$dir/$cc.txt"
	result $? "$cc lays out every shared struct as gcc does"
done
paste -d' ' <(grep -o '@[^@]*@' "$dir/names" | tr -d '@ ') "$dir/gcc.txt" >"$dir/layout"
diff tests/abi/layout.golden "$dir/layout" >"$dir/log"
result $? "the layout is the recorded one (a change needs a new version number)" "$dir/log"

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
