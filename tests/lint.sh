#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# House rules that a machine can check: file heads, sizes, forbidden tokens, shellcheck, listed tests.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0

say() { # file[:line] message
	printf '%s: %s\n' "$1" "$2"
	bad=$((bad + 1))
}

mapfile -t all < <(find . \( -name .git -o -name build -o -name node_modules \) -prune -o -type f -print |
	sed 's|^\./||' | sort)
mapfile -t code < <(printf '%s\n' "${all[@]}" | grep -E '\.[ch]$')
mapfile -t shell < <(printf '%s\n' "${all[@]}" | grep -E '\.sh$|^\.ci/run$')
mapfile -t python < <(printf '%s\n' "${all[@]}" | grep -E '\.py$')
mapfile -t text < <(printf '%s\n' "${all[@]}" | grep -E '\.(c|h|sh|py|md|mk|yaml|proto)$|^Makefile$|^\.ci/run$')

# ---- heads: SPDX first (after #!), then one sentence of purpose
while IFS= read -r hit; do
	say "${hit%% *}" "${hit#* }"
done < <(awk '
	FNR == 1 { at = 1 }
	FNR == at && /^#!|^# shellcheck / { at++; next }
	FNR == at && !/SPDX-License-Identifier:/ { print FILENAME ":" at " the first line must carry SPDX-License-Identifier" }
	FNR == at + 1 && !/[A-Za-z].*[A-Za-z]/ { print FILENAME ":" FNR " a sentence of purpose must follow the SPDX line" }
	' "${code[@]}" "${shell[@]}" "${python[@]}" /dev/null)

# ---- size of files and functions
# Functions that may pass 80 lines, each with its reason: "file:function  reason"
exempt='
'
while IFS= read -r f; do
	say "$f:801" "longer than 800 lines: split it by noun"
done < <(awk 'FNR == 801 { print FILENAME }' "${code[@]}" "${shell[@]}" "${python[@]}" /dev/null)
while IFS= read -r hit; do
	grep -qF "$(printf '%s' "$hit" | cut -d' ' -f1)" <<<"$exempt" || say "${hit%% *}" "${hit#* }"
done < <(awk '
	FNR == 1 { inside = 0; last = "" }
	/^[A-Za-z_].*\(/ && !/;[ \t]*$/ { last = $0 }
	/^{/ { inside = FNR }
	/^}/ && inside {
		if (FNR - inside - 1 > 80) {
			name = last; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
			printf "%s:%s function of %d lines, 80 is the limit\n", FILENAME, name, FNR - inside - 1
		}
		inside = 0
	}' "${code[@]}" /dev/null)

# ---- forbidden tokens: pattern | message. Comments and strings do not count.
tokens=(
	'rte_exit[[:space:]]*\(|nothing exits below main: return -errno'
	'rte_panic[[:space:]]*\(|nothing aborts below main: return -errno'
	'(^|[^a-z_])strcpy[[:space:]]*\(|strcpy knows no limit: snprintf or memcpy with a checked length'
	'(^|[^a-z_])strcat[[:space:]]*\(|strcat knows no limit: snprintf'
	'(^|[^a-z_])v?sprintf[[:space:]]*\(|sprintf knows no limit: snprintf'
	'(^|[^a-z_])gets[[:space:]]*\(|gets knows no limit: fgets'
	'(^|[^a-z_])(atoi|atol|atof)[[:space:]]*\(|atoi reports no error: strtol and check'
	'(^|[^a-z_])alloca[[:space:]]*\(|no alloca: a bounded array'
	': #[[:space:]]*if 0|dead code belongs to git'
	'(^|[^A-Za-z_])(TODO|FIXME|XXX)([^A-Za-z_]|$)|no reminders in the code: do it, or open an issue'
)
quiet=( # below the programs: also these
	'(^|[^a-z_])exit[[:space:]]*\(|only main exits: return -errno'
	'(^|[^a-z_])abort[[:space:]]*\(|only main gives up: return -errno'
	'(^|[^a-z_])printf[[:space:]]*\(|libraries and daemons do not print: base/log.h'
)
# Programs that print for a person or a pipe, and children that leave by _exit after fork.
prints='^(tests|perf)/|^models/tool/|^control/cli/|^control/license_tool|/main\.c:|^dataplane/client/example|^firmware-config/'

stripped=$(mktemp) || exit 1
trap 'rm -f "$stripped"' EXIT
perl -0ne 's{/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\x27(?:\\.|[^\x27\\\n])*\x27}{my $c = $&; $c =~ s/[^\n]//g; $c}gse; my $n = 0;
	print map { $n++; "$ARGV:$n: $_\n" } split(/\n/, $_, -1)' "${code[@]}" >"$stripped"

scan() { # rule, files that may break it
	while IFS= read -r line; do
		say "$line" "${1##*|}"
	done < <(grep -vE "$2" "$stripped" | grep -E "${1%|*}" | cut -d: -f1,2)
}
for rule in "${tokens[@]}"; do
	scan "$rule" '^$'
done
for rule in "${quiet[@]}"; do
	scan "$rule" "$prints"
done

# ---- white space
while IFS= read -r hit; do
	say "$hit" "trailing white space"
done < <(grep -nE '[[:space:]]+$' "${text[@]}" /dev/null | cut -d: -f1,2)
while IFS= read -r hit; do
	say "$hit" "spaces before a tab"
done < <(grep -nP '^ +\t' "${code[@]}" /dev/null | cut -d: -f1,2)

# ---- scripts
if command -v shellcheck >/dev/null; then
	while IFS= read -r line; do
		say "${line%%: *}" "${line#*: }"
	done < <(shellcheck -f gcc -S warning "${shell[@]}" 2>&1 | grep -E '(error|warning):')
else
	say shellcheck "not installed"
fi

# ---- every test is listed where `make test` finds it
makefiles=$(find . -name module.mk -not -path './build/*' -exec cat {} +)
for f in "${all[@]}"; do
	case $f in
	tests/*/test_*.c | tests/test_*.c | tests/*/test_*.sh | tests/*/test_*.py) ;;
	*) continue ;;
	esac
	case $makefiles in
	*"$f"*) ;;
	*) say "$f" "listed in no module.mk: it would never run" ;;
	esac
done

if [ "$bad" -gt 0 ]; then
	echo "lint: $bad findings in ${#all[@]} files"
	exit 1
fi
echo "lint: ${#all[@]} files are fine"
